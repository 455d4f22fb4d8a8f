//! `mailferry sync`: one slice, from its begin to its end.

use mailferry::api::names;
use mailferry::model::failure::Class;
use mailferry::model::protocol::Protocol;
use serde_json::json;

use crate::support::compare::differences;
use crate::support::corpus::Corpus;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};
use crate::worker::pod::{JOB, Pod, carry, domain, item};

const ADMIN: [(&str, &str); 3] =
    [("masterUser", "admin"), ("masterPassword", "admin-secret"), ("masterSeparator", "*")];

#[test]
fn a_slice_is_carried_and_each_mailbox_is_told_of() {
    let old = Dovecot::builder()
        .imap(LOOPBACK)
        .pop3(LOOPBACK)
        .user(User::new("anna@old.test", "anna-secret"))
        .user(User::new("bert@old.test", "bert-secret"))
        .user(User::new("carl@old.test", "carl-secret"))
        .start();
    let new = Dovecot::builder()
        .imap(LOOPBACK)
        .master("admin", "admin-secret")
        .user(User::new("anna@new.test", "of-no-use"))
        .user(User::new("bert@new.test", "of-no-use"))
        .user(User::new("carl@new.test", "of-no-use"))
        .start();
    old.mailbox("anna@old.test").seed(Corpus::new(1).ordinary_only().with_large(&[700_000]).messages(60));
    old.mailbox("bert@old.test").seed(Corpus::new(2).inbox_only().messages(20));
    old.mailbox("carl@old.test").seed(Corpus::new(3).messages(20));
    let pod = Pod::new();
    let items = [
        pod.item("anna", old.imap(), Protocol::Imap),
        pod.item("bert", old.imap(), Protocol::Imap),
        pod.item("carl", old.pop3(), Protocol::Pop3),
        item("gone", old.imap(), Protocol::Imap),
    ];
    let rows = |bert: &str| {
        format!(
            "address,password\nanna@old.test,anna-secret\nbert@old.test,{bert}\ncarl@old.test,carl-secret\ngone@old.test,x\n"
        )
    };
    pod.mount("secrets", "old", &[("mailboxes.csv", &rows("wrong"))]);
    let spec = domain("IMAP", old.imap(), &["anna", "bert", "carl", "gone"]);
    pod.give(&pod.work(&new, &spec, &json!({"maxMessageBytes": 500_000}), carry(4, &items)));
    let [anna, bert, carl, _] = &items;

    // The destination's Secret is missing: every mailbox says so.
    let ended = pod.run("sync");
    assert_eq!(ended.code, 23, "{}", ended.stderr);
    assert!(
        ended.error().starts_with("anna@old.test: destination: Secret \"new\" does not exist in namespace"),
        "{}",
        ended.stderr
    );
    assert_eq!(pod.status(carl).failure.unwrap().class, Class::Configuration);

    pod.mount("secrets", "new", &ADMIN);
    let ended = pod.run("sync");
    assert_eq!(ended.code, 21, "{}", ended.stderr);
    assert!(ended.error().starts_with("bert@old.test: source: "), "{}", ended.stderr);
    let status = pod.status(anna);
    let pass = status.last_pass.clone().unwrap();
    assert_eq!((pass.number, pass.attempts, pass.finished.is_some()), (4, 2, true));
    assert_eq!(pass.job.as_deref(), Some(JOB));
    assert_eq!(status.failure, None);
    let counts = status.messages.unwrap();
    assert_eq!((counts.source, counts.copied, counts.excluded), (60, 59, 1), "{counts}");
    let result = pod.result(anna).unwrap();
    assert_eq!((result.record.sent, result.record.counts), (59, counts));
    assert_eq!((result.named.len(), result.omitted), (1, 0), "the one that is too large");
    let status = pod.status(bert);
    assert_eq!(status.failure.unwrap().class, Class::Credentials);
    assert_eq!(pod.result(bert).unwrap().record.failure.unwrap().class, Class::Credentials);
    let carls = pod.status(carl).messages.unwrap();
    assert!(carls.source > 0 && carls.copied + carls.excluded == carls.source, "{carls}");

    // The author, as others see it.
    let object = pod.space.json(&["get", "mailboxmigration", &anna.object, "--show-managed-fields"]);
    let fields = object["metadata"]["managedFields"].as_array().unwrap();
    let author = fields.iter().find(|f| f["manager"] == names::MANAGER_PROGRESS).unwrap();
    assert_eq!((&author["operation"], &author["subresource"]), (&json!("Apply"), &json!("status")));

    // The next pod of this Job looks only at what is not through, with the Secret as it is then.
    let logins = |user: &str| old.log().lines().filter(|l| l.contains("Login:") && l.contains(user)).count();
    let before = (logins("anna@"), logins("bert@"));
    pod.mount("secrets", "old", &[("mailboxes.csv", &rows("bert-secret"))]);
    let ended = pod.run("sync");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!((logins("anna@"), logins("bert@")), (before.0, before.1 + 1));
    let status = pod.status(bert);
    let pass = status.last_pass.unwrap();
    assert_eq!((status.failure, pass.attempts, pass.finished.is_some()), (None, 3, true));
    let (here, there) = (old.mailbox("bert@old.test").read_all(), new.mailbox("bert@new.test").read_all());
    assert_eq!(differences(&here, &there), [""; 0]);
    let ended = pod.run("sync");
    assert_eq!((ended.code, logins("bert@")), (0, before.1 + 1), "{}", ended.stderr);
    for secret in ["anna-secret", "admin-secret", "wrong"] {
        assert!(!ended.stderr.contains(secret), "{}", ended.stderr);
    }

    // Another pass finds nothing new.
    let before = new.mailbox("anna@new.test").uid_next();
    pod.give(&pod.work(&new, &spec, &json!({"maxMessageBytes": 500_000}), carry(5, &items)));
    assert_eq!(pod.run("sync").code, 0);
    let pass = pod.status(anna).last_pass.unwrap();
    assert_eq!((pass.number, pass.attempts), (5, 1));
    assert_eq!(pod.result(anna).unwrap().record.sent, 0);
    assert_eq!(new.mailbox("anna@new.test").uid_next(), before);
}
