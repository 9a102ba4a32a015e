//! Runs the suite, and reads what it has found.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use integration_tests::{
    script,
    tools::{Tool, npm_command, own},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

/// Milliseconds that a scenario has. All run at once.
const TIMEOUT: &str = "240000";

/// The different checks of a scenario by their ends.
#[derive(Debug, Default)]
pub(super) struct Checks {
    pub(super) passed: BTreeSet<String>,
    /// Demands that are not met.
    pub(super) failed: BTreeSet<String>,
    /// Recommendations that are not followed, with what was found.
    pub(super) warned: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Check {
    id: String,
    status: String,
    #[serde(default)]
    details: Value,
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Selection<'a> {
    /// What a revision requires, and what the suite adds without requiring it.
    Requirements(&'a str),
    /// A scenario, in a revision that need not be its own.
    Scenario(&'a str, &'a str),
}

/// Runs scenarios, which are handed to `journey`.
pub(super) async fn run(selection: Selection<'_>, journey: &str) -> BTreeMap<String, Checks> {
    let results = tempfile::tempdir().expect("a place for temporary files");
    let client = format!(
        "{} {} {journey}",
        Tool::Node.path().display(),
        own("node").join("conformance_client.mjs").display()
    );
    let mut command = Command::new(Tool::Node.path());
    for preloaded in ["node/loopback.cjs", "node/close_connections.cjs"] {
        command.arg("--require").arg(own(preloaded));
    }
    command
        .arg(npm_command("conformance"))
        .args(["client", "--timeout", TIMEOUT, "--command", &client])
        .arg("--output-dir")
        .arg(results.path());
    match selection {
        Selection::Requirements(revision) => command.args(["--requirements", revision]),
        Selection::Scenario(name, revision) => {
            command.args(["--scenario", name, "--spec-version", revision, "--force"])
        }
    };
    // Its exit status is that of the scenarios.
    let outcome = script::run(command).await;
    let found = read(results.path());
    assert!(!found.is_empty(), "the suite has not run: {outcome:?}");
    found
}

/// The suite has a folder for each scenario, whose name ends with the time (`-2026-07-28T10-20-30-123Z`); a slash in a scenario's name makes
/// two.
fn read(results: &Path) -> BTreeMap<String, Checks> {
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
        let scenario = name.rsplitn(7, '-').nth(6).expect("a name and a time");
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
            "FAILURE" => counted.failed.insert(check.id),
            "WARNING" => counted.warned.insert(check.id, check.details).is_none(),
            _ => false,
        };
    }
    counted
}
