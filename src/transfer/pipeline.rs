//! Copies one window of messages: three stages at once, joined by bounded queues. The source streams bodies, the tap
//! reads their identity as they pass, the destination appends them.
//!
//! While there is anything to recognise, the tap holds each message until it knows what it is; otherwise bytes go
//! straight through.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::candidates::{Candidates, OtherHeader};
use super::pace::Pace;
use super::progress::MailboxProgress;
use super::refusals::{self, Form, Left, Refusal};
use crate::drivers::sizes::{self, Sizes};
use crate::drivers::spool::Spool;
use crate::drivers::{
    Appended, BODY_QUEUE, BodyEvent, BodyReceiver, BodySender, Destination, Envelope, Listed, Present,
    Source, Wanted,
};
use crate::ledger::{Known, Refused, RowId, Settled};
use crate::model::failure::{Failure, FailureCode, Result, Side};
use crate::model::folder::FolderPath;
use crate::model::identity::{Digest, Hazards, Identity, IdentityHasher, Outline};
use crate::model::mark::Mark;
use crate::model::message::{Flags, InternalDate, Verdict};

/// The reason of messages that were found at the destination with another header than they have.
const OTHER_HEADER: &str =
    "it was found at the destination with other header lines; body, sender, date and subject are the same";

/// The reason of messages that were found at the destination without the letters beyond ASCII of their headers.
const OTHER_LETTERS: &str = "it was found at the destination with other signs in the place of the letters beyond ASCII in its \
                             header; all else is the same";
/// The reason of messages that were found at the destination as they are, but for what a canonical digest passes over.
pub(crate) const OTHER_BYTES: &str = "it was found at the destination with other bytes: the same message with other line ends, lines \
                                      that transport adds, or another encoding";

/// One message to copy.
#[derive(Debug, Clone)]
pub struct Work {
    /// Its row in the ledger.
    pub row: RowId,
    /// Its listing.
    pub listed: Listed,
    /// The flags that an earlier attempt may have given a copy.
    pub tried: Flags,
    /// How often sessions ended at it, weighed.
    pub attempts: u32,
    /// Its identity, where its bytes have passed before.
    pub known: Option<Known>,
}

impl Work {
    fn key(&self) -> u64 {
        self.row.cast_unsigned()
    }
}

/// The facts about a message whose bytes have passed.
#[derive(Debug, Clone)]
pub struct Passed {
    /// Its identity.
    pub known: Known,
    /// Its letter digest.
    pub letter: Option<Digest>,
    /// Its canonical digests where a destination replaces letters beyond ASCII.
    pub rewritten: Vec<Digest>,
    /// Its exact size in bytes.
    pub size: u64,
    /// Its line feeds without a carriage return, which some servers list as two bytes.
    pub bare_ends: u64,
    /// The date it was given.
    pub date: Option<InternalDate>,
    /// The changes that servers are known to make to bytes like these.
    pub hazards: Hazards,
    /// The message in the small, if its bytes passed just now.
    pub outline: Option<Arc<Outline>>,
    /// Whether the sender asks to be told when it is read.
    pub asks_receipt: bool,
}

/// A message that was recognised at the destination instead of being sent.
#[derive(Debug, Clone)]
pub struct Recognised {
    /// Its row.
    pub row: RowId,
    /// The flags that its copy was given; where they are unknown, those that it may have and must not.
    pub flags: Flags,
}

/// The outcome of a window.
#[derive(Debug, Default)]
pub struct Copied {
    /// Messages whose fate is certain.
    pub settled: Vec<Settled>,
    /// The facts about those that were sent.
    pub passed: HashMap<RowId, Passed>,
    /// Those that were recognised.
    pub recognised: Vec<Recognised>,
    /// Messages that may be at the destination with another header: not sent, and looked for after all others.
    pub put_off: Vec<RowId>,
    /// Messages that the source no longer has.
    pub vanished: Vec<RowId>,
    /// Messages of which the destination was given something.
    pub begun: Vec<RowId>,
    /// Messages that were sent and acknowledged.
    pub sent: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The mark since which the destination folder was listed behind the last message, and the list, if it was.
    pub present: Option<(Mark, Vec<Present>)>,
    /// Whether the destination answered for every message that was sent to it, so that none is in doubt.
    pub all_answered: bool,
    /// The message that was coming from the source last and did not come to its end: where the session ended, it ended there.
    pub under_way: Option<RowId>,
    /// Messages under whose names something else came as well.
    pub doubled: BTreeSet<RowId>,
    /// Why the window could not be finished.
    pub failure: Option<Failure>,
    /// Messages that the destination refused and that wait.
    pub(super) left: Left,
}

impl Copied {
    /// Whether the destination lists more than it said that it stored: it may have kept what it refused, which the next pass
    /// recognises. To send that again in another form could double it.
    fn holds_unsaid(&self) -> bool {
        self.present.as_ref().is_some_and(|(_, present)| present.len() as u64 > self.sent)
    }
}

/// How the messages of a window are sent.
#[derive(Clone)]
pub struct Sending<'a> {
    /// The mark since which the destination folder is listed behind the last message; `None` when none bounds the list.
    pub list_since: Option<Mark>,
    /// The flags that go with a message of those that it has.
    pub keep_flags: &'a (dyn Fn(&Flags) -> Flags + Send + Sync),
    /// Whether a message is to be carried, once its date is learned from its own header.
    pub judge: &'a (dyn Fn(u64, Option<InternalDate>) -> Verdict + Send + Sync),
    /// How fast.
    pub pace: &'a Pace,
    /// For whoever watches.
    pub progress: &'a MailboxProgress,
}

/// Copies one window. Never fails as a whole: what is certain is in the result, beside the failure. A message that the
/// destination refuses for a keyword or a date is sent again without it.
pub async fn copy_window(
    source: &mut dyn Source,
    destination: &mut dyn Destination,
    folder: &FolderPath,
    window: &[Work],
    candidates: &mut Candidates,
    sending: Sending<'_>,
) -> Copied {
    let mut forms: HashMap<RowId, Form> = HashMap::new();
    let mut copied = Copied::default();
    let mut refused = Vec::new();
    let mut again: Option<Vec<Work>> = None;
    loop {
        let works = again.as_deref().unwrap_or(window);
        let attempt = Attempt { folder, works, forms: &forms, sending: &sending };
        refused.extend(attempt.run(source, destination, candidates, &mut copied).await);
        if copied.failure.is_some() || !copied.all_answered || copied.holds_unsaid() {
            break;
        }
        let known: HashMap<RowId, &Work> = window.iter().map(|work| (work.row, work)).collect();
        let others = refusals::other_forms(&mut refused, &known, &forms, &copied);
        if others.is_empty() {
            break;
        }
        let works: Vec<Work> = window.iter().filter(|work| others.contains_key(&work.row)).cloned().collect();
        sending.progress.expect(works.len() as u64, works.iter().map(|work| work.listed.size).sum());
        again = Some(works);
        forms.extend(others);
    }
    let mut left = refusals::judge(refused, &mut copied);
    left.failure = left.failure.map(|failure| failure.side(Side::Destination));
    copied.left = left;
    let at_source = copied.failure.as_ref().is_some_and(|failure| failure.side == Some(Side::Source));
    if at_source && copied.under_way.is_none() {
        // It said nothing of the one that was due next.
        let told: HashSet<RowId> = copied
            .passed
            .keys()
            .copied()
            .chain(copied.settled.iter().map(|settled| settled.id))
            .chain(copied.vanished.iter().copied())
            .collect();
        copied.under_way = window.iter().map(|work| work.row).find(|row| !told.contains(row));
    }
    copied
}

/// One attempt at some messages.
struct Attempt<'a> {
    folder: &'a FolderPath,
    works: &'a [Work],
    forms: &'a HashMap<RowId, Form>,
    sending: &'a Sending<'a>,
}

impl Attempt<'_> {
    /// Carries it out, adds what became of it to `copied`, and returns what was refused.
    async fn run(
        &self,
        source: &mut dyn Source,
        destination: &mut dyn Destination,
        candidates: &mut Candidates,
        copied: &mut Copied,
    ) -> Vec<Refusal> {
        let Sending { list_since, keep_flags, judge, pace, progress } = self.sending;
        let works: HashMap<u64, &Work> = self.works.iter().map(|work| (work.key(), work)).collect();
        let wanted: Vec<Wanted> = self
            .works
            .iter()
            .map(|w| Wanted { key: w.key(), locator: w.listed.locator.clone(), size: w.listed.size })
            .collect();
        let (to_tap, from_source) = mpsc::channel(BODY_QUEUE);
        let (to_destination, from_tap) = mpsc::channel(BODY_QUEUE);
        let (report, mut outcomes) = mpsc::unbounded_channel();
        let dates: Mutex<HashMap<u64, InternalDate>> = Mutex::default();

        let listed = |key: u64| works.get(&key).map(|work| &work.listed);
        let form = |key: u64| self.forms.get(&key.cast_signed()).copied().unwrap_or_default();
        let envelope = |key: u64| {
            let learned = dates.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
            let flags = listed(key).and_then(|l| l.flags.as_ref()).map(keep_flags).unwrap_or_default();
            let date = listed(key).and_then(|l| l.date).or(learned);
            Envelope { flags: form(key).flags(flags), date: form(key).date(date) }
        };
        let mut tap = Tap { works: &works, dates: &dates, candidates, copied, judge, pace, progress };
        let append = async {
            // The queue goes with the append, so that the tap learns when nobody takes its messages any more.
            let mut from_tap = from_tap;
            let appended = match list_since {
                Some(since) => {
                    let listed =
                        destination.append_and_list(self.folder, &mut from_tap, &envelope, &report, since);
                    listed.await.map(|present| Some((since.clone(), present)))
                }
                None => {
                    destination.append(self.folder, &mut from_tap, &envelope, &report).await.map(|()| None)
                }
            };
            drop(report);
            appended
        };
        let (fetched, tapped, appended) =
            tokio::join!(source.fetch(&wanted, to_tap), tap.run(from_source, to_destination), append);

        let mut sizes = Sizes::default();
        for work in self.works {
            if let Some(passed) = copied.passed.get(&work.row) {
                sizes.add(passed.is_short(&work.listed));
            }
        }
        let mut refusals: Vec<Refusal> = Vec::new();
        while let Ok(outcome) = outcomes.try_recv() {
            match outcome {
                Appended::Stored { key, arrival } => {
                    let row = key.cast_signed();
                    let passed = copied.passed.get(&row);
                    copied.sent += 1;
                    copied.bytes += passed.map_or(0, |p| p.size);
                    let destination = arrival.map(|arrival| (self.folder.clone(), arrival));
                    let verdict = verdict_of(form(key), listed(key), passed, sizes);
                    let mut settled = settle(row, passed, destination, verdict);
                    settled.flags = listed(key).and_then(|l| l.flags.clone());
                    if is_cut(listed(key), passed, sizes)
                        && matches!(settled.verdict, Verdict::DeliveredAltered(_))
                    {
                        settled.refused.code = Some(FailureCode::CameShort);
                    }
                    copied.settled.push(settled);
                    for refusal in &mut refusals {
                        refusal.passed_by = true;
                    }
                }
                Appended::Refused { key, failure, limit } => {
                    refusals.push(Refusal { row: key.cast_signed(), failure, limit, passed_by: false });
                }
            }
        }
        let appended = appended.map_err(|failure| failure.side(Side::Destination));
        let fetched = fetched.map_err(|failure| failure.side(Side::Source));
        copied.all_answered = appended.is_ok();
        let appended = appended.map(|present| copied.present = present.or(copied.present.take()));
        // The destination's own failure says more than the broken queue that it leaves at the source, unless it is the broken
        // queue that the source or the tap has left to it.
        copied.failure = match (appended, fetched, tapped) {
            (Err(at_destination), fetched, tapped) if at_destination.is(FailureCode::SourceBrokeOff) => {
                Some(fetched.err().or(tapped.err()).unwrap_or(at_destination))
            }
            (Err(at_destination), _, _) => Some(at_destination),
            (Ok(()), Err(at_source), _) => Some(at_source),
            (Ok(()), Ok(()), tapped) => tapped.err(),
        };
        refusals
    }
}

impl Passed {
    /// Whether it lacks a part of the size that it is listed with.
    fn is_short(&self, listed: &Listed) -> bool {
        sizes::is_short(listed.size, self.size, self.bare_ends)
    }
}

/// Whether the source handed out less of a message than it lists.
fn is_cut(listed: Option<&Listed>, passed: Option<&Passed>, sizes: Sizes) -> bool {
    let Some((listed, passed)) = listed.zip(passed) else { return false };
    passed.is_short(listed) && sizes.condemn(listed.size, passed.size)
}

/// The verdict on a copy that the destination took. One that came shorter than it is listed was asked for once more already.
fn verdict_of(form: Form, listed: Option<&Listed>, passed: Option<&Passed>, sizes: Sizes) -> Verdict {
    let verdict =
        form.verdict(listed.and_then(|listed| listed.date).or(passed.and_then(|passed| passed.date)));
    if let (Verdict::Delivered, Some(listed), Some(passed)) = (&verdict, listed, passed)
        && is_cut(Some(listed), Some(passed), sizes)
    {
        return Verdict::DeliveredAltered(format!(
            "the source lists it with {} bytes and handed out {}",
            listed.size, passed.size
        ));
    }
    verdict
}

pub(super) fn settle(
    row: RowId,
    passed: Option<&Passed>,
    destination: Option<(FolderPath, crate::model::message::Arrival)>,
    verdict: Verdict,
) -> Settled {
    Settled {
        id: row,
        known: passed.map(|p| p.known.clone()),
        size: passed.map(|p| p.size),
        date: passed.and_then(|p| p.date),
        flags: None,
        destination,
        verdict,
        refused: Refused::default(),
        stored: None,
        replaces: None,
    }
}

/// The digests of an identity, in the ledger's terms.
pub fn known_from(identity: &Identity) -> Known {
    Known {
        exact: identity.exact,
        canonical: identity.canonical,
        message_id: identity.message_id.clone(),
        subject: identity.subject.clone(),
    }
}

struct Tap<'a> {
    works: &'a HashMap<u64, &'a Work>,
    dates: &'a Mutex<HashMap<u64, InternalDate>>,
    candidates: &'a mut Candidates,
    copied: &'a mut Copied,
    judge: &'a (dyn Fn(u64, Option<InternalDate>) -> Verdict + Send + Sync),
    pace: &'a Pace,
    progress: &'a MailboxProgress,
}

impl Tap<'_> {
    async fn run(&mut self, mut from_source: BodyReceiver, to_destination: BodySender) -> Result<()> {
        while let Some(event) = from_source.recv().await {
            match event {
                BodyEvent::Held { key } => self.copied.under_way = Some(key.cast_signed()),
                BodyEvent::Begin { key, size } => {
                    self.copied.under_way = Some(key.cast_signed());
                    let Some(work) = self.works.get(&key).copied() else {
                        return Err(Failure::internal("a message came that nobody asked for"));
                    };
                    // A message that may be recognised, or takes its date from its own header, is held until its end.
                    let held = !self.candidates.is_empty() || work.listed.date.is_none();
                    let passed = if held {
                        self.hold(work, &mut from_source, &to_destination).await?
                    } else {
                        self.pass(work, size, &mut from_source, &to_destination).await?
                    };
                    if !passed {
                        return Ok(());
                    }
                    self.copied.under_way = None;
                }
                BodyEvent::Again { key, exact } => {
                    let row = key.cast_signed();
                    if self.copied.passed.get(&row).is_some_and(|passed| passed.known.exact != exact) {
                        self.copied.doubled.insert(row);
                    }
                }
                BodyEvent::Missing { key, failure } => self.miss(key.cast_signed(), failure),
                BodyEvent::Chunk(_) | BodyEvent::End { .. } => {
                    return Err(Failure::internal("a message came without its beginning"));
                }
            }
        }
        Ok(())
    }

    fn miss(&mut self, row: RowId, failure: Option<Failure>) {
        self.progress.finish_message();
        self.copied.under_way = None;
        match failure {
            None => self.copied.vanished.push(row),
            Some(failure) => {
                let verdict = Verdict::Quarantined(format!("the source {}", failure.sentence()));
                let mut settled = settle(row, None, None, verdict);
                settled.refused.code = failure.code;
                self.copied.settled.push(settled);
            }
        }
    }

    fn note(&mut self, work: &Work, identity: &Identity) -> Passed {
        let date = work.listed.date.or(identity.first_received);
        let passed = Passed {
            known: known_from(identity),
            letter: identity.letter,
            rewritten: identity.rewritten.clone(),
            size: identity.size,
            bare_ends: identity.bare_ends,
            date,
            hazards: identity.hazards,
            outline: Some(Arc::clone(&identity.outline)),
            asks_receipt: identity.asks_receipt,
        };
        self.copied.passed.insert(work.row, passed.clone());
        passed
    }

    /// Lets a message through while it is read; false when nobody takes it or it broke off.
    async fn pass(
        &mut self,
        work: &Work,
        size: u64,
        from_source: &mut BodyReceiver,
        to_destination: &BodySender,
    ) -> Result<bool> {
        let mut hasher = IdentityHasher::new();
        self.copied.begun.push(work.row);
        if to_destination.send(BodyEvent::Begin { key: work.key(), size }).await.is_err() {
            return Ok(false);
        }
        loop {
            match from_source.recv().await {
                Some(BodyEvent::Chunk(chunk)) => {
                    hasher.update(&chunk);
                    self.progress.pass_bytes(chunk.len() as u64);
                    self.pace.wait(chunk.len() as u64).await;
                    if to_destination.send(BodyEvent::Chunk(chunk)).await.is_err() {
                        return Ok(false);
                    }
                }
                Some(BodyEvent::End { date }) => {
                    // Known before the destination can possibly answer.
                    self.note(work, &hasher.finish());
                    self.progress.finish_message();
                    return Ok(to_destination.send(BodyEvent::End { date }).await.is_ok());
                }
                _ => return Ok(false),
            }
        }
    }

    /// Holds a message until it is known what it is, then recognises it or lets it through.
    async fn hold(
        &mut self,
        work: &Work,
        from_source: &mut BodyReceiver,
        to_destination: &BodySender,
    ) -> Result<bool> {
        let mut hasher = IdentityHasher::new();
        let mut spool = Spool::default();
        loop {
            match from_source.recv().await {
                Some(BodyEvent::Chunk(chunk)) => {
                    hasher.update(&chunk);
                    self.progress.pass_bytes(chunk.len() as u64);
                    spool.push(&chunk).await?;
                }
                Some(BodyEvent::End { date }) => {
                    let identity = hasher.finish();
                    let passed = self.note(work, &identity);
                    self.progress.finish_message();
                    if let excluded @ Verdict::Excluded(_) = (self.judge)(passed.size, passed.date) {
                        self.copied.settled.push(settle(work.row, Some(&passed), None, excluded));
                        return Ok(true);
                    }
                    if self.candidates.take_shown(&passed.known) {
                        self.copied.settled.push(settle(work.row, Some(&passed), None, Verdict::Shown));
                        return Ok(true);
                    }
                    let found = self.candidates.take(&passed.known).or_else(|| {
                        let (mut candidate, how) = self.candidates.take_late(&identity)?;
                        let why = match how {
                            OtherHeader::Letters => OTHER_LETTERS,
                            OtherHeader::Lines => OTHER_HEADER,
                        };
                        candidate.verdict = Verdict::DeliveredAltered(why.to_owned());
                        candidate.stored = Some(candidate.exact);
                        Some(candidate)
                    });
                    if found.is_none() && self.candidates.may_come_late(&identity) {
                        self.copied.put_off.push(work.row);
                        return Ok(true);
                    }
                    if let Some(candidate) = found {
                        let mut settled =
                            settle(work.row, Some(&passed), candidate.destination, candidate.verdict);
                        settled.replaces = candidate.row;
                        settled.stored = candidate.stored;
                        if candidate.exact != passed.known.exact && settled.verdict == Verdict::Delivered {
                            if candidate.row.is_some() {
                                // The bytes that it was given count, and the source shows other ones now.
                                settled.known =
                                    Some(Known { exact: candidate.exact, ..passed.known.clone() });
                                settled.size = candidate.size;
                            } else {
                                settled.verdict = Verdict::DeliveredAltered(OTHER_BYTES.to_owned());
                                settled.refused.code = Some(FailureCode::StoredAlike);
                                settled.stored = Some(candidate.exact);
                            }
                        }
                        // Where they are unknown, flags that are gone from the source since an earlier attempt may be
                        // there and must go, and all that the source has now must come.
                        let now = work.listed.flags.clone().unwrap_or_default();
                        let flags = candidate.flags.unwrap_or_else(|| {
                            let stale = work.tried.minus(&now);
                            // Flags that it has already need not be given to it.
                            let lacks = candidate.has.map_or_else(|| now.clone(), |has| now.minus(&has));
                            now.minus(&lacks).iter().chain(stale.iter()).collect()
                        });
                        settled.flags = Some(flags.clone());
                        self.copied.settled.push(settled);
                        self.copied.recognised.push(Recognised { row: work.row, flags });
                        return Ok(true);
                    }
                    if let Some(learned) = date.or(identity.first_received) {
                        self.dates.lock().unwrap_or_else(PoisonError::into_inner).insert(work.key(), learned);
                    }
                    self.pace.wait(passed.size).await;
                    self.copied.begun.push(work.row);
                    let delivered = spool.deliver(work.key(), to_destination).await;
                    return match delivered {
                        Err(failure) if !to_destination.is_closed() => Err(failure),
                        delivered => Ok(delivered.is_ok()),
                    };
                }
                _ => return Ok(false),
            }
        }
    }
}
