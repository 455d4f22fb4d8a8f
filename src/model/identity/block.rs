//! Hashing in large bites, in which BLAKE3 is several times faster than in small ones.

use super::Digest;

/// So many bytes are hashed at once, at least.
const BLOCK: usize = 16 * 1024;

/// Room for so many bytes is made at first: the header of an ordinary message.
const FIRST: usize = 2 * 1024;

/// Hashes bytes that come in pieces of any size. One that never saw more than a block needs no hasher, which is large.
#[derive(Clone, Default)]
pub(super) struct BlockHasher {
    block: Vec<u8>,
    hasher: Option<Box<blake3::Hasher>>,
}

impl BlockHasher {
    /// A hasher that begins with some bytes.
    pub(super) fn beginning_with(bytes: &[u8]) -> Self {
        Self { block: bytes.to_vec(), hasher: None }
    }

    /// Takes more bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        if self.block.is_empty() && bytes.len() >= BLOCK {
            self.hasher.get_or_insert_default().update(bytes);
            return;
        }
        if self.block.capacity() == 0 {
            // It is filled in small pieces; to grow at each would cost more than they do.
            self.block.reserve(bytes.len().max(FIRST));
        }
        self.block.extend_from_slice(bytes);
        if self.block.len() >= BLOCK {
            self.hasher.get_or_insert_default().update(&self.block);
            self.block.clear();
        }
    }

    /// The digest of all that it took.
    pub(super) fn finish(&self) -> Digest {
        let hash = match &self.hasher {
            Some(hasher) => hasher.as_ref().clone().update(&self.block).finalize(),
            None => blake3::hash(&self.block),
        };
        Digest(*hash.as_bytes())
    }
}
