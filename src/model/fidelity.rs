//! How much of a mailbox a protocol carries: the weighted share of the kinds of data, and in words what is lost.
//! The figures are FACTS §3.3; they are a proposal that is always shown beside the list of losses.

use super::protocol::Protocol;

/// One kind of data in a mailbox.
#[derive(Debug, Clone, Copy)]
struct Kind {
    /// Weight in the score.
    weight: u32,
    /// Tenths that IMAP carries.
    imap: u32,
    /// Tenths that POP3 carries.
    pop3: u32,
    /// What is lost when less than all is carried, in plain words.
    loss: &'static str,
}

/// The kinds that every mailbox has. Kinds that discovery did not find at the source do not count, so that a missing
/// calendar does not punish IMAP.
const MAIL_KINDS: [Kind; 8] = [
    Kind { weight: 20, imap: 10, pop3: 10, loss: "the messages themselves" },
    Kind { weight: 8, imap: 10, pop3: 0, loss: "folders: only the Inbox is visible" },
    Kind { weight: 7, imap: 10, pop3: 0, loss: "read and unread: everything arrives as unread" },
    Kind { weight: 4, imap: 10, pop3: 0, loss: "flagged and answered marks" },
    Kind { weight: 4, imap: 10, pop3: 0, loss: "keywords and categories" },
    Kind { weight: 8, imap: 10, pop3: 3, loss: "arrival dates: taken from the newest Received line" },
    Kind { weight: 5, imap: 10, pop3: 0, loss: "sent mail: it lives only in the mail programs of the users" },
    Kind { weight: 3, imap: 10, pop3: 0, loss: "drafts: they live only in the mail programs of the users" },
];

impl Kind {
    fn tenths(self, protocol: Protocol) -> u32 {
        match protocol {
            Protocol::Imap => self.imap,
            Protocol::Pop3 => self.pop3,
        }
    }
}

/// The score of a protocol towards an IMAP destination, 0 to 100.
pub fn score(protocol: Protocol) -> u8 {
    let all: u32 = MAIL_KINDS.iter().map(|k| k.weight).sum();
    let carried: u32 = MAIL_KINDS.iter().map(|k| k.weight * k.tenths(protocol)).sum();
    u8::try_from(carried * 10 / all).unwrap_or(100)
}

/// What is lost by a protocol, in plain words, weightiest first.
pub fn losses(protocol: Protocol) -> Vec<&'static str> {
    let mut lost: Vec<_> = MAIL_KINDS.iter().filter(|k| k.tenths(protocol) < 10).collect();
    lost.sort_by_key(|k| std::cmp::Reverse(k.weight * (10 - k.tenths(protocol))));
    lost.into_iter().map(|k| k.loss).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imap_carries_all_kinds_of_mail_and_pop3_says_what_it_loses() {
        assert_eq!((score(Protocol::Imap), score(Protocol::Pop3)), (100, 37));
        assert!(losses(Protocol::Imap).is_empty());
        assert!(losses(Protocol::Pop3)[0].starts_with("folders"));
    }
}
