//! Which messages of a folder are read at both sides where not all are. Pure.

use crate::model::message::Locator;

/// Of this many messages one is read.
const ONE_IN: u64 = 100;

/// The places, in a list of messages, of those that are to be read: one in a hundred, and of each folder at least one. The
/// draw is by mailbox and message, so that it falls on other messages in each mailbox, and on the same when it is made again.
pub(super) fn draw<'a>(mailbox: &str, messages: impl Iterator<Item = &'a Locator>) -> Vec<usize> {
    let drawn: Vec<(usize, u64)> =
        messages.enumerate().map(|(at, message)| (at, draw_one(mailbox, message))).collect();
    let chosen: Vec<usize> =
        drawn.iter().filter(|(_, drawn)| drawn.is_multiple_of(ONE_IN)).map(|(at, _)| *at).collect();
    if chosen.is_empty() {
        return drawn.iter().min_by_key(|(_, drawn)| *drawn).map(|(at, _)| *at).into_iter().collect();
    }
    chosen
}

fn draw_one(mailbox: &str, message: &Locator) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in [mailbox, &message.to_string(), message.epoch.as_str()] {
        hasher.update(part.as_bytes()).update(&[0]);
    }
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::folder::FolderPath;
    use crate::model::message::{Epoch, ItemId};
    use crate::model::protocol::Protocol;

    fn folder(messages: u32) -> Vec<Locator> {
        let one = |uid| {
            let (folder, epoch) = (FolderPath::inbox(), Epoch::from(9));
            Locator { protocol: Protocol::Imap, folder, epoch, id: ItemId::Uid(uid) }
        };
        (1..=messages).map(one).collect()
    }

    #[test]
    fn each_mailbox_has_a_sample_of_its_own_and_no_folder_is_without() {
        let letters = folder(10_000);
        let (anna, bob) = (draw("anna", letters.iter()), draw("bob", letters.iter()));
        assert!((60..150).contains(&anna.len()) && (60..150).contains(&bob.len()), "{}", anna.len());
        assert_ne!(anna, bob);
        assert_eq!(anna, draw("anna", letters.iter()));
        for few in 1..=40 {
            let letters = folder(few);
            for mailbox in ["anna", "bob", "carol"] {
                assert!(!draw(mailbox, letters.iter()).is_empty(), "{mailbox}: none of {few}");
            }
        }
        assert!(draw("anna", [].into_iter()).is_empty());
    }
}
