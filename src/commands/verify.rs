//! `mailferry verify`.

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use super::looking::open;
use super::{print, tell_failure, to_json};
use crate::api::{MailMigration, Stage};
use crate::cli::{Output, VerifyArgs};
use crate::local::only::Only;
use crate::local::progress::{Style, display};
use crate::local::run::{Inputs, Reach, Wanted, run_migration, tools_for};
use crate::local::secrets::Secrets;
use crate::local::state::StateDir;
use crate::local::verify::{Found, verify_mailbox};
use crate::local::workers::Tools;
use crate::model::failure::{Class, Failure, Result};
use crate::model::finding::Code;
use crate::model::text::counted;
use crate::plan::Ending;

pub(super) async fn verify(args: VerifyArgs) -> Result<ExitCode> {
    let inputs = Inputs::from(args.inputs);
    let reach = Reach::from(args.reach);
    let (secrets, migrations) = open(&inputs)?;
    if args.repair {
        migrations.iter().try_for_each(|migration| check_may_repair(&secrets, migration))?;
    }
    // A verification writes down what it found, and a run must not change it meanwhile.
    let state = StateDir::open(&inputs.state)?;
    let only = Only::these(&args.only.addresses);
    let migrations = only.choose(migrations, &secrets, &state, &reach).await?;
    let mut worst: Option<Class> = None;
    let mut rows = Vec::new();
    for migration in migrations {
        let tools = tools_for(&migration, &secrets, &state, &reach).await?;
        tools.guard.check().await?;
        let kept = state.migration(&migration)?;
        let wanted = args.depth.unwrap_or_else(|| migration.spec.policy.verify.into());
        let mut sum = Sum::default();
        for at in 0..migration.spec.domains.len() {
            let discovery = kept.load_domain(&migration.spec.domains[at].name)?;
            for planned in tools.list_mailboxes(at)?.into_iter().filter(|planned| only.takes(planned)) {
                let found = discovery.iter().flat_map(|found| &found.mailboxes);
                let mailbox = found.into_iter().find(|mailbox| mailbox.address == planned.source);
                let endpoint = mailbox.and_then(|mailbox| mailbox.endpoint.as_ref());
                // Both sides' sessions are in it.
                let verifying = verify_mailbox(&tools, at, &planned, endpoint, wanted, args.repair);
                let verified = Box::pin(verifying).await;
                let row = match verified {
                    Ok(Some(found)) => {
                        let mut record = kept.load_mailbox(&planned.source)?.unwrap_or_default();
                        record.verification = Some(found.figures);
                        record.findings.retain(|finding| finding.code != Code::ArrivalsRemoved);
                        record.findings.extend(found.finding());
                        kept.save_mailbox(&planned.source, &record)?;
                        sum.add(&found);
                        for (_, failure) in &found.unchecked {
                            let failure = failure.clone().at(planned.source.to_string());
                            worst = Some(worst.map_or(failure.class, |w| w.worse(failure.class)));
                            tell_failure(&failure, 0);
                        }
                        json!({"mailbox": planned.source, "verification": found.figures, "named": found.named})
                    }
                    Ok(None) => json!({"mailbox": planned.source, "verification": null, "named": []}),
                    Err(failure) => {
                        let failure = failure.at(planned.source.to_string());
                        worst = Some(worst.map_or(failure.class, |w| w.worse(failure.class)));
                        tell_failure(&failure, 0);
                        json!({"mailbox": planned.source, "failure": failure})
                    }
                };
                if args.output == Output::Text {
                    tell(&row)?;
                }
                rows.push(row);
            }
        }
        if sum.missing + sum.waiting + sum.failed > 0 && args.repair {
            let shown = display(Style::Plain);
            let wanted = Wanted { stage: Some(Stage::Sync), only: only.clone() };
            let ran = run_migration(migration, wanted, &secrets, &state, &reach, Arc::clone(&shown)).await?;
            if let Ending::Stopped(failure) = ran.ending {
                return Err(failure);
            }
            (sum.missing, sum.waiting) = (0, 0);
            sum.failed = sum.failed.min(count_failed(&tools).await?);
        }
        if let Some(failure) = sum.failure() {
            worst = Some(worst.map_or(failure.class, |w| w.worse(failure.class)));
            tell_failure(&failure, 0);
        }
    }
    if args.output == Output::Json {
        print(&to_json(&json!({"mailboxes": rows}))?)?;
    }
    Ok(worst.map_or(ExitCode::SUCCESS, |class| ExitCode::from(class.exit_code())))
}

/// Refuses to repair where the manifest lets nothing be written; that the plan is the approved one is seen to when messages
/// are sent again.
fn check_may_repair(secrets: &Secrets, migration: &MailMigration) -> Result<()> {
    let spec = &migration.spec;
    let (field, why, hint) = if spec.stage == Stage::Plan {
        ("spec.stage", "it is Plan, which writes nothing at the destination", "set spec.stage to Sync")
    } else if spec.suspend {
        ("spec.suspend", "the migration is suspended", "set spec.suspend to false")
    } else {
        return Ok(());
    };
    let place = secrets.place(migration, field).map(|place| format!("{place}: {field}"));
    let what = format!("{why}, and --repair sends messages again");
    Err(Failure::configuration(what)
        .hint(format!("{hint}, or verify without --repair"))
        .at(place.unwrap_or_else(|| field.to_owned())))
}

/// How many messages of a migration could not be carried, as far as its ledgers know.
async fn count_failed(tools: &Tools) -> Result<u64> {
    let mut failed = 0;
    for at in 0..tools.migration.spec.domains.len() {
        for planned in tools.list_mailboxes(at)? {
            if let Some(ledger) = tools.store.find(&tools.key(&planned.source)).await? {
                failed += ledger.counts().await?.failed;
            }
        }
    }
    Ok(failed)
}

/// The differences of all mailboxes of a migration.
#[derive(Default)]
struct Sum {
    missing: u64,
    differing: u64,
    changed: u64,
    waiting: u64,
    failed: u64,
    unchecked: u64,
}

impl Sum {
    fn add(&mut self, found: &Found) {
        self.missing += found.figures.missing;
        self.differing += found.figures.differing;
        self.changed += found.changed;
        self.waiting += found.figures.waiting;
        self.failed += found.figures.failed;
        self.unchecked += found.figures.unchecked;
    }

    fn failure(&self) -> Option<Failure> {
        let words = [
            (self.missing, "no longer at the destination"),
            (self.changed, "there with other bytes"),
            (self.differing, "there with other flags or dates"),
            (self.waiting, "still to be carried"),
        ];
        let unchecked =
            format!("{} not be checked", counted(self.unchecked, "message could", "messages could"));
        let failed = format!("{} not be carried", counted(self.failed, "message could", "messages could"));
        let said: Vec<String> = words
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{} {what}", counted(*count, "message is", "messages are")))
            .chain((self.failed > 0).then_some(failed))
            .chain((self.unchecked > 0).then_some(unchecked))
            .collect();
        let hint = if self.missing > 0 {
            "if nobody removed them on purpose, send them again with --repair"
        } else if self.waiting > 0 {
            "run the migration again to carry them"
        } else if self.failed > 0 {
            "the report has the reason of each; the next run tries them again"
        } else if self.unchecked > 0 && self.changed + self.differing == 0 {
            "verify again once the folders that are named can be opened"
        } else {
            "users may have changed them since; a run carries what changes at the source from now on"
        };
        (!said.is_empty()).then(|| Failure::new(Class::Refused, said.join(", ")).hint(hint))
    }
}

fn tell(row: &serde_json::Value) -> Result<()> {
    let mailbox = row["mailbox"].as_str().unwrap_or_default();
    let figures = &row["verification"];
    if row["failure"].is_object() {
        return print(&format!("{mailbox:32} could not be verified\n"));
    }
    if figures.is_null() {
        return print(&format!("{mailbox:32} nothing was delivered yet\n"));
    }
    print(&format!(
        "{mailbox:32} {} checked = {} identical + {} altered + {} missing; {} read back{}\n",
        figures["checked"],
        figures["identical"],
        figures["altered"],
        figures["missing"],
        figures["readBack"],
        [
            ("moved", "in another folder"),
            ("differing", "with other flags or dates"),
            ("waiting", "still to be carried"),
            ("failed", "could not be carried"),
            ("unchecked", "could not be checked"),
        ]
        .map(|(name, words)| match figures[name].as_u64() {
            Some(count) if count > 0 => format!("; {count} {words}"),
            _ => String::new(),
        })
        .concat()
    ))?;
    for line in row["named"].as_array().into_iter().flatten() {
        print(&format!("  {}\n", line.as_str().unwrap_or_default()))?;
    }
    Ok(())
}
