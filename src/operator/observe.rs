//! Gathers the facts of one migration: what its Jobs, pods, mailboxes and results say.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::known::{Course, KnownJob};
use super::metrics::{JobKind, JobOutcome};
use super::obstacles;
use super::platform::{ClusterPlatform, KnownDiscovery};
use crate::api::domain::Mailboxes;
use crate::api::names::{API_VERSION, MANAGER_PROGRESS};
use crate::api::{DomainSpec, MailMigration, MailboxMigration, MailboxMigrationStatus};
use crate::cluster::objects::{Kind, WORK_KEY, digest, discovery_results};
use crate::cluster::pack::unpack;
use crate::cluster::results::read_discovery;
use crate::cluster::work::{Task, Work};
use crate::cluster::{is_missing, refused};
use crate::model::address::Address;
use crate::model::evidence::DomainDiscovery;
use crate::model::failure::{Class, Failure, Result};
use crate::model::record::MailboxRecord;
use crate::plan::mailboxes::plan_mailboxes;
use crate::plan::{DomainObserved, MailboxObserved, Observed, Patience, pass};

/// ConfigMaps that take what discovery of a domain saw, if nobody knows beforehand how many mailboxes it has.
const PARTS: usize = 4;
/// Mailboxes whose discovery fits one part with room to spare.
const MAILBOXES_A_PART: usize = 4_000;

/// The ConfigMaps that take what discovery of a domain saw.
pub(super) fn parts_of(migration: &str, domain: &DomainSpec) -> Vec<String> {
    let parts = match &domain.mailboxes {
        Mailboxes::List(list) => 1 + list.len() / MAILBOXES_A_PART,
        _ => PARTS,
    };
    discovery_results(migration, &domain.name, parts)
}

impl ClusterPlatform {
    pub(super) async fn gather(&mut self, migration: &MailMigration) -> Result<Observed> {
        let spec = &migration.spec;
        let before = migration.status.as_ref().and_then(|status| status.pass.as_ref());
        let pass = pass::next(spec, before).number;
        self.observed = Arc::new(Observed { pass, ..Observed::default() });
        self.jobs = Vec::new();
        for job in self.context.stores.jobs_of(migration) {
            if let Some(job) = KnownJob::read(job) {
                let job = self.with_mailboxes(job).await?;
                self.count_end(&job);
                self.jobs.push(job);
            }
        }
        let mut observed = Observed { pass, patience: Patience::Resident, ..Observed::default() };
        for domain in &spec.domains {
            let seen = self.look_at_domain(migration, domain).await?;
            observed.domains.insert(domain.name.clone(), seen);
        }
        let objects = self.context.stores.mailboxes_of(migration).into_iter();
        self.objects =
            objects.filter_map(|object| Some((object.spec.source.parse().ok()?, object))).collect();
        for (address, object) in &self.objects {
            let status = object.status.clone().unwrap_or_default();
            let record = self.spoken_for(address, object, status.record()).await?;
            let record = self.encouraged(address, record);
            let running = self.jobs.iter().any(|job| is_at(job, address, &record));
            observed
                .mailboxes
                .insert(address.clone(), MailboxObserved { running, record, conditions: status.conditions });
        }
        // What was made in a turn before and is not in our copies yet counts as running all the same: names are the same.
        let pods = self.context.stores.pods_of(migration);
        let active: Vec<_> = self
            .jobs
            .iter()
            .filter(|job| job.course() == Course::Active)
            .map(|job| Arc::clone(&job.job))
            .collect();
        observed.obstacles = obstacles::find(
            active.iter().map(|job| &**job),
            pods.iter().map(|pod| &**pod),
            self.context.clock.now(),
        );
        // What keeps a pod from starting is told after a while in which nothing else happens.
        let works = |job: &&Arc<Job>| {
            let name = job.name_any();
            pods.iter().any(|pod| obstacles::is_of(pod, &name) && obstacles::has_started(pod))
        };
        if observed.obstacles.is_empty() && !active.iter().all(|job| works(&job)) {
            self.soon = Some(obstacles::LOOK);
        }
        Ok(observed)
    }

    /// A sync Job with the mailboxes of its work list.
    async fn with_mailboxes(&self, mut job: KnownJob) -> Result<KnownJob> {
        if job.kind != Kind::Sync {
            return Ok(job);
        }
        let uid = job.job.uid().unwrap_or_default();
        if let Some(known) = self.context.memory.work(&uid) {
            job.mailboxes = known;
            return Ok(job);
        }
        let name = job.job.name_any();
        let api: Api<ConfigMap> = Api::namespaced(self.context.client.clone(), &self.namespace);
        let list = match api.get(&name).await {
            Ok(list) => list,
            // A Job that is not begun, or that is being taken away.
            Err(error) if is_missing(&error) => return Ok(job),
            Err(error) => return Err(refused(&format!("ConfigMap {name} cannot be read"), &error)),
        };
        let packed = list.binary_data.and_then(|mut data| data.remove(WORK_KEY)).unwrap_or_default();
        let work: Work = unpack(&format!("ConfigMap {name}"), &packed.0)?;
        if let Task::Sync { slices, .. } = work.task {
            let mailboxes: BTreeSet<_> =
                slices.into_iter().flatten().map(|item| item.mailbox.source).collect();
            job.mailboxes = Arc::new(mailboxes);
            self.context.memory.keep_work(uid, &job.mailboxes);
        }
        Ok(job)
    }

    fn count_end(&self, job: &KnownJob) {
        let outcome = match job.course() {
            Course::Complete => JobOutcome::Succeeded,
            Course::Failed => JobOutcome::Failed,
            _ => return,
        };
        if self.context.memory.first_end(job.job.uid().unwrap_or_default()) {
            self.context.metrics.job_finished(metric_kind(job.kind), outcome);
        }
    }

    async fn look_at_domain(&self, migration: &MailMigration, domain: &DomainSpec) -> Result<DomainObserved> {
        let inputs = self.context.settings.discovery_inputs(&migration.spec, domain);
        let key = digest(&[&domain.name]);
        let ours = |job: &&KnownJob| job.kind == Kind::Discover && job.domain == key && job.inputs == inputs;
        let known = self.known_discovery(migration, domain).await?.filter(|known| known.inputs == inputs);
        let listed = match &domain.mailboxes {
            // What the Secret says beside the list only a worker knows.
            Mailboxes::List(_) if known.is_none() => {
                Some(plan_mailboxes(&migration.spec, domain, &[]).map(Arc::from))
            }
            _ => known.as_ref().map(|known| known.mailboxes.clone()),
        };
        let mut seen = DomainObserved {
            mailboxes: listed,
            discovering: self.jobs.iter().filter(ours).any(|job| job.course() == Course::Active),
            round: known.as_ref().map_or(0, |known| known.round),
            discovery: known.as_ref().map(|known| Arc::clone(&known.discovery)),
        };
        // A worker that died without having written anything is spoken for, unless its like would be made otherwise now.
        let failed = |job: &&KnownJob| {
            job.course() == Course::Failed
                && job.number > seen.round
                && !job.may_go_better(&self.context.settings)
        };
        let dead = self.jobs.iter().filter(ours).filter(failed);
        if let Some(dead) = dead.max_by_key(|job| job.number) {
            seen.round = dead.number;
            if seen.discovery.is_none() {
                let pods = self.context.stores.pods_of(migration);
                let failure = dead.last_words(pods.iter().map(|pod| &**pod));
                seen.discovery = Some(unseen(domain, dead, failure)?.into());
            }
        }
        Ok(seen)
    }

    async fn known_discovery(
        &self,
        migration: &MailMigration,
        domain: &DomainSpec,
    ) -> Result<Option<Arc<KnownDiscovery>>> {
        let names = parts_of(&migration.name_any(), domain);
        let Some(version) = self.context.stores.version_of(&self.namespace, &names[0]) else {
            return Ok(None);
        };
        let memory = &self.context.memory;
        if let Some(known) = memory.discovery(&self.namespace, &names[0], &version) {
            return Ok(Some(known));
        }
        let read = read_discovery(&self.context.client, &self.namespace, &names).await?;
        let known = read.map(|document| Arc::new(KnownDiscovery::from(document)));
        if let Some(known) = &known {
            memory.keep_discovery(&self.namespace, &names[0], version, known);
        }
        Ok(known)
    }

    /// The record of a mailbox. When its worker died without a word, the failure is written down in its place, so that it
    /// is counted and waited for like any other.
    async fn spoken_for(
        &self,
        address: &Address,
        object: &MailboxMigration,
        record: MailboxRecord,
    ) -> Result<MailboxRecord> {
        let carries = |job: &&KnownJob| job.kind == Kind::Sync && job.mailboxes.contains(address);
        let Some(last) = self.jobs.iter().filter(carries).max_by_key(|job| job.made()) else {
            return Ok(record);
        };
        let silent = |record: &MailboxRecord| record.pass <= last.number && !has_told(last, record);
        if !last.is_finished() || last.number != self.observed.pass || !silent(&record) {
            return Ok(record);
        }
        // Our copy may be older than what the worker wrote at its very end.
        let api: Api<MailboxMigration> = Api::namespaced(self.context.client.clone(), &self.namespace);
        let name = object.name_any();
        let now = match api.get(&name).await {
            Ok(now) => now,
            Err(error) if is_missing(&error) => return Ok(record),
            Err(error) => return Err(refused(&format!("MailboxMigration {name} cannot be read"), &error)),
        };
        let told = now.status.unwrap_or_default().record();
        if !silent(&told) {
            return Ok(told);
        }
        self.check_term()?;
        let pods =
            self.context.stores.pods.state_filter(|pod| pod.namespace().as_ref() == Some(&self.namespace));
        let attempts = if told.pass == last.number { told.attempts + 1 } else { 1 };
        let dead = MailboxRecord {
            pass: last.number,
            attempts,
            by: Some(last.job.name_any()),
            started: Some(last.made()),
            ended: Some(last.ended().max(last.made())),
            failure: Some(last.last_words(pods.iter().map(|pod| &**pod))),
            ..told
        };
        let status = MailboxMigrationStatus::told_by_worker(&dead);
        let patch = json!({"apiVersion": API_VERSION, "kind": "MailboxMigration", "metadata": {"name": name}, "status": status});
        api.patch_status(&name, &PatchParams::apply(MANAGER_PROGRESS).force(), &Patch::Apply(&patch))
            .await
            .map_err(|e| refused(&format!("MailboxMigration {name} cannot be written"), &e))?;
        Ok(dead)
    }

    /// The record of a mailbox whose worker died for a reason that the installation may have mended since: there is nothing
    /// to wait for.
    fn encouraged(&self, address: &Address, record: MailboxRecord) -> MailboxRecord {
        let died = |job: &KnownJob| {
            record.by == job.job.metadata.name
                && job.mailboxes.contains(address)
                && job.may_go_better(&self.context.settings)
        };
        match &record.failure {
            Some(failure) if failure.class == Class::Internal && self.jobs.iter().any(died) => {
                MailboxRecord { failure: None, ended: None, ..record }
            }
            _ => record,
        }
    }
}

/// Whether a Job's worker is at a mailbox, or will be: until it has told of its end.
fn is_at(job: &KnownJob, mailbox: &Address, record: &MailboxRecord) -> bool {
    job.kind == Kind::Sync
        && job.course() == Course::Active
        && job.mailboxes.contains(mailbox)
        && !has_told(job, record)
}

/// Whether a Job's worker has told how its last attempt ended.
fn has_told(job: &KnownJob, record: &MailboxRecord) -> bool {
    record.pass >= job.number
        && record.ended.is_some()
        && record.by.as_deref() == job.job.metadata.name.as_deref()
}

/// What is known of a domain whose discovery came to a bad end.
fn unseen(domain: &DomainSpec, job: &KnownJob, failure: Failure) -> Result<DomainDiscovery> {
    Ok(DomainDiscovery {
        failure: Some(failure),
        ..DomainDiscovery::empty(
            domain.name.parse().map_err(Failure::configuration)?,
            job.made(),
            job.ended(),
        )
    })
}

/// The label of a Job's kind.
pub(super) fn metric_kind(kind: Kind) -> JobKind {
    match kind {
        Kind::Discover => JobKind::Discovery,
        Kind::Sync => JobKind::Sync,
    }
}
