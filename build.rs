//! Tells the program its version, with the commit that it is built from where that is known: `git` says it in a clone, and
//! a build without one can be told by `MAILFERRY_COMMIT`. Without either there is no commit, and nothing fails.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the commit may be said.
const VARIABLE: &str = "MAILFERRY_COMMIT";
/// The digits of a commit that are shown.
const DIGITS: usize = 12;

fn main() {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    println!("cargo::rerun-if-changed=build.rs");
    let said = std::env::var(VARIABLE).ok().map(|said| said.trim().to_owned()).filter(|said| is_commit(said));
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let version = match said.or_else(ask_git) {
        Some(commit) => format!("{version} ({})", &commit[..commit.len().min(DIGITS)]),
        None => version,
    };
    println!("cargo::rustc-env=MAILFERRY_VERSION={version}");
}

/// The commit of this very repository, and not of one that the sources of a package happen to lie in.
fn ask_git() -> Option<String> {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?);
    if !root.join(".git").exists() {
        return None;
    }
    // The first changes when another branch is checked out, the second with every commit. A file that is not there would
    // have this run with every build.
    for file in ["HEAD", "logs/HEAD"] {
        let path = root.join(git(&root, &["rev-parse", "--git-path", file])?);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    git(&root, &["rev-parse", "HEAD"]).filter(|commit| is_commit(commit))
}

fn git(root: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn is_commit(text: &str) -> bool {
    text.len() >= 7 && text.chars().all(|c| c.is_ascii_hexdigit())
}
