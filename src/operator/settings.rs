//! Decisions for all migrations, made by whoever installs the operator.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{LocalObjectReference, ResourceRequirements, Toleration};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::api::MailMigrationSpec;
use crate::api::domain::{DomainSpec, Mailboxes};
use crate::api::ledger::LedgerSpec;
use crate::api::policy::Policy;
use crate::plan::pass::{self, fingerprint};

/// The operator's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The image of the workers' pods.
    pub image: String,
    /// When the image is pulled: Always, `IfNotPresent` or Never; Kubernetes' own rule when it is not given.
    pub image_pull_policy: Option<String>,
    /// The name server that workers ask; the cluster's when there is none.
    pub resolver: Option<SocketAddr>,
    /// The bound on `spec.policy.allowedNetworks`: what is not inside one of these is not allowed to anybody.
    pub allowed_networks: Vec<IpNet>,
    /// Requests and limits of a worker's container.
    pub worker_resources: ResourceRequirements,
    /// Further settings of workers' pods.
    pub worker_pod: WorkerPod,
    /// The log filter of the moment; workers begin with the operator's.
    pub log_filter: watch::Receiver<String>,
}

/// Settings of the installation for workers' pods, as `workers.pod` of the chart's values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct WorkerPod {
    /// Secrets that the image is pulled with; they lie in the migration's namespace.
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Labels of nodes on which workers may run.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that they tolerate.
    pub tolerations: Vec<Toleration>,
    /// Their priority class.
    pub priority_class_name: String,
    /// Labels beside our own, which count before these.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// The proxy by which their HTTPS goes out; mail never does.
    pub proxy: Proxy,
    /// Whether the user and the group are named; off where the cluster gives each namespace its own, as `OpenShift` does.
    pub fixed_ids: bool,
}

/// A proxy, as the usual variables of the environment name it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Proxy {
    /// `HTTPS_PROXY`: its address; none when empty.
    pub https: String,
    /// `NO_PROXY`: what is reached without it.
    pub no_proxy: String,
}

impl Default for WorkerPod {
    fn default() -> Self {
        Self {
            image_pull_secrets: Vec::new(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            priority_class_name: String::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            proxy: Proxy::default(),
            fixed_ids: true,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            image: String::new(),
            image_pull_policy: None,
            resolver: None,
            allowed_networks: Vec::new(),
            worker_resources: ResourceRequirements::default(),
            worker_pod: WorkerPod::default(),
            log_filter: watch::channel(String::new()).1,
        }
    }
}

impl Settings {
    /// Digest of what decides whether a worker's pod can start and live. When it changes, what could not perhaps can.
    pub fn of_pods(&self) -> String {
        fingerprint(&(&self.image, &self.image_pull_policy, &self.worker_resources, &self.worker_pod))
    }

    /// The part of `wanted` networks that this installation allows.
    pub fn bound(&self, wanted: &[String]) -> Vec<String> {
        let wanted = wanted.iter().filter_map(|network| network.parse::<IpNet>().ok());
        let mut allowed: Vec<String> = wanted
            .flat_map(|network| {
                self.allowed_networks.iter().filter_map(move |bound| {
                    if bound.contains(&network) {
                        Some(network.to_string())
                    } else {
                        network.contains(bound).then(|| bound.to_string())
                    }
                })
            })
            .collect();
        allowed.sort();
        allowed.dedup();
        allowed
    }

    /// The networks that a spec lists and this installation does not allow as they stand.
    pub fn not_allowed(&self, wanted: &[String]) -> Vec<String> {
        let allowed = |network: &IpNet| self.allowed_networks.iter().any(|bound| bound.contains(network));
        let networks = wanted.iter().filter_map(|network| network.parse::<IpNet>().ok());
        networks.filter(|network| !allowed(network)).map(|network| network.to_string()).collect()
    }

    /// The specification as workers are given it: no network that the installation does not allow.
    pub fn bounded(&self, spec: &MailMigrationSpec) -> MailMigrationSpec {
        let mut spec = spec.clone();
        spec.policy.allowed_networks = self.bound(&spec.policy.allowed_networks);
        spec
    }

    /// Digest of what discovery of a domain depends on.
    pub fn discovery_inputs(&self, spec: &MailMigrationSpec, domain: &DomainSpec) -> String {
        Inputs::of(self, spec).of_discovery(domain)
    }

    /// Digest of what carrying mailboxes of a domain depends on; which mailboxes they are is another matter.
    pub fn sync_inputs(&self, spec: &MailMigrationSpec, domain: &DomainSpec) -> String {
        Inputs::of(self, spec).of_sync(domain)
    }
}

/// The inputs on which Jobs depend, as far as they are the same for all domains of a spec: of these there may be a thousand.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    discovery: String,
    sync: String,
}

impl Inputs {
    /// Reads a spec.
    pub fn of(settings: &Settings, spec: &MailMigrationSpec) -> Self {
        let trigger = spec.trigger.as_ref().and_then(|t| t.discover.as_ref()).filter(|t| !t.is_empty());
        let mapping = spec.mapping.as_ref().map(|m| (&m.addresses, &m.exclude, &m.folders));
        let columns = spec.columns.as_ref();
        let networks = settings.bound(&spec.policy.allowed_networks);
        let place = place_of(&spec.ledger);
        // Discovery asks the mailboxes of the destination too, and counts what would be carried.
        let asked = (&spec.destination, pass::counted_by(spec), columns);
        let discovery = fingerprint(&(mapping, &networks, settings.resolver, trigger, place, asked));
        let pass = pass::next(spec, None).inputs;
        let policy = Policy { allowed_networks: networks, ..spec.policy.clone() };
        let sync = fingerprint(&(pass, policy, settings.resolver, place, columns));
        Self { discovery, sync }
    }

    /// Digest of what discovery of a domain depends on.
    pub fn of_discovery(&self, domain: &DomainSpec) -> String {
        fingerprint(&(domain, &self.discovery))
    }

    /// Digest of what carrying mailboxes of a domain depends on.
    pub fn of_sync(&self, domain: &DomainSpec) -> String {
        let domain = DomainSpec { mailboxes: Mailboxes::default(), ..domain.clone() };
        fingerprint(&(domain, &self.sync))
    }
}

/// The fields that decide where a ledger is: a volume stays the same when another size or class is asked for, since neither of a claim
/// can be changed.
fn place_of(ledger: &LedgerSpec) -> Option<&str> {
    match ledger {
        LedgerSpec::Sqlite(_) => None,
        LedgerSpec::Postgres(postgres) => Some(&postgres.credentials_ref.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_may_ask_for_no_more_than_the_installation_allows() {
        let settings = Settings {
            allowed_networks: ["10.77.0.0/24", "fd00::/8"].iter().map(|n| n.parse().unwrap()).collect(),
            ..Settings::default()
        };
        let bound =
            |wanted: &[&str]| settings.bound(&wanted.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(bound(&["127.0.0.0/8"]), Vec::<String>::new());
        assert_eq!(bound(&["10.0.0.0/8"]), ["10.77.0.0/24"], "the wider is narrowed");
        assert_eq!(bound(&["10.77.0.1/32", "fd00:1::/32"]), ["10.77.0.1/32", "fd00:1::/32"]);
        assert_eq!(bound(&["0.0.0.0/0", "10.0.0.0/8"]), ["10.77.0.0/24"]);
        let wanted = ["10.77.0.1/32", "10.0.0.0/8", "127.0.0.0/8"].map(str::to_owned);
        assert_eq!(settings.not_allowed(&wanted), ["10.0.0.0/8", "127.0.0.0/8"]);
    }
}
