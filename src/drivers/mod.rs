//! Protocols. The traits say what the engine may ask of any mailbox; one folder below speaks each protocol, and
//! [`registry`] is where the house finds it.
//!
//! Bodies stream: a source hands over [`BodyEvent`]s, a destination takes them, and neither ever holds more than a few
//! of them. Appends are asked for in batches, so that a driver may pipeline them as it sees fit.

pub mod files;
mod greeting;
pub mod imap;
pub mod marks;
pub mod measure;
pub(crate) mod notice;
pub mod pop3;
pub mod registry;
pub(crate) mod sizes;
pub(crate) mod spool;
pub mod words;

use self::marks::{Marks, Unordered};
use self::registry::{KnownDestination, KnownSource};

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::model::evidence::ServerFacts;
use crate::model::failure::{Class, Failure, Result};
use crate::model::folder::{FolderPath, SpecialUse};
use crate::model::identity::Digest;
use crate::model::label::LabelTally;
use crate::model::mark::Mark;
use crate::model::message::{Arrival, Epoch, Flags, InternalDate, ItemId, Locator};

/// A folder as a server lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Its path, free of delimiter and encoding; no other folder of the listing has it.
    pub path: FolderPath,
    /// The path that its name reads as, where another folder of the listing has that one.
    pub twin_of: Option<FolderPath>,
    /// The name exactly as the server spells it; handed back to the same server and shown to nobody.
    pub wire_name: Vec<u8>,
    /// The purpose of the folder, if the server reports one (RFC 6154).
    pub special_use: Option<SpecialUse>,
    /// Whether it can hold messages; a `\Noselect` or `\NonExistent` name cannot.
    pub selectable: bool,
    /// Whether the user subscribed to it.
    pub subscribed: bool,
}

/// The state of a folder as reported when it is opened. Another `epoch` voids everything that was known of its ids.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FolderState {
    /// The name space of its ids; for IMAP, UIDVALIDITY.
    pub epoch: Epoch,
    /// The point in its history at which it is; the beginning where the server tells nothing of that.
    pub mark: Mark,
    /// Items in the folder; `None` when the server does not tell, which is never the same as none.
    pub items: Option<u64>,
    /// Whether a folder of the same epoch, mark and count is one in which nothing happened since, not even to a flag.
    pub proves: bool,
    /// Flags and keywords that can be kept; `None` when any can.
    pub keepable: Option<BTreeSet<String>>,
}

/// The folders of a mailbox, with their state as the server reported it in the same answer.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// All folders, in a stable order.
    pub folders: Vec<Folder>,
    /// How folders stand, where the server tells it with their list (LIST-STATUS, RFC 5819). Nothing is known of flags
    /// that can be kept.
    pub states: HashMap<FolderPath, FolderState>,
    /// Lines of the list that could not be read, made printable; at most 20.
    pub unreadable: Vec<String>,
    /// Folders beside the Inbox below which the server makes none (`\Noinferiors`, RFC 9051 §7.3.1).
    pub childless: BTreeSet<FolderPath>,
    /// Where a message may stand in several folders and the source lists it in some of them alone, by a rule of its own: a
    /// digest of that rule, and of the folders that it is about.
    pub rule: Option<String>,
}

/// A message as a folder listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where it is.
    pub locator: Locator,
    /// Its place in the folder: older messages come first.
    pub place: u32,
    /// The size that the server announces, in bytes.
    pub size: u64,
    /// Its arrival date, where the protocol tells one.
    pub date: Option<InternalDate>,
    /// Its flags; `None` where the protocol has none.
    pub flags: Option<Flags>,
}

/// A part of the list of a folder.
#[derive(Debug, Default)]
pub struct Listing {
    /// Messages in the order of their locators, each once.
    pub messages: Vec<Listed>,
    /// Behind which place the list goes on; `None` where it ends here.
    pub next: Option<Locator>,
    /// With the end of the list: how many messages the server counts in the folder beyond those that it listed.
    pub unlisted: u64,
    /// With the end of the list: what is not carried of the folders that its messages stand in, where the source lists them
    /// by a rule ([`Survey::rule`]).
    pub notes: Option<LabelTally>,
}

/// A point from which on changes of a folder may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    /// The folder's epoch at that point.
    pub epoch: Epoch,
    /// The point.
    pub mark: Mark,
    /// How many messages of it are known since then.
    pub known: u64,
    /// Ids of some of them, in ascending order: whether these name the same messages shows whether the folder is the same.
    pub sample: Vec<ItemId>,
}

/// Which of the known messages of a folder are no longer there.
#[derive(Debug, PartialEq, Eq)]
pub enum Gone {
    /// None of them went.
    None,
    /// All that are known went but these, in their order.
    AllBut(Vec<ItemId>),
}

/// How a folder changed.
#[derive(Debug)]
pub struct Changes {
    /// Messages that came, in the order of their locators.
    pub fresh: Vec<Listed>,
    /// Known messages whose flags may be others now.
    pub flags: Vec<(ItemId, Flags)>,
    /// Those of them that were told with their dates and sizes, which tell whether they are still the same messages.
    pub listed: Vec<Listed>,
    /// Messages that went.
    pub gone: Gone,
}

/// One step of a message's way. For each message: `Begin`, any number of `Chunk`s, then `End`; or `Missing` alone. `Held` may
/// come before either, `Again` behind the end.
#[derive(Debug)]
pub enum BodyEvent {
    /// A message is coming and is held back until it is known whether it can be passed on. If the session ends now, it ended
    /// at this message.
    Held {
        /// The caller's number for the message.
        key: u64,
    },
    /// A message begins. `size` is exact: just so many bytes follow in chunks.
    Begin {
        /// The caller's number for the message.
        key: u64,
        /// Bytes that follow.
        size: u64,
    },
    /// Some of its bytes, at most 64 KiB.
    Chunk(Bytes),
    /// All its bytes have passed.
    End {
        /// The arrival date, when the protocol tells it only with the body.
        date: Option<InternalDate>,
    },
    /// Something came once more under the name of a message that has passed. If it is not the same, nobody knows which of the
    /// two the message is.
    Again {
        /// The caller's number for the message.
        key: u64,
        /// The exact digest of what came.
        exact: Digest,
    },
    /// The message is no longer there, or cannot be read; nothing of it was or will be passed.
    Missing {
        /// The caller's number for the message.
        key: u64,
        /// Why; `None` when it is simply gone.
        failure: Option<Failure>,
    },
}

/// The sending end of a stream of bodies.
pub type BodySender = mpsc::Sender<BodyEvent>;
/// The receiving end of a stream of bodies.
pub type BodyReceiver = mpsc::Receiver<BodyEvent>;

/// Body events that may wait between two stages; with 64 KiB a chunk this bounds a mailbox's buffers to 1 MiB a stage.
pub const BODY_QUEUE: usize = 16;

/// A message that is wanted from the open folder.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The caller's number for the message; it comes back in the events.
    pub key: u64,
    /// Where the message is.
    pub locator: Locator,
    /// The size that the listing announced, in bytes.
    pub size: u64,
}

/// One logged-in session that mail is read from. It never changes anything at the source.
#[async_trait]
pub trait Source: Send {
    /// The facts that the server reported about itself.
    fn facts(&self) -> &ServerFacts;

    /// The relations of the marks that it gives.
    fn marks(&self) -> &'static dyn Marks {
        &Unordered
    }

    /// All folders, in a stable order.
    async fn list_folders(&mut self) -> Result<Vec<Folder>>;

    /// All folders, and how they stand as far as that costs no turn for each.
    async fn survey(&mut self) -> Result<Survey> {
        Ok(Survey { folders: self.list_folders().await?, ..Survey::default() })
    }

    /// How some folders stand, all in one turn, as far as the server says it. Nothing is known of flags that can be kept.
    async fn states(&mut self, _folders: &[&Folder]) -> Result<HashMap<FolderPath, FolderState>> {
        Ok(HashMap::new())
    }

    /// Looks for folders that no list showed by their names; of each, in their order, what it is or why it cannot be opened. Comes
    /// back with nothing where folders have no names.
    async fn find_unlisted(&mut self, _paths: &[FolderPath]) -> Result<Vec<Result<Folder>>> {
        Ok(Vec::new())
    }

    /// Opens a folder for reading only.
    async fn open(&mut self, folder: &Folder) -> Result<FolderState>;

    /// Lists the messages of the open folder behind a locator, or from the beginning, as far as one page goes.
    async fn list(&mut self, after: Option<&Locator>) -> Result<Listing>;

    /// Opens a folder and lists the first page of it, in one turn where the protocol lets that be.
    async fn open_and_list(&mut self, folder: &Folder) -> Result<(FolderState, Listing)> {
        let state = self.open(folder).await?;
        Ok((state, self.list(None).await?))
    }

    /// Opens a folder and tells what changed in it; `None` where the server cannot tell, so that the whole must be listed.
    async fn open_changed(
        &mut self,
        folder: &Folder,
        _since: &Since,
    ) -> Result<(FolderState, Option<Changes>)> {
        Ok((self.open(folder).await?, None))
    }

    /// Streams the wanted messages of the open folder, in the order of `wanted`.
    ///
    /// # Errors
    /// Any failure of the session as a whole. A message that cannot be read is a [`BodyEvent::Missing`] instead. After an
    /// error in mid-message the receiver sees the stream end without `End`.
    async fn fetch(&mut self, wanted: &[Wanted], bodies: BodySender) -> Result<()>;

    /// Messages that were read in this session in a way after which servers may count them as read.
    fn marked(&self) -> u64 {
        0
    }

    /// The facts that spare further sessions of the same mailbox a turn; `None` where a mailbox takes one session only.
    fn known(&self) -> Option<KnownSource> {
        None
    }

    /// Ends the session politely.
    async fn close(&mut self);
}

/// Data about a message that follows in a stream of bodies, and goes with it to the destination.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// The flags that it shall have.
    pub flags: Flags,
    /// The date that it shall have.
    pub date: Option<InternalDate>,
}

/// The outcome for one message of a batch.
#[derive(Debug)]
pub enum Appended {
    /// The server said OK.
    Stored {
        /// The caller's number for the message.
        key: u64,
        /// Where it is, if the server said so.
        arrival: Option<Arrival>,
    },
    /// The server refused this message and keeps nothing of it.
    Refused {
        /// The caller's number for the message.
        key: u64,
        /// Why.
        failure: Failure,
        /// The limit in bytes that it is over, where the server tells one.
        limit: Option<u64>,
    },
}

/// A message at the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// Its name.
    pub id: ItemId,
    /// Its size in bytes, as the server announces it.
    pub size: u64,
    /// Its flags.
    pub flags: Flags,
    /// Its arrival date.
    pub date: Option<InternalDate>,
}

/// The abilities of a destination, as far as anybody decides by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Whether single messages can be removed, and no others with them.
    pub removes_single: bool,
}

/// One logged-in session that mail is written to.
#[async_trait]
pub trait Destination: Send {
    /// The facts that the server reported about itself.
    fn facts(&self) -> &ServerFacts;

    /// The relations of the marks that it gives.
    fn marks(&self) -> &'static dyn Marks {
        &Unordered
    }

    /// The abilities of the destination.
    fn abilities(&self) -> Abilities;

    /// The server's hierarchy delimiter; no folder name may contain it.
    fn delimiter(&self) -> Option<char>;

    /// How many bytes a folder's name takes in the server's encoding.
    fn length_of_names(&self) -> fn(&str) -> usize {
        str::len
    }

    /// All folders.
    async fn list_folders(&mut self) -> Result<Vec<Folder>>;

    /// All folders, and how they stand as far as that costs no turn for each.
    async fn survey(&mut self) -> Result<Survey> {
        Ok(Survey { folders: self.list_folders().await?, ..Survey::default() })
    }

    /// Gives a folder, and with it all that is below it, another name.
    ///
    /// # Errors
    /// [`crate::model::failure::Class::Refused`] where the server will not, and a failure of the session.
    async fn rename_folder(&mut self, _from: &FolderPath, _to: &FolderPath) -> Result<()> {
        Err(Failure::new(Class::Refused, "cannot rename folders"))
    }

    /// Creates a folder unless it is there, and subscribes to it if asked; a failed subscription is not a failure.
    ///
    /// # Errors
    /// With [`crate::model::failure::FailureCode::FolderExists`] where the server says that the name is taken, by a folder
    /// that it does not list under this name.
    async fn ensure_folder(&mut self, path: &FolderPath, subscribe: bool) -> Result<()>;

    /// As [`Self::ensure_folder`] for several folders, each with whether to subscribe; what became of each comes back in
    /// the same order.
    ///
    /// # Errors
    /// A failure of the session as a whole.
    async fn ensure_folders(&mut self, wanted: &[(FolderPath, bool)]) -> Result<Vec<Result<()>>> {
        let mut made = Vec::with_capacity(wanted.len());
        for (path, subscribe) in wanted {
            made.push(self.ensure_folder(path, *subscribe).await);
        }
        Ok(made)
    }

    /// Whether the server said of a folder, when it listed it last, that it makes none below it.
    fn is_childless(&self, _path: &FolderPath) -> bool {
        false
    }

    /// Opens a folder for reading and writing.
    async fn open(&mut self, path: &FolderPath) -> Result<FolderState>;

    /// The state of a folder that need not be open.
    async fn status(&mut self, path: &FolderPath) -> Result<FolderState>;

    /// As [`Self::status`] for many folders, all in one turn, as far as the server says it.
    async fn states(&mut self, _paths: &[FolderPath]) -> Result<HashMap<FolderPath, FolderState>> {
        Ok(HashMap::new())
    }

    /// Lists the messages of the open folder that came behind a mark, in the order of their ids. There may be others among
    /// them: none that came is left out.
    async fn list_since(&mut self, mark: &Mark) -> Result<Vec<Present>>;

    /// Lists those of some messages that are in the open folder. The ids come in ascending order.
    async fn list_these(&mut self, ids: &[ItemId]) -> Result<Vec<Present>> {
        let Some(first) = ids.first() else { return Ok(Vec::new()) };
        let mut listed = self.list_since(&self.marks().before(first)).await?;
        listed.retain(|present| ids.binary_search(&present.id).is_ok());
        Ok(listed)
    }

    /// Streams messages of the open folder back, keyed by their places among `ids`.
    async fn fetch(&mut self, ids: &[ItemId], bodies: BodySender) -> Result<()>;

    /// Appends the messages that come out of `bodies` to a folder. `envelope` is asked once for each message when it
    /// begins; `outcomes` hears of each message once the server has answered.
    ///
    /// # Errors
    /// A failure of the session as a whole: what became of the messages that have no outcome yet is unknown.
    async fn append(
        &mut self,
        path: &FolderPath,
        bodies: &mut BodyReceiver,
        envelope: &(dyn Fn(u64) -> Envelope + Send + Sync),
        outcomes: &mpsc::UnboundedSender<Appended>,
    ) -> Result<()>;

    /// As [`Self::append`] to the open folder, and lists what came behind a mark once everything is answered for: in the same
    /// turn where the protocol lets that be.
    ///
    /// # Errors
    /// As [`Self::append`], also when only the list failed. No folder is open then.
    async fn append_and_list(
        &mut self,
        path: &FolderPath,
        bodies: &mut BodyReceiver,
        envelope: &(dyn Fn(u64) -> Envelope + Send + Sync),
        outcomes: &mpsc::UnboundedSender<Appended>,
        since: &Mark,
    ) -> Result<Vec<Present>> {
        self.append(path, bodies, envelope, outcomes).await?;
        self.list_since(since).await
    }

    /// Adds and removes flags of messages in the open folder. Flags that the server does not take come back; the others are
    /// kept.
    async fn store_flags(&mut self, ids: &[ItemId], add: &Flags, remove: &Flags) -> Result<Flags>;

    /// Removes messages of the open folder for good, and no others. Refused where the destination cannot remove single ones.
    async fn expunge(&mut self, ids: &[ItemId]) -> Result<()>;

    /// The facts that spare further sessions of the same mailbox a turn; `None` where a mailbox takes one session only.
    fn known(&self) -> Option<KnownDestination> {
        None
    }

    /// Ends the session politely.
    async fn close(&mut self);
}
