//! Shows the progress of an installation, live where there is JavaScript.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use contracts::{
    credential::Credential,
    registry::{Entry, Installation, InstallationState},
};
use tonic::{Code, Status};

use super::{
    Pages,
    link::{Link, entry_name, progress_path},
    model::{
        connection,
        progress::{Look, Progress, look},
    },
    problem::Problem,
    services::Opener,
    signin, view,
};

const POLL: Duration = Duration::from_millis(700);
/// A stream ends after this time, so that no shutdown waits for it; the browser connects again.
const STREAM: Duration = Duration::from_secs(45);

pub(super) async fn show(
    State(pages): State<Arc<Pages>>,
    Path((entry, id)): Path<(String, String)>,
    Query(link): Query<Link>,
    headers: HeaderMap,
) -> Response {
    let form = Link {
        installation: Some(id.clone()),
        ..link.clone()
    };
    let here = progress_path(&entry, &id, &link);
    let Some(session) = pages.session(&headers).await else {
        return signin::redirect(&pages.sign_in_path(&here));
    };
    let _in_flight = match pages.charge(&session, false) {
        Ok(in_flight) => in_flight,
        Err(problem) => return pages.refuse_to(&session, &here, &problem),
    };
    let opener = pages.services.of(&session.token);
    let problem = match follow(&opener, &entry, &id, pages.clock.now()).await {
        Ok(Some((entry, installation, look))) => {
            let account = match connected(&opener, &entry, &installation).await {
                Ok(connected) => connected,
                Err(status) => {
                    let back = format!("{}{here}", pages.prefix);
                    let problem = Problem::of(&status, pages.sign_in_path(&here), back);
                    return pages.refuse_to(&session, &here, &problem);
                }
            };
            let account = account.as_ref().and_then(|(credential, me)| {
                let account = connection::account(&entry, &installation, credential, me)?;
                let place = view::connection::Place {
                    session: &session,
                    entry: entry.name.trim_start_matches("entries/"),
                    id: &id,
                    link: &link,
                    destination: &credential.present_destination,
                };
                Some(view::connection::section(&pages, &place, &account))
            });
            let shown = view::progress::Shown {
                session: &session,
                entry: &entry,
                id: &id,
                here: &here,
                form: &form,
                look: &look,
                account,
            };
            return view::progress::page(&pages, &shown);
        }
        Ok(None) => Problem::not_found(),
        Err(status) => Problem::of(&status, pages.sign_in_path(&here), format!("{}{here}", pages.prefix)),
    };
    pages.refuse_to(&session, &here, &problem)
}

pub(super) async fn events(
    State(pages): State<Arc<Pages>>,
    Path((entry, id)): Path<(String, String)>,
    Query(link): Query<Link>,
    headers: HeaderMap,
) -> Response {
    let Some(session) = pages.session(&headers).await else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let (quotas, caller) = (&pages.quotas, session.caller());
    let open = match quotas.requests(&caller, 1).and_then(|()| quotas.stream(&caller)) {
        Ok(open) => open,
        Err(exceeded) => {
            return (
                StatusCode::TOO_MANY_REQUESTS,
                [(header::RETRY_AFTER, exceeded.retry_after())],
            )
                .into_response();
        }
    };
    let Ok(permit) = Arc::clone(&pages.streams).try_acquire_owned() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let events = async_stream::stream! {
        let _held = (permit, open);
        let ends = tokio::time::Instant::now() + STREAM;
        let form = Link { installation: Some(id.clone()), ..link };
        let mut last = None;
        while tokio::time::Instant::now() < ends {
            let opener = pages.services.of(&session.token);
            match follow(&opener, &entry, &id, pages.clock.now()).await {
                Ok(Some((_, _, look))) => {
                    let done = look.outcome == Progress::Done;
                    if last.as_ref() != Some(&look) {
                        yield Ok::<_, Infallible>(event("progress", &pages, &entry, &form, &look));
                        last = Some(look);
                    }
                    if done {
                        yield Ok(Event::default().event("end").data("ready"));
                        break;
                    }
                }
                // The registry may be back in a moment.
                Err(status) if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) => {}
                // Gone, or no longer visible: the page says so when it is loaded again.
                Ok(None) | Err(_) => {
                    yield Ok(Event::default().event("end").data("reload"));
                    break;
                }
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let mut response = Sse::new(events)
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
        .into_response();
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, axum::http::HeaderValue::from_static("no-store"));
    response
        .headers_mut()
        .insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    response
}

fn event(name: &str, pages: &Pages, entry: &str, form: &Link, look: &Look) -> Event {
    let details = view::progress::details(pages, entry, form, look).into_string();
    let data = serde_json::json!({ "summary": look.summary, "outcome": view::progress::word(look.outcome), "details": details });
    Event::default()
        .event(name)
        .data(data.to_string())
        .retry(Duration::from_secs(1))
}

/// What is known of the installation's account, and who the opener is; `None` where there can be none, or where the opener may not know.
async fn connected(
    opener: &Opener<'_>,
    entry: &Entry,
    installation: &Installation,
) -> Result<Option<(Credential, String)>, Status> {
    if !connection::has_account(entry) {
        return Ok(None);
    }
    match tokio::try_join!(opener.credential(&installation.name), opener.me()) {
        Ok((credential, me)) => Ok(Some((credential, me.name))),
        Err(status) if status.code() == Code::PermissionDenied => Ok(None),
        Err(status) => Err(status),
    }
}

/// Looks at an installation of this entry; `None` where there is none for this opener.
async fn follow(
    opener: &Opener<'_>,
    entry: &str,
    id: &str,
    now: SystemTime,
) -> Result<Option<(Entry, Installation, Look)>, Status> {
    let valid = (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let Some(entry) = entry_name(entry).filter(|_| valid) else {
        return Ok(None);
    };
    let name = format!("installations/{id}");
    let (entry, installation) = tokio::try_join!(opener.entry(&entry), opener.installation(&name))?;
    if installation.entry != entry.name {
        return Ok(None);
    }
    let tools = match installation.state() {
        InstallationState::Ready => Some(opener.count_tools(&name).await?),
        _ => None,
    };
    let look = look(&entry, &installation, tools, now);
    Ok(Some((entry, installation, look)))
}
