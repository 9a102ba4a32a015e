//! Has the suite hand its scenarios to the journey.

use std::collections::BTreeMap;

use integration_tests::{
    conformance::{self, Checks, Side},
    tools::{Tool, own},
};

/// Milliseconds that a scenario has. All run at once.
const TIMEOUT: &str = "240000";

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
    let client = format!(
        "{} {} {journey}",
        Tool::Node.path().display(),
        own("node").join("conformance_client.mjs").display()
    );
    let mut arguments = vec!["--timeout", TIMEOUT, "--command", &client];
    match selection {
        Selection::Requirements(revision) => arguments.extend(["--requirements", revision]),
        Selection::Scenario(name, revision) => {
            arguments.extend(["--scenario", name, "--spec-version", revision, "--force"]);
        }
    }
    conformance::run(Side::Client, arguments).await
}
