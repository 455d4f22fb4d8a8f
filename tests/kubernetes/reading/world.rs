//! A migration that a laptop carried out, put into a cluster as operator and workers leave it there: by the product's own
//! types and functions.

use std::process::{Command, Stdio};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use mailferry::api::names::{LABEL_MANAGED_BY, LABEL_MIGRATION, MANAGED_BY, mailbox_migration};
use mailferry::api::{MailMigration, MailboxMigration, MailboxMigrationSpec, manifest};
use mailferry::cluster::objects::{LABEL_RESULTS, discovery_results, mailbox_results};
use mailferry::cluster::results::{DiscoveryDocument, MailboxDocument, write_discovery, write_mailbox};
use mailferry::discovery::Clock;
use mailferry::local::clock::SystemClock;
use mailferry::local::reporting::Remembered;
use mailferry::local::state::StateDir;
use mailferry::model::evidence::DomainDiscovery;
use mailferry::model::failure::Result;
use mailferry::model::record::MailboxRecord;
use mailferry::plan::decide;
use mailferry::plan::mailboxes::plan_mailboxes;
use mailferry::report::MessageRow;
use mailferry::report::message::MessageSink;
use serde_json::json;

use crate::ferry::{Ended, Ferry, Manifest, server};
use crate::support::cluster::Namespace;
use crate::support::corpus::{Corpus, Message};
use crate::support::dovecot::{Dovecot, LOOPBACK, User};

/// The migration's name.
pub(crate) const NAME: &str = "move";
/// Messages that arrive.
pub(crate) const DELIVERED: usize = 40;
/// Messages that a rule leaves out.
pub(crate) const EXCLUDED: usize = 3;

/// The same migration on a laptop and in a namespace.
pub(crate) struct World {
    /// The laptop.
    pub(crate) ferry: Ferry,
    /// The namespace.
    pub(crate) space: Namespace,
    /// The cluster's administrator.
    pub(crate) client: Client,
    /// The facts known on the laptop.
    pub(crate) remembered: Remembered,
}

struct Rows(Vec<MessageRow>);

impl MessageSink for Rows {
    fn row(&mut self, row: &MessageRow) -> Result<()> {
        self.0.push(row.clone());
        Ok(())
    }
}

/// A letter that is larger than the rule of [`World::new`] allows.
fn large(n: usize) -> Message {
    let mut bytes =
        format!("From: a@old.test\r\nSubject: plans, volume {n}\r\nMessage-ID: <{n}@old.test>\r\n\r\n");
    bytes.push_str(&"0123456789abcdef\r\n".repeat(40_000));
    Message {
        folder: "INBOX".to_owned(),
        flags: Vec::new(),
        internal_date: "17-Jul-2019 02:44:25 +0200".to_owned(),
        bytes: bytes.into_bytes(),
    }
}

/// A client for the cluster.
pub(crate) async fn client(space: &Namespace) -> Client {
    let read = Kubeconfig::read_from(space.cluster().kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

impl World {
    /// Carries two domains out on the laptop, and publishes what came of it.
    pub(crate) async fn new() -> Self {
        let space = Namespace::new();
        space.cluster().apply_crds();
        let old = Dovecot::builder()
            .imap(LOOPBACK)
            .pop3(LOOPBACK)
            .user(User::new("anna@a.test", "secret"))
            .user(User::new("bob@b.test", "secret"))
            .start();
        let new = Dovecot::builder()
            .imap(LOOPBACK)
            .master("admin", "secret")
            .user(User::new("anna@new.test", "of-no-use"))
            .user(User::new("bob@new.test", "of-no-use"))
            .start();
        let mut anna = old.mailbox("anna@a.test");
        anna.seed(Corpus::new(41).messages(DELIVERED / 2));
        anna.seed((0..EXCLUDED).map(large));
        old.mailbox("bob@b.test").seed(Corpus::new(42).inbox_only().ordinary_only().messages(DELIVERED / 2));
        let text = Manifest::to(new.imap(), "admin", "secret")
            .secret("a.test", &[("username", "anna@a.test"), ("password", "secret")])
            .secret("b.test", &[("username", "bob@b.test"), ("password", "secret")])
            .domain("a.test", &["anna"], &server("IMAP", old.imap()))
            .domain("b.test", &["bob"], &server("POP3", old.pop3()))
            .policy("maxMessageBytes: 500000")
            .policy("settleSeconds: 1")
            .text()
            .replace("namespace: test", &format!("namespace: {}", space.name()));
        let ferry = Ferry::new(&text);
        ferry.run(&["--progress", "none"]).expect_code(0);

        let migration = manifest::read(&[("m.yaml", text.clone())]).unwrap().migrations.remove(0);
        let state = StateDir::look(&ferry.state()).unwrap().migration(&migration).unwrap();
        let store = std::sync::Arc::new(state.ledgers());
        let spec = migration.spec.clone();
        let listed = |at: usize| plan_mailboxes(&spec, &spec.domains[at], &[]);
        let remembered = Remembered::read(migration, state, store, false, listed).await.unwrap();
        space.apply(&text);
        let world = Self { client: client(&space).await, ferry, space, remembered };
        world.publish().await;
        world
    }

    /// An API of the namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), self.space.name())
    }

    async fn make_config_map(&self, name: &str) {
        let object = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        self.api::<ConfigMap>().create(&PostParams::default(), &object).await.unwrap();
    }

    async fn publish(&self) {
        let known = &self.remembered.known;
        for (domain, seen) in &known.observed.domains {
            let names = discovery_results(NAME, domain, 2);
            for name in &names {
                self.make_config_map(name).await;
            }
            let discovery = DomainDiscovery::clone(seen.discovery.as_ref().unwrap());
            let mailboxes = Ok(seen.planned().to_vec());
            let document = DiscoveryDocument { inputs: "inputs".to_owned(), round: 1, mailboxes, discovery };
            write_discovery(&self.client, self.space.name(), &names, &document).await.unwrap();
        }
        let decision = decide(&known.migration, &known.observed, SystemClock.now());
        let mut rows = Rows(Vec::new());
        let keep = |row: &MessageRow| !matches!(row.verdict.word(), "Delivered" | "Pending");
        assert!(self.remembered.feed(&keep, &mut rows).await.unwrap().is_empty());
        for (planned, domain, status) in &decision.mailboxes {
            let (name, group) = names(&planned.source.to_string());
            self.make_config_map(&group).await;
            let mut object = MailboxMigration::new(
                &name,
                MailboxMigrationSpec {
                    migration: NAME.to_owned(),
                    domain: domain.clone(),
                    source: planned.source.to_string(),
                    destination: planned.destination.to_string(),
                },
            );
            object.metadata.labels = Some(
                [(LABEL_MIGRATION, NAME), (LABEL_MANAGED_BY, MANAGED_BY), (LABEL_RESULTS, group.as_str())]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
            );
            let api = self.api::<MailboxMigration>();
            api.create(&PostParams::default(), &object).await.unwrap();
            self.tell(&name, &json!(status)).await;
            let record = known.record_of(&planned.source).unwrap().clone();
            let named = rows.0.iter().filter(|row| row.mailbox == planned.source);
            let document = MailboxDocument {
                record,
                destination_tls: known.destination_tls.clone(),
                named: named.cloned().map(Into::into).collect(),
                omitted: 0,
            };
            self.write(&name, &group, &document).await;
        }
        let status = json!({"status": decision.status});
        let api = self.api::<MailMigration>();
        api.patch_status(NAME, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    }

    /// Changes what the status of a mailbox says.
    pub(crate) async fn tell(&self, object: &str, status: &serde_json::Value) {
        let patch = json!({"status": status});
        let api = self.api::<MailboxMigration>();
        api.patch_status(object, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// Writes what became of a mailbox.
    pub(crate) async fn write(&self, object: &str, group: &str, document: &MailboxDocument) {
        write_mailbox(&self.client, self.space.name(), group, object, document).await.unwrap();
    }

    /// The record of a mailbox.
    pub(crate) fn record(&self, mailbox: &str) -> MailboxRecord {
        self.remembered.known.record_of(&mailbox.parse().unwrap()).unwrap().clone()
    }

    /// Runs a command on the migration in the cluster.
    pub(crate) fn look(&self, subcommand: &str, args: &[&str]) -> Ended {
        look(&self.space, subcommand, NAME, args)
    }
}

/// The name of a mailbox's object, and of the ConfigMap with its results.
pub(crate) fn names(mailbox: &str) -> (String, String) {
    let address: mailferry::model::address::Address = mailbox.parse().unwrap();
    (mailbox_migration(NAME, &address), mailbox_results(NAME, &address.domain().to_string(), 0))
}

/// Runs a command on a migration in a namespace, with the rights of the cluster's administrator.
pub(crate) fn look(space: &Namespace, subcommand: &str, name: &str, args: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailferry"));
    command.args([subcommand, "-n", space.name(), name]).args(args);
    command.env("KUBECONFIG", space.cluster().kubeconfig());
    end(&mut command)
}

/// Runs a command to its end.
pub(crate) fn end(command: &mut Command) -> Ended {
    let command = command.env_remove("MAILFERRY_LOG").stdin(Stdio::null());
    command.output().expect("it can be started").into()
}
