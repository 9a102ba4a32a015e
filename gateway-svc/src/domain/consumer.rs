//! Gateways and agents: what tools are assigned to.

use std::{fmt, sync::Arc};

use super::Labels;

/// Which of the two consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ConsumerKind {
    /// An MCP gateway, at `/mcp/{gateway}`.
    Gateway,
    /// An agent, at `/agents/{agent}/mcp`.
    Agent,
}

/// A gateway or an agent by its slug. Displayed as its resource name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConsumerRef {
    /// Which of the two.
    pub(crate) kind: ConsumerKind,
    /// `default`, for example.
    pub(crate) slug: Arc<str>,
}

impl ConsumerRef {
    /// By kind and slug.
    pub(crate) fn new(kind: ConsumerKind, slug: &str) -> Self {
        Self {
            kind,
            slug: slug.into(),
        }
    }

    /// Parses `gateways/{gateway}` or `agents/{agent}`; `None` if it is neither.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (collection, slug) = name.split_once('/')?;
        let kind = match collection {
            "gateways" => ConsumerKind::Gateway,
            "agents" => ConsumerKind::Agent,
            _ => return None,
        };
        is_slug(slug).then(|| Self::new(kind, slug))
    }

    /// The one with its MCP endpoint at this path; `None`: none has, or the path is written in another way.
    pub(crate) fn of_mcp_path(path: &str) -> Option<(ConsumerKind, &str)> {
        let (kind, slug) = match path.strip_prefix("/mcp/") {
            Some(slug) => (ConsumerKind::Gateway, slug),
            None => {
                let rest = path.strip_prefix("/agents/")?;
                (ConsumerKind::Agent, rest.strip_suffix("/mcp")?)
            }
        };
        is_slug(slug).then_some((kind, slug))
    }

    /// The path of its MCP endpoint.
    pub(crate) fn mcp_path(&self) -> String {
        match self.kind {
            ConsumerKind::Gateway => format!("/mcp/{}", self.slug),
            ConsumerKind::Agent => format!("/agents/{}/mcp", self.slug),
        }
    }
}

impl fmt::Display for ConsumerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ConsumerKind::Gateway => write!(f, "gateways/{}", self.slug),
            ConsumerKind::Agent => write!(f, "agents/{}", self.slug),
        }
    }
}

/// A gateway or an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Consumer {
    /// Kind and slug.
    pub(crate) name: ConsumerRef,
    /// Unique for ever.
    pub(crate) uid: Arc<str>,
    /// What people read; never empty.
    pub(crate) display_name: String,
    /// For people.
    pub(crate) description: String,
    /// Select entries in automatic mode.
    pub(crate) labels: Labels,
    /// Whether every tool of every entry that shares a label is assigned.
    pub(crate) automatic: bool,
    /// Who may use it.
    pub(crate) audience: Audience,
    /// Names of the client's headers that are forwarded, in lower case.
    pub(crate) passthrough_headers: Vec<String>,
    /// Expose tools as `{tool}` in place of `{entry}__{tool}`.
    pub(crate) omit_entry_prefix: bool,
    /// List `search_tools` and `call_tool` in place of all tools.
    pub(crate) searched: bool,
    /// Do not say where to sign in: clients come with a token that they were configured with.
    pub(crate) tokens_only: bool,
}

/// Who may see and use something, besides its author and admins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Audience {
    /// Everybody who signs in.
    pub(crate) organization: bool,
    /// The members of these teams, by slug.
    pub(crate) teams: Box<[Arc<str>]>,
    /// The author's user id.
    pub(crate) author: Option<Arc<str>>,
}

/// Whether this can be the id of an entry, gateway, agent or team.
fn is_slug(text: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    match text.as_bytes() {
        [] => false,
        bytes @ [first, .., last] => {
            bytes.len() <= 40 && edge(*first) && edge(*last) && bytes.iter().all(|&b| edge(b) || b == b'-')
        }
        [only] => edge(*only),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_resource_names_and_nothing_else() {
        let gateway = ConsumerRef::parse("gateways/my-tools").unwrap();
        assert_eq!(
            (gateway.to_string().as_str(), gateway.mcp_path().as_str()),
            ("gateways/my-tools", "/mcp/my-tools")
        );
        let agent = ConsumerRef::parse("agents/a").unwrap();
        assert_eq!(
            (agent.to_string().as_str(), agent.mcp_path().as_str()),
            ("agents/a", "/agents/a/mcp")
        );
        let long = format!("gateways/{}", "a".repeat(41));
        for name in [
            "",
            "gateways",
            "gateways/",
            "teams/a",
            "gateways/A",
            "gateways/a/b",
            "gateways/-a",
            "agents/a-",
            "gateways/ü",
            &long,
        ] {
            assert_eq!(ConsumerRef::parse(name), None, "{name}");
        }
    }

    #[test]
    fn knows_the_paths_of_endpoints() {
        for name in ["gateways/my-tools", "agents/a"] {
            let consumer = ConsumerRef::parse(name).unwrap();
            let path = consumer.mcp_path();
            assert_eq!(
                ConsumerRef::of_mcp_path(&path),
                Some((consumer.kind, &*consumer.slug)),
                "{path}"
            );
        }
        for path in [
            "/",
            "/mcp/",
            "/mcp/a/",
            "/mcp/a/b",
            "/mcp/%61",
            "/mcp",
            "/agents/a",
            "/agents//mcp",
            "/agents/mcp",
        ] {
            assert_eq!(ConsumerRef::of_mcp_path(path), None, "{path}");
        }
    }
}
