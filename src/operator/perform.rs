//! Turns the decision's steps into Jobs, ends those that the decision forbids, and takes away what is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tracing::info;

use super::jobs::Order;
use super::known::{Course, KnownJob, unbegun};
use super::launch;
use super::observe::{metric_kind, parts_of};
use super::obstacles;
use super::platform::{ClusterPlatform, Context};
use crate::api::MailMigration;
use crate::cluster::objects::{Kind, LABEL_DOMAIN_DIGEST, LABEL_TASK, digest, job_name, of_migration};
use crate::cluster::refused;
use crate::cluster::work::{Item, Task, Work};
use crate::model::address::Address;
use crate::model::endpoint::Endpoint;
use crate::model::failure::Result;
use crate::plan::mailboxes::{PlannedMailbox, tells_of_strays};
use crate::plan::{Decision, Step};

/// Discovery Jobs of all migrations together.
const DISCOVERIES_MAX: usize = 16;
/// Sync Jobs of one domain: one for the many, one for those that come later or are tried again.
const SYNCS_MAX: usize = 2;
/// Mailboxes of one Job; its work list must fit a ConfigMap.
const MAILBOXES_MAX: usize = 5_000;

impl ClusterPlatform {
    /// Ends Jobs that do what is not wanted any more. A wrong destination is written to for no moment longer.
    pub(super) async fn stop_outdated(
        &mut self,
        migration: &MailMigration,
        decision: &Decision,
    ) -> Result<()> {
        let spec = &migration.spec;
        let mut wanted: BTreeMap<(Kind, String), (String, BTreeSet<&Address>)> = BTreeMap::new();
        for domain in &spec.domains {
            let key = digest(&[&domain.name]);
            let seen = self.observed.domains.get(&domain.name);
            let planned =
                seen.map(|seen| seen.planned().iter().map(|p| &p.source).collect()).unwrap_or_default();
            let discover = self.context.settings.discovery_inputs(spec, domain);
            wanted.insert((Kind::Discover, key.clone()), (discover, BTreeSet::new()));
            wanted.insert((Kind::Sync, key), (self.context.settings.sync_inputs(spec, domain), planned));
        }
        let outdated = |job: &KnownJob| {
            let Some((inputs, planned)) = wanted.get(&(job.kind, job.domain.clone())) else { return true };
            let gone = |mailbox: &Address| {
                // Until discovery has told the list, nobody knows who is on it.
                !planned.is_empty() && !planned.contains(mailbox)
            };
            job.inputs != *inputs
                || spec.suspend
                || job.kind == Kind::Sync
                    && (decision.halt || job.number != self.observed.pass || job.mailboxes.iter().any(gone))
        };
        let stopped: Vec<KnownJob> = self
            .jobs
            .iter()
            .filter(|job| matches!(job.course(), Course::Active | Course::Waiting))
            .filter(|job| outdated(job) || self.starts_otherwise_now(migration, job))
            .cloned()
            .collect();
        for job in &stopped {
            info!(job = job.job.name_any(), "the Job is ended: it does what is not wanted any more");
            launch::end(&self.context.client, &job.job).await?;
        }
        let ended: BTreeSet<_> = stopped.iter().filter_map(|job| job.job.uid()).collect();
        for job in &mut self.jobs {
            if job.job.uid().is_some_and(|uid| ended.contains(&uid)) {
                let mut ending = (*job.job).clone();
                ending.metadata.deletion_timestamp = ending.metadata.creation_timestamp.clone();
                job.job = Arc::new(ending);
            }
        }
        Ok(())
    }

    /// Whether a Job's pods cannot start or live, and the installation makes them otherwise by now. Where its pods do well,
    /// that is no reason to disturb them.
    fn starts_otherwise_now(&self, migration: &MailMigration, job: &KnownJob) -> bool {
        job.course() == Course::Active && !job.is_made_by(&self.context.settings) && {
            let pods = self.context.stores.pods_of(migration);
            let now = self.context.clock.now();
            !obstacles::find(std::iter::once(&*job.job), pods.iter().map(|pod| &**pod), now).is_empty()
        }
    }

    /// Whether workers are there that none of our Jobs has made: those of a migration of the same name that was deleted
    /// a moment ago, and that may still be sending.
    fn predecessor_works(&self, migration: &MailMigration) -> bool {
        let ours: BTreeSet<_> = self.jobs.iter().filter_map(|job| job.job.uid()).collect();
        self.context.stores.pods_of(migration).iter().any(|pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            let over = matches!(phase, Some("Succeeded" | "Failed"));
            !over && !pod.owner_references().iter().any(|owner| ours.contains(&owner.uid))
        })
    }

    /// Ends all Jobs when the namespace is being deleted; whether it is. Kubernetes then deletes pods first and waits for
    /// them, and a Job lets go of a pod that failed only when it has made the next one, which it may not any more: without
    /// this both would wait for ever.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn end_with_namespace(&self, migration: &MailMigration) -> Result<bool> {
        let Context { client, stores, .. } = &*self.context;
        let deleted = |pod: &Arc<Pod>| pod.metadata.deletion_timestamp.is_some();
        if !stores.pods_of(migration).iter().any(deleted)
            || !launch::is_being_deleted(client, &self.namespace).await?
        {
            return Ok(false);
        }
        self.check_term()?;
        for job in stores.jobs_of(migration) {
            launch::end(client, &job).await?;
        }
        Ok(true)
    }

    /// Begins the decision's steps, as far as there is room.
    pub(super) async fn begin_steps(&mut self, migration: &MailMigration, decision: &Decision) -> Result<()> {
        if !decision.steps.is_empty() && self.predecessor_works(migration) {
            self.soon = Some(std::time::Duration::from_secs(2));
            return Ok(());
        }
        let mut syncs: BTreeMap<usize, Vec<(PlannedMailbox, Endpoint)>> = BTreeMap::new();
        for step in &decision.steps {
            match step {
                Step::Discover { domain } => self.begin_discovery(migration, *domain).await?,
                // A worker can tell only of mailboxes that have an object.
                Step::Sync { .. } if self.unmade => {}
                Step::Sync { domain, mailbox, endpoint } => {
                    syncs.entry(*domain).or_default().push((mailbox.clone(), endpoint.clone()));
                }
            }
        }
        for (domain, mailboxes) in syncs {
            self.begin_sync(migration, domain, mailboxes).await?;
        }
        Ok(())
    }

    fn work(&self, migration: &MailMigration, job: String, domain: usize, share: Share, task: Task) -> Work {
        let mut spec = self.context.settings.bounded(&migration.spec);
        let tells = matches!(task, Task::Discover { .. }) && tells_of_strays(&spec, domain);
        let siblings = tells.then(|| spec.domains.iter().map(|domain| domain.name.clone()).collect());
        let limits = &mut spec.policy.limits;
        limits.bytes_per_second = limits.bytes_per_second.map(|all| (all / u64::from(share.pods)).max(1));
        spec.domains = vec![spec.domains.swap_remove(domain)];
        let mut wanted = MailMigration::new(&self.name, spec);
        wanted.metadata.namespace = migration.namespace();
        wanted.metadata.uid = migration.uid();
        wanted.metadata.generation = migration.metadata.generation;
        Work {
            job,
            migration: wanted,
            domain,
            siblings,
            resolver: self.context.settings.resolver,
            per_host_connections: share.per_host,
            task,
        }
    }

    async fn begin_discovery(&mut self, migration: &MailMigration, at: usize) -> Result<()> {
        let active = self.context.stores.jobs.state_filter(|job| {
            let known = KnownJob::read(Arc::new(job.clone()));
            known.is_some_and(|known| known.kind == Kind::Discover && known.course() == Course::Active)
        });
        if active.len() >= DISCOVERIES_MAX {
            self.soon = Some(std::time::Duration::from_secs(5));
            return Ok(());
        }
        let domain = &migration.spec.domains[at];
        let key = digest(&[&domain.name]);
        if self
            .jobs
            .iter()
            .any(|job| job.kind == Kind::Discover && job.domain == key && job.course() == Course::Ending)
        {
            // Its end calls for another turn.
            return Ok(());
        }
        let inputs = self.context.settings.discovery_inputs(&migration.spec, domain);
        let round = self.observed.domains.get(&domain.name).map_or(0, |seen| seen.round) + 1;
        let uid = migration.uid().unwrap_or_default();
        let results = parts_of(&self.name, domain);
        // What was written last is part of the name: when the spec is set to something else and back, what stands there
        // is the answer to something else. So are the pods' settings: a Job that failed under others is made anew.
        let version = self.context.stores.version_of(&self.namespace, &results[0]).unwrap_or_default();
        let pods = self.context.settings.of_pods();
        let inputs_now = [uid.as_str(), &domain.name, &inputs, &round.to_string(), &version, &pods];
        let name = unbegun(&self.jobs, &key, &inputs, round)
            .unwrap_or_else(|| job_name(&self.name, Kind::Discover, &inputs_now));
        let seen = self.observed.domains.get(&domain.name).and_then(|seen| seen.discovery.as_ref());
        let before = seen.map(|seen| seen.read_from()).unwrap_or_default();
        let task = Task::Discover { inputs: inputs.clone(), round, results: results.clone(), before };
        let alone = Share { pods: 1, per_host: migration.spec.policy.limits.per_host_connections };
        let work = self.work(migration, name.clone(), at, alone, task);
        let order = Order {
            migration,
            name,
            kind: Kind::Discover,
            inputs: &inputs,
            number: round,
            work: &work,
            slices: 1,
            parallelism: 1,
            results: results.into_iter().collect(),
            mailboxes: BTreeSet::new(),
        };
        self.begin(&order).await
    }

    async fn begin_sync(
        &mut self,
        migration: &MailMigration,
        at: usize,
        mut mailboxes: Vec<(PlannedMailbox, Endpoint)>,
    ) -> Result<()> {
        let spec = &migration.spec;
        let domain = &spec.domains[at];
        let key = digest(&[&domain.name]);
        let of_domain = || self.jobs.iter().filter(|job| job.kind == Kind::Sync && job.domain == key);
        let active = of_domain().filter(|job| job.course() == Course::Active).count();
        // Pods of a Job that is being taken away may still be sending.
        if of_domain().any(|job| job.course() == Course::Ending) || active >= SYNCS_MAX {
            return Ok(());
        }
        mailboxes.retain(|(mailbox, _)| !self.is_beside(mailbox));
        if mailboxes.is_empty() {
            return Ok(());
        }
        mailboxes.truncate(MAILBOXES_MAX);
        let inputs = self.context.settings.sync_inputs(spec, domain);
        let pass = self.observed.pass;
        let seen = self.observed.domains.get(&domain.name);
        let places: BTreeMap<&Address, usize> = seen
            .iter()
            .flat_map(|seen| seen.planned().iter().enumerate().map(|(n, p)| (&p.source, n)))
            .collect();
        let items: Vec<Item> = mailboxes
            .into_iter()
            .map(|(mailbox, endpoint)| {
                let place = places.get(&mailbox.source).copied().unwrap_or_default();
                let (object, results) = self.object_of(&domain.name, place, &mailbox);
                let size = seen.and_then(|seen| seen.find(&mailbox.source)?.size.clone());
                Item { object, results, mailbox, endpoint, size }
            })
            .collect();
        // What makes two orders the same: that they are the same attempts at the same mailboxes.
        let attempts: Vec<String> = items
            .iter()
            .map(|item| {
                let known = self.observed.mailboxes.get(&item.mailbox.source).map(|m| &m.record);
                let made = known.filter(|record| record.pass == pass).map_or(0, |record| record.attempts);
                format!("{} {made}", item.mailbox.source)
            })
            .collect();
        let uid = migration.uid().unwrap_or_default();
        let name = job_name(
            &self.name,
            Kind::Sync,
            &[
                &uid,
                &domain.name,
                &inputs,
                &pass.to_string(),
                &attempts.join("\n"),
                &self.context.settings.of_pods(),
            ],
        );
        let shape = Shape::of(migration, items.len());
        let (results, objects) = (
            items.iter().map(|item| item.results.clone()).collect(),
            items.iter().map(|item| item.object.clone()).collect(),
        );
        let slices: Vec<Vec<Item>> = items.chunks(shape.slice).map(<[Item]>::to_vec).collect();
        let count = slices.len();
        // Domains are carried side by side; what one of them leaves of the pace when it is through is left.
        let domains = u32::try_from(spec.domains.len()).unwrap_or(u32::MAX).max(1);
        let each = Share { pods: shape.pods.saturating_mul(domains), per_host: shape.per_host };
        let work = self.work(migration, name.clone(), at, each, Task::Sync { pass, slices });
        let order = Order {
            migration,
            name,
            kind: Kind::Sync,
            inputs: &inputs,
            number: pass,
            work: &work,
            slices: count,
            parallelism: shape.pods,
            results,
            mailboxes: objects,
        };
        self.begin(&order).await
    }

    /// Whether a pod may still be sending another mailbox to the same destination: one that failed may be tried again by
    /// the pod itself, and pods of a Job that is being taken away live on for a while. A Job's end calls for another turn.
    fn is_beside(&self, mailbox: &PlannedMailbox) -> bool {
        let through = |other: &Address| {
            self.observed.mailboxes.get(other).is_some_and(|known| known.record.finished(self.observed.pass))
        };
        mailbox.beside.iter().any(|other| {
            self.jobs.iter().any(|job| {
                job.mailboxes.contains(other)
                    && match job.course() {
                        Course::Active => !through(other),
                        course => course == Course::Ending,
                    }
            })
        })
    }

    async fn begin(&mut self, order: &Order<'_>) -> Result<()> {
        if self.is_behind(order).await? {
            self.soon = Some(std::time::Duration::from_secs(1));
            return Ok(());
        }
        self.check_term()?;
        if launch::begin(&self.context.client, &self.context.settings, order).await? {
            info!(job = order.name, slices = order.slices, "a Job is begun");
            self.context.metrics.job_created(metric_kind(order.kind));
        }
        Ok(())
    }

    /// Whether there are Jobs that our copies do not show yet: what they carry must not be begun a second time.
    async fn is_behind(&self, order: &Order<'_>) -> Result<bool> {
        let domain = digest(&[&order.migration.spec.domains[order.work.domain].name]);
        let (migration, task) = (of_migration(&self.name), order.kind.as_str());
        let ours = format!("{migration},{LABEL_TASK}={task},{LABEL_DOMAIN_DIGEST}={domain}");
        let api: Api<Job> = Api::namespaced(self.context.client.clone(), &self.namespace);
        let there = api
            .list_metadata(&ListParams::default().labels(&ours))
            .await
            .map_err(|e| refused("the Jobs cannot be listed", &e))?;
        let known: BTreeSet<_> = self.jobs.iter().filter_map(|job| job.job.uid()).collect();
        // What nobody owns was left behind on purpose, and stays.
        let mut owned = there.items.iter().filter(|job| !job.owner_references().is_empty());
        Ok(owned.any(|job| job.uid().is_none_or(|uid| !known.contains(&uid))))
    }

    /// Takes away Jobs that are over and have a successor or no domain any more, and Jobs that were never begun and are not
    /// wanted now. The last Job of each kind and domain stays to be looked at.
    pub(super) async fn prune(&mut self, migration: &MailMigration) -> Result<()> {
        let domains: BTreeSet<String> =
            migration.spec.domains.iter().map(|domain| digest(&[&domain.name])).collect();
        let mut newest: BTreeMap<(Kind, &str), &KnownJob> = BTreeMap::new();
        for job in self.jobs.iter().filter(|job| domains.contains(&job.domain)) {
            let entry = newest.entry((job.kind, &job.domain)).or_insert(job);
            if (job.made(), job.number) > (entry.made(), entry.number) {
                *entry = job;
            }
        }
        let now = self.context.clock.now();
        for job in &self.jobs {
            let last =
                newest.get(&(job.kind, job.domain.as_str())).is_some_and(|n| n.job.uid() == job.job.uid());
            let forgotten = job.course() == Course::Waiting
                && now.duration_since(job.made()) > jiff::SignedDuration::from_mins(1);
            if job.is_finished() && !last || forgotten {
                launch::end(&self.context.client, &job.job).await?;
            }
        }
        Ok(())
    }
}

/// What one pod may take of what the migration may take.
#[derive(Debug, Clone, Copy)]
struct Share {
    /// Pods that may send at the same time.
    pods: u32,
    /// Connections to one host that one pod may hold.
    per_host: u32,
}

/// How mailboxes are parted among pods.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    /// Mailboxes of one pod.
    slice: usize,
    /// Pods at a time.
    pods: u32,
    /// Connections to one host that one pod may hold.
    per_host: u32,
}

impl Shape {
    /// As many pods as the limit of connections to a host leaves something to do: a mailbox holds two, since its source
    /// and its destination may be the same host.
    fn of(migration: &MailMigration, mailboxes: usize) -> Self {
        let spec = &migration.spec;
        let limit = spec.policy.limits.per_host_connections.max(2);
        let at_once = limit / 2;
        let pods = spec.workers.parallelism.min(at_once.div_ceil(spec.workers.concurrency.max(1))).max(1);
        let each = mailboxes.div_ceil(pods as usize).max(1);
        let slice = each.min(spec.workers.mailboxes_per_worker as usize).max(1);
        let pods = pods.min(u32::try_from(mailboxes.div_ceil(slice)).unwrap_or(u32::MAX)).max(1);
        Self { slice, pods, per_host: (limit / pods).max(2) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pods_together_keep_the_limit_of_a_host() {
        let table = [
            // mailboxes, connections to a host, parallelism, concurrency: slice, pods, connections of a pod
            ((6, 8, 4, 4), (6, 1, 8)),
            ((6, 32, 4, 4), (2, 3, 10)),
            ((5_000, 64, 8, 4), (50, 8, 8)),
            ((1, 64, 64, 1), (1, 1, 64)),
            ((100, 1, 4, 4), (50, 1, 2)),
        ];
        for ((mailboxes, limit, parallelism, concurrency), (slice, pods, per_host)) in table {
            let mut migration = MailMigration::new(
                "m",
                serde_json::from_value(serde_json::json!({
                    "destination": {"imap": {"host": "imap.new.test", "credentialsRef": {"name": "new"}}},
                    "domains": [],
                    "policy": {"limits": {"perHostConnections": limit}},
                    "workers": {"parallelism": parallelism, "concurrency": concurrency},
                }))
                .unwrap(),
            );
            migration.spec.workers.mailboxes_per_worker = 50;
            let shape = Shape::of(&migration, mailboxes);
            assert_eq!(shape, Shape { slice, pods, per_host }, "{mailboxes} mailboxes, {limit} connections");
        }
    }
}
