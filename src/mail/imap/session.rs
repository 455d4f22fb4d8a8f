//! The command layer: a greeted connection, a logged-in session, and commands whose status is always looked at.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use async_imap::{Authenticator, Client, Connection};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use super::refusal::explain;
use super::tokens::{Status, StatusText, Value, read_values};
use super::wire::{Event, Wire};
use crate::mail::credentials::{Login, Proof};
use crate::mail::network::{Channel, Network, SILENCE_MAX};
use crate::mail::oauth::Bearer;
use crate::mail::patience::Patience;
use crate::mail::sasl::{Conversation, Exchange, read_reason};
use crate::mail::tls::Trust;
use crate::model::capability::Capabilities;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::ServerFacts;
use crate::model::failure::{Class, Failure, Place, Result};
use crate::model::protocol::Tls;
use crate::model::secret::Secret;
use crate::model::text::printable;

/// Commands of one flight that may be unanswered; all of them fit into a socket's buffers.
const COMMANDS_IN_FLIGHT: usize = 64;
/// The longest initial response that goes with its command, in bytes: servers bound their lines, and tokens are long.
const FIRST_RESPONSE_MAX: usize = 6 * 1024;
/// How long is listened to a server that takes no more.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a polite LOGOUT may take.
const LOGOUT_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection that has been greeted, secured and asked for its capabilities; nobody is logged in.
#[derive(Debug)]
pub struct Greeted {
    client: Client<Wire<Channel>>,
    facts: ServerFacts,
}

/// Connects, reads the greeting, starts TLS where the endpoint says so, and asks for the capabilities. Sends no
/// credential.
///
/// # Errors
/// [`Class::Unreachable`], [`Class::Tls`], or [`Class::Protocol`] for a peer that does not speak IMAP.
pub async fn greet(network: &Network, endpoint: &Endpoint, trust: &Trust) -> Result<Greeted> {
    let channel = network.connect(endpoint, trust).await?;
    greet_channel(channel, endpoint, trust).await.at(|| endpoint.address())
}

/// As [`greet`], unless the host's limit of connections is reached: then `None`, without waiting.
///
/// # Errors
/// As [`greet`].
pub async fn greet_if_free(network: &Network, endpoint: &Endpoint, trust: &Trust) -> Result<Option<Greeted>> {
    let Some(channel) = network.connect_if_free(endpoint, trust).await? else { return Ok(None) };
    greet_channel(channel, endpoint, trust).await.at(|| endpoint.address()).map(Some)
}

async fn greet_channel(channel: Channel, endpoint: &Endpoint, trust: &Trust) -> Result<Greeted> {
    let mut tls = channel.tls.clone();
    let mut client = Client::new(Wire::new(channel));
    let Event::Untagged(greeting) = next_event(&mut client).await? else {
        return Err(Failure::protocol("does not greet as an IMAP server"));
    };
    let (word, rest) = split_word(&greeting);
    let said = StatusText::parse(rest);
    match Status::parse(word) {
        Some(Status::Ok) => {}
        Some(Status::PreAuth) => {
            return Err(Failure::protocol("greets with PREAUTH, so a login and TLS are impossible")
                .hint("name another port in spec.domains[].servers"));
        }
        Some(Status::Bye) => return Err(explain("the greeting", Status::Bye, &said)),
        _ => {
            return Err(Failure::protocol(format!(
                "does not greet as an IMAP server: {}",
                printable(&String::from_utf8_lossy(&greeting))
            )));
        }
    }
    if endpoint.tls == Tls::StartTLS {
        let (secured, facts) = start_tls(client, &endpoint.host, trust).await?;
        client = secured;
        tls = facts;
    }
    // What was said before TLS is forgotten (RFC 9051 §6.2.1), so the greeting's own list counts without STARTTLS only.
    let capabilities = if said.code == "CAPABILITY" && endpoint.tls != Tls::StartTLS {
        Capabilities::parse(&said.arguments)
    } else {
        ask_capabilities(&mut client).await?
    };
    let mechanisms = capabilities.values("AUTH").map(str::to_owned).collect();
    let greeting = printable(&String::from_utf8_lossy(rest));
    let facts = ServerFacts { endpoint: endpoint.clone(), greeting, capabilities, mechanisms, tls };
    Ok(Greeted { client, facts })
}

type Secured = (Client<Wire<Channel>>, Option<crate::model::evidence::TlsFacts>);

async fn start_tls(mut client: Client<Wire<Channel>>, host: &str, trust: &Trust) -> Result<Secured> {
    let done = run_before_login(&mut client, "STARTTLS", |_| {}).await;
    done.map_err(|f| {
        Failure::new(Class::Tls, f.what).hint("no password was sent: the server offers no STARTTLS here")
    })?;
    let channel = client.into_inner().into_channel().ok_or_else(|| {
        Failure::protocol(
            "talked on between STARTTLS and the TLS handshake: someone may be tampering with the connection",
        )
        .hint("no password was sent. Use implicit TLS if the server offers it")
    })?;
    let channel = channel.secure(host, trust).await?;
    let tls = channel.tls.clone();
    Ok((Client::new(Wire::new(channel)), tls))
}

async fn ask_capabilities(connection: &mut Connection<Wire<Channel>>) -> Result<Capabilities> {
    let mut capabilities = Capabilities::default();
    run_before_login(connection, "CAPABILITY", |line| {
        let (word, rest) = split_word(line);
        if word.eq_ignore_ascii_case(b"CAPABILITY") {
            capabilities = Capabilities::parse(&String::from_utf8_lossy(rest));
        }
    })
    .await?;
    Ok(capabilities)
}

/// async-imap gives tags only to sessions; before the login there is one command at a time, so one tag is enough.
async fn run_before_login(
    connection: &mut Connection<Wire<Channel>>,
    command: &str,
    mut untagged: impl FnMut(&[u8]),
) -> Result<()> {
    let line = format!("PRE {command}\r\n");
    connection.get_mut().write_all(line.as_bytes()).await.map_err(|e| lost(&e))?;
    loop {
        match next_event(connection).await? {
            Event::Tagged { status: Status::Ok, .. } => return Ok(()),
            Event::Tagged { status, rest, .. } => {
                return Err(explain(command, status, &StatusText::parse(&rest)));
            }
            Event::Untagged(line) => untagged(&line),
            _ => return Err(Failure::protocol(format!("answered {command} out of turn"))),
        }
    }
}

impl Greeted {
    /// What the server said of itself.
    pub fn facts(&self) -> &ServerFacts {
        &self.facts
    }

    /// Logs in: with a password by SASL PLAIN where it is offered or an authorization identity is needed, by LOGIN
    /// otherwise; with a token by OAUTHBEARER or XOAUTH2. A token that has ended is renewed and tried once more.
    ///
    /// # Errors
    /// [`Class::Credentials`] when the server refuses; [`Class::Tls`] when it wants no passwords on this channel;
    /// [`Class::Refused`] when it takes no tokens.
    pub async fn login(self, login: &Login) -> Result<Session> {
        let place = format!("{} as {}", self.facts.endpoint.address(), printable(&login.who()));
        // Large futures, each of which is there for a moment only.
        let session = match &login.proof {
            Proof::Password(password) => Box::pin(self.login_with_password(login, password)).await,
            Proof::Token(bearer) => Box::pin(self.login_with_token(login, bearer)).await,
        };
        session.at(|| place)
    }

    async fn login_with_password(self, login: &Login, password: &Secret) -> Result<Session> {
        let capabilities = &self.facts.capabilities;
        let plain = capabilities.has("AUTH=PLAIN");
        if capabilities.has("LOGINDISABLED") && !plain {
            return Err(Failure::new(Class::Tls, "wants no password on this channel (LOGINDISABLED)")
                .hint("use tls: Implicit or StartTLS for this server"));
        }
        if plain || login.authzid.is_some() {
            let exchange = Exchange::plain(login.authzid.as_deref(), &login.user, password);
            return self.authenticate(exchange).await.map_err(|(failure, _)| failure);
        }
        let Self { client, facts } = self;
        let logged_in = client.login(&login.user, password.expose());
        match Patience::default().wait(logged_in).await? {
            Ok(inner) => begin(inner, facts).await,
            Err((error, mut client)) => Err(explain_login("LOGIN", error, &client.get_mut().take_events())),
        }
    }

    async fn login_with_token(self, login: &Login, bearer: &Bearer) -> Result<Session> {
        let Endpoint { host, port, .. } = self.facts.endpoint.clone();
        let mut greeted = self;
        let mut tried_again = false;
        loop {
            let token = bearer.token().await?;
            let offers = |name: &str| greeted.facts.capabilities.has(&format!("AUTH={name}"));
            let exchange = Exchange::bearer(offers, (&host, port), &login.user, &token)?;
            match greeted.authenticate(exchange).await {
                Ok(session) => return Ok(session),
                Err((failure, Some(again)))
                    if failure.class == Class::Credentials && !tried_again && bearer.reject(&token).await =>
                {
                    greeted = *again;
                    tried_again = true;
                }
                Err((failure, _)) if failure.class == Class::Credentials => {
                    return Err(bearer.name_remedy(failure, &host, &login.user));
                }
                Err((failure, _)) => return Err(failure),
            }
        }
    }

    /// Runs one SASL exchange. With a refusal the connection comes back, if there still is one.
    async fn authenticate(self, exchange: Exchange) -> Result<Session, (Failure, Option<Box<Self>>)> {
        let Self { client, facts } = self;
        let first = exchange.encode();
        let at_once = facts.capabilities.has("SASL-IR") && first.expose().len() <= FIRST_RESPONSE_MAX;
        let command = if at_once {
            Secret::new(format!("{} {}", exchange.mechanism, first.expose()))
        } else {
            Secret::new(exchange.mechanism)
        };
        let done = client.authenticate(command.expose(), exchange.begin(at_once));
        let done = Patience::default().wait(done).await;
        match done.map_err(|failure| (failure, None))? {
            Ok(inner) => begin(inner, facts).await.map_err(|failure| (failure, None)),
            Err((error, mut client)) => {
                let lives =
                    matches!(error, async_imap::error::Error::No(_) | async_imap::error::Error::Bad(_));
                let failure = explain_login("AUTHENTICATE", error, &client.get_mut().take_events());
                Err((failure, lives.then(|| Box::new(Self { client, facts }))))
            }
        }
    }

    /// Ends the connection politely.
    pub async fn close(mut self) {
        let _ = timeout(LOGOUT_TIMEOUT, run_before_login(&mut self.client, "LOGOUT", |_| {})).await;
    }
}

/// Takes over a connection on which a login has just succeeded.
async fn begin(mut inner: async_imap::Session<Wire<Channel>>, mut facts: ServerFacts) -> Result<Session> {
    let last = inner.get_mut().take_events();
    facts.capabilities = match announced_capabilities(&last) {
        Some(capabilities) => capabilities,
        None => ask_capabilities(&mut inner).await?,
    };
    let may_compress = facts.capabilities.has("COMPRESS=DEFLATE");
    let mut session = Session { inner, facts, farewell: None, may_compress, waited: Duration::ZERO };
    session.compress_if_slow().await?;
    Ok(session)
}

impl Authenticator for Conversation {
    type Response = String;

    fn process(&mut self, question: &[u8]) -> String {
        self.answer(question).map(|answer| answer.expose().to_owned()).unwrap_or_default()
    }
}

/// async-imap's own error would repeat what the server said as a debug print; the wire kept the line itself.
fn explain_login(command: &str, error: async_imap::error::Error, events: &[Event]) -> Failure {
    let refused = events.iter().rev().find_map(|event| match event {
        Event::Tagged { status, rest, .. } if *status != Status::Ok => Some((*status, rest)),
        _ => None,
    });
    let bye = events.iter().find_map(|event| match event {
        Event::Untagged(line) => line.strip_prefix(b"BYE "),
        _ => None,
    });
    match (refused, bye, error) {
        (Some((status, rest)), _, _) => {
            let failure = explain(command, status, &StatusText::parse(rest));
            let reason = events.iter().rev().find_map(|event| match event {
                Event::Continue(challenge) => read_reason(challenge),
                _ => None,
            });
            match reason {
                Some(reason) => Failure { what: format!("{} ({reason})", failure.what), ..failure },
                None => failure,
            }
        }
        (None, Some(rest), _) => explain(command, Status::Bye, &StatusText::parse(rest)),
        (None, None, async_imap::error::Error::Io(error)) => lost(&error),
        (None, None, async_imap::error::Error::Validate(_)) => {
            Failure::new(Class::Credentials, "the user name or password holds a line break")
                .hint("correct the Secret; a key's value must not end in a line break")
        }
        _ => Failure::new(Class::Unreachable, format!("the connection ended during {command}")),
    }
}

fn announced_capabilities(events: &[Event]) -> Option<Capabilities> {
    events.iter().rev().find_map(|event| match event {
        Event::Tagged { rest, .. } => {
            let said = StatusText::parse(rest);
            (said.code == "CAPABILITY").then(|| Capabilities::parse(&said.arguments))
        }
        Event::Untagged(line) => {
            let (word, rest) = split_word(line);
            word.eq_ignore_ascii_case(b"CAPABILITY")
                .then(|| Capabilities::parse(&String::from_utf8_lossy(rest)))
        }
        _ => None,
    })
}

/// A logged-in session. Commands may be pipelined: [`Self::send`] several, then match the tags that
/// [`Self::next_event`] brings.
#[derive(Debug)]
pub struct Session {
    inner: async_imap::Session<Wire<Channel>>,
    facts: ServerFacts,
    farewell: Option<StatusText>,
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

    /// Why a server takes no more: as it said before it went, if it said anything.
    async fn last_words(&mut self, error: &io::Error) -> Failure {
        let to_the_end = async {
            loop {
                if let Err(failure) = self.next_event().await {
                    return failure;
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

async fn next_event(connection: &mut Connection<Wire<Channel>>) -> Result<Event> {
    let mut patience = std::mem::take(&mut connection.get_mut().patience);
    let read = patience.wait(connection.read_response()).await;
    connection.get_mut().patience = patience;
    match read? {
        Err(error) => Err(lost(&error)),
        Ok(None) => Err(Failure::new(Class::Unreachable, "the server closed the connection")),
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
}

fn lost(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::InvalidData {
        return Failure::protocol(error.to_string());
    }
    Failure::new(Class::Unreachable, format!("the connection broke: {error}")).caused_by(error)
}
