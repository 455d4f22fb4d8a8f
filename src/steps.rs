//! The moments at which a kill may leave something half done, so that tests can kill at each of them.
//!
//! A step lies before and after every write of a ledger, after every write to a server, and after every answer that ends
//! a command. In a build for tests `MAILFERRY_DIE_AT=l` ends the process at its l-th step the way `kill -9` does: no
//! destructor runs, nothing is flushed. `MAILFERRY_STEPS_FILE` names a file for the number of steps of a whole run. A
//! release build has nothing of all this.

/// The process has come to a step, and ends here if a test wants it so.
#[cfg(debug_assertions)]
pub(crate) fn reach() {
    counting::reach();
}

/// The process has come to a step.
#[cfg(not(debug_assertions))]
pub(crate) const fn reach() {}

/// Writes down how many steps there were, where a test asks for it; called where a process ends by itself.
#[cfg(debug_assertions)]
pub fn write_count() {
    counting::write_count();
}

/// Writes down how many steps there were; not in this build.
#[cfg(not(debug_assertions))]
pub const fn write_count() {}

#[cfg(debug_assertions)]
mod counting {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    static REACHED: AtomicU64 = AtomicU64::new(0);
    static LAST: LazyLock<Option<u64>> =
        LazyLock::new(|| std::env::var("MAILFERRY_DIE_AT").ok()?.parse().ok());

    pub(super) fn reach() {
        let step = REACHED.fetch_add(1, Ordering::SeqCst) + 1;
        if *LAST == Some(step) {
            // It does not return: the signal is there before the call ends.
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }

    pub(super) fn write_count() {
        if let Some(path) = std::env::var_os("MAILFERRY_STEPS_FILE") {
            // The caller finds no file there if it cannot be written.
            let _ = std::fs::write(path, REACHED.load(Ordering::SeqCst).to_string());
        }
    }
}
