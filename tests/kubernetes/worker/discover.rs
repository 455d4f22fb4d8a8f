//! `mailferry discover`.

use mailferry::cluster::work::Task;
use mailferry::model::failure::Class;
use mailferry::model::finding::Code;
use serde_json::json;

use crate::support::ca::Ca;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};
use crate::support::tokens::{Client, TokenServer};
use crate::worker::pod::{Pod, carry, config_map, domain};

fn task() -> Task {
    let results = vec!["seen-0".to_owned(), "seen-1".to_owned()];
    Task::Discover { inputs: "abc".to_owned(), round: 2, results, before: Vec::new() }
}

fn server() -> Dovecot {
    Dovecot::builder()
        .imap(LOOPBACK)
        .user(User::new("anna@old.test", "anna-secret"))
        .user(User::new("bert@old.test", "bert-secret"))
        .start()
}

#[test]
fn what_a_domain_speaks_is_written_down_whatever_it_is() {
    let (old, pod) = (server(), Pod::new());
    for name in ["seen-0", "seen-1"] {
        pod.space.apply(&config_map(name));
    }
    pod.mount(
        "secrets",
        "old",
        &[("mailboxes.csv", "address,password\nanna@old.test,anna-secret\nbert@old.test,wrong\n")],
    );
    pod.give(&pod.work(&old, &domain("IMAP", old.imap(), &["anna", "bert"]), &json!({}), task()));
    assert!(pod.discovery(&["seen-0".into(), "seen-1".into()]).is_none());
    let ended = pod.run("discover");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let found = pod.discovery(&["seen-0".into(), "seen-1".into()]).unwrap();
    assert_eq!((found.inputs.as_str(), found.round), ("abc", 2));
    assert_eq!(found.mailboxes.unwrap().len(), 2);
    let [anna, bert] = &found.discovery.mailboxes[..] else { panic!("{:?}", found.discovery) };
    assert_eq!(anna.endpoint.as_ref().unwrap().port, old.imap().port());
    assert_eq!(bert.failure.as_ref().unwrap().class, Class::Credentials);

    // The count of refused logins is in the ledgers' volume: the next pod knows of it.
    for _ in 0..3 {
        assert_eq!(pod.run("discover").code, 0);
    }
    let found = pod.discovery(&["seen-0".into(), "seen-1".into()]).unwrap();
    let spent = |finding: &mailferry::model::finding::Finding| finding.code == Code::LoginAttemptsSpent;
    assert!(found.discovery.findings.iter().any(spent), "{:?}", found.discovery.findings);
    let refused =
        old.log().lines().filter(|line| line.contains("bert@old.test") && line.contains("mismatch")).count();
    assert!(refused <= 2, "{}", old.log());
    for secret in ["anna-secret", "wrong"] {
        assert!(!ended.stderr.contains(secret), "{}", ended.stderr);
    }
}

#[test]
fn a_refresh_token_that_is_good_for_once_is_told_of() {
    let (ca, pod) = (Ca::new(), Pod::new());
    let tokens =
        TokenServer::start(&ca, &[("app", Client::Secret("app-secret".to_owned()))], &["anna-refresh"]);
    let old = Dovecot::builder().imap(LOOPBACK).user(User::new("anna@old.test", "of no use"));
    let old = tokens.believed_by(old, &["anna@old.test"]).start();
    pod.space.apply(&config_map("seen-0"));
    let rows = "address,refreshToken\nanna@old.test,anna-refresh\n";
    let url = tokens.url();
    pod.mount("secrets", "old", &[("clientId", "app"), ("tokenUrl", &url), ("mailboxes.csv", rows)]);
    pod.mount("configmaps", "ours", &[("ca.crt", ca.pem())]);
    let mut domain = domain("IMAP", old.imap(), &["anna"]);
    domain["caRef"] = json!({"name": "ours"});
    let names = ["seen-0".to_owned()];
    let task =
        Task::Discover { inputs: "abc".to_owned(), round: 1, results: names.to_vec(), before: Vec::new() };
    pod.give(&pod.work(&old, &domain, &json!({}), task));
    let ended = pod.run("discover");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let found = pod.discovery(&names).unwrap().discovery;
    assert!(found.mailboxes[0].endpoint.is_some(), "{found:?}");
    let told = found.findings.iter().find(|finding| finding.code == Code::RefreshTokenReplaced);
    assert!(told.unwrap().message.contains("1 refresh token "), "{:?}", found.findings);
}

#[test]
fn a_domain_that_cannot_be_asked_says_what_is_missing_and_where() {
    let (old, pod) = (server(), Pod::new());
    pod.space.apply(&config_map("seen-0"));
    let names = ["seen-0".to_owned()];
    let task =
        || Task::Discover { inputs: "abc".to_owned(), round: 1, results: names.to_vec(), before: Vec::new() };
    let listed = domain("IMAP", old.imap(), &["anna"]);
    let seen = |work| {
        pod.give(&work);
        let ended = pod.run("discover");
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        pod.discovery(&names).unwrap()
    };
    // The Secret does not exist: its directory is empty.
    std::fs::create_dir_all(pod.ledgers().with_file_name("secrets").join("old")).unwrap();
    let found = seen(pod.work(&old, &listed, &json!({}), task()));
    let failure = found.discovery.failure.unwrap();
    assert_eq!(
        failure.sentence(),
        format!(
            "spec.domains[3].credentialsRef.name: Secret \"old\" does not exist in namespace {}, or has no key username, \
             masterUser, clientId, serviceAccount.json or mailboxes.csv",
            pod.space.name()
        )
    );
    assert!(failure.hint.unwrap().starts_with("kubectl create secret generic old -n "));
    assert_eq!(found.discovery.findings[0].code, Code::CredentialsMissing);
    assert_eq!(found.mailboxes.unwrap().len(), 1, "what the manifest lists is known all the same");

    // The list is in a ConfigMap that does not exist, and then it is there.
    pod.mount("secrets", "old", &[("username", "anna@old.test"), ("password", "anna-secret\n")]);
    let mut by_map = listed.clone();
    by_map["mailboxes"] = json!({"configMapRef": {"name": "users"}});
    let found = seen(pod.work(&old, &by_map, &json!({}), task()));
    let sentence = found.mailboxes.unwrap_err().sentence();
    assert!(
        sentence.starts_with("spec.domains[3].mailboxes.configMapRef: ConfigMap \"users\" does not exist in"),
        "{sentence}"
    );
    assert_eq!(found.discovery.findings[0].code, Code::MailboxListMissing);
    pod.mount("configmaps", "users", &[("mailboxes.csv", "address\nanna@old.test\n")]);
    let found = seen(pod.work(&old, &by_map, &json!({}), task()));
    assert!(found.discovery.mailboxes[0].endpoint.is_some(), "{:?}", found.discovery);

    // The authority is not there.
    let mut trusting = listed;
    trusting["caRef"] = json!({"name": "ours"});
    let found = seen(pod.work(&old, &trusting, &json!({}), task()));
    let sentence = found.discovery.failure.unwrap().sentence();
    assert!(
        sentence.starts_with("spec.domains[3].caRef: ConfigMap \"ours\" does not exist in namespace "),
        "{sentence}"
    );

    // The database of the ledgers is unknown: logins cannot be counted, so none is made.
    let mut work = pod.work(&old, &domain("IMAP", old.imap(), &["anna"]), &json!({}), task());
    work.migration.spec.ledger =
        serde_json::from_value(json!({"postgres": {"credentialsRef": {"name": "db"}}})).unwrap();
    let before = old.log().matches("Login:").count();
    let failure = seen(work).discovery.failure.unwrap();
    assert!(failure.sentence().contains("Secret \"db\" does not exist in namespace"), "{failure}");
    assert_eq!(old.log().matches("Login:").count(), before);
}

#[test]
fn a_pod_without_its_work_or_with_somebody_elses_says_so() {
    let (old, pod) = (server(), Pod::new());
    let ended = pod.run("discover");
    assert_eq!(ended.code, 23, "{}", ended.stderr);
    assert!(ended.error().contains("work.json.gz: cannot be read"), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: workers are started by the operator"), "{}", ended.stderr);
    pod.give(&pod.work(&old, &domain("IMAP", old.imap(), &["anna"]), &json!({}), carry(1, &[])));
    assert_eq!(pod.run("discover").code, 31);
    pod.give(&pod.work(&old, &domain("IMAP", old.imap(), &["anna"]), &json!({}), task()));
    assert_eq!(pod.run("sync").code, 31);
    // The ConfigMaps of the answer are gone.
    let ended = pod.run("discover");
    assert_eq!(ended.code, 23, "{}", ended.stderr);
    assert!(ended.error().contains("ConfigMap seen-0 cannot be written"), "{}", ended.stderr);
}
