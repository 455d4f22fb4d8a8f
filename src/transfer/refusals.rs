//! Decides about messages that the destination refused. Where it may have been a keyword or the date, the message is
//! sent again without it, alone in its window; a refusal after that is the message's own fault, or the destination's,
//! if it refuses one after another without a word about any. Pure.

use std::collections::HashMap;

use super::pipeline::{Copied, Work, settle};
use crate::ledger::{Refused, RowId};
use crate::model::failure::{Class, Failure, FailureCode};
use crate::model::identity::Hazard;
use crate::model::message::{Flags, InternalDate, Verdict};

/// So many messages refused one after another are the destination's trouble where it took no other.
pub(super) const IN_A_ROW: usize = 3;
/// And so many where it took others before.
const IN_A_ROW_AFTER_OTHERS: usize = 10;

/// The first arrival date that servers take which count from 1970 and in their own time zone.
const EARLY: [InternalDate; 2] = [
    // 2 January 1970.
    InternalDate { unix: 86_400, offset_minutes: 0 },
    // 1 January 1980, where file systems of the time began.
    InternalDate { unix: 315_532_800, offset_minutes: 0 },
];
/// 1 January 2038: the last day that all servers know ends some days later.
const LATE: InternalDate = InternalDate { unix: 2_145_916_800, offset_minutes: 0 };

/// A message that the destination refused.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Its row.
    pub(super) row: RowId,
    /// Why.
    pub(super) failure: Failure,
    /// The limit in bytes that it is over, where the server told one.
    pub(super) limit: Option<u64>,
    /// Whether another message was taken after it.
    pub(super) passed_by: bool,
}

/// How a message is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Form {
    /// Without its keywords.
    without_keywords: bool,
    day: Day,
}

/// The arrival date that goes with a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Day {
    /// Its own.
    #[default]
    Own,
    /// Another.
    Other(InternalDate),
    /// None, so that the server gives it that of the copy.
    OfTheCopy,
}

impl Form {
    /// The flags that go with the message.
    pub(super) fn flags(self, flags: Flags) -> Flags {
        if self.without_keywords { flags.without_keywords() } else { flags }
    }

    /// The date that goes with the message.
    pub(super) fn date(self, own: Option<InternalDate>) -> Option<InternalDate> {
        match self.day {
            Day::Own => own,
            Day::Other(other) => Some(other),
            Day::OfTheCopy => None,
        }
    }

    /// The verdict on its copy once it was taken.
    pub(super) fn verdict(self, own: Option<InternalDate>) -> Verdict {
        let own = own.map(|date| date.to_string()).unwrap_or_default();
        match self.day {
            Day::Own => Verdict::Delivered,
            Day::Other(other) => Verdict::DeliveredAltered(format!(
                "the destination refuses its arrival date, {own}; it has {other}"
            )),
            Day::OfTheCopy => Verdict::DeliveredAltered(format!(
                "the destination refuses its arrival date, {own}; it has the day of the copy"
            )),
        }
    }

    /// Another form for a message that was refused in this one; `None` when nothing else is worth trying.
    fn other(self, failure: &Failure, flags: &Flags, date: Option<InternalDate>) -> Option<Self> {
        use FailureCode as F;
        let (flag, day, zone) = match (failure.class, failure.code) {
            (_, Some(F::FlagRefused)) => (true, false, false),
            (_, Some(F::DateRefused)) => (false, true, false),
            // Nobody said what it was.
            (Class::Message, None) | (Class::Protocol, Some(F::NotUnderstood)) => (true, is_odd(date), true),
            _ => return None,
        };
        let mut form = self;
        form.without_keywords |= flag && flags.without_keywords() != *flags;
        if let Some(next) = date.filter(|_| day).and_then(|date| self.next_day(date)) {
            form.day = next;
        } else if let Some(date) = date.filter(|date| zone && date.offset_minutes != 0)
            && self.day == Day::Own
        {
            // It is the same moment, in the zone that every server knows.
            form.day = Day::Other(InternalDate { offset_minutes: 0, ..date });
        }
        (form != self).then_some(form)
    }

    /// The date that is nearest to one and was not tried yet; at last none.
    fn next_day(self, date: InternalDate) -> Option<Day> {
        let mut days = Vec::new();
        if date.unix > LATE.unix {
            days.push(Day::Other(LATE));
        } else if date.unix < EARLY[1].unix {
            days.extend(EARLY.into_iter().filter(|early| early.unix > date.unix).map(Day::Other));
        } else if date.offset_minutes != 0 {
            days.push(Day::Other(InternalDate { offset_minutes: 0, ..date }));
        }
        days.push(Day::OfTheCopy);
        match self.day {
            Day::Own => days.into_iter().next(),
            last => days.into_iter().skip_while(|day| *day != last).nth(1),
        }
    }
}

/// Whether a date is one of those that servers stumble over.
fn is_odd(date: Option<InternalDate>) -> bool {
    date.is_some_and(|date| date.unix < EARLY[1].unix || date.unix > LATE.unix)
}

/// Takes those of the refused messages out that are worth sending in another form, and says in which.
pub(super) fn other_forms(
    refused: &mut Vec<Refusal>,
    works: &HashMap<RowId, &Work>,
    forms: &HashMap<RowId, Form>,
    copied: &Copied,
) -> HashMap<RowId, Form> {
    let mut again = HashMap::new();
    refused.retain(|refusal| {
        let Some(work) = works.get(&refusal.row) else { return true };
        let form = forms.get(&refusal.row).copied().unwrap_or_default();
        let flags = work.listed.flags.clone().unwrap_or_default();
        let date = work.listed.date.or_else(|| copied.passed.get(&refusal.row)?.date);
        let other = form.other(&refusal.failure, &flags.writable(), date);
        again.extend(other.map(|other| (refusal.row, other)));
        other.is_none()
    });
    again
}

/// The outcome of refusals that settle no message.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Why messages are left, where any are.
    pub(super) failure: Option<Failure>,
    /// Whether the destination took others after each of them, so that those behind them need not wait.
    pub(super) goes_on: bool,
    /// Those of them at which the trouble may lie all the same, each with why: too few for one of the destination's.
    pub(super) suspects: Vec<(RowId, Failure)>,
}

/// Settles messages that were refused for good, and those that others passed by: they are tried again by the next pass.
/// A message that was not refused for its own sake stays pending.
pub(super) fn judge(refused: Vec<Refusal>, copied: &mut Copied) -> Left {
    let nothing_taken = copied.sent == 0 && copied.recognised.is_empty();
    let (wordless, told): (Vec<Refusal>, Vec<Refusal>) = refused.into_iter().partition(is_wordless);
    let in_a_row = wordless.iter().filter(|refusal| !refusal.passed_by).count();
    let of_the_destination = in_a_row >= if nothing_taken { IN_A_ROW } else { IN_A_ROW_AFTER_OTHERS };
    let mut left = Left { goes_on: true, ..Left::default() };
    for refusal in wordless {
        if of_the_destination && !refusal.passed_by {
            let what = format!("refuses one message after another: {}", refusal.failure.what);
            left.goes_on = false;
            left.failure.get_or_insert_with(|| {
                let failure = Failure { what, class: Class::Unreachable, ..refusal.failure.clone() };
                failure.code(FailureCode::ServerFault).hint("they are sent again by the next pass")
            });
        } else {
            quarantine(refusal, copied);
        }
    }
    for refusal in told {
        let own = match refusal.failure.class {
            Class::Message => true,
            // A command that is not understood for one message among others that were taken is that message's fault, and
            // so it is for one with a line that servers are known to stumble over (Exchange: "Command Argument Error").
            Class::Protocol => copied.sent > 0 || has_long_line(refusal.row, copied),
            // Missing room may be found, and other messages are not larger.
            Class::Quota => false,
            // Others were taken after it, so neither rights nor names nor the login are in the way.
            class => refusal.passed_by && !class.is_retryable(),
        };
        if own {
            quarantine(refusal, copied);
            continue;
        }
        left.goes_on &= refusal.passed_by;
        if refusal.failure.class == Class::Quota {
            left.failure = Some(refusal.failure);
        } else {
            left.failure.get_or_insert_with(|| refusal.failure.clone());
            left.suspects.push((refusal.row, refusal.failure));
        }
    }
    if left.suspects.len() >= IN_A_ROW && !left.goes_on {
        left.suspects.clear();
    }
    left
}

fn is_wordless(refusal: &Refusal) -> bool {
    refusal.failure.class == Class::Message && refusal.failure.code.is_none()
}

fn has_long_line(row: RowId, copied: &Copied) -> bool {
    copied.passed.get(&row).is_some_and(|passed| passed.hazards.has(Hazard::VeryLongLine))
}

fn quarantine(refusal: Refusal, copied: &mut Copied) {
    let Refusal { row, failure, limit, .. } = refusal;
    let because = if has_long_line(row, copied) { "; it holds a line of more than 9,900 bytes" } else { "" };
    let verdict = Verdict::Quarantined(format!("{}{because}", failure.sentence()));
    let mut settled = settle(row, copied.passed.get(&row), None, verdict);
    settled.refused = Refused { code: failure.code, limit };
    copied.settled.push(settled);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::Listed;
    use crate::model::folder::FolderPath;
    use crate::model::message::{Epoch, ItemId, Locator};
    use crate::model::protocol::Protocol;

    fn refusal(row: RowId, class: Class, code: Option<FailureCode>, passed_by: bool) -> Refusal {
        let failure = Failure { code, ..Failure::new(class, "refused APPEND: no") };
        Refusal { row, failure, limit: None, passed_by }
    }

    fn judged(refused: Vec<Refusal>, sent: u64) -> (usize, Option<(Class, Option<FailureCode>)>) {
        let mut copied = Copied { sent, ..Copied::default() };
        let left = judge(refused, &mut copied);
        (copied.settled.len(), left.failure.map(|failure| (failure.class, failure.code)))
    }

    #[test]
    fn several_in_a_row_without_a_word_are_the_destinations_trouble_and_none_is_settled() {
        let wordless = |n: RowId, passed_by| -> Vec<Refusal> {
            (0..n).map(|row| refusal(row, Class::Message, None, passed_by)).collect()
        };
        let trouble = Some((Class::Unreachable, Some(FailureCode::ServerFault)));
        assert_eq!(judged(wordless(3, false), 0), (0, trouble));
        assert_eq!(judged(wordless(2, false), 0), (2, None), "two may be two odd ones");
        assert_eq!(judged(wordless(3, false), 5), (3, None), "others were taken");
        assert_eq!(judged(wordless(12, false), 5), (0, trouble));
        assert_eq!(judged(wordless(12, true), 5), (12, None), "others were taken after them");
    }

    #[test]
    fn a_word_says_whose_trouble_it_is() {
        use FailureCode as F;
        let told = |class, code, n: RowId| -> Vec<Refusal> {
            (0..n).map(|row| refusal(row, class, Some(code), false)).collect()
        };
        assert_eq!(judged(told(Class::Message, F::TooLarge, 5), 0), (5, None));
        assert_eq!(judged(told(Class::Message, F::ContentRefused, 5), 0), (5, None));
        assert_eq!(judged(told(Class::Quota, F::Full, 1), 3), (0, Some((Class::Quota, Some(F::Full)))));
        let later = (Class::Unreachable, Some(F::TryLater));
        assert_eq!(judged(told(later.0, F::TryLater, 2), 3), (0, Some(later)));
        assert_eq!(judged(told(Class::Protocol, F::NotUnderstood, 1), 3), (1, None));
        let unknown = (Class::Protocol, Some(F::NotUnderstood));
        assert_eq!(judged(told(unknown.0, F::NotUnderstood, 1), 0), (0, Some(unknown)));
    }

    #[test]
    fn a_refused_date_is_moved_to_the_nearest_that_is_left_and_then_left_out() {
        let date = |text: &str| InternalDate::parse(text).unwrap();
        let refused = Failure::new(Class::Message, "").code(FailureCode::DateRefused);
        let tried = |text: &str| {
            let (mut form, mut dates) = (Form::default(), Vec::new());
            while let Some(other) = form.other(&refused, &Flags::default(), Some(date(text))) {
                form = other;
                dates.push(form.date(None).map_or("none".to_owned(), |date| date.to_string()));
            }
            dates
        };
        let early = ["02-Jan-1970 00:00:00 +0000", "01-Jan-1980 00:00:00 +0000", "none"];
        assert_eq!(tried("01-Jan-1970 00:00:00 +0000"), early);
        assert_eq!(tried("01-Jan-0001 00:00:00 +0000"), early);
        assert_eq!(tried("05-May-1975 00:00:00 +0000"), early[1..]);
        assert_eq!(tried("05-May-2075 00:00:00 +0000"), ["01-Jan-2038 00:00:00 +0000", "none"]);
        assert_eq!(tried("05-May-2020 10:00:00 +1400"), ["04-May-2020 20:00:00 +0000", "none"]);
        assert_eq!(tried("05-May-2020 10:00:00 +0000"), ["none"]);
    }

    #[test]
    fn an_odd_date_is_suspected_until_nothing_is_left_of_it() {
        let wordless = Failure::new(Class::Message, "");
        let steps = |text: &str| {
            let date = InternalDate::parse(text);
            let next = |form: &Form| form.other(&wordless, &Flags::default(), date);
            std::iter::successors(next(&Form::default()), next).count()
        };
        assert_eq!(steps("01-Jan-1970 00:00:00 +0000"), 3);
        assert_eq!(steps("05-May-2075 00:00:00 +0000"), 2);
        assert_eq!(steps("05-May-2020 10:00:00 +0000"), 0);
        // In another zone it is the same moment.
        assert_eq!(steps("05-May-2020 10:00:00 +0200"), 1);
    }

    #[test]
    fn a_refusal_for_another_reason_is_the_messages_where_others_passed_it_by() {
        use FailureCode as F;
        let left = |refused: Vec<Refusal>| {
            let mut copied = Copied { sent: 1, ..Copied::default() };
            let left = judge(refused, &mut copied);
            (copied.settled.len(), left.failure.is_some(), left.goes_on, left.suspects.len())
        };
        let one = |class, code, passed_by| vec![refusal(1, class, Some(code), passed_by)];
        assert_eq!(left(one(Class::Refused, F::NoPermission, true)), (1, false, true, 0));
        assert_eq!(left(one(Class::Refused, F::NoPermission, false)), (0, true, false, 1));
        assert_eq!(left(one(Class::Unreachable, F::TryLater, true)), (0, true, true, 1));
        assert_eq!(left(one(Class::Quota, F::Full, true)), (0, true, true, 0));
        let many = (1..5).map(|row| refusal(row, Class::Unreachable, Some(F::TryLater), false)).collect();
        assert_eq!(left(many), (0, true, false, 0), "the destination's trouble");
    }

    #[test]
    fn keywords_go_where_they_may_have_been_the_reason() {
        use FailureCode as F;
        let flags = Flags::parse("\\Seen a:b");
        let day = InternalDate::parse("05-May-2020 10:00:00 +0000");
        let form = Form { without_keywords: true, ..Form::default() };
        for (class, code, other) in [
            (Class::Message, None, Some(form)),
            (Class::Message, Some(F::FlagRefused), Some(form)),
            (Class::Protocol, Some(F::NotUnderstood), Some(form)),
            (Class::Message, Some(F::TooLarge), None),
            (Class::Quota, Some(F::Full), None),
        ] {
            let failure = Failure { code, ..Failure::new(class, "") };
            assert_eq!(Form::default().other(&failure, &flags, day), other, "{class} {code:?}");
            assert_eq!(form.other(&failure, &flags, day), None, "once");
            assert_eq!(Form::default().other(&failure, &Flags::parse("\\Seen"), day), None);
        }
        assert_eq!(form.flags(flags).to_string(), "\\Seen");
    }

    #[test]
    fn only_what_has_another_form_is_taken_out() {
        let locator = |uid| {
            let (folder, epoch) = (FolderPath::inbox(), Epoch::from(1));
            Locator { protocol: Protocol::Imap, folder, epoch, id: ItemId::Uid(uid) }
        };
        let work = |row: RowId, flags: &str| Work {
            row,
            listed: Listed {
                locator: locator(u32::try_from(row).unwrap()),
                place: 0,
                size: 1,
                date: None,
                flags: Some(Flags::parse(flags)),
            },
            tried: Flags::default(),
            attempts: 0,
            known: None,
        };
        let works = [work(1, "a:b"), work(2, "\\Seen")];
        let works: HashMap<RowId, &Work> = works.iter().map(|work| (work.row, work)).collect();
        let mut refused: Vec<Refusal> =
            [1, 2, 3].map(|row| refusal(row, Class::Message, None, false)).into_iter().collect();
        let again = other_forms(&mut refused, &works, &HashMap::new(), &Copied::default());
        assert_eq!(again.into_keys().collect::<Vec<_>>(), [1]);
        assert_eq!(refused.iter().map(|refusal| refusal.row).collect::<Vec<_>>(), [2, 3]);
    }
}
