//! Messages that are sent again because the destination said that it stored them and did not list them. Where its list was only
//! late, for longer than anybody waited, the first copy turns up afterwards beside the second. So the folder is looked at for
//! some passes, and copies that turn up are told. None is removed: a user may have put the same there.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::late::{Late, Stays};
use super::neighbours::Neighbours;
use super::verify::read_identities;
use crate::drivers::marks::Marks;
use crate::drivers::{Destination, FolderState};
use crate::ledger::{Ledger, Row, RowId};
use crate::model::failure::{Failure, FailureCode, Result};
use crate::model::folder::FolderPath;
use crate::model::mark::Mark;
use crate::model::message::{Epoch, ItemId};

/// The ledger's fact that lists them, as JSON.
pub(super) const RESENT: &str = "resent";
/// So many passes look for another copy after a message was sent again.
const PASSES: u32 = 10;
/// The most messages that are remembered.
const KEPT: usize = 200;

/// A message that was sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Resent {
    row: RowId,
    folder: FolderPath,
    /// Versions before this one knew it as UIDVALIDITY.
    #[serde(alias = "uidvalidity")]
    epoch: Epoch,
    /// The mark behind which its first copy would lie. Versions before this one wrote a number.
    from: Mark,
    /// How many passes have looked.
    passes: u32,
}

async fn load(ledger: &dyn Ledger) -> Result<Vec<Resent>> {
    let text = ledger.fact(RESENT).await?.filter(|text| !text.is_empty());
    let known = text.map(|text| serde_json::from_str(&text)).transpose();
    let unreadable =
        |e| Failure::internal("the ledger's list of what was sent again cannot be read").caused_by(&e);
    Ok(known.map_err(unreadable)?.unwrap_or_default())
}

async fn save(ledger: &dyn Ledger, known: &[Resent]) -> Result<()> {
    let text = if known.is_empty() {
        String::new()
    } else {
        serde_json::to_string(known)
            .map_err(|e| Failure::internal("what was sent again cannot be written down").caused_by(&e))?
    };
    ledger.save_fact(RESENT, &text).await
}

/// Remembers that a message is about to be sent again, if it was never seen.
///
/// # Errors
/// Those of the ledger.
pub(super) async fn note(
    ledger: &dyn Ledger,
    marks: &dyn Marks,
    folder: &FolderPath,
    arrived: &FolderState,
    row: &Row,
) -> Result<()> {
    if row.refused.code != Some(FailureCode::NotSeen) {
        return Ok(());
    }
    let mut known = load(ledger).await?;
    if known.len() >= KEPT || known.iter().any(|resent| resent.row == row.id) {
        return Ok(());
    }
    let intents = ledger.open_intents().await?;
    let first = intents
        .iter()
        .filter(|intent| intent.rows.contains(&row.id) && intent.folder == *folder)
        .filter(|intent| intent.epoch == arrived.epoch)
        .map(|intent| intent.mark.clone())
        .reduce(|a, b| marks.earlier(&a, &b));
    let from = first.unwrap_or_else(|| arrived.mark.clone());
    let (folder, epoch) = (folder.clone(), arrived.epoch.clone());
    known.push(Resent { row: row.id, folder, epoch, from, passes: 0 });
    save(ledger, &known).await
}

/// Looks whether more than one copy lies at the destination of what was sent again, and notes those beyond the one that the
/// ledger counts.
///
/// # Errors
/// Those of the ledger and of the session.
pub(super) async fn find_copies(
    ledger: &dyn Ledger,
    destination: &mut dyn Destination,
    neighbours: &Neighbours,
    late: &Late<'_>,
) -> Result<()> {
    let known = load(ledger).await?;
    if known.is_empty() {
        return Ok(());
    }
    let rows: Vec<RowId> = known.iter().map(|resent| resent.row).collect();
    let rows: HashMap<RowId, Row> =
        ledger.rows_of(&rows).await?.into_iter().map(|row| (row.id, row)).collect();
    let mut left = Vec::new();
    for mut resent in known {
        let Some(row) = rows.get(&resent.row) else { continue };
        resent.passes += 1;
        let found = match (&row.known, row.verdict.is_delivered()) {
            (Some(_), true) => look_for(&resent, row, ledger, destination, neighbours).await?,
            // A copy that turns up is the message itself.
            _ => Vec::new(),
        };
        if found.is_empty() {
            left.extend((resent.passes < PASSES).then_some(resent));
        } else {
            late.note(&resent.folder, &resent.epoch, &found, Stays::ListedLate).await?;
        }
    }
    save(ledger, &left).await
}

/// The ids of copies of a message that belong to no row.
async fn look_for(
    resent: &Resent,
    row: &Row,
    ledger: &dyn Ledger,
    destination: &mut dyn Destination,
    neighbours: &Neighbours,
) -> Result<Vec<ItemId>> {
    let Some(known) = &row.known else { return Ok(Vec::new()) };
    let (folder, epoch) = (&resent.folder, &resent.epoch);
    match destination.open(folder).await {
        Ok(state) if state.epoch == *epoch => {}
        Ok(_) => return Ok(Vec::new()),
        Err(failure) if failure.leaves_the_session() || failure.asks_to_come_later() => return Ok(Vec::new()),
        Err(failure) => return Err(failure),
    }
    let claimed = ledger.claimed(folder, epoch).await?;
    let present = destination.list_since(&resent.from).await?;
    let may_be = |size: u64, date| size == row.size || row.date.is_some() && date == row.date;
    let free = present.into_iter().filter(|message| may_be(message.size, message.date));
    let free: Vec<ItemId> = free.map(|message| message.id).filter(|id| !claimed.contains(id)).collect();
    let free = neighbours.spare(folder, epoch, free, |id| id).await?;
    let read = read_identities(destination, &free).await?;
    Ok(read.into_iter().filter(|(_, it)| it.canonical == known.canonical).map(|(id, _)| id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_as_numbers_is_read() {
        let written = r#"[{"row":5,"folder":["A"],"uidvalidity":7,"from":9,"passes":2}]"#;
        let read: Vec<Resent> = serde_json::from_str(written).unwrap();
        let (folder, epoch) = (FolderPath::new(["A"]), Epoch::from(7));
        assert_eq!(read, [Resent { row: 5, folder, epoch, from: Mark::from("9"), passes: 2 }]);
        let now = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Resent>>(&now).unwrap(), read);
    }
}
