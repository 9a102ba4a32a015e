//! What an exposed name stands for.

use std::sync::Arc;

use super::{
    access::{Entered, enter},
    beside,
};
use crate::{
    domain::{CallError, Caller, ConsumerRef, Entry, OwnTools},
    route::Source,
    snapshot::Snapshot,
};

/// A tool that exists for this caller.
pub(super) struct Found<'a> {
    pub(super) entered: Entered<'a>,
    /// Whose server has it.
    pub(super) source: &'a Arc<Source>,
    /// The server's own name of it.
    pub(super) tool: Arc<str>,
    pub(super) entry: &'a Arc<Entry>,
}

/// Looks up what a call of this exposed name is about. `own`: what servers list to the caller's client alone.
pub(super) fn find<'a>(
    snapshot: &'a Snapshot,
    caller: &'a Caller,
    name: &ConsumerRef,
    exposed_name: &str,
    own: Option<&'a OwnTools>,
) -> Result<Found<'a>, CallError> {
    let entered = Entered {
        own,
        ..enter(snapshot, caller, name)?
    };
    let table = entered.table;
    let more = || {
        let beside = beside::routes(&entered);
        let index = beside.binary_search_by(|one| (*one.exposed_name).cmp(exposed_name));
        let one = &beside[index.ok()?];
        Some((one.source, Arc::clone(one.tool)))
    };
    let known = table
        .find(exposed_name)
        .map(|route| (&route.source, Arc::clone(&route.tool)));
    let found = known
        .or_else(more)
        .and_then(|(source, tool)| Some((source, tool, entered.entry(source)?)));
    let Some((source, tool, entry)) = found else {
        return Err(CallError::ToolNotFound(exposed_name.to_owned()));
    };
    Ok(Found {
        entered,
        source,
        tool,
        entry,
    })
}
