//! One POP3 session: greeting, CAPA (RFC 2449), STLS (RFC 2595), login (RFC 1939, RFC 5034), and the questions that change
//! nothing. There is no DELE here, and RETR only where it must be: see [`super::source`].

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::timeout;

use super::names::{join, lasting_name};
use super::wire::{Status, Wire, garbled, refusal};
use crate::auth::cleaning::Cleaner;
use crate::auth::credentials::{Login, Proof};
use crate::auth::oauth::Bearer;
use crate::auth::sasl::{Exchange, read_reason};
use crate::drivers::words::Asked;
use crate::model::capability::Capabilities;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{MailboxSize, ServerFacts};
use crate::model::failure::{Class, Failure, FailureCode, Place, Result};
use crate::model::protocol::Tls;
use crate::model::scope::{Counting, Scope};
use crate::model::secret::Secret;
use crate::model::text::{printable, printable_bytes};
use crate::net::network::Network;
use crate::net::tls::Trust;

/// The most messages that one maildrop may list.
pub(super) const MESSAGES_MAX: usize = 1_000_000;
/// The largest size that LIST is taken at its word for, in bytes: larger ones are cut to it, so that sums stay numbers.
const SIZE_MAX: u64 = 1 << 40;
/// The most lines of CAPA.
const CAPABILITIES_MAX: usize = 200;
/// The longest AUTH command with an initial response, in bytes with its end (RFC 5034 §4).
const AUTH_LINE_MAX: usize = 255;
/// The command that asks for capabilities.
const CAPA: &str = "CAPA";
const UTF8: &str = "UTF8";
/// Several commands at a time.
pub(super) const PIPELINING: &str = "PIPELINING";
/// How long the answer to QUIT is waited for.
const GOODBYE: Duration = Duration::from_secs(5);

/// A session, in the AUTHORIZATION state until [`Session::log_in`], then in the TRANSACTION state.
pub struct Session {
    pub(super) wire: Wire,
    facts: ServerFacts,
    /// Whether the server answered CAPA; if not, what it can do is found out by trying.
    knows_capa: bool,
    login_delay: Option<Duration>,
}

/// A message as UIDL and LIST show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The message number of this session.
    pub(super) number: u32,
    /// Bytes, as LIST announces them.
    pub(super) size: u64,
}

impl Session {
    /// Connects, reads the greeting, asks for capabilities, and secures the channel as the endpoint says. Nothing of a
    /// credential is sent.
    ///
    /// # Errors
    /// As [`Network::connect`]; [`Class::Tls`] when STLS is due and not offered; [`Class::Protocol`] when the peer does
    /// not speak POP3.
    pub async fn connect(network: &Network, trust: &Trust, endpoint: &Endpoint) -> Result<Self> {
        let channel = network.connect_greeted(endpoint, trust).await?;
        Self::begin(Wire::new(channel), trust, endpoint).await.at(|| endpoint.address())
    }

    async fn begin(mut wire: Wire, trust: &Trust, endpoint: &Endpoint) -> Result<Self> {
        let greeting = match wire.greeting().await? {
            Status::Ok(text) => printable(&text),
            Status::Err(text) => {
                return Err(refusal("sent us away", Asked::Login, &text, Class::Unreachable));
            }
            Status::Continue(_) => return Err(Failure::protocol("greeted with \"+\", which is not POP3")),
        };
        let facts = ServerFacts {
            endpoint: endpoint.clone(),
            greeting,
            capabilities: Capabilities::default(),
            mechanisms: Vec::new(),
            tls: wire.channel().tls.clone(),
        };
        let mut session = Self { wire, facts, knows_capa: false, login_delay: None };
        session.ask_capabilities().await?;
        if endpoint.tls == Tls::StartTLS { session.start_tls(trust).await } else { Ok(session) }
    }

    async fn start_tls(mut self, trust: &Trust) -> Result<Self> {
        let refused = |why: &str| {
            Failure::new(Class::Tls, format!("does not offer STLS, which this endpoint needs{why}"))
                .hint("no password was sent. Use the TLS port 995, or see who strips STLS on the way")
        };
        if self.knows_capa && !self.facts.capabilities.has("STLS") {
            return Err(refused(""));
        }
        self.send("STLS").await?;
        if let Status::Err(text) = self.wire.status().await? {
            return Err(refused(&format!(": {}", printable(&text))));
        }
        let wire = self.wire.secure(&self.facts.endpoint.host, trust).await?;
        // RFC 2595 §4: what was said in the clear does not count any more.
        let facts = ServerFacts {
            capabilities: Capabilities::default(),
            mechanisms: Vec::new(),
            tls: wire.channel().tls.clone(),
            ..self.facts
        };
        let mut secured = Self { wire, facts, knows_capa: false, login_delay: None };
        secured.ask_capabilities().await?;
        Ok(secured)
    }

    /// The facts that the server reported about itself.
    pub fn facts(&self) -> &ServerFacts {
        &self.facts
    }

    /// Whether the server said that it can do something, and was not seen to fail at it.
    pub(super) fn has(&self, capability: &str) -> bool {
        self.facts.capabilities.has(capability) && !self.wire.channel().fails_at(capability)
    }

    async fn ask_capabilities(&mut self) -> Result<()> {
        if self.wire.channel().fails_at(CAPA) {
            return Ok(());
        }
        let asked = self.read_capabilities().await;
        if asked.as_ref().is_err_and(|failure| failure.is(FailureCode::ConnectionEnded)) {
            // Servers older than CAPA may end a session at what they do not know.
            self.wire.channel().note_suspected(CAPA);
        }
        asked
    }

    async fn read_capabilities(&mut self) -> Result<()> {
        self.send(CAPA).await?;
        if !matches!(self.wire.status().await?, Status::Ok(_)) {
            return Ok(());
        }
        let mut words = Vec::new();
        let mut mechanisms = BTreeSet::new();
        let mut login_delay = None;
        let take = |line: &[u8]| {
            let line = String::from_utf8_lossy(line);
            let mut parts = line.split_ascii_whitespace();
            let Some(word) = parts.next() else { return };
            if word.eq_ignore_ascii_case("SASL") {
                let fit = parts.filter(|m| m.len() <= 20 && m.chars().all(|c| c.is_ascii_graphic()));
                mechanisms.extend(fit.map(str::to_ascii_uppercase));
            } else if word.eq_ignore_ascii_case("LOGIN-DELAY") {
                login_delay = parts.next().and_then(|n| n.parse().ok()).map(Duration::from_secs);
            }
            words.push(word.to_owned());
        };
        self.wire.listing(CAPABILITIES_MAX, take).await?;
        self.facts.capabilities = words.iter().map(String::as_str).collect();
        self.facts.mechanisms = mechanisms.into_iter().collect();
        self.login_delay = login_delay;
        self.knows_capa = true;
        Ok(())
    }

    /// Logs in: by SASL PLAIN where it is offered or somebody else's mailbox is opened, by USER and PASS otherwise.
    ///
    /// # Errors
    /// [`Class::Credentials`] when the server refuses them, [`Class::Throttled`] when it asks us to come again later,
    /// [`Class::Configuration`] when a name or password cannot be put into a command.
    pub async fn log_in(&mut self, login: &Login) -> Result<()> {
        let place = self.facts.endpoint.address();
        let logged_in = self.log_in_unplaced(login).await;
        clean(logged_in, &Cleaner::of(login)).at(|| place)
    }

    async fn log_in_unplaced(&mut self, login: &Login) -> Result<()> {
        let password = login.proof.password().map(Secret::expose);
        let texts = [Some(login.user.as_str()), login.authzid.as_deref(), password];
        if texts.into_iter().flatten().any(|text| text.contains(['\r', '\n', '\0'])) {
            return Err(Failure::configuration("a user name or password holds a line end or NUL character")
                .hint("write the Secret again without it; `echo -n` adds no line end"));
        }
        self.take_utf8().await?;
        match &login.proof {
            Proof::Password(password) => self.log_in_with_password(login, password).await?,
            Proof::Token(bearer) => self.log_in_with_token(login, bearer).await?,
        }
        // RFC 2449 §5: some capabilities are announced only in the TRANSACTION state.
        self.ask_capabilities().await
    }

    /// Says that messages may have letters beyond ASCII in their headers (RFC 6856 §2), where the server wants to hear it: it
    /// may put a notice in the place of such a message otherwise.
    async fn take_utf8(&mut self) -> Result<()> {
        if self.has(UTF8) {
            self.send(UTF8).await?;
            if !matches!(self.wire.status().await?, Status::Ok(_)) {
                self.wire.channel().note_failing(UTF8);
            }
        }
        Ok(())
    }

    fn offers(&self, mechanism: &str) -> bool {
        self.facts.mechanisms.iter().any(|offered| offered == mechanism)
    }

    async fn log_in_with_password(&mut self, login: &Login, password: &Secret) -> Result<()> {
        let offers_plain = self.offers("PLAIN");
        if login.authzid.is_some() && self.knows_capa && !offers_plain {
            return Err(Failure::new(
                Class::Refused,
                "does not offer SASL PLAIN, by which an administrator opens a mailbox",
            )
            .hint("give the separator of master logins in the credentials, or a password for each mailbox"));
        }
        if offers_plain || login.authzid.is_some() {
            let exchange = Exchange::plain(login.authzid.as_deref(), &login.user, password);
            let outcome = self.authenticate(login, exchange).await;
            let is_unusable = outcome.as_ref().is_err_and(|failure| {
                failure.is(FailureCode::MechanismRefused) || failure.is(FailureCode::NotUnderstood)
            });
            // An offered mechanism may not work; the password was not checked then.
            if !is_unusable || login.authzid.is_some() {
                return outcome;
            }
        }
        let answer = self.user_and_pass(&login.user, password).await?;
        self.read_answer(login, answer, None)
    }

    /// A token that has ended is renewed and tried once more.
    async fn log_in_with_token(&mut self, login: &Login, bearer: &Bearer) -> Result<()> {
        let mut tried_again = false;
        loop {
            let token = bearer.token().await?;
            let Endpoint { host, port, .. } = &self.facts.endpoint;
            let exchange = Exchange::bearer(|name| self.offers(name), (host, *port), &login.user, &token)?;
            match clean(self.authenticate(login, exchange).await, &Cleaner::of(login).and(&token)) {
                Err(failure)
                    if failure.class == Class::Credentials && !tried_again && bearer.reject(&token).await =>
                {
                    tried_again = true;
                }
                Err(failure) if failure.class == Class::Credentials => {
                    return Err(bearer.name_remedy(failure, &self.facts.endpoint.host, &login.user));
                }
                outcome => return outcome,
            }
        }
    }

    /// Runs one SASL exchange (RFC 5034).
    async fn authenticate(&mut self, login: &Login, exchange: Exchange) -> Result<()> {
        let first = exchange.encode();
        let at_once = Secret::new(format!("AUTH {} {}", exchange.mechanism, first.expose()));
        let fits = at_once.expose().len() + 2 <= AUTH_LINE_MAX;
        let alone = format!("AUTH {}", exchange.mechanism);
        self.send(if fits { at_once.expose() } else { &alone }).await?;
        let mut conversation = exchange.begin(fits);
        let mut reason = None;
        loop {
            match self.wire.status().await? {
                Status::Continue(question) => {
                    reason = read_reason(question.as_bytes());
                    let Some(answer) = conversation.answer(question.as_bytes()) else {
                        return Err(Failure::protocol("asked for more than the exchange has to say"));
                    };
                    self.send(Secret::new(STANDARD.encode(answer.expose())).expose()).await?;
                }
                ended => return self.read_answer(login, ended, reason),
            }
        }
    }

    /// Reads the answer to a login.
    fn read_answer(&self, login: &Login, answer: Status, reason: Option<String>) -> Result<()> {
        let text = match answer {
            Status::Ok(_) => return Ok(()),
            Status::Continue(_) => return Err(Failure::protocol("asked for more than a password")),
            Status::Err(text) => text,
        };
        let text = reason.map_or_else(|| text.clone(), |reason| format!("{text} ({reason})"));
        let what = format!("refused the login of {}", printable(&login.who()));
        let failure = refusal(&what, Asked::Login, &text, Class::Credentials);
        Err(match self.login_delay.filter(|_| failure.class == Class::Throttled) {
            Some(delay) => failure.wait(delay),
            None => failure,
        })
    }

    async fn user_and_pass(&mut self, user: &str, password: &Secret) -> Result<Status> {
        self.send(&format!("USER {user}")).await?;
        match self.wire.status().await? {
            Status::Ok(_) => {}
            refused => return Ok(refused),
        }
        let pass = Secret::new(format!("PASS {}", password.expose()));
        self.send(pass.expose()).await?;
        self.wire.status().await
    }

    /// Sends one command.
    pub(super) async fn send(&mut self, command: &str) -> Result<()> {
        if command.contains(['\r', '\n', '\0']) {
            return Err(Failure::internal("a command holds a line end or NUL character"));
        }
        let line = Secret::new(format!("{command}\r\n"));
        self.wire.send(line.expose().as_bytes()).await
    }

    async fn expect_ok(&mut self, command: &str) -> Result<String> {
        match self.wire.status().await? {
            Status::Ok(text) => Ok(text),
            Status::Err(text) => {
                Err(refusal(&format!("refused {command}"), Asked::Other, &text, Class::Protocol))
            }
            Status::Continue(_) => Err(garbled(format!("answered {command} with \"+\""))),
        }
    }

    /// STAT: messages and their bytes.
    pub(super) async fn stat(&mut self) -> Result<(u32, u64)> {
        self.send("STAT").await?;
        let text = self.expect_ok("STAT").await?;
        let mut numbers = text.split_ascii_whitespace();
        let mut next = || numbers.next().and_then(|n| n.parse::<u64>().ok());
        match (next().and_then(|n| u32::try_from(n).ok()), next()) {
            (Some(messages), Some(bytes)) => Ok((messages, bytes)),
            _ => Err(Failure::protocol(format!("answered STAT with \"{}\"", printable(&text)))),
        }
    }

    /// The sizes of LIST by number; other lines are left out.
    async fn read_list(&mut self) -> Result<Vec<Entry>> {
        self.expect_ok("LIST").await?;
        let mut lines = Lines::default();
        let size = |rest: &[u8]| {
            let text = std::str::from_utf8(rest).ok()?;
            let size = text.split_ascii_whitespace().next()?;
            // GreenMail gives -1 for a message without a body.
            let is_negative = size.parse::<i64>().is_ok_and(|size| size < 0);
            if is_negative { Some(0) } else { size.parse().ok().map(|size: u64| size.min(SIZE_MAX)) }
        };
        let take = |line: &[u8]| lines.take(line, |number, rest| Some(Entry { number, size: size(rest)? }));
        self.wire.listing(MESSAGES_MAX, take).await?;
        lines.read_of("LIST")
    }

    /// The lasting names of UIDL by number; other lines are left out.
    async fn read_uidl(&mut self) -> Result<Vec<(u32, String)>> {
        match self.wire.status().await? {
            Status::Ok(_) => {}
            Status::Err(text) => {
                let what = "cannot tell its messages apart (it refuses UIDL)";
                return Err(refusal(what, Asked::Other, &text, Class::Refused)
                    .hint("POP3 without UIDL cannot be migrated safely; read this mailbox by IMAP, or ask for a server with UIDL"));
            }
            Status::Continue(_) => return Err(garbled("answered UIDL with \"+\"")),
        }
        let mut lines = Lines::default();
        let take = |line: &[u8]| lines.take(line, |number, id| Some((number, lasting_name(id)?)));
        self.wire.listing(MESSAGES_MAX, take).await?;
        lines.read_of("UIDL")
    }

    /// UIDL and LIST: the number and the unique id of each message that both name, with its size, in the order of the
    /// maildrop; and how many messages only one of them names.
    pub(super) async fn list(&mut self) -> Result<(Vec<(String, Entry)>, u32)> {
        let (ids, sizes) = if self.has(PIPELINING) {
            let asked = async {
                self.wire.send(b"UIDL\r\nLIST\r\n").await?;
                Ok((self.read_uidl().await?, self.read_list().await?))
            };
            let asked: Result<_> = asked.await;
            if asked.as_ref().is_err_and(ends_the_session) {
                self.wire.channel().note_suspected(PIPELINING);
            }
            asked?
        } else {
            self.send("UIDL").await?;
            let ids = self.read_uidl().await?;
            self.send("LIST").await?;
            (ids, self.read_list().await?)
        };
        Ok(join(ids, sizes))
    }

    /// STAT and LIST: how much the maildrop holds of what is to be carried; when messages arrived is not told. Reads no
    /// message and marks none.
    ///
    /// # Errors
    /// Any failure of the session; [`Class::Protocol`] when the answers are not POP3.
    pub async fn size_of_maildrop(&mut self, scope: &Scope) -> Result<MailboxSize> {
        let place = self.facts.endpoint.address();
        let size = async {
            let (messages, bytes) = self.stat().await?;
            self.send("LIST").await?;
            let listed = self.read_list().await?;
            let mut counting = Counting::new(scope);
            for entry in &listed {
                counting.add(entry.size, None);
            }
            let size = counting.size();
            // A server may count more than it lists.
            let unlisted = u64::from(messages).saturating_sub(listed.len() as u64);
            Ok(MailboxSize {
                folders: 1,
                messages: size.messages + unlisted,
                bytes: size.bytes.max(bytes.saturating_sub(size.left_out.bytes)),
                ..size
            })
        };
        size.await.at(|| place)
    }

    /// UIDL and LIST: the lasting name and the size of each message, in the order of the maildrop. Reads no message and marks
    /// none.
    ///
    /// # Errors
    /// Any failure of the session; [`Class::Refused`] when the server gives no lasting names.
    pub async fn list_maildrop(&mut self) -> Result<Vec<(String, u64)>> {
        let place = self.facts.endpoint.address();
        let (entries, _) = self.list().await.at(|| place)?;
        Ok(entries.into_iter().map(|(name, entry)| (name, entry.size)).collect())
    }

    /// Asks for the server's capabilities after the login (RFC 2449 §5 lets it list more).
    ///
    /// # Errors
    /// Any failure of the session.
    pub async fn ask_again(&mut self) -> Result<&ServerFacts> {
        let place = self.facts.endpoint.address();
        self.ask_capabilities().await.at(|| place)?;
        Ok(&self.facts)
    }

    /// Whether the server gives its messages lasting names (UIDL). Reads no message and marks none.
    ///
    /// # Errors
    /// Any failure of the session; [`Class::Protocol`] when the answer is not POP3.
    pub async fn has_unique_ids(&mut self) -> Result<bool> {
        let place = self.facts.endpoint.address();
        let asked = async {
            self.send("UIDL").await?;
            match self.read_uidl().await {
                Ok(_) => Ok(true),
                Err(failure) if failure.class == Class::Refused => Ok(false),
                Err(failure) => Err(failure),
            }
        };
        asked.await.at(|| place)
    }

    /// Takes back the marks that RETR may have left on messages (RSET), as far as they are kept until the session's end.
    pub(super) async fn reset(&mut self) {
        let _ = timeout(GOODBYE, self.ask("RSET")).await;
    }

    /// Says QUIT and waits a little for the answer. Nothing was marked for deletion, so nothing is deleted.
    pub async fn quit(&mut self) {
        // Whether the server says goodbye changes nothing any more.
        let _ = timeout(GOODBYE, self.ask("QUIT")).await;
    }

    async fn ask(&mut self, command: &str) -> Result<Status> {
        self.send(command).await?;
        self.wire.status().await
    }
}

/// Whether nothing more can be said in the session after this failure.
pub(super) fn ends_the_session(failure: &Failure) -> bool {
    use FailureCode as F;
    matches!(failure.code, Some(F::Garbled | F::Silent | F::ConnectionEnded))
}

/// A failure of a login without what the server repeated of its secrets.
fn clean<T>(outcome: Result<T>, cleaner: &Cleaner) -> Result<T> {
    outcome.map_err(|failure| Failure { what: cleaner.clean_text(&failure.what), ..failure })
}

/// The lines of a listing that could be read, and one of those that could not.
struct Lines<T> {
    read: Vec<T>,
    odd: Option<String>,
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self { read: Vec::new(), odd: None }
    }
}

impl<T> Lines<T> {
    /// Takes a line of a number, a blank and something.
    fn take(&mut self, line: &[u8], read: impl FnOnce(u32, &[u8]) -> Option<T>) {
        let line = line.trim_ascii();
        let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = line.split_at(digits);
        let number = std::str::from_utf8(number).ok().and_then(|digits| digits.parse().ok());
        let is_parted = rest.first().is_some_and(u8::is_ascii_whitespace);
        let number = number.filter(|number| *number > 0 && is_parted);
        match number.and_then(|number| read(number, rest.trim_ascii_start())) {
            Some(one) => self.read.push(one),
            None => self.odd = self.odd.take().or_else(|| Some(printable_bytes(line))),
        }
    }

    /// The entries that were read. An odd line is left out and stops no other, unless there is nothing else.
    fn read_of(self, command: &str) -> Result<Vec<T>> {
        match self.odd {
            Some(line) if self.read.is_empty() => Err(garbled(format!("listed \"{line}\" in {command}"))),
            Some(line) => {
                tracing::warn!(command, line, "a line of a listing cannot be read and is left out");
                Ok(self.read)
            }
            None => Ok(self.read),
        }
    }
}
