//! Labels of messages: what becomes of a message that is in several folders at once, and what was left of its labels.

use std::collections::BTreeMap;

use globset::GlobSet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::counted;

/// The fate of a message's further labels, where a server keeps labels (Gmail).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum Labels {
    /// Each message is carried once, into its home; its other labels are left and counted.
    #[default]
    Home,
    /// Each message is carried once, into its home; its other labels become keywords.
    Keywords,
    /// A message is carried into the folder of each of its labels.
    Copies,
}

/// The manifest's rules about labels, in terms of folders.
#[derive(Debug, Clone, Default)]
pub struct LabelRule {
    /// The handling of a message's further labels.
    pub labels: Labels,
    /// Folders that are left out, as patterns over `A/B/C`.
    pub exclude: GlobSet,
}

/// The most labels of which a folder counts the messages by name.
const NAMED_MAX: usize = 200;
/// The most of them that are remembered.
const KEPT_MAX: usize = 20;
/// The most labels that a finding names.
const SAID_MAX: usize = 10;

/// The counts of labels in the list of one folder or of several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelTally {
    /// Messages that stand in further folders and are carried once.
    pub once: u64,
    /// Labels that are not carried, with how many messages have them.
    pub left: BTreeMap<String, u64>,
    /// How often there were labels beyond those that are named.
    pub unnamed: u64,
}

impl LabelTally {
    /// Counts a label that is not carried with its message.
    pub fn leave(&mut self, label: &str, messages: u64) {
        if let Some(count) = self.left.get_mut(label) {
            *count += messages;
        } else if self.left.len() < NAMED_MAX {
            self.left.insert(label.to_owned(), messages);
        } else {
            self.unnamed += messages;
        }
    }

    /// Adds what another folder's list told.
    pub fn add(&mut self, other: &Self) {
        self.once += other.once;
        self.unnamed += other.unnamed;
        for (label, count) in &other.left {
            self.leave(label, *count);
        }
    }

    /// The same with the labels that most messages have, and no others by name.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        let by_count = self.by_count();
        for (label, count) in by_count.into_iter().skip(KEPT_MAX) {
            self.left.remove(&label);
            self.unnamed += count;
        }
        self
    }

    fn by_count(&self) -> Vec<(String, u64)> {
        let mut labels: Vec<_> = self.left.iter().map(|(label, count)| (label.clone(), *count)).collect();
        labels.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        labels
    }

    /// How many labels of messages are not carried.
    pub fn count_left(&self) -> u64 {
        self.left.values().sum::<u64>() + self.unnamed
    }

    /// The labels that are not carried, in words; empty when there are none.
    pub fn say_left(&self) -> String {
        let by_count = self.by_count();
        let mut said: Vec<String> = by_count
            .iter()
            .take(SAID_MAX)
            .map(|(label, count)| format!("\"{label}\" of {}", counted(*count, "message", "messages")))
            .collect();
        let rest = by_count.iter().skip(SAID_MAX).map(|(_, count)| count).sum::<u64>() + self.unnamed;
        if rest > 0 {
            said.push(format!("others, {}", counted(rest, "time", "times")));
        }
        said.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_that_is_left_is_counted_by_name_or_by_number() {
        let mut tally = LabelTally { once: 3, ..LabelTally::default() };
        tally.leave("Work", 2);
        tally.leave("Travel", 1);
        let mut both = LabelTally { once: 1, ..LabelTally::default() };
        both.leave("Work", 1);
        both.add(&tally);
        assert_eq!((both.once, both.count_left()), (4, 4));
        assert_eq!(both.say_left(), "\"Work\" of 3 messages, \"Travel\" of 1 message");
        assert_eq!(LabelTally::default().say_left(), "");
        let mut many = LabelTally::default();
        for n in 0..1000_u64 {
            many.leave(&format!("label {n:04}"), 1);
        }
        assert_eq!((many.left.len(), many.count_left()), (NAMED_MAX, 1000));
        let short = many.shortened();
        assert_eq!((short.left.len(), short.count_left()), (KEPT_MAX, 1000));
        assert!(
            short.say_left().ends_with("\"label 0009\" of 1 message, others, 990 times"),
            "{}",
            short.say_left()
        );
    }
}
