//! Files that are made from the types are as the types make them. `BLESS=1` writes them anew.

use std::fs;
use std::path::Path;

use mailferry::api::crd;

#[test]
fn the_crds_are_as_the_types_make_them() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let bless = std::env::var_os("BLESS").is_some();
    if bless {
        fs::create_dir_all(&dir).unwrap();
    }
    for (name, wanted) in crd::files().unwrap() {
        let path = dir.join(&name);
        if bless {
            fs::write(&path, &wanted).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == wanted, "crds/{name} is behind the types: run `{}`", crd::REMEDY);
    }
    let kept = fs::read_dir(&dir).unwrap().count();
    assert_eq!(kept, crd::all().len(), "crds/ holds a file that no type makes");
}
