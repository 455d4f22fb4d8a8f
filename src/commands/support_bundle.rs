//! `mailferry support-bundle`: everything a supporter needs, as one archive with an index, without secrets and without
//! what the messages are about.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::looking::{Looked, look};
use super::{print, to_json};
use crate::api::manifest::to_yaml;
use crate::api::names::mailbox_migration;
use crate::cli::{Output, SupportBundleArgs};
use crate::discovery::Clock;
use crate::local::clock::SystemClock;
use crate::local::files::{replace, unwritten};
use crate::model::evidence::LoginNames;
use crate::model::failure::{Failure, Result};
use crate::model::record::MailboxRecord;
use crate::model::text::{count, hexadecimal};
use crate::plan::DomainObserved;
use crate::plan::document::Plan;
use crate::report::redaction::Redaction;
use crate::report::{Format, Kind, write};

/// A file of the archive.
#[derive(Debug, Serialize)]
struct Entry {
    /// Its name below the archive's directory.
    name: String,
    /// A description of its content.
    about: &'static str,
    /// Its size in bytes.
    bytes: usize,
    /// Digest of its bytes, SHA-256.
    sha256: String,
    #[serde(skip)]
    content: Vec<u8>,
}

impl Entry {
    fn new(name: &str, about: &'static str, content: Vec<u8>) -> Self {
        let sha256 = hexadecimal(&Sha256::digest(&content));
        Self { name: name.to_owned(), about, bytes: content.len(), sha256, content }
    }
}

pub(super) async fn support_bundle(args: SupportBundleArgs) -> Result<ExitCode> {
    let looked = look(args.migration.into()).await?;
    let now = SystemClock.now();
    let planned = || looked.observed.domains.values().flat_map(DomainObserved::planned);
    let people = planned().flat_map(|planned| {
        let parts = [planned.source.local_part(), planned.destination.local_part(), &planned.login_name];
        parts.map(str::to_owned)
    });
    let domains = looked.observed.domains.values();
    let logins = domains.flat_map(|domain| {
        let seen = domain.discovery.iter().flat_map(|discovery| &discovery.mailboxes);
        seen.filter_map(|mailbox| mailbox.logins.as_ref()).flat_map(people_of)
    });
    let kept = planned().map(|planned| mailbox_migration(looked.name(), &planned.source));
    let redaction = Redaction::new(args.hash_addresses, people.chain(logins), kept);
    let mut entries = gather(&looked, &redaction)?;
    let index = json!({
        "mailferry": env!("CARGO_PKG_VERSION"),
        "made": now,
        "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        "migration": looked.name(),
        "addressesHashed": redaction.hides_people(),
        "takenOut": taken_out(&redaction),
        "files": entries,
    });
    entries.insert(0, Entry::new("index.json", "this list", to_json(&index)?.into_bytes()));
    let directory = format!("mailferry-support-{}", looked.name());
    let path = args.out.unwrap_or_else(|| PathBuf::from(format!("{directory}.tar.gz")));
    let archive = pack(&directory, &entries, now.as_second())?;
    // Others who may read the directory need not be able to read this.
    replace(&path, &archive).map_err(|e| unwritten(&path, &e))?;
    let text = match args.output {
        Output::Json => to_json(&json!({"path": path, "bytes": archive.len(), "index": index}))?,
        Output::Text => tell(&path, archive.len(), &entries, &redaction),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The names of people in what a mailbox is logged in by: an administrator's is beside the mailbox's own.
fn people_of(logins: &LoginNames) -> Vec<String> {
    let sent = [&logins.source, &logins.destination];
    let sent = sent.into_iter().flatten().filter_map(|name| name.split(", by ").next());
    let parts = sent.flat_map(|name| name.split(" for ")).flat_map(|name| {
        // Text after an address's domain begins with a separator of the customer's choice.
        let (local, rest) = name.split_once('@').unwrap_or((name, ""));
        let begins = rest.find(|c: char| !(c.is_alphanumeric() || ".-".contains(c)));
        [local, begins.map_or("", |at| rest[at..].trim_start_matches(|c: char| !c.is_alphanumeric()))]
    });
    parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn taken_out(redaction: &Redaction) -> Vec<&'static str> {
    let mut rules = vec![
        "Secrets and ConfigMaps: none is in here",
        "subjects and Message-IDs of messages",
        "bytes of messages: none is in here",
    ];
    if redaction.hides_people() {
        rules.push("the parts of addresses before the @, login names, names of what is kept for a mailbox, the customer's name and contacts, and why something was agreed");
    }
    rules
}

fn gather(looked: &Looked, redaction: &Redaction) -> Result<Vec<Entry>> {
    let mut migration = looked.migration.clone();
    let status = migration.status.take();
    migration.metadata.managed_fields = None;
    // The copy that `kubectl apply` keeps there repeats the manifest beside it.
    migration.metadata.annotations = None;
    let spec = &migration.spec;
    let yaml = to_yaml(&clean(&migration, redaction)?)?;
    let about = "what is wanted, without its Secrets";
    let mut packing =
        Packing { redaction, entries: vec![Entry::new("migration.yaml", about, yaml.into_bytes())] };
    packing.add("status.json", "how it stands, with conditions and findings", &status)?;
    let plan = Plan::of(spec, &looked.observed);
    packing.add("plan.json", "what would be done with each mailbox", &plan)?;
    let items = &looked.report.agreed.checklist;
    packing.add("checklist.json", "what the customer answered, and what discovery says", items)?;
    let mut report = Vec::new();
    write(&looked.report, Kind::Migration, Format::Json, &mut report, |_| {
        Err(Failure::internal("a migration report has no messages"))
    })?;
    let report: Value = serde_json::from_slice(&report)
        .map_err(|e| Failure::internal("a report is not JSON").caused_by(&e))?;
    packing.add("report.json", "domains, mailboxes, findings, what did not arrive", &report)?;
    for (name, domain) in &looked.observed.domains {
        if let Some(discovery) = domain.discovery.as_deref() {
            let name = format!("discovery/{name}.json");
            packing.add(&name, "everything that discovery saw and heard", &**discovery)?;
        }
    }
    let records: BTreeMap<String, &MailboxRecord> =
        looked.observed.mailboxes.iter().map(|(address, seen)| (address.to_string(), &seen.record)).collect();
    packing.add("mailboxes.json", "how the last pass over each mailbox went", &records)?;
    Ok(packing.entries)
}

/// The files as they are gathered.
struct Packing<'a> {
    redaction: &'a Redaction,
    entries: Vec<Entry>,
}

impl Packing<'_> {
    fn add(&mut self, name: &str, about: &'static str, document: &impl Serialize) -> Result<()> {
        let text = to_json(&clean(document, self.redaction)?)?;
        self.entries.push(Entry::new(name, about, text.into_bytes()));
        Ok(())
    }
}

fn clean(document: &impl Serialize, redaction: &Redaction) -> Result<Value> {
    let mut value = serde_json::to_value(document)
        .map_err(|e| Failure::internal("a document is not JSON").caused_by(&e))?;
    redaction.apply(&mut value);
    Ok(value)
}

fn pack(directory: &str, entries: &[Entry], now: i64) -> Result<Vec<u8>> {
    let broken = |e: std::io::Error| Failure::internal("the archive could not be made").caused_by(&e);
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(entry.bytes as u64);
        header.set_mode(0o600);
        header.set_mtime(now.unsigned_abs());
        let name = format!("{directory}/{}", entry.name);
        archive.append_data(&mut header, name, &entry.content[..]).map_err(broken)?;
    }
    let mut packed = archive.into_inner().map_err(broken)?;
    packed.flush().map_err(broken)?;
    packed.finish().map_err(broken)
}

fn tell(path: &Path, bytes: usize, entries: &[Entry], redaction: &Redaction) -> String {
    use std::fmt::Write;
    let mut text = format!("{}  {} bytes\n", path.display(), count(bytes as u64));
    for entry in entries {
        let _ = writeln!(text, "  {:34} {:>11}  {}", entry.name, count(entry.bytes as u64), entry.about);
    }
    text.push_str("Not in it:\n");
    for rule in taken_out(redaction) {
        let _ = writeln!(text, "  {rule}");
    }
    if !redaction.hides_people() {
        text.push_str("Addresses are in it; --hash-addresses hides them.\n");
    }
    text
}
