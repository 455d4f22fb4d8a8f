//! POP3 on the wire: lines out, status lines, listings and bodies in (RFC 1939 §3). Everything that a peer can make long
//! is bounded here: time by [`Patience`], lines by [`LINE_MAX`], listings and bodies by the caller.

use bytes::BytesMut;
use memchr::{memchr, memmem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::mail::network::{Channel, SILENCE_MAX};
use crate::mail::patience::Patience;
use crate::mail::tls::Trust;
use crate::model::failure::{Class, Failure, Result};
use crate::model::text::{printable, printable_bytes};

/// The longest line of an answer, in bytes with its end. RFC 2449 says 512; some greetings are longer.
pub(super) const LINE_MAX: usize = 4096;
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
            Ok(Err(error)) => Err(Failure::new(Class::Unreachable, "the connection broke").caused_by(&error)),
            Err(_) => Err(silent()),
        }
    }

    /// Waits for more bytes.
    async fn fill(&mut self) -> Result<()> {
        self.buffer.reserve(READ_SIZE);
        match self.patience.wait(self.channel.read_buf(&mut self.buffer)).await? {
            Ok(0) => Err(Failure::new(Class::Unreachable, "closed the connection")),
            Ok(bytes) => {
                self.patience.earn(bytes);
                Ok(())
            }
            Err(error) => Err(Failure::new(Class::Unreachable, "the connection broke").caused_by(&error)),
        }
    }

    /// Reads a line, without its end. A bare LF ends one too.
    async fn line(&mut self) -> Result<BytesMut> {
        let mut looked = 0;
        loop {
            if let Some(at) = memchr(b'\n', &self.buffer[looked..]) {
                let length = looked + at + 1;
                if length > LINE_MAX {
                    return Err(endless_line());
                }
                let mut line = self.buffer.split_to(length);
                let content = line.strip_suffix(b"\r\n").map_or(length - 1, <[u8]>::len);
                line.truncate(content);
                return Ok(line);
            }
            looked = self.buffer.len();
            if looked >= LINE_MAX {
                return Err(endless_line());
            }
            self.fill().await?;
        }
    }

    /// Reads the first line of an answer.
    pub(super) async fn status(&mut self) -> Result<Status> {
        let line = self.line().await?;
        self.patience.renew();
        crate::steps::reach();
        let after = |prefix: &[u8]| {
            let (head, text) = line.split_at_checked(prefix.len())?;
            let ends = text.first().is_none_or(u8::is_ascii_whitespace);
            (head.eq_ignore_ascii_case(prefix) && ends)
                .then(|| String::from_utf8_lossy(text).trim().to_owned())
        };
        if let Some(text) = after(b"+OK") {
            Ok(Status::Ok(text))
        } else if let Some(text) = after(b"-ERR") {
            Ok(Status::Err(text))
        } else if let Some(question) = after(b"+") {
            Ok(Status::Continue(question))
        } else {
            Err(Failure::protocol(format!("answered \"{}\", which is not POP3", printable_bytes(&line))))
        }
    }

    /// Reads the lines of a multi-line answer after its status, without byte-stuffing; at most `max` of them.
    pub(super) async fn listing(
        &mut self,
        max: usize,
        mut take: impl FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        for _ in 0..=max {
            let line = self.line().await?;
            match line.strip_prefix(b".") {
                Some(b"") => return Ok(()),
                Some(stuffed) => take(&String::from_utf8_lossy(stuffed))?,
                None => take(&String::from_utf8_lossy(&line))?,
            }
        }
        Err(Failure::protocol(format!("sent a listing of more than {max} lines")))
    }

    /// Reads the next piece of a body after its status, byte-stuffing removed; `None` once it is over.
    pub(super) async fn body_piece(&mut self, place: &mut BodyPlace) -> Result<Option<BytesMut>> {
        loop {
            if self.buffer.is_empty() {
                self.fill().await?;
            }
            match *place {
                BodyPlace::LineStart => {
                    *place = BodyPlace::Line;
                    if self.buffer[0] == b'.' {
                        // Dot and line end are the end of the body; dot and anything else is anything else.
                        while !(self.buffer.len() > 2 || self.buffer.ends_with(b"\n")) {
                            self.fill().await?;
                        }
                        let end = if self.buffer.starts_with(b".\r\n") { 3 } else { 2 };
                        if end == 3 || self.buffer.starts_with(b".\n") {
                            let _ = self.buffer.split_to(end);
                            return Ok(None);
                        }
                        let _ = self.buffer.split_to(1);
                    }
                }
                BodyPlace::Line => {
                    // Up to the next line start that needs a look, in one piece.
                    if let Some(at) = memmem::find(&self.buffer, b"\n.") {
                        *place = BodyPlace::LineStart;
                        return Ok(Some(self.buffer.split_to(at + 1)));
                    }
                    if self.buffer.ends_with(b"\n") {
                        *place = BodyPlace::LineStart;
                    }
                    return Ok(Some(self.buffer.split()));
                }
            }
        }
    }
}

/// Where in a body the reading stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyPlace {
    /// At the beginning of a line, where a dot means something.
    LineStart,
    /// Anywhere else.
    Line,
}

fn silent() -> Failure {
    Failure::new(Class::Unreachable, format!("was silent for {} s", SILENCE_MAX.as_secs()))
}

fn endless_line() -> Failure {
    Failure::protocol(format!("sent a line of more than {LINE_MAX} bytes"))
}

/// What an `-ERR` means, by its response code (RFC 2449 §8, RFC 3206); `plain` is the class of one without a code that is
/// known. `what` is what was asked, as in "refused the login".
pub(super) fn refusal(what: &str, text: &str, plain: Class) -> Failure {
    let code = text
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .map(|(code, _)| code.to_ascii_uppercase());
    let failure = |class| {
        let said = if text.is_empty() { String::new() } else { format!(": {}", printable(text)) };
        Failure::new(class, format!("{what}{said}"))
    };
    // RFC 2449 §8: codes are hierarchical, so a longer one counts as the part before its slash that is known.
    let known = |name: &str| code.as_deref().is_some_and(|c| c == name || c.starts_with(&format!("{name}/")));
    if known("AUTH") {
        failure(Class::Credentials).hint("check the user name and the password")
    } else if known("IN-USE") {
        failure(Class::Throttled).hint("a mail program has the mailbox open; it is tried again")
    } else if known("LOGIN-DELAY") {
        failure(Class::Throttled).hint("the server limits how often one may log in; it is tried again")
    } else if known("SYS/PERM") {
        failure(Class::Refused).hint("the server's operator must mend this")
    } else if known("SYS") {
        failure(Class::Unreachable).hint("the server has trouble of its own; it is tried again")
    } else if plain == Class::Credentials {
        failure(plain).hint("check the user name and the password, and that POP3 is allowed for this mailbox")
    } else {
        failure(plain)
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
            assert_eq!(refusal("refused", text, Class::Protocol).class, class, "{text}");
        }
        assert_eq!(
            refusal("refused the login", "\x1b[2J", Class::Refused).what,
            "refused the login: \\u{1b}[2J"
        );
    }
}
