//! The official conformance suite plays servers and their authorization servers, and Chandlery is their client: an admin publishes an entry
//! for the server of each scenario, a person connects an account, and calls a tool.
//!
//! Tools: node

#[path = "conformance_client/expected.rs"]
mod expected;
#[path = "conformance_client/people.rs"]
mod people;
#[path = "conformance_client/stage.rs"]
mod stage;
#[path = "conformance_client/suite.rs"]
mod suite;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use axum::{Json, Router, extract::State, routing::post};
use integration_tests::{conformance::Checks, upstream::Served};
use serde_json::Value;

use expected::{NotPlayed, OTHER_DOCUMENT, Played};
use people::{Scenario, play};
use stage::Stage;
use suite::Selection;

struct Journey {
    stage: Stage,
    not_played: &'static [NotPlayed],
    ends: Mutex<BTreeMap<String, String>>,
}

/// The suite hands over a scenario, and waits until the people are done.
async fn take(State(journey): State<Arc<Journey>>, Json(scenario): Json<Scenario>) -> String {
    let name = scenario.name.clone();
    if let Some((_, why)) = journey.not_played.iter().find(|(not_played, _)| *not_played == name) {
        return (*why).to_owned();
    }
    let there = Arc::clone(&journey);
    // The test shows a panic once the suite has ended.
    let played = tokio::spawn(async move { play(&there.stage, &scenario).await }).await;
    let end = played.unwrap_or_else(|panic| panic.to_string());
    let mut ends = journey.ends.lock().expect("no holder of this lock panics");
    ends.insert(name, end.clone());
    end
}

async fn expect(selection: Selection<'_>, played: &[Played], not_played: &'static [NotPlayed]) {
    let journey = Arc::new(Journey {
        stage: Stage::start().await,
        not_played,
        ends: Mutex::default(),
    });
    let routes = Router::new().route("/", post(take)).with_state(Arc::clone(&journey));
    let served = Served::start(routes).await;
    let found = suite::run(selection, &served.url("/")).await;

    let known = played.iter().map(|(name, ..)| *name);
    let known: BTreeSet<&str> = known.chain(not_played.iter().map(|(name, _)| *name)).collect();
    let names: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(names, known, "the suite's scenarios");
    let ends = journey.ends.lock().expect("no holder of this lock panics").clone();
    let mut wrong = Vec::new();
    for (name, end, passed) in played {
        let Checks {
            passed: checks,
            failed,
            warned,
        } = &found[*name];
        let other_document = |(check, found): (&String, &Value)| {
            (*name, check.as_str()) == OTHER_DOCUMENT && Stage::is_client_document(&found["actualClientId"])
        };
        let as_expected = (ends[*name].as_str(), checks.len()) == (*end, *passed);
        if !as_expected || !failed.is_empty() || !warned.iter().all(other_document) {
            wrong.push(format!(
                "{name}: {}, {} checks: {:#?}",
                ends[*name],
                checks.len(),
                found[*name]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_revision_2025_11_25_requires() {
    let selection = Selection::Requirements("2025-11-25");
    expect(selection, expected::OF_2025_11_25, expected::NOT_IN_2025_11_25).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_revision_2026_07_28_requires() {
    let selection = Selection::Requirements("2026-07-28");
    expect(selection, expected::OF_2026_07_28, expected::NOT_IN_2026_07_28).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_moves_to_another_authorization_server() {
    let selection = Selection::Scenario("auth/authorization-server-migration", "2025-11-25");
    expect(selection, expected::OF_BOTH, &[]).await;
}
