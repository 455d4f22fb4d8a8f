//! The statement of work: what would be done for a customer, before it is ordered. Scope, method, what it rests on, what it
//! leaves out, what may go wrong, how long it takes; all of it from the same rows as the report.
//!
//! ```text
//! rows ──► Statement: pure data ──► html      to be handed over, and printed
//!            ▲                  ├─► markdown  to be worked on
//!          estimate             └─► JSON      for a program
//! ```

mod estimate;
mod html;
mod markdown;
mod ordered;
#[cfg(test)]
mod tests;

use std::io::Write;

use jiff::Timestamp;
use serde::Serialize;

pub use estimate::Estimate;

use self::ordered::Ordered;
use super::markdown::shown;
use super::rows::{DestinationRow, FindingRow, MailboxRow, PilotRow, Report};
use super::standing::OUTDATED;
use super::{Format, unwritten, words};
use crate::model::checklist::{Item, ItemState};
use crate::model::evidence::Amount;
use crate::model::failure::{Failure, FailureCode, Result};
use crate::model::finding::Code;
use crate::model::protocol::Protocol;

/// The work that would be done.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement<'a> {
    /// The migration's name.
    pub name: &'a str,
    /// Whose mail moves.
    pub customer: Option<&'a str>,
    /// The person who decides at the customer.
    pub contact: Option<String>,
    /// When the statement was made.
    pub generated: Timestamp,
    /// The version of Mailferry that made it.
    pub version: &'a str,
    /// Digest of the plan that it is about.
    pub plan_digest: Option<&'a str>,
    /// Where the mail goes.
    pub destination: &'a DestinationRow,
    /// The mail that moves: a row for each domain and protocol.
    pub scope: Vec<ScopeRow>,
    /// The part of the mail that is ordered, where it is a pilot.
    pub pilot: Option<String>,
    /// The mail that the rules leave out of these mailboxes, as far as the old servers tell.
    pub left_out: Amount,
    /// The mail that moves, mailbox by mailbox.
    pub mailboxes: Vec<MailboxScope<'a>>,
    /// Its premises, a sentence each.
    pub assumptions: Vec<String>,
    /// Answers that the customer gave before the order, and nothing speaks against.
    pub answers: Vec<Answer<'a>>,
    /// Things that do not move, a sentence each.
    pub exclusions: Vec<String>,
    /// Risks: the findings, the most serious first.
    pub risks: &'a [FindingRow],
    /// How long the first pass takes.
    pub estimate: Estimate,
    /// Days that were agreed.
    pub dates: Vec<Answer<'a>>,
    /// How it is proved that the mail arrived.
    pub verification: &'static str,
    /// The person who signs for it.
    pub acceptance: Option<String>,
    /// Questions that nobody answered, or whose answers do not hold.
    pub open: Vec<Question<'a>>,
}

/// The mailboxes of a domain that are read by one protocol.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScopeRow {
    /// The domain.
    pub domain: String,
    /// The protocol that they are read by; `None` when nothing reads them yet.
    pub protocol: Option<Protocol>,
    /// The servers, each once.
    pub servers: Vec<String>,
    /// How many there are.
    pub mailboxes: u64,
    /// Their messages.
    pub messages: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// The share that the protocol carries, 0 to 100.
    pub fidelity: Option<u8>,
}

/// One mailbox of the scope.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MailboxScope<'a> {
    /// Its address at the source.
    pub source: String,
    /// Its address at the destination.
    pub destination: String,
    /// The protocol that it is read by, and where; `None` when no login worked.
    pub server: Option<String>,
    /// Why it is read so, or why it cannot be read.
    pub why: &'a str,
    /// Its messages that are ordered.
    pub messages: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// The mail that the rules leave out of it, as far as its server tells.
    pub left_out: Amount,
}

/// One answer of the checklist.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer<'a> {
    /// The question.
    pub question: String,
    /// The domain that it was asked for.
    pub domain: Option<&'a str>,
    /// The answer as a person writes it.
    pub answer: String,
}

/// One question that is open.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Question<'a> {
    /// Its number in the checklist.
    pub number: u8,
    /// The subject of the number.
    pub title: &'a str,
    /// The question.
    pub question: String,
    /// The domains that it is asked for; none for the migration as a whole.
    pub domains: Vec<String>,
    /// How the answer differs from what was found; `None` when there is no answer.
    pub contradiction: Option<&'a str>,
}

/// The premises of a migration, whoever orders it.
const ASSUMPTIONS: [&str; 5] = [
    "The old servers can be reached, and the credentials named in the plan stay valid, until the customer has accepted the \
     result.",
    "The mailboxes at the destination exist, take logins, and have room for the mail that they are to hold.",
    "Users go on working while mail is copied. Mail that arrives or changes at the old servers until the cutover comes over by \
     further passes; what users change at the destination before the cutover is not brought back.",
    "Numbers and sizes are those that the old servers announced when they were asked. They grow until the cutover.",
    "Changes of DNS records, mail programs and telephones are the customer's part unless they are ordered apart.",
];

/// Kinds of data that no mailbox brings along.
const NOT_CARRIED: &str =
    "Calendars, contacts, tasks, rules, signatures, delegates and auto-replies. Only mail is carried.";

impl<'a> Statement<'a> {
    /// The statement of what a report knows.
    pub fn of(report: &'a Report) -> Self {
        let agreed = &report.agreed;
        let text = |field: &str| agreed.answer(field).map(shown);
        let items = || agreed.checklist.iter();
        // Whose mail it is, the days, and who signs have places of their own.
        let placed = |item: &Item| {
            ["customer", "dates", "deadlines", "acceptance"]
                .contains(&item.field.split('.').next().unwrap_or_default())
        };
        let ordered = ordered::of(report);
        let mut left_out = Amount::default();
        for row in &report.mailboxes {
            left_out.add(row.left_out);
        }
        let is_date = |item: &Item| item.field.starts_with("dates") || item.field == "deadlines";
        Self {
            name: &report.name,
            customer: report.customer.as_deref(),
            contact: text("customer.contact"),
            generated: report.generated,
            version: &report.version,
            plan_digest: report.plan_digest.as_deref(),
            destination: &report.destination,
            scope: scope(report, &ordered),
            pilot: agreed.pilot.as_ref().map(pilot),
            left_out,
            mailboxes: ordered.iter().map(MailboxScope::of).collect(),
            assumptions: assumptions(report),
            answers: items()
                .filter(|item| item.state == ItemState::Answered && !placed(item))
                .filter_map(Answer::of)
                .collect(),
            exclusions: exclusions(report, left_out),
            risks: &report.findings,
            estimate: Estimate::of(report),
            dates: items().filter(|i| is_date(i)).filter_map(Answer::of).collect(),
            verification: words::depth(agreed.verify),
            acceptance: text("acceptance"),
            open: open(&agreed.checklist),
        }
    }

    /// Questions whose answers do not hold.
    fn contradicted(&self) -> impl Iterator<Item = &Question<'a>> {
        self.open.iter().filter(|question| question.contradiction.is_some())
    }

    /// Questions that nobody answered, those of one number together.
    fn unanswered(&self) -> Vec<(&'a str, Vec<&Question<'a>>)> {
        let mut groups: Vec<(&str, Vec<&Question<'a>>)> = Vec::new();
        for question in self.open.iter().filter(|question| question.contradiction.is_none()) {
            match groups.last_mut().filter(|(title, _)| *title == question.title) {
                Some((_, questions)) => questions.push(question),
                None => groups.push((question.title, vec![question])),
            }
        }
        groups
    }
}

impl<'a> MailboxScope<'a> {
    fn of(ordered: &Ordered<'a>) -> Self {
        let Ordered { row, amount, is_part } = *ordered;
        let failure = row.failure.as_ref().filter(|_| row.endpoint.is_none());
        let why = if is_part { row.why.as_str() } else { "not part of the pilot" };
        Self {
            source: row.source.to_string(),
            destination: row.destination.to_string(),
            server: row.endpoint.as_ref().map(ToString::to_string),
            why: failure.map_or(why, |failure| &failure.sentence),
            messages: amount.messages,
            bytes: amount.bytes,
            left_out: row.left_out,
        }
    }
}

impl<'a> Answer<'a> {
    fn of(item: &'a Item) -> Option<Self> {
        let answer = shown(item.answer.as_ref()?);
        Some(Self { question: in_brief(&item.question), domain: item.domain.as_deref(), answer })
    }
}

impl Question<'_> {
    /// Its subject, and for whom it is.
    fn whose(&self) -> String {
        let domains = self.domains.iter().map(String::as_str);
        std::iter::once(self.title).chain(domains).collect::<Vec<_>>().join(", ")
    }

    /// The question, with the domains that it is asked for.
    fn asked(&self) -> String {
        if self.domains.is_empty() {
            return self.question.clone();
        }
        format!("{} ({})", self.question, words::some_of(&self.domains, 5))
    }
}

/// A question without what a manifest alone needs to know.
fn in_brief(question: &str) -> String {
    question.find(" At most ").map_or(question, |end| &question[..end]).to_owned()
}

/// Questions that are open. The same question about several domains is one.
fn open(items: &[Item]) -> Vec<Question<'_>> {
    let mut open: Vec<Question<'_>> = Vec::new();
    for item in items {
        let contradiction = match item.state {
            ItemState::Answered | ItemState::Discovered => continue,
            ItemState::Contradicted => item.contradiction.as_deref(),
            ItemState::Unknown => None,
        };
        let question = in_brief(&item.question);
        let same = |q: &&mut Question<'_>| q.question == question && q.contradiction.is_none();
        match open.iter_mut().find(same).filter(|_| contradiction.is_none()) {
            Some(asked) => asked.domains.extend(item.domain.clone()),
            None => open.push(Question {
                number: item.number,
                title: item.title,
                question,
                domains: item.domain.iter().cloned().collect(),
                contradiction,
            }),
        }
    }
    open
}

/// The meaning of a pilot, in plain words.
fn pilot(pilot: &PilotRow) -> String {
    let mailboxes = pilot.mailboxes.map_or("all mailboxes".to_owned(), |most| {
        let first = words::counted(most.into(), "mailbox", "mailboxes");
        format!("the first {first} of each domain that can be read")
    });
    let messages = pilot.messages_per_folder.map_or("every message".to_owned(), |most| {
        format!("the newest {} of each folder", words::counted(most.into(), "message", "messages"))
    });
    format!(
        "This is the order of a pilot: {messages}, of {mailboxes}. The rest is counted neither here nor in the time below."
    )
}

fn scope(report: &Report, ordered: &[Ordered<'_>]) -> Vec<ScopeRow> {
    let mut rows = Vec::new();
    for domain in &report.domains {
        let protocols = domain.protocols.iter().map(|share| (Some(share.protocol), Some(share.fidelity)));
        let unread = (domain.unreadable > 0).then_some((None, None));
        for (protocol, fidelity) in protocols.chain(unread) {
            let is_of = |one: &&Ordered<'_>| {
                one.is_part && one.row.domain == domain.name && one.row.protocol == protocol
            };
            let of = || ordered.iter().filter(is_of);
            if of().next().is_none() {
                continue;
            }
            let mut servers: Vec<String> =
                of().filter_map(|one| Some(one.row.endpoint.as_ref()?.address())).collect();
            servers.sort_unstable();
            servers.dedup();
            rows.push(ScopeRow {
                domain: domain.name.to_string(),
                protocol,
                servers,
                mailboxes: of().count() as u64,
                messages: of().map(|one| one.amount.messages).sum(),
                bytes: of().map(|one| one.amount.bytes).sum(),
                fidelity,
            });
        }
    }
    rows
}

fn assumptions(report: &Report) -> Vec<String> {
    let mut sentences: Vec<String> = ASSUMPTIONS.map(str::to_owned).into();
    let largest = report.totals().largest;
    // A run, or the destination itself, may have said otherwise since.
    let is_refuted =
        report.findings.iter().any(|finding| finding.code == Code::MessageOverLimit)
            || report.exceptions.quarantined.named.iter().any(|named| {
                named.message.code == Some(FailureCode::TooLarge) || named.message.size >= largest
            });
    if largest > 0 && !is_refuted {
        sentences.push(format!(
            "The destination takes messages of {}, the largest that was found.",
            words::bytes(largest)
        ));
    }
    let accepted = report.acknowledged.iter().map(|a| {
        let whose = a.domain.as_ref().map(|domain| format!(" for {domain}")).unwrap_or_default();
        format!("{}{whose} was accepted. {}", a.finding, a.words())
    });
    sentences.extend(accepted);
    sentences
}

fn exclusions(report: &Report, left_out: Amount) -> Vec<String> {
    let mut sentences = vec![NOT_CARRIED.to_owned()];
    for domain in &report.domains {
        for share in domain.protocols.iter().filter(|share| !share.losses.is_empty()) {
            sentences.push(format!(
                "{}, {} by {}: {}.",
                domain.name,
                words::counted(share.mailboxes, "mailbox read", "mailboxes read"),
                share.protocol,
                share.losses.join("; ")
            ));
        }
    }
    for domain in &report.domains {
        for kind in domain.left_behind() {
            sentences.push(format!("{}, {}.", domain.name, kind.losses.join("; ")));
        }
    }
    let unread = report.totals().unreadable;
    if unread > 0 {
        sentences.push(format!(
            "{} that no login worked for, until one does.",
            words::counted(unread, "mailbox", "mailboxes")
        ));
    }
    sentences.extend(report.exclusions.iter().cloned());
    if report.outdated {
        sentences.push(OUTDATED.to_owned());
    }
    if !left_out.is_none() {
        // Of folders that are left out whole nobody asks for sizes.
        let size = match left_out.bytes {
            0 => String::new(),
            known => format!(" ({} of those whose size is known)", words::bytes(known)),
        };
        let messages = words::counted(left_out.messages, "message is", "messages are");
        sentences.push(format!(
            "By these rules {messages} left out{size}, as far as the old servers tell; they are not counted above."
        ));
    }
    let is_dateless = |row: &&MailboxRow| row.protocol == Some(Protocol::Pop3);
    let dateless = report.mailboxes.iter().filter(is_dateless).count() as u64;
    if report.agreed.has_first_day && dateless > 0 {
        sentences.push(format!(
            "POP3 tells no dates: of {} all messages are counted above, and those that arrived too early are left out when \
             they are read.",
            words::counted(dateless, "mailbox", "mailboxes")
        ));
    }
    sentences
}

/// Writes the statement.
///
/// # Errors
/// When the format cannot hold it, or it cannot be written.
pub(super) fn write(report: &Report, format: Format, mut out: impl Write) -> Result<()> {
    let statement = Statement::of(report);
    match format {
        Format::Html => html::write(report, &statement, out),
        Format::Markdown => {
            let text = markdown::text(&statement);
            out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| unwritten(&e))
        }
        Format::Json => super::json::document(&statement, out),
        Format::Xlsx | Format::Csv => {
            Err(Failure::configuration("a statement of work is a text and no table")
                .hint("write it as html, md or json; `--kind migration` has the tables"))
        }
    }
}
