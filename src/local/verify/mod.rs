//! `mailferry verify`: holds what the source holds now against what the destination holds now, folder by folder and as
//! multisets. The ledger explains what was left out, what the destination is known to have altered, what is still to be
//! carried; and it keeps what is found, so that status, report and the next pass know. Nothing of the engine that carries is
//! used to find what belongs together.

mod ends;
mod explain;
mod folder;
mod ladder;
mod moved;
mod pairing;
mod reading;
mod sample;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use self::ends::{Paired, pair_folders, reopen_unseen};
use self::folder::Check;
use self::ladder::{FOLDER_TRIES, Ladder, Opening};
use self::moved::{Lost, Spare, find_moved};
use super::clock::SystemClock;
use super::workers::Tools;
use crate::discovery::Clock;
use crate::drivers::Folder;
use crate::ledger::{Ledger, Refused, Row, RowId, Settled};
use crate::model::difference::{Difference, Kind, NAMED_MAX};
use crate::model::endpoint::Endpoint;
use crate::model::failure::{Failure, FailureCode, Place, Result, Side, Spoils};
use crate::model::folder::FolderPath;
use crate::model::message::{Arrival, Locator, Verdict};
use crate::model::place::MessageSource;
use crate::model::protocol::Protocol;
use crate::model::record::{Depth, MailboxRecord, Verification};
use crate::model::text::{counted, printable};
use crate::plan::mailboxes::PlannedMailbox;
use crate::transfer;
use crate::transfer::books::tell_found;
use crate::transfer::find_other_end;
use crate::transfer::neighbours::Neighbours;
use crate::transfer::progress::MailboxProgress;

/// Rows of a ledger that are looked through at once.
const ROWS_AT_ONCE: usize = 1_000;

/// A message that could not be carried, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unable {
    /// Where it is at the source.
    pub source: MessageSource,
    /// Its subject, printable, where it is known.
    pub subject: Option<String>,
    /// Its Message-ID, printable, where it is known.
    pub message_id: Option<String>,
    /// The failure that stood in the way.
    pub reason: String,
}

/// A folder that could not be looked into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unchecked {
    /// The folder, at the side where it could not be opened or listed.
    pub folder: FolderPath,
    /// Messages that were carried from or to it and that nobody looked for.
    pub messages: u64,
    /// Why.
    pub failure: Failure,
}

impl Unchecked {
    /// One line for a person.
    pub fn sentence(&self) -> String {
        let words = counted(self.messages, "message of it was", "messages of it were");
        let (path, why) = (&self.folder, self.failure.sentence());
        format!("{path}: could not be looked into, so {words} not checked: {why}")
    }
}

/// The findings of a verification of one mailbox.
#[derive(Debug, Clone)]
pub struct Found {
    /// The figures.
    pub figures: Verification,
    /// The first differences, at most [`NAMED_MAX`].
    pub differences: Vec<Difference>,
    /// The first messages that could not be carried, at most [`NAMED_MAX`].
    pub failed: Vec<Unable>,
    /// Folders that could not be looked into.
    pub unchecked: Vec<Unchecked>,
    /// Rows that are to be sent again if that is wanted.
    missing: Vec<RowId>,
    /// Messages that are not in the folder that they were carried to, and may be in another one.
    lost: Vec<Lost>,
    /// Messages at the destination that found no like, by folder.
    spare: BTreeMap<FolderPath, Spare>,
    /// Folders that are not at the destination.
    absent: Vec<FolderPath>,
}

impl Found {
    fn new(depth: Depth) -> Self {
        let figures = Verification { depth, ..Verification::begun(SystemClock.now()) };
        Self {
            figures,
            differences: Vec::new(),
            failed: Vec::new(),
            unchecked: Vec::new(),
            missing: Vec::new(),
            lost: Vec::new(),
            spare: BTreeMap::new(),
            absent: Vec::new(),
        }
    }

    fn name(&mut self, difference: Difference) {
        if self.differences.len() < NAMED_MAX {
            self.differences.push(difference);
        }
    }

    fn name_failed(&mut self, locator: &Locator, row: Option<&Row>, reason: &str) {
        self.figures.failed += 1;
        if self.failed.len() < NAMED_MAX {
            let known = row.and_then(|row| row.known.as_ref());
            self.failed.push(Unable {
                source: locator.into(),
                subject: known.and_then(|known| known.subject.clone()),
                message_id: known.and_then(|known| known.message_id.clone()),
                reason: reason.to_owned(),
            });
        }
    }

    /// Names a folder that could not be looked into, and counts what was carried from these folders as not checked.
    async fn leave(
        &mut self,
        ledger: &dyn Ledger,
        path: &FolderPath,
        sources: &[FolderPath],
        failure: Failure,
    ) -> Result<()> {
        let mut messages = 0;
        for source in sources {
            let rows = ledger.rows(source).await?;
            messages += rows.iter().filter(|row| row.verdict.is_delivered() && !row.gone).count() as u64;
        }
        self.figures.unchecked += messages;
        self.unchecked.push(Unchecked { folder: path.clone(), messages, failure });
        Ok(())
    }

    /// How far it has come.
    fn mark(&self) -> Mark {
        let [differences, failed] = [self.differences.len(), self.failed.len()];
        let [missing, lost, absent] = [self.missing.len(), self.lost.len(), self.absent.len()];
        Mark { figures: self.figures, differences, failed, missing, lost, absent }
    }

    /// Forgets what was found since.
    fn go_back(&mut self, mark: Mark) {
        self.figures = mark.figures;
        self.differences.truncate(mark.differences);
        self.failed.truncate(mark.failed);
        self.missing.truncate(mark.missing);
        self.lost.truncate(mark.lost);
        self.absent.truncate(mark.absent);
    }

    /// Writes what was found into what is remembered of the mailbox, with what its ledger says now.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn write_into(&self, record: &mut MailboxRecord, ledger: &dyn Ledger) -> Result<()> {
        let is_of_ledger = |difference: &&Difference| {
            // Missing messages may be sent again, and waiting ones are carried; altered ones stay so.
            matches!(difference.kind, Kind::Missing | Kind::Waiting)
        };
        let others = self.differences.iter().filter(|difference| !is_of_ledger(difference)).cloned();
        record.keep_verification(self.figures, others.collect());
        tell_found(record, ledger).await
    }
}

/// How far a verification has come.
#[derive(Debug, Clone, Copy)]
struct Mark {
    figures: Verification,
    differences: usize,
    failed: usize,
    missing: usize,
    lost: usize,
    absent: usize,
}

/// Verifies one mailbox. Nothing is changed at either side; with `repair` the ledger forgets where the missing are, so that
/// the next pass sends them again. The ledger is claimed until the caller drops it.
///
/// # Errors
/// Those of the ledger, the logins and the sessions; [`crate::model::failure::Class::Configuration`] where there is no ledger
/// to hold anything against.
pub async fn verify_mailbox(
    tools: &Tools,
    domain: usize,
    planned: &PlannedMailbox,
    endpoint: Option<&Endpoint>,
    (depth, repair): (Depth, bool),
    progress: &MailboxProgress,
) -> Result<(Found, Box<dyn Ledger>)> {
    let key = tools.key(&planned.source);
    if tools.store.find(&key).await?.is_none() {
        return Err(Failure::configuration("there is no ledger of it, so that nothing can be proved of it")
            .hint(
                "run the migration with --stage Sync: what has arrived is recognised, nothing is sent twice",
            ));
    }
    let endpoint = endpoint.ok_or_else(|| {
        Failure::configuration("is not known to this state directory, so its server is not known either")
            .hint("run the migration with this state directory first")
    })?;
    // The findings are written down, and nobody must carry the mailbox meanwhile.
    let ledger = tools.store.claim(&key).await?;
    refuse_other_ends(&tools.ends(domain, planned, endpoint)?, &*ledger).await?;
    progress.enter_phase("logging in");
    let opening = Opening { tools, domain, planned, endpoint, key: &key };
    let mut ends = opening.open(None).await?;
    let mut ladder = Ladder::new(&key);
    let Paired { folders, left_out, unlisted } = loop {
        match pair_folders(tools, &mut *ends.source, &mut *ends.destination, &*ledger).await {
            Ok(paired) => break paired,
            Err(failure) => ladder.climb(failure).await?,
        }
        ends = opening.open(Some(ends)).await?;
    };
    let rules = tools.rules()?;
    let beside = planned.beside.iter().map(|other| tools.key(other)).collect();
    let neighbours = Neighbours::new(Arc::clone(&tools.store), beside);
    let mut found = Found::new(depth);
    for (folder, failure) in unlisted {
        found.leave(&*ledger, &folder, std::slice::from_ref(&folder), failure).await?;
    }
    for (path, folders) in folders {
        progress.enter_folder(&path);
        let before = found.mark();
        // A session that ended at a folder may have ended by chance.
        let mut ladder = Ladder::new(&key);
        loop {
            let mut check = Check {
                mailbox: &key,
                source: &mut *ends.source,
                destination: &mut *ends.destination,
                ledger: &*ledger,
                neighbours: &neighbours,
                found: &mut found,
                rules: &rules,
                left_out: &left_out,
                progress,
            };
            let checked = Box::pin(check.run(&path, &folders)).await;
            let Err(failure) = checked.at(|| path.to_string()) else { break };
            if failure.spoils() > Spoils::Session {
                return Err(failure);
            }
            found.go_back(before);
            let is_answer = failure.leaves_the_session() || failure.asks_to_come_later();
            if is_answer {
                found.leave(&*ledger, &path, &paths_of(&folders), failure).await?;
                break;
            }
            let is_last = ladder.attempts() + 1 >= FOLDER_TRIES;
            let given_up = if is_last { Some(failure) } else { ladder.climb(failure).await.err() };
            ends = opening.open(Some(ends)).await?;
            if let Some(failure) = given_up {
                found.leave(&*ledger, &path, &paths_of(&folders), failure).await?;
                break;
            }
        }
    }
    progress.enter_phase("looking for messages that were moved");
    let how = (endpoint.protocol, progress);
    let before = (found.mark(), found.lost.clone(), found.absent.clone(), found.spare.clone());
    let mut ladder = Ladder::new(&key);
    while let Err(failure) = find_moved(&mut *ends.destination, &*ledger, &neighbours, &mut found, how).await
    {
        ladder.climb(failure).await?;
        ends = opening.open(Some(ends)).await?;
        found.go_back(before.0);
        (found.lost, found.absent, found.spare) = (before.1.clone(), before.2.clone(), before.3.clone());
    }
    ends.close().await;
    if repair && !found.missing.is_empty() {
        ledger.reopen(&found.missing).await?;
    }
    if repair {
        found.figures.waiting += reopen_unseen(&*ledger).await?;
        // An unchanged folder is not looked into; what was reopened must be.
        ledger.forget_cursors().await?;
    }
    found.figures.at = SystemClock.now();
    Ok((found, ledger))
}

/// Refuses to hold a ledger against another mailbox than its mail was carried from or to: a server that a look found since, which
/// may have been refused, would make all mail look changed.
async fn refuse_other_ends(ends: &transfer::Ends, ledger: &dyn Ledger) -> Result<()> {
    for (side, now) in [(Side::Source, &ends.source), (Side::Destination, &ends.destination)] {
        let Some(before) = find_other_end(ends, ledger, side).await? else { continue };
        let (word, was) = match side {
            Side::Source => ("source", "read from"),
            Side::Destination => ("destination", "written to"),
        };
        let what = format!(
            "the {word} is {} now, and the mail was {was} {}: nothing can be proved of the one by the other",
            printable(now),
            printable(&before)
        );
        let hint = "if it is to be the new one, run the migration first, which holds its mail against what is known; else lead \
                    the name back (DNS, --resolver, spec.domains[].servers, the Secret) and run again";
        return Err(Failure::configuration(what).side(side).hint(hint));
    }
    Ok(())
}

fn paths_of(folders: &[Folder]) -> Vec<FolderPath> {
    folders.iter().map(|folder| folder.path.clone()).collect()
}

/// The entry of a message for the ledger: its verdict, where it is, and what a verification found of it.
fn settled(
    row: &Row,
    verdict: Verdict,
    destination: Option<(FolderPath, Arrival)>,
    code: Option<FailureCode>,
) -> Settled {
    Settled {
        id: row.id,
        known: None,
        size: None,
        date: None,
        flags: None,
        destination,
        verdict,
        stored: None,
        replaces: None,
        refused: Refused { code, limit: None },
    }
}

/// A folder that is not at the destination.
fn absent_folder(path: &FolderPath, protocol: Protocol) -> Difference {
    Difference {
        kind: Kind::Folder,
        source: MessageSource::folder(protocol, path),
        destination: None,
        subject: None,
        message_id: None,
        expected: Some(crate::model::difference::Value::Text(path.to_string())),
        found: None,
    }
}
