//! What servers ask clients in the course of a call, as a part of a result.

use bytes::Bytes;

use crate::{
    json::{self, Object},
    upstream::Asking,
};

/// Under which key a question is asked, and answered.
pub(super) const KEY: &str = "question";

/// A value of this length is not copied.
const LONG: usize = 4 << 10;

/// A question, as clients of this revision get it.
#[derive(Debug)]
pub(super) struct Question {
    method: String,
    /// What the client must have said that it can do: a capability, and a part of it.
    requires: (&'static str, Option<&'static str>),
    /// `method` and `params`, as JSON, in pieces. Long ones are parts of the server's message, which takes room once.
    request: Vec<Bytes>,
}

impl Question {
    /// `None`: clients of this revision cannot be asked it.
    pub(super) fn of(asking: &Asking) -> Option<Self> {
        Self::parse(&asking.message())
    }

    fn parse(text: &Bytes) -> Option<Self> {
        let message = Object::parse(std::str::from_utf8(text).ok()?).ok()?;
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
        let mut pieces = Vec::new();
        let mut piece = Vec::from(&b"{\"method\":"[..]);
        json::push_string(&mut piece, &method);
        piece.extend_from_slice(b",\"params\":{");
        for (index, (name, value)) in params.iter().flat_map(Object::iter).filter(kept).enumerate() {
            if index > 0 {
                piece.push(b',');
            }
            json::push_string(&mut piece, name);
            piece.push(b':');
            if value.len() < LONG {
                piece.extend_from_slice(value.as_bytes());
            } else {
                pieces.push(std::mem::take(&mut piece).into());
                pieces.push(text.slice_ref(value.as_bytes()));
            }
        }
        piece.extend_from_slice(b"}}");
        pieces.push(piece.into());
        Some(Self {
            method,
            requires,
            request: pieces,
        })
    }

    pub(super) fn method(&self) -> &str {
        &self.method
    }

    /// `method` and `params`, as JSON, in pieces.
    pub(super) fn into_request(self) -> Vec<Bytes> {
        self.request
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
        let parse = |text: &'static str| Question::parse(&Bytes::from_static(text.as_bytes()));
        let form =
            parse(r#"{"id":0,"method":"elicitation/create","params":{"message":"m","x":1.0,"_meta":{}}}"#).unwrap();
        assert_eq!(
            form.request.concat(),
            br#"{"method":"elicitation/create","params":{"message":"m","x":1.0}}"#
        );
        let url = r#"{"id":0,"method":"elicitation/create","params":{"mode":"url","url":"u","elicitationId":"e"}}"#;
        let url = parse(url).unwrap();
        assert_eq!(
            url.request.concat(),
            br#"{"method":"elicitation/create","params":{"mode":"url","url":"u"}}"#
        );
        let roots = parse(r#"{"id":0,"method":"roots/list"}"#).unwrap();
        assert_eq!(roots.request.concat(), br#"{"method":"roots/list","params":{}}"#);
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
        assert!(parse(r#"{"id":0,"method":"tasks/get","params":{}}"#).is_none());
    }

    /// Only the server's message is counted.
    #[test]
    fn what_is_long_is_in_memory_once() {
        let long = "x".repeat(LONG);
        let text =
            format!(r#"{{"id":0,"method":"elicitation/create","params":{{"_meta":{{}},"message":"{long}","b":1}}}}"#);
        let text = Bytes::from(text);
        let question = Question::parse(&text).unwrap();
        let asked = format!(r#"{{"method":"elicitation/create","params":{{"message":"{long}","b":1}}}}"#);
        assert_eq!(question.request.concat(), asked.as_bytes());
        let copied = question
            .request
            .iter()
            .filter(|piece| !text.as_ptr_range().contains(&piece.as_ptr()));
        assert!(copied.map(Bytes::len).sum::<usize>() < 100);
    }
}
