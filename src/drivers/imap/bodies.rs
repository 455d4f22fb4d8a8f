//! Streams whole messages out of the open folder: ranges of UIDs by byte budget, two commands in flight, each body passed
//! on in pieces as it comes.
//!
//! Every message that is asked for ends in one event. Servers answer a command in the order of the UIDs, so a message counts
//! as come only under its own UID and in its turn; whatever comes otherwise is let go by. One that did not come is looked up, asked
//! for once more, alone, and then named, so that an odd one costs nobody else anything. How a body itself is received, and
//! what is held back until it is judged, is in [`super::body`].

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::body::{Asked, Body, Given, HANDS_OUT_NOTHING, InFlight, Stop, garbled, skip};
use super::session::{PIPELINING, Session, split_numbered};
use super::tokens::{Status, StatusText, Value, read_fetch, read_values, write_number_set};
use super::wire::Event;
use crate::drivers::{BodyEvent, BodySender};
use crate::model::failure::{Class, Failure, FailureCode, Result};
use crate::model::identity::{Digest, IdentityHasher};

/// Bytes that one FETCH command asks for, so that a refusal concerns few messages.
const COMMAND_BYTES: u64 = 4 * 1024 * 1024;
/// Messages that one FETCH command asks for.
const COMMAND_MESSAGES: usize = 200;
/// FETCH commands in flight: the next answer is on its way while this one is read.
const COMMANDS_IN_FLIGHT: usize = 2;
/// So many messages refused one after another, without a word that is about one of them, are no longer their own trouble.
const REFUSED_IN_A_ROW: usize = 3;
/// So many messages of a fetch that come shorter than they are listed are asked for once more. Where all come so again, the list
/// is wrong, and none is any more.
const SHORT_AGAIN: usize = 3;
/// Said of a server whose list is wrong in that way.
const SIZES_ARE_GUESSES: &str = "sizes are guesses";
/// The code of an answer that a server cut short (RFC 9738).
const MESSAGE_LIMIT: &str = "MESSAGELIMIT";
/// The assumed size of a message whose size nobody asked for, in bytes.
const SIZE_ASSUMED: u64 = 64 * 1024;

/// A message to fetch from the open folder.
#[derive(Debug, Clone, Copy)]
pub struct WantedUid {
    /// The caller's number for it.
    pub key: u64,
    /// Its UID.
    pub uid: u32,
    /// The size that the listing announced, in bytes; `None` where nobody asked.
    pub size: Option<u64>,
}

/// Fetches messages and passes them on. A message that is gone, or that the server cannot read, is passed on as
/// [`BodyEvent::Missing`].
///
/// # Errors
/// Those of the session; of what was asked for, nothing behind the message at which it ended was passed on. One that leaves
/// the session usable when the server refuses one message after another. A receiver that went away ends the fetch without an
/// error: it knows why.
pub async fn fetch_bodies(session: &mut Session, wanted: &[WantedUid], bodies: &BodySender) -> Result<()> {
    session.compress_if_slow().await?;
    let mut fetch = Fetch {
        session,
        bodies,
        alone: wanted.len() == 1,
        open: HashMap::with_capacity(wanted.len()),
        queue: VecDeque::new(),
        in_flight: VecDeque::new(),
        several: false,
        asked_again: HashSet::new(),
        absent: Vec::new(),
        short: 0,
        short_again: 0,
        odd: HashMap::new(),
        come: HashMap::new(),
        refused: Vec::new(),
        passed: 0,
        since: None,
    };
    match fetch.run(wanted).await {
        Ok(()) | Err(Stop::Unheard) => Ok(()),
        Err(Stop::Failed(failure)) => Err(failure),
    }
}

struct Fetch<'a> {
    session: &'a mut Session,
    bodies: &'a BodySender,
    /// Whether one message is wanted in all.
    alone: bool,
    /// Messages that nothing was said of yet, by their UIDs.
    open: HashMap<u32, WantedUid>,
    /// The commands still to be sent: the UIDs of each, in ascending order.
    queue: VecDeque<Vec<u32>>,
    in_flight: InFlight,
    /// Whether several commands were given at once.
    several: bool,
    /// Messages that were asked for once more, alone.
    asked_again: HashSet<u32>,
    /// Messages whose command ended with OK and that did not come.
    absent: Vec<u32>,
    /// Messages that came shorter than they are listed and are asked for once more.
    short: usize,
    /// Those that came so again.
    short_again: usize,
    /// Descriptions of the data that came in place of messages.
    odd: HashMap<u32, &'static str>,
    /// Messages that came, by their UIDs: the caller's numbers for them.
    come: HashMap<u32, u64>,
    /// Messages that were refused since the last one came, and not reported yet.
    refused: Vec<(WantedUid, Failure)>,
    /// Bytes of bodies that passed, since the first of them: from then on the server is at work and the way is full.
    passed: u64,
    since: Option<Duration>,
}

impl Fetch<'_> {
    async fn run(&mut self, wanted: &[WantedUid]) -> Result<(), Stop> {
        let mut asked = Vec::with_capacity(wanted.len());
        for message in wanted {
            if message.uid == 0 {
                self.name(*message, "lists it with the UID 0, by which nobody can ask for a message").await?;
                continue;
            }
            match self.open.entry(message.uid) {
                Entry::Vacant(place) => asked.push(*place.insert(*message)),
                Entry::Occupied(_) => {
                    self.name(*message, "gives its UID to another message as well").await?;
                }
            }
        }
        self.queue = batch(asked);
        loop {
            self.send().await?;
            if self.in_flight.is_empty() {
                if self.absent.is_empty() {
                    break;
                }
                self.look_up().await?;
                continue;
            }
            let event = match self.session.next_event().await {
                Ok(event) => event,
                Err(failure) => {
                    // It may have let one of several commands go by unheard; once may be chance.
                    if self.several && failure.is(FailureCode::Silent) {
                        self.session.suspect(PIPELINING);
                    }
                    return Err(failure.into());
                }
            };
            match event {
                Event::BodyBegin { prefix, size } => self.receive(&prefix, size).await?,
                Event::Untagged(line) => self.read_inline(&line).await?,
                Event::Tagged { tag, status, rest } => {
                    self.end(&tag, status, &StatusText::parse(&rest)).await?;
                }
                Event::BodyChunk(_) | Event::Continue(_) | Event::Noise(_) => {
                    return Err(garbled("answered UID FETCH out of turn").into());
                }
            }
        }
        self.tell_refused().await?;
        if self.several {
            self.session.trust(PIPELINING);
        }
        if let Some(since) = self.since {
            self.session.note_carried(self.passed, since);
        }
        Ok(())
    }

    /// Keeps as many commands in flight as may be. A command for a single message has no other beside it, so that every
    /// response can only be about that message.
    async fn send(&mut self) -> Result<(), Stop> {
        let at_once = if self.session.takes_several() { COMMANDS_IN_FLIGHT } else { 1 };
        while self.in_flight.len() < at_once {
            let is_busy_with_one = self.in_flight.iter().any(|asked| asked.uids.len() == 1);
            let is_one = self.queue.front().is_some_and(|uids| uids.len() == 1);
            if !self.in_flight.is_empty() && (is_busy_with_one || is_one) {
                break;
            }
            let Some(uids) = self.queue.pop_front() else { break };
            let command = format!("UID FETCH {} (UID BODY.PEEK[])", write_number_set(&uids));
            let tag = self.session.send(&command).await?;
            self.in_flight.push_back(Asked { tag, uids, next: 0, sequence: 0 });
            self.several |= self.in_flight.len() > 1;
        }
        Ok(())
    }

    /// The message with such a UID, if it is its turn. A message that comes out of turn may be another one under its
    /// UID, and is asked for again like a missing one.
    ///
    /// The turn is that of the command that asks for it: Dovecot begins with the next command while an answer waits until
    /// somebody reads, and sends a part of either in turn. Sequence numbers ascend with UIDs (RFC 3501 §2.3.1.2), so they tell
    /// whether a message lies behind all that the command before still owes, or is one of those under another's UID.
    fn turn_of(&mut self, uid: u32, sequence: u32) -> Option<WantedUid> {
        let in_flight = self.in_flight.iter().enumerate();
        let mut places =
            in_flight.filter_map(|(nth, asked)| Some((nth, asked.uids.binary_search(&uid).ok()?)));
        let (nth, at) = places.next()?;
        let lies_behind = |before: &Asked| {
            let owed = before.uids.len().checked_sub(before.next);
            before.next > 0
                && owed
                    .is_some_and(|owed| u64::from(sequence) > u64::from(before.sequence) + (owed + at) as u64)
        };
        let is_behind = self.in_flight.iter().take(nth).all(lies_behind);
        let asked = self.in_flight.get_mut(nth)?;
        let is_its_turn = at == asked.next && is_behind;
        // From then on nothing tells which message comes, if one is missing or comes under another's UID.
        asked.next = if is_its_turn { at + 1 } else { usize::MAX };
        asked.sequence = sequence;
        self.open.get(&uid).copied().filter(|_| is_its_turn)
    }

    /// The message that is asked for alone.
    fn only(&self) -> Option<WantedUid> {
        let [uid] = self.in_flight.front()?.uids[..] else { return None };
        self.open.get(&uid).copied()
    }

    async fn receive(&mut self, prefix: &[u8], size: u64) -> Result<(), Stop> {
        self.since.get_or_insert(self.session.waited());
        self.passed += size;
        let told = uid_in(prefix);
        let sequence = split_numbered(prefix).map_or(0, |(sequence, ..)| sequence);
        let message = match told {
            Some(uid) => self.turn_of(uid, sequence),
            None => self.only().and_then(|only| self.turn_of(only.uid, sequence)),
        };
        let Some(message) = message else {
            if told.is_none() {
                // The UID comes behind the body: only what is asked for alone can be told apart.
                let rest: Vec<u32> = self.queue.drain(..).flatten().collect();
                self.queue = rest.into_iter().map(|uid| vec![uid]).collect();
            }
            // Nobody asked for it, or it came before.
            if let Some(only) = self.only() {
                self.odd.insert(only.uid, "hands out another message in its place");
            }
            let exact = skip(self.session, size).await?;
            return self.tell_again(told, exact).await;
        };
        let asked_again = self.asked_again.contains(&message.uid);
        let may_be_short =
            asked_again || self.short >= SHORT_AGAIN || self.session.is_proven(SIZES_ARE_GUESSES);
        let body = Body { message, size, told: told.is_some(), alone: self.alone, may_be_short };
        if asked_again && message.size.is_some_and(|listed| listed > size) {
            self.short_again += 1;
            if self.short_again == SHORT_AGAIN {
                self.session.prove(SIZES_ARE_GUESSES);
            }
        }
        let Self { session, in_flight, bodies, .. } = self;
        match body.receive(session, in_flight, bodies).await? {
            Given::Passed => {
                self.come.insert(message.uid, message.key);
                self.note_come(message.uid).await
            }
            Given::Short => {
                self.short += 1;
                self.odd.insert(message.uid, "hands out less of it than it lists");
                Ok(())
            }
            Given::Another(why) => {
                self.odd.insert(message.uid, why);
                Ok(())
            }
            Given::Notice(failure) => {
                self.note_come(message.uid).await?;
                self.miss(message.key, Some(failure)).await
            }
        }
    }

    /// Tells that something came under the UID of a message that has passed: it may be the one that is called so.
    async fn tell_again(&mut self, uid: Option<u32>, exact: Digest) -> Result<(), Stop> {
        match uid.and_then(|uid| self.come.get(&uid).copied()) {
            Some(key) => self.tell(BodyEvent::Again { key, exact }).await,
            None => Ok(()),
        }
    }

    /// Notes that something came for a message.
    async fn note_come(&mut self, uid: u32) -> Result<(), Stop> {
        self.open.remove(&uid);
        // The server does hand out messages, so those that it refused before were refused for what they are.
        self.tell_refused().await
    }

    /// A body that came as a quoted string instead of a literal. NIL is not a message.
    async fn read_inline(&mut self, line: &[u8]) -> Result<(), Stop> {
        // `* BYE FETCH failed` is not a FETCH response. Neither is an unreadable line: messages that did not come are
        // asked for again.
        let Some((sequence, word, rest)) = split_numbered(line) else { return Ok(()) };
        let Ok(attributes) = read_fetch(rest) else { return Ok(()) };
        if !word.eq_ignore_ascii_case(b"FETCH") {
            return Ok(());
        }
        let mut uid = None;
        let mut content = None;
        for (name, value) in attributes {
            match (name.as_str(), value) {
                ("UID", value) => uid = value.number::<u32>(),
                ("BODY[]" | "RFC822", Value::Text(bytes)) => content = Some(bytes),
                ("BODY[]" | "RFC822", _) => content = Some(Vec::new()),
                _ => {}
            }
        }
        let Some(content) = content else { return Ok(()) };
        let Some(message) = uid.and_then(|uid| self.turn_of(uid, sequence)) else {
            let mut hasher = IdentityHasher::new();
            hasher.update(&content);
            return if content.is_empty() {
                Ok(())
            } else {
                self.tell_again(uid, hasher.finish().exact).await
            };
        };
        if content.is_empty() && message.size != Some(0) {
            self.odd.insert(message.uid, HANDS_OUT_NOTHING);
            return Ok(());
        }
        let size = content.len() as u64;
        self.tell(BodyEvent::Begin { key: message.key, size }).await?;
        if size > 0 {
            self.tell(BodyEvent::Chunk(content.into())).await?;
        }
        self.tell(BodyEvent::End { date: None }).await?;
        self.come.insert(message.uid, message.key);
        self.note_come(message.uid).await
    }

    /// A command has ended.
    async fn end(&mut self, theirs: &[u8], status: Status, said: &StatusText) -> Result<(), Stop> {
        let at = self.in_flight.iter().position(|asked| asked.tag == *theirs);
        let Some(Asked { mut uids, .. }) = at.and_then(|at| self.in_flight.remove(at)) else {
            return Err(garbled("ended a command that was not given").into());
        };
        let asked = uids.len();
        uids.retain(|uid| self.open.contains_key(uid));
        if status == Status::Ok {
            // A command that was cut short continues with the rest.
            if said.code == MESSAGE_LIMIT && uids.len() < asked && !uids.is_empty() {
                self.queue.push_front(uids);
            } else {
                self.absent.extend(uids);
            }
            return Ok(());
        }
        let failure = self.session.refusal("UID FETCH", status, said);
        let is_of_the_session = failure.class == Class::Throttled || failure.is(FailureCode::ConnectionEnded);
        if is_of_the_session {
            return Err(failure.into());
        }
        match uids[..] {
            // All that it was about came.
            [] => {}
            [uid] if self.asked_again.insert(uid) => self.queue.push_front(uids),
            [uid] => self.refuse(uid, failure).await?,
            // One unreadable message must not take its neighbours along.
            _ => {
                let second = uids.split_off(uids.len().div_ceil(2));
                self.queue.push_front(second);
                self.queue.push_front(uids);
            }
        }
        Ok(())
    }

    /// A message was refused for the second time.
    async fn refuse(&mut self, uid: u32, failure: Failure) -> Result<(), Stop> {
        let Some(message) = self.open.remove(&uid) else { return Ok(()) };
        if failure.code.is_some_and(|code| code != FailureCode::TryLater) {
            return self.miss(message.key, Some(Failure { class: Class::Message, ..failure })).await;
        }
        self.refused.push((message, failure));
        if self.refused.len() < REFUSED_IN_A_ROW {
            return Ok(());
        }
        let (_, first) = self.refused.remove(0);
        let what = format!("refuses one message after another: {}", first.what);
        let failure = Failure { what, class: Class::Unreachable, hint: None, ..first };
        Err(failure.code(FailureCode::ServerFault).into())
    }

    /// Tells of the messages that were refused each for itself.
    async fn tell_refused(&mut self) -> Result<(), Stop> {
        for (message, failure) in std::mem::take(&mut self.refused) {
            self.miss(message.key, Some(Failure { class: Class::Message, ..failure })).await?;
        }
        Ok(())
    }

    /// Looks up messages that did not come: those that the server no longer lists are gone, the others are asked for once
    /// more, alone, and named after that.
    async fn look_up(&mut self) -> Result<(), Stop> {
        let mut absent = std::mem::take(&mut self.absent);
        absent.sort_unstable();
        let mut listed = HashSet::new();
        // As they were listed: a server that shows them so has them, whatever it hands out.
        let command = format!("UID FETCH {} (UID FLAGS INTERNALDATE RFC822.SIZE)", write_number_set(&absent));
        let note = |line: &[u8]| {
            if let Some((_, word, rest)) = split_numbered(line)
                && word.eq_ignore_ascii_case(b"FETCH")
            {
                listed.extend(read_fetch(rest).ok().and_then(|attributes| uid_of(&attributes)));
            }
            Ok(())
        };
        let is_whole = match self.session.run(&command, note).await {
            Ok(said) => said.code != MESSAGE_LIMIT,
            Err(failure) if failure.leaves_the_session() => false,
            Err(failure) => return Err(failure.into()),
        };
        for uid in absent {
            let Some(message) = self.open.get(&uid).copied() else { continue };
            if is_whole && !listed.contains(&uid) {
                self.open.remove(&uid);
                self.miss(message.key, None).await?;
            } else if self.asked_again.insert(uid) {
                self.queue.push_back(vec![uid]);
            } else {
                self.open.remove(&uid);
                let why = self.odd.get(&uid).copied().unwrap_or(HANDS_OUT_NOTHING);
                self.name(message, why).await?;
            }
        }
        Ok(())
    }

    /// Passes on why nothing came for a message that the server lists.
    async fn name(&mut self, message: WantedUid, why: &str) -> Result<(), Stop> {
        let failure = Failure::new(Class::Message, why).code(FailureCode::NothingCame);
        self.miss(message.key, Some(failure)).await
    }

    async fn miss(&mut self, key: u64, failure: Option<Failure>) -> Result<(), Stop> {
        self.tell(BodyEvent::Missing { key, failure }).await
    }

    async fn tell(&mut self, event: BodyEvent) -> Result<(), Stop> {
        self.bodies.send(event).await.map_err(|_| Stop::Unheard)
    }
}

/// Parts the messages into commands.
fn batch(mut wanted: Vec<WantedUid>) -> VecDeque<Vec<u32>> {
    wanted.sort_unstable_by_key(|message| message.uid);
    let mut batches: VecDeque<Vec<u32>> = VecDeque::new();
    let mut bytes = 0;
    for message in wanted {
        let size = message.size.unwrap_or(SIZE_ASSUMED);
        match batches.back_mut() {
            Some(last) if last.len() < COMMAND_MESSAGES && bytes + size <= COMMAND_BYTES => {
                last.push(message.uid);
            }
            _ => {
                batches.push_back(vec![message.uid]);
                bytes = 0;
            }
        }
        bytes += size;
    }
    batches
}

/// The UID among the attributes of a FETCH response.
fn uid_of(attributes: &[(String, Value)]) -> Option<u32> {
    attributes.iter().find_map(|(name, value)| if name == "UID" { value.number() } else { None })
}

/// The UID in `12 FETCH (UID 5 BODY[]`.
fn uid_in(prefix: &[u8]) -> Option<u32> {
    let (_, _, rest) = split_numbered(prefix)?;
    let values = read_values(rest.strip_prefix(b"(")?).ok()?;
    let at = values.iter().position(|v| v.text().is_some_and(|t| t.eq_ignore_ascii_case("UID")))?;
    values.get(at + 1)?.number()
}

#[cfg(test)]
#[path = "bodies_tests.rs"]
mod tests;
