//! An IMAP mailbox that mail is read from. Folders are opened with EXAMINE and bodies taken with PEEK, so nothing at the
//! source changes, not even a flag.

use std::sync::Arc;

use async_trait::async_trait;

use super::bodies::{WantedUid, fetch_bodies};
use super::folders::{Access, Row, list_messages, open_and_list_folders, open_folder, select_rows};
use super::labels::{EXTENSION, Homes, LabelRule, Sieve};
use super::session::Session;
use super::survey::survey_mailbox;
use crate::mail::{BodySender, Folder, FolderState, Listed, Source, Survey, Wanted};
use crate::model::evidence::ServerFacts;
use crate::model::failure::{Failure, Place, Result};
use crate::model::folder::FolderPath;
use crate::model::label::LabelTally;
use crate::model::message::Locator;

/// What further sessions of a mailbox need to know.
#[derive(Debug, Clone)]
pub struct Known {
    /// Where messages are at home; `None` where folders are no labels.
    homes: Option<Arc<Homes>>,
}

/// A logged-in session as a source.
#[derive(Debug)]
pub struct ImapSource {
    session: Session,
    rule: LabelRule,
    known: Known,
    /// What the server said at the beginning, until somebody asks.
    surveyed: Option<Survey>,
    open: Option<(FolderPath, FolderState)>,
    tally: Option<LabelTally>,
}

impl ImapSource {
    /// Takes over a session that has just logged in. Where the server keeps labels, each message is listed in its home.
    ///
    /// # Errors
    /// Those of the session.
    pub async fn new(session: Session) -> Result<Self> {
        Self::with_labels(session, LabelRule::default()).await
    }

    /// As [`Self::new`], with what the manifest says about labels.
    ///
    /// # Errors
    /// Those of the session.
    pub async fn with_labels(mut session: Session, rule: LabelRule) -> Result<Self> {
        let (known, survey) = learn(&mut session, &rule).await?;
        Ok(Self { session, rule, known, surveyed: Some(survey), open: None, tally: None })
    }

    /// Takes over one more session of a mailbox that is known; costs no turn.
    pub fn beside(session: Session, known: Known) -> Self {
        let rule = LabelRule::default();
        Self { session, rule, known, surveyed: None, open: None, tally: None }
    }

    /// What further sessions of the mailbox need to know.
    pub fn known(&self) -> &Known {
        &self.known
    }

    fn sieve(&self, folder: &FolderPath) -> Option<Sieve> {
        self.known.homes.as_ref().map(|homes| homes.sieve(folder))
    }
}

/// Asks for the folders, and finds out where messages are at home.
async fn learn(session: &mut Session, rule: &LabelRule) -> Result<(Known, Survey)> {
    let (spelling, mut survey) = survey_mailbox(session).await?;
    let homes = session.offers(EXTENSION).then(|| Arc::new(Homes::new(rule, &spelling, &survey.folders)));
    survey.homes = homes.as_ref().map(|homes| homes.digest());
    Ok((Known { homes }, survey))
}

/// The message as it is carried from the folder that the sieve is of.
fn pick(sieve: Option<&mut Sieve>, row: Row) -> Result<Option<Row>> {
    match sieve {
        Some(sieve) => sieve.pick(row),
        None => Ok(Some(row)),
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
        let (known, survey) = learn(&mut self.session, &self.rule).await?;
        self.known = known;
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
        let mut sieve = self.sieve(path);
        let listed_rows = list_messages(&mut self.session, state, |row| pick(sieve.as_mut(), row)).await;
        let rows = listed_rows.at(|| path.to_string())?;
        self.tally = sieve.map(Sieve::into_tally);
        Ok(rows.into_iter().map(|row| listed(path, state.uidvalidity, row)).collect())
    }

    async fn open_and_list(&mut self, folder: &Folder) -> Result<(FolderState, Vec<Listed>)> {
        self.open = None;
        let mut rows = Vec::new();
        let mut sieve = self.sieve(&folder.path);
        let names = [folder.wire_name.as_slice()];
        let opened = open_and_list_folders(&mut self.session, &names, |_, row| {
            rows.extend(pick(sieve.as_mut(), row)?);
            Ok(())
        });
        let opened = opened.await.at(|| folder.path.to_string())?.pop().ok_or_else(no_folder)?;
        let state = opened.at(|| folder.path.to_string())?;
        self.open = Some((folder.path.clone(), state.clone()));
        self.tally = sieve.map(Sieve::into_tally);
        let rows = select_rows(rows, 1);
        Ok((
            state.clone(),
            rows.into_iter().map(|row| listed(&folder.path, state.uidvalidity, row)).collect(),
        ))
    }

    fn take_tally(&mut self) -> Option<LabelTally> {
        self.tally.take()
    }

    async fn fetch(&mut self, wanted: &[Wanted], bodies: BodySender) -> Result<()> {
        let (path, _) = self.open.as_ref().ok_or_else(no_folder)?;
        let uid_of = |w: &Wanted| match w.locator {
            Locator::Imap { uid, .. } => Ok(WantedUid { key: w.key, uid, size: Some(w.size) }),
            Locator::Pop3 { .. } => {
                Err(Failure::internal("a message of another protocol was asked for by IMAP"))
            }
        };
        let uids = wanted.iter().map(uid_of).collect::<Result<Vec<WantedUid>>>()?;
        fetch_bodies(&mut self.session, &uids, &bodies).await.at(|| path.to_string())
    }

    async fn close(&mut self) {
        self.session.close().await;
    }
}

fn no_folder() -> Failure {
    Failure::internal("no folder is open")
}
