//! Assignment to installation: one resolver for calls, lists, discovery and explanations.
//!
//! Every function depends on the snapshot and the caller alone: the same caller and state always give the same answer.

mod access;
mod beside;
mod choose;
mod credential;
mod explain;
mod find;
mod list;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(crate) use access::consumer;
pub(crate) use choose::{Fault, Rule};
pub(crate) use credential::ExplainedCredential;
pub(crate) use explain::{Explanation, Outcome, Step, explain};
pub(crate) use list::{
    Reached, entries, fingerprint, list, list_with, named, own_sessions, page, reaches, seen, shows_all, source_of,
    source_of_tool, whole,
};

use self::find::Found;
use crate::{
    domain::{CallError, Caller, Consumer, ConsumerRef, Definition, Entry, Links, OwnTools, Repair, Running},
    route::{Source, Uris},
    snapshot::Snapshot,
};

/// Where a call goes.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The gateway or agent it came by.
    pub(crate) consumer: Arc<Consumer>,
    /// The installation, with its entry and what it runs.
    pub(crate) running: Running,
    /// The server's own name of the tool, if it is one that is called.
    pub(crate) tool: Option<Arc<str>>,
    /// Whether all tools of its entry are assigned.
    pub(crate) whole: bool,
    /// The tool's definition at that installation.
    pub(crate) definition: Option<Arc<Definition>>,
    /// Whose server has the tool, if others have resources beside it.
    pub(crate) beside_others: Option<Arc<Source>>,
}

/// Where a call of this exposed name goes, or why nowhere. `own`: what servers list to the caller's client alone.
pub(crate) fn call(
    snapshot: &Snapshot,
    caller: &Caller,
    name: &ConsumerRef,
    exposed_name: &str,
    own: Option<&OwnTools>,
    links: &Links,
) -> Result<Target, CallError> {
    let Found {
        entered,
        source,
        tool,
        entry,
    } = find::find(snapshot, caller, name, exposed_name, own)?;
    let running = match choose::choose(&entered, source, entry) {
        Some(chosen) => chosen.call(&entered, &tool),
        None => Err(choose::nowhere(&entered, source, entry)),
    };
    let running = running.map_err(|fault| refuse(entry, name, fault, links))?;
    let definition = choose::definition(&entered, source, Some(&running.installation), entry, &tool);
    Ok(Target {
        consumer: Arc::clone(entered.consumer),
        whole: entered.table.has_whole(source),
        tool: Some(tool),
        definition: definition.map(|(_, definition)| Arc::clone(definition)),
        beside_others: (source.uris() != Uris::Alone).then(|| Arc::clone(source)),
        running,
    })
}

/// Where a request goes to the server of this source, or why nowhere. `None`: the caller does not see its entry.
pub(crate) fn source(
    snapshot: &Snapshot,
    caller: &Caller,
    name: &ConsumerRef,
    source: &Source,
    links: &Links,
) -> Option<Result<Target, CallError>> {
    let entered = access::enter(snapshot, caller, name).ok()?;
    let entry = entered.entry(source)?;
    let running = match choose::choose(&entered, source, entry) {
        Some(chosen) => chosen.reach(),
        None => Err(choose::nowhere(&entered, source, entry)),
    };
    Some(match running {
        Ok(running) => Ok(Target {
            consumer: Arc::clone(entered.consumer),
            whole: entered.table.has_whole(source),
            tool: None,
            definition: None,
            beside_others: None,
            running,
        }),
        Err(fault) => Err(refuse(entry, name, fault, links)),
    })
}

/// The tool of this exposed name as the caller sees it in the list, whether or not it can be called.
pub(crate) fn definition(
    snapshot: &Snapshot,
    caller: &Caller,
    name: &ConsumerRef,
    exposed_name: &str,
    own: Option<&OwnTools>,
) -> Option<Arc<Definition>> {
    let Found {
        entered,
        source,
        tool,
        entry,
    } = find::find(snapshot, caller, name, exposed_name, own).ok()?;
    let chosen = choose::choose(&entered, source, entry);
    let installation = chosen.as_ref().map(|chosen| chosen.installation);
    let (_, definition) = choose::definition(&entered, source, installation, entry, &tool)?;
    Some(Arc::clone(definition))
}

/// Whether the caller has a tool of this exposed name, whether or not it can be called.
pub(crate) fn has_tool(
    snapshot: &Snapshot,
    caller: &Caller,
    name: &ConsumerRef,
    exposed_name: &str,
    own: Option<&OwnTools>,
) -> Result<bool, CallError> {
    match find::find(snapshot, caller, name, exposed_name, own) {
        Ok(_) => Ok(true),
        Err(CallError::ToolNotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a request to the server of this source fails only because it is being started.
pub(crate) fn source_is_starting(snapshot: &Snapshot, caller: &Caller, name: &ConsumerRef, source: &Source) -> bool {
    let starting = || {
        let entered = access::enter(snapshot, caller, name).ok()?;
        let chosen = choose::choose(&entered, source, entered.entry(source)?)?;
        chosen.reach().err()
    };
    starting().is_some_and(|fault| fault.starting)
}

/// Whether a call of this exposed name fails only because the chosen server is being started.
pub(crate) fn is_starting(
    snapshot: &Snapshot,
    caller: &Caller,
    name: &ConsumerRef,
    exposed_name: &str,
    own: Option<&OwnTools>,
) -> bool {
    let found = find::find(snapshot, caller, name, exposed_name, own);
    let Ok(Found {
        entered,
        source,
        tool,
        entry,
    }) = found
    else {
        return false;
    };
    choose::choose(&entered, source, entry)
        .and_then(|chosen| chosen.call(&entered, &tool).err())
        .is_some_and(|fault| fault.starting)
}

/// The error with the link to what the caller must install or repair.
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
