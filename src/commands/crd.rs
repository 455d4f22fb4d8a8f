//! `mailferry crd`: the `CustomResourceDefinitions`, generated from the types.

use std::process::ExitCode;

use super::print;
use crate::api::crd;
use crate::cli::CrdArgs;
use crate::local::documents::unusable;
use crate::local::files::{Access, put};
use crate::model::failure::Result;

pub(super) fn crd(args: &CrdArgs) -> Result<ExitCode> {
    match &args.dir {
        None => print(&crd::to_yaml()?)?,
        Some(directory) => {
            std::fs::create_dir_all(directory).map_err(|e| unusable(directory, &e))?;
            for (name, text) in crd::files()? {
                let path = directory.join(name);
                put(&path, text.as_bytes(), Access::Usual).map_err(|e| unusable(&path, &e))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
