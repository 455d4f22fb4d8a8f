//! The engine: carries one mailbox from a [`Source`] to a [`Destination`], exactly once, and keeps both in step.
//!
//! A pass goes folder by folder, several at a time where there are sessions for it ([`lanes`]): open, list, compare with
//! the ledger ([`diff`], pure), make the intent durable, copy ([`pipeline`]), check what arrived ([`verify`]), carry flags
//! over, move the cursor. Messages whose fate is unknown after a cut or a crash are never sent again on sight: [`settle`]
//! waits until the destination no longer changes, and messages that arrived are recognised by their content. The engine
//! knows protocols only through the traits of `drivers`.

mod alias;
pub mod atlas;
pub mod books;
pub mod candidates;
mod carrying;
pub mod daily;
pub mod diff;
pub mod flags;
pub mod folder;
pub mod forbearance;
pub mod lanes;
mod late;
mod layout;
mod listing;
pub mod mapping;
mod moved;
pub mod names;
pub mod neighbours;
pub mod pace;
pub mod pipeline;
mod places;
pub mod progress;
pub mod recognise;
mod refusals;
mod resent;
pub mod settle;
pub(crate) mod unlisted;
mod unseen;
pub mod verify;
mod whereabouts;
mod written;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use jiff::Timestamp;

use crate::drivers::marks::Marks;
use crate::drivers::{Destination, Folder, Source, Survey};
use crate::ledger::{Cursor, Ledger, Tallies};
use crate::model::endpoint::Endpoint;
use crate::model::failure::{Class, Failure, Result, Side, Spoils};
use crate::model::finding::{Code, Finding};
use crate::model::folder::{FolderPath, SpecialUse};
use crate::model::label::LabelTally;
use crate::model::message::{InternalDate, Verdict};
use crate::model::progress::MessageCounts;
use crate::model::protocol::Protocol;
use crate::model::record::Depth;
use crate::model::scope::{Scope, leaves_out};
use crate::model::text::counted;
use daily::DailyLimit;
use flags::Manners;
use lanes::MoreLanes;
use late::Late;
use layout::Layout;
use mapping::FolderPlan;
use neighbours::Neighbours;
use pace::Pace;
use progress::MailboxProgress;
use settle::Barrier;
use written::Written;

/// The manifest's rules for carrying messages, in the engine's own terms.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Folders that get another name, with what is below them; the first that fits counts.
    pub folders: Vec<(FolderPath, FolderPath)>,
    /// Folders that are left out, as patterns over `A/B/C`.
    pub exclude: GlobSet,
    /// Messages larger than this are left out, in bytes.
    pub max_message_bytes: Option<u64>,
    /// Messages that arrived before this are left out.
    pub since: Option<Timestamp>,
    /// Of each folder at most this many messages are carried, the newest; the others wait. For a first try.
    pub most_per_folder: Option<u32>,
    /// How closely arrivals are checked.
    pub depth: Depth,
    /// How long a destination folder must stand still before what is missing there is sent again.
    pub settle: Duration,
    /// How fast bytes may go to the destination; shared by all mailboxes of a migration.
    pub pace: Arc<Pace>,
    /// How much of the mailbox may be read at the source in a day.
    pub daily: Option<Arc<DailyLimit>>,
    /// Other mailboxes that arrive in the same one.
    pub neighbours: Neighbours,
    /// The facts about the destination that it does not report by itself.
    pub manners: Manners,
    /// Whose mailboxes these are.
    pub ends: Ends,
    /// Whether refused messages are left as they are: this goes on with a pass that broke off, which tried them. Some servers
    /// end a session after ten refusals, and would end each that begins with them.
    pub leave_refused: bool,
}

/// Whose mailbox is read and whose is written: the host, who logs in, and the mailbox, for each. A ledger speaks of these
/// two alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ends {
    /// Where mail is read; empty where nobody said.
    pub source: String,
    /// Where mail is written; empty where nobody said.
    pub destination: String,
}

impl Ends {
    /// One end, as the ledger keeps it: the server, the name that is sent to it, and the mailbox.
    pub fn describe(endpoint: &Endpoint, login: &str, mailbox: &str) -> String {
        format!("{} as {login}: {mailbox}", endpoint.address().to_ascii_lowercase())
    }

    /// Server and mailbox of an end as [`Self::describe`] writes it.
    pub(crate) fn parts(end: &str) -> Option<(&str, &str)> {
        let (server, rest) = end.split_once(" as ")?;
        Some((server, rest.rsplit_once(": ")?.1))
    }
}

/// Nothing is left out or called differently, only sizes are checked, and nothing is waited for.
impl Default for Rules {
    fn default() -> Self {
        Self {
            folders: Vec::new(),
            exclude: GlobSet::empty(),
            max_message_bytes: None,
            since: None,
            most_per_folder: None,
            depth: Depth::Sizes,
            settle: Duration::ZERO,
            pace: Arc::default(),
            daily: None,
            neighbours: Neighbours::default(),
            manners: Manners::default(),
            ends: Ends::default(),
            leave_refused: false,
        }
    }
}

impl Rules {
    /// Builds the set of folder patterns: `*` stays within one name, `**` crosses levels.
    ///
    /// # Errors
    /// [`Class::Configuration`] for a pattern that cannot be read.
    pub fn exclude_patterns(patterns: &[String]) -> Result<GlobSet> {
        let unreadable = |pattern: &str, e: &globset::Error| {
            Failure::configuration(format!("spec.mapping.exclude: the pattern \"{pattern}\" cannot be read"))
                .hint("use * for part of a name and ** for any number of levels")
                .caused_by(e)
        };
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            let glob = GlobBuilder::new(pattern)
                .literal_separator(true)
                .build()
                .map_err(|e| unreadable(pattern, &e))?;
            set.add(glob);
        }
        set.build().map_err(|e| unreadable("", &e))
    }

    /// The rules that decide whether a message is carried and from where, as the ledger remembers them.
    fn fingerprint(&self, listed_by: Option<&str>) -> String {
        let limit = self.max_message_bytes.map(|bytes| bytes.to_string()).unwrap_or_default();
        let since = self.since.map(|since| since.to_string()).unwrap_or_default();
        let pilot = self.most_per_folder.map(|most| format!(" pilot={most}")).unwrap_or_default();
        let homes = listed_by.map(|digest| format!(" homes={digest}")).unwrap_or_default();
        format!("max={limit} since={since}{pilot}{homes}")
    }

    /// The scope of the messages that are left out, for counts before anything is carried.
    pub fn scope(&self) -> Scope {
        Scope {
            exclude: self.exclude.clone(),
            max_message_bytes: self.max_message_bytes,
            since: self.since,
            most_per_folder: self.most_per_folder,
        }
    }

    /// Whether a message is to be carried.
    pub fn judge(&self, size: u64, date: Option<InternalDate>) -> Verdict {
        let why = leaves_out(self.max_message_bytes, self.since, size, date.map(InternalDate::timestamp));
        why.map_or(Verdict::Pending, Verdict::Excluded)
    }
}

/// The ledger's fact that tells by which rules its messages were judged.
const JUDGED_BY: &str = "rules";
/// The ledger's facts that tell whose mailboxes it is about.
const ENDS: [&str; 2] = ["source", DESTINATION];
/// The second of them.
const DESTINATION: &str = "destination";
/// The ledger's fact about labels, as of the last pass that listed the mailbox.
const LABELS: &str = "labels";

/// The outcome of one pass over a mailbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassOutcome {
    /// The ledger's counts after the pass.
    pub counts: MessageCounts,
    /// Folders that were looked at.
    pub folders: u32,
    /// Messages that were sent in this pass.
    pub sent: u64,
    /// Bytes that were sent in this pass.
    pub bytes: u64,
    /// Messages that were found at the destination already and taken over without sending.
    pub recognised: u64,
    /// Messages whose flags were carried over.
    pub flags_updated: u64,
    /// Arrivals that lacked flags which they had been given, and got them afterwards.
    pub flags_mended: u64,
    /// Arrivals that ask for a read receipt which the destination may still send.
    pub receipts_open: u64,
    /// Messages that were carried without the mark of removal that they have at the source.
    pub marked: u64,
    /// Messages of a maildrop whose unique ids did not last, and that were recognised under others.
    pub renamed: u64,
    /// Arrivals whose size was checked.
    pub sizes_checked: u64,
    /// Arrivals that were read back and compared by digest.
    pub digests_checked: u64,
    /// The findings about this mailbox.
    pub findings: Vec<Finding>,
    /// Why a folder, or some of its messages, could not be carried, while the others were.
    pub left: Option<Failure>,
}

/// Carries one mailbox once, with one session at each side.
///
/// # Errors
/// As [`sync_mailbox_in_lanes`].
pub async fn sync_mailbox(
    source: &mut dyn Source,
    destination: &mut dyn Destination,
    ledger: &dyn Ledger,
    rules: &Rules,
    progress: &MailboxProgress,
) -> Result<PassOutcome> {
    sync_mailbox_in_lanes(source, destination, &lanes::OneLane, ledger, rules, progress).await
}

/// As [`carry_mailbox`], where nothing that was left counts as done.
///
/// # Errors
/// As [`carry_mailbox`], and [`PassOutcome::left`].
pub async fn sync_mailbox_in_lanes(
    source: &mut dyn Source,
    destination: &mut dyn Destination,
    more: &dyn MoreLanes,
    ledger: &dyn Ledger,
    rules: &Rules,
    progress: &MailboxProgress,
) -> Result<PassOutcome> {
    let mut outcome = carry_mailbox(source, destination, more, ledger, rules, progress).await?;
    outcome.left.take().map_or(Ok(outcome), Err)
}

/// Carries one mailbox once, several folders at a time where `more` opens further sessions.
///
/// # Errors
/// The first failure of a session as a whole; what was done until then is in the ledger, and the next call goes on.
pub async fn carry_mailbox(
    source: &mut dyn Source,
    destination: &mut dyn Destination,
    more: &dyn MoreLanes,
    ledger: &dyn Ledger,
    rules: &Rules,
    progress: &MailboxProgress,
) -> Result<PassOutcome> {
    recognise_ends(&rules.ends, ledger).await?;
    let (sources, destinations) = tokio::join!(source.survey(), destination.survey());
    let mut sources = sources.map_err(|failure| failure.side(Side::Source))?;
    let mut destinations = destinations.map_err(|failure| failure.side(Side::Destination))?;
    let mut cursors = ledger.cursors().await?;
    let unlisted = Box::pin(unlisted::find_unlisted(source, &mut sources, ledger, &cursors)).await?;
    let surveys = (&sources, &mut destinations);
    let planning = Layout::plan(source, destination, surveys, rules, ledger, &mut cursors);
    let mut layout = Box::pin(planning).await?;
    let barrier = Barrier::raise(ledger, destination).await?;
    let unfinished = ledger.unfinished().await?;
    let fingerprint = rules.fingerprint(sources.rule.as_deref());
    let same_rules = ledger.fact(JUDGED_BY).await?.as_deref() == Some(&fingerprint);

    let marks = destination.marks();
    let is_still = |plan: &FolderPlan| {
        same_rules
            && !barrier.concerns(&plan.source.path)
            && !unfinished.contains(&plan.source.path)
            && is_still(plan, (&sources, &destinations), cursors.get(&plan.source.path), marks)
    };
    let plans = &layout.plans;
    let mut still: Vec<bool> = plans.iter().map(is_still).collect();
    // Where folders are labels, whatever happens in one may change which of them a message is carried from, and the other
    // need not show it. A label that comes or goes does change the folder that is its own.
    let moves = |(plan, still): (&FolderPlan, &bool)| plan.excluded.is_none() && !still;
    let relist = sources.rule.is_some() && plans.iter().zip(&still).any(moves);
    if relist {
        still.fill(false);
    }
    let listed_whole = relist || !same_rules;
    // Further sessions are on their way while the folders are made.
    let busy = plans.iter().zip(&still).filter(|(_, still)| !**still).map(|(plan, _)| &plan.destination);
    let mut openings = lanes::Openings::begin(more, busy.collect::<BTreeSet<_>>().len());
    let made = openings.meanwhile(layout.make(destination, ledger)).await?;
    let plans = &layout.plans;
    let mut outcome = PassOutcome { findings: layout.findings(), ..PassOutcome::default() };
    outcome.findings.extend(unlisted.findings());
    let mut changed = Vec::new();
    for (plan, mut still) in plans.iter().zip(still) {
        if plan.renamed.is_some() {
            still = !relist && is_still(plan);
        }
        if still {
            outcome.folders += 1;
        } else {
            changed.push((plan, sources.states.get(&plan.source.path).and_then(|state| state.items)));
        }
    }
    if !changed.is_empty() {
        progress.resume(ledger.counts().await?, ledger.bytes_through().await?);
    }
    let same_rules = same_rules && !relist;
    if !same_rules {
        // Until this pass is through, some folders are judged by these rules and some by those before.
        ledger.save_fact(JUDGED_BY, "").await?;
    }
    let (late, written) = (Late::load(ledger).await?, Written::default());
    let labelled = sources.rule.is_some();
    let pass = lanes::Pass {
        ledger,
        rules,
        progress,
        same_rules,
        labelled,
        plans,
        made: &made,
        late: &late,
        written: &written,
        unfinished: &unfinished,
    };
    let mut carried = lanes::Carried::default();
    let ended = pass.carry(source, destination, openings, changed, barrier, &mut carried).await;
    outcome.add(carried.outcome);
    // Marks made at the source are counted, whatever ended the attempt: the next one finds the messages in the ledger,
    // and does not report them.
    let read_at_source = source.marked();
    if read_at_source > 0 {
        let more = Tallies { read_at_source, ..Tallies::default() };
        ledger.settle_counting(&[], None, &more).await?;
    }
    ended?;
    let protocol = source.facts().endpoint.protocol;
    let waits = unlisted.forget_vanished(plans, protocol, ledger).await?;

    let tally = remember_labels(ledger, listed_whole.then_some(carried.tallies)).await?;
    outcome.findings.extend(find_labels(&sources, &tally));
    let carried_some = outcome.sent + outcome.recognised > 0;
    let look = alias::Look { ledger, neighbours: &rules.neighbours, more };
    let is_whole = carried.failed.is_none();
    outcome
        .findings
        .extend(Box::pin(look_afterwards((late, written), look, carried_some, is_whole, destination)).await?);
    outcome.counts = ledger.counts().await?;
    outcome.findings.extend(books::Books::read(ledger).await?.findings());
    outcome.left = carried.failed.or(waits).or_else(|| find_unread_folders(&sources, protocol));
    if outcome.left.is_some() {
        return Ok(outcome);
    }
    let in_between = labelled && has_moved(plans, &sources, &ledger.cursors().await?);
    if !same_rules && !in_between {
        ledger.save_fact(JUDGED_BY, &fingerprint).await?;
    }
    Ok(outcome)
}

/// Looks at the destination once everything is carried: whether all is still there, for copies beyond those that count and for
/// mail of other mailboxes.
async fn look_afterwards(
    (late, written): (Late<'_>, Written),
    look: alias::Look<'_>,
    carried_some: bool,
    is_whole: bool,
    destination: &mut dyn Destination,
) -> Result<Vec<Finding>> {
    let looked = async {
        written.look(look.ledger, destination).await?;
        resent::find_copies(look.ledger, destination, look.neighbours, &late).await?;
        let mut findings: Vec<Finding> = late.tell(destination).await?.into_iter().collect();
        findings.extend(look.run(carried_some, destination).await?);
        Ok::<_, Failure>(findings)
    };
    match looked.await {
        // The session may have ended with a folder that is left.
        Err(failure) if !is_whole && failure.spoils() <= Spoils::Session => {
            tracing::info!(failure = %failure.sentence(), "the destination is not looked at afterwards");
            Ok(Vec::new())
        }
        looked => looked,
    }
}

/// Lines of the source's list of folders that cannot be read, or directories: each may be a folder, so the mailbox is not
/// through.
fn find_unread_folders(sources: &Survey, protocol: Protocol) -> Option<Failure> {
    let first = sources.unreadable.first()?;
    let more = match sources.unreadable.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    if protocol.is_files() {
        let hint = "give the user who runs this the right to read it; the other folders were carried";
        return Some(Failure::new(Class::Refused, format!("{first}{more}")).side(Side::Source).hint(hint));
    }
    let what = format!("sent a line of its list of folders that cannot be read: {first}{more}");
    let hint = "have the server's operator mend the folder that it stands for; the others were carried";
    Some(Failure::new(Class::Refused, what).side(Side::Source).hint(hint))
}

/// The mailbox of one side that a ledger's mail was carried from or to, where it is another one than these ends name.
///
/// # Errors
/// Those of the ledger.
pub async fn find_other_end(ends: &Ends, ledger: &dyn Ledger, side: Side) -> Result<Option<String>> {
    let [source, destination] = ENDS;
    let (name, now) = match side {
        Side::Source => (source, &ends.source),
        Side::Destination => (destination, &ends.destination),
    };
    let before = ledger.fact(name).await?.filter(|before| !before.is_empty());
    Ok(before.filter(|before| !now.is_empty() && before != now))
}

/// Holds the ledger's two mailboxes against those of this pass. Another destination voids every place there and every cursor,
/// so that all goes to the new one, where it is recognised if it is there; another source voids the cursors, so that its
/// list is held against what is known.
async fn recognise_ends(ends: &Ends, ledger: &dyn Ledger) -> Result<()> {
    let [source, destination] = ENDS;
    if find_other_end(ends, ledger, Side::Destination).await?.is_some() {
        tracing::info!("the destination is another mailbox than before: all is carried to it");
        ledger.void_destination().await?;
        let facts = [atlas::FOLDER_NAMES, late::LATE_COPIES, resent::RESENT, alias::FOUND];
        for fact in Tallies::of_arrivals().chain(facts) {
            ledger.save_fact(fact, "").await?;
        }
    } else if find_other_end(ends, ledger, Side::Source).await?.is_some() {
        tracing::info!("the source is another mailbox than before: its list is held against what is known");
        ledger.forget_cursors().await?;
    }
    for (name, now) in [(source, &ends.source), (destination, &ends.destination)] {
        if !now.is_empty() && ledger.fact(name).await?.as_ref() != Some(now) {
            ledger.save_fact(name, now).await?;
        }
    }
    Ok(())
}

/// Whether a folder changed between the beginning of the pass and its list. Where folders are labels, a message may then
/// have gone from one that was not listed yet to one that was, and the next pass lists all of them once more.
fn has_moved(plans: &[FolderPlan], sources: &Survey, cursors: &HashMap<FolderPath, Cursor>) -> bool {
    plans.iter().filter(|plan| plan.excluded.is_none()).any(|plan| {
        let (told, listed) = (sources.states.get(&plan.source.path), cursors.get(&plan.source.path));
        told.zip(listed).is_some_and(|(told, listed)| !folder::is_as_listed(listed, told))
    })
}

/// The counts of labels in the whole mailbox; those of the folders are remembered if all of them were listed.
async fn remember_labels(
    ledger: &dyn Ledger,
    listed: Option<BTreeMap<FolderPath, LabelTally>>,
) -> Result<LabelTally> {
    let before = ledger.fact(LABELS).await?.unwrap_or_default();
    let Some(listed) = listed else { return Ok(serde_json::from_str(&before).unwrap_or_default()) };
    let mut tally = LabelTally::default();
    for folder in listed.values() {
        tally.add(folder);
    }
    let tally = tally.shortened();
    let now = if tally == LabelTally::default() {
        String::new()
    } else {
        serde_json::to_string(&tally)
            .map_err(|e| Failure::internal("labels cannot be written").caused_by(&e))?
    };
    if now != before {
        ledger.save_fact(LABELS, &now).await?;
    }
    Ok(tally)
}

/// The findings about a mailbox whose folders are labels.
fn find_labels(sources: &Survey, tally: &LabelTally) -> Vec<Finding> {
    let mut findings = Vec::new();
    if sources.rule.is_none() {
        return findings;
    }
    let is_all = |folder: &Folder| folder.special_use == Some(SpecialUse::All) && folder.selectable;
    if !sources.folders.iter().any(is_all) {
        let text =
            "The folder of all mail is not shown by IMAP: archived messages without a label are not seen.";
        findings.push(Finding::of_domain(Code::AllMailHidden, text));
    }
    if tally.once > 0 {
        let words = counted(tally.once, "message stands", "messages stand");
        let text = format!("{words} in more than one folder, and each is carried once.");
        findings.push(Finding::of_domain(Code::CarriedOnce, text));
    }
    if tally.count_left() > 0 {
        let text = format!("Labels that are not carried: {}.", tally.say_left());
        findings.push(Finding::of_domain(Code::LabelsNotCarried, text));
    }
    findings
}

/// Whether a folder need not even be opened: it was carried, and what both servers tell with their lists of folders shows
/// that nothing has happened since.
fn is_still(
    plan: &FolderPlan,
    (sources, destinations): (&Survey, &Survey),
    cursor: Option<&Cursor>,
    marks: &dyn Marks,
) -> bool {
    let (Some(state), Some(arrived)) =
        (sources.states.get(&plan.source.path), destinations.states.get(&plan.destination))
    else {
        return false;
    };
    let is_unchanged = |cursor| folder::is_unchanged(cursor, plan, (state, arrived), marks);
    plan.excluded.is_none() && cursor.is_some_and(is_unchanged)
}

impl PassOutcome {
    /// Adds what was counted.
    fn count(&mut self, more: &Tallies) {
        self.flags_updated += more.flags_updated;
        self.receipts_open += more.receipts_open;
        self.marked += more.marked;
        self.renamed += more.ids_changed;
        self.sizes_checked += more.sizes_checked;
        self.digests_checked += more.digests_checked;
    }

    /// Adds what another session did in the same pass.
    fn add(&mut self, other: Self) {
        self.folders += other.folders;
        self.sent += other.sent;
        self.bytes += other.bytes;
        self.recognised += other.recognised;
        self.flags_updated += other.flags_updated;
        self.flags_mended += other.flags_mended;
        self.receipts_open += other.receipts_open;
        self.marked += other.marked;
        self.renamed += other.renamed;
        self.sizes_checked += other.sizes_checked;
        self.digests_checked += other.digests_checked;
        self.findings.extend(other.findings);
    }
}
