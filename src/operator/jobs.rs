//! The objects that make up one piece of work in the cluster: the Job with its hardened pod, the work list, and the
//! service account with a Role that names what its worker may write, one by one. Pure: nothing here asks the API server.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use super::settings::Settings;
use super::watched::WORKER;
use crate::api::domain::{DomainSpec, Mailboxes};
use crate::api::ledger::LedgerSpec;
use crate::api::names::{LABEL_MANAGED_BY, LABEL_MIGRATION, MANAGED_BY};
use crate::api::reference::CaKind;
use crate::api::{Files, MailMigration};
use crate::cluster::objects::{
    ANNOTATION_CONNECTIONS, ANNOTATION_SETTINGS, CONFIG_MAPS_DIR, Kind, LABEL_COMPONENT, LABEL_DOMAIN_DIGEST,
    LABEL_INPUTS, LABEL_NUMBER, LABEL_TASK, LEDGER_DIR, SECRETS_DIR, VOLUMES_DIR, WORK_DIR, WORK_KEY, digest,
    ledger_claim,
};
use crate::cluster::pack::pack;
use crate::cluster::work::Work;
use crate::model::failure::{Class, Failure, JobPolicy, Result, Side};

/// The user that workers run as.
const USER: i64 = 65_532;
/// Seconds that a worker has to end after it was told to; it needs at most ten.
const GRACE_SECONDS: i64 = 20;
/// Times that Kubernetes starts a slice again whose worker ended badly, before the operator takes over.
const RESTARTS: i32 = 4;
/// Where a pod finds its account; what Kubernetes would mount by itself, but for a shorter time.
const ACCOUNT_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// One piece of work that is to be begun.
pub struct Order<'a> {
    /// The migration as the user wrote it.
    pub migration: &'a MailMigration,
    /// The name of the Job and of all that belongs to it.
    pub name: String,
    /// Its purpose.
    pub kind: Kind,
    /// Digest of what it depends on.
    pub inputs: &'a str,
    /// The number of the pass, of the verification, or of the round of discovery.
    pub number: u32,
    /// The work list.
    pub work: &'a Work,
    /// Indexes of the Job.
    pub slices: usize,
    /// Pods at a time.
    pub parallelism: u32,
    /// Connections to one host that all its pods together may hold.
    pub connections: u32,
    /// Names of the ConfigMaps that its workers write.
    pub results: BTreeSet<String>,
    /// Names of the `MailboxMigrations` whose status its workers write.
    pub mailboxes: BTreeSet<String>,
}

impl Order<'_> {
    fn domain(&self) -> &DomainSpec {
        &self.migration.spec.domains[self.work.domain]
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        BTreeMap::from([
            label(LABEL_MANAGED_BY, MANAGED_BY),
            label(LABEL_COMPONENT, "worker"),
            label(LABEL_MIGRATION, &self.migration.name_any()),
            label(LABEL_TASK, self.kind.as_str()),
            label(LABEL_INPUTS, self.inputs),
            label(LABEL_NUMBER, &self.number.to_string()),
            label(LABEL_DOMAIN_DIGEST, &digest(&[&self.domain().name])),
        ])
    }

    /// Those of the installation and our own, which count before them.
    fn pod_labels(&self, settings: &Settings) -> BTreeMap<String, String> {
        let mut labels = settings.worker_pod.labels.clone();
        labels.extend(self.labels());
        labels
    }

    fn meta(&self, owner: OwnerReference) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.name.clone()),
            namespace: self.migration.namespace(),
            labels: Some(self.labels()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        }
    }

    /// The Secrets that its workers read, and the ConfigMaps.
    fn mounts(&self) -> (BTreeSet<&str>, BTreeSet<&str>) {
        let (mut secrets, mut config_maps) = (BTreeSet::new(), BTreeSet::new());
        let domain = self.domain();
        secrets.extend(domain.secret());
        if let Mailboxes::ConfigMapRef(wanted) = &domain.mailboxes {
            config_maps.insert(wanted.name.as_str());
        }
        let mut authorities = vec![domain.ca_ref.as_ref()];
        // The destination is logged in to before anything is copied.
        let destination = &self.migration.spec.destination;
        secrets.extend(destination.secret());
        authorities.push(destination.ca());
        if let LedgerSpec::Postgres(postgres) = &self.migration.spec.ledger {
            secrets.insert(postgres.credentials_ref.name.as_str());
        }
        for wanted in authorities.into_iter().flatten() {
            match wanted.kind {
                CaKind::ConfigMap => config_maps.insert(wanted.name.as_str()),
                CaKind::Secret => secrets.insert(wanted.name.as_str()),
            };
        }
        (secrets, config_maps)
    }

    /// The volume claims with mail, and the end that each is of.
    fn claims(&self) -> Vec<(&str, Side)> {
        fn claim(files: &Files) -> Option<&str> {
            files.claim_ref.as_ref().map(|claim| claim.name.as_str())
        }
        let source = self.domain().files.as_ref().and_then(claim);
        let destination = self.migration.spec.destination.files().and_then(claim);
        let source = source.map(|name| (name, Side::Source));
        let destination = destination.map(|name| (name, Side::Destination));
        source.into_iter().chain(destination).collect()
    }

    /// The Job, not yet begun: its satellites come first.
    ///
    /// # Errors
    /// [`Class::Internal`] when the template is not a Job.
    pub fn job(&self, settings: &Settings, owner: OwnerReference) -> Result<Job> {
        let spec = json!({
            "suspend": true,
            "completionMode": "Indexed",
            "completions": self.slices,
            "parallelism": self.parallelism.min(u32::try_from(self.slices).unwrap_or(u32::MAX)),
            "backoffLimitPerIndex": RESTARTS,
            "podFailurePolicy": {"rules": failure_rules()},
            // A pod that is being ended still holds its mailboxes; its successor waits.
            "podReplacementPolicy": "Failed",
            "template": {
                "metadata": {"labels": self.pod_labels(settings), "annotations": settings.worker_pod.annotations},
                "spec": self.pod(settings),
            },
        });
        let spec = serde_json::from_value(spec)
            .map_err(|e| Failure::internal("the template of a Job cannot be read").caused_by(&e))?;
        let annotations = BTreeMap::from([
            (ANNOTATION_SETTINGS.to_owned(), settings.of_pods()),
            (ANNOTATION_CONNECTIONS.to_owned(), self.connections.to_string()),
        ]);
        let metadata = ObjectMeta { annotations: Some(annotations), ..self.meta(owner) };
        Ok(Job { metadata, spec: Some(spec), status: None })
    }

    fn pod(&self, settings: &Settings) -> Value {
        let (secrets, config_maps) = self.mounts();
        let mut volumes = vec![
            json!({"name": "work", "configMap": {"name": self.name}}),
            json!({"name": "tmp", "emptyDir": {}}),
            json!({"name": "account", "projected": {"defaultMode": 0o440, "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            ]}}),
        ];
        let mut mounts = vec![
            json!({"name": "work", "mountPath": WORK_DIR, "readOnly": true}),
            json!({"name": "tmp", "mountPath": "/tmp"}),
            json!({"name": "account", "mountPath": ACCOUNT_DIR, "readOnly": true}),
        ];
        // Optional, so that a missing one is a finding and not a pod that never starts.
        for (n, name) in secrets.iter().enumerate() {
            volumes.push(json!({"name": format!("secret-{n}"),
                "secret": {"secretName": name, "optional": true, "defaultMode": 0o440}}));
            mounts.push(json!({"name": format!("secret-{n}"), "readOnly": true,
                "mountPath": format!("{SECRETS_DIR}/{name}")}));
        }
        for (n, name) in config_maps.iter().enumerate() {
            volumes.push(json!({"name": format!("configmap-{n}"),
                "configMap": {"name": name, "optional": true}}));
            mounts.push(json!({"name": format!("configmap-{n}"), "readOnly": true,
                "mountPath": format!("{CONFIG_MAPS_DIR}/{name}")}));
        }
        let mut affinity = Value::Null;
        if let LedgerSpec::Sqlite(_) = self.migration.spec.ledger {
            let claim = ledger_claim(&self.migration.name_any());
            volumes.push(json!({"name": "ledger", "persistentVolumeClaim": {"claimName": claim}}));
            mounts.push(json!({"name": "ledger", "mountPath": LEDGER_DIR}));
            // A volume that one node mounts is of no use to pods of another.
            affinity = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
                "topologyKey": "kubernetes.io/hostname",
                "labelSelector": {"matchLabels": {
                    LABEL_COMPONENT: "worker", LABEL_MIGRATION: self.migration.name_any()}},
            }]}});
        }
        for (claim, end) in self.claims() {
            // A volume as a whole is mounted read-only, or Kubernetes would give its files another group (fsGroup).
            let (name, is_read) = (format!("mail-{end}"), end == Side::Source);
            volumes.push(
                json!({"name": name, "persistentVolumeClaim": {"claimName": claim, "readOnly": is_read}}),
            );
            mounts.push(
                json!({"name": name, "mountPath": format!("{VOLUMES_DIR}/{end}"), "readOnly": is_read}),
            );
        }
        let pod = &settings.worker_pod;
        let mut env = vec![
            json!({"name": "MAILFERRY_LOG_FORMAT", "value": "json"}),
            json!({"name": "MAILFERRY_LOG", "value": *settings.log_filter.borrow()}),
        ];
        if !pod.proxy.https.is_empty() {
            env.push(json!({"name": "HTTPS_PROXY", "value": pod.proxy.https}));
            env.push(json!({"name": "NO_PROXY", "value": pod.proxy.no_proxy}));
        }
        let mut security = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
        if pod.fixed_ids {
            for (field, value) in [("runAsUser", USER), ("runAsGroup", USER), ("fsGroup", USER)] {
                security[field] = json!(value);
            }
            security["fsGroupChangePolicy"] = json!("OnRootMismatch");
        }
        let priority = Some(&pod.priority_class_name).filter(|name| !name.is_empty());
        json!({
            "imagePullSecrets": pod.image_pull_secrets,
            "nodeSelector": pod.node_selector,
            "tolerations": pod.tolerations,
            "priorityClassName": priority,
            "serviceAccountName": self.name,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "affinity": affinity,
            "securityContext": security,
            "containers": [{
                "name": WORKER,
                "image": settings.image,
                "imagePullPolicy": settings.image_pull_policy,
                "args": [self.kind.command()],
                "env": env,
                "resources": settings.worker_resources,
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
                // The last words of a worker stand in its pod's status; its log is never read.
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": mounts,
            }],
            "volumes": volumes,
        })
    }

    /// The work list; it never changes.
    ///
    /// # Errors
    /// [`Class::Internal`] when it cannot be packed.
    pub fn work_list(&self, owner: OwnerReference) -> Result<ConfigMap> {
        Ok(ConfigMap {
            metadata: self.meta(owner),
            immutable: Some(true),
            binary_data: Some([(WORK_KEY.to_owned(), ByteString(pack(self.work)?))].into()),
            data: None,
        })
    }

    /// The account of its workers.
    pub fn service_account(&self, owner: OwnerReference) -> ServiceAccount {
        ServiceAccount {
            metadata: self.meta(owner),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        }
    }

    /// The rights of its workers: to write their results, and the status of the mailboxes that they were given.
    ///
    /// # Errors
    /// [`Class::Internal`] when the template is not a Role.
    pub fn role(&self, owner: OwnerReference) -> Result<Role> {
        let mut rules = vec![
            json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "patch"], "resourceNames": self.results}),
        ];
        if !self.mailboxes.is_empty() {
            rules.push(json!({"apiGroups": ["mailferry.dev"], "resources": ["mailboxmigrations"],
                "verbs": ["get"], "resourceNames": self.mailboxes}));
            rules.push(json!({"apiGroups": ["mailferry.dev"], "resources": ["mailboxmigrations/status"],
                "verbs": ["patch"], "resourceNames": self.mailboxes}));
        }
        let rules = serde_json::from_value(json!(rules))
            .map_err(|e| Failure::internal("the template of a Role cannot be read").caused_by(&e))?;
        Ok(Role { metadata: self.meta(owner), rules: Some(rules) })
    }

    /// Gives the account its Role.
    ///
    /// # Errors
    /// [`Class::Internal`] when the template is not a `RoleBinding`.
    pub fn role_binding(&self, owner: OwnerReference) -> Result<RoleBinding> {
        let binding = json!({
            "metadata": self.meta(owner),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": self.name},
            "subjects": [{"kind": "ServiceAccount", "name": self.name, "namespace": self.migration.namespace()}],
        });
        serde_json::from_value(binding)
            .map_err(|e| Failure::internal("the template of a RoleBinding cannot be read").caused_by(&e))
    }
}

/// The policy of a Job on a worker's end: the failure table, in Kubernetes' words. An end that no rule names is counted.
fn failure_rules() -> Vec<Value> {
    let codes = |policy: JobPolicy| -> Vec<u8> {
        let rows = Class::table().iter().filter(|row| row.job == policy);
        rows.filter_map(|row| row.exit).collect()
    };
    let rule = |action: &str, codes: Vec<u8>| json!({"action": action, "onExitCodes": {"containerName": WORKER, "operator": "In", "values": codes}});
    vec![
        // Eviction, preemption, a drained node: nobody's failure.
        json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}),
        rule("Ignore", codes(JobPolicy::Ignore)),
        rule("FailIndex", codes(JobPolicy::FailIndex)),
    ]
}

/// The owner of what a migration is made of: when it is deleted, all of that goes too, and nothing waits for us.
pub fn owned_by_migration(migration: &MailMigration) -> OwnerReference {
    OwnerReference { block_owner_deletion: None, ..migration.controller_owner_ref(&()).unwrap_or_default() }
}

/// The owner of the satellites of a Job.
pub fn owned_by_job(job: &Job) -> OwnerReference {
    OwnerReference { block_owner_deletion: None, controller: None, ..job.owner_ref(&()).unwrap_or_default() }
}

/// A ConfigMap for results, made before there are any, so that a worker need not be allowed to make objects.
pub fn results(migration: &MailMigration, name: &str) -> ConfigMap {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: migration.namespace(),
            labels: Some(BTreeMap::from([
                label(LABEL_MANAGED_BY, MANAGED_BY),
                label(LABEL_COMPONENT, "results"),
                label(LABEL_MIGRATION, &migration.name_any()),
                label(LABEL_TASK, "results"),
            ])),
            owner_references: Some(vec![owned_by_migration(migration)]),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

/// The volume claim of a migration's ledgers, if they are files.
///
/// # Errors
/// [`Class::Internal`] when the template is not a claim.
pub fn ledger_volume(migration: &MailMigration) -> Result<Option<PersistentVolumeClaim>> {
    let LedgerSpec::Sqlite(sqlite) = &migration.spec.ledger else { return Ok(None) };
    let claim = json!({
        "metadata": {
            "name": ledger_claim(&migration.name_any()),
            "namespace": migration.namespace(),
            "labels": {LABEL_MANAGED_BY: MANAGED_BY, LABEL_COMPONENT: "ledger", LABEL_MIGRATION: migration.name_any()},
            "ownerReferences": [owned_by_migration(migration)],
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": sqlite.storage_class_name,
            "resources": {"requests": {"storage": sqlite.size}},
        },
    });
    serde_json::from_value(claim)
        .map(Some)
        .map_err(|e| Failure::internal("the template of a volume claim cannot be read").caused_by(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::work::Task;
    use crate::operator::settings::{Proxy, WorkerPod};

    fn job(settings: &Settings) -> Job {
        let spec = json!({
            "destination": {"imap": {"host": "imap.new.test", "credentialsRef": {"name": "new"}}},
            "domains": [{"name": "a.test", "credentialsRef": {"name": "a"}}],
        });
        job_of(spec, settings)
    }

    fn job_of(spec: Value, settings: &Settings) -> Job {
        let migration = MailMigration::new("m", serde_json::from_value(spec).unwrap());
        let work = Work {
            job: "j".to_owned(),
            migration: migration.clone(),
            domain: 0,
            siblings: None,
            resolver: None,
            barred_networks: Vec::new(),
            per_host_connections: 4,
            task: Task::carrying(1, Vec::new()),
        };
        let order = Order {
            migration: &migration,
            name: "j".to_owned(),
            kind: Kind::Sync,
            inputs: "i",
            number: 1,
            work: &work,
            slices: 3,
            parallelism: 2,
            connections: 8,
            results: BTreeSet::new(),
            mailboxes: BTreeSet::new(),
        };
        order.job(settings, OwnerReference::default()).unwrap()
    }

    #[test]
    fn a_workers_pod_is_as_the_installation_says_and_its_own_labels_count() {
        let settings = Settings {
            worker_pod: WorkerPod {
                image_pull_secrets: serde_json::from_value(json!([{"name": "registry"}])).unwrap(),
                node_selector: [("pool".to_owned(), "mail".to_owned())].into(),
                tolerations: serde_json::from_value(json!([{"operator": "Exists"}])).unwrap(),
                priority_class_name: "low".to_owned(),
                labels: ["team", LABEL_MIGRATION].map(|label| (label.to_owned(), "x".to_owned())).into(),
                annotations: [("note".to_owned(), "1".to_owned())].into(),
                proxy: Proxy { https: "http://proxy.test:3128".to_owned(), no_proxy: ".test".to_owned() },
                fixed_ids: false,
            },
            ..Settings::default()
        };
        let job = serde_json::to_value(job(&settings)).unwrap();
        assert_eq!(job["metadata"]["annotations"][ANNOTATION_CONNECTIONS], "8");
        let template = &job["spec"]["template"];
        let labels = &template["metadata"]["labels"];
        assert_eq!((&labels["team"], &labels[LABEL_MIGRATION]), (&json!("x"), &json!("m")));
        assert_eq!(template["metadata"]["annotations"]["note"], "1");
        let spec = &template["spec"];
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "registry"}]));
        assert_eq!(spec["nodeSelector"], json!({"pool": "mail"}));
        assert_eq!(
            (&spec["tolerations"][0]["operator"], &spec["priorityClassName"]),
            (&json!("Exists"), &json!("low"))
        );
        let security = &spec["securityContext"];
        assert_eq!(*security, json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}));
        let env = spec["containers"][0]["env"].to_string();
        assert!(env.contains(r#"{"name":"HTTPS_PROXY","value":"http://proxy.test:3128"}"#), "{env}");
        let settings_say = &job["metadata"]["annotations"][ANNOTATION_SETTINGS];
        assert_ne!(
            *settings_say,
            Settings::default().of_pods(),
            "such pods may start where others could not"
        );
    }

    #[test]
    fn without_settings_a_workers_pod_is_what_it_was() {
        let job = serde_json::to_value(job(&Settings::default())).unwrap();
        let spec = &job["spec"]["template"]["spec"];
        assert_eq!(spec["securityContext"]["runAsUser"], USER);
        assert!(spec["priorityClassName"].is_null() && !spec.to_string().contains("HTTPS_PROXY"), "{spec}");
    }

    #[test]
    fn volumes_with_mail_are_mounted_and_a_source_is_only_read() {
        let spec = json!({
            "destination": {"files": {"format": "Maildir", "claimRef": {"name": "kept"}}},
            "domains": [{"name": "a.test", "files": {"format": "Mbox", "claimRef": {"name": "old", "path": "a"}}}],
        });
        let job = serde_json::to_value(job_of(spec, &Settings::default())).unwrap();
        let spec = &job["spec"]["template"]["spec"];
        let named = |list: &Value, name: &str| {
            list.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone()
        };
        let mounts = &spec["containers"][0]["volumeMounts"];
        for (end, claim, is_read) in [("source", "old", true), ("destination", "kept", false)] {
            let volume = named(&spec["volumes"], &format!("mail-{end}"));
            assert_eq!(volume["persistentVolumeClaim"]["claimName"], claim);
            assert_eq!(volume["persistentVolumeClaim"]["readOnly"].as_bool().unwrap_or_default(), is_read);
            let mount = named(mounts, &format!("mail-{end}"));
            assert_eq!(mount["mountPath"], format!("{VOLUMES_DIR}/{end}"));
            assert_eq!(mount["readOnly"].as_bool().unwrap_or_default(), is_read);
        }
        let secrets = spec["volumes"].as_array().unwrap().iter().filter(|v| v.get("secret").is_some());
        assert_eq!(secrets.count(), 0, "files need no credentials");
    }
}
