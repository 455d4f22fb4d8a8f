//! The objects that the operator would make for a pod: a work list, directories of Secrets, and the mailboxes' objects
//! that it reports to.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use mailferry::api::{MailMigration, MailboxMigrationStatus, names};
use mailferry::cluster::objects::WORK_KEY;
use mailferry::cluster::pack::pack;
use mailferry::cluster::results::{self, DiscoveryDocument, MailboxDocument};
use mailferry::cluster::work::{Item, Task, Work};
use mailferry::model::address::Address;
use mailferry::model::endpoint::Endpoint;
use mailferry::model::protocol::{Protocol, Tls};
use mailferry::plan::mailboxes::PlannedMailbox;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::cluster::Namespace;
use crate::support::dovecot::Dovecot;

/// The name of the migration.
const MIGRATION: &str = "move";
/// The name of the Job.
pub(crate) const JOB: &str = "move-sync-0";
/// The ConfigMap that takes the results.
pub(crate) const RESULTS: &str = "results";
/// How long anything may take that nobody waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// One pod's surroundings.
pub(crate) struct Pod {
    /// Its namespace.
    pub(crate) space: Namespace,
    directory: TempDir,
    swaps: AtomicU32,
    kubeconfig: PathBuf,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; -1 when a signal ended it.
    pub(crate) code: i32,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Ended {
    /// The one line that begins with `error:`, without that word.
    #[track_caller]
    pub(crate) fn error(&self) -> &str {
        let errors: Vec<&str> = self.stderr.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
        let [error] = errors[..] else { panic!("{} error lines:\n{}", errors.len(), self.stderr) };
        error
    }
}

impl Pod {
    /// A namespace with the definitions, and empty directories.
    pub(crate) fn new() -> Self {
        let space = Namespace::new();
        space.cluster().apply_crds();
        let directory = tempfile::Builder::new().prefix("mailferry-pod-").tempdir().unwrap();
        for part in ["work", "secrets", "configmaps", "ledgers"] {
            fs::create_dir(directory.path().join(part)).unwrap();
        }
        space.apply(&config_map(RESULTS));
        let kubeconfig = space.cluster().kubeconfig().into();
        Self { space, directory, swaps: AtomicU32::new(0), kubeconfig }
    }

    /// Lets processes use other credentials than the cluster's own.
    pub(crate) fn kubeconfig(&mut self, path: &Path) {
        path.clone_into(&mut self.kubeconfig);
    }

    fn path(&self, part: &str) -> PathBuf {
        self.directory.path().join(part)
    }

    /// Where the ledgers are.
    pub(crate) fn ledgers(&self) -> PathBuf {
        self.path("ledgers")
    }

    /// Puts a Secret where a pod finds it, as kubelet does: a new directory, then a link to it in the old one's place.
    pub(crate) fn mount(&self, part: &str, name: &str, values: &[(&str, &str)]) {
        let directory = self.path(part).join(name);
        let fresh = format!("..{}", self.swaps.fetch_add(1, Ordering::Relaxed));
        fs::create_dir_all(directory.join(&fresh)).unwrap();
        for (key, value) in values {
            fs::write(directory.join(&fresh).join(key), value).unwrap();
            let _ = symlink(format!("..data/{key}"), directory.join(key));
        }
        symlink(&fresh, directory.join("..new")).unwrap();
        fs::rename(directory.join("..new"), directory.join("..data")).unwrap();
    }

    /// Writes the work list.
    pub(crate) fn give(&self, work: &Work) {
        fs::write(self.path("work").join(WORK_KEY), pack(work).unwrap()).unwrap();
    }

    /// A work list about the migration with this domain; `policy` are further fields of `spec.policy`.
    pub(crate) fn work(&self, new: &Dovecot, domain: &Value, policy: &Value, task: Task) -> Work {
        let at = new.imap();
        let mut allowed = json!({"allowedNetworks": ["127.0.0.0/8"]});
        allowed.as_object_mut().unwrap().extend(policy.as_object().unwrap().clone());
        let spec = json!({
            "stage": "Cutover", "suspend": true, "policy": allowed, "domains": [domain],
            "destination": {"imap": {
                "host": at.ip(), "port": at.port(), "tls": "None", "credentialsRef": {"name": "new"},
            }},
        });
        let mut migration = MailMigration::new(MIGRATION, serde_json::from_value(spec).unwrap());
        migration.metadata.namespace = Some(self.space.name().to_owned());
        Work {
            job: JOB.to_owned(),
            migration,
            domain: 3,
            siblings: None,
            resolver: None,
            barred_networks: Vec::new(),
            per_host_connections: 8,
            task,
        }
    }

    /// Makes the object of a mailbox; its part of a work list.
    pub(crate) fn item(&self, user: &str, old: SocketAddr, protocol: Protocol) -> Item {
        let item = item(user, old, protocol);
        self.space.apply(
            &json!({
                "apiVersion": names::API_VERSION, "kind": "MailboxMigration", "metadata": {"name": item.object},
                "spec": {
                    "migration": MIGRATION, "domain": "old.test",
                    "source": item.mailbox.source, "destination": item.mailbox.destination,
                },
            })
            .to_string(),
        );
        item
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailferry"));
        command.arg(subcommand);
        for (flag, part) in [
            ("--work", "work"),
            ("--secrets", "secrets"),
            ("--config-maps", "configmaps"),
            ("--ledgers", "ledgers"),
        ] {
            command.arg(flag).arg(self.path(part));
        }
        if subcommand == "sync" {
            command.env("JOB_COMPLETION_INDEX", "1");
        }
        command.env("KUBECONFIG", &self.kubeconfig);
        command.env_remove("MAILFERRY_LOG").env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    /// Starts a process in the background; its standard error goes to a file.
    pub(crate) fn start(&self, subcommand: &str) -> Child {
        let file = fs::File::create(self.path("err")).unwrap();
        self.command(subcommand).stderr(file).spawn().expect("mailferry can be started")
    }

    /// Waits for a process of [`Self::start`].
    pub(crate) fn end(&self, mut child: Child) -> Ended {
        let end = Instant::now() + PATIENCE;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > end {
                child.kill().unwrap();
                panic!("it does not end: {}", self.said());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ended { code: child.wait().unwrap().code().unwrap_or(-1), stderr: self.said() }
    }

    /// The text that the process of [`Self::start`] wrote to standard error.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.path("err")).unwrap()
    }

    /// Waits until the process of [`Self::start`] wrote some words.
    #[track_caller]
    pub(crate) fn said_until(&self, words: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.said().contains(words) {
            assert!(Instant::now() < end, "it does not say {words:?}: {}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs a process to its end.
    pub(crate) fn run(&self, subcommand: &str) -> Ended {
        self.end(self.start(subcommand))
    }

    /// The status of a mailbox's object.
    pub(crate) fn status(&self, item: &Item) -> MailboxMigrationStatus {
        let object = self.space.json(&["get", "mailboxmigration", &item.object]);
        serde_json::from_value(object["status"].clone()).unwrap_or_default()
    }

    /// The result of a mailbox.
    pub(crate) fn result(&self, item: &Item) -> Option<MailboxDocument> {
        let (space, group) = (self.space.name(), RESULTS.to_owned());
        self.ask(async move |client| results::read_mailboxes(&client, space, [group]).await.unwrap())
            .remove(&item.object)
            .map(Result::unwrap)
    }

    /// The result of discovery.
    pub(crate) fn discovery(&self, names: &[String]) -> Option<DiscoveryDocument> {
        let space = self.space.name();
        self.ask(async move |client| results::read_discovery(&client, space, names).await.unwrap())
    }

    fn ask<T>(&self, question: impl AsyncFnOnce(Client) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let path = PathBuf::from(self.space.cluster().kubeconfig());
        runtime.block_on(async {
            let read = Kubeconfig::read_from(path).unwrap();
            let config =
                kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
            question(Client::try_from(config).unwrap()).await
        })
    }
}

/// A mailbox of a work list, without an object.
pub(crate) fn item(user: &str, old: SocketAddr, protocol: Protocol) -> Item {
    let source: Address = format!("{user}@old.test").parse().unwrap();
    Item {
        object: names::mailbox_migration(MIGRATION, &source),
        results: RESULTS.to_owned(),
        mailbox: PlannedMailbox {
            destination: format!("{user}@new.test").parse().unwrap(),
            login_name: source.to_string(),
            login_name_is_given: false,
            logins: None,
            authorities: None,
            beside: Vec::new(),
            source,
        },
        endpoint: Endpoint { protocol, host: old.ip().to_string(), port: old.port(), tls: Tls::None },
        size: None,
    }
}

/// A ConfigMap that takes results.
pub(crate) fn config_map(name: &str) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}).to_string()
}

/// The domain of the tests, with one server.
pub(crate) fn domain(protocol: &str, at: SocketAddr, users: &[&str]) -> Value {
    let list: Vec<Value> = users
        .iter()
        .map(|user| json!({"address": format!("{user}@old.test"), "destination": format!("{user}@new.test")}))
        .collect();
    json!({
        "name": "old.test", "credentialsRef": {"name": "old"}, "mailboxes": {"list": list},
        "servers": [{"protocol": protocol, "host": at.ip(), "port": at.port(), "tls": "None"}],
    })
}

/// A task whose second slice are these mailboxes.
pub(crate) fn carry(pass: u32, items: &[Item]) -> Task {
    Task::carrying(pass, vec![Vec::new(), items.to_vec()])
}
