//! The day on which mail goes over: not before which moment, how it is waited for the last letters, and the MX records that
//! must be seen. Mailferry changes no DNS.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schedule::Span;

/// The day on which mail goes over. It counts at the stage Cutover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cutover {
    /// Not before this moment, as in 2027-02-01T20:00:00Z or with an offset. Default: as soon as it is safe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// While mail may still arrive at the old servers, a new pass begins so long after the last one began, as in 10m, 10s to
    /// 24h. Default: 10m.
    #[serde(default = "drain_every")]
    #[schemars(
        with = "String",
        length(min = 2, max = 16),
        regex(pattern = r"^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?$")
    )]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s') && duration(self) <= duration('24h')").message(Message::Expression("self + ' is not between 10s and 24h; write how long after one pass the next one begins while mail may still arrive at the old servers, as in 10m'".into())))]
    pub drain_every: Span,
    /// So long nothing new must have arrived at the old servers after the old MX records have ended everywhere, as in 24h, up
    /// to 720h. Default: 24h.
    #[serde(default = "quiet")]
    #[schemars(
        with = "String",
        length(min = 2, max = 16),
        regex(pattern = r"^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?$")
    )]
    #[x_kube(validation = Rule::new("duration(self) >= duration('0s') && duration(self) <= duration('720h')").message(Message::Expression("self + ' is more than 720h; write how long the old servers must have been quiet, as in 24h'".into())))]
    pub quiet: Span,
    /// Domains whose MX records must become what is said here. Default: they are derived where mail goes to Microsoft 365 or
    /// to Google. At most 1,000, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub domains: Vec<CutoverDomain>,
}

impl Default for Cutover {
    fn default() -> Self {
        Self { at: None, drain_every: drain_every(), quiet: quiet(), domains: Vec::new() }
    }
}

fn drain_every() -> Span {
    Span::of_seconds(10 * 60)
}

fn quiet() -> Span {
    Span::of_seconds(24 * 60 * 60)
}

/// What the MX records of a domain must become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CutoverDomain {
    /// The domain, one of spec.domains[].
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\s@/:*]+$"))]
    pub name: String,
    /// The hosts that take its mail after the move, the most preferred first; names, without a preference. 1 to 20.
    #[schemars(
        length(min = 1, max = 20),
        inner(length(min = 1, max = 253), regex(pattern = r"^[^\s/@:\[\]*]+$"))
    )]
    pub mx: Vec<String>,
}

impl Cutover {
    /// The hosts that take the mail of a domain after the move, where they are named here.
    pub fn mx_of(&self, domain: &str) -> Option<&[String]> {
        let named = |entry: &&CutoverDomain| crate::model::address::is_same_domain(&entry.name, domain);
        self.domains.iter().find(named).map(|entry| entry.mx.as_slice())
    }
}

/// The hosts of a list that stand in it once before, by their places.
pub(super) fn repeated(hosts: &[String]) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let once = |host: &String| crate::model::dns::bare(host);
    hosts.iter().enumerate().filter(|(_, host)| !seen.insert(once(host))).map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use crate::api::manifest;

    fn read(cutover: &str) -> Result<manifest::Manifest, String> {
        let text = format!(
            "apiVersion: mailferry.dev/v1alpha1\nkind: MailMigration\nmetadata: {{name: m}}\nspec:\n  \
             destination: {{imap: {{host: imap.new.test, credentialsRef: {{name: new}}}}}}\n  \
             domains: [{{name: old.test, credentialsRef: {{name: old}}}}]\n  cutover: {cutover}\n"
        );
        manifest::read(&[("m.yaml", text)]).map_err(|failure| failure.to_string())
    }

    #[test]
    fn each_field_has_its_meaning_and_a_default() {
        let manifest = read(
            "{at: \"2027-02-01T21:00:00+01:00\", drainEvery: 10s, quiet: 30s, domains: [{name: Old.test, mx: [mx.new.test]}]}",
        );
        let manifest = manifest.unwrap();
        let cutover = manifest.migrations[0].spec.cutover.as_deref().unwrap();
        assert_eq!(cutover.at.unwrap().to_string(), "2027-02-01T20:00:00Z");
        assert_eq!(cutover.drain_every.duration(), SignedDuration::from_secs(10));
        assert_eq!(cutover.quiet.duration(), SignedDuration::from_secs(30));
        assert_eq!(cutover.mx_of("old.test."), Some(&["mx.new.test".to_owned()][..]));
        let manifest = read("{}").unwrap();
        let cutover = manifest.migrations[0].spec.cutover.as_deref().unwrap();
        assert_eq!(
            (cutover.drain_every.to_string(), cutover.quiet.to_string()),
            ("10m".into(), "24h".into())
        );
        assert!(cutover.at.is_none() && cutover.mx_of("old.test").is_none());
    }

    #[test]
    fn wrong_fields_are_told_with_the_value_and_the_remedy() {
        for (cutover, words) in [
            ("{at: tomorrow}", &["spec.cutover.at", "2027-02-01T20:00:00Z"][..]),
            ("{at: \"2027-02-01\"}", &["spec.cutover.at", "2027-02-01T20:00:00Z"]),
            ("{drainEvery: 5s}", &["spec.cutover.drainEvery", "5s is not between 10s and 24h"]),
            ("{drainEvery: 10}", &["spec.cutover.drainEvery"]),
            ("{drainEvery: 3d}", &["spec.cutover.drainEvery"]),
            ("{quiet: 1000h}", &["spec.cutover.quiet", "1000h is more than 720h"]),
            ("{quiet: \"\"}", &["spec.cutover.quiet"]),
            (
                "{domains: [{name: other.test, mx: [a.test]}]}",
                &["domains[0].name", "other.test", "spec.domains[]"],
            ),
            ("{domains: [{name: old.test}]}", &["mx is missing"]),
            ("{domains: [{name: old.test, mx: []}]}", &["domains[0].mx"]),
            ("{domains: [{name: old.test, mx: [\"10 mx.test\"]}]}", &["domains[0].mx[0]"]),
            ("{domains: [{name: old.test, mx: [192.0.2.1]}]}", &["domains[0].mx[0]", "192.0.2.1", "address"]),
            ("{domains: [{name: old.test, mx: [a..test]}]}", &["domains[0].mx[0]", "a..test"]),
            (
                "{domains: [{name: old.test, mx: [localhost]}]}",
                &["domains[0].mx[0]", "localhost", "mx.new.example"],
            ),
            (
                "{domains: [{name: old.test, mx: [a.test, A.test.]}]}",
                &["domains[0].mx[1]", "A.test.", "once"],
            ),
            (
                "{domains: [{name: old.test, mx: [a.test]}, {name: OLD.test, mx: [b.test]}]}",
                &["domains[1].name", "once"],
            ),
            ("{domain: []}", &["did you mean domains"]),
        ] {
            let failure = read(cutover).err().unwrap_or_else(|| panic!("{cutover}: nothing is wrong"));
            for word in words {
                assert!(failure.contains(word), "{cutover}: {word}: {failure}");
            }
        }
    }
}
