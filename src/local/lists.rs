//! Lists of mailboxes and where they were read: a refusal names the file and the line that a person has to look at, be it a
//! file of its own or a text within a manifest.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::failure::{Failure, FailureCode, Result};
use crate::model::list::{Heads, List, Refusal, Refused};

/// Refusals that a sentence names one by one.
const TOLD: usize = 10;

/// Where the text of a list is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPlace {
    /// Its name: a file, or an object and its key.
    pub name: String,
    /// The file whose lines are the list's, and the line of it that the list begins on.
    pub file: Option<(String, usize)>,
}

impl ListPlace {
    /// A list that is a file.
    pub fn file(path: String) -> Self {
        Self { name: path.clone(), file: Some((path, 1)) }
    }

    /// The same under another name, where nobody sees the file.
    #[must_use]
    pub fn called(self, name: String) -> Self {
        Self { name, file: None }
    }

    /// A line of the list, as a person finds it.
    pub fn line(&self, line: usize) -> String {
        match &self.file {
            Some((file, first)) => format!("{file}:{}", first + line - 1),
            None => format!("{}, line {line}", self.name),
        }
    }
}

/// A list, and where it was read.
#[derive(Debug, Clone)]
pub struct PlacedList {
    /// The list.
    pub list: Arc<List>,
    /// Where it was read.
    pub place: ListPlace,
}

/// A list that cannot be read or cannot stand.
#[derive(Debug)]
pub struct Unread {
    /// Every reason, with the line that it is about.
    pub failures: Vec<Failure>,
    /// The rows that are valid. They are reported like those of any list, and none is carried.
    pub rest: Option<PlacedList>,
}

impl From<Failure> for Unread {
    fn from(failure: Failure) -> Self {
        Self { failures: vec![failure], rest: None }
    }
}

/// Lists by the digest of their text and of how it was read, so that a list of ten thousand rows is not read anew at every login.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<HashMap<String, Digested>>);

/// A list, by the digest of what it was read from.
type Digested = ([u8; 32], Arc<List>);

impl Kept {
    /// Reads a list, unless it is known.
    pub(super) fn read(
        &self,
        bytes: &[u8],
        heads: &Heads,
        place: ListPlace,
    ) -> std::result::Result<PlacedList, Unread> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{heads:?}\0").as_bytes()).update(bytes);
        let digest = *hasher.finalize().as_bytes();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, list)) = kept.get(&place.name).filter(|(known, _)| *known == digest) {
            return Ok(PlacedList { list: Arc::clone(list), place });
        }
        let list = match List::read(bytes, heads) {
            Ok(list) => Arc::new(list),
            Err(Refused { refusals, rest }) => {
                let failures = refuse(&place, refusals);
                let rest = rest.map(|rest| PlacedList { list: Arc::from(rest), place });
                return Err(Unread { failures, rest });
            }
        };
        kept.insert(place.name.clone(), (digest, Arc::clone(&list)));
        Ok(PlacedList { list, place })
    }
}

/// Each refusal as a failure with the line that it is about.
pub fn refuse(place: &ListPlace, refusals: Vec<Refusal>) -> Vec<Failure> {
    let failure = |refusal: Refusal| {
        let other = refusal.other.map(|line| format!(" {}", place.line(line))).unwrap_or_default();
        Failure::configuration(format!("{}{other}", refusal.what))
            .code(FailureCode::BadList)
            .hint(refusal.hint)
            .at(place.line(refusal.line))
    };
    refusals.into_iter().map(failure).collect()
}

/// The failures of a list one by one, without the fields that led to it: several may lead to one list.
pub(super) fn apart(failure: Failure) -> Vec<Failure> {
    if !failure.is(FailureCode::BadList) {
        return vec![failure];
    }
    if failure.causes.len() > 1 {
        let one = |cause: &String| Failure {
            what: cause.clone(),
            place: Vec::new(),
            causes: Vec::new(),
            ..failure.clone()
        };
        return failure.causes.iter().map(one).collect();
    }
    let what =
        failure.place.last().map_or_else(|| failure.what.clone(), |line| format!("{line}: {}", failure.what));
    vec![Failure { what, place: Vec::new(), ..failure }]
}

/// Many failures as one: the first as it is where it is the only one, else a sentence that names them, and all of them as
/// causes. The remedies of several kinds are told together: none of them is the remedy of all.
pub fn join<T>(outcome: std::result::Result<T, Vec<Failure>>) -> Result<T> {
    outcome.map_err(|failures| {
        let count = failures.len();
        let causes: Vec<String> = failures.iter().map(Failure::sentence).collect();
        let remedies: BTreeSet<&str> =
            failures.iter().filter_map(|failure| failure.hint.as_deref()).collect();
        let hint = remedies.into_iter().collect::<Vec<_>>().join("; ");
        let Some(first) = failures.into_iter().next() else { return Failure::internal("nothing failed") };
        if count == 1 {
            return first;
        }
        let mut what = format!("{count} rows cannot stand: {}", causes[..count.min(TOLD)].join("; "));
        if count > TOLD {
            let _ = write!(what, "; and {} more", count - TOLD);
        }
        let hint = Some(hint).filter(|hint| !hint.is_empty());
        Failure { what, hint, place: Vec::new(), causes, ..first }
    })
}
