//! Files that are made from the types are as the types make them. `BLESS=1` writes them anew.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs;
use std::path::Path;

use kube::core::cel::{Validator, compile_schema};
use mailferry::api::{MailMigration, MailboxMigration, MailboxMigrationSpec, crd};
use serde_json::Value;

#[test]
fn the_crds_are_as_the_types_make_them() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let bless = std::env::var_os("BLESS").is_some();
    if bless {
        fs::create_dir_all(&dir).unwrap();
    }
    for (name, wanted) in crd::files().unwrap() {
        let path = dir.join(&name);
        if bless {
            fs::write(&path, &wanted).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == wanted, "crds/{name} is behind the types: run `{}`", crd::REMEDY);
    }
    let kept = fs::read_dir(&dir).unwrap().count();
    assert_eq!(kept, crd::all().len(), "crds/ holds a file that no type makes");
}

/// Calls `look` for every schema of a tree, with its path.
fn walk(schema: &Value, path: &str, look: &mut impl FnMut(&str, &Value)) {
    look(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(property, &format!("{path}.{name}"), look);
    }
    for (inner, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[inner].is_object() {
            walk(&schema[inner], &format!("{path}{mark}"), look);
        }
    }
}

fn schemas() -> Vec<Value> {
    vec![crd::schema_of::<MailMigration>().unwrap(), crd::schema_of::<MailboxMigration>().unwrap()]
}

#[test]
fn every_field_is_explained() {
    for schema in schemas() {
        walk(&schema, "", &mut |path, schema| {
            let told =
                schema["description"].as_str().is_some_and(|text| text.len() > 8 && !text.contains('\n'));
            let given_by_kubernetes = [".apiVersion", ".kind", ".metadata"].contains(&path);
            // What a list or a map of plain texts holds is told by the list.
            let plain = (path.ends_with("[]") || path.ends_with("{}")) && schema["type"] != "object";
            assert!(told || given_by_kubernetes || plain, "{path} has no description");
        });
    }
}

#[test]
fn the_schemas_are_structural_and_bounded() {
    for schema in schemas() {
        walk(&schema, "", &mut |path, schema| {
            assert!(schema["type"].is_string(), "{path} has no type");
            for word in ["oneOf", "anyOf", "allOf", "not", "$ref", "definitions", "const"] {
                assert!(schema[word].is_null(), "{path} has {word}");
            }
            let format = schema["format"].as_str().unwrap_or("date");
            assert!(
                ["date", "date-time", "int32", "int64"].contains(&format),
                "{path} has the format {format}"
            );
            let ours = !path.starts_with(".status.conditions")
                && !path.starts_with(".metadata")
                && path != ".kind"
                && path != ".apiVersion";
            let free_text =
                schema["type"] == "string" && schema["enum"].is_null() && schema["format"].is_null();
            if ours && free_text && !path.ends_with("{}") {
                assert!(schema["maxLength"].is_u64(), "{path} has no maxLength");
            }
            if schema["type"] == "array" && ours {
                assert!(schema["maxItems"].is_u64(), "{path} has no maxItems");
            }
        });
    }
}

#[test]
fn every_rule_compiles_and_names_the_remedy() {
    for schema in schemas() {
        walk(&schema, "", &mut |path, schema| {
            for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
                assert!(rule["message"].as_str().is_some_and(|message| message.len() > 15), "{path}: {rule}");
            }
            let compiled = compile_schema(schema);
            assert!(!compiled.has_errors(), "{path}: {:?}", compiled.compilation_errors());
        });
    }
}

#[test]
fn a_mailboxmigration_never_changes() {
    let spec = |source: &str| MailboxMigrationSpec {
        migration: "demo".to_owned(),
        domain: "a.test".to_owned(),
        source: source.to_owned(),
        destination: "anna@new.test".to_owned(),
    };
    let (one, two) =
        (MailboxMigration::new("x", spec("anna@a.test")), MailboxMigration::new("x", spec("bob@a.test")));
    let schema = crd::schema_of::<MailboxMigration>().unwrap();
    let [one, two] = [one, two].map(|object| serde_json::to_value(object).unwrap());
    assert!(Validator::new().validate(&schema, &one, Some(&one)).is_ok());
    let refused = Validator::new().validate(&schema, &two, Some(&one)).unwrap_err();
    assert!(refused.as_slice()[0].message.starts_with("a MailboxMigration never changes"), "{refused:?}");
}
