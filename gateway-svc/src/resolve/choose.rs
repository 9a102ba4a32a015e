//! Which installation, in the order of ARCHITECTURE.md, "A tool call, station by station", step 4.

use std::{cmp::Reverse, sync::Arc};

use super::access::Entered;
use crate::{
    domain::{
        ConditionState, CredentialKind, Definition, Entry, Installation, Lifecycle, ListedTools, RepairReason, Running,
        Shared,
    },
    route::Source,
    sentence::as_sentence,
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
    /// For programs.
    pub(crate) reason: RepairReason,
    /// For people: names the entry and says what to do.
    pub(crate) message: String,
    /// Whether it passes by itself: the server is being started.
    pub(super) starting: bool,
}

impl Fault {
    pub(super) const fn new(reason: RepairReason, message: String) -> Self {
        Self {
            reason,
            message,
            starting: false,
        }
    }
}

/// The installation that a call goes to.
pub(super) struct Chosen<'a> {
    pub(super) installation: &'a Arc<Installation>,
    /// What its server lists to the caller's client alone.
    own: Option<&'a ListedTools>,
    /// What it runs; or why it cannot be called, whatever the tool.
    running: Result<Running, Fault>,
}

/// Every candidate, in the order in which they are considered. The order is total.
pub(super) fn candidates<'a>(
    entered: &'a Entered<'_>,
    source: &'a Source,
) -> impl Iterator<Item = (Rule, &'a Arc<Installation>)> {
    let snapshot = entered.snapshot;
    let pinned = source
        .pinned
        .as_ref()
        .and_then(|pinned| snapshot.installation(&pinned.installation))
        .filter(|installation| installation.entry_uid == source.entry_uid && !installation.deleted);
    // Evaluated only if none before is chosen.
    let of_teams = std::iter::once(())
        .filter(|()| source.pinned.is_none())
        .flat_map(move |()| {
            let shared_with = &entered.consumer.audience.teams;
            let shared = |team: &str| shared_with.iter().any(|shared| **shared == *team);
            let mut found: Vec<(bool, &Arc<Installation>)> = entered
                .teams
                .iter()
                .filter_map(|team| Some((shared(team), snapshot.of_team(&source.entry_uid, team)?)))
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
        .chain(personal(entered, source).map(|installation| (Rule::Personal, installation)))
        .chain(of_teams)
}

/// The caller's own installation, where the source is not pinned.
fn personal<'a>(entered: &Entered<'a>, source: &Source) -> Option<&'a Arc<Installation>> {
    entered
        .caller
        .person_id()
        .filter(|_| source.pinned.is_none())
        .and_then(|user| entered.snapshot.personal(&source.entry_uid, user))
}

/// The first that was ever ready, even if it is broken now; a pinned one in any state: a call never falls through to another
/// account.
pub(super) fn installation<'a>(entered: &'a Entered<'_>, source: &'a Source) -> Option<&'a Arc<Installation>> {
    let (_, installation) = candidates(entered, source).find(|(rule, installation)| eligible(*rule, installation))?;
    Some(installation)
}

/// The same, and what it runs.
pub(super) fn choose<'a>(entered: &'a Entered<'_>, source: &'a Source, entry: &Entry) -> Option<Chosen<'a>> {
    let installation = installation(entered, source)?;
    Some(Chosen {
        installation,
        own: entered.own_tools(source, installation),
        running: running(entered, source, entry, installation),
    })
}

/// Whether it is chosen if nothing before it was.
pub(super) fn eligible(rule: Rule, installation: &Installation) -> bool {
    rule == Rule::Pinned || installation.once_ready
}

/// Why nothing was chosen.
pub(super) fn nowhere(entered: &Entered<'_>, source: &Source, entry: &Entry) -> Fault {
    let name = &entry.display_name;
    let message = match personal(entered, source) {
        Some(pending) if pending.credential.status == ConditionState::True => {
            format!("{name} is installed but not ready yet. Open the link to see its progress, then try again.")
        }
        Some(pending) if has_account(entered, pending) => {
            format!(
                "{name} is installed but not connected to an account. Open the link to connect one, then try again."
            )
        }
        Some(_) => {
            format!("{name} is installed but incomplete. Open the link to enter what is missing, then try again.")
        }
        None if entered.caller.user().is_some_and(|user| user.machine) => {
            format!(
                "No team that this program belongs to has installed {name}. A member of one of its teams can, by the link."
            )
        }
        None if entry.lifecycle == Lifecycle::Deprecated => {
            format!("{name} is deprecated and can no longer be installed. Ask an admin what to use in its place.")
        }
        None => format!("{name} is not connected yet. Open the link to connect it, then try again."),
    };
    Fault::new(RepairReason::CredentialRequired, message)
}

/// Whether its credential is an account that a person connects.
fn has_account(entered: &Entered<'_>, installation: &Arc<Installation>) -> bool {
    let running = entered.snapshot.running(installation);
    running.is_some_and(|running| running.revision.credential == CredentialKind::OAuth)
}

impl Chosen<'_> {
    /// What a call of this tool goes to, or why it cannot be made.
    ///
    /// Whether its tools were discovered recently does not matter: the call itself shows better than an old report whether the server works.
    pub(super) fn call(self, entered: &Entered<'_>, tool: &str) -> Result<Running, Fault> {
        let lacks = self.lacks(entered, tool);
        let running = self.running?;
        if lacks {
            let name = &running.entry.display_name;
            let message = format!("The server of {name}, as connected here, does not have the tool {tool}.");
            return Err(Fault::new(RepairReason::ToolUnavailable, message));
        }
        Ok(running)
    }

    /// What a request goes to that is about no tool, or why it cannot be made.
    pub(super) fn reach(self) -> Result<Running, Fault> {
        self.running
    }

    /// Whether a call of this tool can be made.
    pub(super) fn can_call(&self, entered: &Entered<'_>, tool: &str) -> bool {
        self.running.is_ok() && !self.lacks(entered, tool)
    }

    fn lacks(&self, entered: &Entered<'_>, tool: &str) -> bool {
        if self.own.is_some_and(|own| own.get(tool).is_some()) {
            return false;
        }
        let known = self.installation.tools.as_ref();
        let known = known.and_then(|hash| entered.snapshot.tools(hash));
        known.is_some_and(|tools| tools.hash(tool).is_none())
    }
}

/// What the chosen installation runs, or why a call to it cannot be made.
fn running(
    entered: &Entered<'_>,
    source: &Source,
    entry: &Entry,
    installation: &Arc<Installation>,
) -> Result<Running, Fault> {
    let name = &entry.display_name;
    if !entered.consented(source, installation) {
        let message = format!(
            "{name} is connected here with somebody's own account, and its owner has not agreed that you use it. Ask them to agree again."
        );
        return Err(Fault::new(RepairReason::InstallationUnavailable, message));
    }
    let credential = &installation.credential;
    if credential.status == ConditionState::False {
        let reason = RepairReason::of_condition(&credential.reason);
        let what = match reason {
            RepairReason::CredentialRequired => "lacks a credential",
            RepairReason::DestinationChanged => "has no usable credential",
            _ => "needs its credential renewed",
        };
        let message = explained(format!("{name} {what}."), &credential.message, REPAIR);
        return Err(Fault::new(reason, message));
    }
    let unavailable = |starting, why: &str, repair| {
        let (state, then) = if starting {
            ("being started", "Try again in a moment.")
        } else {
            ("not running", repair)
        };
        let what = format!("The server of {name} is {state}.");
        Fault {
            reason: RepairReason::InstallationUnavailable,
            message: explained(what, why, then),
            starting,
        }
    };
    let running = entered
        .snapshot
        .running(installation)
        .ok_or_else(|| unavailable(false, &installation.runtime.message, REPAIR))?;
    if let Some(stored) = running
        .entry_credential()
        .filter(|stored| stored.status == ConditionState::False)
    {
        let reason = RepairReason::of_condition(&stored.reason);
        let what = match reason {
            RepairReason::CredentialRequired => {
                format!(
                    "{name} lacks a credential that all its installations use: an admin must store it on the entry."
                )
            }
            RepairReason::DestinationChanged => format!("{name} has no usable credential of its entry."),
            _ => format!("The credential stored on the entry {name} must be renewed by an admin."),
        };
        return Err(Fault::new(
            reason,
            explained(what, &stored.message, "Try again after that."),
        ));
    }
    if running.stopped() || running.endpoint.is_none() {
        let starting = running.revision.self_hosted && running.server() == ConditionState::Unknown;
        let repair = match running.shared {
            Some(Shared::Serves { .. }) => "Ask an admin to repair it, then try again.",
            Some(Shared::RunsAnother) | None => REPAIR,
        };
        return Err(unavailable(starting, running.server_message(), repair));
    }
    Ok(running)
}

const REPAIR: &str = "Open the link to repair it, then try again.";

fn explained(what: String, why: &str, then: &str) -> String {
    let why = as_sentence(why);
    if why.is_empty() {
        format!("{what} {then}")
    } else {
        format!("{what} {why} {then}")
    }
}

/// The hash and definition a caller sees: those of the session with the installation that resolves, if it has a list of its own; else the
/// installation's, else the entry's.
pub(super) fn definition<'a>(
    entered: &Entered<'a>,
    source: &Source,
    installation: Option<&Arc<Installation>>,
    entry: &Entry,
    tool: &Arc<str>,
) -> Option<(&'a Arc<str>, &'a Arc<Definition>)> {
    if let Some(own) = installation.and_then(|installation| entered.own_tools(source, installation))
        && !entered.table.has_single(&source.entry_uid, tool)
    {
        return own.get(tool);
    }
    let snapshot = entered.snapshot;
    let of = |set: &Arc<str>| {
        let hash = snapshot.tools(set)?.hash(tool)?;
        Some((hash, snapshot.definition(hash)?))
    };
    installation
        .and_then(|installation| of(installation.tools.as_ref()?))
        .or_else(|| of(entry.tools.as_ref()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_happened_and_what_to_do_in_sentences() {
        let what = || "Mail has no usable credential.".to_owned();
        assert_eq!(
            explained(what(), "what runs has changed; its owner must agree ", REPAIR),
            "Mail has no usable credential. What runs has changed; its owner must agree. Open the link to repair it, then try again."
        );
        assert_eq!(
            explained(what(), " ", REPAIR),
            "Mail has no usable credential. Open the link to repair it, then try again."
        );
    }
}
