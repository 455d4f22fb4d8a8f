//! The part of a mailbox that is to be carried, as far as a listing tells. There is one rule, for the plan that counts a mailbox and
//! for the pass that carries it.

use std::collections::VecDeque;

use globset::GlobSet;
use jiff::Timestamp;

use super::evidence::{Amount, MailboxSize};
use super::text::bytes;

/// The rules of a manifest that leave mail out.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Folders that are left out, as patterns over `A/B/C`.
    pub exclude: GlobSet,
    /// Messages larger than this many bytes are left out.
    pub max_message_bytes: Option<u64>,
    /// Messages that arrived before this are left out.
    pub since: Option<Timestamp>,
    /// How many messages of each folder a pilot carries, the newest.
    pub most_per_folder: Option<u32>,
}

/// Why a message is left out; `None` when it is not. `date` is when it arrived, where that is known.
pub fn leaves_out(
    max_message_bytes: Option<u64>,
    since: Option<Timestamp>,
    size: u64,
    date: Option<Timestamp>,
) -> Option<String> {
    if let Some(limit) = max_message_bytes.filter(|limit| size > *limit) {
        return Some(format!("larger than the limit of {} that the project set", bytes(limit)));
    }
    match (since, date) {
        (Some(since), Some(date)) if date < since => Some(format!(
            "arrived before {}, the first day that the project carries",
            since.strftime("%Y-%m-%d")
        )),
        _ => None,
    }
}

/// Counts the messages of one folder as they are listed, in ascending order.
#[derive(Debug)]
pub struct Counting<'a> {
    scope: &'a Scope,
    size: MailboxSize,
    /// The sizes of the newest ones, as many as a pilot carries.
    newest: VecDeque<u64>,
}

impl<'a> Counting<'a> {
    /// Nothing was listed yet.
    pub fn new(scope: &'a Scope) -> Self {
        Self { scope, size: MailboxSize::default(), newest: VecDeque::new() }
    }

    /// Counts one message of `size` bytes that arrived at `date`, where that is known.
    pub fn add(&mut self, size: u64, date: Option<Timestamp>) {
        if leaves_out(self.scope.max_message_bytes, self.scope.since, size, date).is_some() {
            self.size.left_out.add(Amount { messages: 1, bytes: size });
            return;
        }
        let one = MailboxSize {
            messages: 1,
            bytes: size,
            largest: size,
            oldest: date,
            newest: date,
            ..MailboxSize::default()
        };
        self.size.add(&one);
        if let Some(most) = self.scope.most_per_folder {
            self.newest.push_back(size);
            if self.newest.len() > most as usize {
                self.newest.pop_front();
            }
        }
    }

    /// Messages that were counted, those that are left out among them.
    pub fn listed(&self) -> u64 {
        self.size.messages + self.size.left_out.messages
    }

    /// The counts.
    pub fn size(self) -> MailboxSize {
        let pilot = self
            .scope
            .most_per_folder
            .map(|_| Amount { messages: self.newest.len() as u64, bytes: self.newest.iter().sum() });
        MailboxSize { pilot, ..self.size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Option<Timestamp> {
        Timestamp::from_second(second).ok()
    }

    #[test]
    fn a_mailbox_is_counted_as_it_would_be_carried() {
        let listed = [(100, at(10)), (5_000, at(20)), (200, at(30)), (300, at(40)), (400, None)];
        let counted = |scope: &Scope| {
            let mut counting = Counting::new(scope);
            for (size, date) in listed {
                counting.add(size, date);
            }
            assert_eq!(counting.listed(), 5);
            counting.size()
        };
        let whole = counted(&Scope::default());
        assert_eq!((whole.messages, whole.bytes, whole.largest, whole.pilot), (5, 6_000, 5_000, None));
        let scope = Scope {
            max_message_bytes: Some(1_000),
            since: at(30),
            most_per_folder: Some(2),
            ..Scope::default()
        };
        let part = counted(&scope);
        assert_eq!((part.messages, part.bytes, part.largest), (3, 900, 400));
        assert_eq!(part.left_out, Amount { messages: 2, bytes: 5_100 });
        assert_eq!(part.pilot, Some(Amount { messages: 2, bytes: 700 }));
        assert_eq!((part.oldest, part.newest), (at(30), at(40)));
    }
}
