//! Files that are made from the types are as the types make them. `BLESS=1` writes them anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use kube::core::cel::{Validator, compile_schema};
use mailferry::api::condition::{Reason, Type};
use mailferry::api::{MailMigration, MailboxMigration, MailboxMigrationSpec, crd};
use mailferry::model::failure::{Class, Verdict};
use mailferry::model::finding::{Code, Hold};
use mailferry::operator::metrics::Metrics;
use serde::Deserialize;
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
            // The content of a list or a map of plain texts is explained by the list.
            let plain = (path.ends_with("[]") || path.ends_with("{}")) && schema["type"] != "object";
            assert!(told || given_by_kubernetes || plain, "{path} has no description");
        });
    }
}

#[test]
fn every_integer_has_the_bounds_of_its_type() {
    let mut integers = 0;
    for schema in schemas() {
        walk(&schema, "", &mut |path, schema| {
            if schema["type"] != "integer" {
                return;
            }
            integers += 1;
            let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
            let (Some(least), Some(most)) = (least, most) else { panic!("{path} has no bounds: {schema}") };
            let (lowest, highest) = match schema["format"].as_str() {
                Some("int32") => (f64::from(i32::MIN), f64::from(i32::MAX)),
                _ => (-9_007_199_254_740_991.0, 9_007_199_254_740_991.0),
            };
            // Every count that is kept is at most a u32 or an u64; those that are larger are bounded by what JSON can say.
            assert!(lowest <= least && least <= most && most <= highest, "{path}: {schema}");
        });
    }
    assert!(integers > 60, "{integers}");
    let mailboxes = &schemas()[0]["properties"]["spec"]["properties"]["checklist"]["properties"]["mailboxes"];
    assert_eq!(mailboxes["maximum"], 4_294_967_295.0);
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
fn nothing_is_added_to_the_lists_of_a_spec() {
    let mut inside_lists = 0;
    for schema in schemas() {
        walk(&schema["properties"]["spec"], "spec", &mut |path, schema| {
            if path.contains("[]") {
                inside_lists += 1;
                assert!(schema["default"].is_null(), "{path}: with a default no list equals what is in Git");
            }
        });
    }
    assert!(inside_lists > 20);
}

#[test]
fn every_rule_compiles_and_names_the_remedy() {
    for schema in schemas() {
        walk(&schema, "", &mut |path, schema| {
            for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
                // One that repeats the value is an expression.
                let message = rule["message"].as_str().or(rule["messageExpression"].as_str());
                assert!(message.is_some_and(|message| message.len() > 15), "{path}: {rule}");
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

/// Holds the part of a page between `<!-- generated: NAME -->` and `<!-- end -->` against what it is made from.
#[track_caller]
fn page_has(page: &str, name: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = fs::read_to_string(&path).unwrap();
    let begin = format!("<!-- generated: {name} -->\n");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{page} lacks {begin}"));
    let (found, after) =
        rest.split_once("<!-- end -->").unwrap_or_else(|| panic!("{page}: {begin} has no end"));
    let wanted = format!("\n{wanted}\n");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, format!("{before}{begin}{wanted}<!-- end -->{after}")).unwrap();
    } else {
        assert!(
            found == wanted,
            "{page} is behind the sources: run `BLESS=1 cargo test --test pure generated`"
        );
    }
}

/// A table in Markdown.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | ").replace('\n', " "));
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let rule = vec!["---".to_owned(); head.len()];
    let rows = rows.into_iter().map(|row| line(&row));
    [line(&head), line(&rule)].into_iter().chain(rows).collect()
}

#[test]
fn the_readme_lists_the_exit_codes() {
    let next = |verdict| match verdict {
        Verdict::Retry => "tried again, later each time; six times in a run",
        Verdict::Wait => "waits as long as the server says",
        Verdict::Stall => "stops until you change something; the others go on",
        Verdict::StallMailbox => "stops this mailbox; the others go on",
        Verdict::Skip => "goes on with the next message",
        Verdict::RetryFew => "tried three times in a run",
        Verdict::Resume => "goes on from there when you run it again",
    };
    let reached = vec!["0".into(), String::new(), "The wanted stage was reached.".into(), String::new()];
    let misread =
        vec!["2".into(), String::new(), "The command line cannot be understood.".into(), String::new()];
    let rows = Class::table().iter().filter_map(|row| {
        let exit = row.exit?;
        Some(vec![exit.to_string(), row.class.to_string(), row.meaning.into(), next(row.verdict).into()])
    });
    let all = [reached, misread].into_iter().chain(rows);
    page_has("README.md", "exit codes", &table(&["Exit", "Class", "Meaning", "Mailferry's reaction"], all));
}

#[test]
fn the_page_of_findings_lists_every_code() {
    let rows = Code::ALL.iter().map(|code| {
        let holds = match code.holds() {
            Hold::Nothing => "nothing",
            Hold::Sync => "the mailboxes it is about",
            Hold::Cutover => "the cutover",
        };
        let (meaning, remedy) = (code.meaning().to_owned(), code.remedy().to_owned());
        vec![format!("`{code}`"), code.severity().to_string(), holds.to_owned(), meaning, remedy]
    });
    let head = ["Code", "Severity", "Holds", "Meaning", "Remedy"];
    page_has("docs/findings.md", "findings", &table(&head, rows));
}

#[test]
fn every_code_is_raised_somewhere() {
    fn read(folder: &Path, text: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                read(&path, text);
            } else if !["finding.rs", "tests.rs", "fixture.rs"].contains(&name.as_str()) {
                // The rest of the file is tests.
                text.push_str(fs::read_to_string(&path).unwrap().split("#[cfg(test)]").next().unwrap());
            }
        }
    }
    let mut product = String::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut product);
    let is_raised = |code: &Code| regex::Regex::new(&format!(r"Code::{code}\b")).unwrap().is_match(&product);
    let dead: Vec<&Code> = Code::ALL.iter().filter(|code| !is_raised(code)).collect();
    assert!(dead.is_empty(), "nothing raises {dead:?}");
    assert!(Code::ALL.len() >= 40);
}

/// One row for each field of a schema, with the description that `kubectl explain` shows.
fn fields(schema: &Value, path: &str, rows: &mut Vec<Vec<String>>) {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let needed = if required.iter().any(|r| r == name.as_str()) { "yes" } else { "" };
        let about = property["description"].as_str().unwrap_or_default().replace('|', "\\|");
        let list = property["type"] == "array";
        let map = property["additionalProperties"].is_object();
        let shown = if list { format!("{path}[]") } else { path };
        rows.push(vec![format!("`{shown}`"), needed.to_owned(), about]);
        let inner = if list { &property["items"] } else { property };
        if !map {
            fields(inner, &shown, rows);
        }
    }
}

// One test for the whole page: two that write it at once would undo each other.
#[test]
fn the_page_of_the_manifest_lists_fields_conditions_and_reasons() {
    let kinds = Type::ALL.iter().map(|kind| vec![format!("`{kind}`"), kind.meaning().to_owned()]);
    page_has("docs/manifest.md", "conditions", &table(&["Condition", "True when"], kinds));
    let own = Reason::ALL.iter().map(|reason| vec![format!("`{reason}`"), reason.meaning().to_owned()]);
    let failed = Class::table().iter().map(|row| vec![format!("`{}`", row.reason), row.meaning.to_owned()]);
    page_has("docs/manifest.md", "reasons", &table(&["Reason", "When"], own.chain(failed)));
    let schema = crd::schema_of::<MailMigration>().unwrap();
    for part in ["spec", "status"] {
        let mut rows = Vec::new();
        fields(&schema["properties"][part], part, &mut rows);
        rows.retain(|row| !row[0].starts_with("`status.conditions[]."));
        let head = if part == "spec" { "Needed" } else { "Always" };
        page_has("docs/manifest.md", part, &table(&["Field", head, "Meaning"], rows));
    }
}

/// The chart's definitions are copies: Helm packs no file from outside a chart.
#[test]
fn the_chart_carries_the_crds() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/mailferry/files/crds");
    let files = crd::files().unwrap();
    for (name, wanted) in &files {
        let path = dir.join(name);
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, wanted).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == *wanted,
            "{} is behind the types: run `BLESS=1 cargo test --test pure generated`",
            path.display()
        );
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), files.len(), "the chart holds a file that no type makes");
}

#[test]
fn the_chart_has_the_version_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/mailferry/Chart.yaml");
    let text = fs::read_to_string(path).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    for line in [format!("version: {version}\n"), format!("appVersion: \"{version}\"\n")] {
        assert!(text.contains(&format!("\n{line}")), "charts/mailferry/Chart.yaml lacks `{}`", line.trim());
    }
}

/// The described values of a chart, as (path, description), in their order: the last lines of comment above a key are
/// its description.
fn described(text: &str) -> Vec<(String, String)> {
    let (mut path, mut comment, mut found) = (Vec::<(usize, &str)>::new(), Vec::<&str>::new(), Vec::new());
    for line in text.lines() {
        let content = line.trim();
        if let Some(words) = content.strip_prefix("# ") {
            comment.push(words);
        } else if let Some((key, _)) = content.split_once(':').filter(|_| !content.starts_with('-')) {
            let depth = line.len() - line.trim_start().len();
            path.retain(|(above, _)| *above < depth);
            path.push((depth, key));
            if !comment.is_empty() {
                let whole: Vec<&str> = path.iter().map(|(_, key)| *key).collect();
                found.push((whole.join("."), comment.join(" ")));
            }
            comment.clear();
        } else {
            comment.clear();
        }
    }
    found
}

/// Calls out every value that nobody described: each key of a map is described, or none is and the map is.
fn undescribed(value: &Value, path: &str, described: &[(String, String)], found: &mut Vec<String>) {
    for (key, inner) in value.as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if !described.iter().any(|(known, _)| *known == path) {
            found.push(path);
        } else if described.iter().any(|(known, _)| known.starts_with(&format!("{path}."))) {
            undescribed(inner, &path, described, found);
        }
    }
}

#[test]
fn the_page_of_kubernetes_lists_the_values_of_the_chart() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/mailferry/values.yaml");
    let text = fs::read_to_string(path).unwrap();
    let values = Value::deserialize(serde_yaml::Deserializer::from_str(&text)).unwrap();
    let described = described(&text);
    let mut missing = Vec::new();
    undescribed(&values, "", &described, &mut missing);
    assert!(missing.is_empty(), "values without a comment: {missing:?}");
    let rows = described.iter().filter_map(|(path, about)| {
        let section = described.iter().any(|(other, _)| other.starts_with(&format!("{path}.")));
        let value = values.pointer(&format!("/{}", path.replace('.', "/")));
        let value = value.unwrap_or_else(|| panic!("{path} is described and not there"));
        (!section).then(|| vec![format!("`{path}`"), format!("`{value}`"), about.clone()])
    });
    page_has("docs/kubernetes.md", "values", &table(&["Value", "Default", "Meaning"], rows));
}

/// The labels of a metric with their values, as its series have them.
fn labels(text: &str, name: &str) -> String {
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let series = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once('}'));
    for (label, value) in
        series.flat_map(|(pairs, _)| pairs.split(',')).filter_map(|pair| pair.split_once('='))
    {
        values.entry(label).or_default().insert(value.trim_matches('"'));
    }
    let told = |(label, values): (&str, BTreeSet<&str>)| match label {
        "code" if values.len() > 10 => format!("`{label}`: [the finding](findings.md)"),
        "version" => format!("`{label}`"),
        _ => format!("`{label}`: {}", values.into_iter().collect::<Vec<_>>().join(", ")),
    };
    values.into_iter().map(told).collect::<Vec<_>>().join("; ")
}

#[test]
fn the_page_of_metrics_lists_every_metric() {
    let text = Metrics::default().text().unwrap();
    let kinds: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let rows =
        text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' ')).map(|(name, help)| {
            assert!(name.starts_with("mailferry_") && help.ends_with('.'), "{name}: {help}");
            let shown = match kinds[name] {
                "counter" => format!("{name}_total"),
                "info" => format!("{name}_info"),
                _ => name.to_owned(),
            };
            let labels = labels(&text, &shown);
            vec![format!("`{shown}`"), kinds[name].to_owned(), help.to_owned(), labels]
        });
    page_has("docs/metrics.md", "metrics", &table(&["Metric", "Type", "Meaning", "Labels"], rows));
}

#[test]
fn every_link_between_the_pages_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let front = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root.join(name));
    for page in docs.chain(front) {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            if !target.is_empty() && !target.contains("://") {
                let there = page.parent().unwrap().join(target).exists();
                assert!(there, "{}: {link} leads nowhere", page.display());
            }
        }
    }
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    for page in fs::read_dir(root.join("docs")).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        assert!(readme.contains(&format!("(docs/{name})")), "README.md does not lead to docs/{name}");
    }
}
