//! POP3 on the wire: lines out, status lines, listings and bodies in (RFC 1939 §3). Everything that a peer can make long
//! is bounded here: time by [`Patience`], lines by [`LINE_MAX`] and [`LIST_LINE_MAX`], listings and bodies by the caller.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use memchr::{memchr, memchr_iter, memmem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::drivers::greeting::of_another;
use crate::drivers::words::{self, Asked, Meaning};
use crate::model::failure::{Class, Failure, FailureCode, Result};
use crate::model::protocol::Protocol;
use crate::model::text::{printable, printable_bytes};
use crate::net::network::{Channel, SILENCE_MAX};
use crate::net::patience::Patience;
use crate::net::tls::Trust;

/// The longest line of an answer, in bytes with its end. RFC 2449 says 512; some greetings are longer.
pub(super) const LINE_MAX: usize = 4096;
/// The longest line of a list, in bytes, of which those behind [`LINE_MAX`] are passed over: it is about one message, and the
/// others are listed all the same.
const LIST_LINE_MAX: usize = 256 * 1024;
/// Empty lines that may come before an answer.
const EMPTY_LINES_MAX: usize = 10;
/// Bytes that are read at once.
const READ_SIZE: usize = 64 * 1024;

/// The first line of an answer (RFC 1939 §3), without its status indicator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Status {
    /// `+OK`
    Ok(String),
    /// `-ERR`
    Err(String),
    /// `+`: the server asks for a SASL response (RFC 5034 §4). Holds its question, in base64.
    Continue(String),
}

/// A connection with what was read of it and not used yet.
pub(super) struct Wire {
    channel: Channel,
    buffer: BytesMut,
    patience: Patience,
}

impl Wire {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel, buffer: BytesMut::new(), patience: Patience::default() }
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Puts TLS over the connection.
    ///
    /// # Errors
    /// [`Class::Protocol`] when bytes came before the handshake: somebody put words into the server's mouth that would be
    /// taken for words under TLS (CVE-2011-0411 and its kin).
    pub(super) async fn secure(self, host: &str, trust: &Trust) -> Result<Self> {
        if !self.buffer.is_empty() {
            return Err(Failure::protocol("sent more after its answer to STLS, before the TLS handshake")
                .hint("no password was sent. Somebody may be tampering with the connection; use the TLS port 995"));
        }
        Ok(Self::new(self.channel.secure(host, trust).await?))
    }

    /// Sends bytes, whole commands with their line ends.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let write = async {
            self.channel.write_all(bytes).await?;
            self.channel.flush().await
        };
        match timeout(SILENCE_MAX, write).await {
            Ok(Ok(())) => {
                crate::steps::reach();
                Ok(())
            }
            Ok(Err(error)) => Err(broken(&error)),
            Err(_) => Err(silent()),
        }
    }

    /// Waits for more bytes.
    async fn fill(&mut self) -> Result<()> {
        self.buffer.reserve(READ_SIZE);
        match self.patience.wait(self.channel.read_buf(&mut self.buffer)).await? {
            Ok(0) => {
                Err(Failure::new(Class::Unreachable, "closed the connection")
                    .code(FailureCode::ConnectionEnded))
            }
            Ok(bytes) => {
                self.patience.earn(bytes);
                Ok(())
            }
            Err(error) => Err(broken(&error)),
        }
    }

    /// Reads a line, without its end. A bare LF ends one too.
    async fn line(&mut self) -> Result<BytesMut> {
        self.line_within(LINE_MAX).await
    }

    /// Reads a line, without its end, of no more bytes than so many; those behind [`LINE_MAX`] are passed over.
    async fn line_within(&mut self, most: usize) -> Result<BytesMut> {
        let mut looked = 0;
        loop {
            if let Some(at) = memchr(b'\n', &self.buffer[looked..]) {
                let length = looked + at + 1;
                if length > most {
                    return Err(endless_line(most));
                }
                let mut line = self.buffer.split_to(length);
                let content = line.strip_suffix(b"\r\n").map_or(length - 1, <[u8]>::len);
                line.truncate(content.min(LINE_MAX));
                return Ok(line);
            }
            looked = self.buffer.len();
            if looked >= most {
                return Err(endless_line(most));
            }
            self.fill().await?;
        }
    }

    /// Whether what comes next is the first line of an answer.
    pub(super) async fn is_status_next(&mut self) -> Result<bool> {
        loop {
            while self.buffer.first().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
                self.buffer.advance(1);
            }
            let begun = &self.buffer[..self.buffer.len().min(4)];
            let fits = |word: &[u8]| {
                let length = begun.len().min(word.len());
                begun[..length].eq_ignore_ascii_case(&word[..length])
            };
            if !fits(b"+OK") && !fits(b"-ERR") {
                return Ok(false);
            }
            if begun.len() == 4 {
                return Ok(true);
            }
            self.fill().await?;
        }
    }

    /// Passes over answers that nothing was asked for: each would be taken for the answer to the next command. May be called only
    /// while nothing is asked; waits so long for one. Whether any came.
    pub(super) async fn drop_unasked(&mut self, wait: Duration) -> Result<bool> {
        let mut came = false;
        loop {
            loop {
                while self.buffer.first().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
                    self.buffer.advance(1);
                }
                if memchr(b'\n', &self.buffer).is_none() {
                    break;
                }
                if !self.is_status_next().await? {
                    return Err(garbled("sent something that was not asked for"));
                }
                let line = self.line().await?;
                tracing::debug!(line = %printable_bytes(&line), "an answer that nothing was asked for is passed over");
                came = true;
            }
            self.buffer.reserve(READ_SIZE);
            match timeout(wait, self.channel.read_buf(&mut self.buffer)).await {
                // A line that has begun to arrive has an end.
                Err(_) if !self.buffer.is_empty() => self.fill().await?,
                // The end of the connection shows at the next command.
                Err(_) | Ok(Ok(0) | Err(_)) => return Ok(came),
                Ok(Ok(_)) => {}
            }
        }
    }

    /// Reads the greeting.
    pub(super) async fn greeting(&mut self) -> Result<Status> {
        let line = self.first_line().await?;
        match of_another(&line, Protocol::Pop3) {
            Some(failure) => Err(failure),
            None => read_status(&line),
        }
    }

    /// Reads the first line of an answer.
    pub(super) async fn status(&mut self) -> Result<Status> {
        read_status(&self.first_line().await?)
    }

    /// The first line of an answer; empty lines before it are passed over.
    async fn first_line(&mut self) -> Result<BytesMut> {
        let mut line = self.line().await?;
        for _ in 0..EMPTY_LINES_MAX {
            if !line.is_empty() {
                break;
            }
            line = self.line().await?;
        }
        self.patience.renew();
        crate::steps::reach();
        Ok(line)
    }

    /// Reads the lines of a multi-line answer after its status, without byte-stuffing; at most `max` of them.
    pub(super) async fn listing(&mut self, max: usize, mut take: impl FnMut(&[u8])) -> Result<()> {
        for _ in 0..=max {
            let line = self.line_within(LIST_LINE_MAX).await?;
            match line.strip_prefix(b".") {
                Some(b"") => return Ok(()),
                Some(stuffed) => take(stuffed),
                None => take(&line),
            }
        }
        Err(garbled(format!("sent a listing of more than {max} lines")))
    }

    /// Reads the next piece of a body after its status, byte-stuffing removed; `None` once it is over.
    pub(super) async fn body_piece(&mut self, body: &mut Body) -> Result<Option<BytesMut>> {
        if self.buffer.is_empty() {
            self.fill().await?;
        }
        if std::mem::take(&mut body.at_line_start) && self.buffer[0] == b'.' {
            // Dot and line end are the end of the body; dot and anything else is anything else.
            while !(self.buffer.len() > 2 || self.buffer.ends_with(b"\n")) {
                self.fill().await?;
            }
            let end = if self.buffer.starts_with(b".\r\n") { 3 } else { 2 };
            if end == 3 || self.buffer.starts_with(b".\n") {
                self.buffer.advance(end);
                return Ok(None);
            }
            if self.buffer[1] == b'.' {
                body.doubled += 1;
                self.buffer.advance(usize::from(!body.is_raw));
            } else {
                body.single += 1;
            }
        }
        // Up to the next line start that needs a look, in one piece.
        let piece = match memmem::find(&self.buffer, b"\n.") {
            Some(at) => self.buffer.split_to(at + 1),
            None => self.buffer.split(),
        };
        body.at_line_start = piece.ends_with(b"\n");
        body.lines += memchr_iter(b'\n', &piece).count() as u64;
        Ok(Some(piece))
    }
}

/// Where in a body the reading is, and what was seen of the lines that begin with a dot. Servers must put a second dot
/// before each (RFC 1939 §3); one that puts none may end a message at its own line of one dot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Body {
    /// Whether a dot means something at this place.
    at_line_start: bool,
    /// Whether the server is known to put no dots before lines, so that none is taken away.
    pub(super) is_raw: bool,
    /// Lines so far.
    pub(super) lines: u64,
    /// Lines that came with two dots or more.
    pub(super) doubled: u64,
    /// Lines that came with one dot: no server that puts dots before lines sends such.
    pub(super) single: u64,
}

impl Body {
    /// At the beginning of a body.
    pub(super) fn begin(is_raw: bool) -> Self {
        Self { at_line_start: true, is_raw, lines: 0, doubled: 0, single: 0 }
    }
}

fn read_status(line: &[u8]) -> Result<Status> {
    let after = |prefix: &[u8]| {
        let (head, text) = line.split_at_checked(prefix.len())?;
        let ends = text.first().is_none_or(u8::is_ascii_whitespace);
        (head.eq_ignore_ascii_case(prefix) && ends).then(|| String::from_utf8_lossy(text).trim().to_owned())
    };
    if let Some(text) = after(b"+OK") {
        Ok(Status::Ok(text))
    } else if let Some(text) = after(b"-ERR") {
        Ok(Status::Err(text))
    } else if let Some(question) = after(b"+") {
        Ok(Status::Continue(question))
    } else {
        Err(garbled(format!("answered \"{}\", which is not POP3", printable_bytes(line))))
    }
}

fn silent() -> Failure {
    Failure::new(Class::Unreachable, format!("was silent for {} s", SILENCE_MAX.as_secs()))
        .code(FailureCode::Silent)
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::new(Class::Unreachable, "the connection broke")
        .code(FailureCode::ConnectionEnded)
        .caused_by(error)
}

/// Nothing on this connection can be told apart any more.
pub(super) fn garbled(what: impl Into<String>) -> Failure {
    Failure::protocol(what).code(FailureCode::Garbled)
}

fn endless_line(most: usize) -> Failure {
    garbled(format!("sent a line of more than {most} bytes"))
}

/// The response code of an `-ERR` in capitals (RFC 2449 §8); empty without one.
fn code_of(text: &str) -> String {
    let code = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(code, _)| code);
    code.unwrap_or_default().to_ascii_uppercase()
}

/// The failure that an `-ERR` means, by its response code (RFC 2449 §8, RFC 3206) or else its words ([`words`]);
/// `plain` is the class of one that says neither. `what` is what was asked, as in "refused the login".
pub(super) fn refusal(what: &str, asked: Asked, text: &str, plain: Class) -> Failure {
    let code = code_of(text);
    // RFC 2449 §8: codes are hierarchical, so a longer one counts as the part before its slash that is known.
    let known = |name: &str| code == name || code.starts_with(&format!("{name}/"));
    let said = if text.is_empty() { String::new() } else { format!(": {}", printable(text)) };
    let failure = |Meaning { class, code }| Failure::new(class, format!("{what}{said}")).code(code);
    let later = |class| Meaning { class, code: FailureCode::TryLater };
    if known("AUTH") {
        failure(Meaning::of(FailureCode::WrongCredentials)).hint("check the user name and the password")
    } else if known("IN-USE") {
        failure(Meaning::of(FailureCode::Locked))
            .hint("a mail program has the mailbox open; it is tried again")
    } else if known("LOGIN-DELAY") {
        failure(later(Class::Throttled)).hint("the server limits how often one may log in; it is tried again")
    } else if known("SYS/PERM") {
        let permanent = Meaning { class: Class::Refused, code: FailureCode::ServerFault };
        failure(permanent).hint("the server's operator must mend this")
    } else if known("SYS") {
        failure(later(Class::Unreachable)).hint("the server has trouble of its own; it is tried again")
    } else if let Some(meaning) = words::read(asked, text) {
        let failure = failure(meaning);
        match meaning.class {
            Class::Throttled | Class::Unreachable => {
                failure.hint("the server cannot do it for the moment; it is tried again")
            }
            _ => failure,
        }
    } else if plain == Class::Credentials {
        Failure::new(plain, format!("{what}{said}"))
            .hint("check the user name and the password, and that POP3 is allowed for this mailbox")
    } else {
        Failure::new(plain, format!("{what}{said}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_codes_decide_the_class() {
        let table = [
            ("[AUTH] bad", Class::Credentials),
            ("[auth/expired] bad", Class::Credentials),
            ("[IN-USE] locked", Class::Throttled),
            ("[LOGIN-DELAY] wait", Class::Throttled),
            ("[SYS/TEMP] later", Class::Unreachable),
            ("[SYS/PERM] never", Class::Refused),
            ("[AUTHENTIC] unknown", Class::Protocol),
            ("no such thing", Class::Protocol),
            ("", Class::Protocol),
        ];
        for (text, class) in table {
            let failure = refusal("refused", Asked::Other, text, Class::Protocol);
            assert_eq!(failure.class, class, "{text}");
        }
        let failure = refusal("refused the login", Asked::Login, "\x1b[2J", Class::Refused);
        assert_eq!(failure.what, "refused the login: \\u{1b}[2J");
    }

    #[test]
    fn a_mailbox_that_is_busy_is_no_wrong_password() {
        use FailureCode as F;
        for (text, class, code) in [
            ("mailbox locked by another session", Class::Throttled, Some(F::Locked)),
            ("Unable to lock maildrop", Class::Throttled, Some(F::Locked)),
            ("maildrop already locked", Class::Throttled, Some(F::Locked)),
            ("Too many connections, try again later", Class::Throttled, Some(F::TooManySessions)),
            ("Temporary authentication failure", Class::Unreachable, Some(F::TryLater)),
            ("[SYS/TEMP] Temporary authentication failure", Class::Unreachable, Some(F::TryLater)),
            ("[AUTH] mailbox locked", Class::Credentials, Some(F::WrongCredentials)),
            ("Authentication failed", Class::Credentials, None),
            ("invalid user or password", Class::Credentials, None),
            ("account is locked", Class::Credentials, None),
            ("", Class::Credentials, None),
        ] {
            let failure = refusal("refused the login", Asked::Login, text, Class::Credentials);
            assert_eq!((failure.class, failure.code), (class, code), "{text}");
        }
    }
}
