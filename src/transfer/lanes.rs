//! Several sessions a mailbox: each lane is a session at either side and carries one folder at a time.
//!
//! A destination folder belongs to one lane from the first message to the last. So whatever a lane finds there beyond what
//! it knew is its own or a stranger's, and never on its way from a sibling: what is recognised by UID and identity after a
//! cut means the same as with one session. Large folders come first, so that no lane is left with one at the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until, timeout};

use super::folder::{FolderPass, Ran};
use super::forbearance::{Costs, ENDED_AT, Shown, Stage, has_ended};
use super::late::Late;
use super::mapping::FolderPlan;
use super::progress::MailboxProgress;
use super::settle::Barrier;
use super::written::Written;
use super::{PassOutcome, Rules};
use crate::drivers::{Destination, Source};
use crate::ledger::{Ledger, Tallies};
use crate::model::failure::{Class, Failure, Result};
use crate::model::folder::FolderPath;
use crate::model::label::LabelTally;

/// Sessions at each side that one mailbox uses; more bring nothing (PERFORMANCE §2c).
const LANES_MAX: usize = 4;
/// How often one more session is asked for while there are fewer than would be worth while.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// How long other lanes may take to come to a good place once one has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A session at either side.
pub type Lane = (Box<dyn Source>, Box<dyn Destination>);

/// Opens further sessions of a mailbox.
#[async_trait]
pub trait MoreLanes: Send + Sync {
    /// One more session at either side; `None` when there shall be no more for now.
    ///
    /// # Errors
    /// Those of the login. The pass goes on with the sessions that it has.
    async fn open(&self) -> Result<Option<Lane>>;

    /// A session with another mailbox at the destination; `None` when there can be none now.
    ///
    /// # Errors
    /// Those of the login.
    async fn open_other(&self, _mailbox: &str) -> Result<Option<Box<dyn Destination>>> {
        Ok(None)
    }

    /// Hears why a further session ended before its work did.
    fn ended(&self, _failure: &Failure) {}

    /// Whether a further session should end at the next folder: another mailbox waits for one, or a host asked for fewer.
    fn should_be_fewer(&self) -> bool {
        false
    }
}

/// No further sessions.
#[derive(Debug, Clone, Copy)]
pub struct OneLane;

#[async_trait]
impl MoreLanes for OneLane {
    async fn open(&self) -> Result<Option<Lane>> {
        Ok(None)
    }
}

/// Further sessions on their way.
pub(super) struct Openings<'a> {
    more: &'a dyn MoreLanes,
    coming: FuturesUnordered<BoxFuture<'a, Result<Option<Lane>>>>,
    /// Those that are there already.
    ready: Vec<Result<Option<Lane>>>,
}

impl<'a> Openings<'a> {
    /// Asks for as many as are worth while for so many folders.
    pub(super) fn begin(more: &'a dyn MoreLanes, folders: usize) -> Self {
        let further = folders.min(LANES_MAX).saturating_sub(1);
        Self { more, coming: (0..further).map(|_| more.open()).collect(), ready: Vec::new() }
    }

    /// Does something else while they are opened.
    pub(super) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                Some(opened) = self.coming.next() => self.ready.push(opened),
            }
        }
    }

    /// Asks for one more.
    fn ask(&self) {
        self.coming.push(self.more.open());
    }

    /// Whether any is to come.
    fn are_under_way(&self) -> bool {
        !self.ready.is_empty() || !self.coming.is_empty()
    }

    /// The next one; `None` when there is none to come.
    async fn next(&mut self) -> Option<Result<Option<Lane>>> {
        match self.ready.pop() {
            Some(opened) => Some(opened),
            None => self.coming.next().await,
        }
    }
}

/// The state that all lanes of a pass share.
pub(super) struct Pass<'a> {
    pub(super) ledger: &'a dyn Ledger,
    pub(super) rules: &'a Rules,
    pub(super) progress: &'a MailboxProgress,
    /// Whether everything that the ledger knows was judged by the same rules.
    pub(super) same_rules: bool,
    /// Whether folders of the source are labels.
    pub(super) labelled: bool,
    /// All folders of the source.
    pub(super) plans: &'a [FolderPlan],
    /// Destination folders that are there.
    pub(super) made: &'a BTreeSet<FolderPath>,
    /// Source folders with messages that wait or were refused.
    pub(super) unfinished: &'a BTreeSet<FolderPath>,
    /// Late copies that stay.
    pub(super) late: &'a Late<'a>,
    /// The destination folders that were written to.
    pub(super) written: &'a Written,
}

/// The result of the lanes.
#[derive(Default)]
pub(super) struct Carried {
    pub(super) outcome: PassOutcome,
    /// The counts of labels in the list of each folder.
    pub(super) tallies: BTreeMap<FolderPath, LabelTally>,
    /// The first folder that failed alone.
    pub(super) failed: Option<Failure>,
}

impl Carried {
    /// Adds what another lane did.
    fn add(&mut self, lane: Self) {
        self.outcome.add(lane.outcome);
        self.tallies.extend(lane.tallies);
        self.failed = self.failed.take().or(lane.failed);
    }
}

/// All source folders that go to one destination folder, or of which something may be in one, and what is in doubt there.
struct Work<'a> {
    plans: Vec<&'a FolderPlan>,
    messages: u64,
    barrier: Barrier,
}

impl Work<'_> {
    fn is_doubtful(&self) -> bool {
        self.plans.iter().any(|plan| self.barrier.concerns(&plan.source.path))
    }
}

/// The work that is left, and whether it shall be done.
struct Board<'a> {
    queue: Mutex<VecDeque<Work<'a>>>,
    /// Folders of lanes that broke.
    left: Mutex<Vec<Vec<&'a FolderPlan>>>,
    halt: AtomicBool,
}

impl<'a> Board<'a> {
    fn has_more(&self) -> bool {
        !lock(&self.queue).is_empty()
    }

    fn next(&self) -> Option<Work<'a>> {
        if self.halt.load(Ordering::Relaxed) { None } else { lock(&self.queue).pop_front() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pass<'_> {
    /// Carries folders, each given with how many messages it is said to hold. The work done is in `all` after a failure
    /// too.
    ///
    /// # Errors
    /// The first failure of the session that was there first, or one that concerns all.
    pub(super) async fn carry(
        &self,
        source: &mut dyn Source,
        destination: &mut dyn Destination,
        openings: Openings<'_>,
        folders: Vec<(&FolderPlan, Option<u64>)>,
        mut barrier: Barrier,
        all: &mut Carried,
    ) -> Result<()> {
        // Folders that only show what others hold come when those are through.
        let (views, folders): (Vec<_>, Vec<_>) = folders.into_iter().partition(|(plan, _)| plan.view);
        let views = share_out(views, &mut barrier);
        // A folder at which attempts ended comes last, so that it takes no other along.
        let ended_at = self.ledger.fact(ENDED_AT).await?.unwrap_or_default();
        let comes_last =
            |work: &Work<'_>| work.plans.iter().any(|plan| has_ended(&ended_at, &plan.source.path));
        let (ended, work): (VecDeque<_>, VecDeque<_>) =
            share_out(folders, &mut barrier).into_iter().partition(comes_last);
        let board = Board { queue: Mutex::new(work), left: Mutex::default(), halt: AtomicBool::new(false) };
        self.run_lanes(source, destination, openings, &board, all).await?;
        // The messages that a broken lane had under way are in doubt, as after any cut.
        let left = std::mem::take(&mut *lock(&board.left));
        if !left.is_empty() {
            let mut barrier = Barrier::raise(self.ledger, destination).await?;
            for plans in left {
                let part = barrier.part(&plans.iter().map(|plan| &plan.source.path).collect());
                let work = Work { plans, messages: 0, barrier: part };
                self.carry_work(work, source, destination, &board.halt, all).await?;
            }
        }
        for work in views.into_iter().chain(ended) {
            self.carry_work(work, source, destination, &board.halt, all).await?;
        }
        if all.failed.is_none() && !ended_at.is_empty() {
            self.ledger.save_fact(ENDED_AT, "").await?;
        }
        Ok(())
    }

    /// Lets the first session and further ones work through the board.
    async fn run_lanes(
        &self,
        source: &mut dyn Source,
        destination: &mut dyn Destination,
        mut openings: Openings<'_>,
        board: &Board<'_>,
        all: &mut Carried,
    ) -> Result<()> {
        let mut lanes = FuturesUnordered::new();
        lanes.push(futures::future::Either::Left(self.run_first(source, destination, board)));
        let mut failure: Option<Failure> = None;
        let more = openings.more;
        let mut ask_at = Instant::now() + ASK_EVERY;
        loop {
            let ended = if failure.is_none() {
                let asks = board.has_more() && lanes.len() < LANES_MAX && !openings.are_under_way();
                tokio::select! {
                    Some(opened) = openings.next(), if openings.are_under_way() => {
                        lanes.push(futures::future::Either::Right(self.run_further(opened, more, board)));
                        continue;
                    }
                    // There may be room by now, or the server may take one more.
                    () = sleep_until(ask_at), if asks => {
                        openings.ask();
                        ask_at = Instant::now() + ASK_EVERY;
                        continue;
                    }
                    // A session that is still being opened comes too late once all is done.
                    ended = lanes.next() => ended,
                }
            } else {
                // They stop at the end of a window, where nothing is in doubt; whoever cannot is dropped.
                timeout(PATIENCE, lanes.next()).await.unwrap_or_default()
            };
            let Some((carried, ended)) = ended else { break };
            all.add(carried);
            if let Err(another) = ended {
                board.halt.store(true, Ordering::Relaxed);
                failure = failure.or(Some(another));
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn run_first(
        &self,
        source: &mut dyn Source,
        destination: &mut dyn Destination,
        board: &Board<'_>,
    ) -> (Carried, Result<()>) {
        let mut carried = Carried::default();
        while let Some(work) = board.next() {
            let done = self.carry_work(work, source, destination, &board.halt, &mut carried).await;
            if done.is_err() {
                let halted = board.halt.load(Ordering::Relaxed);
                return (carried, if halted { Ok(()) } else { done });
            }
        }
        (carried, Ok(()))
    }

    /// A further lane. It is not a failure if a server does not want it, or ends it: the others go on.
    async fn run_further(
        &self,
        opened: Result<Option<Lane>>,
        more: &dyn MoreLanes,
        board: &Board<'_>,
    ) -> (Carried, Result<()>) {
        let mut carried = Carried::default();
        let (mut source, mut destination) = match opened {
            Ok(Some(lane)) => lane,
            Ok(None) => return (carried, Ok(())),
            Err(failure) => {
                tracing::info!(failure = %failure.sentence(), "goes on with fewer sessions");
                return (carried, Ok(()));
            }
        };
        let mut broken = None;
        while !more.should_be_fewer()
            && let Some(work) = board.next()
        {
            let plans = work.plans.clone();
            let done =
                self.carry_work(work, &mut *source, &mut *destination, &board.halt, &mut carried).await;
            if let Err(failure) = done {
                broken = Some((failure, plans));
                break;
            }
        }
        let halted = board.halt.load(Ordering::Relaxed);
        match broken {
            // The others were stopped, but what the server asked of this one holds.
            Some((failure, _)) if halted && failure.class == Class::Throttled => more.ended(&failure),
            Some(_) if halted => {}
            Some((failure, plans)) if matches!(failure.class, Class::Unreachable | Class::Throttled) => {
                tracing::info!(failure = %failure.sentence(), "a session ended; goes on with the others");
                more.ended(&failure);
                lock(&board.left).push(plans);
                return (carried, Ok(()));
            }
            Some((failure, _)) => return (carried, Err(failure)),
            None => {}
        }
        tokio::join!(source.close(), destination.close());
        (carried, Ok(()))
    }

    /// Carries all that goes to one destination folder.
    async fn carry_work(
        &self,
        work: Work<'_>,
        source: &mut dyn Source,
        destination: &mut dyn Destination,
        halt: &AtomicBool,
        carried: &mut Carried,
    ) -> Result<()> {
        let Work { plans, mut barrier, .. } = work;
        for plan in plans {
            let record = self.recall(plan, source, destination).await?;
            let sent_before = carried.outcome.sent + carried.outcome.recognised;
            if barrier.concerns(&plan.source.path) {
                self.progress.enter_phase("waiting for late arrivals");
                barrier.wait(&plan.source.path, destination, self.rules.settle).await?;
            }
            let mut pass = FolderPass {
                source,
                destination,
                ledger: self.ledger,
                rules: self.rules,
                progress: self.progress,
                plan,
                same_rules: self.same_rules,
                labelled: self.labelled,
                made: self.made.contains(&plan.destination),
                written: self.written,
                unfinished: self.unfinished.contains(&plan.source.path),
                halt,
                outcome: &mut carried.outcome,
                uncounted: Tallies::default(),
                letters: std::collections::HashMap::new(),
                tallies: &mut carried.tallies,
                stage: Stage::default(),
            };
            let ran = Box::pin(pass.run(&barrier)).await;
            let kept = pass.keep_counts().await;
            let stage = pass.stage;
            let moved = carried.outcome.sent + carried.outcome.recognised > sent_before;
            let shown = Shown { stage, moved, others_moved: sent_before > 0 };
            let ran = if let (Ok(_), Err(failure)) = (&ran, kept) { Err(failure) } else { ran };
            let left = match ran {
                // Everything else may try a few times by itself; only pauses have no end.
                Ok(Ran::NotMade(failure)) if failure.class != Class::Throttled => Some(failure),
                Ok(Ran::NotMade(failure)) => match self.bear(plan, record, shown, failure).await? {
                    Costs::Folder(failure) | Costs::Attempt(failure) => Some(failure),
                },
                Err(failure) => match self.bear(plan, record, shown, failure).await? {
                    Costs::Folder(failure) => Some(failure),
                    Costs::Attempt(failure) => return Err(failure),
                },
                Ok(ran) => {
                    carried.outcome.folders += 1;
                    let neighbours = &self.rules.neighbours;
                    let source = &plan.source.path;
                    barrier.lower(source, destination, self.ledger, neighbours, self.late).await?;
                    if let Ran::PutOff(failure) = ran { Some(failure) } else { None }
                }
            };
            if let Some(failure) = left.filter(|_| plan.excluded.is_none()) {
                let failure = failure.at(plan.source.path.to_string());
                tracing::info!(failure = %failure.sentence(), "a folder is left; goes on with the others");
                carried.failed.get_or_insert(failure);
            }
        }
        Ok(())
    }
}

/// Puts together what goes to one destination folder, the largest first. Folders with messages in doubt come last, so that
/// the others do not wait for them. Where messages of a folder are in doubt in another one than it goes to now, because the
/// mapping changed, all that concerns either is one piece of work.
fn share_out<'a>(folders: Vec<(&'a FolderPlan, Option<u64>)>, barrier: &mut Barrier) -> VecDeque<Work<'a>> {
    let mut pieces: Vec<(BTreeSet<FolderPath>, Work<'a>)> = Vec::new();
    for (plan, messages) in folders {
        let mut places = BTreeSet::from([plan.destination.clone()]);
        places.extend(barrier.folders(&plan.source.path));
        let mut whole =
            Work { plans: Vec::new(), messages: messages.unwrap_or(0), barrier: Barrier::default() };
        let mut apart = Vec::with_capacity(pieces.len() + 1);
        for (theirs, work) in pieces {
            if theirs.is_disjoint(&places) {
                apart.push((theirs, work));
            } else {
                places.extend(theirs);
                whole.plans.extend(work.plans);
                whole.messages += work.messages;
            }
        }
        whole.plans.push(plan);
        apart.push((places, whole));
        pieces = apart;
    }
    let mut work: Vec<Work<'a>> = pieces.into_iter().map(|(_, work)| work).collect();
    for piece in &mut work {
        piece.barrier = barrier.part(&piece.plans.iter().map(|plan| &plan.source.path).collect());
    }
    work.sort_by_key(|work| (work.is_doubtful(), std::cmp::Reverse(work.messages)));
    work.into()
}
