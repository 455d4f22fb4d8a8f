//! The options of `mailferry dns`.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};

use super::{InputArgs, ReachArgs};

/// How records are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum DnsOutput {
    /// A table for people.
    #[default]
    Text,
    /// One JSON object.
    Json,
    /// Lines for a zone file, with what to take out as comments.
    Zone,
    /// `DNSEndpoint` objects for external-dns.
    #[value(name = "dnsendpoint")]
    DnsEndpoint,
}

/// `mailferry dns`.
#[derive(Debug, Args)]
pub struct DnsArgs {
    /// Manifests and state.
    #[command(flatten)]
    pub inputs: InputArgs,
    /// The name server to ask instead of the system's
    #[arg(long, value_name = "IP:PORT")]
    pub resolver: Option<SocketAddr>,
    /// How the records are written
    #[arg(short, long, value_enum, default_value_t)]
    pub output: DnsOutput,
}

impl DnsArgs {
    /// The way to servers: no mail server is connected to.
    pub fn reach(&self) -> ReachArgs {
        ReachArgs { resolver: self.resolver, authorities: Vec::new() }
    }
}
