//! What the two tools are called with, and what is wrong with it. A model reads that, and corrects itself.

use std::borrow::Cow;

use serde_json::json;

use super::super::failure::error_result;
use crate::{
    domain::{CALL_TOOL, SEARCH_TOOLS},
    json::{self, Object},
    listing::MOST_QUERY,
};

/// Tools of a page, where the call does not say how many; and the most, however many it says.
pub(super) const LIMIT: usize = 10;
pub(super) const MOST_LIMIT: usize = 50;
/// Characters that are shown of a name that does not exist.
const MOST_SHOWN: usize = 80;

/// The arguments of `search_tools`.
#[derive(Debug)]
pub(super) struct SearchArguments<'a> {
    /// Empty: all tools.
    pub(super) query: Cow<'a, str>,
    pub(super) limit: usize,
    /// Empty: the first page.
    pub(super) cursor: Cow<'a, str>,
}

/// The arguments of `call_tool`.
#[derive(Debug)]
pub(super) struct CallArguments<'a> {
    pub(super) name: Cow<'a, str>,
    /// The name, as JSON.
    pub(super) key: &'a str,
    /// A JSON object.
    pub(super) arguments: Option<&'a str>,
}

impl<'a> SearchArguments<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        let given = members(text, &["query", "limit", "cursor"])?;
        let string = |name: &str| match given.get(name) {
            None | Some("null") => Ok(Cow::Borrowed("")),
            Some(value) => json::unescape(value).ok_or_else(|| format!("`{name}` must be a string")),
        };
        let query = string("query")?;
        if query.chars().nth(MOST_QUERY).is_some() {
            return Err(format!(
                "`query` has more than {MOST_QUERY} characters: a few words that say what the tool should do are enough"
            ));
        }
        let limit = match given.get("limit") {
            None | Some("null") => LIMIT,
            Some(limit) => limit_of(limit).ok_or("`limit` must be a whole number, and at least 1")?,
        };
        Ok(Self {
            query,
            limit,
            cursor: string("cursor")?,
        })
    }
}

/// A limit, however an integer of JSON Schema is written: 5, 5.0 and 0.5e1 are the same.
fn limit_of(text: &str) -> Option<usize> {
    let limit: f64 = text.parse().ok()?;
    (limit.fract() == 0.0 && limit >= 1.0).then(|| limit.min(MOST_LIMIT as f64) as usize)
}

impl<'a> CallArguments<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        let given = members(text, &["name", "arguments"])?;
        let key = given.get("name");
        let named = key.and_then(|key| Some((json::unescape(key)?, key)));
        let (name, key) =
            named.ok_or_else(|| format!("`name` must be the name of a tool, as {SEARCH_TOOLS} has found it"))?;
        let arguments = given.get("arguments").filter(|arguments| *arguments != "null");
        if arguments.is_some_and(|arguments| !arguments.starts_with('{')) {
            return Err("`arguments` must be a JSON object, not a text or a list".to_owned());
        }
        Ok(Self { name, key, arguments })
    }
}

/// The members of an object that has no others than these.
fn members<'a>(text: &'a str, known: &[&str]) -> Result<Object<'a>, String> {
    let object = Object::parse(text).map_err(|error| error.to_string())?;
    let other = object.iter().map(|(name, _)| name).find(|name| !known.contains(name));
    match other {
        Some(other) => Err(format!(
            "there is no argument {:?}: there are {}",
            shown(other),
            known
                .iter()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", ")
        )),
        None => Ok(object),
    }
}

/// The result of a call whose arguments are wrong in this way.
pub(super) fn refused(tool: &str, what: &str) -> Vec<u8> {
    let mut text = format!("{tool} was not called: {what}.");
    if tool == CALL_TOOL {
        text += " The arguments of the tool that is to be called belong into `arguments`.";
    }
    error_result(&text, &json!({"error": "invalid_arguments"}), tool == SEARCH_TOOLS).into_bytes()
}

/// The result of a call of a tool that does not exist for the caller. These have similar names.
pub(super) fn unknown(name: &str, similar: &[String]) -> Vec<u8> {
    let mut text = format!("There is no tool {:?} here.", shown(name));
    if !similar.is_empty() {
        text += &format!(" Tools with similar names: {}.", similar.join(", "));
    }
    text += &format!(" {SEARCH_TOOLS} finds tools by what they do.");
    error_result(&text, &json!({"error": "unknown_tool", "similar": similar}), false).into_bytes()
}

fn shown(name: &str) -> String {
    name.chars().take(MOST_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_needs_nothing_and_takes_no_more_than_it_knows() {
        let plain = SearchArguments::parse("{}").unwrap();
        assert_eq!((&*plain.query, plain.limit, &*plain.cursor), ("", LIMIT, ""));
        let full = SearchArguments::parse(r#"{"query":"\u00e4 b","limit":500,"cursor":"c"}"#).unwrap();
        assert_eq!((&*full.query, full.limit, &*full.cursor), ("\u{e4} b", MOST_LIMIT, "c"));
        let longest = format!(r#"{{"query":"{}"}}"#, "\u{e4}".repeat(MOST_QUERY));
        assert!(SearchArguments::parse(&longest).is_ok());
        let longer = format!(r#"{{"query":"{}"}}"#, "x".repeat(MOST_QUERY + 1));
        for (odd, says) in [
            (&*longer, "1024"),
            (r#"{"query":5}"#, "`query`"),
            (r#"{"limit":0}"#, "whole number, and at least 1"),
            (r#"{"limit":-1}"#, "whole number, and at least 1"),
            (r#"{"limit":1.5}"#, "whole number, and at least 1"),
            (r#"{"limit":"5"}"#, "whole number, and at least 1"),
            (r#"{"limit":true}"#, "whole number, and at least 1"),
            (r#"{"cursor":[]}"#, "`cursor`"),
            (r#"{"q":"x"}"#, "\"q\""),
            ("[]", "object"),
        ] {
            let what = SearchArguments::parse(odd).unwrap_err();
            assert!(what.contains(says), "{odd}: {what}");
        }
    }

    #[test]
    fn a_call_names_a_tool_and_passes_its_arguments_on() {
        let call = CallArguments::parse(r#"{"name":"a\u005fb","arguments":{ "n":1.0 }}"#).unwrap();
        assert_eq!(
            (&*call.name, call.key, call.arguments),
            ("a_b", r#""a\u005fb""#, Some(r#"{ "n":1.0 }"#))
        );
        assert_eq!(
            CallArguments::parse(r#"{"name":"a","arguments":null}"#)
                .unwrap()
                .arguments,
            None
        );
        for (odd, says) in [
            ("{}", "`name`"),
            (r#"{"name":1}"#, "`name`"),
            (r#"{"name":"a","arguments":"{}"}"#, "`arguments`"),
            (r#"{"name":"a","arguments":[]}"#, "`arguments`"),
            (r#"{"name":"a","to":"b"}"#, "\"to\""),
            (r#"{"name":"a","Name":"b"}"#, "\"Name\""),
        ] {
            let what = CallArguments::parse(odd).unwrap_err();
            assert!(what.contains(says), "{odd}: {what}");
        }
    }
}
