//! The closed list of findings: what an experienced colleague would have said on the telephone. Each code has a
//! severity, one sentence of meaning, one of remedy, and says which stage it holds until it is gone or acknowledged.

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::count;

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

/// The thing that one finding of a code is about. Its numbers are those of this one thing, never those of all that are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// A mailbox: what is found in two of them is found twice, whatever it says.
    Mailbox,
    /// A folder of a mailbox, likewise.
    Folder,
    /// One thing (a server, a domain, an alias, a rule) that is the same however often it is told in the same words.
    One,
}

macro_rules! codes {
    ($($(#[doc = $meaning:literal])+ $code:ident: $severity:ident, $hold:ident, $about:ident, $remedy:literal;)+) => {
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

            /// The thing that one finding of it is about, and that its numbers count.
            pub fn about(self) -> About {
                match self { $(Self::$code => About::$about),+ }
            }

            /// Its meaning, in one sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$code => concat!($($meaning),+).trim_ascii()),+ }
            }

            /// Its remedy, in one sentence.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$code => $remedy),+ }
            }
        }
    };
}

codes! {
    /// No server of this domain was found by any signal.
    NoServerFound: Critical, Sync, One, "Name the server in spec.domains[].servers.";
    /// The domain's servers were found and none of them could be talked to.
    ServerUnreachable: Critical, Sync, One, "Open the port, or name another server in spec.domains[].servers.";
    /// The server's certificate was refused, so no password was sent.
    CertificateRejected: Critical, Sync, One, "Have the certificate mended, name the host that is on it, or give its authority in caRef.";
    /// A port speaks TLS from the first byte where that is not wanted, or in the clear at first where it is. No password was sent.
    ChannelSecuredOtherwise: Critical, Sync, One, "Write the value of tls, or the port, that the message names.";
    /// A port speaks another protocol than the one that it was named for. No password was sent.
    OtherProtocolSpoken: Critical, Sync, One, "Write the protocol, or the port, that the message names.";
    /// A server's address is loopback, private or link-local, and the policy does not allow it.
    AddressNotAllowed: Critical, Sync, One, "If the address is right, list its network in spec.policy.allowedNetworks; if an authority of your own signed the server's certificate, give that in caRef or --ca at once.";
    /// A published server is outside the domain, so no password was sent to it.
    HostNeedsApproval: Critical, Sync, One, "If the host is right, name it in spec.domains[].servers.";
    /// The Secret with the domain's credentials, or a key of it, is missing.
    CredentialsMissing: Critical, Sync, Mailbox, "Create the Secret with the keys that the documentation lists.";
    /// A server refused the password or the token of a mailbox: the source on every protocol it offers, or the destination the one that
    /// opens all mailboxes.
    CredentialsRejected: Critical, Sync, Mailbox, "Correct the Secret, which is tried again when it changes; where a token was refused, the failure names the step at the provider.";
    /// A listed mailbox is unknown to the server.
    MailboxUnknown: Critical, Sync, Mailbox, "Correct the address, or take it out of the list.";
    /// The list of mailboxes is neither in the manifest nor in the credentials.
    MailboxListMissing: Critical, Sync, One, "Give spec.domains[].mailboxes.list, or mailboxes.csv in the Secret.";
    /// The list of mailboxes has rows that cannot stand, so none of it is carried.
    ListRefused: Critical, Sync, One, "Correct the lines that it names; `mailferry validate` tells them all without a network.";
    /// Some mailboxes speak POP3 only: what their mail programs hold is on no server.
    PopMailboxesPresent: Critical, Cutover, One, "Collect the mail that the programs hold, or acknowledge the loss.";
    /// The destination mailbox is full.
    DestinationFull: Critical, Cutover, Mailbox, "Raise the quota; the next attempt goes on where this one stopped.";
    /// Nothing can be written at the destination: it cannot be reached, is secured otherwise than was written, or lets nobody in.
    DestinationUnusable: Critical, Sync, One, "Mend what the message names; the next plan asks again, and nothing is carried until then.";
    /// A mailbox at the destination is not there, or does not let us in.
    DestinationMailboxClosed: Critical, Sync, Mailbox, "Do what each message names; where that is a line for Exchange Online PowerShell, it may take up to an hour until it holds.";
    /// Some messages could not be carried.
    MessagesQuarantined: Critical, Cutover, Mailbox, "See the report's list of what did not arrive, and acknowledge what is agreed.";
    /// A verification did not find messages at the destination that had arrived there.
    ArrivalsMissing: Critical, Cutover, Mailbox, "Send them again with `mailferry verify -f … --state … --repair`, or acknowledge it if users removed them.";
    /// A verification found messages at the destination with other bytes than the source has.
    ArrivalsChanged: Critical, Cutover, Mailbox, "Compare them with the originals at the source; acknowledge it, or remove the copies at the destination and send them again with `mailferry verify -f … --state … --repair`.";
    /// The checklist says that a domain does not speak a protocol that some of its mailboxes are read by.
    ProtocolContradicted: Critical, Cutover, One, "Clear it up with the customer, then correct spec.checklist.domains[].protocols.";
    /// The checklist names another host than the one that the mail is on.
    HostContradicted: Warning, Nothing, One, "Make sure that it is the right server, then correct spec.checklist.domains[].mailHost.";
    /// The checklist's sample address of a domain is none of the mailboxes that are migrated.
    SampleAddressUnknown: Warning, Nothing, One, "Add the mailbox to the list, or correct spec.checklist.domains[].sampleAddress.";
    /// The checklist counts another number of mailboxes than the plan has.
    MailboxCountContradicted: Warning, Nothing, One, "Find out who is missing or too many, then correct the list or spec.checklist.mailboxes.";
    /// There is more at the source than the checklist says.
    SizeContradicted: Warning, Nothing, One, "Agree on time and price anew, then correct spec.checklist.sizes.";
    /// A mailbox of Microsoft 365 was to be opened with a password, which Exchange Online takes no more.
    BasicAuthenticationRemoved: Critical, Sync, Mailbox, "Let an application of the tenant open the mailboxes: docs/providers.md has the steps.";
    /// A mailbox of Google was to be opened with its ordinary password.
    AppPasswordNeeded: Critical, Sync, Mailbox, "Let a service account read the mailboxes (docs/providers.md has the steps), or make an app password in each account.";
    /// There are mail files on users' machines that no server has.
    ClientStoresPresent: Critical, Cutover, One, "Collect the files and upload them, or acknowledge the loss.";
    /// Mail programs remove mail from the POP3 server, so that only they hold what is older.
    PopRemovesMail: Critical, Cutover, One, "Have the programs leave mail on the server from now on, collect what they hold, or acknowledge the loss.";
    /// The destination cannot take the mail of everybody yet.
    DestinationNotReady: Critical, Cutover, One, "Make the mailboxes, verify the domains, buy the licences; then correct spec.checklist.destination.";
    /// A day by which something had to be done is over.
    DeadlinePassed: Critical, Cutover, One, "Agree on a new day with the customer and correct spec.checklist.";
    /// Several protocols are spoken inside one domain.
    MixedProtocols: Warning, Nothing, One, "Review the protocol of each mailbox in the report with the customer.";
    /// A POP3 server does not give its messages lasting names (UIDL).
    UidlMissing: Critical, Sync, One, "Read the mailbox by IMAP, or ask the provider for UIDL.";
    /// A server that the manifest names cannot be talked to, and another one is used.
    NamedServerUnused: Warning, Nothing, One, "Mend or remove its entry in spec.domains[].servers, and look whether the server that is used holds the same mail.";
    /// A channel is not encrypted: passwords and mail pass in the clear.
    PlaintextTransport: Warning, Nothing, One, "Use TLS, or keep to networks that you trust.";
    /// A server's certificate ends within thirty days.
    CertificateExpires: Warning, Nothing, One, "Have it renewed before the migration ends.";
    /// Nothing is published, and usual names lead to several mail servers.
    SeveralServersAnswer: Warning, Nothing, One, "Find out which of them holds the mail, and name it in spec.domains[].servers.";
    /// A name server gave no answer, so what the domain publishes is not known.
    NamesUnanswered: Warning, Nothing, One, "Look again later, or ask another name server with --resolver; what was read from before is kept meanwhile.";
    /// Published signals name different servers for the same protocol.
    ConflictingConfiguration: Warning, Nothing, One, "Check which server holds the mail; the report shows what each signal said.";
    /// A published server's name looks like the domain's own and is another one.
    LookAlikeHost: Warning, Nothing, One, "Compare the names letter by letter, and tell whoever looks after the domain's DNS.";
    /// A published place redirects to a loopback, private or link-local address, which was not followed.
    RedirectInside: Warning, Nothing, One, "Have the redirect taken away, or list the network in spec.policy.allowedNetworks if it is right.";
    /// A password was refused twice within a day, so it is not tried again.
    LoginAttemptsSpent: Warning, Nothing, Mailbox, "Change the Secret, or wait a day; if the server was mended and the password is right, `mailferry run -f … --state … --retry-logins` tries it once more.";
    /// The server does not let folders of a mailbox be opened or listed, so that their mail stays behind; the others are carried.
    FoldersUnreadable: Critical, Cutover, Mailbox, "Have the server's operator mend them, leave them out with spec.mapping.exclude, or acknowledge it.";
    /// The server leaves folders of a mailbox out of its list. They were opened by their names and carried.
    FoldersUnlisted: Warning, Nothing, Mailbox, "Nothing: they are carried. A folder that was never seen would be missed, so compare the names with a mail program's.";
    /// Files of a mailbox are not mail that is carried: links, other files, messages that are cut off or that only a server has.
    FilesPassedOver: Warning, Nothing, Mailbox, "Look at the files that it names: mend or move what should be carried, and leave the others.";
    /// The destination cannot hold a folder's name, so the folder got another.
    FolderRenamed: Warning, Nothing, Folder, "Choose a name in spec.mapping.folders if the new one does not please.";
    /// A user renamed or removed a folder at the destination that had been carried.
    FolderGoneAtDestination: Warning, Nothing, Folder, "Nothing if it was on purpose: what was carried is not sent again, and new mail follows a renamed folder or makes a removed one anew; `mailferry verify -f … --state … --repair` sends what is missing.";
    /// The destination does not keep some keywords.
    KeywordsNotKept: Warning, Nothing, One, "Nothing; the report lists them.";
    /// Messages ask for a read receipt, and the destination may still send one when they are opened.
    ReadReceiptsAsked: Warning, Nothing, Mailbox, "Have the tenant's users send none (Set-MailboxMessageConfiguration -ReadReceiptResponse NeverSend), or tell them before they open old mail.";
    /// The source handed out less of some messages than it lists.
    MessagesCutShort: Critical, Cutover, Mailbox, "Look at them at the source: a part may be lost there; acknowledge what is agreed.";
    /// The destination took some messages whole and keeps only a part of them.
    MessagesTruncated: Critical, Cutover, Mailbox, "Have the server's operator find the limit or filter that cuts them; the report names them, and the originals are at the source. Acknowledge what is agreed.";
    /// The destination changed some messages while storing them.
    MessagesAltered: Warning, Nothing, Mailbox, "See the reasons in the report; the originals are at the source.";
    /// The ledger in which the carried messages of a mailbox were written down is not there any more.
    LedgerLost: Warning, Nothing, Mailbox, "Bring the ledger back from a copy, or run again: what is at the destination is recognised by its content and not sent again.";
    /// The destination stored some messages a second time, late, and they could not be removed, or not safely.
    LateCopies: Warning, Nothing, Mailbox, "Remove the copies that the finding names in a mail program, unless another mailbox may own them, or leave them; nothing is missing.";
    /// Two destination addresses of the migration are one mailbox.
    DestinationAlias: Warning, Nothing, One, "Give both mailboxes the same destination address if they belong together; else have the alias taken away at the destination, or correct the address in the list.";
    /// An authorization server replaced a refresh token, and nothing here may keep the new one beyond the process.
    RefreshTokenReplaced: Warning, Nothing, One, "Use an application or a service account, or put a fresh refresh token into the Secret when a login is refused.";
    /// Messages of an earlier run are no longer at the destination.
    ArrivalsRemoved: Warning, Nothing, Mailbox, "Nothing if users removed them; `mailferry verify -f … --state … --repair` sends them again.";
    /// A verification found messages at the destination with other flags or dates than at the source, or folders gone. Verified and
    /// `CutoverSafe` wait until it is mended or acknowledged.
    ArrivalsDiffer: Warning, Nothing, Mailbox, "Nothing if users changed them: acknowledge it, or mend them at the destination and verify again.";
    /// A day by which something must be done is within thirty days.
    DeadlineNear: Warning, Nothing, One, "Make sure that it can be kept.";
    /// The mail that is to be carried takes longer than there is time before the cutover.
    TimeTooShort: Warning, Nothing, One, "Begin earlier, move the cutover, or raise spec.policy.limits and the line's bandwidth.";
    /// Exchange Web Services in Exchange Online end on 1 April 2027; servers of one's own are not concerned.
    EwsEnds: Warning, Nothing, One, "Finish what needs EWS before that day, and plan nothing new on it.";
    /// Exchange Online stops taking passwords from programs that send, by default after December 2026.
    SendingPasswordsEnd: Warning, Nothing, One, "Give scanners and programs that send another way: OAuth, a connector, or a relay.";
    /// New mail goes to another service than the one that the mailboxes are read from.
    DualHomed: Warning, Nothing, One, "Find out which mail is where; give the other service as a domain's server or as a migration of its own.";
    /// Gmail hands out no more than 2,500 MB of a mailbox in a day.
    DailyLimit: Warning, Nothing, Mailbox, "Begin so many days earlier.";
    /// Gmail shows a message in the folder of each of its labels, and by the manifest it arrives once in each of them.
    LabelsBecomeCopies: Warning, Nothing, One, "Set spec.mapping.labels to Home or Keywords if one copy is enough, or tell the users.";
    /// Messages stand in the folder of each of their labels, and labels beyond the first are not carried.
    LabelsNotCarried: Warning, Nothing, Mailbox, "Set spec.mapping.labels to Keywords or Copies if they matter, and exclude no folder that does.";
    /// Gmail does not show All Mail by IMAP, so that nobody sees archived messages without a label.
    AllMailHidden: Warning, Nothing, Mailbox, "Show All Mail in IMAP: Gmail's settings, Labels.";
    /// Mailboxes at the destination could not be asked whether they take the mail.
    DestinationUnasked: Warning, Nothing, One, "See to the credentials, the server, the network or the pause that it names; the next plan asks again.";
    /// A mailbox at the destination has less room than the source holds.
    DestinationRoomShort: Warning, Nothing, Mailbox, "Raise the quota, which may take another licence, or begin with the others.";
    /// A mailbox is larger than 50 GB.
    MailboxLarge: Warning, Nothing, Mailbox, "Make sure that the destination takes it, and begin with it.";
    /// A mailbox holds more than 500,000 messages.
    TooManyMessages: Warning, Nothing, Mailbox, "Make sure that the destination takes so many, and begin with it.";
    /// The destination is of a make that replaces letters beyond ASCII in the headers of messages that hold them as they are.
    HeadersLoseLetters: Warning, Nothing, One, "Have the server keep them before mail is carried (at Cyrus: munge8bit: no in imapd.conf), or leave it: the report names each such message, and the originals are at the source.";
    /// A message is larger than the destination takes.
    MessageOverLimit: Warning, Nothing, Mailbox, "Raise the limit at the destination, or agree that such messages stay behind.";
    /// An override decides about no mailbox.
    OverrideUnused: Warning, Nothing, One, "Correct its match, or take it out; an earlier override may win over it.";
    /// An override has a mailbox read by POP3 although there is an IMAP server.
    OverrideLosesData: Warning, Nothing, Mailbox, "Take the override out, or write its reason for the report.";
    /// Logins want a second factor, which a migration cannot give.
    MultiFactorLogins: Warning, Nothing, One, "Use app passwords or a master user, or exempt the migration's logins.";
    /// A server lets listed addresses in alone.
    AddressAllowList: Warning, Nothing, One, "Have the address that the migration comes from listed.";
    /// Rows of a list are about no mailbox of this migration, or repeat others.
    RowsLeftOut: Warning, Nothing, One, "Correct the rows that the finding names, add their domain, or leave them if it is on purpose.";
    /// A rule of the manifest matches nothing.
    RuleMatchesNothing: Warning, Nothing, One, "Correct its spelling, or take it out.";
    /// Several mailboxes arrive in one.
    AddressesMerged: Warning, Nothing, One, "Make sure that it is wanted; folders of the same name are joined.";
    /// Another MailMigration of the namespace carries some of the same mailboxes to the same place.
    CarriedByAnother: Warning, Nothing, One, "Take the mailboxes out of one of the two: what one sends, the other recognises, but while both send a message may arrive twice.";
    /// There is data beside mail, which is not carried.
    OtherDataNotCarried: Warning, Nothing, One, "Export it by other means, and say so in the order.";
    /// There are archive mailboxes or public folders, which the protocols do not show.
    SpecialMailboxesNotCarried: Warning, Nothing, One, "Export them by other means, and say so in the order.";
    /// Mailboxes must be kept unchanged for the law.
    LegalHold: Warning, Nothing, One, "Keep them at the source until the hold ends; copying alone does not move a hold.";
    /// Policies remove or archive mail while it moves.
    RetentionRuns: Warning, Nothing, One, "Pause them, then set spec.checklist.retention.paused; else messages seem to be missing.";
    /// A copy of each message goes to a journal.
    JournalingRuns: Warning, Nothing, One, "Pause it at the destination while mail is copied in, and move it at the cutover.";
    /// Machines and programs send by the old server.
    OldServerSenders: Warning, Nothing, One, "Change each of them before the old server goes.";
    /// A service record says that a protocol is not offered.
    ProtocolNotOffered: Advisory, Nothing, One, "Nothing; the protocol was not tried.";
    /// The domain offers services for calendars, contacts or rules, which are not carried.
    OtherServicesOffered: Advisory, Nothing, One, "Ask what is in use there, and export it by other means.";
    /// A mailbox sees folders of other users or shared ones, which are not carried with it.
    SharedFoldersSeen: Advisory, Nothing, Mailbox, "Make sure that each of them is in a mailbox of the list.";
    /// Mail comes in by a filter, so the MX record says nothing about where it is stored.
    GatewayInFront: Advisory, Nothing, One, "Change the filter's target at the cutover, and not the MX record.";
    /// The domain's MX record says that it takes no mail.
    DomainTakesNoMail: Advisory, Nothing, One, "Nothing, if only old mail is to be moved.";
    /// A server does not tell what changed, so each pass reads all flags.
    NoChangeTracking: Advisory, Nothing, One, "Nothing; later passes take longer.";
    /// A POP3 server gave messages other unique ids than before, or several the same; they are recognised by their content.
    UniqueIdsChange: Advisory, Nothing, Mailbox, "Nothing; later passes read such messages again. IMAP has lasting names, where the server offers it.";
    /// Messages of a POP3 server were read by RETR, after which some servers count them as read.
    ReadAtSource: Advisory, Nothing, Mailbox, "Nothing; IMAP leaves no mark, where the server offers it.";
    /// A server shows each label as a folder, and by the manifest a message is carried into one of them.
    LabelsAreFolders: Advisory, Nothing, One, "Nothing; docs/providers.md has the rule by which each message finds its folder.";
    /// Messages stand in several folders at the source, and each is carried once.
    CarriedOnce: Advisory, Nothing, Mailbox, "Nothing; docs/providers.md has the rule by which each message finds its folder.";
    /// Messages are marked as deleted at the source and not removed yet; they are carried without the mark.
    MarkedForRemoval: Advisory, Nothing, Mailbox, "Nothing; have them removed at the source before they are carried if nobody wants them.";
    /// A mailbox holds nothing.
    MailboxEmpty: Advisory, Nothing, Mailbox, "Make sure that it is the right mailbox and the right server.";
    /// Mailboxes at the destination hold mail already, which stays.
    DestinationHoldsMail: Advisory, Nothing, One, "Nothing; what is there is recognised and not doubled.";
    /// Arrivals are checked by their size alone.
    VerifiedBySizeOnly: Advisory, Nothing, One, "Set spec.policy.verify to Sampled or Full, or run `mailferry verify --depth Full` at the end.";
    /// Rules of the manifest leave messages out.
    RulesLeaveMailOut: Advisory, Nothing, One, "Make sure that it is agreed; the report says by which rules.";
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
    /// The kind of finding.
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

/// Sentences about different things that are given one after the other.
const TOGETHER: usize = 3;

/// Sums up several findings of one code, each given with how many there are of it, and counts the things that were found.
/// Of different things, such as servers, the first few sentences are given, because each has its own remedy. Of mailboxes
/// and folders it is the first one, and beside it, so that its numbers are not taken for those of all, how many there are.
pub fn tell_together<'a>(code: Code, said: impl IntoIterator<Item = (&'a str, u64)>) -> (String, u64) {
    let is_of_one = code.about() == About::One;
    let (mut all, mut distinct) = (0, BTreeSet::new());
    for (message, times) in said {
        let is_new = distinct.insert(message);
        all += if is_of_one { u64::from(is_new) } else { times };
    }
    // In an order of their own, so that every output gives the same ones.
    let given: Vec<&str> = distinct.iter().copied().take(if is_of_one { TOGETHER } else { 1 }).collect();
    let beside = match (distinct.len(), code.about()) {
        (different, _) if different > given.len() && given.len() > 1 => {
            format!(" ({} of {} such findings)", given.len(), count(all))
        }
        (different, _) if different > given.len() => format!(" (one of {} such findings)", count(all)),
        (_, About::Mailbox) if all > 1 => format!(" (in each of {} mailboxes)", count(all)),
        (_, About::Folder) if all > 1 => format!(" (of each of {} folders)", count(all)),
        _ => String::new(),
    };
    (format!("{}{beside}", given.join(" ")), all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sentences_about_several_mailboxes_are_not_read_as_one_number() {
        let both = |code, said: &[(&'static str, u64)]| tell_together(code, said.iter().copied());
        let lost = "3 messages could not be carried.";
        assert_eq!(both(Code::MessagesQuarantined, &[(lost, 1)]), (lost.to_owned(), 1));
        assert_eq!(
            both(Code::MessagesQuarantined, &[(lost, 1), (lost, 1)]),
            (format!("{lost} (in each of 2 mailboxes)"), 2)
        );
        assert_eq!(
            both(Code::MessagesQuarantined, &[(lost, 2), ("5 messages could not be carried.", 1)]),
            (format!("{lost} (one of 3 such findings)"), 3)
        );
        let ends = "The certificate of a.test ends on 2027-01-01.";
        assert_eq!(both(Code::CertificateExpires, &[(ends, 7), (ends, 1)]), (ends.to_owned(), 1));
        let other = "The certificate of b.test ends.";
        assert_eq!(both(Code::CertificateExpires, &[(ends, 7), (other, 1)]), (format!("{ends} {other}"), 2));
        assert_eq!(
            both(Code::CertificateExpires, &[(ends, 1), (other, 1), ("C.", 1), ("D.", 1), ("C.", 1)]),
            (format!("C. D. {ends} (3 of 4 such findings)"), 4)
        );
    }

    #[test]
    fn every_code_speaks_in_whole_sentences_and_only_critical_ones_hold() {
        for code in Code::ALL {
            assert!(code.meaning().ends_with('.') && code.remedy().ends_with('.'), "{code}");
            assert_eq!(code.holds() != Hold::Nothing, code.severity() == Severity::Critical, "{code}");
        }
    }
}
