//! Makes the decision known: the status of the migration, its mailboxes' objects, and Events for what changed. Nothing is
//! written that does not differ.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, stream};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use super::jobs::owned_by_migration;
use super::known::Course;
use super::launch::{adopt, create, foreign, other_volume, owner_of};
use super::platform::ClusterPlatform;
use super::watched::Mailbox;
use crate::api::condition::{Conditions, Reason, Type};
use crate::api::mailboxmigration::{MailboxMigrationSpec, MailboxPhase};
use crate::api::names::{
    API_VERSION, LABEL_MANAGED_BY, LABEL_MIGRATION, MANAGED_BY, MANAGER_STATUS, mailbox_migration,
};
use crate::api::{MailMigration, MailMigrationStatus, MailboxMigration, MailboxMigrationStatus};
use crate::cluster::objects::{LABEL_RESULTS, digest, ledger_claim, mailbox_results};
use crate::cluster::results::GROUP_MAX;
use crate::cluster::{is_missing, refused};
use crate::model::address::Address;
use crate::model::failure::{Class, Failure, Result};
use crate::model::text::cut;
use crate::plan::Decision;
use crate::plan::mailboxes::PlannedMailbox;

/// Requests at a time.
const AT_ONCE: usize = 8;
/// Objects of mailboxes that are made in one turn: discovery shall not wait for ten thousand of them, nor another
/// migration for its turn.
const MADE_A_TURN: usize = 500;
/// How often mere counts are written.
const COUNTS_EVERY: SignedDuration = SignedDuration::from_secs(5);
/// The longest note that an Event takes, in bytes.
const NOTE_MAX: usize = 1000;

impl ClusterPlatform {
    /// The object of a mailbox and the ConfigMap that takes its results. A mailbox keeps the one it was given first.
    pub(super) fn object_of(&self, domain: &str, place: usize, mailbox: &PlannedMailbox) -> (String, String) {
        let given =
            self.objects.get(&mailbox.source).and_then(|object| object.labels().get(LABEL_RESULTS).cloned());
        let group = given.unwrap_or_else(|| mailbox_results(&self.name, domain, place / GROUP_MAX));
        (mailbox_migration(&self.name, &mailbox.source), group)
    }

    /// Makes the objects of mailboxes that have none, takes those away that are not wanted any more, and writes what
    /// differs.
    pub(super) async fn tell_mailboxes(
        &mut self,
        migration: &MailMigration,
        decision: &Decision,
    ) -> Result<()> {
        let mut places = std::collections::BTreeMap::<&str, usize>::new();
        let (mut work, mut made) = (Vec::new(), 0);
        let mut wanted = BTreeSet::new();
        for (planned, domain, status) in &decision.mailboxes {
            let place = places.entry(domain).or_default();
            let (name, group) = self.object_of(domain, *place, planned);
            *place += 1;
            wanted.insert(&planned.source);
            let elsewhere = self.elsewhere.contains(&planned.source);
            let before = self.objects.get(&planned.source).filter(|_| !elsewhere);
            if before.is_none() {
                if elsewhere && self.is_carried(domain, &planned.source) {
                    // Its pods may still report the mail that goes to the old place.
                    self.untold.insert(planned.source.clone());
                    continue;
                }
                if made == MADE_A_TURN {
                    self.unmade = true;
                    continue;
                }
                made += 1;
            }
            let told =
                before.and_then(|object| object.status.as_ref()).is_some_and(|s| s.last_pass.is_some());
            let status = our_part(status, told);
            let said = match before.and_then(|object| object.status.as_ref()) {
                Some(before) => says(before, &status),
                // An object without a status says as much as one that says that nothing was tried.
                None => status.phase == Some(MailboxPhase::Pending),
            };
            let old = self.objects.get(&planned.source).filter(|_| elsewhere).cloned();
            let stray = self.strays.get(&planned.source).cloned();
            let object = before.is_none().then(|| mailbox_object(migration, &name, group, domain, planned));
            if object.is_some() || !said {
                let status = (!said).then_some(status);
                work.push((planned.source.clone(), Telling { name, object, old, stray, status }));
            }
        }
        // Where a list cannot be read for now, nothing may be taken for removed.
        let known = migration.spec.domains.iter().all(|domain| {
            self.observed.domains.get(&domain.name).is_some_and(|seen| matches!(seen.mailboxes, Some(Ok(_))))
        });
        let removed: Vec<_> = if known {
            self.objects
                .iter()
                .filter(|(address, _)| !wanted.contains(address))
                .map(|(_, o)| o.clone())
                .collect()
        } else {
            Vec::new()
        };
        let (client, namespace) = (&self.context.client, self.namespace.as_str());
        let write = |(source, telling): (Address, Telling)| async move {
            (source, telling.write(client, namespace).await)
        };
        let told: Vec<_> = stream::iter(work).map(write).buffer_unordered(AT_ONCE).collect().await;
        for (source, told) in told {
            // One that cannot be written keeps no other; only its own mailbox waits.
            if let Err(failure) = told {
                if is_lasting(&failure) {
                    self.untold.insert(source);
                }
                self.troubles.push(failure);
            }
        }
        if self.unmade {
            self.soon = Some(std::time::Duration::from_millis(100));
        }
        for object in removed {
            if let Err(failure) = remove(&self.context.client, &self.namespace, &object).await {
                self.troubles.push(failure);
            }
        }
        Ok(())
    }

    /// Whether a pod may still carry a mailbox.
    fn is_carried(&self, domain: &str, mailbox: &Address) -> bool {
        let key = digest(&[domain]);
        self.jobs.iter().filter(|job| job.kind.has_mailboxes() && job.domain == key).any(|job| {
            match job.course() {
                Course::Active => job.mailboxes.contains_key(mailbox),
                // Its work list may be gone already.
                Course::Ending => true,
                Course::Waiting | Course::Complete | Course::Failed => false,
            }
        })
    }

    /// Writes the status of the migration when it differs; mere counts only every few seconds.
    pub(super) async fn tell_migration(
        &mut self,
        migration: &mut MailMigration,
        decision: &Decision,
    ) -> Result<()> {
        let before = migration.status.clone().unwrap_or_default();
        if before == decision.status {
            return Ok(());
        }
        let uid = migration.uid().unwrap_or_default();
        let now = self.context.clock.now();
        if gist(&before) == gist(&decision.status)
            && let Some(last) = self.context.memory.published(&uid)
            && now.duration_since(last) < COUNTS_EVERY
        {
            self.soon = Some(std::time::Duration::from_secs(5));
            return Ok(());
        }
        self.write_status(migration, &decision.status).await?;
        self.context.memory.keep_published(&uid, now);
        migration.status = Some(decision.status.clone());
        Ok(())
    }

    /// Says once for each generation of a spec that asks for another size of the ledgers' volume that the volume stays as it
    /// was made.
    pub(super) async fn tell_ledger(&self, migration: &MailMigration) -> Result<()> {
        let uid = migration.uid().unwrap_or_default();
        if !self.context.memory.checks_ledger(&uid, migration.metadata.generation) {
            return Ok(());
        }
        let Some(there) = other_volume(&self.context.client, migration).await? else { return Ok(()) };
        let claim = ledger_claim(&self.name);
        let note = format!(
            "PersistentVolumeClaim {claim} keeps its size, {there}: spec.ledger.sqlite.size counts when it is made. To grow it, \
             edit the claim, where its StorageClass allows that."
        );
        let event = Event {
            type_: EventType::Warning,
            reason: "LedgerKeepsItsSize".to_owned(),
            note: Some(cut(&note, NOTE_MAX)),
            action: "Ledger".to_owned(),
            secondary: None,
        };
        self.publish_event(migration, &event).await;
        Ok(())
    }

    /// A lost Event is not a reason to do anything again.
    async fn publish_event(&self, migration: &MailMigration, event: &Event) {
        if let Err(error) = self.context.recorder.publish(event, &migration.object_ref(&())).await {
            tracing::warn!(%error, migration = self.name, "an Event could not be written");
        }
    }

    /// Writes a status, and Events for the conditions that changed by it.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn write_status(&self, migration: &MailMigration, status: &MailMigrationStatus) -> Result<()> {
        let api: Api<MailMigration> = Api::namespaced(self.context.client.clone(), &self.namespace);
        let patch = json!({"apiVersion": API_VERSION, "kind": "MailMigration", "metadata": {"name": self.name}, "status": status});
        let params = PatchParams::apply(MANAGER_STATUS).force();
        match api.patch_status(&self.name, &params, &Patch::Apply(&patch)).await {
            Ok(_) => {}
            Err(error) if is_missing(&error) => return Ok(()),
            Err(error) => {
                return Err(refused(&format!("MailMigration {} cannot be written", self.name), &error));
            }
        }
        let before = migration.status.as_ref().map_or(&[][..], |status| &status.conditions);
        for event in changes(before, &status.conditions) {
            self.publish_event(migration, &event).await;
        }
        Ok(())
    }
}

/// The changes to be written of one mailbox.
struct Telling {
    name: String,
    /// The object, where there is none or none that is ours.
    object: Option<MailboxMigration>,
    /// The one that is there and names another destination.
    old: Option<Arc<Mailbox>>,
    /// The one that is there and that the migration does not own.
    stray: Option<Arc<Mailbox>>,
    status: Option<MailboxMigrationStatus>,
}

impl Telling {
    async fn write(self, client: &Client, namespace: &str) -> Result<()> {
        let api: Api<MailboxMigration> = Api::namespaced(client.clone(), namespace);
        let Self { name, object, old, stray, status } = self;
        if let Some(old) = old {
            forget_results(client, namespace, &old).await?;
            remove(client, namespace, &old).await?;
        }
        if let Some(object) = object {
            match stray {
                Some(stray) => take_over(client, namespace, &stray, &object).await?,
                None => create(client, namespace, &object).await?,
            }
        }
        let Some(status) = status else { return Ok(()) };
        match apply_status(&api, &name, status).await {
            Ok(_) => Ok(()),
            // Removed by hand; the next turn makes it again.
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(refused(&format!("MailboxMigration {name} cannot be written"), &error)),
        }
    }
}

/// Whether a failure at one object is one that the next turn meets again.
fn is_lasting(failure: &Failure) -> bool {
    !matches!(failure.class, Class::Conflict | Class::Throttled | Class::Unreachable)
}

/// Takes over a mailbox's object that nobody owns, as a backup brings it back. One that somebody else keeps stays as it is.
async fn take_over(
    client: &Client,
    namespace: &str,
    stray: &Mailbox,
    wanted: &MailboxMigration,
) -> Result<()> {
    if stray.metadata.deletion_timestamp.is_some() {
        let what = format!("MailboxMigration {} is still there from before", stray.name_any());
        return Err(Failure::new(Class::Conflict, what).hint("it goes by itself in a moment"));
    }
    if owner_of(stray).is_some() {
        return Err(foreign::<MailboxMigration>(&stray.name_any(), owner_of(stray)));
    }
    if stray.spec.as_ref() == Some(&wanted.spec) {
        return adopt(client, namespace, stray, wanted).await;
    }
    // Of another destination than the spec's: it is ours by its name, and never changes.
    remove(client, namespace, stray).await?;
    create(client, namespace, wanted).await
}

/// Removes the object of a mailbox, and none that took its place.
async fn remove(client: &Client, namespace: &str, object: &Mailbox) -> Result<()> {
    let api: Api<MailboxMigration> = Api::namespaced(client.clone(), namespace);
    let name = object.name_any();
    let preconditions = Some(Preconditions { uid: object.uid(), resource_version: None });
    match api.delete(&name, &DeleteParams { preconditions, ..DeleteParams::default() }).await {
        Ok(_) => Ok(()),
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) => Err(refused(&format!("MailboxMigration {name} cannot be removed"), &error)),
    }
}

/// Takes out of the results what became of a mailbox at another destination.
async fn forget_results(client: &Client, namespace: &str, object: &Mailbox) -> Result<()> {
    let Some(group) = object.labels().get(LABEL_RESULTS) else { return Ok(()) };
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let patch = json!({"binaryData": {object.name_any(): null}});
    match api.patch_metadata(group, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) => Err(refused(&format!("ConfigMap {group} cannot be written"), &error)),
    }
}

/// Writes our part of a mailbox's status. Counts are ours until a worker tells its own, which our copy may not know yet:
/// they are never forced, since fields that we took from a worker would be gone when we let go of them.
async fn apply_status(
    api: &Api<MailboxMigration>,
    name: &str,
    mut status: MailboxMigrationStatus,
) -> kube::Result<MailboxMigration> {
    let apply = async |status: &MailboxMigrationStatus, force: bool| {
        let patch = json!({"apiVersion": API_VERSION, "kind": "MailboxMigration", "metadata": {"name": name}, "status": status});
        let params = PatchParams { force, ..PatchParams::apply(MANAGER_STATUS) };
        api.patch_status(name, &params, &Patch::Apply(&patch)).await
    };
    if status.messages.is_some() {
        match apply(&status, false).await {
            Err(kube::Error::Api(refusal)) if refusal.code == 409 => status.messages = None,
            answered => return answered,
        }
    }
    apply(&status, true).await
}

fn mailbox_object(
    migration: &MailMigration,
    name: &str,
    group: String,
    domain: &str,
    planned: &PlannedMailbox,
) -> MailboxMigration {
    let label = |key: &str, value: String| (key.to_owned(), value);
    let mut object = MailboxMigration::new(
        name,
        MailboxMigrationSpec {
            migration: migration.name_any(),
            domain: domain.to_owned(),
            source: planned.source.to_string(),
            destination: planned.destination.to_string(),
        },
    );
    object.metadata = ObjectMeta {
        labels: Some(
            [
                label(LABEL_MANAGED_BY, MANAGED_BY.to_owned()),
                label(LABEL_MIGRATION, migration.name_any()),
                label(LABEL_RESULTS, group),
            ]
            .into(),
        ),
        owner_references: Some(vec![owned_by_migration(migration)]),
        ..object.metadata
    };
    object
}

/// The fields that the operator is the author of; those that a worker reported about the mailbox stay the worker's.
fn our_part(status: &MailboxMigrationStatus, told: bool) -> MailboxMigrationStatus {
    MailboxMigrationStatus {
        observed_generation: status.observed_generation,
        protocol: status.protocol,
        server: status.server.clone(),
        phase: status.phase,
        folders: status.folders,
        bytes: status.bytes,
        messages: status.messages.filter(|_| !told),
        conditions: status.conditions.clone(),
        ..MailboxMigrationStatus::default()
    }
}

/// Whether a status says already what we would write. A new generation of the spec alone is not a reason to write ten
/// thousand objects.
fn says(before: &MailboxMigrationStatus, ours: &MailboxMigrationStatus) -> bool {
    let gist = |conditions: &[Condition]| -> Vec<_> {
        conditions
            .iter()
            .map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone(), c.message.clone()))
            .collect()
    };
    before.protocol == ours.protocol
        && before.server == ours.server
        && before.phase == ours.phase
        && before.folders == ours.folders
        && before.bytes == ours.bytes
        && (ours.messages.is_none() || before.messages == ours.messages)
        && gist(&before.conditions) == gist(&ours.conditions)
}

/// A status without what changes all the time while work goes on.
fn gist(status: &MailMigrationStatus) -> MailMigrationStatus {
    let mut gist = MailMigrationStatus { messages: None, report: None, ..status.clone() };
    if let Some(summary) = &mut gist.summary {
        summary.synced.clear();
    }
    for condition in &mut gist.conditions {
        condition.message.clear();
    }
    gist
}

/// Changes that are worth an Event: a condition that begins to hold, that ceases to, or that has another reason.
fn changes(before: &[Condition], after: &[Condition]) -> Vec<Event> {
    let told = |kind: Type, condition: &Condition| {
        let was = before.of(kind);
        let same = was.is_some_and(|was| was.status == condition.status && was.reason == condition.reason);
        // A condition that does not hold yet was never promised.
        let new = condition.status == "True" || was.is_some_and(|was| was.status == "True");
        let obstacle = kind == Type::Ready && was.is_some_and(|was| was.reason != condition.reason);
        !same && (new || obstacle)
    };
    let bad = |kind: Type, condition: &Condition| match kind {
        Type::Stalled | Type::ReviewRequired => condition.status == "True",
        Type::Reconciling => false,
        _ => {
            condition.status == "False"
                && !matches!(
                    condition.reason.as_str(),
                    "InProgress" | "Waiting" | "WindowClosed" | "Suspended" | "StageNotReached"
                )
        }
    };
    [
        Type::Ready,
        Type::Discovered,
        Type::CredentialsAccepted,
        Type::ReviewRequired,
        Type::Synced,
        Type::Verified,
        Type::CutoverSafe,
    ]
    .into_iter()
    .filter_map(|kind| Some((kind, after.of(kind)?)))
    .filter(|(kind, condition)| told(*kind, condition))
    .map(|(kind, condition)| Event {
        type_: if bad(kind, condition) { EventType::Warning } else { EventType::Normal },
        // That it succeeded says nothing without what did.
        reason: if condition.reason == Reason::Succeeded.as_str() {
            kind.as_str().to_owned()
        } else {
            condition.reason.clone()
        },
        note: Some(cut(&condition.message, NOTE_MAX)),
        action: kind.as_str().to_owned(),
        secondary: None,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::condition::{Fact, set};
    use crate::model::failure::Class;

    fn conditions(facts: &[Fact]) -> Vec<Condition> {
        set(&[], facts, Some(1), Timestamp::UNIX_EPOCH)
    }

    fn told(before: &[Fact], after: &[Fact]) -> Vec<(String, bool)> {
        let events = changes(&conditions(before), &conditions(after));
        events.into_iter().map(|e| (e.reason, e.type_ == EventType::Warning)).collect()
    }

    #[test]
    fn an_event_tells_what_changed_and_nothing_else() {
        let begun = [
            Fact::new(Type::Ready, false, Reason::InProgress, "1 of 2"),
            Fact::new(Type::Synced, false, Reason::InProgress, "1 of 2"),
        ];
        assert!(told(&[], &begun).is_empty(), "what does not hold yet was never promised");
        let going_on = [
            Fact::new(Type::Ready, false, Reason::InProgress, "2 of 2"),
            Fact::new(Type::Synced, false, Reason::InProgress, "2 of 2"),
        ];
        assert!(told(&begun, &going_on).is_empty(), "counts are no event");
        let done = [
            Fact::new(Type::Ready, true, Reason::Succeeded, "all"),
            Fact::new(Type::Synced, true, Reason::Succeeded, "all"),
        ];
        let succeeded = ["Ready", "Synced"].map(|kind| (kind.to_owned(), false));
        assert_eq!(told(&going_on, &done), succeeded);
        let stuck = [Fact::new(Type::Ready, false, Reason::PodUnschedulable, "no room")];
        assert_eq!(told(&begun, &stuck), [("PodUnschedulable".to_owned(), true)]);
        assert!(told(&stuck, &stuck).is_empty());
        let stopped = [Fact::failed(Type::Ready, false, Class::Credentials, "refused")];
        assert_eq!(told(&begun, &stopped), [("CredentialsRejected".to_owned(), true)]);
    }

    #[test]
    fn counts_alone_do_not_change_the_gist() {
        let status = |copied| MailMigrationStatus {
            messages: Some(crate::model::progress::MessageCounts { copied, ..Default::default() }),
            conditions: conditions(&[Fact::new(Type::Ready, false, Reason::InProgress, format!("{copied}"))]),
            ..MailMigrationStatus::default()
        };
        assert_eq!(gist(&status(1)), gist(&status(2)));
    }
}
