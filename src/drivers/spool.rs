//! One message held until its exact size is known: in memory while it is small, then in a file without a name.

use bytes::BytesMut;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::drivers::{BodyEvent, BodySender};
use crate::model::failure::{Class, Failure, FailureCode, Result};
use crate::model::text::printable;

/// Bytes of a message that are kept in memory.
const MEMORY_MAX: usize = 1024 * 1024;
/// The largest chunk of a body event, in bytes.
const CHUNK_MAX: usize = 64 * 1024;

/// A message as it comes in.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    memory: BytesMut,
    /// Holds everything once there is too much for the memory.
    file: Option<File>,
    size: u64,
}

impl Spool {
    /// Bytes so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The bytes that came so far, as long as they are few.
    pub(crate) fn head(&self) -> &[u8] {
        if self.file.is_some() { &[] } else { &self.memory }
    }

    pub(crate) async fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.size += bytes.len() as u64;
        self.memory.extend_from_slice(bytes);
        if self.memory.len() > MEMORY_MAX || (self.file.is_some() && self.memory.len() >= CHUNK_MAX) {
            self.spill().await?;
        }
        Ok(())
    }

    async fn spill(&mut self) -> Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(File::from_std(tempfile::tempfile().map_err(|e| unusable(&e))?)),
        };
        file.write_all(&self.memory).await.map_err(|e| unusable(&e))?;
        self.memory.clear();
        Ok(())
    }

    /// Sends the message on as events.
    pub(crate) async fn deliver(mut self, key: u64, bodies: &BodySender) -> Result<()> {
        send(bodies, BodyEvent::Begin { key, size: self.size }).await?;
        if self.file.is_some() {
            self.spill().await?;
        }
        if let Some(mut file) = self.file {
            file.rewind().await.map_err(|e| unusable(&e))?;
            let mut left = self.size;
            while left > 0 {
                let mut chunk = BytesMut::with_capacity(CHUNK_MAX);
                let read = file.read_buf(&mut chunk).await.map_err(|e| unusable(&e))?;
                if read == 0 || read as u64 > left {
                    return Err(Failure::internal("a spooled message came back with another size"));
                }
                left -= read as u64;
                send(bodies, BodyEvent::Chunk(chunk.freeze())).await?;
            }
        } else {
            let mut rest = self.memory.freeze();
            while !rest.is_empty() {
                let chunk = rest.split_to(rest.len().min(CHUNK_MAX));
                send(bodies, BodyEvent::Chunk(chunk)).await?;
            }
        }
        send(bodies, BodyEvent::End { date: None }).await
    }
}

/// Sends one event on.
pub(crate) async fn send(bodies: &BodySender, event: BodyEvent) -> Result<()> {
    let gone =
        |_| Failure::new(Class::Interrupted, "stopped reading, because nobody takes the messages any more");
    bodies.send(event).await.map_err(gone)
}

/// No message's fault, and nothing that another session could do better: the mailbox waits until it is mended.
fn unusable(error: &std::io::Error) -> Failure {
    let directory = std::env::temp_dir();
    let what =
        format!("a message cannot be kept in the temporary directory {}: {error}", directory.display());
    Failure::configuration(printable(&what))
        .code(FailureCode::NoSpool)
        .hint("make room there, or point TMPDIR to a directory that may be written")
        .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_and_large_messages_come_out_as_they_went_in() {
        for size in [0_usize, 1, CHUNK_MAX, MEMORY_MAX, MEMORY_MAX + 1, 3 * MEMORY_MAX + 7] {
            let bytes: Vec<u8> = (0..=250).cycle().take(size).collect();
            let mut spool = Spool::default();
            for piece in bytes.chunks(10_007) {
                spool.push(piece).await.unwrap();
            }
            assert_eq!(spool.file.is_some(), size > MEMORY_MAX, "{size} bytes");
            let (sender, mut events) = tokio::sync::mpsc::channel(4);
            let delivery = tokio::spawn(async move { spool.deliver(7, &sender).await });
            let mut seen = Vec::new();
            let mut ended = false;
            while let Some(event) = events.recv().await {
                match event {
                    BodyEvent::Begin { key, size: told } => assert_eq!((key, told), (7, size as u64)),
                    BodyEvent::Chunk(chunk) => {
                        assert!(!chunk.is_empty() && chunk.len() <= CHUNK_MAX);
                        seen.extend_from_slice(&chunk);
                    }
                    BodyEvent::End { date } => ended = date.is_none(),
                    other => panic!("{other:?}"),
                }
            }
            delivery.await.unwrap().unwrap();
            assert!(ended && seen == bytes, "{size} bytes");
        }
    }
}
