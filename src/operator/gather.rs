//! Gathers changes before they call for a turn. Workers report ten thousand mailboxes; each word must be seen soon, and
//! none of them is worth a turn of its own.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use tokio::time::{Instant, sleep_until};

/// Passes each item on once, `window` after it came first, however often it comes meanwhile. Unlike a debounce it does not
/// wait for silence: with fifty workers there is none.
pub(super) fn gather<T>(
    items: impl Stream<Item = T> + Send + Unpin + 'static,
    window: Duration,
) -> impl Stream<Item = T> + Send
where
    T: Clone + Eq + Hash + Send + 'static,
{
    let begin = (items.fuse(), VecDeque::<(Instant, T)>::new(), HashSet::<T>::new());
    stream::unfold(begin, move |(mut items, mut due, mut waiting)| async move {
        loop {
            let first = due.front().map(|(at, _)| *at);
            tokio::select! {
                biased;
                () = sleep_until(first.unwrap_or_else(Instant::now)), if first.is_some() => {
                    let (_, item) = due.pop_front()?;
                    waiting.remove(&item);
                    return Some((item, (items, due, waiting)));
                }
                item = items.next(), if !items.is_done() => {
                    let fresh = item.filter(|item| waiting.insert(item.clone()));
                    due.extend(fresh.map(|item| (Instant::now() + window, item)));
                }
                // Nothing waits and nothing comes any more.
                else => return None,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_millis(300);

    #[tokio::test(start_paused = true)]
    async fn what_never_falls_silent_is_heard_all_the_same() {
        // An item every 100 ms for ten seconds.
        let ticks = stream::unfold(0, |n| async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            (n < 100).then_some(("a", n + 1))
        });
        let begun = Instant::now();
        let turns: Vec<Duration> =
            gather(ticks.boxed(), WINDOW).map(|_| begun.elapsed()).collect::<Vec<_>>().await;
        assert_eq!(turns[0], Duration::from_millis(400));
        assert!((25..=34).contains(&turns.len()), "{}", turns.len());
        assert!(turns.windows(2).all(|pair| pair[1] <= pair[0] + WINDOW * 2), "{turns:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_together_is_passed_on_once_and_nothing_is_lost() {
        let items = stream::iter((0..1000).map(|n| n % 3));
        let begun = Instant::now();
        let mut passed: Vec<i32> = gather(items, WINDOW).collect().await;
        passed.sort_unstable();
        assert_eq!((passed, begun.elapsed()), (vec![0, 1, 2], WINDOW));
        assert_eq!(gather(stream::empty::<u8>(), WINDOW).count().await, 0);
    }
}
