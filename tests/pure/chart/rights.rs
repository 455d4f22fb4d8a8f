//! The rights that the chart grants: no more than are listed here, and none without a reason.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::chart::render::{NAMESPACE, chart, of_kind, one, render, root, sets};

fn rules(object: &Value) -> &Vec<Value> {
    object["rules"].as_array().unwrap()
}

#[test]
fn the_operators_rules_are_the_golden_ones() {
    let objects = render(&json!({}));
    let found = json!({
        "operator": one(&objects, "ClusterRole", "mailferry")["rules"],
        "lease": one(&objects, "Role", "mailferry-lease")["rules"],
        "view": one(&objects, "ClusterRole", "mailferry-view")["rules"],
        "edit": one(&objects, "ClusterRole", "mailferry-edit")["rules"],
    });
    let about = "# The rights that the chart grants; tests/pure/chart/rights.rs compares. A change here is a change of what the operator may do.\n";
    let found = format!("{about}{}", serde_yaml::to_string(&found).unwrap());
    let path = root().join("tests/golden/operator-rules.yaml");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &found).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        golden == found,
        "the chart grants other rights than tests/golden/operator-rules.yaml says. If that is wanted: \
         `BLESS=1 cargo test --test pure chart`\n{found}"
    );
}

#[test]
fn nothing_grants_a_secret_a_wildcard_or_more_than_one_has() {
    for (about, values) in sets() {
        let objects = render(&values);
        let granting = ["Role", "ClusterRole"].into_iter().flat_map(|kind| of_kind(&objects, kind));
        for role in granting {
            assert!(role["aggregationRule"].is_null(), "{about}: {role}");
            for rule in rules(role) {
                let words: Vec<&str> = ["apiGroups", "resources", "verbs"]
                    .iter()
                    .flat_map(|part| rule[part].as_array().unwrap_or_else(|| panic!("{about}: {rule}")))
                    .map(|word| word.as_str().unwrap())
                    .collect();
                for word in &words {
                    assert!(!word.contains('*'), "{about}: a wildcard in {rule}");
                    assert!(!word.contains("secret"), "{about}: Secrets in {rule}");
                    let more = ["escalate", "bind", "impersonate", "approve", "sign", "nodes", "pods/exec"];
                    assert!(!more.contains(word), "{about}: {word} in {rule}");
                }
                assert!(rule["nonResourceURLs"].is_null(), "{about}: {rule}");
            }
        }
        for kind in ["RoleBinding", "ClusterRoleBinding"] {
            for binding in of_kind(&objects, kind) {
                let account = of_kind(&objects, "ServiceAccount")
                    .first()
                    .map_or(json!("somebody"), |account| account["metadata"]["name"].clone());
                let wanted = json!([{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}]);
                assert_eq!(binding["subjects"], wanted, "{about}");
                let role = &binding["roleRef"];
                let there = of_kind(&objects, role["kind"].as_str().unwrap()).into_iter().any(|found| {
                    found["metadata"]["name"] == role["name"]
                        && (role["kind"] == "ClusterRole"
                            || found["metadata"]["namespace"] == binding["metadata"]["namespace"])
                });
                assert!(there, "{about}: {binding} binds nothing");
            }
        }
    }
}

#[test]
fn the_rules_are_the_same_for_some_namespaces_as_for_all() {
    let all = render(&json!({}));
    assert_eq!(of_kind(&all, "ClusterRoleBinding").len(), 1);
    let wanted = rules(one(&all, "ClusterRole", "mailferry"));

    let namespaces = ["contoso-mail", "northwind-mail"];
    let some = render(&json!({"watchNamespaces": namespaces}));
    let cluster_wide: Vec<&Value> =
        of_kind(&some, "ClusterRole").into_iter().map(|role| &role["metadata"]["name"]).collect();
    assert_eq!(
        cluster_wide,
        ["mailferry-view", "mailferry-edit"],
        "the operator has no right beyond its namespaces"
    );
    assert!(of_kind(&some, "ClusterRoleBinding").is_empty());
    let in_namespaces = |kind: &str| -> BTreeSet<String> {
        of_kind(&some, kind)
            .into_iter()
            .filter(|object| object["metadata"]["name"] == "mailferry")
            .map(|object| object["metadata"]["namespace"].as_str().unwrap().to_owned())
            .collect()
    };
    let expected: BTreeSet<String> = namespaces.map(str::to_owned).into();
    assert_eq!((in_namespaces("Role"), in_namespaces("RoleBinding")), (expected.clone(), expected));
    for role in of_kind(&some, "Role").into_iter().filter(|role| role["metadata"]["name"] == "mailferry") {
        assert_eq!(rules(role), wanted);
    }
    let lease = one(&some, "Role", "mailferry-lease");
    assert_eq!(lease["metadata"]["namespace"], NAMESPACE);
}

#[test]
fn every_rule_says_why_it_is_there() {
    let mut explained = 0;
    for file in fs::read_dir(chart().join("templates")).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (at, _) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("- apiGroups")) {
            let reason = lines[at - 1].strip_prefix("# ").unwrap_or_default();
            assert!(
                reason.len() > 20 && reason.ends_with(['.', ';']),
                "{}:{}: a rule without a reason in the line above it",
                path.display(),
                at + 1
            );
            explained += 1;
        }
    }
    let objects = render(&json!({}));
    let rendered: usize = ["Role", "ClusterRole"]
        .into_iter()
        .flat_map(|kind| of_kind(&objects, kind))
        .map(|role| rules(role).len())
        .sum();
    assert_eq!(explained, rendered, "some rules are written in a way that this test does not see");
}
