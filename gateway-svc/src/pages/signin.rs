//! Signs the opener in with a configured issuer, and out. The sign-ins of MCP clients come back here, too.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use service_kit::{
    Peer,
    edge::KeepOpen,
    identity::{IssuerConfig, Use},
};
use subtle::ConstantTimeEq as _;
use url::{Url, form_urlencoded};

use super::{Pages, cookies, problem::Problem, session::seconds, view};
use crate::{
    facade::Authorization,
    oidc::{self, Provider, Purpose},
    seal,
};

const PURPOSE: &str = "sign-in";
const COOKIE: &str = "chandlery_signin";
const PATH: &str = "/signin";
/// The form that signs out: where to go then.
const MAX_SIGN_OUT: usize = 16 << 10;
/// Browsers take 4,096 bytes, name and attributes included.
const MAX_COOKIE: usize = 3_900;
/// Somebody may have to find their second factor.
const TIME_TO_SIGN_IN: Duration = Duration::from_secs(15 * 60);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Begin {
    r#return: String,
    issuer: String,
    /// Whether the issuer is to ask again, since the opener has just signed out.
    again: Option<String>,
    /// Set once the browser was sent to the public URL.
    here: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Callback {
    code: String,
    state: String,
    error: String,
    iss: String,
}

/// What the browser keeps while it is at the issuer.
#[derive(Serialize, Deserialize)]
struct Pending {
    state: String,
    nonce: String,
    verifier: String,
    issuer: String,
    then: Then,
    until: u64,
}

/// What follows a sign-in.
#[derive(Serialize, Deserialize)]
pub(super) enum Then {
    /// A session, and this page; none if it is empty.
    Return(String),
    /// An MCP client gets its authorization.
    Authorize(Authorization),
}

/// A browser that is sent to an issuer.
pub(super) struct Leaving {
    pub(super) url: Url,
    /// What it keeps until it is back.
    pub(super) cookie: HeaderMap,
}

pub(super) async fn begin(
    State(pages): State<Arc<Pages>>,
    peer: Option<Extension<Peer>>,
    Query(query): Query<Begin>,
    headers: HeaderMap,
) -> Response {
    // A foreign page that loads this as an image or in a frame must not use up its visitor's quota.
    let says = |name: &str, other: &str| headers.get(name).is_none_or(|value| value == other);
    if !says("sec-fetch-mode", "navigate") || !says("sec-fetch-dest", "document") {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let return_to = local(&query.r#return).unwrap_or_default();
    // Cookies belong to one host: a browser that came by another name is redirected to the public one.
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let public_host = pages.origin.split_once("://").map(|(_, host)| host).unwrap_or_default();
    if query.here.is_none() && !host.is_empty() && !host.eq_ignore_ascii_case(public_host) {
        let mut parameters = form_urlencoded::Serializer::new(String::new());
        parameters.append_pair("return", &return_to).append_pair("here", "1");
        return redirect(&format!("{}/signin?{}", pages.public, parameters.finish()));
    }
    let issuers: Vec<&IssuerConfig> = pages
        .verifier
        .issuers()
        .filter(|issuer| issuer.client_id.is_some())
        .collect();
    let chosen = issuers
        .iter()
        .find(|issuer| issuer.issuer == query.issuer)
        .or(match issuers.as_slice() {
            [only] => Some(only),
            _ => None,
        });
    let Some(issuer) = chosen else {
        if issuers.is_empty() {
            return pages.refuse(&Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "Sign-in is not configured",
                "No OIDC issuer is configured with a client_id for Chandlery's pages. The people who run Chandlery can add one.",
            ));
        }
        return view::signin::choice(&pages, &issuers, &return_to, query.again.is_some());
    };
    // From here on, the issuer and the browser are involved.
    if let Err(exceeded) = pages.quotas.sign_in(peer.map(|Extension(peer)| peer), &headers) {
        let again = pages.sign_in_path(&return_to);
        return pages.refuse(&Problem::exceeded(&exceeded).action("Try again", again));
    }
    let purpose = Purpose::Pages {
        again: query.again.is_some(),
    };
    match pages.leave_for(issuer, purpose, Then::Return(return_to.clone())).await {
        Ok(Leaving { url, cookie }) => {
            let mut response = redirect(url.as_str());
            response.headers_mut().extend(cookie);
            response
        }
        Err(problem) => pages.refuse(&problem.action("Try again", pages.sign_in_path(&return_to))),
    }
}

pub(super) async fn callback(
    State(pages): State<Arc<Pages>>,
    peer: Option<Extension<Peer>>,
    keep_open: Option<Extension<KeepOpen>>,
    Query(query): Query<Callback>,
    headers: HeaderMap,
) -> Response {
    // The issuer takes a code only once.
    let _held = keep_open.as_ref().map(|Extension(connection)| connection.hold());
    let name = pages.cookie_name(&query.state);
    let pending = cookies::get(&headers, &name).and_then(|sealed| pages.sealer.open::<Pending>(PURPOSE, sealed));
    let pending = pending.filter(|pending| {
        let same: bool = pending.state.as_bytes().ct_eq(query.state.as_bytes()).into();
        same && seconds(pages.clock.now()) < pending.until
    });
    let Some(pending) = pending else {
        return pages.refuse(&Problem::new(
            StatusCode::BAD_REQUEST,
            "This sign-in is no longer valid",
            "It was started in another browser, has expired, or is already complete. Open the link you came from again.",
        ));
    };
    let return_to = match &pending.then {
        Then::Return(path) => path.as_str(),
        Then::Authorize(_) => "",
    };
    let sign_in = pages.sign_in_path(return_to);
    // The same answer may be sent repeatedly, and each one costs a request to the issuer.
    if let Err(exceeded) = pages.quotas.sign_in(peer.map(|Extension(peer)| peer), &headers) {
        return pages.refuse(&Problem::exceeded(&exceeded).action("Sign in again", sign_in));
    }
    if let Then::Authorize(authorization) = &pending.then {
        let mut response = pages.authorize(&query, &pending, authorization).await;
        cookies::clear(response.headers_mut(), &name, pages.sign_in_scope());
        return response;
    }
    let destination = format!("{}{return_to}", pages.prefix);
    let mut response = match pages.finish(&query, &pending).await {
        Ok(finished) => {
            // Without a place to return to there is nothing to do but to say so.
            let mut response = if return_to.is_empty() {
                view::signin::done(&pages, &finished.user)
            } else {
                redirect(&destination)
            };
            if pages
                .start_session(response.headers_mut(), &finished.token, &finished.user)
                .is_err()
            {
                response = pages.refuse(&Problem::new(
                    StatusCode::BAD_GATEWAY,
                    "Your token is too large",
                    "The token of your sign-in service is too long for a cookie; it may list many groups. \
                     Ask the people who run it to send fewer claims.",
                ));
            }
            response
        }
        Err(problem) => pages.refuse(&problem.action("Sign in again", sign_in)),
    };
    cookies::clear(response.headers_mut(), &name, pages.sign_in_scope());
    response
}

pub(super) async fn sign_out(State(pages): State<Arc<Pages>>, headers: HeaderMap, body: Body) -> Response {
    if !pages.came_from_our_pages(&headers) {
        return pages.refuse(&Problem::forged(format!("{}/", pages.prefix)));
    }
    let return_to = match pages.forms.read(body, "", MAX_SIGN_OUT).await {
        Ok((form, _room)) => form_urlencoded::parse(&form)
            .find(|(name, _)| name == "return")
            .and_then(|(_, path)| local(&path))
            .unwrap_or_default(),
        Err(unread) => return pages.refuse(&Problem::unread(unread)),
    };
    if let Some(session) = pages.session(&headers).await {
        pages.revoke(&session);
    }
    let mut response = view::signin::signed_out(&pages, &format!("{}&again=1", pages.sign_in_path(&return_to)));
    pages.end_session(response.headers_mut());
    response
}

struct Finished {
    token: secrecy::SecretString,
    user: Arc<service_kit::User>,
}

impl Pages {
    /// Where `return_to` is opened after signing in.
    pub(super) fn sign_in_path(&self, return_to: &str) -> String {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("return", return_to)
            .finish();
        format!("{}/signin?{query}", self.prefix)
    }

    /// Begins a sign-in.
    pub(super) async fn leave_for(
        &self,
        issuer: &IssuerConfig,
        purpose: Purpose<'_>,
        then: Then,
    ) -> Result<Leaving, Problem> {
        let nonce = seal::random();
        let begun = match self.verifier.endpoints(&issuer.issuer).await {
            None => Err(None),
            Some(endpoints) => oidc::begin(issuer, &endpoints, &self.callback(), &nonce, purpose).map_err(Some),
        };
        let begun = begun.map_err(|error| {
            if let Some(error) = error {
                tracing::error!(oidc.issuer = %issuer.issuer, error = %error, "nobody can sign in with this issuer");
            }
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The sign-in service is unavailable",
                format!(
                    "{} is unreachable, or is not configured for Chandlery. Try again in a moment.",
                    view::signin::display(issuer)
                ),
            )
        })?;
        let pending = Pending {
            state: begun.state.clone(),
            nonce,
            verifier: begun.verifier,
            issuer: issuer.issuer.clone(),
            then,
            until: seconds(self.clock.now() + TIME_TO_SIGN_IN),
        };
        let sealed = self.sealer.seal(PURPOSE, &pending);
        if sealed.len() > MAX_COOKIE {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "The request is too long",
                "What the client sends is too long for a cookie. Tell the people who make it.",
            ));
        }
        let mut cookie = HeaderMap::new();
        cookies::set(
            &mut cookie,
            &self.cookie_name(&begun.state),
            &sealed,
            self.sign_in_scope(),
            TIME_TO_SIGN_IN,
        );
        Ok(Leaving { url: begun.url, cookie })
    }

    /// Sends the browser back to the MCP client, with a code or with why there is none.
    async fn authorize(&self, query: &Callback, pending: &Pending, authorization: &Authorization) -> Response {
        let Some(facade) = &self.facade else {
            return self.refuse(&refused("No sign-in service is configured for MCP clients any more."));
        };
        let issuer = match self.answered(query, pending).await {
            Ok(provider) => provider.config,
            Err(problem) => return self.refuse(&problem),
        };
        if !query.error.is_empty() {
            let error = match query.error.as_str() {
                "access_denied" => "access_denied",
                _ => "server_error",
            };
            return redirect(&facade.denied(authorization, error));
        }
        let answer = (&*query.code, &*pending.verifier, &*pending.nonce);
        redirect(&facade.authorized(authorization, issuer, answer))
    }

    /// The issuer that a sign-in was begun at, if the answer is its own.
    async fn answered(&self, query: &Callback, pending: &Pending) -> Result<Provider<'_>, Problem> {
        let issuer = self.verifier.issuers().find(|issuer| issuer.issuer == pending.issuer);
        let issuer = issuer.ok_or_else(|| refused("The sign-in service you chose is no longer configured."))?;
        let provider = Provider::reach(&self.verifier, issuer, &self.runtime).await;
        let provider = provider.ok_or_else(|| failed(issuer, "the issuer cannot be reached"))?;
        // RFC 9207, section 2.4: an answer of another issuer is not for this sign-in, and one that does not say whose it is, where its
        // issuer always says so, is another's.
        let says_so = provider.endpoints.authorization_response_iss_parameter_supported || !query.iss.is_empty();
        if says_so && query.iss != issuer.issuer {
            return Err(refused(
                "The answer came from another sign-in service than the one you chose.",
            ));
        }
        if !query.error.is_empty() {
            tracing::info!(oidc.issuer = %issuer.issuer, oidc.error = %query.error.escape_debug(), "a sign-in was refused");
        }
        Ok(provider)
    }

    async fn finish(&self, query: &Callback, pending: &Pending) -> Result<Finished, Problem> {
        let provider = self.answered(query, pending).await?;
        let issuer = provider.config;
        if !query.error.is_empty() {
            return Err(match query.error.as_str() {
                "access_denied" => refused("The sign-in was cancelled, or refused by your sign-in service."),
                _ => refused(
                    "Your sign-in service answered with an error. If it persists, tell the people who run Chandlery.",
                ),
            });
        }
        let (code, verifier) = (query.code.clone(), pending.verifier.clone());
        let purpose = Purpose::Pages { again: false };
        let tokens = provider.exchange(&self.callback(), code, verifier, purpose).await;
        let tokens = tokens.map_err(|error| failed(issuer, error))?;
        let token = tokens
            .id
            .ok_or_else(|| failed(issuer, "the token endpoint gave no ID token"))?;
        let user = self
            .verifier
            .verify_for(Use::SignIn, token.expose_secret())
            .await
            .map_err(|error| failed(issuer, error))?;
        let client_id = issuer.client_id.as_deref().unwrap_or_default();
        if user.issuer != issuer.issuer || !oidc::answers_this_sign_in(token.expose_secret(), client_id, &pending.nonce)
        {
            return Err(failed(issuer, "the ID token is not for this sign-in"));
        }
        Ok(Finished { token, user })
    }

    /// The redirect URI to register with an issuer.
    fn callback(&self) -> String {
        format!("{}/signin/callback", self.public)
    }

    /// One cookie a sign-in, so that two tabs do not disturb each other.
    fn cookie_name(&self, state: &str) -> String {
        cookies::name(&cookies::tagged(COOKIE, state), self.secure)
    }

    fn sign_in_scope(&self) -> cookies::Scope<'_> {
        cookies::Scope {
            prefix: &self.prefix,
            path: PATH,
            secure: self.secure,
        }
    }
}

fn refused(text: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "Signing in did not work", text)
}

/// The page for a failure that the person did not cause. Logs the cause.
fn failed(issuer: &IssuerConfig, error: impl std::fmt::Display) -> Problem {
    tracing::error!(oidc.issuer = %issuer.issuer, error = %error, "a sign-in failed");
    Problem::new(
        StatusCode::BAD_GATEWAY,
        "Signing in did not work",
        "Your sign-in service did not confirm who you are. Try again; if it persists, tell the people who run Chandlery.",
    )
}

/// A redirect that is answered by GET, and not kept.
pub(super) fn redirect(to: &str) -> Response {
    let headers = [
        (header::LOCATION, to),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// Path and query of an install page; `None` for anything else, above all another site.
fn local(path: &str) -> Option<String> {
    let base = url::Url::parse("http://local.invalid/").expect("a constant URL");
    if !path.starts_with("/install/") || path.contains('\\') || path.contains(char::is_control) {
        return None;
    }
    let url = base.join(path).ok()?;
    let ours = url.origin() == base.origin() && url.path().starts_with("/install/");
    ours.then(|| match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_to_install_pages_only() {
        assert_eq!(
            local("/install/time?gateway=default").as_deref(),
            Some("/install/time?gateway=default")
        );
        for path in [
            "",
            "//evil.example/install/",
            "/install/../../x",
            "https://evil.example/install/a",
            "/\\evil.example",
            "/signout",
            "/install/\r\nx",
        ] {
            assert_eq!(local(path), None, "{path}");
        }
    }
}
