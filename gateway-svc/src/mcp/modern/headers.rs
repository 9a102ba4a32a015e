//! Headers that repeat what is in the message: whoever reads only those must not read another request.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use super::super::{head::PROTOCOL_VERSION, rpc::RpcError};
use crate::{
    json::Object,
    upstream::{
        Mirrored, Revision, header_text,
        modern_names::{METHOD_HEADER, NAME_HEADER, REVISION},
    },
};

const HEADER_MISMATCH: i64 = -32020;
const UNSUPPORTED_VERSION: i64 = -32022;
const METHOD: HeaderName = HeaderName::from_static(METHOD_HEADER);
const NAME: HeaderName = HeaderName::from_static(NAME_HEADER);

/// The revisions that the endpoint speaks, the newest first.
pub(super) const SUPPORTED: [&str; 4] = [
    REVISION,
    Revision::V2025_11_25.as_str(),
    Revision::V2025_06_18.as_str(),
    Revision::V2025_03_26.as_str(),
];

/// Checks that headers and message are of this revision. `stated` is what the message says.
pub(super) fn check_version(headers: &HeaderMap, stated: Option<&str>) -> Result<(), RpcError> {
    let header = text(required(headers, &HeaderName::from_static(PROTOCOL_VERSION))?)?;
    let same = stated.is_none_or(|stated| stated == header);
    if !same {
        return Err(differs(PROTOCOL_VERSION));
    }
    if header != REVISION {
        return Err(RpcError {
            data: Some(json!({"supported": SUPPORTED, "requested": header}).to_string()),
            ..RpcError::new(UNSUPPORTED_VERSION, "Unsupported protocol version")
        });
    }
    Ok(())
}

/// Checks that the other headers say what the message says.
pub(super) fn check(headers: &HeaderMap, method: &str, params: Option<&Object<'_>>) -> Result<(), RpcError> {
    if text(required(headers, &METHOD)?)? != method {
        return Err(differs("Mcp-Method"));
    }
    let member = match method {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        _ if method.starts_with("tasks/") => "taskId",
        _ => return Ok(()),
    };
    // What is wrong with the message itself is said where its parameters are read.
    let Some(name) = params.and_then(|params| params.string(member)) else {
        return Ok(());
    };
    let header = header_text(required(headers, &NAME)?).ok_or_else(|| malformed("Mcp-Name"))?;
    if header != name {
        return Err(differs("Mcp-Name"));
    }
    Ok(())
}

/// Checks that headers repeat these arguments of a tool, a JSON object, as its schema declares.
pub(super) fn check_arguments(headers: &HeaderMap, mirrored: &[Mirrored], arguments: &str) -> Result<(), RpcError> {
    match mirrored.iter().find(|mirrored| !mirrored.agrees(headers, arguments)) {
        Some(mirrored) => Err(differs(mirrored.name())),
        None => Ok(()),
    }
}

/// The only value of a header.
fn required<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a HeaderValue, RpcError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value),
        (None, _) => Err(mismatch(format!("the header {name} is missing"))),
        (Some(_), Some(_)) => Err(mismatch(format!("the header {name} is there twice"))),
    }
}

fn text(value: &HeaderValue) -> Result<&str, RpcError> {
    value
        .to_str()
        .map_err(|_| mismatch("a header has characters that are not visible ASCII".to_owned()))
}

fn mismatch(what: String) -> RpcError {
    RpcError::new(HEADER_MISMATCH, format!("Header mismatch: {what}"))
}

fn differs(name: &str) -> RpcError {
    mismatch(format!("the header {name} does not match the message"))
}

fn malformed(name: &str) -> RpcError {
    mismatch(format!("the header {name} is not valid Base64 of UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        of.iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            })
    }

    #[test]
    fn the_version_is_the_same_in_both_places() {
        let code = |of: &[(&'static str, &'static str)], stated: Option<&str>| {
            check_version(&headers(of), stated).err().map(|error| error.code)
        };
        let modern = ("mcp-protocol-version", REVISION);
        assert_eq!(code(&[modern], Some(REVISION)), None);
        assert_eq!(code(&[modern], None), None);
        for of in [&[][..], &[modern, modern], &[("mcp-protocol-version", "2025-11-25")]] {
            assert_eq!(code(of, Some(REVISION)), Some(HEADER_MISMATCH), "{of:?}");
        }
        let later = ("mcp-protocol-version", "2030-01-01");
        assert_eq!(code(&[later], Some("2030-01-01")), Some(UNSUPPORTED_VERSION));
        assert_eq!(code(&[later], Some(REVISION)), Some(HEADER_MISMATCH));
    }

    #[test]
    fn what_is_called_is_the_same_in_both_places() {
        let code = |of: &[(&'static str, &'static str)], method: &str, params: &str| {
            check(&headers(of), method, Some(&Object::parse(params).unwrap()))
                .err()
                .map(|error| error.code)
        };
        let call = ("mcp-method", "tools/call");
        assert_eq!(code(&[("mcp-method", "tools/list")], "tools/list", "{}"), None);
        for (of, name) in [
            (&[call, ("mcp-name", "a")][..], "a"),
            (&[call, ("mcp-name", "=?base64?w7w=?=")], "\u{fc}"),
            (&[call, ("mcp-name", "=?BASE64?w7w=?=")], "=?BASE64?w7w=?="),
        ] {
            let params = json!({"name": name}).to_string();
            assert_eq!(code(of, "tools/call", &params), None, "{of:?}");
        }
        let get = ("mcp-method", "tasks/get");
        assert_eq!(code(&[get, ("mcp-name", "t")], "tasks/get", r#"{"taskId":"t"}"#), None);
        for of in [&[get][..], &[get, ("mcp-name", "u")]] {
            let code = code(of, "tasks/get", r#"{"taskId":"t"}"#);
            assert_eq!(code, Some(HEADER_MISMATCH), "{of:?}");
        }
        for of in [
            &[][..],
            &[call],
            &[call, ("mcp-name", "b")],
            &[call, ("mcp-name", "A")],
            &[call, ("mcp-name", "a"), ("mcp-name", "a")],
            &[call, call, ("mcp-name", "a")],
            &[call, ("mcp-name", "=?base64?w7?=")],
            &[call, ("mcp-name", "=?base64?/w==?=")],
            &[("mcp-method", "tools/list"), ("mcp-name", "a")],
            &[("mcp-method", "Tools/call"), ("mcp-name", "a")],
        ] {
            assert_eq!(
                code(of, "tools/call", r#"{"name":"a"}"#),
                Some(HEADER_MISMATCH),
                "{of:?}"
            );
        }
    }
}
