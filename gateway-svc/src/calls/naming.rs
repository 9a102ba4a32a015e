//! What servers say of their own resources, by the URIs that clients know those by.
//!
//! Most servers' URIs are known as they are, and nothing of theirs is read for this. Where several servers have resources, a result is looked at
//! if some client knows one of its server's by another URI, or if nobody has listed them yet and the result names any.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use service_kit::turns::in_place;
use tokio::time::timeout;

use super::{
    Calls,
    call::{Call, Guest, To, Visitor},
    links::Names,
    lists::{Known, Of},
};
use crate::{
    domain::ListedTool,
    json::{self, Object},
    resolve,
    route::{Source, Uris},
    upstream::{Profile, Reply},
};

/// The capability of clients that show the resources of tools.
const APPS: &str = "io.modelcontextprotocol/ui";
/// How long an answer waits for lists of resources.
const WITHIN: Duration = Duration::from_secs(5);

/// A server beside which others have resources.
pub(super) struct Speaker {
    source: Arc<Source>,
    /// Uid of its installation.
    installation: Arc<str>,
    /// Whether headers of the client are passed on.
    passes_headers: bool,
}

impl Speaker {
    /// Who answers the call; `None`: no others have resources.
    pub(super) fn of(call: &Call<'_>, resolved: &resolve::Target) -> Option<Box<Self>> {
        let source = match call.to {
            To::Tool(_) => resolved.beside_others.as_ref()?,
            To::Source(source, _) => source,
        };
        let speaker = || Self {
            source: Arc::clone(source),
            installation: Arc::clone(&resolved.running.installation.uid),
            passes_headers: !resolved.consumer.passthrough_headers.is_empty(),
        };
        (source.uris() != Uris::Alone).then(|| Box::new(speaker()))
    }

    /// The result of a reply to such a request, if it must be read.
    fn may_rename(&self, names: Option<Names>, reply: &Reply) -> Option<(Names, Bytes)> {
        let any = match self.source.uris() {
            Uris::Alone | Uris::Same => return None,
            Uris::Unknown => false,
            Uris::Others => true,
        };
        let (names, result) = (names?, reply.result()?);
        let text = simdutf8::basic::from_utf8(&result).ok()?;
        (any || Names::mentioned_in(text)).then_some((names, result))
    }
}

/// The reply with URIs that the client knows.
async fn renamed(known: &Known, speaker: &Speaker, (names, result): (Names, Bytes), reply: &Reply) -> Reply {
    let server = Of::Installation(&speaker.installation);
    let rename = || {
        let text = std::str::from_utf8(&result).ok()?;
        let result = names.renamed(text, |own| known.exposed(server, own))?;
        Some(reply.with_result(&result))
    };
    in_place(result.len(), rename).await.unwrap_or_else(|| reply.clone())
}

/// What names the resources in the messages of one call.
pub(super) struct Naming {
    calls: Arc<Calls>,
    guest: Guest,
    speaker: Speaker,
    names: Option<Names>,
    /// The reply, until it is named.
    said: Option<Reply>,
}

impl Naming {
    pub(super) fn new(calls: &Arc<Calls>, call: &Call<'_>, speaker: Speaker) -> Self {
        Self {
            calls: Arc::clone(calls),
            guest: Guest::of(call.visitor, speaker.passes_headers),
            names: Names::of(call.method),
            speaker,
            said: None,
        }
    }

    /// Keeps a reply until it is named.
    pub(super) fn keep(&mut self, reply: Reply) {
        self.said = Some(reply);
    }

    /// The reply that is kept, as the client gets it. Nothing is lost if this is dropped before it is ready.
    pub(super) async fn reply(&mut self) -> Option<Reply> {
        let reply = self.said.as_ref()?;
        let named = match self.speaker.may_rename(self.names, reply) {
            Some(renames) => renamed(&self.known().await, &self.speaker, renames, reply).await,
            None => reply.clone(),
        };
        self.said = None;
        Some(named)
    }

    /// A notification as the client gets it; `None`: it is of a resource that is not the server's.
    pub(super) fn notification(&self, message: Bytes) -> Option<Bytes> {
        let updated = || {
            let object = Object::parse(std::str::from_utf8(&message).ok()?).ok()?;
            let updated = object.string("method")? == "notifications/resources/updated";
            let params = object.range("params").filter(|_| updated)?;
            let inside = Object::parse(object.get("params")?).ok()?;
            let (uri, at) = (inside.string("uri")?, inside.range("uri")?);
            Some((uri.into_owned(), params.start + at.start..params.start + at.end))
        };
        let Some((own, at)) = updated() else {
            return Some(message);
        };
        let (visitor, installation) = (self.guest.visitor(), &*self.speaker.installation);
        let subscribed = self.calls.subscribed_as(&visitor.client, installation, &own);
        let exposed = match subscribed.first() {
            Some(words) => words.to_string(),
            None => (self.calls.shown_uris(&visitor)).updated(Of::Installation(installation), &own)?,
        };
        Some(if exposed == own {
            message
        } else {
            json::replaced(&message, at, json::string(&exposed).as_bytes())
        })
    }

    /// In a box: to ask for lists is to make calls.
    fn known(&self) -> BoxFuture<'_, Known> {
        Box::pin(async {
            let visitor = self.guest.visitor();
            self.calls.known_to(&visitor, &self.speaker).await
        })
    }
}

impl Calls {
    /// A reply to such a request as the client gets it.
    pub(super) async fn named(&self, call: &Call<'_>, speaker: &Speaker, reply: Reply) -> Reply {
        let Some(renames) = speaker.may_rename(Names::of(call.method), &reply) else {
            return reply;
        };
        // In a box: few calls need room for it.
        let known = Box::pin(self.known_to(call.visitor, speaker)).await;
        renamed(&known, speaker, renames, &reply).await
    }

    /// The tools with definitions that name the resources that show them (MCP Apps) by the URIs that the client knows. `None`: they do as they are.
    /// Servers are asked for their lists only for a client that shows resources.
    pub(crate) async fn named_tools<'t>(
        &self,
        visitor: &Visitor<'_>,
        tools: impl Iterator<Item = &'t ListedTool> + Clone,
    ) -> Option<Vec<ListedTool>> {
        let shown: Vec<_> = {
            let (snapshot, own) = (self.store.load().ok()?, self.own.of(&visitor.client));
            let source_of = |tool: &ListedTool| {
                let name = &tool.exposed_name;
                resolve::source_of_tool(&snapshot, visitor.caller, visitor.consumer, name, &own)
            };
            tools
                .clone()
                .enumerate()
                .filter(|(_, tool)| tool.definition.shown_by().len() > 0)
                .filter_map(|(place, tool)| Some((place, source_of(tool)?)))
                .filter(|(_, source)| matches!(source.uris(), Uris::Unknown | Uris::Others))
                .collect()
        };
        if shown.is_empty() {
            return None;
        }
        let asks = visitor.profile.is_some_and(shows_resources);
        let servers = shown.iter().map(|(_, source)| Of::Source(source));
        let known = self.known_in_time(visitor, servers, asks).await;
        let mut named: Vec<ListedTool> = tools.cloned().collect();
        for (place, source) in shown {
            let exposed = |own: &str| Some(known.exposed(Of::Source(&source), own)?.to_string());
            let definition = &mut named[place].definition;
            if let Some(renamed) = definition.shown_as(exposed) {
                *definition = Arc::new(renamed);
            }
        }
        Some(named)
    }

    /// What the client knows, before it gets what this server says.
    async fn known_to(&self, visitor: &Visitor<'_>, speaker: &Speaker) -> Known {
        let server = Of::Installation(&speaker.installation);
        let waits = self.waits_for_uris(visitor);
        let known = self.known_in_time(visitor, [server].into_iter(), waits).await;
        if waits && !self.shown_uris(visitor).is_of(server) {
            self.waited_in_vain(visitor);
        }
        known
    }

    /// What the client was shown of the resources of these servers, or, if servers may be asked, has now; else what the definitions of tools say.
    async fn known_in_time<'s>(
        &self,
        visitor: &Visitor<'_>,
        servers: impl Iterator<Item = Of<'s>> + Clone,
        asks: bool,
    ) -> Known {
        // One that has joined since the client was shown the list is not in it.
        let is_of_all = |known: &Known| servers.clone().all(|server| known.is_of(server));
        let mut known = self.shown_uris(visitor);
        if !is_of_all(&known) && asks {
            let now = Box::pin(timeout(WITHIN, self.uris_now(visitor))).await;
            known = now.unwrap_or_default();
        }
        if is_of_all(&known) {
            return known;
        }
        let snapshot = self.store.load().ok();
        let reached = snapshot.and_then(|snapshot| resolve::whole(&snapshot, visitor.caller, visitor.consumer).ok());
        reached.map(Known::of_tools).unwrap_or_default()
    }
}

/// Whether a client says that it shows the resources of tools.
fn shows_resources(profile: &Profile) -> bool {
    let extensions = || {
        let capabilities = Object::parse(profile.capabilities()).ok()?;
        Object::parse(capabilities.get("extensions")?).ok()?.get(APPS)
    };
    extensions().is_some()
}
