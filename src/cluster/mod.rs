//! The common ground of the operator, its workers and the commands that look into a cluster: the way to the API server, the work
//! that a pod is given, and the results that it leaves.
//!
//! ```text
//! operator ──► ConfigMap <job> (work, never changed) ──► worker
//! worker   ──► ConfigMaps made beforehand (results), the status of its MailboxMigrations ──► operator, `mailferry report`
//! ```

pub mod access;
pub mod objects;
pub mod pack;
pub mod reading;
pub mod results;
pub mod work;

use kube::{Client, Config};

use crate::model::failure::{Class, Failure, Result};

/// Connects to the API server: from inside a pod by its service account, elsewhere by KUBECONFIG.
///
/// # Errors
/// [`Class::Configuration`] when neither is there.
pub async fn connect() -> Result<Client> {
    let config = Config::infer().await.map_err(|e| {
        Failure::configuration("no way to a cluster is known")
            .hint("set KUBECONFIG, or run it in a pod")
            .caused_by(&e)
    })?;
    Client::try_from(config)
        .map_err(|e| Failure::configuration("the way to the cluster cannot be used").caused_by(&e))
}

/// The meaning of a refusal of the API server. `what` begins the sentence: "MailMigration contoso cannot be read".
pub fn refused(what: &str, error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => {
            let class = match status.code {
                401 | 403 => Class::Refused,
                404 => Class::Configuration,
                409 => Class::Conflict,
                429 => Class::Throttled,
                500..=599 => Class::Unreachable,
                _ => Class::Internal,
            };
            Failure::new(class, format!("{what}: {}", crate::model::text::printable(&status.message)))
        }
        kube::Error::SerdeError(_) => {
            Failure::configuration(format!("{what}: this version does not understand it"))
                .hint("use the version of the operator, and of its definitions")
                .caused_by(error)
        }
        other => Failure::new(Class::Unreachable, format!("{what}: the API server cannot be reached"))
            .caused_by(other),
    }
}

/// Whether an object is not there.
pub fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Whether an object is there already.
pub fn exists_already(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && status.reason == "AlreadyExists")
}
