//! The count of requests to a real API server. Nothing is left in the cluster.

use std::sync::Arc;

use crate::support::cluster::Cluster;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Config};
use mailferry::operator::metrics::Metrics;
use mailferry::operator::requests::CountRequests;
use serde_json::json;

fn count(metrics: &Metrics, code: &str, verb: &str) -> u64 {
    let series = format!("mailferry_api_requests_total{{verb=\"{verb}\",code=\"{code}\"}} ");
    let text = metrics.text().unwrap();
    text.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
}

#[tokio::test]
async fn requests_are_counted_by_verb_and_by_what_was_answered() {
    let metrics = Arc::new(Metrics::default());
    let maps = |config: Config| -> Api<ConfigMap> {
        let layer = CountRequests::new(Arc::clone(&metrics));
        Api::namespaced(ClientBuilder::try_from(config).unwrap().with_layer(&layer).build(), "default")
    };
    let credentials = Kubeconfig::read_from(Cluster::get().kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(credentials, &KubeConfigOptions::default()).await.unwrap();
    let api = maps(config.clone());
    let new = serde_json::from_value(json!({"metadata": {"generateName": "count-"}})).unwrap();
    let made = api.create(&PostParams::default(), &new).await.unwrap();
    let name = made.metadata.name.clone().unwrap();
    api.replace(&name, &PostParams::default(), &made).await.unwrap();
    let change = Patch::Merge(json!({"data": {"a": "b"}}));
    api.patch(&name, &PatchParams::default(), &change).await.unwrap();
    let stale = api.replace(&name, &PostParams::default(), &made).await;
    assert!(stale.is_err(), "the object changed in between");
    api.get(&name).await.unwrap();
    api.list(&ListParams::default()).await.unwrap();
    let only = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut changes = api.watch(&only, "0").await.unwrap().boxed();
    changes.next().await.unwrap().unwrap();
    api.delete(&name, &DeleteParams::default()).await.unwrap();
    assert!(api.get_opt(&name).await.unwrap().is_none());

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut away = config;
    away.cluster_url = format!("https://{closed}").parse().unwrap();
    assert!(maps(away).get(&name).await.is_err());
    for (verb, code, wanted) in [
        ("create", "2xx", 1),
        ("update", "2xx", 1),
        ("update", "4xx", 1),
        ("patch", "2xx", 1),
        ("get", "2xx", 1),
        ("get", "4xx", 1),
        ("get", "none", 1),
        ("list", "2xx", 1),
        ("watch", "2xx", 1),
        ("delete", "2xx", 1),
        ("other", "2xx", 0),
    ] {
        assert_eq!(count(&metrics, code, verb), wanted, "{verb} {code}");
    }
}
