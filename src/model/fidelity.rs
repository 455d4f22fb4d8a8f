//! How much of a mailbox a protocol carries: the weighted share of the kinds of data, and in words what is lost.
//! The figures are a proposal that is always shown beside the list of losses. [`score`] is about mail alone; beside it
//! [`of_domain`] tells how calendars, contacts, tasks and rules fare that a domain offers services for.

use std::cmp::Reverse;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::grade::Grade;
use super::protocol::Protocol;
use super::service::{Service, ServiceFacts};

/// One kind of data in a mailbox.
#[derive(Debug, Clone, Copy)]
struct Kind {
    /// Weight in the score.
    weight: u32,
    /// Tenths that IMAP carries, and files do.
    imap: u32,
    /// Tenths that POP3 carries.
    pop3: u32,
    /// The loss when less than all is carried, in plain words.
    loss: &'static str,
}

/// The kinds that every mailbox has. Kinds that discovery did not find at the source do not count, so that a missing
/// calendar does not punish IMAP.
const MAIL_KINDS: [Kind; 8] = [
    Kind { weight: 20, imap: 10, pop3: 10, loss: "the messages themselves" },
    Kind { weight: 8, imap: 10, pop3: 0, loss: "folders: only the Inbox is visible" },
    Kind { weight: 7, imap: 10, pop3: 0, loss: "read and unread: everything arrives as unread" },
    Kind { weight: 4, imap: 10, pop3: 0, loss: "flagged and answered marks" },
    Kind { weight: 4, imap: 10, pop3: 0, loss: "keywords and categories" },
    Kind { weight: 8, imap: 10, pop3: 3, loss: "arrival dates: taken from the newest Received line" },
    Kind { weight: 5, imap: 10, pop3: 0, loss: "sent mail: it lives only in the mail programs of the users" },
    Kind { weight: 3, imap: 10, pop3: 0, loss: "drafts: they live only in the mail programs of the users" },
];

impl Kind {
    fn tenths(self, protocol: Protocol) -> u32 {
        match protocol {
            Protocol::Imap | Protocol::Maildir | Protocol::Mbox | Protocol::Eml => self.imap,
            Protocol::Pop3 => self.pop3,
        }
    }
}

/// The score of a protocol towards an IMAP destination, 0 to 100.
pub fn score(protocol: Protocol) -> u8 {
    let all: u32 = MAIL_KINDS.iter().map(|k| k.weight).sum();
    let carried: u32 = MAIL_KINDS.iter().map(|k| k.weight * k.tenths(protocol)).sum();
    u8::try_from(carried * 10 / all).unwrap_or(100)
}

/// The share of mail that is carried where mailboxes are read by some protocols (with their numbers): the mean of the mailboxes,
/// 0 to 100. The one figure for a domain in status, report, papers and on the terminal; `None` where none can be read.
pub fn of_mail_read_by(read_by: &[(Protocol, u64)]) -> Option<u8> {
    let all: u64 = read_by.iter().map(|(_, mailboxes)| mailboxes).sum();
    let carried: u64 = read_by.iter().map(|(protocol, n)| n * u64::from(score(*protocol))).sum();
    carried.checked_div(all).map(|mean| u8::try_from(mean).unwrap_or(100))
}

/// The losses of a protocol, in plain words, weightiest first.
pub fn losses(protocol: Protocol) -> Vec<&'static str> {
    let mut lost: Vec<_> = MAIL_KINDS.iter().filter(|k| k.tenths(protocol) < 10).collect();
    lost.sort_by_key(|k| Reverse(k.weight * (10 - k.tenths(protocol))));
    lost.into_iter().map(|k| k.loss).collect()
}

/// A kind of data that a mailbox may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DataKind {
    /// Messages, with folders, flags and dates.
    Mail,
    /// Appointments.
    Calendar,
    /// Address books.
    Contacts,
    /// To-do lists.
    Tasks,
    /// Filter rules and absence notes.
    Rules,
}

impl DataKind {
    /// All kinds, mail first.
    pub const ALL: [Self; 5] = [Self::Mail, Self::Calendar, Self::Contacts, Self::Tasks, Self::Rules];
}

impl fmt::Display for DataKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mail => "mail",
            Self::Calendar => "calendars",
            Self::Contacts => "contacts",
            Self::Tasks => "tasks",
            Self::Rules => "rules",
        })
    }
}

/// How much each kind of data counts in the fidelity of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Weights {
    /// Mail, 0 to 100. Default: 59, the sum of what it consists of.
    #[schemars(range(min = 0, max = 100))]
    pub mail: u8,
    /// Calendars, 0 to 100. Default: 10.
    #[schemars(range(min = 0, max = 100))]
    pub calendar: u8,
    /// Contacts, 0 to 100. Default: 8.
    #[schemars(range(min = 0, max = 100))]
    pub contacts: u8,
    /// Tasks, 0 to 100. Default: 3.
    #[schemars(range(min = 0, max = 100))]
    pub tasks: u8,
    /// Filter rules, 0 to 100. Default: 5.
    #[schemars(range(min = 0, max = 100))]
    pub rules: u8,
}

impl Default for Weights {
    fn default() -> Self {
        Self { mail: 59, calendar: 10, contacts: 8, tasks: 3, rules: 5 }
    }
}

impl Weights {
    /// The weight of a kind.
    pub fn of(&self, kind: DataKind) -> u8 {
        match kind {
            DataKind::Mail => self.mail,
            DataKind::Calendar => self.calendar,
            DataKind::Contacts => self.contacts,
            DataKind::Tasks => self.tasks,
            DataKind::Rules => self.rules,
        }
    }
}

/// How the data of a domain fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DomainFidelity {
    /// The weighted share of the kinds present that is carried, 0 to 100.
    pub score: u8,
    /// Each kind that is present, mail first.
    pub kinds: Vec<KindFidelity>,
}

/// How one kind of data fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KindFidelity {
    /// Which kind.
    pub kind: DataKind,
    /// Its carriers: protocols, the one of most mailboxes first; empty when nothing does.
    pub carried_by: Vec<Protocol>,
    /// How much of it is carried, 0 to 100.
    pub score: u8,
    /// The service that would read most of it, when nothing carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_service: Option<Service>,
    /// The losses, in plain words, weightiest first.
    pub losses: Vec<String>,
}

/// Tenths of a kind that a service can hand out.
fn tenths(service: Service, kind: DataKind) -> u32 {
    use DataKind::{Calendar, Contacts, Mail, Rules, Tasks};
    match (service, kind) {
        (Service::Jmap, Mail | Rules)
        | (Service::ManageSieve, Rules)
        | (Service::Ews, Mail | Calendar | Contacts | Tasks)
        | (Service::Zimbra, _) => 10,
        (Service::Jmap, Calendar | Contacts) | (Service::CalDav, Calendar) | (Service::CardDav, Contacts) => {
            9
        }
        (Service::Ews, Rules) => 8,
        (Service::CalDav, Tasks) => 7,
        (Service::Jmap, Tasks) => 5,
        (Service::CalDav | Service::CardDav | Service::ManageSieve, _) => 0,
    }
}

/// Tenths of a kind that a service at a place can hand out. A JMAP session names what it has beside mail.
fn tenths_at(facts: &ServiceFacts, kind: DataKind) -> u32 {
    let capability = match kind {
        DataKind::Mail => "mail",
        DataKind::Calendar => "calendars",
        DataKind::Contacts => "contacts",
        DataKind::Tasks => "tasks",
        DataKind::Rules => "sieve",
    };
    let named = |word: &str| word.strip_prefix("urn:ietf:params:jmap:") == Some(capability);
    if facts.service == Service::Jmap && !facts.words.split(' ').any(named) {
        return 0;
    }
    tenths(facts.service, kind)
}

/// How the data of a domain fares whose mailboxes are read by some protocols (with their numbers), and that offers some
/// services. A kind is present when mail is read, or when a service shows that it may be there; a hint alone does not.
pub fn of_domain(read_by: &[(Protocol, u64)], services: &[ServiceFacts], weights: Weights) -> DomainFidelity {
    let kinds: Vec<KindFidelity> =
        DataKind::ALL.into_iter().filter_map(|kind| of_kind(kind, read_by, services)).collect();
    let sum = |share: &dyn Fn(&KindFidelity) -> u32| -> u32 {
        kinds.iter().map(|kind| u32::from(weights.of(kind.kind)) * share(kind)).sum()
    };
    let (carried, all) = (sum(&|kind| u32::from(kind.score)), sum(&|_| 1));
    // Where nothing counts, nothing is lost.
    let score = carried.checked_div(all).map_or(100, |score| u8::try_from(score).unwrap_or(100));
    DomainFidelity { score, kinds }
}

fn of_kind(kind: DataKind, read_by: &[(Protocol, u64)], services: &[ServiceFacts]) -> Option<KindFidelity> {
    if kind == DataKind::Mail {
        return of_mail(read_by);
    }
    let offers = services.iter().filter(|facts| facts.grade <= Grade::C && tenths_at(facts, kind) > 0);
    let best = offers
        .min_by_key(|facts| (Reverse(tenths_at(facts, kind)), facts.grade, facts.service, &facts.place))?;
    let loss = format!("{kind}: all of them; {} at {} has them", best.service, best.place);
    Some(KindFidelity {
        kind,
        carried_by: Vec::new(),
        score: 0,
        best_service: Some(best.service),
        losses: vec![loss],
    })
}

fn of_mail(read_by: &[(Protocol, u64)]) -> Option<KindFidelity> {
    let score = of_mail_read_by(read_by)?;
    let mut read_by: Vec<_> = read_by.iter().filter(|(_, mailboxes)| *mailboxes > 0).copied().collect();
    read_by.sort_by_key(|(protocol, mailboxes)| (Reverse(*mailboxes), *protocol));
    let of = |protocol: Protocol| losses(protocol).into_iter().map(move |loss| format!("{protocol}: {loss}"));
    Some(KindFidelity {
        kind: DataKind::Mail,
        carried_by: read_by.iter().map(|(protocol, _)| *protocol).collect(),
        score,
        best_service: None,
        losses: read_by.iter().flat_map(|(protocol, _)| of(*protocol)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imap_carries_all_kinds_of_mail_and_pop3_says_what_it_loses() {
        assert_eq!((score(Protocol::Imap), score(Protocol::Pop3)), (100, 37));
        assert!(losses(Protocol::Imap).is_empty());
        assert!(losses(Protocol::Pop3)[0].starts_with("folders"));
    }

    fn offers(service: Service, grade: Grade) -> ServiceFacts {
        let place = format!("{}.contoso.example", service.to_string().to_lowercase());
        let words =
            ["calendars", "contacts", "tasks", "sieve"].map(|word| format!("urn:ietf:params:jmap:{word}"));
        ServiceFacts { service, place, grade, trusted: true, words: words.join(" ") }
    }

    #[test]
    fn each_kind_that_is_present_has_its_score_and_its_losses() {
        let read_by = [(Protocol::Imap, 1), (Protocol::Pop3, 3)];
        for (services, expected) in [
            (vec![], vec![(DataKind::Mail, 52, None)]),
            // A hint does not make a calendar.
            (vec![offers(Service::CalDav, Grade::D)], vec![(DataKind::Mail, 52, None)]),
            (
                vec![offers(Service::CalDav, Grade::B), offers(Service::ManageSieve, Grade::B)],
                vec![
                    (DataKind::Mail, 52, None),
                    (DataKind::Calendar, 0, Some(Service::CalDav)),
                    (DataKind::Tasks, 0, Some(Service::CalDav)),
                    (DataKind::Rules, 0, Some(Service::ManageSieve)),
                ],
            ),
            (
                vec![offers(Service::Jmap, Grade::B), offers(Service::Ews, Grade::C)],
                vec![
                    (DataKind::Mail, 52, None),
                    (DataKind::Calendar, 0, Some(Service::Ews)),
                    (DataKind::Contacts, 0, Some(Service::Ews)),
                    (DataKind::Tasks, 0, Some(Service::Ews)),
                    (DataKind::Rules, 0, Some(Service::Jmap)),
                ],
            ),
        ] {
            let found = of_domain(&read_by, &services, Weights::default());
            let seen: Vec<_> = found.kinds.iter().map(|k| (k.kind, k.score, k.best_service)).collect();
            assert_eq!(seen, expected);
            assert!(found.kinds.iter().all(|k| k.score == 100 || !k.losses.is_empty()));
            assert_eq!(found.kinds[0].carried_by, [Protocol::Pop3, Protocol::Imap]);
            assert_eq!(found.kinds[0].losses[0], "POP3: folders: only the Inbox is visible");
        }
    }

    #[test]
    fn a_session_of_jmap_has_what_it_names() {
        let mut jmap = offers(Service::Jmap, Grade::B);
        jmap.words = "urn:ietf:params:jmap:core urn:ietf:params:jmap:contacts".to_owned();
        let found = of_domain(&[], &[jmap], Weights::default());
        let kinds: Vec<_> = found.kinds.iter().map(|kind| kind.kind).collect();
        assert_eq!(kinds, [DataKind::Contacts]);
    }

    #[test]
    fn weights_decide_how_much_a_loss_counts() {
        let read_by = [(Protocol::Imap, 5)];
        let calendar = [offers(Service::CalDav, Grade::B)];
        let weigh = |weights| of_domain(&read_by, &calendar, weights).score;
        assert_eq!(weigh(Weights::default()), 81, "59 of 59 + 10 + 3");
        assert_eq!(weigh(Weights { calendar: 0, tasks: 0, ..Weights::default() }), 100);
        assert_eq!(weigh(Weights { mail: 50, calendar: 50, tasks: 0, ..Weights::default() }), 50);
        let none = Weights { mail: 0, calendar: 0, contacts: 0, tasks: 0, rules: 0 };
        assert_eq!(weigh(none), 100);
        assert_eq!(of_domain(&[], &[], Weights::default()).kinds, []);
        let mail: u32 = MAIL_KINDS.iter().map(|kind| kind.weight).sum();
        assert_eq!(u32::from(Weights::default().mail), mail);
    }
}
