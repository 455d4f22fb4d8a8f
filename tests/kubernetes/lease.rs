//! The lease on a real API server: one of several replicas leads, hands over at once when it stops, is followed when it
//! dies, and stops acting before anybody follows when it is cut off.
//! Namespaces come and go in the cluster.

use std::sync::Arc;
use std::time::Duration;

use crate::support::cluster::Cluster;
use k8s_openapi::api::coordination::v1::Lease as Object;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use mailferry::local::clock::SystemClock;
use mailferry::model::failure::Class;
use mailferry::operator::lease::{Held, Lease};
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

const NAME: &str = "mailferry";

async fn config() -> Config {
    let credentials = Kubeconfig::read_from(Cluster::get().kubeconfig()).unwrap();
    Config::from_custom_kubeconfig(credentials, &KubeConfigOptions::default()).await.unwrap()
}

/// A namespace of its own for each test.
struct Place {
    client: Client,
    namespace: String,
}

impl Place {
    async fn new() -> Self {
        let client = Client::try_from(config().await).unwrap();
        let wanted = serde_json::from_value(json!({"metadata": {"generateName": "lease-"}})).unwrap();
        let made =
            Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &wanted).await.unwrap();
        Self { client, namespace: made.metadata.name.unwrap() }
    }

    fn replica(&self, pod: &str) -> Lease {
        self.replica_by(self.client.clone(), pod)
    }

    fn replica_by(&self, client: Client, pod: &str) -> Lease {
        Lease::new(client, &self.namespace, NAME, pod, Arc::new(SystemClock)).unwrap()
    }

    fn api(&self) -> Api<Object> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn holder(&self) -> Option<String> {
        self.api().get(NAME).await.unwrap().spec.unwrap().holder_identity
    }

    async fn close(self) {
        let _ = Api::<Namespace>::all(self.client).delete(&self.namespace, &DeleteParams::default()).await;
    }
}

async fn soon<T>(seconds: u64, what: &str, work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(seconds), work).await.unwrap_or_else(|_| panic!("not in {seconds} s: {what}"))
}

async fn never<T>(seconds: u64, what: &str, work: impl Future<Output = T>) {
    assert!(timeout(Duration::from_secs(seconds), work).await.is_err(), "{what}");
}

#[tokio::test]
async fn one_of_three_leads_and_hands_over_at_once_when_it_stops() {
    let place = Place::new().await;
    let replicas = ["a", "b", "c"].map(|pod| place.replica(pod));
    let (tell, mut told) = tokio::sync::mpsc::channel::<(String, Held)>(3);
    for replica in replicas.clone() {
        let tell = tell.clone();
        tokio::spawn(async move {
            let held = replica.hold().await.unwrap();
            tell.send((replica.identity().to_owned(), held)).await.unwrap();
        });
    }
    let mut leaders = Vec::new();
    let (identity, mut held) = soon(5, "somebody leads", told.recv()).await.unwrap();
    // Longer than a term: it is renewed, and nobody else gets it.
    never(20, "two lead", async {
        tokio::select! { _ = told.recv() => {}, _ = held.lost() => {} }
    })
    .await;
    leaders.push(identity);
    for _ in 0..2 {
        let term = held.term();
        assert!(term.holds());
        assert_eq!(place.holder().await.as_ref(), leaders.last());
        held.release().await;
        assert!(!term.holds());
        let (identity, next) = soon(4, "the next one leads", told.recv()).await.unwrap();
        leaders.push(identity);
        held = next;
    }
    held.release().await;
    assert_eq!(place.holder().await, None);
    let spec = place.api().get(NAME).await.unwrap().spec.unwrap();
    assert_eq!(spec.lease_transitions, Some(2));
    leaders.sort();
    leaders.dedup();
    assert_eq!(leaders.len(), 3, "{leaders:?}");
    place.close().await;
}

#[tokio::test]
async fn a_leader_that_dies_is_followed_when_its_term_is_surely_over() {
    let place = Place::new().await;
    let held = place.replica("a").hold().await.unwrap();
    let term = held.term();
    let next = place.replica("b");
    let follows = tokio::spawn(async move { next.hold().await.unwrap() });
    sleep(Duration::from_secs(7)).await;
    drop(held);
    let died = Instant::now();
    let held = soon(20, "the other one leads", follows).await.unwrap();
    // Its last renewal was two seconds before at most.
    assert!(died.elapsed() > Duration::from_secs(10), "{:?}", died.elapsed());
    assert!(!term.holds() && held.term().holds());
    held.release().await;
    place.close().await;
}

#[tokio::test]
async fn a_lease_that_another_wrote_is_lost() {
    let place = Place::new().await;
    let replica = place.replica("a");
    let mut held = replica.hold().await.unwrap();
    let theft = Patch::Merge(json!({"spec": {"holderIdentity": "thief"}}));
    place.api().patch(NAME, &PatchParams::default(), &theft).await.unwrap();
    let failure = soon(8, "the loss is seen", held.lost()).await;
    assert_eq!(failure.class, Class::Interrupted);
    assert!(failure.what.contains("thief"), "{failure}");
    assert!(!held.term().holds());
    assert_eq!(held.lost().await, failure, "it is told again");
    held.release().await;
    assert_eq!(place.holder().await.as_deref(), Some("thief"), "what is another's is not given back");
    place.close().await;
}

#[tokio::test]
async fn a_lease_that_was_deleted_goes_to_nobody_else() {
    let place = Place::new().await;
    let replica = place.replica("a");
    let mut held = replica.hold().await.unwrap();
    let other = place.replica("b");
    let mut follows = tokio::spawn(async move { other.hold().await.unwrap() });
    sleep(Duration::from_secs(3)).await;
    place.api().delete(NAME, &DeleteParams::default()).await.unwrap();
    never(12, "it is lost", async {
        tokio::select! { _ = held.lost() => {}, _ = &mut follows => {} }
    })
    .await;
    assert_eq!(place.holder().await.as_deref(), Some(replica.identity()));
    follows.abort();
    held.release().await;
    place.close().await;
}

/// A way to the API server that can be cut, with everything that goes over it.
async fn way() -> (Client, watch::Sender<bool>) {
    let mut config = config().await;
    let host = config.cluster_url.host().unwrap().to_owned();
    let to = format!("{host}:{}", config.cluster_url.port_u16().unwrap_or(443));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    config.cluster_url = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
    config.tls_server_name = Some(host);
    let (cut, is_cut) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let (to, mut is_cut) = (to.clone(), is_cut.clone());
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                let cut_off = async { drop(is_cut.wait_for(|cut| *cut).await) };
                tokio::select! {
                    biased;
                    () = cut_off => {}
                    _ = copy_bidirectional(&mut near, &mut far) => return,
                }
                // Nothing is closed: the other side only hears nothing any more.
                std::future::pending::<()>().await;
            });
        }
    });
    (Client::try_from(config).unwrap(), cut)
}

#[tokio::test]
async fn a_leader_that_is_cut_off_stops_before_anybody_follows() {
    let place = Place::new().await;
    let (client, cut) = way().await;
    let mut held = place.replica_by(client, "a").hold().await.unwrap();
    let term = held.term();
    let other = place.replica("b");
    let follows = tokio::spawn(async move { (other.hold().await.unwrap(), Instant::now()) });
    sleep(Duration::from_secs(6)).await;
    cut.send_replace(true);
    let began = Instant::now();
    let failure = soon(12, "the loss is seen", held.lost()).await;
    let lost = Instant::now();
    assert_eq!(failure.class, Class::Interrupted);
    assert!(!term.holds());
    assert!(!follows.is_finished(), "another one leads already");
    // Giving it back is tried and does not hang.
    soon(5, "it ends", held.release()).await;
    let (next, taken) = soon(20, "the other one leads", follows).await.unwrap();
    println!("lost after {:?}, followed after {:?}", lost - began, taken - began);
    assert!(taken - lost > Duration::from_secs(2));
    next.release().await;
    place.close().await;
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_cannot_pass_is_told() {
    let place = Place::new().await;
    let new = |namespace: &str, name: &str| {
        Lease::new(place.client.clone(), namespace, name, "a", Arc::new(SystemClock)).unwrap()
    };
    never(5, "there is no such namespace", new("there-is-none", NAME).hold()).await;
    let failure = new(&place.namespace, "No_Name").hold().await.map(|_| ()).unwrap_err();
    assert_eq!(failure.class, Class::Configuration, "{failure}");
    assert!(failure.hint.unwrap().contains("--lease-name"));
    place.close().await;
}
