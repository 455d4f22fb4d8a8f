//! Facts that servers report after a login: their name, their namespaces, the quota, lasting names of messages.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use mailferry::model::evidence::{DomainDiscovery, Grade, Quota};
use mailferry::model::finding::Code;
use mailferry::model::protocol::Protocol;

use super::world::{World, codes, mailbox, protocols};
use crate::support::ca::Ca;
use crate::support::corpus::Corpus;
use crate::support::dns::Record;
use crate::support::dovecot::{Access, Dovecot, LOOPBACK, User};
use crate::support::imap::Client;

/// Folders that everybody may read, whoever the server runs as.
fn public_folders(root: &Path, names: &[&str]) {
    let open = |path: &Path| {
        fs::create_dir_all(path).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    };
    open(root);
    for name in names {
        for part in ["", "cur", "new", "tmp"] {
            open(&root.join(format!(".{name}")).join(part));
        }
    }
}

#[tokio::test]
async fn a_logged_in_mailbox_tells_of_the_server_and_of_the_account() {
    let ca = Ca::new();
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let root = folder.path().join("public");
    public_folders(&root, &["Info", "Team"]);
    let server = Dovecot::builder()
        .imaps(LOOPBACK)
        .pop3s(LOOPBACK)
        .tls(&ca.issue(&["mail.aa.test"]))
        .user(User::new("ada@aa.test", "ada-secret").quota(5_000_000))
        .user(User::new("pop@aa.test", "pop-secret").only(Access::Pop3))
        .setting(&format!(
            "namespace public {{\n type = public\n separator = /\n prefix = Public/\n location = maildir:{}\n \
             subscriptions = no\n list = yes\n}}\nimap_id_send = name * version *",
            root.display()
        ))
        .start();
    server.mailbox("ada@aa.test").seed(Corpus::new(5).inbox_only().messages(3));
    let world = World::new(
        ca,
        &[
            Record::srv("_imaps._tcp.aa.test", "mail.aa.test", server.imaps().port()),
            Record::srv("_pop3s._tcp.aa.test", "mail.aa.test", server.pop3s().port()),
            Record::a("mail.aa.test", "127.0.0.1"),
        ],
    );
    let account = format!("{:?}", server.mailbox("ada@aa.test").read_all());
    let request = world
        .request("aa.test", vec![mailbox("ada@aa.test", "ada-secret"), mailbox("pop@aa.test", "pop-secret")]);
    let found = world.discover(&request).await;
    assert_eq!(protocols(&found), [Some(Protocol::Imap), Some(Protocol::Pop3)], "{found:#?}");

    let [imap, pop3] = &found.sessions[..] else { panic!("{:#?}", found.sessions) };
    assert_eq!((imap.endpoint.protocol, pop3.endpoint.protocol), (Protocol::Imap, Protocol::Pop3));
    assert!(imap.id.contains(&"name=Dovecot".to_owned()), "{imap:#?}");
    assert_eq!((&imap.personal[..], &imap.shared[..]), (&[String::new()][..], &["Public/".to_owned()][..]));
    // Its capabilities after the login are more than it lists before it.
    let before = found.servers.iter().find(|facts| facts.endpoint == imap.endpoint).unwrap();
    assert!(!before.capabilities.has("QUOTA") && imap.capabilities.has("QUOTA"), "{imap:#?}");
    assert!(pop3.unique_ids && pop3.capabilities.has("UIDL"), "{pop3:#?}");

    let size = found.mailboxes[0].size.as_ref().unwrap();
    let Some(Quota { used, limit }) = size.quota else { panic!("{size:#?}") };
    // The limit is counted in 1,024 bytes, the server rounds it.
    assert!(limit.abs_diff(5_000_000) < 1_024 && used > 0 && used < limit, "{size:#?}");
    assert_eq!((size.messages, size.foreign), (3, 2), "folders of others are not this mailbox's mail");
    let mut expected = vec![Code::PopMailboxesPresent, Code::MixedProtocols, Code::SharedFoldersSeen];
    expected.sort_unstable();
    assert_eq!(codes(&found), expected, "{:#?}", found.findings);
    let evidence = found.evidence.iter().find(|e| e.grade == Grade::A).unwrap();
    assert!(evidence.excerpt.as_ref().unwrap().contains("name=Dovecot"), "{evidence:#?}");
    assert_eq!(account, format!("{:?}", server.mailbox("ada@aa.test").read_all()), "nothing was changed");
}

#[tokio::test]
async fn a_silent_pop3_server_does_not_let_imap_spend_the_last_try() {
    let ca = Ca::new();
    let certificate = ca.issue(&["mail.bb.test", "pop.bb.test"]);
    let user = || User::new("kiosk@bb.test", "kiosk-secret").only(Access::Pop3);
    let imap = Dovecot::builder().imaps(LOOPBACK).tls(&certificate).user(user()).start();
    let mut pop3 = Dovecot::builder().pop3s(LOOPBACK).tls(&certificate).user(user()).start();
    let world = World::new(
        ca,
        &[
            Record::srv("_imaps._tcp.bb.test", "mail.bb.test", imap.imaps().port()),
            Record::srv("_pop3s._tcp.bb.test", "pop.bb.test", pop3.pop3s().port()),
            Record::a("mail.bb.test", "127.0.0.1"),
            Record::a("pop.bb.test", "127.0.0.1"),
        ],
    );
    let request = world.request("bb.test", vec![mailbox("kiosk@bb.test", "kiosk-secret")]);
    // The server writes of a refusal when the connection ends.
    let refusals = |expected: usize| {
        let count = || imap.log().lines().filter(|line| line.contains("kiosk@bb.test")).count();
        for _ in 0..100 {
            if count() >= expected {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        count()
    };
    let tried = |found: &DomainDiscovery| -> Vec<Protocol> {
        found.mailboxes[0].attempts.iter().map(|attempt| attempt.endpoint.protocol).collect()
    };
    pop3.stop();
    let first = world.discover(&request).await;
    assert_eq!((protocols(&first), refusals(1)), (vec![None], 1), "{first:#?}");

    let second = world.discover(&request).await;
    assert_eq!((protocols(&second), refusals(1)), (vec![None], 1), "the last try is kept: {second:#?}");
    let failure = second.mailboxes[0].failure.as_ref().unwrap();
    assert!(failure.what.contains("refused this password before, and POP3 at pop.bb.test:"), "{failure}");
    assert_eq!(
        (codes(&first), codes(&second)),
        (vec![Code::CredentialsRejected], vec![Code::CredentialsRejected])
    );

    pop3.start();
    let found = world.discover(&request).await;
    assert_eq!(protocols(&found), [Some(Protocol::Pop3)], "{found:#?}");
    // POP3 first, and IMAP once more, now that the password is known to be right: it might carry more.
    assert_eq!((tried(&found), refusals(2)), (vec![Protocol::Pop3, Protocol::Imap], 2));
    assert_eq!(found.failure, None);
}

#[tokio::test]
async fn imap_and_pop3_are_compared_once_and_only_where_it_changes_nothing() {
    let ca = Ca::new();
    let server = Dovecot::builder()
        .imaps(LOOPBACK)
        .imap(LOOPBACK)
        .pop3s(LOOPBACK)
        .tls(&ca.issue(&["mail.t.test"]))
        .user(User::new("fresh@t.test", "fresh-secret"))
        .user(User::new("only@t.test", "only-secret").only(Access::Imap))
        .user(User::new("tina@t.test", "tina-secret"))
        .start();
    server.deliver("fresh@t.test", "1.new", b"Subject: new\r\n\r\nhello\r\n");
    for who in ["only@t.test", "tina@t.test"] {
        let mut client = server.mailbox(who);
        client.seed(Corpus::new(4).inbox_only().messages(7));
        // A client that has seen them takes \Recent off.
        client.select("INBOX").unwrap();
    }
    let world = World::new(
        ca,
        &[
            Record::srv("_imaps._tcp.t.test", "mail.t.test", server.imaps().port()),
            Record::srv("_pop3s._tcp.t.test", "mail.t.test", server.pop3s().port()),
            Record::a("mail.t.test", "127.0.0.1"),
        ],
    );
    let recent = || {
        let mut client = Client::login(server.imap(), "fresh@t.test", "fresh-secret").unwrap();
        client.status("INBOX", "MESSAGES RECENT").unwrap()
    };
    let before = recent();
    assert!(before.contains("RECENT 1"), "{before}");
    let compared = |found: &DomainDiscovery| -> Vec<String> {
        let statements = found.evidence.iter().map(|evidence| evidence.statement.clone());
        statements.filter(|statement| statement.starts_with("IMAP at ")).collect()
    };
    let fresh = mailbox("fresh@t.test", "fresh-secret");
    let found = world
        .discover(&world.request("t.test", vec![fresh.clone(), mailbox("tina@t.test", "tina-secret")]))
        .await;
    let [statement] = &compared(&found)[..] else { panic!("{:#?}", found.evidence) };
    let expected = "show one Inbox of one mailbox: all 7 messages agree in size, and the UIDLs hold the UIDs";
    assert!(statement.ends_with(expected), "{statement}");
    assert_eq!(recent(), before, "the mailbox with a message that nobody has seen was left alone");
    assert!(found.mailboxes.iter().all(|mailbox| mailbox.attempts.len() == 1), "{:#?}", found.mailboxes);

    // A refusal by POP3 is reported once, not with every look.
    let request = world.request("t.test", vec![mailbox("only@t.test", "only-secret")]);
    for looks in 0..3 {
        let found = world.discover(&request).await;
        assert_eq!(protocols(&found), [Some(Protocol::Imap)], "{found:#?}");
        assert_eq!(compared(&found).len(), usize::from(looks == 0), "{:#?}", found.evidence);
    }
    let log = server.log();
    let refused = log.lines().filter(|line| line.contains("pop3-login") && line.contains("only@t.test"));
    assert_eq!(refused.count(), 1, "{log}");
}
