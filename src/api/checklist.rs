//! The checklist before the order, as typed answers: what an experienced consultant asks before the first message moves.
//! Nothing needs to be answered; what is answered is held against what discovery finds, and a contradiction is a finding.

use jiff::civil::Date;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::protocol::Protocol;

/// The numbers of the checklist and the fields that answer them, in the order in which they are asked. Fields that begin
/// with `domains.` are asked for each domain.
pub const FIELDS: &[(u8, &str)] = &[
    (1, "customer.name"),
    (1, "customer.contact"),
    (1, "customer.alternateContact"),
    (2, "mailboxes"),
    (3, "domains.sampleAddress"),
    (4, "domains.aliases"),
    (4, "domains.dnsHost"),
    (4, "domains.dnsEditor"),
    (5, "domains.protocols"),
    (5, "domains.mailHost"),
    (5, "domains.exceptions"),
    (6, "domains.credentials"),
    (6, "domains.multiFactor"),
    (6, "domains.addressAllowList"),
    (7, "specialMailboxes.shared"),
    (7, "specialMailboxes.rooms"),
    (7, "specialMailboxes.inactive"),
    (7, "specialMailboxes.legalHold"),
    (7, "specialMailboxes.publicFolders"),
    (7, "specialMailboxes.groups"),
    (8, "sizes.totalGigabytes"),
    (8, "sizes.largestMailboxGigabytes"),
    (8, "sizes.largestMessageMegabytes"),
    (8, "sizes.archives"),
    (9, "clientStores.count"),
    (9, "clientStores.gigabytes"),
    (9, "clientStores.location"),
    (10, "devices.classicOutlook"),
    (10, "devices.newOutlook"),
    (10, "devices.mac"),
    (10, "devices.mobile"),
    (10, "devices.remoteDesktop"),
    (10, "devices.popLeavesCopy"),
    (10, "devices.popRemovesAfterDays"),
    (11, "otherData.calendars"),
    (11, "otherData.contacts"),
    (11, "otherData.tasks"),
    (11, "otherData.rules"),
    (11, "otherData.delegates"),
    (12, "retention.policies"),
    (12, "retention.paused"),
    (13, "mailFlow.journaling"),
    (13, "mailFlow.gateway"),
    (13, "mailFlow.senders"),
    (14, "destination.mailboxesExist"),
    (14, "destination.domainVerified"),
    (14, "destination.licensed"),
    (14, "destination.holdsMail"),
    (14, "destination.multiFactor"),
    (14, "destination.messageLimitMegabytes"),
    (15, "dates.freeze"),
    (15, "dates.announcement"),
    (15, "dates.cutover"),
    (15, "dates.blackout"),
    (15, "dates.rollback"),
    (16, "deadlines"),
    (17, "bandwidth.megabitsPerSecond"),
    (17, "bandwidth.throttling"),
    (18, "passwordRequests"),
    (19, "privacy"),
    (20, "acceptance"),
];

/// The subject of each number; the first is number 1.
pub const TITLES: [&str; 20] = [
    "Customer",
    "Number of mailboxes",
    "A sample address of each domain",
    "Domains, aliases and DNS",
    "Protocols of each domain, and the exceptions",
    "Credentials",
    "Special mailboxes",
    "Sizes",
    "Mail files on users' machines",
    "Devices and mail programs",
    "Calendars, contacts, tasks and rules",
    "Retention",
    "Mail flow",
    "Destination",
    "Dates",
    "Deadlines",
    "Bandwidth",
    "Passwords of users",
    "Privacy",
    "Acceptance",
];

/// Answers of the customer before the order. Every answer may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Checklist {
    /// Whose mail moves, and who speaks for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<Customer>,
    /// How many mailboxes the customer counts, or has licences for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailboxes: Option<u32>,
    /// Answers about single domains of this migration, each once. At most 1,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub domains: Vec<DomainAnswers>,
    /// Mailboxes that are nobody's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub special_mailboxes: Option<SpecialMailboxes>,
    /// How large it all is, as far as the customer knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sizes: Option<Sizes>,
    /// Mail files on users' machines and network drives: PST, OST, mbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_stores: Option<ClientStores>,
    /// Machines and mail programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Devices>,
    /// Kinds of data in use beside mail; this release carries mail alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_data: Option<OtherData>,
    /// Rules of the old or the new system that remove or archive mail by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Other systems that send, take in or copy mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail_flow: Option<MailFlow>,
    /// How the destination stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<DestinationAnswers>,
    /// When things are to happen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dates: Option<Dates>,
    /// Days by which something must be done, such as the end of the old hoster's contract. At most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub deadlines: Vec<Deadline>,
    /// How much may be carried at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// Whether users must be asked for their passwords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_requests: Option<bool>,
    /// Where data may be, who may see it, and how long records of the migration are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub privacy: Option<String>,
    /// The person who signs that the mail has arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub acceptance: Option<String>,
}

/// Whose mail moves, and who speaks for them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Customer {
    /// Name of the customer, as it stands in the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub name: Option<String>,
    /// The person who decides at the customer, with a way to reach them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub contact: Option<String>,
    /// An address that works while the mail moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 320))]
    pub alternate_contact: Option<String>,
}

/// Answers about one domain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DomainAnswers {
    /// The domain, as in spec.domains[].name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// An address of the domain that is sure to exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 320))]
    pub sample_address: Option<String>,
    /// Other names and subdomains whose mail lands in the same mailboxes. At most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 253)))]
    pub aliases: Vec<String>,
    /// The operator of the domain's name servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub dns_host: Option<String>,
    /// The person who may change the domain's DNS records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub dns_editor: Option<String>,
    /// Protocols of the domain's mailboxes, IMAP or POP3, as far as the customer knows. At most 2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub protocols: Vec<Protocol>,
    /// Host that the mailboxes of the domain are on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub mail_host: Option<String>,
    /// Mailboxes on POP3, on another host or elsewhere, against the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub exceptions: Option<String>,
    /// The credentials that open mailboxes: MasterUser, PerMailbox, Delegation (an application with rights over all) or Other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialKind>,
    /// Whether logins of this domain want a second factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_factor: Option<bool>,
    /// Whether the servers of this domain are open to listed IP addresses alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_allow_list: Option<bool>,
}

/// The credentials that open mailboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CredentialKind {
    /// A user who may open every mailbox.
    MasterUser,
    /// A password for each mailbox.
    PerMailbox,
    /// An application with rights over all mailboxes.
    Delegation,
    /// Something else.
    Other,
}

/// Mailboxes that are nobody's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SpecialMailboxes {
    /// How many mailboxes are shared by several people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared: Option<u32>,
    /// How many mailboxes belong to rooms and equipment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rooms: Option<u32>,
    /// How many mailboxes belong to people who left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inactive: Option<u32>,
    /// How many mailboxes must be kept unchanged for the law.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legal_hold: Option<u32>,
    /// How many public folders there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_folders: Option<u32>,
    /// How many distribution lists and groups there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<u32>,
}

/// How large it all is, as far as the customer knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Sizes {
    /// All mail together, in gigabytes of 10^9 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_gigabytes: Option<u32>,
    /// The largest mailbox, in gigabytes of 10^9 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest_mailbox_gigabytes: Option<u32>,
    /// The largest message, in megabytes of 10^6 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest_message_megabytes: Option<u32>,
    /// Whether there are archive mailboxes beside the mailboxes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archives: Option<bool>,
}

/// Mail files on users' machines and network drives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientStores {
    /// How many mail files (PST, OST, mbox) hold mail that is on no server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// How large they are together, in gigabytes of 10^9 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gigabytes: Option<u32>,
    /// Where they lie: local disks, network drives, shared ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub location: Option<String>,
}

/// Machines and mail programs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Devices {
    /// How many machines use the classic Outlook for Windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classic_outlook: Option<u32>,
    /// How many machines use the new Outlook for Windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_outlook: Option<u32>,
    /// How many machines are Macs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<u32>,
    /// How many telephones and tablets read mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mobile: Option<u32>,
    /// How many people read mail on a remote desktop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_desktop: Option<u32>,
    /// Whether programs that use POP3 leave a copy on the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pop_leaves_copy: Option<bool>,
    /// After how many days such programs remove their copy from the server; 0 means never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pop_removes_after_days: Option<u32>,
}

/// Kinds of data in use beside mail.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OtherData {
    /// Whether calendars are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calendars: Option<bool>,
    /// Whether address books are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contacts: Option<bool>,
    /// Whether task lists are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<bool>,
    /// Whether rules, signatures and automatic replies are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<bool>,
    /// Whether people may open or send for the mailboxes of others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delegates: Option<bool>,
}

/// Rules that remove or archive mail by themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Retention {
    /// Which policies remove or archive mail by themselves, at the source or the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub policies: Option<String>,
    /// Whether they are paused while the mail moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

/// Other systems that send, take in or copy mail.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MailFlow {
    /// Whether a copy of each message goes to a journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journaling: Option<bool>,
    /// The filter in front of the servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub gateway: Option<String>,
    /// Scanners, shops and programs that send by the old server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub senders: Option<String>,
}

/// How the destination stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DestinationAnswers {
    /// Whether every mailbox exists at the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mailboxes_exist: Option<bool>,
    /// Whether the destination takes mail for every domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain_verified: Option<bool>,
    /// Whether there are licences for every mailbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licensed: Option<bool>,
    /// Whether mailboxes at the destination hold mail already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holds_mail: Option<bool>,
    /// Whether logins at the destination want a second factor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multi_factor: Option<bool>,
    /// The largest message that the destination takes, in megabytes of 10^6 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_limit_megabytes: Option<u32>,
}

/// When things are to happen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Dates {
    /// The day from which nothing else is changed (YYYY-MM-DD).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze: Option<Date>,
    /// The day on which users are told (YYYY-MM-DD).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub announcement: Option<Date>,
    /// The day on which the domains move over (YYYY-MM-DD).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cutover: Option<Date>,
    /// When nothing may happen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub blackout: Option<String>,
    /// The event that makes the customer go back to the old servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub rollback: Option<String>,
}

/// A day by which something must be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deadline {
    /// The thing that ends or begins on that day.
    #[schemars(length(min = 1, max = 256))]
    pub what: String,
    /// The day (YYYY-MM-DD).
    pub date: Date,
}

/// How much may be carried at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Bandwidth {
    /// The capacity of the line for this migration, in megabits a second, at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub megabits_per_second: Option<u32>,
    /// Limits that the old or the new provider sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub throttling: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::api::{MailMigration, crd};

    fn leaves(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if property["properties"].is_object() {
                leaves(property, &path, found);
            } else if path == "domains" {
                leaves(&property["items"], &path, found);
            } else if path != "domains.name" {
                found.insert(path);
            }
        }
    }

    #[test]
    fn every_field_is_asked_for_once_and_every_number_has_a_question() {
        let schema = crd::schema_of::<MailMigration>().unwrap();
        let mut fields = BTreeSet::new();
        leaves(&schema["properties"]["spec"]["properties"]["checklist"], "", &mut fields);
        let asked: BTreeSet<String> = FIELDS.iter().map(|(_, field)| (*field).to_owned()).collect();
        assert_eq!(fields, asked);
        assert_eq!(asked.len(), FIELDS.len());
        let numbers: BTreeSet<usize> = FIELDS.iter().map(|(number, _)| usize::from(*number)).collect();
        assert_eq!(numbers, (1..=TITLES.len()).collect());
    }
}
