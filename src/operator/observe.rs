//! Gathers the facts of one migration: what its Jobs, pods, mailboxes and results say.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::known::{Course, KnownJob};
use super::metrics::{JobKind, JobOutcome};
use super::obstacles;
use super::platform::{ClusterPlatform, KnownDiscovery};
use super::stores::belongs_to;
use super::watched::Mailbox;
use crate::api::condition::Reason;
use crate::api::domain::Mailboxes;
use crate::api::names::{API_VERSION, MANAGER_PROGRESS, mailbox_migration};
use crate::api::{DomainSpec, MailMigration, MailboxMigration, MailboxMigrationStatus};
use crate::cluster::objects::{Kind, WORK_KEY, digest, discovery_results};
use crate::cluster::results::fetch_discovery;
use crate::cluster::work::{read_routes, route};
use crate::cluster::{is_missing, refused};
use crate::model::address::Address;
use crate::model::evidence::DomainDiscovery;
use crate::model::failure::{Class, Failure, Result};
use crate::model::record::MailboxRecord;
use crate::plan::mailboxes::plan_mailboxes;
use crate::plan::{DomainObserved, MailboxObserved, Observed, Obstacle, Patience, pass};

/// How long pods of an earlier migration of the same name may go on before that is worth a word.
const PREDECESSOR: SignedDuration = SignedDuration::from_secs(30);
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
    /// Reads which Jobs this migration has; not yet what they carry.
    pub(super) fn know_jobs(&mut self, migration: &MailMigration) {
        let uid = migration.uid().unwrap_or_default();
        let jobs = self.context.stores.jobs_of(&self.namespace, &uid).into_iter();
        self.jobs = jobs.filter_map(KnownJob::read).collect();
        self.jobs.iter().for_each(|job| self.count_end(job));
        for (at, job) in self.jobs.iter().enumerate() {
            self.jobs_by_domain.entry(job.domain.clone()).or_default().push(at);
        }
    }

    /// The Jobs of a domain, by the digest of its name.
    pub(super) fn jobs_of(&self, domain: &str) -> impl Iterator<Item = &KnownJob> {
        let places = self.jobs_by_domain.get(domain).map_or(&[][..], Vec::as_slice);
        places.iter().map(|at| &self.jobs[*at])
    }

    pub(super) async fn gather(&mut self, migration: &MailMigration) -> Result<Observed> {
        let spec = &migration.spec;
        let before = migration.status.as_ref().and_then(|status| status.pass.as_ref());
        let wanted = pass::next(spec, before);
        let (pass, mut verification) = (wanted.number, wanted.verification);
        self.observed = Arc::new(Observed { pass, ..Observed::default() });
        for at in 0..self.jobs.len() {
            self.read_work(at).await?;
        }
        let mut observed = Observed {
            pass,
            began: wanted.began,
            verification,
            patience: Patience::Resident,
            ..Observed::default()
        };
        for domain in &spec.domains {
            let seen = self.look_at_domain(migration, domain).await?;
            observed.domains.insert(domain.name.clone(), seen);
        }
        self.know_mailboxes(migration);
        if before.is_none() {
            // The status is lost, as after a restore without it, and its count begins anew; the mailboxes know better.
            let told =
                self.objects.values().filter_map(|object| object.status.as_ref()?.verification.as_ref());
            verification = told.map(|told| told.number).max().unwrap_or_default().max(verification);
            observed.verification = verification;
        }
        self.observed = Arc::new(Observed { pass, verification, ..Observed::default() });
        let carriers = self.carriers();
        let routes = observed.domains.values().flat_map(DomainObserved::planned);
        let routes: HashMap<Address, String> =
            routes.map(|planned| (planned.source.clone(), planned.destination.to_string())).collect();
        let objects: Vec<_> = self.objects.iter().map(|(a, o)| (a.clone(), Arc::clone(o))).collect();
        for (address, object) in objects {
            let is_elsewhere = |to: &String| object.spec.as_ref().is_some_and(|spec| spec.destination != *to);
            if routes.get(&address).is_some_and(is_elsewhere) {
                // Mail that was carried to another place says nothing about this one.
                self.elsewhere.insert(address.clone());
                observed.mailboxes.insert(address, MailboxObserved::default());
                continue;
            }
            let status = object.status.clone().unwrap_or_default();
            let of_kind = |kind| carriers.get(&(kind, address.clone())).map_or(&[][..], Vec::as_slice);
            let mut record = status.record();
            for kind in [Kind::Sync, Kind::Verify] {
                record = self.spoken_for(of_kind(kind), &object, record).await?;
            }
            let record = self.encouraged(of_kind(Kind::Sync), record);
            let is_at_work = |kind| of_kind(kind).iter().any(|at| is_at(&self.jobs[*at], &record));
            let (running, verifying) = (is_at_work(Kind::Sync), is_at_work(Kind::Verify));
            let conditions = status.conditions;
            observed.mailboxes.insert(address, MailboxObserved { running, verifying, record, conditions });
        }
        self.find_obstacles(migration, &mut observed);
        observed.rivals = self.rivals(migration, &observed);
        Ok(observed)
    }

    /// The obstacles that keep workers from working, or this migration from having any.
    fn find_obstacles(&mut self, migration: &MailMigration, observed: &mut Observed) {
        // Jobs that were made in a turn before and are not in our copies yet count as running all the same: names are the same.
        let pods = self.context.stores.pods_of(&self.namespace, &self.name);
        let now = self.context.clock.now();
        let active: Vec<_> = self
            .jobs
            .iter()
            .filter(|job| job.course() == Course::Active)
            .map(|job| Arc::clone(&job.job))
            .collect();
        let pods = || pods.iter().map(|pod| &**pod);
        observed.obstacles = obstacles::find(active.iter().map(|job| &**job), pods(), now);
        // The obstacle of a pod is told after a while in which nothing else happens.
        let works =
            |job: &&Arc<Job>| pods().any(|pod| obstacles::is_of(pod, job) && obstacles::has_started(pod));
        if observed.obstacles.is_empty() && !active.iter().all(|job| works(&job)) {
            self.soon = Some(obstacles::LOOK);
        }
        if let Some(pod) = self.predecessor()
            && let Some(made) = &pod.metadata.creation_timestamp
            && now.duration_since(made.0) > PREDECESSOR
        {
            let message = format!(
                "Pod {} of an earlier migration of this name still runs and may be sending: nothing is begun before its end. \
                 `kubectl delete pod {}` ends it.",
                pod.name_any(),
                pod.name_any()
            );
            observed.obstacles.push(Obstacle { reason: Reason::ForeignPodRuns, message });
        }
        observed.obstacles.extend(self.context.memory.trouble(&migration.uid().unwrap_or_default()));
        let not_ours = self.not_ours.iter().map(Failure::in_full);
        observed
            .obstacles
            .extend(not_ours.map(|message| Obstacle { reason: Reason::ClusterRefuses, message }));
        let unseen = |domain: &&DomainSpec| {
            observed
                .domains
                .get(&domain.name)
                .is_none_or(|seen| seen.discovery.is_none() && !seen.discovering)
        };
        let waiting = migration.spec.domains.iter().filter(unseen).count();
        if waiting > 0
            && !migration.spec.suspend
            && self.looking().next().is_none()
            && self.places_left() == 0
        {
            let message = format!(
                "{} for a place for discovery: this namespace has {}, and Jobs of its other migrations hold them. A Job \
                 that does not get on gives its place back after two minutes.",
                if waiting == 1 { "One domain waits".to_owned() } else { format!("{waiting} domains wait") },
                super::places::PLACES
            );
            observed.obstacles.push(Obstacle { reason: Reason::WaitsForPlace, message });
        }
        observed.obstacles.sort_by_key(|obstacle| obstacle.reason);
    }

    /// The other migrations of this namespace that carry some of the same mailboxes to the same places.
    fn rivals(&self, migration: &MailMigration, observed: &Observed) -> Vec<(String, usize)> {
        let host = migration.spec.destination.endpoint().host.to_lowercase();
        let pairs: HashSet<u64> = observed
            .domains
            .values()
            .flat_map(DomainObserved::planned)
            .map(|planned| route(&planned.destination, &format!("{host}\n{}", planned.source)))
            .collect();
        let place = (self.namespace.clone(), self.name.clone());
        let uid = migration.uid().unwrap_or_default();
        self.context.memory.rivals(&uid, &place, pairs).into_iter().collect()
    }

    /// Reads which mailboxes a Job goes through. A work list that cannot be read is that of nobody: somebody else wrote it.
    async fn read_work(&mut self, at: usize) -> Result<()> {
        let job = &self.jobs[at];
        if !job.kind.has_mailboxes() {
            return Ok(());
        }
        let uid = job.job.uid().unwrap_or_default();
        if let Some(known) = self.context.memory.work(&uid) {
            self.jobs[at].mailboxes = known;
            return Ok(());
        }
        let name = job.job.name_any();
        let api: Api<ConfigMap> = Api::namespaced(self.context.client.clone(), &self.namespace);
        let list = match api.get(&name).await {
            Ok(list) => list,
            // A Job that is not begun, or that is being taken away.
            Err(error) if is_missing(&error) => return Ok(()),
            Err(error) => return Err(refused(&format!("ConfigMap {name} cannot be read"), &error)),
        };
        let packed = list.binary_data.and_then(|mut data| data.remove(WORK_KEY)).unwrap_or_default();
        match read_routes(&format!("ConfigMap {name}"), &packed.0) {
            Ok(routes) => {
                let routes = Arc::new(routes);
                self.context.memory.keep_work(uid, &routes);
                self.jobs[at].mailboxes = routes;
            }
            Err(failure) => self.troubles.push(failure),
        }
        Ok(())
    }

    /// Reads which objects stand for the mailboxes of this migration: those that it owns, under the name that we give.
    /// Other objects with its label are looked at only where one of ours is to be made.
    fn know_mailboxes(&mut self, migration: &MailMigration) {
        let uid = migration.uid();
        for object in self.context.stores.mailboxes_of(&self.namespace, &self.name) {
            let source = object.spec.as_ref().filter(|spec| spec.migration == self.name);
            let source = source.and_then(|spec| spec.source.parse::<Address>().ok());
            let Some(source) =
                source.filter(|source| mailbox_migration(&self.name, source) == object.name_any())
            else {
                continue;
            };
            if belongs_to(&*object, Some(&self.namespace), uid.as_deref()) {
                self.objects.insert(source, object);
            } else {
                self.strays.insert(source, object);
            }
        }
    }

    /// The Jobs of each kind that go through each mailbox, by their place in our list.
    fn carriers(&self) -> HashMap<(Kind, Address), Vec<usize>> {
        let mut carriers: HashMap<(Kind, Address), Vec<usize>> = HashMap::new();
        for (at, job) in self.jobs.iter().enumerate().filter(|(_, job)| job.kind.has_mailboxes()) {
            for mailbox in job.mailboxes.keys() {
                carriers.entry((job.kind, mailbox.clone())).or_default().push(at);
            }
        }
        carriers
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

    async fn look_at_domain(
        &mut self,
        migration: &MailMigration,
        domain: &DomainSpec,
    ) -> Result<DomainObserved> {
        let inputs = self.inputs.of_discovery(domain);
        let key = digest(&[&domain.name]);
        let known = self.known_discovery(migration, domain).await?.filter(|known| known.inputs == inputs);
        let ours = |job: &&KnownJob| job.kind == Kind::Discover && job.inputs == inputs;
        let listed = match &domain.mailboxes {
            // The rest of the Secret beside the list is known to workers only.
            Mailboxes::List(_) if known.is_none() => {
                Some(plan_mailboxes(&migration.spec, domain, &[]).map(Arc::from))
            }
            _ => known.as_ref().map(|known| known.mailboxes.clone()),
        };
        let mut seen = DomainObserved {
            mailboxes: listed,
            discovering: self.jobs_of(&key).filter(ours).any(|job| job.course() == Course::Active),
            round: known.as_ref().map_or(0, |known| known.round),
            discovery: known.as_ref().map(|known| Arc::clone(&known.discovery)),
        };
        // The failure of a worker that died without having written anything is recorded for it, unless such a worker
        // would be made otherwise now.
        let failed = |job: &&KnownJob| {
            job.course() == Course::Failed
                && job.number > seen.round
                && !job.may_go_better(&self.context.settings)
        };
        let dead = self.jobs_of(&key).filter(ours).filter(failed);
        if let Some(dead) = dead.max_by_key(|job| job.number) {
            seen.round = dead.number;
            if seen.discovery.is_none() {
                let pods = self.context.stores.pods_of(&self.namespace, &self.name);
                let failure = dead.last_words(pods.iter().map(|pod| &**pod));
                seen.discovery = Some(unseen(domain, dead, failure)?.into());
            }
        }
        Ok(seen)
    }

    async fn known_discovery(
        &mut self,
        migration: &MailMigration,
        domain: &DomainSpec,
    ) -> Result<Option<Arc<KnownDiscovery>>> {
        let names = parts_of(&migration.name_any(), domain);
        let Some(version) = self.context.stores.version_of(&self.namespace, &names[0]) else {
            return Ok(None);
        };
        let memory = &self.context.memory;
        let known = match memory.discovery(&self.namespace, &names[0], &version) {
            Some(known) => known,
            None => match fetch_discovery(&self.context.client, &self.namespace, &names).await {
                Ok(None) => return Ok(None),
                Ok(Some(packed)) => memory.open_discovery(&self.namespace, &names[0], version, &packed),
                Err(failure) => Err(failure),
            },
        };
        match known {
            Ok(known) => Ok(Some(known)),
            // Somebody else wrote it, or half of it: it is as if nothing were there, and a worker writes it anew.
            Err(failure) if failure.class == Class::Internal => {
                tracing::warn!(migration = self.name, failure = %failure.sentence(), "results are not read");
                self.not_ours.push(failure);
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// The record of a mailbox. When its worker died without a word, the failure is written down in its place, so that it
    /// is counted and waited for like any other.
    async fn spoken_for(
        &self,
        carriers: &[usize],
        object: &Mailbox,
        record: MailboxRecord,
    ) -> Result<MailboxRecord> {
        let Some(last) = carriers.iter().map(|at| &self.jobs[*at]).max_by_key(|job| job.made()) else {
            return Ok(record);
        };
        let wanted = match last.kind {
            Kind::Verify => self.observed.verification,
            _ => self.observed.pass,
        };
        if !last.is_finished() || last.number != wanted || !is_silent_about(last, &record) {
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
        if !is_silent_about(last, &told) {
            return Ok(told);
        }
        self.check_term()?;
        let pods =
            self.context.stores.pods.state_filter(|pod| pod.namespace().as_ref() == Some(&self.namespace));
        let dead = spoken_for(last, told, last.last_words(pods.iter().map(|pod| &**pod)));
        let status = MailboxMigrationStatus::told_by_worker(&dead);
        let patch = json!({"apiVersion": API_VERSION, "kind": "MailboxMigration", "metadata": {"name": name}, "status": status});
        api.patch_status(&name, &PatchParams::apply(MANAGER_PROGRESS).force(), &Patch::Apply(&patch))
            .await
            .map_err(|e| refused(&format!("MailboxMigration {name} cannot be written"), &e))?;
        Ok(dead)
    }

    /// The record of a mailbox whose worker died for a reason that the installation may have mended since: there is nothing
    /// to wait for.
    fn encouraged(&self, carriers: &[usize], record: MailboxRecord) -> MailboxRecord {
        let died = |at: &usize| {
            let job = &self.jobs[*at];
            record.by == job.job.metadata.name && job.may_go_better(&self.context.settings)
        };
        match &record.failure {
            Some(failure) if failure.class == Class::Internal && carriers.iter().any(died) => {
                MailboxRecord { failure: None, ended: None, ..record }
            }
            _ => record,
        }
    }
}

/// Whether the worker of a Job that carries a mailbox is at it, or will be: until it has reported its end.
fn is_at(job: &KnownJob, record: &MailboxRecord) -> bool {
    job.course() == Course::Active && !has_told(job, record)
}

/// Whether the worker of a Job has not said how its attempt at a mailbox ended, and none of a later one has.
fn is_silent_about(job: &KnownJob, record: &MailboxRecord) -> bool {
    (job.kind == Kind::Verify || record.pass <= job.number) && !has_told(job, record)
}

/// The record of a mailbox whose worker died without a word. That of a verification spoils nothing of what a pass came to.
fn spoken_for(job: &KnownJob, told: MailboxRecord, failure: Failure) -> MailboxRecord {
    if job.kind == Kind::Verify {
        let mut told = told;
        told.give_up_verification(job.number, failure);
        return told;
    }
    let attempts = if told.pass == job.number { told.attempts + 1 } else { 1 };
    MailboxRecord {
        pass: job.number,
        attempts,
        by: Some(job.job.name_any()),
        started: Some(job.made()),
        ended: Some(job.ended().max(job.made())),
        failure: Some(failure),
        ..told
    }
}

/// Whether a Job's worker has told how its last attempt ended. A verification is tried once.
fn has_told(job: &KnownJob, record: &MailboxRecord) -> bool {
    if job.kind == Kind::Verify {
        return record.verification_number >= job.number;
    }
    record.pass >= job.number
        && record.ended.is_some()
        && record.by.as_deref() == job.job.metadata.name.as_deref()
}

/// The knowledge of a domain whose discovery came to a bad end.
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
        Kind::Verify => JobKind::Verify,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::cluster::objects::{LABEL_DOMAIN_DIGEST, LABEL_INPUTS, LABEL_NUMBER, LABEL_TASK};

    fn job(kind: Kind, number: u32) -> KnownJob {
        let labels = json!({LABEL_TASK: kind.as_str(), LABEL_INPUTS: "i", LABEL_NUMBER: number.to_string(),
            LABEL_DOMAIN_DIGEST: "d"});
        let job = json!({"metadata": {"name": "j", "labels": labels}, "spec": {"template": {}}});
        KnownJob::read(Arc::new(serde_json::from_value(job).unwrap())).unwrap()
    }

    #[test]
    fn a_worker_that_dies_while_it_verifies_spoils_nothing_of_what_the_pass_came_to() {
        let through = MailboxRecord {
            pass: 4,
            attempts: 2,
            by: Some("another".to_owned()),
            ended: Some(Timestamp::UNIX_EPOCH),
            verification_number: 1,
            ..MailboxRecord::default()
        };
        let verify = job(Kind::Verify, 2);
        assert!(is_silent_about(&verify, &through) && is_at(&verify, &through));
        let dead = spoken_for(&verify, through.clone(), Failure::internal("the worker was killed"));
        assert!(dead.finished(4), "the pass stays as it was");
        let unverified = dead.unverified.clone().unwrap();
        assert_eq!((dead.verification_number, unverified.what.as_str()), (2, "the worker was killed"));
        let without = MailboxRecord { verification_number: 1, unverified: None, ..dead.clone() };
        assert_eq!(without, through);
        assert!(!is_silent_about(&verify, &dead) && !is_at(&verify, &dead), "it is said once");
        // The same end of a pass is one of the pass, and of no verification.
        let sync = job(Kind::Sync, 5);
        let dead = spoken_for(&sync, through.clone(), Failure::internal("the worker was killed"));
        assert_eq!((dead.pass, dead.attempts, dead.finished(5), dead.unverified), (5, 1, false, None));
        assert!(!is_silent_about(&job(Kind::Sync, 3), &through), "a later pass has told");
    }
}
