//! From a connection to a logged-in session: the greeting, TLS, capabilities, and one login by password or token.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::{sleep, timeout};

use super::command::Command;
use super::refusal::explain;
use super::session::{Session, Tag, split_word};
use super::tokens::{Status, StatusText};
use super::wire::Event;
use crate::auth::cleaning::Cleaner;
use crate::auth::credentials::{Login, Proof};
use crate::auth::oauth::Bearer;
use crate::auth::sasl::{Exchange, read_reason};
use crate::drivers::words;
use crate::model::capability::Capabilities;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::ServerFacts;
use crate::model::failure::{Class, Failure, FailureCode, Place, Result};
use crate::model::protocol::Tls;
use crate::model::secret::Secret;
use crate::model::text::printable;
use crate::net::network::{Channel, Network};
use crate::net::tls::Trust;

/// The longest initial response that goes with its command, in bytes: servers bound their lines, and tokens are long.
const FIRST_RESPONSE_MAX: usize = 6 * 1024;
/// After how long a server is asked again that ended the connection in place of a greeting.
const GREETED_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long the end of a login is waited for after an untagged refusal that is about the password.
const AFTER_A_REFUSAL: Duration = Duration::from_secs(3);
/// How long it is waited for after any other untagged NO or BAD.
const AFTER_A_WARNING: Duration = Duration::from_secs(20);

/// A connection that has been greeted, secured and asked for its capabilities; nobody is logged in.
#[derive(Debug)]
pub struct Greeted {
    session: Session,
}

/// Connects, reads the greeting, starts TLS where the endpoint says so, and asks for the capabilities. Sends no
/// credential.
///
/// # Errors
/// [`Class::Unreachable`], [`Class::Tls`], or [`Class::Protocol`] for a peer that does not speak IMAP.
pub async fn greet(network: &Network, endpoint: &Endpoint, trust: &Trust) -> Result<Greeted> {
    let channel = network.connect_greeted(endpoint, trust).await?;
    match greet_channel(channel, endpoint, trust).await {
        // One that says goodbye at once may be busy for a moment.
        Err(failure)
            if failure.class == Class::Unreachable
                && failure.wait.is_none()
                && !failure.is(FailureCode::Silent) =>
        {
            sleep(GREETED_AGAIN_AFTER).await;
            let channel = network.connect(endpoint, trust).await?;
            greet_channel(channel, endpoint, trust).await
        }
        greeted => greeted,
    }
    .at(|| endpoint.address())
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
    let facts = ServerFacts {
        endpoint: endpoint.clone(),
        greeting: String::new(),
        capabilities: Capabilities::default(),
        mechanisms: Vec::new(),
        tls: channel.tls.clone(),
    };
    let mut session = Session::new(channel, facts.clone());
    let greeting = match session.next_event().await? {
        Event::Untagged(greeting) => greeting,
        // POP3 answers begin with the sign that asks for more in IMAP.
        Event::Continue(said) => {
            let other = session.greeted_otherwise(&[b"+", said.as_slice()].concat());
            return Err(other.unwrap_or_else(|| no_imap_greeting("")));
        }
        _ => return Err(no_imap_greeting("")),
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
        _ => return Err(no_imap_greeting(&printable(&String::from_utf8_lossy(&greeting)))),
    }
    if endpoint.tls == Tls::StartTLS {
        let channel = start_tls(session, &endpoint.host, trust).await?;
        let tls = channel.tls.clone();
        session = Session::new(channel, ServerFacts { tls, ..facts });
    }
    // Data sent before TLS is forgotten (RFC 9051 §6.2.1), so the greeting's own list counts without STARTTLS only.
    let capabilities = if said.code == "CAPABILITY" && endpoint.tls != Tls::StartTLS {
        Capabilities::parse(&said.arguments)
    } else {
        ask_capabilities(&mut session).await?
    };
    session.learn(printable(&String::from_utf8_lossy(rest)), capabilities);
    Ok(Greeted { session })
}

fn no_imap_greeting(said: &str) -> Failure {
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    Failure::protocol(format!("does not greet as an IMAP server{said}")).code(FailureCode::Garbled)
}

async fn start_tls(mut session: Session, host: &str, trust: &Trust) -> Result<Channel> {
    session.run("STARTTLS", |_| Ok(())).await.map_err(|f| {
        Failure::new(Class::Tls, f.what).hint("no password was sent: the server offers no STARTTLS here")
    })?;
    let channel = session.into_channel().ok_or_else(|| {
        Failure::protocol(
            "talked on between STARTTLS and the TLS handshake: someone may be tampering with the connection",
        )
        .hint("no password was sent. Use implicit TLS if the server offers it")
    })?;
    channel.secure(host, trust).await
}

/// Asks what the server can do. One that does not know the question can do what every server can.
async fn ask_capabilities(session: &mut Session) -> Result<Capabilities> {
    let mut capabilities = Capabilities::default();
    let asked = session.run("CAPABILITY", |line| {
        if let Some(announced) = announced_by(line) {
            capabilities = announced;
        }
        Ok(())
    });
    match asked.await {
        Err(failure) if !failure.leaves_the_session() => Err(failure),
        _ => Ok(capabilities),
    }
}

fn announced_by(line: &[u8]) -> Option<Capabilities> {
    let (word, rest) = split_word(line);
    word.eq_ignore_ascii_case(b"CAPABILITY").then(|| Capabilities::parse(&String::from_utf8_lossy(rest)))
}

/// The outcome of a login.
struct LetIn {
    /// The server's capabilities after the login, where it sent them on its own.
    capabilities: Option<Capabilities>,
}

impl Greeted {
    /// The facts that the server reported about itself.
    pub fn facts(&self) -> &ServerFacts {
        self.session.facts()
    }

    /// Logs in: with a password by SASL PLAIN where it is offered or an authorization identity is needed, by LOGIN
    /// otherwise; with a token by OAUTHBEARER or XOAUTH2. A token that has ended is renewed and tried once more.
    ///
    /// # Errors
    /// [`Class::Credentials`] when the server refuses; [`Class::Tls`] when it wants no passwords on this channel;
    /// [`Class::Refused`] when it takes no tokens.
    pub async fn login(mut self, login: &Login) -> Result<Session> {
        let place = format!("{} as {}", self.facts().endpoint.address(), printable(&login.who()));
        self.session.clean_with(Cleaner::of(login));
        // Large futures, each of which is there for a moment only.
        let let_in = match &login.proof {
            Proof::Password(password) => Box::pin(self.login_with_password(login, password)).await,
            Proof::Token(bearer) => Box::pin(self.login_with_token(login, bearer)).await,
        };
        let begun = async {
            let capabilities = match let_in?.capabilities {
                Some(capabilities) => capabilities,
                None => ask_capabilities(&mut self.session).await?,
            };
            self.session.begin(capabilities).await
        };
        begun.await.at(|| place)?;
        Ok(self.session)
    }

    async fn login_with_password(&mut self, login: &Login, password: &Secret) -> Result<LetIn> {
        let texts = [Some(login.user.as_str()), login.authzid.as_deref(), Some(password.expose())];
        if texts.into_iter().flatten().any(|text| text.contains(['\r', '\n', '\0'])) {
            return Err(Failure::new(Class::Credentials, "the user name or password holds a line break")
                .hint("correct the Secret; a key's value must not end in a line break"));
        }
        let disabled = self.facts().capabilities.has("LOGINDISABLED");
        let plain = self.session.offers("AUTH=PLAIN");
        if disabled && !plain {
            return Err(Failure::new(Class::Tls, "wants no password on this channel (LOGINDISABLED)")
                .code(FailureCode::MechanismRefused)
                .hint("use tls: Implicit or StartTLS for this server"));
        }
        if plain || login.authzid.is_some() {
            let exchange = Exchange::plain(login.authzid.as_deref(), &login.user, password);
            let has_another_way = login.authzid.is_none() && !disabled;
            match self.authenticate(exchange, has_another_way).await {
                // The mechanism was refused and not the password, which may be given in the other way.
                Err(failure) if has_another_way && is_about_the_mechanism(&failure) => {}
                outcome => return outcome,
            }
        }
        let let_in = self.log_in_by_command(&login.user, password).await?;
        if plain {
            self.session.forgo("AUTH=PLAIN");
        }
        Ok(let_in)
    }

    /// LOGIN (RFC 9051 §6.2.3); what no quoted string can hold goes as a literal.
    async fn log_in_by_command(&mut self, user: &str, password: &Secret) -> Result<LetIn> {
        let command = Command::new("LOGIN ").string(user).then(" ").string(password.expose());
        let at_once = command.literals().next().is_some() && !self.session.has_to_wait(&command);
        let tag = self.session.give(&command).await?;
        match self.hear_out(&tag, "LOGIN").await {
            Err(failure) if at_once && failure.is(FailureCode::NotUnderstood) => {
                // It may be the literal that did not wait.
                self.session.forgo("LITERAL+");
                self.session.forgo("LITERAL-");
                let tag = self.session.give(&command).await?;
                self.hear_out(&tag, "LOGIN").await
            }
            outcome => outcome,
        }
    }

    async fn login_with_token(&mut self, login: &Login, bearer: &Bearer) -> Result<LetIn> {
        let Endpoint { host, port, .. } = self.facts().endpoint.clone();
        let mut tried_again = false;
        loop {
            let token = bearer.token().await?;
            self.session.clean_with(Cleaner::of(login).and(&token));
            let offers = |name: &str| self.facts().capabilities.has(&format!("AUTH={name}"));
            let exchange = Exchange::bearer(offers, (&host, port), &login.user, &token)?;
            match self.authenticate(exchange, false).await {
                Err(failure)
                    if failure.class == Class::Credentials && !tried_again && bearer.reject(&token).await =>
                {
                    tried_again = true;
                }
                Err(failure) if failure.class == Class::Credentials => {
                    return Err(bearer.name_remedy(failure, &host, &login.user));
                }
                outcome => return outcome,
            }
        }
    }

    /// Runs one SASL exchange: with its first response at once where the server takes that (RFC 4959), and without where it
    /// then does not.
    async fn authenticate(&mut self, exchange: Exchange, has_another_way: bool) -> Result<LetIn> {
        let at_once =
            self.session.offers("SASL-IR") && exchange.encode().expose().len() <= FIRST_RESPONSE_MAX;
        match self.converse(exchange.clone(), at_once, has_another_way).await {
            Err(failure) if at_once && failure.is(FailureCode::NotUnderstood) => {
                let outcome = self.converse(exchange, false, has_another_way).await;
                if outcome.is_ok() {
                    self.session.forgo("SASL-IR");
                }
                outcome
            }
            outcome => outcome,
        }
    }

    async fn converse(&mut self, exchange: Exchange, at_once: bool, has_another_way: bool) -> Result<LetIn> {
        let mut command = format!("AUTHENTICATE {}", exchange.mechanism);
        if at_once {
            command.push(' ');
            command.push_str(exchange.encode().expose());
        }
        let tag = self.session.send(&command).await?;
        let mut conversation = exchange.begin(at_once);
        let mut hearing = Hearing { has_another_way, ..Hearing::new("AUTHENTICATE") };
        loop {
            match hearing.next(&mut self.session, &tag).await {
                Ok(Heard::Question(question)) => {
                    if let Some(reason) = read_reason(&question) {
                        hearing.reason = Some(self.session.clean(&reason));
                    }
                    // Text that is not in Base64 is a word of welcome, not a question.
                    let question = STANDARD.decode(question.trim_ascii()).unwrap_or_default();
                    let Some(answer) = conversation.answer(&question) else {
                        self.session.write(b"*\r\n").await?;
                        return Err(Failure::protocol("asks for more than the exchange has to say")
                            .code(FailureCode::Garbled));
                    };
                    let line = Secret::new(format!("{}\r\n", STANDARD.encode(answer.expose())));
                    self.session.write(line.expose().as_bytes()).await?;
                }
                Ok(Heard::LetIn(let_in)) => return Ok(let_in),
                Err(failure) => {
                    if failure.is(FailureCode::ConnectionEnded) && has_another_way {
                        self.session.suspect(if at_once { "SASL-IR" } else { "AUTH=PLAIN" });
                    }
                    return Err(failure);
                }
            }
        }
    }

    /// Waits until a login ends that asks for nothing more.
    async fn hear_out(&mut self, tag: &Tag, command: &'static str) -> Result<LetIn> {
        match Hearing::new(command).next(&mut self.session, tag).await? {
            Heard::LetIn(let_in) => Ok(let_in),
            Heard::Question(_) => {
                Err(Failure::protocol(format!("answered {command} out of turn")).code(FailureCode::Garbled))
            }
        }
    }

    /// Ends the connection politely.
    pub async fn close(mut self) {
        self.session.close().await;
    }
}

/// Whether a refused AUTHENTICATE was about the mechanism, so that the password was not looked at.
fn is_about_the_mechanism(failure: &Failure) -> bool {
    failure.class != Class::Tls
        && matches!(failure.code, Some(FailureCode::MechanismRefused | FailureCode::NotUnderstood))
}

/// The state of the responses heard during a login.
struct Hearing {
    command: &'static str,
    /// Whether the password may be given in another way, if this one is not taken.
    has_another_way: bool,
    /// A refusal that had no tag, and how long the one with a tag is waited for.
    refused: Option<(Status, StatusText, Duration)>,
    /// Why a token was refused, as far as the server said so.
    reason: Option<String>,
    capabilities: Option<Capabilities>,
}

enum Heard {
    Question(Vec<u8>),
    LetIn(LetIn),
}

impl Hearing {
    fn new(command: &'static str) -> Self {
        Self { command, has_another_way: false, refused: None, reason: None, capabilities: None }
    }

    /// The next question, or how the login ended.
    async fn next(&mut self, session: &mut Session, tag: &Tag) -> Result<Heard> {
        loop {
            let event = match &self.refused {
                Some((.., patience)) => timeout(*patience, session.next_event()).await.unwrap_or_else(|_| {
                    Err(Failure::new(Class::Unreachable, "says nothing more").code(FailureCode::Silent))
                }),
                None => session.next_event().await,
            };
            let event = match (event, self.refused.take()) {
                (Ok(event), refused) => {
                    self.refused = refused;
                    event
                }
                // It said no, and then nothing that could be understood.
                (Err(_), Some((status, said, _))) => return Err(self.refusal(session, status, &said)),
                (Err(failure), None) => return Err(failure),
            };
            match event {
                Event::Untagged(line) => self.note(&line),
                Event::Continue(question) => return Ok(Heard::Question(question)),
                Event::Tagged { tag: theirs, status, rest } if *tag == *theirs => {
                    let said = StatusText::parse(&rest);
                    if status != Status::Ok {
                        return Err(self.refusal(session, status, &said));
                    }
                    if said.code == "CAPABILITY" {
                        self.capabilities = Some(Capabilities::parse(&said.arguments));
                    }
                    return Ok(Heard::LetIn(LetIn { capabilities: self.capabilities.take() }));
                }
                _ => {
                    return Err(Failure::protocol(format!("answered {} out of turn", self.command))
                        .code(FailureCode::Garbled));
                }
            }
        }
    }

    /// Takes note of what has no tag.
    fn note(&mut self, line: &[u8]) {
        if let Some(capabilities) = announced_by(line) {
            self.capabilities = Some(capabilities);
        }
        let (word, rest) = split_word(line);
        if let Some(status @ (Status::No | Status::Bad)) = Status::parse(word) {
            let said = StatusText::parse(rest);
            if said.code == "ALERT" {
                return;
            }
            let failure = explain(self.command, status, &said);
            let clear =
                failure.is(FailureCode::WrongCredentials) || words::doubts_the_credentials(&said.text);
            self.refused = Some((status, said, if clear { AFTER_A_REFUSAL } else { AFTER_A_WARNING }));
        }
    }

    /// The failure that a refused login means. An AUTHENTICATE whose refusal says nothing about names and passwords may
    /// have been refused for its mechanism: where there is another way, that one tells.
    fn refusal(&self, session: &Session, status: Status, said: &StatusText) -> Failure {
        let failure = session.refusal(self.command, status, said);
        let failure = match (failure.class, failure.code) {
            (Class::Credentials | Class::Refused, None)
                if self.has_another_way
                    && !["CONTACTADMIN", "NOPERM"].contains(&said.code.as_str())
                    && !words::doubts_the_credentials(&said.text) =>
            {
                Failure { hint: None, class: Class::Refused, ..failure }.code(FailureCode::MechanismRefused)
            }
            // Some say BAD to a wrong password.
            (Class::Protocol, Some(FailureCode::NotUnderstood))
                if words::doubts_the_credentials(&said.text) =>
            {
                Failure { class: Class::Credentials, code: Some(FailureCode::WrongCredentials), ..failure }
            }
            _ => failure,
        };
        match &self.reason {
            Some(reason) => Failure { what: format!("{} ({reason})", failure.what), ..failure },
            None => failure,
        }
    }
}
