//! A call from its name to its answer: route, resolve, vend, forward. Both APIs, `mcp` and `api`, use it.

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use moka::sync::Cache;
use serde_json::value::RawValue;
use service_kit::turns::in_place;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{
        CallError, Caller, Consumer, ConsumerRef, Definition, Endpoint, Entry, Links, RepairReason, Running,
        UpstreamFault,
    },
    json::{self, Object},
    resolve,
    snapshot::Store,
    upstream::{self, Answer, Event, Reply, Revision, Scope, Target, Together, UpstreamError, Upstreams},
    vend::{self, Generations, Vended, Vendor},
};

/// Targets that are kept ready: one for each installation in use and revision.
const TARGETS: u64 = 20_000;

/// How long a call waits for a server that is being started again.
const START: Duration = Duration::from_secs(20);

/// Headers that tell nothing about who calls; a session with an upstream may be shared over them.
const IMPERSONAL: [&str; 5] = ["traceparent", "tracestate", "baggage", "x-request-id", "user-agent"];

/// Told the uid of an installation when its upstream says that its tools have changed.
pub(crate) type ToolsChanged = Arc<dyn Fn(&Arc<str>) + Send + Sync>;

/// Everything a call passes.
pub(crate) struct Calls {
    store: Arc<Store>,
    vendor: Arc<Vendor>,
    upstreams: Upstreams,
    links: Links,
    targets: Cache<(Arc<str>, Revision), Ready>,
    tools_changed: ToolsChanged,
}

/// A target, and what it was made from.
#[derive(Clone)]
struct Ready {
    running: Running,
    vended: Arc<Vended>,
    target: Arc<Target>,
}

/// A call as a client makes it.
pub(crate) struct ToolCall<'a> {
    /// The name the client knows.
    pub(crate) exposed_name: &'a str,
    /// The other members of `params`, as they came.
    pub(crate) params: &'a [(&'a str, &'a str)],
    /// The client's `progressToken` and the other members of `_meta`.
    pub(crate) meta: Option<Meta<'a>>,
    /// Members of the message besides those of JSON-RPC.
    pub(crate) extra: &'a [(Cow<'a, str>, &'a str)],
    /// Of the client's request.
    pub(crate) headers: &'a HeaderMap,
    /// Whose the answer is, and the memory it takes: a person or a team.
    pub(crate) subject: &'a Arc<str>,
    /// What its answer is kept together with, where that is a batch's.
    pub(crate) together: Option<&'a Arc<Together>>,
    /// Who has a session of their own with servers that keep sessions apart: the client's session, or a caller without one.
    pub(crate) client: upstream::Client,
    /// That of the client's session.
    pub(crate) revision: Revision,
    /// Ends the call.
    pub(crate) cancel: CancellationToken,
}

/// `_meta` of a request, apart from the progress token.
pub(crate) struct Meta<'a> {
    /// `progressToken`, as it came.
    pub(crate) progress_token: Option<&'a str>,
    /// The other members, as they came.
    pub(crate) members: Vec<(Cow<'a, str>, &'a str)>,
}

/// A call that has begun to be answered.
pub(crate) struct Called {
    answer: Answer,
    at: Arc<At>,
}

/// Where a call went.
struct At {
    definition: Option<Arc<Definition>>,
    running: Running,
    tools_changed: ToolsChanged,
}

/// What came of a call.
pub(crate) enum Outcome {
    /// The reply.
    Whole(Reply),
    /// Messages, the last of which is the reply.
    Stream(CallStream),
}

/// Messages of a call, the last of which is the reply.
pub(crate) struct CallStream {
    answers: Box<upstream::Answers>,
    at: Arc<At>,
}

/// One message of a call.
pub(crate) enum CallEvent {
    /// A notification, ready to be passed on.
    Notification(Bytes),
    /// The reply; nothing follows.
    Reply(Reply),
}

impl Calls {
    /// `tools_changed` is told when an upstream says so.
    pub(crate) fn new(
        store: Arc<Store>,
        vendor: Arc<Vendor>,
        upstreams: Upstreams,
        links: Links,
        tools_changed: ToolsChanged,
    ) -> Self {
        Self {
            store,
            vendor,
            upstreams,
            links,
            targets: Cache::new(TARGETS),
            tools_changed,
        }
    }

    /// Makes the call and begins to read the answer. One that reaches a server which is about to stop goes to the server that comes.
    pub(crate) async fn call(
        &self,
        caller: &Caller,
        consumer: &ConsumerRef,
        call: &ToolCall<'_>,
    ) -> Result<Outcome, CallError> {
        let mut deadline = Instant::now() + START;
        let mut stopping = None;
        loop {
            let resolved = self
                .resolve(caller, consumer, call, stopping.as_ref(), deadline)
                .await?;
            match self.call_at(&resolved, consumer, call).await? {
                Some(outcome) => return Ok(outcome),
                // From here on the next server is waited for, however long this one kept the call before it refused it.
                None if stopping.is_none() => deadline = Instant::now() + START,
                None if Instant::now() >= deadline => {
                    return Err(upstream_failed(UpstreamError::NotTaken, &resolved.running.entry));
                }
                None => {}
            }
            stopping = resolved.running.endpoint;
        }
    }

    /// Ends the sessions with upstreams that are this client's alone; in the background.
    pub(crate) fn end_client(&self, client: upstream::Client) {
        self.upstreams.end_client(client);
    }

    /// Makes the call where it was resolved to. `None`: the server there is about to stop, and was told nothing of it.
    async fn call_at(
        &self,
        resolved: &resolve::Target,
        consumer: &ConsumerRef,
        call: &ToolCall<'_>,
    ) -> Result<Option<Outcome>, CallError> {
        let running = &resolved.running;
        let entry = &running.entry;
        let fail = |error: vend::VendError| error.into_call_error(entry, consumer, &self.links);
        let mut vended = self.vendor.headers(running, None).await.map_err(fail)?;
        let mut again = false;
        loop {
            let target = self.target(running, &vended, &resolved.consumer, call)?;
            let length = call.params.iter().map(|(_, value)| value.len()).sum();
            let request = in_place(length, || self.request(call, &resolved.tool)).await;
            match self.upstreams.call(&target, request, call.cancel.clone()).await {
                Ok(answer) => {
                    let at = At {
                        definition: resolved.definition.clone(),
                        running: running.clone(),
                        tools_changed: Arc::clone(&self.tools_changed),
                    };
                    let called = Called {
                        answer,
                        at: Arc::new(at),
                    };
                    return Ok(Some(called.into()));
                }
                Err(UpstreamError::NotTaken) => return Ok(None),
                Err(UpstreamError::Unauthorized) if running.revision.vends_headers && !again => {
                    again = true;
                    vended = self
                        .vendor
                        .headers(running, Some(vended.generations))
                        .await
                        .map_err(fail)?;
                }
                Err(UpstreamError::Unauthorized) if running.revision.vends_headers => {
                    return Err(resolve::repair(
                        entry,
                        consumer,
                        RepairReason::CredentialExpired,
                        &self.links,
                    ));
                }
                Err(error) => return Err(upstream_failed(error, entry)),
            }
        }
    }

    /// Where the call goes. A server that is being started again is waited for: that is no reason to fail a call. So is another than that at
    /// `stopping`.
    async fn resolve(
        &self,
        caller: &Caller,
        consumer: &ConsumerRef,
        call: &ToolCall<'_>,
        stopping: Option<&Endpoint>,
        deadline: Instant,
    ) -> Result<resolve::Target, CallError> {
        let mut revisions = None;
        loop {
            let snapshot = self.store.load()?;
            let resolved = resolve::call(&snapshot, caller, consumer, call.exposed_name, &self.links);
            let starting = matches!(&resolved, Err(CallError::Repair(repair)) if repair.reason == RepairReason::InstallationUnavailable)
                && resolve::is_starting(&snapshot, caller, consumer, call.exposed_name);
            drop(snapshot);
            let still =
                stopping.is_some() && matches!(&resolved, Ok(target) if target.running.endpoint.as_ref() == stopping);
            if !starting && !still {
                return resolved;
            }
            // Subscribed first, then looked at once more: no change is missed in between.
            let Some(revisions) = &mut revisions else {
                revisions = Some(self.store.revisions());
                continue;
            };
            tokio::select! {
                Ok(()) = revisions.changed() => {}
                () = sleep_until(deadline) => return resolved,
                () = call.cancel.cancelled() => return resolved,
            }
        }
    }

    /// Makes the call and waits for its result, a JSON object in UTF-8 as it came. `arguments` is a JSON object or empty.
    pub(crate) async fn call_tool(
        &self,
        caller: &Caller,
        consumer: &ConsumerRef,
        exposed_name: &str,
        arguments: &str,
        headers: &HeaderMap,
    ) -> Result<Bytes, CallError> {
        let arguments = if arguments.is_empty() { "{}" } else { arguments };
        let check = || Object::parse(arguments).and_then(|_| json::check(arguments));
        in_place(arguments.len(), check)
            .await
            .map_err(|error| CallError::InvalidCall(format!("the arguments are not valid: {error}")))?;
        let call = ToolCall {
            exposed_name,
            params: &[("arguments", arguments)],
            meta: None,
            extra: &[],
            headers,
            subject: &caller.subject_name().into(),
            together: None,
            client: upstream::Client::Caller(caller.subject_name().into()),
            revision: Revision::LATEST,
            cancel: CancellationToken::new(),
        };
        let mut stream = match self.call(caller, consumer, &call).await? {
            Outcome::Whole(reply) => return self.result(caller, consumer, exposed_name, &reply),
            Outcome::Stream(stream) => stream,
        };
        loop {
            if let CallEvent::Reply(reply) = stream.next().await? {
                return self.result(caller, consumer, exposed_name, &reply);
            }
        }
    }

    /// Whether the tool, as this caller sees it, has an output schema.
    pub(crate) fn declares_output(&self, caller: &Caller, consumer: &ConsumerRef, exposed_name: &str) -> bool {
        let snapshot = self.store.load().ok();
        let definition = snapshot.and_then(|snapshot| resolve::definition(&snapshot, caller, consumer, exposed_name));
        definition.is_some_and(|definition| definition.declares_output())
    }

    fn result(&self, caller: &Caller, consumer: &ConsumerRef, name: &str, reply: &Reply) -> Result<Bytes, CallError> {
        if let Some(result) = reply.result() {
            return Ok(result);
        }
        let error = reply
            .error()
            .and_then(|error| String::from_utf8(error.into()).ok())
            .ok_or(CallError::Internal)?;
        let object = Object::parse(&error).map_err(|_| CallError::Internal)?;
        let entry = self
            .store
            .load()
            .and_then(|snapshot| resolve::call(&snapshot, caller, consumer, name, &self.links))
            .map(|target| Arc::clone(&target.running.entry.slug))
            .unwrap_or_default();
        Err(CallError::UpstreamError {
            entry,
            code: object
                .get("code")
                .and_then(|code| code.parse().ok())
                .unwrap_or_default(),
            message: object
                .string("message")
                .unwrap_or_default()
                .chars()
                .take(1000)
                .collect(),
            error: RawValue::from_string(error.clone())
                .map_err(|_| CallError::Internal)?
                .into(),
        })
    }

    /// The target for these headers: one kept ready, unless the client's own headers go with the call, or it has a session of its own.
    fn target(
        &self,
        running: &Running,
        vended: &Arc<Vended>,
        consumer: &Consumer,
        call: &ToolCall<'_>,
    ) -> Result<Arc<Target>, CallError> {
        let key = (Arc::clone(&running.installation.uid), call.revision);
        let client = running.revision.session_each.then(|| call.client.clone());
        let shared = consumer.passthrough_headers.is_empty() && client.is_none();
        if shared
            && let Some(ready) = self.targets.get(&key)
            && ready.running.runs_as(running)
            && Arc::ptr_eq(&ready.vended, vended)
        {
            return Ok(ready.target);
        }
        let mut headers = HeaderMap::new();
        vend::passthrough(call.headers, consumer, &vended.headers, &mut headers);
        let scope = match (client, personal(&mut headers)) {
            (Some(client), _) => Scope::Client(client),
            (None, Some(digest)) => Scope::Headers(digest),
            (None, None) => Scope::Shared,
        };
        headers.extend(vended.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        let target = Arc::new(target(running, vended.generations, call.revision, headers, scope)?);
        if shared {
            let (running, vended) = (running.clone(), Arc::clone(vended));
            self.targets.insert(
                key,
                Ready {
                    running,
                    vended,
                    target: Arc::clone(&target),
                },
            );
        }
        Ok(target)
    }

    fn request(&self, call: &ToolCall<'_>, tool: &str) -> upstream::Outgoing {
        let params = |token: Option<u64>| params(call, tool, token);
        let request = match call.meta.as_ref().and_then(|meta| meta.progress_token) {
            Some(token) => {
                let token = Bytes::copy_from_slice(token.as_bytes());
                self.upstreams
                    .request_with_progress("tools/call", token, |id| params(Some(id)), call.extra)
            }
            None => self.upstreams.request("tools/call", &params(None), call.extra),
        };
        request.made_for(call.subject, call.together)
    }
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}

impl From<Called> for Outcome {
    fn from(called: Called) -> Self {
        match called.answer {
            Answer::Whole(reply) => Self::Whole(reply),
            Answer::Stream(answers) => Self::Stream(CallStream { answers, at: called.at }),
        }
    }
}

impl CallStream {
    /// Whether the tool has an output schema.
    pub(crate) fn declares_output(&self) -> bool {
        self.at
            .definition
            .as_ref()
            .is_some_and(|definition| definition.declares_output())
    }

    /// The next message. Not to be asked again after the reply or an error.
    pub(crate) async fn next(&mut self) -> Result<CallEvent, CallError> {
        loop {
            match self.answers.next().await {
                Ok(Event::Notification(message)) => return Ok(CallEvent::Notification(message)),
                Ok(Event::Reply(reply)) => return Ok(CallEvent::Reply(reply)),
                Ok(Event::ToolsChanged) => (self.at.tools_changed)(&self.at.running.installation.uid),
                Err(error) => return Err(upstream_failed(error, &self.at.running.entry)),
            }
        }
    }
}

/// An installation's server as a target.
pub(crate) fn target(
    running: &Running,
    generations: Generations,
    revision: Revision,
    headers: HeaderMap,
    scope: Scope,
) -> Result<Target, CallError> {
    let endpoint = match &running.endpoint {
        Some(Endpoint::Remote(url)) => upstream::Endpoint::remote(url),
        Some(Endpoint::Hosted(endpoint)) => upstream::Endpoint::hosted(endpoint),
        None => None,
    };
    let Running {
        entry, installation, ..
    } = running;
    let endpoint = endpoint.ok_or_else(|| CallError::Upstream {
        entry: Arc::clone(&entry.slug),
        fault: UpstreamFault::Unreachable,
        message: format!("the server of {} has no address yet", entry.slug),
    })?;
    let generation = [installation.generation, generations.installation, generations.entry];
    Ok(Target::new(
        endpoint,
        Arc::clone(&installation.uid),
        generation,
        revision,
        headers,
        scope,
    ))
}

/// A digest of what the headers that are passed through tell about who calls; `None` if they tell nothing. What does may be a secret, and
/// is marked as one.
fn personal(passed: &mut HeaderMap) -> Option<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut personal = false;
    for (name, value) in passed
        .iter_mut()
        .filter(|(name, _)| !IMPERSONAL.contains(&name.as_str()))
    {
        personal = true;
        value.set_sensitive(true);
        // Neither a name nor a value holds a line feed.
        hash.update(name.as_str());
        hash.update("\n");
        hash.update(value.as_bytes());
        hash.update("\n");
    }
    personal.then(|| hash.finalize().into())
}

/// `params` for the upstream: its own name of the tool, our progress token, and all else as it came.
fn params(call: &ToolCall<'_>, tool: &str, token: Option<u64>) -> Vec<u8> {
    let size: usize = call
        .params
        .iter()
        .map(|(name, value)| name.len() + value.len() + 4)
        .sum();
    let mut out = Vec::with_capacity(size + tool.len() + 128);
    out.extend_from_slice(b"{\"name\":");
    json::push_string(&mut out, tool);
    let member = |out: &mut Vec<u8>, name: &str, value: &str, first: bool| {
        if !first {
            out.push(b',');
        }
        json::push_string(out, name);
        out.push(b':');
        out.extend_from_slice(value.as_bytes());
    };
    for (name, value) in call.params {
        member(&mut out, name, value, false);
    }
    if let Some(meta) = &call.meta {
        out.extend_from_slice(b",\"_meta\":{");
        let mut first = true;
        if let Some(token) = token {
            member(&mut out, "progressToken", &token.to_string(), true);
            first = false;
        }
        for (name, value) in &meta.members {
            member(&mut out, name, value, first);
            first = false;
        }
        out.push(b'}');
    }
    out.push(b'}');
    out
}

/// Converts a failure of the upstream server into the caller's error, and logs it.
pub(crate) fn upstream_failed(error: UpstreamError, entry: &Entry) -> CallError {
    let fault = match &error {
        UpstreamError::Unreachable(_) | UpstreamError::NotTaken | UpstreamError::RuntimeEnded => {
            UpstreamFault::Unreachable
        },
        UpstreamError::Timeout { .. } => UpstreamFault::Timeout,
        UpstreamError::Unauthorized => UpstreamFault::Unauthorized,
        UpstreamError::Invalid(_) => UpstreamFault::Invalid,
        UpstreamError::NoRoom { within } => {
            tracing::warn!(entry = %entry.slug, "no memory is free for an answer: large answers wait to be read");
            return CallError::NoRoom { within: *within };
        }
        UpstreamError::Cancelled => return CallError::Cancelled,
    };
    tracing::info!(entry = %entry.slug, upstream.fault = fault.name(), error = %error, "a call failed at the upstream");
    let message = error.told_to_caller(&entry.display_name);
    CallError::Upstream {
        entry: Arc::clone(&entry.slug),
        fault,
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn params_keep_everything_but_name_and_token() {
        let call = ToolCall {
            exposed_name: "e__t",
            params: &[("arguments", r#"{"n":12345678901234567890,"x":1.0}"#), ("new", "[1]")],
            meta: Some(Meta {
                progress_token: Some("\"p\""),
                members: vec![("a/b".into(), "1e3")],
            }),
            extra: &[],
            headers: &HeaderMap::new(),
            subject: &"users/alice".into(),
            together: None,
            client: upstream::Client::Caller("users/alice".into()),
            revision: Revision::LATEST,
            cancel: CancellationToken::new(),
        };
        assert_eq!(
            String::from_utf8(params(&call, "t", Some(5))).unwrap(),
            r#"{"name":"t","arguments":{"n":12345678901234567890,"x":1.0},"new":[1],"_meta":{"progressToken":5,"a/b":1e3}}"#
        );
    }

    /// Two callers never share a session of an upstream.
    #[test]
    fn callers_whose_headers_pass_through_are_kept_apart() {
        let with = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, http::HeaderValue::from_static(value));
            let digest = personal(&mut headers);
            assert_eq!(digest.is_some(), headers[name].is_sensitive());
            digest
        };
        assert_eq!(personal(&mut HeaderMap::new()), None);
        assert_eq!(with("traceparent", "1"), None);
        assert_ne!(with("x-user", "alice"), with("x-user", "bob"));
        assert_ne!(with("x-user", "alice"), None);
    }
}
