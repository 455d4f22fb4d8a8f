//! `mailferry checklist`: the questions before the order, as a form.

use std::process::ExitCode;

use serde_json::json;

use super::looking::{look, only};
use super::{print, to_json};
use crate::cli::{ChecklistArgs, ChecklistOutput, Whereabouts};
use crate::local::run::Inputs;
use crate::model::checklist::ItemState;
use crate::model::failure::Result;
use crate::plan::{Observed, checklist};
use crate::report;

pub(super) async fn checklist(args: ChecklistArgs) -> Result<ExitCode> {
    let output = args.output;
    let (migration, observed) = match args.whereabouts() {
        Ok(whereabouts) => {
            let looked = look(whereabouts).await?;
            (looked.migration, looked.observed)
        }
        // Before anything was run there is nothing to fill in.
        Err(files) => {
            let inputs = Inputs { files, ..Inputs::default() };
            (only(inputs.read()?.migrations)?, Observed::default())
        }
    };
    let name = migration.metadata.name.as_deref().unwrap_or_default();
    let items = checklist::items(&migration.spec, &observed)?;
    let text = match output {
        ChecklistOutput::Markdown => report::checklist::markdown(name, &items),
        ChecklistOutput::Yaml => report::checklist::yaml(name, &items),
        ChecklistOutput::Json => {
            let count = |state: ItemState| items.iter().filter(|item| item.state == state).count();
            let states =
                [ItemState::Answered, ItemState::Discovered, ItemState::Contradicted, ItemState::Unknown];
            let counts: serde_json::Map<_, _> =
                states.map(|state| (state.to_string(), json!(count(state)))).into_iter().collect();
            to_json(&json!({"migration": name, "counts": counts, "items": items}))?
        }
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Which migration is meant, or the manifests when no state is given.
type Meant = std::result::Result<Whereabouts, Vec<std::path::PathBuf>>;

impl ChecklistArgs {
    fn whereabouts(self) -> Meant {
        let Self { cluster, files, state, secrets, .. } = self;
        match (cluster.whereabouts(), state) {
            (Some(cluster), _) => Ok(cluster),
            (None, Some(state)) => {
                Ok(Whereabouts::Machine(Inputs { files, state, secrets, ..Inputs::default() }))
            }
            (None, None) => Err(files),
        }
    }
}
