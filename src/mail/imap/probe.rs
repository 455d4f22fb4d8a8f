//! What discovery asks of an IMAP server: what it says without a login, and how large a mailbox is. Nothing is opened for
//! writing and no body is read.

use super::folders::{Access, learn_spelling, list_folders, list_messages, open_folder};
use super::session::{Session, greet};
use crate::mail::network::Network;
use crate::mail::tls::Trust;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{MailboxSize, ServerFacts};
use crate::model::failure::{Place, Result};

/// Connects, reads greeting and capabilities, and leaves. Sends no credential.
///
/// # Errors
/// Those of [`greet`].
pub async fn probe(network: &Network, endpoint: &Endpoint, trust: &Trust) -> Result<ServerFacts> {
    let greeted = greet(network, endpoint, trust).await?;
    let facts = greeted.facts().clone();
    greeted.close().await;
    Ok(facts)
}

/// Counts folders, messages and bytes of a logged-in mailbox.
///
/// # Errors
/// Those of the session; the folder is named.
pub async fn measure_mailbox(session: &mut Session) -> Result<MailboxSize> {
    let spelling = learn_spelling(session).await?;
    let mut size = MailboxSize::default();
    for folder in list_folders(session, &spelling).await?.into_iter().filter(|f| f.selectable) {
        let state =
            open_folder(session, &folder.wire_name, Access::Read).await.at(|| folder.path.to_string())?;
        size.folders += 1;
        for row in list_messages(session, &state).await.at(|| folder.path.to_string())? {
            size.messages += 1;
            size.bytes += row.size;
            size.largest = size.largest.max(row.size);
            if let Some(date) = row.date.map(crate::model::message::InternalDate::timestamp) {
                size.oldest = Some(size.oldest.map_or(date, |oldest| oldest.min(date)));
                size.newest = Some(size.newest.map_or(date, |newest| newest.max(date)));
            }
        }
    }
    Ok(size)
}
