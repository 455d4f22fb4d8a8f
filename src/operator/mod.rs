//! The operator: the platform of a cluster. It opens no mail connection and reads no Secret.
//!
//! Each change of anything that belongs to a MailMigration gives it a turn; a turn goes through [`reconcile`] once.
//! Whatever it needs to go on is in the API server, so an operator may be ended at any moment and another goes on.

pub mod election;
mod gather;
pub mod jobs;
pub mod known;
pub mod launch;
pub mod lease;
pub mod metrics;
mod observe;
pub mod obstacles;
mod perform;
pub mod platform;
mod publish;
pub mod requests;
pub mod serve;
pub mod settings;
pub mod stores;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::client::ClientBuilder;
use kube::runtime::controller::Action;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt};
use tokio::sync::Semaphore;
use tracing::{info, warn};

use self::lease::{Lease, Term};
use self::metrics::{Metrics, Survey};
use self::platform::{ClusterPlatform, Context, Memory};
use self::requests::CountRequests;
use self::serve::{Pulse, Server};
use self::settings::Settings;
use self::stores::{Stores, watch};
use crate::api::condition::{self, Fact, Type};
use crate::api::status::Phase;
use crate::api::{MailMigration, rules};
use crate::model::clock::Clock;
use crate::model::failure::{Class, Failure, Result};
use crate::reconcile::reconcile;

/// Migrations whose turn it is at the same time.
const TURNS_AT_ONCE: usize = 8;
/// The longest time between two turns of a migration at which something may still happen.
const LONGEST: Duration = Duration::from_mins(5);
/// How often metrics are added up.
const SURVEY: Duration = Duration::from_secs(15);

/// What the operator is started with.
pub struct Start {
    /// What the installation decides for all migrations.
    pub settings: Settings,
    /// Namespaces to watch; all when there is none.
    pub namespaces: Vec<String>,
    /// Where the lease is.
    pub lease_namespace: String,
    /// The name of the lease.
    pub lease_name: String,
    /// The name of this replica: its pod's.
    pub identity: String,
    /// Where probes and metrics are served.
    pub listen: SocketAddr,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Runs until `stop`, or until another replica leads.
///
/// # Errors
/// [`Class::Configuration`] when it cannot begin; [`Class::Interrupted`] when the lease is lost.
pub async fn run(start: Start, stop: impl Future<Output = ()>) -> Result<()> {
    let metrics = Arc::new(Metrics::default());
    let pulse = Arc::new(Pulse::default());
    let client = connect(&metrics).await?;
    let server = Server::bind(start.listen).await?;
    info!(address = %server.address(), "probes and metrics are served");
    let (quit, mut quitting) = tokio::sync::watch::channel(false);
    let serving = tokio::spawn(server.run(Arc::clone(&pulse), Arc::clone(&metrics), async move {
        // An error means that nobody is left who could say so.
        let _ = quitting.wait_for(|quit| *quit).await;
    }));
    let ended = pulse.during(lead(start, client, &metrics, &pulse, stop)).await;
    let _ = quit.send(true);
    // Bounded by the server itself.
    let _ = serving.await;
    ended
}

/// Waits for the lease, and acts while it is held.
async fn lead(
    start: Start,
    client: Client,
    metrics: &Arc<Metrics>,
    pulse: &Arc<Pulse>,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let mut stop = Box::pin(stop);
    let Start { settings, namespaces, lease_namespace, lease_name, identity, clock, .. } = start;
    let lease = Lease::new(client.clone(), &lease_namespace, &lease_name, &identity, Arc::clone(&clock))?;
    // A replica that stands by is as ready as one that leads: it has nothing to wait for but its turn.
    reach(&client).await;
    pulse.reached();
    pulse.synced();
    let mut held = tokio::select! {
        held = lease.hold() => held?,
        () = &mut stop => return Ok(()),
    };
    metrics.lead(true);
    pulse.lead(true);
    let recorder = Recorder::new(
        client.clone(),
        Reporter { controller: "mailferry".to_owned(), instance: Some(identity) },
    );
    let scopes = if namespaces.is_empty() { vec![None] } else { namespaces.into_iter().map(Some).collect() };
    let at_once = Arc::new(Semaphore::new(TURNS_AT_ONCE));
    let contexts: Vec<_> = scopes
        .iter()
        .map(|namespace| {
            let (stores, controller) = watch(&client, namespace.as_deref());
            let context = Context {
                client: client.clone(),
                settings: settings.clone(),
                stores,
                metrics: Arc::clone(metrics),
                recorder: recorder.clone(),
                term: held.term(),
                turns: Arc::clone(&at_once),
                clock: Arc::clone(&clock),
                memory: Memory::default(),
            };
            (Arc::new(context), controller)
        })
        .collect();
    let survey = survey(
        contexts.iter().map(|(context, _)| Arc::clone(context)).collect(),
        Arc::clone(metrics),
        held.term(),
    );
    let seen: Vec<_> = contexts.iter().map(|(context, _)| context.stores.clone()).collect();
    let turns = contexts
        .into_iter()
        .map(|(context, controller)| controller.run(turn, after_failure, context).boxed());
    let mut turns = stream::select_all(turns);
    let work = async {
        while let Some(turn) = turns.next().await {
            if let Err(error) = turn {
                // A failure of a turn is told where it happened; what is left are the watches, which try again.
                tracing::debug!(%error, "a watch or a turn failed");
            }
        }
    };
    let ended = tokio::select! {
        failure = held.lost() => Err(failure),
        () = work => Ok(()),
        () = survey => Ok(()),
        () = &mut stop => Ok(()),
    };
    metrics.lead(false);
    pulse.lead(false);
    if ended.is_ok() {
        if let Err(failure) = leave(&client, &seen, &lease_namespace).await {
            warn!(%failure, "the Jobs of this namespace are not ended");
        }
        held.release().await;
    }
    ended
}

/// Ends the Jobs of the operator's own namespace if that is being deleted: nobody could afterwards, and while they are there
/// it does not go.
async fn leave(client: &Client, seen: &[Stores], namespace: &str) -> Result<()> {
    let jobs = seen.iter().flat_map(|stores| stores.jobs.state());
    let jobs: Vec<_> = jobs.filter(|job| job.namespace().as_deref() == Some(namespace)).collect();
    if !jobs.is_empty() && launch::is_being_deleted(client, namespace).await? {
        for job in jobs {
            launch::end(client, &job).await?;
        }
    }
    Ok(())
}

/// The way to the API server, with its requests counted.
async fn connect(metrics: &Arc<Metrics>) -> Result<Client> {
    let unusable = |e: &(dyn std::error::Error + 'static)| {
        Failure::configuration("no way to a cluster is known")
            .hint("run it in a pod, or set KUBECONFIG")
            .caused_by(e)
    };
    let config = kube::Config::infer().await.map_err(|e| unusable(&e))?;
    let builder = ClientBuilder::try_from(config).map_err(|e| unusable(&e))?;
    Ok(builder.with_layer(&CountRequests::new(Arc::clone(metrics))).build())
}

/// Waits until the API server answers.
async fn reach(client: &Client) {
    while let Err(error) = client.apiserver_version().await {
        warn!(%error, "the API server does not answer yet");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// One turn of one migration.
async fn turn(migration: Arc<MailMigration>, context: Arc<Context>) -> Result<Action> {
    if migration.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    // With half a copy, mail that was carried long ago would look as if nobody had touched it.
    if !context.stores.ready().await {
        return Err(Failure::new(Class::Interrupted, "nothing is watched any more"));
    }
    context.metrics.wait_for_turn(true);
    let permit = context.turns.acquire().await;
    context.metrics.wait_for_turn(false);
    if permit.is_err() {
        return Err(Failure::new(Class::Interrupted, "no turns are taken any more"));
    }
    // It may have changed while it waited.
    let migration = context.stores.migrations.get(&ObjectRef::from_obj(&*migration)).unwrap_or(migration);
    let begun = tokio::time::Instant::now();
    let outcome = attempt(&migration, &context).await;
    let failed = outcome.as_ref().err().map(|failure: &Failure| failure.class);
    context.metrics.reconciled(failed, begun.elapsed());
    let uid = migration.uid().unwrap_or_default();
    if failed.is_none() {
        context.memory.count_refusal(&uid, false);
    }
    outcome
}

async fn attempt(migration: &MailMigration, context: &Arc<Context>) -> Result<Action> {
    // The copy that called for this turn may be older than the one that is known by now.
    let mut migration = migration.clone();
    let mut platform = ClusterPlatform::new(context, &migration);
    if platform.end_with_namespace(&migration).await? {
        return Ok(Action::await_change());
    }
    let broken = rules::check(&migration.spec);
    if let Some(first) = broken.first() {
        let failure = Failure::configuration(format!("{}: {}", first.path, first.what));
        tell_invalid(&platform, &migration, &failure, context.clock.now()).await?;
        return Ok(Action::await_change());
    }
    let decision = reconcile(&mut platform, &mut migration).await?;
    let wake = decision.wake.map(|wake| {
        let left = wake.duration_since(context.clock.now());
        Duration::try_from(left).unwrap_or_default() + Duration::from_millis(100)
    });
    let wait = [wake, platform.soon()].into_iter().flatten().min().unwrap_or(LONGEST).min(LONGEST);
    Ok(Action::requeue(wait))
}

/// A spec that the schema allows and that cannot stand: it is said, and nothing that goes on is touched, so that setting
/// it right is all there is to do.
async fn tell_invalid(
    platform: &ClusterPlatform,
    migration: &MailMigration,
    failure: &Failure,
    now: Timestamp,
) -> Result<()> {
    let before = migration.status.clone().unwrap_or_default();
    let mut status = before.clone();
    let message = format!("{}. Correct the spec; until then nothing is begun.", failure.sentence());
    let ready = Fact::failed(Type::Ready, false, Class::Configuration, message);
    let stalled = Fact { kind: Type::Stalled, state: condition::State::True, ..ready.clone() };
    let generation = migration.metadata.generation;
    status.observed_generation = generation;
    status.phase = Some(Phase::Stalled);
    status.conditions = condition::set(&before.conditions, &[ready, stalled], generation, now);
    if status == before { Ok(()) } else { platform.write_status(migration, &status).await }
}

/// When a turn is tried again that failed: soon at first, later each time.
#[allow(clippy::needless_pass_by_value, reason = "the Controller hands over what it asks about")]
fn after_failure(migration: Arc<MailMigration>, failure: &Failure, context: Arc<Context>) -> Action {
    let uid = migration.uid().unwrap_or_default();
    let count = context.memory.count_refusal(&uid, true);
    let wait = Duration::from_secs(1).saturating_mul(1 << count.saturating_sub(1).min(6));
    warn!(migration = migration.name_any(), failure = %failure.sentence(), causes = ?failure.causes, "a turn failed and is tried again in {wait:?}");
    Action::requeue(wait)
}

/// Adds up what Prometheus sees, and forgets what is over.
async fn survey(contexts: Vec<Arc<Context>>, metrics: Arc<Metrics>, term: Term) {
    let mut every = tokio::time::interval(SURVEY);
    loop {
        every.tick().await;
        if !term.holds() {
            continue;
        }
        let mut survey = Survey::default();
        for context in &contexts {
            for migration in context.stores.migrations.state() {
                survey.add_migration(migration.status.as_ref());
            }
            for mailbox in context.stores.mailboxes.state() {
                survey.add_mailbox(mailbox.status.as_ref());
            }
            context.memory.forget_but(&context.stores);
        }
        metrics.show(&survey);
    }
}
