//! Which folder of the source is which: a name may stand for another folder than when it was carried. Folders are renamed,
//! swapped, given the name of one that is gone, or made anew under a name that was just freed. They are told apart by their
//! UIDVALIDITY and by the UIDs, dates and sizes of their messages; where the UIDVALIDITY is another one, by dates and sizes.
//!
//! Nothing is listed for it unless a folder came, went, or has a state that a folder of its history cannot have.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Rules;
use super::atlas::Atlas;
use crate::drivers::marks::Marks;
use crate::drivers::{Folder, FolderState, Listing, Source, Survey};
use crate::ledger::{Cursor, Ledger, Renaming, Row};
use crate::model::failure::Result;
use crate::model::folder::FolderPath;
use crate::model::message::Locator;
use crate::model::protocol::Protocol;

/// The most messages of a folder that was carried by which it is recognised.
const COMPARED_MAX: usize = 1000;

/// Where the folders are that were carried.
#[derive(Debug, Default)]
pub(super) struct Whereabouts {
    /// Folders that are called differently now, each with the name that it had; a folder before what is below it.
    pub(super) renamed: Vec<Renaming>,
    /// Folders whose names stand for something that was never carried, though their numbers may be as they were: their
    /// messages must be held against what is known, each of them.
    pub(super) unsure: Vec<FolderPath>,
}

/// The facts about one folder beside its name.
#[derive(Debug, Clone, Copy)]
struct Standing<'a> {
    /// How far it was carried, if it was.
    cursor: Option<&'a Cursor>,
    /// The state of the folder of this name now, if there is one and it reports its state.
    state: Option<&'a FolderState>,
    /// Whether the source lists the name.
    listed: bool,
    /// Whether anything of this name was carried.
    known: bool,
    /// The relations of the source's marks.
    marks: &'static dyn Marks,
}

impl Standing<'_> {
    fn is_vanished(&self) -> bool {
        self.known && !self.listed
    }

    fn is_new(&self) -> bool {
        self.listed && !self.known
    }

    /// Whether this name cannot stand for the folder any more that it stood for.
    fn is_another(&self) -> bool {
        self.cursor.zip(self.state).is_some_and(|(cursor, state)| !could_be(self.marks, cursor, state))
    }

    fn has_other_ids(&self) -> bool {
        self.cursor.zip(self.state).is_some_and(|(cursor, state)| cursor.epoch != state.epoch)
    }

    fn has_changed(&self) -> bool {
        self.cursor.zip(self.state).is_some_and(|(cursor, state)| {
            cursor.epoch != state.epoch
                || cursor.mark != state.mark
                || cursor.items != state.items
                || cursor.proves != state.proves
        })
    }

    /// Whether the folder that had this name may have that one now.
    fn may_be_at(&self, other: &Self) -> bool {
        let Some(state) = other.state else { return false };
        let ids_are_void =
            (self.is_vanished() || self.has_other_ids()) && (other.is_new() || other.has_other_ids());
        ids_are_void || self.cursor.is_some_and(|cursor| could_be(self.marks, cursor, state))
    }
}

/// Whether a folder may be the one that was carried so far.
fn could_be(marks: &dyn Marks, cursor: &Cursor, state: &FolderState) -> bool {
    cursor.epoch == state.epoch && !marks.contradicts(&cursor.mark, &state.mark)
}

/// The names that may stand for other folders now, or whose folders may be elsewhere. A folder that grew is not among them
/// unless there is another name that it could have, which is not simply that of a folder that grew as well.
fn find_doubtful<'a>(standings: &BTreeMap<&'a FolderPath, Standing<'_>>) -> BTreeSet<&'a FolderPath> {
    let (gone, new): (Vec<_>, Vec<_>) = (
        standings.values().filter(|one| one.is_vanished()).collect(),
        standings.values().filter(|one| one.is_new()).collect(),
    );
    let may_move = |one: &Standing<'_>| {
        one.known && one.listed && (one.has_changed() || new.iter().any(|new| one.may_be_at(new)))
    };
    let mut doubtful: BTreeSet<&FolderPath> =
        standings.iter().filter(|(_, one)| may_move(one)).map(|(path, _)| *path).collect();
    loop {
        let stays = |path: &&&FolderPath| {
            let one = &standings[**path];
            let others = || doubtful.iter().filter(|other| *other != *path).map(|other| &standings[*other]);
            let another = one.is_another();
            let moves = others().any(|other| one.may_be_at(other) || another && other.may_be_at(one));
            !moves
                && !new.iter().any(|new| one.may_be_at(new))
                && !gone.iter().any(|gone| gone.may_be_at(one))
        };
        let stay: Vec<&FolderPath> = doubtful.iter().filter(stays).copied().collect();
        if stay.is_empty() {
            break;
        }
        doubtful.retain(|path| !stay.contains(path));
    }
    let is_met = |one: &Standing<'_>| {
        one.is_new()
            && standings
                .iter()
                .any(|(path, other)| (other.is_vanished() || doubtful.contains(path)) && other.may_be_at(one))
    };
    let met: Vec<&FolderPath> =
        standings.iter().filter(|(_, one)| is_met(one)).map(|(path, _)| *path).collect();
    doubtful.extend(met);
    if !doubtful.is_empty() {
        doubtful.extend(standings.iter().filter(|(_, one)| one.is_vanished()).map(|(path, _)| *path));
    }
    doubtful
}

/// Finds out where the folders are that were carried.
///
/// # Errors
/// Those of the session and of the ledger.
pub(super) async fn find_whereabouts(
    source: &mut dyn Source,
    sources: &Survey,
    rules: &Rules,
    atlas: &Atlas,
    ledger: &dyn Ledger,
    cursors: &HashMap<FolderPath, Cursor>,
) -> Result<Whereabouts> {
    let mut known: BTreeSet<&FolderPath> = cursors.keys().filter(|path| !path.is_inbox()).collect();
    for path in atlas.places().map(|place| &place.source).filter(|path| !path.is_inbox()) {
        // A kill may have come between the ledger's word on a new name and the atlas's: of the old name nothing is left then.
        if !known.contains(path) && !ledger.rows(path).await?.is_empty() {
            known.insert(path);
        }
    }
    if known.is_empty() {
        return Ok(Whereabouts::default());
    }
    let is_ours = |folder: &&Folder| {
        folder.selectable && !folder.path.is_inbox() && !rules.exclude.is_match(folder.path.to_string())
    };
    let folders: BTreeMap<&FolderPath, &Folder> =
        sources.folders.iter().filter(is_ours).map(|folder| (&folder.path, folder)).collect();
    let listed: BTreeSet<&FolderPath> =
        sources.folders.iter().filter(|folder| folder.selectable).map(|folder| &folder.path).collect();
    let told = ask_states(source, sources, &folders, &known, cursors).await?;
    let marks = source.marks();
    let mut standings: BTreeMap<&FolderPath, Standing<'_>> = BTreeMap::new();
    for path in known.iter().copied().chain(folders.keys().copied()) {
        let standing = Standing {
            cursor: cursors.get(path),
            state: sources.states.get(path).or_else(|| told.get(path)),
            listed: listed.contains(path),
            known: known.contains(path),
            marks,
        };
        if !standing.listed || folders.contains_key(path) {
            standings.insert(path, standing);
        }
    }
    let mut doubtful = find_doubtful(&standings);
    if sources.rule.is_some() {
        // Where folders are labels, a message is listed in one of them by a rule, and not in what shows it.
        doubtful.retain(|path| standings[path].is_vanished() || standings[path].is_new());
    }
    let mut carried: BTreeMap<&FolderPath, Vec<Row>> = BTreeMap::new();
    let protocol = source.facts().endpoint.protocol;
    for path in doubtful.iter().copied().filter(|path| standings[path].known) {
        carried.insert(path, read_rows(ledger, protocol, path, cursors.get(path)).await?);
    }
    let mut found: Vec<(Likeness, &FolderPath, &FolderPath)> = Vec::new();
    for to in doubtful.iter().copied().filter(|path| standings[path].listed) {
        let Some(folder) = folders.get(to) else { continue };
        if standings[to].is_new() && !ledger.rows(to).await?.is_empty() {
            continue;
        }
        let Some(state) = standings[to].state else { continue };
        let page = match list_first(source, folder, state).await {
            Ok(page) => page,
            // Its own pass names it.
            Err(failure) if failure.leaves_the_session() || failure.asks_to_come_later() => continue,
            Err(failure) => return Err(failure),
        };
        for (from, rows) in &carried {
            let before = &standings[from];
            if *from == to || before.may_be_at(&standings[to]) {
                let likeness = compare(rows, before, state, &page);
                found.extend(likeness.map(|likeness| (likeness, *from, to)));
            }
        }
    }
    Ok(settle(found, &doubtful, &standings))
}

/// Gives each folder that was carried the name under which it is found best; of equals, its own.
fn settle(
    mut found: Vec<(Likeness, &FolderPath, &FolderPath)>,
    doubtful: &BTreeSet<&FolderPath>,
    standings: &BTreeMap<&FolderPath, Standing<'_>>,
) -> Whereabouts {
    found.sort_by_key(|(likeness, from, to)| std::cmp::Reverse((*likeness, from == to)));
    let (mut placed, mut taken) = (BTreeSet::new(), BTreeSet::new());
    let mut whereabouts = Whereabouts::default();
    for (likeness, from, to) in &found {
        // An empty folder shows nothing but its numbers, and two of equal numbers cannot be told apart.
        let alike = |other: &&(Likeness, &FolderPath, &FolderPath)| {
            other.0 == *likeness && (other.1 == *from) != (other.2 == *to)
        };
        if *likeness == Likeness::EMPTY && from != to && found.iter().any(|other| alike(&other)) {
            continue;
        }
        if placed.contains(from) || taken.contains(to) {
            continue;
        }
        placed.insert(*from);
        taken.insert(*to);
        if from != to {
            whereabouts.renamed.push(Renaming { from: (*from).clone(), to: (*to).clone() });
        }
    }
    let is_unsure = |path: &&FolderPath| {
        standings[*path].cursor.is_some()
            && standings[*path].listed
            && !placed.contains(*path)
            && !taken.contains(*path)
    };
    whereabouts.unsure = doubtful.iter().copied().filter(is_unsure).cloned().collect();
    whereabouts.renamed.sort_by_key(|renaming| renaming.from.names().len());
    whereabouts
}

/// How folders stand of which the list of folders did not tell it, where it matters: nothing can have moved among less than
/// two names.
async fn ask_states(
    source: &mut dyn Source,
    sources: &Survey,
    folders: &BTreeMap<&FolderPath, &Folder>,
    known: &BTreeSet<&FolderPath>,
    cursors: &HashMap<FolderPath, Cursor>,
) -> Result<HashMap<FolderPath, FolderState>> {
    let matters = |path: &FolderPath| !known.contains(path) || cursors.contains_key(path);
    let lacking: Vec<&Folder> = folders
        .values()
        .copied()
        .filter(|folder| !sources.states.contains_key(&folder.path) && matters(&folder.path))
        .collect();
    let vanished = known.iter().any(|path| !folders.contains_key(path));
    if lacking.is_empty() || !vanished && folders.len() < 2 || sources.rule.is_some() && !vanished {
        return Ok(HashMap::new());
    }
    source.states(&lacking).await
}

/// The rows of the messages of a folder that was carried.
async fn read_rows(
    ledger: &dyn Ledger,
    protocol: Protocol,
    path: &FolderPath,
    cursor: Option<&Cursor>,
) -> Result<Vec<Row>> {
    let Some(cursor) = cursor else { return ledger.rows(path).await };
    let space = crate::ledger::Space { folder: path.clone(), protocol, epoch: cursor.epoch.clone() };
    ledger.rows_in(&space, None, None, COMPARED_MAX).await
}

/// The first page of a folder; that of a large one is enough.
async fn list_first(source: &mut dyn Source, folder: &Folder, state: &FolderState) -> Result<Listing> {
    if state.items == Some(0) {
        return Ok(Listing::default());
    }
    source.open(folder).await?;
    source.list(None).await
}

/// How like a folder is to one that was carried: by its ids before by dates and sizes alone, and by how many messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Likeness {
    by_id: bool,
    same: usize,
}

impl Likeness {
    /// Two folders without messages whose numbers are the same.
    const EMPTY: Self = Self { by_id: true, same: 0 };
}

/// Whether a folder may be one that was carried, by its first page.
fn compare(rows: &[Row], before: &Standing<'_>, state: &FolderState, page: &Listing) -> Option<Likeness> {
    let (cursor, marks) = (before.cursor, before.marks);
    let keeps_ids = cursor.is_none_or(|cursor| could_be(marks, cursor, state));
    if page.messages.is_empty() {
        let same_marks = |c: &Cursor| {
            !c.mark.is_beginning() && !state.mark.is_beginning() && !marks.contradicts(&state.mark, &c.mark)
        };
        return (keeps_ids && cursor.is_some_and(same_marks) && rows.iter().all(|row| row.gone))
            .then_some(Likeness::EMPTY);
    }
    let is_on_page = |row: &&Row| page.next.as_ref().is_none_or(|last| row.locator.id <= last.id);
    let rows: Vec<&Row> = rows.iter().filter(|row| !row.gone).filter(is_on_page).collect();
    let enough = |same: usize| same > 0 && 2 * same >= rows.len().min(page.messages.len());
    if keeps_ids {
        let name = |locator: &Locator| (locator.epoch.clone(), locator.id.clone());
        let now: HashMap<_, _> =
            page.messages.iter().map(|message| (name(&message.locator), message)).collect();
        let (mut common, mut same) = (0, 0);
        for row in &rows {
            let Some(message) = now.get(&name(&row.locator)) else { continue };
            common += 1;
            // The announced size of a message may differ from the size that a server hands out.
            let same_size =
                row.announced.map_or(row.known.is_some() || row.size == message.size, |announced| {
                    announced == message.size
                });
            same += usize::from(message.date == row.date && same_size);
        }
        return (same == common && enough(same)).then_some(Likeness { by_id: true, same });
    }
    let mut there: HashMap<(i64, u64), usize> = HashMap::new();
    for message in &page.messages {
        if let Some(date) = message.date {
            *there.entry((date.unix, message.size)).or_default() += 1;
        }
    }
    let mut same = 0;
    for row in &rows {
        let Some(date) = row.date else { continue };
        let size = row.announced.unwrap_or(row.size);
        if let Some(left) = there.get_mut(&(date.unix, size)).filter(|left| **left > 0) {
            *left -= 1;
            same += 1;
        }
    }
    enough(same).then_some(Likeness { by_id: false, same })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::marks::Numbered;
    use crate::model::message::Epoch;

    fn cursor(epoch: u32, next: u32) -> Cursor {
        Cursor { epoch: Epoch::from(epoch), mark: Numbered::mark(next), ..Cursor::default() }
    }

    fn state(epoch: u32, next: u32) -> FolderState {
        FolderState { epoch: Epoch::from(epoch), mark: Numbered::mark(next), ..FolderState::default() }
    }

    /// The epoch and the number that comes next.
    type Numbers = Option<(u32, u32)>;

    /// The names that are in doubt; each folder is given with its numbers before and now.
    fn doubtful(folders: &[(&str, Numbers, Numbers)]) -> Vec<String> {
        let folders: Vec<(FolderPath, Option<Cursor>, Option<FolderState>)> = folders
            .iter()
            .map(|(name, before, now)| {
                let before = before.map(|(epoch, next)| cursor(epoch, next));
                (FolderPath::from_slashes(name), before, now.map(|(v, next)| state(v, next)))
            })
            .collect();
        let standings = folders
            .iter()
            .map(|(path, cursor, state)| {
                let (cursor, state) = (cursor.as_ref(), state.as_ref());
                let standing = Standing {
                    cursor,
                    state,
                    listed: state.is_some(),
                    known: cursor.is_some(),
                    marks: &Numbered,
                };
                (path, standing)
            })
            .collect();
        find_doubtful(&standings).into_iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_what_may_have_moved_is_looked_at() {
        let none: [&str; 0] = [];
        // Folders that grew, whatever their UIDVALIDITY.
        assert_eq!(doubtful(&[("A", Some((1, 9)), Some((1, 9))), ("B", Some((1, 3)), Some((1, 3)))]), none);
        assert_eq!(doubtful(&[("A", Some((1, 9)), Some((1, 12))), ("B", Some((1, 3)), Some((1, 4)))]), none);
        assert_eq!(doubtful(&[("A", Some((5, 9)), Some((5, 12))), ("B", Some((6, 9)), Some((6, 14)))]), none);
        // One that was made, or removed, or numbered anew, and nothing else.
        assert_eq!(doubtful(&[("A", Some((5, 9)), Some((5, 12))), ("N", None, Some((7, 2)))]), none);
        assert_eq!(doubtful(&[("A", Some((5, 9)), Some((5, 9))), ("B", Some((6, 2)), None)]), none);
        assert_eq!(doubtful(&[("A", Some((5, 9)), Some((8, 12))), ("B", Some((6, 9)), Some((6, 14)))]), none);
        // Renamed, with and without another UIDVALIDITY.
        assert_eq!(doubtful(&[("A", Some((5, 9)), None), ("N", None, Some((5, 9)))]), ["A", "N"]);
        assert_eq!(doubtful(&[("A", Some((5, 9)), None), ("N", None, Some((8, 9)))]), ["A", "N"]);
        // Swapped.
        let swapped = [("A", Some((5, 9)), Some((6, 3))), ("B", Some((6, 3)), Some((5, 9)))];
        assert_eq!(doubtful(&swapped), ["A", "B"]);
        let alike = [("A", Some((1, 9)), Some((1, 3))), ("B", Some((1, 3)), Some((1, 9)))];
        assert_eq!(doubtful(&alike), ["A", "B"]);
        // Renamed, and one of the old name made anew: the numbers of that one may even be as they were.
        for anew in [(7, 2), (5, 9)] {
            let reused = [("A", Some((5, 9)), Some(anew)), ("N", None, Some((5, 9)))];
            assert_eq!(doubtful(&reused), ["A", "N"]);
        }
        // The name of one that was removed.
        let taken = [("A", Some((5, 9)), Some((6, 3))), ("B", Some((6, 3)), None)];
        assert_eq!(doubtful(&taken), ["A", "B"]);
    }
}
