//! Finds the programs of other people that tests run: helm, kubectl, lua. The cache of the tests' cluster holds the first
//! two, a Debian package the last.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Where `name` is: what the environment variable of that name in capitals says, else the first on the PATH, else what the
/// tests' cluster built last.
#[track_caller]
pub(crate) fn find(name: &str) -> PathBuf {
    if let Some(said) = env::var_os(name.to_uppercase().replace('.', "_")) {
        return said.into();
    }
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .unwrap_or_default();
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(newest_first(&cache.join("mailferry/cluster")))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("there is no {name} on the PATH: scripts/setup installs it"))
}

/// The cluster's programs lie in a folder for each state of their sources.
fn newest_first(cluster: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cluster).into_iter().flatten().flatten();
    let mut folders: Vec<_> =
        entries.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
    folders.sort();
    folders.into_iter().rev().map(|(_, folder)| folder).collect()
}
