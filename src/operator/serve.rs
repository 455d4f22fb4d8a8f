//! Pages that the operator serves to the cluster: `/livez`, `/readyz` and `/metrics`. Nothing secret is there, nothing can be
//! changed, and no client can hold more than its share.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};
use tracing::{debug, warn};

use super::metrics::Metrics;
use super::readiness::Readiness;
use crate::model::failure::{Failure, Result};

/// How old the last beat may be before the process counts as stuck.
const BEAT_MAX: Duration = Duration::from_mins(1);
/// How often [`Pulse::during`] beats.
const BEAT: Duration = Duration::from_secs(5);
/// Connections at a time.
const CONNECTIONS: usize = 128;
/// How long a request's head may take, and an idle connection may stay.
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection may stay in all.
const CONNECTION: Duration = Duration::from_mins(2);
/// How long open connections have when the server stops.
const FAREWELL: Duration = Duration::from_secs(3);
/// The largest head of a request in bytes.
const HEAD_MAX: usize = 16 * 1024;
/// The content type of [`Metrics::text`].
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How the operator feels: whether its loop turns, and how far it has come.
#[derive(Debug)]
pub struct Pulse {
    born: Instant,
    /// Milliseconds from `born` to the last beat.
    beat: AtomicU64,
    reached: AtomicBool,
    synced: AtomicBool,
    leads: AtomicBool,
    reading: Arc<Readiness>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            beat: AtomicU64::new(0),
            reached: AtomicBool::new(false),
            synced: AtomicBool::new(false),
            leads: AtomicBool::new(false),
            reading: Arc::default(),
        }
    }
}

impl Pulse {
    /// The loop turns.
    pub fn beat(&self) {
        self.beat
            .store(u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Does some work and beats while it gives way. Work that blocks its thread, or gets no turn, does not beat.
    pub async fn during<W: Future>(&self, work: W) -> W::Output {
        let mut work = std::pin::pin!(work);
        let mut beats = interval(BEAT);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = beats.tick() => self.beat(),
            }
        }
    }

    /// The API server has answered.
    pub fn reached(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }

    /// Everything that is to be watched could be read once. A replica on standby watches nothing, and has tried it.
    pub fn synced(&self) {
        self.synced.store(true, Ordering::Relaxed);
    }

    /// How reading goes.
    pub fn reading(&self) -> &Arc<Readiness> {
        &self.reading
    }

    /// Whether this replica leads.
    pub fn lead(&self, leads: bool) {
        self.leads.store(leads, Ordering::Relaxed);
    }

    fn age(&self) -> Duration {
        self.born.elapsed().saturating_sub(Duration::from_millis(self.beat.load(Ordering::Relaxed)))
    }

    fn liveness(&self) -> (bool, String) {
        let age = self.age();
        let alive = age <= BEAT_MAX;
        let word = if alive { "ok" } else { "stuck" };
        (alive, format!("{word}: the loop turned {} s ago\n", age.as_secs()))
    }

    fn readiness(&self) -> (bool, String) {
        let told = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        let (reached, synced) = (told(&self.reached), told(&self.synced));
        let role = if told(&self.leads) { "leader" } else { "standby" };
        let obstacle = match (reached, synced, self.reading.obstacle()) {
            (false, ..) => Some("the API server has not answered yet".to_owned()),
            (true, _, Some(obstacle)) => Some(obstacle),
            (true, false, None) => Some("the objects are not all read yet".to_owned()),
            (true, true, None) => None,
        };
        match obstacle {
            Some(obstacle) => (false, format!("not ready: {obstacle}\n")),
            None => (true, format!("ok: {role}\n")),
        }
    }
}

/// The server, bound to its address.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Takes an address; port 0 is any free port.
    ///
    /// # Errors
    /// [`crate::model::failure::Class::Configuration`] when the address cannot be had.
    pub async fn bind(address: SocketAddr) -> Result<Self> {
        let refuse = |error: std::io::Error| {
            let hint = match error.kind() {
                ErrorKind::AddrInUse => {
                    "Another program listens there: end it, or choose another address with --listen."
                }
                ErrorKind::PermissionDenied => "Choose a port from 1024 upwards with --listen.",
                _ => "Choose an address of this machine with --listen.",
            };
            Failure::configuration(format!("cannot listen there: {error}"))
                .hint(hint)
                .caused_by(&error)
                .at(address.to_string())
        };
        let listener = TcpListener::bind(address).await.map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` ends, then lets open connections finish for a moment.
    pub async fn run(self, pulse: Arc<Pulse>, metrics: Arc<Metrics>, stop: impl Future<Output = ()>) {
        let routes = routes(pulse, metrics);
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let (ending, end) = watch::channel(false);
        let mut open = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            while open.try_join_next().is_some() {}
            let arrived = async {
                let place = Arc::clone(&room).acquire_owned().await;
                (place, self.listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                () = &mut stop => break,
                arrived = arrived => arrived,
            };
            match accepted {
                Ok((stream, _)) => {
                    let answers = answer(stream, routes.clone(), end.clone());
                    open.spawn(async move {
                        let _place = place;
                        answers.await;
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: it passes when a connection ends.
                    warn!(%error, "a connection could not be accepted");
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
        drop(self.listener);
        ending.send_replace(true);
        let _ = timeout(FAREWELL, async { while open.join_next().await.is_some() {} }).await;
    }
}

/// Answers the requests of one connection until either side has enough.
async fn answer(stream: TcpStream, routes: Router, mut end: watch::Receiver<bool>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_MAX);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut connection = std::pin::pin!(connection);
    let served = timeout(CONNECTION, async {
        tokio::select! {
            served = connection.as_mut() => return served,
            _ = end.wait_for(|ending| *ending) => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    });
    if let Ok(Err(error)) = served.await {
        debug!(%error, "a connection ended early");
    }
}

fn routes(pulse: Arc<Pulse>, metrics: Arc<Metrics>) -> Router {
    async fn livez(State(pulse): State<Arc<Pulse>>) -> Response {
        verdict(pulse.liveness())
    }
    async fn readyz(State(pulse): State<Arc<Pulse>>) -> Response {
        verdict(pulse.readiness())
    }
    async fn show(State(metrics): State<Arc<Metrics>>) -> Response {
        match metrics.text() {
            Ok(text) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
            Err(failure) => (StatusCode::INTERNAL_SERVER_ERROR, failure.sentence()).into_response(),
        }
    }
    let health = Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).with_state(pulse);
    health.merge(Router::new().route("/metrics", get(show)).with_state(metrics))
}

fn verdict((good, text): (bool, String)) -> Response {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, text).into_response()
}
