//! Whether the operator can read what it watches: what `/readyz` says, and what the log says once a minute at most.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::api::{MailMigration, MailboxMigration};
use crate::model::text::{cut, printable};

/// How often it is looked whether something is to be said.
const LOOK: Duration = Duration::from_secs(2);
/// How long nothing is said after something was.
const QUIET: Duration = Duration::from_mins(1);
/// How long a replica waits before it looks again whether it may read.
const AGAIN: Duration = Duration::from_secs(5);
/// The most of the API server's words that are repeated, in bytes.
const WORDS_MAX: usize = 400;

/// The kind that is watched, and where: `jobs`, or `jobs of contoso-mail`.
type Subject = String;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    Unread,
    Read,
    Refused(String),
}

/// How reading goes, by what is read.
#[derive(Debug, Default)]
pub struct Readiness {
    subjects: Mutex<BTreeMap<Subject, Standing>>,
}

/// How one watch goes.
pub struct Watch {
    readiness: Arc<Readiness>,
    subject: Subject,
}

impl Watch {
    /// All of it was read, and changes come.
    pub fn reads(&self) {
        self.readiness.set(&self.subject, Standing::Read);
    }

    /// It could not be read. A failure that may pass by itself, such as an API server that is away, is nobody's concern here.
    pub fn fails(&self, error: &watcher::Error) {
        let words = match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => explain(&self.subject, error),
            watcher::Error::WatchError(status) => explain(&self.subject, &kube::Error::Api(status.clone())),
            watcher::Error::NoResourceVersion => None,
        };
        tracing::debug!(subject = self.subject, refused = words.is_some(), "a watch failed");
        if let Some(words) = words {
            self.readiness.set(&self.subject, Standing::Refused(words));
        }
    }
}

/// The meaning of a lasting refusal, in a sentence with the remedy.
fn explain(subject: &str, error: &kube::Error) -> Option<String> {
    let kube::Error::Api(status) = error else { return None };
    match status.code {
        401 | 403 => {
            let said = cut(&printable(&status.message), WORDS_MAX);
            Some(format!(
                "{subject} cannot be read: {said}; grant the rules of templates/_rules.tpl, as rbac.create does"
            ))
        }
        404 => Some(format!(
            "{subject} cannot be read: the cluster does not know them; install the definitions: \
             mailferry crd | kubectl apply --server-side -f -"
        )),
        _ => None,
    }
}

impl Readiness {
    /// Begins to follow a watch, of one namespace or of all.
    pub fn watch(self: &Arc<Self>, kind: &str, namespace: Option<&str>) -> Watch {
        let subject = subject(kind, namespace);
        self.set(&subject, Standing::Unread);
        Watch { readiness: Arc::clone(self), subject }
    }

    fn set(&self, subject: &str, standing: Standing) {
        let mut subjects = self.subjects.lock().unwrap_or_else(PoisonError::into_inner);
        if subjects.get(subject) != Some(&standing) {
            subjects.insert(subject.to_owned(), standing);
        }
    }

    /// The obstacle that keeps the operator from reading all that it watches, in words; `None` when it reads everything.
    pub fn obstacle(&self) -> Option<String> {
        self.refusals().or_else(|| {
            let subjects = self.subjects.lock().unwrap_or_else(PoisonError::into_inner);
            let unread = subjects.values().any(|standing| *standing == Standing::Unread);
            unread.then(|| "the objects are not all read yet".to_owned())
        })
    }

    /// The kinds that are refused, in words.
    fn refusals(&self) -> Option<String> {
        let subjects = self.subjects.lock().unwrap_or_else(PoisonError::into_inner);
        let refused: Vec<&str> = subjects
            .values()
            .filter_map(|standing| match standing {
                Standing::Refused(words) => Some(words.as_str()),
                _ => None,
            })
            .collect();
        let (first, others) = refused.split_first()?;
        Some(match others.len() {
            0 => (*first).to_owned(),
            n => format!("{first}; and {n} more"),
        })
    }

    /// Says in the log what is refused, once a minute at most, and once when it is over.
    pub async fn tell(&self) {
        let mut last: Option<Instant> = None;
        loop {
            sleep(LOOK).await;
            match self.refusals() {
                Some(words) if last.is_none_or(|last| last.elapsed() >= QUIET) => {
                    warn!("{words}");
                    last = Some(Instant::now());
                }
                None if last.take().is_some() => info!("everything that is watched can be read again"),
                _ => {}
            }
        }
    }

    /// Waits until one object of everything that is to be watched could be read: the definitions are there, and the rights.
    pub async fn wait_until_readable(self: &Arc<Self>, client: &Client, scopes: &[Option<String>]) {
        let watches: Vec<_> = scopes
            .iter()
            .flat_map(|scope| {
                kinds().into_iter().map(move |kind| {
                    let watch = self.watch(&kind.plural, scope.as_deref());
                    let api: Api<DynamicObject> = match scope {
                        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
                        None => Api::all_with(client.clone(), &kind),
                    };
                    (api, watch)
                })
            })
            .collect();
        loop {
            for (api, watch) in &watches {
                match api.list_metadata(&ListParams::default().limit(1)).await {
                    Ok(_) => watch.reads(),
                    Err(error) => watch.fails(&watcher::Error::InitialListFailed(error)),
                }
            }
            if self.obstacle().is_none() {
                return;
            }
            sleep(AGAIN).await;
        }
    }
}

fn subject(kind: &str, namespace: Option<&str>) -> Subject {
    namespace.map_or_else(|| kind.to_owned(), |namespace| format!("{kind} of {namespace}"))
}

/// The kinds that are watched.
fn kinds() -> [ApiResource; 5] {
    use k8s_openapi::api::batch::v1::Job;
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    [
        ApiResource::erase::<MailMigration>(&()),
        ApiResource::erase::<MailboxMigration>(&()),
        ApiResource::erase::<Job>(&()),
        ApiResource::erase::<Pod>(&()),
        ApiResource::erase::<ConfigMap>(&()),
    ]
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refusal(code: u16) -> watcher::Error {
        watcher::Error::InitialListFailed(kube::Error::Api(
            Status::failure("jobs.batch is forbidden", "").with_code(code).boxed(),
        ))
    }

    #[test]
    fn nothing_is_ready_before_everything_was_read_and_a_refusal_is_named_until_it_is_over() {
        let readiness = Arc::new(Readiness::default());
        let (jobs, pods) = (readiness.watch("jobs", Some("contoso")), readiness.watch("pods", None));
        assert!(readiness.obstacle().unwrap().contains("not all read"));
        jobs.reads();
        assert!(readiness.obstacle().unwrap().contains("not all read"));
        pods.reads();
        assert_eq!(readiness.obstacle(), None);
        for (code, words) in
            [(403, "jobs of contoso cannot be read: jobs.batch is forbidden"), (404, "mailferry crd")]
        {
            jobs.fails(&refusal(code));
            assert!(readiness.obstacle().unwrap().contains(words), "{:?}", readiness.obstacle());
        }
        pods.fails(&refusal(403));
        assert!(readiness.obstacle().unwrap().ends_with("; and 1 more"));
        pods.reads();
        jobs.reads();
        jobs.fails(&refusal(500));
        assert_eq!(readiness.obstacle(), None, "that passes by itself");
    }
}
