//! Stands between Mailferry and a server and does harm: once, at a pattern or at the N-th byte of one direction. Or it is a
//! slow link.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::support::dovecot::LOOPBACK;

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
}

/// The moment of the harm.
#[derive(Clone, Debug)]
pub enum Moment {
    /// When this many bytes have passed, over all connections.
    Byte(u64),
    /// Before the n-th occurrence of a text, the first is 1; over all connections.
    Text(&'static str, u32),
}

/// The harm.
#[derive(Clone)]
pub enum Harm {
    /// Both sides see the connection end.
    Cut,
    /// Both sides see it break.
    Reset,
    /// Nothing passes for so long; then all goes on.
    Hold(Duration),
    /// The server's data is lost, while the client's arrives, for so long; then the connection ends.
    Swallow(Duration),
    /// From here on everything passes in pieces of so many bytes.
    Slice(usize),
    /// Something happens elsewhere; what is here goes on when it is done.
    Meanwhile(Arc<dyn Fn() + Send + Sync>),
}

impl std::fmt::Debug for Harm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cut => f.write_str("Cut"),
            Self::Reset => f.write_str("Reset"),
            Self::Hold(time) => write!(f, "Hold({time:?})"),
            Self::Swallow(time) => write!(f, "Swallow({time:?})"),
            Self::Slice(bytes) => write!(f, "Slice({bytes})"),
            Self::Meanwhile(_) => f.write_str("Meanwhile"),
        }
    }
}

/// Changes a line of what the server says; short lines only, so that no message is touched.
pub type Edit = fn(&[u8]) -> Option<Vec<u8>>;

/// The plan of a proxy.
#[derive(Clone, Debug)]
pub struct Plan {
    pub way: Way,
    pub moment: Moment,
    pub harm: Harm,
}

struct Shared {
    plan: Option<Plan>,
    edit: Option<Edit>,
    passed: [AtomicU64; 2],
    seen: AtomicU64,
    done: AtomicBool,
    slice: AtomicU64,
    swallowing: AtomicBool,
    /// Bytes that pass in a second, one way of one connection.
    rate: Option<u32>,
}

/// A proxy; gone when it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Does one harm.
    pub async fn harming(server: SocketAddr, plan: Plan) -> Self {
        Self::start(server, Some(plan), None).await
    }

    /// Changes lines of the server.
    pub async fn editing(server: SocketAddr, edit: Edit) -> Self {
        Self::start(server, None, Some(edit)).await
    }

    /// Lets so many bytes pass in a second, one way of one connection.
    pub async fn slow(listen: IpAddr, server: SocketAddr, rate: u32) -> Self {
        Self::begin(listen, server, None, None, Some(rate)).await
    }

    pub async fn start(server: SocketAddr, plan: Option<Plan>, edit: Option<Edit>) -> Self {
        Self::begin(LOOPBACK.ip(), server, plan, edit, None).await
    }

    async fn begin(
        listen: IpAddr,
        server: SocketAddr,
        plan: Option<Plan>,
        edit: Option<Edit>,
        rate: Option<u32>,
    ) -> Self {
        let listener = TcpListener::bind((listen, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            plan,
            edit,
            passed: Default::default(),
            seen: AtomicU64::default(),
            done: AtomicBool::default(),
            slice: AtomicU64::default(),
            swallowing: AtomicBool::default(),
            rate,
        });
        let mine = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(server).await else { continue };
                tokio::spawn(join(client, server, Arc::clone(&mine)));
            }
        });
        Self { address, shared, task }
    }

    /// How many bytes have passed one way, over all connections.
    pub fn passed(&self, way: Way) -> u64 {
        self.shared.passed[way as usize].load(Ordering::SeqCst)
    }

    /// Whether the harm was done.
    pub fn has_harmed(&self) -> bool {
        self.shared.done.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

enum End {
    /// One side has ended or the connection is over for other reasons.
    Quiet,
    Reset,
}

async fn join(client: TcpStream, server: TcpStream, shared: Arc<Shared>) {
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (mut up, mut down) = (
        Pump::new(Way::ToServer, from_client, to_server, &shared),
        Pump::new(Way::ToClient, from_server, to_client, &shared),
    );
    let end = tokio::select! {
        end = up.run() => end,
        end = down.run() => end,
    };
    if matches!(end, End::Reset) {
        let client = up.from.reunite(down.to).unwrap();
        let server = down.from.reunite(up.to).unwrap();
        client.set_zero_linger().unwrap();
        server.set_zero_linger().unwrap();
        return;
    }
    // Data that the other direction still holds passes on, as a server's last words do.
    let _ = up.to.shutdown().await;
    let mut rest = vec![0; 65536];
    while !shared.swallowing.load(Ordering::SeqCst)
        && !matches!(shared.plan, Some(Plan { harm: Harm::Cut, .. }))
    {
        match tokio::time::timeout(Duration::from_millis(200), down.from.read(&mut rest)).await {
            Ok(Ok(read)) if read > 0 => {
                if down.to.write_all(&rest[..read]).await.is_err() {
                    break;
                }
            }
            _ => break,
        }
    }
    let _ = down.to.shutdown().await;
}

struct Pump<'a> {
    way: Way,
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    shared: &'a Shared,
    /// The end of what has passed, in which a text may have begun.
    tail: Vec<u8>,
    /// A line that is not whole yet, where lines are edited.
    line: Vec<u8>,
    /// Until when slices are made: beyond that all passes as it is.
    sliced_until: Option<Instant>,
}

/// How long one direction of a connection passes in slices. If they took longer, as they do on a busy machine, what a client
/// wrote before it went would reach a server longer after that than any destination is waited for.
const SLICED_FOR: Duration = Duration::from_secs(2);

impl<'a> Pump<'a> {
    fn new(way: Way, from: OwnedReadHalf, to: OwnedWriteHalf, shared: &'a Shared) -> Self {
        Self { way, from, to, shared, tail: Vec::new(), line: Vec::new(), sliced_until: None }
    }

    async fn run(&mut self) -> End {
        let mut buffer = vec![0; 65536];
        loop {
            let read = match self.from.read(&mut buffer).await {
                Ok(0) | Err(_) => return End::Quiet,
                Ok(read) => read,
            };
            let bytes = self.edit(&buffer[..read]);
            let before =
                self.shared.passed[self.way as usize].fetch_add(bytes.len() as u64, Ordering::SeqCst);
            let Some((at, harm)) = self.harm_in(&bytes, before) else {
                if self.pass(&bytes).await.is_err() {
                    return End::Quiet;
                }
                continue;
            };
            if self.pass(&bytes[..at]).await.is_err() {
                return End::Quiet;
            }
            match harm {
                Harm::Cut => return End::Quiet,
                Harm::Reset => return End::Reset,
                Harm::Hold(time) => sleep(time).await,
                Harm::Swallow(time) => {
                    self.shared.swallowing.store(true, Ordering::SeqCst);
                    // The other pump goes on; what the server says here is read and forgotten.
                    let forget =
                        async { while self.from.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
                    let _ = tokio::time::timeout(time, forget).await;
                    return End::Quiet;
                }
                Harm::Slice(size) => self.shared.slice.store(size as u64, Ordering::SeqCst),
                Harm::Meanwhile(act) => tokio::task::spawn_blocking(move || act()).await.unwrap(),
            }
            if self.pass(&bytes[at..]).await.is_err() {
                return End::Quiet;
            }
        }
    }

    /// Where in these bytes the harm is due.
    fn harm_in(&mut self, bytes: &[u8], before: u64) -> Option<(usize, Harm)> {
        let plan = self.shared.plan.as_ref().filter(|plan| plan.way == self.way)?;
        let at = match &plan.moment {
            Moment::Byte(at) => {
                let inside = usize::try_from(at.checked_sub(before)?).ok()?;
                (inside < bytes.len()).then_some(inside)
            }
            Moment::Text(text, nth) => {
                let text = text.as_bytes();
                let known = self.tail.len();
                let mut all = std::mem::take(&mut self.tail);
                all.extend_from_slice(bytes);
                let mut found = None;
                for start in 0..(all.len() + 1).saturating_sub(text.len()) {
                    if all[start..].starts_with(text) {
                        let nth_now = self.shared.seen.fetch_add(1, Ordering::SeqCst) + 1;
                        if nth_now == u64::from(*nth) {
                            found = Some(start.saturating_sub(known));
                        }
                    }
                }
                self.tail = all.split_off(all.len().saturating_sub(text.len() - 1));
                found
            }
        }?;
        (!self.shared.done.swap(true, Ordering::SeqCst)).then(|| (at, plan.harm.clone()))
    }

    fn edit(&mut self, bytes: &[u8]) -> Vec<u8> {
        let (Some(edit), Way::ToClient) = (self.shared.edit, self.way) else { return bytes.to_vec() };
        let mut out = Vec::with_capacity(bytes.len());
        for byte in bytes {
            self.line.push(*byte);
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                out.extend(edit(&line).unwrap_or(line));
            }
        }
        // A server's line ends; the middle of a message need not be waited for.
        if self.line.len() > 2000 {
            out.append(&mut self.line);
        }
        out
    }

    async fn pass(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.way == Way::ToClient && self.shared.swallowing.load(Ordering::SeqCst) {
            return Ok(());
        }
        if let Some(rate) = self.shared.rate {
            // Data that it holds back fills up the buffers before it, as at any narrow place.
            for piece in bytes.chunks(1 + rate as usize / 50) {
                sleep(Duration::from_secs(1) * u32::try_from(piece.len()).unwrap() / rate).await;
                self.to.write_all(piece).await?;
            }
            return Ok(());
        }
        match usize::try_from(self.shared.slice.load(Ordering::SeqCst)).unwrap() {
            0 => self.to.write_all(bytes).await,
            size => {
                let until = *self.sliced_until.get_or_insert_with(|| Instant::now() + SLICED_FOR);
                let mut rest = bytes;
                while !rest.is_empty() && Instant::now() < until {
                    let (piece, behind) = rest.split_at(rest.len().min(size));
                    self.to.write_all(piece).await?;
                    rest = behind;
                    tokio::task::yield_now().await;
                }
                self.to.write_all(rest).await
            }
        }
    }
}

/// Takes UIDPLUS and what belongs to it out of what a server says.
pub fn without_uidplus(line: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(line).ok().filter(|text| text.len() < 2000)?;
    if let (Some(start), true) = (text.find("[APPENDUID "), text.contains(" OK ")) {
        let end = start + text[start..].find(']')? + 1;
        return Some([&line[..start], text[end..].trim_start().as_bytes()].concat());
    }
    text.contains(" UIDPLUS").then(|| text.replace(" UIDPLUS", "").into_bytes())
}

/// Takes TOP out of what a POP3 server says that it can do.
pub fn without_top(line: &[u8]) -> Option<Vec<u8>> {
    (line == b"TOP\r\n").then(Vec::new)
}
