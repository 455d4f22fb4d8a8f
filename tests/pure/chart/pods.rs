//! The operator's pod, and its surroundings: how it is secured, its settings, and who may talk to it.

use clap::Parser;
use mailferry::api::names;
use mailferry::cli::Cli;
use mailferry::operator::settings::WorkerPod;
use serde_json::{Value, json};

use crate::chart::render::{NAMESPACE, everything, of_kind, one, render, sets};

/// The operator's pod template.
fn pod(objects: &[Value]) -> &Value {
    let deployments = of_kind(objects, "Deployment");
    assert_eq!(deployments.len(), 1);
    &deployments[0]["spec"]["template"]
}

/// The operator's container.
fn container(objects: &[Value]) -> &Value {
    &pod(objects)["spec"]["containers"][0]
}

fn arguments(objects: &[Value]) -> Vec<&str> {
    container(objects)["args"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect()
}

/// The rules that Pod Security calls restricted, and further ones of our own; each a sentence when it is
/// broken.
fn violations(pod: &Value) -> Vec<String> {
    let spec = &pod["spec"];
    let mut found = Vec::new();
    let mut ask = |holds: bool, what: &str| {
        if !holds {
            found.push(what.to_owned());
        }
    };
    for shared in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"] {
        ask(spec[shared].is_null(), shared);
    }
    let whole = &spec["securityContext"];
    ask(whole["runAsNonRoot"] == true, "runAsNonRoot");
    ask(whole["runAsUser"] == 65532 && whole["runAsGroup"] == 65532, "runAsUser");
    ask(whole["seccompProfile"]["type"] == "RuntimeDefault", "seccompProfile");
    for unasked in ["sysctls", "seLinuxOptions", "appArmorProfile", "windowsOptions", "supplementalGroups"] {
        ask(whole[unasked].is_null(), unasked);
    }
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        let kinds: Vec<&String> = volume.as_object().unwrap().keys().filter(|key| *key != "name").collect();
        ask(kinds == ["configMap"] || kinds == ["emptyDir"], "a volume of another kind");
    }
    ask(spec["initContainers"].is_null() && spec["ephemeralContainers"].is_null(), "more containers");
    for container in spec["containers"].as_array().unwrap() {
        let own = &container["securityContext"];
        ask(own["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation");
        ask(own["readOnlyRootFilesystem"] == true, "readOnlyRootFilesystem");
        ask(own["capabilities"] == json!({"drop": ["ALL"]}), "capabilities");
        for unasked in ["privileged", "procMount", "runAsUser", "runAsNonRoot", "seccompProfile"] {
            ask(own[unasked].is_null(), unasked);
        }
        ask(container["ports"].as_array().unwrap().iter().all(|port| port["hostPort"].is_null()), "hostPort");
        ask(container["envFrom"].is_null(), "envFrom");
        let secret = |variable: &Value| !variable["valueFrom"]["secretKeyRef"].is_null();
        ask(!container["env"].as_array().unwrap().iter().any(secret), "a Secret in the environment");
    }
    found
}

#[test]
fn every_pod_is_restricted() {
    for (about, values) in sets() {
        let objects = render(&values);
        assert_eq!(violations(pod(&objects)), Vec::<String>::new(), "{about}");
        let with_pods = ["Pod", "Job", "CronJob", "DaemonSet", "StatefulSet", "ReplicaSet"];
        assert!(objects.iter().all(|o| !with_pods.contains(&o["kind"].as_str().unwrap())), "{about}");
    }
}

#[test]
fn the_eye_for_restricted_pods_sees() {
    let good = pod(&render(&json!({}))).clone();
    let mut bad = good.clone();
    bad["spec"]["hostNetwork"] = json!(true);
    bad["spec"]["securityContext"]["runAsUser"] = json!(0);
    bad["spec"]["containers"][0]["securityContext"]["capabilities"]["add"] = json!(["NET_RAW"]);
    bad["spec"]["volumes"][0] = json!({"name": "log", "hostPath": {"path": "/"}});
    assert_eq!(violations(&bad), ["hostNetwork", "runAsUser", "a volume of another kind", "capabilities"]);
}

#[test]
fn the_operator_is_told_what_the_values_say() {
    let plain = render(&json!({}));
    let image = format!("localhost/mailferry:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(container(&plain)["image"], image);
    assert_eq!(container(&plain)["imagePullPolicy"], "IfNotPresent");
    assert_eq!(
        arguments(&plain),
        [
            "operator",
            "--listen=0.0.0.0:8080",
            "--log-format=json",
            "--log-filter-file=/etc/mailferry/log/filter",
            "--lease-name=mailferry",
            &format!("--image={image}"),
            "--image-pull-policy=IfNotPresent",
        ]
    );

    let objects = render(&everything());
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let image = format!("registry.example:5000/mail/ferry:1.2.3@{digest}");
    assert_eq!(container(&objects)["image"], image);
    assert_eq!(
        arguments(&objects)[2..],
        [
            "--log-format=text",
            "--log-filter-file=/etc/mailferry/log/filter",
            "--lease-name=ferry",
            &format!("--image={image}"),
            "--image-pull-policy=Always",
            "--watch-namespace=contoso-mail",
            "--watch-namespace=northwind-mail",
            &format!("--watch-namespace={NAMESPACE}"),
            "--resolver=[fd00::53]:5353",
            "--allowed-network=10.0.0.0/8",
            "--allowed-network=fd00::/8",
        ]
    );
    let variables = container(&objects)["env"].as_array().unwrap();
    let variable = |name: &str| variables.iter().find(|v| v["name"] == name).unwrap();
    assert_eq!(
        variable("MAILFERRY_LEASE_NAMESPACE")["valueFrom"]["fieldRef"]["fieldPath"],
        "metadata.namespace"
    );
    let resources: Value =
        serde_json::from_str(variable("MAILFERRY_WORKER_RESOURCES")["value"].as_str().unwrap()).unwrap();
    assert_eq!(resources, json!({"limits": {"memory": "1Gi", "ephemeral-storage": "1Gi"}}));
    assert_eq!(container(&objects)["resources"]["requests"], json!({"cpu": 1, "memory": "1Gi"}));

    let deployment = one(&objects, "Deployment", "ferry");
    assert_eq!(deployment["spec"]["replicas"], 3);
    let spec = &pod(&objects)["spec"];
    let set = everything();
    for field in [
        "imagePullSecrets",
        "priorityClassName",
        "nodeSelector",
        "tolerations",
        "affinity",
        "topologySpreadConstraints",
    ] {
        assert_eq!(spec[field], set[field], "{field}");
    }
    assert_eq!(spec["serviceAccountName"], "ferryman");
    assert_eq!(pod(&objects)["metadata"]["annotations"], json!({"note": "1"}));
    assert_eq!(pod(&objects)["metadata"]["labels"]["team"], "mail");
}

#[test]
fn the_operator_understands_its_arguments() {
    for (about, values) in sets() {
        let objects = render(&values);
        let words = ["mailferry"].into_iter().chain(arguments(&objects));
        Cli::try_parse_from(words).unwrap_or_else(|refusal| panic!("{about}: {refusal}"));
    }
}

#[test]
fn the_log_filter_is_mounted_as_a_directory_and_restarts_nothing() {
    let with = |filter: &str| render(&json!({"log": {"filter": filter}}));
    let (before, after) = (with("warn"), with("mailferry=trace"));
    assert_eq!(one(&after, "ConfigMap", "mailferry-log")["data"]["filter"], "mailferry=trace");
    assert_eq!(pod(&before), pod(&after), "a changed pod template would restart the operator");
    let mount = &container(&after)["volumeMounts"][0];
    assert_eq!((&mount["mountPath"], &mount["subPath"]), (&json!("/etc/mailferry/log"), &Value::Null));
    assert_eq!(
        one(&render(&everything()), "ConfigMap", "ferry-log")["data"]["filter"],
        everything()["log"]["filter"]
    );
}

#[test]
fn everything_that_selects_the_operator_finds_it() {
    for (about, values) in sets() {
        let objects = render(&values);
        let labels = pod(&objects)["metadata"]["labels"].as_object().unwrap();
        let selects = |selector: &Value| {
            let selector = selector.as_object().unwrap();
            assert!(!selector.is_empty(), "{about}");
            for (label, value) in selector {
                assert_eq!(labels.get(label), Some(value), "{about}: {label}");
            }
        };
        selects(&of_kind(&objects, "Deployment")[0]["spec"]["selector"]["matchLabels"]);
        for service in of_kind(&objects, "Service") {
            selects(&service["spec"]["selector"]);
        }
        for kind in ["PodMonitor", "PodDisruptionBudget"] {
            for object in of_kind(&objects, kind) {
                selects(&object["spec"]["selector"]["matchLabels"]);
            }
        }
        let ports = container(&objects)["ports"].as_array().unwrap();
        let known = |name: &Value| assert!(ports.iter().any(|port| port["name"] == *name), "{about}: {name}");
        for service in of_kind(&objects, "Service") {
            known(&service["spec"]["ports"][0]["targetPort"]);
        }
        for monitor in of_kind(&objects, "PodMonitor") {
            known(&monitor["spec"]["podMetricsEndpoints"][0]["port"]);
        }
        for (probe, path) in
            [("livenessProbe", "/livez"), ("readinessProbe", "/readyz"), ("startupProbe", "/livez")]
        {
            let asked = &container(&objects)[probe]["httpGet"];
            known(&asked["port"]);
            assert_eq!(asked["path"], path, "{about}");
        }
    }
}

#[test]
fn a_budget_stands_only_where_somebody_can_take_over() {
    for (replicas, wanted) in [(0, 0), (1, 0), (2, 1)] {
        let objects = render(&json!({"replicas": replicas}));
        assert_eq!(of_kind(&objects, "PodDisruptionBudget").len(), wanted, "{replicas}");
        assert_eq!(pod(&objects)["spec"]["topologySpreadConstraints"].is_array(), replicas > 1, "{replicas}");
    }
    let budget = &of_kind(&render(&json!({"replicas": 2})), "PodDisruptionBudget")[0]["spec"].clone();
    assert_eq!(budget["maxUnavailable"], 1);
}

#[test]
fn metrics_are_offered_as_asked() {
    let plain = render(&json!({}));
    assert_eq!((of_kind(&plain, "Service").len(), of_kind(&plain, "PodMonitor").len()), (1, 0));
    let objects = render(&everything());
    let monitor = one(&objects, "PodMonitor", "ferry");
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    assert_eq!(
        monitor["spec"]["podMetricsEndpoints"],
        json!([{"port": "http", "path": "/metrics", "interval": "1m30s"}])
    );
}

fn tcp(rule: &Value) -> Vec<u64> {
    let ports = rule["ports"].as_array().into_iter().flatten();
    ports.filter(|port| port["protocol"] == "TCP").map(|port| port["port"].as_u64().unwrap()).collect()
}

#[test]
fn network_policies_shut_what_is_not_needed() {
    let objects = render(&json!({"watchNamespaces": ["contoso-mail", "northwind-mail"]}));
    let policies = of_kind(&objects, "NetworkPolicy");
    assert_eq!(policies.len(), 3);
    for policy in &policies {
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    }

    let operator = one(&objects, "NetworkPolicy", "mailferry");
    assert_eq!(operator["metadata"]["namespace"], NAMESPACE);
    let chosen = operator["spec"]["podSelector"]["matchLabels"].as_object().unwrap();
    let labels = pod(&objects)["metadata"]["labels"].as_object().unwrap();
    assert!(!chosen.is_empty() && chosen.iter().all(|(label, value)| labels.get(label) == Some(value)));
    assert_eq!(operator["spec"]["ingress"], json!([{"ports": [{"protocol": "TCP", "port": "http"}]}]));
    let egress = operator["spec"]["egress"].as_array().unwrap();
    assert_eq!(egress.iter().map(tcp).collect::<Vec<_>>(), [vec![53], vec![443, 6443]]);
    assert!(egress[0]["ports"].as_array().unwrap().contains(&json!({"protocol": "UDP", "port": 53})));

    let workers: Vec<&&Value> =
        policies.iter().filter(|p| p["metadata"]["name"] == "mailferry-workers").collect();
    assert_eq!(workers[0]["metadata"]["namespace"], "contoso-mail");
    assert_eq!(workers[1]["metadata"]["namespace"], "northwind-mail");
    for policy in workers {
        let wanted =
            json!({names::LABEL_MANAGED_BY: names::MANAGED_BY, "app.kubernetes.io/component": "worker"});
        assert_eq!(policy["spec"]["podSelector"]["matchLabels"], wanted);
        assert_eq!(policy["spec"]["ingress"], json!([]), "nobody talks to a worker");
        let egress = policy["spec"]["egress"].as_array().unwrap();
        let ports: Vec<Vec<u64>> = egress.iter().map(tcp).collect();
        assert_eq!(ports, [vec![53], vec![443, 6443], vec![80, 110, 143, 443, 993, 995, 4190, 5432]]);
    }
}

#[test]
fn network_policies_follow_the_values() {
    let none = render(&json!({"networkPolicy": {"enabled": false}}));
    assert!(of_kind(&none, "NetworkPolicy").is_empty());
    assert_eq!(of_kind(&render(&json!({})), "NetworkPolicy").len(), 1, "which namespaces would it be?");
    let listed = render(&json!({"networkPolicy": {"workers": {"namespaces": ["contoso-mail"]}}}));
    assert_eq!(one(&listed, "NetworkPolicy", "mailferry-workers")["metadata"]["namespace"], "contoso-mail");

    let objects = render(&everything());
    let operator = &one(&objects, "NetworkPolicy", "ferry")["spec"];
    assert_eq!(
        operator["ingress"][0]["from"],
        json!([{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}])
    );
    assert_eq!(tcp(&operator["egress"][0]), [53, 5353], "the resolver's port once, though it is said twice");
    assert_eq!(operator["egress"][1]["to"], json!([{"ipBlock": {"cidr": "192.0.2.0/24"}}]));
    let workers = &one(&objects, "NetworkPolicy", "ferry-workers")["spec"];
    assert_eq!(workers["egress"][2], json!({}), "no port listed is every port");
    let odd = render(&json!({"discovery": {"resolver": "10.77.0.1:1053"}}));
    assert_eq!(tcp(&one(&odd, "NetworkPolicy", "mailferry")["spec"]["egress"][0]), [53, 1053]);
}

/// The operator's settings for its workers' pods.
fn of_workers(objects: &[Value]) -> WorkerPod {
    let variables = container(objects)["env"].as_array().unwrap();
    let told = variables.iter().find(|variable| variable["name"] == "MAILFERRY_WORKER_POD").unwrap();
    serde_json::from_str(told["value"].as_str().unwrap()).unwrap()
}

#[test]
fn what_is_said_of_workers_pods_is_what_the_operator_understands() {
    assert_eq!(of_workers(&render(&json!({}))), WorkerPod::default());
    let pod = json!({
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"pool": "mail"},
        "tolerations": [{"key": "mail", "operator": "Exists", "effect": "NoSchedule"}],
        "priorityClassName": "low",
        "labels": {"team": "mail"},
        "annotations": {"sidecar.istio.io/inject": "false"},
        "proxy": {"https": "http://proxy.example:3128", "noProxy": "10.0.0.0/8"},
    });
    let told = of_workers(&render(&json!({"workers": {"pod": pod}})));
    assert_eq!(serde_json::to_value(&told).unwrap()["annotations"], pod["annotations"]);
    assert_eq!(
        (told.proxy.https.as_str(), told.priority_class_name.as_str()),
        ("http://proxy.example:3128", "low")
    );
    assert_eq!((told.tolerations.len(), told.image_pull_secrets.len()), (1, 1));
    assert!(told.fixed_ids);
}

#[test]
fn where_the_cluster_gives_users_no_pod_names_one() {
    let objects = render(&json!({"fixedIds": false}));
    assert!(!of_workers(&objects).fixed_ids);
    let security = &pod(&objects)["spec"]["securityContext"];
    assert_eq!(*security, json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}));
}

#[test]
fn the_operator_is_told_the_memory_that_it_may_use() {
    let objects = render(&json!({}));
    let variables = container(&objects)["env"].as_array().unwrap();
    let memory = variables.iter().find(|variable| variable["name"] == "MAILFERRY_MEMORY").unwrap();
    assert_eq!(memory["valueFrom"]["resourceFieldRef"]["resource"], "limits.memory");
}
