//! The state directory: what must survive a kill. One process at a time may use it.
//!
//! ```text
//! DIR/lock                                held while a run uses the directory
//! DIR/logins.sqlite                       refused logins of the last day
//! DIR/tokens/X                            a refresh token that came in the place of the Secret's
//! DIR/NAMESPACE/NAME/migration.json       the status and the number of the pass
//! DIR/NAMESPACE/NAME/domains/DOMAIN.json  what discovery saw
//! DIR/NAMESPACE/NAME/dns/DOMAIN.json      who answered with which records, and when
//! DIR/NAMESPACE/NAME/dns/lock             held for a moment while one of these is written
//! DIR/NAMESPACE/NAME/plans/DIGEST.json     a plan that stood once
//! DIR/NAMESPACE/NAME/mailboxes/X.json     what is remembered of a mailbox
//! DIR/NAMESPACE/NAME/mailboxes/X.sqlite   its ledger
//! DIR/NAMESPACE/NAME/mailboxes/X.lock     empty; locked while the mailbox is carried
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::documents::{self, make_private, unusable};
use super::rotated::RotatedTokens;
use crate::api::{MailMigration, MailMigrationStatus, Stage, names};
use crate::ledger::sqlite::SqliteStore;
use crate::model::address::Address;
use crate::model::dns::DnsFacts;
use crate::model::evidence::{DomainDiscovery, TlsFacts};
use crate::model::failure::{Class, Failure, Result};
use crate::model::record::MailboxRecord;
use crate::plan::document::Plan;

/// How often a directory that is in use is tried again, and after how long.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(40);

/// The directory.
#[derive(Debug)]
pub struct StateDir {
    root: PathBuf,
    /// Held while the directory is open for a run; looking at it needs none.
    lock: Option<File>,
}

/// The memory of a migration as a whole.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MigrationRecord {
    /// The number of the last pass.
    pub pass: u32,
    /// The stage that the last run was asked for; a manifest may say another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// The mailboxes that the last run was asked for alone; all where nobody was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<BTreeSet<Address>>,
    /// A digest of the specification that the status is about, as the manifest had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<String>,
    /// The status as it was published last.
    pub status: MailMigrationStatus,
    /// The facts of TLS at the destination.
    pub destination_tls: Option<TlsFacts>,
    /// The plans that stood so far, the latest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plans: Vec<PlanKept>,
}

/// The view that discovery had of a domain, with a digest of what it was asked by.
#[derive(Serialize, Deserialize)]
struct DomainKept<D = DomainDiscovery> {
    #[serde(flatten)]
    discovery: D,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inputs: Option<String>,
}

/// The most plans that are kept.
const PLANS_MAX: usize = 50;

/// A plan that stood once; its document lies beside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanKept {
    /// Its digest.
    pub digest: String,
    /// Since when it stood.
    pub since: Timestamp,
}

impl MigrationRecord {
    /// Writes down that a plan is current from now on, unless it is already; returns the plan that is no longer kept,
    /// if any.
    pub fn add_plan(&mut self, digest: &str, now: Timestamp) -> Option<PlanKept> {
        if self.plans.last().is_some_and(|last| last.digest == digest) {
            return None;
        }
        // A plan that comes back is the latest again.
        self.plans.retain(|plan| plan.digest != digest);
        self.plans.push(PlanKept { digest: digest.to_owned(), since: now });
        (self.plans.len() > PLANS_MAX).then(|| self.plans.remove(0))
    }
}

impl StateDir {
    /// Opens the directory for a run, makes it if need be, and keeps others out.
    ///
    /// # Errors
    /// [`Class::Conflict`] while another run uses it; [`Class::Configuration`] when it cannot be used.
    pub fn open(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).map_err(|e| unusable(root, &e))?;
        make_private(root);
        let path = root.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| unusable(&path, &e))?;
        let mut locked = lock.try_lock();
        for _ in 0..LOCK_TRIES {
            // A process that only looks whether the directory is used holds it for a moment.
            if !matches!(locked, Err(TryLockError::WouldBlock)) {
                break;
            }
            std::thread::sleep(LOCK_PAUSE);
            locked = lock.try_lock();
        }
        match locked {
            Ok(()) => Ok(Self { root: root.to_owned(), lock: Some(lock) }),
            Err(TryLockError::WouldBlock) => {
                Err(Failure::new(Class::Conflict, format!("{}: another run is using it", root.display()))
                    .hint("wait for it to end, or give this run a directory of its own with --state"))
            }
            Err(TryLockError::Error(error)) => Err(unusable(&path, &error)),
        }
    }

    /// Opens the directory for a command that adds to it beside a run, and makes it if need be.
    ///
    /// # Errors
    /// [`Class::Configuration`] when it cannot be made.
    pub fn beside(root: &Path) -> Result<Self> {
        if !root.is_dir() {
            fs::create_dir_all(root).map_err(|e| unusable(root, &e))?;
            make_private(root);
        }
        Ok(Self { root: root.to_owned(), lock: None })
    }

    /// As [`Self::open`], for what has no use for a directory that a run has not made.
    ///
    /// # Errors
    /// As [`Self::open`] and [`Self::look`].
    pub fn open_made(root: &Path) -> Result<Self> {
        Self::look(root)?;
        Self::open(root)
    }

    /// Opens the directory to look at it, also while a run is using it.
    ///
    /// # Errors
    /// [`Class::Configuration`] when there is none.
    pub fn look(root: &Path) -> Result<Self> {
        if root.is_dir() {
            return Ok(Self { root: root.to_owned(), lock: None });
        }
        Err(Failure::configuration(format!("{}: there is no state", root.display()))
            .hint("give --state the directory that `mailferry run` was given, or begin with `mailferry run --stage Plan`, which makes it"))
    }

    /// Whether the directory is this process's for as long as it is open.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// Whether another process, a run, is using the directory now.
    pub fn is_used(&self) -> bool {
        if self.lock.is_some() {
            return false;
        }
        let lock = File::open(self.root.join("lock"));
        lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Whether anything of a migration was ever written here.
    pub fn knows(&self, migration: &MailMigration) -> bool {
        self.part_of(migration).join("migration.json").exists()
    }

    fn part_of(&self, migration: &MailMigration) -> PathBuf {
        let namespace = migration.metadata.namespace.as_deref().unwrap_or("default");
        self.root.join(namespace).join(migration.metadata.name.as_deref().unwrap_or_default())
    }

    /// The directory's path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The refresh tokens that came in the place of others.
    pub fn tokens(&self) -> RotatedTokens {
        RotatedTokens::new(self.root.join("tokens"))
    }

    /// The part of a migration.
    ///
    /// # Errors
    /// [`Class::Configuration`] when the directory cannot be made.
    pub fn migration(&self, migration: &MailMigration) -> Result<MigrationState> {
        let name = migration.metadata.name.as_deref().unwrap_or_default();
        let root = self.part_of(migration);
        if self.lock.is_some() {
            for part in ["domains", "plans", "mailboxes"] {
                let path = root.join(part);
                fs::create_dir_all(&path).map_err(|e| unusable(&path, &e))?;
            }
        }
        Ok(MigrationState { name: name.to_owned(), root, logins: self.root.join("logins.sqlite") })
    }
}

/// One migration's part of the state directory.
#[derive(Debug, Clone)]
pub struct MigrationState {
    name: String,
    root: PathBuf,
    logins: PathBuf,
}

impl MigrationState {
    fn record_path(&self) -> PathBuf {
        self.root.join("migration.json")
    }

    fn mailbox_path(&self, mailbox: &Address, extension: &str) -> PathBuf {
        self.root.join("mailboxes").join(format!("{}.{extension}", self.key(mailbox)))
    }

    /// The memory of the migration.
    ///
    /// # Errors
    /// Those of [`documents::read`].
    pub fn load(&self) -> Result<MigrationRecord> {
        Ok(documents::read(&self.record_path())?.unwrap_or_default())
    }

    /// Keeps what is to be remembered of the migration.
    ///
    /// # Errors
    /// Those of [`documents::write`].
    pub fn save(&self, record: &MigrationRecord) -> Result<()> {
        documents::write(&self.record_path(), record)
    }

    /// The last view that discovery had of a domain.
    ///
    /// # Errors
    /// Those of [`documents::read`].
    pub fn load_domain(&self, domain: &str) -> Result<Option<DomainDiscovery>> {
        documents::read(&self.domain_path(domain))
    }

    /// The last view that discovery had of a domain, if it was asked by the same inputs.
    ///
    /// # Errors
    /// Those of [`documents::read`].
    pub fn load_domain_by(&self, domain: &str, inputs: &str) -> Result<Option<DomainDiscovery>> {
        let kept: Option<DomainKept> = documents::read(&self.domain_path(domain))?;
        Ok(kept.filter(|kept| kept.inputs.as_deref() == Some(inputs)).map(|kept| kept.discovery))
    }

    /// The digest by which a domain was asked last, where it is known.
    ///
    /// # Errors
    /// Those of [`documents::read`].
    pub fn load_inputs(&self, domain: &str) -> Result<Option<String>> {
        let kept: Option<DomainKept> = documents::read(&self.domain_path(domain))?;
        Ok(kept.and_then(|kept| kept.inputs))
    }

    /// Keeps what discovery saw of a domain, and a digest of what it was asked by, where that is known.
    ///
    /// # Errors
    /// Those of [`documents::write`].
    pub fn save_domain(&self, domain: &str, discovery: &DomainDiscovery, inputs: Option<&str>) -> Result<()> {
        let kept = DomainKept { discovery, inputs: inputs.map(str::to_owned) };
        documents::write(&self.domain_path(domain), &kept)
    }

    fn domain_path(&self, domain: &str) -> PathBuf {
        self.root.join("domains").join(format!("{}.json", domain.to_lowercase()))
    }

    fn dns_path(&self, domain: &str) -> PathBuf {
        self.root.join("dns").join(format!("{}.json", domain.to_lowercase()))
    }

    /// Who answered with which records of a domain, and when.
    ///
    /// # Errors
    /// Those of [`documents::read`].
    pub fn load_dns(&self, domain: &str) -> Result<DnsFacts> {
        Ok(documents::read(&self.dns_path(domain))?.unwrap_or_default())
    }

    /// Adds what was seen of a domain's records to what is known, and hands out all of it. Others may add at the same time: a
    /// run, and a command beside it.
    ///
    /// # Errors
    /// Those of [`documents::write`] and [`documents::read`].
    pub fn keep_dns(&self, domain: &str, seen: DnsFacts) -> Result<DnsFacts> {
        let folder = self.root.join("dns");
        fs::create_dir_all(&folder).map_err(|e| unusable(&folder, &e))?;
        let path = folder.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(|e| unusable(&path, &e))?;
        // It is held no longer than one file is read and written.
        lock.lock().map_err(|e| unusable(&path, &e))?;
        let mut facts = self.load_dns(domain)?;
        facts.merge(seen);
        documents::write(&self.dns_path(domain), &facts)?;
        Ok(facts)
    }

    fn plan_path(&self, digest: &str) -> PathBuf {
        self.root.join("plans").join(format!("{}.json", digest.trim_start_matches("sha256:")))
    }

    /// A plan that stood once, by its digest.
    ///
    /// # Errors
    /// Those of [`documents::read`].
    pub fn load_plan(&self, digest: &str) -> Result<Option<Plan>> {
        documents::read(&self.plan_path(digest))
    }

    /// The approved plan, where it stood once and its document can be read: without it, what changed is told in brief.
    pub fn find_approved(&self, digest: Option<&str>) -> Option<Arc<Plan>> {
        self.load_plan(digest?).ok()?.map(Arc::new)
    }

    /// Keeps a plan under its digest.
    ///
    /// # Errors
    /// Those of [`documents::write`].
    pub fn save_plan(&self, plan: &Plan) -> Result<()> {
        documents::write(&self.plan_path(&plan.digest()), plan)
    }

    /// Forgets a plan.
    pub fn drop_plan(&self, digest: &str) {
        // A file that stays behind costs room and nothing else.
        let _ = fs::remove_file(self.plan_path(digest));
    }

    /// The memory of a mailbox.
    ///
    /// # Errors
    /// Those of [`documents::read`].
    pub fn load_mailbox(&self, mailbox: &Address) -> Result<Option<MailboxRecord>> {
        documents::read(&self.mailbox_path(mailbox, "json"))
    }

    /// Keeps what is to be remembered of a mailbox.
    ///
    /// # Errors
    /// Those of [`documents::write`].
    pub fn save_mailbox(&self, mailbox: &Address, record: &MailboxRecord) -> Result<()> {
        documents::write(&self.mailbox_path(mailbox, "json"), record)
    }

    /// The name of a mailbox's ledger in its store.
    pub fn key(&self, mailbox: &Address) -> String {
        names::mailbox_migration(&self.name, mailbox)
    }

    /// The ledgers that lie in this directory.
    pub fn ledgers(&self) -> SqliteStore {
        SqliteStore::new(self.root.join("mailboxes"), &self.logins)
    }
}
