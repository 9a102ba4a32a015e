//! `initialize`.

use serde_json::json;

use super::rpc::{INVALID_PARAMS, RpcError};
use crate::{domain::Consumer, json::Object, upstream::Revision};

/// What a client requests and supports.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// The revision to speak: the client's, or the latest supported one where that is not supported.
    pub(super) revision: Revision,
    /// Whether it opens links for its user.
    pub(super) opens_links: bool,
}

/// Reads the parameters.
pub(super) fn wish(params: Option<&Object<'_>>) -> Result<Wish, RpcError> {
    let wanted = params
        .and_then(|params| params.string("protocolVersion"))
        .ok_or_else(|| RpcError::new(INVALID_PARAMS, "params.protocolVersion must name a revision"))?;
    let elicitation = params
        .and_then(|params| params.get("capabilities"))
        .and_then(|capabilities| Object::parse(capabilities).ok()?.get("elicitation"))
        .and_then(|elicitation| Object::parse(elicitation).ok());
    let opens_links =
        elicitation.is_some_and(|elicitation| elicitation.get("url").is_some_and(|url| url.starts_with('{')));
    Ok(Wish {
        revision: Revision::parse(&wanted).unwrap_or(Revision::LATEST),
        opens_links,
    })
}

/// The result.
pub(super) fn result(consumer: &Consumer, revision: Revision) -> Vec<u8> {
    let mut instructions = format!("Tools of {}.", consumer.display_name);
    if !consumer.description.is_empty() {
        instructions = format!("{instructions} {}", consumer.description);
    }
    instructions.push_str(
        " A tool whose server is not connected yet answers with a link: show it to the user, who opens it in a browser, then call the tool again.",
    );
    json!({
        "protocolVersion": revision.as_str(),
        "capabilities": {"tools": {"listChanged": true}},
        "serverInfo": {"name": "chandlery", "title": "Chandlery", "version": env!("CARGO_PKG_VERSION")},
        "instructions": instructions,
    })
    .to_string()
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(params: &str) -> Result<Wish, RpcError> {
        wish(Some(&Object::parse(params).unwrap()))
    }

    #[test]
    fn agrees_on_a_revision_both_speak() {
        assert_eq!(
            of(r#"{"protocolVersion":"2025-06-18"}"#).unwrap().revision,
            Revision::V2025_06_18
        );
        assert_eq!(
            of(r#"{"protocolVersion":"2026-07-28"}"#).unwrap().revision,
            Revision::LATEST
        );
        assert_eq!(
            of(r#"{"protocolVersion":"nonsense"}"#).unwrap().revision,
            Revision::LATEST
        );
        assert!(of("{}").is_err());
        assert!(wish(None).is_err());
    }

    #[test]
    fn links_are_for_those_who_open_them() {
        let with = |capabilities: &str| {
            of(&format!(
                r#"{{"protocolVersion":"2025-11-25","capabilities":{capabilities}}}"#
            ))
            .unwrap()
        };
        assert!(with(r#"{"elicitation":{"url":{}}}"#).opens_links);
        assert!(!with(r#"{"elicitation":{}}"#).opens_links);
        assert!(!with(r#"{"elicitation":{"form":{}}}"#).opens_links);
        assert!(!with("{}").opens_links);
    }
}
