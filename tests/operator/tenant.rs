//! A tenant of Microsoft 365 as the destination: pods come by tokens, discovery asks each mailbox ahead, and neither the
//! application's secret nor a token is found anywhere.

use std::net::SocketAddr;

use serde_json::json;

use crate::installed::{Installed, PATIENCE};
use crate::pair::{Pair, list, secret};
use crate::secrecy::{assert_logs_clean, assert_objects_clean};
use crate::support::ca::Ca;
use crate::support::canary::Canary;
use crate::support::cluster::Cluster;
use crate::support::compare::differences;
use crate::support::dovecot::{Dovecot, LOOPBACK, User};
use crate::support::exchange::{Exchange, Quirks};
use crate::support::tokens::{Client, TokenServer};

const APP: &str = "8f3f1f2e-app";
const APP_SECRET: &str = "Turnstone~app.secret-7";

#[test]
fn an_application_fills_mailboxes_of_a_tenant_and_each_that_is_closed_is_told_of_with_its_line() {
    let host = Cluster::get().host();
    let at = SocketAddr::new(host, 0);
    let ca = Ca::new();
    let certificate = ca.issue(&[&host.to_string()]);
    let app = (APP, Client::Secret(APP_SECRET.to_owned()));
    let tokens = TokenServer::start_at(at, &certificate, &[app], &[]);
    let pair = Pair::start(host, 60);
    let new = ["anna@new.test", "ben@new.test"]
        .iter()
        .fold(Dovecot::builder().imap(LOOPBACK), |new, name| new.user(User::new(name, "of-no-use")));
    let new = tokens.believed_by(new, &["anna@new.test"]).start();
    let tenant = Exchange::start_at(at, new.imap(), &certificate, Quirks::default());

    let mut migration = pair.migration(1_000_000);
    let (server, application) = (tenant.address(), json!({"name": "tenant"}));
    migration["spec"]["destination"] = json!({"microsoft365": {
        "host": server.ip(), "port": server.port(), "credentialsRef": application,
        "caRef": {"kind": "ConfigMap", "name": "mail-ca", "key": "ca.crt"},
    }});
    let authority = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mail-ca"},
        "data": {"ca.crt": ca.pem()}});
    let application =
        secret("tenant", &json!({"clientId": APP, "clientSecret": APP_SECRET, "tokenUrl": tokens.url()}));
    let installed = Installed::new(None, &["log.filter=trace"]);
    let space = &installed.space;
    space.apply(&list(&[Pair::source_secret("secret"), application, authority, migration]));

    let found = space.wait_until("one mailbox is through, and the other is told of", PATIENCE, || {
        let status = installed.migration("move")["status"].clone();
        let findings = status["domains"][0]["findings"].as_array().cloned().unwrap_or_default();
        let closed = findings.into_iter().find(|finding| finding["code"] == "DestinationMailboxClosed");
        closed.filter(|_| status["counts"]["synced"] == 1).ok_or_else(|| status.to_string())
    });
    let line = format!("Add-MailboxPermission -Identity ben@new.test -User {APP} -AccessRights FullAccess");
    assert!(found.to_string().contains(&line), "{found}");
    let here = pair.old.mailbox("anna@old.test").read_all();
    assert_eq!(differences(&here, &new.mailbox("anna@new.test").read_all()), [""; 0]);

    let mut canaries = vec![Canary::new(APP_SECRET, &[])];
    canaries.extend(tokens.tokens().iter().map(|token| Canary::new(token, &[])));
    assert!(canaries.len() > 2, "a token for discovery, and one for the mail");
    assert_objects_clean(&canaries, space);
    assert!(assert_logs_clean(&canaries, space) > 2, "those of the operator and of both kinds of workers");
}
