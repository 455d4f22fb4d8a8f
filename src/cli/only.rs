//! The option `--only`, by which a run or a verification is about some mailboxes of the manifest.

use clap::Args;

use crate::model::address::Address;

/// Which mailboxes.
#[derive(Debug, Clone, Default, Args)]
pub struct OnlyArgs {
    /// Only these mailboxes, by their address at the source or at the destination; the others stay as they are. May be given
    /// several times
    #[arg(long = "only", value_name = "ADDRESS", num_args = 1.., value_parser = parse_address)]
    pub addresses: Vec<Address>,
}

fn parse_address(text: &str) -> Result<Address, String> {
    text.parse::<Address>()
}
