//! The content of an account, and the differences between two: bodies by digest, flags, keywords, dates, folders and
//! subscriptions. Folders are multisets, so that exact duplicates count.

use super::imap::Client;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::fmt::strtime;

/// One message as a server shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// UID in its folder; not compared.
    pub uid: u32,
    /// BLAKE3 of all bytes, in hexadecimal.
    pub digest: String,
    /// Bytes.
    pub size: usize,
    /// System flags and keywords in lower case, without `\Recent`.
    pub flags: BTreeSet<String>,
    /// INTERNALDATE, to the second.
    pub internal_date: Timestamp,
    /// Message-ID or subject: for people who read the differences.
    pub name: String,
}

impl Row {
    /// Reads the text of a FETCH response with UID, FLAGS and INTERNALDATE.
    pub fn new(fetch: &str, body: &[u8]) -> Self {
        let between = |start: &str, end: char| {
            let rest = fetch.split_once(start).unwrap_or_else(|| panic!("no {start} in {fetch}")).1;
            rest.split_once(end).unwrap_or_else(|| panic!("no end of {start} in {fetch}")).0.trim()
        };
        let date = between("INTERNALDATE \"", '"');
        let flags = between("FLAGS (", ')').split_whitespace().map(str::to_ascii_lowercase);
        Self {
            uid: between("UID ", ' ').parse().expect("a UID"),
            digest: blake3::hash(body).to_hex().to_string(),
            size: body.len(),
            flags: flags.filter(|flag| flag != "\\recent").collect(),
            internal_date: strtime::parse("%d-%b-%Y %H:%M:%S %z", date)
                .and_then(|parsed| parsed.to_timestamp())
                .unwrap_or_else(|error| panic!("INTERNALDATE {date}: {error}")),
            name: name_of(body),
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        self.flags == other.flags && self.internal_date == other.internal_date
    }
}

fn name_of(body: &[u8]) -> String {
    let head = String::from_utf8_lossy(&body[..body.len().min(4096)]).into_owned();
    let line = |name: &str| {
        head.lines().take_while(|line| !line.is_empty()).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| format!("{field}: {}", value.trim()))
        })
    };
    line("message-id").or_else(|| line("subject")).unwrap_or_else(|| "no Message-ID, no subject".to_owned())
}

/// Everything an account holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Messages by folder; the names with `/` between the levels.
    pub folders: BTreeMap<String, Vec<Row>>,
    /// Subscribed folders.
    pub subscribed: BTreeSet<String>,
}

impl Account {
    /// How many messages there are in all folders.
    pub fn messages(&self) -> usize {
        self.folders.values().map(Vec::len).sum()
    }

    /// The same without `\Deleted`.
    pub fn without_marks_of_removal(mut self) -> Self {
        for row in self.folders.values_mut().flatten() {
            row.flags.remove("\\deleted");
        }
        self
    }
}

/// Where `destination` is not what `source` is, one line each; empty when nothing differs. A mark of removal at the
/// source is carried nowhere.
pub fn differences(source: &Account, destination: &Account) -> Vec<String> {
    let mut lines = Vec::new();
    let source = source.clone().without_marks_of_removal();
    let none = Vec::new();
    let folders: BTreeSet<_> = source.folders.keys().chain(destination.folders.keys()).collect();
    for folder in folders {
        let (here, there) = (source.folders.get(folder), destination.folders.get(folder));
        if there.is_none() {
            lines.push(format!("{folder}: the folder is missing"));
        }
        if here.is_none() {
            lines.push(format!("{folder}: the folder is not in the source"));
        }
        compare_folder(folder, here.unwrap_or(&none), there.unwrap_or(&none), &mut lines);
    }
    for folder in source.subscribed.difference(&destination.subscribed) {
        lines.push(format!("{folder}: not subscribed"));
    }
    for folder in destination.subscribed.difference(&source.subscribed) {
        lines.push(format!("{folder}: subscribed, but not in the source"));
    }
    lines
}

fn compare_folder(folder: &str, source: &[Row], destination: &[Row], lines: &mut Vec<String>) {
    let mut pairs: BTreeMap<&str, (Vec<&Row>, Vec<&Row>)> = BTreeMap::new();
    for row in source {
        pairs.entry(&row.digest).or_default().0.push(row);
    }
    for row in destination {
        pairs.entry(&row.digest).or_default().1.push(row);
    }
    for (here, mut there) in pairs.into_values() {
        // First those that agree in everything, so that duplicates do not blur the picture.
        let mut unequal = Vec::new();
        for row in here {
            match there.iter().position(|other| other.is_like(row)) {
                Some(at) => drop(there.swap_remove(at)),
                None => unequal.push(row),
            }
        }
        for row in unequal {
            let title = format!("{folder}: {} ({} bytes, uid {})", row.name, row.size, row.uid);
            let Some(other) = there.pop() else {
                lines.push(format!("{title}: missing"));
                continue;
            };
            if row.flags != other.flags {
                lines.push(format!("{title}: flags {:?}, not {:?}", other.flags, row.flags));
            }
            if row.internal_date != other.internal_date {
                lines.push(format!(
                    "{title}: INTERNALDATE {}, not {}",
                    other.internal_date, row.internal_date
                ));
            }
        }
        for row in there {
            lines.push(format!("{folder}: {} ({} bytes, uid {}): too many", row.name, row.size, row.uid));
        }
    }
}

/// The content of a mailbox as POP3 shows it: the digests of INBOX, sorted. A last line without an end gets one, since
/// POP3 cannot say that there is none (RFC 1939 §3).
pub fn maildrop(mailbox: &mut Client) -> Vec<String> {
    let mut digests = Vec::new();
    mailbox.read_folder("INBOX", |_, body| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(body);
        if !body.ends_with(b"\r\n") {
            hasher.update(b"\r\n");
        }
        digests.push(hasher.finalize().to_hex().to_string());
    });
    digests.sort();
    digests
}
