//! `mailferry verify`: holds what the source holds now against what the destination holds now, folder by folder and as
//! multisets. The ledger only explains: what was left out, what the destination is known to have altered, what is still to
//! be carried. Nothing of the engine that carries is used to find what belongs together.

mod ends;
mod moved;
mod pairing;
mod reading;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use self::ends::{Ends, pair_folders, reopen_unseen};
use self::moved::{Lost, Spare, find_moved};
use self::pairing::{Pairing, Seen};
use self::reading::{Content, read_destination, read_source};
use super::clock::SystemClock;
use super::workers::Tools;
use crate::discovery::Clock;
use crate::ledger::{Ledger, Refused, Row, RowId, Settled};
use crate::mail::{Destination, Folder, Listed, Present, Source, Wanted};
use crate::model::endpoint::Endpoint;
use crate::model::failure::{Failure, Place, Result, Spoils};
use crate::model::finding::{Code, Finding};
use crate::model::folder::FolderPath;
use crate::model::message::{Flags, InternalDate, Locator, Verdict};
use crate::model::record::{Depth, Verification};
use crate::model::text::counted;
use crate::plan::mailboxes::PlannedMailbox;
use crate::transfer::flags::Manners;
use crate::transfer::neighbours::Neighbours;

/// Of this many messages one is read on both sides at [`Depth::Sampled`].
const SAMPLE: u8 = 100;
/// Rows of a ledger that are looked through at once.
const ROWS_AT_ONCE: usize = 1_000;
/// The most differences that are named.
const NAMED_MAX: usize = 1_000;

/// What a verification of one mailbox found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The figures.
    pub figures: Verification,
    /// The first differences, one line each with folder, UID and subject; at most 1,000.
    pub named: Vec<String>,
    /// Messages that the destination was found to hold with other bytes, and that nobody knew of.
    pub changed: u64,
    missing: Vec<RowId>,
    /// Messages that are not in the folder that they were carried to, and may be in another one.
    lost: Vec<Lost>,
    /// Messages at the destination that found no like, by folder.
    spare: BTreeMap<FolderPath, Spare>,
    /// Folders that are not at the destination.
    absent: Vec<FolderPath>,
    /// Folders that could not be looked into, with why.
    pub unchecked: Vec<(FolderPath, Failure)>,
}

impl Found {
    fn new(depth: Depth) -> Self {
        let figures = Verification {
            depth,
            at: SystemClock.now(),
            checked: 0,
            read_back: 0,
            identical: 0,
            altered: 0,
            missing: 0,
            differing: 0,
            waiting: 0,
            moved: 0,
            failed: 0,
            unchecked: 0,
        };
        Self {
            figures,
            named: Vec::new(),
            changed: 0,
            missing: Vec::new(),
            lost: Vec::new(),
            spare: BTreeMap::new(),
            absent: Vec::new(),
            unchecked: Vec::new(),
        }
    }

    /// What a person should know of it.
    pub fn finding(&self) -> Option<Finding> {
        let words = counted(self.figures.missing, "message is", "messages are");
        let text = format!("{words} no longer at the destination.");
        (self.figures.missing > 0).then(|| Finding::of_domain(Code::ArrivalsRemoved, text))
    }

    /// Names a folder that could not be looked into, and counts what was carried from these folders as not checked.
    async fn leave(
        &mut self,
        ledger: &dyn Ledger,
        path: &FolderPath,
        sources: &[FolderPath],
        failure: Failure,
    ) -> Result<()> {
        let mut messages = 0;
        for source in sources {
            let rows = ledger.rows(source).await?;
            messages += rows.iter().filter(|row| row.verdict.is_delivered() && !row.gone).count() as u64;
        }
        self.figures.unchecked += messages;
        let words = counted(messages, "message of it was", "messages of it were");
        let why = failure.sentence();
        self.named.push(format!("{path}: could not be looked into, so {words} not checked: {why}"));
        self.unchecked.push((path.clone(), failure));
        Ok(())
    }

    /// How far it has come.
    fn mark(&self) -> Mark {
        let lengths = [self.named.len(), self.missing.len(), self.lost.len(), self.absent.len()];
        Mark { figures: self.figures, changed: self.changed, lengths }
    }

    /// Forgets what was found since.
    fn go_back(&mut self, mark: Mark) {
        let [named, missing, lost, absent] = mark.lengths;
        (self.figures, self.changed) = (mark.figures, mark.changed);
        self.named.truncate(named);
        self.missing.truncate(missing);
        self.lost.truncate(lost);
        self.absent.truncate(absent);
    }

    fn name(&mut self, locator: &Locator, subject: Option<&str>, what: &str) {
        if self.named.len() < NAMED_MAX {
            self.named.push(format!("{locator}: \"{}\" {what}", subject.unwrap_or("(no subject)")));
        }
    }
}

/// How far a verification has come.
#[derive(Debug, Clone, Copy)]
struct Mark {
    figures: Verification,
    changed: u64,
    lengths: [usize; 4],
}

/// Verifies one mailbox. Nothing is changed at either side; with `repair` the ledger forgets what is missing, so that the
/// next pass sends it again.
///
/// # Errors
/// Those of the ledger, the logins and the sessions.
pub async fn verify_mailbox(
    tools: &Tools,
    domain: usize,
    planned: &PlannedMailbox,
    endpoint: Option<&Endpoint>,
    depth: Depth,
    repair: bool,
) -> Result<Option<Found>> {
    let key = tools.key(&planned.source);
    if tools.store.find(&key).await?.is_none() {
        return Ok(None);
    }
    let endpoint = endpoint.ok_or_else(|| {
        Failure::configuration("is not known to this state directory, so its server is not known either")
            .hint("run the migration with this state directory first")
    })?;
    // What is found is written down, and nobody must carry the mailbox meanwhile.
    let ledger = tools.store.claim(&key).await?;
    let mut ends = Ends::open(tools, domain, planned, endpoint).await?;
    let (folders, unlisted) = pair_folders(tools, &mut *ends.source, &mut ends.destination, &*ledger).await?;
    let mut found = Found::new(depth);
    for (folder, failure) in unlisted {
        found.leave(&*ledger, &folder, std::slice::from_ref(&folder), failure).await?;
    }
    let manners = tools.rules()?.manners;
    for (path, folders) in folders {
        let before = found.mark();
        // A session that ended at a folder may have ended by chance.
        for is_last in [false, true] {
            let mut check = Check {
                source: &mut *ends.source,
                destination: &mut ends.destination,
                ledger: &*ledger,
                found: &mut found,
                manners,
            };
            let Err(failure) = check.run(&path, &folders).await.at(|| path.to_string()) else { break };
            if failure.spoils() > Spoils::Session {
                return Err(failure);
            }
            found.go_back(before);
            let is_answer = failure.leaves_the_session() || failure.asks_to_come_later();
            if !is_answer {
                ends = ends.open_again(tools, domain, planned, endpoint).await?;
            }
            if is_answer || is_last {
                let sources: Vec<FolderPath> = folders.iter().map(|folder| folder.path.clone()).collect();
                found.leave(&*ledger, &path, &sources, failure).await?;
                break;
            }
        }
    }
    let beside = planned.beside.iter().map(|other| tools.key(other)).collect();
    let neighbours = Neighbours::new(Arc::clone(&tools.store), beside);
    find_moved(&mut ends.destination, &*ledger, &neighbours, &mut found).await?;
    ends.close().await;
    if repair && !found.missing.is_empty() {
        ledger.reopen(&found.missing).await?;
    }
    if repair {
        found.figures.waiting += reopen_unseen(&*ledger).await?;
        // An unchanged folder is not looked into; what was reopened must be.
        ledger.forget_cursors().await?;
    }
    found.figures.at = SystemClock.now();
    Ok(Some(found))
}

/// One message of the source that should be at the destination.
struct Expected {
    folder: usize,
    listed: Listed,
    row: Option<Row>,
    content: Option<Content>,
}

/// One destination folder and what should be in it.
struct Check<'a> {
    source: &'a mut dyn Source,
    destination: &'a mut dyn Destination,
    ledger: &'a dyn Ledger,
    found: &'a mut Found,
    /// What is known of the destination: marks that it needs are no difference.
    manners: Manners,
}

impl Check<'_> {
    async fn run(&mut self, path: &FolderPath, folders: &[Folder]) -> Result<()> {
        let mut expected = self.list_expected(folders).await?;
        let known = self.destination.list_folders().await?;
        let (present, permanent, uidvalidity) = if known.iter().any(|folder| folder.path == *path) {
            let state = self.destination.open(path).await?;
            let listed =
                if state.messages == Some(0) { Vec::new() } else { self.destination.list_from(1).await? };
            (listed, state.permanent_flags, state.uidvalidity)
        } else {
            self.found.absent.push(path.clone());
            (Vec::new(), None, 0)
        };
        let manners = self.manners;
        let mut there: Vec<Seen> = present.iter().map(|present| see_present(present, manners)).collect();
        let kept = |flags: &Flags| match &permanent {
            None => manners.wanted(flags.clone()),
            Some(kept) => {
                manners.wanted(flags.filter(|flag| kept.iter().any(|k| k.eq_ignore_ascii_case(flag))))
            }
        };
        let see = |expected: &Expected| Seen {
            // What LIST of POP3 announces need not be what RETR brings.
            size: expected
                .row
                .as_ref()
                .filter(|row| row.known.is_some())
                .map_or(expected.listed.size, |r| r.size),
            date: expected.listed.date,
            flags: expected.listed.flags.as_ref().map(kept),
            digest: None,
            place: expected.place(path, uidvalidity).map(|(_, uid)| uid),
        };
        let mut here: Vec<Seen> = expected.iter().map(see).collect();
        let mut pairing = Pairing::new(here.len(), there.len());
        // What was refused is not read: the refusal may be the source's, or end the session. It takes what is left.
        let refused: BTreeSet<usize> = (0..expected.len()).filter(|at| expected[*at].is_refused()).collect();
        pairing.wanted.retain(|at| !refused.contains(at));
        let mut contents = HashMap::new();
        if self.found.figures.depth == Depth::Full {
            let all: Vec<usize> = pairing.wanted.iter().copied().collect();
            self.read_expected(folders, &mut expected, &mut here, &all).await?;
            self.read_present(&present, &mut there, &mut contents, &(0..present.len()).collect::<Vec<_>>())
                .await?;
        } else {
            pairing.by_listing(&here, &there);
            if self.found.figures.depth == Depth::Sampled {
                self.check_sample(
                    folders,
                    &mut expected,
                    &present,
                    &mut here,
                    &mut there,
                    &mut pairing,
                    &mut contents,
                )
                .await?;
            }
        }
        if !pairing.wanted.is_empty() && !pairing.spare.is_empty() {
            let wanted: Vec<usize> = pairing.wanted.iter().copied().collect();
            let spare: Vec<usize> = pairing.spare.iter().copied().collect();
            self.read_expected(folders, &mut expected, &mut here, &wanted).await?;
            self.read_present(&present, &mut there, &mut contents, &spare).await?;
            pairing.by_digest(&here, &there);
        }
        let wanted = std::mem::replace(&mut pairing.wanted, refused);
        pairing.by_listing(&here, &there);
        pairing.wanted.extend(wanted);
        for &(at, like) in &pairing.pairs {
            self.compare(&expected[at], &here[at], &there[like]);
        }
        let uids: HashMap<u32, usize> = pairing.spare.iter().map(|at| (present[*at].uid, *at)).collect();
        let left = self.explain(path, &expected, &present, &pairing, uids, &contents, uidvalidity).await?;
        let messages = present.into_iter().filter(|present| left.contains_key(&present.uid)).collect();
        self.found.spare.insert(path.clone(), Spare { uidvalidity, messages });
        Ok(())
    }

    /// Lists what should be at the destination: all that the source holds but what a rule or a refusal left out.
    async fn list_expected(&mut self, folders: &[Folder]) -> Result<Vec<Expected>> {
        let mut expected = Vec::new();
        for (at, folder) in folders.iter().enumerate() {
            let mut rows: HashMap<Locator, Row> = HashMap::new();
            for row in self.ledger.rows(&folder.path).await? {
                rows.insert(row.locator.clone(), row);
            }
            self.source.open(folder).await?;
            let mut after: Option<Locator> = None;
            loop {
                let page = self.source.list(after.as_ref()).await?;
                for listed in page.messages {
                    let row = rows.remove(&listed.locator);
                    let left_out = row
                        .as_ref()
                        .is_some_and(|row| matches!(row.verdict, Verdict::Excluded(_) | Verdict::Shown));
                    if !left_out {
                        expected.push(Expected { folder: at, listed, row, content: None });
                    }
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            for row in rows.into_values().filter(|row| matches!(row.locator, Locator::Unlisted { .. })) {
                if let Verdict::Quarantined(why) = &row.verdict {
                    self.found.figures.failed += 1;
                    self.found.name(&row.locator, None, &format!("could not be carried: {why}"));
                }
            }
        }
        Ok(expected)
    }

    /// Reads some of the expected messages at the source.
    async fn read_expected(
        &mut self,
        folders: &[Folder],
        expected: &mut [Expected],
        here: &mut [Seen],
        which: &[usize],
    ) -> Result<()> {
        for (folder, opened) in folders.iter().enumerate() {
            let wanted: Vec<Wanted> = which
                .iter()
                .filter(|at| expected[**at].folder == folder && expected[**at].content.is_none())
                .map(|at| Wanted {
                    key: *at as u64,
                    locator: expected[*at].listed.locator.clone(),
                    size: expected[*at].listed.size,
                })
                .collect();
            if wanted.is_empty() {
                continue;
            }
            self.source.open(opened).await?;
            for (key, content) in read_source(self.source, &wanted).await? {
                let Some(at) = usize::try_from(key).ok().filter(|at| *at < expected.len()) else { continue };
                here[at].digest = Some(content.digest);
                here[at].size = content.size;
                expected[at].content = Some(content);
            }
        }
        Ok(())
    }

    /// Reads some of the messages of the destination folder.
    async fn read_present(
        &mut self,
        present: &[Present],
        there: &mut [Seen],
        contents: &mut HashMap<usize, Content>,
        which: &[usize],
    ) -> Result<()> {
        let places: HashMap<u64, usize> = which
            .iter()
            .filter(|at| !contents.contains_key(at))
            .map(|at| (u64::from(present[*at].uid), *at))
            .collect();
        let mut uids: Vec<u32> = places.values().map(|at| present[*at].uid).collect();
        uids.sort_unstable();
        for (key, content) in read_destination(self.destination, &uids).await? {
            let Some(at) = places.get(&key) else { continue };
            self.found.figures.read_back += 1;
            there[*at].digest = Some(content.digest);
            contents.insert(*at, content);
        }
        Ok(())
    }

    /// Reads a sample of the pairs on both sides, and parts those that turn out to be different messages.
    #[allow(clippy::too_many_arguments, reason = "both sides as they are listed, seen and read")]
    async fn check_sample(
        &mut self,
        folders: &[Folder],
        expected: &mut [Expected],
        present: &[Present],
        here: &mut [Seen],
        there: &mut [Seen],
        pairing: &mut Pairing,
        contents: &mut HashMap<usize, Content>,
    ) -> Result<()> {
        let is_sampled = |expected: &Expected| {
            let hash = blake3::hash(expected.listed.locator.to_string().as_bytes());
            hash.as_bytes()[0].is_multiple_of(SAMPLE)
        };
        let (sample, like): (Vec<usize>, Vec<usize>) =
            pairing.pairs.iter().filter(|(at, _)| is_sampled(&expected[*at])).copied().unzip();
        self.read_expected(folders, expected, here, &sample).await?;
        self.read_present(present, there, contents, &like).await?;
        let mut parted = Vec::new();
        pairing.pairs.retain(|&(at, like)| {
            let same = match (here[at].digest, there[like].digest) {
                (Some(here), Some(there)) => here == there,
                _ => true,
            };
            if !same {
                parted.push((at, like));
            }
            same
        });
        for (at, like) in parted {
            pairing.wanted.insert(at);
            pairing.spare.insert(like);
        }
        Ok(())
    }

    /// Two messages that are the same: whether their flags and dates are.
    fn compare(&mut self, expected: &Expected, here: &Seen, there: &Seen) {
        self.found.figures.checked += 1;
        self.found.figures.identical += 1;
        let mut said = Vec::new();
        if let (Some(wanted), Some(is)) = (here.plain_flags(), there.plain_flags())
            && wanted != is
        {
            said.push(format!("has the flags ({is}) at the destination, not ({wanted})"));
        }
        if let (Some(wanted), Some(is)) = (here.date, there.date)
            && wanted.unix != is.unix
        {
            said.push(format!("arrived on {is} at the destination, not on {wanted}"));
        }
        if !said.is_empty() {
            self.found.figures.differing += 1;
            let subject = expected.subject();
            self.found.name(&expected.listed.locator, subject.as_deref(), &said.join(", and "));
        }
    }

    /// Says of each message without its like what became of it. Brings what is left at the destination.
    #[allow(clippy::too_many_arguments, reason = "both sides as they are listed, paired and read")]
    async fn explain(
        &mut self,
        path: &FolderPath,
        expected: &[Expected],
        present: &[Present],
        pairing: &Pairing,
        mut spare: HashMap<u32, usize>,
        contents: &HashMap<usize, Content>,
        uidvalidity: u32,
    ) -> Result<HashMap<u32, usize>> {
        let mut by_canonical: HashMap<_, Vec<u32>> = HashMap::new();
        for (uid, at) in &spare {
            if let Some(content) = contents.get(at) {
                by_canonical.entry(content.canonical).or_default().push(*uid);
            }
        }
        let dates: HashMap<u32, Option<InternalDate>> =
            present.iter().map(|present| (present.uid, present.date)).collect();
        let mut changed = Vec::new();
        for at in &pairing.wanted {
            let expected = &expected[*at];
            let (locator, subject) = (&expected.listed.locator, expected.subject());
            let placed = expected.place(path, uidvalidity);
            let canonical = expected.content.as_ref().and_then(|content| {
                by_canonical.get(&content.canonical)?.iter().copied().find(|uid| spare.contains_key(uid))
            });
            // A folder that was restored from a copy gives the UIDs of what it lost to others.
            let at_its_place = placed.filter(|(row, uid)| {
                let there = spare.get(uid).and_then(|at| Some((contents.get(at)?, dates.get(uid)?)));
                there.is_some_and(|(content, date)| is_same_letter(row, content, *date))
            });
            if self.lies_elsewhere(path, expected.row.as_ref()).await? {
                // The destination put it there when it was carried, and that was said.
                self.found.figures.checked += 1;
                self.found.figures.altered += 1;
                continue;
            }
            match (&expected.row, at_its_place, canonical) {
                // It was said when it was carried.
                (Some(row), Some((_, uid)), _) if matches!(row.verdict, Verdict::DeliveredAltered(_)) => {
                    spare.remove(&uid);
                    self.found.figures.checked += 1;
                    self.found.figures.altered += 1;
                }
                // The same but for what transport changes, such as a last line's end that POP3 cannot leave away.
                (Some(_), _, Some(uid)) => {
                    spare.remove(&uid);
                    self.found.figures.checked += 1;
                    self.found.figures.altered += 1;
                }
                (Some(row), Some((_, uid)), None) if row.verdict.is_delivered() => {
                    let size = spare.remove(&uid).and_then(|at| contents.get(&at)).map_or(0, |c| c.size);
                    let what = format!(
                        "the destination holds {size} bytes that differ from the {} of the source",
                        expected.listed.size
                    );
                    self.found.figures.checked += 1;
                    self.found.figures.altered += 1;
                    self.found.changed += 1;
                    self.found.name(locator, subject.as_deref(), &what);
                    changed.push(altered(row, what));
                }
                (Some(row), _, _) if row.verdict.is_delivered() => {
                    let content = expected.content.as_ref().map(|content| content.canonical);
                    self.found.lost.push(Lost {
                        row: row.id,
                        locator: locator.clone(),
                        subject,
                        canonical: row.known.as_ref().map(|known| known.canonical).or(content),
                        size: row.size,
                        date: expected.listed.date,
                        folder: path.clone(),
                        place: expected.place(path, uidvalidity).map(|(_, uid)| uid),
                    });
                }
                (Some(Row { verdict: Verdict::Quarantined(why), .. }), _, _) => {
                    self.found.figures.failed += 1;
                    self.found.name(locator, subject.as_deref(), &format!("could not be carried: {why}"));
                }
                _ => {
                    self.found.figures.waiting += 1;
                    self.found.name(locator, subject.as_deref(), "has not been carried yet");
                }
            }
        }
        self.ledger.settle(&changed, None).await?;
        Ok(spare)
    }

    /// Whether a message lies in another folder, where the ledger remembers it.
    async fn lies_elsewhere(&mut self, path: &FolderPath, row: Option<&Row>) -> Result<bool> {
        let delivered = row.filter(|row| row.verdict.is_delivered());
        let Some((folder, arrival)) = delivered.and_then(|row| row.destination.as_ref()) else {
            return Ok(false);
        };
        if folder == path {
            return Ok(false);
        }
        match self.destination.open(folder).await {
            Ok(state) if state.uidvalidity == arrival.uidvalidity => {
                let listed = self.destination.list_from(arrival.uid).await?;
                Ok(listed.iter().any(|present| present.uid == arrival.uid))
            }
            Ok(_) => Ok(false),
            Err(failure) if failure.leaves_the_session() => Ok(false),
            Err(failure) => Err(failure),
        }
    }
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

impl Expected {
    fn is_refused(&self) -> bool {
        self.row.as_ref().is_some_and(|row| matches!(row.verdict, Verdict::Quarantined(_)))
    }

    /// Where the ledger remembers it, if that is in this folder.
    fn place(&self, path: &FolderPath, uidvalidity: u32) -> Option<(&Row, u32)> {
        let row = self.row.as_ref()?;
        let (folder, arrival) = row.destination.as_ref()?;
        (folder == path && arrival.uidvalidity == uidvalidity).then_some((row, arrival.uid))
    }

    fn subject(&self) -> Option<String> {
        let known = self.row.as_ref().and_then(|row| row.known.as_ref()?.subject.clone());
        known.or_else(|| self.content.as_ref()?.subject.clone())
    }
}

fn see_present(present: &Present, manners: Manners) -> Seen {
    Seen {
        size: present.size,
        date: present.date,
        flags: Some(manners.wanted(present.flags.clone())),
        digest: None,
        place: Some(present.uid),
    }
}

fn altered(row: &Row, reason: String) -> Settled {
    Settled {
        id: row.id,
        known: None,
        size: None,
        date: None,
        flags: None,
        destination: row.destination.clone(),
        verdict: Verdict::DeliveredAltered(reason),
        replaces: None,
        refused: Refused::default(),
    }
}
