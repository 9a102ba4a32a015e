//! The authorization endpoint: shows the sign-in form, checks it, and redirects the browser to the client with a code.

use std::sync::Arc;

use axum::{
    Form,
    extract::{
        Query, State,
        rejection::{FormRejection, QueryRejection},
    },
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use url::Url;

use super::{
    CLIENT_ID, ISSUER, Person, Shared,
    grants::Grant,
    normal_email, page,
    record::Event,
    request::{Entered, Request},
};

/// The parameters of the request, and what the person entered.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Submitted {
    #[serde(flatten)]
    request: Request,
    email: String,
    groups: String,
    admin: Option<String>,
    code: String,
}

/// Why no form is shown for a request.
enum Refusal {
    /// Shown on a page, because it is not safe to redirect the browser to the client.
    Here(&'static str),
    /// Sent to the client.
    ToClient {
        error: &'static str,
        description: &'static str,
    },
}

pub(super) async fn show(State(shared): State<Arc<Shared>>, query: Result<Query<Request>, QueryRejection>) -> Response {
    let Ok(Query(request)) = query else {
        return page::refusal("The sign-in request cannot be read.");
    };
    match shared.check(&request) {
        Err(refusal) => refusal.answer(&request),
        Ok(redirect) => {
            let entered = Entered {
                email: request.login_hint.clone(),
                ..Entered::default()
            };
            page::form(StatusCode::OK, &request, &redirect, &entered)
        }
    }
}

pub(super) async fn submit(
    State(shared): State<Arc<Shared>>,
    form: Result<Form<Submitted>, FormRejection>,
) -> Response {
    let Ok(Form(submitted)) = form else {
        return page::refusal("The form cannot be read.");
    };
    let request = submitted.request;
    let redirect = match shared.check(&request) {
        Err(refusal) => return refusal.answer(&request),
        Ok(redirect) => redirect,
    };
    let mut entered = Entered {
        email: normal_email(&submitted.email),
        groups: submitted.groups,
        admin: submitted.admin.is_some(),
        ..Entered::default()
    };
    if !is_email(&entered.email) {
        entered.email_error = Some("Enter an email address, such as alice@example.com.".to_owned());
    }
    let now = shared.clock.now();
    if let Some(wait) = shared.attempts.wait(now) {
        entered.code_error = Some(format!(
            "There were too many wrong codes. Try again in {} seconds.",
            wait.as_secs().max(1)
        ));
        return page::form(StatusCode::TOO_MANY_REQUESTS, &request, &redirect, &entered);
    }
    if !shared.code.matches(&submitted.code) {
        // An empty field is a mistake, not a guess.
        if !submitted.code.trim().is_empty() {
            shared.attempts.wrong(now);
            tracing::warn!(user.email = %entered.email.escape_debug(), "development issuer: somebody entered a wrong code");
        }
        entered.code_error = Some("This is not the code. Enter the one the server printed when it started.".to_owned());
    }
    if entered.email_error.is_some() || entered.code_error.is_some() {
        return page::form(StatusCode::UNPROCESSABLE_ENTITY, &request, &redirect, &entered);
    }
    let groups = entered
        .groups
        .split([',', ' '])
        .filter(|group| !group.is_empty())
        .map(str::to_owned)
        .collect();
    let grant = Grant {
        person: Person {
            email: entered.email,
            groups,
            admin: entered.admin,
        },
        redirect_uri: request.redirect_uri.clone(),
        code_challenge: request.code_challenge.clone(),
        nonce: Some(request.nonce.clone()).filter(|nonce| !nonce.is_empty()),
        granted_at: now,
    };
    if let Err(error) = shared.issuer.record_event(Event::SignedIn, &grant.person, now) {
        tracing::error!("{error}");
        return send_back(redirect, &request.state, &[("error", "server_error")]);
    }
    match shared.grants.add(grant) {
        Some(code) => send_back(redirect, &request.state, &[("code", &code)]),
        None => send_back(redirect, &request.state, &[("error", "temporarily_unavailable")]),
    }
}

impl Shared {
    /// Checks the request. The client and its redirect URI are checked first, before the browser is sent to the client
    /// with any other error.
    fn check(&self, request: &Request) -> Result<Url, Refusal> {
        if request.client_id != CLIENT_ID {
            return Err(Refusal::Here(
                "The client that sent you here is not known to this issuer.",
            ));
        }
        let known = [&self.public, &self.base]
            .iter()
            .any(|url| request.redirect_uri == format!("{url}/signin/callback"));
        let redirect = Url::parse(&request.redirect_uri).ok().filter(|_| known);
        let redirect = redirect.ok_or(Refusal::Here("The address to return to is not one of this server."))?;
        let refuse = |error, description| Err(Refusal::ToClient { error, description });
        if request.response_type != "code" {
            return refuse("unsupported_response_type", "response_type must be code");
        }
        if request.code_challenge_method != "S256" || request.code_challenge.len() != 43 {
            return refuse("invalid_request", "PKCE with code_challenge_method S256 is required");
        }
        if !request.scope.split(' ').any(|scope| scope == "openid") {
            return refuse("invalid_scope", "scope must hold openid");
        }
        if request.prompt.split(' ').any(|prompt| prompt == "none") {
            return refuse("login_required", "nobody is signed in here without the form");
        }
        Ok(redirect)
    }
}

impl Refusal {
    fn answer(self, request: &Request) -> Response {
        match (self, Url::parse(&request.redirect_uri)) {
            (Self::Here(why), _) => page::refusal(why),
            (Self::ToClient { error, description }, Ok(redirect)) => send_back(
                redirect,
                &request.state,
                &[("error", error), ("error_description", description)],
            ),
            (Self::ToClient { description, .. }, Err(_)) => page::refusal(description),
        }
    }
}

/// Redirects to the client, with the issuer's name so that the client can distinguish issuers (RFC 9207).
fn send_back(mut redirect: Url, state: &str, parameters: &[(&str, &str)]) -> Response {
    redirect
        .query_pairs_mut()
        .extend_pairs(parameters)
        .append_pair("iss", ISSUER);
    if !state.is_empty() {
        redirect.query_pairs_mut().append_pair("state", state);
    }
    let headers = [
        (header::LOCATION, redirect.as_str()),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// A simple check against typing errors. No mail is sent.
fn is_email(text: &str) -> bool {
    let fits = (3..=254).contains(&text.len()) && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    fits && text
        .split_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'))
}
