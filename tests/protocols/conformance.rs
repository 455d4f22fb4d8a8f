//! The promises of every driver, asked through the registry as the house asks: a test for each promise, and in each all
//! protocols. A new protocol gets an arm in [`serve`] and in [`Bent`], and keeps the same promises.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use mailferry::auth::credentials::Login;
use mailferry::drivers::measure::{FolderRules, Measuring};
use mailferry::drivers::registry::{LoggedIn, Way, driver};
use mailferry::drivers::{BODY_QUEUE, BodyEvent, Folder, Listed, Source, Wanted};
use mailferry::model::endpoint::Endpoint;
use mailferry::model::failure::{Class, Failure, Result};
use mailferry::model::label::LabelRule;
use mailferry::model::protocol::{Protocol, Tls};
use mailferry::model::scope::Scope;
use mailferry::model::secret::Secret;
use mailferry::net::network::Network;
use mailferry::net::tls::Trust;
use tempfile::TempDir;

use crate::support::script::{PASSWORD, Reaction, Script, Store};

/// Messages in the Inbox of each server.
const MESSAGES: usize = 5;

/// A server of a protocol with five messages in its Inbox.
fn serve(protocol: Protocol) -> Script {
    let mut store = Store::empty();
    for at in 1..=MESSAGES {
        store.folder("INBOX").add(&[], bytes(at));
    }
    match protocol {
        Protocol::Imap => Script::imap(store),
        Protocol::Pop3 => Script::pop3(store),
        Protocol::Maildir | Protocol::Mbox | Protocol::Eml => panic!("files have no server"),
    }
}

/// The forms of files.
const FILES: [Protocol; 3] = [Protocol::Maildir, Protocol::Mbox, Protocol::Eml];

/// The same five messages in files.
fn write_files(protocol: Protocol) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let put = |path: String, text: String| {
        let path = home.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let texts = (1..=MESSAGES).map(|at| (at, bytes(at).replace("\r\n", "\n")));
    match protocol {
        Protocol::Maildir => {
            texts.for_each(|(at, text)| put(format!("cur/170000000{at}.a:2,"), text));
            fs::create_dir(home.path().join("new")).unwrap();
        }
        Protocol::Mbox => {
            let all = texts.map(|(at, text)| format!("From a Thu Feb  1 03:04:0{at} 2024\n{text}\n"));
            put("Inbox".into(), all.collect());
        }
        Protocol::Eml => texts.for_each(|(at, text)| put(format!("{at}.eml"), text)),
        Protocol::Imap | Protocol::Pop3 => panic!("a server has no files"),
    }
    home
}

/// Files, and all that leads there.
struct Shelf {
    home: TempDir,
    endpoint: Endpoint,
    network: Network,
    trust: Trust,
}

impl Shelf {
    fn new(protocol: Protocol) -> Self {
        let home = write_files(protocol);
        let endpoint = Endpoint::files(protocol, home.path().to_str().unwrap());
        let network = Network::new(Some("127.0.0.1:53".parse().unwrap()), Vec::new(), 8).unwrap();
        Self { home, endpoint, network, trust: Trust::with_authorities(&[]).unwrap() }
    }

    async fn enter(&self) -> Box<dyn LoggedIn> {
        let way = Way { network: &self.network, endpoint: &self.endpoint, trust: &self.trust };
        let login = Login::own("anna@a.test".into(), Secret::new(""));
        driver(self.endpoint.protocol).greet(way).await.unwrap().login(&login).await.unwrap()
    }

    async fn source(&self) -> Box<dyn Source> {
        self.enter().await.source(LabelRule::default()).await.unwrap()
    }

    /// Every file with its bytes and its time.
    fn photograph(&self) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
        let mut seen = BTreeMap::new();
        let mut open = vec![self.home.path().to_owned()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    let time = path.metadata().unwrap().modified().unwrap();
                    seen.insert(path.clone(), (fs::read(&path).unwrap(), time));
                }
            }
        }
        seen
    }
}

/// A message; no line of it could be taken for the protocol's.
fn bytes(at: usize) -> String {
    format!(
        "Message-ID: <{at}@a.test>\r\nSubject: letter {at}\r\n\r\n. a dot\r\n..two\r\nthe end of {at}\r\n"
    )
}

/// Ways to bend a server, in each protocol's own words.
enum Bent {
    /// It refuses the password.
    Password,
    /// It wants to be left alone for a while.
    Busy,
    /// It does not hand out the third message, and says why.
    Third,
    /// The connection ends in the midst of the third message.
    CutInThird,
}

fn bend(script: &Script, protocol: Protocol, bent: &Bent) {
    match (protocol, bent) {
        (Protocol::Imap, Bent::Password) => {
            script.on("AUTHENTICATE", Reaction::no("[AUTHENTICATIONFAILED] wrong"));
        }
        (Protocol::Pop3, Bent::Password) => {
            script.on("AUTH", Reaction::err("[AUTH] wrong"));
        }
        (Protocol::Imap, Bent::Busy) => {
            script.on("AUTHENTICATE", Reaction::no("[UNAVAILABLE] come back later"));
        }
        (Protocol::Pop3, Bent::Busy) => {
            script.on("AUTH", Reaction::err("[SYS/TEMP] come back later"));
        }
        (Protocol::Imap, Bent::Third) => {
            script.bend(|command| {
                let alone = command.wants_bodies() && command.is("UID FETCH 3 ");
                alone.then(|| Reaction::no("this one cannot be read"))
            });
            script.bend(|command| {
                command.wants_bodies().then(|| Reaction::edit(|answer| answer.leave_out("(UID 3 ")))
            });
        }
        (Protocol::Pop3, Bent::Third) => {
            script.on("TOP 3", Reaction::err("this one cannot be read"));
            script.on("RETR 3", Reaction::err("this one cannot be read"));
        }
        (Protocol::Imap, Bent::CutInThird) => {
            script.bend(|command| {
                command.wants_bodies().then(|| Reaction::edit(|answer| answer.cut_message(3, 30)).and_close())
            });
        }
        (Protocol::Pop3, Bent::CutInThird) => {
            script.on("TOP 3", Reaction::edit(|answer| answer.cut(30)).and_close());
            script.on("RETR 3", Reaction::edit(|answer| answer.cut(30)).and_close());
        }
        (Protocol::Maildir | Protocol::Mbox | Protocol::Eml, _) => panic!("files have no server"),
    }
}

/// A server, and all that leads there.
struct Stand {
    script: Script,
    endpoint: Endpoint,
    network: Network,
    trust: Trust,
}

impl Stand {
    fn new(protocol: Protocol) -> Self {
        Self::bounded(protocol, 8)
    }

    /// With a bound on the sessions at once.
    fn bounded(protocol: Protocol, sessions: usize) -> Self {
        let script = serve(protocol);
        let endpoint = Endpoint::new(protocol, "127.0.0.1", script.address().port(), Tls::None);
        let allowed = vec!["127.0.0.0/8".parse().unwrap()];
        let network = Network::new(Some("127.0.0.1:53".parse().unwrap()), allowed, sessions).unwrap();
        Self { script, endpoint, network, trust: Trust::with_authorities(&[]).unwrap() }
    }

    fn way(&self) -> Way<'_> {
        Way { network: &self.network, endpoint: &self.endpoint, trust: &self.trust }
    }

    async fn log_in(&self) -> Result<Box<dyn LoggedIn>> {
        let login = Login::own("anna@a.test".into(), Secret::new(PASSWORD));
        driver(self.endpoint.protocol).greet(self.way()).await?.login(&login).await
    }

    async fn source(&self) -> Box<dyn Source> {
        self.log_in().await.unwrap().source(LabelRule::default()).await.unwrap()
    }
}

/// Opens the Inbox and lists it to its end.
async fn list(source: &mut dyn Source) -> (Folder, Vec<Listed>) {
    let folders = source.survey().await.unwrap().folders;
    let inbox = folders.into_iter().find(|folder| folder.path.to_string() == "INBOX").unwrap();
    let (_, mut page) = source.open_and_list(&inbox).await.unwrap();
    let mut listed = std::mem::take(&mut page.messages);
    while let Some(after) = page.next {
        page = source.list(Some(&after)).await.unwrap();
        listed.append(&mut page.messages);
    }
    (inbox, listed)
}

/// The fate of each message of a fetch by its number: its text, or why there is none.
async fn fetch(
    source: &mut dyn Source,
    listed: &[Listed],
) -> (BTreeMap<u64, Result<String, Option<Class>>>, Result<()>) {
    let wanted: Vec<Wanted> = (1..)
        .zip(listed)
        .map(|(key, listed)| Wanted { key, locator: listed.locator.clone(), size: listed.size })
        .collect();
    let (sender, mut events) = tokio::sync::mpsc::channel(BODY_QUEUE);
    let collect = async {
        let (mut came, mut open) = (BTreeMap::new(), None);
        while let Some(event) = events.recv().await {
            match event {
                BodyEvent::Begin { key, .. } => open = Some((key, Vec::new())),
                BodyEvent::Chunk(chunk) => open.as_mut().unwrap().1.extend_from_slice(&chunk),
                BodyEvent::End { .. } => {
                    let (key, bytes) = open.take().unwrap();
                    came.insert(key, Ok(String::from_utf8(bytes).unwrap()));
                }
                BodyEvent::Missing { key, failure } => {
                    came.insert(key, Err(failure.map(|failure| failure.class)));
                }
                BodyEvent::Held { .. } | BodyEvent::Again { .. } => {}
            }
        }
        came
    };
    let (ended, came) = tokio::join!(source.fetch(&wanted, sender), collect);
    (came, ended)
}

#[tokio::test]
async fn a_server_is_asked_for_its_facts_without_a_login() {
    for protocol in Protocol::OF_SERVERS {
        let stand = Stand::new(protocol);
        let facts = driver(protocol).probe(stand.way()).await.unwrap();
        assert_eq!(facts.endpoint, stand.endpoint);
        assert!(facts.capabilities.words().next().is_some(), "{protocol}: {facts:?}");
        let heard = stand.script.heard();
        assert!(
            heard.iter().all(|command| !command.has(PASSWORD) && !command.has("AUTH")),
            "{protocol}: {heard:?}"
        );
    }
}

#[tokio::test]
async fn a_mailbox_is_listed_whole_measured_alike_and_handed_out_to_the_byte() {
    for protocol in Protocol::OF_SERVERS {
        let stand = Stand::new(protocol);
        let mut source = stand.source().await;
        let (_, listed) = list(&mut *source).await;
        assert_eq!(listed.len(), MESSAGES, "{protocol}");
        assert!(listed.is_sorted_by_key(|listed| listed.place), "{protocol}: {listed:?}");
        let (came, ended) = fetch(&mut *source, &listed).await;
        ended.unwrap();
        let sent: BTreeMap<u64, _> = (1..).zip((1..=MESSAGES).map(|at| Ok(bytes(at)))).collect();
        assert_eq!(came, sent, "{protocol}");
        source.close().await;

        let mut session = stand.log_in().await.unwrap();
        let mut measuring = Measuring::default();
        session.measure(&Scope::default(), &FolderRules::default(), &mut measuring).await.unwrap();
        assert!(measuring.has_unique_ids(), "{protocol}");
        let size = measuring.into_size();
        let bytes: u64 = listed.iter().map(|listed| listed.size).sum();
        assert_eq!((size.messages, size.bytes), (MESSAGES as u64, bytes), "{protocol}");
        let inbox = session.list_inbox().await.unwrap().unwrap();
        assert_eq!(inbox.iter().map(|(_, size)| size).sum::<u64>(), bytes, "{protocol}");
        session.close().await;
    }
}

#[tokio::test]
async fn nothing_changes_at_a_source() {
    for protocol in Protocol::OF_SERVERS {
        let stand = Stand::new(protocol);
        let before = stand.script.store().clone();
        let mut source = stand.source().await;
        let (_, listed) = list(&mut *source).await;
        fetch(&mut *source, &listed).await.1.unwrap();
        source.close().await;
        let verbs = stand.script.verbs();
        let writes = ["STORE", "DELE", "EXPUNGE", "APPEND", "SELECT", "CREATE", "RENAME", "DELETE"];
        assert!(verbs.iter().all(|verb| !writes.contains(&verb.as_str())), "{protocol}: {verbs:?}");
        let after = stand.script.store().clone();
        assert_eq!(format!("{before:?}"), format!("{after:?}"), "{protocol}");
    }
}

#[tokio::test]
async fn a_message_that_is_refused_is_named_and_its_neighbours_come() {
    for protocol in Protocol::OF_SERVERS {
        let stand = Stand::new(protocol);
        bend(&stand.script, protocol, &Bent::Third);
        let mut source = stand.source().await;
        let (_, listed) = list(&mut *source).await;
        let (came, ended) = fetch(&mut *source, &listed).await;
        ended.unwrap();
        for at in [1, 2, 4, 5] {
            assert_eq!(came[&at], Ok(bytes(usize::try_from(at).unwrap())), "{protocol}");
        }
        assert!(came[&3].is_err(), "{protocol}: {came:?}");
    }
}

#[tokio::test]
async fn a_cut_in_mid_message_ends_no_message() {
    for protocol in Protocol::OF_SERVERS {
        let stand = Stand::new(protocol);
        bend(&stand.script, protocol, &Bent::CutInThird);
        let mut source = stand.source().await;
        let (_, listed) = list(&mut *source).await;
        let (came, ended) = fetch(&mut *source, &listed).await;
        let failure = ended.unwrap_err();
        assert!(failure.passes(), "{protocol}: {failure}");
        assert!(!came.contains_key(&3), "{protocol}: {came:?}");
        for (at, text) in came {
            assert_eq!(text, Ok(bytes(usize::try_from(at).unwrap())), "{protocol}");
        }
    }
}

#[tokio::test]
async fn a_refused_password_is_told_from_a_busy_server() {
    for protocol in Protocol::OF_SERVERS {
        let refused = |bent: Bent| async move {
            let stand = Stand::new(protocol);
            bend(&stand.script, protocol, &bent);
            stand.log_in().await.err().unwrap()
        };
        let failure: Failure = refused(Bent::Password).await;
        assert_eq!(failure.class, Class::Credentials, "{protocol}: {failure}");
        assert!(!failure.to_string().contains(PASSWORD), "{protocol}: {failure}");
        let failure = refused(Bent::Busy).await;
        assert!(failure.passes() && failure.class != Class::Credentials, "{protocol}: {failure}");
    }
}

#[tokio::test]
async fn a_further_session_costs_no_turn_where_there_may_be_one_and_never_waits() {
    for protocol in Protocol::OF_SERVERS {
        let stand = Stand::bounded(protocol, 2);
        let mut source = stand.source().await;
        let (inbox, listed) = list(&mut *source).await;
        let login = Login::own("anna@a.test".into(), Secret::new(PASSWORD));
        let further = driver(protocol).greet_if_free(stand.way()).await.unwrap();
        let (Some(known), Some(further)) = (source.known(), further) else {
            assert_eq!(protocol, Protocol::Pop3, "a maildrop takes one session");
            continue;
        };
        let session = further.login(&login).await.unwrap();
        stand.script.forget();
        let mut beside = session.source_beside(&known).unwrap();
        assert!(stand.script.heard().is_empty(), "{protocol}: {:?}", stand.script.heard());
        assert_eq!(beside.open_and_list(&inbox).await.unwrap().1.messages, listed, "{protocol}");
        assert!(
            driver(protocol).greet_if_free(stand.way()).await.unwrap().is_none(),
            "{protocol}: two are open"
        );
    }
}

#[tokio::test]
async fn a_protocol_that_only_reads_says_so_and_writes_nothing() {
    for protocol in Protocol::OF_SERVERS {
        let stand = Stand::new(protocol);
        let opened = stand.log_in().await.unwrap().destination().await;
        let room = stand.log_in().await.unwrap().ask_room().await;
        match protocol {
            Protocol::Imap => {
                assert_eq!(opened.unwrap().list_folders().await.unwrap().len(), 1);
                assert!(room.unwrap().names.is_some());
            }
            Protocol::Maildir | Protocol::Mbox | Protocol::Eml => panic!("files have no server"),
            Protocol::Pop3 => {
                assert_eq!(opened.err().unwrap().class, Class::Refused);
                assert_eq!(room.unwrap_err().class, Class::Refused);
            }
        }
    }
}

#[tokio::test]
async fn files_are_listed_whole_measured_alike_and_handed_out_to_the_byte_and_stay_as_they_are() {
    for protocol in FILES {
        let shelf = Shelf::new(protocol);
        let before = shelf.photograph();
        let mut source = shelf.source().await;
        let (_, mut listed) = list(&mut *source).await;
        assert_eq!(listed.len(), MESSAGES, "{protocol}");
        assert!(listed.is_sorted_by(|a, b| a.locator < b.locator), "{protocol}: {listed:?}");
        let dates = listed.iter().filter(|listed| listed.date.is_some()).count();
        assert_eq!(dates, if protocol == Protocol::Eml { 0 } else { MESSAGES }, "{protocol}");
        listed.sort_by_key(|listed| listed.place);
        let (came, ended) = fetch(&mut *source, &listed).await;
        ended.unwrap();
        let texts = came.into_values().collect::<Vec<_>>();
        let mut expected: Vec<_> = (1..=MESSAGES).map(|at| Ok(bytes(at))).collect();
        if protocol == Protocol::Maildir {
            // They were written within a second.
            expected.sort_by_key(|text: &Result<String, Option<Class>>| texts.iter().position(|t| t == text));
        }
        assert_eq!(texts, expected, "{protocol}");
        source.close().await;

        let mut session = shelf.enter().await;
        let mut measuring = Measuring::default();
        session.measure(&Scope::default(), &FolderRules::default(), &mut measuring).await.unwrap();
        assert!(measuring.has_unique_ids() && measuring.take_damage().is_empty(), "{protocol}");
        let size = measuring.into_size();
        let bytes: u64 = listed.iter().map(|listed| listed.size).sum();
        assert_eq!((size.messages, size.bytes), (MESSAGES as u64, bytes), "{protocol}");
        let inbox = session.list_inbox().await.unwrap().unwrap();
        assert_eq!(inbox.iter().map(|(_, size)| size).sum::<u64>(), bytes, "{protocol}");
        session.close().await;
        assert_eq!(shelf.photograph(), before, "{protocol}: nothing changes at a source");
    }
}

#[tokio::test]
async fn a_message_of_files_that_cannot_be_read_is_named_and_its_neighbours_come() {
    for (protocol, third) in [(Protocol::Maildir, "cur/1700000003.a:2,"), (Protocol::Eml, "3.eml")] {
        let shelf = Shelf::new(protocol);
        // It says that it is compressed, and is not.
        fs::write(shelf.home.path().join(third), b"\x1f\x8bnothing").unwrap();
        let mut source = shelf.source().await;
        let (_, listed) = list(&mut *source).await;
        let (came, ended) = fetch(&mut *source, &listed).await;
        ended.unwrap();
        let named: Vec<u64> = came.iter().filter(|(_, came)| came.is_err()).map(|(key, _)| *key).collect();
        assert_eq!((named, &came[&3]), (vec![3], &Err(Some(Class::Message))), "{protocol}");
    }
}

#[tokio::test]
async fn files_that_are_not_there_are_told_and_made_where_mail_goes() {
    for protocol in FILES {
        let mut shelf = Shelf::new(protocol);
        let there = shelf.home.path().join("none/x");
        shelf.endpoint = Endpoint::files(protocol, there.to_str().unwrap());
        let failure = shelf.enter().await.source(LabelRule::default()).await.err().unwrap();
        assert_eq!(failure.class, Class::Configuration, "{protocol}: {failure}");
        assert!(shelf.enter().await.ask_room().await.unwrap().names.is_some(), "{protocol}");
        assert!(!there.exists(), "{protocol}: a question makes nothing");
        let mut destination = shelf.enter().await.destination().await.unwrap();
        assert_eq!(destination.list_folders().await.unwrap().len(), 1, "{protocol}: the Inbox");
        assert!(there.is_dir(), "{protocol}");
    }
}
