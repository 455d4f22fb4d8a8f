//! Laws of the ranking, whatever the world says: more evidence never makes a candidate worse, an override always
//! wins, and the order in which answers come changes nothing.

use std::net::IpAddr;

use proptest::prelude::*;

use super::Chosen;
use super::collect::{Ranked, rank, to_try};
use super::probes::Probed;
use super::signals::{Heard, Published};
use crate::model::address::Domain;
use crate::model::capability::Capabilities;
use crate::model::endpoint::Endpoint;
use crate::model::evidence::{Grade, ServerFacts, Signal};
use crate::model::failure::{Class, Failure};
use crate::model::protocol::{Protocol, Tls};
use crate::model::service::{Service, ServiceFacts};

const HOSTS: [&str; 4] =
    ["imap.contoso.example", "mail.contoso.example", "mail.hoster.example", "contoso.example"];
const SIGNALS: [(Signal, Grade); 6] = [
    (Signal::Manifest, Grade::C),
    (Signal::Srv, Grade::C),
    (Signal::Autoconfig, Grade::C),
    (Signal::Autodiscover, Grade::C),
    (Signal::ProviderFacts, Grade::D),
    (Signal::UsualName, Grade::D),
];

fn domain() -> Domain {
    "contoso.example".parse().unwrap()
}

fn endpoints() -> Vec<Endpoint> {
    let tls = [Tls::Implicit, Tls::StartTLS, Tls::None];
    let all = HOSTS.iter().flat_map(|host| Protocol::OF_SERVERS.map(|protocol| (*host, protocol)));
    all.flat_map(|(host, protocol)| {
        tls.map(|tls| Endpoint::new(protocol, host, protocol.default_port(tls), tls))
    })
    .collect()
}

prop_compose! {
    fn published()(
        endpoint in prop::sample::select(endpoints()),
        (signal, grade) in prop::sample::select(&SIGNALS[..]),
        trusted in any::<bool>(),
        rank in 0_usize..3,
    ) -> Published {
        Published { endpoint, signal, grade, trusted, rank, username: None }
    }
}

/// One probe for each endpoint that is named; which of them answer is said by a mask.
fn probed(published: &[Published], answers: u32) -> Vec<Probed> {
    let mut endpoints: Vec<Endpoint> = published.iter().map(|p| p.endpoint.clone()).collect();
    endpoints.sort();
    endpoints.dedup();
    let all = self::endpoints();
    let probe = |endpoint: Endpoint| {
        let at = all.iter().position(|one| *one == endpoint).unwrap();
        let facts = ServerFacts {
            endpoint: endpoint.clone(),
            greeting: String::new(),
            capabilities: Capabilities::default(),
            mechanisms: Vec::new(),
            tls: None,
        };
        let answer = if answers & (1 << at) == 0 {
            Err(Failure::new(Class::Unreachable, "is silent"))
        } else {
            Ok(facts)
        };
        let addresses = vec![IpAddr::from([192, 0, 2, u8::try_from(at % 6).unwrap()])];
        Probed { endpoint, addresses, blocked: false, answer }
    };
    endpoints.into_iter().map(probe).collect()
}

fn grades(ranked: &[Ranked]) -> Vec<(Endpoint, Grade, bool)> {
    let grade = |one: &Ranked| if one.answer.is_ok() { Grade::B } else { one.published };
    ranked.iter().map(|one| (one.endpoint.clone(), grade(one), one.approval.is_given())).collect()
}

proptest! {
    #[test]
    fn more_evidence_never_lowers_a_grade_and_takes_no_approval_away(
        said in prop::collection::vec(published(), 1..8),
        more in prop::collection::vec(published(), 0..8),
        answers in any::<u32>(),
        more_answers in any::<u32>(),
    ) {
        let before = grades(&rank(&domain(), &[], &said, probed(&said, answers)));
        let all: Vec<_> = said.into_iter().chain(more).collect();
        let after = grades(&rank(&domain(), &[], &all, probed(&all, answers | more_answers)));
        for (endpoint, grade, approved) in before {
            let (_, now, still) = after.iter().find(|(one, _, _)| *one == endpoint).unwrap();
            prop_assert!(*now <= grade, "{endpoint}: {grade} became {now}");
            prop_assert!(*still || !approved, "{endpoint} is approved no more");
        }
    }

    #[test]
    fn the_order_of_arrival_changes_nothing(
        said in prop::collection::vec(published(), 1..10),
        answers in any::<u32>(),
        seed in prop::collection::vec(any::<u32>(), 10),
    ) {
        let mut shuffled: Vec<_> = said.iter().cloned().zip(&seed).collect();
        shuffled.sort_by_key(|(_, key)| **key);
        let shuffled: Vec<_> = shuffled.into_iter().map(|(one, _)| one).collect();
        let mut turned = probed(&said, answers);
        turned.reverse();
        let one = rank(&domain(), &[], &said, probed(&said, answers));
        let other = rank(&domain(), &[], &shuffled, turned);
        prop_assert_eq!(grades(&one), grades(&other));
        let places = |ranked: &[Ranked]| -> Vec<Endpoint> {
            to_try(ranked, None).into_iter().map(|one| one.endpoint.clone()).collect()
        };
        prop_assert_eq!(places(&one), places(&other));
    }

    #[test]
    fn an_override_always_wins_and_is_all_that_is_tried(
        said in prop::collection::vec(published(), 0..8),
        chosen in prop::sample::select(endpoints()),
        answers in any::<u32>(),
    ) {
        let by_hand = Published { endpoint: chosen.clone(), signal: Signal::Override, grade: Grade::C, trusted: true, rank: 0 , username: None};
        let all: Vec<_> = said.into_iter().chain([by_hand]).collect();
        let named = std::slice::from_ref(&chosen);
        let ranked = rank(&domain(), named, &all, probed(&all, answers));
        prop_assert_eq!(&ranked[0].endpoint, &chosen);
        let wanted = Chosen { protocol: chosen.protocol, endpoint: Some(chosen.clone()), reason: None };
        prop_assert!(to_try(&ranked, Some(&wanted)).iter().all(|one| one.endpoint == chosen));
    }

    #[test]
    fn of_a_service_the_best_word_counts_whoever_comes_first(
        said in prop::collection::vec((0_usize..3, 0_usize..4, any::<bool>(), 0_u8..3), 1..12),
    ) {
        let facts = |(place, grade, trusted, words): &(usize, usize, bool, u8)| ServiceFacts {
            service: Service::Jmap,
            place: format!("https://{place}.example/jmap"),
            grade: [Grade::A, Grade::B, Grade::C, Grade::D][*grade],
            trusted: *trusted,
            words: words.to_string(),
        };
        let keep = |said: &mut dyn Iterator<Item = &(usize, usize, bool, u8)>| {
            let mut heard = Heard::default();
            said.for_each(|one| heard.offer(facts(one)));
            heard.services.sort_by(|a, b| a.place.cmp(&b.place));
            heard.services
        };
        prop_assert_eq!(keep(&mut said.iter()), keep(&mut said.iter().rev()));
    }
}
