//! The official conformance suite, npm's `@modelcontextprotocol/conformance`: runs it, and reads what it has found.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    path::Path,
};

use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

use crate::{
    script,
    tools::{Tool, npm_command, own},
};

/// The different checks of a scenario by their ends.
#[derive(Debug, Default)]
pub struct Checks {
    /// What is as it has to be.
    pub passed: BTreeSet<String>,
    /// Demands that are not met, with what was found.
    pub failed: BTreeMap<String, String>,
    /// Recommendations that are not followed, with what was found.
    pub warned: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    id: String,
    status: String,
    #[serde(default)]
    error_message: String,
    #[serde(default)]
    details: Value,
}

/// Which side of the protocol the suite examines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The suite has servers, and hands them to a client.
    Client,
    /// The suite is the client of a server.
    Server,
}

/// Runs the suite with these arguments. Returns the checks of each scenario.
///
/// # Panics
/// If no scenario was run.
pub async fn run<I: AsRef<OsStr>>(side: Side, arguments: impl IntoIterator<Item = I>) -> BTreeMap<String, Checks> {
    let results = tempfile::tempdir().expect("a place for temporary files");
    let mut command = Command::new(Tool::Node.path());
    for preloaded in ["node/loopback.cjs", "node/close_connections.cjs"] {
        command.arg("--require").arg(own(preloaded));
    }
    command
        .arg(npm_command("conformance"))
        .arg(match side {
            Side::Client => "client",
            Side::Server => "server",
        })
        .args(arguments)
        .arg("--output-dir")
        .arg(results.path());
    // Its exit status is that of the scenarios.
    let outcome = script::run(command).await;
    let found = read(side, results.path());
    assert!(!found.is_empty(), "the suite has not run: {outcome:?}");
    found
}

/// The suite has a folder for each scenario, whose name ends with the time (`-2026-07-28T10-20-30-123Z`), and begins with `server-` if the
/// scenario is of a server; a slash in a scenario's name makes two.
fn read(side: Side, results: &Path) -> BTreeMap<String, Checks> {
    let mut found = BTreeMap::new();
    let mut folders = vec![results.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the suite has written it").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            }
        }
        let Ok(checks) = fs::read(folder.join("checks.json")) else {
            continue;
        };
        let name = folder.strip_prefix(results).expect("it is within").to_string_lossy();
        let mut scenario = name.rsplitn(7, '-').nth(6).expect("a name and a time");
        if side == Side::Server {
            scenario = scenario.strip_prefix("server-").expect("the suite begins it so");
        }
        found.insert(scenario.to_owned(), count(&checks));
    }
    found
}

fn count(checks: &[u8]) -> Checks {
    let mut counted = Checks::default();
    let checks: Vec<Check> = serde_json::from_slice(checks).expect("a list of checks");
    for check in checks {
        match check.status.as_str() {
            "SUCCESS" => counted.passed.insert(check.id),
            "FAILURE" => counted.failed.insert(check.id, check.error_message).is_none(),
            "WARNING" => counted.warned.insert(check.id, check.details).is_none(),
            _ => false,
        };
    }
    counted
}
