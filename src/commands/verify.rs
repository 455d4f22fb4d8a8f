//! `mailferry verify`.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use super::looking::open;
use super::run::report_anew;
use super::{print, tell_failure, to_json};
use crate::api::{MailMigration, Stage};
use crate::cli::{Output, VerifyArgs};
use crate::discovery::Clock;
use crate::local::clock::SystemClock;
use crate::local::only::Only;
use crate::local::progress::{MailboxProgress, Style, Verifying, display};
use crate::local::reporting::{Remembered, never_run};
use crate::local::run::{Inputs, Reach, Wanted, run_migration, tools_for};
use crate::local::secrets::Secrets;
use crate::local::state::{MigrationState, StateDir};
use crate::local::stop::Stop;
use crate::local::verify::{Found, Unable, Unchecked, verify_mailbox};
use crate::local::workers::Tools;
use crate::model::address::Address;
use crate::model::difference::{Difference, named};
use crate::model::failure::{Class, Failure, Result};
use crate::model::record::{Depth, MailboxRecord, Verification};
use crate::model::text::{count, counted, printable};
use crate::plan::Ending;
use crate::plan::mailboxes::PlannedMailbox;
use crate::plan::proof::Open;

/// The result for one mailbox: an object of `--output json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    mailbox: Address,
    /// The figures; `None` where it could not be verified.
    verification: Option<Verification>,
    differences: Vec<Difference>,
    /// Messages that could not be carried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed: Vec<Unable>,
    /// Folders that could not be looked into.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unchecked: Vec<Unchecked>,
    /// The result before it was repaired.
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<Box<Self>>,
    /// Whether it is still to be carried, because a pilot or other mailboxes were asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    not_carried: bool,
    /// Why it could not be verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
}

impl Row {
    fn found(mailbox: &Address, found: Found) -> Self {
        let Found { figures, differences, failed, unchecked, .. } = found;
        let verification = Some(figures);
        Self { verification, differences, failed, unchecked, ..Self::without(mailbox) }
    }

    fn failed(mailbox: &Address, failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::without(mailbox) }
    }

    fn not_carried(mailbox: &Address) -> Self {
        Self { not_carried: true, ..Self::without(mailbox) }
    }

    fn without(mailbox: &Address) -> Self {
        Self {
            mailbox: mailbox.clone(),
            verification: None,
            differences: Vec::new(),
            failed: Vec::new(),
            unchecked: Vec::new(),
            repaired: None,
            not_carried: false,
            failure: None,
        }
    }

    /// Whether `--repair` has something to send.
    fn wants_repair(&self) -> bool {
        self.verification.is_some_and(|figures| figures.missing + figures.waiting + figures.failed > 0)
    }
}

pub(super) async fn verify(args: &VerifyArgs, inputs: &Inputs) -> Result<ExitCode> {
    let (secrets, migrations) = open(inputs)?;
    if args.repair {
        migrations.iter().try_for_each(|migration| check_may_repair(&secrets, migration))?;
    }
    // A verification writes down what it found, and a run must not change it meanwhile. It makes no directory: where nothing
    // was carried there is nothing to verify.
    let state = StateDir::open_made(&inputs.state)?;
    let several = migrations.len() > 1;
    let only = Only::these(&args.only.addresses);
    let migrations = only.choose(migrations, &secrets, &state, &inputs.reach).await?;
    let stop = Stop::listen();
    let mut worst: Option<Class> = None;
    let mut rows = Vec::new();
    for migration in migrations {
        let mut verifying = Migration::open(&migration, &secrets, &state, &inputs.reach, several).await?;
        verifying.depth = args.depth.unwrap_or(verifying.depth);
        (verifying.repair, verifying.progress) = (args.repair, args.progress);
        verifying.only = only.clone();
        verifying.text = args.output == Output::Text;
        let done = verifying.run(&stop).await;
        let told = verifying.tell().await;
        rows.append(&mut verifying.rows);
        for failure in done?.into_iter().chain(told?) {
            worst = Some(worst.map_or(failure.class, |w| w.worse(failure.class)));
            tell_failure(&inputs.spell_out(&failure), 0);
        }
    }
    if args.output == Output::Json {
        print(&to_json(&json!({"mailboxes": rows}))?)?;
    }
    Ok(worst.map_or(ExitCode::SUCCESS, |class| ExitCode::from(class.exit_code())))
}

/// Refuses to repair where the manifest lets nothing be written.
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

/// One migration that is being verified.
#[allow(clippy::struct_excessive_bools, reason = "each is a wish or a fact of its own")]
struct Migration<'a> {
    declared: &'a MailMigration,
    secrets: &'a Arc<Secrets>,
    state: &'a StateDir,
    reach: &'a Reach,
    several: bool,
    only: Only,
    kept: MigrationState,
    tools: Tools,
    /// The verification that `spec.trigger.verify` asked a run for.
    wanted: u32,
    /// Whether a run leaves mailboxes for later on purpose.
    leaves_some: bool,
    depth: Depth,
    repair: bool,
    progress: Style,
    text: bool,
    rows: Vec<Row>,
    /// The reasons against calling it verified that nobody acknowledged.
    open: Open,
}

impl<'a> Migration<'a> {
    async fn open(
        migration: &'a MailMigration,
        secrets: &'a Arc<Secrets>,
        state: &'a StateDir,
        reach: &'a Reach,
        several: bool,
    ) -> Result<Self> {
        if !state.knows(migration) {
            return Err(never_run(migration.metadata.name.as_deref().unwrap_or_default()));
        }
        let tools = tools_for(migration, secrets, state, reach).await?;
        tools.guard.check().await?;
        let kept = state.migration(migration)?;
        let known = kept.load()?;
        let wanted = known.status.pass.map_or(0, |pass| pass.verification);
        let leaves_some = migration.spec.policy.pilot.is_some() || known.only.is_some();
        let depth = migration.spec.policy.verify.into();
        let (rows, open) = (Vec::new(), Open::default());
        let (repair, progress, text) = (false, Style::None, false);
        Ok(Self {
            declared: migration,
            secrets,
            state,
            reach,
            several,
            only: Only::default(),
            kept,
            tools,
            wanted,
            leaves_some,
            depth,
            repair,
            progress,
            text,
            rows,
            open,
        })
    }

    /// The mailboxes that are wanted, each with the place of its domain; and why those of a domain cannot be listed.
    fn list(&self) -> (Vec<(usize, PlannedMailbox)>, Vec<Failure>) {
        let (mut mailboxes, mut failures) = (Vec::new(), Vec::new());
        for at in 0..self.declared.spec.domains.len() {
            match self.tools.list_mailboxes(at) {
                Ok(listed) => {
                    let wanted = listed.into_iter().filter(|planned| self.only.takes(planned));
                    mailboxes.extend(wanted.map(|planned| (at, planned)));
                }
                Err(failure) if self.only.is_all() => failures.push(failure),
                // Those that were asked for were found in other lists.
                Err(_) => {}
            }
        }
        (mailboxes, failures)
    }

    /// The current state of the migration.
    async fn remember(&self) -> Result<Remembered> {
        let listed = |at| self.tools.list_mailboxes(at);
        let (declared, store) = (self.declared.clone(), Arc::clone(&self.tools.store));
        let mut remembered = Remembered::read(declared, self.kept.clone(), store, false, listed).await?;
        remembered.restate(SystemClock.now());
        Ok(remembered)
    }

    /// Verifies every mailbox, and with `repair` sends again and verifies those once more that something was found in. Brings
    /// what went wrong beside what was found.
    async fn run(&mut self, stop: &Stop) -> Result<Vec<Failure>> {
        if self.repair {
            // Before anything is changed in the ledger: what is to be sent again is missing no more.
            self.remember().await?.check_approved()?;
        }
        let (mailboxes, mut failures) = self.list();
        if mailboxes.is_empty() && failures.is_empty() {
            let name = self.declared.metadata.name.as_deref().unwrap_or_default();
            failures.push(
                Failure::configuration(format!("{name}: there is no mailbox that could be verified"))
                    .hint("list the mailboxes in the manifest or the Secret, as the run had them"),
            );
        }
        self.verify(&mailboxes, stop, &mut failures).await?;
        let wanted: BTreeSet<Address> =
            self.rows.iter().filter(|row| row.wants_repair()).map(|row| row.mailbox.clone()).collect();
        if !self.repair || wanted.is_empty() {
            return Ok(failures);
        }
        let shown = display(if self.progress == Style::Auto { Style::Plain } else { self.progress });
        let migration = self.declared.clone();
        let sent = Wanted { only: self.only.clone(), ..Wanted::default() };
        let running =
            run_migration(migration, sent, self.secrets, self.state, self.reach, Arc::clone(&shown));
        let ran = Box::pin(running).await;
        shown.finish();
        match ran?.ending {
            Ending::Stopped(failure) if failure.class == Class::Interrupted => return Err(failure),
            // Its losses are told by the verification that follows.
            Ending::Stopped(failure) if failure.class != Class::Message => failures.push(failure),
            Ending::Stopped(_) | Ending::Reached => {}
        }
        // Sent again is not there again before somebody looked.
        if self.text {
            print("after the repair:\n")?;
        }
        let again: Vec<(usize, PlannedMailbox)> =
            mailboxes.into_iter().filter(|(_, planned)| wanted.contains(&planned.source)).collect();
        let (repair, known) = (std::mem::take(&mut self.repair), std::mem::take(&mut self.rows));
        let verified = self.verify(&again, stop, &mut failures).await;
        self.repair = repair;
        let mut now = std::mem::take(&mut self.rows);
        self.rows = known;
        for row in &mut self.rows {
            if let Some(at) = now.iter().position(|again| again.mailbox == row.mailbox) {
                let before = std::mem::replace(row, now.swap_remove(at));
                row.repaired = Some(Box::new(before));
            }
        }
        verified.map(|()| failures)
    }

    async fn verify(
        &mut self,
        mailboxes: &[(usize, PlannedMailbox)],
        stop: &Stop,
        failures: &mut Vec<Failure>,
    ) -> Result<()> {
        let mut shown = Verifying::new(self.progress, mailboxes.len());
        for (at, planned) in mailboxes {
            let progress = Arc::new(MailboxProgress::default());
            shown.begin(&planned.source, &progress);
            let row = tokio::select! {
                row = self.verify_one(*at, planned, &progress) => row,
                () = stop.asked() => return Err(Stop::failure()),
            };
            shown.end();
            let row = row.unwrap_or_else(|failure| {
                let failure = failure.at(planned.source.to_string());
                failures.push(failure.clone());
                Row::failed(&planned.source, failure)
            });
            if self.text {
                tell(&row)?;
            }
            self.rows.push(row);
        }
        Ok(())
    }

    async fn verify_one(
        &self,
        at: usize,
        planned: &PlannedMailbox,
        progress: &MailboxProgress,
    ) -> Result<Row> {
        let domain = &self.declared.spec.domains[at].name;
        let discovery = self.kept.load_domain(domain)?;
        let mailbox = discovery
            .as_ref()
            .and_then(|found| found.mailboxes.iter().find(|mailbox| mailbox.address == planned.source));
        // By another name than the plan says, or on the word of other authorities, nothing is read, and what would be found says
        // nothing of this mailbox.
        let logins = mailbox.and_then(|mailbox| mailbox.logins.clone()).or(planned.logins.clone());
        let authorities = discovery.as_ref().and_then(|found| found.authorities.clone());
        let planned = &PlannedMailbox { logins, authorities, ..planned.clone() };
        let endpoint = mailbox.and_then(|mailbox| mailbox.endpoint.as_ref());
        let mut record = self.kept.load_mailbox(&planned.source)?.unwrap_or_default();
        if self.leaves_some && record.pass == 0 {
            return Ok(Row::not_carried(&planned.source));
        }
        // Where it could not be looked at, that is the reason.
        if let (None, Some(failure)) = (endpoint, mailbox.and_then(|mailbox| mailbox.failure.clone())) {
            return self.leave_unverified(record, planned, failure);
        }
        progress.forecast(record.counts.source, 0);
        let how = (self.depth, self.repair);
        // Both sides' sessions are in it.
        let verifying = Box::pin(verify_mailbox(&self.tools, at, planned, endpoint, how, progress));
        let (found, ledger) = match verifying.await {
            Ok(verified) => verified,
            Err(failure) => return self.leave_unverified(record, planned, failure),
        };
        found.write_into(&mut record, &*ledger).await?;
        if self.depth >= self.declared.spec.policy.verify.into() {
            // The wish of a manifest whose run was stopped is fulfilled by this command as well.
            record.verification_number = record.verification_number.max(self.wanted);
        }
        drop(ledger);
        self.kept.save_mailbox(&planned.source, &record)?;
        Ok(Row::found(&planned.source, found))
    }

    /// Writes down why a mailbox could not be verified, and fails with it.
    fn leave_unverified(
        &self,
        mut record: MailboxRecord,
        planned: &PlannedMailbox,
        failure: Failure,
    ) -> Result<Row> {
        // Of one that was never carried there is nothing to prove, and another worker that has it says what it finds itself.
        if record.counts.copied > 0 && failure.class != Class::Conflict {
            record.unverified = Some(failure.clone());
            self.kept.save_mailbox(&planned.source, &record)?;
        }
        Err(failure)
    }

    /// Makes status and reports say what was found; brings what the command ends with: folders that could not be looked into,
    /// what is open, and report files that could not be written.
    async fn tell(&mut self) -> Result<Vec<Failure>> {
        let mut failures = Vec::new();
        for row in &self.rows {
            let unread = row.unchecked.iter().map(|unread| &unread.failure);
            failures.extend(unread.map(|failure| failure.clone().at(row.mailbox.to_string())));
            let domain = self.list().0.into_iter().find(|(_, planned)| planned.source == row.mailbox);
            let Some((at, _)) = domain else { continue };
            let record = self.kept.load_mailbox(&row.mailbox)?.unwrap_or_default();
            if row.verification.is_some() {
                self.open += Open::of(&self.declared.spec, &self.declared.spec.domains[at].name, &record);
            }
        }
        self.remember().await?.keep()?;
        let reported = report_anew(&self.tools, self.declared, self.state, self.several, false).await?;
        let open = &self.open;
        if !open.is_none() {
            failures.push(Failure::new(open.class(), open.clauses()).hint(open.remedy()));
        }
        failures.extend(reported.files.err());
        Ok(failures)
    }
}

/// Tells a person the result for a mailbox.
fn tell(row: &Row) -> Result<()> {
    if row.not_carried {
        return print(&format!("{:32} is still to be carried\n", row.mailbox.to_string()));
    }
    let Some(figures) = &row.verification else {
        return print(&format!("{:32} could not be verified\n", row.mailbox.to_string()));
    };
    let also = [
        (figures.moved, "in another folder"),
        (figures.differing_messages(), "with other flags or dates"),
        (figures.extra, "there once more than at the source"),
        (figures.waiting, "still to be carried"),
        (figures.failed, "could not be carried"),
        (figures.unchecked, "could not be checked"),
    ];
    let absent = match figures.absent_folders {
        0 => String::new(),
        n => format!("; {} not at the destination", counted(n, "folder is", "folders are")),
    };
    let also = also.map(|(n, words)| if n > 0 { format!("; {} {words}", count(n)) } else { String::new() });
    let same_size = match figures.same_size {
        0 => String::new(),
        n => format!(" + {} of the same size", count(n)),
    };
    let alike = match figures.alike {
        0 => String::new(),
        n => format!(" + {} alike", count(n)),
    };
    print(&format!(
        "{:32} {} checked = {} identical{same_size}{alike} + {} altered + {} missing; {} read back{}\n",
        row.mailbox.to_string(),
        count(figures.checked),
        count(figures.identical),
        count(figures.altered),
        count(figures.missing),
        count(figures.read_back),
        also.concat() + &absent
    ))?;
    for unread in &row.unchecked {
        print(&format!("  {}\n", printable(&unread.sentence())))?;
    }
    for difference in &row.differences {
        print(&format!("  {}\n", printable(&difference.sentence())))?;
    }
    for unable in &row.failed {
        let message = named(&unable.source, unable.subject.as_deref());
        let words = format!("{message} could not be carried: {}", unable.reason);
        print(&format!("  {}\n", printable(&words)))?;
    }
    let named = (row.differences.len() + row.failed.len()) as u64;
    let all = figures.missing
        + figures.alike
        + figures.altered
        + figures.moved
        + figures.differing
        + figures.waiting
        + figures.failed;
    if all > named {
        print(&format!("  and {} more; the report and the ledger name them\n", count(all - named)))?;
    }
    Ok(())
}
