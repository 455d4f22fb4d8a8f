//! Receives one message of an answer to UID FETCH. A body that agrees with the listing is passed on as it comes; any
//! other is held back until its line has ended: a server that announces more or less than it sends is found out there,
//! and so is one that hands out something else in a message's place. Nothing of what is held has gone to the
//! destination then.

use std::collections::VecDeque;
use std::time::Duration;

use memchr::memchr_iter;
use tokio::time::timeout;

use super::bodies::WantedUid;
use super::session::{Session, Tag, split_numbered};
use super::tokens::read_fetch;
use super::wire::Event;
use crate::drivers::notice::is_notice;
use crate::drivers::sizes::is_short;
use crate::drivers::spool::Spool;
use crate::drivers::{BodyEvent, BodySender};
use crate::model::failure::{Class, Failure, FailureCode, Result};
use crate::model::identity::{Digest, IdentityHasher};

/// A command under way.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) tag: Tag,
    /// The UIDs that it asks for, in ascending order.
    pub(super) uids: Vec<u32>,
    /// Which of them should be next.
    pub(super) next: usize,
    /// The sequence number of the last one that came in its turn.
    pub(super) sequence: u32,
}

/// Commands under way, in the order in which they were given.
pub(super) type InFlight = VecDeque<Asked>;

/// Why a message is named that is listed and does not come.
pub(super) const HANDS_OUT_NOTHING: &str = "lists it and hands out nothing for it";

/// How long nothing comes until what came is looked at: whether the server has ended its answer within a body.
const QUIET: Duration = Duration::from_secs(5);
/// How much of what came last is looked at then, in bytes.
const TAIL: usize = 512;
/// Up to this size, in bytes, a message that is fetched for itself is held back in any case.
const HELD_ALONE_MAX: u64 = 1024 * 1024;

/// Why a fetch ends before everything came.
#[derive(Debug)]
pub(super) enum Stop {
    /// Nobody takes the messages any more.
    Unheard,
    /// The session failed.
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The kind that a body turned out to be.
#[derive(Debug)]
pub(super) enum Given {
    /// The message; it was passed on.
    Passed,
    /// Less than is listed; nothing was passed on.
    Short,
    /// Not the message that was asked for; nothing was passed on.
    Another(&'static str),
    /// A notice of the server; nothing was passed on.
    Notice(Failure),
}

/// A body that has been announced.
#[derive(Debug)]
pub(super) struct Body {
    /// The message that it is taken for.
    pub(super) message: WantedUid,
    /// Bytes that are announced.
    pub(super) size: u64,
    /// Whether the UID came before it.
    pub(super) told: bool,
    /// Whether it is all that is wanted.
    pub(super) alone: bool,
    /// Whether it is taken although it is shorter than it is listed: it was asked for once more, or that is of no use here.
    pub(super) may_be_short: bool,
}

impl Body {
    /// Receives it, and passes it on if it is the message.
    ///
    /// # Errors
    /// Those of the session; [`FailureCode::Garbled`] when the answer does not keep to what it announced.
    pub(super) async fn receive(
        self,
        session: &mut Session,
        in_flight: &InFlight,
        bodies: &BodySender,
    ) -> Result<Given, Stop> {
        let is_odd = self.message.size.is_some_and(|listed| listed != self.size);
        if self.size == 0 && is_odd {
            session.next_event().await?;
            return Ok(Given::Another(HANDS_OUT_NOTHING));
        }
        if is_odd || !self.told || (self.alone && self.size <= HELD_ALONE_MAX) {
            self.hold(session, in_flight, bodies).await
        } else {
            self.pass(session, in_flight, bodies).await
        }
    }

    async fn pass(
        self,
        session: &mut Session,
        in_flight: &InFlight,
        bodies: &BodySender,
    ) -> Result<Given, Stop> {
        let Self { message, size, .. } = self;
        let unheard = |_| Stop::Unheard;
        bodies.send(BodyEvent::Begin { key: message.key, size }).await.map_err(unheard)?;
        let mut reading = Reading::new(message.uid, size, in_flight);
        while let Some(chunk) = reading.next(session).await? {
            bodies.send(BodyEvent::Chunk(chunk)).await.map_err(unheard)?;
        }
        if reading.end(session).await?.iter().any(|uid| *uid != Some(message.uid)) {
            return Err(garbled(format!("sent another message in place of UID {}", message.uid)).into());
        }
        bodies.send(BodyEvent::End { date: None }).await.map_err(unheard)?;
        Ok(Given::Passed)
    }

    async fn hold(
        self,
        session: &mut Session,
        in_flight: &InFlight,
        bodies: &BodySender,
    ) -> Result<Given, Stop> {
        let Self { message, size, may_be_short, .. } = self;
        bodies.send(BodyEvent::Held { key: message.key }).await.map_err(|_| Stop::Unheard)?;
        let mut spool = Spool::default();
        let mut reading = Reading::new(message.uid, size, in_flight);
        let mut lines = 0;
        while let Some(chunk) = reading.next(session).await? {
            lines += memchr_iter(b'\n', &chunk).count() as u64;
            spool.push(&chunk).await?;
        }
        let uids = reading.end(session).await?;
        if uids.iter().any(|uid| *uid != Some(message.uid)) {
            return Ok(Given::Another("hands out another message in its place"));
        }
        // Where no UID came with it at all, only its size tells that it is the one that was asked for.
        if uids.is_empty() && message.size != Some(size) {
            return Ok(Given::Another("hands out a message without its UID in its place"));
        }
        if let Some(listed) = message.size.filter(|listed| is_notice(spool.head(), *listed)) {
            let what = format!("handed out a notice of its own in place of the message of {listed} bytes");
            let failure = Failure::new(Class::Message, what).code(FailureCode::NoticeCame);
            return Ok(Given::Notice(
                failure.hint("open the message in a mail program, or forward it from there"),
            ));
        }
        if !may_be_short && message.size.is_some_and(|listed| is_short(listed, size, lines)) {
            return Ok(Given::Short);
        }
        match spool.deliver(message.key, bodies).await {
            Ok(()) => Ok(Given::Passed),
            Err(_) if bodies.is_closed() => Err(Stop::Unheard),
            Err(failure) => Err(failure.into()),
        }
    }
}

/// The bytes of a body, as they come.
struct Reading<'a> {
    uid: u32,
    size: u64,
    left: u64,
    /// The bytes that came last.
    tail: Vec<u8>,
    in_flight: &'a InFlight,
}

impl<'a> Reading<'a> {
    fn new(uid: u32, size: u64, in_flight: &'a InFlight) -> Self {
        Self { uid, size, left: size, tail: Vec::with_capacity(2 * TAIL), in_flight }
    }

    /// The next piece; `None` behind the last.
    async fn next(&mut self, session: &mut Session) -> Result<Option<bytes::Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        let event = session.next_event();
        tokio::pin!(event);
        let event = match timeout(QUIET, &mut event).await {
            Ok(event) => event?,
            Err(_) if self.is_behind_the_answer() => {
                return Err(garbled(format!(
                    "announced {} bytes of UID {} and ended its answer before they had come",
                    self.size, self.uid
                )));
            }
            Err(_) => event.await?,
        };
        let Event::BodyChunk(chunk) = event else {
            return Err(garbled("broke a message off"));
        };
        self.left = self.left.saturating_sub(chunk.len() as u64);
        self.tail.extend_from_slice(&chunk[chunk.len().saturating_sub(TAIL)..]);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        Ok(Some(chunk))
    }

    /// Whether what was taken for the body is the end of the answer already.
    fn is_behind_the_answer(&self) -> bool {
        self.in_flight.iter().any(|asked| ends_an_answer(&self.tail, asked.tag.as_bytes()))
    }

    /// The rest of the line behind the last byte. It may still say that these were another message's bytes, so the UIDs that
    /// stand in it come back.
    async fn end(&self, session: &mut Session) -> Result<Vec<Option<u32>>> {
        let broken =
            || garbled(format!("did not end the message with UID {} where it said that it would", self.uid));
        let Event::Untagged(line) = session.next_event().await? else { return Err(broken()) };
        let (_, _, rest) = split_numbered(&line).ok_or_else(broken)?;
        let attributes = read_fetch(rest).map_err(|_| broken())?;
        Ok(attributes.into_iter().filter(|(name, _)| name == "UID").map(|(_, uid)| uid.number()).collect())
    }
}

/// Whether these bytes end with the line that ends the command with a tag.
fn ends_an_answer(bytes: &[u8], tag: &[u8]) -> bool {
    let Some(text) = bytes.strip_suffix(b"\r\n") else { return false };
    let line = text.rsplit(|b| *b == b'\n').next().unwrap_or_default();
    let status = line.strip_prefix(tag).and_then(|rest| rest.strip_prefix(b" "));
    status.is_some_and(|status| [b"OK".as_slice(), b"NO", b"BAD"].iter().any(|word| status.starts_with(word)))
}

/// Lets a body go by that is nobody's, and says what it was.
///
/// # Errors
/// Those of the session.
pub(super) async fn skip(session: &mut Session, size: u64) -> Result<Digest> {
    let mut hasher = IdentityHasher::new();
    let mut left = size;
    while left > 0 {
        let Event::BodyChunk(chunk) = session.next_event().await? else {
            return Err(garbled("broke a message off"));
        };
        left = left.saturating_sub(chunk.len() as u64);
        hasher.update(&chunk);
    }
    // The text after the body belongs to the same response.
    session.next_event().await?;
    Ok(hasher.finish().exact)
}

/// Nothing on this connection can be told apart any more.
pub(super) fn garbled(what: impl Into<String>) -> Failure {
    Failure::protocol(what).code(FailureCode::Garbled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_answer_is_known_by_its_tag() {
        assert!(ends_an_answer(b"last line\r\n)\r\nA0007 OK Fetch completed (0.001 secs).\r\n", b"A0007"));
        assert!(ends_an_answer(b")\r\nA0007 NO it broke\r\n", b"A0007"));
        for (text, tag) in [
            ("A0007 OK done\r\n more", "A0007"),
            (")\r\nA0008 OK done\r\n", "A0007"),
            (")\r\nA0007 OKAY", "A0007"),
            ("they said: A0007 OK\r\n", "A0007"),
            ("", "A0007"),
        ] {
            assert!(!ends_an_answer(text.as_bytes(), tag.as_bytes()), "{text:?}");
        }
    }
}
