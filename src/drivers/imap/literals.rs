//! Literals that do not wait (RFC 7888), before mail goes by them. Some servers take what follows such a literal in one packet
//! for the next command, and the lines of a message for commands that are carried out. So each server is tried first, once,
//! with a literal that does no harm.

use super::command::{Ask, Command};
use super::session::{PIPELINING, Session};
use crate::model::failure::{Class, Failure, FailureCode, Result};

/// The extension, and its little sister.
pub(super) const AT_ONCE: [&str; 2] = ["LITERAL+", "LITERAL-"];

impl Session {
    /// Sees whether the server reads a literal that does not wait as what it is, where it offers that and no session with it
    /// has seen so before: a question with one, and another command in the same packet.
    ///
    /// # Errors
    /// Those of the connection; [`Class::Unreachable`] with [`FailureCode::ConnectionEnded`] where the server does not: this
    /// session cannot be followed any more, and every further one lets literals wait.
    pub(super) async fn try_literals(&mut self) -> Result<()> {
        let offers = AT_ONCE.into_iter().any(|word| self.offers(word));
        if !offers || self.is_proven(AT_ONCE[0]) {
            return Ok(());
        }
        // One command at a time is one packet at a time.
        let sound = !self.takes_several() || self.reads_a_literal().await?;
        if self.takes_several() && sound {
            self.prove(AT_ONCE[0]);
            return Ok(());
        }
        for word in AT_ONCE.into_iter().chain([PIPELINING]) {
            self.forgo(word);
        }
        if sound {
            return Ok(());
        }
        let what = "takes what a literal holds for a command; from now on literals wait for it";
        Err(Failure::new(Class::Unreachable, what).code(FailureCode::ConnectionEnded))
    }

    /// Asks the question. Where this is not answered as it should be, nothing that comes afterwards can be understood.
    async fn reads_a_literal(&mut self) -> Result<bool> {
        let question = Command::new("STATUS ").literal(b"INBOX").then(" (MESSAGES)");
        match self.ask_all(&[Ask::new(question), Ask::new("NOOP")], |_, _| Ok(())).await {
            // Refused in turn is understood: there may be no Inbox yet.
            Ok(ended) => Ok(ended.iter().all(|ended| {
                ended.as_ref().err().is_none_or(|failure| !failure.is(FailureCode::NotUnderstood))
            })),
            Err(failure) if failure.class == Class::Protocol => Ok(false),
            Err(failure) => {
                // Once may be chance.
                for word in AT_ONCE {
                    self.suspect(word);
                }
                Err(failure)
            }
        }
    }
}
