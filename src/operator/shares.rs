//! The share of a namespace in the operator, so that one tenant cannot starve another: turns at the same time, requests to
//! the API server a second, and memory for what discovery found. No share is lent; what a namespace leaves is free for the
//! others.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{Method, Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service};

use super::metrics::{Metrics, Wait};
use crate::model::failure::{Class, Failure, Result};

/// Turns at the same time, of all namespaces together.
const TURNS: usize = 8;
/// Turns at the same time of one namespace.
const TURNS_EACH: usize = 2;
/// Requests to the API server about objects of one namespace, a second. A migration of 10,000 mailboxes that begins makes
/// some 90.
const REQUESTS: f64 = 100.0;
/// Requests of one namespace that may come at once after a while in which there was none.
const BURST: f64 = 200.0;
/// The memory of a document, in multiples of its text.
const SWELLS: u64 = 3;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Turns that may be taken at the same time.
#[derive(Debug)]
pub struct Turns {
    all: Arc<Semaphore>,
    each: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(TURNS)), each: Mutex::default() }
    }
}

/// A turn that is being taken.
#[derive(Debug)]
pub struct Turn {
    _all: OwnedSemaphorePermit,
    _each: OwnedSemaphorePermit,
}

impl Turns {
    /// Waits for a turn. A waiter for one of its namespace's holds none of those of all.
    ///
    /// # Errors
    /// [`Class::Interrupted`] when no turns are taken any more.
    pub async fn take(&self, namespace: &str) -> Result<Turn> {
        let over = |_| Failure::new(Class::Interrupted, "no turns are taken any more");
        let each = {
            let mut known = locked(&self.each);
            // Each holder and each waiter has a copy.
            known.retain(|_, turns| Arc::strong_count(turns) > 1 || turns.available_permits() < TURNS_EACH);
            Arc::clone(
                known.entry(namespace.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(TURNS_EACH))),
            )
        };
        let each = each.acquire_owned().await.map_err(over)?;
        let all = Arc::clone(&self.all).acquire_owned().await.map_err(over)?;
        Ok(Turn { _all: all, _each: each })
    }
}

/// How many requests a namespace has left.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    /// Takes one request; how long it has to wait.
    fn take(&mut self, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + since * REQUESTS).min(BURST) - 1.0;
        self.at = now;
        Duration::from_secs_f64((-self.left / REQUESTS).max(0.0))
    }

    fn is_full(&self, now: Instant) -> bool {
        self.left + now.saturating_duration_since(self.at).as_secs_f64() * REQUESTS >= BURST
    }
}

/// A layer around the Kubernetes client that spreads the requests of each namespace over time. Watches and leases are not
/// counted: there are as many of them as the operator begins, and no tenant can cause one.
#[derive(Clone)]
pub struct SpreadRequests {
    buckets: Arc<Mutex<HashMap<String, Bucket>>>,
    metrics: Arc<Metrics>,
}

impl SpreadRequests {
    /// Counts those who wait into these metrics.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { buckets: Arc::default(), metrics }
    }

    fn wait(&self, namespace: &str) -> Duration {
        let now = Instant::now();
        let mut buckets = locked(&self.buckets);
        if buckets.len() > 1_000 {
            buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        buckets.entry(namespace.to_owned()).or_insert(Bucket { left: BURST, at: now }).take(now)
    }
}

impl<S> Layer<S> for SpreadRequests {
    type Service = Spread<S>;

    fn layer(&self, inner: S) -> Spread<S> {
        Spread { inner, by: self.clone() }
    }
}

/// A client whose requests are spread over time.
#[derive(Clone)]
pub struct Spread<S> {
    inner: S,
    by: SpreadRequests,
}

impl<S, A, B> Service<Request<A>> for Spread<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let wait = namespace_of(&request).map_or(Duration::ZERO, |namespace| self.by.wait(namespace));
        // Nothing is sent before this is asked for its answer.
        let answer = self.inner.call(request);
        let metrics = Arc::clone(&self.by.metrics);
        Box::pin(async move {
            if !wait.is_zero() {
                let _waiting = metrics.waiting(Wait::Requests);
                sleep(wait).await;
            }
            answer.await
        })
    }
}

/// The namespace that a request is about, unless it is one that no tenant can cause.
fn namespace_of<A>(request: &Request<A>) -> Option<&str> {
    let query = request.uri().query().unwrap_or_default();
    let watches = request.method() == Method::GET && query.split('&').any(|part| part.starts_with("watch="));
    let (_, rest) = request.uri().path().split_once("/namespaces/")?;
    let (namespace, what) = rest.split_once('/')?;
    (!watches && !what.starts_with("leases")).then_some(namespace)
}

/// Memory that is shared out among namespaces.
#[derive(Debug, Clone)]
pub struct Rooms {
    all: u64,
    taken: Arc<Mutex<HashMap<String, u64>>>,
}

/// A part of the memory, given back when it is dropped.
#[derive(Debug)]
pub struct Room {
    taken: Arc<Mutex<HashMap<String, u64>>>,
    namespace: String,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut taken = locked(&self.taken);
        if let Some(bytes) = taken.get_mut(&self.namespace) {
            *bytes = bytes.saturating_sub(self.bytes);
            if *bytes == 0 {
                taken.remove(&self.namespace);
            }
        }
    }
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The namespace has its share.
    Share,
    /// The others have theirs; there will be room.
    All,
}

impl Rooms {
    /// Shares out half of the memory, in bytes, that the operator may use.
    pub fn of(memory: u64) -> Self {
        Self { all: memory / 2, taken: Arc::default() }
    }

    /// The most that one namespace may have, in bytes of text.
    pub fn share(&self) -> u64 {
        self.all / 3 / SWELLS
    }

    /// Takes room for a document of so many bytes of text.
    ///
    /// # Errors
    /// Why there is none.
    pub fn take(&self, namespace: &str, text: u64) -> Result<Room, Full> {
        let bytes = text.saturating_mul(SWELLS);
        let mut taken = locked(&self.taken);
        let own = taken.get(namespace).copied().unwrap_or_default().saturating_add(bytes);
        if own > self.all / 3 {
            return Err(Full::Share);
        }
        if taken.values().sum::<u64>().saturating_add(bytes) > self.all {
            return Err(Full::All);
        }
        taken.insert(namespace.to_owned(), own);
        Ok(Room { taken: Arc::clone(&self.taken), namespace: namespace.to_owned(), bytes })
    }

    /// The namespace that has taken the most.
    pub fn greediest(&self) -> Option<String> {
        let taken = locked(&self.taken);
        taken.iter().max_by_key(|(_, bytes)| **bytes).map(|(namespace, _)| namespace.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_namespace_with_many_turns_leaves_some_to_the_others() {
        let turns = Arc::new(Turns::default());
        let mut held = Vec::new();
        for _ in 0..TURNS_EACH {
            held.push(turns.take("greedy").await.unwrap());
        }
        let third = tokio::time::timeout(Duration::from_mins(1), turns.take("greedy"));
        assert!(third.await.is_err(), "it has its share");
        for n in 0..TURNS - TURNS_EACH {
            held.push(turns.take(&format!("other-{n}")).await.unwrap());
        }
        drop(held);
        turns.take("greedy").await.unwrap();
        assert!(locked(&turns.each).len() <= 2, "nothing is kept of those who are through");
    }

    #[test]
    fn requests_of_a_namespace_are_spread_after_a_burst() {
        let now = Instant::now();
        let mut bucket = Bucket { left: BURST, at: now };
        for _ in 0..200 {
            assert_eq!(bucket.take(now), Duration::ZERO);
        }
        assert_eq!(bucket.take(now), Duration::from_millis(10));
        assert_eq!(bucket.take(now), Duration::from_millis(20));
        assert_eq!(bucket.take(now + Duration::from_secs(1)), Duration::ZERO);
        assert!(bucket.is_full(now + Duration::from_mins(1)));
    }

    #[test]
    fn requests_are_told_apart_by_their_namespace_and_watches_are_free() {
        let of = |uri: &str| {
            let request = Request::builder().uri(uri).body(()).unwrap();
            namespace_of(&request).map(str::to_owned)
        };
        assert_eq!(of("/api/v1/namespaces/one/configmaps/a"), Some("one".to_owned()));
        assert_eq!(of("/apis/batch/v1/namespaces/two/jobs?limit=1"), Some("two".to_owned()));
        assert_eq!(of("/apis/batch/v1/namespaces/two/jobs?labelSelector=a&watch=true"), None);
        assert_eq!(of("/apis/coordination.k8s.io/v1/namespaces/x/leases/mailferry"), None);
        assert_eq!(of("/apis/batch/v1/jobs"), None);
    }

    #[test]
    fn one_namespace_has_a_third_of_the_memory_and_what_is_dropped_is_free_again() {
        let rooms = Rooms::of(6_000 * SWELLS);
        assert_eq!(rooms.share(), 1_000);
        assert_eq!(rooms.take("a", 1_001).unwrap_err(), Full::Share);
        let a = rooms.take("a", 1_000).unwrap();
        assert_eq!(rooms.take("a", 1).unwrap_err(), Full::Share);
        let b = rooms.take("b", 900).unwrap();
        let _c = rooms.take("c", 1_000).unwrap();
        assert_eq!(rooms.take("d", 200).unwrap_err(), Full::All);
        drop(b);
        rooms.take("d", 200).unwrap();
        drop(a);
        assert_eq!(rooms.greediest().as_deref(), Some("c"));
    }
}
