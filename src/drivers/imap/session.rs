//! The command layer: a session, logged in or about to be, and commands whose status is always looked at.
//!
//! An offered extension does not always work: [`Session::offers`] knows those that are offered and were not seen to
//! fail, in this or in any other session with it. How commands of one flight are asked again plainly is in
//! [`super::flight`].

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_imap::{Client, Connection};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, timeout};

use super::command::{Ask, Command, Part};
use super::refusal::{THE_SESSION, explain};
use super::tokens::{Status, StatusText, split_blank};
use super::wire::{Event, Wire};
use crate::auth::cleaning::Cleaner;
use crate::drivers::greeting::of_another;
use crate::model::capability::Capabilities;
use crate::model::evidence::ServerFacts;
use crate::model::failure::{Class, Failure, FailureCode, Result};
use crate::model::protocol::Protocol;
use crate::model::text::{cut, printable};
use crate::net::network::{Channel, SILENCE_MAX};

/// How long is listened to a server that takes no more.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a polite LOGOUT may take.
pub(super) const LOGOUT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a server that said goodbye may take to close.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);
/// After so long a wait for a folder to be opened it is told that it is waited for.
const WORTH_A_WORD: Duration = Duration::from_secs(10);
/// Answers that are kept for later, in lines; only of commands that wait for a literal, or were answered before a write failed.
const UNHEARD_MAX: usize = 1000;
/// The longest alert that is shown, in bytes.
const ALERT_MAX: usize = 300;
/// The word under which a server is remembered that does not take several commands at once.
pub const PIPELINING: &str = "pipelining";
/// The client's own identification (RFC 2971): some servers open no folder before they have heard it.
const ID: &str = concat!("ID (\"name\" \"mailferry\" \"version\" \"", env!("CARGO_PKG_VERSION"), "\")");

/// A session. Commands may be pipelined: [`Self::send`] several, then match the tags that
/// [`Self::next_event`] brings.
#[derive(Debug)]
pub struct Session {
    inner: Client<Wire<Channel>>,
    facts: ServerFacts,
    farewell: Option<StatusText>,
    /// Events that came before they were asked for: while a write failed, or while a literal waited to be let go on.
    unheard: VecDeque<Event>,
    /// Whether compression is offered and was not asked for yet.
    may_compress: bool,
    /// How long the server was waited for in all.
    waited: Duration,
    /// Commands given so far.
    pub(super) given: u32,
    /// Commands under way for which a server may have to look through a folder, and whether it has begun to answer.
    looking: VecDeque<(Tag, bool)>,
    /// The ID that is not answered yet.
    introduction: Option<Tag>,
    /// The server's identification, as in its answer to ID.
    id: Option<Vec<u8>>,
    /// The alert that the server wants its users to see (RFC 9051 §7.1).
    alert: Option<String>,
    /// Whether nothing may be said any more, since a command is written in part.
    abandoned: bool,
    /// The number of lines that belonged to nothing and were passed over.
    pub(super) passed_over: u32,
}

/// The tag of a command under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tag(pub(super) Vec<u8>);

impl Tag {
    /// The tag as it is on the wire.
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
    /// A connection on which nobody is logged in yet.
    pub(super) fn new(channel: Channel, facts: ServerFacts) -> Self {
        Self {
            inner: Client::new(Wire::new(channel)),
            facts,
            farewell: None,
            unheard: VecDeque::new(),
            may_compress: false,
            waited: Duration::ZERO,
            given: 0,
            looking: VecDeque::new(),
            introduction: None,
            id: None,
            alert: None,
            abandoned: false,
            passed_over: 0,
        }
    }

    /// Goes on once somebody is logged in: says who we are where the server wants to know it, and compresses where the link is
    /// slow.
    ///
    /// # Errors
    /// Those of the connection.
    pub(super) async fn begin(&mut self, capabilities: Capabilities) -> Result<()> {
        // Some offer it before the login alone.
        let hears_names = self.offers("ID");
        self.facts.capabilities = capabilities;
        self.may_compress = self.offers("COMPRESS=DEFLATE");
        if hears_names || self.offers("ID") {
            // Its answer comes with that of the next command.
            self.introduction = Some(self.send(ID).await?);
            if !self.takes_several() {
                self.hear_introduction().await?;
            }
        }
        self.compress_if_slow().await
    }

    /// Takes note of what the server says of itself before the login.
    pub(super) fn learn(&mut self, greeting: String, capabilities: Capabilities) {
        self.facts.greeting = greeting;
        self.facts.mechanisms = capabilities.values("AUTH").map(str::to_owned).collect();
        self.facts.capabilities = capabilities;
    }

    /// Hides from now on what the server repeats of a login.
    pub(super) fn clean_with(&mut self, cleaner: Cleaner) {
        self.inner.get_mut().cleaner = Some(Arc::new(cleaner));
    }

    /// Text from the server without what it repeats of the login.
    pub(super) fn clean(&self, text: &str) -> String {
        let cleaner = self.inner.get_ref().cleaner.as_ref();
        cleaner.map_or_else(|| text.to_owned(), |cleaner| cleaner.clean_text(text))
    }

    /// The channel, if the server said nothing that was not heard: see [`Wire::into_channel`].
    pub(super) fn into_channel(self) -> Option<Channel> {
        if self.unheard.is_empty() { self.inner.into_inner().into_channel() } else { None }
    }

    /// The facts that the server reported about itself; the capabilities are those after the login.
    pub fn facts(&self) -> &ServerFacts {
        &self.facts
    }

    /// Whether the server offers a capability, and was not seen to fail at it.
    pub fn offers(&self, word: &str) -> bool {
        self.facts.capabilities.has(word) && !self.fails_at(word)
    }

    /// Whether the server takes several commands at once.
    pub fn takes_several(&self) -> bool {
        !self.fails_at(PIPELINING)
    }

    /// Whether the server was seen to fail at an extension, in this or in another session.
    pub(super) fn fails_at(&self, word: &str) -> bool {
        self.inner.get_ref().channel().fails_at(word)
    }

    /// Asks this server for an extension no more, in no session: it failed where the plain command works.
    pub fn forgo(&mut self, word: &'static str) {
        if self.inner.get_ref().channel().note_failing(word) {
            let server = printable(&self.facts.endpoint.address());
            tracing::debug!(server, word, "it is offered and fails; goes on without");
        }
    }

    /// An extension did what it should.
    pub(super) fn trust(&self, word: &str) {
        self.inner.get_ref().channel().note_working(word);
    }

    /// Whether the server was seen to do what an extension says, in whichever session.
    pub(super) fn is_proven(&self, word: &str) -> bool {
        self.inner.get_ref().channel().is_proven(word)
    }

    /// Tells every session with this server that it does what an extension says.
    pub(super) fn prove(&mut self, word: &'static str) {
        self.inner.get_ref().channel().note_proven(word);
    }

    /// The session ended at a command with an extension.
    pub(super) fn suspect(&mut self, word: &'static str) {
        self.inner.get_ref().channel().note_suspected(word);
    }

    /// The server's identification, after the word ID; waits for it if it is still to come.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn id(&mut self) -> Result<Option<&[u8]>> {
        self.hear_introduction().await?;
        Ok(self.id.as_deref())
    }

    /// The alert that the server wants its users to see, if any.
    pub fn alert(&self) -> Option<&str> {
        self.alert.as_deref()
    }

    async fn hear_introduction(&mut self) -> Result<()> {
        while self.introduction.is_some() {
            self.listen_once().await?;
        }
        Ok(())
    }

    /// Whether an answer to another command than ID came before that to ID.
    pub(super) fn was_overtaken(&self) -> bool {
        self.introduction.is_some()
    }

    /// Sends one command line; its answer is still to come.
    ///
    /// # Errors
    /// As [`Self::give`].
    pub async fn send(&mut self, command: &str) -> Result<Tag> {
        self.give(&Command::from(command)).await
    }

    /// Sends one command; its answer is still to come. Where the server wants to let a literal go on first, no other command
    /// may be under way.
    ///
    /// # Errors
    /// [`Class::Unreachable`] when the connection is gone; those of [`Command::check`].
    pub(super) async fn give(&mut self, command: &Command) -> Result<Tag> {
        command.check()?;
        self.given += 1;
        let tag = Tag(format!("A{:04}", self.given).into_bytes());
        if command.looks_through_a_folder() {
            self.looking.push_back((tag.clone(), false));
        }
        let mut line = [tag.as_bytes(), b" "].concat();
        for part in &command.parts {
            match part {
                Part::Text(text) => line.extend_from_slice(text),
                Part::Literal(bytes) => {
                    let at_once = self.takes_at_once(bytes.len());
                    line.extend_from_slice(announce(bytes.len(), at_once).as_bytes());
                    if !at_once {
                        self.write(&std::mem::take(&mut line)).await?;
                        if !self.may_go_on(&tag).await? {
                            return Ok(tag);
                        }
                    }
                    line.extend_from_slice(bytes);
                }
            }
        }
        line.extend_from_slice(b"\r\n");
        self.write(&line).await?;
        Ok(tag)
    }

    /// Whether a literal of so many bytes may follow its announcement at once (RFC 7888).
    fn takes_at_once(&self, bytes: usize) -> bool {
        self.offers("LITERAL+") || self.offers("LITERAL-") && bytes <= 4096
    }

    /// Whether a command has to wait until the server lets its literal go on.
    pub(super) fn has_to_wait(&self, command: &Command) -> bool {
        command.literals().any(|literal| !self.takes_at_once(literal.len()))
    }

    /// Waits until a literal may go on; not if the command was answered instead. Other events are kept.
    async fn may_go_on(&mut self, tag: &Tag) -> Result<bool> {
        loop {
            let event = self.listen().await?;
            match &event {
                Event::Continue(_) => return Ok(true),
                Event::Tagged { tag: theirs, .. } if *tag == **theirs => {
                    self.unheard.push_back(event);
                    return Ok(false);
                }
                _ if self.unheard.len() < UNHEARD_MAX => self.unheard.push_back(event),
                _ => {
                    return Err(Failure::protocol("talks on and does not let a literal go on")
                        .code(FailureCode::Garbled));
                }
            }
        }
    }

    /// Writes bytes of a literal that a command announced, or a line that the server asked for.
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

    /// Why a server takes no more: as it said before it went, if it said anything. Its answers until then are kept.
    async fn last_words(&mut self, error: &io::Error) -> Failure {
        let to_the_end = async {
            loop {
                match self.listen().await {
                    Ok(event @ Event::Tagged { .. }) if self.unheard.len() < UNHEARD_MAX => {
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
    /// gave one; [`Class::Protocol`] when it says something that is not IMAP.
    pub async fn next_event(&mut self) -> Result<Event> {
        match self.unheard.pop_front() {
            Some(event) => Ok(event),
            None => self.listen().await,
        }
    }

    async fn listen(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.listen_once().await? {
                return Ok(event);
            }
        }
    }

    /// As [`Self::listen`]; `None` for what belongs to our introduction.
    async fn listen_once(&mut self) -> Result<Option<Event>> {
        let looks = self.looking.front().is_some_and(|(_, begun)| !begun);
        self.inner.get_mut().patience.looks_through_a_folder(looks);
        let begun = Instant::now();
        let event = self.wait_for_event(looks).await;
        self.waited += begun.elapsed();
        let event = event.map_err(|failure| {
            if self.introduction.is_some() && failure.class == Class::Unreachable {
                self.suspect("ID");
            }
            if failure.is(FailureCode::Garbled) && self.inner.get_ref().channel().is_compressed() {
                self.forgo("COMPRESS=DEFLATE");
            }
            match self.farewell.take() {
                Some(said) if failure.class == Class::Unreachable => explain(THE_SESSION, Status::Bye, &said),
                _ => failure,
            }
        })?;
        match &event {
            Event::Untagged(line) => {
                let (word, rest) = split_word(line);
                if let Some(status) = Status::parse(word) {
                    let said = StatusText::parse(rest);
                    if said.code == "ALERT" {
                        self.alert = Some(shown_alert(&said));
                    }
                    if status == Status::Bye {
                        self.farewell = Some(said);
                    }
                } else if word.eq_ignore_ascii_case(b"ID") {
                    self.id = Some(rest.to_vec());
                    return Ok(None);
                }
                if let Some((_, begun)) = self.looking.front_mut() {
                    // Responses before a folder is open may be followed by a long look into it.
                    *begun |=
                        split_numbered(line).is_some_and(|(_, word, _)| word.eq_ignore_ascii_case(b"FETCH"));
                }
            }
            Event::Tagged { tag, status, rest } => {
                if rest.starts_with(b"[") {
                    let said = StatusText::parse(rest);
                    if said.code == "ALERT" {
                        self.alert = Some(shown_alert(&said));
                    }
                }
                self.looking.retain(|(looking, _)| *looking != **tag);
                if self.introduction.as_ref().is_some_and(|introduction| *introduction == **tag) {
                    self.introduction = None;
                    match status {
                        Status::Ok => self.trust("ID"),
                        _ => self.forgo("ID"),
                    }
                    return Ok(None);
                }
            }
            Event::Noise(line) => {
                if let Some(failure) = self.greeted_otherwise(line.as_bytes()) {
                    return Err(failure);
                }
                self.pass_over(line)?;
                return Ok(None);
            }
            Event::BodyBegin { .. } | Event::BodyChunk(_) | Event::Continue(_) => {}
        }
        Ok(Some(event))
    }

    /// The failure of a peer whose first line is that of another protocol.
    pub(super) fn greeted_otherwise(&self, line: &[u8]) -> Option<Failure> {
        if self.facts.greeting.is_empty() { of_another(line, Protocol::Imap) } else { None }
    }

    /// Waits for the server: in vain for a few seconds once it has said goodbye. Where it has to look through a folder, a word
    /// is said about it.
    async fn wait_for_event(&mut self, looks: bool) -> Result<Event> {
        if self.farewell.is_some() {
            let event = timeout(GOODBYE_TIMEOUT, next_event(&mut self.inner)).await;
            return event.unwrap_or_else(|_| Err(closed()));
        }
        let event = next_event(&mut self.inner);
        if !looks {
            return event.await;
        }
        tokio::pin!(event);
        tokio::select! {
            event = &mut event => return event,
            () = sleep(WORTH_A_WORD) => {}
        }
        let server = printable(&self.facts.endpoint.address());
        tracing::info!(server, "the server looks through a folder; it is waited for");
        event.await
    }

    /// Runs one command to its end and hands every untagged response to `untagged`.
    ///
    /// # Errors
    /// Those of the connection, and what [`explain`] makes of a NO or BAD.
    pub async fn run(
        &mut self,
        command: impl Into<Command>,
        untagged: impl FnMut(&[u8]) -> Result<()> + Send,
    ) -> Result<StatusText> {
        self.ask(Ask::new(command), untagged).await
    }

    /// The failure that a refusal means. A server that lets somebody in with an alert and then refuses everything has
    /// said why.
    pub(super) fn refusal(&self, verb: &str, status: Status, said: &StatusText) -> Failure {
        let failure = explain(verb, status, said);
        match &self.alert {
            Some(alert)
                if matches!(failure.class, Class::Refused | Class::Credentials) && said.code != "ALERT" =>
            {
                Failure { what: format!("{} (it also said: {alert})", failure.what), ..failure }
            }
            _ => failure,
        }
    }

    /// Has all that follows compressed (RFC 4978), where the server offers it and the link to its host was found to be
    /// slow. No command may be under way.
    ///
    /// # Errors
    /// Those of the connection. A server that does not keep to its offer is not a failure: the session continues
    /// uncompressed.
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
            Err(failure) if failure.leaves_the_session() => self.forgo("COMPRESS=DEFLATE"),
            Err(failure) => {
                self.suspect("COMPRESS=DEFLATE");
                return Err(failure);
            }
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

    /// Says nothing any more: a command was written in part and will not be completed.
    pub(super) fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// Ends the session politely, without waiting long.
    pub async fn close(&mut self) {
        if self.abandoned {
            return;
        }
        let _ = timeout(LOGOUT_TIMEOUT, self.run("LOGOUT", |_| Ok(()))).await;
    }
}

/// How a literal of so many bytes is announced.
fn announce(bytes: usize, at_once: bool) -> String {
    format!("{{{bytes}{}}}\r\n", if at_once { "+" } else { "" })
}

/// An alert as it is shown.
fn shown_alert(said: &StatusText) -> String {
    cut(&said.text, ALERT_MAX)
}

/// Splits an untagged response after its first word.
pub fn split_word(line: &[u8]) -> (&[u8], &[u8]) {
    split_blank(line)
}

/// Reads `NUMBER WORD REST`, the form of EXISTS, EXPUNGE and FETCH.
pub fn split_numbered(line: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let (number, rest) = split_word(line);
    let number = std::str::from_utf8(number).ok()?.parse().ok()?;
    let (word, rest) = split_word(rest);
    Some((number, word, rest))
}

async fn next_event(connection: &mut Connection<Wire<Channel>>) -> Result<Event> {
    let mut patience = std::mem::take(&mut connection.get_mut().patience);
    let read = patience.wait(connection.read_response()).await;
    connection.get_mut().patience = patience;
    match read? {
        Err(error) => Err(lost(&error)),
        Ok(None) => Err(closed()),
        Ok(Some(_)) => {
            let wire = connection.get_mut();
            let event = wire.take_event();
            match &event {
                Some(Event::Tagged { .. } | Event::Continue(_)) => wire.patience.renew(),
                Some(Event::Untagged(line) | Event::BodyBegin { prefix: line, .. }) => {
                    let word = split_word(line).0;
                    let belongs = word.iter().all(u8::is_ascii_digit)
                        || [b"LIST".as_slice(), b"LSUB", b"STATUS"]
                            .iter()
                            .any(|it| word.eq_ignore_ascii_case(it));
                    wire.patience.hear(line.len(), belongs)?;
                }
                Some(Event::BodyChunk(chunk)) => wire.patience.earn(chunk.len()),
                Some(Event::Noise(line)) => wire.patience.hear(line.len(), false)?,
                None => {}
            }
            event.ok_or_else(|| Failure::internal("a response had no event behind it"))
        }
    }
}

fn closed() -> Failure {
    Failure::new(Class::Unreachable, "the server closed the connection").code(FailureCode::ConnectionEnded)
}

fn silent() -> Failure {
    Failure::new(Class::Unreachable, format!("the server was silent for {} s", SILENCE_MAX.as_secs()))
        .code(FailureCode::Silent)
}

fn lost(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::InvalidData {
        return Failure::protocol(error.to_string()).code(FailureCode::Garbled);
    }
    Failure::new(Class::Unreachable, format!("the connection broke: {error}"))
        .code(FailureCode::ConnectionEnded)
        .caused_by(error)
}
