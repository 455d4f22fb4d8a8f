//! Secrets and ConfigMaps. On a laptop their values stand in the manifest, in files, in the environment, or in directories
//! given with `--secret NAME=DIR` (one file a key); in a pod Kubernetes mounts them. They are read when they are needed and
//! never kept elsewhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::files::can_be_read_by_others;
use super::grants::{self, Granted, TokenAccess};
use super::ledgers::Database;
use crate::api::MailMigration;
use crate::api::manifest::{Manifest, Part, SecretValue};
use crate::api::reference::{CaKind, CaRef};
use crate::mail::credentials::{Credentials, MailboxProof, Proof};
use crate::model::failure::{Failure, Place, Result};
use crate::model::secret::Secret;

/// The largest file that a secret is read from, in bytes; a Kubernetes Secret holds no more.
const FILE_MAX: u64 = 1024 * 1024;

/// Where the values of Secrets and ConfigMaps come from.
#[derive(Debug)]
pub struct Secrets(Source);

#[derive(Debug)]
enum Source {
    Manifest {
        manifest: Manifest,
        directories: BTreeMap<String, PathBuf>,
        /// Directory that relative `file:` references start from: that of the manifest's first file.
        base: PathBuf,
    },
    /// A directory for each object, with a file for each key. An object that does not exist has an empty one.
    Mounted { secrets: PathBuf, config_maps: PathBuf },
}

impl Secrets {
    /// Values of a manifest and of directories.
    pub fn new(manifest: Manifest, directories: BTreeMap<String, PathBuf>, base: PathBuf) -> Self {
        Self(Source::Manifest { manifest, directories, base })
    }

    /// Values that Kubernetes mounts, `<directory>/<name>/<key>`. They may appear or change at any time.
    pub fn mounted(secrets: impl Into<PathBuf>, config_maps: impl Into<PathBuf>) -> Self {
        Self(Source::Mounted { secrets: secrets.into(), config_maps: config_maps.into() })
    }

    /// Refuses references to what is not in the manifest, with file and line. In a pod whoever needs a value is told.
    ///
    /// # Errors
    /// A failure that names the field.
    pub fn check_references(&self, migration: &MailMigration, part: Part) -> Result<()> {
        match &self.0 {
            Source::Manifest { manifest, directories, .. } => {
                let given: Vec<&str> = directories.keys().map(String::as_str).collect();
                manifest.check_references(migration, part, &given)
            }
            Source::Mounted { .. } => Ok(()),
        }
    }

    /// The files with values of Secrets that others than their owner can read.
    pub fn exposed(&self) -> Vec<PathBuf> {
        let Source::Manifest { manifest, directories, base } = &self.0 else { return Vec::new() };
        let (read, referred) = manifest.secret_files();
        let documents = read.into_iter().map(PathBuf::from);
        let referred = referred.into_iter().map(|path| base.join(path));
        let keys = directories.values();
        let keys = keys.flat_map(|directory| keys_of(directory).into_iter().map(|key| directory.join(key)));
        documents.chain(referred).chain(keys).filter(|path| can_be_read_by_others(path)).collect()
    }

    /// The file and line of a field of a migration, where it was read from a file.
    pub fn place(&self, migration: &MailMigration, path: &str) -> Option<String> {
        match &self.0 {
            Source::Manifest { manifest, .. } => manifest.place(migration, path),
            Source::Mounted { .. } => None,
        }
    }

    /// What is said in a pod of a Secret that is not there, or that has none of the keys that are needed.
    fn check_mounted(&self, namespace: &str, name: &str, keys: &str, example: &str) -> Result<()> {
        let Source::Mounted { secrets, .. } = &self.0 else { return Ok(()) };
        // What begins with a dot is Kubernetes' own.
        let is_key = |entry: &fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
        if fs::read_dir(secrets.join(name)).is_ok_and(|entries| entries.flatten().any(|e| is_key(&e))) {
            return Ok(());
        }
        let what = format!("Secret \"{name}\" does not exist in namespace {namespace}, or has no key {keys}");
        Err(Failure::configuration(what)
            .hint(format!("kubectl create secret generic {name} -n {namespace} {example}")))
    }

    /// One value of a Secret; `None` when the key is not there.
    fn value(&self, namespace: &str, name: &str, key: &str) -> Result<Option<Secret>> {
        let (manifest, directories, base) = match &self.0 {
            Source::Manifest { manifest, directories, base } => (manifest, directories, base),
            Source::Mounted { secrets, .. } => return read_key(&secrets.join(name), key),
        };
        if let Some(directory) = directories.get(name) {
            return read_key(directory, key);
        }
        let value = manifest.secret(namespace, name).and_then(|values| values.get(key));
        let place = || format!("Secret \"{name}\", key {key}");
        match value {
            None => Ok(None),
            Some(SecretValue::Literal(secret)) => Ok(Some(secret.clone())),
            Some(SecretValue::File(path)) => read_file(&base.join(path)).map(Some).map_err(|f| f.at(place())),
            Some(SecretValue::Env(variable)) => match std::env::var(variable) {
                Ok(text) => Ok(Some(Secret::new(text))),
                Err(_) => {
                    Err(Failure::configuration(format!("the environment variable {variable} is not set"))
                        .hint("set it, or write file: and a path")
                        .at(place()))
                }
            },
        }
    }

    /// The credentials that a Secret holds.
    ///
    /// # Errors
    /// A failure that names the Secret and the missing or unreadable key.
    pub fn credentials(&self, namespace: &str, name: &str, access: &TokenAccess) -> Result<Credentials> {
        let value = |key: &str| self.value(namespace, name, key);
        let missing = |key: &str, other: &str| {
            Failure::configuration(format!("Secret \"{name}\" has {other} but no key {key}"))
                .hint(format!("add the key {key}"))
        };
        let granted = grants::read(value, access).at(|| format!("Secret \"{name}\""))?;
        if let (None, Some(tenant)) = (&granted, &access.tenant) {
            let keys = ["password", "masterPassword", "mailboxes.csv"];
            let has = |key: &&str| matches!(value(key), Ok(Some(_)));
            if let Some(key) = keys.into_iter().find(has) {
                return Err(grants::no_passwords(name, key, tenant));
            }
        }
        if let Some(rows) = value("mailboxes.csv")? {
            let refresh = |token| match &granted {
                Some(Granted::Users(client)) => Some(Proof::Token(client.user(token, access))),
                _ => None,
            };
            let rows = read_rows(&rows, name, refresh)?;
            if let Some(tenant) = &access.tenant
                && rows.iter().any(|row| row.proof.password().is_some())
            {
                return Err(grants::no_passwords(name, "mailboxes.csv", tenant));
            }
            return Ok(Credentials::PerMailbox(rows));
        }
        match granted {
            Some(Granted::Application(bearer)) => return Ok(Credentials::Application(bearer)),
            Some(Granted::User(bearer)) => {
                let username = value("username")?.ok_or_else(|| missing("username", "refreshToken"))?;
                let username = username.expose().to_owned();
                return Ok(Credentials::Single { username, proof: Proof::Token(bearer) });
            }
            Some(Granted::Users(_)) | None => {}
        }
        if let Some(user) = value("masterUser")? {
            let password = value("masterPassword")?.ok_or_else(|| missing("masterPassword", "masterUser"))?;
            let separator =
                value("masterSeparator")?.map(|s| s.expose().to_owned()).filter(|s| !s.is_empty());
            return Ok(Credentials::Master { user: user.expose().to_owned(), password, separator });
        }
        if let Some(username) = value("username")? {
            let password = value("password")?.ok_or_else(|| missing("password", "username"))?;
            let username = username.expose().to_owned();
            return Ok(Credentials::Single { username, proof: Proof::Password(password) });
        }
        self.check_mounted(
            namespace,
            name,
            "username, masterUser, clientId, serviceAccount.json or mailboxes.csv",
            "--from-literal=username=… --from-literal=password=…",
        )?;
        if access.tenant.is_some() {
            return Err(Failure::configuration(format!("Secret \"{name}\" names no application"))
                .hint(grants::APPLICATION));
        }
        Err(Failure::configuration(format!("Secret \"{name}\" holds no credentials")).hint(
            "give it the keys username and password, or masterUser and masterPassword, or mailboxes.csv, or those of docs/credentials.md",
        ))
    }

    /// Tells whether a Secret is the one that it was, without telling what is in it.
    ///
    /// # Errors
    /// A failure that names a key that cannot be read.
    pub fn version(&self, namespace: &str, name: &str, salt: &[u8; 32]) -> Result<String> {
        let keys: Vec<String> = match &self.0 {
            Source::Manifest { manifest, directories, .. } => match directories.get(name) {
                Some(directory) => keys_of(directory),
                None => {
                    manifest.secret(namespace, name).into_iter().flat_map(BTreeMap::keys).cloned().collect()
                }
            },
            Source::Mounted { secrets, .. } => keys_of(&secrets.join(name)),
        };
        let mut hasher = blake3::Hasher::new_keyed(salt);
        for key in keys {
            let value = self.value(namespace, name, &key)?;
            let value = value.as_ref().map_or("", Secret::expose);
            for part in [key.as_str(), value] {
                hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
            }
        }
        Ok(hasher.finalize().to_hex()[..16].to_owned())
    }

    /// The database that a Secret names.
    ///
    /// # Errors
    /// A failure that names the Secret and the missing or unreadable key.
    pub fn database(&self, namespace: &str, name: &str) -> Result<Database> {
        self.check_mounted(
            namespace,
            name,
            "host",
            "--from-literal=host=… --from-literal=username=… --from-literal=password=…",
        )?;
        Database::read(|key| self.value(namespace, name, key)).at(|| format!("Secret \"{name}\""))
    }

    /// The PEM text that a reference names; empty when there is no reference.
    ///
    /// # Errors
    /// A failure that names the object and the key.
    pub fn authority(&self, namespace: &str, wanted: Option<&CaRef>) -> Result<String> {
        let Some(wanted) = wanted else { return Ok(String::new()) };
        let (name, key) = (&wanted.name, &wanted.key);
        match wanted.kind {
            CaKind::Secret => {
                let found = self.value(namespace, name, key)?.map(|s| s.expose().to_owned());
                found.ok_or_else(|| self.no_key("Secret", namespace, name, key))
            }
            CaKind::ConfigMap => self.config_value(namespace, name, key),
        }
    }

    /// One value of a ConfigMap.
    ///
    /// # Errors
    /// A failure that names the ConfigMap and the key that is not there.
    pub fn config_value(&self, namespace: &str, name: &str, key: &str) -> Result<String> {
        let found = match &self.0 {
            Source::Manifest { manifest, .. } => {
                manifest.config_map(namespace, name).and_then(|values| values.get(key)).cloned()
            }
            Source::Mounted { config_maps, .. } => {
                read_key(&config_maps.join(name), key)?.map(|s| s.expose().to_owned())
            }
        };
        found.ok_or_else(|| self.no_key("ConfigMap", namespace, name, key))
    }

    fn no_key(&self, kind: &str, namespace: &str, name: &str, key: &str) -> Failure {
        match &self.0 {
            Source::Manifest { .. } => {
                Failure::configuration(format!("{kind} \"{name}\" has no key \"{key}\""))
                    .hint("add the key, or name the one that is there")
            }
            Source::Mounted { .. } => {
                let create = if kind == "Secret" { "secret generic" } else { "configmap" };
                Failure::configuration(format!(
                    "{kind} \"{name}\" does not exist in namespace {namespace}, or has no key {key}"
                ))
                .hint(format!("kubectl create {create} {name} -n {namespace} --from-file={key}"))
            }
        }
    }
}

/// The keys of a directory with one file for each, in their order. What begins with a dot is Kubernetes' own.
fn keys_of(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.path().is_file());
    let names = files.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut keys: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    keys.sort_unstable();
    keys
}

/// The value of a key in a directory with one file for each; `None` when there is no such file.
fn read_key(directory: &Path, key: &str) -> Result<Option<Secret>> {
    let path = directory.join(key);
    if path.exists() { read_file(&path).map(Some) } else { Ok(None) }
}

fn read_file(path: &Path) -> Result<Secret> {
    let unreadable = |e: &std::io::Error| {
        Failure::configuration(format!("{}: cannot be read: {e}", path.display()))
            .hint("check the path and the permissions")
            .caused_by(e)
    };
    let size = fs::metadata(path).map_err(|e| unreadable(&e))?.len();
    if size > FILE_MAX {
        return Err(Failure::configuration(format!(
            "{}: is larger than a Secret may be (1 MiB)",
            path.display()
        )));
    }
    let text = fs::read_to_string(path).map_err(|e| unreadable(&e))?;
    // Editors end files with a line break; no password does.
    let trimmed = text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t));
    Ok(Secret::new(trimmed))
}

/// Reads `mailboxes.csv`: the columns address and password or refreshToken, and if wanted username. `tokens` makes a proof
/// of a refresh token, where an application is named beside. No message repeats a cell.
fn read_rows(
    rows: &Secret,
    name: &str,
    tokens: impl Fn(Secret) -> Option<Proof>,
) -> Result<Vec<MailboxProof>> {
    let place = format!("Secret \"{name}\", key mailboxes.csv");
    let broken = |what: String| {
        Failure::configuration(what)
            .hint("the first line names the columns: address,username,password; quote cells that hold commas")
            .at(place.clone())
    };
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(rows.expose().as_bytes());
    let headers = reader.headers().map_err(|_| broken("is no CSV that can be read".to_owned()))?.clone();
    let column = |wanted: &str| headers.iter().position(|h| h.trim().eq_ignore_ascii_case(wanted));
    let (password, refresh) = (column("password"), column("refreshToken"));
    let Some(address) = column("address").filter(|_| password.is_some() || refresh.is_some()) else {
        return Err(broken("lacks the column address or the column password".to_owned()));
    };
    let username = column("username");
    let mut proofs = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| {
            let line = e.position().map_or(0, csv::Position::line);
            broken(format!("line {line} cannot be read"))
        })?;
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |at: usize| record.get(at).filter(|cell| !cell.is_empty());
        let proof = match (password.and_then(cell), refresh.and_then(cell)) {
            (Some(password), _) => Some(Proof::Password(Secret::new(password))),
            (None, Some(token)) => Some(tokens(Secret::new(token)).ok_or_else(|| {
                broken(format!("line {line} has a refresh token, and the Secret names no application for it"))
                    .hint("add the keys clientId and tenantId or tokenUrl")
            })?),
            (None, None) => None,
        };
        let (Some(address), Some(proof)) = (cell(address), proof) else {
            return Err(broken(format!("line {line} has no address or no password")));
        };
        proofs.push(MailboxProof {
            address: address.trim().to_owned(),
            username: username.and_then(cell).map(|u| u.trim().to_owned()),
            proof,
        });
    }
    Ok(proofs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_another_version_when_any_of_it_differs() {
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("s");
        fs::create_dir(&secret).unwrap();
        let secrets = Secrets::mounted(directory.path(), directory.path());
        let version = || secrets.version("n", "s", &[7; 32]).unwrap();
        let mut seen = vec![version()];
        let mut differs = |key: &str, value: &str| {
            fs::write(secret.join(key), value).unwrap();
            assert!(!seen.contains(&version()), "{key}");
            assert_eq!(version(), version());
            seen.push(version());
        };
        differs("username", "bob");
        differs("password", "hunter2");
        differs("password", "hunter3");
        differs("passwordh", "unter3");
        let before = version();
        fs::write(secret.join("..data"), "Kubernetes' own").unwrap();
        assert_eq!(version(), before);
    }

    #[test]
    fn rows_are_read_and_broken_ones_are_named_without_their_cells() {
        let rows = Secret::new("address,username,password\nbob@b.test,,\"a,b \"\n");
        let [row] = &read_rows(&rows, "s", |_| None).unwrap()[..] else { panic!() };
        assert_eq!(
            (row.address.as_str(), row.username.as_deref(), row.proof.password().map(Secret::expose)),
            ("bob@b.test", None, Some("a,b "))
        );
        let failure =
            read_rows(&Secret::new("address,password\nbob@b.test,hunter2\n,canary\n"), "s", |_| None)
                .unwrap_err();
        assert_eq!(
            failure.sentence(),
            "Secret \"s\", key mailboxes.csv: line 3 has no address or no password"
        );
        assert!(read_rows(&Secret::new("user,pass\na,b\n"), "s", |_| None).is_err());
    }
}
