//! `mailferry verify`: holds what the source holds now against what the destination holds now, folder by folder and as
//! multisets. The ledger explains what was left out, what the destination is known to have altered, what is still to be
//! carried; and it keeps what is found, so that status, report and the next pass know. Nothing of the engine that carries is
//! used to find what belongs together.

mod explain;
mod folder;
mod moved;
mod pairing;
mod reading;
mod sample;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use self::folder::Check;
use self::moved::{Lost, Spare, find_moved};
use super::clock::SystemClock;
use super::workers::Tools;
use crate::discovery::Clock;
use crate::ledger::{Ledger, Refused, Row, RowId, Settled};
use crate::mail::{Destination, Folder, Source};
use crate::model::difference::{Difference, Kind, NAMED_MAX};
use crate::model::endpoint::Endpoint;
use crate::model::failure::{Failure, FailureCode, Place, Result};
use crate::model::folder::FolderPath;
use crate::model::message::{Arrival, Locator, Verdict};
use crate::model::place::MessageSource;
use crate::model::protocol::Protocol;
use crate::model::record::{Depth, MailboxRecord, Verification};
use crate::plan::mailboxes::PlannedMailbox;
use crate::transfer::atlas::Atlas;
use crate::transfer::books::tell_found;
use crate::transfer::mapping::plan_folders;
use crate::transfer::names::NameRules;
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
    /// What stood in the way.
    pub reason: String,
}

/// What a verification of one mailbox found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The figures.
    pub figures: Verification,
    /// The first differences, at most [`NAMED_MAX`].
    pub differences: Vec<Difference>,
    /// The first messages that could not be carried, at most [`NAMED_MAX`].
    pub failed: Vec<Unable>,
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

    /// Writes what was found into what is remembered of the mailbox, with what its ledger says now.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn write_into(&self, record: &mut MailboxRecord, ledger: &dyn Ledger) -> Result<()> {
        let is_of_ledger = |difference: &&Difference| {
            matches!(difference.kind, Kind::Missing | Kind::Altered | Kind::Waiting)
        };
        let others = self.differences.iter().filter(|difference| !is_of_ledger(difference)).cloned();
        record.keep_verification(self.figures, others.collect());
        tell_found(record, ledger).await
    }
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
            .hint("run the migration again: what has arrived is recognised, nothing is sent twice"));
    }
    let endpoint = endpoint.ok_or_else(|| {
        Failure::configuration("is not known to this state directory, so its server is not known either")
            .hint("run the migration with this state directory first")
    })?;
    // What is found is written down, and nobody must carry the mailbox meanwhile.
    let ledger = tools.store.claim(&key).await?;
    progress.enter_phase("logging in");
    let (mut source, _) = tools.open_source(domain, planned, endpoint).await.at(|| "source".to_owned())?;
    let mut destination = tools.open_destination(planned).await.at(|| "destination".to_owned())?;
    let folders = pair_folders(tools, &mut *source, &mut destination, &*ledger).await?;
    let rules = tools.rules()?;
    let beside = planned.beside.iter().map(|other| tools.key(other)).collect();
    let neighbours = Neighbours::new(Arc::clone(&tools.store), beside);
    let mut found = Found::new(depth);
    for (path, folders) in folders {
        progress.enter_phase(&path.to_string());
        let mut check = Check {
            mailbox: &key,
            source: &mut *source,
            destination: &mut destination,
            ledger: &*ledger,
            neighbours: &neighbours,
            found: &mut found,
            rules: &rules,
            progress,
        };
        check.run(&path, &folders).await.at(|| path.to_string())?;
    }
    progress.enter_phase("looking for messages that were moved");
    find_moved(&mut destination, &*ledger, &neighbours, &mut found, (endpoint.protocol, progress)).await?;
    source.close().await;
    destination.close().await;
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

/// Has messages sent again that were sent in vain as often as passes do that: the destination never listed them. Says how
/// many.
async fn reopen_unseen(ledger: &dyn Ledger) -> Result<u64> {
    let (mut after, mut reopened) = (0, 0);
    loop {
        let rows = ledger.page(after, ROWS_AT_ONCE).await?;
        let Some(last) = rows.last() else { return Ok(reopened) };
        after = last.id;
        let unseen = rows.iter().filter(|row| row.refused.code == Some(FailureCode::NotSeen) && !row.gone);
        let unseen: Vec<RowId> = unseen.map(|row| row.id).collect();
        reopened += unseen.len() as u64;
        ledger.reopen(&unseen).await?;
    }
}

/// The source's folders by the destination folder that their mail went to, as the passes remember it.
async fn pair_folders(
    tools: &Tools,
    source: &mut dyn Source,
    destination: &mut dyn Destination,
    ledger: &dyn Ledger,
) -> Result<BTreeMap<FolderPath, Vec<Folder>>> {
    let (sources, destinations) = (source.survey().await?, destination.list_folders().await?);
    let names = NameRules::new(destination.delimiter(), destination.length_of_names());
    let atlas = Atlas::load(ledger).await?;
    let labelled = sources.homes.is_some();
    let plans = plan_folders(&sources.folders, &destinations, labelled, &names, &tools.rules()?, &atlas);
    let mut folders: BTreeMap<FolderPath, Vec<Folder>> = BTreeMap::new();
    for plan in plans.into_iter().filter(|plan| plan.excluded.is_none()) {
        let mut path = plan.destination;
        if atlas.find(&plan.source.path).is_none() {
            // A ledger of a version that did not remember names: where mail went says more than where it would go.
            let rows = ledger.rows(&plan.source.path).await?;
            let went = rows.into_iter().find_map(|row| row.destination).map(|(folder, _)| folder);
            path = went.unwrap_or(path);
        }
        folders.entry(path).or_default().push(plan.source);
    }
    Ok(folders)
}

/// What the ledger is told of a message: its verdict, where it is, and what a verification found of it.
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
