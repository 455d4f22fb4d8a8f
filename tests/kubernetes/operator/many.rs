//! Five thousand mailboxes that fail, each for itself: the status stays small, counts are right, and nothing drowns.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::operator::installed::Installed;
use crate::operator::node::Operator;
use crate::support::ca::Ca;
use crate::support::cluster::Cluster;
use crate::support::corpus::Corpus;
use crate::support::dovecot::{Dovecot, User};

/// Mailboxes.
const COUNT: usize = 5_000;
/// How long it may take on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_mins(8);

/// A manifest of one domain, of whose mailboxes only the first has a password.
fn manifest(source: &Dovecot, new: &Dovecot, ca: &Ca) -> String {
    let host = source.imaps().ip();
    let pem = ca.pem().trim_end().replace('\n', "\n    ");
    let (from, to) = (source.imaps().port(), new.imaps().port());
    let mut text = format!(
        "
apiVersion: v1
kind: Secret
metadata: {{name: source}}
stringData:
  mailboxes.csv: |
    address,username,password
    user0@many.test,user0@many.test,user0-secret
---
apiVersion: v1
kind: Secret
metadata: {{name: new}}
stringData: {{masterUser: newadmin, masterPassword: new-secret, masterSeparator: \"*\"}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: mail-ca}}
data:
  ca.crt: |
    {pem}
---
apiVersion: mailferry.dev/v1alpha1
kind: MailMigration
metadata: {{name: many}}
spec:
  stage: Sync
  destination:
    imap:
      host: {host}
      port: {to}
      tls: Implicit
      caRef: {{kind: ConfigMap, name: mail-ca, key: ca.crt}}
      credentialsRef: {{name: new}}
  policy: {{allowedNetworks: [\"{host}/32\"]}}
  domains:
  - name: many.test
    credentialsRef: {{name: source}}
    caRef: {{kind: ConfigMap, name: mail-ca, key: ca.crt}}
    servers:
    - {{protocol: IMAP, host: {host}, port: {from}, tls: Implicit}}
    mailboxes:
      list:
"
    );
    for n in 0..COUNT {
        writeln!(text, "      - {{address: user{n}@many.test}}").unwrap();
    }
    text
}

#[test]
fn five_thousand_failing_mailboxes_keep_the_status_small() {
    let (ca, any) = (Ca::new(), SocketAddr::new(Cluster::get().host(), 0));
    let certificate = ca.issue(&[&any.ip().to_string()]);
    let user = || User::new("user0@many.test", "user0-secret");
    let source = Dovecot::builder().imaps(any).tls(&certificate).user(user()).start();
    let new =
        Dovecot::builder().imaps(any).tls(&certificate).user(user()).master("newadmin", "new-secret").start();
    source.mailbox("user0@many.test").seed(Corpus::new(61).messages(5));
    let installed = Installed::new(None, &[]);
    let space = &installed.space;
    let begun = Instant::now();
    // A list of this length is too long for the annotation of a client-side apply.
    space.try_apply(&manifest(&source, &new, &ca), &["--server-side"]).unwrap();
    let status = space.wait_until("all but one have failed", PATIENCE, || {
        let status = installed.migration("many")["status"].clone();
        let counts = &status["counts"];
        let count = |word: &str| counts[word].as_u64().unwrap_or_default();
        let done = count("failed") + count("blocked") == COUNT as u64 - 1 && count("verified") == 1;
        if done { Ok(status) } else { Err(counts.to_string()) }
    });
    println!("told after {:?}", begun.elapsed());
    let standing = space.wait_until("all MailboxMigrations stand", PATIENCE, || {
        let names = space.kubectl(&["get", "mbm", "-o", "name"]);
        let count = names.lines().count();
        if count == COUNT { Ok(begun.elapsed()) } else { Err(count.to_string()) }
    });
    println!("all stand after {standing:?}; counts {}", status["counts"]);

    let object = installed.migration("many");
    let size = object["status"].to_string().len();
    println!("the status has {size} bytes, the object {}", object.to_string().len());
    assert!(size < 64 * 1024, "{size}");
    assert_eq!(object["status"]["counts"]["mailboxes"], COUNT);
    let shown = space.kubectl(&["get", "mm", "many"]);
    assert!(shown.contains("5000"), "{shown}");
    assert!(space.kubectl(&["describe", "mm", "many"]).contains("many.test"));
    let boxes = space.json(&["get", "mbm", "--chunk-size=500"]);
    let all = boxes["items"].as_array().unwrap();
    let biggest = all.iter().map(|mailbox| mailbox["status"].to_string().len()).max().unwrap();
    assert!(biggest <= 2048, "{biggest}");
    let told =
        |mailbox: &&Value| ["Failed", "Blocked"].iter().any(|word| mailbox["status"]["phase"] == *word);
    assert_eq!(all.iter().filter(told).count(), COUNT - 1, "{}", all[0]["status"]);

    let operator = Operator::of(space);
    println!("resident memory of the operator: {} MiB", operator.resident() / (1024 * 1024));
    assert!(operator.resident() < 256 * 1024 * 1024, "the chart's limit");
    // Nothing that is unchanged is written again.
    let writes = || operator.requests(&["create", "patch", "update"]).unwrap();
    let before = writes();
    std::thread::sleep(Duration::from_secs(10));
    let written = writes() - before;
    assert!(written < 60, "{written} writes in 10 s while nothing happens");
}
