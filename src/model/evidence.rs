//! The view of discovery: signals with a grade, the servers that answered, the candidates that follow from them, and what
//! every mailbox really speaks.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::address::{Address, Domain};
use super::capability::Capabilities;
use super::endpoint::Endpoint;
use super::failure::Failure;
use super::fidelity::DomainFidelity;
use super::finding::Finding;
pub use super::grade::Grade;
use super::protocol::Protocol;
use super::service::{ServiceFacts, SessionFacts};

/// Where a piece of evidence comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Signal {
    /// `spec.domains[].servers` in the manifest.
    Manifest,
    /// `spec.domains[].overrides` in the manifest.
    Override,
    /// Where the mailboxes were read when the domain was looked at before; asked while a name server does not answer.
    Before,
    /// The domain's MX records.
    Mx,
    /// The domain's SPF record, which says who may send its mail.
    Spf,
    /// Service records, RFC 6186 and RFC 8314.
    Srv,
    /// Thunderbird's autoconfig document.
    Autoconfig,
    /// Facts of large providers, from the part of Thunderbird's ISPDB that comes with Mailferry, or as whoever takes the
    /// domain's mail in publishes them.
    ProviderFacts,
    /// Microsoft's Autodiscover.
    Autodiscover,
    /// A usual name, tried because nothing was published.
    UsualName,
    /// JMAP's well-known place, or a JMAP server's own words.
    Jmap,
    /// The well-known places of `CalDAV` and `CardDAV`, or such a server's own words.
    Dav,
    /// A `ManageSieve` server's own words.
    ManageSieve,
    /// The page or header that an Exchange server shows to somebody who is not logged in.
    Exchange,
    /// The page that a Zimbra server shows to somebody who is not logged in.
    Zimbra,
    /// The documents that Microsoft and Google publish about logins to a domain (`OpenID` configuration).
    Tenant,
    /// The names on a server's certificate.
    Certificate,
    /// An IMAP server's own words.
    Imap,
    /// A POP3 server's own words.
    Pop3,
    /// The files that hold the mail.
    Files,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manifest => "manifest",
            Self::Override => "override",
            Self::Before => "before",
            Self::Mx => "MX",
            Self::Spf => "SPF",
            Self::Srv => "SRV",
            Self::Autoconfig => "autoconfig",
            Self::ProviderFacts => "provider facts",
            Self::Autodiscover => "autodiscover",
            Self::UsualName => "usual name",
            Self::Jmap => "JMAP",
            Self::Dav => "DAV",
            Self::ManageSieve => "ManageSieve",
            Self::Exchange => "Exchange",
            Self::Zimbra => "Zimbra",
            Self::Tenant => "OpenID",
            Self::Certificate => "certificate",
            Self::Imap => "IMAP",
            Self::Pop3 => "POP3",
            Self::Files => "files",
        })
    }
}

/// The word of a piece of evidence about its subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The service is offered there.
    Offered,
    /// The service is said not to exist (SRV target `.`, no record).
    NotOffered,
    /// It could not be found out, and why.
    Failed(Failure),
}

/// One piece of evidence. Failures are evidence too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// Where it comes from.
    pub signal: Signal,
    /// How much it proves.
    pub grade: Grade,
    /// When it was seen.
    pub at: Timestamp,
    /// The endpoint it is about, if it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// Whether it was said over a channel that proves the domain's own voice (validated TLS to a host of the domain).
    pub trusted: bool,
    /// Its word.
    pub outcome: Outcome,
    /// One line that a person can read: `_imaps._tcp SRV → imap.contoso.example:993`.
    pub statement: String,
    /// The words it was taken from, made printable; at most 300 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
}

/// The longest excerpt kept with a piece of evidence, in bytes.
pub const EXCERPT_MAX: usize = 300;

/// The facts that the TLS handshake with a server showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsFacts {
    /// The protocol version, as in `TLS 1.3`.
    pub version: String,
    /// The names the certificate is for; at most 20.
    pub names: Vec<String>,
    /// Its issuer.
    pub issuer: String,
    /// When it ends.
    pub not_after: Timestamp,
}

/// The words of one server when it was asked without a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerFacts {
    /// Where it was asked.
    pub endpoint: Endpoint,
    /// Its greeting, made printable.
    pub greeting: String,
    /// The abilities that it claims after TLS.
    pub capabilities: Capabilities,
    /// SASL mechanisms offered after TLS, upper case, alphabetical.
    pub mechanisms: Vec<String>,
    /// The facts of TLS; `None` on a channel without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFacts>,
}

/// One way by which a domain's mail might be read, and why it won or lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Where.
    pub endpoint: Endpoint,
    /// The best grade that any evidence gives it.
    pub grade: Grade,
    /// Share of the data kinds present that this protocol carries, 0 to 100.
    pub fidelity: u8,
    /// Whether credentials may be sent there.
    pub approved: bool,
    /// How many mailboxes were chosen to be read this way.
    pub mailboxes: u32,
    /// One sentence: why it won, or why it lost.
    pub why: String,
}

/// A number of messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Amount {
    /// How many there are.
    pub messages: u64,
    /// The sum of their sizes in bytes, as far as these are known.
    pub bytes: u64,
}

impl Amount {
    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }

    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        self.messages == 0
    }
}

/// The part of a mailbox that is to be carried, as far as its protocol tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MailboxSize {
    /// Folders that can hold messages, without those that the manifest leaves out.
    pub folders: u32,
    /// Messages in these folders that no rule of the manifest leaves out.
    pub messages: u64,
    /// Sum of the sizes the server announces, in bytes.
    pub bytes: u64,
    /// The largest message, in bytes.
    pub largest: u64,
    /// The oldest arrival date; POP3 does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
    /// The newest arrival date; POP3 does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Timestamp>,
    /// How much the account may hold; POP3 does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// Messages that the manifest's rules leave out; of a folder that is left out whole they are counted where the server
    /// tells without being asked, and not their sizes.
    #[serde(default, skip_serializing_if = "Amount::is_none")]
    pub left_out: Amount,
    /// Folders that the manifest leaves out whole; they are not counted above, and their messages among those that are left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out_folders: u32,
    /// The part that a pilot carries, where one is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pilot: Option<Amount>,
    /// Folders of other users and shared ones that the mailbox sees; they are not counted above and not carried with it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub foreign: u32,
    /// The manifest's rules for folders that a folder of it falls under, as [`exclude_rule`] and [`folder_rule`] write them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub rules: BTreeSet<String>,
    /// Folders that could not be measured, and are not counted above; all of them, of which [`Self::unread`] names some.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unread_folders: u32,
    /// The first of them, at most [`UNREAD_MAX`], and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<Failure>,
}

/// How a pattern of `spec.mapping.exclude` is named in [`MailboxSize::rules`].
pub fn exclude_rule(pattern: &str) -> String {
    format!("exclude {pattern}")
}

/// How a rule of `spec.mapping.folders` is named in [`MailboxSize::rules`], by the folder that it renames.
pub fn folder_rule(from: &str) -> String {
    format!("folder {from}")
}

/// The most folders of a mailbox that are named because they could not be measured.
pub const UNREAD_MAX: usize = 10;

impl MailboxSize {
    /// Counts a folder that could not be measured; the failure names it.
    pub fn note_unread(&mut self, failure: Failure) {
        self.unread_folders += 1;
        if self.unread.len() < UNREAD_MAX {
            self.unread.push(failure);
        }
    }

    /// Adds one folder, or what was counted of one.
    pub fn add(&mut self, other: &Self) {
        self.folders += other.folders;
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.largest = self.largest.max(other.largest);
        self.oldest = self.oldest.into_iter().chain(other.oldest).min();
        self.newest = self.newest.max(other.newest);
        self.left_out.add(other.left_out);
        self.left_out_folders += other.left_out_folders;
        if let Some(pilot) = other.pilot {
            self.pilot.get_or_insert_default().add(pilot);
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// How much an account may hold (RFC 9208), in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Its content by the server's own count.
    pub used: u64,
    /// Its room.
    pub limit: u64,
}

/// One login that was tried, or not tried and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Where.
    pub endpoint: Endpoint,
    /// `None` when the login worked and data was listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Whether it was tried with a token in the place of a password.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_token: bool,
}

/// The names by which a mailbox is logged in to, as they are really sent. They hold no secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoginNames {
    /// At the source; `None` where no credentials for it were known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// At the destination; `None` where no credentials for it were known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
}

/// The authorities that are trusted beside the system's, each end's as a digest of the certificates themselves: what a
/// reference or a file names may hold others tomorrow, and lead to another server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authorities {
    /// At the source; `None` where the system's alone are trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// At the destination; `None` where the system's alone are trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
}

/// The protocol that one mailbox really speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MailboxDiscovery {
    /// The mailbox.
    pub address: Address,
    /// Where its mail will be read; `None` when no login worked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// Whether the choice was said by hand.
    pub overridden: bool,
    /// Every login that was tried, in order.
    pub attempts: Vec<Attempt>,
    /// The names that log in for it at both ends; `None` where that was not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logins: Option<LoginNames>,
    /// The name that it logs in with there, where a published one was taken in the place of the one that it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_name: Option<String>,
    /// Its content, when a login worked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<MailboxSize>,
    /// Why no login worked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl MailboxDiscovery {
    /// The protocol the mailbox will be read by.
    pub fn protocol(&self) -> Option<Protocol> {
        self.endpoint.as_ref().map(|e| e.protocol)
    }
}

/// The answers of the mailboxes at the destination when a domain was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DestinationSeen {
    /// Mailboxes that were to be asked.
    pub mailboxes: u64,
    /// Those that let us in.
    pub open: u64,
    /// Those whose login was refused, and those that were not asked since it would have been.
    pub refused: u64,
    /// The worst of what kept us out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Whether all that kept us out lasts until somebody mends it.
    pub lasts: bool,
}

impl DestinationSeen {
    /// Why nobody's mail can be written there, where that is so and does not pass by itself.
    pub fn unusable(&self) -> Option<&Failure> {
        self.failure.as_ref().filter(|_| self.open == 0 && self.lasts)
    }
}

/// All that discovery learned about one domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DomainDiscovery {
    /// The domain.
    pub domain: Domain,
    /// When the first question was asked.
    pub started: Timestamp,
    /// When the last answer was in.
    pub finished: Timestamp,
    /// Everything seen, in the order it was seen; at most 1,000.
    pub evidence: Vec<Evidence>,
    /// The servers that answered.
    pub servers: Vec<ServerFacts>,
    /// Services beside IMAP and POP3, the best grade first; at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceFacts>,
    /// The words of the servers after a login, one for each server that a mailbox was read from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<SessionFacts>,
    /// How mail and other kinds of data fare, once a mailbox could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fidelity: Option<DomainFidelity>,
    /// The ranked candidates, best first.
    pub candidates: Vec<Candidate>,
    /// Each mailbox, in the order of the manifest.
    pub mailboxes: Vec<MailboxDiscovery>,
    /// The words of the destination; `None` where it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<DestinationSeen>,
    /// The authorities that were trusted beside the system's; `None` where that was not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<Authorities>,
    /// The manifest's rules for folders that were asked about, as [`MailboxSize::rules`] names them: a rule that came later
    /// may well fit a folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// Findings that a person should know.
    pub findings: Vec<Finding>,
    /// Why nothing could be found out at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl DomainDiscovery {
    /// The servers that mailboxes are read from, each once.
    pub fn read_from(&self) -> Vec<Endpoint> {
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for endpoint in self.mailboxes.iter().filter_map(|mailbox| mailbox.endpoint.as_ref()) {
            if !endpoints.contains(endpoint) {
                endpoints.push(endpoint.clone());
            }
        }
        endpoints
    }

    /// A domain of which nothing was learned between two moments.
    pub fn empty(domain: Domain, started: Timestamp, finished: Timestamp) -> Self {
        Self {
            domain,
            started,
            finished,
            evidence: Vec::new(),
            servers: Vec::new(),
            services: Vec::new(),
            sessions: Vec::new(),
            fidelity: None,
            candidates: Vec::new(),
            mailboxes: Vec::new(),
            destination: None,
            authorities: None,
            rules: Vec::new(),
            findings: Vec::new(),
            failure: None,
        }
    }
}
