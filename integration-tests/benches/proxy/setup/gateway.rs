//! The gateway: a release build of `chandlery` that verifies a JWT, resolves the tool and injects a credential for each call.

use std::time::{Duration, Instant};

use contracts::registry::{CustomHeader, Entry, TeamMapping, WholeIssuer, injection::Kind, team_mapping::Selector};
use http::{HeaderMap, Uri};
use integration_tests::{
    Caller, Stack,
    upstream::fast::{self, LARGE, LARGE_STREAMED, SMALL, SMALL_STREAMED},
    wait::eventually_within,
    walk,
};

use super::upstream::Upstream;
use crate::client::{Client, headers};

/// The entries of the upstream, without and with TLS.
pub(crate) const PLAIN: &str = "fast";
pub(crate) const TLS: &str = "fast-tls";
/// How many entries have the tools of [`MANY`]: 1,000 tools.
const ENTRIES: usize = 1000 / fast::TOOLS;
const MANY: &str = "many";
const TEAM: &str = "all";
/// The development issuer, whose users are all in the team.
const ISSUER: &str = "http://chandlery.localhost/dev";
/// All servers are asked for their tools.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The running gateway.
pub(crate) struct Gateway {
    pub(crate) stack: Stack,
    /// The endpoint with [`PLAIN`] and [`TLS`], and one person's session at it.
    pub(crate) path: Uri,
    pub(crate) session: HeaderMap,
    /// How long a start on these data took until it was ready.
    pub(crate) start: Duration,
}

/// The endpoint that everybody may use, and its tools with an answer of 1 KB.
pub(crate) struct Many {
    pub(crate) path: Uri,
    pub(crate) tools: Vec<String>,
}

impl Gateway {
    /// Starts the gateway and installs the upstream. With `many`, it also gets 1,000 tools that everybody may use.
    pub(crate) async fn start(upstream: &Upstream, many: bool) -> (Self, Option<Many>) {
        // Logs as a user would configure it, not at debug level. The quotas are raised because few callers make all calls.
        let unlimited = "1000000000";
        let mut stack = Stack::builder()
            .variable("RUST_LOG", "info")
            .flag("--max-requests-per-minute", unlimited)
            .flag("--max-writes-per-minute", unlimited)
            .flag("--max-sessions-per-minute", unlimited)
            .flag("--upstream-ca", upstream.authority().to_string_lossy())
            .start()
            .await;
        let (admin, alice) = (stack.admin(), stack.member("alice"));
        admin.gateway("bench").await;
        for (entry, url) in [
            (PLAIN, format!("http://{}/mcp", upstream.plain)),
            (TLS, format!("https://{}/mcp", upstream.tls)),
        ] {
            admin.publish(entry, with_key(&url)).await;
            alice.install(entry, None, &[("key", "a-secret-of-hers")]).await;
            for tool in [SMALL, SMALL_STREAMED, LARGE, LARGE_STREAMED] {
                admin.assign("bench", entry, tool).await;
            }
        }
        let many = match many {
            true => Some(add_many(&stack, &admin, &alice, &upstream.plain).await),
            false => None,
        };
        stack.stop().await;
        let begin = Instant::now();
        stack.start_again().await;
        let start = begin.elapsed();
        let path = Uri::from_static("/mcp/bench");
        let unopened = headers(stack.http(), Some(alice.token()));
        let session = Client::connect(stack.http()).await.initialize(&path, &unopened).await;
        let gateway = Self {
            stack,
            path,
            session,
            start,
        };
        (gateway, many)
    }
}

/// An entry of the upstream at this URL, with a credential.
fn with_key(url: &str) -> Entry {
    let injection = Kind::CustomHeader(CustomHeader {
        name: "x-api-key".to_owned(),
    });
    walk::with_static(walk::remote(url), "key", injection)
}

async fn add_many(stack: &Stack, admin: &Caller, alice: &Caller, upstream: &str) -> Many {
    let everybody = TeamMapping {
        issuer: ISSUER.to_owned(),
        selector: Some(Selector::WholeIssuer(WholeIssuer {})),
    };
    let team = admin.team(TEAM, vec![everybody]).await.name;
    admin.gateway_of_all(MANY).await;
    let mut tools = Vec::new();
    for number in 0..ENTRIES {
        let entry = format!("{PLAIN}-{number}");
        admin.publish(&entry, with_key(&format!("http://{upstream}/mcp"))).await;
        alice.install(&entry, Some(&team), &[("key", "a-secret-of-all")]).await;
        admin
            .create_assignment(&format!("gateways/{MANY}"), walk::all_tools(&entry), true)
            .await
            .expect("an admin may");
        tools.extend(small_tools().map(|tool| exposed(&entry, &tool)));
    }
    let client = stack.mcp(MANY, alice).await;
    eventually_within(TIMEOUT, "all tools are listed", || async {
        (client.list_tools().await.len() == ENTRIES * fast::TOOLS).then_some(())
    })
    .await;
    Many {
        path: format!("/mcp/{MANY}").parse().expect("a path"),
        tools,
    }
}

/// The upstream's tools with an answer of 1 KB as JSON.
pub(crate) fn small_tools() -> impl Iterator<Item = String> {
    fast::tools().filter(|tool| ![SMALL_STREAMED, LARGE, LARGE_STREAMED].contains(&tool.as_str()))
}

/// The name under which the gateway has a tool of an entry.
pub(crate) fn exposed(entry: &str, tool: &str) -> String {
    format!("{entry}__{tool}")
}
