//! The dry plan, and the papers that are made of it: checklist, statement of work, what changed, a supporter's bundle.

use std::fs;

use serde_json::{Value, json};

use mailferry::api::manifest;

use crate::examples::scene::{NEW_HOST, Played, Scene, account, fill, findings, spoken};
use crate::support::authority::{Authority, Zone, addresses};
use crate::support::dns::Record;
use crate::support::dovecot::{LOOPBACK, User};

#[test]
fn the_records_of_a_move_are_told_before_anything_is_run() {
    let (_, at) = addresses(1);
    let text = format!(
        "$ORIGIN lucerne.example.\n$TTL 86400\n@ IN SOA ns hostmaster 1 3600 600 604800 300\n@ IN NS ns\nns IN A {}\n@ IN MX 10 mail\n",
        at[0]
    );
    let _zone = Authority::start(at[0], Zone::Primary("lucerne.example".into(), text, Vec::new()));
    let played = Scene::of("cutover.yaml").publishes([Record::forward("lucerne.example", at[0])]).set();
    let told = played.succeeds("dns", &[]);
    for words in [
        "    now       10 mail.lucerne.example (TTL 1 day)\n    wanted    10 mx1.new-hoster.example, 20 mx2.new-hoster.example\n",
        "    seen      not yet, at none of 1 name server\n",
        "its TTL is 1 day: lower it to an hour or less at least 1 day before the change",
    ] {
        assert!(told.contains(words), "{words}\n{told}");
    }
    let zone = played.succeeds("dns", &["--output", "zone"]);
    assert!(zone.contains("\nlucerne.example. 3600 IN MX 10 mx1.new-hoster.example.\n"), "{zone}");
    let page = played.place.path().join("dns.html");
    played.succeeds("report", &["--kind", "dns", "-o", page.to_str().unwrap()]);
    assert!(fs::read_to_string(page).unwrap().contains("mx2.new-hoster.example"));
}

#[test]
fn a_dry_plan_touches_nothing() {
    let scene = Scene::of("dry-plan.yaml");
    let users = ["ina@litware.example", "jo@litware.example"];
    let host = "imap.litware.example";
    let source = scene
        .server(host)
        .imaps(LOOPBACK)
        .user(User::new(users[0], "nobody-knows"))
        .user(User::new(users[1], "nobody-knows"))
        .master("archivist", "archivist-password")
        .start();
    let destination = scene.destination(&users);
    let filled = fill(&source, users[0], 16, 30) + fill(&source, users[1], 17, 10);
    fill(&destination, users[0], 18, 3);
    let played = scene
        .plays(NEW_HOST, 993, destination.imaps())
        .knows(host)
        .publishes([
            Record::srv("_imaps._tcp.litware.example", host, source.imaps().port()),
            Record::srv_none("_pop3s._tcp.litware.example"),
        ])
        .set();
    let look = || users.map(|user| (account(&source, user), account(&destination, user)));
    let before = look();
    let result = played.run();
    assert!(look() == before, "a plan changes nothing, neither here nor there");
    let status = &result["status"];
    assert_eq!((&status["phase"], &status["messages"]["source"]), (&json!("Planned"), &json!(filled)));
    assert_eq!(status["messages"]["pending"], json!(filled));
    assert!(status["plan"]["digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(spoken(&result, 0), (json!({"IMAP": 2}), false));
    assert!(findings(&result, 0).contains("ProtocolNotOffered"));
    assert!(played.place.path().join("state/report.html").exists());
    the_checklist_is_filled_in(&played);
    the_work_is_stated(&played);
    the_plan_is_shown_and_compared(&played, status["plan"]["digest"].as_str().unwrap());
    a_supporter_gets_no_secret(&played);
}

fn the_checklist_is_filled_in(played: &Played) {
    let form: Value = serde_json::from_str(&played.succeeds("checklist", &["--output", "json"])).unwrap();
    let state = |field: &str| {
        let item = form["items"].as_array().unwrap().iter().find(|item| item["field"] == field);
        item.unwrap()["state"].as_str().unwrap().to_owned()
    };
    let states = ["mailboxes", "domains.protocols", "sizes.largestMessageMegabytes", "privacy"].map(state);
    assert_eq!(states, ["contradicted", "answered", "discovered", "unknown"]);
    assert_eq!(form["counts"]["contradicted"], 1);
    let page = played.succeeds("checklist", &[]);
    assert!(
        page.contains("- **2. Number of mailboxes** The checklist counts 3 mailboxes, and the plan has 2."),
        "{page}"
    );
    // The form in YAML is what a manifest takes: with it in place of the answers, the manifest says the same and more.
    let text = fs::read_to_string(&played.manifest).unwrap();
    let form = played.succeeds("checklist", &["-o", "yaml"]);
    let (_, form) = form.split_once("\nspec:\n").unwrap();
    let (before, _) = text.split_once("  # The answers that the customer gave").unwrap();
    let manifest = manifest::read(&[("filled.yaml", format!("{before}{form}"))]).unwrap();
    let filled = manifest.migrations[0].spec.checklist.clone().unwrap();
    assert_eq!((filled.mailboxes, filled.sizes.unwrap().largest_mailbox_gigabytes), (Some(3), Some(1)));
}

fn the_work_is_stated(played: &Played) {
    let text = played.succeeds("report", &["--kind", "sow", "--format", "md"]);
    for part in [
        "For Litware Ltd",
        "| litware.example | IMAP | 2 |",
        "- **To clear up, Number of mailboxes.** The checklist counts 3 mailboxes, and the plan has 2.",
        "assumed, until a first pass has measured it",
        "Signed by ",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let refused = played.mailferry("report", &["--kind", "sow", "--format", "csv"]);
    assert_eq!(refused.status.code(), Some(23));
}

fn the_plan_is_shown_and_compared(played: &Played, digest: &str) {
    let plan: Value = serde_json::from_str(&played.succeeds("plan", &["-o", "json"])).unwrap();
    assert_eq!((&plan["digest"], &plan["approved"]), (&json!(digest), &Value::Null));
    let shown = played.succeeds("plan", &[]);
    assert!(shown.contains(digest) && shown.contains("ina@litware.example"), "{shown}");
    assert!(played.succeeds("plan", &["--diff"]).contains("no other plan"));
    // The order: just this plan. Then somebody changes what is left out.
    let text = fs::read_to_string(&played.manifest).unwrap();
    let approved = text.replace("  stage: Plan\n", &format!("  stage: Sync\n  approvedPlan: \"{digest}\"\n"));
    let changed = approved.replace("  policy: {", "  policy: {since: 2019-01-01, ");
    assert_ne!(changed, approved);
    fs::write(&played.manifest, &changed).unwrap();
    let refused = played.mailferry("run", &[]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(23), "{said}");
    assert!(
        said.contains("is not the approved one; since then spec.policy.since: new, 2019-01-01"),
        "{said}"
    );
    let compared = played.succeeds("plan", &["--diff"]);
    assert!(
        compared.contains("the approved plan of ")
            && compared.contains("@@ spec.policy.since\n+ 2019-01-01\n"),
        "{compared}"
    );
    let missing = played.mailferry("plan", &["--against", "beef"]);
    assert_eq!(missing.status.code(), Some(23));
    fs::write(&played.manifest, &text).unwrap();
    played.run();
}

fn a_supporter_gets_no_secret(played: &Played) {
    use std::io::Read;
    for hidden in [false, true] {
        let path = played.place.path().join(format!("support-{hidden}.tar.gz"));
        let mut args = vec!["--out", path.to_str().unwrap(), "--output", "json"];
        if hidden {
            args.push("--hash-addresses");
        }
        let said: Value = serde_json::from_str(&played.succeeds("support-bundle", &args)).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(&path).unwrap()));
        let mut files = std::collections::BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            files.insert(name, text);
        }
        for (name, text) in &files {
            for secret in ["archivist-password", "migration-password", "Subject:"] {
                assert!(!text.contains(secret), "{name} holds {secret}");
            }
            let person = text.contains("ina@litware.example") || text.contains("Ms Ito, ");
            assert!(!hidden || !person, "{name} names a person");
        }
        let index: Value = serde_json::from_str(&files["mailferry-support-litware/index.json"]).unwrap();
        assert_eq!(index, said["index"]);
        let listed = index["files"].as_array().unwrap();
        assert_eq!(listed.len() + 1, files.len());
        for file in listed {
            let text = &files[&format!("mailferry-support-litware/{}", file["name"].as_str().unwrap())];
            assert_eq!(file["bytes"], text.len());
        }
        assert!(
            files.keys().any(|name| name.ends_with("discovery/litware.example.json")),
            "{:?}",
            files.keys()
        );
        let named = files["mailferry-support-litware/plan.json"].contains("ina@litware.example");
        assert_eq!(named, !hidden, "addresses are in it unless they are hidden");
    }
}
