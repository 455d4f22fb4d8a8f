//! Makes the folders at the destination, and finds another name where the server says that it cannot hold this one: its
//! rules about names are not announced anywhere, so its word on CREATE, and what it lists afterwards, are the only ways to
//! learn them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::forbearance::ENDED_AT;
use super::mapping::{FolderPlan, rebase, renamed_to};
use super::names::{NameRules, fold};
use crate::drivers::{Destination, Folder};
use crate::ledger::Ledger;
use crate::model::failure::{Class, Failure, FailureCode, Result, Spoils};
use crate::model::folder::FolderPath;

/// The most names that are tried for one folder.
const TRIES_MAX: usize = 30;
/// The most numbers that one spelling is tried with.
const NUMBERS_MAX: u32 = 1000;
/// The ledger's fact that lists the source folders at whose making at the destination a session ended, one a line; or
/// [`ONE_BY_ONE`], where it was one of several.
pub(super) const ENDED_MAKING: &str = "endedMaking";
/// No folder has this name: where the fact holds it, folders are made one by one.
const ONE_BY_ONE: &str = "\u{1}one by one";
/// How often the list of folders is asked for to see what became of those that were made.
const LOOKS_MAX: usize = 4;

/// The folders that there are now.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// Those that can be filled.
    pub(super) there: BTreeSet<FolderPath>,
    /// Those of them that were not there before.
    pub(super) anew: BTreeSet<FolderPath>,
}

/// Makes the folders of the plans, except those that are left out or that a user removed. Where a folder gets another name,
/// its plan says so. A refusal concerns one folder, whose own pass names it. `ended` is what is known of sessions that ended at
/// it ([`ENDED_MAKING`]); what is known now comes back.
///
/// # Errors
/// A failure of the session.
pub(super) async fn make_folders(
    plans: &mut [FolderPlan],
    names: &NameRules,
    listed: &[Folder],
    destination: &mut dyn Destination,
    ended: &str,
) -> (Result<Made>, String) {
    let planned = plans.iter().map(|plan| (fold(&plan.destination), plan.wanted.clone())).collect();
    let listed = listed.iter().map(|folder| (folder.path.clone(), folder.selectable)).collect();
    let (made, trying) = (Made::default(), None);
    let is_flat = false;
    let mut making = Making { plans, names, destination, listed, planned, made, trying, is_flat, ended };
    let ran = making.run().await;
    // At a folder that was listed nothing was made, so it is another command at which the session ended.
    let trying = making.trying.map(|at| (at, making.was_there(at)));
    let Making { plans, made, .. } = making;
    let now = match &ran {
        Ok(()) => {
            let is_open = |line: &&str| {
                let is_it = |plan: &&FolderPlan| plan.source.path.to_string() == **line;
                plans.iter().find(is_it).is_some_and(|plan| !made.there.contains(&plan.destination))
            };
            ended.lines().filter(is_open).collect::<Vec<_>>().join("\n")
        }
        Err(failure) if failure.spoils() == Spoils::Session && trying.is_none_or(|(_, listed)| !listed) => {
            let at = trying.map_or(ONE_BY_ONE.to_owned(), |(at, _)| plans[at].source.path.to_string());
            format!("{ended}\n{at}").trim_start_matches('\n').to_owned()
        }
        Err(_) => ended.to_owned(),
    };
    (ran.map(|()| made), now)
}

/// Keeps what is known of sessions that ended while folders were made. A folder at whose making one ended is made by its own
/// pass, which comes last.
///
/// # Errors
/// Those of the ledger.
pub(super) async fn note_ended(ledger: &dyn Ledger, before: &str, now: &str) -> Result<()> {
    let Some(at) = now.lines().last().filter(|_| now.len() > before.len() && now.starts_with(before)) else {
        return if now == before { Ok(()) } else { ledger.save_fact(ENDED_MAKING, now).await };
    };
    if at != ONE_BY_ONE {
        let ended_at = ledger.fact(ENDED_AT).await?.unwrap_or_default();
        ledger.save_fact(ENDED_AT, format!("{ended_at}\n{at}").trim_start_matches('\n')).await?;
    }
    ledger.save_fact(ENDED_MAKING, now).await
}

/// A folder whose name was refused.
struct Refused {
    at: usize,
    said: Option<FailureCode>,
}

struct Making<'a> {
    plans: &'a mut [FolderPlan],
    names: &'a NameRules,
    destination: &'a mut dyn Destination,
    /// The folders that the destination listed, each with whether it can hold mail.
    listed: BTreeMap<FolderPath, bool>,
    /// Where plans go, by what is left of their paths when neither case nor Unicode form counts, each with what was wanted.
    planned: BTreeMap<FolderPath, FolderPath>,
    made: Made,
    /// The plan whose folder is being made, where it is one alone.
    trying: Option<usize>,
    /// Whether the server was seen to make no folder below one that holds mail, and to give another reason, or none.
    is_flat: bool,
    /// The sessions that ended while folders were made.
    ended: &'a str,
}

impl Making<'_> {
    async fn run(&mut self) -> Result<()> {
        let has_ended =
            |plan: &FolderPlan| self.ended.lines().any(|line| line == plan.source.path.to_string());
        let is_wanted = |at: &usize| {
            let plan = &self.plans[*at];
            let is_made = self.was_there(*at) || !has_ended(plan);
            plan.excluded.is_none() && !plan.is_gone_at_destination() && is_made
        };
        let mut wanted: Vec<usize> = (0..self.plans.len()).filter(is_wanted).collect();
        // A folder before what is below it.
        wanted.sort_by_key(|at| self.plans[*at].destination.names().len());
        let folders: Vec<(FolderPath, bool)> = wanted
            .iter()
            .map(|at| (self.plans[*at].destination.clone(), self.plans[*at].source.subscribed))
            .collect();
        let (mut refused, mut fresh) = (Vec::new(), Vec::new());
        let made = self.make_all(&wanted, &folders).await?;
        for (at, ended) in wanted.into_iter().zip(made) {
            match ended {
                Ok(()) if self.was_there(at) => self.note(at),
                Ok(()) => fresh.push(at),
                Err(failure) if failure.is(FailureCode::FolderExists) => fresh.push(at),
                Err(failure) if is_about_the_name(&failure) => {
                    refused.push(Refused { at, said: failure.code });
                }
                // It is this folder's own, which its pass tells; the others are made.
                Err(_) => {}
            }
        }
        if !refused.is_empty() {
            // A server may refuse a folder and make it all the same.
            let now = self.destination.list_folders().await?;
            let there: BTreeSet<FolderPath> =
                now.into_iter().filter(|folder| folder.selectable).map(|folder| folder.path).collect();
            let is_there = |refused: &Refused| there.contains(&self.plans[refused.at].destination);
            let (made, rest): (Vec<_>, Vec<_>) = refused.into_iter().partition(is_there);
            fresh.extend(made.into_iter().map(|made| made.at));
            refused = rest;
            for refused in &mut refused {
                let path = self.plans[refused.at].destination.clone();
                refused.said = self.read_reason(&path, refused.said);
            }
        }
        let mut moved: Vec<(FolderPath, FolderPath)> = Vec::new();
        for _ in 0..LOOKS_MAX {
            refused.sort_by_key(|refused| self.plans[refused.at].destination.names().len());
            for refused in std::mem::take(&mut refused) {
                if self.call_differently(&refused, &mut moved).await? {
                    fresh.push(refused.at);
                }
            }
            if fresh.is_empty() {
                break;
            }
            (fresh, refused) = self.look_at(fresh).await?;
        }
        Ok(())
    }

    /// Makes folders in one flight, or one by one where a session ended at one of several.
    async fn make_all(
        &mut self,
        wanted: &[usize],
        folders: &[(FolderPath, bool)],
    ) -> Result<Vec<Result<()>>> {
        if !self.ended.lines().any(|line| line == ONE_BY_ONE) {
            return self.destination.ensure_folders(folders).await;
        }
        let mut made = Vec::with_capacity(folders.len());
        for (at, folder) in wanted.iter().zip(folders) {
            self.trying = Some(*at);
            made.extend(self.destination.ensure_folders(std::slice::from_ref(folder)).await?);
        }
        self.trying = None;
        Ok(made)
    }

    fn was_there(&self, at: usize) -> bool {
        let path = &self.plans[at].destination;
        path.is_inbox() || self.listed.get(path) == Some(&true)
    }

    fn note(&mut self, at: usize) {
        let path = self.plans[at].destination.clone();
        if !self.was_there(at) {
            self.made.anew.insert(path.clone());
        }
        self.made.there.insert(path);
    }

    /// Sees what the server lists for the folders that were made: it may have taken a name for another one, or have written
    /// it differently. Returns those that got another name and are to be looked at again, and those that need one.
    async fn look_at(&mut self, fresh: Vec<usize>) -> Result<(Vec<usize>, Vec<Refused>)> {
        let now = self.destination.list_folders().await?;
        let exact: BTreeMap<&FolderPath, bool> = now.iter().map(|f| (&f.path, f.selectable)).collect();
        let alike: BTreeMap<FolderPath, &FolderPath> =
            now.iter().filter(|folder| folder.selectable).map(|f| (fold(&f.path), &f.path)).collect();
        let (mut again, mut refused) = (Vec::new(), Vec::new());
        for at in fresh {
            let path = self.plans[at].destination.clone();
            match (exact.get(&path), alike.get(&fold(&path)).copied()) {
                // The name is taken by what cannot hold mail.
                (Some(false), _) => refused.push(Refused { at, said: Some(FailureCode::NameReserved) }),
                (Some(true), _) => self.settle(at).await?,
                (None, None) => match self.written_differently(&path, &now) {
                    Some(name) if self.is_free(&name, at) => {
                        self.rename(at, &name);
                        self.settle(at).await?;
                    }
                    // Two names become one there.
                    Some(_) => refused.push(Refused { at, said: Some(FailureCode::NameRefused) }),
                    // Where it is not listed at all, opening it will tell.
                    None => self.note(at),
                },
                (None, Some(twin)) if !self.is_anothers(twin, at) => {
                    self.rename(at, twin);
                    self.settle(at).await?;
                }
                (None, Some(_)) => {
                    let number = |n| self.names.spell(&path, n);
                    let Some(other) = (2..=NUMBERS_MAX).map(number).find(|name| self.is_free(name, at))
                    else {
                        continue;
                    };
                    // After a kill it is there already.
                    let other = alike.get(&fold(&other)).map_or(other, |there| (*there).clone());
                    match self.try_name(at, &other).await? {
                        Ok(()) => {
                            self.rename(at, &other);
                            again.push(at);
                        }
                        Err(said) => refused.push(Refused { at, said }),
                    }
                }
            }
        }
        Ok((again, refused))
    }

    /// The name that a server gave to a folder in place of the one that it was asked for: trimmed, cut, or without some signs.
    /// It was not listed before, and is nothing that lies above a folder that was made.
    fn written_differently(&self, path: &FolderPath, now: &[Folder]) -> Option<FolderPath> {
        let letters = |path: &FolderPath| -> String {
            path.names().iter().flat_map(|name| name.chars()).filter(|c| c.is_alphanumeric()).collect()
        };
        let wanted = letters(&fold(path));
        let is_above =
            |name: &FolderPath| self.plans.iter().any(|plan| rebase(&plan.destination, name, name).is_some());
        let appeared =
            now.iter().filter(|folder| folder.selectable && !self.listed.contains_key(&folder.path));
        let alike =
            appeared.map(|folder| (letters(&fold(&folder.path)), &folder.path)).filter(|(left, name)| {
                // Folders that were called differently are planned by these names.
                let taken = self.planned.contains_key(&fold(name));
                let fits = !left.is_empty() && wanted.starts_with(left.as_str());
                fits && rebase(path, name, name).is_none() && (taken || !is_above(name))
            });
        alike.max_by_key(|(left, _)| left.len()).map(|(_, name)| name.clone())
    }

    /// Notes a folder that is listed, and subscribes to one that was there already when it was to be made: another session
    /// may have been quicker, or this one before it was killed.
    async fn settle(&mut self, at: usize) -> Result<()> {
        self.note(at);
        if !self.plans[at].source.subscribed {
            return Ok(());
        }
        match self.destination.ensure_folder(&self.plans[at].destination, true).await {
            Err(failure) if !failure.leaves_the_session() => Err(failure),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Whether another folder is planned to this very name.
    fn is_anothers(&self, name: &FolderPath, at: usize) -> bool {
        let wanted = &self.plans[at].wanted;
        self.plans.iter().any(|plan| plan.destination == *name && plan.wanted != *wanted)
    }

    /// Tries names for a folder whose own was refused, until the server takes one; says whether it did.
    async fn call_differently(
        &mut self,
        refused: &Refused,
        moved: &mut Vec<(FolderPath, FolderPath)>,
    ) -> Result<bool> {
        let at = refused.at;
        let path = self.plans[at].destination.clone();
        let mut tried: BTreeSet<FolderPath> = BTreeSet::from([path.clone()]);
        let mut open: VecDeque<FolderPath> = VecDeque::new();
        // A folder below one that is called differently goes with it.
        let below = moved.iter().rev().find_map(|(from, to)| rebase(&path, from, to));
        open.extend(below.clone());
        open.extend(self.ladder(below.as_ref().unwrap_or(&path), refused.said, at));
        let mut said = refused.said;
        while let Some(name) = open.pop_front() {
            if tried.len() > TRIES_MAX {
                break;
            }
            if !tried.insert(name.clone()) || !self.is_free(&name, at) {
                continue;
            }
            let tried_now = self.try_name(at, &name).await?;
            match tried_now.map_err(|now| self.read_reason(&name, now)) {
                Ok(()) => {
                    moved.push(turning_point(&path, &name));
                    self.rename(at, &name);
                    return Ok(true);
                }
                // Another reason: what it asks for comes first.
                Err(now) if now.is_some() && now != said => {
                    for better in self.ladder(&name, now, at).into_iter().rev() {
                        open.push_front(better);
                    }
                    said = now;
                }
                Err(_) => {}
            }
        }
        Ok(false)
    }

    /// The reason against a folder where the server's own says nothing: the folder above it cannot hold folders, as the
    /// list of folders shows.
    fn read_reason(&mut self, path: &FolderPath, said: Option<FailureCode>) -> Option<FailureCode> {
        if !matches!(said, None | Some(FailureCode::NameRefused)) {
            return said;
        }
        let names = path.names();
        let above = (1..names.len()).map(|levels| FolderPath::new(names[..levels].iter().cloned()));
        for above in above {
            self.is_flat |= self.destination.is_childless(&above);
            // One that was made just now was not listed yet.
            let holds_mail =
                || self.plans.iter().any(|plan| plan.excluded.is_none() && plan.destination == above);
            if self.destination.is_childless(&above) || self.is_flat && holds_mail() {
                return Some(FailureCode::NoInferiors);
            }
        }
        said
    }

    /// The names that stricter rules give, as far as they are free.
    fn ladder(&self, path: &FolderPath, said: Option<FailureCode>, at: usize) -> Vec<FolderPath> {
        let spell = |rules: NameRules| {
            (1..=NUMBERS_MAX)
                .map(|n| rules.spell(path, n))
                .find(|name| name != path && self.is_free(name, at))
        };
        self.names.stricter(path, said).into_iter().filter_map(spell).collect()
    }

    /// Whether no other folder is planned to this name, or to one below it.
    fn is_free(&self, name: &FolderPath, at: usize) -> bool {
        let (key, wanted) = (fold(name), &self.plans[at].wanted);
        let at_or_below =
            self.planned.range(&key..).take_while(|(path, _)| rebase(path, &key, &key).is_some());
        at_or_below.into_iter().all(|(_, other)| other == wanted)
    }

    /// Makes a folder; the inner error is what the server says against the name.
    async fn try_name(&mut self, at: usize, name: &FolderPath) -> Result<Result<(), Option<FailureCode>>> {
        self.trying = Some(at);
        let made = match self.destination.ensure_folder(name, self.plans[at].source.subscribed).await {
            Ok(()) => Ok(()),
            // After a kill it is there already, perhaps written differently: the list will tell.
            Err(failure) if failure.is(FailureCode::FolderExists) => Ok(()),
            Err(failure) if failure.leaves_the_session() => Err(failure.code),
            Err(failure) => return Err(failure),
        };
        self.trying = None;
        Ok(made)
    }

    /// All that was planned together goes there.
    fn rename(&mut self, at: usize, name: &FolderPath) {
        let wanted = self.plans[at].wanted.clone();
        self.planned.insert(fold(name), wanted.clone());
        for plan in self.plans.iter_mut().filter(|plan| plan.wanted == wanted) {
            plan.renamed = Some(renamed_to(name));
            plan.destination = name.clone();
        }
    }
}

/// Whether another name may help: neither a right that is missing nor room nor the session is what the server spoke of.
fn is_about_the_name(failure: &Failure) -> bool {
    failure.leaves_the_session()
        && failure.class != Class::Quota
        && !failure.is(FailureCode::NoPermission)
        && !failure.is(FailureCode::NotConnected)
}

/// The folders, old and new, that what is below goes with: the last names alike are left away.
fn turning_point(path: &FolderPath, name: &FolderPath) -> (FolderPath, FolderPath) {
    let (from, to) = (path.names(), name.names());
    let same = from.iter().rev().zip(to.iter().rev()).take_while(|(a, b)| a == b).count();
    let same = same.min(from.len().min(to.len()).saturating_sub(1));
    let up = |names: &[String]| FolderPath::new(names[..names.len() - same].iter().cloned());
    (up(from), up(to))
}

#[cfg(test)]
mod tests;
