//! What is measured: loads, and who answers them.

use std::sync::Arc;

use http::{HeaderMap, Uri};
use integration_tests::upstream::fast::{LARGE, LARGE_STREAMED, SMALL, SMALL_STREAMED};

use crate::{
    client::headers,
    load::{Load, Party, Target, Work},
    options::{External, Options},
    setup::{
        external::Endpoint,
        gateway::{self, Gateway, Many, PLAIN, TLS, exposed},
        nginx::Nginx,
        principals,
        upstream::Upstream,
    },
};

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An answer of 1 KB: as JSON, from an upstream with TLS, as an event stream, and for many people and tools.
    Small,
    SmallTls,
    SmallStreamed,
    SmallMany,
    /// The first with one caller.
    Single,
    /// An answer of 100 KB.
    Large,
    LargeTls,
    LargeStreamed,
    /// Sessions with one call.
    Cold,
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::Small,
        Self::SmallTls,
        Self::SmallStreamed,
        Self::SmallMany,
        Self::Single,
        Self::Large,
        Self::LargeTls,
        Self::LargeStreamed,
        Self::Cold,
    ];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Small => "1 KB result, 64 callers",
            Self::SmallTls => "1 KB result over TLS, 64 callers",
            Self::SmallStreamed => "1 KB result as SSE, 64 callers",
            Self::SmallMany => "1 KB result, 10,000 principals and 1,000 tools, 64 callers",
            Self::Single => "1 KB result, 1 caller",
            Self::Large => "100 KB result, 16 callers",
            Self::LargeTls => "100 KB result over TLS, 16 callers",
            Self::LargeStreamed => "100 KB result as SSE, 16 callers",
            Self::Cold => "cold sessions (initialize and a call), 16 callers",
        }
    }

    /// The name of its plot.
    pub(crate) const fn file(self) -> &'static str {
        match self {
            Self::Small => "small.svg",
            Self::SmallTls => "small-tls.svg",
            Self::SmallStreamed => "small-sse.svg",
            Self::SmallMany => "small-many.svg",
            Self::Single => "single.svg",
            Self::Large => "large.svg",
            Self::LargeTls => "large-tls.svg",
            Self::LargeStreamed => "large-sse.svg",
            Self::Cold => "cold.svg",
        }
    }

    /// The plain load of which this one is a variant.
    pub(crate) const fn plain(self) -> Option<Self> {
        match self {
            Self::SmallTls | Self::SmallStreamed | Self::SmallMany => Some(Self::Small),
            Self::LargeTls | Self::LargeStreamed => Some(Self::Large),
            Self::Small | Self::Single | Self::Large | Self::Cold => None,
        }
    }

    pub(crate) const fn load(self) -> Load {
        let (callers, work, answer) = match self {
            Self::Small | Self::SmallTls | Self::SmallStreamed | Self::SmallMany => (64, Work::Call, 900),
            Self::Single => (1, Work::Call, 900),
            Self::Large | Self::LargeTls | Self::LargeStreamed => (16, Work::Call, 100_000),
            Self::Cold => (16, Work::Session, 900),
        };
        Load { callers, work, answer }
    }

    const fn tool(self) -> &'static str {
        match self {
            Self::Small | Self::SmallTls | Self::SmallMany | Self::Single | Self::Cold => SMALL,
            Self::SmallStreamed => SMALL_STREAMED,
            Self::Large | Self::LargeTls => LARGE,
            Self::LargeStreamed => LARGE_STREAMED,
        }
    }

    const fn is_tls(self) -> bool {
        matches!(self, Self::SmallTls | Self::LargeTls)
    }
}

/// All that runs.
pub(crate) struct Running {
    pub(crate) upstream: Upstream,
    pub(crate) nginx: Nginx,
    pub(crate) gateway: Gateway,
    many: Option<Everybody>,
    external: Option<Outside>,
}

/// The endpoint for everybody, with the headers of all people.
struct Everybody {
    endpoint: Many,
    clients: Arc<[HeaderMap]>,
}

struct Outside {
    endpoint: Endpoint,
    prefix: String,
    processes: Vec<i32>,
}

impl Running {
    /// Starts what the wanted loads require.
    pub(crate) async fn start(options: &Options) -> Self {
        let upstream = Upstream::start(options.upstream).await;
        let nginx = Nginx::start(&upstream).await;
        let (gateway, many) = Gateway::start(&upstream, options.wants(Kind::SmallMany.title())).await;
        let many = match many {
            Some(endpoint) => Some(Everybody {
                clients: principals::sessions(&gateway.stack, &endpoint).await,
                endpoint,
            }),
            None => None,
        };
        let external = match &options.external {
            Some(external) => Some(Outside::open(external).await),
            None => None,
        };
        Self {
            upstream,
            nginx,
            gateway,
            many,
            external,
        }
    }

    /// Who answers a load. The upstream is not asked over TLS, which the load does not speak, nor an external gateway what it has no
    /// entries for.
    pub(crate) fn targets(&self, kind: Kind) -> Vec<Target> {
        let mut targets = Vec::new();
        if !kind.is_tls() {
            targets.push(self.direct(kind, Party::Upstream, &self.upstream.plain, &[]));
        }
        let address = if kind.is_tls() {
            &self.nginx.tls
        } else {
            &self.nginx.plain
        };
        targets.push(self.direct(kind, Party::Nginx, address, &self.nginx.processes));
        targets.push(self.gateway(kind));
        if let Some(external) = &self.external
            && !kind.is_tls()
            && kind != Kind::SmallMany
        {
            targets.push(external.target(kind));
        }
        targets
    }

    /// The upstream, or what passes everything on to it.
    fn direct(&self, kind: Kind, party: Party, address: &str, processes: &[i32]) -> Target {
        let tools: Vec<String> = match kind {
            Kind::SmallMany => gateway::small_tools().collect(),
            _ => vec![kind.tool().to_owned()],
        };
        Target {
            party,
            address: address.to_owned(),
            path: Uri::from_static("/mcp"),
            clients: [headers(address, None)].into(),
            tools: tools.into(),
            processes: processes.to_vec(),
        }
    }

    fn gateway(&self, kind: Kind) -> Target {
        let stack = &self.gateway.stack;
        let (path, clients, tools) = match (&self.many, kind) {
            (Some(everybody), Kind::SmallMany) => (
                &everybody.endpoint.path,
                Arc::clone(&everybody.clients),
                everybody.endpoint.tools.clone(),
            ),
            _ => {
                let entry = if kind.is_tls() { TLS } else { PLAIN };
                (
                    &self.gateway.path,
                    [self.gateway.session.clone()].into(),
                    vec![exposed(entry, kind.tool())],
                )
            }
        };
        Target {
            party: Party::Gateway,
            address: stack.http().to_owned(),
            path: path.clone(),
            clients,
            tools: tools.into(),
            processes: vec![stack.pid()],
        }
    }
}

impl Outside {
    async fn open(external: &External) -> Self {
        Self {
            endpoint: Endpoint::open(external).await,
            prefix: external.prefix.clone(),
            processes: external.processes.clone(),
        }
    }

    fn target(&self, kind: Kind) -> Target {
        Target {
            party: Party::External,
            address: self.endpoint.address.clone(),
            path: self.endpoint.path.clone(),
            clients: [self.endpoint.headers.clone()].into(),
            tools: [format!("{}{}", self.prefix, kind.tool())].into(),
            processes: self.processes.clone(),
        }
    }
}
