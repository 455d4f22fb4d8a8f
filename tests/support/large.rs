//! Migrations as large as any, made up: what a decision about them costs is measured by `benches/decide.rs`, and that it grows no
//! faster than they do by `tests/pure/decisions.rs`.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "the harness of a measurement and of a test, of which each uses a part"
)]

use jiff::Timestamp;
use mailferry::api::{MailMigration, MailMigrationSpec};
use mailferry::model::address::Address;
use mailferry::model::endpoint::Endpoint;
use mailferry::model::evidence::{DomainDiscovery, MailboxDiscovery, MailboxSize, ServerFacts};
use mailferry::model::failure::{Class, Failure};
use mailferry::model::finding::{Code, Finding};
use mailferry::model::progress::MessageCounts;
use mailferry::model::protocol::{Protocol, Tls};
use mailferry::model::record::MailboxRecord;
use mailferry::plan::mailboxes::PlannedMailbox;
use mailferry::plan::{DomainObserved, MailboxObserved, Observed, Patience};
use serde_json::json;

/// The moment of all decisions.
pub fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// A migration with what is known of it.
pub struct Large {
    /// How its mailboxes stand.
    pub about: &'static str,
    /// The migration.
    pub migration: MailMigration,
    /// The observed facts.
    pub observed: Observed,
}

/// How mailboxes stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stand {
    Ready,
    Through,
    Failed,
}

impl Large {
    /// Migrations of so many mailboxes, parted among so many domains.
    pub fn all(mailboxes: usize, domains: usize) -> Vec<Self> {
        [("ready", Stand::Ready), ("through", Stand::Through), ("failed", Stand::Failed)]
            .map(|(about, stand)| Self::of(about, stand, mailboxes, domains))
            .into()
    }

    fn of(about: &'static str, stand: Stand, mailboxes: usize, domains: usize) -> Self {
        let rules = json!([{"match": {"pattern": "pop-*"}, "protocol": "POP3"},
            {"match": {"pattern": "old-*@*"}, "protocol": "POP3"}]);
        let named: Vec<_> = (0..domains)
            .map(|n| json!({"name": format!("d{n}.test"), "credentialsRef": {"name": "a"}, "overrides": rules}))
            .collect();
        let spec: MailMigrationSpec = serde_json::from_value(json!({
            "stage": "Sync",
            "destination": {"imap": {"host": "imap.new.test", "credentialsRef": {"name": "new"}}},
            "domains": named,
            "checklist": {"mailboxes": 7, "domains": [{"name": "d0.test", "sampleAddress": "nobody@d0.test"}]},
        }))
        .unwrap();
        let mut observed = Observed { pass: 1, patience: Patience::Resident, ..Observed::default() };
        for at in 0..domains {
            let share = mailboxes / domains + usize::from(at < mailboxes % domains);
            let addresses: Vec<Address> =
                (0..share).map(|n| format!("user{n}@d{at}.test").parse().unwrap()).collect();
            for address in &addresses {
                let record = record(stand);
                observed
                    .mailboxes
                    .insert(address.clone(), MailboxObserved { record, ..MailboxObserved::default() });
            }
            observed.domains.insert(format!("d{at}.test"), seen(at, &addresses));
        }
        Self { about, migration: MailMigration::new("large", spec), observed }
    }
}

fn record(stand: Stand) -> MailboxRecord {
    if stand == Stand::Ready {
        return MailboxRecord::default();
    }
    let failure = (stand == Stand::Failed)
        .then(|| Failure::new(Class::Unreachable, "does not answer").hint("check the port and the firewall"));
    MailboxRecord {
        pass: 1,
        attempts: 1,
        started: Some(now()),
        ended: Some(now()),
        counts: MessageCounts { source: 100, copied: 100, ..MessageCounts::default() },
        failure,
        ..MailboxRecord::default()
    }
}

fn seen(at: usize, addresses: &[Address]) -> DomainObserved {
    let endpoint = Endpoint::new(Protocol::Imap, &format!("imap{}.old.test", at % 7), 993, Tls::Implicit);
    let mailbox = |address: &Address| MailboxDiscovery {
        address: address.clone(),
        endpoint: Some(endpoint.clone()),
        overridden: false,
        attempts: Vec::new(),
        logins: None,
        login_name: None,
        size: Some(MailboxSize { messages: 100, bytes: 1_000_000, folders: 5, ..MailboxSize::default() }),
        failure: None,
    };
    let planned = |address: &Address| PlannedMailbox {
        source: address.clone(),
        destination: address.to_string().replace(".test", ".new.test").parse().unwrap(),
        login_name: address.to_string(),
        login_name_is_given: false,
        logins: None,
        authorities: None,
        beside: Vec::new(),
    };
    // A finding for each mailbox, of those that are held against what passes found.
    let closed = |address: &Address| Finding::about(Code::DestinationMailboxClosed, address, "is not open");
    let discovery = DomainDiscovery {
        mailboxes: addresses.iter().map(mailbox).collect(),
        findings: addresses.iter().map(closed).collect(),
        servers: Vec::<ServerFacts>::new(),
        ..DomainDiscovery::empty(format!("d{at}.test").parse().unwrap(), now(), now())
    };
    DomainObserved {
        mailboxes: Some(Ok(addresses.iter().map(planned).collect())),
        discovery: Some(discovery.into()),
        round: 1,
        ..DomainObserved::default()
    }
}
