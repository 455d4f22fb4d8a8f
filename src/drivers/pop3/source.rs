//! A POP3 maildrop as a source of mail: one folder, no flags, no dates, and never a change.
//!
//! Messages are read with `TOP n 2147483647` where the server has TOP, because RETR marks them as seen on servers whose
//! POP3 and IMAP share a store. RSET behind each RETR takes such marks back where they are kept until the session's end
//! (not so at Courier and GNU Mailutils), and shows that the message ended where it should. The answer to TOP is taken
//! as whole where it is just as long as LIST says, and as far as that was seen ([`Proof`]); else RETR has the last
//! word, and a server whose TOP gave less is asked by RETR alone from then on.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use async_trait::async_trait;

use super::session::{Entry, PIPELINING, Session, ends_the_session};
use super::wire::{Body, Status, garbled, refusal};
use crate::auth::credentials::Login;
use crate::drivers::sizes::is_short;
use crate::drivers::spool::{Spool, send};
use crate::drivers::words::Asked as At;
use crate::drivers::{BodyEvent, BodySender, Folder, FolderState, Listed, Listing, Source, Wanted};
use crate::model::endpoint::Endpoint;
use crate::model::evidence::ServerFacts;
use crate::model::failure::{Class, Failure, FailureCode, Place, Result};
use crate::model::folder::FolderPath;
use crate::model::message::{Epoch, ItemId, Locator};
use crate::model::protocol::Protocol;
use crate::net::network::Network;
use crate::net::tls::Trust;

/// Commands that may be unanswered where the server takes several (PIPELINING, RFC 2449 §6.6).
const WINDOW_COMMANDS: usize = 32;
/// Announced bytes that may be unanswered; one message is always asked for, however large.
const WINDOW_BYTES: u64 = 1024 * 1024;
/// The most lines that TOP can be asked for: more than any message has, and fits the integers of old servers.
const ALL_LINES: u32 = 2_147_483_647;
/// The size that every message may have, in bytes, whatever LIST announced for it.
const MESSAGE_FREE: u64 = 64 * 1024 * 1024;
/// The size that no message may exceed, in bytes.
const MESSAGE_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// The command that reads messages without marking them.
const TOP: &str = "TOP";
/// Said of a server at whose answer to TOP a session ended: a message that is fetched for itself comes by RETR then.
const ENDS_AT_TOP: &str = "ends at TOP";
/// Messages of a session that RETR gave shorter than they are listed, twice: from then on none is asked for once more.
const SHORT_AGAIN: u32 = 3;
/// How long the first answer to RSET is waited behind for another line, which GreenMail sends.
const BEHIND_RESET: Duration = Duration::from_millis(200);

/// A logged-in POP3 session as a [`Source`].
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own about the session")]
pub struct Pop3Source {
    session: Session,
    /// The messages by their unique ids, once they were listed.
    drop: Option<HashMap<String, Entry>>,
    /// Messages that STAT counted when the folder was opened.
    counted: u32,
    /// Messages that the server counts or names and does not list so that they could be read.
    unlisted: u32,
    proof: Proof,
    /// Whether the server puts no dots before lines that begin with one.
    is_raw: bool,
    /// Whether RETR is asked for what TOP could give.
    by_retr: bool,
    /// Whether any message of this session was passed on or named, and whether one is coming.
    came: bool,
    is_coming: bool,
    /// Messages that came shorter than they are listed when they were asked for once more.
    short_again: u32,
    /// Whether the server went behind a message that came whole.
    is_over: bool,
    /// Messages that RETR was asked for, by their numbers.
    by_number: BTreeSet<u32>,
    /// Whether RSET is owed for a RETR.
    owes_reset: bool,
    /// Whether RSET was seen to be answered with one line.
    resets_in_one: bool,
    /// Whether an answer may be left on the wire, so that no more can be said on it.
    broken: bool,
}

/// As far as TOP is known to give whole messages: up to so many lines it gave just what RETR gave.
#[derive(Debug, Clone, Copy, Default)]
struct Proof {
    lines: u64,
    /// Whether RETR refuses what TOP gives, so that nothing can be proven.
    is_impossible: bool,
}

impl Proof {
    /// Whether a message that TOP gave is taken as whole.
    fn suffices(self, announced: u64, size: u64, body: Body) -> bool {
        // A server that puts dots before lines in TOP may not do so in RETR.
        let unproven = is_as_announced(announced, size) && (self.is_impossible || body.doubled > 0);
        // To the byte: two more may be a line end that LIST does not count, or an empty line that TOP puts in.
        size == announced || unproven || size >= announced && body.lines <= self.lines
    }
}

/// A command that awaits its answer.
struct Asked {
    key: u64,
    entry: Entry,
    top: bool,
}

/// An answer.
enum Got {
    Body(Spool, Body),
    Refused(String),
}

impl Pop3Source {
    /// Connects and logs in.
    ///
    /// # Errors
    /// As [`Session::connect`] and [`Session::log_in`].
    pub async fn log_in(
        network: &Network,
        trust: &Trust,
        endpoint: &Endpoint,
        login: &Login,
    ) -> Result<Self> {
        let mut session = Session::connect(network, trust, endpoint).await?;
        session.log_in(login).await?;
        Ok(Self::of(session))
    }

    /// Takes over a session that has just logged in.
    pub fn of(session: Session) -> Self {
        Self {
            session,
            drop: None,
            counted: 0,
            unlisted: 0,
            proof: Proof::default(),
            is_raw: false,
            by_retr: false,
            came: false,
            is_coming: false,
            short_again: 0,
            is_over: false,
            by_number: BTreeSet::new(),
            owes_reset: false,
            resets_in_one: false,
            broken: false,
        }
    }

    /// Messages that the server counts (STAT) or names (UIDL, LIST) and that the last list does not hold.
    pub fn unlisted(&self) -> u32 {
        self.unlisted
    }

    fn place(&self) -> String {
        self.session.facts().endpoint.address()
    }

    async fn list_unplaced(&mut self) -> Result<Vec<(String, Entry)>> {
        let (entries, alone) = self.session.list().await?;
        let listed = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        self.unlisted = self.counted.saturating_sub(listed).max(alone);
        self.drop = Some(entries.iter().cloned().collect());
        Ok(entries)
    }

    /// Streams messages; the failure that comes back is about a message that was named and with which the session ended.
    async fn fetch_unplaced(&mut self, wanted: &[Wanted], bodies: &BodySender) -> Result<Option<Failure>> {
        if self.drop.is_none() {
            self.list_unplaced().await?;
        }
        let mut queue: VecDeque<&Wanted> = wanted.iter().collect();
        let mut window: VecDeque<Asked> = VecDeque::new();
        loop {
            if self.is_over && !(queue.is_empty() && window.is_empty()) {
                return Err(session_over());
            }
            self.fill_window(&mut queue, &mut window).await?;
            let Some(asked) = window.pop_front() else {
                // The window is empty although something is queued only when that is not in the maildrop.
                let Some(gone) = queue.pop_front() else { return Ok(None) };
                send(bodies, BodyEvent::Missing { key: gone.key, failure: None }).await?;
                continue;
            };
            let mut got = self.read_answer(&asked).await?;
            if self.is_doubtful(&asked, &got) {
                let Some(ended) = self.confirm(&asked, got, window.is_empty()).await? else {
                    return name_early_end(&asked, bodies).await.map(Some);
                };
                got = ended;
            }
            let mut held = VecDeque::new();
            let is_settled = self.is_whole(&asked, &got) || !asked.top && !self.is_doubtful(&asked, &got);
            if !is_settled || lost_dots(&got) {
                // RETR can be asked only behind what is asked already; that waits here, so that the order stays.
                while let Some(next) = window.pop_front() {
                    let got = self.read_answer(&next).await?;
                    held.push_back((next, got));
                }
            }
            held.push_front((asked, got));
            for (asked, got) in held {
                let got = if self.is_whole(&asked, &got) {
                    Some(got)
                } else if asked.top {
                    self.compare(&asked, got).await?
                } else if lost_dots(&got) {
                    self.retrieve(&asked).await?
                } else if self.is_doubtful(&asked, &got) {
                    self.ask_again(&asked, got).await?
                } else {
                    self.confirm(&asked, got, window.is_empty()).await?
                };
                let Some(got) = got else {
                    return name_early_end(&asked, bodies).await.map(Some);
                };
                deliver(asked, got, bodies).await?;
                self.came = true;
            }
        }
    }

    /// Asks for messages as far as the window allows, and stops at one that is not there. While more than half of the
    /// window is under way there is no hurry: several commands in one write cost both sides less.
    async fn fill_window(
        &mut self,
        queue: &mut VecDeque<&Wanted>,
        window: &mut VecDeque<Asked>,
    ) -> Result<()> {
        let depth = if self.session.has(PIPELINING) { WINDOW_COMMANDS } else { 1 };
        if window.len() > depth / 2 {
            return Ok(());
        }
        let is_idle = window.is_empty();
        let top = self.session.has(TOP) && !self.by_retr;
        let mut commands = String::new();
        let mut bytes: u64 = window.iter().map(|asked| asked.entry.size).sum();
        while let Some(next) = queue.front() {
            let Some(entry) = self.entry(&next.locator) else { break };
            if window.len() >= depth
                || (!window.is_empty() && bytes.saturating_add(entry.size) > WINDOW_BYTES)
            {
                break;
            }
            bytes = bytes.saturating_add(entry.size);
            // Writing to a String cannot fail.
            let _ = if top {
                write!(commands, "TOP {} {ALL_LINES}\r\n", entry.number)
            } else {
                write!(commands, "RETR {}\r\n", entry.number)
            };
            window.push_back(Asked { key: next.key, entry, top });
            queue.pop_front();
        }
        if commands.is_empty() {
            return Ok(());
        }
        if is_idle {
            self.session.wire.drop_unasked(Duration::ZERO).await?;
        }
        self.session.wire.send(commands.as_bytes()).await
    }

    fn entry(&self, locator: &Locator) -> Option<Entry> {
        self.drop.as_ref()?.get(locator.id.text()?).cloned()
    }

    async fn read_answer(&mut self, asked: &Asked) -> Result<Got> {
        self.owes_reset |= !asked.top;
        if !asked.top {
            self.by_number.insert(asked.entry.number);
        }
        match self.session.wire.status().await? {
            Status::Ok(_) => {}
            Status::Err(text) => return Ok(Got::Refused(text)),
            Status::Continue(_) => return Err(garbled("answered with \"+\" where a message was due")),
        }
        self.is_coming = true;
        // A server that counts LF as a line end announces up to half of what comes.
        let most = asked.entry.size.saturating_mul(2).clamp(MESSAGE_FREE, MESSAGE_MAX);
        let mut spool = Spool::default();
        let mut body = Body::begin(self.is_raw);
        while let Some(piece) = self.session.wire.body_piece(&mut body).await? {
            spool.push(&piece).await?;
            if spool.size() > most {
                return Err(garbled(format!(
                    "sent more than {most} bytes of a message that it announced with {}",
                    asked.entry.size
                )));
            }
        }
        self.is_coming = false;
        // TOP may do otherwise than RETR.
        self.is_raw |= !asked.top && body.single > 0;
        Ok(Got::Body(spool, body))
    }

    /// Whether an answer is taken as it is.
    fn is_whole(&self, asked: &Asked, got: &Got) -> bool {
        match got {
            Got::Refused(_) => !asked.top,
            Got::Body(spool, body) if asked.top => {
                self.session.has(TOP)
                    && body.single == 0
                    && self.proof.suffices(asked.entry.size, spool.size(), *body)
            }
            Got::Body(spool, body) => is_as_announced(asked.entry.size, spool.size()) && body.single == 0,
        }
    }

    /// Whether RETR gave less than is listed, so that it is asked for once more.
    fn is_doubtful(&self, asked: &Asked, got: &Got) -> bool {
        let Got::Body(spool, body) = got else { return false };
        !asked.top && self.short_again < SHORT_AGAIN && is_short(asked.entry.size, spool.size(), body.lines)
    }

    /// Asks for a message by RETR once more, and takes the longer answer.
    async fn ask_again(&mut self, asked: &Asked, before: Got) -> Result<Option<Got>> {
        let again = self.retrieve(asked).await?;
        Ok(match (before, again) {
            (_, None) => None,
            (Got::Body(first, _), Some(Got::Body(second, body))) if second.size() > first.size() => {
                Some(Got::Body(second, body))
            }
            (before, Some(_)) => {
                self.short_again += 1;
                Some(before)
            }
        })
    }

    /// Asks for a message by RETR while nothing else is under way, and holds it against what TOP gave; `None` when it ends
    /// elsewhere than it should.
    async fn compare(&mut self, asked: &Asked, by_top: Got) -> Result<Option<Got>> {
        let by_retr = self.retrieve(asked).await?;
        Ok(match (by_top, by_retr) {
            (_, None) => None,
            (Got::Body(top, body), Some(Got::Body(retr, other))) => {
                let fits = |spool: &Spool| is_as_announced(asked.entry.size, spool.size());
                // A shorter answer to RETR is accepted too, such as that of a server whose TOP puts in an empty line.
                let top_is_more = top.size() > retr.size() && fits(&top) && !fits(&retr);
                if top.size() == retr.size() {
                    self.proof.lines = self.proof.lines.max(body.lines);
                } else if !top_is_more || body.single > 0 {
                    self.session.wire.channel().note_failing(TOP);
                }
                Some(if top_is_more { Got::Body(top, body) } else { Got::Body(retr, other) })
            }
            (Got::Body(top, body), Some(Got::Refused(_)))
                if is_as_announced(asked.entry.size, top.size()) && body.single == 0 =>
            {
                self.proof.is_impossible = true;
                Some(Got::Body(top, body))
            }
            (Got::Refused(_), Some(Got::Body(retr, body))) => {
                self.session.wire.channel().note_suspected(TOP);
                Some(Got::Body(retr, body))
            }
            (_, by_retr) => by_retr,
        })
    }

    /// RETR for one message while nothing else is under way. It is asked for once more where it showed only then that the
    /// server puts no dots before lines.
    async fn retrieve(&mut self, asked: &Asked) -> Result<Option<Got>> {
        let got = self.retrieve_once(asked).await?;
        if got.as_ref().is_some_and(lost_dots) { self.retrieve_once(asked).await } else { Ok(got) }
    }

    async fn retrieve_once(&mut self, asked: &Asked) -> Result<Option<Got>> {
        let retr = format!("RETR {}", asked.entry.number);
        let pipelines = self.session.has(PIPELINING);
        let command = if pipelines { format!("{retr}\r\nRSET\r\n") } else { format!("{retr}\r\n") };
        self.session.wire.send(command.as_bytes()).await?;
        let got = self.read_answer(&Asked { key: asked.key, entry: asked.entry.clone(), top: false }).await?;
        if !pipelines {
            return self.confirm(asked, got, true).await;
        }
        self.owes_reset = false;
        self.settle(asked, got, Ok(())).await
    }

    /// Sees whether a message that RETR gave is followed by the next answer, as it must be; `alone` when none is due.
    async fn confirm(&mut self, asked: &Asked, got: Got, alone: bool) -> Result<Option<Got>> {
        if alone {
            let sent = self.session.send("RSET").await;
            self.owes_reset = false;
            return self.settle(asked, got, sent).await;
        }
        if !self.session.wire.is_status_next().await? {
            return Ok(None);
        }
        Ok(Some(got))
    }

    /// As [`Self::confirm`], where RSET was sent already. A server that goes behind a message which came to its end, with all
    /// that is listed, has handed it out.
    async fn settle(&mut self, asked: &Asked, got: Got, sent: Result<()>) -> Result<Option<Got>> {
        let followed = match sent {
            Ok(()) => self.take_next_status().await,
            Err(failure) => Err(failure),
        };
        match followed {
            Ok(true) => Ok(Some(got)),
            Ok(false) => Ok(None),
            Err(failure) if failure.is(FailureCode::ConnectionEnded) && is_all(asked, &got) => {
                self.is_over = true;
                Ok(Some(got))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Reads the answer to RSET, while nothing else is asked; false where something else comes.
    async fn take_next_status(&mut self) -> Result<bool> {
        if !self.session.wire.is_status_next().await? {
            return Ok(false);
        }
        self.session.wire.status().await?;
        let wait = if self.resets_in_one { Duration::ZERO } else { BEHIND_RESET };
        self.resets_in_one = !self.session.wire.drop_unasked(wait).await?;
        Ok(true)
    }

    /// Says plainly from now on what the session ended at.
    fn note_trouble(&self, failure: &Failure, asked: usize) {
        let channel = self.session.wire.channel();
        if !ends_the_session(failure) {
            return;
        }
        let by_top = self.session.has(TOP) && !self.by_retr;
        if by_top {
            channel.note_proven(ENDS_AT_TOP);
        }
        match (failure.is(FailureCode::Garbled), by_top) {
            (true, true) => drop(channel.note_failing(TOP)),
            // Alone in its window, it was this message at which TOP did not come to its end; else it may be so with any.
            (false, true) if asked == 1 || !self.came => channel.note_suspected(TOP),
            (true, false) if self.session.has(PIPELINING) => drop(channel.note_failing(PIPELINING)),
            _ => {}
        }
    }
}

/// POP3 ends a message with a line end, which LIST need not count.
fn is_as_announced(announced: u64, size: u64) -> bool {
    size == announced || size == announced.saturating_add(2)
}

/// Whether an answer is a message of just the size that is listed, and ends where it should.
fn is_all(asked: &Asked, got: &Got) -> bool {
    matches!(got, Got::Body(spool, body) if body.single == 0 && is_as_announced(asked.entry.size, spool.size()))
}

/// Whether dots were taken from lines of a server that puts none before them.
fn lost_dots(got: &Got) -> bool {
    matches!(got, Got::Body(_, body) if body.single > 0 && body.doubled > 0 && !body.is_raw)
}

/// Nothing more can be asked in the session, which is not the fault of a message.
fn session_over() -> Failure {
    Failure::new(Class::Unreachable, "closed the connection").code(FailureCode::SessionOver)
}

/// Names a message that ends within itself, and with which the session ends.
async fn name_early_end(asked: &Asked, bodies: &BodySender) -> Result<Failure> {
    let what = "hands out a message that ends too early: it does not mark the lines that begin with a dot";
    let failure = Failure::new(Class::Message, what)
        .code(FailureCode::Garbled)
        .hint("read this mailbox by IMAP, or let the message be collected by hand");
    send(bodies, BodyEvent::Missing { key: asked.key, failure: Some(failure.clone()) }).await?;
    Ok(failure)
}

async fn deliver(asked: Asked, got: Got, bodies: &BodySender) -> Result<()> {
    match got {
        // A line end alone may be announced.
        Got::Body(spool, _) if spool.size() == 0 && asked.entry.size > 2 => {
            let what = format!("lists this message with {} bytes and hands out nothing", asked.entry.size);
            let failure = Failure::new(Class::Message, what).code(FailureCode::NothingCame);
            send(bodies, BodyEvent::Missing { key: asked.key, failure: Some(failure) }).await
        }
        Got::Body(spool, _) => spool.deliver(asked.key, bodies).await,
        Got::Refused(text) => {
            let failure = refusal("refuses this message", At::Other, &text, Class::Message);
            send(bodies, BodyEvent::Missing { key: asked.key, failure: Some(failure) }).await
        }
    }
}

#[async_trait]
impl Source for Pop3Source {
    fn facts(&self) -> &ServerFacts {
        self.session.facts()
    }

    async fn list_folders(&mut self) -> Result<Vec<Folder>> {
        Ok(vec![Folder {
            path: FolderPath::inbox(),
            twin_of: None,
            wire_name: b"INBOX".to_vec(),
            special_use: None,
            selectable: true,
            subscribed: true,
        }])
    }

    async fn open(&mut self, folder: &Folder) -> Result<FolderState> {
        if !folder.path.is_inbox() {
            return Err(Failure::internal(format!("POP3 has no folder {}", folder.path)));
        }
        let place = self.place();
        let stat = self.session.stat().await;
        self.broken |= stat.is_err();
        let (messages, _) = stat.at(|| place)?;
        self.counted = messages;
        Ok(FolderState { items: Some(messages.into()), ..FolderState::default() })
    }

    /// A maildrop is listed whole: POP3 has no means to ask for a part.
    async fn list(&mut self, after: Option<&Locator>) -> Result<Listing> {
        if after.is_some() {
            return Ok(Listing::default());
        }
        let place = self.place();
        let entries = self.list_unplaced().await;
        self.broken |= entries.is_err();
        let (inbox, epoch) = (FolderPath::inbox(), Epoch::default());
        let list = |(uidl, entry): (String, Entry)| Listed {
            locator: Locator {
                protocol: Protocol::Pop3,
                folder: inbox.clone(),
                epoch: epoch.clone(),
                id: ItemId::from(uidl),
            },
            place: entry.number,
            size: entry.size,
            date: None,
            flags: None,
        };
        let mut messages: Vec<Listed> = entries.at(|| place)?.into_iter().map(list).collect();
        messages.sort_by(|a, b| a.locator.cmp(&b.locator));
        Ok(Listing { messages, next: None, unlisted: self.unlisted.into(), notes: None })
    }

    async fn fetch(&mut self, wanted: &[Wanted], bodies: BodySender) -> Result<()> {
        if self.broken {
            return Err(session_over().at(self.place()));
        }
        let place = self.place();
        // Set while answers are under way, so that a fetch that is dropped in the middle leaves it set.
        self.broken = true;
        self.by_retr = wanted.len() == 1 && self.session.wire.channel().is_proven(ENDS_AT_TOP);
        let fetched = self.fetch_unplaced(wanted, &bodies).await;
        self.broken = self.is_over || !matches!(fetched, Ok(None));
        match fetched {
            Ok(None) => Ok(()),
            // It was named; what is left goes on in another session.
            Ok(Some(_)) => Err(garbled("sent something else where the end of a message was due")),
            Err(failure) => {
                self.note_trouble(&failure, wanted.len());
                // The server may have gone behind the message before: the next session begins with the one that was due.
                let is_nobodys = self.came && !self.is_coming && failure.is(FailureCode::ConnectionEnded);
                let code = if is_nobodys { Some(FailureCode::SessionOver) } else { failure.code };
                Err(Failure { code, ..failure })
            }
        }
        .at(|| place)
    }

    fn marked(&self) -> u64 {
        self.by_number.len() as u64
    }

    async fn close(&mut self) {
        if !self.broken {
            if self.owes_reset {
                self.session.reset().await;
            }
            self.session.quit().await;
        }
        self.broken = true;
    }
}
