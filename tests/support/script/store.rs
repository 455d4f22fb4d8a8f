//! The content of a scripted server's mailbox. A test may look at it and change it at any time.

use super::super::imap::{decode_utf7, encode_utf7};

/// A mailbox.
#[derive(Clone, Debug)]
pub struct Store {
    /// Its folders; INBOX is one of them.
    pub folders: Vec<Folder>,
    /// The separator between the levels of their names.
    pub separator: char,
    /// The answer to NAMESPACE, behind its own name.
    pub namespace: String,
    /// The flags that a client may set, as PERMANENTFLAGS tells them.
    pub permanent_flags: String,
}

/// A folder.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Its name, as it is on the wire.
    pub name: Vec<u8>,
    /// Such as `\Sent` or `\Noselect`.
    pub attributes: Vec<String>,
    /// Whether somebody subscribed to it.
    pub subscribed: bool,
    /// UIDVALIDITY.
    pub uidvalidity: u32,
    /// UIDNEXT.
    pub uidnext: u32,
    /// HIGHESTMODSEQ.
    pub modseq: u64,
    /// In the order of their UIDs.
    pub letters: Vec<Letter>,
    /// The removed messages, each UID with the change that removed it.
    pub vanished: Vec<(u32, u64)>,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its UID.
    pub uid: u32,
    /// Its flags and keywords.
    pub flags: Vec<String>,
    /// INTERNALDATE, without quotes.
    pub date: String,
    /// All its bytes.
    pub bytes: Vec<u8>,
    /// The change that touched it last.
    pub modseq: u64,
    /// Its UIDL; by default UIDVALIDITY and UID.
    pub uidl: Option<Vec<u8>>,
}

impl Store {
    /// Only an empty INBOX.
    pub fn empty() -> Self {
        let mut store = Self {
            folders: Vec::new(),
            separator: '/',
            namespace: "((\"\" \"/\")) NIL NIL".to_owned(),
            permanent_flags: "\\Answered \\Flagged \\Deleted \\Seen \\Draft \\*".to_owned(),
        };
        store.make("INBOX");
        store
    }

    /// INBOX with three letters and `Work` with two, one of each read.
    pub fn standard() -> Self {
        let mut store = Self::empty();
        for (folder, names) in [("INBOX", &["one", "two", "three"][..]), ("Work", &["four", "five"])] {
            let folder = store.make(folder);
            for (at, name) in names.iter().enumerate() {
                folder.add(if at == 0 { &["\\Seen"] } else { &[] }, letter(name));
            }
        }
        store
    }

    /// Folders with this separator and everything else below `INBOX`.
    pub fn below_inbox(mut self, separator: char) -> Self {
        self.separator = separator;
        self.namespace = format!("((\"INBOX{separator}\" \"{separator}\")) NIL NIL");
        for folder in &mut self.folders {
            if folder.name != b"INBOX" {
                folder.name = [format!("INBOX{separator}").as_bytes(), &folder.name].concat();
            }
        }
        self
    }

    /// The folder of this Unicode name (or, where the name is not one, of this wire name), which is made unless
    /// it is there.
    pub fn make(&mut self, name: &str) -> &mut Folder {
        let wire = encode_utf7(name).into_bytes();
        let at = self.folders.iter().position(|folder| folder.name == wire).unwrap_or_else(|| {
            self.create(&wire);
            self.folders.len() - 1
        });
        &mut self.folders[at]
    }

    /// Makes a folder with a name as it is on the wire.
    pub fn create(&mut self, wire_name: &[u8]) -> &mut Folder {
        // No two folders of a server have had the same UIDVALIDITY.
        let last = self.folders.iter().map(|folder| folder.uidvalidity).max().unwrap_or(1_600_000_000);
        self.folders.push(Folder {
            name: wire_name.to_vec(),
            attributes: Vec::new(),
            subscribed: true,
            uidvalidity: last + 1,
            uidnext: 1,
            modseq: 1,
            letters: Vec::new(),
            vanished: Vec::new(),
        });
        self.folders.last_mut().expect("it was just made")
    }

    /// The folder of this Unicode name, which must be there.
    #[track_caller]
    pub fn folder(&mut self, name: &str) -> &mut Folder {
        let wire = encode_utf7(name).into_bytes();
        let names: Vec<String> = self.names();
        self.find(&wire).unwrap_or_else(|| panic!("no folder {name} but {names:?}"))
    }

    /// The folder with this name on the wire.
    pub fn find(&mut self, wire_name: &[u8]) -> Option<&mut Folder> {
        // The Inbox has no case, unless two folders are called like it.
        let is_inbox = |name: &[u8]| name.eq_ignore_ascii_case(b"INBOX");
        let exactly = self.folders.iter().position(|folder| folder.name == wire_name);
        let like = || self.folders.iter().position(|folder| is_inbox(wire_name) && is_inbox(&folder.name));
        let at = exactly.or_else(like)?;
        Some(&mut self.folders[at])
    }

    /// The Unicode names of all folders, in the order in which they were made.
    pub fn names(&self) -> Vec<String> {
        self.folders.iter().map(Folder::unicode).collect()
    }

    /// The subjects of all letters, by folder.
    pub fn subjects(&self) -> std::collections::BTreeMap<String, Vec<String>> {
        self.folders.iter().map(|folder| (folder.unicode(), folder.subjects())).collect()
    }

    /// How many letters there are.
    pub fn count(&self) -> usize {
        self.folders.iter().map(|folder| folder.letters.len()).sum()
    }
}

impl Folder {
    /// Its Unicode name.
    pub fn unicode(&self) -> String {
        decode_utf7(&String::from_utf8_lossy(&self.name))
    }

    /// Adds a letter and returns its UID. Letters of a server arrive a minute after each other.
    pub fn add(&mut self, flags: &[&str], bytes: impl AsRef<[u8]>) -> u32 {
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        let date = format!("07-Mar-2019 08:{:02}:42 +0100", self.uidnext % 60);
        self.receive(flags, date, bytes.as_ref().to_vec())
    }

    /// As [`Self::add`], with its date.
    pub fn receive(&mut self, flags: Vec<String>, date: String, bytes: Vec<u8>) -> u32 {
        let uid = self.uidnext;
        self.uidnext += 1;
        self.modseq += 1;
        self.letters.push(Letter { uid, flags, date, bytes, modseq: self.modseq, uidl: None });
        uid
    }

    /// The letter with this UID, which must be there.
    #[track_caller]
    pub fn letter(&mut self, uid: u32) -> &mut Letter {
        self.letters.iter_mut().find(|letter| letter.uid == uid).expect("a letter with this UID")
    }

    /// Gives a letter other flags.
    pub fn set_flags(&mut self, uid: u32, flags: &[&str]) {
        self.modseq += 1;
        let modseq = self.modseq;
        let letter = self.letter(uid);
        letter.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        letter.modseq = modseq;
    }

    /// Removes a letter.
    pub fn remove(&mut self, uid: u32) {
        self.modseq += 1;
        self.letters.retain(|letter| letter.uid != uid);
        self.vanished.push((uid, self.modseq));
    }

    /// The subjects of its letters; those without one are shown by their first bytes.
    pub fn subjects(&self) -> Vec<String> {
        self.letters.iter().map(Letter::subject).collect()
    }
}

impl Letter {
    /// Its subject, or else its first bytes.
    pub fn subject(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        let subject = head.lines().find_map(|line| line.strip_prefix("Subject: "));
        subject.map_or_else(|| head.chars().take(40).collect(), str::to_owned)
    }
}

/// A plain letter with this subject, of about 200 bytes.
pub fn letter(subject: &str) -> String {
    format!(
        "From: Anna <anna@a.test>\r\nTo: Bert <bert@b.test>\r\nDate: Thu, 7 Mar 2019 08:15:42 +0100\r\n\
         Message-ID: <{}@a.test>\r\nSubject: {subject}\r\n\r\nThis is {subject}.\r\n",
        subject.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
    )
}
