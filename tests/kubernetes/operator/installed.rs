//! An installation of the chart in a namespace of its own, that watches this namespace alone: tests run side by side.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::node::processes;
use crate::support::cluster::{Cluster, Namespace};

/// How long anything may take on a machine that has much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);

/// An installation.
pub(crate) struct Installed {
    /// Its namespace, and that of the migrations.
    pub(crate) space: Namespace,
    chart: String,
}

/// The kinds of everything that a migration is made of.
pub(crate) const KINDS: &str =
    "jobs,pods,configmaps,serviceaccounts,roles,rolebindings,persistentvolumeclaims,mailboxmigrations";

impl Installed {
    /// Installs the chart. Workers ask `resolver`, and may connect to this machine.
    #[track_caller]
    pub(crate) fn new(resolver: Option<SocketAddr>, more: &[&str]) -> Self {
        let cluster = Cluster::get();
        cluster.apply_crds();
        let image = cluster.load_image();
        let (repository, tag) = image.rsplit_once(':').unwrap();
        let space = Namespace::new();
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/mailferry").display().to_string();
        let name = space.name().to_owned();
        let network = match cluster.host() {
            IpAddr::V4(host) => format!("{host}/15"),
            IpAddr::V6(host) => format!("{host}/64"),
        };
        let mut values = vec![
            format!("image.repository={repository}"),
            format!("image.tag={tag}"),
            "image.pullPolicy=Never".to_owned(),
            "crds.enabled=false".to_owned(),
            "rbac.aggregate=false".to_owned(),
            format!("watchNamespaces={{{name}}}"),
            format!("discovery.allowedNetworks={{{network}}}"),
        ];
        values.extend(resolver.map(|at| format!("discovery.resolver={at}")));
        values.extend(more.iter().map(|value| (*value).to_owned()));
        let mut args = vec!["install", &name, &chart, "--wait", "--timeout", "120s"];
        for value in &values {
            args.extend(["--set", value]);
        }
        space.helm(&args);
        Self { space, chart }
    }

    /// Changes values of the installation.
    #[track_caller]
    pub(crate) fn upgrade(&self, values: &[&str]) {
        let mut args =
            vec!["upgrade", self.space.name(), &self.chart, "--reuse-values", "--wait", "--timeout", "120s"];
        for value in values {
            args.extend(["--set-json", value]);
        }
        self.space.helm(&args);
    }

    /// The holder of the lease, and how often it changed hands.
    #[track_caller]
    pub(crate) fn leader(&self) -> (String, u64) {
        let lease = self.space.json(&["get", "lease", &format!("{}-mailferry", self.space.name())]);
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
        (holder, lease["spec"]["leaseTransitions"].as_u64().unwrap_or_default())
    }

    /// Waits until another than `before` leads.
    #[track_caller]
    pub(crate) fn wait_for_leader(&self, before: &str) -> String {
        self.space.wait_until("another one leads", PATIENCE, || {
            let (holder, _) = self.leader();
            if holder.is_empty() || holder == before { Err(holder) } else { Ok(holder) }
        })
    }

    /// Everything that a migration is made of, but for its own object.
    #[track_caller]
    pub(crate) fn parts(&self) -> Vec<Value> {
        let found = self.space.json(&["get", KINDS, "--selector", "app.kubernetes.io/managed-by=mailferry"]);
        found["items"].as_array().unwrap().clone()
    }

    /// Stops the test unless each part of a migration belongs to something that is there, and all of them go with the
    /// migration.
    #[track_caller]
    pub(crate) fn assert_no_orphan(&self, migration: &str) {
        let parts = self.parts();
        let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap().to_owned();
        let mut known: BTreeSet<String> = parts.iter().map(uid).collect();
        known.insert(uid(&self.migration(migration)));
        for part in &parts {
            let owners = part["metadata"]["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
            assert!(
                !owners.is_empty()
                    && owners.iter().all(|owner| known.contains(owner["uid"].as_str().unwrap())),
                "an orphan: {} {}",
                part["kind"],
                part["metadata"]
            );
        }
        assert!(parts.len() > 10, "{parts:?}");
        self.space.kubectl(&["delete", "mm", migration, "--timeout=60s"]);
        self.wait_until_gone();
    }

    /// Waits until nothing of any migration is there.
    #[track_caller]
    pub(crate) fn wait_until_gone(&self) {
        self.space.wait_until("everything goes", Duration::from_mins(1), || {
            let left: Vec<String> = self
                .parts()
                .iter()
                .map(|part| format!("{} {}", part["kind"], part["metadata"]["name"]))
                .collect();
            if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
        });
    }

    /// Waits until Ready has a reason; the migration.
    #[track_caller]
    pub(crate) fn wait_for_reason(&self, migration: &str, reason: &str) -> Value {
        self.space.wait_until(&format!("Ready says {reason}"), PATIENCE, || {
            let object = self.migration(migration);
            match condition_of(&object, "Ready") {
                Some(found) if found["reason"] == reason => Ok(object),
                _ => Err(object["status"]["conditions"].to_string()),
            }
        })
    }

    /// Stops a pod's process as a broken machine would: it is told nothing.
    #[track_caller]
    #[allow(clippy::unused_self, reason = "pods are those of an installation")]
    pub(crate) fn kill(&self, pod: &str) {
        let found = processes(&BTreeSet::from([pod.to_owned()]));
        let ours: Vec<_> =
            found.iter().filter(|process| process.line.starts_with(b"/usr/local/bin/mailferry\0")).collect();
        assert!(!ours.is_empty(), "a process of {pod}");
        for process in ours {
            let kill = Command::new("kill").args(["-KILL", &process.id.to_string()]).status().unwrap();
            assert!(kill.success(), "{} is there to be killed", process.id);
        }
    }

    /// A migration, as `kubectl get -o json` shows it.
    #[track_caller]
    pub(crate) fn migration(&self, name: &str) -> Value {
        self.space.json(&["get", "mm", name])
    }

    /// Waits until a condition of a migration is what is wanted.
    #[track_caller]
    pub(crate) fn wait_for(&self, migration: &str, condition: &str, wanted: &str) -> Value {
        self.space.wait_until(&format!("{condition} is {wanted}"), PATIENCE, || {
            let object = self.migration(migration);
            let found = condition_of(&object, condition);
            match found {
                Some(found) if found["status"] == wanted => Ok(object),
                _ => Err(object["status"]["conditions"].to_string()),
            }
        })
    }
}

/// A condition of an object.
pub(crate) fn condition_of<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == name)
}
