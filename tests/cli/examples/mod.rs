//! Every manifest in `examples/` does what its comments say. Each is read, and then carried out for real by the built
//! binary: servers on loopback play the example's hosts, a DNS server knows their names. Only what differs from machine
//! to machine is filled in: ports, the certificate authority (`--ca`, or the manifest's `ca.crt`), the name server
//! (`--resolver`), and the permission to talk to loopback.
//!
//! - [`scene`]: an example on a machine of its own
//! - [`passwords`]: domains that are opened by passwords
//! - [`tenants`]: mailboxes of large providers, opened by tokens
//! - [`files`]: a backup into files, and a restore from some
//! - [`papers`]: the dry plan, and what is made of it
mod files;
mod papers;
mod passwords;
mod scene;
mod tenants;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::ca::Ca;
use crate::support::mixed;
use mailferry::api::Stage;
use mailferry::api::manifest::{self, Part};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// The examples that are one file each; what is made of several is tried where its tool is (tests/pure/gitops.rs).
fn manifests() -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
}

#[test]
fn every_example_is_read_and_tried() {
    let tried: BTreeSet<&str> = [
        include_str!("files.rs"),
        include_str!("papers.rs"),
        include_str!("passwords.rs"),
        include_str!("tenants.rs"),
    ]
    .iter()
    .flat_map(|source| source.split("Scene::of(\"").skip(1))
    .filter_map(|rest| rest.split('"').next())
    .collect();
    for path in manifests() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut text = fs::read_to_string(&path).unwrap();
        if name == "quickstart.yaml" {
            text.push_str("---\n");
            text.push_str(&mixed::authority(&Ca::new()));
        }
        let manifest = manifest::read(&[(&name, &text)]).unwrap_or_else(|failure| panic!("{failure}"));
        // The values that its comments tell to give with --secret.
        let given: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with('#'))
            .filter_map(|line| line.split_once("--secret ")?.1.split_once('='))
            .map(|(name, _)| name)
            .collect();
        for migration in &manifest.migrations {
            let domains = (0..migration.spec.domains.len()).map(Part::Domain);
            for part in domains.chain([Part::Common]) {
                manifest.check_references(migration, part, &given).unwrap_or_else(|f| panic!("{f}"));
            }
        }
        assert!(text.starts_with("# "), "{name} does not say what it is for");
        assert!(tried.contains(name.as_str()), "{name} is read but never carried out");
    }
}

/// The stage of each example is promised in its first lines; a plan is a plan and the others copy.
#[test]
fn only_the_dry_plan_is_a_plan() {
    for path in manifests() {
        let manifest = manifest::read(&[("example", fs::read_to_string(&path).unwrap())]).unwrap();
        let wanted = if path.ends_with("dry-plan.yaml") { Stage::Plan } else { Stage::Sync };
        assert_eq!(manifest.migrations[0].spec.stage, wanted, "{}", path.display());
    }
}
