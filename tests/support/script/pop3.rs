//! POP3 as a plain server speaks it (RFC 1939, RFC 2449, RFC 5034). The content of the maildrop is fixed at the
//! login.

use std::io;
use std::sync::Arc;

use super::bend::{Answer, Command, End};
use super::store::Letter;
use super::{Line, Shared};

struct Session {
    shared: Arc<Shared>,
    /// The name that wants to log in.
    name: String,
    user: Option<String>,
    is_asking: bool,
    letters: Vec<Letter>,
    uidvalidity: u32,
}

/// Speaks with one client until it goes.
pub(super) fn serve(mut line: Line, shared: Arc<Shared>) -> io::Result<()> {
    let (name, letters) = (String::new(), Vec::new());
    let mut session = Session { shared, name, user: None, is_asking: false, letters, uidvalidity: 0 };
    let mut greeting = session.read(&line, b"GREETING\r\n".to_vec());
    let answer = session.shared.react(&mut greeting, || Answer::of("+OK ready\r\n"));
    if !line.say(&answer, "")? {
        return Ok(());
    }
    loop {
        let mut bytes = Vec::new();
        if !line.read(&mut bytes)? {
            return Ok(());
        }
        let mut command = session.read(&line, bytes);
        let (shared, given) = (Arc::clone(&session.shared), command.clone());
        let answer = shared.react(&mut command, || session.perform(&given));
        if !line.say(&answer, "")? {
            return Ok(());
        }
    }
}

impl Session {
    fn read(&self, line: &Line, bytes: Vec<u8>) -> Command {
        let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned();
        let text = if self.is_asking { format!("RESPONSE {text}") } else { text };
        let verb = text.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        let user = self.user.clone().unwrap_or_default();
        Command { verb, text, bytes, connection: line.connection, user, ..Command::default() }
    }

    /// The action and the answer of a plain server.
    fn perform(&mut self, command: &Command) -> Answer {
        let mut words = command.text.splitn(2, ' ').skip(1);
        let rest = words.next().unwrap_or_default().to_owned();
        match (command.verb.as_str(), self.user.is_some()) {
            ("CAPA", _) => {
                let words = self.shared.capabilities();
                listing("+OK", words.iter().map(|word| word.clone().into_bytes()))
            }
            ("QUIT", _) => Answer { end: End::Close, ..Answer::of("+OK see you\r\n") },
            ("USER", false) => {
                self.name = rest;
                Answer::of("+OK\r\n")
            }
            ("PASS", false) => {
                let user = self.shared.lets_in(&self.name, &rest).then(|| self.name.clone());
                self.let_in(user)
            }
            ("AUTH", false) if self.shared.offers("SASL PLAIN") => match rest.split_once(' ') {
                Some((mechanism, first)) if mechanism.eq_ignore_ascii_case("PLAIN") => {
                    self.let_in(self.shared.lets_in_plain(first))
                }
                None if rest.eq_ignore_ascii_case("PLAIN") => {
                    self.is_asking = true;
                    Answer::of("+ \r\n")
                }
                _ => Answer::of("-ERR no such mechanism\r\n"),
            },
            ("RESPONSE", false) => {
                self.is_asking = false;
                self.let_in(self.shared.lets_in_plain(&rest))
            }
            (_, false) => Answer::of("-ERR not before the login\r\n"),
            ("NOOP" | "RSET", _) => Answer::of("+OK\r\n"),
            ("STAT", _) => {
                let bytes: usize = self.letters.iter().map(size).sum();
                Answer::of(format!("+OK {} {bytes}\r\n", self.letters.len()))
            }
            ("LIST", _) => self.list(&rest, |letter| size(letter).to_string().into_bytes()),
            ("UIDL", _) if self.shared.offers("UIDL") => {
                let uidvalidity = self.uidvalidity;
                let name = |letter: &Letter| format!("{uidvalidity}-{}", letter.uid).into_bytes();
                self.list(&rest, |letter| letter.uidl.clone().unwrap_or_else(|| name(letter)))
            }
            ("RETR", _) => self.message(&rest, None),
            ("TOP", _) if self.shared.offers("TOP") => {
                let (number, lines) = rest.split_once(' ').unwrap_or((&rest, ""));
                match lines.parse() {
                    Ok(lines) => self.message(number, Some(lines)),
                    Err(_) => Answer::of("-ERR how many lines?\r\n"),
                }
            }
            _ => Answer::of("-ERR unknown command\r\n"),
        }
    }

    fn let_in(&mut self, user: Option<String>) -> Answer {
        self.user = user;
        if self.user.is_none() {
            return Answer::of("-ERR [AUTH] wrong\r\n");
        }
        let mut store = self.shared.store();
        let inbox = store.folder("INBOX");
        (self.letters, self.uidvalidity) = (inbox.letters.clone(), inbox.uidvalidity);
        Answer::of("+OK in\r\n")
    }

    /// One line for the message of this number, or a listing of all.
    fn list(&self, number: &str, of: impl Fn(&Letter) -> Vec<u8>) -> Answer {
        let row = |number: usize, letter: &Letter| [format!("{number} ").as_bytes(), &of(letter)].concat();
        if number.is_empty() {
            return listing("+OK", (1..).zip(&self.letters).map(|(number, letter)| row(number, letter)));
        }
        match self.letter(number) {
            Some((number, letter)) => Answer::of([b"+OK ", &row(number, letter)[..], b"\r\n"].concat()),
            None => Answer::of("-ERR no such message\r\n"),
        }
    }

    fn letter(&self, number: &str) -> Option<(usize, &Letter)> {
        let number: usize = number.trim().parse().ok()?;
        Some((number, self.letters.get(number.checked_sub(1)?)?))
    }

    /// A message, or its head and so many lines of it.
    fn message(&self, number: &str, lines: Option<usize>) -> Answer {
        let Some((_, letter)) = self.letter(number) else { return Answer::of("-ERR no such message\r\n") };
        let mut left = None;
        let content = letter.bytes.strip_suffix(b"\r\n").unwrap_or(&letter.bytes);
        let content =
            content.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let taken = content.take_while(|line| match &mut left {
            None => {
                left = lines.filter(|_| line.is_empty());
                true
            }
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        });
        listing("+OK", taken.map(<[u8]>::to_vec))
    }
}

/// The size of a message as it passes.
fn size(letter: &Letter) -> usize {
    letter.bytes.len() + if letter.bytes.ends_with(b"\r\n") { 0 } else { 2 }
}

/// Several lines, with their escapes and the end.
fn listing(status: &str, lines: impl Iterator<Item = Vec<u8>>) -> Answer {
    let mut responses = vec![format!("{status}\r\n").into_bytes()];
    for line in lines {
        let dot = if line.starts_with(b".") { &b"."[..] } else { b"" };
        responses.push([dot, &line, b"\r\n"].concat());
    }
    responses.push(b".\r\n".to_vec());
    Answer { responses, ..Answer::default() }
}
