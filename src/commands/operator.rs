//! `mailferry operator`.

use std::process::ExitCode;
use std::sync::Arc;

use super::logging::Log;
use crate::cli::OperatorArgs;
use crate::local::clock::SystemClock;
use crate::local::stop::Stop;
use crate::model::failure::Result;
use crate::operator::settings::Settings;
use crate::operator::{Start, run};

pub(super) async fn operator(args: OperatorArgs, log: Log) -> Result<ExitCode> {
    let log_filter = log.filter();
    if let Some(path) = args.log_filter_file {
        tokio::spawn(async move { log.follow(&path).await });
    }
    let stop = Stop::listen();
    let settings = Settings {
        image: args.image,
        image_pull_policy: args.image_pull_policy.filter(|policy| !policy.is_empty()),
        resolver: args.resolver,
        allowed_networks: args.allowed_networks,
        worker_resources: args.worker_resources,
        worker_pod: args.worker_pod,
        log_filter,
    };
    let start = Start {
        settings,
        namespaces: args.watch_namespaces,
        lease_namespace: args.lease_namespace,
        lease_name: args.lease_name,
        identity: std::env::var("HOSTNAME").unwrap_or_else(|_| "mailferry".to_owned()),
        listen: args.listen,
        memory: args.memory,
        clock: Arc::new(SystemClock),
    };
    Box::pin(run(start, stop.asked())).await?;
    Ok(ExitCode::SUCCESS)
}
