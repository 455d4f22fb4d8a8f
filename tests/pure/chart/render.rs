//! Runs helm on the chart, and looks at what comes out.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::programs;

/// The oldest Kubernetes that the chart is for.
const KUBERNETES: &str = "1.33.0";
/// Where the chart is installed in these tests.
pub(crate) const NAMESPACE: &str = "mailferry-system";

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn chart() -> PathBuf {
    root().join("charts/mailferry")
}

/// Runs helm with values, without a cluster.
pub(crate) fn helm<S: AsRef<OsStr>>(arguments: &[S], values: &Value) -> Output {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("values.yaml");
    fs::write(&file, values.to_string()).unwrap();
    Command::new(programs::find("helm"))
        .args(arguments)
        .arg("--values")
        .arg(&file)
        .env("HELM_CACHE_HOME", place.path())
        .env("HELM_CONFIG_HOME", place.path())
        .env("HELM_DATA_HOME", place.path())
        .env_remove("KUBECONFIG")
        .output()
        .unwrap()
}

/// The output of `helm template` for values, or why it refuses them.
pub(crate) fn try_render(release: &str, namespace: &str, values: &Value) -> Result<Vec<Value>, String> {
    render_chart(&chart(), release, namespace, values)
}

/// The same for a chart that lies elsewhere.
pub(crate) fn render_chart(
    chart: &Path,
    release: &str,
    namespace: &str,
    values: &Value,
) -> Result<Vec<Value>, String> {
    let arguments = ["template", release, chart.to_str().unwrap(), "--namespace", namespace];
    let output = helm(&[&arguments[..], &["--kube-version", KUBERNETES]].concat(), values);
    if output.status.success() {
        Ok(documents(std::str::from_utf8(&output.stdout).unwrap()))
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

/// The output of `helm template` for values that are right.
#[track_caller]
pub(crate) fn render(values: &Value) -> Vec<Value> {
    try_render("mailferry", NAMESPACE, values).unwrap_or_else(|refusal| panic!("{values}: {refusal}"))
}

/// The documents of a YAML stream that are not empty.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).unwrap())
        .filter(|document| !document.is_null())
        .collect()
}

pub(crate) fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The one object of a kind with a name.
#[track_caller]
pub(crate) fn one<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found: Vec<&Value> =
        of_kind(objects, kind).into_iter().filter(|object| object["metadata"]["name"] == name).collect();
    assert_eq!(found.len(), 1, "{kind} {name} among {}", names(objects));
    found[0]
}

fn names(objects: &[Value]) -> String {
    objects.iter().fold(String::new(), |mut text, object| {
        write!(text, " {}/{}", object["kind"], object["metadata"]["name"]).unwrap();
        text
    })
}

/// The sets of values that every promise is held against, with what each is about.
pub(crate) fn sets() -> Vec<(&'static str, Value)> {
    vec![
        ("nothing set", json!({})),
        ("two namespaces", json!({"watchNamespaces": ["contoso-mail", "northwind-mail"]})),
        ("everything on", everything()),
        (
            "everything off",
            json!({
                "crds": {"enabled": false},
                "metrics": {"service": {"enabled": false}},
                "networkPolicy": {"enabled": false},
                "rbac": {"create": false, "aggregate": false},
                "serviceAccount": {"create": false, "name": "somebody"},
                "replicas": 0,
                "resources": null,
                "workers": {"resources": {}},
            }),
        ),
    ]
}

/// Every value said, none as it would be by itself.
pub(crate) fn everything() -> Value {
    json!({
        "image": {
            "repository": "registry.example:5000/mail/ferry",
            "tag": "1.2.3",
            "digest": format!("sha256:{}", "0123456789abcdef".repeat(4)),
            "pullPolicy": "Always",
        },
        "imagePullSecrets": [{"name": "registry"}],
        "replicas": 3,
        "fullnameOverride": "ferry",
        "watchNamespaces": ["contoso-mail", "northwind-mail", NAMESPACE],
        "crds": {"enabled": true, "keep": false},
        "discovery": {"resolver": "[fd00::53]:5353", "allowedNetworks": ["10.0.0.0/8", "fd00::/8"]},
        "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        "workers": {
            "resources": {"requests": null, "limits": {"memory": "1Gi", "ephemeral-storage": "1Gi"}},
            "pod": {
                "imagePullSecrets": [{"name": "registry"}],
                "nodeSelector": {"pool": "mail"},
                "tolerations": [{"operator": "Exists"}],
                "priorityClassName": "low",
                "labels": {"team": "mail"},
                "annotations": {"note": "1"},
                "proxy": {"https": "http://proxy.example:3128", "noProxy": ".example"},
            },
        },
        "fixedIds": true,
        "log": {"filter": "info,mailferry[{name=\"a: b\"}]=debug", "format": "text"},
        "metrics": {
            "service": {"enabled": true, "annotations": {"note": "yes"}},
            "podMonitor": {"enabled": true, "labels": {"release": "prometheus"}, "interval": "1m30s"},
        },
        "networkPolicy": {
            "enabled": true,
            "dnsPorts": [53, 5353],
            "apiServer": {"ports": [6443], "cidrs": ["192.0.2.0/24"]},
            "operator": {"ingressFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]},
            "workers": {"namespaces": ["contoso-mail"], "ports": []},
        },
        "rbac": {"create": true, "aggregate": true},
        "serviceAccount": {"create": true, "name": "ferryman", "annotations": {"note": "true"}},
        "podAnnotations": {"note": "1"},
        "podLabels": {"team": "mail", "app.kubernetes.io/name": "not-to-be-taken"},
        "priorityClassName": "high",
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "mail", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
            [{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]}}},
        "topologySpreadConstraints":
            [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
    })
}
