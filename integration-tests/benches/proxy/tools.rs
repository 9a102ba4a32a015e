//! How long lists of many tools and searches in them take.

use std::time::{Duration, Instant};

use bytes::Bytes;
use contracts::registry::{Gateway, ToolListing};
use http::{HeaderMap, Uri};
use integration_tests::{McpClient, Stack, upstream::recording::RecordingUpstream, wait::eventually_within, walk};
use serde_json::{Value, json};

use crate::client::{Client, SESSION, headers, message};

const UPSTREAMS: usize = 50;
/// Of each upstream. The list has those of the first; the search all.
const LISTED: usize = 20;
const SEARCHED: usize = 200;
const ROUNDS: usize = 200;
const SEARCH_TOOLS: &str = "search_tools";
/// All servers are asked for their tools.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Medians.
pub(crate) struct Tools {
    /// A request that the gateway answers by itself.
    pub(crate) ping: Duration,
    /// All pages of 1,000 tools.
    pub(crate) list: Duration,
    /// Searches of 10,000 tools.
    pub(crate) search: Duration,
    /// The first of them, which makes the index.
    pub(crate) first: Duration,
}

const WORDS: [&str; 16] = [
    "issue", "branch", "message", "event", "invoice", "payment", "customer", "report", "channel", "folder", "query",
    "ticket", "release", "metric", "schedule", "account",
];
const DOES: [&str; 8] = ["create", "list", "update", "delete", "find", "send", "export", "merge"];

/// A definition of about 1 KB.
fn definition(upstream: usize, tool: usize) -> Value {
    let number = upstream * 7 + tool;
    let word = |n: usize| WORDS[n % WORDS.len()];
    let does = DOES[number % DOES.len()];
    let argument = |n: usize| {
        let name = format!("{}_{}", word(number + n), word(n * 5 + 3));
        let description = format!(
            "The {} of the {} that the {} belongs to",
            word(n),
            word(number),
            word(number + n)
        );
        (name, json!({"type": "string", "description": description}))
    };
    json!({
        "name": format!("{does}_{}_{tool}", word(number / 8)),
        "title": format!("{does} {}", word(number / 8)),
        "description": format!("Does {does} the {} of an {} and returns it as JSON", word(number / 8), word(number + 3)),
        "inputSchema": {"type": "object", "properties": (0..7).map(argument).collect::<serde_json::Map<_, _>>()},
    })
}

pub(crate) async fn measure() -> Tools {
    let stack = Stack::builder()
        .variable("RUST_LOG", "info")
        .flag("--max-requests-per-minute", "1000000000")
        .flag("--max-writes-per-minute", "1000000000")
        .start()
        .await;
    let (admin, alice) = (stack.admin(), stack.member("alice"));
    admin.gateway("listed").await;
    let searched = Gateway {
        tool_listing: ToolListing::Search.into(),
        ..Gateway::default()
    };
    admin.create_gateway("searched", searched).await.expect("an admin may");
    let mut upstreams = Vec::new();
    for upstream in 0..UPSTREAMS {
        let server = RecordingUpstream::start().await;
        server.set_definitions((0..SEARCHED).map(|tool| definition(upstream, tool)).collect());
        let slug = format!("server-{upstream}");
        admin.publish(&slug, walk::remote(&server.url())).await;
        alice.install(&slug, None, &[]).await;
        let all = walk::all_tools(&slug);
        admin
            .create_assignment("gateways/searched", all, false)
            .await
            .expect("an admin may");
        for tool in 0..LISTED {
            let name = definition(upstream, tool)["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            admin.assign("listed", &slug, &name).await;
        }
        upstreams.push(server);
    }
    let (lists, searches) = (stack.mcp("listed", &alice).await, stack.mcp("searched", &alice).await);
    eventually_within(TIMEOUT, "all are listed", || async {
        (lists.list_tools().await.len() == UPSTREAMS * LISTED).then_some(())
    })
    .await;
    eventually_within(TIMEOUT, "all are found", || async {
        let found = searches.call(SEARCH_TOOLS, json!({"query": ""})).await;
        (found["result"]["structuredContent"]["matched"] == UPSTREAMS * SEARCHED).then_some(())
    })
    .await;
    let begin = Instant::now();
    searches.call(SEARCH_TOOLS, json!({"query": "invoice"})).await;
    let first = begin.elapsed();

    let pages = page_requests(&lists).await;
    let queries = [
        "create issue",
        "list the invoices of a customer",
        "server-7 paym",
        "export all reports to a folder",
    ];
    let queries = queries.map(|query| {
        request(
            "tools/call",
            &json!({"name": SEARCH_TOOLS, "arguments": {"query": query}}),
        )
    });
    let mut listed = Raw::to(&stack, "/mcp/listed", &lists, alice.token()).await;
    let mut searched = Raw::to(&stack, "/mcp/searched", &searches, alice.token()).await;
    let (mut ping, mut list, mut search) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        ping.push(listed.times(&[request("ping", &json!({}))]).await);
        list.push(listed.times(&pages).await);
        let query = round % queries.len();
        search.push(searched.times(&queries[query..=query]).await);
    }
    Tools {
        ping: median(ping),
        list: median(list),
        search: median(search),
        first,
    }
}

/// The requests of all pages.
async fn page_requests(client: &McpClient) -> Vec<Bytes> {
    let (mut requests, mut params) = (Vec::new(), json!({}));
    loop {
        requests.push(request("tools/list", &params));
        let page = client.request("tools/list", params).await;
        match page["result"].get("nextCursor") {
            Some(cursor) => params = json!({"cursor": cursor}),
            None => return requests,
        }
    }
}

fn request(method: &str, params: &Value) -> Bytes {
    message(1_000_000, method, params)
}

/// A client with the session of another.
struct Raw {
    client: Client,
    path: Uri,
    headers: HeaderMap,
}

impl Raw {
    async fn to(stack: &Stack, path: &'static str, client: &McpClient, token: &str) -> Self {
        let mut headers = headers(stack.http(), Some(token));
        let session = client.session().unwrap_or_default();
        headers.insert(SESSION, session.parse().expect("a handle is ASCII"));
        Self {
            client: Client::connect(stack.http()).await,
            path: Uri::from_static(path),
            headers,
        }
    }

    /// How long the answers to these requests take, one after another.
    async fn times(&mut self, requests: &[Bytes]) -> Duration {
        let begin = Instant::now();
        for body in requests {
            let answer = self.client.post(&self.path, &self.headers, body.clone()).await;
            assert!(
                answer.status.is_success() && !answer.body.is_empty(),
                "{}",
                answer.status
            );
        }
        begin.elapsed()
    }
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}
