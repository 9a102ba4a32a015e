//! The answer of `search_tools`.

use serde_json::json;

use super::{super::failure::error_result, arguments::SearchArguments};
use crate::{
    calls::Visitor,
    domain::{CALL_TOOL, ListedTool, SEARCH_TOOLS},
    json,
    listing::{Found, Use},
    mcp::{rpc::RpcError, visit::Visit},
};

/// A page ends after this many bytes of definitions.
const MOST_BYTES: usize = 256 << 10;
/// Servers that an empty query lists.
const MOST_SERVERS: usize = 200;

impl Visit {
    /// The result of a search, a JSON object.
    pub(super) async fn find(&self, visitor: &Visitor<'_>, wanted: &SearchArguments<'_>) -> Result<Vec<u8>, RpcError> {
        let Visitor { caller, consumer, .. } = *visitor;
        let own = self.at.mcp.calls.own_tools(visitor).await;
        let snapshot = self.at.mcp.store.load().map_err(RpcError::not_listed)?;
        let listings = &self.at.mcp.listings;
        let listing = listings.of(&snapshot, caller, consumer, Some(own), Use::Search);
        let listing = listing.await.map_err(RpcError::not_listed)?;
        drop(snapshot);
        let query = wanted.query.trim();
        let found = listing.find(query).await;
        let binding = format!("{SEARCH_TOOLS} {consumer} {} {query}", caller.subject_name());
        let after: Option<String> = match self.at.mcp.cursors.open(&binding, &wanted.cursor) {
            Ok(after) => after,
            Err(_) => return Ok(invalid_cursor()),
        };
        let Some(rest) = found.after(after.as_deref()) else {
            return Ok(invalid_cursor());
        };
        let page = Page {
            found: &found,
            ranked: !query.is_empty(),
            servers: query.is_empty() && after.is_none(),
        };
        let cursor = |last: &str| self.at.mcp.cursors.seal(&binding, &last);
        let tools = rest.clone().take(wanted.limit);
        Ok(match self.at.mcp.calls.named_tools(visitor, tools.clone()).await {
            Some(named) => page.write(rest.len(), named.iter(), cursor),
            None => page.write(rest.len(), tools, cursor),
        })
    }
}

fn invalid_cursor() -> Vec<u8> {
    let text = "The cursor is not of this query, or the tools have changed since: search again without it.";
    error_result(text, &json!({"error": "invalid_arguments"}), true).into_bytes()
}

/// A part of what a query has found.
struct Page<'a> {
    found: &'a Found,
    /// Whether the best come first.
    ranked: bool,
    /// Whether to show the servers.
    servers: bool,
}

impl Page<'_> {
    /// As a result: of `tools`, which are the first of `left`, as many as there is room for. `cursor` makes the one that continues after the tool
    /// of a name.
    fn write<'t>(
        &self,
        mut left: usize,
        tools: impl Iterator<Item = &'t ListedTool>,
        cursor: impl FnOnce(&str) -> String,
    ) -> Vec<u8> {
        let mut out = Vec::from(&b"{\"matched\":"[..]);
        out.extend_from_slice(self.found.len().to_string().as_bytes());
        if self.servers {
            let servers = self.found.list().entries().into_iter().take(MOST_SERVERS);
            let servers: Vec<_> = servers
                .map(|(name, tools)| json!({"name": &**name, "tools": tools}))
                .collect();
            json::push_member(&mut out, "servers", &json!(servers).to_string());
        }
        json::push_member(&mut out, "tools", "[");
        let (start, mut last) = (out.len(), None);
        for tool in tools {
            if last.is_some() {
                out.push(b',');
            }
            tool.definition.write(&tool.exposed_name, &mut out);
            (left, last) = (left - 1, Some(tool));
            if out.len() - start > MOST_BYTES {
                break;
            }
        }
        out.push(b']');
        if let Some(last) = last.filter(|_| left > 0) {
            json::push_member(&mut out, "nextCursor", &json!(cursor(&last.exposed_name)).to_string());
        }
        json::push_member(&mut out, "note", &json!(self.note(left)).to_string());
        out.push(b'}');
        result(&out)
    }

    fn note(&self, left: usize) -> String {
        let call = format!("Call a tool with {CALL_TOOL}, its name and arguments as its inputSchema requires.");
        match (self.found.len(), left) {
            (0, _) => "No tool matches. Try fewer or other words, or an empty query, which lists all tools.".to_owned(),
            (_, 0) => call,
            (_, left) if !self.ranked => {
                format!("{call} {left} more follow: search again with nextCursor as cursor, or for words.")
            }
            (_, left) => format!(
                "{call} {left} more match: for those, search again with nextCursor as cursor, or with more precise words."
            ),
        }
    }
}

/// A tool's result with this JSON as its structured content; and as text, for clients that show models that.
fn result(structured: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(3 * structured.len());
    out.extend_from_slice(b"{\"content\":[{\"type\":\"text\",\"text\":");
    json::push_string(&mut out, &String::from_utf8_lossy(structured));
    out.extend_from_slice(b"}],\"structuredContent\":");
    out.extend_from_slice(structured);
    out.push(b'}');
    out
}
