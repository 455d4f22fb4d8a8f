//! Commands, and what is answered to them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A command that a client has given, and where its session is.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// Its tag; empty in POP3.
    pub tag: String,
    /// Its name in capitals, of two words for `UID FETCH` and its like. `RESPONSE` is what a client says when it was asked on
    /// in a login.
    pub verb: String,
    /// All of it behind the tag, without quotes and the last line end; literals are in place.
    pub text: String,
    /// Every byte of it.
    pub bytes: Vec<u8>,
    /// The number of its connection, from 0.
    pub connection: usize,
    /// The user who is logged in; empty before the login.
    pub user: String,
    /// The name of the open folder, as it is on the wire.
    pub folder: Option<String>,
    /// How often the rule that is asked has reacted before.
    pub times: usize,
}

impl Command {
    /// Whether it begins with these words, in either case.
    pub fn is(&self, words: &str) -> bool {
        let Some(head) = self.text.get(..words.len()) else { return false };
        let behind = &self.text[words.len()..];
        head.eq_ignore_ascii_case(words) && (behind.is_empty() || behind.starts_with([' ', '\r']))
    }

    /// Whether this is anywhere in it.
    pub fn has(&self, part: &str) -> bool {
        self.text.contains(part)
    }

    /// Whether it fetches whole messages.
    pub fn wants_bodies(&self) -> bool {
        self.verb.ends_with("FETCH") && (self.has("BODY.PEEK[]") || self.has("BODY[]"))
    }
}

/// How a conversation goes on behind an answer.
#[derive(Clone, Debug, Default)]
pub enum End {
    /// With the next command.
    #[default]
    GoOn,
    /// The server ends it in order.
    Close,
    /// The server resets it.
    Reset,
    /// The server says nothing any more, and reads all.
    Silence,
    /// The server says this again and again.
    Flood(Vec<u8>),
}

/// The answer to a command. `{tag}` in it is replaced by the command's tag.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// How long nothing is said before.
    pub wait: Duration,
    /// The responses in their order, each whole and with its end: those of IMAP with their literals, the lines of POP3.
    pub responses: Vec<Vec<u8>>,
    /// How it goes on.
    pub end: End,
}

impl Answer {
    /// One response, or several lines.
    pub fn of(said: impl AsRef<[u8]>) -> Self {
        Self { responses: vec![said.as_ref().to_vec()], ..Self::default() }
    }

    /// The FETCH response with this UID.
    pub fn fetched(&mut self, uid: u32) -> Option<&mut Vec<u8>> {
        self.place_of(uid).map(|at| &mut self.responses[at])
    }

    fn place_of(&self, uid: u32) -> Option<usize> {
        let (inside, last) = (format!("(UID {uid} "), format!("(UID {uid})"));
        self.responses.iter().position(|response| {
            let head = &response[..response.len().min(60)];
            let head = String::from_utf8_lossy(head);
            head.contains(" FETCH ") && (head.contains(&inside) || head.contains(&last))
        })
    }

    /// Ends the connection behind so many bytes of the FETCH response with this UID; changes nothing without one.
    pub fn cut_message(&mut self, uid: u32, keep: usize) {
        if let Some(at) = self.place_of(uid) {
            self.responses.truncate(at + 1);
            self.responses[at].truncate(keep);
            self.end = End::Close;
        }
    }

    /// Ends the connection behind so many bytes of it all.
    pub fn cut(&mut self, keep: usize) {
        let mut all = self.responses.concat();
        all.truncate(keep);
        self.responses = vec![all];
        self.end = End::Close;
    }

    /// Replaces bytes wherever they are.
    pub fn replace(&mut self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) {
        for response in &mut self.responses {
            *response = replaced(response, from.as_ref(), to.as_ref());
        }
    }

    /// Leaves out the responses in whose head (the first 60 bytes) this is.
    pub fn leave_out(&mut self, part: &str) {
        self.responses
            .retain(|response| !String::from_utf8_lossy(&response[..response.len().min(60)]).contains(part));
    }

    /// Puts a response before all others.
    pub fn before(&mut self, said: impl AsRef<[u8]>) {
        self.responses.insert(0, said.as_ref().to_vec());
    }

    /// Puts a response before the last, which in IMAP ends the command.
    pub fn before_last(&mut self, said: impl AsRef<[u8]>) {
        let at = self.responses.len().saturating_sub(1);
        self.responses.insert(at, said.as_ref().to_vec());
    }

    /// Puts a response behind all others.
    pub fn behind(&mut self, said: impl AsRef<[u8]>) {
        self.responses.push(said.as_ref().to_vec());
    }
}

type Edit = Arc<dyn Fn(&mut Answer) + Send + Sync>;

/// How a server reacts to a command, other than it should.
#[derive(Clone)]
pub enum Reaction {
    /// The command is not carried out, and this is said.
    Instead(Answer),
    /// The command is carried out, and what is to be said is changed.
    Edited(Edit),
}

impl Reaction {
    /// Says this and does nothing.
    pub fn say(said: impl AsRef<[u8]>) -> Self {
        Self::Instead(Answer::of(said))
    }

    /// Does nothing and says OK, in IMAP.
    pub fn ok(text: &str) -> Self {
        Self::say(format!("{{tag}} OK {text}\r\n"))
    }

    /// Refuses, in IMAP.
    pub fn no(text: &str) -> Self {
        Self::say(format!("{{tag}} NO {text}\r\n"))
    }

    /// Does not understand, in IMAP.
    pub fn bad(text: &str) -> Self {
        Self::say(format!("{{tag}} BAD {text}\r\n"))
    }

    /// Refuses, in POP3.
    pub fn err(text: &str) -> Self {
        Self::say(format!("-ERR {text}\r\n"))
    }

    /// Ends the connection in order.
    pub fn close() -> Self {
        Self::Instead(Answer { end: End::Close, ..Answer::default() })
    }

    /// Resets the connection.
    pub fn reset() -> Self {
        Self::Instead(Answer { end: End::Reset, ..Answer::default() })
    }

    /// Says nothing any more.
    pub fn silence() -> Self {
        Self::Instead(Answer { end: End::Silence, ..Answer::default() })
    }

    /// Says this, and then the other again and again.
    pub fn flood(head: impl AsRef<[u8]>, again: impl AsRef<[u8]>) -> Self {
        Self::Instead(Answer { end: End::Flood(again.as_ref().to_vec()), ..Answer::of(head) })
    }

    /// Carries out the command and changes what is to be said.
    pub fn edit(edit: impl Fn(&mut Answer) + Send + Sync + 'static) -> Self {
        Self::Edited(Arc::new(edit))
    }

    /// Carries out the command and replaces bytes in what is to be said.
    pub fn replace(from: &str, to: &str) -> Self {
        let (from, to) = (from.to_owned(), to.to_owned());
        Self::edit(move |answer| answer.replace(&from, &to))
    }

    /// As this reaction, and then changes what is to be said.
    pub fn then(self, more: impl Fn(&mut Answer) + Send + Sync + 'static) -> Self {
        match self {
            Self::Instead(mut answer) => {
                more(&mut answer);
                Self::Instead(answer)
            }
            Self::Edited(edit) => Self::edit(move |answer| {
                edit(answer);
                more(answer);
            }),
        }
    }

    /// As this reaction, later.
    pub fn later(self, wait: Duration) -> Self {
        self.then(move |answer| answer.wait = wait)
    }

    /// As this reaction; then the connection ends.
    pub fn and_close(self) -> Self {
        self.then(|answer| answer.end = End::Close)
    }

    /// As this reaction; then the connection is reset.
    pub fn and_reset(self) -> Self {
        self.then(|answer| answer.end = End::Reset)
    }
}

type Rule = Arc<dyn Fn(&Command) -> Option<Reaction> + Send + Sync>;

/// The rules of a server, each with how often it has reacted.
#[derive(Default)]
pub(super) struct Bends(Mutex<Vec<(Rule, usize)>>);

impl Bends {
    pub(super) fn add(&self, rule: impl Fn(&Command) -> Option<Reaction> + Send + Sync + 'static) {
        self.0.lock().expect("rules").push((Arc::new(rule), 0));
    }

    pub(super) fn clear(&self) {
        self.0.lock().expect("rules").clear();
    }

    pub(super) fn ask(&self, command: &mut Command) -> Option<Reaction> {
        self.0.lock().expect("rules").iter_mut().find_map(|(rule, times)| {
            command.times = *times;
            let reaction = rule(command);
            *times += usize::from(reaction.is_some());
            reaction
        })
    }
}

pub(super) fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}
