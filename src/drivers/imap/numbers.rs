//! The numbers of a folder as a server tells them, and the marks that are made of them: UIDNEXT, and at the source behind a
//! blank the modseq (RFC 7162), with a hyphen where the server told no UIDNEXT. No other room reads a UIDNEXT or a modseq.

use std::collections::BTreeSet;

use crate::drivers::FolderState;
use crate::drivers::marks::Numbered;
use crate::model::mark::Mark;
use crate::model::message::Epoch;

/// The numbers of a folder that was opened or asked for its status.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Numbers {
    /// UIDVALIDITY.
    pub epoch: Epoch,
    /// The next UID; `None` when the server does not tell.
    pub uidnext: Option<u32>,
    /// Messages in the folder; `None` when the server does not tell.
    pub messages: Option<u32>,
    /// HIGHESTMODSEQ, where the server keeps one.
    pub highest_modseq: Option<u64>,
    /// PERMANENTFLAGS; `None` when any flag can be kept.
    pub permanent_flags: Option<BTreeSet<String>>,
}

impl Numbers {
    /// The state of a folder that is read. An equal HIGHESTMODSEQ proves that no flag changed.
    pub fn at_source(self) -> FolderState {
        let proves = self.highest_modseq.is_some();
        let mark = write_mark(self.uidnext, self.highest_modseq);
        FolderState { mark, proves, ..self.at_destination() }
    }

    /// The state of a folder that is written. Only what arrives there matters, and its marks change by nothing else.
    pub fn at_destination(self) -> FolderState {
        FolderState {
            epoch: self.epoch,
            mark: write_mark(self.uidnext, None),
            items: self.messages.map(u64::from),
            proves: false,
            keepable: self.permanent_flags,
        }
    }
}

fn write_mark(uidnext: Option<u32>, modseq: Option<u64>) -> Mark {
    match (uidnext, modseq) {
        (Some(uidnext), Some(modseq)) => Mark::from(format!("{uidnext} {modseq}")),
        (None, Some(modseq)) => Mark::from(format!("- {modseq}")),
        (Some(uidnext), None) => Numbered::mark(uidnext),
        (None, None) => Mark::beginning(),
    }
}

/// UIDNEXT and modseq, where a mark has both: changes can be asked for from there on.
pub fn read_mark(mark: &Mark) -> Option<(u32, u64)> {
    let (_, modseq) = mark.as_str().split_once(' ')?;
    Numbered::next(mark).zip(modseq.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_read_themselves_back() {
        for (uidnext, modseq, text) in [
            (Some(7), None, "7"),
            (Some(7), Some(u64::MAX), "7 18446744073709551615"),
            (None, Some(3), "- 3"),
            (None, None, ""),
        ] {
            let numbers = Numbers { uidnext, highest_modseq: modseq, ..Numbers::default() };
            let (read, written) = (numbers.clone().at_source(), numbers.at_destination());
            assert_eq!((read.mark.as_str(), read.proves), (text, modseq.is_some()));
            assert_eq!(read_mark(&read.mark), uidnext.zip(modseq));
            assert_eq!(Numbered::next(&read.mark), uidnext);
            assert_eq!((written.mark.is_beginning(), written.proves), (uidnext.is_none(), false));
            assert_eq!(Numbered::next(&written.mark), uidnext);
        }
    }
}
