//! Who may use what.

use std::sync::Arc;

use crate::{
    domain::{Audience, CallError, Caller, Consumer, ConsumerRef, Entry, Subject},
    route::Table,
    snapshot::{CallerTeams, Snapshot},
};

/// The gateway or agent, if the caller may use it. One they may not use is as one that does not exist.
pub(crate) fn consumer(snapshot: &Snapshot, caller: &Caller, name: &ConsumerRef) -> Result<Arc<Consumer>, CallError> {
    enter(snapshot, caller, name).map(|entered| Arc::clone(entered.consumer))
}

/// What every look-up begins with.
pub(super) struct Entered<'a> {
    /// The gateway or agent.
    pub(super) consumer: &'a Arc<Consumer>,
    /// What it exposes.
    pub(super) table: &'a Arc<Table>,
    /// The caller's teams.
    pub(super) teams: Arc<CallerTeams>,
}

/// The gateway or agent, if the caller may use it.
pub(super) fn enter<'a>(snapshot: &'a Snapshot, caller: &Caller, name: &ConsumerRef) -> Result<Entered<'a>, CallError> {
    let refused = || CallError::ConsumerNotFound(name.clone());
    let consumer = snapshot.consumer(name).ok_or_else(refused)?;
    let table = snapshot.table(name).ok_or_else(refused)?;
    let teams = snapshot.teams_of(caller);
    let dead = caller.user().is_some_and(|user| snapshot.is_deactivated(&user.id));
    if dead || !caller.reaches(name) || !belongs(caller, &teams, &consumer.audience) {
        return Err(refused());
    }
    Ok(Entered { consumer, table, teams })
}

/// Whether the caller sees an entry.
pub(super) fn sees(caller: &Caller, teams: &CallerTeams, entry: &Entry) -> bool {
    !entry.deleted && belongs(caller, teams, &entry.audience)
}

fn belongs(caller: &Caller, teams: &CallerTeams, audience: &Audience) -> bool {
    let personally = match &caller.subject {
        Subject::User(user) => user.admin || audience.author.as_deref() == Some(user.id.as_str()),
        Subject::Team(_) => false,
    };
    audience.organization || personally || audience.teams.iter().any(|team| teams.contains(team))
}
