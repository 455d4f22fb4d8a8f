//! The objects of many migrations, as an operator and its workers leave them: what discovery saw, the Jobs of a pass with
//! their work lists and Roles, and the results. Made by the product's own code wherever it has some; the mailboxes' objects
//! are the operator's to make. No pod runs: the Jobs have no indexes to complete, so Kubernetes calls them complete.

use std::collections::BTreeSet;
use std::path::Path;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, ResourceExt};
use mailferry::api::{MailMigration, MailboxMigration, MailboxMigrationStatus, names};
use mailferry::cluster::objects::{Kind, discovery_results, job_name, mailbox_results};
use mailferry::cluster::results::{DiscoveryDocument, GROUP_MAX, write_discovery};
use mailferry::cluster::work::{Item, Task, Work};
use mailferry::discovery::Clock;
use mailferry::local::clock::SystemClock;
use mailferry::model::address::Address;
use mailferry::model::progress::MessageCounts;
use mailferry::model::record::MailboxRecord;
use mailferry::operator::jobs::{Order, results};
use mailferry::operator::launch;
use mailferry::operator::settings::Settings;
use mailferry::plan::mailboxes::PlannedMailbox;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::cluster::{Cluster, Namespace};
use crate::support::corpus::Corpus;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};

/// Requests at a time.
const AT_ONCE: usize = 16;
/// The most mailboxes of one Job, as the operator has it.
const JOB_MAX: usize = 5_000;
/// Workers of each migration in the second pass.
const WORKERS: usize = 2;
/// Messages of each mailbox that is really carried.
const MESSAGES: usize = 2_000;

/// How many migrations, and how many mailboxes each has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Migrations.
    pub(crate) migrations: u32,
    /// Mailboxes of each.
    pub(crate) mailboxes: u32,
}

impl Shape {
    /// Reads migrations and mailboxes, as in `25x400`.
    pub(crate) fn read(text: &str) -> Self {
        let (migrations, mailboxes) = text.split_once('x').expect("two numbers such as 25x400");
        Self { migrations: migrations.parse().unwrap(), mailboxes: mailboxes.parse().unwrap() }
    }
}

/// One slice of a Job, for one worker.
pub(crate) struct Slice {
    /// The work list.
    pub(crate) work: Work,
    /// Its place there.
    pub(crate) index: usize,
}

struct Moved {
    object: MailMigration,
    items: Vec<Item>,
}

/// A namespace full of migrations.
pub(crate) struct World {
    /// Its shape.
    pub(crate) shape: Shape,
    space: Namespace,
    client: Client,
    settings: Settings,
    migrations: Vec<Moved>,
    directory: TempDir,
    servers: [Dovecot; 2],
}

impl World {
    /// Makes everything that is there before an operator sees it for the first time.
    pub(crate) async fn seed(shape: Shape) -> Self {
        let servers = tokio::task::spawn_blocking(move || servers(shape)).await.unwrap();
        let space = Namespace::new();
        let path = Cluster::get().kubeconfig();
        let config = Kubeconfig::read_from(path).unwrap();
        let config =
            kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
        let settings = Settings {
            image: "none".to_owned(),
            allowed_networks: vec!["127.0.0.0/8".parse().unwrap()],
            ..Settings::default()
        };
        let mut world = Self {
            shape,
            space,
            client: Client::try_from(config).unwrap(),
            settings,
            migrations: Vec::new(),
            directory: tempfile::tempdir().unwrap(),
            servers,
        };
        for number in 0..shape.migrations {
            let moved = world.seed_migration(number).await;
            world.migrations.push(moved);
        }
        eprintln!("{shape:?} in namespace {}", world.space.name());
        world
    }

    /// Its namespace.
    pub(crate) fn namespace(&self) -> &str {
        self.space.name()
    }

    /// A directory that is gone with it.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), self.space.name())
    }

    async fn seed_migration(&self, number: u32) -> Moved {
        let (old, new) = (self.servers[0].imap(), self.servers[1].imap());
        let (name, domain) = (format!("move-{number}"), domain(number));
        let wanted: MailMigration = serde_json::from_value(json!({
            "apiVersion": names::API_VERSION, "kind": "MailMigration", "metadata": {"name": name},
            "spec": {
                "stage": "Plan",
                "destination": {"imap": {"host": new.ip(), "port": new.port(), "tls": "None", "credentialsRef": {"name": "new"}}},
                "domains": [{
                    "name": domain, "credentialsRef": {"name": "old"},
                    "servers": [{"protocol": "IMAP", "host": old.ip(), "port": old.port(), "tls": "None"}],
                    "mailboxes": {"configMapRef": {"name": "users", "key": "users.csv"}},
                }],
                // The mail that a worker is given lasts for minutes, and some of it arrives all the time.
                "policy": {"allowedNetworks": ["127.0.0.0/8"], "limits": {"bytesPerSecond": 65536}},
                "workers": {"concurrency": 1},
            },
        }))
        .unwrap();
        let object = self.api::<MailMigration>().create(&PostParams::default(), &wanted).await.unwrap();
        let endpoint = json!({"protocol": "IMAP", "host": old.ip(), "port": old.port(), "tls": "None"});
        let size = json!({"folders": 1, "messages": MESSAGES, "bytes": 1_000_000, "largest": 30_000});
        let planned: Vec<PlannedMailbox> = (0..self.shape.mailboxes).map(|n| planned(n, &domain)).collect();
        let inputs = self.settings.discovery_inputs(&object.spec, &object.spec.domains[0]);
        let now = SystemClock.now();
        let document: DiscoveryDocument = serde_json::from_value(json!({
            "inputs": inputs, "round": 1, "mailboxes": {"Ok": planned},
            "discovery": {
                "domain": domain, "started": now, "finished": now, "evidence": [], "servers": [],
                "candidates": [{"endpoint": endpoint, "grade": "A", "fidelity": 95, "approved": true,
                    "mailboxes": self.shape.mailboxes, "why": "It is said in the manifest, and logins work there."}],
                "mailboxes": planned.iter().map(|p| json!({"address": p.source, "endpoint": endpoint, "overridden": false,
                    "attempts": [{"endpoint": endpoint}], "size": size})).collect::<Vec<_>>(),
                "findings": [],
            },
        }))
        .unwrap();
        let parts = discovery_results(&name, &domain, 4);
        for part in &parts {
            self.create_results(&object, part, []).await;
        }
        write_discovery(&self.client, self.space.name(), &parts, &document).await.unwrap();
        let task = Task::Discover { inputs: inputs.clone(), round: 1, results: parts, before: Vec::new() };
        self.begin(&object, Kind::Discover, &inputs, 1, task, 0).await;

        let endpoint: mailferry::model::endpoint::Endpoint = serde_json::from_value(endpoint).unwrap();
        let items: Vec<Item> = (0..)
            .zip(planned)
            .map(|(place, mailbox): (usize, PlannedMailbox)| Item {
                object: names::mailbox_migration(&name, &mailbox.source),
                results: mailbox_results(&name, &domain, place / GROUP_MAX),
                mailbox,
                endpoint: endpoint.clone(),
                size: serde_json::from_value(size.clone()).unwrap(),
            })
            .collect();
        for group in items.chunks(GROUP_MAX) {
            // As large as what is kept of a mailbox without a bad message.
            let entries =
                group.iter().map(|item| (item.object.clone(), json!(k8s_openapi::ByteString(vec![7; 400]))));
            self.create_results(&object, &group[0].results, entries).await;
        }
        Moved { object, items }
    }

    /// Makes the Jobs that carried the mailboxes, as they are left behind.
    pub(crate) async fn leave_first_pass(&self) {
        for Moved { object, items } in &self.migrations {
            let inputs = self.settings.sync_inputs(&object.spec, &object.spec.domains[0]);
            for part in items.chunks(JOB_MAX) {
                let task = Task::carrying(1, part.chunks(50).map(<[Item]>::to_vec).collect());
                self.begin(object, Kind::Sync, &inputs, 1, task, 0).await;
            }
        }
    }

    async fn create_results(
        &self,
        migration: &MailMigration,
        name: &str,
        entries: impl IntoIterator<Item = (String, Value)>,
    ) {
        let mut object = json!(results(migration, name));
        object["binaryData"] = Value::Object(entries.into_iter().collect());
        let object: ConfigMap = serde_json::from_value(object).unwrap();
        self.api::<ConfigMap>().create(&PostParams::default(), &object).await.unwrap();
    }

    /// Makes a Job with all that belongs to it; nobody makes pods for it. Without slices it is complete at once.
    async fn begin(
        &self,
        migration: &MailMigration,
        kind: Kind,
        inputs: &str,
        number: u32,
        task: Task,
        slices: usize,
    ) -> Work {
        let items: Vec<&Item> = match &task {
            Task::Sync { slices, .. } => slices.iter().flatten().collect(),
            Task::Discover { .. } => Vec::new(),
        };
        let (objects, results): (BTreeSet<_>, BTreeSet<_>) =
            items.iter().map(|item| (item.object.clone(), item.results.clone())).unzip();
        let name = name_of_job(migration, kind, number, items.first().copied());
        let mut wanted = MailMigration::new(&migration.name_any(), self.settings.bounded(&migration.spec));
        wanted.metadata.namespace = migration.namespace();
        let work = Work {
            job: name.clone(),
            migration: wanted,
            domain: 0,
            siblings: None,
            resolver: None,
            barred_networks: Vec::new(),
            per_host_connections: 8,
            task,
        };
        let order = Order {
            migration,
            name,
            kind,
            inputs,
            number,
            work: &work,
            slices,
            parallelism: 0,
            connections: 8,
            results,
            mailboxes: objects,
        };
        launch::begin(&self.client, &self.settings, &order).await.unwrap();
        work
    }

    /// Tells of every mailbox what a worker tells at its end.
    pub(crate) async fn tell_as_workers(&self) {
        let api = self.api::<MailboxMigration>();
        let told = self.migrations.iter().flat_map(|Moved { object, items }| {
            items.chunks(JOB_MAX).flat_map(|part| {
                let job = name_of_job(object, Kind::Sync, 1, part.first());
                part.iter().map(move |item| (item.object.clone(), job.clone()))
            })
        });
        let tell = |(name, job): (String, String)| {
            let api = api.clone();
            async move {
                let now = SystemClock.now();
                let messages = MESSAGES as u64;
                let record = MailboxRecord {
                    pass: 1,
                    attempts: 1,
                    by: Some(job),
                    started: Some(now),
                    ended: Some(now),
                    counts: MessageCounts { source: messages, copied: messages, ..MessageCounts::default() },
                    bytes_sent: 1_000_000,
                    ..MailboxRecord::default()
                };
                let patch = json!({
                    "apiVersion": names::API_VERSION, "kind": "MailboxMigration", "metadata": {"name": name},
                    "status": MailboxMigrationStatus::told_by_worker(&record),
                });
                let params = PatchParams::apply(names::MANAGER_PROGRESS).force();
                api.patch_status(&name, &params, &Patch::Apply(&patch)).await.unwrap();
            }
        };
        stream::iter(told).map(tell).buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    /// Sets a field of the spec of every migration.
    async fn set(&mut self, spec: &Value) {
        let api = self.api::<MailMigration>();
        for moved in &mut self.migrations {
            let name = moved.object.name_any();
            let patch = Patch::Merge(json!({"spec": spec}));
            moved.object = api.patch(&name, &PatchParams::default(), &patch).await.unwrap();
        }
    }

    /// Sets the stage of every migration.
    pub(crate) async fn set_stage(&mut self, stage: &str) {
        self.set(&json!({"stage": stage})).await;
    }

    /// Changes something that gives the first migration a turn, which finds nothing new.
    pub(crate) async fn touch(&self, number: u32) {
        let name = &self.migrations[0].items[0].results;
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"touched": number.to_string()}}}));
        self.api::<ConfigMap>().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Asks for a second pass, and makes its Jobs as the operator does, but without pods: their slices.
    pub(crate) async fn begin_second_pass(&mut self) -> Vec<Slice> {
        self.set(&json!({"trigger": {"sync": "2"}})).await;
        let mut found = Vec::new();
        for moved in &self.migrations {
            let inputs = self.settings.sync_inputs(&moved.object.spec, &moved.object.spec.domains[0]);
            let each = moved.items.len().div_ceil(WORKERS);
            let slices: Vec<_> = moved.items.chunks(each).map(<[Item]>::to_vec).collect();
            let (count, task) = (slices.len(), Task::carrying(2, slices));
            let work = self.begin(&moved.object, Kind::Sync, &inputs, 2, task, count).await;
            found.extend((0..count).map(|index| Slice { work: work.clone(), index }));
        }
        found
    }
}

/// Requests that change an object of a kind that workers or the operator write, as the API server has counted them since it
/// began. The operator's lease is not among them: others renew theirs all the time.
pub(crate) fn count_writes() -> f64 {
    const VERBS: [&str; 5] = ["APPLY", "PATCH", "PUT", "POST", "DELETE"];
    const KINDS: [&str; 5] = ["mailmigrations", "mailboxmigrations", "configmaps", "events", "jobs"];
    let metrics = Cluster::get().kubectl(&["get", "--raw", "/metrics"]);
    let writes = metrics.lines().filter_map(|line| {
        let (series, count) = line.strip_prefix("apiserver_request_total{")?.rsplit_once("} ")?;
        let is = |label: &str, values: &[&str]| {
            values.iter().any(|value| series.contains(&format!("{label}=\"{value}\"")))
        };
        (is("verb", &VERBS) && is("resource", &KINDS)).then(|| count.parse::<f64>().unwrap())
    });
    writes.sum()
}

fn name_of_job(migration: &MailMigration, kind: Kind, number: u32, first: Option<&Item>) -> String {
    let first = first.map_or("", |item| &item.object);
    job_name(&migration.name_any(), kind, &[&number.to_string(), first])
}

fn domain(number: u32) -> String {
    format!("d{number}.test")
}

fn planned(number: u32, domain: &str) -> PlannedMailbox {
    let source: Address = format!("firstname.lastname{number}@{domain}").parse().unwrap();
    PlannedMailbox {
        destination: source.clone(),
        login_name: source.to_string(),
        login_name_is_given: false,
        logins: None,
        authorities: None,
        beside: Vec::new(),
        source,
    }
}

/// A source and a destination with the mailboxes that the second pass comes to first.
fn servers(shape: Shape) -> [Dovecot; 2] {
    let mut builders = [(); 2].map(|()| Dovecot::builder().imap(LOOPBACK).master("admin", "admin-secret"));
    let mut users = Vec::new();
    if shape.migrations > 1 {
        let each = (shape.mailboxes as usize).div_ceil(WORKERS);
        for migration in 0..shape.migrations {
            let first = (0..shape.mailboxes).step_by(each);
            users.extend(first.map(|n| planned(n, &domain(migration)).login_name));
        }
    }
    for user in &users {
        builders = builders.map(|builder| builder.user(User::new(user, "of-no-use")));
    }
    // Messages that arrive one by one, so that there is something to report all the time.
    let [source, destination] = builders;
    let destination = destination.capability("IMAP4rev1 SASL-IR LITERAL+ NAMESPACE UIDPLUS CONDSTORE ENABLE");
    let servers = [source, destination].map(crate::support::dovecot::Builder::start);
    for (seed, user) in (1..).zip(&users) {
        servers[0].mailbox(user).seed(Corpus::new(seed).inbox_only().messages(MESSAGES));
    }
    servers
}
