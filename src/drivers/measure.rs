//! The measurement of a mailbox before anything is carried: how much a source holds, and how much room a destination has.

use std::collections::HashSet;

use globset::GlobSet;

use super::Folder;
use crate::model::evidence::{MailboxSize, Quota, exclude_rule, folder_rule};
use crate::model::failure::{Failure, Result};
use crate::model::folder::FolderPath;

/// The most damaged files of a mailbox that are named.
const DAMAGE_MAX: usize = 20;

/// The limits and names of a mailbox, for a destination that writes to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Room {
    /// How much the account may hold, where the server tells (RFC 9208).
    pub quota: Option<Quota>,
    /// The largest message that it takes, in bytes, where the server tells (RFC 7889).
    pub append_limit: Option<u64>,
    /// The make of the server, where it is one that replaces letters beyond ASCII in headers.
    pub replaces_letters: Option<&'static str>,
    /// How names of folders are made; `None` where the list of folders was refused.
    pub names: Option<FolderNames>,
}

/// How a server makes names of folders.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FolderNames {
    /// The separator between the levels; `None` on a server without levels.
    pub delimiter: Option<char>,
    /// The prefix of every folder but the Inbox; may be empty.
    pub prefix: String,
}

/// The manifest's rules for folders, so that it can be told which of them no folder falls under.
#[derive(Debug, Clone, Default)]
pub struct FolderRules {
    /// The patterns of `spec.mapping.exclude`, in the order in which the compiled ones stand.
    pub exclude: Vec<String>,
    /// The folders that `spec.mapping.folders` renames.
    pub renamed: Vec<FolderPath>,
}

impl FolderRules {
    /// All of them, as [`MailboxSize::rules`] names them.
    pub fn names(&self) -> Vec<String> {
        let excluded = self.exclude.iter().map(|pattern| exclude_rule(pattern));
        excluded.chain(self.renamed.iter().map(|from| folder_rule(&from.to_string()))).collect()
    }

    /// Writes down which rules a folder falls under.
    pub(super) fn note(&self, exclude: &GlobSet, path: &FolderPath, size: &mut MailboxSize) {
        if self.exclude.is_empty() && self.renamed.is_empty() {
            return;
        }
        let patterns = exclude.matches(path.to_string());
        let patterns = patterns.into_iter().filter_map(|at| self.exclude.get(at)).map(|p| exclude_rule(p));
        let renamed = self
            .renamed
            .iter()
            .filter(|from| path.names().starts_with(from.names()))
            .map(|from| folder_rule(&from.to_string()));
        size.rules.extend(patterns.chain(renamed));
    }
}

/// The part of a mailbox that was measured so far; it is kept when a session ends, so that the next one goes on.
#[derive(Debug, Default)]
pub struct Measuring {
    /// The counts so far.
    pub(super) size: MailboxSize,
    /// Folders that are through, by their names on the wire.
    pub(super) done: HashSet<Vec<u8>>,
    /// Whether a session ended while several folders were asked for: one of them may be the reason.
    pub(super) one_by_one: bool,
    /// Whether the server gives its messages no lasting names.
    pub(super) is_nameless: bool,
    /// Files that are damaged or were passed over, by name; at most 20.
    pub(super) damage: Vec<Failure>,
}

impl Measuring {
    /// Whether the messages have lasting names.
    pub fn has_unique_ids(&self) -> bool {
        !self.is_nameless
    }

    /// Files that are damaged or were passed over, by name.
    pub fn take_damage(&mut self) -> Vec<Failure> {
        std::mem::take(&mut self.damage)
    }

    /// Notes what is damaged or was passed over.
    pub(super) fn note_damage(&mut self, failure: Failure) {
        if self.damage.len() < DAMAGE_MAX {
            self.damage.push(failure);
        }
    }

    /// The size that was measured.
    pub fn into_size(self) -> MailboxSize {
        self.size
    }

    pub(super) fn take(&mut self, folder: &Folder, measured: Result<MailboxSize>) {
        self.done.insert(folder.wire_name.clone());
        match measured {
            Ok(of_folder) => self.size.add(&MailboxSize { folders: 1, ..of_folder }),
            Err(failure) => self.size.note_unread(failure.at(folder.path.to_string())),
        }
    }
}
