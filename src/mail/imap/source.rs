//! An IMAP mailbox that mail is read from. Folders are opened with EXAMINE and bodies taken with PEEK, so nothing at the
//! source changes, not even a flag.

use async_trait::async_trait;

use super::bodies::{WantedUid, fetch_bodies};
use super::folders::{
    Access, Row, list_messages, open_and_list_folders, open_folder, select_rows, survey_mailbox,
};
use super::names::Spelling;
use super::session::Session;
use crate::mail::{BodySender, Folder, FolderState, Listed, Source, Survey, Wanted};
use crate::model::evidence::ServerFacts;
use crate::model::failure::{Failure, Place, Result};
use crate::model::folder::FolderPath;
use crate::model::message::Locator;

/// A logged-in session as a source.
#[derive(Debug)]
pub struct ImapSource {
    session: Session,
    spelling: Spelling,
    /// What the server said at the beginning, until somebody asks.
    surveyed: Option<Survey>,
    open: Option<(FolderPath, FolderState)>,
}

impl ImapSource {
    /// Takes over a session that has just logged in.
    ///
    /// # Errors
    /// Those of the session.
    pub async fn new(mut session: Session) -> Result<Self> {
        let (spelling, survey) = survey_mailbox(&mut session).await?;
        Ok(Self { session, spelling, surveyed: Some(survey), open: None })
    }

    /// Takes over one more session of a mailbox whose spelling is known; costs no turn.
    pub fn beside(session: Session, spelling: Spelling) -> Self {
        Self { session, spelling, surveyed: None, open: None }
    }

    /// How the server spells folder names.
    pub fn spelling(&self) -> &Spelling {
        &self.spelling
    }
}

fn listed(path: &FolderPath, uidvalidity: u32, row: Row) -> Listed {
    Listed {
        locator: Locator::Imap { folder: path.clone(), uidvalidity, uid: row.uid },
        size: row.size,
        date: row.date,
        flags: Some(row.flags),
    }
}

#[async_trait]
impl Source for ImapSource {
    fn facts(&self) -> &ServerFacts {
        self.session.facts()
    }

    async fn list_folders(&mut self) -> Result<Vec<Folder>> {
        Ok(self.survey().await?.folders)
    }

    async fn survey(&mut self) -> Result<Survey> {
        if let Some(survey) = self.surveyed.take() {
            return Ok(survey);
        }
        let (spelling, survey) = survey_mailbox(&mut self.session).await?;
        self.spelling = spelling;
        Ok(survey)
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
        Ok(rows.into_iter().map(|row| listed(path, state.uidvalidity, row)).collect())
    }

    async fn open_and_list(&mut self, folder: &Folder) -> Result<(FolderState, Vec<Listed>)> {
        self.open = None;
        let mut rows = Vec::new();
        let names = [folder.wire_name.as_slice()];
        let opened = open_and_list_folders(&mut self.session, &names, |_, row| {
            rows.push(row);
            Ok(())
        });
        let opened = opened.await.at(|| folder.path.to_string())?.pop().ok_or_else(no_folder)?;
        let state = opened.at(|| folder.path.to_string())?;
        self.open = Some((folder.path.clone(), state.clone()));
        let rows = select_rows(rows, 1);
        Ok((
            state.clone(),
            rows.into_iter().map(|row| listed(&folder.path, state.uidvalidity, row)).collect(),
        ))
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
