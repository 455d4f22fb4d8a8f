//! An IMAP mailbox that mail is written to.

use std::collections::BTreeSet;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::append::append_bodies;
use super::bodies::{WantedUid, fetch_bodies};
use super::folders::{Access, learn_spelling, list_folders, list_messages_from, open_folder, status_folder};
use super::names::{Spelling, quote};
use super::session::Session;
use super::tokens::write_number_set;
use crate::mail::{Appended, BodyReceiver, BodySender, Destination, Envelope, Folder, FolderState, Present};
use crate::model::evidence::ServerFacts;
use crate::model::failure::{Class, Failure, Place, Result};
use crate::model::folder::FolderPath;
use crate::model::message::Flags;

/// UIDs that one STORE or EXPUNGE names, so that no command line grows without bound.
const UIDS_PER_COMMAND: usize = 500;

/// A logged-in session as a destination.
#[derive(Debug)]
pub struct ImapDestination {
    session: Session,
    spelling: Spelling,
    known: BTreeSet<FolderPath>,
    subscribed: BTreeSet<FolderPath>,
}

impl ImapDestination {
    /// Takes over a session that has just logged in.
    ///
    /// # Errors
    /// Those of the session.
    pub async fn new(mut session: Session) -> Result<Self> {
        let spelling = learn_spelling(&mut session).await?;
        Ok(Self { session, spelling, known: BTreeSet::new(), subscribed: BTreeSet::new() })
    }

    fn wire(&self, path: &FolderPath) -> String {
        self.spelling.to_wire(path)
    }
}

#[async_trait]
impl Destination for ImapDestination {
    fn facts(&self) -> &ServerFacts {
        self.session.facts()
    }

    fn delimiter(&self) -> Option<char> {
        self.spelling.delimiter
    }

    async fn list_folders(&mut self) -> Result<Vec<Folder>> {
        let folders = list_folders(&mut self.session, &self.spelling).await?;
        self.known = folders.iter().filter(|f| f.selectable).map(|f| f.path.clone()).collect();
        self.subscribed = folders.iter().filter(|f| f.subscribed).map(|f| f.path.clone()).collect();
        Ok(folders)
    }

    async fn ensure_folder(&mut self, path: &FolderPath, subscribe: bool) -> Result<()> {
        let name = quote(&self.wire(path));
        if !path.is_inbox() && !self.known.contains(path) {
            match self.session.run(&format!("CREATE {name}"), |_| Ok(())).await {
                Ok(_) => {}
                // Somebody else was quicker, or the server keeps the name in another case: opening it will tell.
                Err(failure)
                    if failure.what.contains("ALREADYEXISTS") || failure.what.contains("already exists") => {}
                Err(failure) => return Err(failure.at(path.to_string())),
            }
            self.known.insert(path.clone());
        }
        if subscribe && !self.subscribed.contains(path) {
            self.session.run(&format!("SUBSCRIBE {name}"), |_| Ok(())).await.at(|| path.to_string())?;
            self.subscribed.insert(path.clone());
        }
        Ok(())
    }

    async fn open(&mut self, path: &FolderPath) -> Result<FolderState> {
        let wire = self.wire(path);
        open_folder(&mut self.session, wire.as_bytes(), Access::Write).await.at(|| path.to_string())
    }

    async fn status(&mut self, path: &FolderPath) -> Result<FolderState> {
        let wire = self.wire(path);
        status_folder(&mut self.session, &wire).await.at(|| path.to_string())
    }

    async fn list_from(&mut self, from: u32) -> Result<Vec<Present>> {
        let (rows, _) = list_messages_from(&mut self.session, from).await?;
        Ok(rows
            .into_iter()
            .map(|r| Present { uid: r.uid, size: r.size, flags: r.flags, date: r.date })
            .collect())
    }

    async fn fetch(&mut self, uids: &[u32], bodies: BodySender) -> Result<()> {
        // Their sizes are not at hand; one budget's worth of unknown bodies per command is small enough.
        let wanted: Vec<WantedUid> =
            uids.iter().map(|uid| WantedUid { key: u64::from(*uid), uid: *uid, size: 64 * 1024 }).collect();
        fetch_bodies(&mut self.session, &wanted, &bodies).await
    }

    async fn append(
        &mut self,
        path: &FolderPath,
        bodies: &mut BodyReceiver,
        envelope: &(dyn Fn(u64) -> Envelope + Send + Sync),
        outcomes: &mpsc::UnboundedSender<Appended>,
    ) -> Result<()> {
        let wire = self.wire(path);
        append_bodies(&mut self.session, &wire, bodies, envelope, outcomes).await.at(|| path.to_string())
    }

    async fn store_flags(&mut self, uids: &[u32], add: &Flags, remove: &Flags) -> Result<()> {
        for (sign, flags) in [('+', add), ('-', remove)] {
            if flags.is_empty() {
                continue;
            }
            for part in uids.chunks(UIDS_PER_COMMAND) {
                let command = format!("UID STORE {} {sign}FLAGS.SILENT ({flags})", write_number_set(part));
                self.session.run(&command, |_| Ok(())).await?;
            }
        }
        Ok(())
    }

    async fn expunge(&mut self, uids: &[u32]) -> Result<()> {
        if !self.session.offers("UIDPLUS") {
            return Err(Failure::new(Class::Refused, "cannot remove single messages (no UIDPLUS)"));
        }
        for part in uids.chunks(UIDS_PER_COMMAND) {
            let set = write_number_set(part);
            self.session.run(&format!("UID STORE {set} +FLAGS.SILENT (\\Deleted)"), |_| Ok(())).await?;
            self.session.run(&format!("UID EXPUNGE {set}"), |_| Ok(())).await?;
        }
        Ok(())
    }

    async fn close(&mut self) {
        self.session.close().await;
    }
}
