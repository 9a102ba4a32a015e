//! Who may use what.

use std::sync::Arc;

use crate::{
    domain::{
        Audience, CallError, Caller, Consumer, ConsumerRef, Entry, Installation, ListedTools, OwnTools, Owner, Subject,
    },
    route::{Source, Table},
    snapshot::{CallerTeams, Snapshot},
};

/// The gateway or agent, if the caller may use it. One they may not use is as one that does not exist.
pub(crate) fn consumer(snapshot: &Snapshot, caller: &Caller, name: &ConsumerRef) -> Result<Arc<Consumer>, CallError> {
    enter(snapshot, caller, name).map(|entered| Arc::clone(entered.consumer))
}

/// A caller at a gateway or agent that they may use.
pub(super) struct Entered<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) caller: &'a Caller,
    /// The gateway or agent.
    pub(super) consumer: &'a Arc<Consumer>,
    /// What it exposes.
    pub(super) table: &'a Table,
    /// The caller's teams.
    pub(super) teams: Arc<CallerTeams>,
    /// What servers list to the caller's client alone.
    pub(super) own: Option<&'a OwnTools>,
}

/// The gateway or agent, if the caller may use it.
pub(super) fn enter<'a>(
    snapshot: &'a Snapshot,
    caller: &'a Caller,
    name: &ConsumerRef,
) -> Result<Entered<'a>, CallError> {
    let refused = || CallError::ConsumerNotFound(name.clone());
    let consumer = snapshot.consumer(name).ok_or_else(refused)?;
    let teams = snapshot.teams_of(caller);
    let dead = caller.user().is_some_and(|user| snapshot.is_deactivated(&user.id));
    if dead || !caller.reaches(name) || !belongs(caller, &teams, &consumer.audience) {
        return Err(refused());
    }
    Ok(Entered {
        snapshot,
        caller,
        consumer,
        table: snapshot.table(name).ok_or_else(refused)?,
        teams,
        own: None,
    })
}

impl<'a> Entered<'a> {
    /// What the server of this installation lists to the caller's client alone, where all tools of its entry are assigned by this source.
    pub(super) fn own_tools(&self, source: &Source, installation: &Installation) -> Option<&'a ListedTools> {
        let own = self.own?.of(&installation.uid)?;
        self.table.has_whole(source).then_some(own)
    }

    /// The entry that an assignment is of, if the caller sees it.
    pub(super) fn entry(&self, source: &Source) -> Option<&'a Arc<Entry>> {
        self.snapshot
            .entry(&source.entry_uid)
            .filter(|entry| !entry.deleted && belongs(self.caller, &self.teams, &entry.audience))
    }

    /// Whether the owner of the installation that an assignment is pinned to has agreed that this caller calls with their account: the
    /// gateway or agent may have been opened to more people since.
    pub(super) fn consented(&self, source: &Source, installation: &Installation) -> bool {
        let Some(consented) = source.pinned.as_ref().and_then(|pinned| pinned.consented.as_ref()) else {
            return true;
        };
        let user = self.caller.user().map(|user| user.id.as_str());
        let owner = matches!(&installation.owner, Owner::User(owner) if Some(&**owner) == user);
        let author = user.is_some() && self.consumer.audience.author.as_deref() == user;
        let agreed = |team: &Arc<str>| self.teams.created(team).is_some_and(|created| created <= consented.at);
        let meant = consented.to.organization || consented.to.teams.iter().any(agreed);
        owner || author || meant || self.caller.user().is_some_and(|user| user.admin)
    }
}

fn belongs(caller: &Caller, teams: &CallerTeams, audience: &Audience) -> bool {
    let personally = match &caller.subject {
        Subject::User(user) => user.admin || audience.author.as_deref() == Some(user.id.as_str()),
        Subject::Team(_) => false,
    };
    audience.organization || personally || audience.teams.iter().any(|team| teams.contains(team))
}
