//! Explains every step of a resolution to people.

use std::sync::Arc;

use super::{
    choose::{self, Rule},
    credential::ExplainedCredential,
    find::{self, Found},
};
use crate::{
    domain::{CallError, Caller, ConsumerRef, Entry, Installation, Links, RepairReason},
    snapshot::Snapshot,
};

/// Where a call would go, and why.
#[derive(Clone, Debug)]
pub(crate) struct Explanation {
    /// The entry of the tool.
    pub(crate) entry: Arc<Entry>,
    /// The server's own name of the tool.
    pub(crate) tool: Arc<str>,
    /// The installation; `None`: nowhere.
    pub(crate) chosen: Option<Arc<Installation>>,
    /// The credential that the call would carry; `None` where it goes nowhere, or what runs there is not known.
    pub(crate) credential: Option<ExplainedCredential>,
    /// Why the call would fail; `None`: it would not.
    pub(crate) reason: Option<RepairReason>,
    /// Every candidate in the order in which they are considered, and every rule that has none.
    pub(crate) steps: Vec<Step>,
    /// Where the caller installs or repairs the entry, if the call would fail.
    pub(crate) install_url: Option<String>,
}

/// One candidate, or a rule that has none.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Which rule it falls under.
    pub(crate) rule: Rule,
    /// The candidate.
    pub(crate) installation: Option<Arc<Installation>>,
    /// What became of it.
    pub(crate) outcome: Outcome,
    /// For people: why.
    pub(crate) detail: String,
}

/// What became of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The call goes there.
    Chosen,
    /// It was never ready.
    SkippedNeverReady,
    /// One before it was chosen.
    NotReached,
    /// The rule has no candidate.
    None,
}

/// Explains where a call of this exposed name would go.
pub(crate) fn explain(
    snapshot: &Snapshot,
    caller: &Caller,
    name: &ConsumerRef,
    exposed_name: &str,
    links: &Links,
) -> Result<Explanation, CallError> {
    let Found {
        entered,
        source,
        tool,
        entry,
    } = find::find(snapshot, caller, name, exposed_name, None)?;
    let candidates: Vec<_> = choose::candidates(&entered, source).collect();
    let chosen = choose::choose(&entered, source, entry);
    let installation = chosen.as_ref().map(|chosen| Arc::clone(chosen.installation));
    let running = installation
        .as_ref()
        .and_then(|installation| snapshot.running(installation));
    let fault = match chosen {
        Some(chosen) => chosen.call(&entered, &tool).err(),
        None => Some(choose::nowhere(&entered, source, entry)),
    };
    let rules: &[Rule] = if source.pinned.is_some() {
        &[Rule::Pinned]
    } else {
        &[Rule::Personal, Rule::SharedTeam, Rule::Team]
    };
    let mut steps = Vec::new();
    let mut reached = false;
    for &rule in rules {
        let mut any = false;
        for (_, installation) in candidates.iter().filter(|(of, _)| *of == rule) {
            any = true;
            let (outcome, detail) = if reached {
                (Outcome::NotReached, "one before it was chosen".to_owned())
            } else if !choose::eligible(rule, installation) {
                (Outcome::SkippedNeverReady, "it was never ready".to_owned())
            } else {
                reached = true;
                let detail = fault.as_ref().map_or_else(
                    || why(rule).to_owned(),
                    |fault| format!("{}. {}", why(rule), fault.message),
                );
                (Outcome::Chosen, detail)
            };
            steps.push(Step {
                rule,
                installation: Some(Arc::clone(installation)),
                outcome,
                detail,
            });
        }
        if !any {
            steps.push(Step {
                rule,
                installation: None,
                outcome: Outcome::None,
                detail: none(rule, caller).to_owned(),
            });
        }
    }
    Ok(Explanation {
        entry: Arc::clone(entry),
        tool,
        chosen: installation,
        credential: running.as_ref().map(|running| ExplainedCredential::of(running, caller)),
        install_url: fault.is_some().then(|| links.install(&entry.slug, Some(name))),
        reason: fault.map(|fault| fault.reason),
        steps,
    })
}

fn why(rule: Rule) -> &'static str {
    match rule {
        Rule::Pinned => "the assignment pins it",
        Rule::Personal => "it is the caller's own",
        Rule::SharedTeam => "it is the first of the caller's teams with which this gateway or agent is shared",
        Rule::Team => "it is the oldest of the caller's teams",
    }
}

fn none(rule: Rule, caller: &Caller) -> &'static str {
    match rule {
        Rule::Pinned => "the pinned installation no longer exists",
        Rule::Personal if caller.user().is_none() => "a team's token cannot use a personal installation",
        Rule::Personal => "the caller has no installation of their own",
        Rule::SharedTeam => {
            "no team with which this gateway or agent is shared, and to which the caller belongs, has an installation"
        }
        Rule::Team => "no other team of the caller has an installation",
    }
}
