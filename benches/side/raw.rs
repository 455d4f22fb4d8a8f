//! The limit: a copier that streams FETCH into MULTIAPPEND and does nothing else. No ledger, no identity, no checks, no
//! recovery: it shows what two servers can do, and is not a way to move mail. Each thread carries whole folders, the
//! largest first.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::Job;

/// Messages and bytes of one APPEND command.
const BATCH: (usize, usize) = (100, 4 << 20);
/// Commands without an answer yet.
const WINDOW: usize = 32;

/// The bytes' way; clones share it.
#[derive(Clone)]
enum Stream {
    Plain(Arc<TcpStream>),
    Tls(Arc<Mutex<StreamOwned<ClientConnection, TcpStream>>>),
}

impl Stream {
    fn open(port: u16, job: &Job) -> io::Result<Self> {
        let tcp = TcpStream::connect((job.host.as_str(), port))?;
        tcp.set_nodelay(true)?;
        let Some(authority) = &job.authority else { return Ok(Self::Plain(Arc::new(tcp))) };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(
            CertificateDer::pem_slice_iter(authority.as_bytes()).filter_map(Result::ok),
        );
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from(job.host.clone()).map_err(io::Error::other)?;
        let tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        Ok(Self::Tls(Arc::new(Mutex::new(StreamOwned::new(tls, tcp)))))
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => (&**tcp).read(buf),
            Self::Tls(tls) => tls.lock().unwrap_or_else(PoisonError::into_inner).read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => (&**tcp).write(buf),
            Self::Tls(tls) => tls.lock().unwrap_or_else(PoisonError::into_inner).write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => (&**tcp).flush(),
            Self::Tls(tls) => tls.lock().unwrap_or_else(PoisonError::into_inner).flush(),
        }
    }
}

/// One logged-in connection.
struct Connection {
    read: BufReader<Stream>,
    write: BufWriter<Stream>,
    tags: usize,
}

impl Connection {
    fn open(port: u16, job: &Job) -> io::Result<Self> {
        let stream = Stream::open(port, job)?;
        let read = BufReader::with_capacity(256 << 10, stream.clone());
        let mut connection = Self { read, write: BufWriter::with_capacity(256 << 10, stream), tags: 0 };
        connection.line()?;
        connection.run(&format!("LOGIN \"{}\" \"{}\"", job.user, job.password))?;
        Ok(connection)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        if self.read.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Writes a command's beginning; its tag comes back.
    fn begin(&mut self, command: &str) -> io::Result<String> {
        self.tags += 1;
        let tag = format!("r{}", self.tags);
        write!(self.write, "{tag} {command}")?;
        Ok(tag)
    }

    /// Reads to a command's end; untagged lines come back.
    fn finish(&mut self, tag: &str) -> io::Result<Vec<String>> {
        self.write.flush()?;
        let mut untagged = Vec::new();
        loop {
            let line = self.line()?;
            match line.strip_prefix(tag).map(str::trim_start) {
                Some(end) if end.starts_with("OK") => return Ok(untagged),
                Some(end) => return Err(io::Error::other(end.to_owned())),
                None => untagged.push(line),
            }
        }
    }

    fn run(&mut self, command: &str) -> io::Result<Vec<String>> {
        let tag = self.begin(&format!("{command}\r\n"))?;
        self.finish(&tag)
    }
}

/// Copies everything with so many connections at each side; returns how many messages there were.
pub fn run(job: &Job) -> io::Result<usize> {
    let mut first = Connection::open(job.source, job)?;
    let mut folders = Vec::new();
    for line in first.run("LIST \"\" \"*\" RETURN (STATUS (MESSAGES))")? {
        // `* STATUS name (MESSAGES n)`
        let Some((name, rest)) = line.strip_prefix("* STATUS ").and_then(|l| l.rsplit_once(" (MESSAGES "))
        else {
            continue;
        };
        folders.push((rest.trim_end_matches(')').parse::<usize>().unwrap_or(0), name.to_owned()));
    }
    let mut maker = Connection::open(job.destination, job)?;
    let made: Vec<String> = folders
        .iter()
        .map(|(_, name)| maker.begin(&format!("CREATE {name}\r\n")))
        .collect::<io::Result<_>>()?;
    for tag in made {
        // A folder that is there already is refused, which is fine.
        let _ = maker.finish(&tag);
    }
    folders.sort();
    let (queue, lanes) = (Mutex::new(VecDeque::from(folders)), job.sessions);
    thread::scope(|scope| {
        let lane = || -> io::Result<usize> {
            let mut source = Connection::open(job.source, job)?;
            let mut destination = Connection::open(job.destination, job)?;
            let mut copied = 0;
            loop {
                let next = queue.lock().ok().and_then(|mut queue| queue.pop_back());
                let Some((messages, name)) = next else { return Ok(copied) };
                if messages > 0 {
                    copied += copy_folder(&mut source, &mut destination, &name)?;
                }
            }
        };
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        lanes
            .into_iter()
            .map(|lane| lane.join().unwrap_or_else(|_| Err(io::Error::other("a thread died"))))
            .sum()
    })
}

fn copy_folder(source: &mut Connection, destination: &mut Connection, name: &str) -> io::Result<usize> {
    let open = source.begin(&format!("EXAMINE {name}\r\n"))?;
    let fetch = source.begin("UID FETCH 1:* (FLAGS INTERNALDATE BODY.PEEK[])\r\n")?;
    source.finish(&open)?;
    let (mut copied, mut batch) = (0, (0, 0));
    let mut in_flight: VecDeque<String> = VecDeque::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        let line = source.line()?;
        if line.starts_with(&fetch) {
            break;
        }
        let Some(size) = line.strip_suffix('}').and_then(|l| l.rsplit_once('{')?.1.parse::<usize>().ok())
        else {
            continue;
        };
        let between = |from: &str, to: char| line.split_once(from).and_then(|(_, rest)| rest.split_once(to));
        let flags = between("FLAGS (", ')').map_or("", |(flags, _)| flags).replace("\\Recent", "");
        let date = between("INTERNALDATE \"", '"').map_or("", |(date, _)| date);
        if batch.0 >= BATCH.0 || (batch.0 > 0 && batch.1 + size > BATCH.1) {
            destination.write.write_all(b"\r\n")?;
            batch = (0, 0);
            while in_flight.len() >= WINDOW {
                if let Some(tag) = in_flight.pop_front() {
                    destination.finish(&tag)?;
                }
            }
        }
        if batch.0 == 0 {
            in_flight.push_back(destination.begin(&format!("APPEND {name}"))?);
        }
        write!(destination.write, " ({}) \"{date}\" {{{size}+}}\r\n", flags.trim())?;
        let mut left = size;
        while left > 0 {
            let read = source.read.read(&mut piece[..left.min(64 << 10)])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            destination.write.write_all(&piece[..read])?;
            left -= read;
        }
        batch = (batch.0 + 1, batch.1 + size);
        copied += 1;
    }
    if batch.0 > 0 {
        destination.write.write_all(b"\r\n")?;
    }
    for tag in in_flight {
        destination.finish(&tag)?;
    }
    Ok(copied)
}
