//! The closed list of findings: what an experienced colleague would have said on the telephone. Each code has a
//! severity, one sentence of meaning, one of remedy, and says which stage it holds until it is gone or acknowledged.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Severity {
    /// Something would be lost or cannot work; it holds a stage.
    Critical,
    /// Something to look at before the order.
    Warning,
    /// Good to know.
    Advisory,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The stages that a finding can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Holds nothing.
    Nothing,
    /// The mailboxes it is about are not synchronised.
    Sync,
    /// Synchronising goes on; the cutover is held.
    Cutover,
}

macro_rules! codes {
    ($($(#[doc = $meaning:literal])+ $code:ident: $severity:ident, $hold:ident, $remedy:literal;)+) => {
        /// A finding's code. The doc comment of each is its meaning as users read it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum Code { $($(#[doc = $meaning])+ $code,)+ }

        impl Code {
            /// Every code, the most serious first.
            pub const ALL: &[Self] = &[$(Self::$code),+];

            /// How serious it is.
            pub fn severity(self) -> Severity {
                match self { $(Self::$code => Severity::$severity),+ }
            }

            /// The stage that it holds until it is gone or acknowledged.
            pub fn holds(self) -> Hold {
                match self { $(Self::$code => Hold::$hold),+ }
            }

            /// What it means, in one sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$code => concat!($($meaning),+).trim_ascii()),+ }
            }

            /// What to do about it, in one sentence.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$code => $remedy),+ }
            }
        }
    };
}

codes! {
    /// No server of this domain was found by any signal.
    NoServerFound: Critical, Sync, "Name the server in spec.domains[].servers.";
    /// The domain's servers were found and none of them could be talked to.
    ServerUnreachable: Critical, Sync, "Open the port, or name another server in spec.domains[].servers.";
    /// The server's certificate was refused, so no password was sent.
    CertificateRejected: Critical, Sync, "Have the certificate mended, name the host that is on it, or give its authority in caRef.";
    /// A server's address is loopback, private or link-local, and the policy does not allow it.
    AddressNotAllowed: Critical, Sync, "If the address is right, list its network in spec.policy.allowedNetworks.";
    /// A published server is outside the domain, so no password was sent to it.
    HostNeedsApproval: Critical, Sync, "If the host is right, name it in spec.domains[].servers.";
    /// The Secret with the domain's credentials, or a key of it, is missing.
    CredentialsMissing: Critical, Sync, "Create the Secret with the keys that the documentation lists.";
    /// The server refused the password of a mailbox on every protocol it offers.
    CredentialsRejected: Critical, Sync, "Correct the password in the Secret; it is tried again when the Secret changes.";
    /// A listed mailbox is unknown to the server.
    MailboxUnknown: Critical, Sync, "Correct the address, or take it out of the list.";
    /// The list of mailboxes is neither in the manifest nor in the credentials.
    MailboxListMissing: Critical, Sync, "Give spec.domains[].mailboxes.list, or mailboxes.csv in the Secret.";
    /// Some mailboxes speak POP3 only: what their mail programs hold is on no server.
    PopMailboxesPresent: Critical, Cutover, "Collect the mail that the programs hold, or acknowledge the loss.";
    /// The destination mailbox is full.
    DestinationFull: Critical, Cutover, "Raise the quota; the mailbox goes on by itself.";
    /// Some messages could not be carried.
    MessagesQuarantined: Critical, Cutover, "See the report's list of what did not arrive, and acknowledge what is agreed.";
    /// The checklist says that a domain does not speak a protocol that some of its mailboxes are read by.
    ProtocolContradicted: Critical, Cutover, "Clear it up with the customer, then correct spec.checklist.domains[].protocols.";
    /// The checklist names another host than the one that the mail is on.
    HostContradicted: Warning, Nothing, "Make sure that it is the right server, then correct spec.checklist.domains[].mailHost.";
    /// The checklist's sample address of a domain is none of the mailboxes that are migrated.
    SampleAddressUnknown: Warning, Nothing, "Add the mailbox to the list, or correct spec.checklist.domains[].sampleAddress.";
    /// The checklist counts another number of mailboxes than the plan has.
    MailboxCountContradicted: Warning, Nothing, "Find out who is missing or too many, then correct the list or spec.checklist.mailboxes.";
    /// There is more at the source than the checklist says.
    SizeContradicted: Warning, Nothing, "Agree on time and price anew, then correct spec.checklist.sizes.";
    /// Several protocols are spoken inside one domain.
    MixedProtocols: Warning, Nothing, "Review the protocol of each mailbox in the report with the customer.";
    /// A POP3 server does not give its messages lasting names (UIDL).
    UidlMissing: Critical, Sync, "Read the mailbox by IMAP, or ask the provider for UIDL.";
    /// A channel is not encrypted: passwords and mail pass in the clear.
    PlaintextTransport: Warning, Nothing, "Use TLS, or keep to networks that you trust.";
    /// A server's certificate ends within thirty days.
    CertificateExpires: Warning, Nothing, "Have it renewed before the migration ends.";
    /// Published signals name different servers for the same protocol.
    ConflictingConfiguration: Warning, Nothing, "Check which server holds the mail; the report shows what each signal said.";
    /// A password was refused twice within a day, so it is not tried again.
    LoginAttemptsSpent: Warning, Nothing, "Change the Secret, or wait a day.";
    /// The destination cannot hold a folder's name, so the folder got another.
    FolderRenamed: Warning, Nothing, "Choose a name in spec.mapping.folders if the new one does not please.";
    /// The destination does not keep some keywords.
    KeywordsNotKept: Warning, Nothing, "Nothing; the report lists them.";
    /// The destination changed some messages while storing them.
    MessagesAltered: Warning, Nothing, "See the reasons in the report; the originals are at the source.";
    /// Messages of an earlier run are no longer at the destination.
    ArrivalsRemoved: Warning, Nothing, "Nothing if users removed them; `mailferry verify --repair` sends them again.";
    /// A service record says that a protocol is not offered.
    ProtocolNotOffered: Advisory, Nothing, "Nothing; the protocol was not tried.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One finding about one subject.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What was found.
    pub code: Code,
    /// The mailbox, server or folder it is about; `None` when it is the whole domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// One sentence with the facts.
    pub message: String,
}

impl Finding {
    /// A finding about one subject of a domain.
    pub fn about(code: Code, subject: impl fmt::Display, message: impl Into<String>) -> Self {
        Self { code, subject: Some(subject.to_string()), message: message.into() }
    }

    /// A finding about a domain as a whole.
    pub fn of_domain(code: Code, message: impl Into<String>) -> Self {
        Self { code, subject: None, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_speaks_in_whole_sentences_and_only_critical_ones_hold() {
        for code in Code::ALL {
            assert!(code.meaning().ends_with('.') && code.remedy().ends_with('.'), "{code}");
            assert_eq!(code.holds() != Hold::Nothing, code.severity() == Severity::Critical, "{code}");
        }
    }
}
