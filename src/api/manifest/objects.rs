//! The objects of Kubernetes that stand beside a migration: metadata, Secrets and ConfigMaps. No message of this file
//! repeats a value.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use crate::api::schema::{Path, Violation, unknown_field};
use crate::model::list;
use crate::model::secret::Secret;

type Checked<T> = std::result::Result<T, Violation>;

/// One value of a Secret, or where it is to be read.
#[derive(Debug, Clone)]
pub enum SecretValue {
    /// The value itself.
    Literal(Secret),
    /// `file:PATH` in stringData: the value is the content of a file.
    File(String),
    /// `env:NAME` in stringData: the value is an environment variable.
    Env(String),
}

impl SecretValue {
    fn from_text(text: &str) -> Self {
        match text.split_once(':') {
            Some(("file", path)) => Self::File(path.to_owned()),
            Some(("env", name)) => Self::Env(name.to_owned()),
            _ => Self::Literal(Secret::new(text)),
        }
    }
}

const METADATA: [&str; 15] = [
    "name",
    "namespace",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
    "generateName",
];

/// Name, namespace, labels and annotations of an object; the rest of the metadata means nothing here.
pub(super) fn metadata(object: &Value) -> Checked<ObjectMeta> {
    let path = Path::default().key("metadata");
    let Some(fields) = object["metadata"].as_object() else {
        return Err(Violation::new(Path::default(), "metadata is missing").hint("write metadata: {name: …}"));
    };
    if let Some(name) = fields.keys().find(|name| !METADATA.contains(&name.as_str())) {
        return Err(unknown_field(path.key(name), name, METADATA[..4].iter().copied()));
    }
    Ok(ObjectMeta {
        name: Some(
            name_of(fields, "name", &path, 253)?
                .ok_or_else(|| Violation::new(path.clone(), "name is missing"))?,
        ),
        namespace: name_of(fields, "namespace", &path, 63)?,
        labels: texts(fields, "labels", &path)?,
        annotations: texts(fields, "annotations", &path)?,
        ..ObjectMeta::default()
    })
}

/// The values of a Secret; `stringData` wins over `data`, as in the API server.
pub(super) fn secret(object: &Value) -> Checked<BTreeMap<String, SecretValue>> {
    let root = Path::default();
    let fields =
        known_fields(object, &["apiVersion", "kind", "metadata", "type", "immutable", "data", "stringData"])?;
    let mut values = BTreeMap::new();
    for (key, encoded) in texts(fields, "data", &root)?.into_iter().flatten() {
        let refuse = |what: &str| {
            Violation::new(root.key("data").key(&key), what).hint("plain text belongs under stringData")
        };
        let bytes = decoded(&encoded).ok_or_else(|| refuse("it is not base64"))?;
        let is_list = |key: &str| {
            std::path::Path::new(key)
                .extension()
                .is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
        };
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            // A list may be just as a spreadsheet wrote it.
            Err(error) if is_list(&key) => {
                list::decode(error.as_bytes()).map_err(|(what, _)| refuse(&format!("it {what}")))?.0
            }
            Err(_) => return Err(refuse("it is not text in UTF-8")),
        };
        values.insert(key, SecretValue::Literal(Secret::new(text)));
    }
    for (key, text) in texts(fields, "stringData", &root)?.into_iter().flatten() {
        values.insert(key, SecretValue::from_text(&text));
    }
    Ok(values)
}

/// The values of a ConfigMap.
pub(super) fn config_map(object: &Value) -> Checked<BTreeMap<String, String>> {
    let root = Path::default();
    let fields =
        known_fields(object, &["apiVersion", "kind", "metadata", "immutable", "data", "binaryData"])?;
    let mut values = texts(fields, "data", &root)?.unwrap_or_default();
    // kubectl puts files there that are not UTF-8, as lists may be that a spreadsheet wrote.
    for (key, encoded) in texts(fields, "binaryData", &root)?.into_iter().flatten() {
        let refuse = |what: &str| Violation::new(root.key("binaryData").key(&key), what);
        let bytes = decoded(&encoded).ok_or_else(|| refuse("it is not base64"))?;
        let (text, _) =
            list::decode(&bytes).map_err(|(what, hint)| refuse(&format!("it {what}")).hint(hint))?;
        values.insert(key, text);
    }
    Ok(values)
}

fn decoded(encoded: &str) -> Option<Vec<u8>> {
    let encoded: String = encoded.split_whitespace().collect();
    BASE64_STANDARD.decode(encoded).ok()
}

fn known_fields<'a>(object: &'a Value, known: &[&str]) -> Checked<&'a Map<String, Value>> {
    let root = Path::default();
    let fields = object.as_object().ok_or_else(|| Violation::new(root.clone(), "it is not an object"))?;
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(unknown_field(root.key(name), name, known.iter().copied())),
        None => Ok(fields),
    }
}

fn texts(fields: &Map<String, Value>, name: &str, path: &Path) -> Checked<Option<BTreeMap<String, String>>> {
    let path = path.key(name);
    let entries = match fields.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err(Violation::new(path, "a mapping is wanted")),
    };
    let text = |(key, value): (&String, &Value)| match value {
        Value::String(text) => Ok((key.clone(), text.clone())),
        _ => Err(Violation::new(path.key(key), "a text is wanted").hint("put the value in quotes")),
    };
    entries.iter().map(text).collect::<Checked<_>>().map(Some)
}

/// A name of Kubernetes: small letters, digits, hyphens, and dots where it is not a label (RFC 1123).
fn name_of(fields: &Map<String, Value>, field: &str, path: &Path, max: usize) -> Checked<Option<String>> {
    let refuse = |what: &str| {
        Violation::new(path.key(field), what).hint(
            "names are made of small letters, digits and hyphens, and begin and end with a letter or digit",
        )
    };
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => {
            let part_is_name = |part: &str| {
                !part.is_empty()
                    && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                    && !part.starts_with('-')
                    && !part.ends_with('-')
            };
            let dots = max > 63;
            let good =
                name.len() <= max && name.split('.').all(part_is_name) && (dots || !name.contains('.'));
            if good { Ok(Some(name.clone())) } else { Err(refuse("it is not a name that Kubernetes takes")) }
        }
        Some(_) => Err(refuse("a text is wanted")),
    }
}
