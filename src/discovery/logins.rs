//! Logins: each mailbox is tried at the approved servers, IMAP before POP3, until one lets it in and lists what it holds.
//! A refused password is counted before anything else is tried, so that nobody is locked out.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use tokio::time::sleep;

use super::autoconfig::login_name;
use super::collect::{Ranked, to_try};
use super::tried::{End, Read, Tried};
use super::{Chosen, LoginGuard, MailboxRequest, Request, Step, Watcher};
use crate::auth::credentials::Login;
use crate::drivers::measure::Measuring;
use crate::drivers::registry::{Way, driver};
use crate::model::address::Address;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::Attempt;
use crate::model::failure::{Class, Failure, Spoils};
use crate::model::fidelity::score;
use crate::model::protocol::Protocol;
use crate::model::service::SessionFacts;
use crate::net::network::Network;

/// Mailboxes that are logged in to at the same time.
const PARALLEL: usize = 8;
/// After so many mailboxes that refused a shared password, and none that took it, the others are not tried.
const SHARED_REFUSALS_MAX: usize = 3;

/// After so long it is told that a server is waited for.
const WORTH_A_WORD: Duration = Duration::from_secs(10);
/// Further sessions that the measuring of one mailbox may take where sessions end.
const SESSIONS_MAX: usize = 6;

/// All that the logins of one domain need.
pub(super) struct Logins<'a> {
    pub(super) network: &'a Network,
    pub(super) request: &'a Request,
    pub(super) ranked: &'a [Ranked],
    pub(super) guard: &'a dyn LoginGuard,
    pub(super) watcher: &'a dyn Watcher,
    /// Mailboxes that are done.
    pub(super) done: AtomicUsize,
    /// Mailboxes that were read.
    pub(super) read: AtomicUsize,
    /// Mailboxes whose password was refused everywhere.
    pub(super) refused: AtomicUsize,
    /// The words of each server to the first mailbox that was read from it.
    pub(super) sessions: Mutex<Vec<SessionFacts>>,
}

/// One try at a server.
struct Try<'r> {
    candidate: &'r Ranked,
    /// Whether it refused this login before.
    remembered: bool,
    /// The login name, where a published one takes the place of the mailbox's.
    name: Option<String>,
    /// Whether it is only made because a published name was refused.
    is_last_resort: bool,
}

/// Why one login brought nothing.
struct Unread {
    failure: Failure,
    /// The server took the password, and something else went wrong after it.
    accepted: bool,
}

impl Logins<'_> {
    /// Tries all mailboxes; the answers come in the order of the request.
    pub(super) async fn run(&self) -> Vec<Tried> {
        let mailboxes = &self.request.mailboxes;
        let mut tried = Vec::with_capacity(mailboxes.len());
        if self.request.shared_credentials {
            // One at a time until it is known whether the password is good for anything.
            for mailbox in mailboxes.iter().take(SHARED_REFUSALS_MAX) {
                tried.push(self.log_in(mailbox).await);
                if self.read.load(Ordering::Relaxed) > 0 {
                    break;
                }
            }
        }
        let rest: Vec<_> = mailboxes.iter().skip(tried.len()).map(|mailbox| self.log_in(mailbox)).collect();
        let mut rest = stream::iter(rest).buffered(PARALLEL);
        while let Some(one) = rest.next().await {
            tried.push(one);
        }
        tried
    }

    async fn log_in(&self, mailbox: &MailboxRequest) -> Tried {
        let tried = self.log_in_unwatched(mailbox).await;
        if tried.read.is_some() {
            self.read.fetch_add(1, Ordering::Relaxed);
        } else if is_refused(&tried) {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        self.watcher.saw(&Step::Logins { done, total: self.request.mailboxes.len() });
        tried
    }

    async fn log_in_unwatched(&self, mailbox: &MailboxRequest) -> Tried {
        let mut tried = Tried::default();
        let Some(login) = &mailbox.login else { return Tried { end: End::NoLogin, ..tried } };
        let by_token = login.proof.password().is_none();
        let attempt =
            |endpoint: &Endpoint, failure| Attempt { endpoint: endpoint.clone(), failure, by_token };
        let candidates = to_try(self.ranked, mailbox.chosen.as_ref());
        if candidates.is_empty() {
            return Tried { end: End::NoServer, ..tried };
        }
        let hopeless = self.read.load(Ordering::Relaxed) == 0
            && self.refused.load(Ordering::Relaxed) >= SHARED_REFUSALS_MAX;
        if self.request.shared_credentials && hopeless {
            return Tried { end: End::Stopped, ..tried };
        }
        let silent = self.find_silent(mailbox.chosen.as_ref());
        let mut postponed: Option<Protocol> = None;
        for Try { candidate, remembered, name, is_last_resort } in
            self.put_in_order(mailbox, login, candidates).await
        {
            let endpoint = &candidate.endpoint;
            // The password is right now: what refused it before may still know the mailbox, and would carry more.
            let better = |read: &Read| score(endpoint.protocol) > score(read.endpoint.protocol);
            if tried.read.as_ref().is_some_and(|read| !(remembered && better(read))) {
                continue;
            }
            // A server that is only busy has not said that the mailbox is not one of its own: a lesser protocol now
            // would leave folders behind for a passing trouble.
            if postponed.is_some_and(|protocol| protocol != endpoint.protocol) {
                break;
            }
            if let Some(silent) = silent.filter(|silent| {
                remembered && tried.read.is_none() && silent.endpoint.protocol != endpoint.protocol
            }) {
                let failure = Some(refused_before(silent).at(endpoint.address()));
                tried.attempts.push(attempt(endpoint, failure));
                continue;
            }
            // Refusals are counted for one mailbox and one password, whatever name is sent.
            let refusal = match self.guard.may_try(login).await {
                Ok(true) => None,
                Ok(false) if is_last_resort => break,
                Ok(false) => {
                    tried.end = End::Spent;
                    Some(spent())
                }
                Err(failure) => Some(failure),
            };
            if let Some(failure) = refusal {
                let failure = Some(failure.at(endpoint.address()));
                tried.attempts.push(attempt(endpoint, failure));
                break;
            }
            let sent = match (&name, &mailbox.name) {
                (Some(to), Some(from)) => login.with_name(from, to),
                _ => None,
            };
            match self.try_one(endpoint, sent.as_ref().unwrap_or(login), &mailbox.address).await {
                Ok(read) => {
                    self.guard.accepted(login, endpoint).await;
                    tried.attempts.push(attempt(endpoint, None));
                    tried.read = Some(Read { name, ..read });
                }
                Err(Unread { failure, accepted }) => {
                    if accepted {
                        self.guard.accepted(login, endpoint).await;
                    } else if failure.class == Class::Credentials {
                        self.guard.refused(login, endpoint).await;
                    } else {
                        self.guard.unanswered(login).await;
                    }
                    if matches!(failure.class, Class::Unreachable | Class::Throttled) {
                        postponed = Some(endpoint.protocol);
                    }
                    tried.attempts.push(attempt(endpoint, Some(failure)));
                    if accepted {
                        break;
                    }
                }
            }
        }
        tried
    }

    /// The candidates in the order in which they are tried, and whether each refused this very login before. Those that
    /// did come last: of a mailbox that only POP3 knows, IMAP would spend the last try else, whenever POP3 was silent. Where a
    /// login name is published, it is tried first, and the mailbox's own when every server has refused that.
    async fn put_in_order<'r>(
        &self,
        mailbox: &MailboxRequest,
        login: &Login,
        candidates: Vec<&'r Ranked>,
    ) -> Vec<Try<'r>> {
        let servers: Vec<&Endpoint> = candidates.iter().map(|candidate| &candidate.endpoint).collect();
        let all = self.ranked.iter().filter(|candidate| candidate.is_published() || candidate.is_usable());
        let several = all.into_iter().any(|one| one.endpoint.protocol != servers[0].protocol);
        let refused = if several { self.guard.refused_by(login, &servers).await } else { Vec::new() };
        let refused = refused.into_iter().chain(std::iter::repeat(false));
        let mut ordered: Vec<_> = candidates.into_iter().zip(refused).collect();
        ordered.sort_by_key(|(_, refused)| *refused);
        let by_name = |(candidate, remembered): &(&'r Ranked, bool)| Try {
            candidate,
            remembered: *remembered,
            name: self.published_name(mailbox, login, candidate),
            is_last_resort: false,
        };
        let mut tries: Vec<Try<'r>> = ordered.iter().map(by_name).collect();
        let by_own = |one: &Try<'r>| Try { name: None, is_last_resort: true, ..*one };
        tries.extend(tries.iter().filter(|one| one.name.is_some()).map(by_own).collect::<Vec<_>>());
        tries
    }

    /// The login name that is published for a server, where it is not the mailbox's own.
    fn published_name(&self, mailbox: &MailboxRequest, login: &Login, candidate: &Ranked) -> Option<String> {
        let (own, template) = (mailbox.name.as_ref()?, candidate.username.as_ref()?);
        let name = login_name(template, self.request, &mailbox.address).filter(|name| name != own)?;
        login.with_name(own, &name).map(|_| name)
    }

    /// A server that somebody named, that may see a password, and that does not answer now: it may know a mailbox that
    /// others refuse.
    fn find_silent(&self, chosen: Option<&Chosen>) -> Option<&Ranked> {
        let is_silent = |candidate: &&Ranked| {
            candidate.is_published()
                && candidate.approval.is_given()
                && candidate.answer.as_ref().is_err_and(|failure| failure.class == Class::Unreachable)
        };
        self.ranked.iter().find(is_silent).filter(|_| chosen.is_none())
    }

    /// Keeps what a server said, unless another mailbox heard it before.
    fn keep(&self, said: SessionFacts) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.iter().all(|known| known.endpoint != said.endpoint) {
            sessions.push(said);
        }
    }

    /// Waits for something, and says so once it takes long.
    async fn told_if_long<T>(
        &self,
        something: impl Future<Output = T>,
        endpoint: &Endpoint,
        mailbox: &Address,
    ) -> T {
        tokio::pin!(something);
        tokio::select! {
            done = &mut something => return done,
            () = sleep(WORTH_A_WORD) => {}
        }
        self.watcher.saw(&Step::Waiting { server: endpoint.address(), mailbox: mailbox.clone() });
        something.await
    }

    /// Logs in to a mailbox and measures it. Where one session does not bring that to its end, another one goes on.
    async fn try_one(&self, endpoint: &Endpoint, login: &Login, mailbox: &Address) -> Result<Read, Unread> {
        let after = |failure| Unread { failure, accepted: true };
        let driver = driver(endpoint.protocol);
        let way = Way { network: self.network, endpoint, trust: &self.request.trust };
        let connect = async || driver.greet(way).await?.login(login).await;
        let mut session = connect().await.map_err(|failure| Unread { failure, accepted: false })?;
        let mut measuring = Measuring::default();
        let mut further = 0..if driver.measures_in_parts() { SESSIONS_MAX } else { 0 };
        loop {
            let measured = session.measure(&self.request.scope, &self.request.rules, &mut measuring);
            match self.told_if_long(measured, endpoint, mailbox).await {
                Ok(()) => break,
                Err(failure) if ends_one_session(&failure) && further.next().is_some() => {
                    session = connect().await.map_err(after)?;
                }
                Err(failure) => {
                    session.close().await;
                    return Err(after(failure));
                }
            }
        }
        let account = session.ask_account().await.ok();
        session.close().await;
        let unique_ids = measuring.has_unique_ids();
        let mut size = measuring.into_size();
        if let Some(account) = account {
            (size.quota, size.foreign) = (account.quota, account.foreign);
            self.keep(SessionFacts { unique_ids, ..account.session });
        }
        Ok(Read { endpoint: endpoint.clone(), size, unique_ids, name: None })
    }
}

/// Whether a failure ended one session, so that another may go on.
fn ends_one_session(failure: &Failure) -> bool {
    failure.spoils() == Spoils::Session && failure.class != Class::Throttled
}

/// Whether a mailbox was refused by every server that had a say.
pub(super) fn is_refused(tried: &Tried) -> bool {
    let is_refusal = |attempt: &Attempt| {
        attempt.failure.as_ref().is_some_and(|f| matches!(f.class, Class::Credentials | Class::Refused))
    };
    let is_password =
        |attempt: &Attempt| attempt.failure.as_ref().is_some_and(|f| f.class == Class::Credentials);
    tried.end == End::Done
        && tried.read.is_none()
        && tried.attempts.iter().any(is_password)
        && tried.attempts.iter().all(is_refusal)
}

fn refused_before(silent: &Ranked) -> Failure {
    let what = format!(
        "was not tried: it refused this password before, and {} at {} does not answer now",
        silent.endpoint.protocol,
        silent.endpoint.address()
    );
    Failure::new(Class::Credentials, what)
        .hint("see to the silent server, which may know the mailbox, or correct the password in the Secret")
}

/// The remedy for a login that is not tried any more.
pub const SPENT_REMEDY: &str = "correct the password in the Secret, or wait a day, since two refusals are the most that is risked; if the \
                                server was mended and the password is right, `mailferry run -f … --state … --retry-logins` tries it \
                                once more";

fn spent() -> Failure {
    Failure::new(Class::Credentials, "was not tried: the password was refused often enough for a day")
        .hint(SPENT_REMEDY)
}
