//! Writes single messages: the ordinary ones of a working life, and the odd ones that break migrations.

use std::fmt::Write as _;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Zoned;

use super::Dice;
use super::words::{ATTACHMENTS, PEOPLE, SENTENCES, SUBJECTS};

/// The ways in which a message can be odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// No Message-ID.
    NoMessageId,
    /// The Message-ID of the message before, but another body.
    SameIdOtherBody,
    /// The message before once more in the same folder: bytes, flags, date.
    ExactDuplicate,
    /// The message before once more, in a folder of its own choice.
    SameElsewhere,
    /// Raw UTF-8 and Latin-1 in headers.
    EightBitHeaders,
    /// One header line and one word.
    Minimal,
    /// A header and no body, not even an empty line after it.
    HeaderOnly,
    /// Lines of 20,000 characters.
    LongLines,
    /// Lines of one dot, and lines that begin with dots.
    LeadingDots,
    /// No line end after the last line.
    NoFinalEol,
    /// Lines that begin with `From `, as mbox would escape them.
    FromLines,
    /// A multipart whose last boundary never comes, and an empty Message-ID.
    BrokenMime,
    /// A message in a message.
    Nested,
    /// Text in an old charset, by 8bit.
    OldCharset,
    /// A bounce from the empty sender.
    Bounce,
    /// A header field folded over many lines, encoded words among them.
    FoldedHeaders,
    /// An invitation.
    Invitation,
}

impl Oddity {
    /// Every one, in the order in which a corpus shows them.
    pub const ALL: [Self; 17] = [
        Self::NoMessageId,
        Self::SameIdOtherBody,
        Self::ExactDuplicate,
        Self::SameElsewhere,
        Self::EightBitHeaders,
        Self::Minimal,
        Self::HeaderOnly,
        Self::LongLines,
        Self::LeadingDots,
        Self::NoFinalEol,
        Self::FromLines,
        Self::BrokenMime,
        Self::Nested,
        Self::OldCharset,
        Self::Bounce,
        Self::FoldedHeaders,
        Self::Invitation,
    ];
}

/// Writes the messages of one corpus and remembers the threads they belong to.
#[derive(Debug)]
pub struct Writer {
    dice: Dice,
    seed: u64,
    written: u64,
    /// Message-ID and subject of what can be answered.
    threads: Vec<(String, String)>,
    last_id: String,
    /// Lines of base64 that attachments are cut from: making each anew would be slow in unoptimised tests.
    pool: Vec<String>,
}

impl Writer {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(!seed);
        let pool = (0..500)
            .map(|_| {
                let bytes: Vec<u8> = (0..8).flat_map(|_| dice.roll().to_le_bytes()).take(57).collect();
                BASE64_STANDARD.encode(bytes)
            })
            .collect();
        Self { dice, seed, written: 0, threads: Vec::new(), last_id: String::new(), pool }
    }

    /// A letter, an answer, a message with HTML or with attachments.
    pub fn ordinary(&mut self, when: &Zoned) -> Vec<u8> {
        let mut text = self.head(when);
        match self.dice.below(10) {
            0..4 => text += &self.plain(),
            4..8 => text += &self.alternative(),
            _ => {
                let lines = 20 + self.dice.below(600);
                text += &self.with_attachment(lines);
            }
        }
        text.into_bytes()
    }

    /// A message of about `size` bytes.
    pub fn large(&mut self, when: &Zoned, size: usize) -> Vec<u8> {
        let mut text = self.head(when);
        let lines = size.saturating_sub(text.len() + 600) / 78;
        text += &self.with_attachment(lines as u64);
        text.into_bytes()
    }

    /// A message that is odd in the given way. The two oddities that repeat a message are the corpus's work; here they
    /// are ordinary.
    pub fn odd(&mut self, when: &Zoned, oddity: Oddity) -> Vec<u8> {
        let text = match oddity {
            Oddity::ExactDuplicate | Oddity::SameElsewhere => return self.ordinary(when),
            Oddity::NoMessageId => self.head_with(when, None) + &self.plain(),
            Oddity::SameIdOtherBody => {
                let id = self.last_id.clone();
                self.head_with(when, Some(&id)) + &self.plain()
            }
            Oddity::EightBitHeaders => return self.eight_bit_headers(when),
            Oddity::Minimal => format!("Subject: {}\r\n\r\nok\r\n", self.number()),
            Oddity::HeaderOnly => self.head(when),
            Oddity::LongLines => {
                let line = self.prose(400).replace("\r\n", " ");
                format!("{}{TEXT_8BIT}{}\r\n\r\n{line}\r\n", self.head(when), line.repeat(3))
            }
            Oddity::LeadingDots => {
                format!(
                    "{}{TEXT_8BIT}.\r\n..\r\n.hidden\r\n...\r\n\r\n.\r\nthe end\r\n.\r\n",
                    self.head(when)
                )
            }
            Oddity::NoFinalEol => format!("{}{TEXT_8BIT}{}and that is all", self.head(when), self.prose(3)),
            Oddity::FromLines => format!(
                "{}{TEXT_8BIT}From here on\r\n>From there\r\nFrom alice@a.test Thu Jan  1 00:00:00 2009\r\n",
                self.head(when)
            ),
            Oddity::BrokenMime => {
                self.head_with(when, Some("<>"))
                    + "Content-Type: multipart/mixed; boundary=\"never\r\n\r\n--never\r\n\r\nhalf a mess"
            }
            Oddity::Nested => {
                let inner = self.head(when) + &self.alternative();
                let boundary = self.boundary();
                format!(
                    "{}Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\n{TEXT_8BIT}See \
                     below.\r\n--{boundary}\r\nContent-Type: message/rfc822\r\n\r\n{inner}\r\n--{boundary}--\r\n",
                    self.head(when)
                )
            }
            Oddity::OldCharset => return self.old_charset(when),
            Oddity::Bounce => format!(
                "Return-Path: <>\r\nAuto-Submitted: auto-replied\r\n{}Content-Type: multipart/report; \
                 report-type=delivery-status; boundary=\"b\"\r\n\r\n--b\r\n\r\nIt could not be delivered.\r\n--b\r\n\
                 Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.a.test\r\n\r\n\
                 Final-Recipient: rfc822; nobody@b.test\r\nAction: failed\r\nStatus: 5.1.1\r\n--b--\r\n",
                self.head(when)
            ),
            Oddity::FoldedHeaders => {
                let mut references = String::from("References:");
                for _ in 0..40 {
                    let _ = write!(references, "\r\n\t<{}@mail.example>", self.number());
                }
                let keywords =
                    "Keywords: =?utf-8?Q?gr=C3=BC=C3=9Fe?=\r\n =?iso-8859-1?Q?=FCber?=\r\n  =?bad?X?";
                format!("{}{references}\r\n{keywords}\r\n{}", self.head(when), self.plain())
            }
            Oddity::Invitation => format!(
                "{}MIME-Version: 1.0\r\nContent-Type: text/calendar; charset=utf-8; method=REQUEST\r\n\r\n\
                 BEGIN:VCALENDAR\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:{}\r\nSUMMARY:Réunion\r\n\
                 DTSTART:20210301T090000Z\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
                self.head(when),
                self.number()
            ),
        };
        text.into_bytes()
    }

    fn eight_bit_headers(&mut self, when: &Zoned) -> Vec<u8> {
        let mut bytes = b"From: J\xf6rg M\xfcller <joerg@a.test>\r\nSubject: ".to_vec();
        bytes.extend_from_slice("Grüße, unverschlüsselt\r\n".as_bytes());
        bytes.extend_from_slice(b"X-Note: caf\xe9 \x80\xff\r\n");
        bytes.extend_from_slice((self.dated(when) + "\r\n" + &self.prose(4)).as_bytes());
        bytes
    }

    fn old_charset(&mut self, when: &Zoned) -> Vec<u8> {
        let (encoding, text) = self.dice.pick(&[
            (encoding_rs::WINDOWS_1252, "Schöne Grüße für 5 €"),
            (encoding_rs::KOI8_R, "Спасибо, документы получены"),
            (encoding_rs::ISO_2022_JP, "添付をご確認ください"),
        ]);
        let head = self.head(when);
        let kind = format!("Content-Type: text/plain; charset={}\r\n", encoding.name());
        let mut bytes = (head + &kind + "Content-Transfer-Encoding: 8bit\r\n\r\n").into_bytes();
        bytes.extend_from_slice(&encoding.encode(text).0);
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    fn head(&mut self, when: &Zoned) -> String {
        let id = self.new_id();
        let head = self.head_with(when, Some(&id));
        self.last_id = id;
        head
    }

    fn head_with(&mut self, when: &Zoned, id: Option<&str>) -> String {
        let (sender, receiver) = (self.dice.pick(&PEOPLE), self.dice.pick(&PEOPLE));
        let mut head = String::new();
        for hop in 0..self.dice.below(3) {
            let _ = write!(
                head,
                "Received: from mx{hop}.example (mx{hop}.example [192.0.2.{}])\r\n\tby mail.example with ESMTPS id \
                 {:012X};\r\n\t{}\r\n",
                self.dice.below(255),
                self.dice.roll() >> 16,
                when.strftime(DATE)
            );
        }
        let _ = write!(head, "From: {}\r\nTo: {}\r\n", mailbox(sender), mailbox(receiver));
        let answered = if self.dice.below(3) == 0 { self.threads.last().cloned() } else { None };
        let subject = if let Some((parent, subject)) = answered {
            let _ = write!(head, "In-Reply-To: {parent}\r\nReferences: {parent}\r\n");
            if subject.starts_with("Re: ") { subject } else { format!("Re: {subject}") }
        } else {
            self.dice.pick(&SUBJECTS).to_owned()
        };
        let _ = write!(head, "Subject: {}\r\n", encoded(&subject));
        if let Some(id) = id {
            let _ = write!(head, "Message-ID: {id}\r\n");
            self.threads.push((id.to_owned(), subject));
        }
        head + &self.dated(when)
    }

    fn dated(&mut self, when: &Zoned) -> String {
        let mailer =
            self.dice.pick(&["Thunderbird 78.1", "Outlook 16.0", "Apple Mail (2.3445)", "Mutt/1.14"]);
        format!("Date: {}\r\nX-Mailer: {mailer}\r\n", when.strftime(DATE))
    }

    fn plain(&mut self) -> String {
        let sentences = 2 + self.dice.below(12);
        let prose = self.prose(sentences);
        if self.dice.below(2) == 0 {
            return format!("MIME-Version: 1.0\r\n{TEXT_8BIT}{prose}");
        }
        format!("MIME-Version: 1.0\r\n{}", quoted_printable_part("plain", &prose))
    }

    fn alternative(&mut self) -> String {
        let boundary = self.boundary();
        let sentences = 3 + self.dice.below(30);
        let prose = self.prose(sentences);
        let html = format!(
            "<html><body style=\"font-family: sans-serif\">\r\n<p>{}</p>\r\n</body></html>\r\n",
            prose.trim_end().replace("\r\n", "</p>\r\n<p>")
        );
        format!(
            "MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"{boundary}\"\r\n\r\n\
             --{boundary}\r\n{}\r\n--{boundary}\r\n{}\r\n--{boundary}--\r\n",
            quoted_printable_part("plain", &prose),
            quoted_printable_part("html", &html)
        )
    }

    fn with_attachment(&mut self, lines: u64) -> String {
        let boundary = self.boundary();
        let (name, kind) = self.dice.pick(&ATTACHMENTS);
        let text = self.prose(4);
        let mut out = format!(
            "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\n\
             {TEXT_8BIT}{text}\r\n--{boundary}\r\nContent-Type: {kind}; name=\"{}\"\r\n\
             Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment\r\n\r\n",
            encoded(name)
        );
        let start = usize::try_from(self.dice.below(self.pool.len() as u64)).expect("an index");
        for line in
            self.pool.iter().cycle().skip(start).take(usize::try_from(lines).expect("a number of lines"))
        {
            out.push_str(line);
            out.push_str("\r\n");
        }
        let _ = write!(out, "--{boundary}--\r\n");
        out
    }

    fn prose(&mut self, sentences: u64) -> String {
        let mut text = String::new();
        for _ in 0..sentences {
            text.push_str(self.dice.pick(&SENTENCES));
            text.push_str(if self.dice.below(4) == 0 { "\r\n\r\n" } else { "\r\n" });
        }
        text
    }

    fn new_id(&mut self) -> String {
        format!("<{}@mail.example>", self.number())
    }

    /// A number that no other message of any corpus has.
    fn number(&mut self) -> String {
        self.written += 1;
        format!("{:x}.{}.{:08x}", self.seed, self.written, self.dice.roll() >> 32)
    }

    fn boundary(&mut self) -> String {
        format!("=_{:016x}", self.dice.roll())
    }
}

const DATE: &str = "%a, %d %b %Y %H:%M:%S %z";

const TEXT_8BIT: &str = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n";

fn mailbox((name, address): (&str, &str)) -> String {
    if name.is_ascii() { format!("\"{name}\" <{address}>") } else { format!("{} <{address}>", encoded(name)) }
}

/// RFC 2047, where it is needed.
fn encoded(text: &str) -> String {
    if text.is_ascii() { text.to_owned() } else { format!("=?utf-8?B?{}?=", BASE64_STANDARD.encode(text)) }
}

/// A part of text with its header, in quoted-printable (RFC 2045 §6.7).
fn quoted_printable_part(subtype: &str, text: &str) -> String {
    let mut out = format!(
        "Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    );
    for line in text.split_inclusive("\r\n") {
        let mut column = 0;
        for byte in line.trim_end_matches("\r\n").bytes() {
            if column > 71 {
                out.push_str("=\r\n");
                column = 0;
            }
            if byte == b'=' || !(b' '..=b'~').contains(&byte) {
                let _ = write!(out, "={byte:02X}");
                column += 3;
            } else {
                out.push(char::from(byte));
                column += 1;
            }
        }
        out.push_str("\r\n");
    }
    out
}
