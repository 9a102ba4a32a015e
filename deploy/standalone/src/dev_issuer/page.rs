//! The pages of the authorization endpoint: the sign-in form, and the page of an invalid request.

use axum::{
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, html};
use url::Url;

use super::request::{Entered, Request};

pub(super) fn form(status: StatusCode, request: &Request, redirect: &Url, entered: &Entered) -> Response {
    let errors = [("email", &entered.email_error), ("code", &entered.code_error)];
    let errors: Vec<(&str, &str)> = errors
        .into_iter()
        .filter_map(|(field, error)| Some((field, error.as_deref()?)))
        .collect();
    let hidden = [
        ("client_id", &request.client_id),
        ("redirect_uri", &request.redirect_uri),
        ("response_type", &request.response_type),
        ("scope", &request.scope),
        ("state", &request.state),
        ("nonce", &request.nonce),
        ("code_challenge", &request.code_challenge),
        ("code_challenge_method", &request.code_challenge_method),
    ];
    let body = html! {
        h1 { "Sign in for development" }
        p { "This issuer is part of the server on this machine, for trying things out. You can sign in as any user with the code." }
        @if !errors.is_empty() {
            div.errors role="alert" {
                h2 { "This did not work" }
                ul { @for (field, error) in &errors { li { a href={ "#" (field) } { (error) } } } }
            }
        }
        form method="post" action="/dev/authorize" novalidate {
            @for (name, value) in hidden { input type="hidden" name=(name) value=(value); }
            div.field {
                label for="email" { "Email address" }
                (error_of("email", entered.email_error.as_deref()))
                input #email type="email" name="email" value=(entered.email) autocomplete="email" spellcheck="false" required
                    autofocus[entered.code_error.is_none() || entered.email_error.is_some()]
                    aria-invalid=[entered.email_error.as_ref().map(|_| "true")]
                    aria-describedby=[entered.email_error.as_ref().map(|_| "email-error")];
            }
            div.field {
                label for="code" { "Code from the terminal" }
                p.help #code-help { "The server printed it when it started." }
                (error_of("code", entered.code_error.as_deref()))
                input #code name="code" autocomplete="off" autocapitalize="characters" spellcheck="false" required
                    autofocus[entered.code_error.is_some() && entered.email_error.is_none()]
                    aria-invalid=[entered.code_error.as_ref().map(|_| "true")]
                    aria-describedby=(if entered.code_error.is_some() { "code-help code-error" } else { "code-help" });
            }
            div.field {
                label for="groups" { "Groups (optional)" }
                p.help #groups-help { "Separated by commas. You are a member of each team that maps one of them." }
                input #groups name="groups" value=(entered.groups) autocomplete="off" spellcheck="false" aria-describedby="groups-help";
            }
            div.choice {
                input #admin type="checkbox" name="admin" value="yes" checked[entered.admin];
                label for="admin" { "Sign in as an admin" }
            }
            button type="submit" { "Sign in" }
        }
    };
    let title = if errors.is_empty() {
        "Sign in for development"
    } else {
        "Error: Sign in for development"
    };
    respond(status, title, &body, Some(redirect))
}

fn error_of(field: &str, error: Option<&str>) -> Markup {
    html! { @if let Some(error) = error { p.error id={ (field) "-error" } { (error) } } }
}

/// The page for a request that cannot lead to a sign-in.
pub(super) fn refusal(why: &str) -> Response {
    let body = html! {
        h1 { "This sign-in request is not valid" }
        p { (why) }
        p { "Go back to the page you came from and start again." }
    };
    respond(StatusCode::BAD_REQUEST, "Sign-in refused", &body, None)
}

fn respond(status: StatusCode, title: &str, body: &Markup, redirect: Option<&Url>) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – Chandlery" }
                link rel="stylesheet" href="/dev/style.css";
            }
            body { main { (body) } }
        }
    };
    // Browsers apply form-action to the redirect after a form, too.
    let to = redirect
        .map(|url| url.origin().ascii_serialization())
        .unwrap_or_default();
    let policy = format!(
        "default-src 'none'; style-src 'self'; form-action 'self' {to}; base-uri 'none'; frame-ancestors 'none'"
    );
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
        (header::CACHE_CONTROL, "no-store"),
        // With no-referrer, browsers would send `Origin: null` with the form.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    (status, headers, page).into_response()
}

pub(super) async fn style() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "max-age=300"),
    ];
    (headers, include_str!("style.css")).into_response()
}
