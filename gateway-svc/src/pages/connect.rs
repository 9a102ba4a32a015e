//! Connects an installation to an account at its upstream, and disconnects it: the browser goes to the authorization server and comes back to
//! [`callback`](super::callback).

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Path, Query, State},
    http::HeaderMap,
    response::Response,
};
use contracts::credential::StartAuthorizationResponse;
use serde::{Deserialize, Serialize};
use service_kit::quota::InFlight;
use tonic::{Code, Status};
use url::{Url, form_urlencoded};

use super::{
    Pages, cookies,
    guard::FormState,
    link::{Link, entry_name, install_path, progress_path},
    model::install::GoesTo,
    not_connected::NotConnected,
    problem::Problem,
    session::{Session, seconds},
    signin, view,
};

const PURPOSE: &str = "connect";
const COOKIE: &str = "chandlery_connect";
const PATH: &str = "/oauth";
/// A form with nothing but its state.
const MAX_FORM: usize = 16 << 10;
/// The longest that a browser may be away, whatever credential-svc permits.
const MAX_AWAY: Duration = Duration::from_secs(3600);

/// What the browser keeps while it is at the authorization server.
#[derive(Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) state: String,
    /// Id of the user who started it.
    pub(super) user: String,
    /// Slug of the entry.
    pub(super) entry: String,
    /// Uid of the installation.
    pub(super) id: String,
    pub(super) link: Link,
    pub(super) until: u64,
}

/// A form that names an installation, from the opener's own page.
struct Received {
    session: Session,
    state: FormState,
    installation: String,
    /// The progress page.
    here: String,
    _in_flight: InFlight,
}

pub(super) async fn connect(
    State(pages): State<Arc<Pages>>,
    Path((entry, id)): Path<(String, String)>,
    Query(link): Query<Link>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let received = match pages.receive((&entry, &id), &link, &headers, body).await {
        Ok(received) => received,
        Err(refused) => return *refused,
    };
    let Received {
        session,
        state,
        installation,
        here,
        ..
    } = &received;
    let shown = match &state.goes_to {
        Some(GoesTo::Exactly(shown)) => shown.clone(),
        Some(GoesTo::Entry(_)) | None => String::new(),
    };
    let started = pages.services.of(&session.token);
    let refused = match started.start_authorization(installation, shown).await {
        Ok(started) => match authorization_page(&started) {
            Some(to) => {
                let mut response = view::connection::leave(&pages, session, here, &to);
                let pending = Pending {
                    state: started.state,
                    user: session.user.id.to_string(),
                    entry,
                    id,
                    link,
                    until: pages.until(started.expire_time),
                };
                pages.remember(response.headers_mut(), &pending);
                return response;
            }
            None => NotConnected::unusable(),
        },
        Err(status) if is_plain(&status) => {
            let back = format!("{}{here}", pages.prefix);
            return pages.refuse_to(session, here, &Problem::of(&status, pages.sign_in_path(here), back));
        }
        Err(status) => NotConnected::of(&status),
    };
    let to_form = Link {
        installation: Some(id),
        ..link
    };
    let to_form = format!("{}{}", pages.prefix, install_path(&entry, &to_form));
    pages.refuse_to(
        session,
        here,
        &refused.problem().action("Back to the installation", to_form),
    )
}

pub(super) async fn disconnect(
    State(pages): State<Arc<Pages>>,
    Path((entry, id)): Path<(String, String)>,
    Query(link): Query<Link>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let received = match pages.receive((&entry, &id), &link, &headers, body).await {
        Ok(received) => received,
        Err(refused) => return *refused,
    };
    let (session, here) = (&received.session, &received.here);
    let back = format!("{}{here}", pages.prefix);
    let opener = pages.services.of(&session.token);
    match opener.delete_credential(&received.installation).await {
        Ok(_) => signin::redirect(&back),
        Err(status) => pages.refuse_to(session, here, &Problem::of(&status, pages.sign_in_path(here), back)),
    }
}

/// Whether what the status says is the same for all pages.
fn is_plain(status: &Status) -> bool {
    matches!(status.code(), Code::Unauthenticated | Code::NotFound)
}

/// Where the browser goes. credential-svc has checked the server; that it is a page, and no script, is checked here.
fn authorization_page(started: &StartAuthorizationResponse) -> Option<Url> {
    let url: Url = started.authorization_url.parse().ok()?;
    let page = matches!(url.scheme(), "https" | "http") && url.has_host() && !started.state.is_empty();
    page.then_some(url)
}

impl Pages {
    async fn receive(
        &self,
        (entry, id): (&str, &str),
        link: &Link,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Received, Box<Response>> {
        let here = progress_path(entry, id, link);
        let back = format!("{}{here}", self.prefix);
        let Some(session) = self.session(headers).await else {
            return Err(Box::new(self.refuse(&Problem::signed_out(self.sign_in_path(&here)))));
        };
        let refuse = |problem: &Problem| Box::new(self.refuse_to(&session, &here, problem));
        if !self.came_from_our_pages(headers) {
            return Err(refuse(&Problem::forged(back)));
        }
        let under_way = self
            .charge(&session, true)
            .map_err(|problem| refuse(&problem.action("Open the page again", back.clone())))?;
        let form = match self.forms.read(body, session.user.id.as_str(), MAX_FORM).await {
            Ok((form, _room)) => form,
            Err(unread) => return Err(refuse(&Problem::unread(unread).action("Open the page again", back))),
        };
        let sealed = form_urlencoded::parse(&form).find(|(name, _)| name == "state");
        let state = entry_name(entry)
            .zip(sealed)
            .and_then(|(name, (_, sealed))| self.open_form(&session, &name, &sealed));
        let installation = format!("installations/{id}");
        match state.filter(|state| state.installation.as_deref() == Some(&installation)) {
            Some(state) => Ok(Received {
                session,
                state,
                installation,
                here,
                _in_flight: under_way,
            }),
            None => Err(refuse(&Problem::forged(back))),
        }
    }

    /// Until when the browser may be away, in seconds since 1970.
    fn until(&self, expires: Option<prost_types::Timestamp>) -> u64 {
        let latest = self.clock.now() + MAX_AWAY;
        let expires = expires.and_then(|time| std::time::SystemTime::try_from(time).ok());
        seconds(expires.map_or(latest, |expires| expires.min(latest)))
    }

    /// Gives the browser the cookie with which it can finish what it began.
    fn remember(&self, headers: &mut HeaderMap, pending: &Pending) {
        let sealed = self.sealer.seal(PURPOSE, pending);
        let name = self.connect_cookie(&pending.state);
        cookies::set(headers, &name, &sealed, self.connect_scope(), MAX_AWAY);
    }

    /// What this browser began with this `state`.
    pub(super) fn remembered(&self, headers: &HeaderMap, state: &str) -> Option<Pending> {
        let sealed = cookies::get(headers, &self.connect_cookie(state))?;
        let pending: Pending = self.sealer.open(PURPOSE, sealed)?;
        (pending.state == state && seconds(self.clock.now()) < pending.until).then_some(pending)
    }

    /// Makes the browser forget what it began.
    pub(super) fn forget(&self, headers: &mut HeaderMap, state: &str) {
        cookies::clear(headers, &self.connect_cookie(state), self.connect_scope());
    }

    /// One cookie each time, so that two tabs do not disturb each other.
    fn connect_cookie(&self, state: &str) -> String {
        cookies::name(&cookies::tagged(COOKIE, state), self.secure)
    }

    fn connect_scope(&self) -> cookies::Scope<'_> {
        cookies::Scope {
            prefix: &self.prefix,
            path: PATH,
            secure: self.secure,
        }
    }
}
