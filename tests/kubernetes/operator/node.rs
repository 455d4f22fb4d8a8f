//! Pods as this machine sees them, without the API server: their processes, and the metrics of an operator.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::cluster::Namespace;

/// The names of the pods of a namespace.
pub(crate) fn pods(space: &Namespace) -> BTreeSet<String> {
    let names = space.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].metadata.name}"]);
    names.split_whitespace().map(str::to_owned).collect()
}

/// A process of a pod.
pub(crate) struct Process {
    /// The pod.
    pub(crate) pod: String,
    /// Its number on this machine.
    pub(crate) id: u32,
    /// Its command line as the kernel has it.
    pub(crate) line: Vec<u8>,
    /// Its environment as the kernel has it.
    pub(crate) environment: Vec<u8>,
    /// Resident memory in bytes.
    pub(crate) resident: u64,
}

/// The processes of some pods. The name of the host is the pod's, or what it begins with in a Job.
pub(crate) fn processes(pods: &BTreeSet<String>) -> Vec<Process> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |what: &str| fs::read(entry.path().join(what)).unwrap_or_default();
        let environment = read("environ");
        let mut variables = environment.split(|byte| *byte == 0);
        let host = variables.find_map(|variable| variable.strip_prefix(b"HOSTNAME="));
        let Some(host) = host.map(String::from_utf8_lossy) else { continue };
        let of_host = |pod: &&String| {
            pod.strip_prefix(&*host).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        if let Some(pod) = pods.iter().find(of_host) {
            let status = String::from_utf8_lossy(&read("status")).into_owned();
            let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let resident = resident.and_then(|size| size.trim().trim_end_matches(" kB").parse::<u64>().ok());
            let resident = resident.unwrap_or_default() * 1024;
            let id = entry.file_name().to_string_lossy().parse().unwrap();
            found.push(Process { pod: pod.clone(), id, line: read("cmdline"), environment, resident });
        }
    }
    found
}

/// The operator of a namespace.
pub(crate) struct Operator {
    pod: String,
    metrics: SocketAddr,
}

impl Operator {
    /// The one that is there now.
    #[track_caller]
    pub(crate) fn of(space: &Namespace) -> Self {
        let pods = space.json(&["get", "pods", "-l", "app.kubernetes.io/component=operator"]);
        let mut pods = pods["items"].as_array().unwrap().iter();
        // One that was replaced a moment ago may still be listed.
        let pod = pods.find(|pod| pod["metadata"]["deletionTimestamp"].is_null()).expect("an operator");
        let address = pod["status"]["podIP"].as_str().expect("an operator that runs");
        Self {
            pod: pod["metadata"]["name"].as_str().unwrap().to_owned(),
            metrics: SocketAddr::new(address.parse().unwrap(), 8080),
        }
    }

    /// Resident memory in bytes.
    #[track_caller]
    pub(crate) fn resident(&self) -> u64 {
        let own = processes(&BTreeSet::from([self.pod.clone()]));
        own.iter().map(|process| process.resident).max().expect("a process")
    }

    /// The text that it serves at /metrics.
    fn metrics(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.metrics, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Requests to the API server since it began, of some verbs, or of all; none when it cannot say.
    pub(crate) fn requests(&self, verbs: &[&str]) -> Option<u64> {
        let text = self.metrics().ok()?;
        let counts = text.lines().filter_map(|line| {
            let (labels, count) = line.strip_prefix("mailferry_api_requests_total{")?.split_once("} ")?;
            let wanted =
                verbs.is_empty() || verbs.iter().any(|verb| labels.contains(&format!("verb=\"{verb}\"")));
            if wanted { count.trim().parse::<u64>().ok() } else { None }
        });
        let counts: Vec<u64> = counts.collect();
        if counts.is_empty() { None } else { Some(counts.iter().sum()) }
    }
}
