//! A real Kubernetes for tests: the one that `tests/cluster` starts on this machine, or the one that `KUBECONFIG` names.
//!
//! ```ignore
//! let space = Namespace::new();
//! space.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: list}");
//! space.wait_until("the pod is done", Duration::from_secs(60), || {
//!     let pod = space.json(&["get", "pod", "worker"]);
//!     if pod["status"]["phase"] == "Succeeded" { Ok(()) } else { Err(pod["status"].to_string()) }
//! });
//! ```
//!
//! Tests run in parallel in one cluster: each works in a namespace of its own. They speak through the real `kubectl` and
//! `helm`, as users do. For a cluster that is not ours, `MAILFERRY_TEST_IMAGE` names the image to run there, and
//! `MAILFERRY_TEST_HOST_IP` the address at which its pods reach this machine.

use std::cell::Cell;
use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long to wait between two looks at something.
const PAUSE: Duration = Duration::from_millis(200);

/// The binary that Cargo built for this test; an example such as the demo has none.
const BINARY: Option<&str> = option_env!("CARGO_BIN_EXE_mailferry");

/// Reference of the image that `tests/cluster/load-image` makes.
const IMAGE: &str = "localhost/mailferry:test";

/// Variables of `tests/cluster/env`; what the caller's environment says goes before.
#[derive(Debug)]
struct Settings {
    kubeconfig: String,
    host: Option<IpAddr>,
    /// The directory that our own cluster writes to; none for another's cluster.
    state: Option<PathBuf>,
    variables: Vec<(String, String)>,
}

/// A cluster that is up.
#[derive(Debug)]
pub struct Cluster {
    settings: Settings,
}

impl Cluster {
    /// The cluster of this test run; starts one when `KUBECONFIG` names none and none is up.
    pub fn get() -> &'static Self {
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        CLUSTER.get_or_init(|| {
            if env::var_os("KUBECONFIG").is_none() {
                run(&mut script("up"), None).unwrap_or_else(|why| panic!("there is no cluster: {why}"));
            }
            Self { settings: settings() }
        })
    }

    /// Credentials of an administrator, for programs that are neither `kubectl` nor `helm`.
    pub fn kubeconfig(&self) -> &str {
        &self.settings.kubeconfig
    }

    /// `kubectl` or `helm` for this cluster, ready for arguments.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.envs(self.settings.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs `kubectl`; what it prints.
    ///
    /// # Panics
    /// When it fails, with all that it said.
    #[track_caller]
    pub fn kubectl(&self, args: &[&str]) -> String {
        self.try_kubectl(args).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Runs `kubectl`; what it prints, or else its complaint.
    pub fn try_kubectl(&self, args: &[&str]) -> Result<String, String> {
        run(self.command("kubectl").args(args), None)
    }

    /// Runs `kubectl apply` for a manifest, with more arguments; what it prints, or else its complaint.
    pub fn try_apply(&self, manifest: &str, args: &[&str]) -> Result<String, String> {
        run(self.command("kubectl").args(["apply", "-f", "-"]).args(args), Some(manifest))
    }

    /// Runs `helm`; what it prints.
    ///
    /// # Panics
    /// When it fails, with all that it said.
    #[track_caller]
    pub fn helm(&self, args: &[&str]) -> String {
        run(self.command("helm").args(args), None).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Applies the definitions of `crds/`, whole and anew, and waits until the API server serves them.
    #[track_caller]
    pub fn apply_crds(&self) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds").display().to_string();
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &directory]);
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "-f", &directory]);
    }

    /// Gives the cluster an image of the `mailferry` that was built for this test, unless it has it; its reference.
    ///
    /// # Panics
    /// When the image cannot be made, and outside of integration tests, which alone have a binary.
    #[track_caller]
    pub fn load_image(&self) -> String {
        static LOADED: OnceLock<()> = OnceLock::new();
        if let Ok(reference) = env::var("MAILFERRY_TEST_IMAGE") {
            return reference;
        }
        assert!(
            self.settings.state.is_some(),
            "name the image to run with MAILFERRY_TEST_IMAGE: this cluster is not ours, images cannot be loaded into it"
        );
        LOADED.get_or_init(|| {
            let binary = BINARY.expect("an integration test's binary");
            run(script("load-image").arg(binary), None).unwrap_or_else(|why| panic!("{why}"));
        });
        IMAGE.to_owned()
    }

    /// Gives our own cluster an image of a binary under a name of its own.
    ///
    /// # Panics
    /// When the image cannot be made, and for another's cluster.
    #[track_caller]
    pub fn load_image_of(&self, binary: &Path, reference: &str) {
        assert!(self.settings.state.is_some(), "images can be loaded only into a cluster of tests/cluster");
        run(script("load-image").arg(binary).arg(reference), None).unwrap_or_else(|why| panic!("{why}"));
    }

    /// The directory that our own cluster writes to; it goes with the cluster. None for another's cluster.
    pub fn state(&self) -> Option<&Path> {
        self.settings.state.as_deref()
    }

    /// The address at which pods reach servers on this machine, shared by all tests: choose free ports.
    ///
    /// # Panics
    /// For another's cluster without `MAILFERRY_TEST_HOST_IP`.
    #[track_caller]
    pub fn host(&self) -> IpAddr {
        self.settings.host.expect("MAILFERRY_TEST_HOST_IP: where the cluster's pods reach this machine")
    }

    /// An address like [`Self::host`] that no other test has, for servers on the usual ports. Our own cluster only.
    ///
    /// # Panics
    /// For another's cluster, and when all 254 are taken.
    #[track_caller]
    pub fn own_host(&self) -> OwnHost {
        let state = self.settings.state.as_ref().expect("a cluster of tests/cluster");
        let taken = state.join("hosts");
        fs::create_dir_all(&taken).expect("the state directory can be written");
        for last in 1..255 {
            // The same network as host_network in tests/cluster/settings.
            let address = Ipv4Addr::new(10, 77, 1, last);
            let lock = File::create(taken.join(address.to_string())).expect("a lock file");
            if lock.try_lock().is_ok() {
                return OwnHost { address: address.into(), _lock: lock };
            }
        }
        panic!("all addresses for servers are taken");
    }

    /// Takes a part of the cluster away, such as `kube-apiserver`, until the value is dropped. All tests feel it. Our own
    /// cluster only.
    ///
    /// # Panics
    /// For another's cluster, and when there is no such part.
    #[track_caller]
    pub fn without(&self, part: &'static str) -> Without {
        assert!(self.settings.state.is_some(), "only a cluster of tests/cluster can lose its {part}");
        run(script("part").args(["stop", part]), None).unwrap_or_else(|why| panic!("{why}"));
        Without { part }
    }
}

/// An address of this machine that one test has for itself.
#[derive(Debug)]
pub struct OwnHost {
    /// The address.
    pub address: IpAddr,
    _lock: File,
}

/// A part of the cluster is away; it starts again when this is dropped.
#[derive(Debug)]
pub struct Without {
    part: &'static str,
}

impl Drop for Without {
    fn drop(&mut self) {
        if let Err(why) = run(script("part").args(["start", self.part]), None) {
            eprintln!("{} is not back: {why}", self.part);
        }
    }
}

/// A namespace of one test; deleted when it is dropped, or kept when `MAILFERRY_TEST_KEEP` is set.
///
/// Pods in it must meet the standard `restricted`, as all of Mailferry's do. When the test fails, all that is to be
/// known about the namespace is printed.
#[derive(Debug)]
pub struct Namespace {
    cluster: &'static Cluster,
    name: String,
    told: Cell<bool>,
}

impl Namespace {
    /// Makes one with a name that nobody has.
    #[track_caller]
    pub fn new() -> Self {
        const MANIFEST: &str = "
apiVersion: v1
kind: Namespace
metadata:
  generateName: test-
  labels:
    pod-security.kubernetes.io/enforce: restricted
    pod-security.kubernetes.io/warn: restricted
";
        let cluster = Cluster::get();
        let made = run(cluster.command("kubectl").args(["create", "-f", "-", "-o", "name"]), Some(MANIFEST));
        let made = made.unwrap_or_else(|why| panic!("{why}"));
        let name = made.trim().trim_start_matches("namespace/").to_owned();
        let space = Self { cluster, name, told: Cell::new(false) };
        // Without it no pod can be made. After an outage of the API server, the controller that makes it looks again only
        // every half a minute.
        space.wait_until("the default ServiceAccount", Duration::from_mins(2), || {
            space.try_kubectl(&["get", "serviceaccount", "default"])
        });
        space
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster that it is in.
    pub fn cluster(&self) -> &'static Cluster {
        self.cluster
    }

    /// `kubectl` or `helm` for this namespace, ready for arguments.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.cluster.command(program);
        command.args(["--namespace", &self.name]);
        command
    }

    /// Runs `kubectl` in this namespace; what it prints.
    ///
    /// # Panics
    /// When it fails, with all that it said.
    #[track_caller]
    pub fn kubectl(&self, args: &[&str]) -> String {
        self.try_kubectl(args).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Runs `kubectl` in this namespace; what it prints, or else its complaint.
    pub fn try_kubectl(&self, args: &[&str]) -> Result<String, String> {
        run(self.command("kubectl").args(args), None)
    }

    /// The output of `kubectl ARGS -o json`.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.kubectl(&[args, &["-o", "json"]].concat());
        serde_json::from_str(&text)
            .unwrap_or_else(|why| panic!("kubectl {args:?} says no JSON ({why}): {text}"))
    }

    /// Applies a manifest, whose objects name no namespace or this one; what `kubectl` prints.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        self.try_apply(manifest, &[]).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Applies a manifest with more arguments to `kubectl apply`; what it prints, or else its complaint.
    pub fn try_apply(&self, manifest: &str, args: &[&str]) -> Result<String, String> {
        run(self.command("kubectl").args(["apply", "-f", "-"]).args(args), Some(manifest))
    }

    /// Runs `helm` in this namespace; what it prints.
    ///
    /// # Panics
    /// When it fails, with all that it said.
    #[track_caller]
    pub fn helm(&self, args: &[&str]) -> String {
        run(self.command("helm").args(args), None).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Looks until `look` has what it wants, and returns that; in between it says how things stand.
    ///
    /// # Panics
    /// When it takes longer than `patience`, with how things stood last and all that is to be known about the namespace.
    #[track_caller]
    pub fn wait_until<T>(
        &self,
        wanted: &str,
        patience: Duration,
        mut look: impl FnMut() -> Result<T, String>,
    ) -> T {
        let end = Instant::now() + patience;
        loop {
            match look() {
                Ok(found) => return found,
                Err(stands) if Instant::now() > end => {
                    self.told.set(true);
                    let known = self.diagnosis();
                    panic!("not within {patience:?}: {wanted}\nlast: {stands}\n{known}");
                }
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// Waits for a pod to end; its phase and what it wrote.
    ///
    /// # Panics
    /// When it does not end within `patience`.
    #[track_caller]
    pub fn end_of_pod(&self, pod: &str, patience: Duration) -> (String, String) {
        let phase = self.wait_until(&format!("pod {pod} ends"), patience, || {
            let phase = self.try_kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.phase}"])?;
            if ["Succeeded", "Failed"].contains(&phase.as_str()) { Ok(phase) } else { Err(phase) }
        });
        (phase, self.kubectl(&["logs", pod]))
    }

    /// All that is to be known about the namespace: objects, pods, the ends of their logs, events.
    pub fn diagnosis(&self) -> String {
        let mut told = String::new();
        let mut ask = |args: &[&str]| {
            let answer = self.try_kubectl(args).unwrap_or_else(|why| why);
            writeln!(told, "--- kubectl -n {} {}\n{}", self.name, args.join(" "), answer.trim_end())
                .expect("a String takes everything");
        };
        ask(&["get", "all,configmaps,persistentvolumeclaims", "-o", "wide"]);
        ask(&["get", "mailferry", "-o", "wide"]);
        ask(&["describe", "mailmigrations"]);
        ask(&["describe", "pods"]);
        let pods = self.try_kubectl(&["get", "pods", "-o", "name"]).unwrap_or_default();
        for pod in pods.lines() {
            ask(&["logs", pod, "--all-containers", "--prefix", "--tail=100"]);
        }
        ask(&["get", "events", "--sort-by=.metadata.creationTimestamp"]);
        told
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if thread::panicking() && !self.told.get() {
            eprintln!("{}", self.diagnosis());
        }
        if env::var_os("MAILFERRY_TEST_KEEP").is_some() {
            eprintln!("namespace {} is kept", self.name);
            return;
        }
        if let Err(why) =
            self.cluster.try_kubectl(&["delete", "namespace", &self.name, "--wait=false", "--now"])
        {
            eprintln!("{why}");
        }
    }
}

/// One of the scripts of `tests/cluster`.
fn script(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster").join(name))
}

fn settings() -> Settings {
    let text = run(&mut script("env"), None).unwrap_or_else(|why| panic!("{why}"));
    let ours = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("export {name}='")));
        line.and_then(|line| line.split_once('\'')).map(|(value, _)| value.to_owned()).expect("a setting")
    };
    let kubeconfig = env::var("KUBECONFIG").unwrap_or_else(|_| ours("KUBECONFIG"));
    let own = kubeconfig == ours("KUBECONFIG");
    let host =
        env::var("MAILFERRY_TEST_HOST_IP").ok().or_else(|| own.then(|| ours("MAILFERRY_TEST_HOST_IP")));
    // Our own kubectl and helm fit; where they were not built, those on the path do.
    let path = format!("{}:{}", ours("PATH"), env::var("PATH").unwrap_or_default());
    let mut variables = vec![("KUBECONFIG".to_owned(), kubeconfig.clone()), ("PATH".to_owned(), path)];
    if own {
        // The cache that kubectl keeps of a cluster must not outlive it.
        variables.push(("KUBECACHEDIR".to_owned(), ours("KUBECACHEDIR")));
    }
    Settings {
        state: own.then(|| Path::new(&kubeconfig).parent().expect("a directory").to_owned()),
        host: host.map(|ip| ip.parse().expect("MAILFERRY_TEST_HOST_IP is an IP address")),
        kubeconfig,
        variables,
    }
}

/// Runs a command to its end: what it prints, or else the command and all that it said.
fn run(command: &mut Command, input: Option<&str>) -> Result<String, String> {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let shown = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let mut child = command
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|why| format!("{shown}: {why}"))?;
    if let Some(input) = input {
        let mut pipe = child.stdin.take().expect("a pipe");
        // A command that ends early says why itself.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|why| format!("{shown}: {why}"))?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(out);
    }
    Err(format!("{shown}: {}\n{out}{}", output.status, String::from_utf8_lossy(&output.stderr)))
}
