//! The upload: APPENDs in a pipeline. Each begins as soon as its size is known, needs no round trip where the server
//! takes non-synchronizing literals (RFC 7888), and its answer is matched by tag when it comes.
//!
//! Where the server offers MULTIAPPEND (RFC 3502), small messages share a command: the transaction that each command is
//! costs a server several times what the message itself does. Such a command is atomic, so one bad message fails its
//! neighbours: after a refusal each message of the batch is sent alone, from memory, once it was seen that the server kept
//! none of them (`append/doubts.rs`).

mod arrivals;
mod doubts;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use self::arrivals::read_arrivals;
pub(super) use self::doubts::Accounted;
use self::doubts::Unclear;
use super::body::garbled;
use super::command::check_line;
use super::folders::{Access, Row, check_count, list_command_from, open_command, read_listed, select_rows};
use super::names::quote;
use super::session::{PIPELINING, Session, Tag};
use super::tokens::{Status, StatusText};
use super::wire::Event;
use crate::drivers::{Appended, BodyEvent, BodyReceiver, Envelope};
use crate::model::failure::{Class, Failure, FailureCode, Result};

/// The extension by which messages share a command.
const MULTIAPPEND: &str = "MULTIAPPEND";
/// Commands that may be unanswered. With the bounds of a batch this is what is in doubt after a cut (FAULTS §0.1).
const WINDOW_COMMANDS: usize = 16;
/// Batches among them: the next is on its way while the server works on this one.
const WINDOW_BATCHES: usize = 2;
/// Bytes of unanswered commands; one larger message may be alone in flight.
const WINDOW_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes of one batch. They are kept until its answer, so this bounds memory as well.
const BATCH_BYTES: u64 = 1024 * 1024;
/// Messages of one batch.
const BATCH_MESSAGES: usize = 50;
/// How long a batch is held open, so that what was sent is stored also when the source or the pace is slow.
const BATCH_PATIENCE: Duration = Duration::from_secs(2);
/// How long answers are read that came before a connection broke.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The largest literal that LITERAL- lets pass without waiting (RFC 7888 §5), in bytes.
const LITERAL_MINUS_MAX: u64 = 4096;

/// One message on its way.
struct Message {
    key: u64,
    size: u64,
    /// Flags and date, as the command says them.
    head: String,
    /// Its bytes, while they may be needed again.
    kept: Vec<Bytes>,
}

/// One command on its way.
struct Batch {
    messages: Vec<Message>,
    bytes: u64,
    /// When it was begun.
    since: Instant,
}

impl Batch {
    fn begin() -> Self {
        Self { messages: Vec::new(), bytes: 0, since: Instant::now() }
    }

    /// How long it may still be held open.
    fn patience(&self) -> Duration {
        BATCH_PATIENCE.saturating_sub(self.since.elapsed())
    }
}

/// The server's answer to an announced message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reception {
    /// Its bytes may come.
    GoOn,
    /// It was refused, and reported.
    Refused,
    /// The command that it was to share was refused: it is to be sent alone.
    Again,
}

struct Upload<'a> {
    session: &'a mut Session,
    /// The folder, quoted.
    folder: String,
    outcomes: &'a mpsc::UnboundedSender<Appended>,
    in_flight: HashMap<Vec<u8>, Batch>,
    bytes: u64,
    /// The command that may still take more messages; it is in flight already.
    open: Option<Tag>,
    /// Refused batches of which nobody has looked yet whether the server kept some.
    unclear: Vec<Unclear>,
    /// Messages of refused batches, to be sent alone.
    again: VecDeque<Message>,
    /// Those of them that have no answer yet: if all are taken, it was not them.
    doubted: HashSet<u64>,
    /// Whether messages may share a command.
    batches: bool,
    /// The command that opens the folder anew behind the last message, so that the list shows what arrived.
    reopen: Option<Tag>,
    /// Why the folder could not be opened anew.
    closed: Option<Failure>,
    /// The list that is asked for behind that.
    list: Option<Tag>,
    rows: Vec<Row>,
    /// From which UID on the folder is listed.
    list_from: Option<u32>,
    /// The messages stored from that UID on, as far as the server said so.
    accounted: &'a mut Accounted,
    /// Whether a message was announced without waiting.
    at_once: bool,
    /// Whether any message was refused.
    refused: bool,
}

/// Appends every message of a stream to a folder. With `list_from`, lists the open folder from that UID upwards, in the
/// same turn as the last answers. `accounted` is what earlier uploads stored from that UID on.
///
/// # Errors
/// Those of the session: the outcome of the messages that were not reported is unknown then.
pub(super) async fn append_bodies(
    session: &mut Session,
    wire_name: &str,
    bodies: &mut BodyReceiver,
    envelope: &(dyn Fn(u64) -> Envelope + Send + Sync),
    outcomes: &mpsc::UnboundedSender<Appended>,
    list_from: Option<u32>,
    accounted: &mut Accounted,
) -> Result<Vec<Row>> {
    session.compress_if_slow().await?;
    session.try_literals().await?;
    let waited = session.waited();
    let limit = session.facts().capabilities.values("APPENDLIMIT").find_map(|v| v.parse::<u64>().ok());
    let batches = session.offers(MULTIAPPEND);
    let mut upload = Upload {
        session,
        folder: quote(wire_name),
        outcomes,
        in_flight: HashMap::new(),
        bytes: 0,
        open: None,
        unclear: Vec::new(),
        again: VecDeque::new(),
        doubted: HashSet::new(),
        batches,
        reopen: None,
        closed: None,
        list: None,
        rows: Vec::new(),
        list_from,
        accounted,
        at_once: false,
        refused: false,
    };
    upload.accounted.begin(wire_name, list_from);
    match upload.carry(bodies, envelope, limit, list_from).await {
        Ok(passed) => {
            upload.session.trust(PIPELINING);
            upload.session.note_carried(passed, waited);
            Ok(select_rows(upload.rows, list_from.unwrap_or(1)))
        }
        Err(failure) => {
            // A message may be written in part: whatever came behind it would be the rest of it.
            upload.session.abandon();
            if upload.in_flight.len() > 1 && failure.is(FailureCode::Silent) {
                upload.session.suspect(PIPELINING);
            }
            upload.hear_out(&failure).await;
            upload.forgo_unproven_literals(&failure);
            if upload.in_flight.values().any(|batch| batch.messages.len() > 1) {
                upload.session.suspect(MULTIAPPEND);
            }
            Err(failure)
        }
    }
}

impl Upload<'_> {
    /// Sends every message of the stream and waits until all are answered for; says how many bytes they had.
    async fn carry(
        &mut self,
        bodies: &mut BodyReceiver,
        envelope: &(dyn Fn(u64) -> Envelope + Send + Sync),
        limit: Option<u64>,
        list_from: Option<u32>,
    ) -> Result<u64> {
        let mut passed = 0;
        while let Some(event) = self.next_body(bodies).await? {
            let BodyEvent::Begin { key, size } = event else {
                // A message that is missing at the source is the engine's to count.
                continue;
            };
            if let Some(limit) = limit.filter(|limit| size > *limit) {
                let what = format!("larger than the server takes ({size} of {limit} bytes)");
                let failure = Failure::new(Class::Message, what).code(FailureCode::TooLarge);
                self.report(Appended::Refused { key, failure, limit: Some(limit) });
                skip_message(bodies).await?;
                continue;
            }
            let envelope = envelope(key);
            let date = envelope.date.map(|date| format!(" \"{date}\"")).unwrap_or_default();
            let head = format!("({}){date}", envelope.flags.writable());
            check_line(head.as_bytes())?;
            let message = Message { key, size, head, kept: Vec::new() };
            passed += size;
            self.take(message, bodies).await?;
        }
        self.close_batch().await?;
        loop {
            self.send_again().await?;
            if let Some(from) = list_from {
                self.send_list(from).await?;
            }
            while !self.in_flight.is_empty() || self.reopen.is_some() || self.list.is_some() {
                self.read_answer().await?;
            }
            if !self.again.is_empty() || !self.unclear.is_empty() {
                continue;
            }
            // A folder that went while it was filled also refused messages; whoever reads of those finds out why.
            return match self.closed.take() {
                Some(closed) if !self.refused => Err(closed),
                _ => Ok(passed),
            };
        }
    }

    /// Asks for the list behind the last message. Commands are carried out in turn, but what an open folder shows may be
    /// older (Dovecot looks into it only when nothing more waits to be done), and what is opened shows all.
    async fn send_list(&mut self, from: u32) -> Result<()> {
        self.rows.clear();
        self.closed = None;
        let open = open_command(self.session, &self.folder, Access::Write);
        self.reopen = Some(self.session.send(&open).await?);
        self.list = Some(self.session.send(&list_command_from(from)).await?);
        Ok(())
    }

    /// The connection broke, perhaps while something was written: answers from before may still be there to be read. A server
    /// that ends a session after so many refusals is got through in no other way.
    async fn hear_out(&mut self, failure: &Failure) {
        if !matches!(failure.class, Class::Protocol | Class::Internal)
            && !failure.is(FailureCode::SourceBrokeOff)
        {
            let answers = async { while !self.in_flight.is_empty() && self.read_answer().await.is_ok() {} };
            // Messages without an answer by then are in doubt, and are looked for later.
            let _ = timeout(LAST_WORDS, answers).await;
        }
    }

    fn report(&mut self, outcome: Appended) {
        match &outcome {
            Appended::Stored { key, .. } => {
                if self.doubted.remove(key) && self.doubted.is_empty() {
                    // Each was taken by itself: it is commands with several that the server does not take.
                    self.session.forgo(MULTIAPPEND);
                    self.batches = false;
                }
            }
            // It was this one.
            Appended::Refused { key, .. } if self.doubted.contains(key) => self.doubted.clear(),
            Appended::Refused { .. } => {}
        }
        // Nobody listens once the engine has given up; the ledger settles such messages.
        let _ = self.outcomes.send(outcome);
    }

    /// The next event of the stream. While the source has nothing ready, what is corked leaves for the server.
    async fn next_body(&mut self, bodies: &mut BodyReceiver) -> Result<Option<BodyEvent>> {
        if let Ok(event) = bodies.try_recv() {
            return Ok(Some(event));
        }
        self.session.uncork().await?;
        if let Some(patience) = self.open_batch().map(Batch::patience) {
            if let Ok(event) = timeout(patience, bodies.recv()).await {
                return Ok(event);
            }
            self.close_batch().await?;
            self.session.uncork().await?;
        }
        Ok(bodies.recv().await)
    }

    /// Sends one message of the stream: in the open batch, in a new one, or alone.
    async fn take(&mut self, mut message: Message, bodies: &mut BodyReceiver) -> Result<()> {
        // An empty literal takes the whole command back (RFC 3502 §6.3.11).
        let shares = self.batches && message.size > 0 && message.size <= BATCH_BYTES;
        if !(shares && self.has_room(message.size)) {
            self.close_batch().await?;
            self.send_again().await?;
            self.make_room(message.size, shares).await?;
        }
        let (tag, mut reception) = self.begin(&message).await?;
        if reception == Reception::Refused {
            return skip_message(bodies).await;
        }
        let announced = reception == Reception::GoOn;
        let mut written = false;
        while let Some(chunk) = self.next_chunk(bodies).await? {
            // Small messages are written in one piece.
            if written && reception == Reception::GoOn {
                reception = self.hear_early_answer(&tag, &message)?.unwrap_or(Reception::GoOn);
            }
            if reception == Reception::GoOn {
                self.session.write(&chunk).await?;
                written = true;
            } else if announced {
                // A literal ends where it was announced to end, whatever was answered (RFC 9051 §4.3), and a server that
                // takes the rest for commands must find none in it.
                self.session.write(&vec![b' '; chunk.len()]).await?;
            }
            if shares {
                message.kept.push(chunk);
            }
        }
        if announced && reception != Reception::GoOn {
            self.session.write(b"\r\n").await?;
        }
        if reception == Reception::Refused {
            return Ok(());
        }
        if reception == Reception::Again {
            self.again.push_back(message);
            return Ok(());
        }
        self.finish(tag, message);
        if shares { Ok(()) } else { self.close_batch().await }
    }

    /// Notes that all bytes of a message are written; its command is still open.
    fn finish(&mut self, tag: Tag, message: Message) {
        if let Some(command) = self.in_flight.get_mut(tag.as_bytes()) {
            command.messages.push(message);
        }
        self.open = Some(tag);
    }

    /// The next piece of a message under way; `None` at its end.
    async fn next_chunk(&mut self, bodies: &mut BodyReceiver) -> Result<Option<Bytes>> {
        let event = if let Ok(event) = bodies.try_recv() {
            Some(event)
        } else {
            self.session.uncork().await?;
            bodies.recv().await
        };
        match event {
            Some(BodyEvent::Chunk(chunk)) => Ok(Some(chunk)),
            Some(BodyEvent::End { .. }) => Ok(None),
            _ => Err(broken_off()),
        }
    }

    /// Whether the open batch takes one more message.
    fn has_room(&self, size: u64) -> bool {
        self.open_batch().is_some_and(|batch| {
            batch.messages.len() < BATCH_MESSAGES
                && batch.bytes + size <= BATCH_BYTES
                && !batch.patience().is_zero()
        })
    }

    fn open_batch(&self) -> Option<&Batch> {
        self.in_flight.get(self.open.as_ref()?.as_bytes())
    }

    /// Waits until one more command may be in flight.
    async fn make_room(&mut self, size: u64, shares: bool) -> Result<()> {
        let window = match shares {
            _ if !self.session.takes_several() => 1,
            true => WINDOW_BATCHES,
            false => WINDOW_COMMANDS,
        };
        let room = if shares { BATCH_BYTES } else { size };
        while !self.in_flight.is_empty()
            && (self.in_flight.len() >= window || self.bytes + room > WINDOW_BYTES)
        {
            self.read_answer().await?;
        }
        Ok(())
    }

    /// Ends the command that could have taken more.
    async fn close_batch(&mut self) -> Result<()> {
        if self.open.take().is_some() {
            self.session.write(b"\r\n").await?;
        }
        Ok(())
    }

    /// Sends the messages of refused batches, each alone.
    async fn send_again(&mut self) -> Result<()> {
        self.clear_up().await?;
        while let Some(mut message) = self.again.pop_front() {
            self.make_room(message.size, false).await?;
            let (tag, reception) = self.begin(&message).await?;
            if reception == Reception::GoOn {
                for chunk in std::mem::take(&mut message.kept) {
                    self.session.write(&chunk).await?;
                }
                self.finish(tag, message);
                self.close_batch().await?;
            }
        }
        Ok(())
    }

    /// Announces a message, in the open command or in a new one.
    async fn begin(&mut self, message: &Message) -> Result<(Tag, Reception)> {
        let size = message.size;
        let without_waiting =
            self.session.offers("LITERAL+") || (self.session.offers("LITERAL-") && size <= LITERAL_MINUS_MAX);
        self.at_once |= without_waiting;
        let plus = if without_waiting { "+" } else { "" };
        let announced = format!("{} {{{size}{plus}}}", message.head);
        let tag = match self.open.take() {
            Some(tag) => {
                self.session.write(format!(" {announced}\r\n").as_bytes()).await?;
                tag
            }
            None => self.session.send(&format!("APPEND {} {announced}", self.folder)).await?,
        };
        let command = self.in_flight.entry(tag.as_bytes().to_vec()).or_insert_with(Batch::begin);
        command.bytes += size;
        self.bytes += size;
        if without_waiting {
            return Ok((tag, Reception::GoOn));
        }
        loop {
            if let Some(reception) = self.read_answer_or_go_on(Some((&tag, message))).await? {
                return Ok((tag, reception));
            }
        }
    }

    /// Reads one event. A server may ask for a literal that was sent without waiting, all the same.
    async fn read_answer(&mut self) -> Result<()> {
        self.read_answer_or_go_on(None).await.map(drop)
    }

    /// Reads one event. `announced` is the message that waits to go on, with its command.
    async fn read_answer_or_go_on(
        &mut self,
        announced: Option<(&Tag, &Message)>,
    ) -> Result<Option<Reception>> {
        let event = self.session.next_event().await?;
        self.take_event(event, announced)
    }

    /// Looks whether the command of a message was answered before all of it was written, and how.
    fn hear_early_answer(&mut self, tag: &Tag, message: &Message) -> Result<Option<Reception>> {
        while let Some(event) = self.session.next_event().now_or_never() {
            let reception = self.take_event(event?, Some((tag, message)))?;
            if !self.in_flight.contains_key(tag.as_bytes()) {
                return Ok(reception);
            }
        }
        Ok(None)
    }

    /// Takes in what the server said.
    fn take_event(&mut self, event: Event, announced: Option<(&Tag, &Message)>) -> Result<Option<Reception>> {
        match event {
            Event::Continue(_) => return Ok(Some(Reception::GoOn)),
            Event::Tagged { tag, status, rest } if self.reopen.as_ref().is_some_and(|open| *open == *tag) => {
                self.reopen = None;
                if status != Status::Ok {
                    self.closed = Some(self.session.refusal("SELECT", status, &StatusText::parse(&rest)));
                }
            }
            Event::Tagged { tag, status, rest } if self.list.as_ref().is_some_and(|list| *list == *tag) => {
                self.list = None;
                if status != Status::Ok && self.closed.is_none() {
                    return Err(self.session.refusal("UID FETCH", status, &StatusText::parse(&rest)));
                }
            }
            Event::Tagged { tag, status, rest } => {
                let Some(batch) = self.in_flight.remove(&tag) else {
                    return Err(garbled("answered an APPEND that was not given"));
                };
                self.bytes -= batch.bytes;
                let said = StatusText::parse(&rest);
                let waiting = announced.filter(|(announced, _)| **announced == *tag).map(|(_, m)| m);
                if status != Status::Ok {
                    let failure = self.session.refusal("APPEND", status, &said);
                    let messages = batch.messages.len() + usize::from(waiting.is_some());
                    self.hold_against_literals(messages, &failure)?;
                    return Ok(self.refuse(batch, waiting, &failure));
                }
                if waiting.is_some() {
                    return Err(garbled("confirmed an APPEND before it had the message"));
                }
                if batch.messages.len() > 1 {
                    self.session.trust(MULTIAPPEND);
                }
                let arrivals = read_arrivals(&said, batch.messages.len());
                self.accounted.note(&arrivals, batch.messages.len());
                self.prove_literals();
                for (at, message) in batch.messages.into_iter().enumerate() {
                    self.report(Appended::Stored { key: message.key, arrival: arrivals.get(at).cloned() });
                }
            }
            Event::Untagged(line) if self.list.is_some() => {
                self.rows.extend(read_listed(&line, &mut 0)?);
                check_count(self.rows.len())?;
            }
            Event::Untagged(_) => {}
            Event::BodyBegin { .. } | Event::BodyChunk(_) | Event::Noise(_) => {
                return Err(garbled("sent a message while taking one"));
            }
        }
        Ok(None)
    }

    /// A command was refused. A message that was alone in it is refused for good; of several it is unknown which was
    /// meant, and whether the server kept some of them all the same.
    fn refuse(&mut self, batch: Batch, waiting: Option<&Message>, failure: &Failure) -> Option<Reception> {
        let alone = batch.messages.len() + usize::from(waiting.is_some()) <= 1;
        // A refusal that concerns the session, and not a message, is not tried again.
        let final_word =
            alone || matches!(failure.class, Class::Throttled | Class::Unreachable | Class::Conflict);
        if failure.class == Class::Quota {
            // From now on what fits is found message by message.
            self.batches = false;
        }
        if final_word && !alone {
            // The second time in a row it may be that there are several.
            self.session.suspect(MULTIAPPEND);
        }
        if !final_word && failure.class != Class::Quota {
            self.doubted.extend(batch.messages.iter().chain(waiting).map(|message| message.key));
        }
        if final_word && let Some(waiting) = waiting {
            self.refuse_for_good(waiting.key, failure);
        }
        if alone {
            for message in &batch.messages {
                self.refuse_for_good(message.key, failure);
            }
        } else if !batch.messages.is_empty() {
            let failure = final_word.then(|| failure.clone());
            self.unclear.push(Unclear { messages: batch.messages, failure });
        }
        waiting.map(|_| if final_word { Reception::Refused } else { Reception::Again })
    }

    fn refuse_for_good(&mut self, key: u64, failure: &Failure) {
        self.refused = true;
        self.report(Appended::Refused { key, failure: failure.clone(), limit: None });
    }
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
        .code(FailureCode::SourceBrokeOff)
}
