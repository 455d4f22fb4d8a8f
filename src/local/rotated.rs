//! Refresh tokens that came in the place of earlier ones. Some authorization servers let each be used once, so the newest
//! must outlive the run: one file for each grant, its owner's alone, in the state directory. Nothing else reads them.

use std::fs;
use std::path::PathBuf;

use super::documents::unusable;
use super::files::replace;
use crate::auth::oauth::Keeper;
use crate::model::failure::Result;
use crate::model::secret::Secret;

/// The longest token that is read, in bytes.
const TOKEN_MAX: u64 = 64 * 1024;

/// A directory of refresh tokens.
#[derive(Debug)]
pub struct RotatedTokens(PathBuf);

impl RotatedTokens {
    /// In a directory that is made when the first token comes.
    pub fn new(directory: PathBuf) -> Self {
        Self(directory)
    }
}

impl Keeper for RotatedTokens {
    fn newest(&self, grant: &str) -> Option<Secret> {
        let path = self.0.join(grant);
        let fits = fs::metadata(&path).is_ok_and(|file| file.len() <= TOKEN_MAX);
        fits.then(|| fs::read_to_string(&path).ok().map(Secret::new)).flatten()
    }

    fn keep(&self, grant: &str, token: &Secret) -> Result<()> {
        let path = self.0.join(grant);
        let written = fs::create_dir_all(&self.0).and_then(|()| replace(&path, token.expose().as_bytes()));
        written.map_err(|e| unusable(&path, &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_token_is_kept_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("tokens");
        let tokens = RotatedTokens::new(place.clone());
        assert!(tokens.newest("a").is_none());
        for text in ["one", "two"] {
            tokens.keep("a", &Secret::new(text)).unwrap();
            assert_eq!(RotatedTokens::new(place.clone()).newest("a").unwrap().expose(), text);
        }
        assert!(tokens.newest("b").is_none());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(place.join("a")).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(&place).unwrap().count(), 1, "nothing is left over");
    }
}
