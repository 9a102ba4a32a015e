//! Which server a prompt, a resource or a completion is asked of, and how the server names it.

use serde_json::Value;

use super::{params::Shape, visit::Visit};
use crate::{
    calls::{Found, Visitor},
    domain::CallError,
    json::{self, Object},
};

/// Where a request goes.
pub(super) struct Routed {
    /// Whose server it is for.
    pub(super) found: Found,
    /// The member of `params` that decided it, as JSON that this server knows.
    pub(super) own: String,
}

/// Why a request goes nowhere.
pub(super) enum Unrouted {
    /// What is wrong with its `params`.
    Invalid(String),
    Failed(CallError),
}

impl Visit {
    /// Where a request goes whose `params` have this, which is JSON, as the member that decides it.
    pub(super) async fn route(
        &self,
        visitor: &Visitor<'_>,
        method: &str,
        shape: &Shape,
        key: &str,
    ) -> Result<Routed, Unrouted> {
        let calls = &self.at.mcp.calls;
        let reference = match shape.key {
            "ref" => Some(reference(key).map_err(|what| Unrouted::Invalid(what.to_owned()))?),
            _ => None,
        };
        let key = match &reference {
            Some(reference) => Some(reference.target.clone()),
            None => json::unescape(key).map(|key| key.into_owned()),
        };
        let Some(key) = key else {
            return Err(Unrouted::Invalid(format!("params.{} must be a string", shape.key)));
        };
        let found = match (&reference, method) {
            (Some(Reference { member: "name", .. }), _) | (None, "prompts/get") => calls.prompt(visitor, &key).await,
            (Some(_), _) => calls.template(visitor, &key).await,
            (None, "resources/subscribe") => calls.subscribable(visitor, &key, true).await,
            (None, "resources/unsubscribe") => calls.subscribable(visitor, &key, false).await,
            (None, _) => calls.resource(visitor, &key).await,
        };
        let found = found.map_err(Unrouted::Failed)?;
        let own = Value::from(&*found.own).to_string();
        let own = match reference {
            Some(reference) => reference.of(&own),
            None => own,
        };
        Ok(Routed { found, own })
    }
}

/// What a completion is for.
struct Reference {
    /// `name` or `uri`.
    member: &'static str,
    /// A prompt's name, or the URI of a template.
    target: String,
    /// The other members, with a comma before each.
    others: Vec<u8>,
}

impl Reference {
    /// With this, which is JSON, as the name or URI.
    fn of(self, own: &str) -> String {
        let others = String::from_utf8(self.others).unwrap_or_default();
        format!("{{\"{}\":{own}{others}}}", self.member)
    }
}

fn reference(text: &str) -> Result<Reference, &'static str> {
    const KNOWN: &str = "params.ref must be a ref/prompt with a name or a ref/resource with a uri";
    let object = Object::parse(text).map_err(|_| KNOWN)?;
    if object.lookalike(&["type", "name", "uri"]).is_some() {
        return Err(KNOWN);
    }
    let member = match object.string("type").as_deref() {
        Some("ref/prompt") => "name",
        Some("ref/resource") => "uri",
        _ => return Err(KNOWN),
    };
    Ok(Reference {
        member,
        target: object.string(member).ok_or(KNOWN)?.into_owned(),
        others: json::members(object.iter().filter(|(name, _)| *name != member)),
    })
}
