//! The state of the project, in a word or two and in a sentence: the head of the report. Pure, and the only place that
//! says so.

use std::fmt;

use super::rows::{Report, Totals};
use super::words::{count, counted};
use crate::model::finding::Severity;

/// How the head of a report is to be taken, beside its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// Work is to come or going on.
    Usual,
    /// It is through, and nothing is amiss.
    Well,
    /// It is through, and something is not as it was or is still open.
    Exceptions,
    /// It ended before it was through.
    Stopped,
}

impl fmt::Display for Tone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The head of a report.
#[derive(Debug)]
pub(super) struct Standing {
    /// A word or two.
    pub(super) word: &'static str,
    /// Whole sentences.
    pub(super) sentence: String,
    /// How they are to be taken.
    pub(super) tone: Tone,
}

/// The sentence of a report whose manifest was changed since.
pub(super) const OUTDATED: &str = "The manifest was changed since, and the numbers are those of the rules before; the next run counts anew.";

/// The head of the report.
pub(super) fn standing(report: &Report, totals: &Totals) -> Standing {
    let (tone, word, mut sentences) = judge(report, totals);
    let judged = sentences.len();
    if report.outdated {
        sentences.push(OUTDATED.to_owned());
    }
    let unseen = report.unseen.len() as u64;
    if unseen > 0 {
        sentences.push(format!("{} not been looked at yet.", counted(unseen, "domain has", "domains have")));
    }
    let unasked = report.domains.iter().filter(|domain| domain.failure.is_some()).count() as u64;
    if unasked > 0 {
        sentences.push(format!("{} not be looked at.", counted(unasked, "domain could", "domains could")));
    }
    if totals.unreadable > 0 {
        let words = counted(totals.unreadable, "mailbox cannot", "mailboxes cannot");
        sentences.push(format!("{words} be read yet."));
    }
    let open = report.open_findings(Severity::Critical);
    if open > 0 {
        sentences.push(format!("{} open.", counted(open, "critical finding is", "critical findings are")));
    }
    let tone = if tone == Tone::Well && sentences.len() > judged { Tone::Exceptions } else { tone };
    Standing { word, sentence: sentences.join(" "), tone }
}

fn judge(report: &Report, totals: &Totals) -> (Tone, &'static str, Vec<String>) {
    let messages = &totals.messages;
    let of_all = || {
        format!("{} of {} arrived", count(messages.copied), counted(messages.source, "message", "messages"))
    };
    let of_known =
        || format!("{} of {}", count(messages.copied), counted(messages.source, "message", "messages"));
    if report.phase == "Interrupted" {
        return (
            Tone::Stopped,
            "Stopped",
            vec![format!(
                "It was stopped before it was through; {} are known to have arrived, and the next run finds out about those that \
                 were on their way.",
                of_known()
            )],
        );
    }
    if report.phase == "Paused" {
        let words =
            format!("No window of the schedule is open; {}, and it goes on in the next one.", of_known());
        return (Tone::Usual, "Paused", vec![words]);
    }
    if report.phase == "ReviewRequired" {
        let words = format!(
            "The current plan is not the approved one, and nothing is carried until it is approved; before that, {}.",
            of_all()
        );
        return (Tone::Stopped, "Not approved", vec![words]);
    }
    // A mailbox that nothing reads may be read yet while somebody is at work; a run that is over has left it.
    let is_stalled = report.phase == "Stalled";
    let stopped = totals.stopped + if is_stalled { totals.unreadable } else { 0 };
    if stopped > 0 {
        let stopped = format!(
            "{} of {} stopped before {} through; {}.",
            count(stopped),
            counted(totals.mailboxes, "mailbox", "mailboxes"),
            if stopped == 1 { "it was" } else { "they were" },
            of_all()
        );
        let mut said = vec![stopped];
        let others = exceptions(totals);
        if totals.messages.copied > 0 && !others.is_empty() {
            said.push(format!("Not all that was carried is as it was: {}.", others.join(", ")));
        }
        return (Tone::Stopped, "Stopped", said);
    }
    if is_stalled {
        return (Tone::Stopped, "Stopped", vec![format!("It ended before it was through; {}.", of_all())]);
    }
    // Messages that a rule leaves out are counted before anything begins.
    let is_begun =
        messages.copied + messages.failed > 0 || report.mailboxes.iter().any(|mailbox| mailbox.passes > 0);
    if !is_begun {
        let found = counted(messages.source, "message was", "messages were");
        return (Tone::Usual, "Planned", vec![format!("Nothing has been copied yet; {found} found.")]);
    }
    if messages.pending > 0 || totals.unreadable + totals.unseen > 0 || !report.unseen.is_empty() {
        let mut words = vec![match messages.pending {
            0 => "No message of those that were found is still to come.".to_owned(),
            n => format!("{} still to come.", counted(n, "message is", "messages are")),
        }];
        let said = exceptions(totals);
        if !said.is_empty() {
            words.push(format!("Of the others not all is as it was: {}.", said.join(", ")));
        }
        let tone = if said.is_empty() { Tone::Usual } else { Tone::Exceptions };
        // Nobody is at work on what a run that came to its end has left.
        let word = match report.phase.as_str() {
            "Pending" | "Discovering" | "Syncing" => "In progress",
            "Suspended" => "Suspended",
            _ => "Partly copied",
        };
        return (tone, word, words);
    }
    if messages.source == 0 {
        return (
            Tone::Well,
            "Nothing to copy",
            vec!["Every mailbox was gone through, and none holds a message.".to_owned()],
        );
    }
    if messages.excluded == messages.source {
        let all = counted(messages.source, "message", "messages");
        let words =
            format!("Of {all} at the source none was copied: all are left out by a rule of the project.");
        return (Tone::Well, "Nothing to copy", vec![words]);
    }
    let said = exceptions(totals);
    if said.is_empty() && report.phase == "Verified" {
        return (Tone::Well, "Complete", vec!["Every message is accounted for, and none failed.".to_owned()]);
    }
    if said.is_empty() {
        return (Tone::Well, "Copied", vec!["Every message is accounted for.".to_owned()]);
    }
    let words = format!("Every message is accounted for, and not all is as it was: {}.", said.join(", "));
    (Tone::Exceptions, "Copied, with exceptions", vec![words])
}

/// The kinds of messages that are not as they were, each with its number.
fn exceptions(totals: &Totals) -> Vec<String> {
    let are = |n, words: &str| format!("{} {words}", counted(n, "message is", "messages are"));
    let were = |n, words: &str| format!("{} {words}", counted(n, "message was", "messages were"));
    let differing = totals.differing.saturating_sub(totals.absent_folders);
    let stored = totals.altered.saturating_sub(totals.changed + totals.truncated);
    let stored_words =
        counted(stored, "message was changed while it was", "messages were changed while they were");
    [
        (
            totals.messages.failed,
            counted(totals.messages.failed, "message could", "messages could") + " not be carried",
        ),
        (totals.missing, are(totals.missing, "no longer at the destination")),
        (totals.truncated, were(totals.truncated, "stored only in part")),
        (totals.changed, were(totals.changed, "found changed by a verification")),
        (stored, format!("{stored_words} stored")),
        (differing, are(differing, "there with other flags or dates")),
        (
            totals.absent_folders,
            counted(totals.absent_folders, "folder is", "folders are") + " not at the destination",
        ),
        (totals.unchecked, counted(totals.unchecked, "message could", "messages could") + " not be checked"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(_, words)| words)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::model::progress::MessageCounts;

    /// A report whose mailboxes are all through, with these counts in the first and nothing in the others.
    fn through(counts: MessageCounts) -> Report {
        let mut report = fixture::report();
        report.mailboxes.retain(|mailbox| mailbox.endpoint.is_some());
        for (at, mailbox) in report.mailboxes.iter_mut().enumerate() {
            mailbox.messages = if at == 0 { counts } else { MessageCounts::default() };
            mailbox.failure = None;
            mailbox.altered = 0;
            mailbox.passes = 1;
        }
        report.findings.clear();
        report.phase = "Verified".to_owned();
        report
    }

    fn head(report: &Report) -> (String, String) {
        let head = standing(report, &report.totals());
        (head.word.to_owned(), head.sentence)
    }

    fn tone(report: &Report) -> Tone {
        standing(report, &report.totals()).tone
    }

    fn told(word: &str, sentence: &str) -> (String, String) {
        (word.to_owned(), sentence.to_owned())
    }

    #[test]
    fn the_head_says_just_what_is_the_case_and_complete_is_said_of_nothing_less() {
        let copied = MessageCounts { source: 6, copied: 6, ..MessageCounts::default() };
        let whole = through(copied);
        assert_eq!(head(&whole), told("Complete", "Every message is accounted for, and none failed."));

        assert_eq!(tone(&whole), Tone::Well);

        let mut unseen = through(copied);
        unseen.unseen.push("late.example".to_owned());
        "Syncing".clone_into(&mut unseen.phase);
        assert_eq!(
            head(&unseen),
            told(
                "In progress",
                "No message of those that were found is still to come. 1 domain has not been looked at yet."
            )
        );

        let mut failed =
            through(MessageCounts { source: 6, copied: 3, pending: 3, ..MessageCounts::default() });
        "Failed".clone_into(&mut failed.mailboxes[0].phase);
        failed.mailboxes.truncate(2);
        assert_eq!(
            head(&failed),
            told("Stopped", "1 of 2 mailboxes stopped before it was through; 3 of 6 messages arrived.")
        );

        assert_eq!(tone(&failed), Tone::Stopped);

        // Nobody reads a mailbox whose password is wrong once the run is over, and nobody is at work.
        let mut locked = through(copied);
        locked.mailboxes.truncate(2);
        (locked.mailboxes[1].endpoint, locked.phase) = (None, "Stalled".to_owned());
        let words = "1 of 2 mailboxes stopped before it was through; 6 of 6 messages arrived. 1 mailbox cannot be read \
                     yet.";
        assert_eq!(head(&locked), told("Stopped", words));
        "Syncing".clone_into(&mut locked.phase);
        assert_eq!(head(&locked).0, "In progress");
        "Suspended".clone_into(&mut locked.phase);
        assert_eq!(head(&locked).0, "Suspended");
        let mut nowhere = through(copied);
        "Stalled".clone_into(&mut nowhere.phase);
        let words = "It ended before it was through; 6 of 6 messages arrived.";
        assert_eq!(head(&nowhere), told("Stopped", words));

        let mut changed = through(copied);
        "ReviewRequired".clone_into(&mut changed.phase);
        let words = "The current plan is not the approved one, and nothing is carried until it is approved; before that, 6 \
                     of 6 messages arrived.";
        assert_eq!((head(&changed), tone(&changed)), (told("Not approved", words), Tone::Stopped));

        let excluded = through(MessageCounts { source: 5, excluded: 5, ..MessageCounts::default() });
        let words = "Of 5 messages at the source none was copied: all are left out by a rule of the project.";
        assert_eq!(head(&excluded), told("Nothing to copy", words));

        let empty = through(MessageCounts::default());
        let words = "Every mailbox was gone through, and none holds a message.";
        assert_eq!(head(&empty), told("Nothing to copy", words));

        let mut planned = through(MessageCounts { source: 5, pending: 5, ..MessageCounts::default() });
        planned.mailboxes.iter_mut().for_each(|mailbox| mailbox.passes = 0);
        assert_eq!(head(&planned), told("Planned", "Nothing has been copied yet; 5 messages were found."));

        let mut killed =
            through(MessageCounts { source: 5, copied: 2, pending: 3, ..MessageCounts::default() });
        killed.phase = "Interrupted".to_owned();
        let words = "It was stopped before it was through; 2 of 5 messages are known to have arrived, and the next run finds \
                     out about those that were on their way.";
        assert_eq!(head(&killed), told("Stopped", words));

        let mut losses =
            through(MessageCounts { source: 7, copied: 6, failed: 1, ..MessageCounts::default() });
        losses.phase = "Synced".to_owned();
        assert_eq!(tone(&losses), Tone::Exceptions);
        let mailbox = &mut losses.mailboxes[0];
        (mailbox.missing, mailbox.altered, mailbox.changed) = (3, 3, 1);
        assert_eq!(
            head(&losses),
            told(
                "Copied, with exceptions",
                "Every message is accounted for, and not all is as it was: 1 message could not be carried, 3 messages are no \
                 longer at the destination, 1 message was found changed by a verification, 2 messages were changed while they were \
                 stored."
            )
        );
    }
}
