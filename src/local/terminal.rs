//! The terminal: the one place that writes to standard output and to standard error.
//!
//! Neither is worth a migration. A window that was closed, a log collector that ended, a `| head` that has read enough:
//! standard error is then written to no more, and what was to be told is in the report and the status as well. Where the
//! result itself can be taken by nobody any more, the command ends quietly. A disk that is full under `> file` is
//! a failure: somebody still waits for what does not come.

use std::io::{self, IsTerminal, Write};

use crate::model::failure::{Failure, Result};

/// The width that is written for where there is no terminal, in columns.
const COLUMNS: usize = 100;
/// The width of a terminal that does not tell it, in columns.
const COLUMNS_OF_OLD: usize = 80;

/// Tells something on standard error, whether anybody hears it or not.
pub fn tell(text: &str) {
    // In one piece, so that the lines of several tasks do not run into each other.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Writes to standard output. A reader that went away is not a failure.
///
/// # Errors
/// When the reader is there and does not get it: the file behind `>` cannot be written.
pub fn print(text: &str) -> Result<()> {
    let mut out = Out::default();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    out.judge(written)
}

/// Standard output for writers of documents.
#[derive(Debug, Default)]
pub struct Out {
    gone: bool,
}

impl Out {
    /// Whether its reader went away, so that nothing more need be written.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// The outcome of an attempt to write.
    ///
    /// # Errors
    /// As [`print`].
    pub fn judge(&self, written: io::Result<()>) -> Result<()> {
        match written {
            Err(error) if !self.gone => {
                Err(Failure::configuration(format!("standard output cannot be written: {error}"))
                    .hint("make room where it is sent to, or send it somewhere else")
                    .caused_by(&error))
            }
            _ => Ok(()),
        }
    }

    fn note<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        self.gone |= done.as_ref().is_err_and(is_gone);
        done
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = io::stdout().lock().write(bytes);
        self.note(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = io::stdout().lock().flush();
        self.note(flushed)
    }
}

/// Whether an error says that the other end is not there any more: a pipe without a reader, a terminal that was closed.
fn is_gone(error: &io::Error) -> bool {
    #[cfg(unix)]
    let closed = error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
    #[cfg(not(unix))]
    let closed = false;
    closed || error.kind() == io::ErrorKind::BrokenPipe
}

/// Standard error for the log and for questions, which must be able to write although nobody reads.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogOutput;

impl Write for LogOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().lock().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a person sees standard output on a terminal.
pub fn shows_output() -> bool {
    io::stdout().is_terminal()
}

/// Whether a person sees standard error on a terminal.
pub fn shows_progress() -> bool {
    io::stderr().is_terminal()
}

/// Whether what a terminal shows is coloured (<https://no-color.org>).
pub fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The width to write to standard output for, in columns.
pub fn output_columns() -> usize {
    columns(terminal_size::terminal_size_of(io::stdout()), shows_output())
}

/// The width to write to standard error for, in columns.
pub fn progress_columns() -> usize {
    columns(terminal_size::terminal_size_of(io::stderr()), shows_progress())
}

fn columns(size: Option<(terminal_size::Width, terminal_size::Height)>, is_terminal: bool) -> usize {
    match size {
        Some((width, _)) => usize::from(width.0).clamp(40, 160),
        None if is_terminal => COLUMNS_OF_OLD,
        None => COLUMNS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_told_from_a_disk_that_is_full() {
        let mut out = Out::default();
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let noted = out.note::<()>(Err(full()));
        assert!(noted.is_err() && !out.is_gone());
        assert!(out.judge(noted).unwrap_err().what.contains("standard output"));
        for gone in [io::Error::from(io::ErrorKind::BrokenPipe), io::Error::from_raw_os_error(5)] {
            let mut out = Out::default();
            let noted = out.note::<()>(Err(gone));
            assert!(out.is_gone());
            out.judge(noted).unwrap();
        }
    }
}
