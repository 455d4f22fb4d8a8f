//! Messages that are not in the folder that they were carried to: their users may have moved them to another one. They are
//! looked for by what they are, in all folders of the destination, among what belongs to nobody else.

use std::collections::{BTreeSet, HashMap};

use super::explain::is_as_given;
use super::reading::{Content, read_destination};
use super::{Found, absent_folder, settled};
use crate::drivers::{Destination, Present};
use crate::ledger::{Ledger, Row, Settled};
use crate::model::difference::{Difference, Kind, Value};
use crate::model::failure::{Failure, FailureCode, Place, Result};
use crate::model::folder::FolderPath;
use crate::model::identity::Digest;
use crate::model::mark::Mark;
use crate::model::message::{Arrival, Epoch, InternalDate, ItemId, Verdict};
use crate::model::place::MessageDestination;
use crate::model::protocol::Protocol;
use crate::transfer::neighbours::Neighbours;
use crate::transfer::pipeline::OTHER_BYTES;
use crate::transfer::progress::MailboxProgress;

/// A message that is not in its folder.
#[derive(Debug, Clone)]
pub(super) struct Lost {
    pub(super) row: Row,
    /// The words about it if it is nowhere.
    pub(super) difference: Difference,
    /// Its identity, if anybody knows it.
    pub(super) canonical: Option<Digest>,
    pub(super) size: u64,
    pub(super) date: Option<InternalDate>,
    /// Where it should be.
    pub(super) folder: FolderPath,
    /// The id that it had there.
    pub(super) place: Option<ItemId>,
}

/// Messages of a folder of the destination that found no like.
#[derive(Debug, Clone)]
pub(super) struct Spare {
    /// `None` where there is no such folder.
    pub(super) epoch: Option<Epoch>,
    pub(super) messages: Vec<Present>,
}

/// Looks for the messages that are not in their folders, and says of each where it is, or that it is nowhere. Only what has the
/// size or the date of one of them is read.
///
/// # Errors
/// Those of the session and of the ledgers.
pub(super) async fn find_moved(
    destination: &mut dyn Destination,
    ledger: &dyn Ledger,
    neighbours: &Neighbours,
    found: &mut Found,
    (protocol, progress): (Protocol, &MailboxProgress),
) -> Result<()> {
    let lost = std::mem::take(&mut found.lost);
    let mut wanted: HashMap<Digest, Vec<usize>> = HashMap::new();
    for (at, lost) in lost.iter().enumerate().rev() {
        if let Some(canonical) = lost.canonical {
            wanted.entry(canonical).or_default().push(at);
        }
    }
    let sizes: BTreeSet<u64> = lost.iter().map(|lost| lost.size).collect();
    let dates: BTreeSet<i64> = lost.iter().filter_map(|lost| lost.date).map(|date| date.unix).collect();
    let mut places: HashMap<usize, (FolderPath, Arrival, Content)> = HashMap::new();
    // Whether any folder could not be looked into: then nobody knows of a message that was not found whether it is there.
    let mut unseen = !found.unchecked.is_empty();
    let folders = if wanted.is_empty() { Vec::new() } else { destination.list_folders().await? };
    for path in folders.into_iter().filter(|folder| folder.selectable).map(|folder| folder.path) {
        let Some(spare) = list_spare(destination, &path, found).await? else {
            unseen = true;
            continue;
        };
        let Spare { epoch, messages } = spare;
        let Some(epoch) = epoch else { continue };
        let is_like = |message: &Present| {
            sizes.contains(&message.size) || message.date.is_some_and(|date| dates.contains(&date.unix))
        };
        let mut theirs = ledger.claimed(&path, &epoch).await?;
        for place in lost.iter().filter(|lost| lost.folder == path).filter_map(|lost| lost.place.as_ref()) {
            // Its place is void.
            theirs.remove(place);
        }
        let free = messages.into_iter().filter(is_like).map(|message| message.id);
        let free: Vec<ItemId> = free.filter(|id| !theirs.contains(id)).collect();
        let free = neighbours.spare(&path, &epoch, free, |id| id).await?;
        if free.is_empty() {
            continue;
        }
        destination.open(&path).await.at(|| path.to_string())?;
        let mut contents = read_destination(destination, &free, progress).await?;
        contents.sort_by_key(|(place, _)| *place);
        for (place, content) in contents {
            found.figures.read_back += 1;
            if let Some(at) = wanted.get_mut(&content.canonical).and_then(Vec::pop) {
                let arrival = Arrival { epoch: epoch.clone(), id: free[place].clone() };
                places.insert(at, (path.clone(), arrival, content));
            }
        }
        wanted.retain(|_, left| !left.is_empty());
        if wanted.is_empty() {
            break;
        }
    }
    // A folder whose mail was put elsewhere is not missed.
    let emptied: BTreeSet<FolderPath> = places.keys().map(|at| lost[*at].folder.clone()).collect();
    for path in std::mem::take(&mut found.absent).iter().filter(|path| !emptied.contains(*path)) {
        found.figures.differing += 1;
        found.figures.absent_folders += 1;
        found.name(absent_folder(path, protocol));
    }
    let mut changes = Vec::new();
    for (at, Lost { row, difference, folder, .. }) in lost.into_iter().enumerate() {
        found.figures.checked += 1;
        let was_missing = row.refused.code == Some(FailureCode::ArrivalMissing);
        if let Some((path, arrival, content)) = places.get(&at) {
            let is_altered = matches!(row.verdict, Verdict::DeliveredAltered(_));
            let as_given = is_as_given(&row, content);
            let figures = &mut found.figures;
            *(if as_given && !is_altered { &mut figures.identical } else { &mut figures.altered }) += 1;
            found.figures.moved += 1;
            found.name(Difference {
                kind: Kind::Folder,
                destination: Some(MessageDestination::new(path, arrival)),
                expected: Some(Value::Text(folder.to_string())),
                found: Some(Value::Text(path.to_string())),
                ..difference
            });
            if !as_given && !is_altered {
                let why = format!("found in the folder {path}, changed: {OTHER_BYTES}");
                let code = Some(FailureCode::ArrivalChanged);
                let altered = settled(&row, Verdict::DeliveredAltered(why), row.destination.clone(), code);
                changes.push(Settled { stored: Some(content.exact), ..altered });
            } else if was_missing {
                changes.push(settled(&row, row.verdict.clone(), None, None));
            }
        } else if unseen {
            found.figures.checked -= 1;
            found.figures.unchecked += 1;
            found.name(Difference { kind: Kind::Unchecked, ..difference });
        } else {
            found.figures.missing += 1;
            found.name(difference);
            found.missing.push(row.id);
            if !was_missing || row.destination.is_some() {
                // The ledger never says that something is where it is not.
                changes.push(settled(&row, row.verdict.clone(), None, Some(FailureCode::ArrivalMissing)));
            }
        }
    }
    ledger.settle(&changes, None).await
}

/// The messages of a folder that found no like; all of them where nothing was expected in it. `None` for a folder that cannot
/// be opened.
async fn list_spare(
    destination: &mut dyn Destination,
    path: &FolderPath,
    found: &mut Found,
) -> Result<Option<Spare>> {
    if let Some(spare) = found.spare.remove(path) {
        return Ok(Some(spare));
    }
    let listing = async {
        let state = destination.open(path).await?;
        let messages = match state.items {
            Some(0) => Vec::new(),
            _ => destination.list_since(&Mark::beginning()).await?,
        };
        Ok::<_, Failure>(Spare { epoch: Some(state.epoch), messages })
    };
    match listing.await {
        Ok(spare) => Ok(Some(spare)),
        Err(failure) if failure.leaves_the_session() || failure.asks_to_come_later() => Ok(None),
        Err(failure) => Err(failure),
    }
}
