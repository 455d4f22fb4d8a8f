//! Sources that go away in the middle of a message: nothing of ours may pass for the rest of it.

use crate::odd::world::{World, lies_in};
use crate::support::script::{Reaction, Script, Store};

#[test]
fn a_farewell_never_completes_a_message_that_broke_off() {
    std::thread::scope(|scope| {
        for missing in 0..16 {
            scope.spawn(move || {
                let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
                let whole = source.store().folder("INBOX").letter(2).bytes.len();
                source.bend(move |command| {
                    // Head, message, parenthesis and line end; the head counts as well.
                    let head = format!("* 2 FETCH (UID 2 BODY[] {{{whole}}}\r\n").len();
                    let is_first = command.wants_bodies()
                        && command.folder.as_deref() == Some("INBOX")
                        && command.times == 0;
                    is_first
                        .then(|| Reaction::edit(move |answer| answer.cut_message(2, head + whole - missing)))
                });
                World::imap(&source, &destination).run().expect(0, (5, 5, 0, 0, 0));
                // The second attempt puts what is left behind what is there.
                let sorted = |mut subjects: Vec<String>| {
                    subjects.sort();
                    subjects
                };
                let found: Vec<_> = lies_in(&destination).into_values().map(sorted).collect();
                assert_eq!(
                    found,
                    [vec!["one", "three", "two"], vec!["five", "four"]],
                    "{missing} bytes are missing"
                );
                let bytes = |script: &Script| {
                    script.store().folder("INBOX").letters.iter().map(|it| it.bytes.len()).sum::<usize>()
                };
                assert_eq!(bytes(&source), bytes(&destination), "{missing} bytes are missing");
            });
        }
    });
}
