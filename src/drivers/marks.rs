//! The relations of the marks of a folder to one another and to what is in it. Others compare marks by these alone.

use crate::model::mark::Mark;
use crate::model::message::ItemId;

/// The marks of one driver. Without an order between them, the answer is always the one by which more is looked at.
pub trait Marks: std::fmt::Debug + Send + Sync {
    /// Whether a folder of which `before` was true cannot be as `now` says: it is another one, or its ids name other items.
    fn contradicts(&self, _before: &Mark, _now: &Mark) -> bool {
        false
    }

    /// The earlier one of two marks.
    fn earlier(&self, a: &Mark, b: &Mark) -> Mark {
        if a == b { a.clone() } else { Mark::beginning() }
    }

    /// Whether an item may have come behind a mark. Anything may have come behind the beginning.
    fn could_follow(&self, _id: &ItemId, _mark: &Mark) -> bool {
        true
    }

    /// A mark behind which an item lies, and no more than need be before it.
    fn before(&self, _id: &ItemId) -> Mark {
        Mark::beginning()
    }

    /// The mark behind an item that was seen in the folder, or the one that is given where that is later.
    fn behind(&self, mark: &Mark, _seen: &ItemId) -> Mark {
        mark.clone()
    }
}

/// Marks that say nothing of one another.
#[derive(Debug, Clone, Copy)]
pub struct Unordered;

impl Marks for Unordered {}

/// Marks of folders that number their items upwards: each begins with the number that the next item gets, unless nobody
/// told it; further words may follow behind a blank.
#[derive(Debug, Clone, Copy)]
pub struct Numbered;

impl Numbered {
    /// The mark of a folder that gives this number next.
    pub fn mark(next: u32) -> Mark {
        Mark::from(next.to_string())
    }

    /// The number that comes next.
    pub fn next(mark: &Mark) -> Option<u32> {
        let text = mark.as_str();
        text.split_once(' ').map_or(text, |(next, _)| next).parse().ok()
    }

    /// The first number that may have come behind a mark.
    pub fn first(mark: &Mark) -> u32 {
        Self::next(mark).unwrap_or(1).max(1)
    }
}

impl Marks for Numbered {
    fn contradicts(&self, before: &Mark, now: &Mark) -> bool {
        Self::next(before).zip(Self::next(now)).is_some_and(|(before, now)| now < before)
    }

    fn earlier(&self, a: &Mark, b: &Mark) -> Mark {
        if Self::first(b) < Self::first(a) { b.clone() } else { a.clone() }
    }

    fn could_follow(&self, id: &ItemId, mark: &Mark) -> bool {
        *id >= ItemId::Uid(Self::first(mark))
    }

    fn before(&self, id: &ItemId) -> Mark {
        id.uid().map(Self::mark).unwrap_or_default()
    }

    fn behind(&self, mark: &Mark, seen: &ItemId) -> Mark {
        match seen.uid().map(|uid| uid.saturating_add(1)) {
            Some(next) if next > Self::first(mark) => Self::mark(next),
            _ => mark.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_tell_what_came_first() {
        let (none, five, later) = (Mark::beginning(), Numbered::mark(5), Mark::from("9 77"));
        assert_eq!(Numbered::next(&Mark::from("- 77")), None);
        let marks = [&none, &five, &later];
        let contradicts = |before, now| Numbered.contradicts(before, now);
        assert!(contradicts(&later, &five) && !contradicts(&five, &later) && !contradicts(&five, &five));
        assert!(!contradicts(&later, &none) && !contradicts(&none, &five), "nobody told");
        assert_eq!(
            [Numbered.earlier(&later, &five), Numbered.earlier(&five, &later)],
            [five.clone(), five.clone()]
        );
        assert!(marks.iter().all(|mark| Numbered.earlier(mark, &none).is_beginning()));
        let could = |id| marks.map(|mark| Numbered.could_follow(&ItemId::Uid(id), mark));
        assert_eq!([could(4), could(5), could(9)], [[true, false, false], [true, true, false], [true; 3]]);
        for id in [1, 4, 5, 9] {
            let id = ItemId::Uid(id);
            assert!(Numbered.could_follow(&id, &Numbered.before(&id)));
            for mark in marks {
                assert!(!Numbered.could_follow(&id, &Numbered.behind(mark, &id)), "{id} {mark:?}");
            }
        }
        assert_eq!(Numbered.behind(&later, &ItemId::Uid(8)), later, "nothing goes back");
        assert_eq!(Numbered.behind(&none, &ItemId::Uid(u32::MAX)), Numbered::mark(u32::MAX));
    }

    #[test]
    fn without_an_order_everything_is_looked_at() {
        let (one, other, id) = (Mark::from("one"), Mark::from("other"), ItemId::from("x"));
        assert!(Unordered.earlier(&one, &other).is_beginning() && Unordered.earlier(&one, &one) == one);
        assert!(Unordered.could_follow(&id, &one) && !Unordered.contradicts(&one, &other));
        assert!(Unordered.before(&id).is_beginning() && Unordered.behind(&one, &id) == one);
    }
}
