//! The command layer: a logged-in session, and commands whose status is always looked at.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use async_imap::Connection;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use super::refusal::explain;
use super::tokens::{Status, StatusText, Value, read_values};
use super::wire::{Event, Wire};
use crate::mail::network::{Channel, SILENCE_MAX};
use crate::model::evidence::ServerFacts;
use crate::model::failure::{Class, Failure, FailureCode, Result};
use crate::model::text::printable;

/// Commands of one flight that may be unanswered; all of them fit into a socket's buffers.
const COMMANDS_IN_FLIGHT: usize = 64;
/// How long is listened to a server that takes no more.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a polite LOGOUT may take.
pub(super) const LOGOUT_TIMEOUT: Duration = Duration::from_secs(2);

/// A logged-in session. Commands may be pipelined: [`Self::send`] several, then match the tags that
/// [`Self::next_event`] brings.
#[derive(Debug)]
pub struct Session {
    inner: async_imap::Session<Wire<Channel>>,
    facts: ServerFacts,
    farewell: Option<StatusText>,
    /// How commands ended whose answers came before a write failed: [`Self::next_event`] has them first.
    unheard: VecDeque<Event>,
    /// Whether compression is offered and was not asked for yet.
    may_compress: bool,
    /// How long the server was waited for in all.
    waited: Duration,
}

/// The tag of a command under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tag(Vec<u8>);

impl Tag {
    /// The tag as it stands on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<[u8]> for Tag {
    fn eq(&self, other: &[u8]) -> bool {
        self.0 == other
    }
}

impl Session {
    /// Takes over a connection on which somebody is logged in, and compresses it where the link is slow.
    ///
    /// # Errors
    /// Those of the connection.
    pub(super) async fn take_over(
        inner: async_imap::Session<Wire<Channel>>,
        facts: ServerFacts,
    ) -> Result<Self> {
        let may_compress = facts.capabilities.has("COMPRESS=DEFLATE");
        let (farewell, unheard, waited) = (None, VecDeque::new(), Duration::ZERO);
        let mut session = Self { inner, facts, farewell, unheard, may_compress, waited };
        session.compress_if_slow().await?;
        Ok(session)
    }

    /// What the server said of itself; the capabilities are those after the login.
    pub fn facts(&self) -> &ServerFacts {
        &self.facts
    }

    /// Whether the server offers a capability.
    pub fn offers(&self, word: &str) -> bool {
        self.facts.capabilities.has(word)
    }

    /// Sends one command line; its answer is still to come.
    ///
    /// # Errors
    /// [`Class::Unreachable`] when the connection is gone; [`Class::Internal`] when a line break would split the command.
    pub async fn send(&mut self, command: &str) -> Result<Tag> {
        if command.contains(['\r', '\n', '\0']) {
            return Err(Failure::internal("a command would be split by a line break in a name"));
        }
        match self.inner.run_command(command).await {
            Ok(id) => Ok(Tag(id.0.into_bytes())),
            Err(async_imap::error::Error::Io(error)) => Err(self.last_words(&error).await),
            Err(other) => Err(Failure::internal("a command could not be sent").caused_by(&other)),
        }
    }

    /// Writes bytes of a literal that a command announced.
    ///
    /// # Errors
    /// [`Class::Unreachable`] when the connection is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let begun = Instant::now();
        let written = timeout(SILENCE_MAX, self.inner.get_mut().write_all(bytes)).await;
        self.waited += begun.elapsed();
        match written.map_err(|_| silent())? {
            Ok(()) => Ok(()),
            Err(error) => Err(self.last_words(&error).await),
        }
    }

    /// Sends what was written so far without waiting for an answer.
    ///
    /// # Errors
    /// [`Class::Unreachable`] when the connection is gone.
    pub async fn uncork(&mut self) -> Result<()> {
        let begun = Instant::now();
        let sent = timeout(SILENCE_MAX, self.inner.get_mut().uncork()).await;
        self.waited += begun.elapsed();
        match sent.map_err(|_| silent())? {
            Ok(()) => Ok(()),
            Err(error) => Err(self.last_words(&error).await),
        }
    }

    /// Why a server takes no more: as it said before it went, if it said anything. What it answered until then is kept.
    async fn last_words(&mut self, error: &io::Error) -> Failure {
        let to_the_end = async {
            loop {
                match self.listen().await {
                    Ok(event @ Event::Tagged { .. }) if self.unheard.len() < COMMANDS_IN_FLIGHT => {
                        self.unheard.push_back(event);
                    }
                    Ok(_) => {}
                    Err(failure) => return failure,
                }
            }
        };
        timeout(LAST_WORDS_TIMEOUT, to_the_end).await.unwrap_or_else(|_| lost(error))
    }

    /// The next thing the server says.
    ///
    /// # Errors
    /// [`Class::Unreachable`] when the connection ended or was silent for a minute, with the server's own reason if it
    /// gave one; [`Class::Protocol`] when it says what is no IMAP.
    pub async fn next_event(&mut self) -> Result<Event> {
        match self.unheard.pop_front() {
            Some(event) => Ok(event),
            None => self.listen().await,
        }
    }

    async fn listen(&mut self) -> Result<Event> {
        let begun = Instant::now();
        let event = next_event(&mut self.inner).await;
        self.waited += begun.elapsed();
        let event = event.map_err(|failure| match self.farewell.take() {
            Some(said) if failure.class == Class::Unreachable => explain("the session", Status::Bye, &said),
            _ => failure,
        })?;
        if let Event::Untagged(line) = &event
            && let Some(rest) = line.strip_prefix(b"BYE ")
        {
            self.farewell = Some(StatusText::parse(rest));
        }
        Ok(event)
    }

    /// Runs one command to its end and hands every untagged response to `untagged`.
    ///
    /// # Errors
    /// Those of the connection, and what [`explain`] makes of a NO or BAD.
    pub async fn run(
        &mut self,
        command: &str,
        mut untagged: impl FnMut(&[u8]) -> Result<()> + Send,
    ) -> Result<StatusText> {
        let tag = self.send(command).await?;
        let verb = verb_of(command);
        loop {
            match self.next_event().await? {
                Event::Untagged(line) => untagged(&line)?,
                Event::Tagged { tag: theirs, status, rest } if tag == *theirs => {
                    let said = StatusText::parse(&rest);
                    return if status == Status::Ok { Ok(said) } else { Err(explain(verb, status, &said)) };
                }
                _ => return Err(Failure::protocol(format!("answered {verb} out of turn"))),
            }
        }
    }

    /// Runs several commands in one flight. `untagged` hears every untagged response with the place of the command that
    /// is answered: servers answer in turn. How each command ended comes back in their order.
    ///
    /// # Errors
    /// Those of the connection and of `untagged`.
    pub async fn run_all(
        &mut self,
        commands: &[String],
        mut untagged: impl FnMut(usize, &[u8]) -> Result<()> + Send,
    ) -> Result<Vec<Result<StatusText>>> {
        let mut ended: Vec<Result<StatusText>> = Vec::with_capacity(commands.len());
        let mut in_flight: VecDeque<Tag> = VecDeque::new();
        let mut next = commands.iter();
        loop {
            while in_flight.len() < COMMANDS_IN_FLIGHT {
                let Some(command) = next.next() else { break };
                in_flight.push_back(self.send(command).await?);
            }
            let Some(tag) = in_flight.front() else { return Ok(ended) };
            let at = ended.len();
            match self.next_event().await? {
                Event::Untagged(line) => untagged(at, &line)?,
                Event::Tagged { tag: theirs, status, rest } if *tag == *theirs => {
                    in_flight.pop_front();
                    let said = StatusText::parse(&rest);
                    ended.push(if status == Status::Ok {
                        Ok(said)
                    } else {
                        Err(explain(verb_of(&commands[at]), status, &said))
                    });
                }
                _ => {
                    return Err(Failure::protocol(format!(
                        "answered {} out of turn",
                        verb_of(&commands[at])
                    )));
                }
            }
        }
    }

    /// Has all that follows compressed (RFC 4978), where the server offers it and the link to its host was found to be
    /// slow. No command may be under way.
    ///
    /// # Errors
    /// Those of the connection. A server that does not keep to its offer is no failure: all goes on as it is.
    pub async fn compress_if_slow(&mut self) -> Result<()> {
        if !self.may_compress || !self.inner.get_mut().channel().is_slow() {
            return Ok(());
        }
        self.may_compress = false;
        let host = printable(&self.facts.endpoint.host);
        match self.run("COMPRESS DEFLATE", |_| Ok(())).await {
            Ok(_) => {
                tracing::debug!(%host, "the link is slow: what follows is compressed");
                self.inner.get_mut().compress();
            }
            Err(failure) if matches!(failure.class, Class::Refused | Class::Protocol) => {
                tracing::debug!(%host, failure = %failure.sentence(), "goes on without compression");
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    /// How long the server was waited for since the session began.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Tells the sessions with this host how fast it was: so many bytes of messages passed since it had been waited for
    /// as long as [`Self::waited`] said then.
    pub fn note_carried(&mut self, bytes: u64, waited_before: Duration) {
        let waited = self.waited.saturating_sub(waited_before);
        self.inner.get_mut().channel().note_carried(bytes, waited);
    }

    /// Ends the session politely, without waiting long.
    pub async fn close(&mut self) {
        let _ = timeout(LOGOUT_TIMEOUT, self.run("LOGOUT", |_| Ok(()))).await;
    }
}

/// The name of a command, for messages: never its arguments.
fn verb_of(command: &str) -> &str {
    let end = command.match_indices(' ').map(|(at, _)| at);
    let words = if command.starts_with("UID ") { 2 } else { 1 };
    end.take(words).last().map_or(command, |at| &command[..at])
}

/// Splits an untagged response after its first word.
pub fn split_word(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|b| *b == b' ') {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &[]),
    }
}

/// Reads `NUMBER WORD REST`, the form of EXISTS, EXPUNGE and FETCH.
pub fn split_numbered(line: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let (number, rest) = split_word(line);
    let number = std::str::from_utf8(number).ok()?.parse().ok()?;
    let (word, rest) = split_word(rest);
    Some((number, word, rest))
}

/// The attributes of a FETCH response, by name.
///
/// # Errors
/// [`Class::Protocol`] when they are no list of pairs.
pub fn read_fetch(rest: &[u8]) -> Result<Vec<(String, Value)>> {
    let mut values = read_values(rest)?;
    let Some(Value::List(attributes)) = values.pop() else {
        let head = printable(&String::from_utf8_lossy(&rest[..rest.len().min(200)]));
        return Err(Failure::protocol(format!("sent a FETCH response without attributes: {head}")));
    };
    let mut pairs = Vec::with_capacity(attributes.len() / 2);
    let mut attributes = attributes.into_iter();
    while let (Some(name), Some(value)) = (attributes.next(), attributes.next()) {
        pairs.push((name.text().unwrap_or_default().to_ascii_uppercase(), value));
    }
    Ok(pairs)
}

pub(super) async fn next_event(connection: &mut Connection<Wire<Channel>>) -> Result<Event> {
    let mut patience = std::mem::take(&mut connection.get_mut().patience);
    let read = patience.wait(connection.read_response()).await;
    connection.get_mut().patience = patience;
    match read? {
        Err(error) => Err(lost(&error)),
        Ok(None) => Err(Failure::new(Class::Unreachable, "the server closed the connection")
            .code(FailureCode::ConnectionEnded)),
        Ok(Some(_)) => {
            let wire = connection.get_mut();
            let event = wire.take_event();
            match &event {
                Some(Event::Tagged { .. } | Event::Continue(_)) => wire.patience.renew(),
                Some(Event::Untagged(line) | Event::BodyBegin { prefix: line, .. }) => {
                    let word = split_word(line).0;
                    let belongs = word.iter().all(u8::is_ascii_digit)
                        || [b"LIST".as_slice(), b"LSUB", b"STATUS"].contains(&word);
                    wire.patience.hear(line.len(), belongs)?;
                }
                Some(Event::BodyChunk(chunk)) => wire.patience.earn(chunk.len()),
                None => {}
            }
            event.ok_or_else(|| Failure::internal("a response had no event behind it"))
        }
    }
}

fn silent() -> Failure {
    Failure::new(Class::Unreachable, format!("the server was silent for {} s", SILENCE_MAX.as_secs()))
        .code(FailureCode::Silent)
}

pub(super) fn lost(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::InvalidData {
        return Failure::protocol(error.to_string()).code(FailureCode::Garbled);
    }
    Failure::new(Class::Unreachable, format!("the connection broke: {error}"))
        .code(FailureCode::ConnectionEnded)
        .caused_by(error)
}
