//! An installation of the chart in a namespace of its own, that watches this namespace alone: tests run side by side.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::cluster::{Cluster, Namespace};

/// How long anything may take on a machine that has much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);

/// An installation.
pub(crate) struct Installed {
    /// Its namespace, and that of the migrations.
    pub(crate) space: Namespace,
}

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
        Self { space }
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
