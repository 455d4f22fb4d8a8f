//! The operator's endpoints, asked over real connections: what they answer, and what a client cannot do to them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mailferry::model::failure::Class;
use mailferry::operator::metrics::Metrics;
use mailferry::operator::serve::{Pulse, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

struct Running {
    address: SocketAddr,
    pulse: Arc<Pulse>,
    metrics: Arc<Metrics>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn start() -> Running {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (pulse, metrics) = (Arc::new(Pulse::default()), Arc::new(Metrics::default()));
    let (stop, stopped) = oneshot::channel();
    let address = server.address();
    let ended = async move { stopped.await.unwrap_or(()) };
    let task = tokio::spawn(server.run(Arc::clone(&pulse), Arc::clone(&metrics), ended));
    Running { address, pulse, metrics, stop, task }
}

/// Sends bytes and reads until the other side closes.
async fn talk(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may refuse before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = talk(address, head.as_bytes()).await;
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[tokio::test]
async fn readiness_and_liveness_follow_the_pulse() {
    let running = start().await;
    let ready = |word: &'static str| async move {
        let (code, answer) = ask(running.address, "GET", "/readyz").await;
        assert!(answer.contains(word), "{answer}");
        code
    };
    assert_eq!(ready("the API server has not answered").await, 503);
    running.pulse.reached();
    assert_eq!(ready("not all read").await, 503);
    running.pulse.synced();
    assert_eq!(ready("ok: standby").await, 200);
    running.pulse.lead(true);
    assert_eq!(ready("ok: leader").await, 200);
    assert_eq!(ask(running.address, "GET", "/livez").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_no_longer_turns_is_seen() {
    let running = start().await;
    let alive = || async { ask(running.address, "GET", "/livez").await.0 };
    let pulse = Arc::clone(&running.pulse);
    // Work that gives way for an hour beats all the time.
    pulse.during(tokio::time::sleep(Duration::from_hours(1))).await;
    assert_eq!(alive().await, 200);
    tokio::time::advance(Duration::from_secs(55)).await;
    assert_eq!(alive().await, 200);
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(alive().await, 503);
    pulse.beat();
    assert_eq!(alive().await, 200, "it recovers");
}

#[tokio::test]
async fn metrics_are_openmetrics() {
    let running = start().await;
    running.metrics.lead(true);
    let (code, answer) = ask(running.address, "GET", "/metrics").await;
    assert_eq!(code, 200);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(body.contains("\nmailferry_leader 1\n") && body.ends_with("# EOF\n"), "{body}");
    assert!(body.len() < 64 * 1024, "{} bytes", body.len());
}

#[tokio::test]
async fn nothing_but_reading_is_possible() {
    let running = start().await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        for path in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(ask(running.address, method, path).await.0, 405, "{method} {path}");
        }
    }
    for path in ["/", "/metrics/", "/livez/../metrics", "/debug/pprof", "/%2e%2e/etc/passwd"] {
        assert_eq!(ask(running.address, "GET", path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn heads_without_end_are_refused_and_slow_ones_are_closed() {
    let running = start().await;
    let long = format!("GET /livez HTTP/1.1\r\nHost: x\r\nX: {}", "x".repeat(1 << 20));
    assert!(talk(running.address, long.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let began = Instant::now();
    let half = talk(running.address, b"GET /livez HTTP/1.1\r\nHost: x\r\n").await;
    assert!(
        !half.contains("200") && began.elapsed() < Duration::from_secs(15),
        "{half} {:?}",
        began.elapsed()
    );
    assert_eq!(ask(running.address, "GET", "/livez").await.0, 200);
}

#[tokio::test]
async fn idle_clients_do_not_keep_the_probes_out() {
    let running = start().await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(TcpStream::connect(running.address).await.unwrap());
    }
    let asked = timeout(Duration::from_secs(25), ask(running.address, "GET", "/livez")).await;
    assert_eq!(asked.unwrap().0, 200);
}

#[tokio::test]
async fn it_stops_and_frees_the_address() {
    let running = start().await;
    let mut kept = TcpStream::connect(running.address).await.unwrap();
    kept.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    kept.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    running.stop.send(()).unwrap();
    timeout(Duration::from_secs(2), running.task).await.unwrap().unwrap();
    Server::bind(running.address).await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_told_with_the_remedy() {
    let first = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let failure = Server::bind(first.address()).await.map(|_| ()).unwrap_err();
    assert_eq!(failure.class, Class::Configuration);
    let text = failure.to_string();
    assert!(text.starts_with(&format!("{}: cannot listen there", first.address())), "{text}");
    assert!(failure.hint.unwrap().contains("--listen"));
}
