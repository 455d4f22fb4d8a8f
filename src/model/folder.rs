//! Folder paths free of any server's delimiter and encoding, and the special uses of RFC 6154.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A folder's place in the hierarchy: its names from the root down, in Unicode. `INBOX` is always written so.
/// Cheap to clone: every message of a listing names its folder.
///
/// The default is the path without names, above all folders, which names none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub struct FolderPath(Arc<[String]>);

impl From<Vec<String>> for FolderPath {
    fn from(names: Vec<String>) -> Self {
        Self(names.into())
    }
}

impl From<FolderPath> for Vec<String> {
    fn from(path: FolderPath) -> Self {
        path.0.to_vec()
    }
}

impl FolderPath {
    /// The Inbox.
    pub fn inbox() -> Self {
        Self([String::from("INBOX")].into())
    }

    /// A path of names from the root down. The first name is brought to `INBOX` when it is the Inbox in another case
    /// (RFC 9051 §5.1).
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut names: Vec<String> = names.into_iter().map(Into::into).collect();
        if let Some(first) = names.first_mut().filter(|n| n.eq_ignore_ascii_case("INBOX")) {
            "INBOX".clone_into(first);
        }
        Self(names.into())
    }

    /// Reads the form that people write in a manifest: names separated by `/`.
    pub fn from_slashes(text: &str) -> Self {
        Self::new(text.split('/').filter(|name| !name.is_empty()))
    }

    /// The names from the root down.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// The last name.
    pub fn name(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    /// Whether this is the Inbox itself.
    pub fn is_inbox(&self) -> bool {
        self.0.len() == 1 && self.0[0] == "INBOX"
    }
}

impl fmt::Display for FolderPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}

/// The use of a folder (RFC 6154).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SpecialUse {
    /// All messages in one virtual folder.
    All,
    /// Archived messages.
    Archive,
    /// Drafts.
    Drafts,
    /// Flagged messages in one virtual folder.
    Flagged,
    /// Messages that matter, in one virtual folder (RFC 8457).
    Important,
    /// Junk.
    Junk,
    /// Sent messages.
    Sent,
    /// Deleted messages.
    Trash,
}

impl SpecialUse {
    /// The use that a LIST attribute names, in whatever case and with its backslash.
    pub fn from_attribute(attribute: &str) -> Option<Self> {
        Some(match attribute.strip_prefix('\\')?.to_ascii_lowercase().as_str() {
            "all" => Self::All,
            "archive" => Self::Archive,
            "drafts" => Self::Drafts,
            "flagged" => Self::Flagged,
            "important" => Self::Important,
            "junk" => Self::Junk,
            "sent" => Self::Sent,
            "trash" => Self::Trash,
            _ => return None,
        })
    }

    /// The use that a folder's usual name suggests, for servers that tell no attributes. Only top-level folders, and
    /// folders directly below the Inbox, are taken by their names.
    pub fn from_name(path: &FolderPath) -> Option<Self> {
        let names = path.names();
        if names.len() > 2 || (names.len() == 2 && names[0] != "INBOX") {
            return None;
        }
        Some(match path.name().to_lowercase().as_str() {
            "drafts" | "draft" | "entwürfe" | "brouillons" | "borradores" | "bozze" | "concepten" => {
                Self::Drafts
            }
            "sent"
            | "sent items"
            | "sent messages"
            | "sent mail"
            | "gesendet"
            | "gesendete objekte"
            | "gesendete elemente"
            | "envoyés"
            | "éléments envoyés"
            | "enviados"
            | "elementos enviados"
            | "inviati"
            | "posta inviata"
            | "verzonden"
            | "verzonden items" => Self::Sent,
            "junk"
            | "junk mail"
            | "junk email"
            | "junk e-mail"
            | "spam"
            | "bulk mail"
            | "courrier indésirable"
            | "correo no deseado"
            | "posta indesiderata" => Self::Junk,
            "trash"
            | "deleted items"
            | "deleted messages"
            | "papierkorb"
            | "gelöschte elemente"
            | "gelöschte objekte"
            | "corbeille"
            | "éléments supprimés"
            | "papelera"
            | "cestino"
            | "prullenbak" => Self::Trash,
            "archive" | "archives" | "archiv" | "archivio" | "archivo" | "archief" => Self::Archive,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inbox_has_one_spelling() {
        assert!(FolderPath::new(["inbox"]).is_inbox());
        assert_eq!(FolderPath::new(["InBox", "Sub"]).to_string(), "INBOX/Sub");
        assert_eq!(FolderPath::from_slashes("/Archive//2021"), FolderPath::new(["Archive", "2021"]));
    }

    #[test]
    fn special_uses_are_known_by_attribute_and_by_name() {
        assert_eq!(SpecialUse::from_attribute("\\SENT"), Some(SpecialUse::Sent));
        assert_eq!(SpecialUse::from_name(&FolderPath::new(["Gelöschte Elemente"])), Some(SpecialUse::Trash));
        assert_eq!(SpecialUse::from_name(&FolderPath::new(["INBOX", "Sent"])), Some(SpecialUse::Sent));
        assert_eq!(SpecialUse::from_name(&FolderPath::new(["Projects", "Sent"])), None);
    }
}
