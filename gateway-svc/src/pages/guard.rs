//! Enforces quotas, and keeps other sites from submitting the pages' forms: by the browser's own statement of where a request comes
//! from, and a sealed token in the form that is bound to the session and to what the form is about.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::Response,
};
use serde::{Deserialize, Serialize};
use service_kit::quota::{Callers, InFlight};

use super::{Pages, model::install::GoesTo, problem::Problem, seal, session::Session};

const PURPOSE: &str = "form";

/// What a form carries sealed in its hidden field `state`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FormState {
    session: String,
    /// `entries/{entry}`.
    pub(super) entry: String,
    /// Random; makes the request ids of what this form causes.
    pub(super) form: String,
    /// The installation it changes; none: it makes one.
    pub(super) installation: Option<String>,
    /// Where the opener was told that their secrets go, or would go.
    pub(super) goes_to: Option<GoesTo>,
}

/// Answers under its own host names only: a foreign page whose name was rebound to this address (DNS rebinding) learns nothing.
pub(super) async fn only_our_hosts(State(pages): State<Arc<Pages>>, request: Request, next: Next) -> Response {
    if pages.hosts.names_us(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    pages.refuse(&Problem::new(
        StatusCode::MISDIRECTED_REQUEST,
        "This is not the address of Chandlery",
        "The host name in the address bar is not one of Chandlery's. Use its public URL; the people who run it can allow \
         further names.",
    ))
}

impl Pages {
    /// Charges a request to the signed-in person. It is in progress until the answer is dropped.
    pub(super) fn charge(&self, session: &Session, writes: bool) -> Result<InFlight, Problem> {
        let in_flight = self.quotas.request(Callers::one(&session.caller()), writes);
        in_flight.map_err(|exceeded| Problem::exceeded(&exceeded))
    }

    /// Whether a state-changing request comes from a page of this site.
    pub(super) fn came_from_our_pages(&self, headers: &HeaderMap) -> bool {
        let text = |name| {
            headers
                .get(name)
                .and_then(|value: &axum::http::HeaderValue| value.to_str().ok())
        };
        // Browsers send the first to https and to this machine, the second with every POST.
        match (
            text(header::HeaderName::from_static("sec-fetch-site")),
            text(header::ORIGIN),
        ) {
            (Some(site), _) => matches!(site, "same-origin" | "none"),
            (None, Some(origin)) => origin == self.origin,
            (None, None) => false,
        }
    }

    /// Seals the state of a form for this session.
    pub(super) fn form_state(
        &self,
        session: &Session,
        entry: &str,
        installation: Option<String>,
        goes_to: Option<GoesTo>,
    ) -> String {
        let state = FormState {
            session: session.id.clone(),
            entry: entry.to_owned(),
            form: seal::random(),
            installation,
            goes_to,
        };
        self.sealer.seal(PURPOSE, &state)
    }

    /// Opens the state of a form that was made for this session and entry.
    pub(super) fn open_form(&self, session: &Session, entry: &str, sealed: &str) -> Option<FormState> {
        let state: FormState = self.sealer.open(PURPOSE, sealed)?;
        (state.session == session.id && state.entry == entry).then_some(state)
    }
}
