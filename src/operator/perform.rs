//! Turns the decision's steps into Jobs, ends those that the decision forbids, and takes away what is over.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tracing::info;

use super::jobs::Order;
use super::known::{Course, KnownJob, unbegun};
use super::launch::{self, Volume};
use super::metrics::Wait;
use super::observe::{metric_kind, parts_of};
use super::obstacles;
use super::outdated::{Wish, carries_what_is_gone, is_kept_by_others};
use super::places::{Budget, PLACES, at_work, holds_place};
use super::platform::{ClusterPlatform, Context};
use super::shape::{Shape, Share};
use super::stores::job_of;
use crate::api::MailMigration;
use crate::cluster::objects::{
    Kind, LABEL_DOMAIN_DIGEST, LABEL_TASK, digest, job_name, ledger_claim, of_migration,
};
use crate::cluster::refused;
use crate::cluster::work::{Item, Task, Work, route};
use crate::model::address::Address;
use crate::model::endpoint::Endpoint;
use crate::model::failure::{Class, Failure, Result};
use crate::model::purpose::Purpose;
use crate::plan::mailboxes::{PlannedMailbox, tells_of_strays};
use crate::plan::{Decision, Step};

/// Jobs of one domain and purpose that go through mailboxes: one for the many, one for those that come later or are tried
/// again.
const SYNCS_MAX: usize = 2;
/// Mailboxes of one Job; its work list must fit a ConfigMap.
const MAILBOXES_MAX: usize = 5_000;

impl ClusterPlatform {
    /// Ends Jobs that the spec alone forbids. Nothing else is looked at for it, and so nothing else can keep it from being done.
    pub(super) async fn end_unwanted(&mut self, migration: &MailMigration) -> Result<()> {
        let wish = Wish::of(migration, &self.inputs);
        self.end_jobs(|job| wish.forbids(job)).await
    }

    /// Ends Jobs that write, where the last known plan is not the approved one and the current one cannot be found out.
    pub(super) async fn end_unapproved(&mut self, migration: &MailMigration) -> Result<()> {
        let Some(wanted) = &migration.spec.approved_plan else { return Ok(()) };
        let stood = migration.status.as_ref().and_then(|status| status.plan.as_ref());
        if stood.is_some_and(|plan| plan.digest == *wanted) {
            return Ok(());
        }
        self.end_jobs(|job| job.kind.has_mailboxes()).await
    }

    /// Ends Jobs that do what the decision does not want any more, and those that would never come to their end.
    pub(super) async fn end_outdated(
        &mut self,
        migration: &MailMigration,
        decision: &Decision,
    ) -> Result<()> {
        let observed = Arc::clone(&self.observed);
        let lists: HashMap<String, HashMap<&Address, u64>> = migration
            .spec
            .domains
            .iter()
            .map(|domain| {
                let planned = observed.domains.get(&domain.name).map_or(&[][..], |seen| seen.planned());
                let routes = planned.iter().map(|p| (&p.source, route(&p.destination, &p.login_name)));
                (digest(&[&domain.name]), routes.collect())
            })
            .collect();
        let pods = self.context.stores.pods_of(&self.namespace, &self.name);
        let (context, now) = (Arc::clone(&self.context), self.context.clock.now());
        self.end_jobs(|job| {
            let gone = lists.get(&job.domain).is_none_or(|planned| carries_what_is_gone(job, planned));
            let pods = || pods.iter().map(|pod| &**pod);
            // Where its pods do well, that they would be made otherwise now is not a reason to disturb them.
            let starts_otherwise = || {
                job.course() == Course::Active
                    && !job.is_made_by(&context.settings)
                    && !obstacles::find(std::iter::once(&*job.job), pods(), now).is_empty()
            };
            job.kind.has_mailboxes() && (decision.halt || gone)
                || starts_otherwise()
                || is_kept_by_others(job, pods(), now)
        })
        .await
    }

    /// Ends those Jobs of this migration that are at work or wait for it. One that cannot be ended keeps no other.
    pub(super) async fn end_jobs(&mut self, forbidden: impl Fn(&KnownJob) -> bool) -> Result<()> {
        let stopped: Vec<KnownJob> = self
            .jobs
            .iter()
            .filter(|job| matches!(job.course(), Course::Active | Course::Waiting) && forbidden(job))
            .cloned()
            .collect();
        self.end_these(&stopped, "the Job is ended: it does what is not wanted any more").await
    }

    async fn end_these(&mut self, stopped: &[KnownJob], why: &str) -> Result<()> {
        if stopped.is_empty() {
            return Ok(());
        }
        self.check_term()?;
        let mut ended = BTreeSet::new();
        let mut first = Ok(());
        for job in stopped {
            info!(job = job.job.name_any(), "{why}");
            match launch::end(&self.context.client, &job.job).await {
                Ok(()) => ended.extend(job.job.uid()),
                Err(failure) => first = first.and(Err(failure)),
            }
        }
        for job in &mut self.jobs {
            if job.job.uid().is_some_and(|uid| ended.contains(&uid)) {
                let mut ending = (*job.job).clone();
                ending.metadata.deletion_timestamp = ending.metadata.creation_timestamp.clone();
                job.job = Arc::new(ending);
            }
        }
        first
    }

    /// A pod that none of our Jobs has made and that may still be sending: that of a migration of the same name that was
    /// deleted a moment ago.
    pub(super) fn predecessor(&self) -> Option<Arc<Pod>> {
        let ours: BTreeSet<_> = self.jobs.iter().filter_map(|job| job.job.metadata.uid.as_deref()).collect();
        self.context.stores.pods_of(&self.namespace, &self.name).into_iter().find(|pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            let over = matches!(phase, Some("Succeeded" | "Failed"));
            !over && job_of(pod).is_some_and(|job| !ours.contains(job))
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
        if !stores.pods_of(&self.namespace, &self.name).iter().any(deleted)
            || !launch::is_being_deleted(client, &self.namespace).await?
        {
            return Ok(false);
        }
        self.check_term()?;
        for job in stores.jobs_of(&self.namespace, &migration.uid().unwrap_or_default()) {
            launch::end(client, &job).await?;
        }
        Ok(true)
    }

    /// The places for discovery that are left: the fewer of those of the namespace and those of this migration. Only Jobs of
    /// migrations that are there count; what somebody else labelled like ours does not.
    pub(super) fn places_left(&self) -> usize {
        let stores = &self.context.stores;
        let now = self.context.clock.now();
        let pods = stores.pods.state_filter(|pod| pod.namespace().as_ref() == Some(&self.namespace));
        let working = at_work(pods.iter().map(|pod| &**pod));
        let known: BTreeSet<String> = stores
            .migrations
            .state_filter(|migration| migration.namespace().as_ref() == Some(&self.namespace))
            .iter()
            .filter_map(|migration| migration.uid())
            .collect();
        let of_known = |job: &Job| {
            job.namespace().as_ref() == Some(&self.namespace)
                && job.owner_references().iter().any(|owner| known.contains(&owner.uid))
        };
        let all = stores.jobs.state_filter(of_known);
        let held =
            all.into_iter().filter_map(KnownJob::read).filter(|job| holds_place(job, &working, now)).count();
        let own = self.looking().count();
        PLACES.saturating_sub(held.max(own))
    }

    /// This migration's Jobs of discovery that go on.
    pub(super) fn looking(&self) -> impl Iterator<Item = &KnownJob> {
        self.jobs.iter().filter(|job| job.kind == Kind::Discover && job.course() == Course::Active)
    }

    fn budget(&self, migration: &MailMigration) -> Budget {
        let rounds: HashMap<String, u32> =
            self.observed.domains.iter().map(|(name, seen)| (digest(&[name]), seen.round)).collect();
        let through = |job: &KnownJob| {
            job.kind == Kind::Discover && rounds.get(&job.domain).is_some_and(|round| *round >= job.number)
        };
        let limit = migration.spec.policy.limits.per_host_connections;
        Budget::of(limit, self.jobs.iter(), through)
    }

    /// Begins the decision's steps, as far as there is room. A step that fails keeps no other.
    pub(super) async fn begin_steps(&mut self, migration: &MailMigration, decision: &Decision) -> Result<()> {
        if decision.steps.is_empty() {
            return Ok(());
        }
        if self.predecessor().is_some() {
            self.soon = Some(std::time::Duration::from_secs(2));
            return Ok(());
        }
        let mut looks = Vec::new();
        let mut syncs: BTreeMap<(Purpose, usize), Vec<(PlannedMailbox, Endpoint)>> = BTreeMap::new();
        for step in &decision.steps {
            match step {
                Step::Discover { domain } => looks.push(*domain),
                // A worker can tell only of mailboxes that have an object.
                Step::Sync { mailbox, .. } if self.unmade || self.untold.contains(&mailbox.source) => {}
                Step::Sync { domain, mailbox, endpoint, purpose } => {
                    let of_job = syncs.entry((*purpose, *domain)).or_default();
                    of_job.push((mailbox.clone(), endpoint.clone()));
                }
            }
        }
        let mut budget = self.budget(migration);
        let (mut waiting, mut places) = (looks.len(), 0);
        if waiting > 0 {
            places = self.places_left();
        }
        for domain in looks {
            if places == 0 {
                // The end of a Job of another migration does not call for a turn of this one.
                self.soon = Some(std::time::Duration::from_secs(5));
                self.waits.push(Wait::Place);
                break;
            }
            let Some(share) = budget.share(true, waiting.min(places)) else {
                self.waits.push(Wait::Connections);
                break;
            };
            waiting -= 1;
            match Box::pin(self.begin_discovery(migration, domain, share)).await {
                Ok(true) => {
                    budget.take(share);
                    places -= 1;
                }
                Ok(false) => {}
                Err(failure) => self.troubles.push(failure),
            }
        }
        let mut waiting = syncs.len();
        for ((purpose, domain), mailboxes) in syncs {
            let what = (purpose, domain);
            match Box::pin(self.begin_sync(migration, what, mailboxes, &mut budget, waiting)).await {
                Ok(()) => {}
                Err(failure) => self.troubles.push(failure),
            }
            waiting -= 1;
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
            barred_networks: self.context.settings.not_allowed(&migration.spec.policy.allowed_networks),
            per_host_connections: share.per_host,
            task,
        }
    }

    /// Begins to look at a domain, with so many connections to a host; whether it did.
    async fn begin_discovery(&mut self, migration: &MailMigration, at: usize, share: u32) -> Result<bool> {
        let domain = &migration.spec.domains[at];
        let key = digest(&[&domain.name]);
        if self.jobs_of(&key).any(|job| job.kind == Kind::Discover && job.course() == Course::Ending) {
            // Its end calls for another turn.
            return Ok(false);
        }
        let inputs = self.inputs.of_discovery(domain);
        let round = self.observed.domains.get(&domain.name).map_or(0, |seen| seen.round) + 1;
        let uid = migration.uid().unwrap_or_default();
        let results = parts_of(&self.name, domain);
        // The text written last is part of the name: when the spec is set to something else and back, the text there is
        // the answer to something else. So are the pods' settings: a Job that failed under others is made anew.
        let version = self.context.stores.version_of(&self.namespace, &results[0]).unwrap_or_default();
        let pods = self.context.settings.of_pods();
        let inputs_now = [uid.as_str(), &domain.name, &inputs, &round.to_string(), &version, &pods];
        let name = unbegun(&self.jobs, &key, &inputs, round)
            .unwrap_or_else(|| job_name(&self.name, Kind::Discover, &inputs_now));
        let seen = self.observed.domains.get(&domain.name).and_then(|seen| seen.discovery.as_ref());
        let before = seen.map(|seen| seen.read_from()).unwrap_or_default();
        let task = Task::Discover { inputs: inputs.clone(), round, results: results.clone(), before };
        let alone = Share { pods: 1, per_host: share };
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
            connections: share,
            results: results.into_iter().collect(),
            mailboxes: BTreeSet::new(),
        };
        self.begin(&order).await
    }

    /// Begins to go through mailboxes of a domain.
    async fn begin_sync(
        &mut self,
        migration: &MailMigration,
        (purpose, at): (Purpose, usize),
        mut mailboxes: Vec<(PlannedMailbox, Endpoint)>,
        budget: &mut Budget,
        waiting: usize,
    ) -> Result<()> {
        let spec = &migration.spec;
        let domain = &spec.domains[at];
        let key = digest(&[&domain.name]);
        let kind = Kind::from(purpose);
        let of_domain = || self.jobs_of(&key).filter(|job| job.kind.has_mailboxes());
        let active = of_domain().filter(|job| job.kind == kind && job.course() == Course::Active).count();
        // Pods of a Job that is being taken away may still be sending, or hold ledgers.
        if of_domain().any(|job| job.course() == Course::Ending) || active >= SYNCS_MAX {
            return Ok(());
        }
        mailboxes.retain(|(mailbox, _)| !self.is_beside(mailbox));
        if mailboxes.is_empty() {
            return Ok(());
        }
        let Some(connections) = budget.share(active > 0, waiting) else {
            // The end of the Job that holds them calls for another turn.
            self.waits.push(Wait::Connections);
            return Ok(());
        };
        mailboxes.truncate(MAILBOXES_MAX);
        let inputs = self.inputs.of_sync(domain);
        let (pass, verification) = (self.observed.pass, self.observed.verification);
        let number = match purpose {
            Purpose::Delta => pass,
            Purpose::Verify => verification,
        };
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
        // Two orders are the same when they are the same attempts at the same mailboxes. A verification is tried once.
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
            kind,
            &[
                &uid,
                &domain.name,
                &inputs,
                &number.to_string(),
                &attempts.join("\n"),
                &self.context.settings.of_pods(),
            ],
        );
        let shape = Shape::of(migration, items.len(), connections);
        let (results, objects) = (
            items.iter().map(|item| item.results.clone()).collect(),
            items.iter().map(|item| item.object.clone()).collect(),
        );
        let slices: Vec<Vec<Item>> = items.chunks(shape.slice).map(<[Item]>::to_vec).collect();
        let count = slices.len();
        // Domains are carried side by side; what one of them leaves of the pace when it is through is left.
        let domains = u32::try_from(spec.domains.len()).unwrap_or(u32::MAX).max(1);
        let each = Share { pods: shape.pods.saturating_mul(domains), per_host: shape.per_host };
        let task = Task::Sync { pass, purpose, verification, slices };
        let work = self.work(migration, name.clone(), at, each, task);
        let order = Order {
            migration,
            name,
            kind,
            inputs: &inputs,
            number,
            work: &work,
            slices: count,
            parallelism: shape.pods,
            connections: shape.pods.saturating_mul(shape.per_host),
            results,
            mailboxes: objects,
        };
        if self.begin(&order).await? {
            budget.take(order.connections);
        }
        Ok(())
    }

    /// Whether a pod may still be sending another mailbox to the same destination: one that failed may be tried again by
    /// the pod itself, and pods of a Job that is being taken away live on for a while. A Job's end calls for another turn.
    fn is_beside(&self, mailbox: &PlannedMailbox) -> bool {
        let through = |job: &KnownJob, other: &Address| {
            self.observed.mailboxes.get(other).is_some_and(|known| match job.kind {
                Kind::Verify => known.record.verification_number >= job.number,
                _ => known.record.finished(self.observed.pass),
            })
        };
        mailbox.beside.iter().any(|other| {
            self.jobs.iter().any(|job| {
                job.mailboxes.contains_key(other)
                    && match job.course() {
                        Course::Active => !through(job, other),
                        course => course == Course::Ending,
                    }
            })
        })
    }

    /// Makes and begins a Job; whether it goes on now.
    async fn begin(&mut self, order: &Order<'_>) -> Result<bool> {
        if self.is_behind(order).await? {
            self.soon = Some(std::time::Duration::from_secs(1));
            return Ok(false);
        }
        if !self.has_volume(order).await? {
            return Ok(false);
        }
        self.check_term()?;
        if launch::begin(&self.context.client, &self.context.settings, order).await? {
            info!(job = order.name, slices = order.slices, "a Job is begun");
            self.context.metrics.job_created(metric_kind(order.kind));
        }
        Ok(true)
    }

    /// Sees to the volume of the ledgers. A claim that somebody deleted goes only when no pod mentions it, and pods that are
    /// through stay with their Jobs to be looked at: those are ended, or both would wait for each other for ever.
    async fn has_volume(&mut self, order: &Order<'_>) -> Result<bool> {
        if launch::ensure_volume(&self.context.client, order.migration).await? == Volume::There {
            return Ok(true);
        }
        let through: Vec<KnownJob> = self.jobs.iter().filter(|job| job.is_finished()).cloned().collect();
        self.end_these(&through, "the Job is ended: its pods keep a ledger's claim that was deleted").await?;
        self.soon = Some(std::time::Duration::from_secs(2));
        let claim = ledger_claim(&self.name);
        Err(Failure::new(Class::Refused, format!("PersistentVolumeClaim {claim} of the ledgers was deleted and is going"))
            .hint("it is made anew as soon as no pod uses it; what is at the destination already is recognised there"))
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
        // An object that nobody owns was left behind on purpose, and stays.
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
            if (job.is_finished() && !last || forgotten)
                && let Err(failure) = launch::end(&self.context.client, &job.job).await
            {
                self.troubles.push(failure);
            }
        }
        Ok(())
    }
}
