//! Two destination addresses that are one mailbox, which nobody declared: an alias at the destination.
//!
//! It is told only where it is proved, since mailboxes that a script made in the same second are alike: equal UIDVALIDITYs,
//! equal UIDs, equal letters. Two observations prove it together, both of messages that one of the two mailboxes holds at
//! the source and the other does not:
//!
//! 1. A message that another mailbox of the migration has sent lies here, at the very UID that its ledger has for it.
//! 2. A message that this mailbox has sent lies there, at the very UID that this ledger has for it, as a login with the other
//!    address shows.
//!
//! UIDs only grow. So whichever of the two came later, its way led into both mailboxes after the other was there, and
//! neither ledger can have sent it to both.
//!
//! The question is asked at the end of a pass that sent something, and only of a mailbox whose Inbox has the same UIDVALIDITY
//! at the same server: else it costs no turn. Both may be carried at once: each writes down what it has sent before it asks,
//! so whoever ends last sees the other.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::lanes::MoreLanes;
use super::neighbours::{Neighbours, Own};
use super::pipeline::Copied;
use super::verify::read_identities;
use super::{DESTINATION, Ends};
use crate::drivers::Destination;
use crate::ledger::{Ledger, Row, RowId, Store};
use crate::model::failure::{Failure, Result};
use crate::model::finding::{Code, Finding};
use crate::model::folder::FolderPath;
use crate::model::message::{Epoch, ItemId, Verdict};
use crate::model::text::counted;

/// The ledger's fact that tells where the Inbox is that its mailbox arrives in: the server, and the Inbox's UIDVALIDITY.
const INBOX: &str = "inbox";
/// The beginning of the ledger's facts that list some of the rows that were sent to a folder, as JSON; the folder follows. Each
/// folder has one of its own, since several sessions may send to different ones.
const SENT: &str = "sent ";
/// The ledger's fact that lists mailboxes that are, or may be, the same as this one, as JSON.
pub(super) const FOUND: &str = "aliases";
/// Rows of one folder that are listed; the latest.
const SENT_MAX: usize = 50;
/// Mailboxes that are asked about. Where more are alike, the server's UIDVALIDITYs tell nothing.
const ALIKE_MAX: usize = 200;
/// Messages that are read at either side to prove it.
const PROOFS: usize = 3;

/// A folder at the destination, and its epoch.
type Spot = (FolderPath, Epoch);

/// The messages that a folder shows: size and time of arrival by id; `None` where it is not that folder.
type Shown = Option<HashMap<ItemId, (u64, Option<i64>)>>;

/// Rows that were sent to one folder; the latest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sent {
    /// Where, by epoch; versions before this one knew it as UIDVALIDITY.
    #[serde(alias = "uidvalidity")]
    epoch: Epoch,
    rows: VecDeque<RowId>,
}

/// Another mailbox of the migration that is, or may be, the same at the destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Alias {
    /// The name of its ledger in the store.
    key: String,
    /// Its address at the destination.
    mailbox: String,
    folder: FolderPath,
    #[serde(alias = "uidvalidity")]
    epoch: Epoch,
    /// A message that the other one has sent and that was seen here.
    theirs: ItemId,
    /// A message that was sent here and seen at the other one; `None` while nobody could look.
    ours: Option<ItemId>,
}

/// Keeps in the ledger which messages of a window were sent. Those that were found at the destination are left out, for others
/// have put them there; but for those that this mailbox was about to send when a session ended.
///
/// # Errors
/// Those of the ledger.
pub(super) async fn note_sent(
    ledger: &dyn Ledger,
    copied: &Copied,
    doubtful: &BTreeSet<RowId>,
) -> Result<()> {
    let found: BTreeSet<RowId> = copied.recognised.iter().map(|recognised| recognised.row).collect();
    let mut fresh: BTreeMap<Spot, VecDeque<RowId>> = BTreeMap::new();
    for settled in &copied.settled {
        let Some((folder, arrival)) = &settled.destination else { continue };
        if settled.verdict == Verdict::Delivered
            && (!found.contains(&settled.id) || doubtful.contains(&settled.id))
        {
            fresh.entry((folder.clone(), arrival.epoch.clone())).or_default().push_back(settled.id);
        }
    }
    for ((folder, epoch), rows) in fresh {
        let name = name_sent(&folder);
        let before = read::<Option<Sent>>(ledger, &name).await?.filter(|sent| sent.epoch == epoch);
        let mut all = before.map(|sent| sent.rows).unwrap_or_default();
        all.extend(rows);
        all.drain(..all.len().saturating_sub(SENT_MAX));
        write(ledger, &name, &Sent { epoch, rows: all }).await?;
    }
    Ok(())
}

fn name_sent(folder: &FolderPath) -> String {
    format!("{SENT}{folder}")
}

/// A look at the end of a pass.
pub(super) struct Look<'a> {
    pub(super) ledger: &'a dyn Ledger,
    pub(super) neighbours: &'a Neighbours,
    pub(super) more: &'a dyn MoreLanes,
}

/// Messages that may prove it, all in one folder.
struct Suspicion {
    mailbox: String,
    spot: Spot,
    theirs: Vec<Row>,
    ours: Vec<Row>,
}

impl Look<'_> {
    /// Looks for other mailboxes that are the same one, and says which are known.
    ///
    /// # Errors
    /// Those of the ledger and of the session. Failures with another mailbox are not failures of this one.
    pub(super) async fn run(
        &self,
        carried_some: bool,
        destination: &mut dyn Destination,
    ) -> Result<Vec<Finding>> {
        let (Some(store), Some(own)) = (self.neighbours.store.clone(), self.neighbours.own.clone()) else {
            return Ok(Vec::new());
        };
        let before: Vec<Alias> = read(self.ledger, FOUND).await?;
        if before.is_empty() && !carried_some {
            return Ok(Vec::new());
        }
        self.note_inbox(&own).await?;
        let alike = self.find_alike(&*store, &own).await?;
        let mut found = before.clone();
        found.retain(|alias| alike.contains(&alias.key));
        let asks = carried_some || found.iter().any(|alias| alias.ours.is_none());
        let mut lists = BTreeMap::new();
        for key in alike.iter().take(ALIKE_MAX).filter(|_| asks) {
            if found.iter().any(|alias| alias.key == *key && alias.ours.is_some()) {
                continue;
            }
            found.retain(|alias| alias.key != *key);
            let suspected = self.suspect(&*store, &own, key).await.unwrap_or_else(|failure| {
                tracing::info!(failure = %failure.sentence(), "another mailbox's ledger cannot be looked at");
                Vec::new()
            });
            for suspicion in suspected {
                if let Some(alias) = self.prove(&*store, key, suspicion, destination, &mut lists).await? {
                    found.push(alias);
                    break;
                }
            }
        }
        let mut findings = Vec::new();
        let mut still = Vec::new();
        for alias in found {
            let Some(ledger) = store.find(&alias.key).await? else { continue };
            if mailbox_of(&*ledger, &own).await?.as_ref() != Some(&alias.mailbox) {
                continue;
            }
            if alias.ours.is_some() {
                findings.push(describe(&own, &alias, self.count_shared(&*ledger).await?));
            }
            still.push(alias);
        }
        if still != before {
            write(self.ledger, FOUND, &still).await?;
        }
        Ok(findings)
    }

    /// Says in the ledger where the Inbox is that the mailbox arrives in.
    async fn note_inbox(&self, own: &Own) -> Result<()> {
        let spots = self.spots().await?;
        let Some((_, epoch)) = spots.iter().find(|(folder, _)| folder.is_inbox()) else {
            return Ok(());
        };
        let now = format!("{} {epoch}", own.server);
        if self.ledger.fact(INBOX).await?.as_ref() == Some(&now) {
            return Ok(());
        }
        self.ledger.save_fact(INBOX, &now).await
    }

    /// The ledgers of other mailboxes whose Inbox is at the same server and has the same UIDVALIDITY, but for declared ones.
    async fn find_alike(&self, store: &dyn Store, own: &Own) -> Result<BTreeSet<String>> {
        let Some(inbox) = self.ledger.fact(INBOX).await? else { return Ok(BTreeSet::new()) };
        let all = store.facts(INBOX).await?.into_iter();
        let alike = all.filter(|(key, at)| {
            at.as_ref() == Some(&inbox) && *key != own.key && !self.neighbours.keys.contains(key)
        });
        Ok(alike.map(|(key, _)| key).collect())
    }

    /// Holds the ledgers against each other: messages of folders that both have sent to, which only one of them knows.
    async fn suspect(&self, store: &dyn Store, own: &Own, key: &str) -> Result<Vec<Suspicion>> {
        let Some(ledger) = store.find(key).await? else { return Ok(Vec::new()) };
        let Some(mailbox) = mailbox_of(&*ledger, own).await? else { return Ok(Vec::new()) };
        let mut suspicions = Vec::new();
        for spot in self.spots().await? {
            let theirs = spare(self.ledger, &spot, sent_rows(&*ledger, &spot).await?).await?;
            let ours = spare(&*ledger, &spot, sent_rows(self.ledger, &spot).await?).await?;
            if !theirs.is_empty() && !ours.is_empty() {
                suspicions.push(Suspicion { mailbox: mailbox.clone(), spot, theirs, ours: latest(ours) });
            }
        }
        Ok(suspicions)
    }

    /// Looks into both mailboxes.
    async fn prove(
        &self,
        store: &dyn Store,
        key: &str,
        suspicion: Suspicion,
        destination: &mut dyn Destination,
        lists: &mut BTreeMap<Spot, (ItemId, Shown)>,
    ) -> Result<Option<Alias>> {
        let Suspicion { mailbox, spot, theirs, ours } = suspicion;
        let from = theirs.iter().filter_map(id_of).min().unwrap_or(ItemId::Uid(1));
        if lists.get(&spot).is_none_or(|(listed_from, _)| *listed_from > from) {
            let listed = list(destination, &spot, &from).await?;
            lists.insert(spot.clone(), (from, listed));
        }
        let listed = lists.get(&spot).and_then(|(_, listed)| listed.as_ref());
        let Some(theirs) = listed.and_then(|listed| find_listed(listed, theirs)) else { return Ok(None) };
        destination.open(&spot.0).await?;
        let Some(seen) = find_shown(destination, &theirs).await? else { return Ok(None) };
        let alias = Alias {
            key: key.to_owned(),
            mailbox,
            folder: spot.0.clone(),
            epoch: spot.1.clone(),
            theirs: seen,
            ours: None,
        };
        let looked = async {
            let Some(mut other) = self.more.open_other(&alias.mailbox).await? else { return Ok(Some(None)) };
            let shown = look_for(&mut *other, &spot, ours.clone()).await;
            other.close().await;
            let Some(shown) = shown? else { return Ok(None) };
            // It may be sending now what this one has as well, and to the same UID of a mailbox of its own.
            let Some(ledger) = store.find(key).await? else { return Ok(None) };
            if ledger.open_intents().await?.iter().any(|intent| intent.folder == spot.0) {
                return Ok(Some(None));
            }
            let still = spare(&*ledger, &spot, ours).await?;
            let is_ours = still.iter().any(|row| id_of(row).as_ref() == Some(&shown));
            Ok::<_, Failure>(is_ours.then_some(Some(shown)))
        };
        match looked.await {
            Ok(ours) => Ok(ours.map(|ours| Alias { ours, ..alias })),
            Err(failure) => {
                tracing::info!(failure = %failure.sentence(), mailbox = alias.mailbox, "it cannot be looked into");
                Ok(None)
            }
        }
    }

    /// The folders that the mailbox is carried to.
    async fn spots(&self) -> Result<BTreeSet<Spot>> {
        let cursors = self.ledger.cursors().await?.into_values();
        Ok(cursors.map(|cursor| (cursor.destination, cursor.destination_epoch)).collect())
    }

    /// How many messages at the destination stand for one of each.
    async fn count_shared(&self, theirs: &dyn Ledger) -> Result<u64> {
        let mut shared = 0;
        for (folder, epoch) in self.spots().await? {
            let ours = self.ledger.claimed(&folder, &epoch).await?;
            shared += theirs.claimed(&folder, &epoch).await?.count_shared(&ours) as u64;
        }
        Ok(shared)
    }
}

/// Leaves out of rows that were sent to a folder those that another ledger may have sent there as well.
async fn spare(other: &dyn Ledger, spot: &Spot, mut rows: Vec<Row>) -> Result<Vec<Row>> {
    let claimed = other.claimed(&spot.0, &spot.1).await?;
    rows.retain(|row| id_of(row).is_some_and(|id| !claimed.contains(&id)));
    if rows.is_empty() {
        return Ok(rows);
    }
    let held = other.identities(&BTreeSet::new()).await?;
    rows.retain(|row| row.known.as_ref().is_some_and(|known| !held.contains_key(&known.canonical)));
    Ok(rows)
}

/// The address at the destination that another mailbox of the same server is carried to; `None` where that is the same one.
async fn mailbox_of(ledger: &dyn Ledger, own: &Own) -> Result<Option<String>> {
    let end = ledger.fact(DESTINATION).await?.unwrap_or_default();
    let other = Ends::parts(&end)
        .filter(|(server, mailbox)| *server == own.server && !mailbox.eq_ignore_ascii_case(&own.mailbox));
    Ok(other.map(|(_, mailbox)| mailbox.to_owned()))
}

/// The rows that a ledger has sent to a folder, as far as it remembers them, and that are there as they were sent.
async fn sent_rows(ledger: &dyn Ledger, spot: &Spot) -> Result<Vec<Row>> {
    let Some(sent) = read::<Option<Sent>>(ledger, &name_sent(&spot.0)).await? else { return Ok(Vec::new()) };
    if sent.epoch != spot.1 {
        return Ok(Vec::new());
    }
    let rows: Vec<RowId> = sent.rows.into_iter().collect();
    let mut rows = ledger.rows_of(&rows).await?;
    rows.retain(|row| {
        let at = row.destination.as_ref();
        row.verdict == Verdict::Delivered
            && at.is_some_and(|(folder, arrival)| *folder == spot.0 && arrival.epoch == spot.1)
    });
    Ok(rows)
}

fn id_of(row: &Row) -> Option<ItemId> {
    row.destination.as_ref().map(|(_, arrival)| arrival.id.clone())
}

fn latest(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_unstable_by_key(id_of);
    rows.split_off(rows.len().saturating_sub(PROOFS))
}

/// Opens a folder and lists it from an id on.
async fn list(destination: &mut dyn Destination, spot: &Spot, from: &ItemId) -> Result<Shown> {
    let state = match destination.open(&spot.0).await {
        Ok(state) => state,
        Err(failure) if failure.leaves_the_session() => return Ok(None),
        Err(failure) => return Err(failure),
    };
    if state.epoch != spot.1 {
        return Ok(None);
    }
    let shown = destination.list_since(&destination.marks().before(from)).await?.into_iter();
    Ok(Some(shown.map(|it| (it.id, (it.size, it.date.map(|date| date.unix)))).collect()))
}

/// The last of some rows that a folder lists at their places, with their sizes and dates. One that is another message there
/// speaks against all.
fn find_listed(listed: &HashMap<ItemId, (u64, Option<i64>)>, rows: Vec<Row>) -> Option<Vec<Row>> {
    let mut found = Vec::new();
    for row in rows {
        let Some((size, date)) = id_of(&row).and_then(|id| listed.get(&id)) else { continue };
        if *size != row.size || row.date.map(|date| date.unix).zip(*date).is_some_and(|(a, b)| a != b) {
            return None;
        }
        found.push(row);
    }
    (!found.is_empty()).then(|| latest(found))
}

/// Reads rows in the open folder at their places: the id of one whose bytes are those that were sent. One with others speaks
/// against all.
async fn find_shown(destination: &mut dyn Destination, rows: &[Row]) -> Result<Option<ItemId>> {
    let wanted: BTreeMap<ItemId, &Row> = rows.iter().filter_map(|row| Some((id_of(row)?, row))).collect();
    let ids: Vec<ItemId> = wanted.keys().cloned().collect();
    let mut shown = None;
    for (id, identity) in read_identities(destination, &ids).await? {
        let known = wanted.get(&id).and_then(|row| row.known.as_ref());
        if known.is_none_or(|known| known.exact != identity.exact) {
            return Ok(None);
        }
        shown = Some(id);
    }
    Ok(shown)
}

/// Looks for rows in another mailbox.
async fn look_for(other: &mut dyn Destination, spot: &Spot, rows: Vec<Row>) -> Result<Option<ItemId>> {
    let from = rows.iter().filter_map(id_of).min().unwrap_or(ItemId::Uid(1));
    let listed = list(other, spot, &from).await?;
    let Some(rows) = listed.and_then(|listed| find_listed(&listed, rows)) else { return Ok(None) };
    find_shown(other, &rows).await
}

/// The finding that a person is told.
fn describe(own: &Own, alias: &Alias, shared: u64) -> Finding {
    let once = match shared {
        0 => String::new(),
        _ => format!(" {} there once for both of them.", counted(shared, "message lies", "messages lie")),
    };
    // Whichever of the two says it, it is the same sentence.
    let mut both = [&own.mailbox, &alias.mailbox];
    both.sort_unstable();
    let text = format!(
        "{} and {} are one mailbox at the destination: mail that is sent to one of them arrives in the other too, as seen \
         in {}.{once}",
        both[0], both[1], alias.folder
    );
    Finding::of_domain(Code::DestinationAlias, text)
}

/// Reads a fact that is JSON.
async fn read<T: DeserializeOwned + Default>(ledger: &dyn Ledger, fact: &str) -> Result<T> {
    let Some(text) = ledger.fact(fact).await?.filter(|text| !text.is_empty()) else {
        return Ok(T::default());
    };
    serde_json::from_str(&text)
        .map_err(|e| Failure::internal(format!("the ledger's fact \"{fact}\" cannot be read")).caused_by(&e))
}

/// Keeps a fact as JSON.
async fn write<T: Serialize + Sync>(ledger: &dyn Ledger, fact: &str, value: &T) -> Result<()> {
    let text = serde_json::to_string(value)
        .map_err(|e| Failure::internal(format!("\"{fact}\" cannot be written down")).caused_by(&e))?;
    ledger.save_fact(fact, &text).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::identity::Digest;
    use crate::model::message::{Arrival, Flags, InternalDate, Locator};
    use crate::model::protocol::Protocol;

    fn row(uid: u32, size: u64, date: Option<i64>) -> Row {
        Row {
            id: uid.into(),
            locator: Locator {
                protocol: Protocol::Imap,
                folder: FolderPath::inbox(),
                epoch: Epoch::from(1),
                id: ItemId::Uid(uid),
            },
            size,
            date: date.map(|unix| InternalDate { unix, offset_minutes: 0 }),
            flags: Flags::default(),
            known: Some(crate::ledger::Known {
                exact: Digest([1; 32]),
                canonical: Digest([1; 32]),
                message_id: None,
                subject: None,
            }),
            destination: Some((FolderPath::inbox(), Arrival { epoch: Epoch::from(7), id: ItemId::Uid(uid) })),
            verdict: Verdict::Delivered,
            refused: crate::ledger::Refused::default(),
            attempts: 0,
            announced: None,
            stored: None,
            gone: false,
        }
    }

    #[test]
    fn one_other_message_at_a_uid_speaks_against_all() {
        let listed = [(4, (100, Some(5))), (5, (200, Some(6))), (6, (300, None))];
        let listed = listed.map(|(uid, shown)| (ItemId::Uid(uid), shown)).into();
        let found = |rows: Vec<Row>| find_listed(&listed, rows).map(|rows| rows.iter().map(id_of).collect());
        let both: Option<Vec<_>> = Some(vec![Some(ItemId::Uid(4)), Some(ItemId::Uid(6))]);
        assert_eq!(found(vec![row(6, 300, Some(9)), row(4, 100, Some(5)), row(9, 1, None)]), both);
        assert_eq!(found(vec![row(4, 100, Some(5)), row(5, 201, Some(6))]), None, "another size");
        assert_eq!(found(vec![row(4, 100, Some(5)), row(5, 200, Some(7))]), None, "another date");
        assert_eq!(found(vec![row(9, 1, None)]), None, "none of them is there");
    }

    #[test]
    fn what_was_noted_as_numbers_is_read() {
        let sent: Sent = serde_json::from_str(r#"{"uidvalidity":7,"rows":[1,2]}"#).unwrap();
        assert_eq!(sent, Sent { epoch: Epoch::from(7), rows: [1, 2].into() });
        let written = r#"{"key":"k","mailbox":"a@b","folder":["A"],"uidvalidity":7,"theirs":5,"ours":null}"#;
        let alias: Alias = serde_json::from_str(written).unwrap();
        assert_eq!((&alias.epoch, &alias.theirs, &alias.ours), (&Epoch::from(7), &ItemId::Uid(5), &None));
        assert_eq!(serde_json::from_str::<Alias>(&serde_json::to_string(&alias).unwrap()).unwrap(), alias);
    }

    #[test]
    fn an_end_is_taken_apart_as_it_is_put_together() {
        let end = "imap.new.test:993 as a: b as c*admin: anna@new.test";
        assert_eq!(Ends::parts(end), Some(("imap.new.test:993", "anna@new.test")));
        assert_eq!(Ends::parts(""), None);
    }
}
