//! A POP3 maildrop as a source of mail: one folder, no flags, no dates, and never a change.
//!
//! Messages are read with `TOP n 2147483647` where the server has TOP, because RETR marks them as seen on servers whose
//! POP3 and IMAP share a store. Where TOP gives less than LIST announced, or refuses, RETR is asked for that message: a
//! whole message weighs more than an unread mark.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;

use async_trait::async_trait;

use super::session::{Entry, Session};
use super::wire::{BodyPlace, Status, refusal};
use crate::mail::credentials::Login;
use crate::mail::network::Network;
use crate::mail::spool::{Spool, send};
use crate::mail::tls::Trust;
use crate::mail::{BodyEvent, BodySender, Folder, FolderState, Listed, Source, Wanted};
use crate::model::endpoint::Endpoint;
use crate::model::evidence::ServerFacts;
use crate::model::failure::{Class, Failure, Place, Result};
use crate::model::folder::FolderPath;
use crate::model::message::Locator;

/// Commands that may be unanswered where the server takes several (PIPELINING, RFC 2449 §6.6).
const WINDOW_COMMANDS: usize = 32;
/// Announced bytes that may be unanswered; one message is always asked for, however large.
const WINDOW_BYTES: u64 = 1024 * 1024;
/// The most lines that TOP can be asked for: more than any message has, and fits the integers of old servers.
const ALL_LINES: u32 = 2_147_483_647;
/// What a message may always have, in bytes, whatever LIST announced for it.
const MESSAGE_FREE: u64 = 64 * 1024 * 1024;
/// What no message may exceed, in bytes.
const MESSAGE_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// A logged-in POP3 session as a [`Source`].
pub struct Pop3Source {
    session: Session,
    /// The messages by their unique ids, once they were listed.
    drop: Option<HashMap<String, Entry>>,
    /// Whether an answer may be left on the wire, so that no more can be said on it.
    broken: bool,
}

/// A command that awaits its answer.
struct Asked {
    key: u64,
    entry: Entry,
    top: bool,
}

/// An answer.
enum Got {
    Body(Spool),
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
        Ok(Self { session, drop: None, broken: false })
    }

    fn place(&self) -> String {
        self.session.facts().endpoint.address()
    }

    async fn list_unplaced(&mut self) -> Result<Vec<(String, Entry)>> {
        let entries = self.session.list().await?;
        self.drop = Some(entries.iter().cloned().collect());
        Ok(entries)
    }

    async fn fetch_unplaced(&mut self, wanted: &[Wanted], bodies: &BodySender) -> Result<()> {
        if self.drop.is_none() {
            self.list_unplaced().await?;
        }
        let depth = if self.session.has("PIPELINING") { WINDOW_COMMANDS } else { 1 };
        let mut queue: VecDeque<&Wanted> = wanted.iter().collect();
        let mut window: VecDeque<Asked> = VecDeque::new();
        loop {
            self.fill_window(&mut queue, &mut window, depth).await?;
            let Some(asked) = window.pop_front() else {
                // The window is empty although something is queued only when that is not in the maildrop.
                let Some(gone) = queue.pop_front() else { return Ok(()) };
                send(bodies, BodyEvent::Missing { key: gone.key, failure: None }).await?;
                continue;
            };
            let mut held = VecDeque::new();
            let got = self.read_answer(&asked).await?;
            if is_short(&asked, &got) {
                // RETR can be asked only behind what is asked already; that waits here, so that the order stays.
                while let Some(next) = window.pop_front() {
                    let got = self.read_answer(&next).await?;
                    held.push_back((next, got));
                }
            }
            held.push_front((asked, got));
            for (asked, got) in held {
                let got = if is_short(&asked, &got) { self.retrieve(&asked).await? } else { got };
                deliver(asked, got, bodies).await?;
            }
        }
    }

    /// Asks for messages as far as the window allows, and stops at one that is not there. While more than half of the
    /// window is under way there is no hurry: several commands in one write cost both sides less.
    async fn fill_window(
        &mut self,
        queue: &mut VecDeque<&Wanted>,
        window: &mut VecDeque<Asked>,
        depth: usize,
    ) -> Result<()> {
        if window.len() > depth / 2 {
            return Ok(());
        }
        let top = self.session.has("TOP");
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
        if commands.is_empty() { Ok(()) } else { self.session.wire.send(commands.as_bytes()).await }
    }

    fn entry(&self, locator: &Locator) -> Option<Entry> {
        match locator {
            Locator::Pop3 { uidl } => self.drop.as_ref()?.get(uidl).cloned(),
            Locator::Imap { .. } => None,
        }
    }

    async fn read_answer(&mut self, asked: &Asked) -> Result<Got> {
        match self.session.wire.status().await? {
            Status::Ok(_) => {}
            Status::Err(text) => return Ok(Got::Refused(text)),
            Status::Continue(_) => {
                return Err(Failure::protocol("answered with \"+\" where a message was due"));
            }
        }
        // A server that counts LF as a line end announces up to half of what comes.
        let most = asked.entry.size.saturating_mul(2).clamp(MESSAGE_FREE, MESSAGE_MAX);
        let mut spool = Spool::default();
        let mut place = BodyPlace::LineStart;
        while let Some(piece) = self.session.wire.body_piece(&mut place).await? {
            spool.push(&piece).await?;
            if spool.size() > most {
                return Err(Failure::protocol(format!(
                    "sent more than {most} bytes of a message that it announced with {}",
                    asked.entry.size
                )));
            }
        }
        Ok(Got::Body(spool))
    }

    /// RETR for one message while nothing else is asked.
    async fn retrieve(&mut self, asked: &Asked) -> Result<Got> {
        self.session.send(&format!("RETR {}", asked.entry.number)).await?;
        self.read_answer(asked).await
    }
}

/// Whether TOP gave less than was announced, or nothing.
fn is_short(asked: &Asked, got: &Got) -> bool {
    asked.top
        && match got {
            Got::Body(spool) => spool.size() < asked.entry.size,
            Got::Refused(_) => true,
        }
}

async fn deliver(asked: Asked, got: Got, bodies: &BodySender) -> Result<()> {
    match got {
        Got::Body(spool) => spool.deliver(asked.key, bodies).await,
        Got::Refused(text) => {
            let failure = refusal("refuses this message", &text, Class::Message);
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
        Ok(FolderState { messages, ..FolderState::default() })
    }

    async fn list(&mut self) -> Result<Vec<Listed>> {
        let place = self.place();
        let entries = self.list_unplaced().await;
        self.broken |= entries.is_err();
        let list = |(uidl, entry): (String, Entry)| Listed {
            locator: Locator::Pop3 { uidl },
            size: entry.size,
            date: None,
            flags: None,
        };
        Ok(entries.at(|| place)?.into_iter().map(list).collect())
    }

    async fn fetch(&mut self, wanted: &[Wanted], bodies: BodySender) -> Result<()> {
        if self.broken {
            return Err(Failure::new(Class::Unreachable, "the session is over").at(self.place()));
        }
        let place = self.place();
        // Set while answers are under way, so that a fetch that is dropped in the middle leaves it set.
        self.broken = true;
        let fetched = self.fetch_unplaced(wanted, &bodies).await;
        self.broken = fetched.is_err();
        fetched.at(|| place)
    }

    async fn close(&mut self) {
        if !self.broken {
            self.session.quit().await;
        }
        self.broken = true;
    }
}
