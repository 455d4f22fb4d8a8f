//! Keeps the dependency rule of `src/lib.rs`: reads the `crate::` paths of every room and refuses those that the rule
//! does not allow.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms, and the rooms that each may look into.
const RULE: [(&str, &[&str]); 16] = [
    ("model", &["model"]),
    ("api", &["api", "model"]),
    ("plan", &["plan", "api", "model"]),
    ("net", &["net", "model"]),
    ("auth", &["auth", "net", "model"]),
    ("drivers", &["drivers", "auth", "net", "steps", "model"]),
    ("discovery", &["discovery", "drivers", "auth", "net", "model"]),
    ("ledger", &["ledger", "steps", "model"]),
    ("transfer", &["transfer", "ledger", "drivers", "model"]),
    ("report", &["report", "model"]),
    ("reporting", &["report", "plan", "api", "model"]),
    (
        "local",
        &[
            "local",
            "api",
            "plan",
            "reconcile",
            "discovery",
            "drivers",
            "auth",
            "net",
            "transfer",
            "ledger",
            "report",
            "reporting",
            "model",
        ],
    ),
    ("cluster", &["cluster", "api", "plan", "report", "reporting", "model"]),
    (
        "worker",
        &[
            "worker",
            "cluster",
            "local",
            "api",
            "plan",
            "reconcile",
            "discovery",
            "drivers",
            "auth",
            "net",
            "transfer",
            "ledger",
            "report",
            "model",
        ],
    ),
    ("operator", &["operator", "cluster", "api", "plan", "reconcile", "model"]),
    (
        "commands",
        &[
            "commands",
            "cli",
            "worker",
            "operator",
            "cluster",
            "local",
            "api",
            "plan",
            "reconcile",
            "discovery",
            "report",
            "model",
        ],
    ),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

fn room(name: &str) -> Vec<(PathBuf, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let folder = source.join(name);
    let files = if folder.is_dir() { sources(&folder) } else { vec![source.join(format!("{name}.rs"))] };
    files.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// Code lines: comments do not bind.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.trim()))
        .filter(|(_, line)| !line.starts_with("//"))
}

#[test]
fn every_room_looks_only_into_the_rooms_it_may() {
    let mut broken = Vec::new();
    for (name, allowed) in RULE {
        for (path, text) in room(name) {
            for (at, line) in code(&text) {
                for (start, _) in line.match_indices("crate::") {
                    let rest = &line[start + "crate::".len()..];
                    let target: String =
                        rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                    if !target.is_empty() && !allowed.contains(&target.as_str()) {
                        broken.push(format!(
                            "{}:{at}: {name} must not look into {target}: {line}",
                            path.display()
                        ));
                    }
                }
            }
        }
    }
    assert!(broken.is_empty(), "the dependency rule of src/lib.rs is broken:\n{}", broken.join("\n"));
}

#[test]
fn the_pure_rooms_never_await() {
    for name in ["model", "api", "plan", "report", "reporting"] {
        for (path, text) in room(name) {
            let product = text.split("#[cfg(test)]").next().unwrap();
            for (at, line) in code(product) {
                assert!(
                    !line.contains(".await") && !line.contains("async fn"),
                    "{}:{at}: {line}",
                    path.display()
                );
            }
        }
    }
}

/// A new protocol is a folder of `drivers`, a variant of `Protocol` and an arm of `drivers::registry::driver`.
#[test]
fn no_other_room_names_the_module_of_a_protocol() {
    let named = regex::Regex::new(r"\bdrivers::(\{[^}]*\b)?(imap|pop3)\b").unwrap();
    for (name, _) in RULE.iter().filter(|(name, _)| *name != "drivers") {
        for (path, text) in room(name) {
            if path.ends_with("tests.rs") {
                continue;
            }
            for (at, line) in code(text.split("#[cfg(test)]").next().unwrap()) {
                assert!(!named.is_match(line), "{}:{at}: ask drivers::registry: {line}", path.display());
            }
        }
    }
    assert!(named.is_match("use crate::drivers::{imap, pop3};") && named.is_match("crate::drivers::imap::x"));
}

/// A mark is read by the driver that made it: others compare it by `drivers::marks` and keep it.
#[test]
fn the_numbers_of_imap_are_read_in_its_driver_alone() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let named = regex::Regex::new("(?i)uid_?next|mod_?seq").unwrap();
    let (mut seen, mut broken) = (0, Vec::new());
    for path in sources(&source) {
        let text = fs::read_to_string(&path).unwrap();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| named.is_match(line)) {
            if path.starts_with(source.join("drivers/imap")) {
                seen += 1;
            } else {
                broken.push(format!("{}:{}: {line}", path.display(), at + 1));
            }
        }
    }
    assert!(broken.is_empty(), "say it by a mark:\n{}", broken.join("\n"));
    assert!(seen > 20, "the law must see what it is about");
}

#[test]
fn only_three_rooms_speak_to_the_api_server() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let named = regex::Regex::new(
        r"\bkube::(Api|Client|Config|api|client|config|runtime)\b|\bkube::\{[^}]*\b(Api|Client|Config|api|client|config|runtime)\b",
    )
    .unwrap();
    let mut seen = 0;
    for path in sources(&source) {
        let text = fs::read_to_string(&path).unwrap();
        let room = path.strip_prefix(&source).unwrap().components().next().unwrap();
        let may = ["cluster", "operator", "worker"].contains(&room.as_os_str().to_str().unwrap());
        for (at, line) in code(&text).filter(|(_, line)| named.is_match(line)) {
            assert!(may, "{}:{at}: only cluster, operator and worker may: {line}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 5, "the law must see what it is about");
}

#[test]
fn only_the_command_layer_sees_async_imap_and_only_the_manifest_reads_yaml() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in sources(&source) {
        let text = fs::read_to_string(&path).unwrap();
        let shown = path.strip_prefix(&source).unwrap().display().to_string();
        for (at, line) in code(&text) {
            let command_layer = shown == "drivers/imap/session.rs";
            let imap = line.contains("async_imap::") && !command_layer;
            let yaml =
                line.contains("serde_yaml::") && !shown.starts_with("api/manifest/") && shown != "api/crd.rs";
            assert!(!imap && !yaml, "{shown}:{at}: {line}");
        }
    }
}

/// Nothing may be decided by the words of a sentence, ours or a server's: a failure has a class and a code for that, and
/// `drivers::words` is the one place that knows servers' words.
#[test]
fn nobody_looks_into_the_words_of_a_failure() {
    let looks = [
        "contains(",
        "starts_with(",
        "ends_with(",
        "find(",
        "matches(",
        "eq(",
        "eq_ignore_ascii_case(",
        "split_once(",
    ];
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for path in sources(&source) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        // `net::tls` reads names of a certificate out of a sentence of its own, as evidence; nothing is decided by them.
        let is_tls = path.ends_with("net/tls.rs");
        if is_tls || name.ends_with("tests") || path.parent().unwrap().ends_with("tests") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        // A chain of calls may be broken over lines.
        let product: String =
            code(text.split("#[cfg(test)]").next().unwrap()).map(|(_, line)| line).collect();
        for field in [".what", ".sentence()", ".hint"] {
            for (at, _) in product.match_indices(field) {
                let behind = &product[at + field.len()..];
                let behind =
                    behind.trim_start_matches(".to_ascii_lowercase()").trim_start_matches(".to_lowercase()");
                let compares = behind.trim_start().starts_with("==") || behind.trim_start().starts_with("!=");
                let calls = looks
                    .iter()
                    .any(|look| behind.strip_prefix('.').is_some_and(|rest| rest.starts_with(look)));
                if compares || calls {
                    let around: String = product[at..].chars().take(70).collect();
                    found.push(format!("{}: {around}", path.display()));
                }
            }
        }
    }
    assert!(found.is_empty(), "a class or a code decides, not words:\n{}", found.join("\n"));
}

/// A terminal that went away must end nothing: `println!` and `eprintln!` end the process then.
#[test]
fn only_the_terminal_writes_to_the_terminal() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = 0;
    for path in sources(&source) {
        let text = fs::read_to_string(&path).unwrap();
        let product = text.split("#[cfg(test)]").next().unwrap();
        let is_test = path.file_stem().is_some_and(|name| name.to_string_lossy().ends_with("tests"));
        for (at, line) in code(product).filter(|_| !is_test) {
            let writes = ["println!", "print!(", "io::stdout", "io::stderr", "Stdout", "Stderr"];
            if writes.iter().any(|word| line.contains(word)) {
                assert!(path.ends_with("local/terminal.rs"), "{}:{at}: {line}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 5, "the law must see what it is about");
}

/// The modules of a room that one of its files looks into, by their names; those that are only tests do not bind.
fn neighbours(room: &str, text: &str, names: &BTreeSet<String>) -> BTreeSet<String> {
    let product = text.split("#[cfg(test)]").next().unwrap();
    let path = regex::Regex::new(&format!(r"(?:\bsuper::|\bcrate::{room}::)([a-z_0-9]+)")).unwrap();
    let lines: Vec<&str> = code(product).map(|(_, line)| line).collect();
    let lines = lines.join("\n");
    path.captures_iter(&lines).map(|found| found[1].to_owned()).filter(|name| names.contains(name)).collect()
}

/// Rooms in which no two files need each other. In the others some still do; a room joins once its circles are undone.
const ROOMS_WITHOUT_CIRCLES: [&str; 5] = ["model", "auth", "discovery", "ledger", "operator"];

/// Two files that need each other are one, or hold something that is a third.
#[test]
fn no_two_files_of_a_room_need_each_other() {
    let mut circles = Vec::new();
    for name in ROOMS_WITHOUT_CIRCLES {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name);
        let files: BTreeMap<String, String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "rs"))
            .map(|path| {
                let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
                (stem, fs::read_to_string(&path).unwrap())
            })
            .filter(|(stem, _)| stem != "mod" && stem != "tests")
            .collect();
        let names: BTreeSet<String> = files.keys().cloned().collect();
        let looks: BTreeMap<&String, BTreeSet<String>> =
            files.iter().map(|(stem, text)| (stem, neighbours(name, text, &names))).collect();
        for (one, others) in &looks {
            circles.extend(
                others
                    .iter()
                    .filter(|other| *other > *one && looks[other].contains(*one))
                    .map(|other| format!("{name}: {one} and {other}")),
            );
        }
    }
    assert!(circles.is_empty(), "these need each other:\n{}", circles.join("\n"));
}
