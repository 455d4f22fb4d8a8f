//! The order to stop that comes from outside: Ctrl-C, the signal with which Kubernetes ends a pod, and the one that
//! a terminal sends when it is closed or its connection is lost.

use std::sync::OnceLock;

use tokio::sync::watch;

use crate::model::failure::{Class, Failure};

/// Whether somebody asked. Signals come to the process and not to one of its migrations: one that comes between two of
/// them is for the next as well.
static ASKED: OnceLock<watch::Receiver<bool>> = OnceLock::new();

/// Whether somebody asked the process to stop; cheap to clone.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Listens from the first call on. Before that a signal ends the process at once; but the first process of a container,
    /// for which the kernel has no such default, would not hear it at all.
    pub fn listen() -> Self {
        Self(ASKED.get_or_init(Self::begin).clone())
    }

    fn begin() -> watch::Receiver<bool> {
        let (tell, told) = watch::channel(false);
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            // Under `nohup` we are meant to outlive the terminal.
            let heard = if hangup_is_ignored() { 2 } else { 3 };
            for kind in kinds.into_iter().take(heard) {
                let tell = tell.clone();
                if let Ok(mut signals) = signal(kind) {
                    tokio::spawn(async move {
                        if signals.recv().await.is_some() {
                            let _ = tell.send(true);
                        }
                    });
                }
            }
        }
        #[cfg(not(unix))]
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                let _ = tell.send(true);
            }
        });
        told
    }

    /// Whether somebody has asked.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Ends when somebody asks.
    pub async fn asked(&self) {
        if self.0.clone().wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The failure that a command ends with when it was asked to stop.
    pub fn failure() -> Failure {
        Failure::new(Class::Interrupted, "stopped by a signal")
            .hint("run the same command again: it goes on from here")
    }
}

/// Whether whoever started this process had the loss of the terminal ignored, as `nohup` does. Linux tells it; elsewhere
/// `nohup` is known by that it takes both outputs away from the terminal.
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    match std::fs::read_to_string("/proc/self/status") {
        Ok(status) => ignores_hangup(&status),
        Err(_) => !super::terminal::shows_progress() && !super::terminal::shows_output(),
    }
}

/// Reads the mask of ignored signals of `/proc/self/status` (proc(5)): one bit for each, SIGHUP the lowest.
#[cfg(unix)]
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(all(test, unix))]
mod tests {
    use super::ignores_hangup;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        for (status, ignored) in [
            ("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n", true),
            ("Name:\tx\nSigIgn:\t0000000000001000\n", false),
            ("Name:\tx\n", false),
            ("SigIgn:\tnonsense\n", false),
        ] {
            assert_eq!(ignores_hangup(status), ignored, "{status}");
        }
    }
}
