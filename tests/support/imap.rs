//! A small synchronous IMAP client for tests, written apart from the product's: it shares no line with it, so the two
//! cannot be wrong in the same way.
//!
//! Folders are named by their Unicode names with `/` between the levels, whatever separator and prefix the server has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::compare::{Account, Row};
use super::corpus::Message;

/// A `NO` or `BAD`, as the server said it.
pub type Refusal = String;

/// One response: its text with `{n}` left where literals stood, and the literals.
#[derive(Debug)]
pub struct Response {
    /// The text without its line end.
    pub text: Vec<u8>,
    /// The literals, in their order.
    pub literals: Vec<Vec<u8>>,
}

/// A logged-in connection.
pub struct Client {
    reader: BufReader<Box<dyn Read + Send>>,
    writer: Option<Box<dyn Write + Send>>,
    child: Option<Child>,
    tag: u32,
    separator: char,
    prefix: String,
    is_patient: bool,
}

impl Client {
    /// Logs in over a plain connection; the error is what the server answered.
    pub fn login(address: SocketAddr, user: &str, password: &str) -> Result<Self, Refusal> {
        let mut client = Self::plain(address);
        client.command(&format!("LOGIN {} {}", quoted(user), quoted(password)))?;
        client.learn_namespace();
        Ok(client)
    }

    /// Logs in by `AUTHENTICATE PLAIN` as `user` with the credentials of `other` (SASL authzid).
    pub fn login_as(address: SocketAddr, user: &str, other: &str, password: &str) -> Result<Self, Refusal> {
        let mut client = Self::plain(address);
        let response = base64::prelude::BASE64_STANDARD.encode(format!("{user}\0{other}\0{password}"));
        client.command(&format!("AUTHENTICATE PLAIN {response}"))?;
        client.learn_namespace();
        Ok(client)
    }

    fn plain(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a socket");
        let writer = stream.try_clone().expect("a socket");
        let mut client = Self::over(Box::new(stream), Box::new(writer), None);
        client.response();
        client
    }

    /// Opens a mailbox of a Dovecot from the inside, without login or listener; complaints are appended to `log`.
    pub fn inside(configuration: &Path, log: &Path, user: &str) -> Self {
        let log = File::options().create(true).append(true).open(log).expect("the log can be written");
        let mut child = Command::new("doveadm")
            .arg("-c")
            .arg(configuration)
            .args(["exec", "imap", "-u", user])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("doveadm can be started");
        let (reader, writer) = (child.stdout.take().expect("a pipe"), child.stdin.take().expect("a pipe"));
        let mut client = Self::over(Box::new(reader), Box::new(writer), Some(child));
        client.response();
        client.learn_namespace();
        client
    }

    fn over(reader: Box<dyn Read + Send>, writer: Box<dyn Write + Send>, child: Option<Child>) -> Self {
        let reader = BufReader::with_capacity(1 << 16, reader);
        let prefix = String::new();
        Self { reader, writer: Some(writer), child, tag: 0, separator: '/', prefix, is_patient: false }
    }

    /// Sends one command and returns its untagged responses.
    pub fn command(&mut self, command: &str) -> Result<Vec<Response>, Refusal> {
        let tag = self.begin();
        self.send(format!("{tag} {command}\r\n").as_bytes());
        let mut untagged = Vec::new();
        self.finish(&tag, |response| untagged.push(response))?;
        Ok(untagged)
    }

    /// All folders that can be opened, INBOX first.
    pub fn folders(&mut self) -> Vec<String> {
        let responses = self.command("LIST \"\" \"*\"").expect("LIST");
        let mut folders: Vec<_> = responses
            .iter()
            .filter(|response| {
                let text = String::from_utf8_lossy(&response.text).to_ascii_lowercase();
                text.starts_with("* list") && !text.contains("\\noselect") && !text.contains("\\nonexistent")
            })
            .map(|response| self.folder_of(response))
            .collect();
        folders.sort_by_key(|folder| (folder != "INBOX", folder.clone()));
        folders
    }

    /// The subscribed folders, whether they exist or not.
    pub fn subscribed(&mut self) -> BTreeSet<String> {
        let responses = self.command("LSUB \"\" \"*\"").expect("LSUB");
        responses.iter().filter(|r| !contains(&r.text, b"\\Noselect")).map(|r| self.folder_of(r)).collect()
    }

    /// Creates a folder; one that is there already is fine.
    pub fn create(&mut self, folder: &str) -> Result<(), Refusal> {
        // It is there everywhere, and some servers call it BAD to ask for it.
        if folder == "INBOX" {
            return Ok(());
        }
        match self.command(&format!("CREATE {}", self.wire(folder))) {
            // RFC 5530 has a code for it, which not everybody knows.
            Err(refusal) if refusal.contains("[ALREADYEXISTS]") || refusal.contains("already exists") => {
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Subscribes to a folder.
    pub fn subscribe(&mut self, folder: &str) -> Result<(), Refusal> {
        self.command(&format!("SUBSCRIBE {}", self.wire(folder))).map(drop)
    }

    /// Selects a folder for reading and writing.
    pub fn select(&mut self, folder: &str) -> Result<(), Refusal> {
        self.command(&format!("SELECT {}", self.wire(folder))).map(drop)
    }

    /// Appends one message.
    pub fn append(&mut self, message: &Message) -> Result<(), Refusal> {
        self.append_all(&message.folder, &[message])
    }

    /// From now on waits for the server before each literal and sends one message in a command: for servers that know
    /// neither RFC 7888 nor RFC 3502.
    pub fn patient(mut self) -> Self {
        self.is_patient = true;
        self
    }

    /// Appends messages to one folder in one command (RFC 3502): all of them or none.
    pub fn append_all(&mut self, folder: &str, messages: &[&Message]) -> Result<(), Refusal> {
        if self.is_patient {
            return messages.iter().try_for_each(|message| self.append_slowly(folder, message));
        }
        let tag = self.begin();
        self.send(format!("{tag} APPEND {}", self.wire(folder)).as_bytes());
        for message in messages {
            let (flags, size) = (message.flags.join(" "), message.bytes.len());
            self.send(format!(" ({flags}) \"{}\" {{{size}+}}\r\n", message.internal_date).as_bytes());
            self.send(&message.bytes);
        }
        self.send(b"\r\n");
        self.finish(&tag, drop)
    }

    fn append_slowly(&mut self, folder: &str, message: &Message) -> Result<(), Refusal> {
        let tag = self.begin();
        let (flags, size) = (message.flags.join(" "), message.bytes.len());
        let date = &message.internal_date;
        let command = format!("{tag} APPEND {} ({flags}) \"{date}\" {{{size}}}\r\n", self.wire(folder));
        self.send(command.as_bytes());
        self.flush();
        let go = self.response();
        if !go.text.starts_with(b"+") {
            return Err(String::from_utf8_lossy(&go.text).into_owned());
        }
        self.send(&message.bytes);
        self.send(b"\r\n");
        self.finish(&tag, drop)
    }

    /// Fills the mailbox: creates and subscribes the folders that `messages` name, and appends. Returns how many
    /// messages each folder was given.
    pub fn seed(&mut self, messages: impl IntoIterator<Item = Message>) -> BTreeMap<String, usize> {
        let mut waiting: BTreeMap<String, Vec<Message>> = BTreeMap::new();
        let mut counts = BTreeMap::new();
        for message in messages {
            let folder = message.folder.clone();
            if !counts.contains_key(&folder) {
                self.create_and_subscribe(&folder);
            }
            *counts.entry(folder.clone()).or_default() += 1;
            let batch = waiting.entry(folder.clone()).or_default();
            batch.push(message);
            if batch.len() >= 100 || batch.iter().map(|message| message.bytes.len()).sum::<usize>() > 4 << 20
            {
                self.append_batch(&folder, &std::mem::take(batch));
            }
        }
        for (folder, batch) in waiting {
            self.append_batch(&folder, &batch);
        }
        counts
    }

    /// Creates a folder and subscribes to it; stops the test where the server refuses.
    pub fn create_and_subscribe(&mut self, folder: &str) {
        self.create(folder).unwrap_or_else(|refusal| panic!("CREATE {folder}: {refusal}"));
        self.subscribe(folder).unwrap_or_else(|refusal| panic!("SUBSCRIBE {folder}: {refusal}"));
    }

    fn append_batch(&mut self, folder: &str, batch: &[Message]) {
        if !batch.is_empty() {
            let messages: Vec<&Message> = batch.iter().collect();
            self.append_all(folder, &messages).unwrap_or_else(|refusal| panic!("APPEND {folder}: {refusal}"));
        }
    }

    /// The answer to STATUS for a folder: the untagged line.
    pub fn status(&mut self, folder: &str, items: &str) -> Option<String> {
        let responses = self.command(&format!("STATUS {} ({items})", self.wire(folder))).expect("STATUS");
        let mut lines = responses.iter().map(|response| String::from_utf8_lossy(&response.text).into_owned());
        lines.find(|line| line.starts_with("* STATUS"))
    }

    /// Deletes a folder and what is in it.
    pub fn delete(&mut self, folder: &str) -> Result<(), Refusal> {
        self.command(&format!("DELETE {}", self.wire(folder))).map(drop)
    }

    /// Gives a folder another UIDVALIDITY with the same mail in it: deleted, made again, and filled in another order.
    pub fn recreate(&mut self, folder: &str) {
        let mut messages = Vec::new();
        self.read_folder(folder, |row, bytes| {
            messages.push(Message {
                folder: folder.to_owned(),
                flags: row.flags.iter().cloned().collect(),
                internal_date: row.internal_date.strftime("%d-%b-%Y %H:%M:%S +0000").to_string(),
                bytes: bytes.to_vec(),
            });
        });
        self.command("CLOSE").expect("CLOSE");
        self.delete(folder).expect("DELETE");
        self.create_and_subscribe(folder);
        messages.reverse();
        self.seed(messages);
    }

    /// UIDVALIDITY and UIDNEXT of every folder. Where they stay, nothing was appended in between.
    pub fn uid_next(&mut self) -> BTreeMap<String, (u32, u32)> {
        let mut result = BTreeMap::new();
        for folder in self.folders() {
            let command = format!("STATUS {} (UIDVALIDITY UIDNEXT)", self.wire(&folder));
            let responses = self.command(&command).expect("STATUS");
            let text = (responses.iter().map(|response| String::from_utf8_lossy(&response.text)))
                .find(|text| text.starts_with("* STATUS"))
                .expect("an untagged STATUS");
            let number = |key: &str| {
                let rest = &text[text.rfind(key).expect("the item asked for") + key.len()..];
                rest.trim().split([' ', ')']).next().and_then(|n| n.parse().ok()).expect("a number")
            };
            result.insert(folder, (number("UIDVALIDITY"), number("UIDNEXT")));
        }
        result
    }

    /// Reads everything: every message of every folder, its flags and date, and the subscriptions. Changes nothing.
    pub fn read_all(&mut self) -> Account {
        let mut account = Account { subscribed: self.subscribed(), ..Account::default() };
        for folder in self.folders() {
            let mut rows = Vec::new();
            self.read_folder(&folder, |row, _| rows.push(row));
            account.folders.insert(folder, rows);
        }
        account
    }

    /// Hands every message of a folder, with its bytes, to `each`.
    pub fn read_folder(&mut self, folder: &str, mut each: impl FnMut(Row, &[u8])) {
        let opened = self.command(&format!("EXAMINE {}", self.wire(folder))).expect("EXAMINE");
        // Some servers answer BAD to a set whose `*` is not a message.
        if opened.iter().any(|response| response.text == b"* 0 EXISTS") {
            return;
        }
        let tag = self.begin();
        self.send(format!("{tag} UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])\r\n").as_bytes());
        let fetched = self.finish(&tag, |response| {
            if contains(&response.text, b" FETCH (") && !response.literals.is_empty() {
                let body = &response.literals[0];
                each(Row::new(&String::from_utf8_lossy(&response.text), body), body);
            }
        });
        fetched.expect("UID FETCH");
    }

    fn begin(&mut self) -> String {
        self.tag += 1;
        format!("t{}", self.tag)
    }

    fn send(&mut self, bytes: &[u8]) {
        self.writer.as_mut().and_then(|writer| writer.write_all(bytes).ok()).expect("the server reads");
    }

    fn flush(&mut self) {
        self.writer.as_mut().and_then(|writer| writer.flush().ok()).expect("the server reads");
    }

    fn finish(&mut self, tag: &str, mut untagged: impl FnMut(Response)) -> Result<(), Refusal> {
        self.flush();
        loop {
            let response = self.response();
            let text = String::from_utf8_lossy(&response.text);
            match text.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' ')) {
                Some(result) if result.starts_with("OK") => return Ok(()),
                Some(result) => return Err(result.to_owned()),
                None => untagged(response),
            }
        }
    }

    fn response(&mut self) -> Response {
        let mut response = Response { text: Vec::new(), literals: Vec::new() };
        loop {
            // Only what follows the literal before may announce another one.
            let start = response.text.len();
            let length = self.reader.read_until(b'\n', &mut response.text).expect("the server answers");
            assert!(length > 0, "the server hung up after {:?}", String::from_utf8_lossy(&response.text));
            while response.text.len() > start && matches!(response.text.last(), Some(b'\r' | b'\n')) {
                response.text.pop();
            }
            let Some(size) = literal_size(&response.text[start..]) else { return response };
            let mut literal = vec![0; size];
            self.reader.read_exact(&mut literal).expect("the literal is as long as announced");
            response.literals.push(literal);
        }
    }

    fn learn_namespace(&mut self) {
        let Ok(responses) = self.command("NAMESPACE") else { return self.learn_separator() };
        for response in responses {
            let text = String::from_utf8_lossy(&response.text).into_owned();
            // * NAMESPACE (("INBOX." ".")) NIL NIL
            let mut parts = text.split('"');
            if text.starts_with("* NAMESPACE ((")
                && let (Some(_), Some(prefix), Some(_), Some(separator)) =
                    (parts.next(), parts.next(), parts.next(), parts.next())
            {
                prefix.clone_into(&mut self.prefix);
                self.separator = separator.chars().next().unwrap_or('/');
            }
        }
    }

    /// For a server without namespaces.
    fn learn_separator(&mut self) {
        // * LIST () "." "INBOX"
        for response in self.command("LIST \"\" INBOX").unwrap_or_default() {
            let text = String::from_utf8_lossy(&response.text);
            self.separator = text.split('"').nth(1).and_then(|it| it.chars().next()).unwrap_or('/');
        }
    }

    /// The name as an astring on the wire.
    fn wire(&self, folder: &str) -> String {
        if folder.eq_ignore_ascii_case("INBOX") {
            return "INBOX".to_owned();
        }
        quoted(&encode_utf7(&format!("{}{}", self.prefix, folder.replace('/', &self.separator.to_string()))))
    }

    /// The name in a LIST or LSUB response.
    fn folder_of(&self, response: &Response) -> String {
        let raw = match response.literals.last() {
            Some(literal) => String::from_utf8_lossy(literal).into_owned(),
            None => last_astring(&String::from_utf8_lossy(&response.text)),
        };
        let name = decode_utf7(&raw);
        let own = name.strip_prefix(&self.prefix).unwrap_or(&name);
        own.replace(self.separator, "/")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // The end of its input ends an inside session.
        drop(self.writer.take());
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn literal_size(text: &[u8]) -> Option<usize> {
    let inner = text.strip_suffix(b"}")?;
    let open = inner.iter().rposition(|&byte| byte == b'{')?;
    std::str::from_utf8(&inner[open + 1..]).ok()?.parse().ok()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The last astring of `* LIST (\HasNoChildren) "/" "a \"name\""`.
fn last_astring(text: &str) -> String {
    // After the attributes and the separator, which is NIL or one quoted character.
    let rest = text.split_once(") ").map_or("", |(_, rest)| rest);
    let rest =
        rest.strip_prefix("NIL ").or_else(|| rest.split_once("\" ").map(|(_, rest)| rest)).unwrap_or(rest);
    match rest.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        None => rest.to_owned(),
        Some(inner) => {
            let mut name = String::new();
            let mut chars = inner.chars();
            while let Some(char) = chars.next() {
                name.push(if char == '\\' { chars.next().unwrap_or('\\') } else { char });
            }
            name
        }
    }
}

const UTF7: GeneralPurpose = GeneralPurpose::new(
    &alphabet::IMAP_MUTF7,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Modified UTF-7 (RFC 3501 §5.1.3).
pub fn encode_utf7(name: &str) -> String {
    let mut out = String::new();
    let mut run: Vec<u8> = Vec::new();
    let flush = |run: &mut Vec<u8>, out: &mut String| {
        if !run.is_empty() {
            let _ = write!(out, "&{}-", UTF7.encode(&*run));
            run.clear();
        }
    };
    for char in name.chars() {
        if (' '..='~').contains(&char) {
            flush(&mut run, &mut out);
            out.push(char);
            if char == '&' {
                out.push('-');
            }
        } else {
            let mut units = [0; 2];
            run.extend(char.encode_utf16(&mut units).iter().flat_map(|unit| unit.to_be_bytes()));
        }
    }
    flush(&mut run, &mut out);
    out
}

/// The other way; what is not modified UTF-7 stays as it is.
pub fn decode_utf7(name: &str) -> String {
    let mut out = String::new();
    let mut rest = name;
    while let Some((plain, shifted)) = rest.split_once('&') {
        out.push_str(plain);
        let Some((run, after)) = shifted.split_once('-') else { return name.to_owned() };
        if run.is_empty() {
            out.push('&');
        } else {
            let Ok(bytes) = UTF7.decode(run) else { return name.to_owned() };
            let units: Vec<u16> =
                bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            out.push_str(&String::from_utf16_lossy(&units));
        }
        rest = after;
    }
    out.push_str(rest);
    out
}
