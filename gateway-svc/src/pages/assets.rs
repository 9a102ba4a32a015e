//! The pages' own style and script.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

pub(super) async fn style() -> Response {
    asset("text/css; charset=utf-8", include_str!("assets/pages.css"))
}

pub(super) async fn script() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("assets/progress.js"))
}

fn asset(kind: &'static str, content: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "max-age=300"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, content).into_response()
}
