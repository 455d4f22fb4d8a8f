//! From a connection to a logged-in session: the greeting, TLS, capabilities, and one login by password or token.

use async_imap::{Authenticator, Client, Connection};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::refusal::explain;
use super::session::{LOGOUT_TIMEOUT, Session, lost, next_event, split_word};
use super::tokens::{Status, StatusText};
use super::wire::{Event, Wire};
use crate::mail::cleaning::Cleaner;
use crate::mail::credentials::{Login, Proof};
use crate::mail::network::{Channel, Network};
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

/// The longest initial response that goes with its command, in bytes: servers bound their lines, and tokens are long.
const FIRST_RESPONSE_MAX: usize = 6 * 1024;

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
        let cleaner = Cleaner::of(login);
        session.map_err(|failure| Failure { what: cleaner.clean_text(&failure.what), ..failure }).at(|| place)
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
    Session::take_over(inner, facts).await
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
