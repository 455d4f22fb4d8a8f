//! `mailferry verify`: holds every delivered message of the ledgers against what the destination holds now.

use std::collections::{BTreeMap, HashMap};

use super::clock::SystemClock;
use super::workers::Tools;
use crate::discovery::Clock;
use crate::ledger::{Ledger, Row, RowId, Settled};
use crate::mail::{Destination, Present};
use crate::model::failure::{Place, Result};
use crate::model::finding::{Code, Finding};
use crate::model::folder::FolderPath;
use crate::model::message::Verdict;
use crate::model::record::{Depth, Verification};
use crate::model::text::counted;
use crate::plan::mailboxes::PlannedMailbox;
use crate::transfer::verify::{SAMPLE, read_identities};

/// Rows of a ledger read at once.
const PAGE: usize = 5_000;
/// Messages read back with one request.
const READ_BACK: usize = 200;

/// What a verification of one mailbox found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The figures.
    pub figures: Verification,
    /// The first missing or changed messages, one line each; at most 100.
    pub named: Vec<String>,
    /// Rows whose message is no longer at the destination.
    pub missing: Vec<RowId>,
}

impl Found {
    /// What a person should know of it.
    pub fn finding(&self) -> Option<Finding> {
        let words = counted(self.figures.missing, "message is", "messages are");
        let text = format!("{words} no longer at the destination.");
        (self.figures.missing > 0).then(|| Finding::of_domain(Code::ArrivalsRemoved, text))
    }
}

/// The most messages that are named.
const NAMED_MAX: usize = 100;

/// Verifies one mailbox. Nothing is changed at the destination; with `repair` the ledger forgets what is missing, so that
/// the next pass sends it again.
///
/// # Errors
/// Those of the ledger, the login and the session.
pub async fn verify_mailbox(
    tools: &Tools,
    planned: &PlannedMailbox,
    depth: Depth,
    repair: bool,
) -> Result<Option<Found>> {
    let key = tools.key(&planned.source);
    if tools.store.find(&key).await?.is_none() {
        return Ok(None);
    }
    // What is found is written down, and nobody must carry the mailbox meanwhile.
    let ledger = tools.store.claim(&key).await?;
    let mut by_folder: BTreeMap<FolderPath, Vec<Row>> = BTreeMap::new();
    let mut after = 0;
    loop {
        let page = ledger.page(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for row in page.into_iter().filter(|row| row.verdict.is_delivered()) {
            if let Some((folder, _)) = &row.destination {
                by_folder.entry(folder.clone()).or_default().push(row);
            }
        }
    }
    let mut destination = tools.open_destination(planned).await.at(|| "destination".to_owned())?;
    let mut found = Found {
        figures: Verification {
            depth,
            at: SystemClock.now(),
            checked: 0,
            read_back: 0,
            identical: 0,
            altered: 0,
            missing: 0,
        },
        named: Vec::new(),
        missing: Vec::new(),
    };
    for (folder, rows) in by_folder {
        verify_folder(&mut destination, &*ledger, &folder, rows, &mut found)
            .await
            .at(|| folder.to_string())?;
    }
    destination.close().await;
    if repair && !found.missing.is_empty() {
        ledger.reopen(&found.missing).await?;
        // An unchanged folder is not looked into; what was reopened must be.
        ledger.forget_cursors().await?;
    }
    found.figures.at = SystemClock.now();
    Ok(Some(found))
}

async fn verify_folder(
    destination: &mut dyn Destination,
    ledger: &dyn Ledger,
    folder: &FolderPath,
    rows: Vec<Row>,
    found: &mut Found,
) -> Result<()> {
    let known: Vec<FolderPath> = destination.list_folders().await?.into_iter().map(|f| f.path).collect();
    let (uidvalidity, present): (u32, HashMap<u32, Present>) = if known.contains(folder) {
        let state = destination.open(folder).await?;
        let listed = if state.messages == 0 { Vec::new() } else { destination.list_from(1).await? };
        (state.uidvalidity, listed.into_iter().map(|p| (p.uid, p)).collect())
    } else {
        (0, HashMap::new())
    };
    let mut read_back: Vec<(u32, Row)> = Vec::new();
    for row in rows {
        let Some((_, arrival)) = &row.destination else { continue };
        found.figures.checked += 1;
        let here = present.get(&arrival.uid).filter(|_| arrival.uidvalidity == uidvalidity);
        let Some(here) = here else {
            found.figures.missing += 1;
            name(found, &row, "is no longer at the destination");
            found.missing.push(row.id);
            continue;
        };
        let exact = row.known.as_ref().map(|k| k.exact);
        let wanted = match found.figures.depth {
            Depth::Full => true,
            Depth::Sampled => here.size != row.size || exact.is_some_and(|e| e.0[0].is_multiple_of(SAMPLE)),
            Depth::Sizes => here.size != row.size,
        };
        if wanted {
            read_back.push((arrival.uid, row));
        } else {
            count(found, &row);
        }
    }
    for part in read_back.chunks(READ_BACK) {
        let uids: Vec<u32> = part.iter().map(|(uid, _)| *uid).collect();
        let identities: HashMap<_, _> = read_identities(destination, &uids).await?.into_iter().collect();
        let mut changed = Vec::new();
        for (uid, row) in part {
            let Some(identity) = identities.get(uid) else { continue };
            found.figures.read_back += 1;
            let same = row.known.as_ref().is_some_and(|k| k.exact == identity.exact);
            if same || !matches!(row.verdict, Verdict::Delivered) {
                count(found, row);
                continue;
            }
            found.figures.altered += 1;
            let reason = format!(
                "the destination holds {} bytes that differ from the {} that were sent",
                identity.size, row.size
            );
            name(found, row, &reason);
            changed.push(Settled {
                id: row.id,
                known: None,
                size: None,
                date: None,
                flags: None,
                destination: row.destination.clone(),
                verdict: Verdict::DeliveredAltered(reason),
                replaces: None,
            });
        }
        ledger.settle(&changed, None).await?;
    }
    Ok(())
}

fn count(found: &mut Found, row: &Row) {
    match row.verdict {
        Verdict::DeliveredAltered(_) => found.figures.altered += 1,
        _ => found.figures.identical += 1,
    }
}

fn name(found: &mut Found, row: &Row, what: &str) {
    if found.named.len() < NAMED_MAX {
        let subject = row.known.as_ref().and_then(|k| k.subject.as_deref()).unwrap_or("(no subject)");
        found.named.push(format!("{}: \"{subject}\" {what}", row.locator));
    }
}
