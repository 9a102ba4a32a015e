//! What servers ask clients in the course of a call, as a part of a result.

use serde_json::json;

use crate::{
    json::{self, Object},
    upstream::Asking,
};

/// Under which key a question is asked, and answered.
pub(super) const KEY: &str = "question";

/// A question, as clients of this revision get it.
#[derive(Debug)]
pub(super) struct Question {
    method: String,
    /// What the client must have said that it can do: a capability, and a part of it.
    requires: (&'static str, Option<&'static str>),
    /// `method` and `params`, as JSON.
    request: String,
}

impl Question {
    /// `None`: clients of this revision cannot be asked it.
    pub(super) fn of(asking: &Asking) -> Option<Self> {
        let message = asking.with_id(b"0");
        Self::parse(std::str::from_utf8(&message).ok()?)
    }

    fn parse(message: &str) -> Option<Self> {
        let message = Object::parse(message).ok()?;
        let method = message.string("method")?.into_owned();
        let params = message.get("params").and_then(|params| Object::parse(params).ok());
        let mode = params.as_ref().and_then(|params| params.string("mode"));
        let requires = match (&*method, mode.as_deref()) {
            ("sampling/createMessage", _) => ("sampling", None),
            ("roots/list", _) => ("roots", None),
            ("elicitation/create", Some("url")) => ("elicitation", Some("url")),
            ("elicitation/create", _) => ("elicitation", Some("form")),
            _ => return None,
        };
        // Of older revisions only: there, servers say by it when the user is done, and by that they report progress.
        let kept = |(name, _): &(&str, &str)| !matches!(*name, "elicitationId" | "_meta");
        let params = json::object(params.iter().flat_map(Object::iter).filter(kept));
        let params = String::from_utf8(params).ok()?;
        let request = format!(r#"{{"method":{},"params":{params}}}"#, json!(method));
        Some(Self {
            method,
            requires,
            request,
        })
    }

    pub(super) fn method(&self) -> &str {
        &self.method
    }

    /// `method` and `params`, as JSON.
    pub(super) fn request(&self) -> &str {
        &self.request
    }

    /// Whether a client with these capabilities, which are JSON, can be asked it.
    pub(super) fn is_for(&self, capabilities: &str) -> bool {
        let (name, part) = self.requires;
        let can = || {
            let capabilities = Object::parse(capabilities).ok()?;
            let capability = Object::parse(capabilities.get(name)?).ok()?;
            let Some(part) = part else { return Some(()) };
            // One that names no mode has forms.
            let implied = part == "form" && capability.get("url").is_none();
            (implied || capability.get(part).is_some_and(|part| part.starts_with('{'))).then_some(())
        };
        can().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_asked_what_they_can_answer() {
        let form = r#"{"id":0,"method":"elicitation/create","params":{"message":"m","x":1.0,"_meta":{}}}"#;
        let form = Question::parse(form).unwrap();
        assert_eq!(
            form.request(),
            r#"{"method":"elicitation/create","params":{"message":"m","x":1.0}}"#
        );
        let url = r#"{"id":0,"method":"elicitation/create","params":{"mode":"url","url":"u","elicitationId":"e"}}"#;
        let url = Question::parse(url).unwrap();
        assert_eq!(
            url.request(),
            r#"{"method":"elicitation/create","params":{"mode":"url","url":"u"}}"#
        );
        let roots = Question::parse(r#"{"id":0,"method":"roots/list"}"#).unwrap();
        assert_eq!(roots.request(), r#"{"method":"roots/list","params":{}}"#);
        for (capabilities, expected) in [
            ("{}", [false, false, false]),
            (r#"{"elicitation":{}}"#, [true, false, false]),
            (r#"{"elicitation":{"url":{}},"roots":{}}"#, [false, true, true]),
            (r#"{"elicitation":{"url":{},"form":{}},"roots":5}"#, [true, true, false]),
        ] {
            assert_eq!(
                [&form, &url, &roots].map(|question| question.is_for(capabilities)),
                expected,
                "{capabilities}"
            );
        }
        assert!(Question::parse(r#"{"id":0,"method":"tasks/get","params":{}}"#).is_none());
    }
}
