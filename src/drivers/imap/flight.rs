//! Commands of one flight: given without waiting for each other's answers, and answered in turn. A command that a
//! server fails at is asked again, once, alone and plainly; if that works, the server is remembered
//! ([`Session::forgo`]) and every session with it asks plainly from then on.
//!
//! - A command with an extension that is refused is asked without it.
//! - A command that is answered before its turn, or as out of place, is asked when nothing else is under way.
//! - A command that means something only after the one before it (a list behind the opening of a folder) has its answer
//!   discarded when that one was refused, and is asked after that one was asked again.

use std::collections::VecDeque;

use super::command::{Ask, Plainly};
use super::session::{PIPELINING, Session, Tag};
use super::tokens::{Status, StatusText};
use super::wire::Event;
use crate::model::failure::{Class, Failure, FailureCode, Result};

/// Commands of one flight that may be unanswered; all of them fit into a socket's buffers.
const COMMANDS_IN_FLIGHT: usize = 64;

/// Lines that belong to nothing that a session passes over.
const PASSED_OVER_MAX: u32 = 1000;

/// How the commands of a flight ended.
type Ended = Vec<Option<Result<StatusText>>>;

impl Session {
    /// Runs several commands in one flight. `untagged` hears every untagged response with the place of the command that
    /// is answered: servers answer in turn. How each command ended comes back in their order.
    ///
    /// # Errors
    /// Those of the connection and of `untagged`.
    pub async fn run_all(
        &mut self,
        commands: &[String],
        untagged: impl FnMut(usize, &[u8]) -> Result<()> + Send,
    ) -> Result<Vec<Result<StatusText>>> {
        let asks: Vec<Ask> = commands.iter().map(|command| Ask::new(command.clone())).collect();
        self.ask_all(&asks, untagged).await
    }

    /// As [`Self::run`], for a command that may be asked plainly.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn ask(
        &mut self,
        ask: Ask,
        mut untagged: impl FnMut(&[u8]) -> Result<()> + Send,
    ) -> Result<StatusText> {
        let ended = self.ask_all(&[ask], |_, line| untagged(line)).await?;
        ended.into_iter().next().unwrap_or_else(|| Err(Failure::internal("a command has no end")))
    }

    /// As [`Self::run_all`], for commands that may be asked plainly.
    ///
    /// # Errors
    /// As [`Self::run_all`].
    pub async fn ask_all(
        &mut self,
        asks: &[Ask],
        mut untagged: impl FnMut(usize, &[u8]) -> Result<()> + Send,
    ) -> Result<Vec<Result<StatusText>>> {
        let mut ended: Ended = asks.iter().map(|_| None).collect();
        let early = self.fly(asks, &mut ended, &mut untagged).await?;
        let mut before_was_redone = false;
        for at in 0..asks.len() {
            let redone =
                self.ask_again(asks, at, &early, before_was_redone, &mut ended, &mut untagged).await?;
            before_was_redone = redone && matches!(ended[at], Some(Ok(_)));
        }
        let lacking = || Err(Failure::internal("a command has no end"));
        Ok(ended.into_iter().map(|ended| ended.unwrap_or_else(lacking)).collect())
    }

    /// Gives all commands and reads their answers. Says which of them were answered before their turn.
    async fn fly(
        &mut self,
        asks: &[Ask],
        ended: &mut Ended,
        untagged: &mut (impl FnMut(usize, &[u8]) -> Result<()> + Send),
    ) -> Result<Vec<usize>> {
        let mut in_flight: VecDeque<(usize, Tag)> = VecDeque::new();
        let (mut early, mut several) = (Vec::new(), false);
        let mut next = 0;
        loop {
            while next < asks.len() {
                let (ask, width) = (&asks[next], if self.takes_several() { COMMANDS_IN_FLIGHT } else { 1 });
                if in_flight.len() >= width || !in_flight.is_empty() && self.has_to_wait(&ask.command) {
                    break;
                }
                let refused_before = ask.follows && is_refused(ended, next);
                if let Err(failure) = ask.command.check() {
                    ended[next] = Some(Err(failure));
                } else if refused_before {
                    let before = ended[next - 1].clone();
                    ended[next] = before;
                } else {
                    match self.give(&ask.command).await {
                        Ok(tag) => in_flight.push_back((next, tag)),
                        Err(failure) => return Err(self.ended_at(ask, failure, several)),
                    }
                    several |= in_flight.len() > 1;
                }
                next += 1;
            }
            let Some((at, tag)) = in_flight.front() else {
                if several && early.is_empty() {
                    self.trust(PIPELINING);
                }
                return Ok(early);
            };
            let at = *at;
            let event = match self.next_event().await {
                Ok(event) => event,
                Err(failure) => return Err(self.ended_at(&asks[at], failure, several)),
            };
            match event {
                Event::Untagged(line) => {
                    // A server that opened no folder may still have another one open.
                    if !(asks[at].follows && is_refused(ended, at)) {
                        untagged(at, &line)?;
                    }
                }
                Event::Tagged { tag: theirs, status, rest } => {
                    let in_turn = *tag == *theirs;
                    let Some(place) = in_flight.iter().position(|(_, tag)| *tag == *theirs) else {
                        return Err(out_of_turn("ended a command that was not given"));
                    };
                    let Some((which, _)) = in_flight.remove(place) else { continue };
                    let said = StatusText::parse(&rest);
                    if !in_turn || self.was_overtaken() {
                        self.forgo(PIPELINING);
                        early.push(which);
                        if status == Status::Ok && !in_turn {
                            // Whose data came so far cannot be told any more.
                            return Err(out_of_turn("answers commands out of turn"));
                        }
                    }
                    ended[which] = Some(if status == Status::Ok {
                        if let Some(word) = asks[which].plainly.as_ref().and_then(|plainly| plainly.word) {
                            self.trust(word);
                        }
                        Ok(said)
                    } else {
                        Err(self.refusal(asks[which].command.verb(), status, &said))
                    });
                }
                // Nobody asked for a message here, nor to be let go on: the answer itself may still come whole.
                Event::BodyBegin { .. } | Event::Continue(_) => self.pass_over("out of turn")?,
                Event::BodyChunk(_) | Event::Noise(_) => {}
            }
        }
    }

    /// Asks one command of a flight again, if that can help. Says whether it was.
    async fn ask_again(
        &mut self,
        asks: &[Ask],
        at: usize,
        early: &[usize],
        before_was_redone: bool,
        ended: &mut Ended,
        untagged: &mut (impl FnMut(usize, &[u8]) -> Result<()> + Send),
    ) -> Result<bool> {
        let mut redone = false;
        let follows = asks[at].follows && before_was_redone;
        let failed = matches!(&ended[at], Some(Err(_)));
        let out_of_place =
            asks.len() > 1 && matches!(&ended[at], Some(Err(failure)) if failure.is(FailureCode::WrongState));
        if follows || failed && early.contains(&at) || out_of_place {
            redone = true;
            ended[at] = Some(self.alone(&asks[at].command, at, untagged).await?);
            if out_of_place && !follows && matches!(&ended[at], Some(Ok(_))) {
                self.forgo(PIPELINING);
            }
        }
        if let (Some(Err(failure)), Some(plainly)) = (&ended[at], &asks[at].plainly)
            && may_be_the_form(failure)
        {
            let Plainly { word, command } = plainly;
            let plain = self.alone(command, at, untagged).await?;
            if let (Ok(_), Some(word)) = (&plain, word) {
                self.forgo(word);
            }
            ended[at] = Some(plain);
            redone = true;
        }
        Ok(redone)
    }

    async fn alone(
        &mut self,
        command: &super::command::Command,
        at: usize,
        untagged: &mut (impl FnMut(usize, &[u8]) -> Result<()> + Send),
    ) -> Result<Result<StatusText>> {
        let mut ended: Ended = vec![None];
        let ask = [Ask::new(command.clone())];
        Box::pin(self.fly(&ask, &mut ended, &mut |_, line: &[u8]| untagged(at, line))).await?;
        Ok(ended.remove(0).unwrap_or_else(|| Err(Failure::internal("a command has no end"))))
    }

    /// Passes over a line that belongs to no command. The response that it replaced is missed where responses are
    /// counted.
    ///
    /// # Errors
    /// [`Class::Protocol`] for what a server greets with, which then speaks something else, and when there is no end to it.
    pub(super) fn pass_over(&mut self, line: &str) -> Result<()> {
        self.passed_over += 1;
        if self.given == 0 || self.passed_over > PASSED_OVER_MAX {
            let what = format!("the server sent a line that is no IMAP response: {line}");
            return Err(Failure::protocol(what).code(FailureCode::Garbled));
        }
        tracing::debug!(line, "a line that belongs to no answer is passed over");
        Ok(())
    }

    /// A session that ended at a command with an extension may have ended because of it. A server that says nothing more to
    /// several commands may have let some of them go by unheard.
    fn ended_at(&mut self, ask: &Ask, failure: Failure, several: bool) -> Failure {
        if several && failure.is(FailureCode::Silent) {
            self.forgo(PIPELINING);
        }
        let word = ask.plainly.as_ref().and_then(|plainly| plainly.word);
        if let Some(word) = word.filter(|_| matches!(failure.class, Class::Unreachable | Class::Protocol)) {
            self.suspect(word);
        }
        failure
    }
}

fn out_of_turn(what: &str) -> Failure {
    Failure::protocol(what).code(FailureCode::Garbled).hint("it is tried again with one command at a time")
}

/// Whether the command before one was refused.
fn is_refused(ended: &Ended, at: usize) -> bool {
    at.checked_sub(1).is_some_and(|before| matches!(ended[before], Some(Err(_))))
}

/// Whether a refusal may be about how something was asked, rather than about what.
fn may_be_the_form(failure: &Failure) -> bool {
    let code = failure.code;
    failure.leaves_the_session()
        && !matches!(
            code,
            Some(FailureCode::NoSuchFolder | FailureCode::NoPermission | FailureCode::FolderExists)
        )
}
