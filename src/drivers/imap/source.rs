//! An IMAP mailbox that mail is read from. Folders are opened with EXAMINE and bodies taken with PEEK, so nothing at the
//! source changes, not even a flag.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;

use super::bodies::{WantedUid, fetch_bodies};
use super::command::Ask;
use super::folders::{
    Access, Parts, Row, ask_to_open, check_count, check_opened, count_messages, keeps_modseq,
    list_messages_command, open_folder, read_code, read_opened, status_folders,
};
use super::labels::{EXTENSION, Homes, Sieve};
use super::listing::{
    self, CHANGEDSINCE, PAGE, Page, Progress, begin_list, end_list, list_page, lowest_processed,
};
use super::names::Spelling;
use super::numbers::{Numbers, read_mark};
use super::session::Session;
use super::survey::survey_mailbox;
use crate::drivers::marks::{Marks, Numbered};
use crate::drivers::registry::KnownSource;
use crate::drivers::{
    BodySender, Changes, Folder, FolderState, Gone, Listed, Listing, Since, Source, Survey, Wanted,
};
use crate::model::evidence::ServerFacts;
use crate::model::failure::{Class, Failure, FailureCode, Place, Result};
use crate::model::folder::FolderPath;
use crate::model::label::LabelRule;
use crate::model::message::{Epoch, ItemId, Locator};
use crate::model::protocol::Protocol;

/// After how long a folder is opened again that was refused.
const OPENED_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How many other folders are opened to see whether it is one folder alone that is refused.
const OTHERS_MAX: usize = 4;

/// The facts about a mailbox that its further sessions need.
#[derive(Debug, Clone)]
pub struct Known {
    /// Where messages are at home; `None` where folders are not labels.
    homes: Option<Arc<Homes>>,
    /// How many messages each folder was said to hold when all were listed.
    sizes: Arc<HashMap<FolderPath, u64>>,
    /// Some folders that can be opened, by their names on the wire.
    some: Arc<[Vec<u8>]>,
    /// How the server spells names.
    spelling: Arc<Spelling>,
}

/// A logged-in session as a source.
#[derive(Debug)]
pub struct ImapSource {
    session: Session,
    rule: LabelRule,
    known: Known,
    /// The survey made at the beginning, until a caller asks for it.
    surveyed: Option<Survey>,
    open: Option<Open>,
}

/// The open folder.
#[derive(Debug)]
struct Open {
    path: FolderPath,
    wire_name: Vec<u8>,
    epoch: Epoch,
    progress: Progress,
    sieve: Option<Sieve>,
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
        Ok(Self { session, rule, known, surveyed: Some(survey), open: None })
    }

    /// Takes over one more session of a mailbox that is known; costs no turn.
    pub fn beside(session: Session, known: Known) -> Self {
        let rule = LabelRule::default();
        Self { session, rule, known, surveyed: None, open: None }
    }

    /// Notes that a folder is open and that its list begins.
    fn begin(&mut self, folder: &Folder, numbers: &Numbers) {
        self.open = Some(Open {
            path: folder.path.clone(),
            wire_name: folder.wire_name.clone(),
            epoch: numbers.epoch.clone(),
            progress: Progress::of(numbers),
            sieve: self.known.homes.as_ref().map(|homes| homes.sieve(&folder.path)),
        });
    }

    /// Adds to a list what was found out by the rule that it was made by, once it has come to its end.
    fn finish(&mut self, mut listing: Listing) -> Listing {
        if listing.next.is_none() {
            let sieve = self.open.as_mut().and_then(|open| open.sieve.as_mut());
            listing.notes = sieve.map(Sieve::take_tally);
        }
        listing
    }

    /// Opens a folder and lists it in one flight.
    async fn open_and_list_at_once(&mut self, folder: &Folder) -> Result<(FolderState, Listing)> {
        let open = ask_to_open(&self.session, &folder.wire_name, Access::Read);
        let list = list_messages_command(&self.session, 1, None);
        let asks = [open, Ask::new(list).following()];
        let mut numbers = Numbers::default();
        let mut rows: Vec<Row> = Vec::new();
        let mut parts = Parts::default();
        let ended = self.session.ask_all(&asks, |at, line| {
            if at == 0 {
                read_opened(line, &mut numbers);
                return Ok(());
            }
            rows.extend(parts.hear(line));
            check_count(rows.len())
        });
        let mut ended = ended.await?.into_iter();
        match ended.next() {
            Some(Err(refused)) => {
                let numbers = self.open_again(folder, refused).await?;
                self.begin(folder, &numbers);
                return Ok((numbers.at_source(), self.list(None).await?));
            }
            Some(Ok(said)) => read_code(&said, &mut numbers),
            None => {}
        }
        let numbers = check_opened(numbers)?;
        self.begin(folder, &numbers);
        let open = self.open.as_mut().ok_or_else(no_folder)?;
        let page = match ended.next() {
            // There is nothing that `1:*` could name, and some servers say so with a NO.
            Some(Err(failure)) if numbers.messages != Some(0) => return Err(failure),
            Some(Ok(said)) if lowest_processed(&said).is_some() => {
                // The server has a limit: page by page it says how far it came.
                list_page(&mut self.session, &mut open.progress, 1).await?
            }
            _ => {
                let rows = begin_list(&mut self.session, &mut open.progress, rows, parts).await?;
                end_list(&mut self.session, &mut open.progress, rows, 1).await?
            }
        };
        let mut listing = open.take(page)?;
        self.hold_against_status(&mut listing).await?;
        Ok((numbers.at_source(), self.finish(listing)))
    }

    /// Opens a folder again that was refused as if the server, the login or the whole mailbox had trouble: that passes, or it
    /// is the folder's own if others can be opened, and is not a reason to leave those.
    async fn open_again(&mut self, folder: &Folder, refused: Failure) -> Result<Numbers> {
        use FailureCode as F;
        let concerns_all = refused.wait.is_some()
            || refused.leaves_the_session()
            || refused.code.is_some_and(|code| {
                matches!(code, F::NotConnected | F::NeedsId | F::ConnectionEnded | F::Silent | F::Garbled)
            });
        if concerns_all {
            return Err(refused);
        }
        sleep(OPENED_AGAIN_AFTER).await;
        let wire_names = Arc::clone(&self.known.some);
        let others = wire_names.iter().filter(|name| **name != folder.wire_name);
        if let Ok(numbers) = open_folder(&mut self.session, &folder.wire_name, Access::Read).await {
            return Ok(numbers);
        }
        for other in others {
            if open_folder(&mut self.session, other, Access::Read).await.is_ok() {
                let hint =
                    "others can be opened, so it is this folder's own trouble; the next run tries it again";
                return Err(Failure::new(Class::Refused, refused.what).hint(hint));
            }
        }
        Err(refused)
    }

    /// Holds a list that has come to its end against what STATUS counts, where that was more than is listed: it is asked
    /// again, for messages may have gone meanwhile.
    async fn hold_against_status(&mut self, listing: &mut Listing) -> Result<()> {
        let Some(open) = self.open.as_ref().filter(|_| listing.next.is_none()) else { return Ok(()) };
        let listed = open.progress.listed();
        if self.known.sizes.get(&open.path).is_none_or(|messages| *messages <= listed.into()) {
            return Ok(());
        }
        let messages = count_messages(&mut self.session, &open.wire_name).await?.unwrap_or(0);
        listing.unlisted = listing.unlisted.max(messages.saturating_sub(listed).into());
        Ok(())
    }
}

/// Asks for the folders, and finds out where messages are at home.
async fn learn(session: &mut Session, rule: &LabelRule) -> Result<(Known, Survey)> {
    let (spelling, mut survey) = survey_mailbox(session, Numbers::at_source).await?;
    let homes = session.offers(EXTENSION).then(|| Arc::new(Homes::new(rule, &spelling, &survey.folders)));
    survey.rule = homes.as_ref().map(|homes| homes.digest());
    let some = survey.folders.iter().filter(|folder| folder.selectable).take(OTHERS_MAX);
    let some = some.map(|folder| folder.wire_name.clone()).collect();
    let sizes = Arc::new(sizes_of(&survey));
    Ok((Known { homes, sizes, some, spelling: Arc::new(spelling) }, survey))
}

/// The message as it is carried from the folder that the sieve is of.
fn pick(sieve: Option<&mut Sieve>, row: Row) -> Result<Option<Row>> {
    match sieve {
        Some(sieve) => sieve.pick(row),
        None => Ok(Some(row)),
    }
}

fn sizes_of(survey: &Survey) -> HashMap<FolderPath, u64> {
    let sizes = survey.states.iter().filter_map(|(path, state)| Some((path.clone(), state.items?)));
    sizes.collect()
}

impl Open {
    fn locate(&self, uid: u32) -> Locator {
        let (folder, epoch) = (self.path.clone(), self.epoch.clone());
        Locator { protocol: Protocol::Imap, folder, epoch, id: ItemId::Uid(uid) }
    }

    fn listed(&self, row: Row) -> Listed {
        let flags = Some(row.flags);
        Listed { locator: self.locate(row.uid), place: row.uid, size: row.size, date: row.date, flags }
    }

    /// The messages of a page that are carried from this folder.
    fn take(&mut self, page: Page) -> Result<Listing> {
        let last = page.rows.last().map(|row| row.uid).filter(|_| !page.complete);
        let mut messages = Vec::with_capacity(page.rows.len());
        for row in page.rows {
            if let Some(row) = pick(self.sieve.as_mut(), row)? {
                messages.push(self.listed(row));
            }
        }
        Ok(Listing { messages, next: last.map(|uid| self.locate(uid)), unlisted: page.unlisted, notes: None })
    }
}

#[async_trait]
impl Source for ImapSource {
    fn facts(&self) -> &ServerFacts {
        self.session.facts()
    }

    fn marks(&self) -> &'static dyn Marks {
        &Numbered
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

    async fn states(&mut self, folders: &[&Folder]) -> Result<HashMap<FolderPath, FolderState>> {
        let names: Vec<Vec<u8>> = folders.iter().map(|folder| folder.wire_name.clone()).collect();
        let told = status_folders(&mut self.session, &names).await?;
        let paths = folders.iter().map(|folder| folder.path.clone());
        Ok(paths.zip(told).filter_map(|(path, numbers)| Some((path, numbers?.at_source()))).collect())
    }

    async fn find_unlisted(&mut self, paths: &[FolderPath]) -> Result<Vec<Result<Folder>>> {
        self.open = None;
        let names: Vec<Vec<u8>> =
            paths.iter().map(|path| self.known.spelling.to_wire(path).into_bytes()).collect();
        let asks: Vec<Ask> =
            names.iter().map(|name| ask_to_open(&self.session, name, Access::Read)).collect();
        let ended = self.session.ask_all(&asks, |_, _| Ok(())).await?;
        let found = paths.iter().zip(names).zip(ended).map(|((path, wire_name), ended)| {
            ended.map(|_| Folder {
                path: path.clone(),
                twin_of: None,
                wire_name,
                special_use: None,
                selectable: true,
                subscribed: false,
            })
        });
        Ok(found.collect())
    }

    async fn open(&mut self, folder: &Folder) -> Result<FolderState> {
        self.open = None;
        let numbers = match open_folder(&mut self.session, &folder.wire_name, Access::Read).await {
            Err(refused) => self.open_again(folder, refused).await,
            opened => opened,
        };
        let numbers = numbers.at(|| folder.path.to_string())?;
        self.begin(folder, &numbers);
        Ok(numbers.at_source())
    }

    async fn list(&mut self, after: Option<&Locator>) -> Result<Listing> {
        let open = self.open.as_mut().ok_or_else(no_folder)?;
        let after = after.and_then(|after| after.id.uid());
        let from = after.map_or(1, |uid| uid.saturating_add(1));
        let page = list_page(&mut self.session, &mut open.progress, from).await;
        let mut listing = page.and_then(|page| open.take(page)).at(|| open.path.to_string())?;
        self.hold_against_status(&mut listing).await?;
        Ok(self.finish(listing))
    }

    async fn open_and_list(&mut self, folder: &Folder) -> Result<(FolderState, Listing)> {
        // The list of a folder that may be large is not requested before its size is known.
        if self.known.sizes.get(&folder.path).is_some_and(|messages| *messages > PAGE.into()) {
            let state = self.open(folder).await?;
            return Ok((state, self.list(None).await?));
        }
        self.open = None;
        self.open_and_list_at_once(folder).await.at(|| folder.path.to_string())
    }

    async fn open_changed(
        &mut self,
        folder: &Folder,
        since: &Since,
    ) -> Result<(FolderState, Option<Changes>)> {
        let can_tell = self.known.homes.is_none() && keeps_modseq(&self.session);
        let from = read_mark(&since.mark).filter(|_| can_tell && !self.session.fails_at(CHANGEDSINCE));
        let Some(from) = from else { return Ok((self.open(folder).await?, None)) };
        self.open = None;
        let opened = async {
            let open = ask_to_open(&self.session, &folder.wire_name, Access::Read);
            let (numbers, changed) = listing::open_changed(&mut self.session, open, from, since).await?;
            Ok((check_opened(numbers)?, changed))
        };
        let opened = match opened.await {
            Err(refused) => self.open_again(folder, refused).await.map(|numbers| (numbers, None)),
            opened => opened,
        };
        let (numbers, news) = opened.at(|| folder.path.to_string())?;
        self.begin(folder, &numbers);
        let open = self.open.as_ref().ok_or_else(no_folder)?;
        let changes = news.map(|told| Changes {
            fresh: told.fresh.into_iter().map(|row| open.listed(row)).collect(),
            flags: told.flags.into_iter().map(|(uid, flags)| (ItemId::Uid(uid), flags)).collect(),
            listed: told.known.into_iter().map(|row| open.listed(row)).collect(),
            gone: told
                .present
                .map_or(Gone::None, |present| Gone::AllBut(present.into_iter().map(ItemId::Uid).collect())),
        });
        Ok((numbers.at_source(), changes))
    }

    async fn fetch(&mut self, wanted: &[Wanted], bodies: BodySender) -> Result<()> {
        let path = &self.open.as_ref().ok_or_else(no_folder)?.path;
        let uid_of = |w: &Wanted| match w.locator.id {
            ItemId::Uid(uid) => Ok(WantedUid { key: w.key, uid, size: Some(w.size) }),
            ItemId::Text(_) => Err(Failure::internal("a message of another protocol was asked for by IMAP")),
        };
        let uids = wanted.iter().map(uid_of).collect::<Result<Vec<WantedUid>>>()?;
        fetch_bodies(&mut self.session, &uids, &bodies).await.at(|| path.to_string())
    }

    fn known(&self) -> Option<KnownSource> {
        Some(KnownSource::Imap(self.known.clone()))
    }

    async fn close(&mut self) {
        self.session.close().await;
    }
}

fn no_folder() -> Failure {
    Failure::internal("no folder is open")
}
