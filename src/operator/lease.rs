//! The lease by which one of several replicas acts: a `coordination.k8s.io/v1` Lease, written on condition that nobody
//! else wrote meanwhile. The next step is decided by [`super::election`]; here it is done.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::core::Status;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tracing::{debug, info, warn};

use super::election::{Candidate, DURATION, Move, Record};
use crate::model::clock::Clock;
use crate::model::failure::{Class, Failure, Result};
use crate::model::random::random;
use crate::model::text::printable;
use crate::plan::backoff::jitter;

/// How long a leader waits between two renewals.
const RENEW: Duration = Duration::from_secs(5);
/// How long a leader waits after a renewal that failed: little is left of its term.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a replica that does not lead waits before it looks again.
const LOOK: Duration = Duration::from_secs(2);
/// How long one request may take: within its term a leader has time for a second one.
const REQUEST: Duration = Duration::from_secs(3);

/// A lease that replicas compete for.
#[derive(Clone)]
pub struct Lease {
    shared: Arc<Shared>,
}

struct Shared {
    api: Api<Object>,
    name: String,
    identity: String,
    clock: Arc<dyn Clock>,
    /// Moments of the election count from here.
    born: Instant,
}

/// The outcome of an attempt to have the lease.
enum Outcome {
    /// We lead until then.
    Leads(Instant),
    /// Another one may be acting for that much longer.
    Waits(Duration),
    /// Somebody wrote in between; look again.
    Raced,
}

impl Lease {
    /// The lease `name` in `namespace`, for a process of the pod `pod`. The wall clock is only written down.
    ///
    /// # Errors
    /// [`Class::Internal`] when the system gives no random numbers.
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        pod: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        // Another process of the same pod, or a pod of the same name on another machine, is another candidate.
        let identity = format!("{pod}_{:08x}", u32::from_le_bytes(random()?));
        let api = Api::namespaced(client, namespace);
        let shared = Shared { api, name: name.to_owned(), identity, clock, born: Instant::now() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The name of this process in the lease.
    pub fn identity(&self) -> &str {
        &self.shared.identity
    }

    /// Waits until this process leads, however long it takes. An API server that is away or refuses is asked again, and
    /// the log says so. It may be dropped at any time.
    ///
    /// # Errors
    /// [`Class::Configuration`] when the API server can never accept such a lease.
    pub async fn hold(&self) -> Result<Held> {
        let shared = Arc::clone(&self.shared);
        let mut candidate = Candidate::new(&shared.identity);
        let mut told: Option<String> = None;
        let mut round = 0_u32;
        loop {
            let rest = match shared.attempt(&mut candidate, &mut None).await {
                Ok(Outcome::Leads(until)) => {
                    info!(lease = shared.name, identity = shared.identity, "this replica leads");
                    return Ok(Held::start(shared, candidate, until));
                }
                Ok(Outcome::Waits(rest)) => rest,
                Ok(Outcome::Raced) => LOOK,
                Err(failure) if failure.class == Class::Configuration => return Err(failure),
                Err(failure) => {
                    warn!(lease = shared.name, %failure, "the lease cannot be had now, it is tried again");
                    LOOK
                }
            };
            if candidate.leader() != told.as_deref() {
                told = candidate.leader().map(str::to_owned);
                if let Some(leader) = &told {
                    info!(
                        lease = shared.name,
                        leader = printable(leader),
                        "another replica leads, this one stands by"
                    );
                }
            }
            round = round.wrapping_add(1);
            sleep(shared.spread(LOOK.min(rest), round)).await;
        }
    }
}

impl Shared {
    /// A pause, up to a fifth longer, so that replicas do not come at once.
    fn spread(&self, pause: Duration, round: u32) -> Duration {
        pause.mul_f64(1.0 + jitter(&self.identity, round) / 5.0)
    }

    /// Tries once to have or to renew the lease. `known` is the object as this process wrote it last; it saves a request.
    async fn attempt(&self, candidate: &mut Candidate, known: &mut Option<Object>) -> Result<Outcome> {
        let found = match known.take() {
            Some(object) => Some(object),
            None => self
                .asked("read", self.api.get_opt(&self.name))
                .await?
                .map_err(|e| self.refused("read", &e))?,
        };
        let record = found.as_ref().map(record);
        let decided = candidate.decide(record.as_ref(), self.born.elapsed());
        if let Move::Wait(rest) = decided {
            return Ok(Outcome::Waits(rest));
        }
        let next = candidate.record(record.as_ref(), self.clock.now());
        // With the resource version that was found, or with none for a new one.
        let meta = found.map_or_else(|| self.metadata(), |object| object.metadata);
        let object = Object { metadata: meta, spec: Some(spec(&next)) };
        let params = PostParams::default();
        let sent = self.born.elapsed();
        let answer = match decided {
            Move::Create => self.asked("make", self.api.create(&params, &object)).await?,
            _ => self.asked("write", self.api.replace(&self.name, &params, &object)).await?,
        };
        match answer {
            Ok(object) => {
                *known = Some(object);
                candidate.won(next, sent, self.born.elapsed());
                let until = candidate.until().map_or(self.born, |until| self.born + until);
                Ok(Outcome::Leads(until))
            }
            Err(error) if is_race(&error) => Ok(Outcome::Raced),
            Err(error) => Err(self.refused("write", &error)),
        }
    }

    /// Gives the lease back if it is ours.
    async fn give_back(&self) -> Result<bool> {
        loop {
            let read = self.asked("read", self.api.get_opt(&self.name)).await?;
            let Some(mut object) = read.map_err(|e| self.refused("read", &e))? else { return Ok(false) };
            let record = record(&object);
            if record.holder.as_ref() != Some(&self.identity) {
                return Ok(false);
            }
            object.spec = Some(spec(&Record { holder: None, ..record }));
            match self.asked("write", self.api.replace(&self.name, &PostParams::default(), &object)).await? {
                Ok(_) => return Ok(true),
                // A renewal that was still on its way.
                Err(error) if is_race(&error) => {}
                Err(error) => return Err(self.refused("write", &error)),
            }
        }
    }

    fn metadata(&self) -> ObjectMeta {
        ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() }
    }

    async fn asked<T>(&self, verb: &str, request: impl Future<Output = T>) -> Result<T> {
        timeout(REQUEST, request).await.map_err(|_| {
            Failure::new(
                Class::Unreachable,
                format!("the API server did not {verb} it in {} s", REQUEST.as_secs()),
            )
            .at(self.place())
        })
    }

    fn place(&self) -> String {
        format!("lease {}", self.name)
    }

    fn refused(&self, verb: &str, error: &kube::Error) -> Failure {
        let said =
            |status: &Status| format!("the API server did not {verb} it: {}", printable(&status.message));
        let failure = match error {
            kube::Error::Api(status) => match status.code {
                400 | 422 => Failure::configuration(said(status)).hint("Correct --lease-name."),
                401 => Failure::new(Class::Credentials, said(status)),
                403 => Failure::new(Class::Refused, said(status)).hint(
                    "Allow get, create and update of leases in the namespace, as the chart's Role does.",
                ),
                404 => Failure::new(Class::Refused, said(status)).hint("Correct --lease-namespace."),
                429 => Failure::new(Class::Throttled, said(status)),
                _ => Failure::new(Class::Unreachable, said(status)),
            },
            error => {
                Failure::new(Class::Unreachable, format!("the API server could not be asked to {verb} it"))
                    .caused_by(error)
            }
        };
        failure.at(self.place())
    }
}

/// Whether somebody else was faster: the object changed, exists already, or is gone.
fn is_race(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let ours = status.details.as_ref().is_some_and(|details| details.kind == "leases");
    status.code == 409 || (status.code == 404 && ours)
}

/// The content of an object.
fn record(object: &Object) -> Record {
    let spec = object.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let moment = |time: Option<MicroTime>| time.map(|MicroTime(at)| at);
    Record {
        holder: spec.holder_identity,
        duration: seconds.map_or(DURATION, Duration::from_secs),
        acquired: moment(spec.acquire_time),
        renewed: moment(spec.renew_time),
        transitions: spec.lease_transitions.unwrap_or(0),
    }
}

fn spec(record: &Record) -> LeaseSpec {
    let moment = |at: Option<Timestamp>| at.map(MicroTime);
    LeaseSpec {
        holder_identity: record.holder.clone(),
        lease_duration_seconds: i32::try_from(record.duration.as_secs()).ok(),
        acquire_time: moment(record.acquired),
        renew_time: moment(record.renewed),
        lease_transitions: Some(record.transitions),
        ..LeaseSpec::default()
    }
}

/// A lease that this process holds, and renews until it is lost, given back or dropped. Dropped, it ends by itself when
/// others have seen it unrenewed for [`DURATION`].
pub struct Held {
    shared: Arc<Shared>,
    term: Term,
    keeper: JoinHandle<Failure>,
    ended: Option<Failure>,
}

/// Tells whether this process may act now; cheap to clone and to ask before each write.
#[derive(Clone)]
pub struct Term(watch::Receiver<Instant>);

impl Term {
    /// Whether the lease is held at this moment. It needs no task to run for that: a process that was stopped for a
    /// while finds its term over when it goes on.
    pub fn holds(&self) -> bool {
        self.0.has_changed().is_ok() && Instant::now() < *self.0.borrow()
    }
}

impl Held {
    fn start(shared: Arc<Shared>, candidate: Candidate, until: Instant) -> Self {
        let (tell, term) = watch::channel(until);
        let keeper = tokio::spawn(keep(Arc::clone(&shared), candidate, tell));
        Self { shared, term: Term(term), keeper, ended: None }
    }

    /// The sign whether this process may act now.
    pub fn term(&self) -> Term {
        self.term.clone()
    }

    /// Waits until the lease is lost, and says why ([`Class::Interrupted`]): from then on nothing may be written. It may
    /// be dropped and called again.
    pub async fn lost(&mut self) -> Failure {
        while self.ended.is_none() {
            let until = *self.term.0.borrow_and_update();
            // The end of the term counts even if the renewing task has no turn.
            tokio::select! {
                ended = &mut self.keeper => {
                    self.ended = Some(ended.unwrap_or_else(|error| {
                        Failure::internal("the renewing of the lease ended").caused_by(&error).at(self.shared.place())
                    }));
                }
                Ok(()) = self.term.0.changed() => {}
                () = sleep_until(until) => {
                    if Instant::now() >= *self.term.0.borrow() {
                        self.ended = Some(expired(&self.shared));
                    }
                }
            }
        }
        self.ended.clone().unwrap_or_else(|| expired(&self.shared))
    }

    /// Gives the lease back, so that another replica takes over at once. Everything that acts must have ended before.
    pub async fn release(mut self) {
        self.keeper.abort();
        if self.ended.is_none() {
            // It ended because it was told to.
            let _ = (&mut self.keeper).await;
        }
        let name = &self.shared.name;
        match timeout(REQUEST, self.shared.give_back()).await {
            Ok(Ok(true)) => info!(lease = name, "the lease is given back"),
            Ok(Ok(false)) => debug!(lease = name, "the lease is not ours any more"),
            Ok(Err(failure)) => {
                warn!(lease = name, %failure, "the lease could not be given back, it ends by itself");
            }
            Err(_) => warn!(lease = name, "the lease could not be given back in time, it ends by itself"),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

fn interrupted(shared: &Shared, what: impl Into<String>) -> Failure {
    Failure::new(Class::Interrupted, what)
        .hint("Nothing: another replica goes on, and this one stands by when it is started again.")
        .at(shared.place())
}

fn expired(shared: &Shared) -> Failure {
    interrupted(shared, "it could not be renewed in time, so this replica no longer acts")
}

/// Renews the lease until it is lost, and says why.
async fn keep(shared: Arc<Shared>, mut candidate: Candidate, tell: watch::Sender<Instant>) -> Failure {
    let mut known = None;
    let mut pause = RENEW;
    loop {
        sleep(pause).await;
        let until = *tell.borrow();
        if Instant::now() >= until {
            return expired(&shared);
        }
        let Ok(attempt) = timeout_at(until, shared.attempt(&mut candidate, &mut known)).await else {
            return expired(&shared);
        };
        pause = match attempt {
            Ok(Outcome::Leads(until)) => {
                tell.send_replace(until);
                RENEW
            }
            Ok(Outcome::Waits(_)) => {
                let leader = printable(candidate.leader().unwrap_or("nobody"));
                return interrupted(&shared, format!("{leader} has it now, so this replica no longer acts"));
            }
            Ok(Outcome::Raced) => Duration::ZERO,
            Err(failure) => {
                warn!(lease = shared.name, %failure, "the lease is not renewed yet, it is tried again");
                AGAIN
            }
        };
    }
}
