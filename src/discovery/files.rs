//! Domains whose mailboxes are in files: the manifest says where, nobody is asked by name, and the evidence is what the files
//! hold, down to what is damaged in them.

use crate::auth::credentials::Login;
use crate::drivers::measure::Measuring;
use crate::drivers::registry::{Way, driver};
use crate::model::clock::Clock;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{
    Attempt, Candidate, DomainDiscovery, Evidence, Grade, MailboxDiscovery, MailboxSize, Outcome, Signal,
};
use crate::model::failure::{Failure, Result};
use crate::model::fidelity::{self, score};
use crate::model::finding::{Code, Finding};
use crate::model::secret::Secret;
use crate::model::text::{bytes, counted};
use crate::net::network::Network;

use super::{MailboxRequest, Request, Step, Watcher};

/// Damaged files that one finding names.
const NAMED: usize = 5;

/// Finds out about one domain whose mailboxes are in files. `named` is the place as the manifest names it, and `places` are
/// the directories of the mailboxes, in the order of the request.
pub async fn look_into_files(
    network: &Network,
    request: &Request,
    named: &Endpoint,
    places: &[Endpoint],
    clock: &dyn Clock,
    watcher: &dyn Watcher,
) -> DomainDiscovery {
    let started = clock.now();
    let total = request.mailboxes.len();
    watcher.saw(&Step::Logins { done: 0, total });
    let mut discovery = DomainDiscovery::empty(request.domain.clone(), started, started);
    for (done, (mailbox, place)) in request.mailboxes.iter().zip(places).enumerate() {
        let measured = measure(network, request, mailbox, place).await;
        watcher.saw(&Step::Logins { done: done + 1, total });
        let (outcome, statement) = match &measured {
            Ok((size, _)) => (
                Outcome::Offered,
                format!(
                    "{place}: {} with {} ({})",
                    counted(size.folders.into(), "folder", "folders"),
                    counted(size.messages, "message", "messages"),
                    bytes(size.bytes)
                ),
            ),
            Err(failure) => (Outcome::Failed(failure.clone()), format!("{place}: {}", failure.what)),
        };
        discovery.evidence.push(Evidence {
            signal: Signal::Files,
            grade: Grade::A,
            at: clock.now(),
            endpoint: Some(named.clone()),
            trusted: true,
            outcome,
            statement,
            excerpt: None,
        });
        if let Ok((size, damage)) = &measured {
            discovery.findings.extend(find_damage(mailbox, size, damage));
        }
        let failure = measured.as_ref().err().cloned();
        discovery.mailboxes.push(MailboxDiscovery {
            address: mailbox.address.clone(),
            endpoint: measured.is_ok().then(|| named.clone()),
            overridden: false,
            attempts: vec![Attempt { endpoint: named.clone(), failure: failure.clone(), by_token: false }],
            logins: None,
            login_name: None,
            size: measured.ok().map(|(size, _)| size),
            failure: failure.map(|failure| failure.at(mailbox.address.to_string())),
        });
    }
    let read = discovery.mailboxes.iter().filter(|mailbox| mailbox.endpoint.is_some()).count();
    discovery.finished = clock.now();
    discovery.candidates.push(Candidate {
        endpoint: named.clone(),
        grade: Grade::A,
        fidelity: score(named.protocol),
        approved: true,
        mailboxes: u32::try_from(read).unwrap_or(u32::MAX),
        why: "the manifest names these files".to_owned(),
    });
    if read > 0 {
        let read_by = [(named.protocol, read as u64)];
        discovery.fidelity = Some(fidelity::of_domain(&read_by, &[], request.weights));
    } else {
        discovery.failure = discovery.mailboxes.iter().find_map(|mailbox| mailbox.failure.clone());
    }
    discovery.rules = request.rules.names();
    discovery
}

/// Counts what the files of a mailbox hold, and tells what is damaged in them.
async fn measure(
    network: &Network,
    request: &Request,
    mailbox: &MailboxRequest,
    place: &Endpoint,
) -> Result<(MailboxSize, Vec<Failure>)> {
    let way = Way { network, endpoint: place, trust: &request.trust };
    let nobody = Login::own(mailbox.address.to_string(), Secret::new(String::new()));
    let mut session = driver(place.protocol).greet(way).await?.login(&nobody).await?;
    let mut measuring = Measuring::default();
    let measured = session.measure(&request.scope, &request.rules, &mut measuring).await;
    session.close().await;
    measured?;
    let damage = measuring.take_damage();
    Ok((measuring.into_size(), damage))
}

fn find_damage(mailbox: &MailboxRequest, size: &MailboxSize, damage: &[Failure]) -> Vec<Finding> {
    let mut found = Vec::new();
    if size.unread_folders > 0 {
        let shown: Vec<String> = size.unread.iter().take(NAMED).map(Failure::sentence).collect();
        let text = format!(
            "{} cannot be read: {}.",
            counted(size.unread_folders.into(), "folder", "folders"),
            shown.join("; ")
        );
        found.push(Finding::about(Code::FoldersUnreadable, &mailbox.address, text));
    }
    if !damage.is_empty() {
        let shown: Vec<String> = damage.iter().take(NAMED).map(Failure::sentence).collect();
        let more = match damage.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let text = format!("Not all of the files is mail that is carried: {}{more}.", shown.join("; "));
        found.push(Finding::about(Code::FilesPassedOver, &mailbox.address, text));
    }
    found
}
