//! The ledger: for every message where it came from, what it is, where it went and what became of it.
//!
//! It never claims what is not at the destination, and an [`Intent`] is durable before the first byte of the messages it
//! names is sent. One ledger belongs to one mailbox; a [`Store`] keeps those of a migration.

mod columns;
pub mod postgres;
pub mod sqlite;
pub mod store;
pub mod tallies;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;

use async_trait::async_trait;

use crate::model::failure::{Failure, FailureCode, Result};
use crate::model::folder::FolderPath;
use crate::model::identity::Digest;
use crate::model::locator::ItemIds;
use crate::model::mark::Mark;
use crate::model::message::{Arrival, Epoch, Flags, InternalDate, ItemId, Locator, Verdict};
use crate::model::progress::MessageCounts;
use crate::model::protocol::Protocol;

pub use store::{LoginMark, LoginMarks, Store};
pub use tallies::Tallies;

/// A row's number within its ledger.
pub type RowId = i64;

/// The identity of a message, once its bytes have been seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The exact digest.
    pub exact: Digest,
    /// The canonical digest.
    pub canonical: Digest,
    /// The Message-ID header, made printable.
    pub message_id: Option<String>,
    /// The subject, made printable.
    pub subject: Option<String>,
}

/// Why a message was refused, in a form that later passes can hold against what is the case then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// The exact kind of refusal, where it is a known one.
    pub code: Option<FailureCode>,
    /// The limit under which it was refused, in bytes, where there was one.
    pub limit: Option<u64>,
}

/// Delivered messages that are not at the destination as they were at the source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Discrepancies {
    /// Those that the destination changed, whenever it was seen.
    pub altered: u64,
    /// Of these, those that a verification found with other bytes than they had when they arrived.
    pub changed: u64,
    /// Of the altered, those of which the destination keeps only a part.
    pub truncated: u64,
    /// Those that the source still lists and a verification no longer found.
    pub missing: u64,
    /// Those of which the source handed out less than it lists; they are not among the altered.
    pub short: u64,
}

impl Discrepancies {
    /// Counts `n` delivered messages with a verdict and a code.
    fn add(&mut self, verdict: &str, code: Option<&str>, n: u64) {
        let code = code.and_then(FailureCode::from_word);
        if verdict == "DeliveredAltered" && code == Some(FailureCode::CameShort) {
            self.short += n;
        } else if verdict == "DeliveredAltered" {
            self.altered += n;
            self.changed += if code == Some(FailureCode::ArrivalChanged) { n } else { 0 };
            self.truncated += if code == Some(FailureCode::StoredShort) { n } else { 0 };
        }
        self.missing += if code == Some(FailureCode::ArrivalMissing) { n } else { 0 };
    }

    /// How many there are; one that was changed and is missing counts twice.
    pub fn total(&self) -> u64 {
        self.altered + self.missing + self.short
    }
}

/// The places of a folder that its source can list now. Other places that the ledger knows of the folder were seen by
/// another protocol or in another epoch, and can never be listed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// The folder.
    pub folder: FolderPath,
    /// How it is read.
    pub protocol: Protocol,
    /// Its epoch.
    pub epoch: Epoch,
}

impl Space {
    /// Whether a message could be listed at this place.
    pub fn holds(&self, locator: &Locator) -> bool {
        let Locator { protocol, folder, epoch, .. } = locator;
        *protocol == self.protocol && *epoch == self.epoch && *folder == self.folder
    }
}

/// Attempts at a message that ended its session from which on it is tried alone.
pub const ALONE_FROM: u32 = 2;
/// Attempts from which on it is named and left.
pub const NAMED_FROM: u32 = 4;

/// A message that is to be remembered for the first time.
#[derive(Debug, Clone)]
pub struct NewRow {
    /// Where it is at the source.
    pub locator: Locator,
    /// The size that the source announces, in bytes.
    pub size: u64,
    /// Its arrival date, where the listing tells it.
    pub date: Option<InternalDate>,
    /// Its flags, where the protocol has any.
    pub flags: Flags,
    /// `Pending` or `Excluded`.
    pub verdict: Verdict,
}

/// A message as the ledger knows it.
#[derive(Debug, Clone)]
pub struct Row {
    /// The row's number.
    pub id: RowId,
    /// Where it is at the source.
    pub locator: Locator,
    /// The size in bytes: announced at first, exact once the bytes have passed.
    pub size: u64,
    /// Its arrival date.
    pub date: Option<InternalDate>,
    /// Its flags at the source when they were last carried over.
    pub flags: Flags,
    /// Its identity, once its bytes have passed.
    pub known: Option<Known>,
    /// Where it is at the destination.
    pub destination: Option<(FolderPath, Arrival)>,
    /// Its outcome.
    pub verdict: Verdict,
    /// Why it was refused, where it was.
    pub refused: Refused,
    /// How often sessions ended at it, weighed: two for an end at this very message, one for an end among several.
    pub attempts: u32,
    /// The size that the source announced when it listed the message last, in bytes; `None` where nobody kept it.
    pub announced: Option<u64>,
    /// The exact digest of what the destination stored, as it gave it back, where that is not what it was given.
    pub stored: Option<Digest>,
    /// Whether the source no longer lists it.
    pub gone: bool,
}

/// The outcome for a message in a pass.
#[derive(Debug, Clone)]
pub struct Settled {
    /// Which row.
    pub id: RowId,
    /// Its identity, if its bytes passed.
    pub known: Option<Known>,
    /// Its exact size in bytes, if its bytes passed.
    pub size: Option<u64>,
    /// Its date, if it was learned from the bytes.
    pub date: Option<InternalDate>,
    /// The flags that its copy has, if they are known to differ from what the row says.
    pub flags: Option<Flags>,
    /// Where it is at the destination, if that is known.
    pub destination: Option<(FolderPath, Arrival)>,
    /// The verdict.
    pub verdict: Verdict,
    /// Why it was refused, where it was.
    pub refused: Refused,
    /// The exact digest of what the destination stored, of a message that it changed. `None` leaves what is known of it.
    pub stored: Option<Digest>,
    /// The row under a void locator that this one takes the place of; it is forgotten in the same step.
    pub replaces: Option<RowId>,
}

/// Messages that were about to be sent to a folder, and how the folder stood before.
#[derive(Debug, Clone)]
pub struct Intent {
    /// The intent's number.
    pub id: i64,
    /// The source folder that the messages are of.
    pub source: FolderPath,
    /// The destination folder.
    pub folder: FolderPath,
    /// Its epoch before the first byte.
    pub epoch: Epoch,
    /// Its mark before the first byte.
    pub mark: Mark,
    /// The messages.
    pub rows: Vec<RowId>,
}

/// How far a source folder has been carried to its destination folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The source's epoch.
    pub epoch: Epoch,
    /// The source's mark.
    pub mark: Mark,
    /// Items at the source, where it told.
    pub items: Option<u64>,
    /// Whether a source of the same epoch, mark and count is as it was.
    pub proves: bool,
    /// The destination folder.
    pub destination: FolderPath,
    /// Epoch of the destination folder.
    pub destination_epoch: Epoch,
    /// Whatever the destination holds before this mark is known: ours, or seen as present.
    pub destination_mark: Mark,
}

/// A message at the destination that this ledger did not send.
#[derive(Debug, Clone)]
pub struct Foreign {
    /// Its name there.
    pub id: ItemId,
    /// Its identity.
    pub known: Known,
}

/// A folder that is called differently from now on, at one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renaming {
    /// Its old name.
    pub from: FolderPath,
    /// Its new name.
    pub to: FolderPath,
}

/// The operations of a ledger that the engine uses. Every call that changes something is durable when it returns.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// How far a source folder has come.
    async fn cursor(&self, folder: &FolderPath) -> Result<Option<Cursor>>;
    /// How far all source folders have come, in one question: what a pass that finds nothing to do asks.
    async fn cursors(&self) -> Result<HashMap<FolderPath, Cursor>>;
    /// Keeps how far a source folder has come.
    async fn save_cursor(&self, folder: &FolderPath, cursor: &Cursor) -> Result<()>;
    /// All messages of a source folder, whatever protocol or epoch they were seen by. Their number bounds the memory
    /// that this takes: a pass asks for pages.
    async fn rows(&self, folder: &FolderPath) -> Result<Vec<Row>>;
    /// Messages of a folder in the order of their locators: those behind `after` and not behind `upto`, at most `limit`.
    async fn rows_in(
        &self,
        space: &Space,
        after: Option<&Locator>,
        upto: Option<&Locator>,
        limit: usize,
    ) -> Result<Vec<Row>>;
    /// Ids and numbers of a folder's messages, those that are gone included: in the order of their ids, those behind `after`,
    /// at most `limit`. It costs much less than the rows.
    async fn ids_in(
        &self,
        space: &Space,
        after: Option<&ItemId>,
        limit: usize,
    ) -> Result<Vec<(ItemId, RowId)>>;
    /// The last ids of a folder's messages that are still listed, in no order, at most `limit`.
    async fn last_ids_in(&self, space: &Space, limit: usize) -> Result<Vec<ItemId>>;
    /// The messages of a folder with these ids, as far as they are known, in ascending order.
    async fn rows_at(&self, space: &Space, ids: &[ItemId]) -> Result<Vec<Row>>;
    /// The rows with these numbers, as far as they are there, in ascending order.
    async fn rows_of(&self, ids: &[RowId]) -> Result<Vec<Row>>;
    /// How many messages of a folder were listed when it was listed last.
    async fn count_in(&self, space: &Space) -> Result<u64>;
    /// How many messages of a source folder are at the destination and still listed.
    async fn count_copied(&self, folder: &FolderPath) -> Result<u64>;
    /// Forgets what a folder's other name spaces hold that never arrived, and brings the rest: delivered messages whose
    /// locators can never be listed again.
    async fn part_void(&self, space: &Space) -> Result<Vec<Row>>;
    /// Messages of a folder that wait to be carried, in the order in which they were remembered: those behind the row
    /// `after`, at most `limit`.
    async fn work(&self, space: &Space, after: RowId, limit: usize) -> Result<Vec<Row>>;
    /// The messages of a folder that wait and were remembered last, at most `limit`, in the order of [`Self::work`].
    async fn newest_work(&self, space: &Space, limit: usize) -> Result<Vec<Row>>;
    /// Messages of a folder that were refused and are still listed, as [`Self::work`].
    async fn refused(&self, space: &Space, after: RowId, limit: usize) -> Result<Vec<Row>>;
    /// Delivered messages of a folder whose place at the destination nobody knows.
    async fn unbound(&self, folder: &FolderPath) -> Result<Vec<Row>>;
    /// How many messages of the mailbox were delivered and are no longer where they were, as far as passes noticed.
    async fn count_unbound(&self) -> Result<u64>;
    /// Whether messages of a source folder were seen in a destination folder in another epoch than this one.
    async fn is_elsewhere(&self, folder: &FolderPath, at: &FolderPath, epoch: &Epoch) -> Result<bool>;
    /// Source folders with messages that wait or were refused.
    async fn unfinished(&self) -> Result<BTreeSet<FolderPath>>;
    /// The canonical digests of all messages that are not of these folders, each with how many have it.
    async fn identities(&self, except: &BTreeSet<FolderPath>) -> Result<HashMap<Digest, u32>>;
    /// Remembers messages; their numbers come back in the same order.
    async fn insert(&self, rows: &[NewRow]) -> Result<Vec<RowId>>;
    /// Makes it durable that messages of a source folder are about to be sent to a destination folder.
    async fn begin_intent(
        &self,
        source: &FolderPath,
        folder: &FolderPath,
        epoch: &Epoch,
        mark: &Mark,
        rows: &[RowId],
    ) -> Result<i64>;
    /// Keeps the outcomes of messages and, with `ended`, that an intent has no message in doubt any more: in one step.
    /// A row is among them once at most, and none replaces another of them.
    async fn settle(&self, settled: &[Settled], ended: Option<i64>) -> Result<()> {
        self.settle_counting(settled, ended, &Tallies::default()).await
    }
    /// As [`Self::settle`], and adds to what is counted, in the same step.
    async fn settle_counting(&self, settled: &[Settled], ended: Option<i64>, more: &Tallies) -> Result<()>;
    /// Intents whose end is unknown.
    async fn open_intents(&self) -> Result<Vec<Intent>>;
    /// The ids of a destination folder that belong to rows of this ledger.
    async fn claimed(&self, folder: &FolderPath, epoch: &Epoch) -> Result<ItemIds>;
    /// Keeps messages that were found at the destination and are not ours.
    async fn keep_foreign(&self, folder: &FolderPath, epoch: &Epoch, found: &[Foreign]) -> Result<()>;
    /// Messages at the destination that are not ours and that no row has taken over yet.
    async fn foreign(&self, folder: &FolderPath, epoch: &Epoch) -> Result<Vec<Foreign>>;
    /// Forgets messages of that kind that are no longer at the destination.
    async fn forget_foreign(&self, folder: &FolderPath, epoch: &Epoch, ids: &[ItemId]) -> Result<()>;
    /// Keeps the flags that were carried over.
    async fn save_flags(&self, rows: &[(RowId, Flags)]) -> Result<()> {
        self.save_flags_counting(rows, &Tallies::default()).await
    }
    /// As [`Self::save_flags`], and adds to what is counted, in the same step.
    async fn save_flags_counting(&self, rows: &[(RowId, Flags)], more: &Tallies) -> Result<()>;
    /// Keeps the sizes that the source announces.
    async fn save_announced(&self, rows: &[(RowId, u64)]) -> Result<()>;
    /// Adds to the attempts at messages at which a session ended.
    async fn add_attempts(&self, rows: &[RowId], weight: u32) -> Result<()>;
    /// Keeps how many messages of a folder its source counts and does not list: each becomes a refused row of its own. As many
    /// stay as were known, as far as there may be so many.
    async fn keep_unlisted(
        &self,
        folder: &FolderPath,
        messages: RangeInclusive<u64>,
        why: &str,
    ) -> Result<()>;
    /// Marks messages that the source no longer lists; those that were never carried are forgotten.
    async fn mark_gone(&self, rows: &[RowId]) -> Result<()>;
    /// Takes that mark away from messages that the source lists again.
    async fn mark_listed(&self, rows: &[RowId]) -> Result<()>;
    /// Forgets rows whose locators are void because another row took over what they stood for.
    async fn forget(&self, rows: &[RowId]) -> Result<()>;
    /// Voids the locators of rows: their ids name other messages now. They get the epoch that no server has
    /// ([`Epoch::void`]).
    async fn detach(&self, rows: &[RowId]) -> Result<()>;
    /// Puts rows back to `Pending`: delivered ones that are no longer at the destination, and refused ones.
    async fn reopen(&self, rows: &[RowId]) -> Result<()>;
    /// Forgets where everything of a destination folder is that was seen in another epoch than this one.
    async fn forget_arrivals(&self, folder: &FolderPath, epoch: &Epoch) -> Result<()>;
    /// Forgets how far folders have come, so that the next pass looks into each.
    async fn forget_cursors(&self) -> Result<()>;
    /// A folder of the source, of the destination or one of each is called differently, and is the same folder: all that is
    /// known of it is known under its new name, in one step. Nothing must be known of a source folder of that name yet.
    async fn rename_folder(&self, source: Option<&Renaming>, destination: Option<&Renaming>) -> Result<()>;
    /// Forgets every place at the destination and all that was in doubt there, because it is another mailbox now: what was
    /// delivered is to be carried again, and what it is stays known. Rows whose message the source no longer lists go.
    async fn void_destination(&self) -> Result<()>;
    /// Comes back with why once the claim is lost, so that what is under way can stop; otherwise it never comes back.
    async fn lost(&self) -> Failure {
        std::future::pending().await
    }
    /// Counts by verdict.
    async fn counts(&self) -> Result<MessageCounts>;
    /// The bytes of all messages that were dealt with, whatever became of them.
    async fn bytes_through(&self) -> Result<u64>;
    /// The bytes of all messages but those that a rule of the manifest leaves out.
    async fn bytes_wanted(&self) -> Result<u64>;
    /// Counts the delivered messages that are not at the destination as they were at the source.
    async fn count_discrepancies(&self) -> Result<Discrepancies>;
    /// A page of all rows in a stable order: those after `after`, at most `limit`.
    async fn page(&self, after: RowId, limit: usize) -> Result<Vec<Row>>;
    /// A fact of this mailbox as a whole.
    async fn fact(&self, name: &str) -> Result<Option<String>>;
    /// The facts of these names, as far as there are any.
    async fn facts(&self, names: &[&str]) -> Result<BTreeMap<String, String>>;
    /// The counts of all passes; `None` where nothing was counted yet, or by a version that kept it elsewhere.
    async fn tallies(&self) -> Result<Option<Tallies>> {
        Ok(Tallies::from_facts(&self.facts(&Tallies::facts()).await?))
    }
    /// Keeps a fact of this mailbox as a whole.
    async fn save_fact(&self, name: &str, value: &str) -> Result<()>;
}
