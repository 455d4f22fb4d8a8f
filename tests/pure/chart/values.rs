//! Values, right and wrong, and the objects as a whole: names, labels, definitions, the notes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mailferry::api::crd;
use serde_json::{Value, json};

use crate::chart::render::{
    NAMESPACE, chart, documents, helm, of_kind, render, render_chart, sets, try_render,
};

#[test]
fn lint_finds_nothing() {
    for (about, values) in sets() {
        let chart = chart();
        let output = helm(&["lint", "--strict", chart.to_str().unwrap()], &values);
        let told =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{about}: {told}");
        assert!(!told.contains("[WARNING]") && !told.contains("[ERROR]"), "{about}: {told}");
    }
}

#[test]
fn every_object_has_a_name_of_its_own_and_the_labels() {
    let release = "a-release.with-the-longest-name-that-helm-takes.53-chars";
    let long = &release[..53];
    // The second begins like the first, and would be cut to the same name.
    let twin = format!("{}x", &release[..52]);
    let mut all = BTreeSet::new();
    for release in ["mailferry", "my-mailferry", "x", "2024", "null", long, &twin] {
        let mut own = BTreeSet::new();
        for (about, values) in sets() {
            for object in try_render(release, NAMESPACE, &values).unwrap() {
                let kind = object["kind"].as_str().unwrap();
                let name = object["metadata"]["name"].as_str().unwrap_or_else(|| panic!("{about}: {object}"));
                let of_the_kinds = kind == "CustomResourceDefinition"
                    || name.starts_with("mailferry-view")
                    || name.starts_with("mailferry-edit");
                let label = name.len() <= 63
                    && name.starts_with(|c: char| c.is_ascii_lowercase())
                    && name.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                    && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
                assert!(of_the_kinds || label, "{release}: {kind} {name}");
                let labels = object["metadata"]["labels"].as_object().unwrap();
                assert_eq!(labels["app.kubernetes.io/instance"], release, "{kind}");
                assert_eq!(labels["app.kubernetes.io/version"], env!("CARGO_PKG_VERSION"), "{kind}");
                for (label, value) in labels {
                    let value = value.as_str().unwrap_or_else(|| panic!("{kind} {name}: {label} is no text"));
                    assert!(value.len() <= 63, "{kind} {name}: {label}");
                }
                let namespaced = !kind.starts_with("Cluster") && kind != "CustomResourceDefinition";
                assert_eq!(object["metadata"]["namespace"].is_string(), namespaced, "{kind} {name}");
                if about == "nothing set" {
                    let place = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
                    let whole = (kind.to_owned(), place, name.to_owned());
                    assert!(own.insert(whole.clone()), "{release}: {whole:?} twice");
                    assert!(of_the_kinds || all.insert(whole.clone()), "{whole:?} is another release's too");
                }
            }
        }
    }
}

#[test]
fn names_that_look_like_something_else_stay_texts() {
    let values = json!({"watchNamespaces": ["123", "null"], "fullnameOverride": "true"});
    for object in try_render("on", "456", &values).unwrap() {
        let namespace = &object["metadata"]["namespace"];
        assert!(object["metadata"]["name"].is_string(), "{object}");
        assert!(namespace.is_string() || object["kind"] != "Role", "{object}");
    }
}

#[test]
fn the_definitions_are_those_of_crds() {
    for (keep, wanted) in [(true, json!({"helm.sh/resource-policy": "keep"})), (false, Value::Null)] {
        let objects = render(&json!({"crds": {"keep": keep}}));
        let mut found: Vec<Value> =
            of_kind(&objects, "CustomResourceDefinition").into_iter().cloned().collect();
        for definition in &mut found {
            let metadata = definition["metadata"].as_object_mut().unwrap();
            assert_eq!(metadata.remove("annotations").unwrap_or_default(), wanted);
            assert!(metadata.remove("labels").is_some());
        }
        let sources: Vec<Value> =
            crd::files().unwrap().iter().flat_map(|(_, text)| documents(text)).collect();
        assert!(
            found == sources,
            "the chart's definitions are not those of crds/: run `{}` and `BLESS=1 cargo test --test pure generated`",
            crd::REMEDY
        );
    }
    let without = render(&json!({"crds": {"enabled": false}}));
    assert!(of_kind(&without, "CustomResourceDefinition").is_empty());
    // Helm installs what lies there once, and never upgrades it.
    assert!(!chart().join("crds").exists());
}

#[test]
fn wrong_values_are_refused_by_name() {
    let table = [
        ("/image/tag", json!({"image": {"tag": 1.0}})),
        ("/image/digest", json!({"image": {"digest": "sha256:12"}})),
        ("/image/repository", json!({"image": {"repository": "Registry.example/Mail Ferry"}})),
        ("/image/pullPolicy", json!({"image": {"pullPolicy": "Sometimes"}})),
        ("tagg", json!({"image": {"tagg": "1"}})),
        ("replica", json!({"replica": 2})),
        ("/replicas", json!({"replicas": "two"})),
        ("/replicas", json!({"replicas": -1})),
        ("/fullnameOverride", json!({"fullnameOverride": "x".repeat(51)})),
        ("/fullnameOverride", json!({"fullnameOverride": "1st"})),
        ("/watchNamespaces/0", json!({"watchNamespaces": ["Contoso"]})),
        ("/watchNamespaces", json!({"watchNamespaces": ["a", "a"]})),
        ("/watchNamespaces", json!({"watchNamespaces": "a,b"})),
        ("/crds/keep", json!({"crds": {"keep": "yes"}})),
        ("/discovery/resolver", json!({"discovery": {"resolver": "10.0.0.1"}})),
        ("/discovery/resolver", json!({"discovery": {"resolver": "dns.example:53"}})),
        ("discovery.resolver", json!({"discovery": {"resolver": "10.0.0.1:70000"}})),
        ("/discovery/allowedNetworks/0", json!({"discovery": {"allowedNetworks": ["10.0.0.1"]}})),
        ("/discovery/allowedNetworks/0", json!({"discovery": {"allowedNetworks": ["10.0.0.0/33"]}})),
        ("/resources", json!({"resources": {"request": {"cpu": "1"}}})),
        ("/workers/resources/limits/memory", json!({"workers": {"resources": {"limits": {"memory": true}}}})),
        (
            "/workers/pod/tolerations/0",
            json!({"workers": {"pod": {"tolerations": [{"efect": "NoSchedule"}]}}}),
        ),
        ("/workers/pod/imagePullSecrets/0", json!({"workers": {"pod": {"imagePullSecrets": ["registry"]}}})),
        ("/workers/pod/proxy/https", json!({"workers": {"pod": {"proxy": {"https": "proxy.example:3128"}}}})),
        (
            "/workers/pod/proxy/https",
            json!({"workers": {"pod": {"proxy": {"https": "http://me:secret@proxy.example"}}}}),
        ),
        ("/fixedIds", json!({"fixedIds": "no"})),
        ("/log/format", json!({"log": {"format": "xml"}})),
        ("/log/filter", json!({"log": {"filter": ""}})),
        ("/metrics/podMonitor/interval", json!({"metrics": {"podMonitor": {"interval": "often"}}})),
        ("/networkPolicy/workers/ports/0", json!({"networkPolicy": {"workers": {"ports": [0]}}})),
        ("/networkPolicy/dnsPorts", json!({"networkPolicy": {"dnsPorts": []}})),
        (
            "/networkPolicy/operator/ingressFrom/0",
            json!({"networkPolicy": {"operator": {"ingressFrom": [{}]}}}),
        ),
        ("/podAnnotations/x", json!({"podAnnotations": {"x": 1}})),
        ("/tolerations/0", json!({"tolerations": [{"efect": "NoSchedule"}]})),
        ("serviceAccount.name", json!({"serviceAccount": {"create": false}})),
        (
            "networkPolicy.workers.namespaces names \"c\"",
            json!({"watchNamespaces": ["a"], "networkPolicy": {"workers": {"namespaces": ["c"]}}}),
        ),
        (
            "networkPolicy.enabled",
            json!({"networkPolicy": {"enabled": false, "workers": {"namespaces": ["c"]}}}),
        ),
    ];
    for (named, values) in table {
        let refusal = try_render("mailferry", NAMESPACE, &values).expect_err(&values.to_string());
        assert!(refusal.contains(named), "{values}: {refusal}");
    }
}

/// A chart that is a part of another one gets `global`, whether it wants it or not.
#[test]
fn a_parent_charts_globals_are_no_mistake() {
    render(&json!({"global": {"anything": true}}));
}

#[test]
fn the_notes_tell_what_to_do_next() {
    // helm shows notes only when it installs, and for that it wants a cluster; a template may include them.
    let place = tempfile::tempdir().unwrap();
    copy(&chart(), place.path());
    let object = "kind: Notes\ntext: {{ include (print .Template.BasePath \"/NOTES.txt\") . | toJson }}\n";
    fs::write(place.path().join("templates/notes.yaml"), object).unwrap();
    let notes = |values: Value| {
        let objects = render_chart(place.path(), "mailferry", NAMESPACE, &values).unwrap();
        of_kind(&objects, "Notes")[0]["text"].as_str().unwrap().to_owned()
    };
    let plain = notes(json!({}));
    for said in [
        "kubectl -n mailferry-system rollout status deployment/mailferry\n",
        "kubectl create namespace contoso-mail\n",
        "pod-security.kubernetes.io/enforce=restricted\n",
        // kubectl watches one kind at a time.
        "get mm --watch\n",
        "get mbm\n",
        "MailMigrations of every namespace",
        "discovery.allowedNetworks",
        "networkPolicy.workers.namespaces",
    ] {
        assert!(plain.contains(said), "{said} is not in:\n{plain}");
    }
    let other = notes(json!({
        "watchNamespaces": ["a", "b"],
        "discovery": {"allowedNetworks": ["10.0.0.0/8"]},
        "replicas": 0,
        "crds": {"keep": false},
        "rbac": {"create": false},
    }));
    for said in
        ["the MailMigrations of a, b, and", "replicas is 0", "crds.keep is false", "rbac.create is false"]
    {
        assert!(other.contains(said), "{said} is not in:\n{other}");
    }
    assert!(!other.contains("create namespace") && !other.contains("allowedNetworks"), "{other}");
    let watches: Vec<&str> = plain.lines().filter(|line| line.contains("--watch")).collect();
    assert!(watches.iter().all(|line| !line.contains(',')), "{watches:?}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
