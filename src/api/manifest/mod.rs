//! The one reader of YAML: text → JSON value → type, the way that the API server takes. `serde_yaml` on its own refuses
//! the unions that users write and is silent about fields that nobody knows; by way of JSON, and checked against the
//! same schema and CEL rules that a cluster gets, a laptop refuses what the API server would refuse, with file, line and
//! path. Files are not opened here: the caller hands text.

mod lines;
mod objects;
mod references;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use objects::SecretValue;
pub use references::Part;

use self::lines::Lines;
use super::reference::CaKind;
use super::schema::{self, Path, Violation};
use super::{MailMigration, names, rules};
use crate::model::failure::{Failure, Result};
use crate::model::text::printable;

/// The largest file that is read, in bytes. etcd takes objects of 1.5 MiB; several may stand in a file.
pub const FILE_MAX: usize = 16 * 1024 * 1024;

/// The namespace of objects that name none, as in kubectl.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The keys of Secrets that say who logs in and where, and open nothing by themselves.
const TOLD_OPENLY: [&str; 8] =
    ["username", "masterUser", "masterSeparator", "tenantId", "clientId", "cloud", "tokenUrl", "scope"];

/// The kinds that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    MailMigration,
    Secret,
    ConfigMap,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The key of an object: its kind, its namespace and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kind: Kind,
    namespace: String,
    name: String,
}

/// Where an object was read.
#[derive(Debug)]
struct Origin {
    file: String,
    lines: Lines,
}

impl Origin {
    fn place(&self, path: &Path) -> String {
        format!("{}:{}", self.file, self.lines.of(path))
    }

    fn fail(&self, violation: Violation) -> Failure {
        let place = violation.path.to_string();
        let mut failure = Failure::configuration(violation.what);
        if !place.is_empty() {
            failure = failure.at(place);
        }
        if let Some(hint) = violation.hint {
            failure = failure.hint(hint);
        }
        failure.at(self.place(&violation.path))
    }

    /// Every violation as a failure, the misspelt fields first, then by line.
    fn fail_all(&self, mut found: Vec<Violation>) -> std::result::Result<(), Vec<Failure>> {
        // A misspelt field is also a missing one; the spelling is what a person must see.
        found.sort_by_key(|violation| {
            (!violation.is_unknown_field, self.lines.of(&violation.path), violation.path.clone())
        });
        let failures: Vec<Failure> = found.into_iter().map(|violation| self.fail(violation)).collect();
        if failures.is_empty() { Ok(()) } else { Err(failures) }
    }
}

/// All that some files hold.
#[derive(Debug, Default)]
pub struct Manifest {
    /// The migrations, in the order of the files, with defaults filled in and a namespace each.
    pub migrations: Vec<MailMigration>,
    secrets: BTreeMap<Key, BTreeMap<String, SecretValue>>,
    config_maps: BTreeMap<Key, BTreeMap<String, String>>,
    origins: BTreeMap<Key, Origin>,
}

/// Reads files, each given as (name to show, text). Refuses everything that the API server would refuse, and fields that
/// nobody knows.
pub fn read(files: &[(impl AsRef<str>, impl AsRef<str>)]) -> Result<Manifest> {
    let (manifest, failures) = read_all(files);
    first_of(failures).map_or(Ok(manifest), Err)
}

/// As [`read`], with all that can be read and everything that is wrong with the rest.
pub fn read_all(files: &[(impl AsRef<str>, impl AsRef<str>)]) -> (Manifest, Vec<Failure>) {
    let mut manifest = Manifest::default();
    let mut failures = Vec::new();
    for (file, text) in files {
        manifest.read_file(file.as_ref(), text.as_ref(), &mut failures);
    }
    if manifest.migrations.is_empty() && failures.is_empty() {
        let files = files.iter().map(|(file, _)| file.as_ref()).collect::<Vec<_>>().join(", ");
        failures.push(
            Failure::configuration("there is no MailMigration in it")
                .hint(format!(
                    "add a document with apiVersion: {} and kind: MailMigration",
                    names::API_VERSION
                ))
                .at(files),
        );
    }
    (manifest, failures)
}

/// The first of several failures; the others are its causes, so that one run shows them all with -v.
fn first_of(failures: Vec<Failure>) -> Option<Failure> {
    let mut failures = failures.into_iter();
    let mut first = failures.next()?;
    let others: Vec<String> = failures.take(50).map(|failure| failure.sentence()).collect();
    if !others.is_empty() {
        first.causes = others;
    }
    Some(first)
}

/// YAML text of a value, by way of JSON, so that unions are written as users write them.
pub fn to_yaml(value: &impl serde::Serialize) -> Result<String> {
    let json =
        serde_json::to_value(value).map_err(|e| Failure::internal("a value is not JSON").caused_by(&e))?;
    serde_yaml::to_string(&json).map_err(|e| Failure::internal("a value is not YAML").caused_by(&e))
}

/// A value from YAML text that we wrote ourselves with [`to_yaml`], as in the state directory; what users write goes
/// through [`read`].
pub fn from_yaml<T: DeserializeOwned>(text: &str) -> Result<T> {
    let broken = |e: &dyn std::error::Error| {
        Failure::configuration(format!("it is not what was written: {}", printable(&e.to_string())))
    };
    let json = Value::deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|e| broken(&e))?;
    serde_json::from_value(json).map_err(|e| broken(&e))
}

impl Manifest {
    /// The values of a Secret of the manifest, by key.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<&BTreeMap<String, SecretValue>> {
        self.secrets.get(&Key { kind: Kind::Secret, namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// The values of a ConfigMap of the manifest, by key.
    /// A value that begins with `file:` names the file that it is read from.
    pub fn config_map(&self, namespace: &str, name: &str) -> Option<&BTreeMap<String, String>> {
        self.config_maps.get(&Key {
            kind: Kind::ConfigMap,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// The file and line of a field of a migration, as in `contoso.yaml:31`; `path` is as in `spec.domains[1].name`.
    pub fn place(&self, migration: &MailMigration, path: &str) -> Option<String> {
        Some(self.origins.get(&key_of(migration))?.place(&Path::parse(path)))
    }

    /// The file that a migration was read from.
    pub fn file_of(&self, migration: &MailMigration) -> Option<&str> {
        Some(self.origins.get(&key_of(migration))?.file.as_str())
    }

    /// The files that values of Secrets stand in which nobody else may know: those that were read, by their names, and those that a
    /// value refers to. A name to log in with is no password, and neither is a reference to where one is.
    pub fn secret_files(&self) -> (BTreeSet<&str>, BTreeSet<&str>) {
        let (mut read, mut referred) = (BTreeSet::new(), BTreeSet::new());
        for (key, values) in &self.secrets {
            for (name, value) in values {
                match value {
                    _ if TOLD_OPENLY.contains(&name.as_str()) => {}
                    SecretValue::Literal(_) => {
                        read.extend(self.origins.get(key).map(|origin| origin.file.as_str()));
                    }
                    SecretValue::File(path) => {
                        referred.insert(path.as_str());
                    }
                    SecretValue::Env(_) => {}
                }
            }
        }
        (read, referred)
    }

    /// The file that a value of a Secret or a ConfigMap is in, and the line that its text begins on, where the lines of
    /// the text are lines of the file.
    pub fn value_place(
        &self,
        kind: CaKind,
        namespace: &str,
        name: &str,
        key: &str,
    ) -> Option<(&str, Option<usize>)> {
        let (kind, fields) = match kind {
            CaKind::Secret => (Kind::Secret, &["stringData"][..]),
            CaKind::ConfigMap => (Kind::ConfigMap, &["data"][..]),
        };
        let key_of = Key { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        let origin = self.origins.get(&key_of)?;
        let line =
            fields.iter().find_map(|field| origin.lines.text_line(&Path::default().key(field).key(key)));
        Some((&origin.file, line))
    }

    fn read_file(&mut self, file: &str, text: &str, failures: &mut Vec<Failure>) {
        if let Err(failure) = self.read_documents(file, text, failures) {
            failures.push(failure);
        }
    }

    /// Reads the documents of a file; those that cannot stand are told in `failures`.
    fn read_documents(&mut self, file: &str, text: &str, failures: &mut Vec<Failure>) -> Result<()> {
        if text.len() > FILE_MAX {
            let what = format!("{} bytes are more than the {FILE_MAX} that are read", text.len());
            return Err(Failure::configuration(what).hint("part it into several files").at(file));
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = lines::read(file, text)?;
        let counted = lines.len();
        let mut lines = lines.into_iter();
        let (mut documents, mut objects) = (0, 0);
        for document in serde_yaml::Deserializer::from_str(text) {
            documents += usize::from(counted > 0);
            // An empty stream is one document to serde_yaml and none to the line reader.
            let Some(lines) = lines.next() else { break };
            let origin = Origin { file: file.to_owned(), lines };
            let value = Value::deserialize(document).map_err(|error| refuse_yaml(&origin, &error))?;
            if value.is_null() {
                continue;
            }
            if let Err(found) = self.read_object(origin, value) {
                failures.extend(found);
            }
            objects += 1;
        }
        // Two parsers that part a file differently would let a document pass unread.
        if documents != counted {
            return Err(Failure::configuration("the documents of this file cannot be told apart")
                .hint("write --- alone on a line between them")
                .at(file));
        }
        if objects == 0 {
            return Err(Failure::configuration("the file is empty")
                .hint("it should hold a MailMigration, and the Secrets that it names")
                .at(file));
        }
        Ok(())
    }

    fn read_object(&mut self, origin: Origin, mut value: Value) -> std::result::Result<(), Vec<Failure>> {
        let fail = |violation: Violation| vec![origin.fail(violation)];
        let kind = kind_of(&value).map_err(fail)?;
        // The output of `kubectl get -o yaml` may be read again; a status is never wanted.
        if let Some(fields) = value.as_object_mut().filter(|_| kind == Kind::MailMigration) {
            fields.remove("status");
        }
        let metadata = objects::metadata(&value).map_err(fail)?;
        let key = Key {
            kind,
            namespace: metadata.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
            name: metadata.name.clone().unwrap_or_default(),
        };
        if let Some(first) = self.origins.get(&key) {
            let what =
                format!("{kind} \"{}\" is there already, at {}", key.name, first.place(&Path::default()));
            return Err(fail(Violation::new(Path::default(), what).hint("keep one of the two")));
        }
        match kind {
            Kind::MailMigration => {
                let (read, found) = migration(&origin, &value, metadata, &key.namespace);
                self.migrations.extend(read);
                self.origins.insert(key, origin);
                return if found.is_empty() { Ok(()) } else { Err(found) };
            }
            Kind::Secret => {
                let values = objects::secret(&value).map_err(fail)?;
                self.secrets.insert(key.clone(), values);
            }
            Kind::ConfigMap => {
                let values = objects::config_map(&value).map_err(fail)?;
                self.config_maps.insert(key.clone(), values);
            }
        }
        self.origins.insert(key, origin);
        Ok(())
    }
}

fn key_of(migration: &MailMigration) -> Key {
    let metadata = &migration.metadata;
    Key {
        kind: Kind::MailMigration,
        namespace: metadata.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        name: metadata.name.clone().unwrap_or_default(),
    }
}

/// The migration of a document, and everything that is wrong with it. One with faults that leave it readable, as a misspelt
/// field does, is returned as well: what it refers to and its lists can be looked at nevertheless, so that all is told at once.
fn migration(
    origin: &Origin,
    value: &Value,
    metadata: ObjectMeta,
    namespace: &str,
) -> (Option<MailMigration>, Vec<Failure>) {
    let schema = match super::crd::schema_of_migrations() {
        Ok(schema) => schema,
        Err(failure) => return (None, vec![failure]),
    };
    let value = schema::with_defaults(schema, value);
    let mut found = schema::check(schema, &value);
    if !value["spec"].is_object() {
        let missing = Violation::new(Path::default(), "spec is missing");
        found = vec![missing.hint("say under spec: what is to be migrated: destination and domains")];
    }
    let mut failures = origin.fail_all(found).err().unwrap_or_default();
    let mut migration: MailMigration = match serde_json::from_value(value) {
        Ok(migration) => migration,
        // Only a schema that is laxer than its type gets here with nothing found before, which a test looks for.
        Err(error) => {
            if failures.is_empty() {
                let what = format!("it cannot be read: {}", printable(&error.to_string()));
                failures.push(origin.fail(Violation::new(Path::default(), what)));
            }
            return (None, failures);
        }
    };
    failures.extend(origin.fail_all(rules::check(&migration.spec)).err().unwrap_or_default());
    migration.metadata = metadata;
    migration.metadata.namespace = Some(namespace.to_owned());
    (Some(migration), failures)
}

/// Which of our kinds a document is.
fn kind_of(value: &Value) -> std::result::Result<Kind, Violation> {
    let root = Path::default();
    let Some(fields) = value.as_object() else {
        return Err(Violation::new(root, "it is not an object")
            .hint("each document begins with apiVersion, kind and metadata"));
    };
    let word = |name: &str| {
        let missing = || Violation::new(Path::default(), format!("{name} is missing"));
        let hint = format!(
            "each document begins with apiVersion, kind and metadata, as in apiVersion: {}",
            names::API_VERSION
        );
        fields.get(name).and_then(Value::as_str).ok_or_else(|| missing().hint(hint))
    };
    let kind = match word("kind")? {
        kind if kind == MailMigration::kind(&()) => Kind::MailMigration,
        "Secret" => Kind::Secret,
        "ConfigMap" => Kind::ConfigMap,
        other => {
            let what = format!("\"{}\" is not read here", printable(other));
            return Err(Violation::new(root.key("kind"), what)
                .hint("MailMigration, Secret and ConfigMap are; keep the rest in another file"));
        }
    };
    let wanted = if kind == Kind::MailMigration { names::API_VERSION } else { "v1" };
    match word("apiVersion")? {
        version if version == wanted => Ok(kind),
        other => {
            let what = format!("\"{}\" has no {kind}", printable(other));
            Err(Violation::new(root.key("apiVersion"), what).hint(format!("write apiVersion: {wanted}")))
        }
    }
}

fn refuse_yaml(origin: &Origin, error: &serde_yaml::Error) -> Failure {
    let line = error.location().map_or(origin.lines.line, |at| at.line());
    Failure::configuration(format!("this is not YAML that can be read: {}", printable(&error.to_string())))
        .hint("write plain mappings, lists and texts, without tags")
        .at(format!("{}:{line}", origin.file))
}
