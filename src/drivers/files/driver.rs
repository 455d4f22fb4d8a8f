//! Trees of files as the registry knows them. Nobody logs in: whoever may read the files may read the mail.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use rustix::fs::{Access, access};

use super::Format;
use super::destination::FilesDestination;
use super::names::{level_name, read_level_name};
use super::source::{FilesSource, Tree};
use super::tree::{Dir, Kind};
use crate::auth::credentials::Login;
use crate::drivers::measure::{FolderNames, FolderRules, Measuring, Room};
use crate::drivers::registry::{
    Account, Driver, Greeted, KnownDestination, KnownSource, LoggedIn, Way, of_another_protocol,
};
use crate::drivers::{Destination, Source};
use crate::model::address::Address;
use crate::model::capability::Capabilities;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{MailboxSize, ServerFacts};
use crate::model::failure::{Class, Failure, FailureCode, Result};
use crate::model::label::LabelRule;
use crate::model::message::InternalDate;
use crate::model::scope::{Counting, Scope};
use crate::model::service::SessionFacts;
use crate::model::text::printable;

/// A format of files; the host of an endpoint is the directory of one mailbox.
pub struct Files(pub Format);

/// A tree that nobody has looked into yet.
struct Place {
    path: PathBuf,
    format: Format,
    facts: ServerFacts,
}

#[async_trait]
impl Driver for Files {
    async fn greet(&self, way: Way<'_>) -> Result<Box<dyn Greeted>> {
        Ok(Box::new(self.place(way.endpoint)))
    }

    /// One session sees all of a tree, and a second one would only be in its way.
    async fn greet_if_free(&self, _way: Way<'_>) -> Result<Option<Box<dyn Greeted>>> {
        Ok(None)
    }

    fn measures_in_parts(&self) -> bool {
        false
    }
}

impl Files {
    fn place(&self, endpoint: &Endpoint) -> Place {
        let facts = ServerFacts {
            endpoint: endpoint.clone(),
            greeting: String::new(),
            capabilities: Capabilities::default(),
            mechanisms: Vec::new(),
            tls: None,
        };
        Place { path: PathBuf::from(&endpoint.host), format: self.0, facts }
    }
}

#[async_trait]
impl Greeted for Place {
    fn facts(&self) -> &ServerFacts {
        &self.facts
    }

    async fn login(self: Box<Self>, _login: &Login) -> Result<Box<dyn LoggedIn>> {
        Ok(self)
    }

    async fn close(self: Box<Self>) {}
}

impl Place {
    fn tree(&self) -> Result<Tree> {
        Tree::open(&self.path, self.format)
    }
}

#[async_trait]
impl LoggedIn for Place {
    async fn measure(&mut self, scope: &Scope, rules: &FolderRules, measuring: &mut Measuring) -> Result<()> {
        let tree = self.tree()?;
        let walk = tree.walk().await?;
        for found in &walk.folders {
            rules.note(&scope.exclude, &found.path, &mut measuring.size);
            if scope.exclude.is_match(found.path.to_string()) {
                measuring.size.left_out_folders += 1;
                continue;
            }
            match tree.read(found).await {
                Ok((_, contents)) => {
                    let mut counting = Counting::new(scope);
                    for item in &contents.items {
                        counting.add(item.size, item.date.map(InternalDate::timestamp));
                    }
                    measuring.size.add(&MailboxSize { folders: 1, ..counting.size() });
                    let left = [
                        (
                            contents.unended,
                            "ends without a line end, so that its last message may be cut off",
                        ),
                        (
                            contents.torn,
                            "ends in the midst of a message, which waits until the file is whole",
                        ),
                        (
                            contents.partial,
                            "has headers alone of messages that are on a server still; they are not carried",
                        ),
                        (
                            contents.removed,
                            "holds messages that were removed and are only not compacted; they are not carried",
                        ),
                    ];
                    for (count, what) in left.into_iter().filter(|(count, _)| *count > 0) {
                        let what = format!("{what} ({count})");
                        measuring.note_damage(Failure::new(Class::Message, what).at(found.path.to_string()));
                    }
                }
                Err(failure) => measuring.size.note_unread(failure),
            }
        }
        for unreadable in walk.unreadable {
            measuring.size.note_unread(Failure::new(Class::Refused, unreadable));
        }
        for passed in walk.passed_over {
            measuring.note_damage(Failure::new(Class::Message, passed));
        }
        Ok(())
    }

    async fn ask_account(&mut self) -> Result<Account> {
        let session = SessionFacts::of(&self.facts.endpoint, Capabilities::default());
        Ok(Account { session, quota: None, foreign: 0 })
    }

    async fn list_inbox(&mut self) -> Result<Option<Vec<(String, u64)>>> {
        let tree = self.tree()?;
        let walk = tree.walk().await?;
        let Some(inbox) = walk.folders.iter().find(|found| found.path.is_inbox()) else {
            return Ok(Some(Vec::new()));
        };
        let (_, contents) = tree.read(inbox).await?;
        Ok(Some(contents.items.into_iter().map(|item| (item.id.into(), item.size)).collect()))
    }

    /// Nothing is made yet: it is only asked whether that could be done.
    async fn ask_room(self: Box<Self>) -> Result<Room> {
        let there = self.path.ancestors().find(|path| path.as_os_str().is_empty() || path.exists());
        let there = there.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        access(there, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
            Failure::new(Class::Refused, printable(&format!("cannot be written: {error}")))
                .code(FailureCode::NoPermission)
                .hint("give the user who runs this the right to write there")
                .at(there.display().to_string())
        })?;
        let names = Some(FolderNames { delimiter: Some('/'), prefix: String::new() });
        Ok(Room { names, ..Room::default() })
    }

    async fn source(self: Box<Self>, _labels: LabelRule) -> Result<Box<dyn Source>> {
        Ok(Box::new(FilesSource::of(self.tree()?, self.facts)))
    }

    fn source_beside(self: Box<Self>, _known: &KnownSource) -> Result<Box<dyn Source>> {
        Err(of_another_protocol())
    }

    async fn destination(self: Box<Self>) -> Result<Box<dyn Destination>> {
        make_all(&self.path)?;
        Ok(Box::new(FilesDestination::of(self.tree()?, self.facts).await?))
    }

    fn destination_beside(self: Box<Self>, _known: &KnownDestination) -> Result<Box<dyn Destination>> {
        Err(of_another_protocol())
    }

    async fn close(self: Box<Self>) {}
}

/// Makes the directory of a mailbox, and those above it.
fn make_all(path: &Path) -> Result<()> {
    let made = std::fs::create_dir_all(path).and_then(|()| match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => Dir::root(above)?.sync(),
        _ => Ok(()),
    });
    made.map_err(|error| {
        Failure::configuration(printable(&format!("the directory cannot be made: {error}")))
            .hint("give the user who runs this the right to write there, or name another path")
            .caused_by(&error)
            .at(path.display().to_string())
    })
}

/// The directory of a mailbox below the one that a manifest names: the one that is called as its address. A mailbox that is
/// alone in its domain may be in the directory itself, unless others have their own in it: their mail is not this one's.
pub fn directory_of_mailbox(base: &Path, address: &str, is_alone: bool) -> PathBuf {
    let name = level_name(address).unwrap_or_else(|_| address.replace('/', "\\2f").into());
    let own = base.join(name);
    let is_address = |name: &String| name.parse::<Address>().is_ok();
    let is_shared = || names_of_directories(base).is_ok_and(|names| names.iter().any(is_address));
    if is_alone && !own.is_dir() && !is_shared() { base.to_owned() } else { own }
}

/// The names of the directories below one, as addresses are read from them.
pub fn names_of_directories(base: &Path) -> Result<Vec<String>> {
    let entries = Dir::root(base).and_then(|dir| dir.entries()).map_err(|error| {
        Failure::configuration(printable(&format!("the directory cannot be read: {error}")))
            .caused_by(&error)
            .at(base.display().to_string())
    })?;
    let dirs = entries.iter().filter(|entry| entry.kind == Kind::Dir);
    Ok(dirs.map(|entry| read_level_name(&entry.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_is_in_its_own_directory_or_alone_in_the_whole() {
        let home = tempfile::tempdir().unwrap();
        let base = home.path();
        let of = |address: &str, is_alone| directory_of_mailbox(base, address, is_alone);
        std::fs::create_dir_all(base.join("Local Folders")).unwrap();
        assert_eq!(of("anna@a.test", true), base);
        assert_eq!(of("anna@a.test", false), base.join("anna@a.test"));
        std::fs::create_dir(base.join("bert@a.test")).unwrap();
        assert_eq!(of("anna@a.test", true), base.join("anna@a.test"), "it is not given another's mail");
        assert_eq!(of("bert@a.test", true), base.join("bert@a.test"));
        let hostile = Path::new("\\2e.\\2fx@a.test");
        assert_eq!(of("../x@a.test", false), base.join(hostile));
        assert_eq!(names_of_directories(base).unwrap(), ["Local Folders", "bert@a.test"]);
    }
}
