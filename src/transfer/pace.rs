//! How fast bytes may go to the destination: `policy.limits.bytesPerSecond`, shared by all mailboxes of a migration.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// A pace. By default there is no limit.
#[derive(Debug, Default)]
pub struct Pace {
    per_second: Option<u64>,
    /// When the bytes that were let through so far have had their time.
    free_at: Mutex<Option<Instant>>,
}

impl Pace {
    /// A pace of at most so many bytes a second; `None` means without a limit.
    pub fn new(per_second: Option<u64>) -> Self {
        Self { per_second, free_at: Mutex::default() }
    }

    /// Waits until so many bytes may go. Callers go in the order in which they come.
    pub async fn wait(&self, bytes: u64) {
        let Some(per_second) = self.per_second.filter(|n| *n > 0) else { return };
        let start = {
            let mut free_at = self.free_at.lock().await;
            let now = Instant::now();
            let start = free_at.map_or(now, |at| at.max(now));
            let micros = u128::from(bytes) * 1_000_000 / u128::from(per_second);
            *free_at = Some(start + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)));
            start
        };
        sleep_until(start).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn all_mailboxes_together_keep_the_pace() {
        let pace = Arc::new(Pace::new(Some(1000)));
        let start = Instant::now();
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let pace = Arc::clone(&pace);
                tokio::spawn(async move {
                    for _ in 0..5 {
                        pace.wait(500).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        // 20 times 500 bytes; the last ones need not have had their time yet.
        assert_eq!(start.elapsed().as_millis() / 100, 95);
        Pace::default().wait(u64::MAX).await;
    }
}
