//! `mailferry status`: the same object that a cluster would hold.

use std::process::ExitCode;

use serde_json::json;

use super::{print, to_json};
use crate::api::manifest::to_yaml;
use crate::api::status::{FindingStatus, Phase};
use crate::api::{Conditions, MailMigration, condition};
use crate::cli::{StatusArgs, StatusOutput, Whereabouts};
use crate::cluster::reading::read_migration;
use crate::local::run::Inputs;
use crate::local::state::StateDir;
use crate::model::failure::Result;
use crate::model::text::printable;

pub(super) async fn status(args: StatusArgs) -> Result<ExitCode> {
    let mut migrations = match args.migration.into() {
        Whereabouts::Cluster(access, name) => vec![read_migration(&access.connect().await?, &name).await?],
        Whereabouts::Machine(inputs) => remembered(&inputs)?,
    };
    for migration in &mut migrations {
        migration.status.get_or_insert_default().phase.get_or_insert(Phase::Pending);
    }
    let text = match args.output {
        StatusOutput::Text => migrations.iter().map(tell).collect::<Vec<_>>().join("\n"),
        StatusOutput::Json => match &migrations[..] {
            [one] => to_json(one)?,
            _ => to_json(&json!({"apiVersion": "v1", "kind": "List", "items": migrations}))?,
        },
        StatusOutput::Yaml => migrations.iter().map(to_yaml).collect::<Result<Vec<_>>>()?.join("---\n"),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The migrations of the manifests, with the status that was written down last.
fn remembered(inputs: &Inputs) -> Result<Vec<MailMigration>> {
    let manifest = inputs.read()?;
    let state = StateDir::look(&inputs.state)?;
    let with_status = |mut migration: MailMigration| {
        migration.status = Some(state.migration(&migration)?.load()?.status);
        Ok(migration)
    };
    manifest.migrations.into_iter().map(with_status).collect()
}

/// The status for a person: how it stands, each domain, the findings, the conditions with their remedies.
fn tell(migration: &MailMigration) -> String {
    use std::fmt::Write;
    let status = migration.status.clone().unwrap_or_default();
    let mut text = String::new();
    let name = migration.metadata.name.as_deref().unwrap_or_default();
    let phase = status.phase.unwrap_or_default();
    let _ = writeln!(text, "{name}  {phase}  stage {:?}", migration.spec.stage);
    if let Some(messages) = &status.messages {
        let _ = writeln!(text, "  {messages}");
    }
    for domain in &status.domains {
        let protocols: Vec<String> = domain.protocols.iter().map(|(p, n)| format!("{p} {n}")).collect();
        let protocols = if protocols.is_empty() { "nothing yet".to_owned() } else { protocols.join(" · ") };
        let _ = writeln!(text, "  {:24} {protocols}", domain.name);
        tell_findings(&mut text, &domain.findings);
    }
    if !status.findings.is_empty() {
        let _ = writeln!(text, "  as a whole");
        tell_findings(&mut text, &status.findings);
    }
    for kind in condition::Type::ALL {
        if let Some(condition) = status.conditions.of(*kind) {
            let _ = writeln!(text, "  {:20} {:8} {}", condition.type_, condition.status, condition.message);
        }
    }
    text
}

fn tell_findings(text: &mut String, findings: &[FindingStatus]) {
    use std::fmt::Write;
    for finding in findings {
        let held = if finding.acknowledged { "acknowledged" } else { "open" };
        let _ = writeln!(
            text,
            "    {:9} {} ({held}, {}): {}",
            finding.severity,
            finding.code,
            finding.count,
            printable(&finding.message)
        );
        if !finding.acknowledged {
            let _ = writeln!(text, "              → {}", finding.remedy);
        }
    }
}
