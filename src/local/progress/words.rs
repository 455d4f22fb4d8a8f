//! The sentences of progress, the same for bars and for lines.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::api::MailMigrationStatus;
use crate::discovery::Step;
use crate::model::evidence::{DomainDiscovery, MailboxDiscovery};
use crate::model::fidelity::of_mail_read_by;
use crate::model::record::MailboxRecord;
use crate::model::text::{count, printable};
use crate::transfer::progress::Reading;

pub(super) fn step_words(step: &Step) -> String {
    match step {
        Step::Signals => "asking DNS and published configuration".to_owned(),
        Step::Probes { endpoints } => format!("asking {endpoints} servers what they speak"),
        Step::Logins { done, total } => format!("logging in, {done} of {total} mailboxes"),
        Step::Waiting { server, mailbox } => {
            format!("waiting for {} to open and list the folders of {mailbox}", printable(server))
        }
    }
}

/// One line about a domain: what was chosen, where, how sure.
pub(super) fn domain_words(discovery: &DomainDiscovery) -> String {
    let mut protocols: BTreeMap<String, u32> = BTreeMap::new();
    for protocol in discovery.mailboxes.iter().filter_map(MailboxDiscovery::protocol) {
        *protocols.entry(protocol.to_string()).or_default() += 1;
    }
    let chosen: Vec<String> = match protocols.len() {
        0 => vec!["nothing that can be read".to_owned()],
        1 => protocols.keys().cloned().collect(),
        _ => {
            let parts: Vec<String> = protocols.iter().map(|(p, n)| format!("{p} {n}")).collect();
            vec![format!("mixed  {}", parts.join(" · "))]
        }
    };
    let best = discovery.candidates.iter().find(|c| c.mailboxes > 0);
    let tls = best.and_then(|c| discovery.servers.iter().find(|s| s.endpoint == c.endpoint)?.tls.as_ref());
    let readable = discovery.mailboxes.iter().filter(|m| m.endpoint.is_some()).count();
    let mut words = chosen.join(" ");
    if let Some(best) = best {
        words.push_str("  ");
        words.push_str(&best.endpoint.address());
        words.push_str(&tls.map_or_else(|| "  no TLS".to_owned(), |t| format!("  {}", t.version)));
    }
    let _ = write!(words, "  {readable} of {} logins ok", discovery.mailboxes.len());
    if let Some(best) = best {
        let _ = write!(words, "  grade {}", best.grade);
        let read_by = discovery.mailboxes.iter().filter_map(|m| Some((m.protocol()?, 1)));
        if let Some(fidelity) = of_mail_read_by(&read_by.collect::<Vec<_>>()) {
            let _ = write!(words, "  fidelity {fidelity}");
        }
    } else if let Some(failure) = &discovery.failure {
        let _ = write!(words, "  {}", failure.what);
    }
    words
}

pub(super) fn ended_words(record: &MailboxRecord) -> String {
    match &record.failure {
        Some(failure) => format!("{} [{}]", failure.sentence(), failure.class),
        None => {
            format!("{}  {} sent, {} recognised", record.counts, count(record.sent), count(record.recognised))
        }
    }
}

/// One line for each open finding, the most serious first.
pub(super) fn finding_words(status: &MailMigrationStatus) -> Vec<String> {
    let mut lines: Vec<_> = status
        .domains
        .iter()
        .flat_map(|domain| domain.findings.iter().filter(|f| !f.acknowledged).map(move |f| (f, domain)))
        .map(|(finding, domain)| {
            let severity = finding.severity.to_string().to_uppercase();
            let message = printable(&finding.message);
            let line = format!("{severity:8}  {}  {}: {message}", finding.code, domain.name);
            (finding.severity, line)
        })
        .collect();
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}

/// Bytes, rate, and the time that is left.
pub(super) fn pace(reading: &Reading, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    #[allow(clippy::cast_precision_loss, reason = "a rate for people needs no more than three digits")]
    let (done, bytes, wanted) = (reading.done as f64, reading.bytes as f64, reading.bytes_expected as f64);
    let left = if bytes > 0.0 && wanted > bytes {
        let seconds = (wanted - bytes) / bytes * seconds;
        format!("  {:02.0}:{:02.0} left", (seconds / 60.0).floor(), seconds % 60.0)
    } else {
        String::new()
    };
    format!(
        "{}/{}  {:.0} msg/s{left}",
        indicatif::DecimalBytes(reading.bytes),
        indicatif::DecimalBytes(reading.bytes_expected),
        done / seconds
    )
}
