//! A tree of files that mail is written to.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::Format;
use super::bodies::{Sent, send_item};
use super::drafts::Draft;
use super::maildir::{CUR, NEW, TMP};
use super::names::{level_name, maildir_name};
use super::source::{Tree, folder_of, in_background, no_inbox, not_there, unread};
use super::stock::Stock;
use super::subscriptions;
use super::tree::Dir;
use super::walk::{Found, below_mbox};
use crate::drivers::marks::{Marks, Numbered};
use crate::drivers::{
    Abilities, Appended, BodyEvent, BodyReceiver, BodySender, Destination, Envelope, Folder, FolderState,
    Present, Survey,
};
use crate::model::evidence::ServerFacts;
use crate::model::failure::{Class, Failure, FailureCode, Place, Result};
use crate::model::folder::FolderPath;
use crate::model::mark::Mark;
use crate::model::message::{Arrival, Epoch, Flags, ItemId};
use crate::model::text::printable;

/// Messages that are written before they are put in their places together.
const BATCH_MESSAGES: usize = 50;
/// And their bytes.
const BATCH_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes of a message that are gathered before they are written.
const GATHERED: usize = 1024 * 1024;

/// A tree that is written.
pub(super) struct FilesDestination {
    tree: Tree,
    facts: ServerFacts,
    folders: BTreeMap<FolderPath, Found>,
    subscribed: BTreeSet<FolderPath>,
    open: Option<(FolderPath, Box<Stock>)>,
}

impl FilesDestination {
    /// A destination in a tree that is open.
    pub(super) async fn of(tree: Tree, facts: ServerFacts) -> Result<Self> {
        let mut destination =
            Self { tree, facts, folders: BTreeMap::new(), subscribed: BTreeSet::new(), open: None };
        destination.walk().await?;
        Ok(destination)
    }

    async fn walk(&mut self) -> Result<Vec<String>> {
        let walk = self.tree.walk().await.at(|| self.facts.endpoint.address())?;
        self.subscribed = walk.subscribed.unwrap_or_default();
        self.folders = walk.folders.into_iter().map(|found| (found.path.clone(), found)).collect();
        Ok(walk.unreadable)
    }

    /// Does something with the open folder, without holding up everybody else.
    async fn with<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Stock) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let Some((path, mut stock)) = self.open.take() else {
            return Err(Failure::internal("no folder of files is open"));
        };
        let (stock, done) = in_background(move || {
            let done = work(&mut stock);
            (stock, done)
        })
        .await?;
        let place = path.to_string();
        self.open = Some((path, stock));
        done.map_err(|error| unwritten(&error)).at(|| place)
    }

    /// Opens a folder, unless it is open.
    async fn enter(&mut self, path: &FolderPath) -> Result<()> {
        if self.open.as_ref().is_some_and(|(open, _)| open == path) {
            return Ok(());
        }
        self.open = Some((path.clone(), self.stock(path).await?));
        Ok(())
    }

    async fn stock(&self, path: &FolderPath) -> Result<Box<Stock>> {
        let found = self.folders.get(path).cloned().ok_or_else(|| not_there(path))?;
        let Tree { root, format } = self.tree.clone();
        let opened = in_background(move || found.shelf(&root, format).and_then(Stock::open)).await?;
        opened.map(Box::new).map_err(|error| unwritten(&error)).at(|| path.to_string())
    }

    /// Makes a folder that is not there.
    async fn make_folder(&mut self, path: &FolderPath) -> Result<()> {
        let (tree, wanted) = (self.tree.clone(), path.clone());
        let made = in_background(move || {
            let found = Self::make(&tree, &wanted)?;
            // Its life begins now.
            Ok(found
                .and_then(|found| found.shelf(&tree.root, tree.format).and_then(Stock::open).map(|_| found)))
        });
        let made: Result<io::Result<Found>> = made.await?;
        let found =
            made.at(|| path.to_string())?.map_err(|error| unwritten(&error)).at(|| path.to_string())?;
        self.folders.insert(path.clone(), found);
        Ok(())
    }

    /// Writes the messages of a stream.
    async fn fill(
        &mut self,
        bodies: &mut BodyReceiver,
        envelope: &(dyn Fn(u64) -> Envelope + Send + Sync),
        outcomes: &mpsc::UnboundedSender<Appended>,
    ) -> Result<()> {
        let mut batch = 0;
        while let Some(event) = bodies.recv().await {
            // A message that is missing at the source is the engine's to count.
            let BodyEvent::Begin { key, size } = event else { continue };
            let Envelope { flags, date } = envelope(key);
            let flags = flags.writable();
            let begun = self.with(move |stock| Ok(stock.begin(flags, date))).await?;
            let written = match begun {
                Ok(draft) => self.write(key, draft, bodies).await?,
                Err(error) => {
                    skip_message(bodies).await?;
                    Err(error)
                }
            };
            if let Err(error) = written {
                let failure = self.refusal(&error)?;
                // Nobody listens once the engine has given up; the ledger settles such messages.
                let _ = outcomes.send(Appended::Refused { key, failure, limit: None });
                continue;
            }
            batch += size;
            let pending = self.open.as_ref().map_or(0, |(_, stock)| stock.pending());
            if pending >= BATCH_MESSAGES || batch >= BATCH_BYTES {
                batch = 0;
                self.flush(outcomes).await?;
            }
        }
        Ok(())
    }

    /// Writes one message that was begun. The inner error is why it could not be written.
    async fn write(&mut self, key: u64, draft: Draft, bodies: &mut BodyReceiver) -> Result<io::Result<()>> {
        let mut draft = draft;
        let mut gathered = BytesMut::new();
        loop {
            let (is_over, is_broken) = match bodies.recv().await {
                Some(BodyEvent::Chunk(chunk)) => {
                    gathered.extend_from_slice(&chunk);
                    (false, false)
                }
                Some(BodyEvent::End { .. }) => (true, false),
                _ => (true, true),
            };
            if is_broken {
                self.with(move |stock| stock.discard(draft)).await?;
                return Err(broken_off());
            }
            if !is_over && gathered.len() < GATHERED {
                continue;
            }
            let part: Bytes = gathered.split().freeze();
            let work = move |stock: &mut Stock| {
                let pushed = draft.push(&part);
                Ok(match pushed {
                    Err(error) => {
                        stock.discard(draft)?;
                        Err(error)
                    }
                    Ok(()) if is_over => stock.finish(key, draft).map(|()| None),
                    Ok(()) => Ok(Some(draft)),
                })
            };
            match self.with(work).await? {
                Ok(Some(rest)) => draft = rest,
                Ok(None) => return Ok(Ok(())),
                Err(error) => {
                    if !is_over {
                        skip_message(bodies).await?;
                    }
                    return Ok(Err(error));
                }
            }
        }
    }

    /// Whether an error is about a message, or about the folder and everything in it.
    fn refusal(&self, error: &io::Error) -> Result<Failure> {
        let failure = unwritten(error);
        let place = self.open.as_ref().map(|(path, _)| path.to_string()).unwrap_or_default();
        if failure.class == Class::Quota { Ok(failure) } else { Err(failure.at(place)) }
    }

    async fn flush(&mut self, outcomes: &mpsc::UnboundedSender<Appended>) -> Result<()> {
        let Some((_, stock)) = &self.open else { return Ok(()) };
        let epoch = Epoch::from(stock.validity());
        for (key, uid) in self.with(Stock::flush).await? {
            let arrival = Some(Arrival { epoch: epoch.clone(), id: ItemId::Uid(uid) });
            let _ = outcomes.send(Appended::Stored { key, arrival });
        }
        Ok(())
    }

    /// Makes the directories and files of a folder that is not there.
    fn make(tree: &Tree, path: &FolderPath) -> Result<io::Result<Found>> {
        let (root, format) = (&tree.root, tree.format);
        let found = |dirs: Vec<OsString>, file| Found { path: path.clone(), twin_of: None, dirs, file };
        Ok(match format {
            Format::Maildir => {
                let name = maildir_name(path)?;
                make_maildir(root, name.as_deref()).map(|()| found(name.into_iter().collect(), None))
            }
            Format::Mbox => {
                let mut names =
                    path.names().iter().map(|level| level_name(level)).collect::<Result<Vec<_>>>()?;
                let file = names.pop().unwrap_or_default();
                let dirs: Vec<OsString> = names.iter().map(|name| below_mbox(name)).collect();
                make_below(root, &dirs)
                    .and_then(|dir| {
                        dir.write(&file)?;
                        dir.sync()
                    })
                    .map(|()| found(dirs, Some(file)))
            }
            Format::Eml => {
                let dirs = path.names().iter().map(|level| level_name(level)).collect::<Result<Vec<_>>>()?;
                make_below(root, &dirs).map(|_| found(dirs, None))
            }
        })
    }
}

fn make_below(root: &Dir, dirs: &[OsString]) -> io::Result<Dir> {
    dirs.iter().try_fold(root.clone(), |dir, name| dir.child_or_new(name))
}

fn make_maildir(root: &Dir, name: Option<&OsStr>) -> io::Result<()> {
    let dir = match name {
        Some(name) => root.child_or_new(name)?,
        None => root.clone(),
    };
    for sub in [TMP, NEW, CUR] {
        dir.child_or_new(OsStr::new(sub))?;
    }
    if name.is_some() {
        // Other programs know a folder of a Maildir++ by it.
        dir.write(OsStr::new("maildirfolder"))?;
        dir.sync()?;
    }
    Ok(())
}

/// Lets the rest of a message go by that is not written.
async fn skip_message(bodies: &mut BodyReceiver) -> Result<()> {
    loop {
        match bodies.recv().await {
            Some(BodyEvent::Chunk(_)) => {}
            Some(BodyEvent::End { .. }) => return Ok(()),
            _ => return Err(broken_off()),
        }
    }
}

fn broken_off() -> Failure {
    Failure::new(Class::Unreachable, "the source broke off in the middle of a message")
        .code(FailureCode::SourceBrokeOff)
}

/// Why something was not written.
fn unwritten(error: &io::Error) -> Failure {
    let what = printable(&format!("cannot be written: {error}"));
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Failure::new(Class::Quota, "the disk is full").code(FailureCode::Full).hint("make room on it")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Failure::new(Class::Refused, what)
                .code(FailureCode::NoPermission)
                .hint("give the user who runs this the right to write there")
        }
        io::ErrorKind::InvalidFilename => Failure::new(Class::Refused, what).code(FailureCode::NameRefused),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Failure::new(Class::Refused, what).code(FailureCode::NoSuchFolder)
        }
        _ => Failure::new(Class::Refused, what),
    }
    .caused_by(error)
}

fn state_of(stock: &Stock) -> FolderState {
    FolderState {
        epoch: Epoch::from(stock.validity()),
        mark: Numbered::mark(stock.next()),
        items: Some(stock.count() as u64),
        ..FolderState::default()
    }
}

/// The numbers that ids of ours are.
fn numbers(ids: &[ItemId]) -> Vec<u32> {
    ids.iter().filter_map(ItemId::uid).collect()
}

#[async_trait]
impl Destination for FilesDestination {
    fn facts(&self) -> &ServerFacts {
        &self.facts
    }

    fn marks(&self) -> &'static dyn Marks {
        &Numbered
    }

    fn abilities(&self) -> Abilities {
        Abilities { removes_single: true }
    }

    /// Whatever is in a name is escaped, so that nothing has to be kept out of it but what no name has.
    fn delimiter(&self) -> Option<char> {
        Some('\0')
    }

    async fn list_folders(&mut self) -> Result<Vec<Folder>> {
        Ok(self.survey().await?.folders)
    }

    async fn survey(&mut self) -> Result<Survey> {
        let unreadable = self.walk().await?;
        let list = |found: &Found| folder_of(found, self.subscribed.contains(&found.path));
        let mut folders: Vec<Folder> = self.folders.values().map(list).collect();
        if !self.folders.contains_key(&FolderPath::inbox()) {
            folders.insert(0, list(&no_inbox()));
        }
        Ok(Survey { folders, unreadable, ..Survey::default() })
    }

    async fn ensure_folder(&mut self, path: &FolderPath, subscribe: bool) -> Result<()> {
        if !self.folders.contains_key(path) {
            self.make_folder(path).await?;
        }
        if subscribe && self.subscribed.insert(path.clone()) {
            let (root, subscribed) = (self.tree.root.clone(), self.subscribed.clone());
            in_background(move || subscriptions::write(&root, &subscribed))
                .await?
                .map_err(|error| unwritten(&error))
                .at(|| path.to_string())?;
        }
        Ok(())
    }

    async fn open(&mut self, path: &FolderPath) -> Result<FolderState> {
        self.open = None;
        if path.is_inbox() {
            self.ensure_folder(path, false).await?;
        }
        let stock = self.stock(path).await?;
        let state = state_of(&stock);
        self.open = Some((path.clone(), stock));
        Ok(state)
    }

    async fn status(&mut self, path: &FolderPath) -> Result<FolderState> {
        if let Some((_, stock)) = self.open.as_ref().filter(|(open, _)| open == path) {
            return Ok(state_of(stock));
        }
        Ok(state_of(&*self.stock(path).await?))
    }

    async fn list_since(&mut self, mark: &Mark) -> Result<Vec<Present>> {
        let from = Numbered::first(mark);
        let listed = self.with(move |stock| stock.list(from)).await?;
        let present = |(uid, item): (u32, super::contents::Item)| Present {
            id: ItemId::Uid(uid),
            size: item.size,
            flags: item.flags,
            date: item.date,
        };
        Ok(listed.into_iter().map(present).collect())
    }

    async fn fetch(&mut self, ids: &[ItemId], bodies: BodySender) -> Result<()> {
        let uids = numbers(ids);
        let Some((path, stock)) = self.open.take() else {
            return Err(Failure::internal("no folder of files is open"));
        };
        let place = path.to_string();
        let hand_out = move || {
            let all = uids.iter().zip(0..).try_for_each(|(uid, key)| {
                let sent = match stock.find(*uid) {
                    Some(item) => send_item(&stock.shelf, item, key, &bodies)?,
                    None => Sent::Moved,
                };
                let failure = match sent {
                    Sent::Whole => return Ok(()),
                    Sent::Moved => None,
                    Sent::Unreadable(error) => Some(unread(&error)),
                };
                let gone = |_| Failure::new(Class::Interrupted, "nobody takes the messages any more");
                bodies.blocking_send(BodyEvent::Missing { key, failure }).map_err(gone)
            });
            (stock, all)
        };
        let (stock, ended) = in_background(hand_out).await?;
        self.open = Some((path, stock));
        ended.at(|| place)
    }

    async fn append(
        &mut self,
        path: &FolderPath,
        bodies: &mut BodyReceiver,
        envelope: &(dyn Fn(u64) -> Envelope + Send + Sync),
        outcomes: &mpsc::UnboundedSender<Appended>,
    ) -> Result<()> {
        self.enter(path).await?;
        let filled = self.fill(bodies, envelope, outcomes).await;
        // Messages that are written whole are told, whatever became of the rest.
        let flushed = self.flush(outcomes).await;
        filled.and(flushed)
    }

    async fn store_flags(&mut self, ids: &[ItemId], add: &Flags, remove: &Flags) -> Result<Flags> {
        let (uids, add, remove) = (numbers(ids), add.writable(), remove.writable());
        self.with(move |stock| stock.store_flags(&uids, &add, &remove)).await?;
        Ok(Flags::default())
    }

    async fn expunge(&mut self, ids: &[ItemId]) -> Result<()> {
        let uids = numbers(ids);
        self.with(move |stock| stock.remove(&uids)).await
    }

    async fn close(&mut self) {
        self.open = None;
    }
}
