//! The same message as destinations make of it that keep no letters beyond ASCII in a message's own header: its canonical
//! digest with these letters replaced as each of them does it. Nothing else of it is passed over, so no other message has it
//! but one that differs in such letters alone.

use super::Digest;
use super::block::BlockHasher;

/// How a destination replaces what is not ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replacement {
    /// Each byte by an `X` (Cyrus, `munge8bit`).
    ByteByX,
    /// Each byte by a question mark.
    ByteByMark,
    /// Each letter of UTF-8, and each byte that is not part of one, by a question mark.
    LetterByMark,
    /// Bytes that are not UTF-8 by the replacement character (`GreenMail`).
    NoLetter,
}

/// So many of them are known.
const KNOWN: usize = 4;

impl Replacement {
    const ALL: [Self; KNOWN] = [Self::ByteByX, Self::ByteByMark, Self::LetterByMark, Self::NoLetter];

    fn apply(self, raw: &[u8]) -> Vec<u8> {
        match self {
            Self::ByteByX => raw.iter().map(|byte| if byte.is_ascii() { *byte } else { b'X' }).collect(),
            Self::ByteByMark => raw.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }).collect(),
            Self::NoLetter => String::from_utf8_lossy(raw).into_owned().into_bytes(),
            Self::LetterByMark => {
                let letters = String::from_utf8_lossy(raw);
                letters
                    .chars()
                    .map(|letter| u8::try_from(letter).ok().filter(u8::is_ascii).unwrap_or(b'?'))
                    .collect()
            }
        }
    }
}

/// The canonical form with each replacement, from the first field on that has a letter beyond ASCII.
#[derive(Default)]
pub(super) struct Rewritten {
    forms: Option<Box<[BlockHasher; KNOWN]>>,
    /// Whether a field was too long to be rewritten.
    is_lost: bool,
}

impl Rewritten {
    /// The forms of a field that has letters beyond ASCII; `so_far` is what was hashed before it.
    pub(super) fn begin(&mut self, so_far: &BlockHasher) {
        if self.forms.is_none() && !self.is_lost {
            self.forms = Some(Box::new(std::array::from_fn(|_| so_far.clone())));
        }
    }

    /// A field cannot be rewritten, so that the message cannot be told from others.
    pub(super) fn lose(&mut self) {
        (self.forms, self.is_lost) = (None, true);
    }

    /// Takes what the canonical form takes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        for form in self.forms.iter_mut().flat_map(|forms| forms.iter_mut()) {
            form.update(bytes);
        }
    }

    /// Hashes a field in each form, from its bytes with what is replaced in them.
    pub(super) fn field(&mut self, raw: &[u8], hash: impl Fn(&mut BlockHasher, &[u8])) {
        for (form, how) in self.forms.iter_mut().flat_map(|forms| forms.iter_mut()).zip(Replacement::ALL) {
            hash(form, &how.apply(raw));
        }
    }

    /// Hashes what has nothing to be replaced.
    pub(super) fn each(&mut self, hash: impl Fn(&mut BlockHasher)) {
        self.forms.iter_mut().flat_map(|forms| forms.iter_mut()).for_each(hash);
    }

    /// The digests; none of a message whose header is ASCII.
    pub(super) fn finish(self) -> Vec<Digest> {
        let forms = self.forms.into_iter().flat_map(|forms| *forms);
        forms.map(|form| form.finish()).collect()
    }
}
