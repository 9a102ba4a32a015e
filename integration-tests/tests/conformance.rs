//! The official conformance suite is the client of a gateway, and of the server behind it, which has all that the suite expects. Both speak
//! the older revisions of MCP, with sessions, or that of 2026-07-28; the server is reached over HTTP, or run by the bridge.
//!
//! Tools: node

#[path = "conformance/exceptions.rs"]
mod exceptions;
#[path = "conformance/expected.rs"]
mod expected;
#[path = "conformance/front.rs"]
mod front;
#[path = "conformance/gateway.rs"]
mod gateway;
#[path = "conformance/server.rs"]
mod server;

use std::collections::{BTreeMap, BTreeSet};

use contracts::registry::ProcessModel;
use integration_tests::{
    conformance::{self, Checks, Side},
    upstream::suite::{Era, Remote},
    walk,
};
use tokio::sync::Mutex;

use exceptions::{Exception, Instead};
use expected::{Expected, OF_2025_11_25, OF_2026_07_28, OF_TASKS};
use gateway::Gateway;
use server::local;

/// A scenario gives an answer as little as half a second, which a machine has for one run of the suite at a time.
static RUN: Mutex<()> = Mutex::const_new(());

/// Runs the scenarios of a client's era at a URL.
async fn examine(client: Era, url: &str, exceptions: &[Exception]) {
    let (revision, expected, not_examined) = match client {
        Era::Legacy => ("2025-11-25", OF_2025_11_25, &[][..]),
        Era::Modern => ("2026-07-28", OF_2026_07_28, OF_TASKS),
        Era::Both => panic!("a client speaks one"),
    };
    let mut found = {
        let _alone = RUN.lock().await;
        conformance::run(Side::Server, ["--url", url, "--requirements", revision]).await
    };
    found.retain(|name, _| !not_examined.contains(&name.as_str()));
    let known: BTreeSet<&str> = expected.iter().map(|(name, _)| *name).collect();
    let names: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(names, known, "the suite's scenarios");
    let excepted: BTreeSet<&str> = exceptions
        .iter()
        .flat_map(|(.., scenarios)| *scenarios)
        .copied()
        .collect();
    assert!(excepted.is_subset(&known), "exceptions for no scenario: {excepted:?}");
    let wrong: Vec<_> = expected
        .iter()
        .filter_map(|one| problem(*one, &found, exceptions))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with a scenario; `None` if it comes to what is expected, or to what its exception says.
fn problem((name, checks): Expected, found: &BTreeMap<String, Checks>, exceptions: &[Exception]) -> Option<String> {
    let found = &found[name];
    let conforms = |checks| found.failed.is_empty() && found.warned.is_empty() && found.passed.len() == checks;
    let exception = exceptions.iter().find(|(.., scenarios)| scenarios.contains(&name));
    match exception {
        None if conforms(checks) => None,
        None => Some(format!("{name}: {checks} checks expected, {}", told(found))),
        Some((why, ..)) if conforms(checks) => Some(format!("{name} conforms, and is still an exception: {why}")),
        Some((why, Instead::Fails, _)) if found.failed.is_empty() && found.warned.is_empty() => {
            Some(format!("{name} does not fail, although {why}: {}", told(found)))
        }
        Some((why, Instead::Passes(other), _)) if !conforms(*other) => Some(format!(
            "{name}: {other} checks expected, because {why}, {}",
            told(found)
        )),
        Some(_) => None,
    }
}

fn told(Checks { passed, failed, warned }: &Checks) -> String {
    format!("{} passed; failed: {failed:?}; warned: {warned:?}", passed.len())
}

async fn through_a_gateway(client: Era, server: Era, exceptions: &[Exception]) {
    let server = Remote::start(server).await;
    let gateway = Gateway::start(walk::remote(&server.url)).await;
    examine(client, &gateway.url(), exceptions).await;
}

async fn through_the_bridge(client: Era, server: Era, model: ProcessModel, exceptions: &[Exception]) {
    let gateway = Gateway::start(local(server, model)).await;
    examine(client, &gateway.url(), exceptions).await;
}

/// Without a gateway: what the others find is the gateway's.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_conforms_by_itself() {
    for era in [Era::Legacy, Era::Modern] {
        for server in [era, Era::Both] {
            let server = Remote::start(server).await;
            examine(era, &server.url, &[]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_client_of_a_legacy_server() {
    through_a_gateway(Era::Legacy, Era::Legacy, exceptions::LEGACY_TO_LEGACY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_client_of_a_modern_server() {
    through_a_gateway(Era::Modern, Era::Modern, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_client_of_a_modern_server() {
    through_a_gateway(Era::Legacy, Era::Modern, exceptions::LEGACY_TO_MODERN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_client_of_a_legacy_server() {
    through_a_gateway(Era::Modern, Era::Legacy, exceptions::MODERN_TO_LEGACY).await;
}

/// One process for all.
#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_client_of_a_legacy_process_of_all() {
    let exceptions = exceptions::LEGACY_TO_PROCESS_OF_ALL;
    through_the_bridge(Era::Legacy, Era::Legacy, ProcessModel::Unspecified, exceptions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_client_of_a_legacy_process() {
    let exceptions = exceptions::LEGACY_TO_PROCESS;
    through_the_bridge(Era::Legacy, Era::Legacy, ProcessModel::OnePerSession, exceptions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_client_of_a_modern_process() {
    let exceptions = &[];
    through_the_bridge(Era::Modern, Era::Modern, ProcessModel::OnePerSession, exceptions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_client_of_a_modern_process() {
    let exceptions = exceptions::LEGACY_TO_MODERN;
    through_the_bridge(Era::Legacy, Era::Modern, ProcessModel::OnePerSession, exceptions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_client_of_a_legacy_process() {
    let exceptions = exceptions::MODERN_TO_LEGACY;
    through_the_bridge(Era::Modern, Era::Legacy, ProcessModel::OnePerSession, exceptions).await;
}
