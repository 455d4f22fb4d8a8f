//! How a status is kept within its limits: what is cut, what is thinned out, and what is left out at last.

use serde::Serialize;

use super::{DomainStatus, FindingStatus, MailMigrationStatus};
use crate::api::condition::MESSAGE_MAX;
use crate::model::text::cut;

/// The most that [`MailMigrationStatus::bounded`] leaves, in bytes of JSON.
pub const STATUS_MAX: usize = 60 * 1024;

/// How much evidence a status keeps; the first level that fits is taken.
struct Level {
    candidates: usize,
    findings: usize,
    losses: usize,
    text: usize,
    report_domains: bool,
}

const LEVELS: [Level; 6] = [
    Level { candidates: 20, findings: 50, losses: 16, text: 512, report_domains: true },
    Level { candidates: 8, findings: 20, losses: 8, text: 256, report_domains: true },
    Level { candidates: 4, findings: 10, losses: 4, text: 160, report_domains: true },
    Level { candidates: 2, findings: 5, losses: 2, text: 100, report_domains: true },
    Level { candidates: 1, findings: 3, losses: 0, text: 60, report_domains: false },
    Level { candidates: 0, findings: 1, losses: 0, text: 40, report_domains: false },
];

impl MailMigrationStatus {
    /// This status within its limits: texts and lists are cut, evidence is thinned out until the whole fits
    /// [`STATUS_MAX`] bytes of JSON, and at last rows of domains are left out, those without findings first. All that was
    /// left out is in the ledger and the report.
    #[must_use]
    pub fn bounded(&self) -> Self {
        let mut kept = self.clone();
        for level in &LEVELS {
            kept = self.at_level(level);
            if kept.json_len() <= STATUS_MAX {
                return kept;
            }
        }
        kept.drop_domains();
        kept
    }

    fn at_level(&self, level: &Level) -> Self {
        let mut kept = self.clone();
        for domain in &mut kept.domains {
            domain.name = cut(&domain.name, 253);
            domain.losses.truncate(level.losses);
            domain.losses.iter_mut().for_each(|loss| *loss = cut(loss, level.text.min(256)));
            domain.candidates.truncate(level.candidates);
            for candidate in &mut domain.candidates {
                candidate.host = cut(&candidate.host, 253);
                candidate.why = cut(&candidate.why, level.text);
            }
            thin_out(&mut domain.findings, level);
        }
        thin_out(&mut kept.findings, level);
        if let (Some(report), false) = (&mut kept.report, level.report_domains) {
            report.domains.clear();
        }
        kept.conditions.truncate(16);
        for condition in &mut kept.conditions {
            condition.message = cut(&condition.message, MESSAGE_MAX);
        }
        kept
    }

    /// Leaves out rows from the end until the rest fits, those with open findings last.
    fn drop_domains(&mut self) {
        let rows = std::mem::take(&mut self.domains);
        let mut room =
            STATUS_MAX.saturating_sub(self.json_len() + r#","domains":[],"domainsOmitted":1000"#.len());
        let mut order: Vec<usize> = (0..rows.len()).collect();
        let troubled = |row: &DomainStatus| row.findings.iter().any(|f| !f.acknowledged);
        order.sort_by_key(|&at| !troubled(&rows[at]));
        let mut keep = vec![false; rows.len()];
        for at in order {
            let size = json_len(&rows[at]) + 1;
            if size > room {
                break;
            }
            room -= size;
            keep[at] = true;
        }
        let total = rows.len();
        self.domains = rows.into_iter().zip(keep).filter_map(|(row, keep)| keep.then_some(row)).collect();
        self.domains_omitted += u32::try_from(total - self.domains.len()).unwrap_or(u32::MAX);
    }

    fn json_len(&self) -> usize {
        json_len(self)
    }
}

fn thin_out(findings: &mut Vec<FindingStatus>, level: &Level) {
    findings.sort_by_key(|f| (f.acknowledged, f.severity));
    findings.truncate(level.findings);
    for finding in findings {
        finding.message = cut(&finding.message, level.text);
        finding.remedy = cut(&finding.remedy, level.text);
    }
}

fn json_len(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |json| json.len())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::condition;
    use crate::api::status::{CandidateStatus, ReportBrief, ReportRow, Summary};
    use crate::model::evidence::Grade;
    use crate::model::finding::Code;
    use crate::model::progress::MessageCounts;
    use crate::model::protocol::{Protocol, Tls};

    /// One with long texts.
    pub(in crate::api::status) fn finding(code: Code, n: usize) -> FindingStatus {
        FindingStatus {
            code,
            severity: code.severity(),
            message: format!(
                "mailbox number {n} was refused, and the server had much to say about it: {}",
                "ö".repeat(2000)
            ),
            remedy: code.remedy().to_owned(),
            count: 1,
            acknowledged: n.is_multiple_of(7),
        }
    }

    /// A migration in which everything went wrong, with one finding for each failing mailbox.
    fn ruins(domains: usize, mailboxes: usize) -> MailMigrationStatus {
        let domain = |at: usize| DomainStatus {
            name: format!("{}{at}.example", "d".repeat(60)),
            protocol: Some(Protocol::Imap),
            protocols: [(Protocol::Imap, 3), (Protocol::Pop3, 2)].into(),
            mixed: true,
            grade: Some(Grade::A),
            fidelity: Some(100),
            losses: vec!["folders: only the Inbox is visible ".repeat(20); 30],
            candidates: vec![
                CandidateStatus {
                    protocol: Protocol::Pop3,
                    host: "h".repeat(253),
                    port: 995,
                    tls: Tls::Implicit,
                    grade: Grade::D,
                    fidelity: 37,
                    mailboxes: 1,
                    why: "lost because ".repeat(100),
                };
                40
            ],
            findings: (0..mailboxes / domains).map(|n| finding(Code::ALL[n % Code::ALL.len()], n)).collect(),
        };
        let row = ReportRow { mailboxes: 5, source: u64::MAX, ..ReportRow::default() };
        let facts: Vec<_> = condition::Type::ALL
            .iter()
            .map(|&kind| {
                condition::Fact::failed(kind, false, crate::model::failure::Class::Tls, "x".repeat(40_000))
            })
            .collect();
        let mut status = MailMigrationStatus {
            domains: (0..domains).map(domain).collect(),
            messages: Some(MessageCounts { source: 10, copied: 6, pending: 4, ..MessageCounts::default() }),
            report: Some(ReportBrief {
                protocols: [(Protocol::Imap, row)].into(),
                domains: (0..domains).map(|at| (format!("{}{at}", "d".repeat(60)), row)).collect(),
            }),
            conditions: condition::set(&[], &facts, Some(1), jiff::Timestamp::UNIX_EPOCH),
            ..MailMigrationStatus::default()
        };
        status.summary = Some(Summary::of(&status, domains));
        status
    }

    #[test]
    fn five_thousand_failing_mailboxes_stay_under_the_limit() {
        for domains in [1, 5, 50, 1000] {
            let whole = ruins(domains, 5000);
            let kept = whole.bounded();
            assert!(json_len(&kept) <= STATUS_MAX, "{domains} domains make {} bytes", json_len(&kept));
            assert_eq!(kept.domains.len() + kept.domains_omitted as usize, domains);
            assert!(
                kept.domains.iter().all(|domain| !domain.findings.is_empty()),
                "a domain lost its findings"
            );
            assert_eq!(kept.conditions.len(), condition::Type::ALL.len());
            assert_eq!(kept.bounded().domains, kept.domains, "what is within the limits stays as it is");
        }
    }

    #[test]
    fn a_small_status_is_left_alone() {
        let mut small = ruins(1, 1);
        small.domains[0].findings[0].message = "short".to_owned();
        small.domains[0].losses.clear();
        small.domains[0].candidates.clear();
        small.conditions.clear();
        assert_eq!(small.bounded(), small);
    }

    #[test]
    fn rows_with_open_findings_are_left_out_last() {
        let mut status = ruins(1000, 1000);
        for domain in &mut status.domains[..600] {
            domain.findings.clear();
        }
        for domain in &mut status.domains[600..] {
            domain.findings[0].acknowledged = false;
        }
        let kept = status.bounded();
        assert!(kept.domains_omitted > 0 && !kept.domains.is_empty());
        let calm = kept.domains.iter().filter(|domain| domain.findings.is_empty()).count();
        let troubled = kept.domains.len() - calm;
        assert!(calm == 0 || troubled == 400, "{calm} calm rows are kept and {troubled} troubled ones");
    }
}
