//! Folders that are called differently from now on.

use super::SqliteLedger;
use crate::ledger::Renaming;
use crate::ledger::columns::write_path;
use crate::model::failure::Result;

/// The updates of source folders.
const SOURCE: [&str; 3] = [
    "UPDATE item SET folder = ?2 WHERE folder = ?1",
    "UPDATE intent SET source = ?2 WHERE source = ?1",
    "UPDATE OR REPLACE cursor SET folder = ?2 WHERE folder = ?1",
];
/// The updates of destination folders.
const DESTINATION: [&str; 4] = [
    "UPDATE item SET dst_folder = ?2 WHERE dst_folder = ?1",
    "UPDATE intent SET folder = ?2 WHERE folder = ?1",
    "UPDATE cursor SET dst_folder = ?2 WHERE dst_folder = ?1",
    "UPDATE OR REPLACE foreign_message SET folder = ?2 WHERE folder = ?1",
];

impl SqliteLedger {
    pub(super) async fn rename(
        &self,
        source: Option<&Renaming>,
        destination: Option<&Renaming>,
    ) -> Result<()> {
        let names = |renaming: &Renaming| [write_path(&renaming.from), write_path(&renaming.to)];
        let (source, destination) = (source.map(names), destination.map(names));
        self.write(move |t| {
            for (statements, names) in [(&SOURCE[..], source), (&DESTINATION[..], destination)] {
                let Some([from, to]) = &names else { continue };
                for statement in statements {
                    t.execute(statement, [from, to])?;
                }
            }
            Ok(())
        })
        .await
    }
}
