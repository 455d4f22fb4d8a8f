//! How the mailboxes of a Job are parted among its pods, and what each of them may take. Pure.

use crate::api::MailMigration;

/// The share of one pod in what the migration may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// Pods that may send at the same time.
    pub(super) pods: u32,
    /// Connections to one host that one pod may hold.
    pub(super) per_host: u32,
}

/// How mailboxes are parted among pods.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Mailboxes of one pod.
    pub(super) slice: usize,
    /// Pods at a time.
    pub(super) pods: u32,
    /// Connections to one host that one pod may hold.
    pub(super) per_host: u32,
}

impl Shape {
    /// As many pods as the connections to a host, of which there are `limit`, leave something to do: a mailbox holds two, since
    /// its source and its destination may be the same host.
    pub(super) fn of(migration: &MailMigration, mailboxes: usize, limit: u32) -> Self {
        let spec = &migration.spec;
        let limit = limit.max(2);
        let at_once = limit / 2;
        let pods = spec.workers.parallelism.min(at_once.div_ceil(spec.workers.concurrency.max(1))).max(1);
        let each = mailboxes.div_ceil(pods as usize).max(1);
        let slice = each.min(spec.workers.mailboxes_per_worker as usize).max(1);
        let pods = pods.min(u32::try_from(mailboxes.div_ceil(slice)).unwrap_or(u32::MAX)).max(1);
        Self { slice, pods, per_host: (limit / pods).max(2) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pods_of_a_job_keep_its_part_of_the_limit_of_a_host() {
        let table = [
            // mailboxes, connections to a host, parallelism, concurrency: slice, pods, connections of a pod
            ((6, 8, 4, 4), (6, 1, 8)),
            ((6, 32, 4, 4), (2, 3, 10)),
            ((5_000, 64, 8, 4), (50, 8, 8)),
            ((1, 64, 64, 1), (1, 1, 64)),
            ((100, 1, 4, 4), (50, 1, 2)),
        ];
        for ((mailboxes, limit, parallelism, concurrency), (slice, pods, per_host)) in table {
            let mut migration = MailMigration::new(
                "m",
                serde_json::from_value(serde_json::json!({
                    "destination": {"imap": {"host": "imap.new.test", "credentialsRef": {"name": "new"}}},
                    "domains": [],
                    "policy": {"limits": {"perHostConnections": limit}},
                    "workers": {"parallelism": parallelism, "concurrency": concurrency},
                }))
                .unwrap(),
            );
            migration.spec.workers.mailboxes_per_worker = 50;
            let shape = Shape::of(&migration, mailboxes, limit);
            assert!(shape.pods * shape.per_host <= u32::max(limit, 2), "{shape:?}");
            assert_eq!(shape, Shape { slice, pods, per_host }, "{mailboxes} mailboxes, {limit} connections");
        }
    }
}
