//! IMAP as a plain server speaks it: the connection, the login, and folders. Messages are in [`super::messages`].

use std::io::{self, Read};
use std::sync::Arc;

use super::bend::{Answer, Command, End};
use super::store::Folder;
use super::values::{self, Value, string};
use super::{Line, Shared};

/// One session.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    user: Option<String>,
    /// The tag of an AUTHENTICATE that waits for its response.
    asking: Option<String>,
    pub(super) folder: Option<Vec<u8>>,
    pub(super) read_only: bool,
    /// The UIDs that the client knows to be in the open folder, in the order of their sequence numbers.
    pub(super) known: Vec<u32>,
    /// Whether QRESYNC was enabled.
    pub(super) resyncs: bool,
}

/// Speaks with one client until it goes.
pub(super) fn serve(mut line: Line, shared: Arc<Shared>) -> io::Result<()> {
    let (user, asking, folder) = (None, None, None);
    let mut session =
        Session { shared, user, asking, folder, read_only: true, known: Vec::new(), resyncs: false };
    let mut greeting = Command {
        verb: "GREETING".to_owned(),
        text: "GREETING".to_owned(),
        ..session.read(&line, Vec::new())
    };
    let answer = session.shared.react(&mut greeting, || Answer::of("* OK ready\r\n"));
    if !line.say(&answer, "*")? {
        return Ok(());
    }
    while let Some(mut command) = session.next(&mut line)? {
        let shared = Arc::clone(&session.shared);
        let given = command.clone();
        let answer = shared.react(&mut command, || session.perform(&given));
        if !line.say(&answer, &command.tag)? {
            break;
        }
    }
    Ok(())
}

impl Session {
    /// Reads the next command with its literals; `None` when the client is gone.
    fn next(&mut self, line: &mut Line) -> io::Result<Option<Command>> {
        let (mut bytes, mut is_over) = (Vec::new(), false);
        loop {
            if !line.read(&mut bytes)? {
                return Ok(None);
            }
            let Some((_, size, waits)) = values::announced(&bytes) else {
                if !is_over {
                    return Ok(Some(self.read(line, bytes)));
                }
                // Its end was said already.
                (bytes, is_over) = (Vec::new(), false);
                continue;
            };
            let mut begun = self.read(line, bytes.clone());
            if !is_over && let Some(answer) = self.shared.react_announced(&mut begun) {
                self.shared.heard.lock().expect("what was heard").push(begun.clone());
                if !line.say(&answer, &begun.tag)? {
                    return Ok(None);
                }
                if waits {
                    bytes.clear();
                    continue;
                }
                is_over = true;
            } else if waits {
                line.write(b"+ go on\r\n")?;
            }
            let mut literal = vec![0; size];
            line.reader.read_exact(&mut literal)?;
            bytes.extend(literal);
        }
    }

    /// Makes a command of its bytes.
    fn read(&self, line: &Line, bytes: Vec<u8>) -> Command {
        let whole = String::from_utf8_lossy(&bytes).into_owned();
        let (tag, text) = if let Some(tag) = &self.asking {
            (tag.clone(), format!("RESPONSE {}", whole.trim_end()))
        } else {
            let (tag, text) = whole.split_once(' ').unwrap_or((whole.trim_end(), ""));
            (tag.to_owned(), text.trim_end_matches(['\r', '\n']).replace('"', ""))
        };
        let mut words = text.split([' ', '\r']).map(str::to_ascii_uppercase);
        let mut verb = words.next().unwrap_or_default();
        if verb == "UID" {
            verb = format!("UID {}", words.next().unwrap_or_default());
        }
        Command {
            tag,
            verb,
            text,
            bytes,
            connection: line.connection,
            user: self.user.clone().unwrap_or_default(),
            folder: self.folder.as_ref().map(|name| String::from_utf8_lossy(name).into_owned()),
            times: 0,
        }
    }

    /// The action and the answer of a plain server.
    fn perform(&mut self, command: &Command) -> Answer {
        let behind = |words: usize| {
            let mut rest = &command.bytes[..];
            for _ in 0..words {
                rest = rest.iter().position(|&byte| byte == b' ').map_or(&[][..], |at| &rest[at + 1..]);
            }
            rest
        };
        let arguments = values::read(behind(1 + command.verb.split(' ').count()));
        let verb = command.verb.as_str();
        let says = match (verb, self.user.is_some()) {
            ("CAPABILITY", _) => {
                done([format!("* CAPABILITY {}", self.shared.capabilities().join(" ")).into_bytes()])
            }
            ("NOOP" | "CHECK", _) => done([]),
            ("LOGOUT", _) => done([b"* BYE see you".to_vec()]),
            ("ID", _) if self.shared.offers("ID") => done([b"* ID (\"name\" \"Script\")".to_vec()]),
            ("LOGIN", false) => self.login(&text_of(&arguments, 0), &text_of(&arguments, 1)),
            ("AUTHENTICATE", false) => return self.authenticate(command, &arguments),
            ("RESPONSE", false) => {
                self.asking = None;
                self.let_in(
                    self.shared.lets_in_plain(&command.text["RESPONSE ".len().min(command.text.len())..]),
                )
            }
            (_, false) => Err("BAD not before the login".to_owned()),
            ("ENABLE", _) if self.shared.offers("ENABLE") => self.enable(&arguments),
            ("NAMESPACE", _) if self.shared.offers("NAMESPACE") => {
                done([format!("* NAMESPACE {}", self.shared.store().namespace).into_bytes()])
            }
            ("LIST" | "LSUB", _) => self.list(verb, &arguments),
            ("STATUS", _) => self.status(&arguments),
            ("SELECT" | "EXAMINE", _) => self.open(verb, &arguments),
            ("CLOSE" | "UNSELECT", _) => {
                let is_close = verb == "CLOSE" && !self.read_only;
                if is_close {
                    self.remove_deleted(|_| true);
                }
                self.folder = None;
                done([])
            }
            ("CREATE", _) => self.create(argument(&arguments, 0)),
            ("DELETE", _) => self.delete(argument(&arguments, 0)),
            ("RENAME", _) => self.rename(argument(&arguments, 0), argument(&arguments, 1)),
            ("SUBSCRIBE" | "UNSUBSCRIBE", _) => {
                match self.shared.store().find(argument(&arguments, 0)) {
                    Some(folder) => folder.subscribed = verb == "SUBSCRIBE",
                    None => return refused(command, "NO [NONEXISTENT] no such folder"),
                }
                done([])
            }
            ("APPEND", _) => self.append(&arguments),
            _ => self.perform_in_folder(verb, &arguments),
        };
        let (mut responses, ending) = match says {
            Ok(Said { untagged, ending }) => (untagged, format!("OK {ending}")),
            Err(refusal) => (Vec::new(), refusal),
        };
        responses.extend(self.news(verb));
        for response in &mut responses {
            response.extend_from_slice(b"\r\n");
        }
        responses.push(format!("{} {ending}\r\n", command.tag).into_bytes());
        let end = if verb == "LOGOUT" { End::Close } else { End::GoOn };
        Answer { responses, end, ..Answer::default() }
    }

    fn login(&mut self, user: &str, password: &str) -> Says {
        self.let_in(self.shared.lets_in(user, password).then(|| user.to_owned()))
    }

    fn let_in(&mut self, user: Option<String>) -> Says {
        self.user = user;
        if self.user.is_none() {
            return Err("NO [AUTHENTICATIONFAILED] wrong".to_owned());
        }
        done([])
    }

    fn authenticate(&mut self, command: &Command, arguments: &[Value]) -> Answer {
        let offered = format!("AUTH={}", text_of(arguments, 0).to_ascii_uppercase());
        if !self.shared.offers(&offered) || offered != "AUTH=PLAIN" {
            return refused(command, "NO [CANNOT] no such mechanism");
        }
        if arguments.len() < 2 {
            self.asking = Some(command.tag.clone());
            return Answer::of("+ \r\n");
        }
        let user = self.shared.lets_in_plain(&text_of(arguments, 1));
        match self.let_in(user) {
            Ok(_) => Answer::of(format!("{} OK in\r\n", command.tag)),
            Err(refusal) => refused(command, &refusal),
        }
    }

    fn enable(&mut self, arguments: &[Value]) -> Says {
        let words: Vec<String> = arguments.iter().map(Value::text).collect();
        let enabled: Vec<&str> = words
            .iter()
            .map(String::as_str)
            .filter(|word| ["CONDSTORE", "QRESYNC"].contains(word) && self.shared.offers(word))
            .collect();
        self.resyncs |= enabled.contains(&"QRESYNC");
        done([format!("* ENABLED {}", enabled.join(" ")).into_bytes()])
    }

    fn list(&mut self, verb: &str, arguments: &[Value]) -> Says {
        let mut arguments = arguments.to_vec();
        let extended = self.shared.offers("LIST-EXTENDED");
        let wants_extended = matches!(arguments.first(), Some(Value::List(_))) || arguments.len() > 2;
        if arguments.len() < 2 || wants_extended && !extended {
            return Err("BAD that is not how to list".to_owned());
        }
        let selection =
            if let Value::List(_) = arguments[0] { arguments.remove(0).words() } else { Vec::new() };
        let only_subscribed = verb == "LSUB" || has(&selection, "SUBSCRIBED");
        let returns = arguments.get(3).map(Value::items).unwrap_or_default();
        let tells_subscribed = only_subscribed && verb != "LSUB" || has_word(&returns, "SUBSCRIBED");
        let status = returns.iter().position(|item| item.text().eq_ignore_ascii_case("STATUS"));
        let status = status.and_then(|at| returns.get(at + 1)).map(Value::words);
        let patterns = arguments[1].items();
        let store = self.shared.store();
        if verb == "LIST" && patterns.len() == 1 && patterns[0].bytes().is_empty() {
            return done([format!("* LIST (\\Noselect) \"{}\" \"\"", store.separator).into_bytes()]);
        }
        let patterns: Vec<Vec<u8>> =
            patterns.iter().map(|pattern| [arguments[0].bytes(), pattern.bytes()].concat()).collect();
        let mut untagged = Vec::new();
        for folder in &store.folders {
            let fits = patterns.iter().any(|pattern| matches(pattern, &folder.name, store.separator as u8));
            if !fits || only_subscribed && !folder.subscribed {
                continue;
            }
            let mut attributes = folder.attributes.clone();
            if tells_subscribed && folder.subscribed {
                attributes.push("\\Subscribed".to_owned());
            }
            let head = format!("* {verb} ({}) \"{}\" ", attributes.join(" "), store.separator);
            untagged.push([head.as_bytes(), &string(&folder.name)].concat());
            if let Some(items) = status.as_ref().filter(|_| folder.can_be_opened()) {
                untagged.push(status_of(folder, items));
            }
        }
        done(untagged)
    }

    fn status(&mut self, arguments: &[Value]) -> Says {
        let items = arguments.get(1).map(Value::words).unwrap_or_default();
        let mut store = self.shared.store();
        match store.find(argument(arguments, 0)).filter(|folder| folder.can_be_opened()) {
            Some(folder) => done([status_of(folder, &items)]),
            None => Err("NO [NONEXISTENT] no such folder".to_owned()),
        }
    }

    fn open(&mut self, verb: &str, arguments: &[Value]) -> Says {
        // A failed SELECT leaves no folder open (RFC 3501 §6.3.1).
        self.folder = None;
        let shared = Arc::clone(&self.shared);
        let mut store = shared.store();
        let permanent = store.permanent_flags.clone();
        let Some(folder) = store.find(argument(arguments, 0)).filter(|folder| folder.can_be_opened()) else {
            return Err("NO [NONEXISTENT] no such folder".to_owned());
        };
        self.folder = Some(folder.name.clone());
        self.read_only = verb == "EXAMINE";
        self.known = folder.letters.iter().map(|letter| letter.uid).collect();
        let flags = permanent.replace(" \\*", "");
        let permanent = if self.read_only { "" } else { &permanent };
        let mut untagged = vec![
            format!("* FLAGS ({flags})").into_bytes(),
            format!("* {} EXISTS", folder.letters.len()).into_bytes(),
            b"* 0 RECENT".to_vec(),
            format!("* OK [PERMANENTFLAGS ({permanent})] these").into_bytes(),
            format!("* OK [UIDVALIDITY {}] so", folder.uidvalidity).into_bytes(),
            format!("* OK [UIDNEXT {}] next", folder.uidnext).into_bytes(),
        ];
        if shared.offers("CONDSTORE") || shared.offers("QRESYNC") {
            untagged.push(format!("* OK [HIGHESTMODSEQ {}] last", folder.modseq).into_bytes());
        }
        let parameters = arguments.get(1).map(Value::items).unwrap_or_default();
        if let Some(at) = parameters.iter().position(|it| it.text().eq_ignore_ascii_case("QRESYNC"))
            && let Some(known) = parameters.get(at + 1).map(Value::words)
        {
            if !self.resyncs {
                self.folder = None;
                return Err("BAD QRESYNC was not enabled".to_owned());
            }
            if known.first() == Some(&folder.uidvalidity.to_string()) {
                let since = known.get(1).and_then(|modseq| modseq.parse().ok()).unwrap_or(0);
                untagged.extend(folder.vanished_since(since, known.get(2).map(String::as_str)));
                untagged.extend(folder.changed_since(since));
            }
        }
        let mode = if self.read_only { "READ-ONLY" } else { "READ-WRITE" };
        Ok(Said { untagged, ending: format!("[{mode}] open") })
    }

    fn create(&mut self, name: &[u8]) -> Says {
        let mut store = self.shared.store();
        let name = name.strip_suffix(&[store.separator as u8][..]).unwrap_or(name);
        if store.find(name).is_some() {
            return Err("NO [ALREADYEXISTS] it is there".to_owned());
        }
        store.create(name).subscribed = false;
        done([])
    }

    fn delete(&mut self, name: &[u8]) -> Says {
        let mut store = self.shared.store();
        if name.eq_ignore_ascii_case(b"INBOX") || store.find(name).is_none() {
            return Err("NO [NONEXISTENT] no such folder".to_owned());
        }
        store.folders.retain(|folder| folder.name != name);
        done([])
    }

    fn rename(&mut self, from: &[u8], to: &[u8]) -> Says {
        let mut store = self.shared.store();
        if store.find(to).is_some() {
            return Err("NO [ALREADYEXISTS] it is there".to_owned());
        }
        if store.find(from).is_none() {
            return Err("NO [NONEXISTENT] no such folder".to_owned());
        }
        let inside = [from, &[store.separator as u8]].concat();
        for folder in &mut store.folders {
            if folder.name == from || folder.name.starts_with(&inside) {
                folder.name = [to, &folder.name[from.len()..]].concat();
            }
        }
        done([])
    }
}

/// The answer to a command that was carried out, without line ends.
pub(super) struct Said {
    pub(super) untagged: Vec<Vec<u8>>,
    /// The text after the OK.
    pub(super) ending: String,
}

/// That, or the refusal: NO or BAD and why.
pub(super) type Says = Result<Said, String>;

#[allow(clippy::unnecessary_wraps, reason = "the other answers are refusals")]
pub(super) fn done(untagged: impl IntoIterator<Item = Vec<u8>>) -> Says {
    Ok(Said { untagged: untagged.into_iter().collect(), ending: "done".to_owned() })
}

fn refused(command: &Command, refusal: &str) -> Answer {
    Answer::of(format!("{} {refusal}\r\n", command.tag))
}

pub(super) fn argument(arguments: &[Value], at: usize) -> &[u8] {
    arguments.get(at).map_or(&[], Value::bytes)
}

pub(super) fn text_of(arguments: &[Value], at: usize) -> String {
    arguments.get(at).map(Value::text).unwrap_or_default()
}

fn has(words: &[String], word: &str) -> bool {
    words.iter().any(|it| it.eq_ignore_ascii_case(word))
}

pub(super) fn has_word(values: &[Value], word: &str) -> bool {
    values.iter().any(|value| value.text().eq_ignore_ascii_case(word))
}

fn status_of(folder: &Folder, items: &[String]) -> Vec<u8> {
    let unseen = folder.letters.iter().filter(|letter| !letter.has_flag("\\Seen")).count();
    let size: usize = folder.letters.iter().map(|letter| letter.bytes.len()).sum();
    let values = items.iter().filter_map(|item| {
        let value = match item.to_ascii_uppercase().as_str() {
            "MESSAGES" => folder.letters.len() as u64,
            "UIDNEXT" => u64::from(folder.uidnext),
            "UIDVALIDITY" => u64::from(folder.uidvalidity),
            "HIGHESTMODSEQ" => folder.modseq,
            "UNSEEN" => unseen as u64,
            "RECENT" => 0,
            "SIZE" => size as u64,
            _ => return None,
        };
        Some(format!("{item} {value}"))
    });
    let values = values.collect::<Vec<_>>().join(" ");
    [b"* STATUS ", &string(&folder.name)[..], format!(" ({values})").as_bytes()].concat()
}

/// Whether a name fits a pattern, in which `*` is anything and `%` anything within a level.
fn matches(pattern: &[u8], name: &[u8], separator: u8) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|at| matches(rest, &name[at..], separator)),
        Some((b'%', rest)) => {
            let level = name.iter().position(|&byte| byte == separator).unwrap_or(name.len());
            (0..=level).any(|at| matches(rest, &name[at..], separator))
        }
        Some((&byte, rest)) => name.first() == Some(&byte) && matches(rest, &name[1..], separator),
    }
}
