//! The transport under async-imap: it takes the server's responses apart itself and hands async-imap a short stand-in
//! for each, so that no odd line ends a session and no message body is ever held whole.
//!
//! For every response there is one [`Event`] and one stand-in, in the same order. A body (`BODY[] {n}` in a FETCH) becomes
//! [`Event::BodyBegin`], any number of [`Event::BodyChunk`]s and, at the end of its line, the response with an empty
//! literal in place of the body. Writes are corked: they leave when we read, when the buffer is full, or at [`Wire::uncork`].
//!
//! Lines are read as servers write them: with any line end, with several blanks or tabs between words, in either case, and
//! with empty lines between responses. Lines of a server pass the [`Cleaner`] of the login.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::tokens::{Status, split_blank};
use crate::auth::cleaning::Cleaner;
use crate::net::network::Channel;
use crate::net::patience::Patience;

/// Bytes asked of the socket at once.
const READ_SIZE: usize = 64 * 1024;
/// Bytes that may be corked before they are written on their own.
const CORK_SIZE: usize = 64 * 1024;
/// The longest response without bodies, literals included, in bytes.
const RESPONSE_MAX: usize = 8 * 1024 * 1024;
/// The longest literal that is not a body, in bytes.
const LITERAL_MAX: u64 = 1024 * 1024;
/// The longest literal that is let go by, in bytes.
const PASSED_MAX: u64 = 64 * 1024 * 1024;
/// The longest body, in bytes; no mail system in use stores larger messages.
const BODY_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// The longest piece of a body in one event, in bytes.
const CHUNK_MAX: usize = 64 * 1024;
/// The most empty lines in a row.
const EMPTY_LINES_MAX: u32 = 10_000;

/// One thing that the server said.
#[derive(Debug)]
pub enum Event {
    /// An untagged response, without its `* ` and its final line end, literals in place.
    Untagged(Vec<u8>),
    /// The line of a command's end.
    Tagged {
        /// Whose end.
        tag: Vec<u8>,
        /// How it ended.
        status: Status,
        /// The text after the status word.
        rest: Vec<u8>,
    },
    /// `+`: the server waits for us. Holds what follows.
    Continue(Vec<u8>),
    /// A body begins; `prefix` is the response up to its literal, `size` its length in bytes.
    BodyBegin {
        /// The response so far, such as `12 FETCH (UID 5 BODY[]`.
        prefix: Vec<u8>,
        /// Bytes that follow.
        size: u64,
    },
    /// Some bytes of the body, at most 64 KiB.
    BodyChunk(Bytes),
    /// A line that is not a response at all, made printable and short.
    Noise(String),
}

#[derive(Debug, Clone, Copy)]
enum Reading {
    Line,
    Literal {
        left: u64,
    },
    /// A literal that is let go by.
    Passing {
        left: u64,
    },
    Body {
        left: u64,
    },
}

/// The transport. `S` is the secured channel.
pub struct Wire<S> {
    inner: S,
    incoming: BytesMut,
    /// Bytes of `incoming` known to hold no line end, so that a long line is searched once.
    searched: usize,
    response: Vec<u8>,
    reading: Reading,
    events: VecDeque<Event>,
    standin: Bytes,
    outgoing: BytesMut,
    empty_lines: u32,
    /// Hides what the server repeats of the login.
    pub(crate) cleaner: Option<Arc<Cleaner>>,
    /// How long the server is still waited for.
    pub patience: Patience,
}

impl<S> fmt::Debug for Wire<S> {
    // async-imap logs its stream at times; what has passed here may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl<S> Wire<S> {
    /// Wraps a channel that nothing was read from yet.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            incoming: BytesMut::with_capacity(READ_SIZE),
            searched: 0,
            response: Vec::new(),
            reading: Reading::Line,
            events: VecDeque::new(),
            standin: Bytes::new(),
            outgoing: BytesMut::new(),
            empty_lines: 0,
            cleaner: None,
            patience: Patience::default(),
        }
    }

    /// The event that belongs to the stand-in read last.
    pub fn take_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The channel that the bytes pass through.
    pub fn channel(&self) -> &S {
        &self.inner
    }

    /// The channel, if the server sent nothing beyond what was read; a server that talks on before the TLS handshake
    /// has had words put into its mouth (STARTTLS injection).
    pub fn into_channel(self) -> Option<S> {
        let silent = self.incoming.is_empty()
            && self.response.is_empty()
            && self.events.is_empty()
            && self.standin.is_empty()
            && self.outgoing.is_empty();
        silent.then_some(self.inner)
    }

    /// Takes the next event out of `incoming`, if there is a whole one.
    fn scan(&mut self) -> io::Result<Option<Event>> {
        loop {
            match self.reading {
                Reading::Body { left } => {
                    if left == 0 {
                        self.reading = Reading::Line;
                        continue;
                    }
                    if self.incoming.is_empty() {
                        return Ok(None);
                    }
                    let take =
                        usize::try_from(left).unwrap_or(CHUNK_MAX).min(self.incoming.len()).min(CHUNK_MAX);
                    self.reading = Reading::Body { left: left - take as u64 };
                    return Ok(Some(Event::BodyChunk(self.incoming.split_to(take).freeze())));
                }
                Reading::Passing { left } => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(self.incoming.len());
                    self.incoming.advance(take);
                    if (take as u64) < left {
                        self.reading = Reading::Passing { left: left - take as u64 };
                        return Ok(None);
                    }
                    self.reading = Reading::Line;
                }
                Reading::Literal { left } => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(self.incoming.len());
                    self.response.extend_from_slice(&self.incoming[..take]);
                    self.incoming.advance(take);
                    if (take as u64) < left {
                        self.reading = Reading::Literal { left: left - take as u64 };
                        return Ok(None);
                    }
                    self.reading = Reading::Line;
                }
                Reading::Line => {
                    let Some(end) = memchr(b'\n', &self.incoming[self.searched..]) else {
                        self.searched = self.incoming.len();
                        if self.response.len() + self.incoming.len() > RESPONSE_MAX {
                            return Err(excess("a response of more than 8 MiB"));
                        }
                        return Ok(None);
                    };
                    let line = self.incoming.split_to(self.searched + end + 1);
                    self.searched = 0;
                    self.response.extend_from_slice(&line);
                    if self.response.len() > RESPONSE_MAX {
                        return Err(excess("a response of more than 8 MiB"));
                    }
                    if let Some(event) = self.end_line()? {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    /// Looks at the line just completed: a literal may follow, a body may begin, or the response is whole.
    fn end_line(&mut self) -> io::Result<Option<Event>> {
        let text = trim_line_end(&self.response);
        if text.trim_ascii().is_empty() {
            self.empty_lines += 1;
            self.response.clear();
            return if self.empty_lines > EMPTY_LINES_MAX {
                Err(excess("nothing but empty lines"))
            } else {
                Ok(None)
            };
        }
        self.empty_lines = 0;
        let announced = announced_literal(text).filter(|_| may_hold_a_literal(text));
        let Some((before, size)) = announced else {
            let event = classify(text, self.cleaner.as_deref());
            self.response.clear();
            return Ok(Some(event));
        };
        if let Some(prefix) = body_prefix(&self.response[..before]) {
            if size > BODY_MAX {
                return Err(excess("a message of more than 2 GiB"));
            }
            let prefix = prefix.to_vec();
            self.response.truncate(before);
            self.response.extend_from_slice(b"{0}\r\n");
            self.reading = Reading::Body { left: size };
            return Ok(Some(Event::BodyBegin { prefix, size }));
        }
        if size > LITERAL_MAX && size <= PASSED_MAX {
            // Nobody asked for it, whatever it is; the rest of the response may be what was asked for.
            self.response.truncate(before);
            self.response.extend_from_slice(b"{0}\r\n");
            self.reading = Reading::Passing { left: size };
            return Ok(None);
        }
        if size > LITERAL_MAX {
            return Err(excess("a literal of more than 1 MiB outside a message"));
        }
        let end = text.len();
        self.response.truncate(end);
        self.response.extend_from_slice(b"\r\n");
        self.reading = Reading::Literal { left: size };
        Ok(None)
    }
}

impl Wire<Channel> {
    /// Compresses all that follows, now that the server has agreed to it: what came behind its OK is compressed already.
    pub fn compress(&mut self) {
        self.searched = 0;
        self.inner.compress(self.incoming.split());
    }
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    /// Sends everything that was written so far. Reading does so too.
    ///
    /// # Errors
    /// Those of the channel.
    pub async fn uncork(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_drain(cx)).await
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.outgoing))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(written);
            crate::steps::reach();
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }
}

fn excess(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server sent {what}"))
}

fn trim_line_end(line: &[u8]) -> &[u8] {
    let mut line = line.strip_suffix(b"\n").unwrap_or(line);
    while let Some(shorter) = line.strip_suffix(b"\r") {
        line = shorter;
    }
    line
}

/// Where the literal marker at the end of a line begins, and the size it announces.
fn announced_literal(line: &[u8]) -> Option<(usize, u64)> {
    let inside = line.strip_suffix(b"}")?;
    let open = inside.iter().rposition(|b| *b == b'{')?;
    let digits = inside[open + 1..].strip_suffix(b"+").unwrap_or(&inside[open + 1..]);
    if digits.is_empty() || digits.len() > 20 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size = std::str::from_utf8(digits).ok()?.parse().unwrap_or(u64::MAX);
    let before = if open > 0 && line[open - 1] == b'~' { open - 1 } else { open };
    Some((before, size))
}

/// Whether a response is data of a kind that may hold literals. The text of a status (resp-text, RFC 9051 §9) never does,
/// whatever it ends with.
fn may_hold_a_literal(response: &[u8]) -> bool {
    let Some(rest) = after_star(response) else { return false };
    let (word, rest) = split_blank(rest);
    let is = |word: &[u8], names: &[&str]| names.iter().any(|it| word.eq_ignore_ascii_case(it.as_bytes()));
    if word.iter().all(u8::is_ascii_digit) {
        return is(split_blank(rest).0, &["FETCH"]);
    }
    is(word, &["LIST", "LSUB", "XLIST", "STATUS", "ID", "NAMESPACE", "QUOTA", "QUOTAROOT", "METADATA", "ACL"])
}

/// The text before the literal, if that is a whole message: `12 FETCH (UID 5 BODY[] `.
fn body_prefix(line: &[u8]) -> Option<&[u8]> {
    let prefix = after_star(line)?;
    let (number, rest) = split_blank(prefix);
    let (word, _) = split_blank(rest);
    let is_fetch =
        !number.is_empty() && number.iter().all(u8::is_ascii_digit) && word.eq_ignore_ascii_case(b"FETCH");
    let name = prefix.trim_ascii_end();
    let name = name.rsplit(|b| matches!(b, b' ' | b'\t' | b'(')).next().unwrap_or_default();
    let is_body = name.eq_ignore_ascii_case(b"BODY[]") || name.eq_ignore_ascii_case(b"RFC822");
    (is_fetch && is_body).then_some(prefix)
}

/// The text after the star of an untagged response.
fn after_star(line: &[u8]) -> Option<&[u8]> {
    line.trim_ascii_start().strip_prefix(b"*").map(<[u8]>::trim_ascii_start)
}

/// Sorts a whole response.
fn classify(text: &[u8], cleaner: Option<&Cleaner>) -> Event {
    let clean =
        |said: &[u8]| cleaner.map_or_else(|| said.to_vec(), |cleaner| cleaner.clean(said).into_owned());
    if let Some(rest) = after_star(text) {
        let (word, said) = split_blank(rest);
        return Event::Untagged(match Status::parse(word) {
            // Of what goes well, only what is meant for people is shown.
            Some(status) if status != Status::Ok || !said.starts_with(b"[") || is_alert(said) => {
                [word, b" ", &clean(said)].concat()
            }
            _ => rest.to_vec(),
        });
    }
    let text = text.trim_ascii_start();
    if let Some(rest) = text.strip_prefix(b"+") {
        return Event::Continue(rest.trim_ascii_start().to_vec());
    }
    let (tag, rest) = split_blank(text);
    let (status, rest) = split_blank(rest);
    match Status::parse(status) {
        Some(status) if !tag.is_empty() && tag.len() <= 16 && tag.iter().all(u8::is_ascii_alphanumeric) => {
            let rest = if status == Status::Ok && !is_alert(rest) { rest.to_vec() } else { clean(rest) };
            Event::Tagged { tag: tag.to_vec(), status, rest }
        }
        _ => Event::Noise(crate::model::text::printable_bytes(&clean(&text[..text.len().min(200)]))),
    }
}

/// Whether a status text is one that a user has to see (RFC 9051 §7.1).
fn is_alert(said: &[u8]) -> bool {
    said.get(..6).is_some_and(|head| head.eq_ignore_ascii_case(b"[ALERT"))
}

/// The line that async-imap reads in place of an event.
fn standin(event: &Event) -> Bytes {
    match event {
        Event::Untagged(_) | Event::BodyBegin { .. } | Event::BodyChunk(_) | Event::Noise(_) => {
            Bytes::from_static(b"* OK -\r\n")
        }
        Event::Tagged { tag, status, .. } => {
            let word: &[u8] = match status {
                Status::Ok => b" OK -\r\n",
                Status::Bad => b" BAD -\r\n",
                Status::No | Status::Bye | Status::PreAuth => b" NO -\r\n",
            };
            [tag, word].concat().into()
        }
        Event::Continue(_) => Bytes::from_static(b"+ \r\n"),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.standin.is_empty() {
                let take = this.standin.len().min(buf.remaining());
                buf.put_slice(&this.standin.split_to(take));
                return Poll::Ready(Ok(()));
            }
            if let Some(event) = this.scan()? {
                if matches!(event, Event::Tagged { .. }) {
                    crate::steps::reach();
                }
                this.standin = standin(&event);
                this.events.push_back(event);
                continue;
            }
            // The reader waits for an answer, so pending commands have to be sent. A write that cannot go on must not
            // keep us from reading: the server may be waiting for just that. Nor must one that failed: what the server
            // said before it went tells why.
            let drained = this.poll_drain(cx);
            this.incoming.reserve(READ_SIZE);
            let read = poll_read_buf(Pin::new(&mut this.inner), cx, &mut this.incoming);
            if let (Poll::Ready(Err(error)), false) = (drained, matches!(read, Poll::Ready(Ok(1..)))) {
                return Poll::Ready(Err(error));
            }
            if ready!(read)? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.outgoing.len() >= CORK_SIZE {
            ready!(this.poll_drain(cx))?;
        }
        this.outgoing.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    /// Corked: async-imap flushes after each command, which would cost a packet each.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
