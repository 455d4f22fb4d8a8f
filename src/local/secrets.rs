//! Secrets and ConfigMaps. On a laptop their values stand in the manifest, in files, in the environment, or in directories
//! given with `--secret NAME=DIR` (one file a key); in a pod Kubernetes mounts them. They are read when they are needed and
//! never kept elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;

use super::database::Database;
use super::files::can_be_read_by_others;
use super::grants::{self, Granted, TokenAccess};
use super::lists::{Kept, ListPlace, PlacedList, Unread, join};
use crate::api::manifest::{Manifest, Part, SecretValue};
use crate::api::reference::{CaKind, CaRef};
use crate::api::{Files, MailMigration};
use crate::auth::credentials::{Credentials, MailboxProof, MailboxProofs, Proof};
use crate::model::address::Address;
use crate::model::failure::{Failure, FailureCode, Place, Result, Side};
use crate::model::list::{Column, Heads, List, Row};
use crate::model::secret::Secret;

/// The largest file that a value is read from, in bytes. A Secret of Kubernetes holds 1 MiB; a list on a laptop may be longer.
const FILE_MAX: u64 = 16 * 1024 * 1024;

/// Where the values of Secrets and ConfigMaps come from.
#[derive(Debug)]
pub struct Secrets {
    source: Source,
    lists: Kept,
}

/// The key of a Secret's list.
pub const LIST_KEY: &str = "mailboxes.csv";

#[derive(Debug)]
enum Source {
    Manifest {
        manifest: Manifest,
        directories: BTreeMap<String, PathBuf>,
        /// Directory that relative `file:` references start from: that of the manifest's first file.
        base: PathBuf,
    },
    /// A directory for each object, with a file for each key. An object that does not exist has an empty one. Volumes with mail
    /// are below `volumes`, called as the end that they are of.
    Mounted { secrets: PathBuf, config_maps: PathBuf, volumes: PathBuf },
}

impl Secrets {
    /// Values of a manifest and of directories.
    pub fn new(manifest: Manifest, directories: BTreeMap<String, PathBuf>, base: PathBuf) -> Self {
        Self { source: Source::Manifest { manifest, directories, base }, lists: Kept::default() }
    }

    /// Values that Kubernetes mounts, `<directory>/<name>/<key>`. They may appear or change at any time. Volumes with mail are
    /// mounted at `<volumes>/source` and `<volumes>/destination`.
    pub fn mounted(
        secrets: impl Into<PathBuf>,
        config_maps: impl Into<PathBuf>,
        volumes: impl Into<PathBuf>,
    ) -> Self {
        let source = Source::Mounted {
            secrets: secrets.into(),
            config_maps: config_maps.into(),
            volumes: volumes.into(),
        };
        Self { source, lists: Kept::default() }
    }

    /// The directory of files with mail: on a laptop as it is seen from the manifest that names it, in a pod where its volume is
    /// mounted.
    ///
    /// # Errors
    /// [`crate::model::failure::Class::Configuration`] for files that are named in the way of the other platform.
    pub fn directory(&self, migration: &MailMigration, files: &Files, end: Side) -> Result<PathBuf> {
        match (&self.source, &files.path, &files.claim_ref) {
            (Source::Manifest { manifest, base, .. }, Some(path), _) => {
                let beside = manifest.file_of(migration).and_then(|file| Path::new(file).parent());
                Ok(beside.unwrap_or(base).join(path))
            }
            (Source::Mounted { volumes, .. }, _, Some(claim)) => {
                let volume = volumes.join(end.to_string());
                Ok(claim.path.as_ref().map_or(volume.clone(), |path| volume.join(path)))
            }
            (Source::Manifest { .. }, None, _) => {
                Err(Failure::configuration("a volume claim (claimRef) is there in a cluster alone")
                    .hint("give path: DIRECTORY in its place, or apply this manifest to a cluster"))
            }
            (Source::Mounted { .. }, _, None) => Err(Failure::configuration("a path is for a laptop alone")
                .hint("give claimRef: {name: NAME} in its place, a PersistentVolumeClaim of the namespace")),
        }
    }

    /// Refuses references to what is not in the manifest, with file and line. In a pod whoever needs a value is told.
    ///
    /// # Errors
    /// A failure that names the field.
    pub fn check_references(&self, migration: &MailMigration, part: Part) -> Result<()> {
        match &self.source {
            Source::Manifest { manifest, directories, .. } => {
                let given: Vec<&str> = directories.keys().map(String::as_str).collect();
                manifest.check_references(migration, part, &given)
            }
            Source::Mounted { .. } => Ok(()),
        }
    }

    /// The files with values of Secrets that others than their owner can read.
    pub fn exposed(&self) -> Vec<PathBuf> {
        let Source::Manifest { manifest, directories, base } = &self.source else { return Vec::new() };
        let (read, referred) = manifest.secret_files();
        let documents = read.into_iter().map(PathBuf::from);
        let referred = referred.into_iter().map(|path| base.join(path));
        let keys = directories.values();
        let keys = keys.flat_map(|directory| keys_of(directory).into_iter().map(|key| directory.join(key)));
        documents.chain(referred).chain(keys).filter(|path| can_be_read_by_others(path)).collect()
    }

    /// As [`Self::check_references`], with everything that is missing.
    pub fn find_missing(&self, migration: &MailMigration, part: Part) -> Vec<Failure> {
        match &self.source {
            Source::Manifest { manifest, directories, .. } => {
                let given: Vec<&str> = directories.keys().map(String::as_str).collect();
                manifest.find_missing(migration, part, &given)
            }
            Source::Mounted { .. } => Vec::new(),
        }
    }

    /// The file and line of a field of a migration, where it was read from a file.
    pub fn place(&self, migration: &MailMigration, path: &str) -> Option<String> {
        match &self.source {
            Source::Manifest { manifest, .. } => manifest.place(migration, path),
            Source::Mounted { .. } => None,
        }
    }

    /// The failure in a pod for a Secret that is not there, or that has none of the keys that are needed.
    fn check_mounted(&self, namespace: &str, name: &str, keys: &str, example: &str) -> Result<()> {
        let Source::Mounted { secrets, .. } = &self.source else { return Ok(()) };
        // A name that begins with a dot is Kubernetes' own.
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
        let Some(Found { bytes, place, is_file }) = self.find(namespace, name, key)? else { return Ok(None) };
        let spoiled = |what: &str, hint: &str| Failure::configuration(what).hint(hint).at(place.name.clone());
        let text = std::str::from_utf8(&bytes).map_err(|_| {
            spoiled("is no text in UTF-8", "save it as UTF-8: passwords and keys are sent as such")
        })?;
        // NUL parts the fields of SASL PLAIN: behind one, a password would be another's name.
        if text.contains('\0') {
            let hint = "write it anew: it may have been saved as UTF-16, or filled up to a length";
            return Err(spoiled("holds a NUL character, which no password, name or key has", hint));
        }
        // Editors end files with a line break; no password does.
        let trimmed = text.strip_suffix('\n').map(|t| t.strip_suffix('\r').unwrap_or(t)).filter(|_| is_file);
        Ok(Some(Secret::new(trimmed.unwrap_or(text))))
    }

    /// The bytes of one value of a Secret, and where they stand; `None` when the key is not there.
    fn find(&self, namespace: &str, name: &str, key: &str) -> Result<Option<Found>> {
        let place = || format!("Secret \"{name}\", key {key}");
        let (manifest, directories, base) = match &self.source {
            Source::Manifest { manifest, directories, base } => (manifest, directories, base),
            Source::Mounted { secrets, .. } => {
                let found = read_key(&secrets.join(name), key)?;
                // Nobody sees a pod's files.
                return Ok(found.map(|found| Found { place: found.place.called(place()), ..found }));
            }
        };
        if let Some(directory) = directories.get(name) {
            return read_key(directory, key);
        }
        let value = manifest.secret(namespace, name).and_then(|values| values.get(key));
        match value {
            None => Ok(None),
            Some(SecretValue::Literal(secret)) => {
                let in_manifest = manifest.value_place(CaKind::Secret, namespace, name, key);
                Ok(Some(Found::within(secret.expose(), place(), in_manifest)))
            }
            Some(SecretValue::File(path)) => read_file(&base.join(path)).map(Some).map_err(|f| f.at(place())),
            Some(SecretValue::Env(variable)) => match std::env::var(variable) {
                Ok(text) => Ok(Some(Found::within(&text, place(), None))),
                Err(_) => {
                    Err(Failure::configuration(format!("the environment variable {variable} is not set"))
                        .hint("set it, or write file: and a path")
                        .at(place()))
                }
            },
        }
    }

    /// The list that a Secret holds; `None` when it holds none.
    ///
    /// # Errors
    /// Every row that cannot stand.
    pub fn list(
        &self,
        namespace: &str,
        name: &str,
        heads: &Heads,
    ) -> std::result::Result<Option<PlacedList>, Unread> {
        let found = self.find(namespace, name, LIST_KEY)?;
        found.map(|found| self.lists.read(&found.bytes, heads, found.place)).transpose()
    }

    /// The list that a ConfigMap holds under a key.
    ///
    /// # Errors
    /// A failure that names the ConfigMap and the key that is not there, or every row that cannot stand.
    pub fn config_list(
        &self,
        namespace: &str,
        name: &str,
        key: &str,
        heads: &Heads,
    ) -> std::result::Result<PlacedList, Unread> {
        let found = self.find_config(namespace, name, key)?;
        self.lists.read(&found.bytes, heads, found.place)
    }

    /// The credentials that a Secret holds for one end. `heads` are the names that columns of its list have.
    ///
    /// # Errors
    /// A failure that names the Secret and the missing or unreadable key.
    pub fn credentials(
        &self,
        namespace: &str,
        name: &str,
        access: &TokenAccess,
        heads: &Heads,
        end: Side,
    ) -> Result<Credentials> {
        let value = |key: &str| self.value(namespace, name, key);
        let missing = |key: &str, other: &str| {
            Failure::configuration(format!("Secret \"{name}\" has {other} but no key {key}"))
                .hint(format!("add the key {key}"))
        };
        let granted = grants::read(value, access).at(|| format!("Secret \"{name}\""))?;
        if let (None, Some(tenant)) = (&granted, &access.tenant) {
            let keys = ["password", "masterPassword", LIST_KEY];
            let has = |key: &&str| matches!(value(key), Ok(Some(_)));
            if let Some(key) = keys.into_iter().find(has) {
                return Err(grants::no_passwords(name, key, tenant));
            }
        }
        let list = join(self.list(namespace, name, heads).map_err(|unread| unread.failures))?;
        if let Some(placed) = &list {
            let opens_all =
                value("masterUser")?.is_some() || matches!(granted, Some(Granted::Application(_)));
            // A list that names mailboxes of both ends may leave one end to an administrator.
            let for_this_end = end == Side::Source
                || placed.list.has(Column::DestinationPassword)
                || !(is_two_sided(&placed.list) && opens_all);
            if has_proofs(&placed.list, end) && for_this_end {
                let refresh = |token| match &granted {
                    Some(Granted::Users(client)) => Some(Proof::Token(client.user(token, access))),
                    _ => None,
                };
                let rows = join(prove(placed, end, refresh))?;
                if let Some(tenant) = &access.tenant
                    && rows.rows().iter().any(|row| row.proof.password().is_some())
                {
                    return Err(grants::no_passwords(name, LIST_KEY, tenant));
                }
                return Ok(Credentials::PerMailbox(rows));
            }
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
        if let Some(placed) = list {
            let column =
                if end == Side::Destination { "password or destinationPassword" } else { "password" };
            return Err(Failure::configuration(format!("names no column {column}, and the Secret has no other key that opens mailboxes"))
                .hint("add the column, or say in spec.columns what it is called; or add the keys masterUser and masterPassword")
                .at(placed.place.line(1)));
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
        let keys: Vec<String> = match &self.source {
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
            let value = self.find(namespace, name, &key)?;
            let value = value.as_ref().map_or(&[][..], |found| &found.bytes);
            for part in [key.as_bytes(), value] {
                hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
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
        let found = self.find_config(namespace, name, key)?;
        String::from_utf8(found.bytes.to_vec()).map_err(|_| {
            Failure::configuration("is no text in UTF-8").hint("save it as UTF-8").at(found.place.name)
        })
    }

    /// The bytes of one value of a ConfigMap, and where they stand.
    fn find_config(&self, namespace: &str, name: &str, key: &str) -> Result<Found> {
        let place = || format!("ConfigMap \"{name}\", key {key}");
        let found = match &self.source {
            Source::Manifest { manifest, base, .. } => {
                let value = manifest.config_map(namespace, name).and_then(|values| values.get(key));
                let file =
                    value.and_then(|value| value.strip_prefix("file:")).filter(|path| !path.contains('\n'));
                match (value, file) {
                    (_, Some(path)) => Some(read_file(&base.join(path)).at(place)?),
                    (Some(value), None) => {
                        let in_manifest = manifest.value_place(CaKind::ConfigMap, namespace, name, key);
                        Some(Found::within(value, place(), in_manifest))
                    }
                    (None, None) => None,
                }
            }
            Source::Mounted { config_maps, .. } => {
                let found = read_key(&config_maps.join(name), key)?;
                found.map(|found| Found { place: found.place.called(place()), ..found })
            }
        };
        found.ok_or_else(|| self.no_key("ConfigMap", namespace, name, key))
    }

    fn no_key(&self, kind: &str, namespace: &str, name: &str, key: &str) -> Failure {
        match &self.source {
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

/// The keys of a directory with one file for each, in their order. A name that begins with a dot is Kubernetes' own.
fn keys_of(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.path().is_file());
    let names = files.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut keys: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    keys.sort_unstable();
    keys
}

/// The value of a key in a directory with one file for each; `None` when there is no such file.
fn read_key(directory: &Path, key: &str) -> Result<Option<Found>> {
    let path = directory.join(key);
    if path.exists() { read_file(&path).map(Some) } else { Ok(None) }
}

/// The bytes of a value, and where they stand.
struct Found {
    bytes: Zeroizing<Vec<u8>>,
    place: ListPlace,
    is_file: bool,
}

impl Found {
    /// A text within a manifest or the environment; `file` is the manifest and the line that the text begins on.
    fn within(text: &str, name: String, file: Option<(&str, Option<usize>)>) -> Self {
        let file = file.and_then(|(file, line)| Some((file.to_owned(), line?)));
        let bytes = Zeroizing::new(text.as_bytes().to_vec());
        Self { bytes, place: ListPlace { name, file }, is_file: false }
    }
}

fn read_file(path: &Path) -> Result<Found> {
    let unreadable = |e: &std::io::Error| {
        Failure::configuration(format!("{}: cannot be read: {e}", path.display()))
            .hint("check the path and the permissions")
            .caused_by(e)
    };
    let size = fs::metadata(path).map_err(|e| unreadable(&e))?.len();
    if size > FILE_MAX {
        return Err(Failure::configuration(format!(
            "{}: is larger than {} MiB",
            path.display(),
            FILE_MAX >> 20
        ))
        .hint("part it into several Secrets or ConfigMaps"));
    }
    let bytes = Zeroizing::new(fs::read(path).map_err(|e| unreadable(&e))?);
    Ok(Found { bytes, place: ListPlace::file(path.display().to_string()), is_file: true })
}

/// The rows of a list as logins at one end. `tokens` makes a proof of a refresh token, where an application is named beside.
fn prove(
    placed: &PlacedList,
    end: Side,
    tokens: impl Fn(Secret) -> Option<Proof>,
) -> std::result::Result<MailboxProofs, Vec<Failure>> {
    let list = &*placed.list;
    let two_sided = is_two_sided(list);
    let refuse = |row: &Row, what: &str, hint: &str| {
        Failure::configuration(what).code(FailureCode::BadList).hint(hint).at(placed.place.line(row.line))
    };
    let mut refused = Vec::new();
    let mut proofs: Vec<MailboxProof> = Vec::with_capacity(list.rows.len());
    // By the mailbox at the destination: several may arrive in one.
    let mut first: HashMap<&Address, &Row> = HashMap::new();
    for row in &list.rows {
        let own = (row.username.clone(), &row.password);
        let theirs = (row.destination_username.clone(), &row.destination_password);
        let (username, password) = match end {
            Side::Destination if list.has(Column::DestinationPassword) => theirs,
            Side::Destination if two_sided => (theirs.0, own.1),
            Side::Source | Side::Destination => own,
        };
        let column = if end == Side::Destination && list.has(Column::DestinationPassword) {
            Column::DestinationPassword
        } else {
            Column::Password
        };
        let proof = match (password, &row.refresh_token) {
            (Some(password), _) => Proof::Password(password.clone()),
            (None, Some(token)) => {
                let Some(proof) = tokens(token.clone()) else {
                    let what = "has a refresh token, and the Secret names no application for it";
                    refused.push(refuse(row, what, "add the keys clientId and tenantId or tokenUrl"));
                    continue;
                };
                proof
            }
            (None, None) => {
                let hint = "give the mailbox its password, or take the row out";
                refused.push(refuse(row, &format!("has no {column}"), hint));
                continue;
            }
        };
        let goes_to = row.destination.as_ref().unwrap_or(&row.address);
        let (address, source) = match end {
            Side::Destination if two_sided => (goes_to, Some(row.address.clone())),
            Side::Source | Side::Destination => (&row.address, None),
        };
        if let Some(other) = first.insert(address, row).filter(|_| end == Side::Destination) {
            let same = |one: &Option<Secret>, other: &Option<Secret>| {
                one.as_ref().map(Secret::expose) == other.as_ref().map(Secret::expose)
            };
            if other.destination_username != row.destination_username
                || !same(&other.destination_password, &row.destination_password)
            {
                let what = format!(
                    "opens a mailbox at the destination otherwise than {}",
                    placed.place.line(other.line)
                );
                refused.push(refuse(
                    row,
                    &what,
                    "give both rows the same login there, or correct the destination",
                ));
                continue;
            }
        }
        proofs.push(MailboxProof { address: address.clone(), source, username, proof });
    }
    if refused.is_empty() { Ok(proofs.into_iter().collect()) } else { Err(refused) }
}

/// Whether a list is about both ends, and not the own list of one of them.
fn is_two_sided(list: &List) -> bool {
    [Column::Destination, Column::DestinationUsername, Column::DestinationPassword]
        .iter()
        .any(|column| list.has(*column))
}

/// Whether a list has what opens mailboxes at one end.
fn has_proofs(list: &List, end: Side) -> bool {
    let own = list.has(Column::Password) || list.has(Column::RefreshToken);
    own || end == Side::Destination && list.has(Column::DestinationPassword)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_another_version_when_any_of_it_differs() {
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("s");
        fs::create_dir(&secret).unwrap();
        let secrets = Secrets::mounted(directory.path(), directory.path(), directory.path());
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

    fn of_list(text: &str, more: &str) -> Secrets {
        let manifest = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData:\n{more}  mailboxes.csv: |\n    {}\n---\n\
             apiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\nmetadata: {{name: m}}\nspec:\n  \
             destination: {{imap: {{host: h, credentialsRef: {{name: s}}}}}}\n  \
             domains: [{{name: b.test, credentialsRef: {{name: s}}}}]\n",
            text.replace('\n', "\n    ")
        );
        let manifest = crate::api::manifest::read(&[("m.yaml", manifest)]).unwrap();
        Secrets::new(manifest, BTreeMap::new(), PathBuf::new())
    }

    fn access() -> TokenAccess {
        let network = crate::net::network::Network::new(Some("127.0.0.1:53".parse().unwrap()), Vec::new(), 1);
        let clock = std::sync::Arc::new(crate::local::clock::SystemClock);
        let tokens = crate::auth::oauth::Tokens::new(std::sync::Arc::new(network.unwrap()), clock, None);
        let trust = crate::net::tls::Trust::with_authorities(&[]).unwrap();
        TokenAccess { tokens: std::sync::Arc::new(tokens), trust, tenant: None }
    }

    /// The logins that the list gives for each end: `address user password`, or the sentence of the refusal.
    fn both(text: &str, more: &str) -> [String; 2] {
        let secrets = of_list(text, more);
        [Side::Source, Side::Destination].map(|end| {
            match secrets.credentials("default", "s", &access(), &Heads::default(), end) {
                Ok(Credentials::PerMailbox(rows)) => {
                    let show = |row: &MailboxProof| {
                        let password = row.proof.password().map_or("", Secret::expose).to_owned();
                        format!("{} {} {password}", row.address, row.username.as_deref().unwrap_or("-"))
                    };
                    rows.rows().iter().map(show).collect::<Vec<_>>().join("; ")
                }
                Ok(other) => {
                    if other.is_shared() {
                        "master".to_owned()
                    } else {
                        "single".to_owned()
                    }
                }
                Err(failure) => failure.sentence(),
            }
        })
    }

    #[test]
    fn one_list_opens_both_ends_and_broken_rows_are_named_without_their_cells() {
        let own = "bob@b.test - \"a,b ";
        assert_eq!(both("address,username,password\nbob@b.test,,\"\"\"a,b \"", ""), [own, own]);
        let two = "address,username,password,destination,destinationUsername,destinationPassword\n\
                   bob@b.test,bo,old,robert@new.test,rob,new\ndora@b.test,,old2,,,new2";
        assert_eq!(
            both(two, ""),
            ["bob@b.test bo old; dora@b.test - old2", "robert@new.test rob new; dora@b.test - new2"]
        );
        // A value that stays the same is written once; an administrator of the destination needs no column.
        let same = "address,password,destination\nbob@b.test,old,robert@new.test";
        assert_eq!(both(same, ""), ["bob@b.test - old", "robert@new.test - old"]);
        let master = "  masterUser: m\n  masterPassword: p\n";
        assert_eq!(both(same, master), ["bob@b.test - old", "master"]);
        assert_eq!(both("address,destination\nbob@b.test,robert@new.test", master), ["master", "master"]);
        let half = "address,destinationPassword\nbob@b.test,new";
        assert_eq!(both(half, master), ["master", "bob@b.test - new"]);

        let [source, destination] =
            both("address,password\nbob@b.test,hunter2\n\ndora@b.test,\nd@b.test,\n", "");
        let told = "2 rows cannot stand: m.yaml:9: has no password; m.yaml:10: has no password";
        assert_eq!([source.as_str(), destination.as_str()], [told, told]);
        let [source, _] = both("address,password\n,canary", "");
        assert_eq!(source, "m.yaml:7: the cell under \"address\" is empty");
        let merged = "address,password,destination,destinationPassword\na@b.test,x,n@new.test,1\nb@b.test,x,n@new.test,2";
        let [_, destination] = both(merged, "");
        assert_eq!(destination, "m.yaml:8: opens a mailbox at the destination otherwise than m.yaml:7");
        let [source, _] = both("address\nbob@b.test", "");
        assert!(source.contains("names no column password"), "{source}");
    }

    #[test]
    fn lists_in_files_are_read_as_spreadsheets_write_them_and_keys_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("s");
        fs::create_dir(&secret).unwrap();
        fs::write(secret.join("mailboxes.csv"), b"address;password\r\njohn@b.test;stra\xdfe\r\nx;y\r\n")
            .unwrap();
        fs::write(secret.join("password"), b"stra\xdfe\n").unwrap();
        let manifest = crate::api::manifest::read(&[("m.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {users.csv: 'file:s/mailboxes.csv'}\n---\n\
             apiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\nmetadata: {name: m}\nspec:\n  \
             destination: {imap: {host: h, credentialsRef: {name: s}}}\n  \
             domains: [{name: b.test, credentialsRef: {name: s}}]\n")]).unwrap();
        let secrets = Secrets::new(
            manifest,
            BTreeMap::from([("s".to_owned(), secret.clone())]),
            directory.path().into(),
        );
        let refused = secrets.list("default", "s", &Heads::default()).map(|list| list.is_some()).unwrap_err();
        // A row that could stand is known beside it.
        assert_eq!(refused.rest.as_ref().map(|rest| rest.list.rows.len()), Some(1));
        let refused = refused.failures;
        let told = format!(
            "{}:3: the cell under \"address\" is no mail address",
            secret.join("mailboxes.csv").display()
        );
        assert_eq!(refused[0].sentence(), told);
        let by_config = secrets.config_list("default", "c", "users.csv", &Heads::default());
        assert_eq!(by_config.map(|list| list.list.rows.len()).unwrap_err().failures[0].sentence(), told);
        let failure = secrets.value("default", "s", "password").unwrap_err();
        assert!(failure.sentence().ends_with("password: is no text in UTF-8"), "{failure}");
        fs::write(secret.join("password"), b"strasse\0\n").unwrap();
        let failure = secrets.value("default", "s", "password").unwrap_err();
        assert!(failure.sentence().contains("holds a NUL character"), "{failure}");
        // A value that is not text has a version all the same.
        assert!(secrets.version("default", "s", &[1; 32]).is_ok());
        fs::write(secret.join("mailboxes.csv"), b"address;password\r\njohn@b.test;stra\xdfe\r\n").unwrap();
        let list = secrets.config_list("default", "c", "users.csv", &Heads::default()).unwrap().list;
        assert_eq!(list.rows[0].password.as_ref().unwrap().expose(), "straße");
    }
}
