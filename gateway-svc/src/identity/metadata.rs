//! OAuth 2.0 protected resource metadata (RFC 9728): which issuers' tokens an endpoint accepts.

use std::sync::Arc;

use axum::{Json, Router, extract::Path, response::IntoResponse, routing::get};
use serde_json::json;
use service_kit::identity::Verifier;

use crate::domain::{ConsumerKind, ConsumerRef, Links};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The metadata of every MCP endpoint, and of all together. Names that do not exist have metadata, too, since the client has not
/// signed in yet.
pub(crate) fn metadata_routes(verifier: &Arc<Verifier>, links: &Links) -> Router {
    let document = {
        let issuers: Vec<String> = verifier.issuers().map(|issuer| issuer.issuer.clone()).collect();
        let links = links.clone();
        move |path: &str| {
            Json(json!({
                "resource": public(&links, path),
                "authorization_servers": issuers,
                "bearer_methods_supported": ["header"],
                "resource_name": "Chandlery",
            }))
            .into_response()
        }
    };
    let (of_all, of_gateway, of_agent) = (document.clone(), document.clone(), document);
    Router::new()
        .route(WELL_KNOWN, get(async move || of_all("")))
        .route(
            &format!("{WELL_KNOWN}/mcp/{{gateway}}"),
            get(
                async move |Path(slug): Path<String>| match ConsumerRef::parse(&format!("gateways/{slug}")) {
                    Some(consumer) => of_gateway(&consumer.mcp_path()),
                    None => http::StatusCode::NOT_FOUND.into_response(),
                },
            ),
        )
        .route(
            &format!("{WELL_KNOWN}/agents/{{agent}}/mcp"),
            get(
                async move |Path(slug): Path<String>| match ConsumerRef::parse(&format!("agents/{slug}")) {
                    Some(consumer) if consumer.kind == ConsumerKind::Agent => of_agent(&consumer.mcp_path()),
                    _ => http::StatusCode::NOT_FOUND.into_response(),
                },
            ),
        )
}

/// The URL of the metadata of the endpoint at `path`: the well-known part precedes the path (RFC 9728, section 3.1).
pub(super) fn url(links: &Links, path: &str) -> String {
    let mut url = links.public_url().clone();
    let below = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{WELL_KNOWN}{below}{path}"));
    url.into()
}

fn public(links: &Links, path: &str) -> String {
    format!("{}{path}", links.public_url().as_str().trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stands_before_the_path() {
        let links = |url: &str| Links::new(url.parse().unwrap());
        let root = url(&links("https://example.com"), "/mcp/a");
        assert_eq!(root, "https://example.com/.well-known/oauth-protected-resource/mcp/a");
        let below = url(&links("https://example.com/tools/"), "/mcp/a");
        assert_eq!(
            below,
            "https://example.com/.well-known/oauth-protected-resource/tools/mcp/a"
        );
        assert_eq!(
            public(&links("https://example.com/tools/"), "/mcp/a"),
            "https://example.com/tools/mcp/a"
        );
    }
}
