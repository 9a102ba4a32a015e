//! Which installation, in the order that architecture.md gives.

use std::{cmp::Reverse, sync::Arc};

use crate::{
    domain::{Caller, ConditionState, Consumer, Entry, Installation, Lifecycle, RepairReason},
    route::Route,
    snapshot::{CallerTeams, Snapshot},
};

/// The rules, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The assignment pins one.
    Pinned,
    /// The caller's own.
    Personal,
    /// One of a team of the caller with which the gateway is shared.
    SharedTeam,
    /// One of another team of the caller.
    Team,
}

/// Why a call cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// In one word.
    pub(crate) reason: RepairReason,
    /// For people: names the entry and says what to do.
    pub(crate) message: String,
}

/// Every installation that can be considered, in the order in which it is. Total: no two are equal in it.
pub(super) fn candidates<'a>(
    snapshot: &'a Snapshot,
    caller: &'a Caller,
    teams: &'a CallerTeams,
    consumer: &'a Consumer,
    route: &'a Route,
) -> impl Iterator<Item = (Rule, &'a Arc<Installation>)> {
    let pinned = route
        .pinned
        .as_ref()
        .and_then(|uid| snapshot.installation(uid))
        .filter(|installation| installation.entry_uid == route.entry_uid && !installation.deleted);
    let personal = caller
        .user()
        .filter(|_| route.pinned.is_none())
        .and_then(|user| snapshot.personal(&route.entry_uid, &user.id));
    // Looked at only where nothing before is chosen.
    let of_teams = std::iter::once(())
        .filter(|()| route.pinned.is_none())
        .flat_map(move |()| {
            let shared = |team: &str| consumer.audience.teams.iter().any(|shared| **shared == *team);
            let mut found: Vec<(bool, &Arc<Installation>)> = teams
                .iter()
                .filter_map(|team| Some((shared(team), snapshot.of_team(&route.entry_uid, team)?)))
                .collect();
            found.sort_unstable_by(|(a_shared, a), (b_shared, b)| {
                (Reverse(a_shared), a.created, &a.uid).cmp(&(Reverse(b_shared), b.created, &b.uid))
            });
            found
                .into_iter()
                .map(|(shared, installation)| (if shared { Rule::SharedTeam } else { Rule::Team }, installation))
        });
    pinned
        .map(|installation| (Rule::Pinned, installation))
        .into_iter()
        .chain(personal.map(|installation| (Rule::Personal, installation)))
        .chain(of_teams)
}

/// The first that was ever ready. A pinned one is taken as it is, and one that is broken now is taken too: a call never falls through
/// to another account.
pub(super) fn choose<'a>(
    snapshot: &'a Snapshot,
    caller: &'a Caller,
    teams: &'a CallerTeams,
    consumer: &'a Consumer,
    route: &'a Route,
) -> Option<(Rule, &'a Arc<Installation>)> {
    candidates(snapshot, caller, teams, consumer, route).find(|(rule, installation)| eligible(*rule, installation))
}

/// Whether it is chosen if nothing before it was.
pub(super) fn eligible(rule: Rule, installation: &Installation) -> bool {
    rule == Rule::Pinned || installation.once_ready
}

/// The caller's own installation that was never ready, where that is why nothing was chosen.
pub(super) fn pending<'a>(snapshot: &'a Snapshot, caller: &Caller, route: &Route) -> Option<&'a Arc<Installation>> {
    caller
        .user()
        .filter(|_| route.pinned.is_none())
        .and_then(|user| snapshot.personal(&route.entry_uid, &user.id))
}

/// Why nothing was chosen.
pub(super) fn nowhere(entry: &Entry, pending: Option<&Arc<Installation>>) -> Fault {
    let name = &entry.display_name;
    let message = match pending {
        Some(pending) if pending.credential.status == ConditionState::True => {
            format!(
                "{name} is installed but has not become ready yet. Open the link to see how far it is, then try again."
            )
        }
        Some(_) => {
            format!("{name} is installed but not completed. Open the link to enter what is missing, then try again.")
        }
        None if entry.lifecycle == Lifecycle::Deprecated => {
            format!("{name} is deprecated and can no longer be installed. Ask an admin what to use in its place.")
        }
        None => format!("{name} is not connected yet. Open the link to connect it, then try again."),
    };
    Fault {
        reason: RepairReason::CredentialRequired,
        message,
    }
}

/// Why a call to the chosen installation cannot be made; `None`: it can.
///
/// Whether its tools were discovered lately does not matter: a call finds out better than an old report whether the server works.
pub(super) fn fault(snapshot: &Snapshot, entry: &Entry, installation: &Installation, tool: &str) -> Option<Fault> {
    let name = &entry.display_name;
    let credential = &installation.credential;
    if credential.status == ConditionState::False {
        let (reason, what) = if credential.reason == "CREDENTIAL_REQUIRED" {
            (RepairReason::CredentialRequired, "lacks a credential")
        } else {
            (
                RepairReason::CredentialExpired,
                "needs its credential renewed or confirmed",
            )
        };
        return Some(Fault {
            reason,
            message: explained(format!("{name} {what}."), &credential.message),
        });
    }
    let stopped = installation.self_hosted && installation.runtime.status == ConditionState::False;
    if stopped || installation.endpoint.is_none() {
        let what = format!("The server of {name} does not run at present.");
        return Some(Fault {
            reason: RepairReason::InstallationUnavailable,
            message: explained(what, &installation.runtime.message),
        });
    }
    let lacks = snapshot
        .tools(&installation.uid)
        .is_some_and(|tools| tools.hash(tool).is_none());
    lacks.then(|| Fault {
        reason: RepairReason::ToolUnavailable,
        message: format!("The server of {name}, as connected here, does not have the tool {tool}."),
    })
}

fn explained(what: String, why: &str) -> String {
    let why = why.trim();
    let open = "Open the link to repair it, then try again.";
    if why.is_empty() {
        format!("{what} {open}")
    } else {
        format!("{what} {why} {open}")
    }
}

/// The hash and definition a caller sees: those of the installation that resolves, else the entry's.
pub(super) fn definition<'a>(
    snapshot: &'a Snapshot,
    installation: Option<&Arc<Installation>>,
    route: &Route,
) -> Option<(&'a Arc<str>, &'a Arc<str>)> {
    let of = |owner: &str| {
        let hash = snapshot.tools(owner)?.hash(&route.tool)?;
        Some((hash, snapshot.definition(hash)?))
    };
    installation
        .and_then(|installation| of(&installation.uid))
        .or_else(|| of(&route.entry_uid))
}
