//! Servers that are not odd at all: what the others are held against.

use crate::odd::world::{World, lies_in, lying};
use crate::support::script::store::letter;
use crate::support::script::{Script, Store};

#[test]
fn between_plain_servers_everything_arrives_once_and_a_second_run_sends_nothing() {
    let (source, destination) = (Script::imap(Store::standard()), Script::imap(Store::empty()));
    let world = World::imap(&source, &destination);
    world.run().expect(0, (5, 5, 0, 0, 0));
    let all = [("INBOX", &["one", "two", "three"][..]), ("Work", &["four", "five"])];
    assert_eq!(lies_in(&destination), lying(&all));
    let (from, to) = (source.store().clone(), destination.store().clone());
    for (old, new) in from.folders.iter().zip(&to.folders) {
        for (old, new) in old.letters.iter().zip(&new.letters) {
            assert_eq!((&old.bytes, &old.flags), (&new.bytes, &new.flags), "{}", old.subject());
        }
    }

    destination.forget();
    world.run().expect(0, (5, 5, 0, 0, 0));
    assert_eq!((destination.count("APPEND"), lies_in(&destination)), (0, lying(&all)));

    source.store().folder("Work").add(&[], letter("six"));
    world.run().expect(0, (6, 6, 0, 0, 0));
    assert_eq!(destination.count("APPEND"), 1);
    assert_eq!(destination.store().folder("Work").subjects(), ["four", "five", "six"]);
}

#[test]
fn a_maildrop_arrives_once() {
    let (source, destination) = (Script::pop3(Store::standard()), Script::imap(Store::empty()));
    let world = World::pop3(&source, &destination);
    world.run().expect(0, (3, 3, 0, 0, 0));
    assert_eq!(lies_in(&destination), lying(&[("INBOX", &["one", "two", "three"])]));
    destination.forget();
    world.run().expect(0, (3, 3, 0, 0, 0));
    assert_eq!(destination.count("APPEND"), 0);
}
