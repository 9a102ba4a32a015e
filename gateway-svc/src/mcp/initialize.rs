//! `initialize`.

use serde_json::{Value, json};

use super::rpc::{INVALID_PARAMS, RpcError};
use crate::{
    domain::Consumer,
    json::{self, Object},
    upstream::{Profile, Revision},
};

/// What a client requests and supports.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// The revision to speak: the client's, or the latest supported one where that is not supported.
    pub(super) revision: Revision,
    /// Whether it opens links for its user.
    pub(super) opens_links: bool,
    /// What servers with a session for each client learn of it.
    pub(super) profile: Profile,
}

/// Bytes of the capabilities and of the `clientInfo` that servers get: a session handle contains both.
const MOST_CAPABILITIES: usize = 1536;
const MOST_INFO: usize = 768;
/// What a client is called, as JSON, that does not say it.
const REQUIRED: [(&str, &str); 2] = [("name", "\"unnamed\""), ("version", "\"unknown\"")];
/// Of more capabilities than that, servers get these, which there are requests for.
const ANSWERED: [&str; 3] = ["roots", "sampling", "elicitation"];

/// Reads the parameters.
pub(super) fn wish(params: Option<&Object<'_>>) -> Result<Wish, RpcError> {
    let wanted = params
        .and_then(|params| params.string("protocolVersion"))
        .ok_or_else(|| RpcError::new(INVALID_PARAMS, "params.protocolVersion must name a revision"))?;
    let object = |name| params.and_then(|params| Object::parse(params.get(name)?).ok());
    let (capabilities, info) = (object("capabilities"), object("clientInfo"));
    Ok(Wish {
        revision: Revision::parse(&wanted).unwrap_or(Revision::LATEST),
        opens_links: capabilities.as_ref().is_some_and(opens_links),
        profile: profile(capabilities.as_ref(), info.as_ref()),
    })
}

/// Whether a client with these capabilities opens links for its user.
pub(super) fn opens_links(capabilities: &Object<'_>) -> bool {
    let elicitation = capabilities
        .get("elicitation")
        .and_then(|text| Object::parse(text).ok());
    elicitation.is_some_and(|elicitation| elicitation.get("url").is_some_and(|url| url.starts_with('{')))
}

/// What servers learn of a client that says this of itself.
pub(super) fn profile(capabilities: Option<&Object<'_>>, info: Option<&Object<'_>>) -> Profile {
    Profile::new(&capabilities.map_or_else(|| "{}".to_owned(), relayed), &shown(info))
}

/// The capabilities that servers may use. No server may list the tasks of a client, since they are of several servers.
fn relayed(capabilities: &Object<'_>) -> String {
    let tasks = capabilities.get("tasks").and_then(|tasks| Object::parse(tasks).ok());
    let tasks = tasks.map(|tasks| members(tasks.iter().filter(|(name, _)| *name != "list")));
    let all = capabilities.iter().filter_map(|(name, value)| match name {
        "tasks" => Some((name, tasks.as_deref()?)),
        _ => Some((name, value)),
    });
    let all = members(all);
    if all.len() <= MOST_CAPABILITIES {
        return all;
    }
    let answered = members(capabilities.iter().filter(|(name, _)| ANSWERED.contains(name)));
    if answered.len() <= MOST_CAPABILITIES {
        return answered;
    }
    let bare = capabilities.iter().filter(|(name, _)| ANSWERED.contains(name));
    members(bare.map(|(name, _)| (name, "{}")))
}

/// `clientInfo`, without what is long, and with what servers of older revisions require although a client of 2026-07-28 need not say it.
fn shown(info: Option<&Object<'_>>) -> String {
    let all = || info.into_iter().flat_map(Object::iter);
    let is_long = members(all()).len() > MOST_INFO;
    let fits = |(name, value): &(&str, &str)| {
        let is_short = matches!(*name, "name" | "title" | "version") && value.len() <= MOST_INFO / 4;
        (!is_long || is_short) && (!REQUIRED.iter().any(|(required, _)| required == name) || value.starts_with('"'))
    };
    let unsaid = REQUIRED
        .iter()
        .copied()
        .filter(|(name, _)| !all().any(|member| member.0 == *name && fits(&member)));
    members(all().filter(fits).chain(unsaid))
}

fn members<'a>(of: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    String::from_utf8(json::object(of)).unwrap_or_default()
}

/// The result.
pub(super) fn result(consumer: &Consumer, revision: Revision) -> Vec<u8> {
    json!({
        "protocolVersion": revision.as_str(),
        "capabilities": offered(revision),
        "serverInfo": server_info(),
        "instructions": instructions(consumer),
    })
    .to_string()
    .into_bytes()
}

/// What the gateway offers to clients with sessions of this revision: what any of its servers may.
fn offered(revision: Revision) -> Value {
    let mut offered = capabilities();
    if revision >= Revision::V2025_11_25 {
        offered["tasks"] = json!({"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}});
    }
    offered
}

/// What the gateway offers, to clients of any revision.
pub(super) fn capabilities() -> Value {
    json!({
        "tools": {"listChanged": true},
        "prompts": {"listChanged": true},
        "resources": {"subscribe": true, "listChanged": true},
        "completions": {},
        "logging": {},
    })
}

/// What the gateway says of itself.
pub(super) fn server_info() -> Value {
    json!({"name": "chandlery", "title": "Chandlery", "version": env!("CARGO_PKG_VERSION")})
}

/// What a model should know of a gateway or agent.
pub(super) fn instructions(consumer: &Consumer) -> String {
    let mut instructions = format!("Tools of {}.", consumer.display_name);
    if !consumer.description.is_empty() {
        instructions = format!("{instructions} {}", consumer.description);
    }
    if consumer.searched {
        instructions.push_str(" Find them with search_tools, and call them with call_tool.");
    }
    instructions.push_str(
        " A tool whose server is not connected yet answers with a link: show it to the user, who opens it in a browser, then call the tool again.",
    );
    instructions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(params: &str) -> Result<Wish, RpcError> {
        wish(Some(&Object::parse(params).unwrap()))
    }

    #[test]
    fn agrees_on_a_revision_both_speak() {
        assert_eq!(
            of(r#"{"protocolVersion":"2025-06-18"}"#).unwrap().revision,
            Revision::V2025_06_18
        );
        assert_eq!(
            of(r#"{"protocolVersion":"2026-07-28"}"#).unwrap().revision,
            Revision::LATEST
        );
        assert_eq!(
            of(r#"{"protocolVersion":"nonsense"}"#).unwrap().revision,
            Revision::LATEST
        );
        assert!(of("{}").is_err());
        assert!(wish(None).is_err());
    }

    /// Whatever it says, it fits in a header, and stays JSON.
    #[test]
    fn what_a_client_says_of_itself_is_short() {
        let profile = |capabilities: &str, info: &str| {
            let params =
                format!(r#"{{"protocolVersion":"2025-11-25","capabilities":{capabilities},"clientInfo":{info}}}"#);
            of(&params).unwrap().profile
        };
        let plain = profile(
            r#"{"roots":{"x":1.0},"tasks":{"list":{},"cancel":{}},"new":{}}"#,
            r#"{"name":"c","x":[2],"version":"1.0"}"#,
        );
        assert_eq!(
            plain.capabilities(),
            r#"{"roots":{"x":1.0},"tasks":{"cancel":{}},"new":{}}"#
        );
        assert_eq!(plain.info(), r#"{"name":"c","x":[2],"version":"1.0"}"#);
        let long = "x".repeat(MOST_CAPABILITIES);
        let much = profile(
            &format!(r#"{{"sampling":{{"tools":{{}}}},"experimental":{{"x":"{long}"}}}}"#),
            &format!(r#"{{"name":"c","version":"1","websiteUrl":"{long}"}}"#),
        );
        assert_eq!(much.capabilities(), r#"{"sampling":{"tools":{}}}"#);
        assert_eq!(much.info(), r#"{"name":"c","version":"1"}"#);
        let more = profile(&format!(r#"{{"roots":{{"x":"{long}"}}}}"#), "5");
        let unnamed = r#"{"name":"unnamed","version":"unknown"}"#;
        assert_eq!((more.capabilities(), more.info()), (r#"{"roots":{}}"#, unnamed));
        let part = profile("{}", r#"{"version":5,"title":"c"}"#);
        assert_eq!(part.info(), r#"{"title":"c","name":"unnamed","version":"unknown"}"#);
    }

    #[test]
    fn links_are_for_those_who_open_them() {
        let with = |capabilities: &str| {
            of(&format!(
                r#"{{"protocolVersion":"2025-11-25","capabilities":{capabilities}}}"#
            ))
            .unwrap()
        };
        assert!(with(r#"{"elicitation":{"url":{}}}"#).opens_links);
        assert!(!with(r#"{"elicitation":{}}"#).opens_links);
        assert!(!with(r#"{"elicitation":{"form":{}}}"#).opens_links);
        assert!(!with("{}").opens_links);
    }
}
