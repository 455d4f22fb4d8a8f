//! A migration as the API server has it: read at its turn, and told as stalled where it cannot be read or cannot stand. It stops
//! no other, and nothing of its spec gets into a log.

use kube::api::GetParams;
use kube::core::Request;
use kube::{Client, Resource};
use serde_json::Value;

use super::platform::ClusterPlatform;
use crate::api::condition::{self, Fact, Type};
use crate::api::status::Phase;
use crate::api::{MailMigration, MailMigrationSpec, crd, schema};
use crate::cluster::{is_missing, refused};
use crate::model::failure::{Class, Failure, Result};

/// A migration as the API server has it.
pub struct Found(Value);

/// Fetches a migration; `None` when it is not there.
///
/// # Errors
/// Those of the API server.
pub async fn fetch(client: &Client, namespace: &str, name: &str) -> Result<Option<Found>> {
    let what = || format!("MailMigration {name} cannot be read");
    let path = MailMigration::url_path(&(), Some(namespace));
    let request = Request::new(path)
        .get(name, &GetParams::default())
        .map_err(|e| Failure::internal(what()).caused_by(&e))?;
    // As text: what the client library cannot read it writes to the log as a whole.
    match client.request_text(request).await {
        Ok(text) => match serde_json::from_str(&text) {
            Ok(value) => Ok(Some(Found(value))),
            Err(_) => Err(Failure::new(Class::Unreachable, format!("{}: the answer is no JSON", what()))),
        },
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(refused(&what(), &error)),
    }
}

impl Found {
    /// Reads it.
    ///
    /// # Errors
    /// [`Class::Configuration`] with the field that cannot be read, and never its value.
    pub fn read(&self) -> Result<MailMigration> {
        serde_json::from_value(self.0.clone()).map_err(|_| self.explain())
    }

    /// Whether it says suspend, whatever else it says.
    pub fn is_suspended(&self) -> bool {
        self.0["spec"]["suspend"] == true
    }

    /// Its metadata and its status, with a spec that says nothing.
    ///
    /// # Errors
    /// [`Class::Internal`] when the schema wants more of a spec by now.
    pub fn as_far_as_readable(&self) -> Result<MailMigration> {
        let part = |name: &str| self.0[name].clone();
        let nothing = serde_json::json!({"destination": {"imap": {"host": "", "credentialsRef": {"name": ""}}}, "domains": []});
        Ok(MailMigration {
            metadata: serde_json::from_value(part("metadata")).unwrap_or_default(),
            spec: serde_json::from_value::<MailMigrationSpec>(nothing)
                .map_err(|e| Failure::internal("a spec without content cannot be made").caused_by(&e))?,
            status: serde_json::from_value(part("status")).ok(),
        })
    }

    fn explain(&self) -> Failure {
        let known = crd::schema_of_migrations().ok();
        let violations = known.map(|known| schema::check(&known["properties"]["spec"], &self.0["spec"]));
        let remedy = "correct that field; or bring the operator and its definitions to one version: helm upgrade, or \
                      mailferry crd | kubectl apply --server-side -f -";
        match violations.into_iter().flatten().next() {
            Some(first) => Failure::configuration(format!("spec.{}: {}", first.path, first.what)),
            None => Failure::configuration("this version of the operator cannot read the spec"),
        }
        .hint(remedy)
    }
}

impl ClusterPlatform {
    /// Ends the Jobs of a migration of which nothing but this is known: whether it says suspend.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn end_if_suspended(&mut self, migration: &MailMigration, suspended: bool) -> Result<()> {
        self.know_jobs(migration);
        self.end_jobs(|_| suspended).await
    }

    /// Says that a migration cannot be carried out as it is. Nothing that goes on is touched, so that setting it right
    /// is all there is to do.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn tell_stalled(&self, migration: &MailMigration, failure: &Failure) -> Result<()> {
        let before = migration.status.clone().unwrap_or_default();
        let mut status = before.clone();
        let message = match &failure.hint {
            Some(_) => format!("{} Until then nothing is begun.", failure.in_full()),
            None => format!("{}. Correct the spec; until then nothing is begun.", failure.sentence()),
        };
        let ready = Fact::failed(Type::Ready, false, failure.class, message);
        let stalled = Fact { kind: Type::Stalled, state: condition::State::True, ..ready.clone() };
        let generation = migration.metadata.generation;
        status.observed_generation = generation;
        status.phase = Some(Phase::Stalled);
        let now = self.context.clock.now();
        status.conditions = condition::set(&before.conditions, &[ready, stalled], generation, now);
        let told = MailMigration { status: Some(status.clone()), ..migration.clone() };
        self.keep_survey(&told);
        if status == before { Ok(()) } else { self.write_status(migration, &status).await }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_that_cannot_be_read_is_told_by_its_field_and_never_by_its_value() {
        let mut object = json!({
            "apiVersion": "mailferry.dev/v1alpha1", "kind": "MailMigration", "metadata": {"name": "m", "uid": "u", "generation": 4},
            "spec": {"destination": {"imap": {"host": "imap.new.test", "credentialsRef": {"name": "new"}}},
                "domains": [{"name": "a.test", "credentialsRef": {"name": "a"}}], "checklist": {"mailboxes": 7}},
        });
        assert!(Found(object.clone()).read().is_ok());
        object["spec"]["checklist"]["mailboxes"] = json!(5_000_000_000_u64);
        object["spec"]["suspend"] = json!(true);
        let found = Found(object.clone());
        let failure = found.read().unwrap_err();
        assert_eq!(failure.class, Class::Configuration);
        let told = failure.in_full();
        assert!(told.starts_with("spec.checklist.mailboxes: ") && told.contains("helm upgrade"), "{told}");
        assert!(found.is_suspended());
        let rest = found.as_far_as_readable().unwrap();
        assert_eq!((rest.metadata.uid.as_deref(), rest.metadata.generation), (Some("u"), Some(4)));
        object["spec"] = json!("anything");
        assert!(Found(object).read().is_err());
    }
}
