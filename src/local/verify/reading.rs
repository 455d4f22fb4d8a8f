//! Reads messages of either side and tells what their bytes are.

use std::collections::HashMap;

use tokio::sync::mpsc;

use crate::drivers::{BODY_QUEUE, BodyEvent, BodyReceiver, Destination, Source, Wanted};
use crate::model::difference::Value;
use crate::model::failure::Result;
use crate::model::identity::{Digest, Identity, IdentityHasher};
use crate::model::message::ItemId;
use crate::transfer::progress::MailboxProgress;

/// Messages read with one request.
const AT_ONCE: usize = 200;

/// The nature of the bytes of a message.
#[derive(Debug, Clone)]
pub(super) struct Content {
    /// The BLAKE3 digest of the bytes as they came.
    pub(super) digest: [u8; 32],
    /// The digest of the bytes with the ends of lines as mail has them.
    pub(super) exact: Digest,
    /// How many they were.
    pub(super) size: u64,
    /// The digest without what transport changes.
    pub(super) canonical: Digest,
    /// As `canonical`, of what destinations make of it that replace letters beyond ASCII.
    pub(super) rewritten: Vec<Digest>,
    /// The subject, printable.
    pub(super) subject: Option<String>,
    /// The Message-ID, printable.
    pub(super) message_id: Option<String>,
}

impl Content {
    /// Its bytes, to report a difference.
    pub(super) fn bytes(&self) -> Value {
        Value::Bytes { size: self.size, exact: Some(self.exact) }
    }
}

/// Reads messages of the folder that is open at the source. Those that are gone are left out.
pub(super) async fn read_source(
    source: &mut dyn Source,
    wanted: &[Wanted],
    progress: &MailboxProgress,
) -> Result<HashMap<u64, Content>> {
    let mut all = HashMap::new();
    for part in wanted.chunks(AT_ONCE) {
        let (sender, bodies) = mpsc::channel(BODY_QUEUE);
        let (fetched, contents) = tokio::join!(source.fetch(part, sender), take_in(bodies, progress));
        fetched?;
        all.extend(contents);
    }
    Ok(all)
}

/// Reads messages of the folder that is open at the destination; each comes with its place among `ids`. Those that are gone
/// are left out.
pub(super) async fn read_destination(
    destination: &mut dyn Destination,
    ids: &[ItemId],
    progress: &MailboxProgress,
) -> Result<Vec<(usize, Content)>> {
    let mut all = Vec::with_capacity(ids.len());
    for (nth, part) in ids.chunks(AT_ONCE).enumerate() {
        let (sender, bodies) = mpsc::channel(BODY_QUEUE);
        let (fetched, contents) = tokio::join!(destination.fetch(part, sender), take_in(bodies, progress));
        fetched?;
        let place =
            |key| usize::try_from(key).ok().filter(|at| *at < part.len()).map(|at| nth * AT_ONCE + at);
        all.extend(contents.into_iter().filter_map(|(key, content)| Some((place(key)?, content))));
    }
    Ok(all)
}

async fn take_in(mut bodies: BodyReceiver, progress: &MailboxProgress) -> HashMap<u64, Content> {
    let mut contents = HashMap::new();
    let mut current = None;
    while let Some(event) = bodies.recv().await {
        match event {
            BodyEvent::Begin { key, .. } => {
                current = Some((key, blake3::Hasher::new(), IdentityHasher::new()));
            }
            BodyEvent::Chunk(chunk) => {
                progress.pass_bytes(chunk.len() as u64);
                if let Some((_, hasher, identity)) = &mut current {
                    hasher.update(&chunk);
                    identity.update(&chunk);
                }
            }
            BodyEvent::End { .. } => {
                if let Some((key, hasher, identity)) = current.take() {
                    let (digest, identity) = (*hasher.finalize().as_bytes(), identity.finish());
                    let Identity { exact, size, canonical, rewritten, subject, message_id, .. } = identity;
                    let content = Content { digest, exact, size, canonical, rewritten, subject, message_id };
                    contents.insert(key, content);
                }
            }
            BodyEvent::Missing { .. } | BodyEvent::Held { .. } | BodyEvent::Again { .. } => {}
        }
    }
    contents
}
