//! A name server of a zone: NSD at port 53 of a loopback address that nobody else uses. Primaries and secondaries that transfer
//! the zone as on the Internet; each may be stopped, and started with another zone. Only the superuser may use that port.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicU8, Ordering};

use tempfile::TempDir;

use super::process::{self, Server};

/// The content of a name server.
#[derive(Clone, Debug)]
pub enum Zone {
    /// The zone with this text; it tells these secondaries when it starts.
    Primary(String, String, Vec<IpAddr>),
    /// The zone as this primary has it, and an hour later again unless it is told.
    Secondary(String, IpAddr),
    /// The zone, and nothing of what is in it: it fails.
    Broken(String),
}

/// A running name server.
#[derive(Debug)]
pub struct Authority {
    address: IpAddr,
    server: Option<Server>,
    directory: TempDir,
}

/// So many loopback addresses at which nobody answers questions, in one network: its CIDR notation, and they.
pub fn addresses(count: u8) -> (String, Vec<IpAddr>) {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    loop {
        // Test binaries run side by side.
        let own = u8::try_from(std::process::id() % 100).expect("less than a hundred") + 100;
        let third = NEXT.fetch_add(1, Ordering::SeqCst);
        let all: Vec<IpAddr> = (0..count).map(|n| Ipv4Addr::new(127, own, third, n + 2).into()).collect();
        if all.iter().all(|address| UdpSocket::bind((*address, 53)).is_ok()) {
            return (format!("127.{own}.{third}.0/24"), all);
        }
    }
}

impl Authority {
    /// Starts a name server with a zone.
    pub fn start(address: IpAddr, zone: Zone) -> Self {
        let directory =
            tempfile::Builder::new().prefix("mailferry-nsd-").tempdir().expect("a temporary directory");
        let mut authority = Self { address, server: None, directory };
        authority.serve(zone);
        authority
    }

    /// Serves another zone from now on.
    #[allow(clippy::needless_pass_by_value, reason = "a zone is made for it")]
    pub fn serve(&mut self, zone: Zone) {
        self.stop();
        let folder = self.directory.path();
        let in_folder = |name: &str| folder.join(name).display().to_string();
        let mut text = format!(
            "server:\n  ip-address: {}@53\n  username: root\n  chroot: \"\"\n  database: \"\"\n  server-count: 1\n  \
             zonesdir: \"{}\"\n  pidfile: \"{}\"\n  xfrdfile: \"{}\"\n  xfrdir: \"{}\"\n  zonelistfile: \"{}\"\n  \
             verbosity: 2\n  xfrd-reload-timeout: 0\nremote-control:\n  control-enable: no\n",
            self.address,
            folder.display(),
            in_folder("nsd.pid"),
            in_folder("xfrd.state"),
            folder.display(),
            in_folder("zone.list"),
        );
        let (name, more) = match &zone {
            Zone::Primary(name, records, secondaries) => {
                fs::write(folder.join("zone"), records).expect("the zone can be written");
                let mut more = "  zonefile: \"zone\"\n  provide-xfr: 127.0.0.0/8 NOKEY\n".to_owned();
                for secondary in secondaries {
                    let _ = writeln!(more, "  notify: {secondary}@53 NOKEY");
                }
                (name, more)
            }
            Zone::Secondary(name, primary) => (
                name,
                format!(
                    "  zonefile: \"secondary\"\n  request-xfr: AXFR {primary}@53 NOKEY\n  allow-notify: 127.0.0.0/8 NOKEY\n"
                ),
            ),
            Zone::Broken(name) => (name, "  zonefile: \"nowhere\"\n".to_owned()),
        };
        let _ = write!(text, "zone:\n  name: \"{name}\"\n{more}");
        let configuration = folder.join("nsd.conf");
        fs::write(&configuration, text).expect("the configuration can be written");
        let log = folder.join("nsd.log");
        let program = ["/usr/sbin/nsd", "/usr/local/sbin/nsd"]
            .into_iter()
            .find(|path| fs::exists(path).unwrap_or_default())
            .unwrap_or("nsd");
        let mut server =
            Server::start(program, ["-d".as_ref(), "-c".as_ref(), configuration.as_os_str()], &log);
        let address = self.address;
        let starts = server.wait_until(|| process::answers((address, 53).into()));
        assert!(starts, "nsd does not start: {}", fs::read_to_string(&log).unwrap_or_default());
        self.server = Some(server);
    }

    /// Ends it.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Where it answers.
    pub fn address(&self) -> IpAddr {
        self.address
    }
}
