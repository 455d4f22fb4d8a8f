//! The order to stop that comes from outside: Ctrl-C, or the signal with which Kubernetes ends a pod.

use tokio::sync::watch;

use crate::model::failure::{Class, Failure};

/// Whether somebody asked the process to stop; cheap to clone.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Listens from now on. Before that a signal ends the process at once; but the first process of a container, for
    /// which the kernel has no such default, would not hear it at all.
    pub fn listen() -> Self {
        let (tell, told) = watch::channel(false);
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
            if let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) {
                tokio::spawn(async move {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    let _ = tell.send(true);
                });
            }
        }
        #[cfg(not(unix))]
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                let _ = tell.send(true);
            }
        });
        Self(told)
    }

    /// Ends when somebody asks.
    pub async fn asked(&self) {
        if self.0.clone().wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// What a command ends with that was asked to stop.
    pub fn failure() -> Failure {
        Failure::new(Class::Interrupted, "stopped by a signal")
            .hint("run the same command again: it goes on from here")
    }
}
