//! The real binary, run as a user would run it: a directory of its own with a manifest and a state, its exit code, what
//! it says on both streams, and what it leaves behind.
//!
//! It is apart from `support`, since the demo is built on that and knows no `CARGO_BIN_EXE_mailferry`.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "the harness of tests: each test file uses a part of it, and a harness that cannot go on must stop"
)]

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(150);

/// A place to run mailferry in.
pub struct Ferry {
    directory: TempDir,
    resolver: Option<SocketAddr>,
    environment: Vec<(String, String)>,
}

impl Ferry {
    /// A fresh directory with this manifest.
    pub fn new(manifest: &str) -> Self {
        let directory =
            tempfile::Builder::new().prefix("mailferry-run-").tempdir().expect("a temporary directory");
        let ferry = Self { directory, resolver: None, environment: Vec::new() };
        ferry.write(manifest);
        ferry
    }

    /// Asks this name server in place of the system's.
    pub fn resolver(mut self, address: SocketAddr) -> Self {
        self.resolver = Some(address);
        self
    }

    /// Sets a variable of the binary's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts another manifest in the place of the one before.
    pub fn write(&self, manifest: &str) {
        fs::write(self.manifest(), manifest).expect("the manifest can be written");
        // It holds passwords.
        let mine = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.manifest(), mine).expect("its rights can be set");
    }

    /// The manifest's path.
    pub fn manifest(&self) -> PathBuf {
        self.directory.path().join("migration.yaml")
    }

    /// The state directory; there is none before the first run.
    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// A path beside manifest and state.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A subcommand on manifest and state, not started yet.
    pub fn command(&self, subcommand: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailferry"));
        command.arg(subcommand).arg("-f").arg(self.manifest()).arg("--state").arg(self.state());
        if let Some(resolver) = self.resolver.filter(|_| matches!(subcommand, "run" | "verify" | "dns")) {
            command.args(["--resolver", &resolver.to_string()]);
        }
        command.args(args).current_dir(self.directory.path()).stdin(Stdio::null());
        command.env_remove("MAILFERRY_LOG").env_remove("RUST_LOG");
        command.envs(self.environment.iter().cloned());
        command
    }

    /// Runs a subcommand to its end.
    pub fn call(&self, subcommand: &str, args: &[&str]) -> Ended {
        let mut command = self.command(subcommand, args);
        let child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("mailferry can be started");
        // A process that would wait for ever is told to end after a while, so that its test fails with its output.
        let (id, (done, over)) = (child.id(), std::sync::mpsc::channel::<()>());
        let guard = std::thread::spawn(move || {
            if over.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let _ = Command::new("kill").args(["-TERM", &id.to_string()]).status();
            }
        });
        let output = child.wait_with_output().expect("mailferry ends");
        drop(done);
        guard.join().expect("a thread that only waits");
        Ended::from(output)
    }

    /// `mailferry run` to its end.
    pub fn run(&self, args: &[&str]) -> Ended {
        self.call("run", args)
    }

    /// `mailferry run` in the background; its output goes to `run.out` and `run.err`.
    pub fn start(&self, args: &[&str]) -> Child {
        let file = |name| fs::File::create(self.path(name)).expect("a file for the output");
        let mut command = self.command("run", args);
        command.stdout(file("run.out")).stderr(file("run.err"));
        command.spawn().expect("mailferry can be started")
    }

    /// The object that `mailferry status --output json` prints.
    pub fn status(&self) -> Value {
        let ended = self.call("status", &["--output", "json"]);
        ended.expect_code(0);
        ended.json()
    }

    /// The rows of `mailferry report --kind messages --format json`.
    pub fn messages(&self) -> Vec<Value> {
        let ended = self.call("report", &["--kind", "messages", "--format", "json"]);
        ended.expect_code(0);
        ended
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// The migration report in a text format.
    pub fn report(&self, format: &str) -> String {
        let ended = self.call("report", &["--format", format]);
        ended.expect_code(0);
        ended.stdout
    }
}

/// The result of a finished command.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ended {
    /// Stops the test unless it ended with this code.
    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e} in:\n{}", self.stdout))
    }

    /// The line that begins with `error:`, without that word, and the hint below it; stops the test unless there is
    /// exactly one.
    #[track_caller]
    pub fn error(&self) -> (String, String) {
        let lines: Vec<&str> = self.stderr.lines().collect();
        let errors: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].starts_with("error: ")).collect();
        let [at] = errors[..] else { panic!("not one error line but {}:\n{}", errors.len(), self.stderr) };
        let hint = lines.get(at + 1).and_then(|line| line.strip_prefix("  hint: ")).unwrap_or_default();
        (lines[at]["error: ".len()..].to_owned(), hint.to_owned())
    }
}

/// A manifest, put together from its parts; everything is on loopback.
#[derive(Clone, Default)]
pub struct Manifest {
    secrets: String,
    destination: String,
    /// The key below `spec.destination`; `imap` when it is empty.
    kind: &'static str,
    domains: String,
    policy: String,
}

impl Manifest {
    /// To an IMAP server without TLS, with the credentials of a master user.
    pub fn to(destination: SocketAddr, master: &str, password: &str) -> Self {
        let at = format!("host: {}, port: {}", destination.ip(), destination.port());
        let destination = format!("{{{at}, tls: None, credentialsRef: {{name: new}}}}");
        let manifest = Self { destination, ..Self::default() };
        manifest
            .secret("new", &[("masterUser", master), ("masterPassword", password), ("masterSeparator", "*")])
    }

    /// Another destination, as the YAML of `spec.destination.imap`.
    pub fn destination(mut self, yaml: &str) -> Self {
        yaml.clone_into(&mut self.destination);
        self
    }

    /// A tenant of Microsoft 365 as the destination, as the YAML of `spec.destination.microsoft365`.
    pub fn microsoft365(mut self, yaml: &str) -> Self {
        self.kind = "microsoft365";
        self.destination(yaml)
    }

    /// A Secret.
    pub fn secret(mut self, name: &str, values: &[(&str, &str)]) -> Self {
        let _ = write!(
            self.secrets,
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: test}}\nstringData:\n"
        );
        for (key, value) in values {
            // JSON strings are YAML strings.
            let _ = writeln!(self.secrets, "  {key}: {}", Value::from(*value));
        }
        self.secrets.push_str("---\n");
        self
    }

    /// A ConfigMap with the text of an authority under `ca.crt`.
    pub fn authority(mut self, name: &str, pem: &str) -> Self {
        let _ = write!(
            self.secrets,
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: test}}\ndata:\n  ca.crt: {}\n---\n",
            Value::from(pem)
        );
        self
    }

    /// A domain whose credentials are in the Secret of the same name. `mailboxes` are the parts before the @; they go
    /// to the same name at `new.test`. `more` are further lines of YAML.
    pub fn domain(mut self, name: &str, mailboxes: &[&str], more: &str) -> Self {
        let _ = writeln!(self.domains, "  - name: {name}\n    credentialsRef: {{name: {name}}}");
        for line in more.lines() {
            let _ = writeln!(self.domains, "    {line}");
        }
        let _ = writeln!(self.domains, "    mailboxes:\n      list:");
        for mailbox in mailboxes {
            let _ = writeln!(
                self.domains,
                "      - {{address: \"{mailbox}@{name}\", destination: \"{mailbox}@new.test\"}}"
            );
        }
        self
    }

    /// A line of `spec.policy`.
    pub fn policy(mut self, line: &str) -> Self {
        let _ = writeln!(self.policy, "    {line}");
        self
    }

    /// The text, with loopback allowed.
    pub fn text(&self) -> String {
        self.clone().policy("allowedNetworks: [\"127.0.0.0/8\"]").bare()
    }

    /// The text as it was put together.
    pub fn bare(&self) -> String {
        let policy =
            if self.policy.is_empty() { String::new() } else { format!("  policy:\n{}", self.policy) };
        format!(
            "{}apiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\nmetadata: {{name: move, namespace: test}}\n\
             spec:\n  stage: Sync\n  destination:\n    {}: {}\n  domains:\n{}{policy}",
            self.secrets,
            if self.kind.is_empty() { "imap" } else { self.kind },
            self.destination,
            self.domains
        )
    }
}

/// A line of `servers:` for a server without TLS.
pub fn server(protocol: &str, at: SocketAddr) -> String {
    format!("servers: [{{protocol: {protocol}, host: {}, port: {}, tls: None}}]", at.ip(), at.port())
}

/// The text of `mailboxes.csv`: address, login name, password.
pub fn csv(rows: &[(&str, &str, &str)]) -> String {
    let mut text = "address,username,password\n".to_owned();
    for (address, user, password) in rows {
        let _ = writeln!(text, "{address},{user},{password}");
    }
    text
}

/// Every file below a directory.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A number of `status.messages`.
#[track_caller]
pub fn figure(status: &Value, name: &str) -> u64 {
    status["status"]["messages"][name].as_u64().unwrap_or_else(|| panic!("no messages.{name} in {status}"))
}

/// Stops the test unless every message of the source has a fate.
#[track_caller]
pub fn assert_equation(status: &Value) {
    let sum: u64 = ["copied", "excluded", "failed", "pending"].iter().map(|name| figure(status, name)).sum();
    assert_eq!(figure(status, "source"), sum, "{}", status["status"]["messages"]);
}
