//! Before and after signing in.

use axum::{http::StatusCode, response::Response};
use maud::html;
use service_kit::{User, identity::IssuerConfig};
use url::form_urlencoded;

use crate::pages::Pages;

/// Lets the opener choose an issuer.
pub(in crate::pages) fn choice(pages: &Pages, issuers: &[&IssuerConfig], return_to: &str, again: bool) -> Response {
    let link = |issuer: &IssuerConfig| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("return", return_to)
            .append_pair("issuer", &issuer.issuer)
            .append_pair("here", "1");
        if again {
            query.append_pair("again", "1");
        }
        format!("{}/signin?{}", pages.prefix, query.finish())
    };
    let body = html! {
        h1 { "Sign in" }
        p { "Choose where your account is." }
        ul.choices {
            @for issuer in issuers {
                li { a.button href=(link(issuer)) { (display(issuer)) } }
            }
        }
    };
    pages.page(StatusCode::OK, "Sign in", None, &body, false)
}

/// Says that somebody is signed in, where there is nothing to return to.
pub(in crate::pages) fn done(pages: &Pages, user: &User) -> Response {
    let body = html! {
        h1 { "You are signed in" }
        p { "As " strong { (user.email.as_deref().unwrap_or(&user.subject)) } ". Open the install link again to go on." }
    };
    pages.page(StatusCode::OK, "You are signed in", None, &body, false)
}

/// Says that nobody is signed in any more.
pub(in crate::pages) fn signed_out(pages: &Pages, sign_in: &str) -> Response {
    let body = html! {
        h1 { "You are signed out" }
        p { "You may still be signed in with your sign-in service itself." }
        p { a.button href=(sign_in) { "Sign in, perhaps as somebody else" } }
    };
    pages.page(StatusCode::OK, "You are signed out", None, &body, false)
}

/// What people read for an issuer.
pub(in crate::pages) fn display(issuer: &IssuerConfig) -> &str {
    issuer.display_name.as_deref().unwrap_or(&issuer.issuer)
}
