//! A request as a modern server gets it: what the client is, in `_meta`, and what the request is about, in headers.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};

use super::{
    header::value,
    names::{CAPABILITIES, INFO, LEVEL, METHOD_HEADER, NAME_HEADER, REVISION, TASKS, VERSION},
};
use crate::{
    json::{self, JsonError, Object},
    upstream::{
        client::{Era, Profile},
        message::Outgoing,
    },
};

const METHOD: HeaderName = HeaderName::from_static(METHOD_HEADER);
const NAME: HeaderName = HeaderName::from_static(NAME_HEADER);

/// The client that a request is made for.
#[derive(Clone, Copy, Debug)]
pub(in crate::upstream) struct Speaker<'a> {
    pub(in crate::upstream) profile: &'a Profile,
    /// The level of the log messages that it gets, as JSON.
    pub(in crate::upstream) level: Option<&'a str>,
}

/// A request, ready to be sent.
#[derive(Debug)]
pub(in crate::upstream) struct Prepared {
    pub(in crate::upstream) headers: HeaderMap,
    pub(in crate::upstream) body: Bytes,
}

/// Makes a request ready for a modern server.
pub(in crate::upstream) fn prepare(request: &Outgoing, speaker: Speaker<'_>) -> Result<Prepared, JsonError> {
    let params = Object::parse(request.params())?;
    let mut headers = HeaderMap::new();
    headers.extend(value(&request.method).map(|value| (METHOD, value)));
    let name = key(&request.method).and_then(|key| params.string(key));
    headers.extend(name.and_then(|name| value(&name)).map(|value| (NAME, value)));
    if let Some(arguments) = params.get("arguments") {
        let mirrored = request.mirrored.iter().flat_map(|all| all.iter());
        headers.extend(mirrored.filter_map(|mirrored| mirrored.header(arguments)));
    }
    Ok(Prepared {
        headers,
        body: body(request, &params, speaker)?.into(),
    })
}

/// The member of `params` that `Mcp-Name` repeats.
fn key(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        _ if method.starts_with("tasks/") => Some("taskId"),
        _ => None,
    }
}

fn body(request: &Outgoing, params: &Object<'_>, speaker: Speaker<'_>) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::with_capacity(request.body.len() + 512);
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.extend_from_slice(request.id.to_string().as_bytes());
    out.extend_from_slice(b",\"method\":");
    json::push_string(&mut out, &request.method);
    out.extend_from_slice(b",\"params\":{");
    // A request that is sent again says what the server is to be answered.
    let answered = |name: &str| request.inputs.is_some() && matches!(name, "inputResponses" | "requestState");
    let kept = params.iter().filter(|(name, _)| *name != "_meta" && !answered(name));
    json::push_members(&mut out, kept);
    if let Some(inputs) = &request.inputs {
        json::push_comma(&mut out);
        out.extend_from_slice(inputs);
    }
    json::push_comma(&mut out);
    out.extend_from_slice(b"\"_meta\":{");
    meta(&mut out, request, params.get("_meta"), speaker)?;
    out.extend_from_slice(b"}}");
    out.extend_from_slice(request.behind_params());
    Ok(out)
}

/// What the client can do. One of an older revision cannot take tasks as this one has them, whatever it says.
fn capabilities(profile: &Profile, era: Era) -> Result<Cow<'_, str>, JsonError> {
    let said = profile.capabilities();
    if era == Era::Modern || !said.contains(TASKS) {
        return Ok(said.into());
    }
    let all = Object::parse(said)?;
    let Some(extensions) = all.get("extensions") else {
        return Ok(said.into());
    };
    let extensions = Object::parse(extensions)?;
    let kept = json::object(extensions.iter().filter(|(name, _)| *name != TASKS));
    let kept = String::from_utf8(kept).unwrap_or_default();
    let changed = all.iter().map(|(name, value)| match name {
        "extensions" => (name, &*kept),
        _ => (name, value),
    });
    Ok(String::from_utf8(json::object(changed)).unwrap_or_default().into())
}

/// The members of `_meta`: those that the client has sent, and those that are the gateway's to say.
fn meta(out: &mut Vec<u8>, request: &Outgoing, sent: Option<&str>, speaker: Speaker<'_>) -> Result<(), JsonError> {
    let version = format!("\"{REVISION}\"");
    let capabilities = capabilities(speaker.profile, request.era)?;
    let said = [
        (VERSION, &*version),
        (CAPABILITIES, &*capabilities),
        (INFO, speaker.profile.info()),
    ];
    json::push_members(out, said);
    let sent = sent.map(Object::parse).transpose()?;
    let sent_level = sent.as_ref().is_some_and(|sent| sent.get(LEVEL).is_some());
    if let Some(level) = speaker.level.filter(|_| !sent_level) {
        json::push_member(out, LEVEL, level);
    }
    let id = request.id.to_string();
    for (name, value) in sent.iter().flat_map(Object::iter) {
        let value = match name {
            VERSION | CAPABILITIES | INFO => continue,
            "progressToken" if request.progress_token.is_some() => &id,
            _ => value,
        };
        json::push_member(out, name, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn prepared(request: &Outgoing, level: Option<&str>) -> Prepared {
        let profile = Profile::new(r#"{"roots":{}}"#, r#"{"name":"c"}"#);
        let profile = &profile;
        prepare(request, Speaker { profile, level }).unwrap()
    }

    const SAID: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"roots":{}},"io.modelcontextprotocol/clientInfo":{"name":"c"}"#;

    #[test]
    fn a_request_keeps_what_the_client_has_sent() {
        let params = br#"{"name":"t","arguments":{"n":12345678901234567890},"new":[1],"_meta":{"progressToken":7,"a/b":1e3,"io.modelcontextprotocol/clientInfo":{"name":"x"}}}"#;
        let token = Some(Bytes::from_static(b"\"mine\""));
        let request = Outgoing::new(7, "tools/call", params, &[("extra".into(), "true")], token);
        let sent = prepared(&request, Some("\"debug\""));
        let expected = format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"t","arguments":{{"n":12345678901234567890}},"new":[1],"_meta":{{{SAID},"io.modelcontextprotocol/logLevel":"debug","progressToken":7,"a/b":1e3}}}},"extra":true}}"#
        );
        assert_eq!(std::str::from_utf8(&sent.body).unwrap(), expected);
        assert_eq!(sent.headers["mcp-method"], "tools/call");
        assert_eq!(sent.headers["mcp-name"], "t");
        let request = Outgoing::new(8, "server/discover", b"", &[], None);
        let sent = prepared(&request, None);
        let expected =
            format!(r#"{{"jsonrpc":"2.0","id":8,"method":"server/discover","params":{{"_meta":{{{SAID}}}}}}}"#);
        assert_eq!(std::str::from_utf8(&sent.body).unwrap(), expected);
        assert!(sent.headers.get("mcp-name").is_none());
    }

    #[test]
    fn an_older_client_takes_no_tasks_of_this_revision() {
        let profile = Profile::new(
            r#"{"extensions":{"io.modelcontextprotocol/tasks":{},"x/y":{"n":1.0}},"tasks":{}}"#,
            "{}",
        );
        let older = r#"{"extensions":{"x/y":{"n":1.0}},"tasks":{}}"#;
        assert_eq!(capabilities(&profile, Era::Legacy).unwrap(), older);
        assert_eq!(capabilities(&profile, Era::Modern).unwrap(), profile.capabilities());
    }

    #[test]
    fn a_request_that_is_sent_again_has_a_new_id_and_the_answers() {
        let params = br#"{"name":"t","requestState":"forged","_meta":{"progressToken":7}}"#;
        let token = Some(Bytes::from_static(b"1"));
        let first = Outgoing::new(7, "tools/call", params, &[], token);
        let again = first.again(
            9,
            Bytes::from_static(br#""inputResponses":{"a":{}},"requestState":"s\u0020""#),
        );
        let expected = format!(
            r#"{{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{{"name":"t","inputResponses":{{"a":{{}}}},"requestState":"s\u0020","_meta":{{{SAID},"progressToken":9}}}}}}"#
        );
        assert_eq!(std::str::from_utf8(&prepared(&again, None).body).unwrap(), expected);
    }
}
