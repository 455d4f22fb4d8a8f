//! One folder of the destination, and the folders of the source whose mail should be in it: lists both, pairs their messages,
//! reads as many as the depth asks for, and counts what was found.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::moved::Spare;
use super::pairing::{Pairing, Seen};
use super::reading::{Content, read_destination, read_source};
use super::{Found, ROWS_AT_ONCE, sample, settled};
use crate::drivers::{Destination, Folder, Listed, Present, Source, Wanted};
use crate::ledger::{Ledger, NewRow, Row, RowId, Settled};
use crate::model::difference::{Difference, Kind, Value};
use crate::model::failure::{FailureCode, Result};
use crate::model::folder::FolderPath;
use crate::model::mark::Mark;
use crate::model::message::{Arrival, Epoch, Flags, ItemId, Locator, Verdict};
use crate::model::place::MessageDestination;
use crate::model::record::Depth;
use crate::transfer::Rules;
use crate::transfer::flags::Manners;
use crate::transfer::neighbours::Neighbours;
use crate::transfer::progress::MailboxProgress;

/// One message of the source that should be at the destination.
pub(super) struct Expected {
    folder: usize,
    pub(super) listed: Listed,
    pub(super) row: Option<Row>,
    pub(super) content: Option<Content>,
}

impl Expected {
    /// Whether the ledger says that it arrived.
    pub(super) fn is_delivered(&self) -> bool {
        self.row.as_ref().is_some_and(|row| row.verdict.is_delivered())
    }

    /// The finding of an earlier verification that nobody has seen mended yet.
    fn was_found(&self) -> bool {
        let code = self.row.as_ref().and_then(|row| row.refused.code);
        matches!(code, Some(FailureCode::ArrivalMissing | FailureCode::ArrivalChanged))
    }

    /// Where the ledger remembers it, if that is in this folder.
    pub(super) fn place(&self, path: &FolderPath, epoch: Option<&Epoch>) -> Option<&ItemId> {
        let (folder, arrival) = self.row.as_ref()?.destination.as_ref()?;
        (folder == path && Some(&arrival.epoch) == epoch).then_some(&arrival.id)
    }

    pub(super) fn subject(&self) -> Option<String> {
        let known = self.row.as_ref().and_then(|row| row.known.as_ref()?.subject.clone());
        known.or_else(|| self.content.as_ref()?.subject.clone())
    }

    fn message_id(&self) -> Option<String> {
        let known = self.row.as_ref().and_then(|row| row.known.as_ref()?.message_id.clone());
        known.or_else(|| self.content.as_ref()?.message_id.clone())
    }

    /// The message at the source.
    pub(super) fn bytes(&self) -> Value {
        let known = self.row.as_ref().and_then(|row| Some((row.size, row.known.as_ref()?.exact)));
        match (&self.content, known) {
            (Some(content), _) => Value::Bytes { size: content.size, exact: Some(content.exact) },
            (None, Some((size, exact))) => Value::Bytes { size, exact: Some(exact) },
            (None, None) => Value::Bytes { size: self.listed.size, exact: None },
        }
    }

    pub(super) fn difference(
        &self,
        kind: Kind,
        destination: Option<MessageDestination>,
        values: (Option<Value>, Option<Value>),
    ) -> Difference {
        Difference {
            kind,
            source: (&self.listed.locator).into(),
            destination,
            subject: self.subject(),
            message_id: self.message_id(),
            expected: values.0,
            found: values.1,
        }
    }
}

/// Both sides of a folder, as they were listed and, in part, read.
pub(super) struct Sides {
    pub(super) path: FolderPath,
    /// Epoch of the destination's folder; `None` where there is no such folder.
    pub(super) epoch: Option<Epoch>,
    pub(super) expected: Vec<Expected>,
    pub(super) present: Vec<Present>,
    /// The expected messages as pairing sees them.
    pub(super) here: Vec<Seen>,
    /// The present ones.
    pub(super) there: Vec<Seen>,
    /// Those of the present ones that were read.
    pub(super) contents: HashMap<usize, Content>,
}

impl Sides {
    /// Where a present message is.
    pub(super) fn arrival(&self, at: usize) -> Arrival {
        Arrival { epoch: self.epoch.clone().unwrap_or_default(), id: self.present[at].id.clone() }
    }

    pub(super) fn destination(&self, at: usize) -> MessageDestination {
        MessageDestination::new(&self.path, &self.arrival(at))
    }

    /// Whether both of a pair were read and are the same.
    fn are_identical(&self, (at, like): (usize, usize)) -> bool {
        self.here[at].digest.is_some() && self.here[at].digest == self.there[like].digest
    }
}

/// One destination folder and what should be in it.
pub(super) struct Check<'a> {
    /// The mailbox's key, by which its sample is drawn.
    pub(super) mailbox: &'a str,
    pub(super) source: &'a mut dyn Source,
    pub(super) destination: &'a mut dyn Destination,
    pub(super) ledger: &'a dyn Ledger,
    pub(super) neighbours: &'a Neighbours,
    pub(super) found: &'a mut Found,
    /// The mail that the manifest leaves out, and what is known of the destination: marks that it needs are not a
    /// difference.
    pub(super) rules: &'a Rules,
    /// Folders of the source that a rule leaves out now, with its words.
    pub(super) left_out: &'a BTreeMap<FolderPath, String>,
    pub(super) progress: &'a MailboxProgress,
}

impl Check<'_> {
    pub(super) async fn run(&mut self, path: &FolderPath, folders: &[Folder]) -> Result<()> {
        let mut sides = self.list(path, folders).await?;
        self.progress.expect(sides.expected.len() as u64, 0);
        let mut pairing = Pairing::new(sides.expected.len(), sides.present.len());
        // A message that did not arrive takes nothing away from those that did. One that was refused is not read: the refusal may be the
        // source's, or end the session.
        let others: BTreeSet<usize> =
            (0..sides.expected.len()).filter(|at| !sides.expected[*at].is_delivered()).collect();
        pairing.wanted.retain(|at| !others.contains(at));
        if self.found.figures.depth == Depth::Full {
            let (all, present): (Vec<usize>, Vec<usize>) =
                (pairing.wanted.iter().copied().collect(), (0..sides.present.len()).collect());
            self.read_expected(folders, &mut sides, &all).await?;
            self.read_present(&mut sides, &present).await?;
        } else {
            pairing.by_listing(&sides.here, &sides.there);
            self.check_sample(folders, &mut sides, &mut pairing).await?;
        }
        if !pairing.wanted.is_empty() && !pairing.spare.is_empty() {
            let wanted: Vec<usize> = pairing.wanted.iter().copied().collect();
            let spare: Vec<usize> = pairing.spare.iter().copied().collect();
            self.read_expected(folders, &mut sides, &wanted).await?;
            self.read_present(&mut sides, &spare).await?;
            pairing.by_digest(&sides.here, &sides.there);
        }
        let mut changes = Vec::new();
        for &pair in &pairing.pairs {
            changes.extend(self.compare(&sides, pair));
        }
        self.explain(&sides, &mut pairing, &mut changes).await?;
        self.judge_others(&mut sides, &others, &mut pairing, &mut changes).await?;
        self.find_extra(&mut sides, &mut pairing).await?;
        self.ledger.settle(&changes, None).await?;
        let left = std::mem::take(&mut sides.present).into_iter().enumerate();
        let messages =
            left.filter(|(at, _)| pairing.spare.contains(at)).map(|(_, present)| present).collect();
        self.found.spare.insert(path.clone(), Spare { epoch: sides.epoch, messages });
        Ok(())
    }

    /// Lists both sides.
    async fn list(&mut self, path: &FolderPath, folders: &[Folder]) -> Result<Sides> {
        let expected = self.list_expected(folders).await?;
        let known = self.destination.list_folders().await?;
        let (present, permanent, epoch) = if known.iter().any(|folder| folder.path == *path) {
            let state = self.destination.open(path).await?;
            let listed = match state.items {
                Some(0) => Vec::new(),
                _ => self.destination.list_since(&Mark::beginning()).await?,
            };
            (listed, state.keepable, Some(state.epoch))
        } else {
            // One that nothing was carried into yet is not missed.
            if expected.is_empty() || expected.iter().any(Expected::is_delivered) {
                self.found.absent.push(path.clone());
            }
            (Vec::new(), None, None)
        };
        let manners = self.rules.manners;
        let kept = |flags: &Flags| match &permanent {
            None => manners.wanted(flags.clone()),
            Some(kept) => {
                manners.wanted(flags.filter(|flag| kept.iter().any(|k| k.eq_ignore_ascii_case(flag))))
            }
        };
        let see = |expected: &Expected| Seen {
            // The size that LIST of POP3 announces need not be that of what RETR brings.
            size: expected
                .row
                .as_ref()
                .filter(|row| row.known.is_some())
                .map_or(expected.listed.size, |r| r.size),
            date: expected.listed.date,
            flags: expected.listed.flags.as_ref().map(kept),
            digest: None,
            place: expected.place(path, epoch.as_ref()).cloned(),
        };
        let here = expected.iter().map(see).collect();
        let there = present.iter().map(|present| see_present(present, manners)).collect();
        let (path, contents) = (path.clone(), HashMap::new());
        Ok(Sides { path, epoch, expected, present, here, there, contents })
    }

    /// Lists what should be at the destination: all that the source holds but what a rule left out, or only shows. A
    /// message that the ledger does not know is written down as one that waits.
    async fn list_expected(&mut self, folders: &[Folder]) -> Result<Vec<Expected>> {
        let mut expected = Vec::new();
        for (at, folder) in folders.iter().enumerate() {
            let mut rows: HashMap<Locator, Row> = HashMap::new();
            for row in self.ledger.rows(&folder.path).await? {
                rows.insert(row.locator.clone(), row);
            }
            let rule = self.left_out.get(&folder.path).map(|why| Verdict::Excluded(why.clone()));
            self.source.open(folder).await?;
            let mut late: Vec<NewRow> = Vec::new();
            let mut wanted: Vec<RowId> = Vec::new();
            let mut after: Option<Locator> = None;
            loop {
                let page = self.source.list(after.as_ref()).await?;
                for listed in page.messages {
                    let row = rows.remove(&listed.locator);
                    let verdict = match (&row, &rule) {
                        (None, None) => self.rules.judge(listed.size, listed.date),
                        (None, Some(rule)) => rule.clone(),
                        (Some(row), Some(rule)) if !row.verdict.is_delivered() => rule.clone(),
                        // A rule of then need not be one of now.
                        (Some(Row { id, date, verdict: Verdict::Excluded(_), .. }), _) => {
                            let today = self.rules.judge(listed.size, listed.date.or(*date));
                            if today == Verdict::Pending {
                                wanted.push(*id);
                            }
                            today
                        }
                        (Some(row), _) => row.verdict.clone(),
                    };
                    if row.is_none() && !listed.locator.id.is_shared() {
                        late.push(NewRow {
                            locator: listed.locator.clone(),
                            size: listed.size,
                            date: listed.date,
                            flags: listed.flags.clone().unwrap_or_default(),
                            verdict: verdict.clone(),
                        });
                    }
                    if !matches!(verdict, Verdict::Excluded(_) | Verdict::Shown) {
                        expected.push(Expected { folder: at, listed, row, content: None });
                    }
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            for part in late.chunks(ROWS_AT_ONCE) {
                self.ledger.insert(part).await?;
            }
            self.ledger.reopen(&wanted).await?;
            for row in rows.into_values().filter(|row| row.locator.is_unlisted()) {
                if let Verdict::Quarantined(why) = &row.verdict {
                    self.found.name_failed(&row.locator, None, why);
                }
            }
        }
        Ok(expected)
    }

    /// Reads some of the expected messages at the source.
    async fn read_expected(&mut self, folders: &[Folder], sides: &mut Sides, which: &[usize]) -> Result<()> {
        let Sides { expected, here, .. } = sides;
        for (folder, opened) in folders.iter().enumerate() {
            let wanted: Vec<Wanted> = which
                .iter()
                .filter(|at| expected[**at].folder == folder && expected[**at].content.is_none())
                .map(|at| Wanted {
                    key: *at as u64,
                    locator: expected[*at].listed.locator.clone(),
                    size: expected[*at].listed.size,
                })
                .collect();
            if wanted.is_empty() {
                continue;
            }
            self.source.open(opened).await?;
            for (key, content) in read_source(self.source, &wanted, self.progress).await? {
                let Some(at) = usize::try_from(key).ok().filter(|at| *at < expected.len()) else { continue };
                here[at].digest = Some(content.digest);
                here[at].size = content.size;
                expected[at].content = Some(content);
            }
        }
        Ok(())
    }

    /// Reads some of the messages of the destination folder.
    pub(super) async fn read_present(&mut self, sides: &mut Sides, which: &[usize]) -> Result<()> {
        let Sides { present, there, contents, .. } = sides;
        let mut places: Vec<usize> = which.iter().copied().filter(|at| !contents.contains_key(at)).collect();
        places.sort_unstable_by(|a, b| present[*a].id.cmp(&present[*b].id));
        let ids: Vec<ItemId> = places.iter().map(|at| present[*at].id.clone()).collect();
        for (place, content) in read_destination(self.destination, &ids, self.progress).await? {
            let at = places[place];
            self.found.figures.read_back += 1;
            there[at].digest = Some(content.digest);
            contents.insert(at, content);
        }
        Ok(())
    }

    /// Reads a sample of the pairs on both sides, and parts those that turn out to be different messages. The findings of an earlier
    /// verification are read again at every depth: a size alone shows nobody that it was mended.
    async fn check_sample(
        &mut self,
        folders: &[Folder],
        sides: &mut Sides,
        pairing: &mut Pairing,
    ) -> Result<()> {
        let locators = pairing.pairs.iter().map(|(at, _)| &sides.expected[*at].listed.locator);
        let drawn: BTreeSet<usize> = match self.found.figures.depth {
            Depth::Sampled => sample::draw(self.mailbox, locators).into_iter().collect(),
            Depth::Sizes | Depth::Full => BTreeSet::new(),
        };
        let is_read = |(pair, (at, _)): &(usize, &(usize, usize))| {
            drawn.contains(pair) || sides.expected[*at].was_found()
        };
        let (sample, like): (Vec<usize>, Vec<usize>) =
            pairing.pairs.iter().enumerate().filter(is_read).map(|(_, pair)| *pair).unzip();
        self.read_expected(folders, sides, &sample).await?;
        self.read_present(sides, &like).await?;
        let mut parted = Vec::new();
        pairing.pairs.retain(|&(at, like)| {
            let same = match (sides.here[at].digest, sides.there[like].digest) {
                (Some(here), Some(there)) => here == there,
                _ => true,
            };
            if !same {
                parted.push((at, like));
            }
            same
        });
        for (at, like) in parted {
            pairing.wanted.insert(at);
            pairing.spare.insert(like);
        }
        Ok(())
    }

    /// Two messages that belong together: how surely, and whether their flags and dates are the same. Brings what the ledger
    /// is to be told where something was mended that an earlier check had found.
    fn compare(&mut self, sides: &Sides, pair: (usize, usize)) -> Option<Settled> {
        let (at, like) = pair;
        let (expected, here, there) = (&sides.expected[at], &sides.here[at], &sides.there[like]);
        self.found.figures.checked += 1;
        self.progress.finish_message();
        let row = expected.row.as_ref();
        let is_altered = row.is_some_and(|row| matches!(row.verdict, Verdict::DeliveredAltered(_)));
        let mut mended = None;
        if sides.are_identical(pair) {
            self.found.figures.identical += 1;
            let place = Some((sides.path.clone(), sides.arrival(like)));
            mended = row
                // That the source hands out less than it lists is mended by nothing that is the same at both sides.
                .filter(|row| row.refused.code != Some(FailureCode::CameShort))
                .filter(|_| is_altered || expected.was_found())
                .map(|row| settled(row, Verdict::Delivered, place, None));
        } else if is_altered {
            let found = Value::Bytes { size: there.size, exact: None };
            self.note_altered(expected, Some(sides.destination(like)), Some(found));
        } else {
            self.found.figures.same_size += 1;
        }
        let mut said = Vec::new();
        if let (Some(wanted), Some(is)) = (here.plain_flags(), there.plain_flags())
            && wanted != is
        {
            let values = [&here.flags, &there.flags].map(|flags| flags.clone().map(Value::Flags));
            said.push((Kind::Flags, values));
        }
        if let (Some(wanted), Some(is)) = (here.date, there.date)
            && wanted.unix != is.unix
        {
            said.push((Kind::Date, [wanted, is].map(|date| Some(Value::date(date)))));
        }
        if !said.is_empty() {
            self.found.figures.differing += 1;
        }
        for (kind, [wanted, is]) in said {
            let difference = expected.difference(kind, Some(sides.destination(like)), (wanted, is));
            self.found.name(difference);
        }
        mended
    }
}

fn see_present(present: &Present, manners: Manners) -> Seen {
    Seen {
        size: present.size,
        date: present.date,
        flags: Some(manners.wanted(present.flags.clone())),
        digest: None,
        place: Some(present.id.clone()),
    }
}
