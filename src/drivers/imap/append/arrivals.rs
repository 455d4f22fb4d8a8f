//! Where a server says that it put messages.

use super::super::tokens::StatusText;
use crate::model::message::{Arrival, Epoch, ItemId};

/// `[APPENDUID uidvalidity uid-set]` (RFC 4315): the UIDs of a command's messages, in their order. Empty when the server
/// names none, or not as many as there were.
pub(super) fn read_arrivals(said: &StatusText, messages: usize) -> Vec<Arrival> {
    let read = || -> Option<Vec<Arrival>> {
        let (uidvalidity, set) = said.arguments.split_once(' ').filter(|_| said.code == "APPENDUID")?;
        let epoch = Epoch::from(uidvalidity.parse::<u32>().ok()?);
        let mut arrivals = Vec::with_capacity(messages);
        for part in set.trim().split(',') {
            let (first, last) = part.split_once(':').unwrap_or((part, part));
            let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
            if first == 0 || last < first || (last - first) as usize >= messages {
                return None;
            }
            arrivals.extend((first..=last).map(|uid| Arrival { epoch: epoch.clone(), id: ItemId::Uid(uid) }));
        }
        (arrivals.len() == messages).then_some(arrivals)
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uids_of_a_batch_are_taken_only_when_each_message_has_one() {
        let read = |line: &str, messages| -> Vec<u32> {
            let said = StatusText::parse(line.as_bytes());
            read_arrivals(&said, messages).into_iter().filter_map(|arrival| arrival.id.uid()).collect()
        };
        assert_eq!(read("[APPENDUID 9 7] done", 1), [7]);
        assert_eq!(read("[APPENDUID 9 7:9,12] done", 4), [7, 8, 9, 12]);
        for (line, messages) in [
            ("[APPENDUID 9 7:9] done", 4),
            ("[APPENDUID 9 7:9] done", 2),
            ("[APPENDUID 9 9:7] done", 3),
            ("[APPENDUID 9 0] done", 1),
            ("[APPENDUID 9 1:4294967295] done", 50),
            ("[APPENDUID x 1] done", 1),
            ("done", 1),
        ] {
            assert!(read(line, messages).is_empty(), "{line} for {messages}");
        }
    }
}
