//! The two tools as clients see them: a model must know from these alone what to do.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use serde_json::json;

use super::arguments::{LIMIT, MOST_LIMIT};
use crate::{
    domain::{CALL_TOOL, SEARCH_TOOLS},
    listing::MOST_QUERY,
};

/// Bytes of the names of servers in a description: more of them say nothing to a model.
const MOST_NAMES: usize = 1_000;

/// The result of `tools/list`, for tools of these entries.
pub(in crate::mcp) fn listed(entries: &[Arc<str>]) -> Vec<u8> {
    json!({"tools": [search_tools(entries), call_tool()]})
        .to_string()
        .into_bytes()
}

/// A number that differs where clients of these entries see other tools in their lists. Not where an entry has other tools than before.
pub(in crate::mcp) fn fingerprint(entries: &[Arc<str>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    SEARCH_TOOLS.hash(&mut hasher);
    servers(entries).hash(&mut hasher);
    hasher.finish()
}

fn search_tools(entries: &[Arc<str>]) -> serde_json::Value {
    json!({
        "name": SEARCH_TOOLS,
        "title": "Search tools",
        "description": format!(
            "Finds tools that can be called here with {CALL_TOOL}. There are too many to list them{}. Call this first, with a few words that say \
             what you want to do, such as \"create issue\"; with the name of a server among them, its tools come first. The answer has the best matches \
             first, each with its name, description and inputSchema. An empty query lists all tools, server by server.",
            servers(entries),
        ),
        "inputSchema": {
            "type": "object",
            "properties": {
                "query": {
                    "type": "string",
                    "maxLength": MOST_QUERY,
                    "description": "Words of the name, title, description or arguments of the tool. The last may be the beginning of one. Empty: all tools.",
                },
                "limit": {
                    "type": "integer",
                    "minimum": 1,
                    "default": LIMIT,
                    "description": format!(
                        "The most tools in the answer, which has fewer where they are long. More than {MOST_LIMIT} is the same as {MOST_LIMIT}."
                    ),
                },
                "cursor": {
                    "type": "string",
                    "description": "nextCursor of the answer before, with the same query: the tools that follow those.",
                },
            },
            "required": ["query"],
            "additionalProperties": false,
        },
        "outputSchema": {
            "type": "object",
            "properties": {
                "matched": {"type": "integer", "description": "How many tools match in all."},
                "tools": {
                    "type": "array",
                    "description": "The tools, the best match first, as their servers define them.",
                    "items": {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string", "description": format!("What {CALL_TOOL} takes as name.")},
                            "description": {"type": "string"},
                            "inputSchema": {"type": "object", "description": format!("What {CALL_TOOL} takes as arguments.")},
                        },
                        "required": ["name"],
                    },
                },
                "servers": {
                    "type": "array",
                    "description": "For an empty query: the servers, and how many tools each has.",
                    "items": {
                        "type": "object",
                        "properties": {"name": {"type": "string"}, "tools": {"type": "integer"}},
                        "required": ["name", "tools"],
                    },
                },
                "nextCursor": {"type": "string", "description": "Is there if more tools match."},
                "note": {"type": "string", "description": "What can be done next."},
            },
            "required": ["matched", "tools", "note"],
        },
        "annotations": {"readOnlyHint": true, "openWorldHint": false},
    })
}

fn call_tool() -> serde_json::Value {
    json!({
        "name": CALL_TOOL,
        "title": "Call a tool",
        "description": format!(
            "Calls a tool that {SEARCH_TOOLS} has found. The result is that of the tool. If you do not know the inputSchema of the tool, search for \
             it first."
        ),
        "inputSchema": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": format!("The name of the tool, exactly as {SEARCH_TOOLS} has it.")},
                "arguments": {
                    "type": "object",
                    "additionalProperties": true,
                    "description": "The arguments of the tool, as its inputSchema requires. Left out: none.",
                },
            },
            "required": ["name"],
            "additionalProperties": false,
        },
        "annotations": {"readOnlyHint": false, "destructiveHint": true, "openWorldHint": true},
    })
}

/// Whose tools they are, as a part of a sentence; empty where that would be too long.
fn servers(entries: &[Arc<str>]) -> String {
    let length: usize = entries.iter().map(|entry| entry.len() + 2).sum();
    if entries.is_empty() || length > MOST_NAMES {
        return String::new();
    }
    format!(": they are those of the servers {}", entries.join(", "))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::Value;

    use super::{super::arguments::SearchArguments, *};

    /// A model is told what comes of each limit, and no client that checks arguments refuses one that is taken.
    #[test]
    fn the_limit_is_what_the_schema_says() {
        let result: Value = serde_json::from_slice(&listed(&[])).unwrap();
        let limit = &result["tools"][0]["inputSchema"]["properties"]["limit"];
        let taken = |limit: Value| {
            let arguments = json!({"query": "x", "limit": limit}).to_string();
            SearchArguments::parse(&arguments).ok().map(|arguments| arguments.limit)
        };
        let (minimum, default) = (limit["minimum"].as_u64().unwrap(), limit["default"].as_u64().unwrap());
        assert_eq!(limit.get("maximum"), None);
        assert_eq!(taken(json!(minimum)), Some(1));
        assert_eq!(taken(json!(minimum - 1)), None);
        assert_eq!(taken(json!(-1)), None);
        assert_eq!(taken(json!(2.5)), None);
        assert_eq!(taken(Value::Null).map(|limit| limit as u64), Some(default));
        assert_eq!(taken(json!(12.0)), Some(12), "JSON Schema has it as an integer");
        let most = limit["description"].as_str().unwrap();
        assert!(most.ends_with("More than 50 is the same as 50."), "{most}");
        for limit in [json!(50), json!(51), json!(u64::MAX), json!(1e30)] {
            assert_eq!(taken(limit), Some(50));
        }
    }

    fn description(entries: &[Arc<str>]) -> String {
        let result: Value = serde_json::from_slice(&listed(entries)).unwrap();
        assert_eq!(result["tools"][1]["name"], "call_tool");
        result["tools"][0]["description"].as_str().unwrap().to_owned()
    }

    #[test]
    fn names_the_servers_where_they_are_few() {
        let few: Vec<Arc<str>> = vec!["github".into(), "mail".into()];
        let text = description(&few);
        assert!(
            text.contains("list them: they are those of the servers github, mail. Call"),
            "{text}"
        );
        let many: Vec<Arc<str>> = (0..500).map(|n| format!("server-{n}").into()).collect();
        let text = description(&many);
        assert!(text.contains("list them. Call") && text.len() < 1_000, "{text}");
        assert_eq!(fingerprint(&many), fingerprint(&many[1..]), "neither is seen");
        assert_ne!(fingerprint(&few), fingerprint(&few[1..]));
    }
}
