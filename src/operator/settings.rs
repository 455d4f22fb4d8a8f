//! What whoever installs the operator decides for all migrations.

use std::net::SocketAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::ResourceRequirements;
use tokio::sync::watch;

use crate::api::MailMigrationSpec;
use crate::api::domain::{DomainSpec, Mailboxes};
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
    /// What a worker's container asks for and may use.
    pub worker_resources: ResourceRequirements,
    /// The log filter of the moment; workers begin with the operator's.
    pub log_filter: watch::Receiver<String>,
}

impl Settings {
    /// Digest of what decides whether a worker's pod can start and live. When it changes, what could not perhaps can.
    pub fn of_pods(&self) -> String {
        fingerprint(&(&self.image, &self.image_pull_policy, &self.worker_resources))
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

    /// The specification as workers are given it: no network that the installation does not allow.
    pub fn bounded(&self, spec: &MailMigrationSpec) -> MailMigrationSpec {
        let mut spec = spec.clone();
        spec.policy.allowed_networks = self.bound(&spec.policy.allowed_networks);
        spec
    }

    /// Digest of what discovery of a domain depends on.
    pub fn discovery_inputs(&self, spec: &MailMigrationSpec, domain: &DomainSpec) -> String {
        let trigger = spec.trigger.as_ref().and_then(|t| t.discover.as_ref()).filter(|t| !t.is_empty());
        let mapping = spec.mapping.as_ref().map(|m| (&m.addresses, &m.exclude, &m.folders));
        let networks = self.bound(&spec.policy.allowed_networks);
        let columns = spec.columns.as_ref();
        let inputs = (domain, mapping, columns, networks, self.resolver, trigger, &spec.ledger);
        match spec.destination.microsoft365() {
            // Discovery asks its mailboxes too.
            Some(tenant) => fingerprint(&(inputs, tenant)),
            None => fingerprint(&inputs),
        }
    }

    /// Digest of what carrying mailboxes of a domain depends on; which mailboxes they are is another matter.
    pub fn sync_inputs(&self, spec: &MailMigrationSpec, domain: &DomainSpec) -> String {
        let domain = DomainSpec { mailboxes: Mailboxes::default(), ..domain.clone() };
        let pass = pass::next(spec, None).inputs;
        let policy = self.bounded(spec).policy;
        fingerprint(&(domain, spec.columns.as_ref(), pass, policy, self.resolver, &spec.ledger))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_may_ask_for_no_more_than_the_installation_allows() {
        let settings = Settings {
            image: String::new(),
            image_pull_policy: None,
            resolver: None,
            allowed_networks: ["10.77.0.0/24", "fd00::/8"].iter().map(|n| n.parse().unwrap()).collect(),
            worker_resources: ResourceRequirements::default(),
            log_filter: watch::channel(String::new()).1,
        };
        let bound =
            |wanted: &[&str]| settings.bound(&wanted.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(bound(&["127.0.0.0/8"]), Vec::<String>::new());
        assert_eq!(bound(&["10.0.0.0/8"]), ["10.77.0.0/24"], "the wider is narrowed");
        assert_eq!(bound(&["10.77.0.1/32", "fd00:1::/32"]), ["10.77.0.1/32", "fd00:1::/32"]);
        assert_eq!(bound(&["0.0.0.0/0", "10.0.0.0/8"]), ["10.77.0.0/24"]);
    }
}
