//! Refusals that may not be the whole truth. A server that refuses several messages at once should have stored none of them
//! (RFC 3502), and some keep a part: so the folder is looked at before any is sent again. And a server that is said to read
//! literals without waiting (RFC 7888) may do so everywhere but in an APPEND.

use std::collections::HashSet;

use super::super::folders::select_rows;
use super::super::literals::AT_ONCE;
use super::{MULTIAPPEND, Message, Upload};
use crate::model::failure::{Class, Failure, FailureCode, Result};
use crate::model::message::Arrival;

/// The name under which a host is remembered that took a message whose literal did not wait.
const TAKES_MESSAGES_AT_ONCE: &str = "messages in literals that do not wait";

/// A refused batch.
pub(super) struct Unclear {
    pub(super) messages: Vec<Message>,
    /// The refusal, where it is the last word about each; otherwise each is sent alone.
    pub(super) failure: Option<Failure>,
}

/// The messages that a server reported as stored in a folder from a UID on.
#[derive(Debug, Default)]
pub(in super::super) struct Accounted {
    /// The folder, and the UID.
    of: Option<(String, u32)>,
    /// The UIDs that it told.
    told: HashSet<u32>,
    /// Messages whose UIDs it did not tell.
    untold: usize,
}

impl Accounted {
    /// Goes on with a folder: what was stored in another one, or from another UID on, counts no longer.
    pub(super) fn begin(&mut self, folder: &str, from: Option<u32>) {
        let of = from.map(|from| (folder.to_owned(), from));
        if of.is_none() || of != self.of {
            *self = Self { of, ..Self::default() };
        }
    }

    /// So many messages were stored.
    pub(super) fn note(&mut self, arrivals: &[Arrival], messages: usize) {
        self.told.extend(arrivals.iter().filter_map(|arrival| arrival.id.uid()));
        self.untold += messages.saturating_sub(arrivals.len());
    }

    /// Whether a list shows more than that.
    fn is_exceeded_by(&self, listed: impl Iterator<Item = u32>) -> bool {
        listed.filter(|uid| !self.told.contains(uid)).count() > self.untold
    }
}

impl Upload<'_> {
    /// Looks whether the server kept messages of batches that it refused. If it kept none, which costs one list, each is sent
    /// alone or refused. Otherwise nobody knows which: they are in doubt, as after a cut.
    pub(super) async fn clear_up(&mut self) -> Result<()> {
        if self.unclear.is_empty() {
            return Ok(());
        }
        while !self.in_flight.is_empty() {
            self.read_answer().await?;
        }
        let Some(from) = self.list_from else { return Err(self.leave_in_doubt()) };
        self.send_list(from).await?;
        while self.reopen.is_some() || self.list.is_some() {
            self.read_answer().await?;
        }
        let unknown = if let Some(closed) = &self.closed {
            // Nothing is kept in a folder that is gone.
            !closed.is(FailureCode::NoSuchFolder)
        } else {
            let rows = select_rows(std::mem::take(&mut self.rows), from);
            self.accounted.is_exceeded_by(rows.iter().map(|row| row.uid))
        };
        if unknown {
            return Err(self.leave_in_doubt());
        }
        for Unclear { messages, failure } in std::mem::take(&mut self.unclear) {
            match failure {
                Some(failure) => {
                    for message in messages {
                        self.refuse_for_good(message.key, &failure);
                    }
                }
                None => self.again.extend(messages),
            }
        }
        Ok(())
    }

    /// The messages that are not answered for are looked for by what they are, and the rest is sent one by one.
    fn leave_in_doubt(&mut self) -> Failure {
        self.session.forgo(MULTIAPPEND);
        let what = "refused several messages at once and may have stored some of them";
        Failure::new(Class::Unreachable, what)
            .code(FailureCode::ConnectionEnded)
            .hint("they are looked for, and only the rest is sent again, one by one")
    }

    /// The server took a message whose literal did not wait.
    pub(super) fn prove_literals(&mut self) {
        if self.at_once && !self.session.is_proven(TAKES_MESSAGES_AT_ONCE) {
            self.session.prove(TAKES_MESSAGES_AT_ONCE);
        }
    }

    fn has_unproven_literals(&self) -> bool {
        self.at_once && !self.session.is_proven(TAKES_MESSAGES_AT_ONCE)
    }

    /// Where the first message whose literal does not wait is not understood, that may be why: it is tried again with
    /// literals that do.
    pub(super) fn hold_against_literals(&mut self, messages: usize, failure: &Failure) -> Result<()> {
        if messages > 1 || !failure.is(FailureCode::NotUnderstood) || !self.has_unproven_literals() {
            return Ok(());
        }
        let what = format!("{}; from now on literals wait for it", failure.what);
        Err(Failure::new(Class::Unreachable, what).code(FailureCode::ConnectionEnded))
    }

    /// The session came to its end. Where no message was ever taken whose literal did not wait, that may be why.
    pub(super) fn forgo_unproven_literals(&mut self, failure: &Failure) {
        let by_peer = matches!(failure.class, Class::Unreachable | Class::Protocol)
            && !failure.is(FailureCode::SourceBrokeOff);
        if by_peer && self.has_unproven_literals() {
            for word in AT_ONCE {
                self.session.forgo(word);
            }
        }
    }
}
