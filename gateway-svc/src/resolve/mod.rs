//! Assignment to installation: one resolver for calls, lists, discovery and explanations.
//!
//! Every function is one of the snapshot and the caller alone, so that the same caller and state always give the same answer.

mod access;
mod choose;
mod explain;
mod list;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(crate) use access::consumer;
pub(crate) use choose::{Fault, Rule};
pub(crate) use explain::{Explanation, Outcome, Step, explain};
pub(crate) use list::{fingerprint, list};

use crate::{
    domain::{
        CallError, Caller, ConditionState, Consumer, ConsumerRef, Entry, Installation, Links, Repair, RepairReason,
    },
    snapshot::Snapshot,
};

/// Where a call goes.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The gateway or agent it came by.
    pub(crate) consumer: Arc<Consumer>,
    /// The entry, at its current revision.
    pub(crate) entry: Arc<Entry>,
    /// The installation.
    pub(crate) installation: Arc<Installation>,
    /// The server's own name of the tool.
    pub(crate) tool: Arc<str>,
    /// The tool's definition at that installation, as the server gave it.
    pub(crate) definition: Option<Arc<str>>,
}

/// Where a call of this exposed name goes, or why nowhere.
pub(crate) fn call(
    snapshot: &Snapshot,
    caller: &Caller,
    name: &ConsumerRef,
    exposed_name: &str,
    links: &Links,
) -> Result<Target, CallError> {
    let access::Entered { consumer, table, teams } = access::enter(snapshot, caller, name)?;
    let unknown = || CallError::ToolNotFound(exposed_name.to_owned());
    let route = table.find(exposed_name).ok_or_else(unknown)?;
    let entry = snapshot
        .entry(&route.entry_uid)
        .filter(|entry| access::sees(caller, &teams, entry))
        .ok_or_else(unknown)?;
    let Some((_, installation)) = choose::choose(snapshot, caller, &teams, consumer, route) else {
        let pending = choose::pending(snapshot, caller, route);
        return Err(refuse(entry, name, choose::nowhere(entry, pending), links));
    };
    if let Some(fault) = choose::fault(snapshot, entry, installation, &route.tool) {
        return Err(refuse(entry, name, fault, links));
    }
    Ok(Target {
        consumer: Arc::clone(consumer),
        entry: Arc::clone(entry),
        installation: Arc::clone(installation),
        tool: Arc::clone(&route.tool),
        definition: choose::definition(snapshot, Some(installation), route).map(|(_, json)| Arc::clone(json)),
    })
}

/// Whether a call of this exposed name fails only because the chosen server is being started.
pub(crate) fn is_starting(snapshot: &Snapshot, caller: &Caller, name: &ConsumerRef, exposed_name: &str) -> bool {
    let Ok(access::Entered { consumer, table, teams }) = access::enter(snapshot, caller, name) else {
        return false;
    };
    table
        .find(exposed_name)
        .and_then(|route| choose::choose(snapshot, caller, &teams, consumer, route))
        .is_some_and(|(_, installation)| {
            installation.self_hosted && installation.runtime.status == ConditionState::Unknown
        })
}

/// The error that leads whoever called to what they must install or repair.
pub(crate) fn repair(entry: &Entry, consumer: &ConsumerRef, reason: RepairReason, links: &Links) -> CallError {
    let name = &entry.display_name;
    let message = match reason {
        RepairReason::CredentialRequired => {
            format!("{name} is not connected yet. Open the link to connect it, then try again.")
        }
        RepairReason::CredentialExpired => {
            format!(
                "{name} does not take the stored credential any more. Open the link to enter a new one, then try again."
            )
        }
        RepairReason::InstallationUnavailable => {
            format!("{name} does not work at present. Open the link to see why, then try again.")
        }
        RepairReason::ToolUnavailable => format!("The connected server of {name} does not have this tool."),
    };
    refuse(entry, consumer, Fault { reason, message }, links)
}

fn refuse(entry: &Entry, consumer: &ConsumerRef, fault: Fault, links: &Links) -> CallError {
    Repair {
        reason: fault.reason,
        entry: Arc::clone(&entry.slug),
        display_name: Arc::clone(&entry.display_name),
        message: fault.message,
        install_url: links.install(&entry.slug, Some(consumer)),
    }
    .into()
}
