//! A Secret that is not there yet, that is wrong, and that is right at last: nobody does anything but `kubectl apply`.

use crate::operator::installed::{Installed, PATIENCE, condition_of};
use crate::operator::pair::{NAMES, Pair, list};
use crate::support::cluster::Cluster;

#[test]
fn a_secret_that_is_missing_then_wrong_then_right_is_picked_up_each_time() {
    let pair = Pair::start(Cluster::get().host(), 20);
    let installed = Installed::new(None, &[]);
    let space = &installed.space;
    space.apply(&list(&[Pair::destination_secret(), pair.migration(10_000_000)]));
    let missing = installed.wait_for_reason("move", "InvalidConfiguration");
    let message = condition_of(&missing, "Ready").unwrap()["message"].as_str().unwrap().to_owned();
    for part in
        ["Secret \"old\" does not exist", &format!("kubectl create secret generic old -n {}", space.name())]
    {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(pair.old.log().matches("Login").count(), 0, "nobody logs in without a password");

    space.apply(&Pair::source_secret("wrong").to_string());
    let refused = installed.wait_for("move", "CredentialsAccepted", "False");
    let message = condition_of(&refused, "CredentialsAccepted").unwrap()["message"].as_str().unwrap();
    assert!(
        message.contains("2 mailboxes could not log in. anna@old.test: ")
            && message.contains("in the Secret."),
        "{message}"
    );
    // A user who asks for another look gets one, and the server no third try.
    for round in ["2", "3"] {
        let asked = format!(r#"{{"spec":{{"trigger":{{"discover":"{round}"}}}}}}"#);
        space.kubectl(&["patch", "mm", "move", "--type=merge", "-p", &asked]);
        space.wait_until("it was looked at", PATIENCE, || {
            let object = installed.migration("move");
            let looked = object["status"]["trigger"]["discover"] == round;
            if looked { Ok(()) } else { Err(object["status"].to_string()) }
        });
    }
    for name in NAMES {
        let refusals = pair
            .old
            .log()
            .lines()
            .filter(|line| line.contains(&format!("user=<{name}@old.test>")) && line.contains("auth failed"))
            .count();
        assert!((1..=2).contains(&refusals), "{name} was refused {refusals} times:\n{}", pair.old.log());
    }

    space.apply(&Pair::source_secret("secret").to_string());
    installed.wait_for("move", "Ready", "True");
    pair.assert_moved_to(&pair.new);
}
