//! What a caller sees.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use super::{
    access::{self, Entered},
    beside,
    choose::{self, Chosen},
    find,
};
use crate::{
    domain::{CallError, Caller, ConsumerRef, ExposedTool, OwnTools, Running, ToolSet},
    route::{Beside, Seen, Source},
    snapshot::Snapshot,
};

/// Every tool of a gateway or agent whose entry the caller sees, sorted by exposed name; also where nothing resolves for them yet.
/// A tool that no server has defined any more has no definition to show, and is left out.
pub(crate) fn list(snapshot: &Snapshot, caller: &Caller, name: &ConsumerRef) -> Result<Vec<ExposedTool>, CallError> {
    list_with(snapshot, caller, name, None)
}

/// The same, with what servers list to the caller's client alone.
pub(crate) fn list_with(
    snapshot: &Snapshot,
    caller: &Caller,
    name: &ConsumerRef,
    own: Option<&OwnTools>,
) -> Result<Vec<ExposedTool>, CallError> {
    let entered = Entered {
        own,
        ..access::enter(snapshot, caller, name)?
    };
    Ok(shown(&entered, ways(&entered, None)).collect())
}

/// A part of a list, in its order.
pub(crate) struct Page {
    pub(crate) tools: Vec<ExposedTool>,
    /// Whether others follow.
    pub(crate) more: bool,
}

/// At most `size` tools of the same list, after the one of the name `after`. No others are read. `own`: what servers list to the caller's client
/// alone.
pub(crate) fn page(
    snapshot: &Snapshot,
    caller: &Caller,
    name: &ConsumerRef,
    own: Option<&OwnTools>,
    after: Option<&str>,
    size: usize,
) -> Result<Page, CallError> {
    let entered = Entered {
        own,
        ..access::enter(snapshot, caller, name)?
    };
    let mut rest = shown(&entered, ways(&entered, after));
    Ok(Page {
        tools: rest.by_ref().take(size).collect(),
        more: rest.next().is_some(),
    })
}

/// The tools of these exposed names that the caller has, in this order.
pub(crate) fn named<'n>(
    snapshot: &Snapshot,
    caller: &Caller,
    name: &ConsumerRef,
    exposed_names: impl IntoIterator<Item = &'n str>,
) -> Result<Vec<ExposedTool>, CallError> {
    let entered = access::enter(snapshot, caller, name)?;
    let mut beside: HashMap<_, _> = beside::routes(&entered)
        .into_iter()
        .map(|one| (Arc::clone(&one.exposed_name), one))
        .collect();
    let ways = exposed_names.into_iter().filter_map(|name| {
        let route = entered.table.find(name).map(Beside::from);
        route.or_else(|| beside.remove(name))
    });
    Ok(shown(&entered, ways).collect())
}

/// The tools that these lead to, in their order.
fn shown<'a>(entered: &'a Entered<'a>, ways: impl Iterator<Item = Beside<'a>>) -> impl Iterator<Item = ExposedTool> {
    // Where an assignment is not pinned, all tools of an entry resolve alike.
    let mut resolved: HashMap<&str, Option<Chosen<'_>>> = HashMap::new();
    ways.filter_map(
        move |Beside {
                  exposed_name,
                  tool,
                  source,
              }| {
            let entry = entered.entry(source)?;
            let choose = || choose::choose(entered, source, entry);
            let pinned;
            let chosen = if source.pinned.is_some() {
                pinned = choose();
                pinned.as_ref()
            } else {
                resolved.entry(&source.entry_uid).or_insert_with(choose).as_ref()
            };
            let installation = chosen.map(|chosen| chosen.installation);
            let (hash, definition) = choose::definition(entered, source, installation, entry, tool)?;
            Some(ExposedTool {
                exposed_name,
                entry: Arc::clone(&entry.slug),
                tool: Arc::clone(tool),
                hash: Arc::clone(hash),
                definition: Arc::clone(definition),
                connected: chosen.is_some_and(|chosen| chosen.can_call(entered, tool)),
            })
        },
    )
}

/// Where all names after this one lead, in their order: those of the table, and those beside it.
fn ways<'a>(entered: &'a Entered<'a>, after: Option<&str>) -> impl Iterator<Item = Beside<'a>> + 'a {
    let routes = entered.table.routes();
    let first = after.map_or(0, |after| routes.partition_point(|route| *route.exposed_name <= *after));
    let mut routes = routes[first..].iter().peekable();
    let mut beside = beside::routes(entered);
    beside.retain(|one| after.is_none_or(|after| *one.exposed_name > *after));
    let mut beside = beside.into_iter().peekable();
    std::iter::from_fn(move || {
        let next = routes.peek();
        let sooner = beside.next_if(|one| next.is_none_or(|route| one.exposed_name < route.exposed_name));
        sooner.or_else(|| routes.next().map(Beside::from))
    })
}

/// What a caller sees of each source of a gateway or agent: two who see the same there have the same list. Takes no time for each tool.
pub(crate) fn seen(snapshot: &Snapshot, caller: &Caller, name: &ConsumerRef) -> Result<Box<[Seen]>, CallError> {
    let entered = access::enter(snapshot, caller, name)?;
    let of = |source: &Arc<Source>| {
        let entry = entered.entry(source)?;
        let installation = choose::installation(&entered, source);
        let own = installation.and_then(|installation| installation.tools.as_ref());
        // Most installations have the tools of their entry.
        let own = own.filter(|own| Some(*own) != entry.tools.as_ref());
        Some([own.cloned(), entry.tools.clone()])
    };
    Ok(entered.table.sources().iter().map(of).collect())
}

/// Slugs of the entries whose tools this caller sees at a gateway or agent, sorted. Takes no time for each tool.
pub(crate) fn entries(snapshot: &Snapshot, caller: &Caller, name: &ConsumerRef) -> Result<Vec<Arc<str>>, CallError> {
    let entered = access::enter(snapshot, caller, name)?;
    let slug = |source: &Arc<Source>| {
        let entry = entered.entry(source)?;
        let installation = choose::installation(&entered, source);
        let tools = entry.tools.as_ref().or_else(|| installation?.tools.as_ref());
        tools.map(|_| Arc::clone(&entry.slug))
    };
    let mut slugs: Vec<_> = entered.table.sources().iter().filter_map(slug).collect();
    slugs.sort_unstable();
    slugs.dedup();
    Ok(slugs)
}

/// A source whose server a caller reaches.
pub(crate) struct Reached {
    pub(crate) source: Arc<Source>,
    /// Slug of its entry.
    pub(crate) entry: Arc<str>,
    /// Uid of the installation that it leads to.
    pub(crate) installation: Arc<str>,
    /// The URIs of the resources that show its tools, as its server knows them.
    pub(crate) shows: Vec<Arc<str>>,
}

/// The sources with all of an entry whose servers this caller reaches, from the oldest to the newest. Of two that lead to the same
/// installation, the older one.
pub(crate) fn whole(snapshot: &Snapshot, caller: &Caller, name: &ConsumerRef) -> Result<Vec<Reached>, CallError> {
    let entered = access::enter(snapshot, caller, name)?;
    let mut installations = HashSet::new();
    let mut reached = Vec::new();
    for source in entered.table.whole() {
        if let Some(running) = running(&entered, source)
            && installations.insert(Arc::clone(&running.installation.uid))
        {
            reached.push(Reached {
                source: Arc::clone(source),
                entry: Arc::clone(&running.entry.slug),
                installation: Arc::clone(&running.installation.uid),
                shows: shows(&entered, &running),
            });
        }
    }
    Ok(reached)
}

/// The URIs of the resources that show the tools of an installation, each once.
fn shows(entered: &Entered<'_>, running: &Running) -> Vec<Arc<str>> {
    let snapshot = entered.snapshot;
    let Running {
        installation, entry, ..
    } = running;
    let tools = installation.tools.as_ref().or(entry.tools.as_ref());
    let tools = tools.and_then(|tools| snapshot.tools(tools));
    let definitions = tools.into_iter().flat_map(ToolSet::hashes);
    let definitions = definitions.filter_map(|hash| snapshot.definition(hash));
    let mut known = HashSet::new();
    let shown_by = definitions.flat_map(|definition| definition.shown_by());
    shown_by.filter(|uri| known.insert(*uri)).map(Arc::from).collect()
}

/// Whose server has the tool of this exposed name. `own`: what servers list to the caller's client alone.
pub(crate) fn source_of_tool(
    snapshot: &Snapshot,
    caller: &Caller,
    name: &ConsumerRef,
    exposed_name: &str,
    own: &OwnTools,
) -> Option<Arc<Source>> {
    let found = find::find(snapshot, caller, name, exposed_name, Some(own)).ok()?;
    Some(Arc::clone(found.source))
}

/// Whether the caller reaches the installation of this uid by a source.
fn leads_to(entered: &Entered<'_>, source: &Source, installation: &str) -> bool {
    let chosen = entered
        .entry(source)
        .and_then(|_| choose::installation(entered, source));
    chosen.is_some_and(|chosen| *chosen.uid == *installation)
}

/// The source by which a caller reaches the installation of this uid.
pub(crate) fn source_of(
    snapshot: &Snapshot,
    caller: &Caller,
    name: &ConsumerRef,
    installation: &str,
) -> Option<Arc<Source>> {
    let entered = access::enter(snapshot, caller, name).ok()?;
    let entry_uid = &snapshot.installation(installation)?.entry_uid;
    let sources = entered
        .table
        .all_sources()
        .filter(|source| source.entry_uid == *entry_uid);
    let mut reaching = sources.filter(|source| leads_to(&entered, source, installation));
    reaching.next().map(Arc::clone)
}

/// The uids of the caller's own installations that they reach, and at whose servers each client has a session of its own.
pub(crate) fn own_sessions(
    snapshot: &Snapshot,
    caller: &Caller,
    name: &ConsumerRef,
) -> Result<Vec<Arc<str>>, CallError> {
    let entered = access::enter(snapshot, caller, name)?;
    let subject = caller.subject_name();
    let mut installations = Vec::new();
    let mut known = HashSet::new();
    for source in entered.table.all_sources() {
        if let Some(Running {
            installation, revision, ..
        }) = running(&entered, source)
            && revision.session_each
            && installation.owner.resource_name() == subject
            && known.insert(Arc::clone(&installation.uid))
        {
            installations.push(Arc::clone(&installation.uid));
        }
    }
    Ok(installations)
}

/// Whether the gateway or agent has all of this source's entry, and the caller reaches its server.
pub(crate) fn reaches(snapshot: &Snapshot, caller: &Caller, name: &ConsumerRef, source: &Source) -> bool {
    access::enter(snapshot, caller, name)
        .is_ok_and(|entered| entered.table.has_whole(source) && running(&entered, source).is_some())
}

/// Whether the caller gets all tools of this installation's server by the gateway or agent.
pub(crate) fn shows_all(snapshot: &Snapshot, caller: &Caller, name: &ConsumerRef, installation: &str) -> bool {
    let shows = || {
        let entered = access::enter(snapshot, caller, name).ok()?;
        let entry_uid = &snapshot.installation(installation)?.entry_uid;
        let mut whole = entered.table.whole_of(entry_uid).iter();
        Some(whole.any(|source| leads_to(&entered, source, installation)))
    };
    shows().unwrap_or_default()
}

/// What the installation of a source runs, if this caller sees the entry and reaches the server.
fn running(entered: &Entered<'_>, source: &Source) -> Option<Running> {
    let entry = entered.entry(source)?;
    choose::choose(entered, source, entry)?.reach().ok()
}

/// A number that differs where two lists would look different to an MCP client: names and definitions, in order.
pub(crate) fn fingerprint(tools: &[ExposedTool]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for tool in tools {
        (&tool.exposed_name, &tool.hash).hash(&mut hasher);
    }
    hasher.finish()
}
