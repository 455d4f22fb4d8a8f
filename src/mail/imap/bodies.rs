//! Streams whole messages out of the open folder: ranges of UIDs by byte budget, two commands in flight, each body passed
//! on in pieces as it comes.

use std::collections::{HashMap, VecDeque};

use super::session::{Session, Tag, read_fetch, split_numbered};
use super::tokens::{Status, StatusText, Value, read_values, write_number_set};
use super::wire::Event;
use crate::mail::{BodyEvent, BodySender};
use crate::model::failure::{Class, Failure, Result};

/// Bytes that one FETCH command asks for, so that a refusal concerns few messages.
const COMMAND_BYTES: u64 = 4 * 1024 * 1024;
/// Messages that one FETCH command asks for.
const COMMAND_MESSAGES: usize = 200;
/// FETCH commands in flight: the next answer is on its way while this one is read.
const COMMANDS_IN_FLIGHT: usize = 2;

/// A message to fetch from the open folder.
#[derive(Debug, Clone, Copy)]
pub struct WantedUid {
    /// The caller's number for it.
    pub key: u64,
    /// Its UID.
    pub uid: u32,
    /// The size that the listing announced, in bytes.
    pub size: u64,
}

/// Fetches messages and passes them on. A message that is gone, or that the server cannot read, is passed on as
/// [`BodyEvent::Missing`].
///
/// # Errors
/// Those of the session. A receiver that went away ends the fetch without an error: it knows why.
pub async fn fetch_bodies(session: &mut Session, wanted: &[WantedUid], bodies: &BodySender) -> Result<()> {
    session.compress_if_slow().await?;
    let mut queue: VecDeque<Vec<WantedUid>> = batch(wanted).into();
    // From the first body on the server is at work and the way is full, so what is waited for are bytes.
    let (mut passed, mut since) = (0, None);
    let mut in_flight: VecDeque<(Tag, Vec<WantedUid>)> = VecDeque::new();
    let mut keys: HashMap<u32, u64> = wanted.iter().map(|w| (w.uid, w.key)).collect();
    loop {
        while in_flight.len() < COMMANDS_IN_FLIGHT {
            let Some(batch) = queue.pop_front() else { break };
            let mut uids: Vec<u32> = batch.iter().map(|w| w.uid).collect();
            uids.sort_unstable();
            let command = format!("UID FETCH {} (UID BODY.PEEK[])", write_number_set(&uids));
            in_flight.push_back((session.send(&command).await?, batch));
        }
        if in_flight.is_empty() {
            if let Some(since) = since {
                session.note_carried(passed, since);
            }
            return Ok(());
        }
        match session.next_event().await? {
            Event::BodyBegin { prefix, size } => {
                since.get_or_insert(session.waited());
                passed += size;
                // Servers answer in turn, so a body without a UID belongs to the command in front.
                let alone = in_flight.front().filter(|(_, batch)| batch.len() == 1);
                let uid = uid_in(&prefix).or_else(|| alone.map(|(_, batch)| batch[0].uid));
                let Some(uid) = uid else {
                    // The UID comes after the body: let this body pass by and ask for each message alone from now on.
                    skip_body(session, size).await?;
                    let late = in_flight
                        .iter_mut()
                        .flat_map(|(_, batch)| batch.drain(..))
                        .chain(queue.drain(..).flatten());
                    queue = late.filter(|w| keys.contains_key(&w.uid)).map(|w| vec![w]).collect();
                    continue;
                };
                let Some(key) = keys.remove(&uid) else {
                    // Nobody asked for it, or it came twice.
                    skip_body(session, size).await?;
                    continue;
                };
                if bodies.send(BodyEvent::Begin { key, size }).await.is_err() {
                    return Ok(());
                }
                pass_body(session, size, uid, bodies).await?;
            }
            Event::Untagged(line) => {
                if let Some((key, content)) = read_inline(&line, &mut keys)? {
                    pass_inline(key, content, bodies).await;
                }
            }
            Event::Tagged { tag: theirs, status, rest } => {
                let Some(at) = in_flight.iter().position(|(tag, _)| *tag == *theirs) else {
                    return Err(Failure::protocol("ended a command that was not given"));
                };
                let Some((_, batch)) = in_flight.remove(at) else { continue };
                let missing: Vec<WantedUid> =
                    batch.into_iter().filter(|w| keys.contains_key(&w.uid)).collect();
                let failure = (status != Status::Ok)
                    .then(|| super::refusal::explain("UID FETCH", status, &StatusText::parse(&rest)));
                match failure {
                    // Whoever is asked for a pause must not ask for each message instead.
                    Some(failure) if missing.is_empty() || failure.class == Class::Throttled => {
                        return Err(failure);
                    }
                    // One unreadable message must not take its neighbours along.
                    Some(_) if missing.len() > 1 => queue.extend(missing.into_iter().map(|w| vec![w])),
                    Some(failure) if failure.class == Class::Unreachable => return Err(failure),
                    failure => {
                        for message in missing {
                            keys.remove(&message.uid);
                            let failure = failure.clone().map(|f| Failure { class: Class::Message, ..f });
                            let _ = bodies.send(BodyEvent::Missing { key: message.key, failure }).await;
                        }
                    }
                }
            }
            Event::BodyChunk(_) | Event::Continue(_) => {
                return Err(Failure::protocol("answered UID FETCH out of turn"));
            }
        }
    }
}

fn batch(wanted: &[WantedUid]) -> Vec<Vec<WantedUid>> {
    let mut batches: Vec<Vec<WantedUid>> = Vec::new();
    let mut bytes = 0;
    for message in wanted {
        match batches.last_mut() {
            Some(last) if last.len() < COMMAND_MESSAGES && bytes + message.size <= COMMAND_BYTES => {
                last.push(*message);
            }
            _ => {
                batches.push(vec![*message]);
                bytes = 0;
            }
        }
        bytes += message.size;
    }
    batches
}

/// The UID in `12 FETCH (UID 5 BODY[]`.
fn uid_in(prefix: &[u8]) -> Option<u32> {
    let (_, _, rest) = split_numbered(prefix)?;
    let values = read_values(rest.strip_prefix(b"(")?).ok()?;
    let at = values.iter().position(|v| v.text().is_some_and(|t| t.eq_ignore_ascii_case("UID")))?;
    values.get(at + 1)?.number()
}

async fn pass_body(session: &mut Session, size: u64, uid: u32, bodies: &BodySender) -> Result<()> {
    let mut left = size;
    while left > 0 {
        let Event::BodyChunk(chunk) = session.next_event().await? else {
            return Err(Failure::protocol("broke a message off"));
        };
        left = left.saturating_sub(chunk.len() as u64);
        if bodies.send(BodyEvent::Chunk(chunk)).await.is_err() {
            return Err(Failure::new(Class::Unreachable, "nobody takes the message any more"));
        }
    }
    // The rest of the line may still say that these were another message's bytes.
    let Event::Untagged(line) = session.next_event().await? else {
        return Err(Failure::protocol("broke a FETCH response off"));
    };
    if let Some((_, _, rest)) = split_numbered(&line) {
        for (name, value) in read_fetch(rest)? {
            if name == "UID" && value.number() != Some(uid) {
                return Err(Failure::protocol(format!("sent another message in place of UID {uid}")));
            }
        }
    }
    let _ = bodies.send(BodyEvent::End { date: None }).await;
    Ok(())
}

async fn skip_body(session: &mut Session, size: u64) -> Result<()> {
    let mut left = size;
    while left > 0 {
        let Event::BodyChunk(chunk) = session.next_event().await? else {
            return Err(Failure::protocol("broke a message off"));
        };
        left = left.saturating_sub(chunk.len() as u64);
    }
    // What follows the body belongs to the same response.
    session.next_event().await.map(drop)
}

/// A body that came as a quoted string instead of a literal. NIL is no message: it stays among the missing.
fn read_inline(line: &[u8], keys: &mut HashMap<u32, u64>) -> Result<Option<(u64, Vec<u8>)>> {
    // `* BYE FETCH failed` is no FETCH response.
    let Some((_, word, rest)) = split_numbered(line) else { return Ok(None) };
    if !word.eq_ignore_ascii_case(b"FETCH") {
        return Ok(None);
    }
    let mut uid = None;
    let mut content = None;
    for (name, value) in read_fetch(rest)? {
        match (name.as_str(), value) {
            ("UID", value) => uid = value.number::<u32>(),
            ("BODY[]", Value::Text(bytes)) => content = Some(bytes),
            _ => {}
        }
    }
    Ok(match (uid, content) {
        (Some(uid), Some(content)) => keys.remove(&uid).map(|key| (key, content)),
        _ => None,
    })
}

async fn pass_inline(key: u64, content: Vec<u8>, bodies: &BodySender) {
    let size = content.len() as u64;
    let _ = bodies.send(BodyEvent::Begin { key, size }).await;
    if size > 0 {
        let _ = bodies.send(BodyEvent::Chunk(content.into())).await;
    }
    let _ = bodies.send(BodyEvent::End { date: None }).await;
}
