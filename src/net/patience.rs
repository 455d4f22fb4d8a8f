//! How long a peer is waited for: a minute of silence at most, and two minutes of waiting for one command in all, to which
//! every byte adds its share. So a slow server has all the time it needs, and one that drips a byte a minute has not.
//! Only waiting counts: while mail is held up on our side, a peer loses nothing. Some commands let a server look through a
//! whole folder before it can say anything: for those it has five minutes.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::network::SILENCE_MAX;
use crate::model::failure::{Class, Failure, FailureCode, Result};

/// The waiting time that a command begins with, and never exceeds.
const CREDIT: Duration = Duration::from_mins(2);
/// How long a peer may be silent that has to look through a whole folder first, and how long it has for that in all.
pub const LOOKING_MAX: Duration = Duration::from_mins(5);
/// The waiting time that each byte adds: a peer that sends 100 bytes a second is waited for without end.
const EACH_BYTE: Duration = Duration::from_millis(10);

/// The most lines in answer to one command: more than the largest folder has messages, twice.
const LINES_MAX: u64 = 50_000_000;
/// For how many lines one counts that belongs to no answer.
const WEIGHT_OF_CHATTER: u64 = 500;

/// The patience that is left with a peer.
#[derive(Debug)]
pub struct Patience {
    left: Duration,
    lines: u64,
    /// How long it may be silent.
    silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { left: CREDIT, lines: LINES_MAX, silence: SILENCE_MAX }
    }
}

impl Patience {
    /// Begins anew, since a command has come to its end.
    pub fn renew(&mut self) {
        *self = Self::default();
    }

    /// Says whether the peer has to look through a whole folder before it can answer.
    pub fn looks_through_a_folder(&mut self, looks: bool) {
        let silence = if looks { LOOKING_MAX } else { SILENCE_MAX };
        if self.silence != silence {
            self.silence = silence;
            self.left = if looks { LOOKING_MAX } else { self.left.min(CREDIT) };
        }
    }

    /// A line has come; `belongs` tells whether it can belong to an answer at all.
    ///
    /// # Errors
    /// [`Class::Protocol`] when there were more than any answer has.
    pub fn hear(&mut self, line: usize, belongs: bool) -> Result<()> {
        self.earn(line);
        let weight = if belongs { 1 } else { WEIGHT_OF_CHATTER };
        self.lines = self.lines.checked_sub(weight).ok_or_else(|| {
            Failure::protocol("talks on and on and does not answer").code(FailureCode::Garbled)
        })?;
        Ok(())
    }

    /// Some of an answer has come.
    pub fn earn(&mut self, bytes: usize) {
        let earned = EACH_BYTE.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.left = self.left.saturating_add(earned).min(CREDIT.max(self.silence));
    }

    /// Waits for the peer.
    ///
    /// # Errors
    /// [`Class::Unreachable`] when it is silent for too long, or was too slow all in all.
    pub async fn wait<T>(&mut self, answer: impl Future<Output = T>) -> Result<T> {
        let begun = Instant::now();
        let limit = self.left.min(self.silence);
        let answered = timeout(limit, answer).await;
        self.left = self.left.saturating_sub(begun.elapsed());
        answered.map_err(|_| {
            let what = if limit < self.silence {
                format!("answers at less than {} bytes a second", 1000 / EACH_BYTE.as_millis())
            } else {
                format!("was silent for {} s", self.silence.as_secs())
            };
            Failure::new(Class::Unreachable, what)
                .code(FailureCode::Silent)
                .hint("it is tried again; see whether the server is overloaded")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    /// How often a peer that sends `bytes` every `pause` is waited for; at most 1000 times.
    async fn endured(bytes: usize, pause: Duration) -> (u32, String) {
        let mut patience = Patience::default();
        for round in 0..1000 {
            if let Err(failure) = patience.wait(sleep(pause)).await {
                return (round, failure.what);
            }
            patience.earn(bytes);
        }
        (1000, String::new())
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_peer_is_waited_for_and_a_dripping_or_silent_one_is_left() {
        let second = Duration::from_secs(1);
        assert_eq!(endured(100, second).await.0, 1000);
        assert_eq!(endured(5_000, 50 * second).await.0, 1000, "pauses are no slowness");
        let (rounds, what) = endured(1, 50 * second).await;
        assert!(rounds == 2 && what.contains("less than 100 bytes"), "{rounds} {what}");
        let (rounds, what) = endured(50, second).await;
        assert!((200..300).contains(&rounds) && what.contains("less than"), "{rounds} {what}");
        let (rounds, what) = endured(100_000, 70 * second).await;
        assert!(rounds == 0 && what.contains("silent for 60 s"), "{rounds} {what}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_looks_through_a_folder_has_minutes_and_then_a_minute_again() {
        let mut patience = Patience::default();
        patience.looks_through_a_folder(true);
        patience.wait(sleep(Duration::from_secs(75))).await.unwrap();
        patience.earn(1000);
        patience.wait(sleep(Duration::from_secs(200))).await.unwrap();
        patience.renew();
        patience.looks_through_a_folder(true);
        let failure = patience.wait(sleep(Duration::from_secs(301))).await.unwrap_err();
        assert!(failure.is(FailureCode::Silent), "{failure}");
        patience.renew();
        patience.looks_through_a_folder(false);
        patience.wait(sleep(Duration::from_secs(61))).await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn what_we_take_our_time_for_is_not_the_peers_fault() {
        let mut patience = Patience::default();
        for _ in 0..10 {
            sleep(Duration::from_mins(10)).await;
            patience.wait(sleep(Duration::from_secs(11))).await.unwrap();
        }
        patience.wait(sleep(Duration::from_secs(11))).await.unwrap_err();
        patience.renew();
        patience.wait(sleep(Duration::from_secs(59))).await.unwrap();
    }
}
