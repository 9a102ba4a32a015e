//! A gateway that has everything of one server under the server's own names, and clients that tell what they see of it.

use std::collections::BTreeSet;

use contracts::registry as r;
use serde_json::{Map, Value};

use crate::{
    Caller, Stack,
    script::{node, python},
    upstream::suite::Era,
    wait::eventually,
    walk,
};

/// The gateway, and somebody who uses it.
#[derive(Debug)]
pub struct Relayed {
    /// The running program.
    pub stack: Stack,
    /// A member.
    pub alice: Caller,
}

impl Relayed {
    /// Starts it before the server at this URL.
    ///
    /// # Panics
    /// If a step fails.
    pub async fn start(url: &str) -> Self {
        Self::with(Stack::start().await, url).await
    }

    /// The same with a program that runs.
    ///
    /// # Panics
    /// If a step fails.
    pub async fn with(stack: Stack, url: &str) -> Self {
        let (admin, alice) = (stack.admin(), stack.member("alice"));
        admin.publish("server", walk::remote(url)).await;
        // A team of everybody's, so that its tools are those of the entry.
        admin.install("server", Some("teams/everyone"), &[]).await;
        let gateway = r::Gateway {
            omit_entry_prefix: Some(true),
            ..r::Gateway::default()
        };
        admin.create_gateway("all", gateway).await.expect("an admin may");
        let all = walk::all_tools("server");
        let assigned = admin.create_assignment("gateways/all", all, false).await;
        assigned.expect("an admin may");
        let client = stack.mcp("all", &alice).await;
        eventually("the server's tools are listed", || async {
            (!client.tool_names().await.is_empty()).then_some(())
        })
        .await;
        Self { stack, alice }
    }

    /// What a client sees through it.
    pub async fn seen(&self, client: Client, part: &str) -> Value {
        client.sees(part, &self.stack.mcp_url("all"), self.alice.token()).await
    }
}

/// A client of an official SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// npm's `@modelcontextprotocol/sdk`.
    Sdk,
    /// npm's `@modelcontextprotocol/client`, as it is by default.
    Npm,
    /// The same, for any era.
    NpmAuto,
    /// PyPI's `mcp`, for older revisions.
    PyPi,
    /// The same, for any era.
    PyPiAuto,
}

impl Client {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Sdk, Self::Npm, Self::NpmAuto, Self::PyPi, Self::PyPiAuto];

    /// What it speaks to an endpoint of both eras.
    pub fn era(self) -> Era {
        match self {
            Self::Sdk | Self::Npm | Self::PyPi => Era::Legacy,
            Self::NpmAuto | Self::PyPiAuto => Era::Modern,
        }
    }

    /// What it sees at a URL of one part of MCP: `methods`, `long` (a call), `questions`, `changes` or `tools`, of
    /// which npm's clients call each that is listed.
    ///
    /// # Panics
    /// If it fails, or speaks another era.
    pub async fn sees(self, part: &str, url: &str, token: &str) -> Value {
        let (mode, script) = match self {
            Self::Sdk => ("sdk", None),
            Self::Npm => ("legacy", None),
            Self::NpmAuto => ("auto", None),
            Self::PyPi => ("legacy", Some("relayed_client.py")),
            Self::PyPiAuto => ("auto", Some("relayed_client.py")),
        };
        let arguments = [mode, part, url, token];
        let outcome = match script {
            Some(script) => python(script, arguments).await,
            None => node("relayed_client.mjs", arguments).await,
        };
        let mut seen = outcome.json();
        let revision = match self.era() {
            Era::Modern => "2026-07-28",
            _ => "2025-11-25",
        };
        assert_eq!(seen["revision"], revision, "{self:?}");
        let mut seen = seen["seen"].take();
        // The gateway lists tools by their names.
        if let Some(tools) = seen.get_mut("tools").and_then(Value::as_array_mut) {
            tools.sort_by_key(|tool| tool["name"].as_str().map(str::to_owned));
        }
        seen
    }
}

/// Without what the eras do not share: how long a result may be kept and who gave it, and by which id an older server tells later that a page
/// was visited.
fn shared_by_eras(seen: Value) -> Value {
    const NOT_SHARED: [&str; 4] = ["ttlMs", "cacheScope", "resultType", "elicitationId"];
    const SERVER: &str = "io.modelcontextprotocol/serverInfo";
    match seen {
        Value::Array(items) => items.into_iter().map(shared_by_eras).collect(),
        Value::Object(members) => {
            let members = members.into_iter().filter_map(|(name, mut value)| {
                if name == "_meta" {
                    let meta = value.as_object_mut()?;
                    meta.remove(SERVER);
                    if meta.is_empty() {
                        return None;
                    }
                }
                (!NOT_SHARED.contains(&&*name)).then(|| (name, shared_by_eras(value)))
            });
            Value::Object(members.collect::<Map<_, _>>())
        }
        other => other,
    }
}

/// Asserts that a client sees the same through the gateway as at the server itself, up to what the eras do not share.
///
/// # Panics
/// With each difference, if it does not.
pub fn assert_alike(relayed: Value, directly: Value, what: &str) {
    let [relayed, directly] = [relayed, directly].map(shared_by_eras);
    let mut found = Vec::new();
    differences("", &relayed, &directly, &mut found);
    assert!(
        found.is_empty(),
        "{what}: through the gateway, and directly:\n{}",
        found.join("\n")
    );
}

fn differences(at: &str, relayed: &Value, directly: &Value, found: &mut Vec<String>) {
    match (relayed, directly) {
        (Value::Object(one), Value::Object(other)) => {
            let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for name in names {
                differences(&format!("{at}/{name}"), &relayed[name], &directly[name], found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                differences(&format!("{at}/{index}"), one, other, found);
            }
        }
        _ if relayed == directly => {}
        _ => found.push(format!("{at}: {relayed}\n    {directly}")),
    }
}
