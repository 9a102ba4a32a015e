//! Which revisions of MCP a server speaks over its standard streams.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::envelope::Members;

/// The revision without `initialize`.
pub(crate) const MODERN: &str = "2026-07-28";

/// What a server speaks. All its processes speak the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Era {
    /// Revisions with `initialize`.
    Legacy,
    /// 2026-07-28. With the result of `server/discover`, which is each client's.
    Modern(Arc<str>),
}

impl Era {
    /// `_meta` of the bridge's own requests.
    fn meta() -> Value {
        json!({
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "chandlery", "version": env!("CARGO_PKG_VERSION")},
        })
    }

    /// `params` of the bridge's `server/discover`.
    pub(crate) fn question() -> String {
        json!({"_meta": Self::meta()}).to_string()
    }

    /// `params` of the `subscriptions/listen` by which the bridge learns when the tools of a server change, if that says so.
    pub(crate) fn changes_of_tools(&self) -> Option<String> {
        let Self::Modern(discovered) = self else {
            return None;
        };
        let tools = Members::parse(discovered.as_bytes())?
            .object("capabilities")?
            .object("tools")?;
        let changes = tools.get("listChanged").is_some_and(|value| value.get() == "true");
        changes.then(|| json!({"notifications": {"toolsListChanged": true}, "_meta": Self::meta()}).to_string())
    }

    /// What an answer to it says. `None`: nothing, as that of a server of older revisions, which does not know the method.
    pub(crate) fn modern(answer: &str) -> Option<Self> {
        let result = Members::parse(answer.as_bytes())?.get("result")?;
        let versions = Members::parse(result.get().as_bytes())?.get("supportedVersions")?;
        let versions: Vec<String> = serde_json::from_str(versions.get()).ok()?;
        let speaks = versions.iter().any(|version| version == MODERN);
        speaks.then(|| Self::Modern(result.get().into()))
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn only_a_server_that_names_the_revision_speaks_it() {
        let result = r#"{"supportedVersions":["2025-11-25","2026-07-28"],"n":1.0}"#;
        let answered = |result: &str| format!(r#"{{"jsonrpc":"2.0","id":1,{result}}}"#);
        let modern = Era::modern(&answered(&format!(r#""result":{result}"#)));
        assert_eq!(modern, Some(Era::Modern(result.into())));
        for other in [
            r#""result":{"supportedVersions":["2025-11-25"]}"#,
            r#""result":{"supportedVersions":"2026-07-28"}"#,
            r#""result":{"method":"server/discover"}"#,
            r#""error":{"code":-32601,"message":"Method not found"}"#,
        ] {
            assert_eq!(Era::modern(&answered(other)), None, "{other}");
        }
    }

    #[test]
    fn a_server_is_asked_for_changes_that_it_tells() {
        let asked = |capabilities: &str| {
            let discovered = format!(r#"{{"capabilities":{capabilities}}}"#);
            Era::Modern(discovered.into()).changes_of_tools().is_some()
        };
        assert!(asked(r#"{"tools":{"listChanged":true}}"#));
        for other in [r#"{"tools":{"listChanged":false}}"#, r#"{"tools":{}}"#, "{}", "1"] {
            assert!(!asked(other), "{other}");
        }
    }
}
