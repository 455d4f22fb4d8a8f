//! The fate of the messages of a folder that found no like: altered, elsewhere, missing, refused, still to come; and what
//! lies at the destination once more than at the source.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::folder::{Check, Expected, Sides};
use super::moved::Lost;
use super::pairing::Pairing;
use super::reading::Content;
use super::settled;
use crate::discovery::Clock;
use crate::ledger::{Row, Settled};
use crate::local::clock::SystemClock;
use crate::model::difference::{Kind, Value};
use crate::model::failure::{FailureCode, Result};
use crate::model::folder::FolderPath;
use crate::model::identity::Digest;
use crate::model::message::{InternalDate, ItemId, Verdict};
use crate::model::place::MessageDestination;
use crate::model::record::Depth;
use crate::transfer::pipeline::OTHER_BYTES;

/// The most messages of a folder that are read to see whether they are second copies.
const EXTRA_READ_MAX: usize = 500;

impl Check<'_> {
    /// Says of each message that arrived and found no like what became of it.
    pub(super) async fn explain(
        &mut self,
        sides: &Sides,
        pairing: &mut Pairing,
        changes: &mut Vec<Settled>,
    ) -> Result<()> {
        let mut spare: HashMap<&ItemId, usize> =
            pairing.spare.iter().map(|at| (&sides.present[*at].id, *at)).collect();
        let mut by_canonical: HashMap<Digest, Vec<&ItemId>> = HashMap::new();
        for (id, at) in &spare {
            if let Some(content) = sides.contents.get(at) {
                by_canonical.entry(content.canonical).or_default().push(id);
            }
        }
        for at in &pairing.wanted {
            let expected = &sides.expected[*at];
            let Some(row) = &expected.row else { continue };
            self.progress.finish_message();
            if self.lies_elsewhere(&sides.path, row).await? {
                // The destination put it there when it was carried, and that was said.
                self.found.figures.checked += 1;
                let there = row.destination.as_ref();
                self.note_altered(
                    expected,
                    there.map(|(folder, at)| MessageDestination::new(folder, at)),
                    None,
                );
                continue;
            }
            // A folder that was restored from a copy gives the ids of what it lost to others.
            let at_its_place = expected.place(&sides.path, sides.epoch.as_ref());
            let at_its_place = at_its_place.filter(|id| {
                let there =
                    spare.get(id).and_then(|at| Some((sides.contents.get(at)?, sides.present[*at].date)));
                there.is_some_and(|(content, date)| {
                    row.stored == Some(content.exact) || is_same_letter(row, content, date)
                })
            });
            let canonical = expected.content.as_ref().map(|content| content.canonical);
            let canonical = canonical.or_else(|| row.known.as_ref().map(|known| known.canonical));
            let is_as_given = |id: &ItemId| {
                let there = spare.get(id).and_then(|at| sides.contents.get(at));
                there.is_some_and(|content| is_as_given(row, content))
            };
            let alike = canonical.and_then(|canonical| {
                let left = by_canonical.get(&canonical)?.iter().copied().filter(|id| spare.contains_key(id));
                left.max_by_key(|id| (is_as_given(id), Some(*id) == at_its_place))
            });
            let is_altered = matches!(row.verdict, Verdict::DeliveredAltered(_));
            match (at_its_place, alike) {
                (Some(id), _) | (None, Some(id))
                    if is_altered
                        && spare.get(id).is_none_or(|at| is_as_stored(expected, row, sides, *at)) =>
                {
                    let like = spare.remove(id);
                    self.found.figures.checked += 1;
                    let found = like.and_then(|like| Some(sides.contents.get(&like)?.bytes()));
                    self.note_altered(expected, like.map(|like| sides.destination(like)), found);
                }
                // The source shows it otherwise than before, such as with a last line's end that POP3 cannot leave away.
                (_, Some(id)) if is_as_given(id) => {
                    let Some(like) = spare.remove(id) else { continue };
                    self.find_alike(sides, expected, like);
                }
                (_, Some(id)) | (Some(id), None) => {
                    let Some(like) = spare.remove(id) else { continue };
                    changes.extend(self.find_altered(sides, (expected, row), like));
                }
                (None, None) => self.lose(sides, expected, row),
            }
        }
        pairing.wanted.clear();
        pairing.spare = spare.into_values().collect();
        Ok(())
    }

    /// A message is there as it was given, and the source hands it out with other bytes now.
    fn find_alike(&mut self, sides: &Sides, expected: &Expected, like: usize) {
        let Some(content) = sides.contents.get(&like) else { return };
        self.found.figures.checked += 1;
        self.found.figures.alike += 1;
        let values = (Some(expected.bytes()), Some(content.bytes()));
        self.found.name(expected.difference(Kind::Alike, Some(sides.destination(like)), values));
    }

    /// A message is there with other bytes.
    pub(super) fn note_altered(
        &mut self,
        expected: &Expected,
        there: Option<MessageDestination>,
        found: Option<Value>,
    ) {
        self.found.figures.altered += 1;
        self.found.name(expected.difference(Kind::Altered, there, (Some(expected.bytes()), found)));
    }

    /// A message is there with other bytes, and nobody knew.
    fn find_altered(
        &mut self,
        sides: &Sides,
        (expected, row): (&Expected, &Row),
        like: usize,
    ) -> Option<Settled> {
        let content = sides.contents.get(&like)?;
        self.found.figures.checked += 1;
        let size = expected.content.as_ref().map_or(expected.listed.size, |content| content.size);
        let held = if size == content.size {
            format!("other bytes than the source has, {size} as there")
        } else {
            format!("{} bytes that differ from the {size} of the source", content.size)
        };
        let day = SystemClock.now().strftime("%Y-%m-%d");
        let same = expected.content.as_ref().is_some_and(|sent| sent.canonical == content.canonical);
        let but = if same { "; only line ends, transport lines or the encoding differ" } else { "" };
        // The size of each arrival is compared as it comes; its bytes are where the policy says so of all.
        let when = if size != content.size || self.rules.depth == Depth::Full {
            "after it had arrived"
        } else {
            "while it was stored or after (only its size was compared when it arrived)"
        };
        let why =
            format!("found changed {when}, by the verification of {day}: the destination holds {held}{but}");
        self.note_altered(expected, Some(sides.destination(like)), Some(content.bytes()));
        let code = Some(FailureCode::ArrivalChanged);
        let place = Some((sides.path.clone(), sides.arrival(like)));
        let stored = Some(content.exact);
        Some(Settled { stored, ..settled(row, Verdict::DeliveredAltered(why), place, code) })
    }

    /// A message is not in this folder.
    fn lose(&mut self, sides: &Sides, expected: &Expected, row: &Row) {
        let content = expected.content.as_ref().map(|content| content.canonical);
        self.found.lost.push(Lost {
            row: row.clone(),
            difference: expected.difference(Kind::Missing, None, (Some(expected.bytes()), None)),
            canonical: row.known.as_ref().map(|known| known.canonical).or(content),
            size: row.size,
            date: expected.listed.date,
            folder: sides.path.clone(),
            place: expected.place(&sides.path, sides.epoch.as_ref()).cloned(),
        });
    }

    /// Says of each message that did not arrive, as far as the ledger knows, that it was refused or still waits. One that was
    /// refused and lies there all the same has arrived.
    pub(super) async fn judge_others(
        &mut self,
        sides: &mut Sides,
        others: &BTreeSet<usize>,
        pairing: &mut Pairing,
        changes: &mut Vec<Settled>,
    ) -> Result<()> {
        let is_refused = |at: &&usize| {
            let row = sides.expected[**at].row.as_ref();
            row.is_some_and(|row| matches!(row.verdict, Verdict::Quarantined(_)))
        };
        let refused: BTreeSet<usize> = others.iter().filter(is_refused).copied().collect();
        let known = pairing.pairs.len();
        pairing.wanted.clone_from(&refused);
        pairing.by_listing(&sides.here, &sides.there);
        let pairs = pairing.pairs.split_off(known);
        let likes: Vec<usize> = pairs.iter().map(|(_, like)| *like).collect();
        if !likes.is_empty() {
            // Another folder may have been looked into.
            self.destination.open(&sides.path).await?;
        }
        self.read_present(sides, &likes).await?;
        let mut arrived = BTreeSet::new();
        for (at, like) in pairs {
            let content = sides.contents.get(&like);
            let row = sides.expected[at].row.as_ref();
            let known = row.and_then(|row| row.known.as_ref());
            let is_it = known.zip(content).is_some_and(|(known, there)| known.canonical == there.canonical);
            if let Some((row, content)) = row.zip(content).filter(|_| is_it) {
                let place = Some((sides.path.clone(), sides.arrival(like)));
                let as_given = is_as_given(row, content);
                let (verdict, code) = if as_given {
                    (Verdict::Delivered, None)
                } else {
                    let altered = Verdict::DeliveredAltered(OTHER_BYTES.to_owned());
                    (altered, Some(FailureCode::StoredAlike))
                };
                let stored = Some(content.exact);
                changes.push(Settled { stored, ..settled(row, verdict, place, code) });
                arrived.insert(at);
                let figures = &mut self.found.figures;
                figures.checked += 1;
                *(if as_given { &mut figures.identical } else { &mut figures.altered }) += 1;
            } else {
                pairing.spare.insert(like);
            }
        }
        pairing.wanted.clear();
        for at in others.iter().filter(|at| !arrived.contains(at)) {
            let expected = &sides.expected[*at];
            self.progress.finish_message();
            if let Some(row @ Row { verdict: Verdict::Quarantined(why), .. }) = &expected.row {
                self.found.name_failed(&expected.listed.locator, Some(row), why);
            } else {
                self.found.figures.waiting += 1;
                let values = (Some(expected.bytes()), None);
                self.found.name(expected.difference(Kind::Waiting, None, values));
            }
        }
        Ok(())
    }

    /// Finds messages that were carried and lie in the folder once more, and belong to nobody.
    pub(super) async fn find_extra(&mut self, sides: &mut Sides, pairing: &mut Pairing) -> Result<()> {
        let mut carried: BTreeMap<(u64, Option<i64>), Vec<usize>> = BTreeMap::new();
        let second = |date: Option<InternalDate>| date.map(|date| date.unix);
        for (at, like) in &pairing.pairs {
            let present = &sides.present[*like];
            carried.entry((present.size, second(present.date))).or_default().push(*at);
        }
        let is_like = |at: &usize| {
            let present = &sides.present[*at];
            carried.contains_key(&(present.size, second(present.date)))
        };
        let spare: Vec<usize> = pairing.spare.iter().copied().filter(is_like).collect();
        if spare.is_empty() {
            return Ok(());
        }
        let (path, epoch) = (sides.path.clone(), sides.epoch.clone().unwrap_or_default());
        let mut theirs = self.ledger.claimed(&path, &epoch).await?;
        // A message that was there before is somebody's own.
        theirs.extend(self.ledger.foreign(&path, &epoch).await?.into_iter().map(|foreign| foreign.id));
        let free = spare.into_iter().map(|at| (sides.present[at].id.clone(), at));
        let free = free.filter(|(id, _)| !theirs.contains(id)).collect();
        let free = self.neighbours.spare(&path, &epoch, free, |(id, _)| id).await?;
        let mut free: Vec<usize> = free.into_iter().map(|(_, at)| at).collect();
        free.truncate(EXTRA_READ_MAX);
        if free.is_empty() {
            return Ok(());
        }
        self.destination.open(&path).await?;
        self.read_present(sides, &free).await?;
        for at in free {
            let Some(content) = sides.contents.get(&at) else { continue };
            let present = &sides.present[at];
            let likes = carried.get(&(present.size, second(present.date))).into_iter().flatten();
            let canonical = |like: &&usize| {
                let expected = &sides.expected[**like];
                let known = expected.row.as_ref().and_then(|row| row.known.as_ref());
                known.is_some_and(|known| known.canonical == content.canonical)
            };
            if let Some(like) = likes.copied().collect::<Vec<_>>().iter().find(canonical) {
                let found = Value::Bytes { size: content.size, exact: Some(content.exact) };
                let place = Some(sides.destination(at));
                let difference = sides.expected[*like].difference(Kind::Extra, place, (None, Some(found)));
                self.found.figures.extra += 1;
                self.found.name(difference);
                pairing.spare.remove(&at);
            }
        }
        Ok(())
    }

    /// Whether a message lies in another folder, where the ledger remembers it.
    async fn lies_elsewhere(&mut self, path: &FolderPath, row: &Row) -> Result<bool> {
        let Some((folder, arrival)) = row.destination.as_ref() else { return Ok(false) };
        if folder == path {
            return Ok(false);
        }
        match self.destination.open(folder).await {
            Ok(state) if state.epoch == arrival.epoch => {
                let listed =
                    self.destination.list_since(&self.destination.marks().before(&arrival.id)).await?;
                Ok(listed.iter().any(|present| present.id == arrival.id))
            }
            Ok(_) => Ok(false),
            Err(failure) if failure.leaves_the_session() => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}

/// Whether the destination holds the very bytes that it was given, but for how their lines end.
pub(super) fn is_as_given(row: &Row, content: &Content) -> bool {
    row.known.as_ref().is_some_and(|known| known.exact == content.exact)
}

/// Whether a message that the destination stored with other bytes is as it was then. Where an older version did not note what
/// was stored, as far as it noted anything: the same message but for what servers change while they store.
fn is_as_stored(expected: &Expected, row: &Row, sides: &Sides, like: usize) -> bool {
    let Some(there) = sides.contents.get(&like) else { return true };
    if let Some(stored) = row.stored {
        return there.exact == stored;
    }
    if row.refused.code != Some(FailureCode::StoredAlike) {
        return true;
    }
    let sent = expected.content.as_ref();
    let is_it = row.known.as_ref().is_some_and(|known| known.canonical == there.canonical);
    is_it
        || sent.is_some_and(|sent| {
            sent.canonical == there.canonical || sent.rewritten.contains(&there.canonical)
        })
}

/// Whether what lies at a message's place may be the message, changed: it has the same Message-ID, or none and the same date, as
/// far as these are known.
fn is_same_letter(row: &Row, content: &Content, date: Option<InternalDate>) -> bool {
    let sent = row.known.as_ref().and_then(|known| known.message_id.as_ref());
    match (sent, &content.message_id) {
        (Some(sent), Some(there)) => sent == there,
        _ => row.date.zip(date).is_none_or(|(sent, there)| sent.unix == there.unix),
    }
}
