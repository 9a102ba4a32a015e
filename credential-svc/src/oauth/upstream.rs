//! What an upstream says of itself (RFC 9728), as MCP has it.

use reqwest::{
    Method, Url,
    header::{ACCEPT, HeaderName, HeaderValue},
};

use super::{
    answer::fault,
    challenge::Challenge,
    fields::{Fields, split_scopes},
    http::{Body, Http, Limit, Reach, Request, shown},
    metadata::{self, MAX_DOCUMENT},
    text::readable,
    well_known,
};
use crate::domain::authorization::servers::{ServerError, Upstream};

/// Asks for no session, so that none is left behind. Servers that authenticate their callers do so before they read a message, whichever
/// revision of MCP they speak.
const PROBE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
const PROBE_HEADERS: [(&str, &str); 2] = [
    ("mcp-protocol-version", "2026-07-28"),
    ("mcp-method", "server/discover"),
];
/// How many authorization servers of an upstream are known.
const MAX_SERVERS: usize = 10;

pub(super) async fn discover(http: &Http, url: &str) -> Result<Option<Upstream>, ServerError> {
    let upstream = http.checked(Reach::Allowed, "the upstream", url)?;
    let shown = shown(&upstream);
    let challenge = challenge(http, &upstream).await?;
    let named = &challenge.resource_metadata;
    // Elsewhere, somebody else could speak for the upstream.
    let named = Url::parse(named)
        .ok()
        .filter(|named| named.origin() == upstream.origin());
    let mut found = None;
    let mut failed = None;
    for place in named.into_iter().chain(well_known::of_resource(&upstream)) {
        let what = "the metadata that the upstream names";
        let turn = http.turn(Reach::Allowed, what, place.as_str()).await?;
        let answer = http.send(turn, Request::get(MAX_DOCUMENT)).await?;
        let fields = Fields::parse(&answer.body).filter(|_| answer.status.is_success());
        if let Some(fields) = fields.filter(|fields| fields.get("resource").is_some()) {
            found = Some(read(&upstream, &fields)?);
            break;
        }
        failed = failed.or_else(|| fault(&answer));
    }
    if let (None, Some(failed)) = (&found, failed) {
        return Err(failed);
    }
    let is_given = found.is_some();
    let mut described = found.unwrap_or_else(|| Upstream {
        resource: url.to_owned(),
        ..Upstream::default()
    });
    if !challenge.scope.is_empty() {
        described.scopes = split_scopes(&challenge.scope);
    }
    if described.authorization_servers.is_empty() {
        described.authorization_servers = match of_origin(http, &upstream).await? {
            Some(issuer) => vec![issuer],
            None if is_given => {
                let text = format!("the metadata of {shown} names no authorization server");
                return Err(ServerError::Unusable(text));
            }
            None if !challenge.resource_metadata.is_empty() => {
                let text = format!("{shown} names metadata that is not at its own origin, or cannot be read");
                return Err(ServerError::Unusable(text));
            }
            None => return Ok(None),
        };
    }
    Ok(Some(described))
}

/// What the upstream demands of a caller without credentials.
async fn challenge(http: &Http, upstream: &Url) -> Result<Challenge, ServerError> {
    let body = Body {
        content_type: "application/json",
        bytes: PROBE.as_bytes().into(),
    };
    let mut request = Request {
        method: Method::POST,
        // The answer may be a stream without end.
        limit: Limit::Head,
        ..Request::post(body, 0)
    };
    let accept = HeaderValue::from_static("application/json, text/event-stream");
    request.headers.insert(ACCEPT, accept);
    for (name, value) in PROBE_HEADERS {
        let (name, value) = (HeaderName::from_static(name), HeaderValue::from_static(value));
        request.headers.insert(name, value);
    }
    let turn = http.turn(Reach::Allowed, "the upstream", upstream.as_str()).await?;
    let answer = http.send(turn, request).await?;
    Ok(Challenge::of(&answer.headers).unwrap_or_default())
}

fn read(upstream: &Url, fields: &Fields) -> Result<Upstream, ServerError> {
    let resource = fields.text("resource").unwrap_or_default();
    if !Url::parse(resource).is_ok_and(|resource| covers(&resource, upstream)) {
        let resource = readable(resource, 200);
        let text = format!(
            "the metadata of {} is of another resource: {resource:?}",
            shown(upstream)
        );
        return Err(ServerError::Unusable(text));
    }
    Ok(Upstream {
        resource: resource.to_owned(),
        authorization_servers: fields.list("authorization_servers", MAX_SERVERS, 2_048),
        scopes: fields.scopes("scopes_supported"),
    })
}

/// Whether a token for `resource` is one for the upstream (RFC 9728, section 3.3, and MCP): it is the upstream, or what contains it.
fn covers(resource: &Url, upstream: &Url) -> bool {
    let path = resource.path().trim_end_matches('/');
    let is_within = upstream.path().strip_prefix(path);
    resource.origin() == upstream.origin()
        && resource.username().is_empty()
        && resource.password().is_none()
        && resource.fragment().is_none()
        && (resource.query().is_none() || resource.query() == upstream.query())
        && is_within.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The upstream's origin as authorization server, as MCP had it in revision 2025-03-26, if its metadata says so. The default endpoints of that
/// revision are not guessed: an entry can give them.
async fn of_origin(http: &Http, upstream: &Url) -> Result<Option<String>, ServerError> {
    let origin = upstream.origin().ascii_serialization();
    let Ok(issuer) = Url::parse(&origin) else {
        return Ok(None);
    };
    let is_origin = |named: &str| named.strip_suffix('/').unwrap_or(named) == origin;
    match metadata::discover(http, &issuer, is_origin).await {
        Ok(found) => Ok(Some(found.issuer)),
        Err(error) if error.is_passing() => Err(error),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_covers_what_is_below_it() {
        let covers = |resource: &str, upstream: &str| covers(&resource.parse().unwrap(), &upstream.parse().unwrap());
        let upstream = "https://mcp.example.com/a/mcp";
        for resource in [
            upstream,
            "https://mcp.example.com/a/mcp/",
            "https://MCP.example.com:443/a",
            "https://mcp.example.com",
        ] {
            assert!(covers(resource, upstream), "{resource}");
        }
        for resource in [
            "https://mcp.example.com/a/mc",
            "https://mcp.example.com/a/mcp/b",
            "https://mcp.example.com/b",
            "http://mcp.example.com/a/mcp",
            "https://mcp.example.com:8443/a/mcp",
            "https://example.com/a/mcp",
            "https://u@mcp.example.com/a/mcp",
            "https://mcp.example.com/a/mcp#f",
            "https://mcp.example.com/a/mcp?x=1",
        ] {
            assert!(!covers(resource, upstream), "{resource}");
        }
        assert!(covers("https://x/mcp?t=1", "https://x/mcp?t=1"));
        assert!(covers("https://x/mcp", "https://x/mcp?t=1"));
    }
}
