//! The knowledge of a report, as pure data: the project, its mailboxes, its findings; and the builders that make these rows
//! out of what discovery saw. `Totals` is the one place that adds mailboxes up.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::domains::DomainRow;
use super::exceptions::Exceptions;
use crate::model::address::{Address, Domain};
use crate::model::checklist::Item;
use crate::model::difference::Difference;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{Amount, DomainDiscovery, Grade, MailboxDiscovery, Quota, TlsFacts};
use crate::model::failure::{Class, Failure, FailureCode, Side};
use crate::model::fidelity;
use crate::model::finding::{Code, Finding, Severity, tell_together};
use crate::model::message::Verdict;
use crate::model::progress::MessageCounts;
use crate::model::protocol::{Protocol, Tls};
use crate::model::record::{Depth, Verification};

/// Everything that a report of kind `migration` or `discovery` shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The migration's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Whose mail moves, as the customer would write it.
    pub customer: Option<String>,
    /// The stage that is wanted: `Plan`, `Sync` or `Cutover`.
    pub stage: String,
    /// The phase of the migration, as `status.phase` says it.
    pub phase: String,
    /// When the report was made.
    pub generated: Timestamp,
    /// The version of Mailferry that made it.
    pub version: String,
    /// Digest of the plan; it changes when the scope does.
    pub plan_digest: Option<String>,
    /// Where the mail goes.
    pub destination: DestinationRow,
    /// The findings that were accepted, and why.
    pub acknowledged: Vec<AcknowledgementRow>,
    /// Each domain that discovery looked at, in the order of the manifest.
    pub domains: Vec<DomainRow>,
    /// The domains that nobody has looked at yet.
    pub unseen: Vec<String>,
    /// Each mailbox, in the order of the manifest.
    pub mailboxes: Vec<MailboxRow>,
    /// Findings that a person should know, the most serious first; see [`FindingRow::collect`].
    pub findings: Vec<FindingRow>,
    /// Messages that did not arrive as they were.
    pub exceptions: Exceptions,
    /// Rules of the manifest that leave messages out, in plain words.
    pub exclusions: Vec<String>,
    /// Whether the manifest was changed since the numbers were counted, so that they are those of the rules before.
    pub outdated: bool,
    /// All else that the reader must know about the limits of this project, one sentence each.
    pub limits: Vec<String>,
    /// The terms that were agreed before the order. Only the statement of work tells it.
    #[serde(skip)]
    pub agreed: Agreed,
}

/// The terms that were agreed before the order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Agreed {
    /// The questions of the checklist as they stand, in the order of their numbers.
    pub checklist: Vec<Item>,
    /// Most bytes a second that the manifest allows.
    pub bytes_per_second: Option<u64>,
    /// Most bytes that the manifest lets be read of one mailbox in a day.
    pub source_bytes_per_day: Option<u64>,
    /// How closely arrivals are checked.
    pub verify: Depth,
    /// The part that is carried first, where only a part is.
    pub pilot: Option<PilotRow>,
    /// Whether messages that arrived before some day are left out.
    pub has_first_day: bool,
}

/// The part of the mail that is carried first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PilotRow {
    /// How many mailboxes of each domain, the first that can be read; `None` for all.
    pub mailboxes: Option<u32>,
    /// How many messages of each of their folders, the newest; `None` for all.
    pub messages_per_folder: Option<u32>,
}

impl Agreed {
    /// The customer's answer to a question about the migration as a whole.
    pub fn answer(&self, field: &str) -> Option<&Value> {
        self.checklist.iter().find(|item| item.field == field)?.answer.as_ref()
    }
}

impl Report {
    /// The sums over all mailboxes.
    pub fn totals(&self) -> Totals {
        Totals::of(&self.mailboxes)
    }

    /// The sums over the mailboxes of one domain.
    pub fn totals_of(&self, domain: &Domain) -> Totals {
        Totals::of(self.mailboxes.iter().filter(|row| row.domain == *domain))
    }

    /// How many findings there are of a severity. As in the status, those of one kind about one domain are one.
    pub fn count_findings(&self, severity: Severity) -> u64 {
        self.count_kinds(|finding| finding.severity == severity)
    }

    /// As [`Self::count_findings`], of those that are not acknowledged.
    pub fn open_findings(&self, severity: Severity) -> u64 {
        self.count_kinds(|finding| finding.severity == severity && finding.acknowledged.is_none())
    }

    fn count_kinds(&self, counts: impl Fn(&FindingRow) -> bool) -> u64 {
        let counted = self.findings.iter().filter(|finding| counts(finding));
        let kinds: BTreeSet<_> = counted.map(|finding| (finding.code, &finding.domain)).collect();
        kinds.len() as u64
    }
}

/// Where the mail goes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationRow {
    /// The protocol that it is written by.
    pub kind: String,
    /// The server.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// How the channel is secured.
    pub tls: Tls,
    /// The facts of its certificate, once it was connected to.
    pub facts: Option<TlsFacts>,
}

/// A finding that somebody accepted in `spec.acknowledge`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AcknowledgementRow {
    /// Which finding.
    pub finding: Code,
    /// For which domain; `None` for all.
    pub domain: Option<Domain>,
    /// Why, in the words of whoever accepted it.
    pub reason: String,
    /// The person who accepted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl AcknowledgementRow {
    /// Why, and who said so: `Ms Ito: the shop keeps its own copy`.
    pub fn words(&self) -> String {
        self.by.as_ref().map_or_else(|| self.reason.clone(), |by| format!("{by}: {}", self.reason))
    }
}

/// A failure as a report shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureRow {
    /// The failure and its place, in one sentence.
    pub sentence: String,
    /// Its remedy.
    pub hint: Option<String>,
    /// Where, outermost first.
    #[serde(skip)]
    pub place: Vec<String>,
    /// The failure without its place, so that those of one cause can be told together.
    #[serde(skip)]
    pub cause: Cause,
}

/// The common trait of failures that one person mends once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    class: Class,
    code: Option<FailureCode>,
    side: Option<Side>,
    what: String,
}

impl Cause {
    /// The failure, as the rest of a sentence that begins with the place.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The same without the names of the mailbox that it was met at, so that it can be held against another's.
    #[must_use]
    pub fn without(&self, names: &[&Address]) -> Self {
        let mut what = self.what.clone();
        for name in names {
            what = what.replace(&name.to_string(), "…");
        }
        Self { what, ..self.clone() }
    }

    /// Whether two are one, however a server words them.
    pub fn is(&self, other: &Self) -> bool {
        self.kind() == other.kind()
    }

    /// The class, the code and the end that it happened at. A server's words change with every answer; where none speaks, and it
    /// is not one of the known failures, our own words tell it from others.
    fn kind(&self) -> (Class, Option<FailureCode>, Option<Side>, Option<&str>) {
        let is_ours = self.code.is_none() && matches!(self.class, Class::Configuration | Class::Internal);
        (self.class, self.code, self.side, is_ours.then_some(self.what.as_str()))
    }
}

impl FailureRow {
    /// The failure in one sentence, for a place that names the mailbox already.
    pub(super) fn about(&self, mailbox: &Address) -> &str {
        let named = format!("{mailbox}: ");
        self.sentence.strip_prefix(named.as_str()).unwrap_or(&self.sentence)
    }
}

impl From<&Failure> for FailureRow {
    fn from(failure: &Failure) -> Self {
        let cause = Cause {
            class: failure.class,
            code: failure.code,
            side: failure.side,
            what: failure.what.clone(),
        };
        Self { sentence: failure.sentence(), hint: failure.hint.clone(), place: failure.place.clone(), cause }
    }
}

/// One mailbox.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MailboxRow {
    /// The domain of the manifest that it belongs to.
    pub domain: Domain,
    /// Its address at the source.
    pub source: Address,
    /// Its address at the destination.
    pub destination: Address,
    /// The server that it is read by; `None` when no login worked.
    pub protocol: Option<Protocol>,
    /// Where it is read.
    pub endpoint: Option<Endpoint>,
    /// The next best way, if there is one.
    pub runner_up: Option<Endpoint>,
    /// How much is proved about the chosen way.
    pub grade: Option<Grade>,
    /// The share that the protocol carries, 0 to 100.
    pub fidelity: Option<u8>,
    /// Whether the choice was said by hand.
    pub overridden: bool,
    /// Why this way, in one sentence.
    pub why: String,
    /// Folders that can hold messages.
    pub folders: u64,
    /// Messages that discovery counted, without those that the manifest leaves out.
    pub items: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Messages that the manifest leaves out, as far as discovery could count them.
    pub left_out: Amount,
    /// Folders that the manifest leaves out whole; they are not among the folders.
    pub left_out_folders: u64,
    /// The part that a pilot carries, where one is wanted.
    pub pilot: Option<Amount>,
    /// The largest of them, in bytes.
    pub largest: u64,
    /// The oldest arrival; POP3 does not tell.
    pub oldest: Option<Timestamp>,
    /// The newest arrival; POP3 does not tell.
    pub newest: Option<Timestamp>,
    /// How much the account may hold and holds; POP3 does not tell.
    pub quota: Option<Quota>,
    /// Folders of other users and shared ones that the mailbox sees; they are not carried with it.
    pub foreign: u64,
    /// Whether discovery has looked at its domain.
    pub looked_at: bool,
    /// The phase of the mailbox, as its `status.phase` says it.
    pub phase: String,
    /// The fate of its messages.
    pub messages: MessageCounts,
    /// Of the copied, those that the destination changed.
    pub altered: u64,
    /// Of these, those that a verification found with other bytes than they had when they arrived.
    pub changed: u64,
    /// Of the altered, those of which the destination keeps only a part.
    pub truncated: u64,
    /// Of the copied, those that a verification no longer found at the destination.
    pub missing: u64,
    /// Arrivals that were compared by size as they came.
    pub sizes_checked: u64,
    /// Of these, those that were read back and compared byte for byte.
    pub digests_checked: u64,
    /// Messages whose flags were brought up to date after they were copied.
    pub flags_updated: u64,
    /// Bytes sent to the destination.
    pub bytes_copied: u64,
    /// Passes that were begun.
    pub passes: u32,
    /// When the last pass began.
    pub last_started: Option<Timestamp>,
    /// When the last pass was done.
    pub last_ended: Option<Timestamp>,
    /// The result of the deepest verification.
    pub verification: Option<Verification>,
    /// The result of a verification that was made after that one and went less deep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rechecked: Option<Verification>,
    /// Flags, dates, folders and extra copies that the last verification found otherwise than they should be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// Why it does not go on.
    pub failure: Option<FailureRow>,
    /// The reason against calling it verified although its pass is through, or why it could not be verified again, and what to do
    /// about it.
    pub open: Option<FailureRow>,
    /// Findings about it.
    pub findings: Vec<Code>,
}

impl MailboxRow {
    /// The row of a mailbox before its first pass: all that discovery counted is pending. A caller that knows the ledger
    /// replaces `phase`, `messages` and what follows them.
    pub fn new(domain: &DomainDiscovery, seen: &MailboxDiscovery, destination: Address) -> Self {
        let candidate = |e: &Endpoint| domain.candidates.iter().find(|c| c.endpoint == *e);
        let chosen = seen.endpoint.as_ref().and_then(candidate);
        let runner_up = domain.candidates.iter().find(|c| Some(&c.endpoint) != seen.endpoint.as_ref());
        let refusals: Vec<String> = seen
            .attempts
            .iter()
            .filter(|attempt| Some(&attempt.endpoint) != seen.endpoint.as_ref())
            .filter_map(|attempt| Some(format!("{}: {}", attempt.endpoint, attempt.failure.as_ref()?.what)))
            .collect();
        let why = if seen.overridden {
            "said by hand in spec.domains[].overrides".to_owned()
        } else if refusals.is_empty() || seen.endpoint.is_none() {
            chosen.map(|c| c.why.clone()).unwrap_or_default()
        } else {
            format!("the login worked here; not at {}", refusals.join("; "))
        };
        let size = seen.size.clone().unwrap_or_default();
        let mut messages = MessageCounts::default();
        messages.add(&Verdict::Pending, size.messages);
        messages.add(&Verdict::Excluded(String::new()), size.left_out.messages);
        let about = |f: &&Finding| f.subject.as_deref() == Some(seen.address.to_string().as_str());
        Self {
            domain: domain.domain.clone(),
            source: seen.address.clone(),
            destination,
            protocol: seen.protocol(),
            endpoint: seen.endpoint.clone(),
            runner_up: runner_up.map(|c| c.endpoint.clone()),
            grade: chosen.map(|c| c.grade),
            fidelity: seen.protocol().map(fidelity::score),
            overridden: seen.overridden,
            why,
            folders: u64::from(size.folders),
            items: size.messages,
            bytes: size.bytes,
            left_out: size.left_out,
            left_out_folders: size.left_out_folders.into(),
            pilot: size.pilot,
            largest: size.largest,
            oldest: size.oldest,
            quota: size.quota,
            foreign: size.foreign.into(),
            newest: size.newest,
            looked_at: true,
            phase: if seen.endpoint.is_some() { "Ready" } else { "Blocked" }.to_owned(),
            messages,
            altered: 0,
            changed: 0,
            truncated: 0,
            missing: 0,
            sizes_checked: 0,
            digests_checked: 0,
            flags_updated: 0,
            bytes_copied: 0,
            passes: 0,
            last_started: None,
            last_ended: None,
            verification: None,
            rechecked: None,
            differences: Vec::new(),
            open: None,
            failure: seen.failure.as_ref().map(Into::into),
            findings: domain.findings.iter().filter(about).map(|f| f.code).collect(),
        }
    }
}

impl MailboxRow {
    /// The row of a mailbox whose domain nobody has looked at yet.
    pub fn unseen(domain: Domain, source: Address, destination: Address, at: Timestamp) -> Self {
        let seen = MailboxDiscovery {
            address: source,
            endpoint: None,
            overridden: false,
            attempts: Vec::new(),
            size: None,
            logins: None,
            login_name: None,
            failure: None,
        };
        let domain = DomainDiscovery::empty(domain, at, at);
        let phase = "Pending".to_owned();
        Self { looked_at: false, phase, ..Self::new(&domain, &seen, destination) }
    }

    /// The verification that was made last.
    pub fn last_verification(&self) -> Option<&Verification> {
        self.rechecked.as_ref().or(self.verification.as_ref())
    }

    /// The verifications of it that are kept, the deepest first.
    pub fn verifications(&self) -> impl Iterator<Item = &Verification> {
        self.verification.iter().chain(&self.rechecked)
    }
}

/// The same fact about one or several subjects of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FindingRow {
    /// How serious it is.
    pub severity: Severity,
    /// The fact that was found.
    pub code: Code,
    /// The domain; `None` when it is about the destination or the project.
    pub domain: Option<Domain>,
    /// The mailboxes, servers or folders it is about; none when it is the domain as a whole.
    pub subjects: Vec<String>,
    /// How many things were found: mailboxes or folders, or the one thing however often it was told.
    pub count: u64,
    /// One sentence with the facts, and of how many things it is told.
    pub message: String,
    /// The sentence alone, and how often it was told.
    #[serde(skip)]
    pub(super) fact: (String, u64),
    /// Its remedy.
    pub remedy: &'static str,
    /// Why it was accepted.
    pub acknowledged: Option<String>,
}

impl FindingRow {
    /// Brings findings together: those of one code and domain that say the same become one row. The most serious come
    /// first; an acknowledgement without a domain is for every domain.
    pub fn collect<'a>(
        findings: impl IntoIterator<Item = (Option<&'a Domain>, &'a Finding)>,
        acknowledged: &[AcknowledgementRow],
    ) -> Vec<Self> {
        let mut rows: BTreeMap<_, Self> = BTreeMap::new();
        for (domain, finding) in findings {
            let code = finding.code;
            let reason = acknowledged
                .iter()
                .find(|a| a.finding == code && (a.domain.is_none() || a.domain.as_ref() == domain))
                .map(AcknowledgementRow::words);
            let row = rows.entry((code.severity(), code, domain, &finding.message)).or_insert_with(|| Self {
                severity: code.severity(),
                code,
                domain: domain.cloned(),
                subjects: Vec::new(),
                count: 0,
                message: String::new(),
                fact: (finding.message.clone(), 0),
                remedy: code.remedy(),
                acknowledged: reason,
            });
            row.fact.1 += 1;
            row.subjects.extend(finding.subject.clone());
        }
        let told = |mut row: Self| {
            (row.message, row.count) = tell_together(row.code, [(row.fact.0.as_str(), row.fact.1)]);
            row
        };
        rows.into_values().map(told).collect()
    }
}

/// Sums over mailboxes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Mailboxes.
    pub mailboxes: u64,
    /// Mailboxes that no login worked for.
    pub unreadable: u64,
    /// Mailboxes whose domain nobody has looked at yet.
    pub unseen: u64,
    /// Mailboxes whose pass stopped before it was through.
    pub stopped: u64,
    /// Folders that can hold messages.
    pub folders: u64,
    /// Folders that the manifest leaves out whole; they are not among these.
    pub left_out_folders: u64,
    /// Messages that discovery counted.
    pub items: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// The largest message, in bytes.
    pub largest: u64,
    /// Folders of other users and shared ones.
    pub foreign: u64,
    /// The oldest arrival that is known.
    pub oldest: Option<Timestamp>,
    /// The newest arrival that is known.
    pub newest: Option<Timestamp>,
    /// The fate of the messages.
    pub messages: MessageCounts,
    /// Of the copied, those that the destination changed.
    pub altered: u64,
    /// Of these, those that a verification found changed after they had arrived.
    pub changed: u64,
    /// Of the altered, those of which the destination keeps only a part.
    pub truncated: u64,
    /// Of the copied, those that a verification no longer found.
    pub missing: u64,
    /// Arrivals that were compared by size as they came.
    pub sizes_checked: u64,
    /// Of these, those that were read back and compared byte for byte.
    pub digests_checked: u64,
    /// Messages whose flags were brought up to date.
    pub flags_updated: u64,
    /// Bytes sent to the destination.
    pub bytes_copied: u64,
    /// Mailboxes that were verified.
    pub verified: u64,
    /// Messages that were looked for at the destination.
    pub checked: u64,
    /// Messages that were read back.
    pub read_back: u64,
    /// Messages that were read at both sides and are the same.
    pub identical: u64,
    /// Messages that were found by size and date, and not read.
    pub same_size: u64,
    /// Messages that verifications found as they had been handed out, while the source shows other bytes now.
    pub alike: u64,
    /// Messages that verifications found with other bytes.
    pub found_altered: u64,
    /// Messages that verifications did not find.
    pub found_missing: u64,
    /// Messages with other flags or dates than at the source, and folders that are not there, by the last verifications.
    pub differing: u64,
    /// Of these, folders that are not there.
    pub absent_folders: u64,
    /// Messages that the last verifications found in another folder than they were carried to.
    pub moved: u64,
    /// Messages that the last verifications could not look for, because a folder could not be opened.
    pub unchecked: u64,
}

impl Totals {
    /// Adds mailboxes up.
    pub fn of<'a>(rows: impl IntoIterator<Item = &'a MailboxRow>) -> Self {
        let mut sum = Self::default();
        for row in rows {
            sum.mailboxes += 1;
            sum.unreadable += u64::from(row.looked_at && row.endpoint.is_none());
            sum.unseen += u64::from(!row.looked_at);
            sum.stopped += u64::from(row.phase == "Failed");
            sum.folders += row.folders;
            sum.left_out_folders += row.left_out_folders;
            sum.items += row.items;
            sum.bytes += row.bytes;
            sum.largest = sum.largest.max(row.largest);
            sum.foreign += row.foreign;
            sum.oldest = sum.oldest.into_iter().chain(row.oldest).min();
            sum.newest = sum.newest.into_iter().chain(row.newest).max();
            sum.messages += row.messages;
            sum.altered += row.altered;
            sum.changed += row.changed;
            sum.truncated += row.truncated;
            sum.missing += row.missing;
            sum.sizes_checked += row.sizes_checked;
            sum.digests_checked += row.digests_checked;
            sum.differing += row.last_verification().map_or(0, |shown| shown.differing);
            sum.absent_folders += row.last_verification().map_or(0, |shown| shown.absent_folders);
            sum.moved += row.last_verification().map_or(0, |shown| shown.moved);
            sum.unchecked += row.last_verification().map_or(0, |shown| shown.unchecked);
            sum.flags_updated += row.flags_updated;
            sum.bytes_copied += row.bytes_copied;
            if let Some(verification) = &row.verification {
                sum.verified += 1;
                sum.checked += verification.checked;
                sum.read_back += verification.read_back;
                sum.identical += verification.identical;
                sum.same_size += verification.same_size;
                sum.alike += verification.alike;
                sum.found_altered += verification.altered;
                sum.found_missing += verification.missing;
            }
        }
        sum
    }
}
