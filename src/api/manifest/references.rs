//! Whether all that migrations refer to is there, as far as that can be said without opening anything.

use super::{DEFAULT_NAMESPACE, Key, Kind, Manifest, key_of};
use crate::api::domain::Mailboxes;
use crate::api::reference::{CaKind, CaRef, ConfigMapKeyRef};
use crate::api::schema::{Path, Violation};
use crate::api::{LedgerSpec, MailMigration};
use crate::model::failure::{Failure, Result};

/// The part of a migration whose references are looked at. A domain that lacks its Secret must not stop the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `spec.destination` and `spec.ledger`: what all domains need.
    Common,
    /// The domain at this place of `spec.domains`.
    Domain(usize),
}

impl Manifest {
    /// Refuses references to Secrets and ConfigMaps, and to keys of them, that are not in the manifest. `given` names the
    /// Secrets that come from elsewhere, as by `--secret NAME=DIR`; their keys are not looked at.
    pub fn check_references(
        &self,
        migration: &MailMigration,
        part: Part,
        given: &[impl AsRef<str>],
    ) -> Result<()> {
        let found = self.find_missing(migration, part, given);
        super::first_of(found).map_or(Ok(()), Err)
    }

    /// As [`Self::check_references`], with everything that is missing.
    pub fn find_missing(
        &self,
        migration: &MailMigration,
        part: Part,
        given: &[impl AsRef<str>],
    ) -> Vec<Failure> {
        let key = key_of(migration);
        let Some(origin) = self.origins.get(&key) else { return Vec::new() };
        let mut search = Search { manifest: self, namespace: &key.namespace, given, found: Vec::new() };
        let spec = &migration.spec;
        let root = Path::default().key("spec");
        match part {
            Part::Common => {
                let path = root.key("destination").key(spec.destination.key());
                if let Some(name) = spec.destination.secret() {
                    search.secret(name, &path.key("credentialsRef"));
                }
                search.ca(spec.destination.ca(), &path.key("caRef"));
                if let LedgerSpec::Postgres(postgres) = &spec.ledger {
                    let path = root.key("ledger").key("postgres").key("credentialsRef");
                    search.secret(&postgres.credentials_ref.name, &path);
                }
            }
            Part::Domain(at) => {
                let Some(domain) = spec.domains.get(at) else { return Vec::new() };
                let path = root.key("domains").item(at);
                if let Some(name) = domain.secret() {
                    search.secret(name, &path.key("credentialsRef"));
                }
                search.ca(domain.ca_ref.as_ref(), &path.key("caRef"));
                if let Mailboxes::ConfigMapRef(rows) = &domain.mailboxes {
                    search.config_map(rows, &path.key("mailboxes").key("configMapRef"));
                }
            }
        }
        origin.fail_all(search.found).err().unwrap_or_default()
    }
}

struct Search<'a, G> {
    manifest: &'a Manifest,
    namespace: &'a str,
    given: &'a [G],
    found: Vec<Violation>,
}

impl<G: AsRef<str>> Search<'_, G> {
    fn secret(&mut self, name: &str, path: &Path) {
        if !self.is_given(name) && self.manifest.secret(self.namespace, name).is_none() {
            self.missing(Kind::Secret, name, path);
        }
    }

    fn config_map(&mut self, wanted: &ConfigMapKeyRef, path: &Path) {
        match self.manifest.config_map(self.namespace, &wanted.name) {
            None => self.missing(Kind::ConfigMap, &wanted.name, path),
            Some(values) if !values.contains_key(&wanted.key) => {
                self.without_key(Kind::ConfigMap, &wanted.name, &wanted.key, path);
            }
            Some(_) => {}
        }
    }

    fn ca(&mut self, wanted: Option<&CaRef>, path: &Path) {
        let Some(wanted) = wanted else { return };
        match wanted.kind {
            CaKind::ConfigMap => {
                let rows = ConfigMapKeyRef { name: wanted.name.clone(), key: wanted.key.clone() };
                self.config_map(&rows, path);
            }
            CaKind::Secret if self.is_given(&wanted.name) => {}
            CaKind::Secret => match self.manifest.secret(self.namespace, &wanted.name) {
                None => self.missing(Kind::Secret, &wanted.name, path),
                Some(values) if !values.contains_key(&wanted.key) => {
                    self.without_key(Kind::Secret, &wanted.name, &wanted.key, path);
                }
                Some(_) => {}
            },
        }
    }

    fn is_given(&self, name: &str) -> bool {
        self.given.iter().any(|given| given.as_ref() == name)
    }

    fn missing(&mut self, kind: Kind, name: &str, path: &Path) {
        let elsewhere = self.manifest.origins.keys().find(|key| key.kind == kind && key.name == name);
        let what = format!("{kind} \"{name}\" is not in the manifest");
        let hint = match (elsewhere, kind) {
            (Some(Key { namespace, .. }), _) => {
                let ours = if self.namespace == DEFAULT_NAMESPACE {
                    "default (none is named)"
                } else {
                    self.namespace
                };
                format!(
                    "it is there in the namespace {namespace}, and the migration is in {ours}; bring them together"
                )
            }
            (None, Kind::Secret) => format!("add it, or give --secret {name}=DIR (one file a key)"),
            (None, _) => "add it".to_owned(),
        };
        self.found.push(Violation::new(path.key("name"), what).hint(hint));
    }

    fn without_key(&mut self, kind: Kind, name: &str, key: &str, path: &Path) {
        let what = format!("{kind} \"{name}\" has no key \"{key}\"");
        self.found
            .push(Violation::new(path.key("key"), what).hint("add the key, or name the one that is there"));
    }
}
