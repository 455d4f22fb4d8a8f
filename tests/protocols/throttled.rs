//! Servers that ask for a pause in mid-work, in the words of known servers: a front before a real one says them in place of
//! an answer. Sessions get fewer, nobody comes back before the time that was named, all mail arrives once, and nothing
//! counts as a failure.

use crate::ferry;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::ferry::{Ferry, Manifest, assert_equation, figure};
use crate::support::compare::differences;
use crate::support::corpus::Corpus;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};

const PASSWORD: &str = "alice-secret";
/// Asked of the real server in place of a command that is to be refused, so that the refusal comes in its turn.
const NOWHERE: &str = "throttled-by-the-front";
/// For how long sessions that were given up stay away at least (`src/net/allowance.rs`).
const QUIET: Duration = Duration::from_secs(30);
/// Refusals that several sessions hear within this time halve once (as there).
const ONE_EVENT: Duration = Duration::from_secs(1);

/// The word in place of an answer.
#[derive(Clone, Copy, Debug)]
enum Word {
    /// The command is refused.
    No(&'static str),
    /// The connection ends.
    Bye(&'static str),
}

/// Once four sessions have been there: after so many commands of a kind, a word, and the time that it names.
#[derive(Clone, Copy, Debug)]
struct Line {
    verb: &'static str,
    after: usize,
    word: Word,
    wait: Duration,
}

/// An event that the front saw.
#[derive(Clone, Copy, Debug)]
enum Seen {
    /// A login, and how many connections there are then.
    Login(usize),
    /// A line of the script was said, with so many connections.
    Said(Line, usize),
}

#[derive(Default)]
struct Diary {
    open: usize,
    most: usize,
    /// Commands counted for the line that is next.
    count: usize,
    next: usize,
    seen: Vec<(Instant, Seen)>,
}

struct Front {
    server: SocketAddr,
    script: Vec<Line>,
    diary: Mutex<Diary>,
}

impl Front {
    /// Stands before a server, at an address of its own.
    fn start(last: u8, server: SocketAddr, script: &[Line]) -> (SocketAddr, Arc<Self>) {
        let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let front = Arc::new(Self { server, script: script.to_vec(), diary: Mutex::default() });
        let there = Arc::clone(&front);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let front = Arc::clone(&there);
                thread::spawn(move || {
                    front.diary.lock().unwrap().open += 1;
                    let _ = front.stand_between(&client);
                    let _ = client.shutdown(Shutdown::Both);
                    front.diary.lock().unwrap().open -= 1;
                });
            }
        });
        (address, front)
    }

    fn stand_between(&self, client: &TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let server = TcpStream::connect(self.server)?;
        server.set_nodelay(true)?;
        let refusal: Arc<Mutex<&str>> = Arc::default();
        // Whole lines, so that a last word is never in the middle of one.
        let to_client = Arc::new(Mutex::new(client.try_clone()?));
        let answers = {
            let (server, to_client, refusal) =
                (server.try_clone()?, Arc::clone(&to_client), Arc::clone(&refusal));
            thread::spawn(move || {
                let mut lines = BufReader::new(server);
                let mut line = Vec::new();
                while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                    if let Some(text) = std::str::from_utf8(&line).ok().filter(|text| text.contains(NOWHERE))
                    {
                        let tag = text.split(' ').next().unwrap_or_default();
                        line = format!("{tag} NO {}\r\n", refusal.lock().unwrap()).into_bytes();
                    }
                    if to_client.lock().unwrap().write_all(&line).is_err() {
                        break;
                    }
                    line.clear();
                }
                let _ = to_client.lock().unwrap().shutdown(Shutdown::Both);
            })
        };
        let mut commands = BufReader::new(client.try_clone()?);
        while let Some(command) = read_command(&mut commands)? {
            match self.judge(&command) {
                None => (&server).write_all(&command)?,
                Some(Word::No(text)) => {
                    *refusal.lock().unwrap() = text;
                    let tag = command.split(|byte| *byte == b' ').next().unwrap_or_default();
                    let tag = String::from_utf8_lossy(tag);
                    (&server).write_all(format!("{tag} STATUS {NOWHERE} (MESSAGES)\r\n").as_bytes())?;
                }
                Some(Word::Bye(text)) => {
                    to_client.lock().unwrap().write_all(format!("* BYE {text}\r\n").as_bytes())?;
                    break;
                }
            }
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
        answers.join().unwrap();
        Ok(())
    }

    /// Notes a command; what is to be said in place of an answer, if anything is.
    fn judge(&self, command: &[u8]) -> Option<Word> {
        let mut diary = self.diary.lock().unwrap();
        let line = command.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let text = String::from_utf8_lossy(line).to_ascii_uppercase();
        let verb = text.split_once(' ').map(|(_, rest)| rest).unwrap_or_default();
        if verb.starts_with("LOGIN") || verb.starts_with("AUTHENTICATE") {
            diary.most = diary.most.max(diary.open);
            let login = Seen::Login(diary.open);
            diary.seen.push((Instant::now(), login));
        }
        let line = *self.script.get(diary.next).filter(|line| verb.contains(line.verb))?;
        // Later lines are said to whoever is left.
        if diary.next == 0 && diary.most < 4 {
            return None;
        }
        diary.count += 1;
        if diary.count <= line.after {
            return None;
        }
        (diary.count, diary.next) = (0, diary.next + 1);
        let said = Seen::Said(line, diary.open);
        diary.seen.push((Instant::now(), said));
        Some(line.word)
    }

    /// All was said; nobody came back too early, and never more than half of those who were there. A session that was
    /// asked for a pause when no other was left did come back.
    fn assert_obeyed(&self) {
        if self.script.is_empty() {
            return;
        }
        let mut back = 0;
        let diary = self.diary.lock().unwrap();
        assert_eq!(diary.next, self.script.len(), "not all was said: {:#?}", diary.seen);
        let mut event: Option<(Instant, usize)> = None;
        for (at, seen) in &diary.seen {
            let Seen::Said(line, open) = seen else { continue };
            let (begun, open) = event.filter(|(begun, _)| *at - *begun < ONE_EVENT).unwrap_or((*at, *open));
            event = Some((begun, open));
            for (when, then) in &diary.seen {
                let (Seen::Login(others), Some(later)) = (then, when.checked_duration_since(*at)) else {
                    continue;
                };
                back += 1;
                assert!(later >= line.wait, "{line:?}, and a login after {later:?}: {:#?}", diary.seen);
                let halved = (open / 2).max(1);
                assert!(
                    later >= QUIET || *others <= halved,
                    "{line:?} to one of {open}, and {others} after {later:?}: {:#?}",
                    diary.seen
                );
            }
        }
        assert!(back > 0, "nobody came back: {:#?}", diary.seen);
    }
}

/// A whole command, its literals and all; `None` at the end.
fn read_command(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut command = Vec::new();
    loop {
        if from.read_until(b'\n', &mut command)? == 0 {
            return Ok(None);
        }
        let line = command.trim_ascii_end();
        let size = line.strip_suffix(b"+}").and_then(|line| {
            let digits = line.rsplit(|byte| *byte == b'{').next()?;
            std::str::from_utf8(digits).ok()?.parse::<u64>().ok()
        });
        match size {
            None => return Ok(Some(command)),
            Some(size) => drop(from.take(size).read_to_end(&mut command)?),
        }
    }
}

/// Carries a mailbox between two fronts.
fn carry(at_source: &[Line], at_destination: &[Line]) {
    let server = |name: &str| Dovecot::builder().imap(LOOPBACK).user(User::new(name, PASSWORD)).start();
    let (old, new) = (server("alice@old.test"), server("alice@new.test"));
    old.mailbox("alice@old.test").seed(Corpus::new(131).messages(400));
    let (source, before_source) = Front::start(2, old.imap(), at_source);
    let (destination, before_destination) = Front::start(3, new.imap(), at_destination);
    let secret = |user: &'static str| [("username", user), ("password", PASSWORD)];
    let manifest = Manifest::default()
        .secret("new", &secret("alice@new.test"))
        .secret("old.test", &secret("alice@old.test"))
        .destination(&format!(
            "{{host: {}, port: {}, tls: None, credentialsRef: {{name: new}}}}",
            destination.ip(),
            destination.port()
        ))
        .domain("old.test", &["alice"], &ferry::server("IMAP", source))
        // So slow that there is something to throttle, and no longer than a test may take.
        .policy("limits: {bytesPerSecond: 1000000}")
        .policy("settleSeconds: 1");
    let ferry = Ferry::new(&manifest.text()).env("MAILFERRY_LOG", "mailferry=debug");
    let ended = ferry.run(&[]);
    ended.expect_code(0);
    println!("{}\n{}", ended.stdout, ended.stderr);
    for front in [&before_source, &before_destination] {
        front.assert_obeyed();
    }
    let status = ferry.status();
    assert_equation(&status);
    assert_eq!((figure(&status, "copied"), figure(&status, "failed")), (400, 0), "{status}");
    let found =
        differences(&old.mailbox("alice@old.test").read_all(), &new.mailbox("alice@new.test").read_all());
    assert!(found.is_empty(), "{found:#?}");
}

/// One word in mid-work, and then so many that every session hears one.
fn script(verb: &'static str, first: (Word, u64), then: (Word, u64)) -> Vec<Line> {
    let line = |after, (word, seconds)| Line { verb, after, word, wait: Duration::from_secs(seconds) };
    std::iter::once(line(2, first)).chain((0..4).map(|_| line(0, then))).collect()
}

#[test]
fn a_destination_that_asks_for_pauses_is_obeyed() {
    let bye = Word::Bye("[UNAVAILABLE] Request is throttled. Suggested Backoff Time: 4000 milliseconds");
    let no = Word::No("Request is throttled. Suggested Backoff Time: 3000 milliseconds");
    carry(&[], &script("APPEND", (bye, 4), (no, 3)));
}

#[test]
fn a_source_that_asks_for_pauses_is_obeyed() {
    let no = Word::No("[THROTTLED] Suggested Backoff Time: 4000 milliseconds");
    let bye = Word::Bye("[UNAVAILABLE] Request is throttled. Suggested Backoff Time: 3000 milliseconds");
    carry(&script("BODY.PEEK[]", (no, 4), (bye, 3)), &[]);
}
