//! A tree of files as a source of mail. Nothing in it is ever written.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::task::spawn_blocking;

use super::Format;
use super::bodies::{Sent, send_item};
use super::contents::{Contents, Item, Shelf};
use super::tree::Dir;
use super::walk::{Found, Walk, walk};
use crate::drivers::{BodyEvent, BodySender, Folder, FolderState, Listed, Listing, Source, Survey, Wanted};
use crate::model::evidence::ServerFacts;
use crate::model::failure::{Class, Failure, FailureCode, Place, Result};
use crate::model::folder::FolderPath;
use crate::model::message::{Epoch, ItemId, Locator};
use crate::model::text::printable;

/// Messages of one page of a list.
const PAGE: usize = 5000;

/// A tree that is read.
pub(super) struct FilesSource {
    tree: Tree,
    facts: ServerFacts,
    folders: Option<Arc<Walk>>,
    open: Option<Arc<Opened>>,
}

/// The root of a tree.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    /// Its directory.
    pub(super) root: Dir,
    /// How messages are written in it.
    pub(super) format: Format,
}

/// The folder that is open.
struct Opened {
    path: FolderPath,
    shelf: Shelf,
    contents: Contents,
    /// The messages by their ids.
    by_id: BTreeMap<Box<str>, usize>,
}

impl Tree {
    /// Opens the root.
    ///
    /// # Errors
    /// [`Class::Configuration`] where there is no such directory.
    pub(super) fn open(path: &Path, format: Format) -> Result<Self> {
        let root = Dir::root(path).map_err(|error| unopened(path, &error))?;
        Ok(Self { root, format })
    }

    /// Finds the folders.
    pub(super) async fn walk(&self) -> Result<Walk> {
        let Self { root, format } = self.clone();
        in_background(move || walk(&root, format)).await?.map_err(|error| unread(&error))
    }

    /// Reads the names of the messages in a folder.
    pub(super) async fn read(&self, found: &Found) -> Result<(Shelf, Contents)> {
        let (Self { root, format }, wanted) = (self.clone(), found.clone());
        let path = found.path.to_string();
        let look = move || {
            let place = wanted.shelf(&root, format)?;
            let contents = place.read(&place.index()?)?;
            Ok((place, contents))
        };
        in_background(look).await?.map_err(|error: io::Error| unread(&error)).at(|| path)
    }
}

impl Opened {
    fn new(path: FolderPath, shelf: Shelf, contents: Contents) -> Self {
        let by_id = contents.items.iter().enumerate().map(|(at, item)| (item.id.clone(), at)).collect();
        Self { path, shelf, contents, by_id }
    }

    fn find(&self, locator: &Locator) -> Option<&Item> {
        self.contents.items.get(*self.by_id.get(locator.id.text()?)?)
    }

    /// Reads the folder anew: a mail program may have renamed what is in it.
    fn again(&self) -> io::Result<Self> {
        let contents = self.shelf.read(&self.shelf.index()?)?;
        Ok(Self::new(self.path.clone(), self.shelf.clone(), contents))
    }
}

impl FilesSource {
    /// A source of a tree that is open.
    pub(super) fn of(tree: Tree, facts: ServerFacts) -> Self {
        Self { tree, facts, folders: None, open: None }
    }

    async fn walked(&mut self) -> Result<Arc<Walk>> {
        if let Some(walk) = &self.folders {
            return Ok(Arc::clone(walk));
        }
        let walk = Arc::new(self.tree.walk().await.at(|| self.facts.endpoint.address())?);
        self.folders = Some(Arc::clone(&walk));
        Ok(walk)
    }

    fn opened(&self) -> Result<Arc<Opened>> {
        self.open.clone().ok_or_else(|| Failure::internal("no folder of files is open"))
    }
}

/// Does something that waits for a disk, without holding up everybody else.
///
/// # Errors
/// [`Class::Internal`] where it could not be done to its end.
pub(super) async fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    spawn_blocking(work)
        .await
        .map_err(|error| Failure::internal("the work on files did not come to its end").caused_by(&error))
}

fn unopened(path: &Path, error: &io::Error) -> Failure {
    let shown = printable(&path.display().to_string());
    let failure = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Failure::configuration(
            "there is no such directory",
        )
        .hint("correct the path; a mailbox of several has a directory of its own, called as its address"),
        _ => Failure::configuration(printable(&format!("the directory cannot be opened: {error}")))
            .hint("give the user who runs this the right to read it"),
    };
    failure.caused_by(error).at(shown)
}

/// Why a folder cannot be read.
pub(super) fn unread(error: &io::Error) -> Failure {
    Failure::new(Class::Refused, printable(&format!("cannot be read: {error}"))).caused_by(error)
}

/// A folder of a tree as the traits have it.
pub(super) fn folder_of(found: &Found, subscribed: bool) -> Folder {
    Folder {
        path: found.path.clone(),
        twin_of: found.twin_of.clone(),
        // No name has a NUL in it, and one may have a slash.
        wire_name: found.path.names().join("\0").into_bytes(),
        special_use: None,
        selectable: true,
        subscribed,
    }
}

#[async_trait]
impl Source for FilesSource {
    fn facts(&self) -> &ServerFacts {
        &self.facts
    }

    async fn list_folders(&mut self) -> Result<Vec<Folder>> {
        self.folders = None;
        let walk = self.walked().await?;
        // Where nobody keeps a list, the user sees all of them.
        let is_subscribed = |path: &FolderPath| walk.subscribed.as_ref().is_none_or(|all| all.contains(path));
        let list = |found: &Found| folder_of(found, is_subscribed(&found.path));
        let mut folders: Vec<Folder> = walk.folders.iter().map(list).collect();
        if !folders.iter().any(|folder| folder.path.is_inbox()) {
            // Every mailbox has one, if only to be empty.
            folders.insert(0, list(&no_inbox()));
        }
        Ok(folders)
    }

    async fn survey(&mut self) -> Result<Survey> {
        let folders = self.list_folders().await?;
        let walk = self.walked().await?;
        Ok(Survey { folders, unreadable: walk.unreadable.clone(), ..Survey::default() })
    }

    /// A walk shows all that is there.
    async fn find_unlisted(&mut self, paths: &[FolderPath]) -> Result<Vec<Result<Folder>>> {
        Ok(paths.iter().map(|path| Err(not_there(path))).collect())
    }

    async fn open(&mut self, folder: &Folder) -> Result<FolderState> {
        self.open = None;
        let walk = self.walked().await?;
        let Some(found) = walk.folders.iter().find(|one| one.path == folder.path) else {
            if folder.path.is_inbox() {
                return Ok(FolderState { items: Some(0), ..FolderState::default() });
            }
            return Err(not_there(&folder.path));
        };
        let (place, contents) = self.tree.read(found).await?;
        let items = Some(contents.items.len() as u64);
        self.open = Some(Arc::new(Opened::new(folder.path.clone(), place, contents)));
        Ok(FolderState { items, ..FolderState::default() })
    }

    async fn list(&mut self, after: Option<&Locator>) -> Result<Listing> {
        // An Inbox that is not there is empty.
        let Some(opened) = &self.open else { return Ok(Listing::default()) };
        let protocol = self.facts.endpoint.protocol;
        let after = after.and_then(|after| after.id.text());
        let behind = |id: &str| after.is_none_or(|after| id > after);
        let mut behind = opened.by_id.iter().filter(|(id, _)| behind(id));
        let list = |at: usize| {
            let item = &opened.contents.items[at];
            Listed {
                locator: Locator {
                    protocol,
                    folder: opened.path.clone(),
                    epoch: Epoch::default(),
                    id: ItemId::Text(item.id.clone()),
                },
                place: u32::try_from(at + 1).unwrap_or(u32::MAX),
                size: item.size,
                date: item.date,
                flags: Some(item.flags.clone()),
            }
        };
        let messages: Vec<Listed> = behind.by_ref().take(PAGE).map(|(_, at)| list(*at)).collect();
        let next = behind.next().and_then(|_| messages.last()).map(|last| last.locator.clone());
        let unlisted = if next.is_none() { opened.contents.torn } else { 0 };
        Ok(Listing { messages, next, unlisted, notes: None })
    }

    async fn fetch(&mut self, wanted: &[Wanted], bodies: BodySender) -> Result<()> {
        let (mut opened, wanted) = (self.opened()?, wanted.to_vec());
        let place = opened.path.to_string();
        let send = move || {
            let mut looked_again = false;
            for one in wanted {
                let mut sent = Sent::Moved;
                for _ in 0..2 {
                    if let Some(item) = opened.find(&one.locator) {
                        sent = send_item(&opened.shelf, item, one.key, &bodies)?;
                    }
                    if !matches!(sent, Sent::Moved) || looked_again {
                        break;
                    }
                    looked_again = true;
                    opened = Arc::new(opened.again().map_err(|error| unread(&error))?);
                }
                let failure = match sent {
                    Sent::Whole => {
                        looked_again = false;
                        continue;
                    }
                    Sent::Moved => None,
                    Sent::Unreadable(error) => Some(unreadable(&error)),
                };
                let gone = |_| {
                    Failure::new(
                        Class::Interrupted,
                        "stopped reading, because nobody takes the messages any more",
                    )
                };
                bodies.blocking_send(BodyEvent::Missing { key: one.key, failure }).map_err(gone)?;
            }
            Ok(opened)
        };
        self.open = Some(in_background(send).await?.at(|| place)?);
        Ok(())
    }

    async fn close(&mut self) {
        self.open = None;
    }
}

/// A folder that is not in the tree.
pub(super) fn not_there(path: &FolderPath) -> Failure {
    Failure::new(Class::Refused, "is not in the tree").code(FailureCode::NoSuchFolder).at(path.to_string())
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::new(Class::Message, printable(&format!("its file cannot be read: {error}")))
        .hint("see whether the file can be read by the user who runs this, and whether the disk is sound")
        .caused_by(error)
}

/// The Inbox of a tree without one.
pub(super) fn no_inbox() -> Found {
    Found { path: FolderPath::inbox(), twin_of: None, dirs: Vec::new(), file: None }
}
