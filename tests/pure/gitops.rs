//! Tests of docs/gitops.md and examples/kustomize/: the health check for Argo CD is run by Lua, Flux's expressions by a
//! CEL interpreter, both over statuses with the conditions that this program writes, and Kustomize builds the example.
//! Argo CD and Flux themselves are not run.

use crate::support::programs;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use jiff::Timestamp;
use kube::core::cel::cel;
use mailferry::api::condition::{Fact, Reason, Type, set};
use mailferry::api::{Stage, manifest};
use mailferry::model::failure::Class;
use serde::Deserialize;
use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The YAML examples of the page, each a document.
fn snippets() -> Vec<Value> {
    let page = fs::read_to_string(root().join("docs/gitops.md")).unwrap();
    let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.map(|text| Value::deserialize(serde_yaml::Deserializer::from_str(text)).unwrap()).collect()
}

/// The judgements of tools about a migration.
struct Seen {
    about: &'static str,
    object: Value,
    argo: &'static str,
    /// By the expressions that wait until it is done, and by those that wait until it is planned.
    flux: [&'static str; 2],
}

/// A migration whose status has the conditions that follow from `facts`.
fn migration(spec: &Value, facts: &[Fact], observed: i64) -> Value {
    let conditions = set(&[], facts, Some(observed), Timestamp::UNIX_EPOCH);
    json!({
        "apiVersion": "mailferry.dev/v1alpha1",
        "kind": "MailMigration",
        "metadata": {"name": "contoso", "generation": 2},
        "spec": spec,
        "status": {"observedGeneration": observed, "conditions": conditions},
    })
}

fn table() -> Vec<Seen> {
    let going = json!({"stage": "Sync", "suspend": false});
    let ready = |holds: bool, reason| Fact::new(Type::Ready, holds, reason, "How \"it\" stands.\nIn full.");
    let working = || Fact::new(Type::Reconciling, true, Reason::InProgress, "1 of 2 mailboxes.");
    let discovered = |holds: bool| Fact::new(Type::Discovered, holds, Reason::Succeeded, "Looked.");
    let stalled = || Fact::failed(Type::Stalled, true, Class::Credentials, "Correct the Secret.");
    let synced = || Fact::new(Type::Synced, true, Reason::Succeeded, "All of it.");
    let mut bare = migration(&going, &[], 2);
    bare.as_object_mut().unwrap().remove("status");
    let mut unspecified = migration(&going, &[], 2);
    unspecified["status"].as_object_mut().unwrap().remove("conditions");
    vec![
        Seen {
            about: "just applied",
            object: bare,
            argo: "Progressing",
            // Flux takes an expression that cannot be evaluated for "not yet".
            flux: ["error", "error"],
        },
        Seen {
            about: "a status without conditions",
            object: unspecified,
            argo: "Progressing",
            flux: ["InProgress", "InProgress"],
        },
        Seen {
            about: "discovering",
            object: migration(&going, &[ready(false, Reason::InProgress), working(), discovered(false)], 2),
            argo: "Progressing",
            flux: ["InProgress", "InProgress"],
        },
        Seen {
            about: "copying",
            object: migration(&going, &[ready(false, Reason::InProgress), working(), discovered(true)], 2),
            argo: "Progressing",
            flux: ["InProgress", "Current"],
        },
        Seen {
            about: "done",
            object: migration(&going, &[ready(true, Reason::Succeeded), discovered(true), synced()], 2),
            argo: "Healthy",
            flux: ["Current", "Current"],
        },
        Seen {
            about: "done, of the spec before",
            object: migration(&going, &[ready(true, Reason::Succeeded), discovered(true), synced()], 1),
            argo: "Progressing",
            flux: ["InProgress", "InProgress"],
        },
        Seen {
            about: "stuck",
            object: migration(&going, &[ready(false, Reason::Waiting), stalled(), discovered(true)], 2),
            argo: "Degraded",
            flux: ["Failed", "Failed"],
        },
        Seen {
            about: "suspended",
            object: migration(
                &json!({"suspend": true}),
                &[ready(false, Reason::Suspended), discovered(false)],
                2,
            ),
            argo: "Suspended",
            flux: ["Current", "Current"],
        },
        Seen {
            about: "neither working nor stuck nor ready",
            object: migration(&json!({}), &[ready(false, Reason::Waiting), discovered(false)], 2),
            argo: "Progressing",
            flux: ["InProgress", "InProgress"],
        },
    ]
}

/// A value as an expression of Lua.
fn lua(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        // Lua knows decimal escapes for bytes, and no \u before 5.3.
        Value::String(text) => {
            text.bytes().fold("\"".to_owned(), |mut text, byte| {
                write!(text, "\\{byte:03}").unwrap();
                text
            }) + "\""
        }
        Value::Array(items) => format!("{{{}}}", items.iter().map(lua).collect::<Vec<_>>().join(",")),
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| {
                format!("[{}]={}", lua(&Value::String(key.clone())), lua(value))
            };
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(","))
        }
    }
}

/// Runs a health check as Argo CD does, which takes Lua 5.1: `obj` is the object, and the chunk returns the health.
fn health(check: &str, object: &Value) -> (String, String) {
    let script = format!(
        "obj = {}\nlocal function check()\n{check}\nend\nlocal health = check()\n\
         io.write(health.status, \"\\n\", health.message)\n",
        lua(object)
    );
    let mut child = Command::new(programs::find("lua5.1"))
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (status, message) = text.split_once('\n').unwrap();
    (status.to_owned(), message.to_owned())
}

#[test]
fn argo_cd_sees_how_a_migration_stands() {
    let all = snippets();
    let checks: Vec<&str> = all
        .iter()
        .filter_map(|s| s["data"]["resource.customizations.health.mailferry.dev_MailMigration"].as_str())
        .collect();
    assert_eq!(checks.len(), 1);
    for seen in table() {
        let (status, message) = health(checks[0], &seen.object);
        assert_eq!(status, seen.argo, "{}", seen.about);
        assert!(!message.is_empty(), "{}", seen.about);
    }
    let (_, message) = health(checks[0], &table()[6].object);
    assert_eq!(message, "Correct the Secret.", "the remedy is shown");
}

/// Judges an object as Flux does: another generation first, then the expressions in the order of its RFC 0009, over the
/// fields of the object as variables.
fn judge(expressions: &Value, object: &Value) -> &'static str {
    let observed = &object["status"]["observedGeneration"];
    if observed.is_i64() && *observed != object["metadata"]["generation"] {
        return "InProgress";
    }
    for (field, verdict) in [("inProgress", "InProgress"), ("failed", "Failed"), ("current", "Current")] {
        let Some(expression) = expressions[field].as_str() else { continue };
        let mut context = cel::Context::default();
        for (name, value) in object.as_object().unwrap() {
            context.add_variable(name.as_str(), value).unwrap();
        }
        match cel::Program::compile(expression).unwrap().execute(&context) {
            Ok(cel::Value::Bool(true)) => return verdict,
            Ok(cel::Value::Bool(false)) => {}
            Ok(other) => panic!("{expression} is {other:?}"),
            Err(_) => return "error",
        }
    }
    "InProgress"
}

#[test]
fn flux_sees_how_a_migration_stands() {
    let all = snippets();
    let expressions: Vec<&Value> = all
        .iter()
        .flat_map(|s| [&s["spec"]["healthCheckExprs"][0], &s["healthCheckExprs"][0]])
        .filter(|expressions| !expressions.is_null())
        .collect();
    assert_eq!(expressions.len(), 2);
    for seen in table() {
        let found = [expressions[0], expressions[1]].map(|e| judge(e, &seen.object));
        assert_eq!(found, seen.flux, "{}", seen.about);
    }
    for expressions in expressions {
        assert_eq!(expressions["apiVersion"], mailferry::api::names::API_VERSION);
        assert_eq!(expressions["kind"], "MailMigration");
    }
}

#[test]
fn kustomize_builds_a_whole_migration() {
    let output = Command::new(programs::find("kubectl"))
        .args(["kustomize", "examples/kustomize/contoso"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (spaces, ours): (Vec<&str>, Vec<&str>) =
        text.split("\n---\n").partition(|document| document.contains("\nkind: Namespace\n"));
    assert!(spaces.len() == 1 && spaces[0].contains("name: contoso-mail"), "{spaces:?}");
    // Read as `mailferry run` reads it, which refuses what the API server would refuse.
    let read = manifest::read(&[("contoso", ours.join("\n---\n"))]).unwrap_or_else(|f| panic!("{f}"));
    let migration = &read.migrations[0];
    assert_eq!(migration.metadata.name.as_deref(), Some("contoso"));
    assert_eq!(migration.metadata.namespace.as_deref(), Some("contoso-mail"));
    assert_eq!(migration.spec.stage, Stage::Sync, "the overlay goes further than the base");
    for part in [manifest::Part::Domain(0), manifest::Part::Common] {
        read.check_references(migration, part, &[""; 0]).unwrap_or_else(|f| panic!("{f}"));
    }
    let kept = migration.metadata.annotations.as_ref().unwrap();
    let asked =
        snippets().into_iter().find_map(|s| s["metadata"]["annotations"].as_object().cloned()).unwrap();
    assert!(asked.iter().all(|(key, value)| kept.get(key).map(String::as_str) == value.as_str()), "{kept:?}");
}
