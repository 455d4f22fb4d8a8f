//! `mailferry dns`: the records of the move, asked for now and kept.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{print, to_json};
use crate::api::manifest::to_yaml;
use crate::cli::{DnsArgs, DnsOutput};
use crate::discovery::Clock;
use crate::local::clock::SystemClock;
use crate::local::dns;
use crate::local::run::{Inputs, network_for};
use crate::local::state::StateDir;
use crate::local::terminal::tell;
use crate::model::dns::{Problem, RecordKind};
use crate::model::failure::{Class, Failure, FailureCode, Result};
use crate::model::records::{DomainRecords, RecordState, Wanted};
use crate::model::text::printable;
use crate::report::dns::{CHANGES_NOTHING, DnsReport, text, ttl_of, zone};

pub(super) async fn dns(args: &DnsArgs, inputs: &Inputs) -> Result<ExitCode> {
    let migrations = inputs.read()?.migrations;
    let state = StateDir::beside(&inputs.state)?;
    let mut reports = Vec::new();
    for migration in &migrations {
        let network = network_for(migration, &inputs.reach)?;
        let kept = state.migration(migration)?;
        dns::look_at_all(&network, migration, &kept).await?;
        let namespace = migration.metadata.namespace.clone();
        reports.push((dns::kept(migration, &kept, SystemClock.now())?, namespace));
    }
    let each = |write: &dyn Fn(&DnsReport) -> String| {
        reports.iter().map(|(report, _)| write(report)).collect::<Vec<_>>().join("\n")
    };
    print(&match args.output {
        DnsOutput::Text => each(&text),
        DnsOutput::Zone => each(&zone),
        DnsOutput::Json => match &reports[..] {
            [(one, _)] => to_json(one)?,
            several => {
                to_json(&json!({"items": several.iter().map(|(report, _)| report).collect::<Vec<_>>()}))?
            }
        },
        DnsOutput::DnsEndpoint => {
            let texts = reports.iter().map(|(report, namespace)| endpoints(report, namespace.as_deref()));
            texts.collect::<Result<Vec<_>>>()?.concat()
        }
    })?;
    // The rest is told first: one domain that nobody answers for hides no other.
    let mut failures = reports.iter().flat_map(|(report, _)| &report.domains).filter_map(unanswered);
    let Some(first) = failures.next() else { return Ok(ExitCode::SUCCESS) };
    for failure in failures {
        tell(&format!("error: {failure}\n"));
    }
    Err(first)
}

/// That nobody said anything about a domain's MX: then nothing is known, and a command that ended well would say otherwise.
fn unanswered(domain: &DomainRecords) -> Option<Failure> {
    let mx = domain.mx()?;
    if mx.state != RecordState::Unseen || mx.seen.resolver.is_some() {
        return None;
    }
    let problem = domain.servers.iter().find_map(|server| server.problem).or(domain.resolver);
    let (class, code) = match problem {
        Some(Problem::NotAllowed) => (Class::Refused, FailureCode::AddressNotAllowed),
        _ => (Class::Unreachable, FailureCode::NameUnanswered),
    };
    let (what, hint) = match (domain.servers.iter().find(|server| server.problem.is_some()), problem) {
        (Some(server), Some(problem)) => {
            (format!("no name server answers: {} {problem}", printable(&server.name)), problem.remedy())
        }
        _ => (
            "no name server answers, and nor does the resolver".to_owned(),
            "check the resolver, or give one with --resolver IP:PORT",
        ),
    };
    Some(Failure::new(class, what).code(code).hint(hint).at(domain.name.clone()))
}

/// The objects by which external-dns makes the records, one for each domain; what it cannot do is a comment. It takes targets
/// without the final dot (docs/sources/mx-record.md and srv-record.md of external-dns).
fn endpoints(report: &DnsReport, namespace: Option<&str>) -> Result<String> {
    let mut text = format!(
        "# DNSEndpoint objects for external-dns, which must be started with --source=crd and with --managed-record-types\n\
         # for each type below. {CHANGES_NOTHING}\n"
    );
    for domain in &report.domains {
        let mut made: Vec<Value> = Vec::new();
        let mut comments: Vec<String> = Vec::new();
        let by_hand = |words: &str, name: &str, kind: RecordKind| {
            format!("# By hand, {kind} {}: {}\n", printable(name), printable(words))
        };
        for row in domain.records.iter().filter(|row| row.state != RecordState::NotNeeded) {
            match &row.wanted {
                // external-dns would write all texts of the name, and the others are not ours to know.
                Wanted::Records { records, .. } if row.kind == RecordKind::Txt => {
                    let texts: Vec<&str> = records.iter().map(|record| record.value.as_str()).collect();
                    let words = format!("beside the other texts of the name: {}", texts.join(" "));
                    comments.push(by_hand(&words, &row.name, row.kind));
                }
                Wanted::Records { records, or } => {
                    let targets: Vec<String> = records.iter().map(ToString::to_string).collect();
                    let kind = records.first().map_or(row.kind, |record| record.kind);
                    made.push(json!({
                        "dnsName": row.name,
                        "recordType": kind.to_string(),
                        "recordTTL": ttl_of(row),
                        "targets": targets,
                    }));
                    if let Some(or) = or.as_ref().filter(|_| row.state != RecordState::InPlace) {
                        comments.push(format!("# {kind} {}: or {}\n", row.name, printable(or)));
                    }
                }
                Wanted::Absent if row.state == RecordState::Unseen => {}
                Wanted::Absent => comments.push(by_hand("take it out", &row.name, row.kind)),
                Wanted::Ask(_) if row.state == RecordState::InPlace => {}
                Wanted::Ask(words) => comments.push(by_hand(words, &row.name, row.kind)),
            }
        }
        text.push_str("---\n");
        text.push_str(&comments.concat());
        if made.is_empty() {
            let _ = writeln!(text, "# Of {} no record is known that would have to be made.", domain.name);
            continue;
        }
        let name = format!("{}-{}", report.name, domain.name).replace('_', "-");
        let mut metadata = json!({"name": name});
        if let Some(namespace) = namespace {
            metadata["namespace"] = json!(namespace);
        }
        text.push_str(&to_yaml(&json!({
            "apiVersion": "externaldns.k8s.io/v1alpha1",
            "kind": "DNSEndpoint",
            "metadata": metadata,
            "spec": {"endpoints": made},
        }))?);
    }
    Ok(text)
}
