//! One POP3 session: greeting, CAPA (RFC 2449), STLS (RFC 2595), login (RFC 1939, RFC 5034), and the questions that change
//! nothing. There is no DELE here, and RETR only where it must be: see [`super::source`].

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::timeout;

use super::wire::{Status, Wire, refusal};
use crate::mail::credentials::{Login, Proof};
use crate::mail::network::Network;
use crate::mail::oauth::Bearer;
use crate::mail::sasl::{Exchange, read_reason};
use crate::mail::tls::Trust;
use crate::model::capability::Capabilities;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{MailboxSize, ServerFacts};
use crate::model::failure::{Class, Failure, Place, Result};
use crate::model::protocol::Tls;
use crate::model::secret::Secret;
use crate::model::text::printable;

/// The most messages that one maildrop may list.
pub(super) const MESSAGES_MAX: usize = 2_000_000;
/// The most lines of CAPA.
const CAPABILITIES_MAX: usize = 200;
/// The longest unique id that is taken, in bytes; RFC 1939 says 70.
const UIDL_MAX: usize = 255;
/// The longest AUTH command with an initial response, in bytes with its end (RFC 5034 §4).
const AUTH_LINE_MAX: usize = 255;
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
        let channel = network.connect(endpoint, trust).await?;
        Self::begin(Wire::new(channel), trust, endpoint).await.at(|| endpoint.address())
    }

    async fn begin(mut wire: Wire, trust: &Trust, endpoint: &Endpoint) -> Result<Self> {
        let greeting = match wire.status().await? {
            Status::Ok(text) => printable(&text),
            Status::Err(text) => return Err(refusal("sent us away", &text, Class::Unreachable)),
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

    /// What the server said of itself.
    pub fn facts(&self) -> &ServerFacts {
        &self.facts
    }

    /// Whether the server said that it can do something.
    pub(super) fn has(&self, capability: &str) -> bool {
        self.facts.capabilities.has(capability)
    }

    async fn ask_capabilities(&mut self) -> Result<()> {
        self.send("CAPA").await?;
        if !matches!(self.wire.status().await?, Status::Ok(_)) {
            return Ok(());
        }
        let mut words = Vec::new();
        let mut mechanisms = BTreeSet::new();
        let mut login_delay = None;
        let take = |line: &str| {
            let mut parts = line.split_ascii_whitespace();
            let Some(word) = parts.next() else { return Ok(()) };
            if word.eq_ignore_ascii_case("SASL") {
                let fit = parts.filter(|m| m.len() <= 20 && m.chars().all(|c| c.is_ascii_graphic()));
                mechanisms.extend(fit.map(str::to_ascii_uppercase));
            } else if word.eq_ignore_ascii_case("LOGIN-DELAY") {
                login_delay = parts.next().and_then(|n| n.parse().ok()).map(Duration::from_secs);
            }
            words.push(word.to_owned());
            Ok(())
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
        self.log_in_unplaced(login).await.at(|| place)
    }

    async fn log_in_unplaced(&mut self, login: &Login) -> Result<()> {
        let password = login.proof.password().map(Secret::expose);
        let texts = [Some(login.user.as_str()), login.authzid.as_deref(), password];
        if texts.into_iter().flatten().any(|text| text.contains(['\r', '\n', '\0'])) {
            return Err(Failure::configuration("a user name or password holds a line end or NUL character")
                .hint("write the Secret again without it; `echo -n` adds no line end"));
        }
        match &login.proof {
            Proof::Password(password) => self.log_in_with_password(login, password).await?,
            Proof::Token(bearer) => self.log_in_with_token(login, bearer).await?,
        }
        // RFC 2449 §5: some capabilities are announced only in the TRANSACTION state.
        self.ask_capabilities().await
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
            return self.authenticate(login, exchange).await;
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
            match self.authenticate(login, exchange).await {
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

    /// What the answer to a login means.
    fn read_answer(&self, login: &Login, answer: Status, reason: Option<String>) -> Result<()> {
        let text = match answer {
            Status::Ok(_) => return Ok(()),
            Status::Continue(_) => return Err(Failure::protocol("asked for more than a password")),
            Status::Err(text) => text,
        };
        let text = reason.map_or_else(|| text.clone(), |reason| format!("{text} ({reason})"));
        let what = format!("refused the login of {}", printable(&login.who()));
        let failure = refusal(&what, &text, Class::Credentials);
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
            Status::Err(text) => Err(refusal(&format!("refused {command}"), &text, Class::Protocol)),
            Status::Continue(_) => Err(Failure::protocol(format!("answered {command} with \"+\""))),
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

    async fn read_list(&mut self) -> Result<Vec<Entry>> {
        self.expect_ok("LIST").await?;
        let mut entries = Vec::new();
        let take = |line: &str| {
            entries.push(
                parse_pair(line)
                    .and_then(|(number, size)| Some(Entry { number, size: size.parse().ok()? }))
                    .ok_or_else(|| Failure::protocol(format!("listed \"{}\" in LIST", printable(line))))?,
            );
            Ok(())
        };
        self.wire.listing(MESSAGES_MAX, take).await?;
        Ok(entries)
    }

    async fn read_uidl(&mut self) -> Result<Vec<(u32, String)>> {
        match self.wire.status().await? {
            Status::Ok(_) => {}
            Status::Err(text) => {
                return Err(refusal("cannot tell its messages apart (it refuses UIDL)", &text, Class::Refused)
                    .hint("POP3 without UIDL cannot be migrated safely; read this mailbox by IMAP, or ask for a server with UIDL"));
            }
            Status::Continue(_) => return Err(Failure::protocol("answered UIDL with \"+\"")),
        }
        let mut entries = Vec::new();
        let take = |line: &str| {
            let fit = |id: &str| id.len() <= UIDL_MAX && id.chars().all(|c| c.is_ascii_graphic());
            entries.push(
                parse_pair(line)
                    .filter(|(_, id)| fit(id))
                    .map(|(number, id)| (number, id.to_owned()))
                    .ok_or_else(|| Failure::protocol(format!("listed \"{}\" in UIDL", printable(line))))?,
            );
            Ok(())
        };
        self.wire.listing(MESSAGES_MAX, take).await?;
        Ok(entries)
    }

    /// UIDL and LIST: the number and the unique id of each message with its size, in the order of the maildrop.
    pub(super) async fn list(&mut self) -> Result<Vec<(String, Entry)>> {
        let (ids, sizes) = if self.has("PIPELINING") {
            self.wire.send(b"UIDL\r\nLIST\r\n").await?;
            (self.read_uidl().await?, self.read_list().await?)
        } else {
            self.send("UIDL").await?;
            let ids = self.read_uidl().await?;
            self.send("LIST").await?;
            (ids, self.read_list().await?)
        };
        join(ids, sizes)
    }

    /// STAT and LIST: how much the maildrop holds. Reads no message and marks none.
    ///
    /// # Errors
    /// Any failure of the session; [`Class::Protocol`] when the answers are not POP3.
    pub async fn size_of_maildrop(&mut self) -> Result<MailboxSize> {
        let place = self.facts.endpoint.address();
        let size = async {
            let (messages, bytes) = self.stat().await?;
            self.send("LIST").await?;
            let largest = self.read_list().await?.iter().map(|entry| entry.size).max().unwrap_or(0);
            Ok(MailboxSize {
                folders: 1,
                messages: messages.into(),
                bytes,
                largest,
                ..MailboxSize::default()
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
        let entries = self.list().await.at(|| place)?;
        Ok(entries.into_iter().map(|(name, entry)| (name, entry.size)).collect())
    }

    /// What the server says it can do now that somebody is logged in (RFC 2449 §5 lets it say more).
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

    /// Says QUIT and waits a little for the answer. Nothing was marked for deletion, so nothing is deleted.
    pub async fn quit(&mut self) {
        let goodbye = async {
            self.send("QUIT").await?;
            self.wire.status().await
        };
        // Whether the server says goodbye changes nothing any more.
        let _ = timeout(GOODBYE, goodbye).await;
    }
}

fn parse_pair(line: &str) -> Option<(u32, &str)> {
    let mut parts = line.split_ascii_whitespace();
    let number = parts.next()?.parse().ok().filter(|n| *n > 0)?;
    Some((number, parts.next()?))
}

/// Joins UIDL and LIST. RFC 1939 §7 lets a server give two identical messages the same id: the second of them in the
/// maildrop becomes `id#2`, and so on. If one of them goes, the last number goes, which is right for identical messages.
fn join(mut ids: Vec<(u32, String)>, mut sizes: Vec<Entry>) -> Result<Vec<(String, Entry)>> {
    let disagree = || Failure::protocol("lists other messages in UIDL than in LIST, or one twice");
    ids.sort_unstable_by_key(|(number, _)| *number);
    sizes.sort_unstable_by_key(|entry| entry.number);
    if ids.len() != sizes.len() || ids.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(disagree());
    }
    let mut taken: HashSet<String> = ids.iter().map(|(_, id)| id.clone()).collect();
    let mut counts: HashMap<String, u32> = HashMap::new();
    let mut joined = Vec::with_capacity(ids.len());
    for ((number, id), entry) in ids.into_iter().zip(sizes) {
        if number != entry.number {
            return Err(disagree());
        }
        let count = counts.entry(id.clone()).or_insert(0);
        *count += 1;
        let mut name = id.clone();
        if *count > 1 {
            name = format!("{id}#{count}");
            while !taken.insert(name.clone()) {
                *count += 1;
                name = format!("{id}#{count}");
            }
        }
        joined.push((name, entry));
    }
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ids_become_different_names_in_a_stable_way() {
        let ids = ["a", "b", "a", "a#2", "a"].iter().zip(1..).map(|(id, n)| (n, (*id).to_owned())).collect();
        let sizes = (1..=5).map(|number| Entry { number, size: 1 }).collect();
        let names: Vec<_> = join(ids, sizes).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b", "a#3", "a#2", "a#4"]);
    }

    #[test]
    fn listings_that_disagree_are_a_protocol_failure() {
        let one = |n| vec![Entry { number: n, size: 1 }];
        for (ids, sizes) in [
            (vec![(1, "a".to_owned())], one(2)),
            (vec![(1, "a".to_owned()), (2, "b".to_owned())], one(1)),
            (vec![(1, "a".to_owned()), (1, "b".to_owned())], [one(1), one(1)].concat()),
        ] {
            assert_eq!(join(ids, sizes).unwrap_err().class, Class::Protocol);
        }
    }
}
