//! stub
use crate::model::failure::{Failure, Result};
/// stub
pub struct Manifest;
/// YAML text of a value, by way of JSON.
pub fn to_yaml(value: &impl serde::Serialize) -> Result<String> {
    let json = serde_json::to_value(value).map_err(|e| Failure::internal("a value is not JSON").caused_by(&e))?;
    serde_yaml::to_string(&json).map_err(|e| Failure::internal("a value is not YAML").caused_by(&e))
}
