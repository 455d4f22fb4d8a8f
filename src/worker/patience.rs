//! How a pod bears that the API server is away: it tries again, ever less often, for as long as it takes. Mail goes on
//! meanwhile.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::model::failure::{Class, Failure, Result};
use crate::plan::backoff::jitter;

/// How long the API server may take for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// The first wait.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(15);
/// How long a refusal is not taken as final: rights that were just given are not known to every server at once.
const DOUBT: Duration = Duration::from_secs(30);

/// Makes a call until it succeeds, or until it is refused for a reason that time does not mend. `what` names it in the log
/// and tells its jitter from that of others.
pub(super) async fn persist<T, F>(what: &str, mut call: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let begun = Instant::now();
    let mut attempt = 0;
    loop {
        let failure = match once(call()).await {
            Ok(answer) => {
                if attempt > 0 {
                    tracing::info!(what, attempt, "the API server answers again");
                }
                return Ok(answer);
            }
            Err(failure) => failure,
        };
        let mends = match failure.class {
            Class::Unreachable | Class::Throttled | Class::Conflict => true,
            Class::Refused => begun.elapsed() < DOUBT,
            _ => false,
        };
        if !mends {
            return Err(failure);
        }
        attempt += 1;
        tracing::warn!(what, attempt, failure = %failure.sentence(), "it is tried again");
        sleep(wait(what, attempt)).await;
    }
}

/// Makes a call that must end in time.
pub(super) async fn once<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(ANSWER_MAX, call)
        .await
        .unwrap_or_else(|_| Err(Failure::new(Class::Unreachable, "the API server does not answer")))
}

fn wait(what: &str, attempt: u32) -> Duration {
    let full = FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(LONGEST);
    full.mul_f64(0.5 + jitter(what, attempt) / 2.0)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_time_mends_is_tried_again_and_nothing_else() {
        let calls = Cell::new(0_u32);
        let (begun, away) = (Instant::now(), Duration::from_mins(5));
        let answer = persist("it", || {
            calls.set(calls.get() + 1);
            async move {
                if begun.elapsed() < away { Err(Failure::new(Class::Unreachable, "away")) } else { Ok(7) }
            }
        });
        assert_eq!(answer.await.unwrap(), 7);
        assert!(begun.elapsed() < away + LONGEST && (20..60).contains(&calls.get()), "{}", calls.get());

        let gone = persist("it", || async { Err::<(), _>(Failure::configuration("no such object")) });
        assert_eq!(gone.await.unwrap_err().class, Class::Configuration);

        let begun = Instant::now();
        let refused = persist("it", || async { Err::<(), _>(Failure::new(Class::Refused, "forbidden")) });
        assert_eq!(refused.await.unwrap_err().class, Class::Refused);
        assert!(begun.elapsed() >= DOUBT && begun.elapsed() < DOUBT + 2 * LONGEST);

        let silent = once(std::future::pending::<Result<()>>());
        assert_eq!(silent.await.unwrap_err().class, Class::Unreachable);
    }
}
