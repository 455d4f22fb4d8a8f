//! The log of a service: its filter follows a file as Kubernetes mounts it, its records are what they claim to be, and
//! the token of the Kubernetes client is in none of them, at whatever level.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::ca::Ca;
use axum::http::{Request, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, PostParams};
use kube::config::AuthInfo;
use kube::{Api, Client, Config};
use mailferry::cli::LogFormat;
use mailferry::commands::logging::{self, Log};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tracing::subscriber::DefaultGuard;

/// Where a log is written to.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    /// The text that was written since the last time.
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log_of_this_thread(format: LogFormat, filter: &str) -> (Paper, Log, DefaultGuard) {
    let paper = Paper::default();
    let writer = paper.clone();
    let (subscriber, log) = logging::subscriber(format, filter, move || writer.clone(), false).unwrap();
    (paper, log, tracing::subscriber::set_default(subscriber))
}

/// Puts a file in place as the kubelet does with a `ConfigMap`: a new directory, and a link that goes over to it at once.
fn mount(at: &Path, version: &str, filter: Option<&str>) {
    fs::create_dir(at.join(version)).unwrap();
    if let Some(filter) = filter {
        fs::write(at.join(version).join("filter"), filter).unwrap();
    }
    symlink(version, at.join("..data_tmp")).unwrap();
    fs::rename(at.join("..data_tmp"), at.join("..data")).unwrap();
    if !at.join("filter").is_symlink() {
        symlink("..data/filter", at.join("filter")).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_filter_follows_a_mounted_file() {
    let (paper, log, _guard) = log_of_this_thread(LogFormat::Text, "mailferry=info");
    let place = TempDir::new().unwrap();
    let at = place.path();
    let path = at.join("filter");
    let mut told = log.filter();
    let follow = log.follow(&path);
    let story = async {
        let says = |wanted: &'static str, paper: Paper, about: &'static str| async move {
            tokio::time::sleep(Duration::from_secs(6)).await;
            let told = paper.take();
            tracing::trace!(target: "mailferry", "trace");
            tracing::debug!(target: "mailferry", "debug");
            tracing::info!(target: "mailferry", "info");
            let shown = paper.take();
            let levels = ["trace", "debug", "info"].into_iter();
            let levels: Vec<_> =
                levels.filter(|level| shown.contains(&format!("mailferry: {level}\n"))).collect();
            assert_eq!(levels.join(" "), wanted, "{about}: {shown}");
            told
        };
        let say = |wanted, about| says(wanted, paper.clone(), about);
        assert_eq!(say("info", "no file yet").await, "");
        mount(at, "..1", Some("mailferry=debug\n"));
        assert!(say("debug info", "a file").await.contains("the log filter is changed"));
        assert_eq!(*told.borrow_and_update(), "mailferry=debug", "others are told");
        assert_eq!(say("debug info", "the same file").await, "", "nothing is told when nothing changes");
        mount(at, "..2", Some("mailferry=trace"));
        say("trace debug info", "another").await;
        mount(at, "..3", Some("mailferry=loud"));
        let said = say("trace debug info", "one that is wrong").await;
        assert!(said.contains("WARN") && said.contains("loud") && said.contains("stays"), "{said}");
        assert_eq!(*told.borrow(), "mailferry=trace", "and not of what is wrong");
        mount(at, "..4", Some(&"mailferry=info,".repeat(400)));
        assert!(say("trace debug info", "one that is too long").await.contains("too long"));
        mount(at, "..5", Some("off"));
        say("", "silence").await;
        mount(at, "..6", Some(" \n"));
        say("info", "blank").await;
        mount(at, "..7", Some("mailferry=debug"));
        say("debug info", "loud once more").await;
        mount(at, "..8", None);
        say("info", "gone").await;
    };
    tokio::select! { () = follow => {}, () = story => {} }
}

#[test]
fn a_json_record_is_one_line_that_a_machine_reads() {
    let (paper, _log, _guard) = log_of_this_thread(LogFormat::Json, "info");
    tracing::info!(target: "mailferry", mailbox = "anna@a.test", "two\nlines \"quoted\" \u{1b}[31m");
    let text = paper.take();
    assert_eq!(text.lines().count(), 1, "{text}");
    let record: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(record["level"], "INFO");
    assert_eq!(record["message"], "two\nlines \"quoted\" \u{1b}[31m");
    assert_eq!(record["mailbox"], "anna@a.test");
    assert!(record["timestamp"].is_string());
}

#[test]
fn what_handles_tokens_is_cut_short_whatever_the_filter_says() {
    let (paper, _log, _guard) =
        log_of_this_thread(LogFormat::Text, "trace,kube_client::client=trace,hyper::proto=trace");
    tracing::trace!(target: "kube_client::client", "headers");
    tracing::trace!(target: "hyper::proto::h1::conn", "bytes");
    tracing::trace!(target: "hyper_util::client", "pool");
    tracing::debug!(target: "h2::codec", "frame");
    assert_eq!(paper.take(), "");
    tracing::debug!(target: "kube_client::client", "allowed");
    assert!(paper.take().contains("allowed"));
}

#[test]
fn a_wrong_variable_is_told_with_the_remedy() {
    let mailferry = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailferry"));
        command.arg("crd").env_remove("MAILFERRY_LOG").env_remove("MAILFERRY_LOG_FORMAT");
        command
    };
    let wrong = mailferry().env("MAILFERRY_LOG", "mailferry=loud").output().unwrap();
    let told = String::from_utf8(wrong.stderr).unwrap();
    assert_eq!(wrong.status.code(), Some(23), "{told}");
    assert!(told.starts_with("error: MAILFERRY_LOG: \"mailferry=loud\" is not a log filter"), "{told}");
    assert!(told.contains("hint: "), "{told}");
    for blank in ["", " "] {
        assert!(mailferry().env("MAILFERRY_LOG", blank).output().unwrap().status.success());
    }
    let format = mailferry().env("MAILFERRY_LOG_FORMAT", "yaml").output().unwrap();
    assert_eq!(format.status.code(), Some(2), "{}", String::from_utf8_lossy(&format.stderr));
}

const TOKEN: &str = "Wigeon-token-8/53+k";

/// An API server as far as TLS and HTTP go: it lists nothing and refuses the rest. Tells how often it saw the token.
async fn serve(ca: &Ca) -> (SocketAddr, Arc<AtomicUsize>) {
    let files = ca.issue(&["127.0.0.1"]);
    let chain = CertificateDer::pem_file_iter(&files.chain).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let stream = tls.accept(listener.accept().await.unwrap().0).await.unwrap();
            let count = Arc::clone(&count);
            let answer = service_fn(move |request: Request<Incoming>| {
                let bearer = request.headers().get("authorization").and_then(|value| value.to_str().ok());
                count.fetch_add(usize::from(bearer == Some(&format!("Bearer {TOKEN}"))), Ordering::Relaxed);
                let listed =
                    json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {}, "items": []});
                let refused = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 403,
                    "reason": "Forbidden", "message": "no"});
                let lists = request.method() == "GET" && request.uri().path().ends_with("/configmaps");
                let (code, body) = if lists { (200, listed) } else { (403, refused) };
                let answer = Response::builder().status(code).header("content-type", "application/json");
                async move { answer.body(body.to_string()) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    (address, seen)
}

#[tokio::test]
async fn the_token_of_the_kubernetes_client_is_in_no_record() {
    let (paper, _log, _guard) = log_of_this_thread(LogFormat::Text, "trace");
    let ca = Ca::new();
    let (address, seen) = serve(&ca).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), TOKEN).unwrap();
    let plain = AuthInfo { token: Some(TOKEN.to_owned().into()), ..AuthInfo::default() };
    // As a ServiceAccount's token is mounted.
    let mounted = AuthInfo { token_file: Some(file.path().display().to_string()), ..AuthInfo::default() };
    for auth_info in [plain, mounted] {
        let mut config = Config::new(format!("https://{address}").parse().unwrap());
        config.root_cert = Some(vec![CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap().to_vec()]);
        config.auth_info = auth_info;
        let maps: Api<ConfigMap> = Api::namespaced(Client::try_from(config).unwrap(), "a");
        assert!(maps.list(&ListParams::default()).await.unwrap().items.is_empty());
        assert!(maps.get("b").await.is_err());
        let new: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "b"}})).unwrap();
        assert!(maps.create(&PostParams::default(), &new).await.is_err());
    }
    assert_eq!(seen.load(Ordering::Relaxed), 6, "the token was sent");
    let text = paper.take();
    for loud in ["kube_client", "hyper_util", "tower"] {
        assert!(text.contains(loud), "{loud} says nothing:\n{text}");
    }
    let encoded = BASE64_STANDARD.encode(TOKEN);
    for form in [TOKEN, &TOKEN[7..], &encoded] {
        assert!(!text.contains(form), "the log shows {form}:\n{text}");
    }
}
