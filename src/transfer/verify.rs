//! Checks what arrived. `OK` is not `identical`: servers say it and change bytes (measured: NUL, CR CR LF, a last lone
//! CR). Every arrival's size is compared; those whose bytes servers are known to change, and a sample, are read back.

use std::collections::{HashMap, HashSet};

use tokio::sync::mpsc;

use super::pipeline::{Copied, Passed};
use crate::drivers::{BODY_QUEUE, BodyEvent, Destination, Present, Source, Wanted};
use crate::ledger::{Refused, RowId, Settled};
use crate::model::failure::{Failure, FailureCode, Result};
use crate::model::identity::{BodyChange, Changes, Hazard, Hazards, Identity, IdentityHasher};
use crate::model::mark::Mark;
use crate::model::message::{Flags, InternalDate, ItemId, Verdict};
use crate::model::record::Depth;

/// One arrival in this many is read back at [`Depth::Sampled`].
pub const SAMPLE: u8 = 100;

/// How many checks were made.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// Sizes compared.
    pub sizes: u64,
    /// Messages read back.
    pub digests: u64,
    /// Whether the destination told a place where the message is not: then none that it told counts.
    pub misplaced: bool,
    /// Messages that the list does not show at the place where they should be.
    pub unseen: Vec<RowId>,
    /// The flags of what was sent, by id.
    pub flags: HashMap<ItemId, Flags>,
}

/// Checks the arrivals of a window in the open folder and corrects their verdicts.
///
/// # Errors
/// Those of the session; the verdicts stay as they are.
pub async fn check_arrivals(
    destination: &mut dyn Destination,
    copied: &mut Copied,
    depth: Depth,
) -> Result<Checked> {
    let mut sent: HashMap<ItemId, (usize, Passed)> = HashMap::new();
    let mut twice = false;
    for (at, settled) in copied.settled.iter().enumerate() {
        let recognised = copied.recognised.iter().any(|r| r.row == settled.id);
        if let (true, Some((_, arrival)), false) =
            (settled.verdict.is_delivered(), &settled.destination, recognised)
            && let Some(passed) = copied.passed.get(&settled.id)
        {
            twice |= sent.insert(arrival.id.clone(), (at, passed.clone())).is_some();
        }
    }
    let Some(first) = sent.keys().min().cloned() else { return Ok(Checked::default()) };
    let mut checked = Checked::default();
    let mut read_back = Vec::new();
    // Those of which the list says that nothing is there.
    let mut empty: HashSet<ItemId> = HashSet::new();
    let mut unseen: HashSet<ItemId> = sent.keys().cloned().collect();
    // A server may show in mid-flight what was there before the flight began (Dovecot does at times).
    let marks = destination.marks();
    let whole = |(since, listed): &(Mark, Vec<Present>)| {
        marks.could_follow(&first, since)
            && listed.iter().filter(|present| sent.contains_key(&present.id)).count() == sent.len()
    };
    let listed = match copied.present.take().filter(whole) {
        Some((_, listed)) => listed,
        None => destination.list_since(&marks.before(&first)).await?,
    };
    let mut dates: HashMap<ItemId, Option<InternalDate>> = HashMap::new();
    for present in listed {
        let Some((at, passed)) = sent.get(&present.id) else { continue };
        unseen.remove(&present.id);
        dates.insert(present.id.clone(), present.date);
        checked.flags.insert(present.id.clone(), present.flags);
        checked.sizes += 1;
        if present.size == 0 && passed.size > 0 {
            empty.insert(present.id.clone());
        }
        let suspicious = present.size != passed.size
            || passed.hazards.iter().next().is_some()
            || depth == Depth::Full
            || (depth == Depth::Sampled && passed.known.exact.0[0].is_multiple_of(SAMPLE));
        if suspicious {
            read_back.push((present.id, *at));
        }
    }
    let mut others = false;
    let mut strangers = Vec::new();
    let ids: Vec<ItemId> = read_back.iter().map(|(id, _)| id.clone()).collect();
    let places: HashMap<ItemId, usize> = read_back.into_iter().collect();
    let (identities, kept_back) = read_back_all(destination, &ids).await?;
    for (id, identity) in identities {
        checked.digests += 1;
        let (Some(at), Some((_, passed))) = (places.get(&id), sent.get(&id)) else { continue };
        others |= passed.known.canonical != identity.canonical
            && sent.values().any(|(_, other)| other.known.canonical == identity.canonical);
        if passed.known.canonical != identity.canonical
            && !is_same_letter(passed, &identity, dates.get(&id).copied().flatten())
        {
            strangers.push(copied.settled[*at].id);
        } else {
            judge_arrival(&mut copied.settled[*at], passed, &identity);
        }
    }
    for (id, at) in kept_back.iter().filter_map(|id| Some((id, places.get(id)?))) {
        let settled = &mut copied.settled[*at];
        if empty.contains(id) {
            settled.verdict = Verdict::DeliveredAltered("the destination stored nothing of it".to_owned());
            settled.refused = Refused { code: Some(FailureCode::StoredShort), limit: None };
        } else {
            let reason =
                "the destination lists it and hands nothing of it out, so that it could not be compared";
            settled.verdict = Verdict::DeliveredAltered(reason.to_owned());
        }
    }
    // A message that somebody expunged at once is missing too; looking for it costs little.
    checked.misplaced = twice || others || !unseen.is_empty() || !strangers.is_empty();
    let rows = unseen.iter().filter_map(|id| sent.get(id)).map(|(at, _)| copied.settled[*at].id);
    checked.unseen = rows.chain(strangers).collect();
    Ok(checked)
}

/// Whether bytes that differ may be those of a message that the destination changed: it is the same letter with another
/// header, or has the same Message-ID, or none and the arrival date that it was given. Other messages that arrive
/// meanwhile meet none of these.
pub(super) fn is_same_letter(sent: &Passed, arrived: &Identity, date: Option<InternalDate>) -> bool {
    if sent.letter.is_some() && sent.letter == arrived.letter {
        return true;
    }
    match (&sent.known.message_id, &arrived.message_id) {
        (Some(sent), Some(arrived)) => sent == arrived,
        _ => sent.date.zip(date).is_some_and(|(sent, arrived)| sent.unix == arrived.unix),
    }
}

/// Writes down of a message that arrived with other bytes than it was sent with that it did, and what the destination holds, so
/// that any change after that is noticed. Nothing is changed of one that arrived as it was.
pub(super) fn judge_arrival(settled: &mut Settled, sent: &Passed, arrived: &Identity) {
    let Some(reason) = explain_difference(sent, arrived) else { return };
    let is_alike = sent.known.canonical == arrived.canonical || sent.rewritten.contains(&arrived.canonical);
    let code = if is_alike {
        Some(FailureCode::StoredAlike)
    } else {
        is_part(sent, arrived).then_some(FailureCode::StoredShort)
    };
    settled.verdict = Verdict::DeliveredAltered(reason);
    settled.refused = Refused { code, limit: None };
    settled.stored = Some(arrived.exact);
}

/// Bodies of which so small a share is gone may lack only signs that servers take out, where the message had some: NUL bytes and
/// lone carriage returns.
const SIGNS_SHARE: u64 = 8;

/// Whether the destination keeps only a part of a message: nothing, or a body that says something else in fewer bytes.
fn is_part(sent: &Passed, arrived: &Identity) -> bool {
    let Some(outline) = &sent.outline else { return arrived.size < sent.size / 2 };
    let lost = outline.lost_in(&arrived.outline);
    let is_gone = |hazard| sent.hazards.has(hazard) && !arrived.hazards.has(hazard);
    let signs = if is_gone(Hazard::Nul) || is_gone(Hazard::BareCr) {
        outline.content_bytes() / SIGNS_SHARE
    } else {
        0
    };
    (arrived.size == 0 && sent.size > 0) || lost > signs
}

/// The changes that the destination made, if any.
fn explain_difference(sent: &Passed, arrived: &Identity) -> Option<String> {
    if sent.known.exact == arrived.exact && sent.size == arrived.size {
        return None;
    }
    let causes = match &sent.outline {
        Some(outline) => causes(&outline.changes_to(&arrived.outline), sent.hazards, arrived.hazards),
        None => Vec::new(),
    };
    let causes = if causes.is_empty() { String::new() } else { format!(": {}", causes.join(", ")) };
    Some(format!("the destination stored {} bytes of {} differently{causes}", arrived.size, sent.size))
}

/// The changes in a message, in words.
fn causes(changes: &Changes, sent: Hazards, arrived: Hazards) -> Vec<String> {
    let mut causes = Vec::new();
    let mut tell = |names: &[String], words: &str| {
        if !names.is_empty() {
            let what = if names.len() == 1 { "the header line" } else { "the header lines" };
            causes.push(format!("{what} {} {words}", list_names(names)));
        }
    };
    let is_gone = |hazard| sent.has(hazard) && !arrived.has(hazard);
    let letters = is_gone(Hazard::EightBitHeader);
    tell(&changes.changed, if letters { "changed (letters beyond ASCII)" } else { "changed" });
    tell(&changes.added, "added");
    tell(&changes.left_out, "left out");
    if changes.reordered {
        causes.push("the header lines in another order".to_owned());
    }
    let ends: Vec<&str> = [
        (Hazard::Nul, "NUL bytes replaced"),
        (Hazard::BareCr, "lone carriage returns replaced"),
        (Hazard::CrCrLf, "doubled carriage returns made one"),
        (Hazard::BareLf, "lone line feeds made whole line ends"),
        (Hazard::NoFinalEol, "the last line ended"),
        (Hazard::VeryLongLine, "very long lines cut"),
    ]
    .into_iter()
    .filter(|(hazard, _)| is_gone(*hazard))
    .map(|(_, words)| words)
    .collect();
    match changes.body {
        BodyChange::Content => causes.push("the body changed".to_owned()),
        BodyChange::Encoding if ends.is_empty() => causes.push("the body encoded otherwise".to_owned()),
        BodyChange::Encoding | BodyChange::None => {}
    }
    causes.extend(ends.into_iter().map(str::to_owned));
    if causes.is_empty() {
        causes.push("line ends or empty lines at an end changed".to_owned());
    }
    causes
}

/// Header lines that are named; the others are counted.
const NAMES_MAX: usize = 6;

fn list_names(names: &[String]) -> String {
    let (told, left) = names.split_at(names.len().min(NAMES_MAX));
    match (told, left.len()) {
        ([name], 0) => name.clone(),
        ([.., _], 0) => {
            let (last, before) = (&told[told.len() - 1], &told[..told.len() - 1]);
            format!("{} and {last}", before.join(", "))
        }
        (_, more) => format!("{} and {more} more", told.join(", ")),
    }
}

/// Reads messages of the open folder back and tells what they are. Those that are gone are left out, and those of which
/// nothing is handed out.
///
/// # Errors
/// Those of the session.
pub async fn read_identities(
    destination: &mut dyn Destination,
    ids: &[ItemId],
) -> Result<Vec<(ItemId, Identity)>> {
    read_back_all(destination, ids).await.map(|(identities, _)| identities)
}

/// As [`read_identities`], with those of which nothing is handed out although they are there.
async fn read_back_all(
    destination: &mut dyn Destination,
    ids: &[ItemId],
) -> Result<(Vec<(ItemId, Identity)>, Vec<ItemId>)> {
    if ids.is_empty() {
        return Ok(Default::default());
    }
    let (sender, mut bodies) = mpsc::channel(BODY_QUEUE);
    let id_of = |key: u64| usize::try_from(key).ok().and_then(|at| ids.get(at)).cloned();
    let read = async {
        let (mut identities, mut kept_back) = (Vec::with_capacity(ids.len()), Vec::new());
        let mut current: Option<(ItemId, IdentityHasher)> = None;
        while let Some(event) = bodies.recv().await {
            match event {
                BodyEvent::Begin { key, .. } => {
                    let id = id_of(key)
                        .ok_or_else(|| Failure::internal("a message came back that nobody asked for"))?;
                    current = Some((id, IdentityHasher::new()));
                }
                BodyEvent::Chunk(chunk) => {
                    if let Some((_, hasher)) = &mut current {
                        hasher.update(&chunk);
                    }
                }
                BodyEvent::End { .. } => {
                    if let Some((id, hasher)) = current.take() {
                        identities.push((id, hasher.finish()));
                    }
                }
                BodyEvent::Missing { key, failure: Some(_) } => kept_back.extend(id_of(key)),
                BodyEvent::Missing { failure: None, .. }
                | BodyEvent::Held { .. }
                | BodyEvent::Again { .. } => {}
            }
        }
        Ok((identities, kept_back))
    };
    let (fetched, identities) = tokio::join!(destination.fetch(ids, sender), read);
    fetched?;
    identities
}

/// Reads a message of the folder that is open at the source, alone. `None` where nothing of it is handed out, or several
/// different messages are.
///
/// # Errors
/// Those of the session.
pub(super) async fn read_alone(source: &mut dyn Source, wanted: Wanted) -> Result<Option<Identity>> {
    let (sender, mut bodies) = mpsc::channel(BODY_QUEUE);
    let read = async {
        let (mut hasher, mut come, mut others) = (IdentityHasher::new(), None::<Identity>, Vec::new());
        while let Some(event) = bodies.recv().await {
            match event {
                BodyEvent::Chunk(chunk) => hasher.update(&chunk),
                BodyEvent::End { .. } => come = Some(std::mem::take(&mut hasher).finish()),
                BodyEvent::Again { exact, .. } => others.push(exact),
                BodyEvent::Begin { .. } | BodyEvent::Held { .. } | BodyEvent::Missing { .. } => {}
            }
        }
        come.filter(|come| others.iter().all(|other| *other == come.exact))
    };
    let alone = [wanted];
    let (fetched, come) = tokio::join!(source.fetch(&alone, sender), read);
    fetched.map(|()| come)
}
