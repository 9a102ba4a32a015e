//! Asks a person whether an MCP client may call a gateway for them, and sends them to sign in: the facade's authorization endpoint (RFC 6749,
//! section 3.1).
//!
//! The identity provider sees one client, Chandlery, and may not ask again. Without this page, whoever gets somebody to open a link would
//! get that person's access (the confused deputy).

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{Deserialize, Serialize};
use service_kit::Peer;
use url::form_urlencoded;

use super::{
    Pages,
    problem::Problem,
    session::seconds,
    signin::{Leaving, Then, redirect},
    view,
};
use crate::{
    facade::{Authorization, Facade, Refused},
    oidc::Purpose,
};

const PURPOSE: &str = "authorize";
const MAX_FORM: usize = 32 << 10;
/// How long a person may think about it.
const TIME_TO_DECIDE: u64 = 15 * 60;

/// What the form carries sealed.
#[derive(Serialize, Deserialize)]
struct Asked {
    authorization: Authorization,
    until: u64,
}

pub(super) async fn ask(
    State(pages): State<Arc<Pages>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(facade) = &pages.facade else {
        return pages.refuse(&Problem::not_found());
    };
    // It may cost a request to the client's metadata document.
    if let Err(exceeded) = pages.quotas.sign_in(peer.map(|Extension(peer)| peer), &headers) {
        return pages.refuse(&Problem::exceeded(&exceeded));
    }
    match facade.asked(&query.unwrap_or_default()).await {
        Ok(asked) => {
            let sealed = Asked {
                authorization: asked.authorization.clone(),
                until: seconds(pages.clock.now()) + TIME_TO_DECIDE,
            };
            let sealed = pages.sealer.seal(PURPOSE, &sealed);
            let issuers: Vec<_> = facade.issuers().collect();
            view::authorize::question(&pages, &asked, &issuers, &sealed)
        }
        Err(Refused::There(url)) => redirect(&url),
        Err(Refused::Ask { why, destination, url }) => view::authorize::refused(&pages, why, &destination, &url),
        Err(Refused::Here(text)) => pages.refuse(&Problem::new(
            StatusCode::BAD_REQUEST,
            view::authorize::NOT_CONNECTED,
            text,
        )),
    }
}

pub(super) async fn decide(
    State(pages): State<Arc<Pages>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Some(facade) = &pages.facade else {
        return pages.refuse(&Problem::not_found());
    };
    let stale = || {
        pages.refuse(&Problem::new(
            StatusCode::FORBIDDEN,
            "This form is no longer valid",
            "It was not sent from our own page, or was open for too long. Nothing was allowed. Connect again in the client.",
        ))
    };
    if !pages.came_from_our_pages(&headers) {
        return stale();
    }
    let form = match pages.forms.read(body, "", MAX_FORM).await {
        Ok((form, _room)) => form,
        Err(unread) => return pages.refuse(&Problem::unread(unread)),
    };
    let field = |name: &str| {
        let found = form_urlencoded::parse(&form).find(|(field, _)| field == name);
        found.map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let asked = pages.sealer.open::<Asked>(PURPOSE, &field("request"));
    let Some(asked) = asked.filter(|asked| seconds(pages.clock.now()) < asked.until) else {
        return stale();
    };
    if let Err(exceeded) = pages.quotas.sign_in(peer.map(|Extension(peer)| peer), &headers) {
        return pages.refuse(&Problem::exceeded(&exceeded));
    }
    pages.decided(facade, asked.authorization, &field("issuer")).await
}

impl Pages {
    /// `issuer` is where the person signs in; none: they refuse.
    async fn decided(&self, facade: &Facade, authorization: Authorization, issuer: &str) -> Response {
        let issuer = facade.issuers().find(|known| known.issuer == issuer);
        let Some((issuer, rules)) = issuer.and_then(|issuer| Some((issuer, issuer.facade.as_ref()?))) else {
            return view::authorize::onward(self, &facade.denied(&authorization, "access_denied"));
        };
        let left = self.leave_for(issuer, Purpose::Facade(rules), Then::Authorize(authorization));
        match left.await {
            Ok(Leaving { url, cookie }) => {
                let mut response = view::authorize::onward(self, url.as_str());
                response.headers_mut().extend(cookie);
                response
            }
            Err(problem) => self.refuse(&problem),
        }
    }
}
