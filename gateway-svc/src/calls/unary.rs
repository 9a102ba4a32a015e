//! Calls whose callers wait for the result alone.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::value::RawValue;
use service_kit::{cancel::Cancel, turns::in_place};

use super::{Call, Calls, To, Visitor};
use crate::{
    domain::{CallError, Caller, ConsumerRef, Definition, Entry},
    json::{self, Object},
    resolve,
    upstream::{self, Era, Mirrored, Reply, Revision},
};

impl Calls {
    /// Makes the call and waits for its result, a JSON object in UTF-8, verbatim. `arguments` is a JSON object or empty.
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
        let visitor = Visitor {
            caller,
            consumer,
            headers,
            subject: &caller.subject_name().into(),
            client: upstream::Client::Caller(caller.subject_name().into()),
            profile: None,
            era: Era::Legacy,
            revision: Revision::LATEST,
            prepared: None,
        };
        let call = Call {
            visitor: &visitor,
            method: "tools/call",
            to: To::Tool(exposed_name),
            params: &[("arguments", arguments)],
            meta: None,
            extra: &[],
            together: None,
            cancel: Cancel::default(),
        };
        // It reads no resources.
        let (answered, _) = self.relay(&call, None).await?;
        let answered = answered.reply("this caller answers no requests");
        let (entry, reply) = answered.await?;
        result(&entry, &reply)
    }

    /// Whether the tool, as this caller sees it, has an output schema.
    pub(crate) fn declares_output(&self, call: &Call<'_>) -> bool {
        let To::Tool(exposed_name) = call.to else {
            return false;
        };
        let definition = self.definition(call.visitor, exposed_name);
        definition.is_some_and(|definition| definition.declares_output())
    }

    /// The arguments of a tool that clients of 2026-07-28 repeat in headers. Empty where the caller has no such tool.
    pub(crate) fn mirrored(&self, visitor: &Visitor<'_>, exposed_name: &str) -> Arc<[Mirrored]> {
        let definition = self.definition(visitor, exposed_name);
        let schema = definition.and_then(|definition| definition.mirroring_schema());
        schema.map_or_else(Arc::default, |schema| Mirrored::all(&schema))
    }

    fn definition(&self, visitor: &Visitor<'_>, exposed_name: &str) -> Option<Arc<Definition>> {
        let Visitor {
            caller,
            consumer,
            client,
            ..
        } = visitor;
        let (snapshot, own) = (self.store.load().ok()?, self.own.of(client));
        resolve::definition(&snapshot, caller, consumer, exposed_name, Some(&own))
    }
}

/// The result in a reply of the entry's server.
fn result(entry: &Entry, reply: &Reply) -> Result<Bytes, CallError> {
    if let Some(result) = reply.result() {
        return Ok(result);
    }
    let error = reply
        .error()
        .and_then(|error| String::from_utf8(error.into()).ok())
        .ok_or(CallError::Internal)?;
    let object = Object::parse(&error).map_err(|_| CallError::Internal)?;
    Err(CallError::UpstreamError {
        entry: Arc::clone(&entry.slug),
        code: object
            .get("code")
            .and_then(|code| code.parse().ok())
            .unwrap_or_default(),
        message: reply.refusal().unwrap_or_default().chars().take(1000).collect(),
        error: RawValue::from_string(error.clone())
            .map_err(|_| CallError::Internal)?
            .into(),
    })
}
