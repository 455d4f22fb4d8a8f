//! A report as a project of three domains gives it, with hostile text wherever a peer can put any. For tests.

use jiff::Timestamp;

use super::domains::DomainRow;
use super::exceptions::Exceptions;
use super::message::{MessageDestination, MessageRow, MessageSource};
use super::rows::{AcknowledgementRow, Agreed, DestinationRow, FailureRow, FindingRow, MailboxRow, Report};
use crate::model::address::Domain;
use crate::model::capability::Capabilities;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{
    Attempt, Candidate, DomainDiscovery, Evidence, Grade, MailboxDiscovery, MailboxSize, Outcome, Quota,
    ServerFacts, Signal, TlsFacts,
};
use crate::model::failure::{Class, Failure};
use crate::model::fidelity;
use crate::model::finding::{Code, Finding};
use crate::model::folder::FolderPath;
use crate::model::identity::Digest;
use crate::model::message::{Arrival, Epoch, Flags, InternalDate, ItemId, Locator, Verdict};
use crate::model::progress::MessageCounts;
use crate::model::protocol::{Protocol, Tls};
use crate::model::record::{Depth, Verification};
use crate::model::service::{Service, ServiceFacts};

/// Text that a hostile sender, server or administrator of a source may have written.
pub(super) const HOSTILE: [&str; 6] = [
    "=cmd|' /C calc'!A0",
    "<script>alert(1)</script>",
    "invoice \u{202e}fdp.exe",
    "\"><img src=https://evil.example/x onerror=alert(1)>",
    "+49 30 1234\tcall\r\nme",
    "@SUM(1+1)*cmd|' /C calc'!A0",
];

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn domain(name: &str) -> Domain {
    name.parse().unwrap()
}

pub(super) fn message(n: u32, verdict: Verdict) -> MessageRow {
    let folder = FolderPath::new(["Archiv", "2021"]);
    let locator = Locator {
        protocol: Protocol::Imap,
        folder: folder.clone(),
        epoch: Epoch::from(1_600_000_000),
        id: ItemId::Uid(n),
    };
    let arrival = Arrival { epoch: Epoch::from(7), id: ItemId::Uid(n + 1) };
    MessageRow {
        mailbox: "anna@contoso.example".parse().unwrap(),
        source: MessageSource::from(&locator),
        message_id: Some(format!("<{n}@contoso.example>")),
        exact: Some(Digest([u8::try_from(n % 256).unwrap(); 32])),
        size: 12_345 + u64::from(n),
        internal_date: InternalDate::parse("01-Feb-2021 03:04:05 +0100"),
        flags: Flags::parse("\\Seen $Label1"),
        destination: verdict.is_delivered().then(|| MessageDestination::new(&folder, &arrival)),
        verdict,
        code: None,
        found: None,
        subject: Some("Minutes of the meeting".to_owned()),
    }
}

/// Messages of every verdict and both protocols; the hostile ones among them.
pub(super) fn messages() -> Vec<MessageRow> {
    let too_large = "31.4 MB is more than the destination takes (25 MB) [TOOBIG]";
    let mut rows = vec![
        message(1, Verdict::Delivered),
        message(2, Verdict::DeliveredAltered("the destination replaced 3 NUL bytes".into())),
        message(3, Verdict::Pending),
        message(4, Verdict::Quarantined(too_large.into())),
        message(5, Verdict::Quarantined("=HYPERLINK(\"https://evil.example\")".into())),
    ];
    rows[3].subject = Some("Plans of the new building, second set, with the changes of Tuesday".into());
    for (n, text) in (6..).zip(HOSTILE) {
        let mut row = message(n, Verdict::Excluded("older than 1 January 2015".into()));
        row.subject = Some(text.to_owned());
        row.message_id = Some(text.to_owned());
        rows.push(row);
    }
    let mut endless =
        message(30, Verdict::Quarantined("the server closed the connection while it was sent".into()));
    endless.subject = Some("A".repeat(64 * 1024));
    rows.push(endless);
    let mut pop =
        message(31, Verdict::Quarantined("a line has 120,000 bytes and the destination takes 10,000".into()));
    pop.mailbox = "carol@lab.example".parse().unwrap();
    pop.source = MessageSource::from(&Locator {
        protocol: Protocol::Pop3,
        folder: FolderPath::inbox(),
        epoch: Epoch::default(),
        id: ItemId::from("=0001"),
    });
    (pop.message_id, pop.exact, pop.internal_date, pop.flags) = (None, None, None, Flags::default());
    rows.push(pop);
    rows
}

fn evidence(
    signal: Signal,
    grade: Grade,
    time: &str,
    endpoint: Option<&Endpoint>,
    statement: &str,
) -> Evidence {
    Evidence {
        signal,
        grade,
        at: at(&format!("2026-11-22T{time}Z")),
        endpoint: endpoint.cloned(),
        trusted: grade < Grade::C,
        outcome: Outcome::Offered,
        statement: statement.to_owned(),
        excerpt: None,
    }
}

fn server(endpoint: &Endpoint, version: &str, not_after: &str) -> ServerFacts {
    ServerFacts {
        endpoint: endpoint.clone(),
        greeting: "* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+] Dovecot ready <b>now</b>.".into(),
        capabilities: Capabilities::parse("IMAP4rev1 SASL-IR LITERAL+ CONDSTORE QRESYNC"),
        mechanisms: vec!["LOGIN".into(), "PLAIN".into()],
        tls: Some(TlsFacts {
            version: version.into(),
            names: vec![endpoint.host.clone()],
            issuer: "Let's Encrypt R11 <script>".into(),
            not_after: at(not_after),
        }),
    }
}

fn candidate(endpoint: &Endpoint, grade: Grade, fidelity: u8, mailboxes: u32, why: &str) -> Candidate {
    Candidate { endpoint: endpoint.clone(), grade, fidelity, approved: true, mailboxes, why: why.into() }
}

fn mailbox(address: &str, endpoint: Option<&Endpoint>, messages: u64, bytes: u64) -> MailboxDiscovery {
    let imap = endpoint.is_some_and(|e| e.protocol == Protocol::Imap);
    MailboxDiscovery {
        address: address.parse().unwrap(),
        endpoint: endpoint.cloned(),
        overridden: false,
        attempts: endpoint
            .map(|e| Attempt { endpoint: e.clone(), failure: None, by_token: false })
            .into_iter()
            .collect(),
        logins: None,
        login_name: None,
        size: endpoint.map(|_| MailboxSize {
            folders: if imap { 18 } else { 1 },
            messages,
            bytes,
            largest: bytes / 40,
            oldest: imap.then(|| at("2009-03-14T09:26:53Z")),
            newest: imap.then(|| at("2026-11-22T17:40:00Z")),
            quota: imap.then_some(Quota { used: bytes, limit: 50_000_000_000 }),
            foreign: u32::from(imap) * 2,
            ..MailboxSize::default()
        }),
        failure: None,
    }
}

fn discovery(name: &str) -> DomainDiscovery {
    DomainDiscovery::empty(domain(name), at("2026-11-22T14:02:09Z"), at("2026-11-22T14:02:41Z"))
}

fn contoso() -> DomainDiscovery {
    let imap = Endpoint::new(Protocol::Imap, "imap.contoso.example", 993, Tls::Implicit);
    let pop = Endpoint::new(Protocol::Pop3, "imap.contoso.example", 995, Tls::Implicit);
    let mut seen = discovery("contoso.example");
    seen.services = vec![ServiceFacts {
        service: Service::CalDav,
        place: "https://dav.contoso.example/<b>calendars</b>/".into(),
        grade: Grade::B,
        trusted: true,
        words: "DAV: 1, calendar-access <script>".into(),
    }];
    let read_by = [(Protocol::Imap, 3)];
    seen.fidelity = Some(fidelity::of_domain(&read_by, &seen.services, fidelity::Weights::default()));
    let mx = "MX → mx1.contoso.example (preference 10)";
    let srv = "_imaps._tcp SRV → imap.contoso.example:993";
    let greeting = "TLS 1.3, greeting received, 5 capabilities, PLAIN and LOGIN offered";
    seen.evidence = vec![
        evidence(Signal::Mx, Grade::D, "14:02:09", None, mx),
        evidence(Signal::Srv, Grade::C, "14:02:11", Some(&imap), srv),
        evidence(Signal::Imap, Grade::B, "14:02:12", Some(&imap), greeting),
        evidence(
            Signal::Imap,
            Grade::A,
            "14:02:14",
            Some(&imap),
            "logged in as anna*madmin: 41 folders listed",
        ),
        evidence(Signal::UsualName, Grade::B, "14:02:13", Some(&pop), "greeting received, UIDL offered"),
    ];
    seen.evidence[2].excerpt = Some("* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+] Dovecot ready.".into());
    seen.servers = vec![server(&imap, "TLS 1.3", "2026-12-01T00:00:00Z")];
    seen.candidates = vec![
        candidate(
            &imap,
            Grade::A,
            100,
            2,
            "IMAP carries all kinds of mail, and every mailbox could be listed.",
        ),
        candidate(&pop, Grade::B, 37, 0, "POP3 answered, and carries less than IMAP: 37 against 100."),
    ];
    seen.mailboxes = vec![
        mailbox("anna@contoso.example", Some(&imap), 9_800, 812_000_000),
        mailbox("ben@contoso.example", Some(&imap), 7_342, 401_500_000),
    ];
    let expires = "The certificate of imap.contoso.example ends in 9 days, on 1 December 2026.";
    seen.findings = vec![Finding::about(Code::CertificateExpires, "imap.contoso.example:993", expires)];
    seen
}

fn shop() -> DomainDiscovery {
    let pop = Endpoint::new(Protocol::Pop3, "pop.shop.example", 995, Tls::Implicit);
    let imap = Endpoint::new(Protocol::Imap, "imap.shop.example", 993, Tls::Implicit);
    let mut seen = discovery("shop.example");
    let autoconfig = "autoconfig.shop.example offers POP3 at pop.shop.example:995";
    let mut refused =
        evidence(Signal::UsualName, Grade::D, "14:02:20", Some(&imap), "imap.shop.example:993 tried");
    refused.outcome = Outcome::Failed(
        Failure::new(Class::Unreachable, "the connection was refused").at("imap.shop.example:993"),
    );
    let mut absent = evidence(Signal::Srv, Grade::C, "14:02:18", None, "_imaps._tcp SRV → . (not offered)");
    absent.outcome = Outcome::NotOffered;
    seen.evidence = vec![
        absent,
        evidence(Signal::Autoconfig, Grade::C, "14:02:19", Some(&pop), autoconfig),
        refused,
        evidence(
            Signal::Pop3,
            Grade::A,
            "14:02:24",
            Some(&pop),
            "logged in as bob: 2,104 messages, all with UIDL",
        ),
    ];
    seen.servers = vec![server(&pop, "TLS 1.2", "2027-06-30T00:00:00Z")];
    seen.candidates = vec![
        candidate(&pop, Grade::A, 37, 2, "The only protocol that answered; both mailboxes could be listed."),
        candidate(
            &imap,
            Grade::D,
            100,
            0,
            "Nothing answered at imap.shop.example:993 <script>alert(2)</script>.",
        ),
    ];
    seen.mailboxes = vec![
        mailbox("bob@shop.example", Some(&pop), 2_104, 95_300_000),
        mailbox("dora@shop.example", Some(&pop), 788, 31_200_000),
    ];
    seen.findings = seen
        .mailboxes
        .iter()
        .map(|m| {
            Finding::about(
                Code::PopMailboxesPresent,
                &m.address,
                "Speaks POP3 only: what its mail programs hold is on no server.",
            )
        })
        .collect();
    seen
}

fn lab() -> DomainDiscovery {
    let imap = Endpoint::new(Protocol::Imap, "mail.lab.example", 993, Tls::Implicit);
    let pop = Endpoint::new(Protocol::Pop3, "mail.lab.example", 995, Tls::Implicit);
    let mut seen = discovery("lab.example");
    seen.evidence = vec![
        evidence(Signal::Srv, Grade::C, "14:02:30", Some(&imap), "_imaps._tcp SRV → mail.lab.example:993"),
        evidence(Signal::Imap, Grade::A, "14:02:33", Some(&imap), "logged in as chris: 6 folders listed"),
        evidence(
            Signal::Pop3,
            Grade::A,
            "14:02:36",
            Some(&pop),
            "logged in as carol: 1,004 messages, all with UIDL",
        ),
    ];
    seen.servers = vec![
        server(&imap, "TLS 1.3", "2027-02-14T00:00:00Z"),
        server(&pop, "TLS 1.3", "2027-02-14T00:00:00Z"),
    ];
    seen.candidates = vec![
        candidate(
            &imap,
            Grade::A,
            100,
            1,
            "IMAP carries all kinds of mail; one of three mailboxes may use it.",
        ),
        candidate(&pop, Grade::A, 37, 1, "Chosen for the mailbox that IMAP refuses and POP3 accepts."),
    ];
    let refusal = || {
        Failure::new(Class::Credentials, "NO [AUTHENTICATIONFAILED] Authentication failed.")
            .hint("Correct the password in the Secret lab-source.")
    };
    let mut carol = mailbox("carol@lab.example", Some(&pop), 1_004, 58_700_000);
    carol.attempts.insert(0, Attempt { endpoint: imap.clone(), failure: Some(refusal()), by_token: false });
    let mut frank = mailbox("frank@lab.example", None, 0, 0);
    frank.failure = Some(refusal().at("mail.lab.example:993").at("frank@lab.example"));
    seen.mailboxes = vec![mailbox("chris@lab.example", Some(&imap), 912, 102_400_000), carol, frank];
    let pop_only = "Speaks POP3 only: what its mail programs hold is on no server.";
    seen.findings = vec![
        Finding::of_domain(Code::MixedProtocols, "1 mailbox speaks IMAP and 1 speaks POP3."),
        Finding::about(Code::PopMailboxesPresent, "carol@lab.example", pop_only),
        Finding::about(
            Code::CredentialsRejected,
            "frank@lab.example",
            "The server refused the password by IMAP and by POP3: <b>=1+1</b>",
        ),
    ];
    seen
}

/// Three domains, seven mailboxes, a first pass that is nearly done.
pub(super) fn report() -> Report {
    let seen = [contoso(), shop(), lab()];
    let acknowledged = vec![AcknowledgementRow {
        finding: Code::PopMailboxesPresent,
        domain: Some(domain("shop.example")),
        reason: "Customer archives the shop's mail programs itself; agreed with Mr O'Neill on 20 November."
            .into(),
        by: Some("Ms Sato".into()),
    }];
    let findings = seen.iter().flat_map(|d| d.findings.iter().map(move |f| (Some(&d.domain), f)));
    let findings = FindingRow::collect(findings, &acknowledged);
    let mut mailboxes: Vec<MailboxRow> = Vec::new();
    for domain in &seen {
        for found in &domain.mailboxes {
            let destination = format!("{}@new.example", found.address.local_part()).parse().unwrap();
            let mut row = MailboxRow::new(domain, found, destination);
            if row.endpoint.is_some() {
                sync(&mut row);
            }
            mailboxes.push(row);
        }
    }
    let mut exceptions = Exceptions::default();
    for row in messages() {
        exceptions.push(&row);
    }
    Report {
        name: "contoso".into(),
        namespace: "contoso-mail".into(),
        customer: Some("Contoso & Sons Ltd".into()),
        stage: "Sync".into(),
        phase: "Syncing".into(),
        generated: at("2026-11-23T09:14:00Z"),
        version: "0.1.0".into(),
        plan_digest: Some("9f2c41d07be3a856".into()),
        destination: DestinationRow {
            kind: "IMAP".into(),
            host: "imap.new.example".into(),
            port: 993,
            tls: Tls::Implicit,
            facts: Some(TlsFacts {
                version: "TLS 1.3".into(),
                names: vec!["imap.new.example".into(), "new.example".into()],
                issuer: "Let's Encrypt R10".into(),
                not_after: at("2027-01-30T12:00:00Z"),
            }),
        },
        acknowledged,
        domains: seen.iter().map(DomainRow::from).collect(),
        unseen: Vec::new(),
        mailboxes,
        findings,
        exceptions,
        exclusions: vec!["Messages that arrived before 1 January 2015.".into()],
        outdated: false,
        limits: Vec::new(),
        agreed: Agreed::default(),
    }
}

fn sync(row: &mut MailboxRow) {
    let n = row.items;
    let (failed, excluded, pending, altered) = match row.source.local_part() {
        "anna" => (3, 6, 0, 1),
        "carol" => (1, 0, 92, 0),
        _ => (0, 0, 0, 0),
    };
    let copied = n - failed - excluded - pending;
    row.messages = MessageCounts { source: n, copied, excluded, failed, pending };
    row.phase = if pending > 0 { "Syncing" } else { "Synced" }.into();
    row.altered = altered;
    row.bytes_copied = row.bytes / n.max(1) * copied;
    row.flags_updated = n / 100;
    row.passes = 1;
    row.last_started = Some(at("2026-11-22T15:00:00Z"));
    if pending > 0 {
        let what = "throttled by the server, goes on in 8 s";
        row.failure = (row.source.local_part() == "carol").then(|| {
            FailureRow::from(&Failure::new(Class::Quota, what).at("INBOX").at(row.source.to_string()))
        });
        return;
    }
    row.last_ended = Some(at("2026-11-22T15:41:00Z"));
    row.verification = Some(Verification {
        depth: Depth::Full,
        checked: copied,
        read_back: copied,
        identical: copied - altered,
        altered,
        ..Verification::begun(at("2026-11-22T15:44:00Z"))
    });
}
