//! Messages that are not in the folder that they were carried to: their users may have moved them to another one. They are
//! looked for by what they are, in all folders of the destination, among what belongs to nobody else.

use std::collections::{BTreeSet, HashMap};

use super::reading::read_destination;
use super::{Found, NAMED_MAX};
use crate::ledger::{Ledger, RowId};
use crate::mail::{Destination, Present};
use crate::model::failure::{Failure, Place, Result};
use crate::model::folder::FolderPath;
use crate::model::identity::Digest;
use crate::model::message::{InternalDate, Locator};
use crate::transfer::neighbours::Neighbours;

/// A message that is not in its folder.
#[derive(Debug, Clone)]
pub(super) struct Lost {
    pub(super) row: RowId,
    pub(super) locator: Locator,
    pub(super) subject: Option<String>,
    /// What it is, if anybody knows.
    pub(super) canonical: Option<Digest>,
    pub(super) size: u64,
    pub(super) date: Option<InternalDate>,
    /// Where it should be.
    pub(super) folder: FolderPath,
    /// The UID that it had there.
    pub(super) place: Option<u32>,
}

/// Messages of a folder of the destination that found no like.
#[derive(Debug, Clone)]
pub(super) struct Spare {
    pub(super) uidvalidity: u32,
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
    let mut places: HashMap<usize, FolderPath> = HashMap::new();
    // Whether any folder could not be looked into: then nobody knows of a message that was not found whether it is there.
    let mut unseen = !found.unchecked.is_empty();
    let folders = if wanted.is_empty() { Vec::new() } else { destination.list_folders().await? };
    for path in folders.into_iter().filter(|folder| folder.selectable).map(|folder| folder.path) {
        let Some(spare) = list_spare(destination, &path, found).await? else {
            unseen = true;
            continue;
        };
        let Spare { uidvalidity, messages } = spare;
        let is_like = |message: &Present| {
            sizes.contains(&message.size) || message.date.is_some_and(|date| dates.contains(&date.unix))
        };
        let mut theirs = ledger.claimed(&path, uidvalidity).await?;
        for lost in lost.iter().filter(|lost| lost.folder == path) {
            // Its place is void.
            lost.place.map(|uid| theirs.remove(&uid));
        }
        let free = messages.iter().filter(|message| is_like(message)).map(|message| message.uid);
        let free: Vec<u32> = free.filter(|uid| !theirs.contains(uid)).collect();
        let free = neighbours.spare(&path, uidvalidity, free, |uid| *uid).await?;
        if free.is_empty() {
            continue;
        }
        destination.open(&path).await.at(|| path.to_string())?;
        let mut contents: Vec<_> = read_destination(destination, &free).await?.into_iter().collect();
        contents.sort_by_key(|(uid, _)| *uid);
        for (_, content) in contents {
            found.figures.read_back += 1;
            if let Some(at) = wanted.get_mut(&content.canonical).and_then(Vec::pop) {
                places.insert(at, path.clone());
            }
        }
        wanted.retain(|_, left| !left.is_empty());
        if wanted.is_empty() {
            break;
        }
    }
    // A folder whose mail was put elsewhere is not missed.
    let emptied: BTreeSet<&FolderPath> = places.keys().map(|at| &lost[*at].folder).collect();
    for path in std::mem::take(&mut found.absent).iter().filter(|path| !emptied.contains(path)) {
        found.figures.differing += 1;
        if found.named.len() < NAMED_MAX {
            found.named.push(format!("{path}: the folder is not at the destination"));
        }
    }
    for (at, lost) in lost.iter().enumerate() {
        found.figures.checked += 1;
        if let Some(path) = places.get(&at) {
            found.figures.identical += 1;
            found.figures.moved += 1;
            let what = format!("was moved at the destination, to \"{path}\"");
            found.name(&lost.locator, lost.subject.as_deref(), &what);
        } else if unseen {
            found.figures.checked -= 1;
            found.figures.unchecked += 1;
            let what = "is not in its folder, and may be in one that could not be looked into";
            found.name(&lost.locator, lost.subject.as_deref(), what);
        } else {
            found.figures.missing += 1;
            found.name(&lost.locator, lost.subject.as_deref(), "is no longer at the destination");
            found.missing.push(lost.row);
        }
    }
    Ok(())
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
        let messages = if state.messages == Some(0) { Vec::new() } else { destination.list_from(1).await? };
        Ok::<_, Failure>(Spare { uidvalidity: state.uidvalidity, messages })
    };
    match listing.await {
        Ok(spare) => Ok(Some(spare)),
        Err(failure) if failure.leaves_the_session() || failure.asks_to_come_later() => Ok(None),
        Err(failure) => Err(failure),
    }
}
