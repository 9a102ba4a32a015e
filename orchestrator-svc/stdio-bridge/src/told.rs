//! What a server is told of its client before the first call.

use std::sync::Arc;

use serde_json::json;

use crate::{envelope::Members, seats::Opener};

/// The revision that the bridge itself asks for.
const REVISION: &str = "2025-11-25";

/// What a process was told of its client. Those that were told the same are equal: a client who gives up leaves its own to the next who says so.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Told {
    /// Nothing: each request says it.
    Nothing,
    /// What the bridge says of itself. It can be asked nothing.
    Own,
    /// `params` of its client's `initialize`.
    Client(Arc<str>),
}

impl Told {
    /// What the client says who opens a session by this message. The gateway itself can be asked nothing, and so gets the process that was started
    /// to see that the server works.
    pub(crate) fn by(opener: &Opener, initialize: &Members<'_>) -> Self {
        let capabilities = || initialize.object("params")?.object("capabilities");
        if *opener == Opener::Gateway && capabilities().is_some_and(|capabilities| capabilities.is_empty()) {
            return Self::Own;
        }
        Self::Client(initialize.get("params").map_or("{}", |params| params.get()).into())
    }

    /// `params` of `initialize`, if it is sent.
    pub(crate) fn params(&self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Own => Some(
                json!({
                    "protocolVersion": REVISION,
                    "capabilities": {},
                    "clientInfo": {"name": "chandlery", "version": env!("CARGO_PKG_VERSION")},
                })
                .to_string(),
            ),
            Self::Client(params) => Some(params.as_ref().to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn only_the_gateway_itself_without_capabilities_is_told_of_as_the_bridge() {
        let alice = Opener::Caller(b"alice".as_slice().into());
        let by = |opener: &Opener, params: &str| {
            let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{params}}}"#);
            Told::by(opener, &Members::parse(message.as_bytes()).unwrap())
        };
        let (nothing, roots) = (r#"{"capabilities":{ }}"#, r#"{"capabilities":{"roots":{}}}"#);
        assert_eq!(by(&Opener::Gateway, nothing), Told::Own);
        for (opener, params) in [(&alice, nothing), (&Opener::Gateway, roots), (&Opener::Gateway, "{}")] {
            assert_eq!(by(opener, params), Told::Client(params.into()), "{opener:?}");
        }
    }
}
