//! An IMAP mailbox that mail is read from. Folders are opened with EXAMINE and bodies taken with PEEK, so nothing at the
//! source changes, not even a flag.

use async_trait::async_trait;

use super::bodies::{WantedUid, fetch_bodies};
use super::folders::{Access, learn_spelling, list_folders, list_messages, open_folder};
use super::names::Spelling;
use super::session::Session;
use crate::mail::{BodySender, Folder, FolderState, Listed, Source, Wanted};
use crate::model::evidence::ServerFacts;
use crate::model::failure::{Failure, Place, Result};
use crate::model::folder::FolderPath;
use crate::model::message::Locator;

/// A logged-in session as a source.
#[derive(Debug)]
pub struct ImapSource {
    session: Session,
    spelling: Spelling,
    open: Option<(FolderPath, FolderState)>,
}

impl ImapSource {
    /// Takes over a session that has just logged in.
    ///
    /// # Errors
    /// Those of the session.
    pub async fn new(mut session: Session) -> Result<Self> {
        let spelling = learn_spelling(&mut session).await?;
        Ok(Self { session, spelling, open: None })
    }
}

#[async_trait]
impl Source for ImapSource {
    fn facts(&self) -> &ServerFacts {
        self.session.facts()
    }

    async fn list_folders(&mut self) -> Result<Vec<Folder>> {
        list_folders(&mut self.session, &self.spelling).await
    }

    async fn open(&mut self, folder: &Folder) -> Result<FolderState> {
        self.open = None;
        let state = open_folder(&mut self.session, &folder.wire_name, Access::Read)
            .await
            .at(|| folder.path.to_string())?;
        self.open = Some((folder.path.clone(), state.clone()));
        Ok(state)
    }

    async fn list(&mut self) -> Result<Vec<Listed>> {
        let (path, state) = self.open.as_ref().ok_or_else(no_folder)?;
        let rows = list_messages(&mut self.session, state).await.at(|| path.to_string())?;
        let locate = |uid| Locator::Imap { folder: path.clone(), uidvalidity: state.uidvalidity, uid };
        Ok(rows
            .into_iter()
            .map(|row| Listed {
                locator: locate(row.uid),
                size: row.size,
                date: row.date,
                flags: Some(row.flags),
            })
            .collect())
    }

    async fn fetch(&mut self, wanted: &[Wanted], bodies: BodySender) -> Result<()> {
        let (path, _) = self.open.as_ref().ok_or_else(no_folder)?;
        let uid_of = |w: &Wanted| match w.locator {
            Locator::Imap { uid, .. } => Some(WantedUid { key: w.key, uid, size: w.size }),
            Locator::Pop3 { .. } => None,
        };
        let uids: Vec<WantedUid> = wanted.iter().filter_map(uid_of).collect();
        fetch_bodies(&mut self.session, &uids, &bodies).await.at(|| path.to_string())
    }

    async fn close(&mut self) {
        self.session.close().await;
    }
}

fn no_folder() -> Failure {
    Failure::internal("no folder is open")
}
