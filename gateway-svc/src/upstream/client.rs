//! Who calls an upstream, as one with a session for each client distinguishes them.

use std::sync::Arc;

/// How a client or a server speaks MCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Era {
    /// With `initialize` and sessions: up to 2025-11-25.
    Legacy,
    /// Without: 2026-07-28.
    Modern,
}

/// A client, as an upstream with a session for each client distinguishes them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// A client's session, by its id.
    Session([u8; 12]),
    /// A caller without one, by the name of the person or team.
    Caller(Arc<str>),
    /// A caller whose client speaks without sessions. All its requests that say the same share a session.
    Stateless {
        /// Name of the person or team.
        subject: Arc<str>,
        /// SHA-256 of what the client says of itself, and of the log messages that it requests. Not in place: most clients have a session.
        profile: Arc<[u8; 32]>,
    },
}

/// What a client says of itself in `initialize`: an upstream with a session for each client gets the same. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Profile {
    /// `capabilities`, then `clientInfo`.
    text: Arc<str>,
    /// Where the second begins.
    info: usize,
}

impl Profile {
    /// Of two JSON objects.
    pub(crate) fn new(capabilities: &str, info: &str) -> Self {
        Self {
            text: [capabilities, info].concat().into(),
            info: capabilities.len(),
        }
    }

    /// `capabilities`, a JSON object.
    pub(crate) fn capabilities(&self) -> &str {
        &self.text[..self.info]
    }

    /// `clientInfo`, a JSON object.
    pub(crate) fn info(&self) -> &str {
        &self.text[self.info..]
    }
}

impl Profile {
    /// The gateway's own, where several clients share a session.
    pub(super) fn without_capabilities() -> Self {
        Self::new("{}", Self::default().info())
    }
}

impl Default for Profile {
    /// The gateway's own. It answers no requests of a server, but lists what servers have for clients that do.
    fn default() -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let info = format!(r#"{{"name":"chandlery","title":"Chandlery","version":"{version}"}}"#);
        Self::new(
            r#"{"sampling":{},"elicitation":{"form":{},"url":{}},"roots":{}}"#,
            &info,
        )
    }
}
