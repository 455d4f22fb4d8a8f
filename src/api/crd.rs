//! The `CustomResourceDefinitions` as they are given to a cluster, made from the types and from nothing else.

use std::sync::OnceLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use super::{MailMigration, MailboxMigration};
use crate::model::failure::{Failure, Result};

/// How the generated files are made anew; a test prints it when they are behind.
pub const REMEDY: &str = "cargo run -- crd --dir crds";

/// The largest integer that everybody reads as what it is: JSON's numbers are floating point to many (RFC 8259 §6).
const INTEGER_MAX: f64 = 9_007_199_254_740_991.0;

/// All our kinds, alphabetical.
pub fn all() -> Vec<CustomResourceDefinition> {
    [MailboxMigration::crd(), MailMigration::crd()].into_iter().map(refine).collect()
}

/// One file for each kind, as (file name, YAML), in the order of [`all`].
pub fn files() -> Result<Vec<(String, String)>> {
    all()
        .into_iter()
        .map(|crd| {
            let name = crd.metadata.name.clone().unwrap_or_default();
            let yaml = super::manifest::to_yaml(&crd)?;
            Ok((
                format!("{name}.yaml"),
                format!("# Generated from the types by `mailferry crd`; do not edit.\n{yaml}"),
            ))
        })
        .collect()
}

/// All kinds in one text, as documents of one YAML stream.
pub fn to_yaml() -> Result<String> {
    let files = files()?;
    Ok(files.into_iter().map(|(_, yaml)| yaml).collect::<Vec<_>>().join("---\n"))
}

/// The schema of a kind as the API server checks it, as JSON.
pub fn schema_of<K: CustomResourceExt>() -> Result<serde_json::Value> {
    let crd = refine(K::crd());
    let version = crd.spec.versions.into_iter().next();
    let schema = version.and_then(|v| v.schema).and_then(|s| s.open_api_v3_schema);
    serde_json::to_value(schema)
        .map_err(|e| Failure::internal("the schema of a kind is not JSON").caused_by(&e))
}

/// [`schema_of`] a migration, made once: making it takes longer than a pass that finds nothing to do.
///
/// # Errors
/// As [`schema_of`].
pub fn schema_of_migrations() -> Result<&'static serde_json::Value> {
    static SCHEMA: OnceLock<serde_json::Value> = OnceLock::new();
    if let Some(schema) = SCHEMA.get() {
        return Ok(schema);
    }
    let made = schema_of::<MailMigration>()?;
    Ok(SCHEMA.get_or_init(|| made))
}

/// Brings the derived schema to what Kubernetes understands and to what people can read.
fn refine(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
            refine_schema(schema);
            if let Some(spec) = schema.properties.as_mut().and_then(|fields| fields.get_mut("spec")) {
                leave_lists_as_written(spec, false);
            }
        }
    }
    crd
}

fn refine_schema(schema: &mut JSONSchemaProps) {
    // Kubernetes knows no unsigned formats and warns about them at each apply; the limits say the same.
    if let Some(format) = schema.format.as_deref() {
        let known = match format {
            "uint8" | "uint16" => Some("int32"),
            "uint" | "uint32" | "uint64" | "int" => Some("int64"),
            _ => None,
        };
        // An object that the API server takes and the type does not would be one that nobody can read.
        let (least, most) = match format {
            "uint8" => (0.0, f64::from(u8::MAX)),
            "uint16" => (0.0, f64::from(u16::MAX)),
            "uint32" => (0.0, f64::from(u32::MAX)),
            "uint" | "uint64" => (0.0, INTEGER_MAX),
            "int32" => (f64::from(i32::MIN), f64::from(i32::MAX)),
            "int" | "int64" => (-INTEGER_MAX, INTEGER_MAX),
            _ => (f64::NEG_INFINITY, f64::INFINITY),
        };
        let bound = |wanted: f64| wanted.is_finite().then_some(wanted);
        schema.minimum = schema.minimum.or_else(|| bound(least));
        schema.maximum = schema.maximum.or_else(|| bound(most));
        if let Some(known) = known {
            schema.format = Some(known.to_owned());
        }
    }
    // Doc comments are broken into lines for the editor, not for `kubectl explain`.
    schema.description =
        schema.description.take().map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    // A union's rule says the same as its oneOf, in words; the API server would show the oneOf's bare "must validate one
    // and only one schema" first and never come to the rule.
    if schema.x_kubernetes_validations.as_ref().is_some_and(|rules| !rules.is_empty()) {
        schema.one_of = None;
    }
    for property in schema.properties.iter_mut().flatten() {
        refine_schema(property.1);
    }
    if let Some(items) = &mut schema.items {
        match items {
            JSONSchemaPropsOrArray::Schema(item) => refine_schema(item),
            JSONSchemaPropsOrArray::Schemas(items) => items.iter_mut().for_each(refine_schema),
        }
    }
    if let Some(JSONSchemaPropsOrBool::Schema(others)) = &mut schema.additional_properties {
        refine_schema(others);
    }
}

/// Takes the defaults from everything inside a list of the spec. Tools that compare what was written with what is there
/// (`kubectl apply`, Argo CD) take a list for one value: a single field that the API server adds to an item makes the
/// whole list differ, for ever. Those defaults are filled in where the spec is read.
fn leave_lists_as_written(schema: &mut JSONSchemaProps, in_list: bool) {
    if in_list {
        schema.default = None;
    }
    for property in schema.properties.iter_mut().flatten() {
        leave_lists_as_written(property.1, in_list);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => leave_lists_as_written(item, true),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => {
            for item in items {
                leave_lists_as_written(item, true);
            }
        }
        None => {}
    }
}
