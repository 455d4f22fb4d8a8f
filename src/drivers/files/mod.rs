//! Mailboxes in files: Maildir, mbox and trees of .eml, as a source and as a destination.
//!
//! ```text
//! tree      files below one directory: no link is followed, nothing but regular files is read
//! names     folders as names of directories and files          walk      which folders a tree has
//! lines     LF and CRLF        flags     letters, keywords      maildir   names of its files
//! mbox      parts one file into messages, and quotes them       index     the sidecar, for what a format has no place for
//! subscriptions  the list beside the folders
//! contents  the messages of a folder ──► bodies ──► source      drafts ──► stock ──► destination
//! ```
//!
//! A message of a source is known by a name that stays: the first part of a Maildir's file names, the name of an .eml, the
//! digest of the bytes in an mbox. A message that we wrote has a number in its folder, as on an IMAP server.

mod bodies;
mod contents;
mod destination;
mod drafts;
mod driver;
mod flags;
mod index;
mod lines;
mod maildir;
mod mbox;
mod names;
mod source;
mod stock;
mod subscriptions;
#[cfg(test)]
mod tests;
mod tree;
mod walk;

pub use self::driver::{Files, directory_of_mailbox, names_of_directories};

/// How messages are written in a tree of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A file for each message, with its flags in its name (cr.yp.to/proto/maildir.html, Maildir++).
    Maildir,
    /// A file for each folder (RFC 4155, mboxrd).
    Mbox,
    /// A file for each message, as it came.
    Eml,
}
