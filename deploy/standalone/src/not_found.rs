//! The response to a path that does not exist.

use axum::http::StatusCode;

/// For people who try an address, and for clients with a wrong configuration.
pub(crate) async fn answer() -> (StatusCode, &'static str) {
    (
        StatusCode::NOT_FOUND,
        "There is nothing at this path. MCP clients connect to /mcp/GATEWAY or to /agents/AGENT/mcp, people open /install/ENTRY, and gRPC \
         has an address of its own.\n",
    )
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, extract::Request};
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn names_the_paths_that_exist() {
        let router = Router::new().fallback(answer);
        for path in ["/mcp", "/mcp/default/", "/none"] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
            let body = axum::body::to_bytes(response.into_body(), 1024).await.unwrap();
            assert!(String::from_utf8_lossy(&body).contains("/mcp/GATEWAY"), "{path}");
        }
    }
}
