//! The upload: APPENDs in a pipeline. Each begins as soon as its size is known, needs no round trip where the server
//! takes non-synchronizing literals (RFC 7888), and its answer is matched by tag when it comes.

use std::collections::HashMap;

use tokio::sync::mpsc;

use super::names::quote;
use super::refusal::explain;
use super::session::Session;
use super::tokens::{Status, StatusText};
use super::wire::Event;
use crate::mail::{Appended, BodyEvent, BodyReceiver, Envelope};
use crate::model::failure::{Class, Failure, Result};
use crate::model::message::Arrival;

/// APPENDs that may be unanswered: what is in doubt after a cut is at most this (FAULTS §0.1).
const WINDOW_MESSAGES: usize = 16;
/// Bytes of unanswered APPENDs; one larger message may be alone in flight.
const WINDOW_BYTES: u64 = 8 * 1024 * 1024;
/// The largest literal that LITERAL- lets pass without waiting (RFC 7888 §5), in bytes.
const LITERAL_MINUS_MAX: u64 = 4096;

struct Upload<'a> {
    session: &'a mut Session,
    outcomes: &'a mpsc::UnboundedSender<Appended>,
    in_flight: HashMap<Vec<u8>, (u64, u64)>,
    bytes: u64,
}

/// Appends every message of a stream to a folder.
///
/// # Errors
/// Those of the session: the outcome of the messages that were not reported is unknown then.
pub async fn append_bodies(
    session: &mut Session,
    wire_name: &str,
    bodies: &mut BodyReceiver,
    envelope: &(dyn Fn(u64) -> Envelope + Send + Sync),
    outcomes: &mpsc::UnboundedSender<Appended>,
) -> Result<()> {
    let limit = session.facts().capabilities.values("APPENDLIMIT").find_map(|v| v.parse::<u64>().ok());
    let mut upload = Upload { session, outcomes, in_flight: HashMap::new(), bytes: 0 };
    while let Some(event) = upload.next_body(bodies).await? {
        let BodyEvent::Begin { key, size } = event else {
            // A message that is missing at the source is the engine's to count.
            continue;
        };
        if let Some(limit) = limit.filter(|limit| size > *limit) {
            let failure = Failure::new(
                Class::Message,
                format!("larger than the server takes ({size} of {limit} bytes)"),
            );
            upload.report(Appended::Refused { key, failure });
            skip_message(bodies).await?;
            continue;
        }
        let fits = |upload: &Upload<'_>| {
            upload.in_flight.is_empty()
                || (upload.in_flight.len() < WINDOW_MESSAGES && upload.bytes + size <= WINDOW_BYTES)
        };
        while !fits(&upload) {
            upload.read_answer().await?;
        }
        if upload.begin(wire_name, key, size, &envelope(key)).await? {
            upload.pass(bodies).await?;
        } else {
            skip_message(bodies).await?;
        }
    }
    while !upload.in_flight.is_empty() {
        upload.read_answer().await?;
    }
    Ok(())
}

impl Upload<'_> {
    fn report(&self, outcome: Appended) {
        // Nobody listens once the engine has given up; the ledger settles such messages.
        let _ = self.outcomes.send(outcome);
    }

    /// The next event of the stream. While the source has nothing ready, what is corked leaves for the server.
    async fn next_body(&mut self, bodies: &mut BodyReceiver) -> Result<Option<BodyEvent>> {
        if let Ok(event) = bodies.try_recv() {
            return Ok(Some(event));
        }
        self.session.uncork().await?;
        Ok(bodies.recv().await)
    }

    /// Sends the command; false when the server refused the message before its first byte.
    async fn begin(&mut self, wire_name: &str, key: u64, size: u64, envelope: &Envelope) -> Result<bool> {
        let without_waiting =
            self.session.offers("LITERAL+") || (self.session.offers("LITERAL-") && size <= LITERAL_MINUS_MAX);
        let date = envelope.date.map(|date| format!(" \"{date}\"")).unwrap_or_default();
        let plus = if without_waiting { "+" } else { "" };
        let command = format!("APPEND {} ({}){date} {{{size}{plus}}}", quote(wire_name), envelope.flags);
        let tag = self.session.send(&command).await?;
        self.in_flight.insert(tag.as_bytes().to_vec(), (key, size));
        self.bytes += size;
        while !without_waiting && self.in_flight.contains_key(tag.as_bytes()) {
            if self.read_answer_or_go_on().await? {
                return Ok(true);
            }
        }
        Ok(without_waiting)
    }

    async fn pass(&mut self, bodies: &mut BodyReceiver) -> Result<()> {
        loop {
            match self.next_body(bodies).await? {
                Some(BodyEvent::Chunk(chunk)) => self.session.write(&chunk).await?,
                Some(BodyEvent::End { .. }) => return self.session.write(b"\r\n").await,
                _ => return Err(broken_off()),
            }
        }
    }

    async fn read_answer(&mut self) -> Result<()> {
        if self.read_answer_or_go_on().await? {
            return Err(Failure::protocol("asks to go on with a literal that was sent already"));
        }
        Ok(())
    }

    /// Reads one event; true when it is the server's `+`.
    async fn read_answer_or_go_on(&mut self) -> Result<bool> {
        match self.session.next_event().await? {
            Event::Continue(_) => return Ok(true),
            Event::Tagged { tag, status, rest } => {
                let Some((key, size)) = self.in_flight.remove(&tag) else {
                    return Err(Failure::protocol("answered an APPEND that was not given"));
                };
                self.bytes -= size;
                let said = StatusText::parse(&rest);
                if status == Status::Ok {
                    self.report(Appended::Stored { key, arrival: read_arrival(&said) });
                } else {
                    let failure = explain("APPEND", status, &said);
                    self.report(Appended::Refused { key, failure });
                }
            }
            Event::Untagged(_) => {}
            Event::BodyBegin { .. } | Event::BodyChunk(_) => {
                return Err(Failure::protocol("sent a message while taking one"));
            }
        }
        Ok(false)
    }
}

/// `[APPENDUID uidvalidity uid]` (RFC 4315).
fn read_arrival(said: &StatusText) -> Option<Arrival> {
    let (uidvalidity, uid) = said.arguments.split_once(' ').filter(|_| said.code == "APPENDUID")?;
    let arrival = Arrival { uidvalidity: uidvalidity.parse().ok()?, uid: uid.trim().parse().ok()? };
    (arrival.uid > 0).then_some(arrival)
}

/// Lets the rest of a message go by that the server does not take.
async fn skip_message(bodies: &mut BodyReceiver) -> Result<()> {
    loop {
        match bodies.recv().await {
            Some(BodyEvent::Chunk(_)) => {}
            Some(BodyEvent::End { .. }) => return Ok(()),
            _ => return Err(broken_off()),
        }
    }
}

/// The announced literal can no longer be completed, so the connection must go: a server drops what is incomplete.
fn broken_off() -> Failure {
    Failure::new(Class::Unreachable, "the source broke off in the middle of a message")
}
