//! `mailferry discover` and `mailferry sync`, which the operator starts in pods.

use std::process::ExitCode;

use crate::cli::{MountArgs, SyncArgs};
use crate::model::failure::Result;
use crate::worker;

pub(super) async fn discover(args: MountArgs) -> Result<ExitCode> {
    worker::discover(&args.into()).await.map(|()| ExitCode::SUCCESS)
}

pub(super) async fn sync(args: SyncArgs) -> Result<ExitCode> {
    worker::sync(&args.mounts.into(), args.index).await.map(|()| ExitCode::SUCCESS)
}
