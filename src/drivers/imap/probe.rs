//! Questions that discovery and planning ask of an IMAP mailbox: how large it is, and how much room it has. Nothing is opened
//! for writing and no body is read.

use std::sync::Arc;

use super::account::ask_account;
use super::folders::{
    Access, count_messages, list_messages, open_and_list_folders, open_folder, status_folder,
};
use super::labels::{EXTENSION, Homes, Sieve};
use super::numbers::Numbers;
use super::session::{Session, split_numbered};
use super::survey::survey_mailbox;
use crate::drivers::Folder;
use crate::drivers::measure::{FolderNames, FolderRules, Measuring, Room};
use crate::model::failure::{Failure, FailureCode, Place, Result, Spoils};
use crate::model::label::LabelRule;
use crate::model::message::InternalDate;
use crate::model::scope::{Counting, Scope};

/// Folders that are asked for in one flight.
const FOLDERS_AT_ONCE: usize = 20;

/// Asks a mailbox that mail is to be written to after its Inbox, its quota, its limits and its names of folders, and leaves.
/// Nothing is opened but an Inbox that STATUS does not find: some servers (GNU Mailutils) make it when somebody looks into it.
///
/// # Errors
/// Those of the session: some servers let a user in and open no mailbox.
pub(super) async fn ask_room(mut session: Session) -> Result<Room> {
    let endpoint = session.facts().endpoint.clone();
    let asked = async {
        if let Err(refused) = status_folder(&mut session, "INBOX").await {
            let may_be_made = refused.spoils() == Spoils::Folder && !refused.is(FailureCode::NoPermission);
            if !may_be_made || open_folder(&mut session, b"INBOX", Access::Read).await.is_err() {
                return Err(refused);
            }
        }
        let account = ask_account(&mut session).await?;
        let append_limit =
            session.facts().capabilities.values("APPENDLIMIT").find_map(|limit| limit.parse().ok());
        let names = survey_mailbox(&mut session, Numbers::at_destination)
            .await
            .ok()
            .map(|(spelling, _)| FolderNames { delimiter: spelling.delimiter, prefix: spelling.prefix });
        let mut said = account.session.id.iter().chain([&session.facts().greeting]);
        let replaces_letters = said.find_map(|said| replacer_in(said));
        Ok(Room { quota: account.quota, append_limit, replaces_letters, names })
    };
    let asked = asked.await;
    session.close().await;
    asked.at(|| endpoint.address())
}

/// Makes that replace letters beyond ASCII in headers, by the names that they give themselves.
const REPLACERS: [&str; 2] = ["Cyrus", "GreenMail"];

/// The one of them that calls itself so.
fn replacer_in(said: &str) -> Option<&'static str> {
    REPLACERS.into_iter().find(|make| said.contains(make))
}

/// Counts folders, messages and bytes of a logged-in mailbox, without what the scope leaves out; a message with several
/// labels counts once. A folder that cannot be opened or listed is named in the result and stops no other.
///
/// # Errors
/// Those of the session. Another session goes on with the same `measuring`, and leaves the folder at which this one ended alone
/// if it was alone.
pub(super) async fn measure_mailbox(
    session: &mut Session,
    scope: &Scope,
    rules: &FolderRules,
    measuring: &mut Measuring,
) -> Result<()> {
    let (spelling, survey) = survey_mailbox(session, Numbers::at_source).await?;
    let labelled = session.offers(EXTENSION);
    let begun = !measuring.done.is_empty();
    let homes = Arc::new(Homes::new(&LabelRule::default(), &spelling, &survey.folders));
    if !begun {
        for line in survey.unreadable {
            let failure =
                Failure::protocol(format!("sent a line of its list of folders that cannot be read: {line}"));
            measuring.size.note_unread(failure);
        }
    }
    for folder in survey.folders.iter().filter(|folder| folder.selectable) {
        rules.note(&scope.exclude, &folder.path, &mut measuring.size);
    }
    let open = survey.folders.iter().filter(|folder| folder.selectable);
    let open = open.filter(|folder| !measuring.done.contains(&folder.wire_name));
    let (left_out, folders): (Vec<&Folder>, Vec<&Folder>) =
        open.partition(|folder| scope.exclude.is_match(folder.path.to_string()));
    for folder in left_out {
        measuring.done.insert(folder.wire_name.clone());
        // It is not looked into; where labels are folders, what is in it may be elsewhere too.
        let told = survey.states.get(&folder.path).and_then(|state| state.items).filter(|_| !labelled);
        measuring.size.left_out.messages += told.unwrap_or(0);
        measuring.size.left_out_folders += 1;
    }
    // A refusal that sounds like trouble of the server or the login, and the folders that were refused so.
    let mut troubled: Vec<(&Folder, Failure)> = Vec::new();
    let mut any_opened = begun;
    for several in folders.chunks(if measuring.one_by_one { 1 } else { FOLDERS_AT_ONCE }) {
        let names: Vec<&[u8]> = several.iter().map(|folder| folder.wire_name.as_slice()).collect();
        let sieve = |folder: &&Folder| labelled.then(|| homes.sieve(&folder.path));
        let mut sieves: Vec<Option<Sieve>> = several.iter().map(sieve).collect();
        let mut sizes: Vec<Counting<'_>> = several.iter().map(|_| Counting::new(scope)).collect();
        let opened = open_and_list_folders(session, &names, |at, row| {
            let picked = match &mut sieves[at] {
                Some(sieve) => sieve.pick(row)?,
                None => Some(row),
            };
            let Some(row) = picked else { return Ok(()) };
            sizes[at].add(row.size, row.date.map(InternalDate::timestamp));
            Ok(())
        });
        let opened = match opened.await {
            Ok(opened) => opened,
            Err(failure) => {
                if let ([folder], true) = (several, measuring.one_by_one) {
                    measuring.take(folder, Err(failure.clone()));
                }
                measuring.one_by_one = true;
                return Err(failure);
            }
        };
        for ((opened, size), folder) in opened.into_iter().zip(sizes).zip(several) {
            match opened {
                Err(failure) if !failure.leaves_the_session() => troubled.push((folder, failure)),
                opened => {
                    any_opened |= opened.is_ok();
                    let counted = survey.states.get(&folder.path).and_then(|state| state.items);
                    let listed = size.listed();
                    let counted = counted.filter(|counted| *counted > listed && !labelled);
                    let opened = match counted {
                        Some(_) => hold_against_status(session, folder, listed, opened).await?,
                        None => opened,
                    };
                    measuring.take(folder, opened.map(|_| size.size()));
                }
            }
        }
    }
    // It is the trouble of those folders alone if others can be opened.
    for (folder, failure) in troubled {
        if !any_opened {
            return Err(failure.at(folder.path.to_string()));
        }
        measuring.take(folder, Err(failure));
    }
    Ok(())
}

/// Whether STATUS still counts more in a folder than it lists.
async fn hold_against_status(
    session: &mut Session,
    folder: &Folder,
    listed: u64,
    opened: Result<Numbers>,
) -> Result<Result<Numbers>> {
    let Ok(state) = opened else { return Ok(opened) };
    let counted = count_messages(session, &folder.wire_name).await?.unwrap_or(0);
    Ok(if u64::from(counted) > listed {
        let what = format!("lists {listed} of the {counted} messages that STATUS counts in the folder");
        Err(Failure::protocol(what))
    } else {
        Ok(state)
    })
}

/// UIDs and sizes of all messages in the Inbox, opened for reading, in ascending order of the UIDs; `None` when one of them is
/// `\Recent` there.
///
/// # Errors
/// Those of the session; [`crate::model::failure::Class::Protocol`] when the Inbox is not listed whole.
pub(super) async fn list_inbox(session: &mut Session) -> Result<Option<Vec<(u32, u64)>>> {
    let (mut state, mut recent) = (Numbers::default(), 0);
    let opened = session.run("EXAMINE INBOX", |line| {
        match split_numbered(line) {
            Some((count, word, _)) if word.eq_ignore_ascii_case(b"EXISTS") => state.messages = Some(count),
            Some((count, word, _)) if word.eq_ignore_ascii_case(b"RECENT") => recent = count,
            _ => {}
        }
        Ok(())
    });
    opened.await?;
    if recent > 0 {
        return Ok(None);
    }
    let rows = list_messages(session, &state, |row| Ok(Some(row))).await?;
    Ok(Some(rows.into_iter().map(|row| (row.uid, row.size)).collect()))
}
