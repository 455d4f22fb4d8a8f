//! The answer of an API server to an object, given without one: unknown fields, types, limits, unions and CEL rules,
//! all read from the same CRD that a cluster gets. Kubernetes prunes unknown fields in silence; here they are refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kube::core::cel::{Validator, apply_defaults};
use regex::Regex;
use serde_json::{Map, Value};

use crate::model::text::printable;

/// One step into a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A field or a key.
    Key(String),
    /// An item of a list, from 0.
    Item(usize),
}

/// Where in an object something is, shown as in `spec.domains[1].name`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(pub Vec<Step>);

impl Path {
    /// The path to a field below this one.
    #[must_use]
    pub fn key(&self, name: &str) -> Self {
        self.with(Step::Key(name.to_owned()))
    }

    /// The path to an item below this one.
    #[must_use]
    pub fn item(&self, at: usize) -> Self {
        self.with(Step::Item(at))
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// Reads a path of fields and items, as in `spec.domains[1].name`.
    pub fn parse(text: &str) -> Self {
        let mut steps = Vec::new();
        for part in text.split('.').filter(|part| !part.is_empty()) {
            let (name, items) = part.split_once('[').unwrap_or((part, ""));
            if !name.is_empty() {
                steps.push(Step::Key(name.to_owned()));
            }
            steps.extend(
                items.split('[').filter_map(|item| item.trim_end_matches(']').parse().ok()).map(Step::Item),
            );
        }
        Self(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Item(item) => write!(f, "[{item}]")?,
                Step::Key(key)
                    if key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) =>
                {
                    write!(f, "{}{key}", if at == 0 { "" } else { "." })?;
                }
                Step::Key(key) => write!(f, "[{}]", crate::model::text::printable(key))?,
            }
        }
        Ok(())
    }
}

/// Something in an object that cannot stand, and what to do about it. It never repeats a value that could be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where.
    pub path: Path,
    /// The fault, without the place.
    pub what: String,
    /// The remedy.
    pub hint: Option<String>,
    /// Whether nobody knows the field, so that another one is missing perhaps.
    pub is_unknown_field: bool,
}

impl Violation {
    /// A violation at a place.
    pub fn new(path: Path, what: impl Into<String>) -> Self {
        Self { path, what: what.into(), hint: None, is_unknown_field: false }
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Fills in the defaults of `schema` as the API server does: an absent field gets its default, and so does a null where
/// null is not allowed.
#[must_use]
pub fn with_defaults(schema: &Value, value: &Value) -> Value {
    // A default can bring fields that have defaults of their own; kube-cel fills in one level of those at a time.
    let mut filled = apply_defaults(schema, &without_nulls(schema, value));
    loop {
        let next = apply_defaults(schema, &filled);
        if next == filled {
            return filled;
        }
        filled = next;
    }
}

fn without_nulls(schema: &Value, value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .filter_map(|(name, field)| {
                    let inner = &schema["properties"][name];
                    let dropped = field.is_null() && inner["nullable"] != true && !inner["default"].is_null();
                    (!dropped).then(|| (name.clone(), without_nulls(inner, field)))
                })
                .collect(),
        ),
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| without_nulls(&schema["items"], item)).collect())
        }
        other => other.clone(),
    }
}

/// Everything in `value` that `schema` does not allow: fields and limits first; the CEL rules only when those hold, as
/// in the API server.
pub fn check(schema: &Value, value: &Value) -> Vec<Violation> {
    let mut checker = Checker::default();
    checker.check(schema, value, &Path::default());
    let mut found = checker.found;
    if found.is_empty()
        && let Err(errors) = Validator::new().validate(schema, value, None)
    {
        found.extend(
            errors.into_vec().into_iter().map(|e| Violation::new(Path::parse(&e.field_path), e.message)),
        );
    }
    found
}

/// The faults found so far, and the patterns that are compiled already: a list of 10,000 addresses has one.
#[derive(Default)]
struct Checker<'s> {
    found: Vec<Violation>,
    patterns: BTreeMap<&'s str, Option<Regex>>,
}

impl<'s> Checker<'s> {
    fn check(&mut self, schema: &'s Value, value: &Value, path: &Path) {
        if value.is_null() && schema["nullable"] == true {
            return;
        }
        if let Some(violation) = self.refusal(schema, value) {
            self.found.push(Violation { path: path.clone(), ..violation });
            return;
        }
        match value {
            Value::Array(items) => {
                self.found.extend(repeated_keys(schema, items, path));
                for (at, item) in items.iter().enumerate() {
                    self.check(&schema["items"], item, &path.item(at));
                }
            }
            Value::Object(fields) => self.check_fields(schema, fields, path),
            _ => {}
        }
    }

    /// The fault of a value itself, apart from what is in it.
    fn refusal(&mut self, schema: &'s Value, value: &Value) -> Option<Violation> {
        let refuse = |what: String| {
            let violation = Violation::new(Path::default(), what);
            Some(Violation { hint: schema["description"].as_str().map(str::to_owned), ..violation })
        };
        if let Some(wanted) = schema["type"].as_str().filter(|wanted| !is_a(wanted, value)) {
            return refuse(format!("{} is wanted, not {}", article(wanted), article(kind_of(value))));
        }
        if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
            let words: Vec<_> = allowed.iter().filter_map(Value::as_str).collect();
            let near = value.as_str().and_then(|word| nearest(word, words.iter().copied()));
            let meant = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
            let violation = Violation::new(Path::default(), format!("unknown value{meant}"));
            return Some(violation.hint(format!("one of {}", words.join(", "))));
        }
        if let Value::String(text) = value
            && let Some(violation) = self.more_than_a_host(schema, text)
        {
            return Some(violation);
        }
        match value {
            Value::String(text) => self.wrong_text(schema, text),
            Value::Number(number) => wrong_number(schema, number),
            Value::Array(items) => wrong_count(schema, items.len() as u64),
            _ => None,
        }
        .and_then(refuse)
    }

    fn wrong_text(&mut self, schema: &'s Value, text: &str) -> Option<String> {
        let length = text.chars().count() as u64;
        if let Some(max) = schema["maxLength"].as_u64().filter(|max| length > *max) {
            return Some(format!("{length} characters are more than the {max} that are allowed"));
        }
        if let Some(min) = schema["minLength"].as_u64().filter(|min| length < *min) {
            return Some(if length == 0 {
                "it is empty".to_owned()
            } else {
                format!("at least {min} characters are needed")
            });
        }
        if schema["format"] == "date" && text.parse::<jiff::civil::Date>().is_err() {
            return Some("it is not a day of the calendar, written YYYY-MM-DD".to_owned());
        }
        if schema["format"] == "date-time" && text.parse::<jiff::Timestamp>().is_err() {
            return Some("it is not a moment of the form 2027-02-01T20:00:00Z".to_owned());
        }
        let pattern = schema["pattern"].as_str()?;
        (!self.fits(pattern, text)).then(|| format!("it is not of the form {pattern}"))
    }

    fn fits(&mut self, pattern: &'s str, text: &str) -> bool {
        let compiled = self.patterns.entry(pattern).or_insert_with(|| Regex::new(pattern).ok());
        compiled.as_ref().is_some_and(|pattern| pattern.is_match(text))
    }

    /// A host with the parts that are beside it elsewhere, as people copy it from a mail program:
    /// `imaps://mail.example:993/`. It is not repeated, since a password may be in it.
    fn more_than_a_host(&mut self, schema: &'s Value, text: &str) -> Option<Violation> {
        let pattern = schema["pattern"].as_str()?;
        let (host, port) = host_in(text)?;
        if self.fits(pattern, text) || !self.fits(pattern, host) {
            return None;
        }
        let host = printable(host);
        let hint = match port {
            Some(port) => format!("write {host} here, and port: {port} beside it"),
            None => format!("write {host}"),
        };
        Some(Violation::new(Path::default(), "it holds more than a name").hint(hint))
    }

    fn check_fields(&mut self, schema: &'s Value, fields: &Map<String, Value>, path: &Path) {
        let known = schema["properties"].as_object();
        let others = Some(&schema["additionalProperties"]).filter(|others| others.is_object());
        // The envelope is not part of a CRD's schema; the reader of manifests checks it.
        let envelope: &[&str] = if path.0.is_empty() { &["apiVersion", "kind", "metadata"] } else { &[] };
        for (name, field) in fields {
            let inner = path.key(name);
            match known.and_then(|known| known.get(name)).or(others) {
                Some(schema) => self.check(schema, field, &inner),
                None if envelope.contains(&name.as_str()) => {}
                None => {
                    let known = known.into_iter().flat_map(|known| known.keys().map(String::as_str));
                    self.found.push(unknown_field(inner, name, known));
                }
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                let about = schema["properties"][name]["description"].as_str();
                let missing = Violation::new(path.clone(), format!("{name} is missing"));
                self.found
                    .push(Violation { hint: about.map(|about| format!("add {name}: {about}")), ..missing });
            }
        }
        if let Some(max) = schema["maxProperties"].as_u64().filter(|max| fields.len() as u64 > *max) {
            let what = format!("{} entries are more than the {max} that are allowed", fields.len());
            self.found.push(Violation::new(path.clone(), what));
        }
        if let Some(branches) = schema["oneOf"].as_array() {
            let names: Vec<_> = branches.iter().filter_map(|branch| branch["required"][0].as_str()).collect();
            if names.iter().filter(|name| fields.contains_key(**name)).count() != 1 {
                self.found
                    .push(Violation::new(path.clone(), format!("give exactly one of {}", names.join(", "))));
            }
        }
    }
}

fn wrong_number(schema: &Value, number: &serde_json::Number) -> Option<String> {
    let value = number.as_f64()?;
    let below = schema["minimum"].as_f64().filter(|min| value < *min);
    let above = schema["maximum"].as_f64().filter(|max| value > *max);
    below
        .map(|min| format!("{number} is less than {min}"))
        .or_else(|| above.map(|max| format!("{number} is more than {max}")))
}

fn wrong_count(schema: &Value, count: u64) -> Option<String> {
    let above = schema["maxItems"].as_u64().filter(|max| count > *max);
    let below = schema["minItems"].as_u64().filter(|min| count < *min);
    above
        .map(|max| format!("{count} items are more than the {max} that are allowed"))
        .or_else(|| below.map(|min| format!("at least {min} is needed")))
}

/// A list with `x-kubernetes-list-type: map` holds each key once.
fn repeated_keys(schema: &Value, items: &[Value], path: &Path) -> Vec<Violation> {
    let Some(keys) = schema["x-kubernetes-list-map-keys"].as_array() else { return Vec::new() };
    let keys: Vec<_> = keys.iter().filter_map(Value::as_str).collect();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let key: Vec<_> = keys.iter().map(|key| item[*key].to_string()).collect();
        let what = format!("{} stands in this list already", key.join(", "));
        if !seen.insert(key) {
            let path = path.item(at).key(keys.first().copied().unwrap_or_default());
            found.push(Violation::new(path, what).hint("take one of the two out, or bring them together"));
        }
    }
    found
}

/// The violation for a field that nobody knows, with the known one that it looks like.
pub fn unknown_field<'a>(path: Path, name: &str, known: impl Iterator<Item = &'a str>) -> Violation {
    let known: Vec<_> = known.collect();
    let mut what = "unknown field".to_owned();
    if let Some(near) = nearest(name, known.iter().copied()) {
        what.push_str("; did you mean ");
        what.push_str(near);
        what.push('?');
    }
    let violation = Violation { is_unknown_field: true, ..Violation::new(path, what) };
    if known.is_empty() { violation } else { violation.hint(format!("known here: {}", known.join(", "))) }
}

/// The host and the port of what looks like a URL or like `host:port`; `None` for everything else.
fn host_in(text: &str) -> Option<(&str, Option<u16>)> {
    let (scheme, rest) = text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
    let rest = rest.split(['/', '?', '#']).next()?;
    let rest = rest.rsplit_once('@').filter(|_| scheme.is_some()).map_or(rest, |(_, host)| host);
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (rest, None),
    };
    let is_more = scheme.is_some() || port.is_some() || rest.len() < text.len();
    (is_more && !host.is_empty()).then(|| (host.trim_matches(['[', ']']), port))
}

/// The word that is at most a third of its length away, by letters changed, added, left out or swapped.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let far = |other: &str| distance(&word.to_lowercase(), &other.to_lowercase());
    // Beyond this length it is not a typing error, and the distance would take its time.
    let near = known.filter(|_| word.len() <= 64).map(|other| (far(other), other)).min()?;
    (near.0 <= near.1.len().max(3) / 3).then_some(near.1)
}

fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let same = usize::from(a[i - 1] != b[j - 1]);
                let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + same);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

fn is_a(wanted: &str, value: &Value) -> bool {
    match wanted {
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0),
        "number" => value.is_number(),
        wanted => wanted == kind_of(value),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The words people know for the words of JSON Schema.
fn article(kind: &str) -> &'static str {
    match kind {
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a mapping",
        _ => "nothing",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_read_as_they_are_shown() {
        for text in ["spec.domains[1].name", "spec", "a[0][2].b"] {
            assert_eq!(Path::parse(text).to_string(), text);
        }
        assert_eq!(Path::parse("stringData").key("mailboxes.csv").to_string(), "stringData[mailboxes.csv]");
    }

    #[test]
    fn slips_of_the_fingers_are_guessed_and_nothing_else_is() {
        let known = || ["credentialsRef", "servers", "name"].into_iter();
        assert_eq!(nearest("credentalsRef", known()), Some("credentialsRef"));
        assert_eq!(nearest("CREDENTIALSREF", known()), Some("credentialsRef"));
        assert_eq!(nearest("nmae", known()), Some("name"));
        assert_eq!(nearest("password", known()), None);
    }

    #[test]
    fn a_null_is_a_value_only_where_null_is_allowed() {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "integer", "default": 7},
            "b": {"type": "integer", "nullable": true},
            "c": {"type": "integer"},
        }});
        let filled = with_defaults(&schema, &json!({"a": null, "b": null, "c": null}));
        assert_eq!(filled, json!({"a": 7, "b": null, "c": null}));
        let found = check(&schema, &filled);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].path.to_string().as_str(), found[0].what.as_str()),
            ("c", "a whole number is wanted, not nothing")
        );
    }
}
