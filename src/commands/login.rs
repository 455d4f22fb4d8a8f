//! `mailferry login`: a refresh token by a code that is typed on another device.

use std::process::ExitCode;

use serde_json::json;

use super::print;
use crate::cli::{LoginArgs, Output};
use crate::local::login::log_in;
use crate::model::failure::Result;

pub(super) async fn login(args: LoginArgs) -> Result<ExitCode> {
    let request = args.request()?;
    let output = args.output;
    let line = |value: serde_json::Value| print(&format!("{value}\n"));
    let keys = log_in(&request, &(&args.reach).into(), args.allowed_networks, |prompt| match output {
        Output::Text => print(&format!(
            "Open {} and type the code {}\nLog in there as {}. Waiting …\n",
            prompt.address, prompt.code, request.username
        )),
        Output::Json => line(json!({"address": prompt.address, "code": prompt.code})),
    })
    .await?;
    let directory = request.directory.display();
    match output {
        Output::Text => print(&format!(
            "{directory} holds the keys {}. Use it with: mailferry run … --secret NAME={directory}\n",
            keys.join(", ")
        ))?,
        Output::Json => line(json!({"directory": directory.to_string(), "keys": keys}))?,
    }
    Ok(ExitCode::SUCCESS)
}
