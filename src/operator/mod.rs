//! The operator: the platform of a cluster. It opens no mail connection and reads no Secret.
//!
//! Each change of anything that belongs to a MailMigration gives it a turn; a turn goes through [`reconcile`] once. All
//! the data that it needs to go on is in the API server, so an operator may be ended at any moment and another goes on.

pub mod election;
mod gather;
pub mod jobs;
pub mod known;
pub mod launch;
pub mod lease;
pub mod metrics;
mod observe;
pub mod obstacles;
pub mod outdated;
mod perform;
pub mod places;
pub mod platform;
mod publish;
pub mod readiness;
pub mod requests;
pub mod serve;
pub mod settings;
mod shape;
pub mod shares;
pub mod stores;
pub mod unreadable;
pub mod watched;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use kube::client::ClientBuilder;
use kube::runtime::controller::Action;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt};
use tracing::{info, warn};

use self::lease::{Lease, Term};
use self::metrics::{Metrics, Survey};
use self::platform::{ClusterPlatform, Context, Memory};
use self::requests::CountRequests;
use self::serve::{Pulse, Server};
use self::settings::Settings;
use self::shares::{SpreadRequests, Turns};
use self::stores::{Stores, watch};
use self::watched::Wanted;
use crate::api::rules;
use crate::model::clock::Clock;
use crate::model::failure::{Class, Failure, Result};
use crate::reconcile::reconcile;

/// The longest time between two turns of a migration at which something may still happen.
const LONGEST: Duration = Duration::from_mins(5);
/// How often metrics are added up.
const SURVEY: Duration = Duration::from_secs(15);

/// The arguments with which the operator is started.
pub struct Start {
    /// Decisions of the installation for all migrations.
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
    /// The memory that this process may use, in bytes: half of it is shared out among namespaces.
    pub memory: u64,
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
    let Start { settings, namespaces, lease_namespace, lease_name, identity, clock, memory, .. } = start;
    let scopes: Vec<_> =
        if namespaces.is_empty() { vec![None] } else { namespaces.into_iter().map(Some).collect() };
    let lease = Lease::new(client.clone(), &lease_namespace, &lease_name, &identity, Arc::clone(&clock))?;
    let reading = Arc::clone(pulse.reading());
    let telling = async { reading.tell().await };
    let mut telling = std::pin::pin!(telling);
    let begin = async {
        reach(&client).await;
        pulse.reached();
        // A replica on standby is as ready as one that leads: it could read everything, and waits for its turn alone.
        reading.wait_until_readable(&client, &scopes).await;
        pulse.synced();
        lease.hold().await
    };
    let mut held = tokio::select! {
        held = begin => held?,
        () = &mut telling => return Ok(()),
        () = &mut stop => return Ok(()),
    };
    metrics.lead(true);
    pulse.lead(true);
    let recorder = Recorder::new(
        client.clone(),
        Reporter { controller: "mailferry".to_owned(), instance: Some(identity) },
    );
    let at_once = Arc::new(Turns::default());
    let memory = Arc::new(Memory::of(memory));
    let contexts: Vec<_> = scopes
        .iter()
        .map(|namespace| {
            let (stores, controller) = watch(&client, namespace.as_deref(), &reading);
            let context = Context {
                client: client.clone(),
                settings: settings.clone(),
                stores,
                metrics: Arc::clone(metrics),
                recorder: recorder.clone(),
                term: held.term(),
                turns: Arc::clone(&at_once),
                clock: Arc::clone(&clock),
                memory: Arc::clone(&memory),
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
        () = &mut telling => Ok(()),
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
    let spread = SpreadRequests::new(Arc::clone(metrics));
    Ok(builder.with_layer(&CountRequests::new(Arc::clone(metrics))).with_layer(&spread).build())
}

/// Waits until the API server answers.
async fn reach(client: &Client) {
    while let Err(error) = client.apiserver_version().await {
        warn!(%error, "the API server does not answer yet");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// One turn of one migration.
async fn turn(wanted: Arc<Wanted>, context: Arc<Context>) -> Result<Action> {
    if wanted.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    // With half a copy, mail that was carried long ago would look as if nobody had touched it.
    if !context.stores.ready().await {
        return Err(Failure::new(Class::Interrupted, "nothing is watched any more"));
    }
    let namespace = wanted.namespace().unwrap_or_default();
    let waiting = context.metrics.wait_for_turn();
    let turn = context.turns.take(&namespace).await;
    drop(waiting);
    let _turn = turn?;
    // It may have gone while it waited.
    if context.stores.migrations.get(&ObjectRef::from_obj(&*wanted)).is_none() {
        return Ok(Action::await_change());
    }
    let begun = tokio::time::Instant::now();
    let outcome = attempt(&wanted, &context).await;
    let failed = outcome.as_ref().err().map(|failure: &Failure| failure.class);
    context.metrics.reconciled(failed, begun.elapsed());
    if failed.is_none() {
        context.memory.count_refusal(&wanted.uid().unwrap_or_default(), false);
    }
    outcome
}

async fn attempt(wanted: &Wanted, context: &Arc<Context>) -> Result<Action> {
    let (namespace, name) = (wanted.namespace().unwrap_or_default(), wanted.name_any());
    // No spec is kept in memory, and one that cannot be read is its own trouble alone.
    let found = unreadable::fetch(&context.client, &namespace, &name).await?;
    let Some(found) = found else { return Ok(Action::await_change()) };
    let mut migration = match found.read() {
        Ok(migration) => migration,
        Err(failure) => {
            let migration = found.as_far_as_readable()?;
            let mut platform = ClusterPlatform::new(context, &migration);
            platform.end_if_suspended(&migration, found.is_suspended()).await?;
            platform.tell_stalled(&migration, &failure).await?;
            return Ok(Action::await_change());
        }
    };
    if migration.metadata.deletion_timestamp.is_some() || migration.uid() != wanted.uid() {
        return Ok(Action::await_change());
    }
    let mut platform = ClusterPlatform::new(context, &migration);
    if platform.end_with_namespace(&migration).await? {
        return Ok(Action::await_change());
    }
    let mut broken = rules::check(&migration.spec);
    broken.extend(rules::check_in_cluster(&migration.spec));
    if let Some(first) = broken.first() {
        let remedy = first.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        let failure = Failure::configuration(format!("{}: {}{remedy}", first.path, first.what));
        platform.end_if_suspended(&migration, migration.spec.suspend).await?;
        platform.tell_stalled(&migration, &failure).await?;
        return Ok(Action::await_change());
    }
    let decided = reconcile(&mut platform, &mut migration).await;
    platform.keep_survey(&migration);
    let decision = match decided {
        Ok(decision) => decision,
        // Faults that only a person can mend are told where people look.
        Err(failure) if failure.class == Class::Configuration && !platform.has_told() => {
            platform.tell_stalled(&migration, &failure).await?;
            return Err(failure);
        }
        Err(failure) => return Err(failure),
    };
    let wake = decision.wake.map(|wake| {
        let left = wake.duration_since(context.clock.now());
        Duration::try_from(left).unwrap_or_default() + Duration::from_millis(100)
    });
    let wait = [wake, platform.soon()].into_iter().flatten().min().unwrap_or(LONGEST).min(LONGEST);
    Ok(Action::requeue(wait))
}

/// When a turn is tried again that failed: soon at first, later each time.
#[allow(clippy::needless_pass_by_value, reason = "the Controller hands over what it asks about")]
fn after_failure(migration: Arc<Wanted>, failure: &Failure, context: Arc<Context>) -> Action {
    let uid = migration.uid().unwrap_or_default();
    let count = context.memory.count_refusal(&uid, true);
    let wait = Duration::from_secs(1).saturating_mul(1 << count.saturating_sub(1).min(6));
    warn!(migration = migration.name_any(), namespace = migration.namespace(), failure = %failure.sentence(), causes = ?failure.causes, "a turn failed and is tried again in {wait:?}");
    Action::requeue(wait)
}

/// Adds up what Prometheus sees, and forgets what is over.
async fn survey(contexts: Vec<Arc<Context>>, metrics: Arc<Metrics>, term: Term) {
    let mut every = tokio::time::interval(SURVEY);
    let Some(memory) = contexts.first().map(|context| Arc::clone(&context.memory)) else { return };
    let stores: Vec<_> = contexts.iter().map(|context| context.stores.clone()).collect();
    loop {
        every.tick().await;
        if !term.holds() {
            continue;
        }
        let mut survey = Survey::default();
        for stores in &stores {
            for migration in stores.migrations.state() {
                match memory.survey(&migration.uid().unwrap_or_default()) {
                    Some(known) => survey.add(&known),
                    None => survey.add_migration(None),
                }
            }
            for mailbox in stores.mailboxes.state() {
                survey.add_mailbox(mailbox.status.as_ref());
            }
        }
        memory.forget_but(&stores);
        metrics.show(&survey);
    }
}
