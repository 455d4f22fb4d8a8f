//! Prometheus' sight of the operator. Every label set is closed: labels come from enums alone, never from a name that
//! a user or a server chose, and every series is there from the start, so that the number of series never grows.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::api::condition::{Conditions, Reason, Type};
use crate::api::mailboxmigration::MailboxPhase;
use crate::api::status::Phase;
use crate::api::{MailMigrationStatus, MailboxMigrationStatus};
use crate::model::failure::{Class, Failure, Result};
use crate::model::finding::Code;
use crate::model::progress::MessageCounts;

/// Upper bounds of the histogram of reconciles, in seconds.
const BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

macro_rules! closed {
    ($(#[$doc:meta])+ $name:ident { $($(#[$about:meta])+ $variant:ident: $label:literal,)+ }) => {
        $(#[$doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$about])+ $variant,)+ }

        impl $name {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The value of the label.
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),+ }
            }
        }
    };
}

closed! {
    /// The purpose of a Job.
    JobKind {
        /// It looks at a domain.
        Discovery: "discovery",
        /// It makes a pass over the mailboxes of a domain.
        Sync: "sync",
        /// It verifies the mailboxes of a domain once more.
        Verify: "verify",
    }
}

closed! {
    /// How a Job ended.
    JobOutcome {
        /// All of it is done.
        Succeeded: "succeeded",
        /// Something of it is not done.
        Failed: "failed",
    }
}

closed! {
    /// The verb of a request to the API server, as Kubernetes' roles name it.
    Verb {
        /// One object.
        Get: "get",
        /// Many objects.
        List: "list",
        /// Changes of many objects.
        Watch: "watch",
        /// A new object.
        Create: "create",
        /// An object in the place of another.
        Update: "update",
        /// A part of an object.
        Patch: "patch",
        /// The end of an object.
        Delete: "delete",
        /// Anything else.
        Other: "other",
    }
}

closed! {
    /// The answer of the API server.
    Answer {
        /// It is done.
        Success: "2xx",
        /// It said where else to ask, or that nothing changed.
        Redirection: "3xx",
        /// It refused: a conflict, a missing object, a missing permission.
        Refusal: "4xx",
        /// It failed.
        Failure: "5xx",
        /// It did not answer.
        None: "none",
    }
}

closed! {
    /// The fate of a message.
    Fate {
        /// It is at the destination.
        Copied: "copied",
        /// A rule leaves it out.
        Excluded: "excluded",
        /// It cannot be carried.
        Failed: "failed",
        /// It is still to be carried.
        Pending: "pending",
    }
}

closed! {
    /// The thing that is waited for.
    Wait {
        /// A `MailMigration` for its round of the loop.
        Turn: "turn",
        /// A request to the API server for the share of its namespace.
        Requests: "requests",
        /// A `MailMigration` for a place for discovery.
        Place: "place",
        /// A `MailMigration` for connections to a host, which its other Jobs hold.
        Connections: "connections",
        /// A `MailMigration` for pods that cannot start.
        Pods: "pods",
        /// A `MailMigration` for an object that the cluster refuses.
        Cluster: "cluster",
        /// A `MailMigration` for the approval of its plan.
        Approval: "approval",
        /// A mailbox for its next attempt, after one that failed.
        Retry: "retry",
        /// A mailbox for the end of the pause that its server asked for.
        Pause: "pause",
    }
}

type Labels<const N: usize> = [(&'static str, String); N];
/// A gauge for counts that are computed as `u64`.
type Count = Gauge<u64, AtomicU64>;

/// The operator's metrics.
pub struct Metrics {
    registry: Registry,
    reconciles: Family<Labels<1>, Counter>,
    durations: Histogram,
    queue: Count,
    waiting: Family<Labels<1>, Count>,
    jobs_created: Family<Labels<1>, Counter>,
    jobs_finished: Family<Labels<2>, Counter>,
    requests: Family<Labels<2>, Counter>,
    leader: Count,
    migrations: Family<Labels<1>, Count>,
    mailboxes: Family<Labels<1>, Count>,
    throttled: Count,
    messages: Family<Labels<1>, Count>,
    bytes: Count,
    findings: Family<Labels<2>, Count>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("mailferry"),
            reconciles: Family::default(),
            durations: Histogram::new(BUCKETS),
            queue: Count::default(),
            waiting: Family::default(),
            jobs_created: Family::default(),
            jobs_finished: Family::default(),
            requests: Family::default(),
            leader: Count::default(),
            migrations: Family::default(),
            mailboxes: Family::default(),
            throttled: Count::default(),
            messages: Family::default(),
            bytes: Count::default(),
            findings: Family::default(),
        };
        metrics.register();
        metrics.fill();
        metrics
    }
}

impl Metrics {
    /// Names and describes them. The library ends each description with a full stop and each counter with `_total`.
    fn register(&mut self) {
        let Self { registry: to, .. } = self;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        to.register("build", "The version that runs; always 1", build);
        to.register("leader", "1 when this replica leads and acts, 0 when it stands by", self.leader.clone());
        to.register(
            "reconciles",
            "Rounds of the loop over one MailMigration, by Ok or the class of the failure that ended it",
            self.reconciles.clone(),
        );
        let about = "How long a round of the loop takes";
        to.register_with_unit("reconcile_duration", about, Unit::Seconds, self.durations.clone());
        to.register("reconcile_queue_depth", "MailMigrations that wait for their round", self.queue.clone());
        let about =
            "Waiting now, by what is waited for: MailMigrations, requests to the API server, or mailboxes";
        to.register("waiting", about, self.waiting.clone());
        let about = "Requests to the API server as they ended, by verb and class of the status code; none is no answer";
        to.register("api_requests", about, self.requests.clone());
        to.register("jobs_created", "Jobs that were made, by what they are for", self.jobs_created.clone());
        to.register(
            "jobs_finished",
            "Jobs that ended, by what they are for and how",
            self.jobs_finished.clone(),
        );
        to.register("migrations", "MailMigrations by phase", self.migrations.clone());
        to.register("mailboxes", "MailboxMigrations by phase", self.mailboxes.clone());
        let about = "Mailboxes whose server asked for a pause";
        to.register("throttled_mailboxes", about, self.throttled.clone());
        let about = "Messages at the sources by what became of them; together they are all there are";
        to.register("messages", about, self.messages.clone());
        let about = "Sum of the sizes of the messages at the sources";
        to.register_with_unit("source", about, Unit::Bytes, self.bytes.clone());
        let about = "Findings that are open: neither gone nor acknowledged";
        to.register("findings", about, self.findings.clone());
    }

    /// Makes every series, so that a rate starts at zero and an absent series means an absent operator.
    fn fill(&self) {
        for result in results() {
            let _ = self.reconciles.get_or_create(&result);
        }
        for kind in JobKind::ALL {
            let _ = self.jobs_created.get_or_create(&[("kind", kind.label().to_owned())]);
            for outcome in JobOutcome::ALL {
                let _ = self.jobs_finished.get_or_create(&of_job(*kind, *outcome));
            }
        }
        for verb in Verb::ALL {
            for answer in Answer::ALL {
                let _ = self.requests.get_or_create(&of_request(*verb, *answer));
            }
        }
        for wait in Wait::ALL {
            let _ = self.waiting.get_or_create(&of_wait(*wait));
        }
        self.show(&Survey::default());
    }

    /// Counts something that waits, until the value is dropped.
    pub fn waiting(self: &Arc<Self>, wait: Wait) -> Waiting {
        self.waiting.get_or_create(&of_wait(wait)).inc();
        Waiting { metrics: Arc::clone(self), wait }
    }

    /// Counts a round of the loop: `failed` says why it could not be finished.
    pub fn reconciled(&self, failed: Option<Class>, took: Duration) {
        self.reconciles.get_or_create(&result(failed)).inc();
        self.durations.observe(took.as_secs_f64());
    }

    /// Counts a migration that waits for its round, until the value is dropped.
    pub fn wait_for_turn(self: &Arc<Self>) -> Waiting {
        self.queue.inc();
        self.waiting(Wait::Turn)
    }

    /// Counts a Job that was made.
    pub fn job_created(&self, kind: JobKind) {
        self.jobs_created.get_or_create(&[("kind", kind.label().to_owned())]).inc();
    }

    /// Counts a Job that ended; call it once for each Job.
    pub fn job_finished(&self, kind: JobKind, outcome: JobOutcome) {
        self.jobs_finished.get_or_create(&of_job(kind, outcome)).inc();
    }

    /// Counts a request to the API server.
    pub fn requested(&self, verb: Verb, answer: Answer) {
        self.requests.get_or_create(&of_request(verb, answer)).inc();
    }

    /// Shows whether this replica leads.
    pub fn lead(&self, leads: bool) {
        self.leader.set(u64::from(leads));
    }

    /// Shows the states of all migrations and mailboxes. A replica on standby shows an empty survey, so that a sum over
    /// replicas is right.
    pub fn show(&self, survey: &Survey) {
        for phase in Phase::ALL {
            let n = survey.migrations.get(phase.to_string().as_str()).copied().unwrap_or(0);
            self.migrations.get_or_create(&of_phase(&phase)).set(n);
        }
        for phase in MailboxPhase::ALL {
            let n = survey.mailboxes.get(phase.to_string().as_str()).copied().unwrap_or(0);
            self.mailboxes.get_or_create(&of_phase(&phase)).set(n);
        }
        for fate in Fate::ALL {
            let MessageCounts { copied, excluded, failed, pending, .. } = survey.messages;
            let n = match fate {
                Fate::Copied => copied,
                Fate::Excluded => excluded,
                Fate::Failed => failed,
                Fate::Pending => pending,
            };
            self.messages.get_or_create(&[("state", fate.label().to_owned())]).set(n);
        }
        for code in Code::ALL {
            let n = survey.findings.get(code).copied().unwrap_or(0);
            let labels = [("code", code.to_string()), ("severity", code.severity().to_string())];
            self.findings.get_or_create(&labels).set(n);
        }
        for wait in Wait::ALL.iter().filter(|wait| !matches!(wait, Wait::Turn | Wait::Requests)) {
            let n = survey.waits.get(wait.label()).copied().unwrap_or(0);
            self.waiting.get_or_create(&of_wait(*wait)).set(n);
        }
        self.throttled.set(survey.throttled);
        self.bytes.set(survey.bytes);
    }

    /// All of it in the text format of `OpenMetrics` 1.0.
    ///
    /// # Errors
    /// [`Class::Internal`] when it cannot be written as text.
    pub fn text(&self) -> Result<String> {
        let mut text = String::new();
        encode(&mut text, &self.registry)
            .map_err(|e| Failure::internal("the metrics cannot be written").caused_by(&e))?;
        Ok(text)
    }
}

impl Wait {
    /// The wait of a migration of which a condition has this reason.
    fn of_reason(word: &str) -> Option<Self> {
        let reason = Reason::ALL.iter().find(|reason| reason.as_str() == word)?;
        match reason {
            Reason::WaitsForPlace => Some(Self::Place),
            Reason::ClusterRefuses => Some(Self::Cluster),
            Reason::PlanNotApproved => Some(Self::Approval),
            Reason::PodUnschedulable
            | Reason::ImagePullFailed
            | Reason::PodNotStarted
            | Reason::PodRefused
            | Reason::ForeignPodRuns => Some(Self::Pods),
            _ => None,
        }
    }
}

/// Something that waits and is counted for as long.
pub struct Waiting {
    metrics: Arc<Metrics>,
    wait: Wait,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.metrics.waiting.get_or_create(&of_wait(self.wait)).dec();
        if self.wait == Wait::Turn {
            self.metrics.queue.dec();
        }
    }
}

fn of_wait(wait: Wait) -> Labels<1> {
    [("for", wait.label().to_owned())]
}

fn result(failed: Option<Class>) -> Labels<1> {
    [("result", failed.map_or_else(|| "Ok".to_owned(), |class| class.to_string()))]
}

fn results() -> impl Iterator<Item = Labels<1>> {
    let failed = Class::table().iter().map(|row| Some(row.class));
    std::iter::once(None).chain(failed).map(result)
}

fn of_job(kind: JobKind, outcome: JobOutcome) -> Labels<2> {
    [("kind", kind.label().to_owned()), ("outcome", outcome.label().to_owned())]
}

fn of_request(verb: Verb, answer: Answer) -> Labels<2> {
    [("verb", verb.label().to_owned()), ("code", answer.label().to_owned())]
}

fn of_phase(phase: &impl Display) -> Labels<1> {
    [("phase", phase.to_string())]
}

/// How all migrations and mailboxes stand, added up from their statuses.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    migrations: BTreeMap<String, u64>,
    mailboxes: BTreeMap<String, u64>,
    throttled: u64,
    messages: MessageCounts,
    bytes: u64,
    findings: BTreeMap<Code, u64>,
    waits: BTreeMap<&'static str, u64>,
}

impl Survey {
    /// Adds what another one has.
    pub fn add(&mut self, other: &Self) {
        let sum = |here: &mut BTreeMap<String, u64>, there: &BTreeMap<String, u64>| {
            for (word, n) in there {
                *here.entry(word.clone()).or_default() += n;
            }
        };
        sum(&mut self.migrations, &other.migrations);
        sum(&mut self.mailboxes, &other.mailboxes);
        self.throttled += other.throttled;
        self.messages += other.messages;
        self.bytes = self.bytes.saturating_add(other.bytes);
        for (code, n) in &other.findings {
            *self.findings.entry(*code).or_default() += n;
        }
        for (wait, n) in &other.waits {
            *self.waits.entry(wait).or_default() += n;
        }
    }

    /// Adds something that waits.
    pub fn add_wait(&mut self, wait: Wait) {
        *self.waits.entry(wait.label()).or_default() += 1;
    }

    /// Adds a `MailMigration`; one without a status is pending.
    pub fn add_migration(&mut self, status: Option<&MailMigrationStatus>) {
        let phase = status.and_then(|status| status.phase).unwrap_or_default();
        *self.migrations.entry(phase.to_string()).or_default() += 1;
        let Some(status) = status else { return };
        let told =
            [Type::Ready, Type::ReviewRequired].into_iter().filter_map(|kind| status.conditions.of(kind));
        for wait in told.filter_map(|condition| Wait::of_reason(&condition.reason)) {
            self.add_wait(wait);
        }
        self.messages += status.messages.unwrap_or_default();
        let rows = status.report.iter().flat_map(|report| report.protocols.values());
        self.bytes = self.bytes.saturating_add(rows.map(|row| row.bytes).sum());
        let findings = status.domains.iter().flat_map(|domain| &domain.findings).chain(&status.findings);
        for finding in findings.filter(|finding| !finding.acknowledged) {
            *self.findings.entry(finding.code).or_default() += 1;
        }
    }

    /// Adds a `MailboxMigration`; one without a status is pending.
    pub fn add_mailbox(&mut self, status: Option<&MailboxMigrationStatus>) {
        let phase = status.and_then(|status| status.phase).unwrap_or_default();
        *self.mailboxes.entry(phase.to_string()).or_default() += 1;
        let failure = status.and_then(|status| status.failure.as_ref());
        let Some(failure) = failure else { return };
        self.throttled += u64::from(failure.class == Class::Throttled);
        match failure.class {
            Class::Throttled => self.add_wait(Wait::Pause),
            _ if phase == MailboxPhase::Failed => self.add_wait(Wait::Retry),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::crd;
    use crate::api::status::{DomainStatus, FindingStatus, ReportBrief, ReportRow};
    use crate::api::{MailMigration, MailboxMigration};
    use crate::model::protocol::Protocol;

    /// The series of a text, with what each shows.
    fn series(metrics: &Metrics) -> BTreeMap<String, String> {
        let text = metrics.text().unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.rsplit_once(' ')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    fn finding(code: Code, acknowledged: bool) -> FindingStatus {
        let (message, remedy) = (String::new(), String::new());
        FindingStatus { code, severity: code.severity(), message, remedy, count: 9, acknowledged }
    }

    #[test]
    fn no_event_makes_a_series_that_was_not_there_from_the_start() {
        let metrics = Arc::new(Metrics::default());
        let before: BTreeSet<_> = series(&metrics).into_keys().collect();
        for row in Class::table() {
            metrics.reconciled(Some(row.class), Duration::from_secs(1));
        }
        for &kind in JobKind::ALL {
            metrics.job_created(kind);
            for &outcome in JobOutcome::ALL {
                metrics.job_finished(kind, outcome);
            }
        }
        for &verb in Verb::ALL {
            for &answer in Answer::ALL {
                metrics.requested(verb, answer);
            }
        }
        let mut survey = Survey::default();
        let findings = Code::ALL.iter().map(|&code| finding(code, false)).collect();
        let domains = vec![DomainStatus { findings, ..DomainStatus::default() }];
        for phase in Phase::ALL {
            let status =
                MailMigrationStatus { phase: Some(phase), domains: domains.clone(), ..Default::default() };
            survey.add_migration(Some(&status));
        }
        for phase in MailboxPhase::ALL {
            survey.add_mailbox(Some(&MailboxMigrationStatus { phase: Some(phase), ..Default::default() }));
        }
        for &wait in Wait::ALL {
            drop(metrics.waiting(wait));
            survey.add_wait(wait);
        }
        metrics.show(&survey);
        let after: BTreeSet<_> = series(&metrics).into_keys().collect();
        assert_eq!(after.difference(&before).collect::<Vec<_>>(), Vec::<&String>::new());
        assert!(before.len() < 260, "{} series", before.len());
    }

    #[test]
    fn every_phase_of_the_schemas_has_a_series() {
        let known = series(&Metrics::default());
        for (schema, name) in [
            (crd::schema_of::<MailMigration>().unwrap(), "migrations"),
            (crd::schema_of::<MailboxMigration>().unwrap(), "mailboxes"),
        ] {
            let phases = schema["properties"]["status"]["properties"]["phase"]["enum"].as_array().unwrap();
            let phases: Vec<&str> = phases.iter().filter_map(|phase| phase.as_str()).collect();
            assert!(phases.len() > 5, "{phases:?}");
            let prefix = format!("mailferry_{name}{{");
            assert_eq!(known.keys().filter(|key| key.starts_with(&prefix)).count(), phases.len(), "{name}");
            for phase in phases {
                assert!(known.contains_key(&format!("{prefix}phase=\"{phase}\"}}")), "{name} {phase}");
            }
        }
    }

    #[test]
    fn a_survey_adds_up_what_the_statuses_say_and_forgets_what_is_gone() {
        let row = ReportRow { bytes: 500, ..ReportRow::default() };
        let status = MailMigrationStatus {
            phase: Some(Phase::Syncing),
            messages: Some(MessageCounts { source: 10, copied: 4, excluded: 3, failed: 2, pending: 1 }),
            report: Some(ReportBrief { protocols: [(Protocol::Imap, row)].into(), ..ReportBrief::default() }),
            domains: vec![DomainStatus {
                findings: vec![
                    finding(Code::MixedProtocols, false),
                    finding(Code::PopMailboxesPresent, true),
                ],
                ..DomainStatus::default()
            }],
            ..MailMigrationStatus::default()
        };
        let throttled = MailboxMigrationStatus {
            failure: Some((&Failure::new(Class::Throttled, "later")).into()),
            ..MailboxMigrationStatus::default()
        };
        let mut survey = Survey::default();
        survey.add_migration(Some(&status));
        survey.add_migration(Some(&status));
        survey.add_migration(None);
        survey.add_mailbox(Some(&throttled));
        survey.add_mailbox(None);
        let metrics = Metrics::default();
        metrics.show(&survey);
        let shown = series(&metrics);
        for (name, value) in [
            ("mailferry_migrations{phase=\"Syncing\"}", "2"),
            ("mailferry_migrations{phase=\"Pending\"}", "1"),
            ("mailferry_mailboxes{phase=\"Pending\"}", "2"),
            ("mailferry_throttled_mailboxes", "1"),
            ("mailferry_messages{state=\"copied\"}", "8"),
            ("mailferry_messages{state=\"excluded\"}", "6"),
            ("mailferry_messages{state=\"failed\"}", "4"),
            ("mailferry_messages{state=\"pending\"}", "2"),
            ("mailferry_source_bytes", "1000"),
            ("mailferry_findings{code=\"MixedProtocols\",severity=\"Warning\"}", "2"),
            ("mailferry_findings{code=\"PopMailboxesPresent\",severity=\"Critical\"}", "0"),
        ] {
            assert_eq!(shown.get(name).map(String::as_str), Some(value), "{name}");
        }
        metrics.show(&Survey::default());
        assert_eq!(series(&metrics), series(&Metrics::default()));
    }
}
