//! Fifty `mailferry sync` as processes of this machine: the real program with real work lists, ledgers and mail servers, 64
//! kilobytes a second each. Only kubelet is missing, compared with pods.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mailferry::cluster::objects::WORK_KEY;
use mailferry::cluster::pack::pack;

use crate::support::cluster::Cluster;
use crate::world::{Slice, World};

const ADMIN: [(&str, &str); 3] =
    [("masterUser", "admin"), ("masterPassword", "admin-secret"), ("masterSeparator", "*")];

/// The processes; dropping them ends them.
pub(crate) struct Workers(std::sync::Mutex<Vec<(Child, PathBuf)>>);

impl Workers {
    /// Starts one for each slice.
    pub(crate) fn start(program: &Path, world: &World, slices: &[Slice]) -> Self {
        let root = world.directory();
        for (name, values) in [("old", ADMIN), ("new", ADMIN)] {
            fs::create_dir_all(root.join("secrets").join(name)).unwrap();
            for (key, value) in values {
                fs::write(root.join("secrets").join(name).join(key), value).unwrap();
            }
        }
        let start = |slice: &Slice| {
            let own = root.join(&slice.work.job).join(slice.index.to_string());
            for part in ["work", "ledgers", "configmaps"] {
                fs::create_dir_all(own.join(part)).unwrap();
            }
            fs::write(own.join("work").join(WORK_KEY), pack(&slice.work).unwrap()).unwrap();
            let log = own.join("log");
            let child = Command::new(program)
                .arg("sync")
                .arg("--work")
                .arg(own.join("work"))
                .arg("--secrets")
                .arg(root.join("secrets"))
                .arg("--config-maps")
                .arg(own.join("configmaps"))
                .arg("--ledgers")
                .arg(own.join("ledgers"))
                .env("JOB_COMPLETION_INDEX", slice.index.to_string())
                .env("KUBECONFIG", Cluster::get().kubeconfig())
                .env("MAILFERRY_LOG", "mailferry=info,warn")
                .stdin(Stdio::null())
                .stderr(File::create(&log).unwrap())
                .spawn()
                .unwrap();
            (child, log)
        };
        Self(slices.iter().map(start).collect::<Vec<_>>().into())
    }

    /// How many are at their mail.
    pub(crate) fn at_work(&self) -> usize {
        let mut workers = self.0.lock().unwrap();
        workers
            .iter_mut()
            .filter_map(|(child, log)| {
                let said = fs::read_to_string(log).ok()?;
                let through = said.contains("is through") || said.contains("stopped");
                (child.try_wait().ok()?.is_none() && said.contains("begins") && !through).then_some(())
            })
            .count()
    }

    /// Waits until all are at their mail.
    pub(crate) async fn wait_until_at_work(&self) {
        let end = Instant::now() + Duration::from_mins(2);
        let all = self.0.lock().unwrap().len();
        while self.at_work() < all {
            if Instant::now() > end {
                let workers = self.0.lock().unwrap();
                let said = workers.first().map(|(_, log)| fs::read_to_string(log).unwrap_or_default());
                panic!("not all workers come to their mail: {}", said.unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for (child, _) in self.0.lock().unwrap().iter_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
