//! An IMAP mailbox that mail is written to.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::append::{Accounted, append_bodies};
use super::bodies::{WantedUid, fetch_bodies};
use super::folders::{
    Access, Row, list_messages_from, list_messages_of, open_folder, status_folder, status_folders,
};
use super::names::{Spelling, encode_utf7, quote};
use super::numbers::Numbers;
use super::session::Session;
use super::survey::survey_mailbox;
use super::tokens::write_number_set;
use crate::drivers::marks::{Marks, Numbered};
use crate::drivers::registry::KnownDestination;
use crate::drivers::{
    Abilities, Appended, BodyReceiver, BodySender, Destination, Envelope, Folder, FolderState, Present,
    Survey,
};
use crate::model::evidence::ServerFacts;
use crate::model::failure::{Class, Failure, FailureCode, Place, Result};
use crate::model::folder::FolderPath;
use crate::model::mark::Mark;
use crate::model::message::{Flags, ItemId};

/// UIDs that one STORE or EXPUNGE names, so that no command line grows without bound.
const UIDS_PER_COMMAND: usize = 500;
/// The command that not every server survives.
const SUBSCRIBE: &str = "SUBSCRIBE";

/// A logged-in session as a destination.
#[derive(Debug)]
pub struct ImapDestination {
    session: Session,
    spelling: Spelling,
    /// The survey made at the beginning, until a caller asks for it.
    surveyed: Option<Survey>,
    known: BTreeSet<FolderPath>,
    subscribed: BTreeSet<FolderPath>,
    childless: BTreeSet<FolderPath>,
    /// The messages stored in the folder that was filled last.
    accounted: Accounted,
}

impl ImapDestination {
    /// Takes over a session that has just logged in.
    ///
    /// # Errors
    /// Those of the session.
    pub async fn new(mut session: Session) -> Result<Self> {
        let (spelling, survey) = survey_mailbox(&mut session, Numbers::at_destination).await?;
        Ok(Self { surveyed: Some(survey), ..Self::beside(session, spelling) })
    }

    /// Takes over one more session of a mailbox whose spelling is known; costs no turn.
    pub fn beside(session: Session, spelling: Spelling) -> Self {
        Self {
            session,
            spelling,
            surveyed: None,
            known: BTreeSet::new(),
            subscribed: BTreeSet::new(),
            childless: BTreeSet::new(),
            accounted: Accounted::default(),
        }
    }

    fn wire(&self, path: &FolderPath) -> String {
        self.spelling.to_wire(path)
    }

    /// Gives one command for each of some folders, all in one flight.
    async fn run_for(
        &mut self,
        verb: &str,
        places: &[usize],
        wanted: &[(FolderPath, bool)],
    ) -> Result<Vec<Result<()>>> {
        let path = |at: &usize| &wanted[*at].0;
        let commands: Vec<String> =
            places.iter().map(|at| format!("{verb} {}", quote(&self.wire(path(at))))).collect();
        let ended = self.session.run_all(&commands, |_, _| Ok(())).await?;
        Ok(ended
            .into_iter()
            .zip(places)
            .map(|(ended, at)| ended.map(drop).at(|| path(at).to_string()))
            .collect())
    }

    /// Adds or removes flags of a few messages; says why where the server does not take one of the flags.
    async fn store(&mut self, uids: &[u32], sign: char, flags: &Flags) -> Result<Option<Failure>> {
        let command = format!("UID STORE {} {sign}FLAGS.SILENT ({flags})", write_number_set(uids));
        match self.session.run(&command, |_| Ok(())).await {
            Ok(_) => Ok(None),
            // A refusal without a known reason is about what was asked.
            Err(failure)
                if matches!(
                    failure.code,
                    None | Some(FailureCode::FlagRefused | FailureCode::NotUnderstood)
                ) && failure.leaves_the_session() =>
            {
                Ok(Some(failure))
            }
            Err(failure) => Err(failure),
        }
    }
}

fn present(row: Row) -> Present {
    Present { id: ItemId::Uid(row.uid), size: row.size, flags: row.flags, date: row.date }
}

/// The UIDs that ids of this server are.
fn uids_of(ids: &[ItemId]) -> Result<Vec<u32>> {
    let uid = |id: &ItemId| id.uid().ok_or_else(|| Failure::internal("an id of IMAP is no UID"));
    ids.iter().map(uid).collect()
}

#[async_trait]
impl Destination for ImapDestination {
    fn facts(&self) -> &ServerFacts {
        self.session.facts()
    }

    fn marks(&self) -> &'static dyn Marks {
        &Numbered
    }

    fn abilities(&self) -> Abilities {
        Abilities { removes_single: self.session.offers("UIDPLUS") }
    }

    fn delimiter(&self) -> Option<char> {
        self.spelling.delimiter
    }

    async fn list_folders(&mut self) -> Result<Vec<Folder>> {
        Ok(self.survey().await?.folders)
    }

    async fn survey(&mut self) -> Result<Survey> {
        let survey = if let Some(survey) = self.surveyed.take() {
            survey
        } else {
            let (spelling, survey) = survey_mailbox(&mut self.session, Numbers::at_destination).await?;
            self.spelling = spelling;
            survey
        };
        let paths = |wanted: fn(&Folder) -> bool| -> BTreeSet<FolderPath> {
            survey.folders.iter().filter(|folder| wanted(folder)).map(|folder| folder.path.clone()).collect()
        };
        self.known = paths(|folder| folder.selectable);
        self.subscribed = paths(|folder| folder.subscribed);
        self.childless.clone_from(&survey.childless);
        Ok(survey)
    }

    fn length_of_names(&self) -> fn(&str) -> usize {
        |name| encode_utf7(name).len()
    }

    async fn rename_folder(&mut self, from: &FolderPath, to: &FolderPath) -> Result<()> {
        let (old, new) = (quote(&self.wire(from)), quote(&self.spelling.spell(to)));
        self.session.run(&format!("RENAME {old} {new}"), |_| Ok(())).await.at(|| from.to_string())?;
        // A subscription stays with the old name (RFC 9051 §6.3.6).
        if self.subscribed.remove(from) {
            let moved = [format!("UNSUBSCRIBE {old}"), format!("SUBSCRIBE {new}")];
            let ended = self.session.run_all(&moved, |_, _| Ok(())).await?;
            if ended.iter().all(Result::is_ok) {
                self.subscribed.insert(to.clone());
            }
        }
        Ok(())
    }

    async fn ensure_folder(&mut self, path: &FolderPath, subscribe: bool) -> Result<()> {
        let made = self.ensure_folders(&[(path.clone(), subscribe)]).await?;
        made.into_iter().collect()
    }

    async fn ensure_folders(&mut self, wanted: &[(FolderPath, bool)]) -> Result<Vec<Result<()>>> {
        let mut made: Vec<Result<()>> = wanted.iter().map(|_| Ok(())).collect();
        let mut missing: Vec<usize> = Vec::new();
        for (at, (path, _)) in wanted.iter().enumerate() {
            // Two source folders may go to one.
            let told = |earlier: &usize| wanted[*earlier].0 == *path;
            if !path.is_inbox() && !self.known.contains(path) && !missing.iter().any(told) {
                missing.push(at);
            }
        }
        for (at, ended) in missing.iter().zip(self.run_for("CREATE", &missing, wanted).await?) {
            match ended {
                Err(failure) => made[*at] = Err(failure),
                Ok(()) => drop(self.known.insert(wanted[*at].0.clone())),
            }
        }
        if self.session.fails_at(SUBSCRIBE) {
            return Ok(made);
        }
        let unsubscribed = |at: &usize| {
            let (path, subscribe) = &wanted[*at];
            *subscribe && made[*at].is_ok() && !self.subscribed.contains(path)
        };
        let unsubscribed: Vec<usize> = (0..wanted.len()).filter(unsubscribed).collect();
        let ended = self.run_for(SUBSCRIBE, &unsubscribed, wanted).await;
        // Mail arrives without it, so a session that ends at it twice is not given it again.
        let ended = ended.inspect_err(|_| self.session.suspect(SUBSCRIBE))?;
        if !unsubscribed.is_empty() {
            self.session.trust(SUBSCRIBE);
        }
        for (at, ended) in unsubscribed.iter().zip(ended) {
            match ended {
                Ok(()) => drop(self.subscribed.insert(wanted[*at].0.clone())),
                // Mail arrives without it.
                Err(failure) if failure.leaves_the_session() => {
                    tracing::info!(failure = %failure.sentence(), "a folder cannot be subscribed to");
                }
                Err(failure) => made[*at] = Err(failure),
            }
        }
        Ok(made)
    }

    fn is_childless(&self, path: &FolderPath) -> bool {
        self.childless.contains(path)
    }

    async fn open(&mut self, path: &FolderPath) -> Result<FolderState> {
        let wire = self.wire(path);
        let opened = open_folder(&mut self.session, wire.as_bytes(), Access::Write).await;
        opened.map(Numbers::at_destination).at(|| path.to_string())
    }

    async fn status(&mut self, path: &FolderPath) -> Result<FolderState> {
        let wire = self.wire(path);
        let told = status_folder(&mut self.session, &wire).await;
        told.map(Numbers::at_destination).at(|| path.to_string())
    }

    async fn states(&mut self, paths: &[FolderPath]) -> Result<HashMap<FolderPath, FolderState>> {
        let names: Vec<Vec<u8>> = paths.iter().map(|path| self.wire(path).into_bytes()).collect();
        let told = status_folders(&mut self.session, &names).await?;
        let told = paths.iter().cloned().zip(told);
        Ok(told.filter_map(|(path, numbers)| Some((path, numbers?.at_destination()))).collect())
    }

    async fn list_since(&mut self, mark: &Mark) -> Result<Vec<Present>> {
        let (rows, _) = list_messages_from(&mut self.session, Numbered::first(mark)).await?;
        Ok(rows.into_iter().map(present).collect())
    }

    async fn list_these(&mut self, ids: &[ItemId]) -> Result<Vec<Present>> {
        let uids = uids_of(ids)?;
        let mut listed = Vec::with_capacity(uids.len());
        for part in uids.chunks(UIDS_PER_COMMAND) {
            let rows = list_messages_of(&mut self.session, &write_number_set(part)).await?;
            listed.extend(rows.into_iter().filter(|row| part.binary_search(&row.uid).is_ok()).map(present));
        }
        Ok(listed)
    }

    async fn fetch(&mut self, ids: &[ItemId], bodies: BodySender) -> Result<()> {
        let uids = uids_of(ids)?.into_iter();
        let wanted: Vec<WantedUid> =
            uids.zip(0..).map(|(uid, key)| WantedUid { key, uid, size: None }).collect();
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
        let appended =
            append_bodies(&mut self.session, &wire, bodies, envelope, outcomes, None, &mut self.accounted);
        appended.await.at(|| path.to_string()).map(drop)
    }

    async fn append_and_list(
        &mut self,
        path: &FolderPath,
        bodies: &mut BodyReceiver,
        envelope: &(dyn Fn(u64) -> Envelope + Send + Sync),
        outcomes: &mpsc::UnboundedSender<Appended>,
        since: &Mark,
    ) -> Result<Vec<Present>> {
        let wire = self.wire(path);
        let appended = append_bodies(
            &mut self.session,
            &wire,
            bodies,
            envelope,
            outcomes,
            Some(Numbered::first(since)),
            &mut self.accounted,
        );
        Ok(appended.await.at(|| path.to_string())?.into_iter().map(present).collect())
    }

    async fn store_flags(&mut self, ids: &[ItemId], add: &Flags, remove: &Flags) -> Result<Flags> {
        let uids = uids_of(ids)?;
        let mut refused: Vec<String> = Vec::new();
        for (sign, flags) in [('+', add.writable()), ('-', remove.writable())] {
            if flags.is_empty() {
                continue;
            }
            for part in uids.chunks(UIDS_PER_COMMAND) {
                let Some(failure) = self.store(part, sign, &flags).await? else { continue };
                tracing::debug!(%flags, failure = %failure.sentence(), "asks for each flag by itself");
                for flag in flags.iter() {
                    if refused.iter().any(|known| known == flag) {
                        continue;
                    }
                    if self.store(part, sign, &Flags::parse(flag)).await?.is_some() {
                        refused.push(flag.to_owned());
                    }
                }
            }
        }
        Ok(refused.into())
    }

    async fn expunge(&mut self, ids: &[ItemId]) -> Result<()> {
        let uids = uids_of(ids)?;
        if !self.abilities().removes_single {
            return Err(Failure::new(Class::Refused, "cannot remove single messages (no UIDPLUS)"));
        }
        for part in uids.chunks(UIDS_PER_COMMAND) {
            let set = write_number_set(part);
            self.session.run(&format!("UID STORE {set} +FLAGS.SILENT (\\Deleted)"), |_| Ok(())).await?;
            self.session.run(&format!("UID EXPUNGE {set}"), |_| Ok(())).await?;
        }
        Ok(())
    }

    fn known(&self) -> Option<KnownDestination> {
        Some(KnownDestination::Imap(self.spelling.clone()))
    }

    async fn close(&mut self) {
        self.session.close().await;
    }
}
