//! Counts refused logins over all runs and workers that share a store: at most two for each credential version at each side
//! of the migration in 24 hours, so that no account is ever locked by us. The digest that is kept tells a credential apart from its successor and nothing
//! else. A login under way is marked too, so that two workers cannot both take the last try.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{OnceCell, oneshot};
use tokio::time::sleep;

use super::clock::SystemClock;
use crate::auth::credentials::Login;
use crate::discovery::{Clock, LoginGuard, SPENT_REMEDY};
use crate::ledger::{LoginMark, LoginMarks};
use crate::model::endpoint::Endpoint;
use crate::model::failure::{Class, Failure, FailureCode, Result, Side};
use crate::model::random::random;
use crate::model::secret::Secret;
use crate::model::text::printable;

/// Refused logins that a credential version may have in [`PERIOD`].
const REFUSALS_MAX: usize = 2;
/// Refused logins that an administrator's password may have in [`PERIOD`], whichever mailboxes it was to open: a server that
/// locks accounts locks the administrator's.
const SHARED_MAX: usize = 3;
/// How long a refused login counts.
const PERIOD: SignedDuration = SignedDuration::from_hours(24);
/// How long a login may be under way; after that whoever began it is taken for dead.
const UNDER_WAY_MAX: SignedDuration = SignedDuration::from_mins(1);
/// How often it is looked whether a login of somebody else has ended.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The count of refused logins of a store.
pub struct DurableGuard {
    marks: Arc<dyn LoginMarks>,
    salt: OnceCell<[u8; 32]>,
    /// Tells the marks of this process from others.
    holder: OnceCell<String>,
    /// Keys that a server accepted while this process runs: they need no marks.
    proven: Mutex<BTreeSet<String>>,
    /// Administrators' passwords that a server refused for a mailbox since it accepted them for one.
    doubted: Mutex<BTreeSet<String>>,
    /// Keys of logins at servers that are known to have refused them.
    remembered: Mutex<BTreeSet<String>>,
    /// Marks of logins under way, where nobody else uses the store: so none of them has to be brought to its disk.
    under_way: Option<Arc<Mutex<Vec<LoginMark>>>>,
    /// Since when refusals count, where a person wants a login tried once more than is risked otherwise.
    once_more: Option<Timestamp>,
}

/// The keys that a login is counted under.
#[derive(Clone)]
struct Keys {
    /// This user with this password.
    own: String,
    /// An administrator's password.
    administrator: Option<Shared>,
}

/// A password that opens many mailboxes.
#[derive(Clone)]
struct Shared {
    /// That password, whichever mailbox it opens.
    any: String,
    /// That it opened this mailbox. It counts nothing: whether the password is refused for mailboxes that are not there says
    /// nothing of one that it opened.
    opened: String,
}

impl Keys {
    fn all(&self) -> Vec<String> {
        let shared = self.administrator.iter().flat_map(|shared| [&shared.any, &shared.opened]);
        std::iter::once(&self.own).chain(shared).cloned().collect()
    }

    /// Those under which refusals are counted.
    fn counted(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.own).chain(self.administrator.iter().map(|shared| &shared.any))
    }
}

/// The answer to one who wants to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Go,
    /// The tries that are left are being made by others.
    Wait,
    Spent,
}

/// The fate of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// Somebody wants to try it.
    Wanted,
    Refused,
    Accepted,
    /// It ended without a word on the password.
    Unanswered,
}

/// The marks of one login, with the rules.
struct Tally<'a> {
    marks: &'a mut Vec<LoginMark>,
    keys: &'a Keys,
    holder: &'a str,
    now: Timestamp,
    /// Since when refusals count, one of them being enough.
    once_more: Option<Timestamp>,
}

impl Tally<'_> {
    fn forget_old(&mut self) {
        let now = self.now;
        self.marks.retain(|mark| {
            let lasts = if mark.holder.is_some() { UNDER_WAY_MAX } else { PERIOD };
            now.duration_since(mark.at) < lasts
        });
    }

    /// How many marks of a key are not of a login under way.
    fn settled(&self, key: &str) -> usize {
        let counts = |at: Timestamp| self.once_more.is_none_or(|since| at >= since);
        self.marks.iter().filter(|mark| mark.key == key && mark.holder.is_none() && counts(mark.at)).count()
    }

    /// How many refusals are risked where so many are otherwise.
    fn most(&self, otherwise: usize) -> usize {
        if self.once_more.is_some() { 1 } else { otherwise }
    }

    fn under_way(&self, key: &str) -> usize {
        self.marks.iter().filter(|mark| mark.key == key && mark.holder.is_some()).count()
    }

    fn answer(&self) -> Answer {
        let shared = self.keys.administrator.as_ref().filter(|shared| self.settled(&shared.opened) == 0);
        let shared = shared.map(|shared| (shared.any.as_str(), self.most(SHARED_MAX)));
        let limits = || std::iter::once((self.keys.own.as_str(), self.most(REFUSALS_MAX))).chain(shared);
        if limits().any(|(key, max)| self.settled(key) >= max) {
            Answer::Spent
        } else if limits().any(|(key, max)| self.settled(key) + self.under_way(key) >= max) {
            Answer::Wait
        } else {
            Answer::Go
        }
    }

    fn push(&mut self, key: &str, holder: Option<&str>) {
        let mark = LoginMark { key: key.to_owned(), at: self.now, holder: holder.map(str::to_owned) };
        self.marks.push(mark);
    }

    /// Changes the marks by an event. The answer is meant for one who wants to try.
    fn take(&mut self, event: Event) -> Answer {
        self.forget_old();
        if event != Event::Wanted {
            self.end();
        }
        let answer = self.answer();
        let holder = match event {
            Event::Wanted if answer == Answer::Go => Some(self.holder),
            Event::Refused => None,
            Event::Accepted => {
                self.marks.clear();
                if let Some(shared) = &self.keys.administrator {
                    self.push(&shared.opened, None);
                }
                return answer;
            }
            Event::Wanted | Event::Unanswered => return answer,
        };
        if let (Event::Refused, Some(shared)) = (event, &self.keys.administrator) {
            self.marks.retain(|mark| mark.key != shared.opened);
        }
        for key in self.keys.counted() {
            self.push(key, holder);
        }
        answer
    }

    /// Takes away the mark of a login of ours that was under way.
    fn end(&mut self) {
        for key in self.keys.counted() {
            let ours = |mark: &LoginMark| mark.key == *key && mark.holder.as_deref() == Some(self.holder);
            if let Some(at) = self.marks.iter().rposition(ours) {
                self.marks.remove(at);
            }
        }
    }
}

impl DurableGuard {
    /// The count that a store keeps, of which no other process knows while this one has it.
    pub fn alone(marks: Arc<dyn LoginMarks>) -> Self {
        Self { under_way: Some(Arc::default()), ..Self::new(marks) }
    }

    /// The count that a store keeps for all who use it.
    pub fn new(marks: Arc<dyn LoginMarks>) -> Self {
        Self {
            marks,
            salt: OnceCell::new(),
            holder: OnceCell::new(),
            proven: Mutex::default(),
            doubted: Mutex::default(),
            remembered: Mutex::default(),
            under_way: None,
            once_more: None,
        }
    }

    /// Lets each login be refused once more, whatever was refused before: for a person who mended the server or made the mailbox.
    #[must_use]
    pub fn once_more(self) -> Self {
        Self { once_more: Some(SystemClock.now()), ..self }
    }

    /// Makes sure that logins can be counted, before anything else is done.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn check(&self) -> Result<()> {
        self.salt().await.map(drop)
    }

    /// The store's salt, which makes digests of credentials useless elsewhere.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn salt(&self) -> Result<&[u8; 32]> {
        self.salt.get_or_try_init(|| self.marks.salt()).await
    }

    async fn holder(&self) -> Result<String> {
        let make = async || Ok(format!("{:016x}", u64::from_ne_bytes(random()?)));
        self.holder.get_or_try_init(make).await.cloned()
    }

    /// The keys of a login with a password. A token has none: it ends by itself, and no account is locked for one that
    /// was refused; what is mended then is a permission at the server, which no Secret shows.
    async fn keys(&self, login: &Login) -> Result<Option<Keys>> {
        let Some(password) = login.proof.password() else { return Ok(None) };
        let salt = self.salt().await?;
        let password = password.expose();
        // A password that one side refuses may be right at the other, and what one accepts says nothing of the other.
        let side = if login.side == Side::Destination { "destination\0" } else { "" };
        let own = Secret::new(format!("{side}{}\0{password}", login.who())).version(salt);
        let administrator = login.administrator.as_ref().map(|name| Shared {
            any: Secret::new(format!("{side}administrator\0{name}\0{password}")).version(salt),
            opened: Secret::new(format!("{side}opened\0{}\0{password}", login.who())).version(salt),
        });
        Ok(Some(Keys { own, administrator }))
    }

    /// The key of a login at one server. It counts nothing: it tells which server it was that refused.
    async fn key_at(&self, login: &Login, server: &Endpoint) -> Result<Option<String>> {
        let Some(password) = login.proof.password() else { return Ok(None) };
        let text = format!("at {server}\0{}\0{}", login.who(), password.expose());
        Ok(Some(Secret::new(text).version(self.salt().await?)))
    }

    fn remembered(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn find_refused(&self, login: &Login, servers: &[&Endpoint]) -> Result<Vec<bool>> {
        let mut keys = Vec::new();
        for server in servers {
            let Some(key) = self.key_at(login, server).await? else { return Ok(Vec::new()) };
            keys.push(key);
        }
        let (told, answer) = oneshot::channel();
        let oldest = self.once_more.unwrap_or(SystemClock.now() - PERIOD);
        let work = move |marks: &mut Vec<LoginMark>| {
            let known: BTreeSet<_> =
                marks.iter().filter(|mark| mark.at > oldest).map(|mark| mark.key.clone()).collect();
            let _ = told.send(known);
        };
        self.marks.change_marks(&keys, SystemClock.now() - PERIOD, Box::new(work)).await?;
        let known =
            answer.await.map_err(|e| Failure::internal("the store did not show the marks").caused_by(&e))?;
        let refused = keys.iter().map(|key| known.contains(key)).collect();
        self.remembered().extend(known);
        Ok(refused)
    }

    /// Keeps which server it was that refused a login, or that it refuses it no more.
    async fn remember(&self, login: &Login, server: &Endpoint, refused: bool) -> Result<()> {
        let Some(key) = self.key_at(login, server).await? else { return Ok(()) };
        if refused {
            self.remembered().insert(key.clone());
        } else if !self.remembered().remove(&key) {
            return Ok(());
        }
        let at = SystemClock.now();
        let mark = refused.then(|| LoginMark { key: key.clone(), at, holder: None });
        let work = move |marks: &mut Vec<LoginMark>| {
            marks.clear();
            marks.extend(mark);
        };
        self.marks.change_marks(&[key], at - PERIOD, Box::new(work)).await
    }

    fn proven(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doubted(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.doubted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the marks of a login in one step.
    async fn count(&self, keys: &Keys, event: Event) -> Result<Answer> {
        let (told, answer) = oneshot::channel();
        let (now, holder, keys_here) = (SystemClock.now(), self.holder().await?, keys.clone());
        let (under_way, once_more) = (self.under_way.clone(), self.once_more);
        let work = move |marks: &mut Vec<LoginMark>| {
            let mut ours =
                under_way.as_deref().map(|ours| ours.lock().unwrap_or_else(PoisonError::into_inner));
            let all = keys_here.all();
            if let Some(ours) = &mut ours {
                marks.extend(ours.extract_if(.., |mark| all.contains(&mark.key)));
            }
            let answer = Tally { marks, keys: &keys_here, holder: &holder, now, once_more }.take(event);
            if let Some(ours) = &mut ours {
                ours.extend(marks.extract_if(.., |mark| mark.holder.as_ref() == Some(&holder)));
            }
            let _ = told.send(answer);
        };
        self.marks.change_marks(&keys.all(), now - PERIOD, Box::new(work)).await?;
        answer.await.map_err(|e| Failure::internal("the store did not change the marks").caused_by(&e))
    }

    /// Keeps how a login ended.
    async fn keep(&self, login: &Login, event: Event) {
        let kept = async {
            let Some(keys) = self.keys(login).await? else { return Ok(()) };
            self.count(&keys, event).await.map(drop)
        };
        if let Err(failure) = kept.await {
            tracing::warn!(failure = %failure.sentence(), "how a login ended cannot be kept");
        }
    }

    async fn keep_refused(&self, login: &Login) {
        if let Ok(Some(keys)) = self.keys(login).await {
            self.proven().remove(&keys.own);
            self.doubted().extend(keys.administrator.map(|shared| shared.any));
        }
        self.keep(login, Event::Refused).await;
    }

    /// The password is proven right: what was refused before was the protocol or another mailbox, and a server's own
    /// count starts anew.
    async fn keep_accepted(&self, login: &Login) {
        let Ok(Some(keys)) = self.keys(login).await else { return };
        let is_new = self.proven().insert(keys.own);
        let was_doubted = keys.administrator.is_some_and(|shared| self.doubted().remove(&shared.any));
        if is_new || was_doubted {
            self.keep(login, Event::Accepted).await;
        }
    }

    /// Makes a login if it is still allowed, and counts it if it is refused.
    ///
    /// # Errors
    /// Those of the login and of the store; [`Class::Credentials`] without a login when there were refusals enough.
    pub async fn hold<T>(&self, login: &Login, attempt: impl Future<Output = Result<T>>) -> Result<T> {
        if !self.may_try(login).await? {
            let who = printable(&login.who());
            let what =
                format!("the password of {who} was refused often enough for a day and is not tried again");
            let failure = Failure::new(Class::Credentials, what).code(FailureCode::TriesSpent);
            return Err(failure.hint(SPENT_REMEDY));
        }
        let outcome = attempt.await;
        match &outcome {
            Ok(_) => self.keep_accepted(login).await,
            Err(failure) if failure.class == Class::Credentials => self.keep_refused(login).await,
            Err(_) => self.unanswered(login).await,
        }
        outcome
    }
}

#[async_trait]
impl LoginGuard for DurableGuard {
    async fn may_try(&self, login: &Login) -> Result<bool> {
        let Some(keys) = self.keys(login).await? else { return Ok(true) };
        loop {
            if self.proven().contains(&keys.own) {
                return Ok(true);
            }
            match self.count(&keys, Event::Wanted).await? {
                Answer::Go => return Ok(true),
                Answer::Spent => return Ok(false),
                Answer::Wait => sleep(LOOK_EVERY).await,
            }
        }
    }

    async fn refused_by(&self, login: &Login, servers: &[&Endpoint]) -> Vec<bool> {
        self.find_refused(login, servers).await.unwrap_or_else(|failure| {
            tracing::warn!(failure = %failure.sentence(), "which servers refused a login cannot be read");
            Vec::new()
        })
    }

    async fn refused(&self, login: &Login, server: &Endpoint) {
        self.keep_refused(login).await;
        if let Err(failure) = self.remember(login, server, true).await {
            tracing::warn!(failure = %failure.sentence(), "which server refused a login cannot be kept");
        }
    }

    async fn accepted(&self, login: &Login, server: &Endpoint) {
        self.keep_accepted(login).await;
        if let Err(failure) = self.remember(login, server, false).await {
            tracing::warn!(failure = %failure.sentence(), "that a server refuses a login no more cannot be kept");
        }
    }

    async fn unanswered(&self, login: &Login) {
        self.keep(login, Event::Unanswered).await;
    }
}

/// Lets the mailboxes of an administrator log in one at a time until one of them was accepted, so that a wrong password is
/// counted before it is tried again.
#[derive(Debug, Default)]
pub struct Turnstile {
    open: AtomicBool,
    turn: tokio::sync::Mutex<()>,
}

impl Turnstile {
    /// Waits for a turn; `None` once somebody was accepted.
    pub async fn enter(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if self.open.load(Ordering::Acquire) {
            return None;
        }
        let turn = self.turn.lock().await;
        if self.open.load(Ordering::Acquire) { None } else { Some(turn) }
    }

    /// Whether somebody was accepted.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Somebody was accepted.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::credentials::Credentials;
    use crate::ledger::sqlite::SqliteStore;
    use crate::model::protocol::{Protocol, Tls};

    /// A guard as a process of its own would have it.
    fn opened(directory: &std::path::Path) -> DurableGuard {
        DurableGuard::new(Arc::new(SqliteStore::new(directory, directory.join("logins.sqlite"))))
    }

    fn server(protocol: Protocol) -> Endpoint {
        Endpoint::new(protocol, "mail.x.test", protocol.default_port(Tls::Implicit), Tls::Implicit)
    }

    async fn may(guard: &DurableGuard, login: &Login) -> bool {
        guard.may_try(login).await.unwrap()
    }

    async fn refuse(guard: &DurableGuard, login: &Login) {
        assert!(may(guard, login).await);
        guard.refused(login, &server(Protocol::Imap)).await;
    }

    #[tokio::test]
    async fn who_has_the_store_alone_writes_refusals_down_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::new(directory.path(), directory.path().join("logins.sqlite")));
        let guard = DurableGuard::alone(store);
        let login = Login::own("anna".into(), Secret::new("hunter2"));
        guard.check().await.unwrap();
        let file = || std::fs::read(directory.path().join("logins.sqlite")).unwrap();
        let before = file();
        assert!(may(&guard, &login).await);
        guard.unanswered(&login).await;
        // Two under way take both tries; a third waits until one of them ends.
        assert!(may(&guard, &login).await && may(&guard, &login).await);
        let waiting = tokio::time::timeout(Duration::from_millis(50), guard.may_try(&login)).await;
        assert!(waiting.is_err(), "{waiting:?}");
        guard.unanswered(&login).await;
        assert!(may(&guard, &login).await);
        assert!(file() == before, "logins under way are nobody else's business");
        guard.refused(&login, &server(Protocol::Imap)).await;
        guard.refused(&login, &server(Protocol::Imap)).await;
        assert!(file() != before);
        assert!(!may(&guard, &login).await && !may(&opened(directory.path()), &login).await);
    }

    #[tokio::test]
    async fn a_password_is_refused_twice_a_day_and_a_new_one_starts_anew() {
        let directory = tempfile::tempdir().unwrap();
        let guard = opened(directory.path());
        let login = |password: &str| Login::own("anna".into(), Secret::new(password));
        refuse(&guard, &login("wrong")).await;
        assert!(may(&guard, &login("wrong")).await);
        guard.unanswered(&login("wrong")).await;
        refuse(&guard, &login("wrong")).await;
        assert!(!may(&guard, &login("wrong")).await && may(&guard, &login("right")).await);
        // At the other side it may be right, and what that side says of it counts there alone.
        let there = login("wrong").at_destination();
        assert!(may(&guard, &there).await);
        guard.accepted(&there, &server(Protocol::Imap)).await;
        assert!(!may(&guard, &login("wrong")).await);
        let bytes = std::fs::read(directory.path().join("logins.sqlite")).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("anna") && !text.contains("wrong"));
        let again = opened(directory.path());
        assert!(!may(&again, &login("wrong")).await, "the count survives");
        again.accepted(&login("wrong"), &server(Protocol::Imap)).await;
        assert!(may(&guard, &login("wrong")).await);
    }

    #[tokio::test]
    async fn a_person_may_have_a_login_tried_once_more() {
        let directory = tempfile::tempdir().unwrap();
        let guard = opened(directory.path());
        let login = Login::own("anna".into(), Secret::new("right by now"));
        refuse(&guard, &login).await;
        refuse(&guard, &login).await;
        assert!(!may(&guard, &login).await);
        let again = opened(directory.path()).once_more();
        assert_eq!(again.refused_by(&login, &[&server(Protocol::Imap)]).await, [false]);
        refuse(&again, &login).await;
        assert!(!may(&again, &login).await, "once");
        let accepted = opened(directory.path()).once_more();
        assert!(may(&accepted, &login).await);
        accepted.accepted(&login, &server(Protocol::Imap)).await;
        assert!(may(&opened(directory.path()), &login).await);
    }

    #[tokio::test]
    async fn it_is_known_which_server_refused_until_it_accepts() {
        let directory = tempfile::tempdir().unwrap();
        let login = |password: &str| Login::own("anna".into(), Secret::new(password));
        let (imap, pop3) = (server(Protocol::Imap), server(Protocol::Pop3));
        let both = async |password: &str| {
            opened(directory.path()).refused_by(&login(password), &[&imap, &pop3]).await
        };
        assert_eq!(both("old").await, [false, false]);
        let guard = opened(directory.path());
        refuse(&guard, &login("old")).await;
        assert_eq!(both("old").await, [true, false], "it survives");
        assert_eq!(both("new").await, [false, false], "another password was never refused");
        guard.accepted(&login("old"), &pop3).await;
        assert_eq!(both("old").await, [true, false], "POP3 says nothing of IMAP");
        guard.accepted(&login("old"), &imap).await;
        assert_eq!(both("old").await, [false, false]);
        let bytes = std::fs::read(directory.path().join("logins.sqlite")).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("anna") && !text.contains("mail.x.test"));
    }

    #[tokio::test]
    async fn an_administrator_is_refused_three_times_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let guard = opened(directory.path());
        let master = Credentials::Master {
            user: "admin".into(),
            password: Secret::new("p"),
            separator: Some("*".into()),
        };
        let login = |mailbox: &str| master.login(&mailbox.parse().unwrap(), mailbox, false).unwrap();
        for mailbox in ["a@x.test", "b@x.test", "c@x.test"] {
            refuse(&guard, &login(mailbox)).await;
        }
        for mailbox in ["d@x.test", "a@x.test"] {
            assert!(!may(&guard, &login(mailbox)).await, "{mailbox}");
            assert!(!may(&opened(directory.path()), &login(mailbox)).await, "{mailbox}, in another run");
        }
        guard.accepted(&login("a@x.test"), &server(Protocol::Imap)).await;
        assert!(may(&guard, &login("d@x.test")).await, "the password is right after all");
        guard.unanswered(&login("d@x.test")).await;
        for mailbox in ["e@x.test", "f@x.test"] {
            refuse(&guard, &login(mailbox)).await;
            assert!(may(&guard, &login("a@x.test")).await);
            guard.accepted(&login("a@x.test"), &server(Protocol::Imap)).await;
        }
        for mailbox in ["g@x.test", "h@x.test", "i@x.test"] {
            refuse(&guard, &login(mailbox)).await;
        }
        let later = opened(directory.path());
        assert!(!may(&later, &login("d@x.test")).await);
        assert!(
            may(&later, &login("a@x.test")).await,
            "it opened that one: others that are not there do not matter"
        );
        for _ in 0..2 {
            later.refused(&login("a@x.test"), &server(Protocol::Imap)).await;
        }
        assert!(!may(&opened(directory.path()), &login("a@x.test")).await, "until it opens it no more");
    }

    #[tokio::test]
    async fn many_workers_at_once_take_no_try_too_many() {
        let directory = tempfile::tempdir().unwrap();
        let tries = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let login = Login::own("anna".into(), Secret::new("wrong"));
        let worker = async || {
            let guard = opened(directory.path());
            let attempt = async {
                tries.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(50)).await;
                Err::<(), _>(Failure::new(Class::Credentials, "no"))
            };
            guard.hold(&login, attempt).await.unwrap_err()
        };
        let failures = futures::future::join_all((0..6).map(|_| worker())).await;
        assert!(failures.iter().all(|failure| failure.class == Class::Credentials), "{failures:?}");
        assert_eq!(tries.load(Ordering::Relaxed), REFUSALS_MAX);
    }

    #[test]
    fn whoever_died_in_a_login_holds_it_for_a_minute() {
        let keys = Keys { own: "a".into(), administrator: None };
        let begun = Timestamp::UNIX_EPOCH;
        let mut marks = Vec::new();
        let mut at = |seconds: i64| {
            let now = begun + SignedDuration::from_secs(seconds);
            Tally { marks: &mut marks, keys: &keys, holder: "dead", now, once_more: None }.take(Event::Wanted)
        };
        assert_eq!([at(0), at(1), at(2)], [Answer::Go, Answer::Go, Answer::Wait]);
        assert_eq!([at(59), at(60), at(60)], [Answer::Wait, Answer::Go, Answer::Wait]);
    }
}
