//! The way to a cluster as `kubectl` knows it: a kubeconfig, a context in it, a namespace. Commands that look into a
//! cluster go this way; the operator and its workers go by their service account.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use super::refused;
use crate::model::failure::{Class, Failure, Result};
use crate::model::text::printable;

/// How long an API server may take to take a connection; who waits is a person.
const CONNECT: Duration = Duration::from_secs(10);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_mins(1);

/// The arguments of a command about the way to a cluster; the kubeconfig says the rest.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The file; that of KUBECONFIG or of the home directory when there is none, and in a pod its service account.
    pub kubeconfig: Option<PathBuf>,
    /// The context; the current one when there is none.
    pub context: Option<String>,
    /// The namespace; that of the context when there is none.
    pub namespace: Option<String>,
}

/// A namespace of a cluster.
#[derive(Clone)]
pub struct Place {
    /// The connection.
    pub client: Client,
    /// The namespace's name.
    pub namespace: String,
    /// The address of the API server.
    server: String,
}

impl Access {
    /// Gets ready to ask the API server; nothing is asked yet.
    ///
    /// # Errors
    /// [`Class::Configuration`] when no cluster is named, or in a way that cannot be used.
    pub async fn connect(&self) -> Result<Place> {
        let mut config = self.config().await?;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(ANSWER);
        config.reset_reader_on_write = true;
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = Client::try_from(config).map_err(|e| {
            Failure::configuration(format!(
                "the way to {server} cannot be used: {}",
                printable(&e.to_string())
            ))
            .hint("`kubectl cluster-info` shows whether it works there")
            .caused_by(&e)
        })?;
        Ok(Place { client, namespace, server })
    }

    async fn config(&self) -> Result<Config> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        if let Some(path) = &self.kubeconfig {
            let read = Kubeconfig::read_from(path).map_err(|e| unusable(&e))?;
            return Config::from_custom_kubeconfig(read, &options).await.map_err(|e| unusable(&e));
        }
        match Config::from_kubeconfig(&options).await {
            Ok(config) => Ok(config),
            // A named context means a kubeconfig, also in a pod.
            Err(error) if self.context.is_some() => Err(unusable(&error)),
            Err(error) => Config::incluster().map_err(|_| unusable(&error)),
        }
    }
}

/// The fault of a kubeconfig.
fn unusable(error: &KubeconfigError) -> Failure {
    let failure = match error {
        KubeconfigError::ReadConfig(why, path) => {
            let what = format!("{}: cannot be read: {why}", path.display());
            let named = "name the cluster with KUBECONFIG or --kubeconfig";
            Failure::configuration(what)
                .hint(format!("{named}; a migration of this machine with -f and --state"))
        }
        // The quotation of the file in such an error may be a password.
        KubeconfigError::Parse(_) => {
            return Failure::configuration("the kubeconfig cannot be understood")
                .hint("`kubectl config view` shows what is wrong with it");
        }
        KubeconfigError::LoadContext(name) => {
            Failure::configuration(format!("the kubeconfig has no context \"{}\"", printable(name)))
                .hint("`kubectl config get-contexts` lists those that there are")
        }
        KubeconfigError::CurrentContextNotSet => {
            Failure::configuration("the kubeconfig has no current context")
                .hint("choose one with --context, or with `kubectl config use-context`")
        }
        other => {
            let why = printable(&other.to_string());
            Failure::configuration(format!("the kubeconfig cannot be used: {why}"))
                .hint("`kubectl cluster-info` shows whether it works there")
        }
    };
    failure.caused_by(error)
}

impl Place {
    /// The meaning of a refusal of the API server to a person. `what` begins the sentence: "MailMigration contoso cannot be
    /// read".
    pub fn refused(&self, what: &str, error: &kube::Error) -> Failure {
        self.explain(refused(what, error))
    }

    /// Adds to a failure what a person can do about it here.
    pub fn explain(&self, failure: Failure) -> Failure {
        match failure.class {
            Class::Refused => {
                let role = format!(
                    "the role `view` in namespace {} has this right; `kubectl auth whoami` says who asked",
                    self.namespace
                );
                failure.hint(role)
            }
            Class::Unreachable => {
                failure.at(self.server.clone()).hint("`kubectl cluster-info` shows whether it answers there")
            }
            _ => failure,
        }
    }
}
