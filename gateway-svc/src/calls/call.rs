//! A call as a client makes it, and the request that the upstream gets for it.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::HeaderMap;
use service_kit::cancel::Cancel;

use super::{
    own_tools::KnownTools,
    prepared::{Prepared, Server, Way},
};
use crate::{
    domain::{CallError, Caller, ConsumerRef, Links, Running},
    json, resolve,
    route::Source,
    snapshot::Snapshot,
    upstream::{self, Era, Mirrored, Outgoing, Params, Profile, Revision, Together, Upstreams, digits},
};

/// Who makes requests, and by which gateway or agent.
pub(crate) struct Visitor<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) consumer: &'a ConsumerRef,
    /// Of the client's HTTP or gRPC request.
    pub(crate) headers: &'a HeaderMap,
    /// Who is charged for the memory of answers: a person or a team.
    pub(crate) subject: &'a Arc<str>,
    /// Which client this is to servers with a session for each: the client's MCP session, or a caller without one.
    pub(crate) client: upstream::Client,
    /// What the client says of itself to servers with a session for each; `None`: it has nothing to say.
    pub(crate) profile: Option<&'a Profile>,
    /// How it speaks.
    pub(crate) era: Era,
    /// The legacy revision that a server is spoken to in: the client's own, if it speaks one.
    pub(crate) revision: Revision,
    /// Where its calls go, as far as that is kept.
    pub(crate) prepared: Option<&'a Prepared>,
}

/// A [`Visitor`] who stays for longer than their request.
pub(super) struct Guest {
    caller: Caller,
    consumer: ConsumerRef,
    headers: HeaderMap,
    subject: Arc<str>,
    client: upstream::Client,
    profile: Option<Profile>,
    era: Era,
    revision: Revision,
}

impl Guest {
    pub(super) fn of(visitor: &Visitor<'_>, with_headers: bool) -> Self {
        Self {
            caller: visitor.caller.clone(),
            consumer: visitor.consumer.clone(),
            headers: if with_headers {
                visitor.headers.clone()
            } else {
                HeaderMap::new()
            },
            subject: Arc::clone(visitor.subject),
            client: visitor.client.clone(),
            profile: visitor.profile.cloned(),
            era: visitor.era,
            revision: visitor.revision,
        }
    }

    pub(super) fn visitor(&self) -> Visitor<'_> {
        Visitor {
            caller: &self.caller,
            consumer: &self.consumer,
            headers: &self.headers,
            subject: &self.subject,
            client: self.client.clone(),
            profile: self.profile.as_ref(),
            era: self.era,
            revision: self.revision,
            prepared: None,
        }
    }
}

/// A request as a client makes it, which one upstream answers.
pub(crate) struct Call<'a> {
    pub(crate) visitor: &'a Visitor<'a>,
    /// Its method.
    pub(crate) method: &'a str,
    /// Where it goes.
    pub(crate) to: To<'a>,
    /// The other members of `params`, verbatim.
    pub(crate) params: &'a [(&'a str, &'a str)],
    /// The client's `progressToken` and the other members of `_meta`.
    pub(crate) meta: Option<Meta<'a>>,
    /// Members of the message besides those of JSON-RPC.
    pub(crate) extra: &'a [(Cow<'a, str>, &'a str)],
    /// The batch that the call belongs to, whose answers are kept until all have arrived.
    pub(crate) together: Option<&'a Arc<Together>>,
    /// Cancels the call.
    pub(crate) cancel: Cancel,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum To<'a> {
    /// To the tool of this exposed name. The upstream gets `name`: its own name of the tool.
    Tool(&'a str),
    /// To the server of a source. The upstream gets this member of `params`, a name and JSON, in place of what the client sent.
    Source(&'a Arc<Source>, Option<(&'a str, &'a str)>),
}

impl To<'_> {
    /// Where that is at this moment, or why nowhere.
    pub(super) fn resolve(
        self,
        snapshot: &Snapshot,
        visitor: &Visitor<'_>,
        own: &KnownTools,
        links: &Links,
    ) -> Result<resolve::Target, CallError> {
        let Visitor { caller, consumer, .. } = visitor;
        match self {
            Self::Tool(exposed_name) => {
                let resolve = |own| resolve::call(snapshot, caller, consumer, exposed_name, own, links);
                let resolved = resolve(None);
                if resolved.is_ok() {
                    return resolved;
                }
                match own.of(&visitor.client) {
                    own if own.is_empty() => resolved,
                    own => resolve(Some(&own)),
                }
            }
            Self::Source(source, _) => resolve::source(snapshot, caller, consumer, source, links)
                .unwrap_or_else(|| Err(CallError::ConsumerNotFound((*consumer).clone()))),
        }
    }

    /// Whether it fails only because the server is being started.
    pub(super) fn is_starting(self, snapshot: &Snapshot, visitor: &Visitor<'_>, own: &KnownTools) -> bool {
        let Visitor { caller, consumer, .. } = visitor;
        match self {
            Self::Tool(exposed_name) => {
                resolve::is_starting(snapshot, caller, consumer, exposed_name, Some(&own.of(&visitor.client)))
            }
            Self::Source(source, _) => resolve::source_is_starting(snapshot, caller, consumer, source),
        }
    }
}

/// `_meta` of a request, apart from the progress token.
#[derive(Debug)]
pub(crate) struct Meta<'a> {
    /// `progressToken`, verbatim.
    pub(crate) progress_token: Option<&'a str>,
    /// The other members, verbatim.
    pub(crate) members: Vec<(Cow<'a, str>, &'a str)>,
}

impl Call<'_> {
    /// Where it goes, if that is kept.
    pub(super) fn prepared(&self, snapshot: &Arc<Snapshot>) -> Option<Way> {
        let (tool, prepared) = self.kept()?;
        prepared.find(tool, &self.visitor.client, self.visitor.revision, snapshot)
    }

    /// What calls to this installation are sent with, if that is kept. It must be what an installation runs in the snapshot of what is kept.
    pub(super) fn server(&self, running: &Running) -> Option<Arc<Server>> {
        let (_, prepared) = self.kept()?;
        prepared.server(running, &self.visitor.client, self.visitor.revision)
    }

    /// The client's calls of this tool go there from now on, sent with that.
    pub(super) fn keep(&self, to: &Arc<resolve::Target>, server: Arc<Server>) {
        if let Some((tool, prepared)) = self.kept() {
            prepared.keep(tool, to, server);
        }
    }

    fn kept(&self) -> Option<(&str, &Prepared)> {
        match self.to {
            To::Tool(tool) => Some((tool, self.visitor.prepared?)),
            To::Source(..) => None,
        }
    }

    /// The request for the upstream that it was resolved to.
    pub(super) fn outgoing(&self, upstreams: &Upstreams, resolved: &resolve::Target) -> Outgoing {
        let token = self.meta.as_ref().and_then(|meta| meta.progress_token);
        let token = token.map(|token| Bytes::copy_from_slice(token.as_bytes()));
        let request = upstreams.request_for(self.method, token, OwnParams::of(self, resolved), self.extra);
        let schema = resolved
            .definition
            .as_ref()
            .and_then(|definition| definition.mirroring_schema());
        let mirrored = schema.map(|schema| Mirrored::all(&schema));
        request
            .made_for(self.visitor.subject, self.together)
            .speaking(self.visitor.era, mirrored)
    }
}

/// `params` for the upstream: its own names, the gateway's progress token, and the rest byte for byte. Empty if there is nothing.
struct OwnParams<'a> {
    call: &'a Call<'a>,
    /// The server's own name of the tool.
    tool: Option<&'a str>,
    /// What else it names, in place of what the client sent: a name and JSON.
    own: Option<(&'a str, &'a str)>,
}

impl<'a> OwnParams<'a> {
    fn of(call: &'a Call<'a>, resolved: &'a resolve::Target) -> Self {
        let own = match call.to {
            To::Tool(_) => None,
            To::Source(_, own) => own,
        };
        let tool = resolved.tool.as_deref();
        Self { call, tool, own }
    }

    fn is_empty(&self) -> bool {
        self.tool.is_none() && self.own.is_none() && self.call.params.is_empty() && self.call.meta.is_none()
    }

    fn members(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.own.into_iter().chain(self.call.params.iter().copied())
    }
}

impl Params for OwnParams<'_> {
    fn len(&self, id: u64) -> usize {
        let of_all = |members: &mut dyn Iterator<Item = (&str, usize)>| -> usize {
            members.map(|(name, length)| json::member_len(name, length)).sum()
        };
        let meta = self.call.meta.as_ref().map(|meta| {
            let token = meta.progress_token.map(|_| ("progressToken", digits(id)));
            let members = meta.members.iter().map(|(name, value)| (&**name, value.len()));
            let members = of_all(&mut token.into_iter().chain(members));
            ("_meta", members.max(1) + 1)
        });
        let tool = self.tool.map(|tool| ("name", tool.len() + 2));
        let members = self.members().map(|(name, value)| (name, value.len()));
        match self.is_empty() {
            true => 0,
            false => of_all(&mut tool.into_iter().chain(members).chain(meta)) + 1,
        }
    }

    fn write(&self, id: u64, to: &mut Vec<u8>) {
        if self.is_empty() {
            return;
        }
        to.push(b'{');
        if let Some(tool) = self.tool {
            to.extend_from_slice(b"\"name\":");
            json::push_string(to, tool);
        }
        json::push_members(to, self.members());
        if let Some(meta) = &self.call.meta {
            json::push_member(to, "_meta", "{");
            if meta.progress_token.is_some() {
                json::push_member(to, "progressToken", &id.to_string());
            }
            json::push_members(to, meta.members.iter().map(|(name, value)| (&**name, *value)));
            to.push(b'}');
        }
        to.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::ConsumerKind, snapshot::testing::person};

    #[test]
    fn params_keep_everything_but_name_and_token() {
        let caller = person("alice");
        let visitor = Visitor {
            caller: &caller,
            consumer: &ConsumerRef::new(ConsumerKind::Gateway, "g"),
            headers: &HeaderMap::new(),
            subject: &"users/alice".into(),
            client: upstream::Client::Caller("users/alice".into()),
            profile: None,
            era: Era::Legacy,
            revision: Revision::LATEST,
            prepared: None,
        };
        let call = Call {
            visitor: &visitor,
            method: "tools/call",
            to: To::Tool("e__t"),
            params: &[("arguments", r#"{"n":12345678901234567890,"x":1.0}"#), ("new", "[1]")],
            meta: Some(Meta {
                progress_token: Some("\"p\""),
                members: vec![("a/b".into(), "1e3")],
            }),
            extra: &[],
            together: None,
            cancel: Cancel::default(),
        };
        let written = |call: &Call<'_>, tool| {
            let (params, mut written) = (OwnParams { call, tool, own: None }, Vec::new());
            params.write(5, &mut written);
            assert_eq!(params.len(5), written.len());
            String::from_utf8(written).unwrap()
        };
        assert_eq!(
            written(&call, Some("t")),
            r#"{"name":"t","arguments":{"n":12345678901234567890,"x":1.0},"new":[1],"_meta":{"progressToken":5,"a/b":1e3}}"#
        );
        let without_meta = Call { meta: None, ..call };
        assert_eq!(
            written(&without_meta, None),
            r#"{"arguments":{"n":12345678901234567890,"x":1.0},"new":[1]}"#
        );
        let meta = Meta {
            progress_token: None,
            members: Vec::new(),
        };
        let alone = Call {
            params: &[],
            meta: Some(meta),
            ..without_meta
        };
        assert_eq!(written(&alone, None), r#"{"_meta":{}}"#);
        let nothing = Call { meta: None, ..alone };
        assert_eq!(written(&nothing, None), "");
    }
}
