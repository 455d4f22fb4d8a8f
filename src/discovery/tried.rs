//! The outcome of the logins of one mailbox: every attempt, and where it could be read.

use crate::model::endpoint::Endpoint;
use crate::model::evidence::{Attempt, MailboxSize};

/// The outcome of one mailbox.
#[derive(Debug, Clone, Default)]
pub(super) struct Tried {
    /// Every login, in order.
    pub(super) attempts: Vec<Attempt>,
    /// Where and how it could be read.
    pub(super) read: Option<Read>,
    /// How it ended.
    pub(super) end: End,
}

/// A login that worked.
#[derive(Debug, Clone)]
pub(super) struct Read {
    /// Where.
    pub(super) endpoint: Endpoint,
    /// The content of the mailbox.
    pub(super) size: MailboxSize,
    /// Whether its messages have lasting names.
    pub(super) unique_ids: bool,
    /// The login name, where a published one was taken in the place of the mailbox's.
    pub(super) name: Option<String>,
}

/// How the logins of one mailbox ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum End {
    /// It was read, or every server had its say.
    #[default]
    Done,
    /// No server may be tried.
    NoServer,
    /// The Secret knows no password for it.
    NoLogin,
    /// The guard allows no more.
    Spent,
    /// The password that all mailboxes share was refused often enough.
    Stopped,
}
