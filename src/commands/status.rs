//! `mailferry status`: the same object that a cluster would hold.

use std::process::ExitCode;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::{print, to_json};
use crate::api::manifest::to_yaml;
use crate::api::status::{FindingStatus, Phase};
use crate::api::{Conditions, MailMigration, MailMigrationStatus, Stage, condition};
use crate::cli::{StatusArgs, StatusOutput, Whereabouts};
use crate::cluster::reading::read_migration;
use crate::discovery::Clock;
use crate::local::clock::{SystemClock, clock_time, time_until};
use crate::local::reporting::{Remembered, is_unsettled};
use crate::local::run::{Inputs, Reach, tools_for};
use crate::local::state::StateDir;
use crate::model::failure::Result;
use crate::model::text::printable;
use crate::plan::pass::fingerprint;

pub(super) async fn status(args: StatusArgs) -> Result<ExitCode> {
    // Each with the stage that its status is about, where --stage may have named it.
    let (mut migrations, stages): (Vec<_>, Vec<_>) = match args.migration.into() {
        Whereabouts::Cluster(access, name) => {
            (vec![read_migration(&access.connect().await?, &name).await?], vec![None])
        }
        Whereabouts::Machine(inputs) => remembered(&inputs).await?.into_iter().unzip(),
    };
    for migration in &mut migrations {
        migration.status.get_or_insert_default().phase.get_or_insert(Phase::Pending);
    }
    let text = match args.output {
        StatusOutput::Text => {
            let told = migrations.iter().zip(stages).map(|(migration, stage)| tell(migration, stage));
            told.collect::<Vec<_>>().join("\n")
        }
        StatusOutput::Json => match &migrations[..] {
            [one] => to_json(one)?,
            _ => to_json(&json!({"apiVersion": "v1", "kind": "List", "items": migrations}))?,
        },
        StatusOutput::Yaml => migrations.iter().map(to_yaml).collect::<Result<Vec<_>>>()?.join("---\n"),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The migrations of the manifests, with the status that was written down last; what a run left that was killed is made anew from
/// what is known.
async fn remembered(inputs: &Inputs) -> Result<Vec<(MailMigration, Option<Stage>)>> {
    let manifest = inputs.read()?;
    let state = StateDir::look(&inputs.state)?;
    let at_work = state.is_used();
    let mut migrations = Vec::new();
    for mut migration in manifest.migrations {
        let record = state.migration(&migration)?.load()?;
        let (status, declared) = (record.status, fingerprint(&migration.spec));
        let is_changed = record.spec.is_some_and(|spec| spec != declared);
        // What a run that was killed left is counted anew; of mailboxes that a later one was not asked for as well, and by the rules
        // as they are now.
        let is_recounted = is_changed || record.only.is_some() || is_unsettled(&status);
        // Nothing follows by itself where nobody stays.
        let schedule = status.schedule.filter(|_| at_work);
        migration.status = Some(MailMigrationStatus { schedule, ..status });
        if !at_work && is_recounted {
            match settled(inputs, &migration, &state).await {
                Ok(settled) => migration.status = settled,
                Err(failure) => {
                    super::tell_note(&format!(
                        "the run that wrote this status is over. {}",
                        failure.in_full()
                    ));
                }
            }
        }
        if is_changed {
            let name = migration.metadata.name.as_deref().unwrap_or_default();
            super::tell_note(&format!(
                "{name}: the manifest was changed since the last run; this is what that run left, by the manifest as it is now, and the \
                 next run follows it"
            ));
        }
        migrations.push((migration, record.stage));
    }
    Ok(migrations)
}

/// The status of a migration whose run was killed, by what its ledgers know.
async fn settled(
    inputs: &Inputs,
    migration: &MailMigration,
    state: &StateDir,
) -> Result<Option<MailMigrationStatus>> {
    let (secrets, _) = inputs.open()?;
    let tools = tools_for(migration, &secrets, state, &Reach::default()).await?;
    let kept = state.migration(migration)?;
    let listed = |at| tools.list_mailboxes(at);
    let remembered = Remembered::read(migration.clone(), kept, Arc::clone(&tools.store), false, listed);
    let mut remembered = remembered.await?;
    remembered.restate(SystemClock.now());
    Ok(remembered.known.migration.status)
}

/// The status for a person: its state, each domain, the findings, the conditions with their remedies.
fn tell(migration: &MailMigration, stage: Option<Stage>) -> String {
    use std::fmt::Write;
    let status = migration.status.clone().unwrap_or_default();
    let mut text = String::new();
    let name = migration.metadata.name.as_deref().unwrap_or_default();
    let phase = status.phase.unwrap_or_default();
    let declared = migration.spec.stage;
    let stage = match stage.filter(|stage| *stage != declared) {
        Some(stage) => format!("{stage:?} (by --stage; spec.stage is {declared:?})"),
        None => format!("{declared:?}"),
    };
    let _ = writeln!(text, "{name}  {phase}  stage {stage}");
    if let Some(messages) = &status.messages {
        let _ = writeln!(text, "  {messages}");
    }
    if let Some(words) = told_schedule(&status, SystemClock.now()) {
        let _ = writeln!(text, "  {words}");
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

/// When the next pass begins or the paused one goes on, and how long the last one took.
fn told_schedule(status: &MailMigrationStatus, now: Timestamp) -> Option<String> {
    let next = status.schedule?.next;
    let what = if status.phase == Some(Phase::Paused) { "paused; it goes on" } else { "next pass" };
    let when = format!("{what} at {}, in {}", clock_time(next, now), time_until(next, now));
    let pass = status.pass.as_ref();
    Some(match pass.and_then(|pass| Some((pass.began?, pass.ended?))) {
        Some((began, ended)) => format!("{when}; the last one took {}", time_until(ended, began)),
        None => when,
    })
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
