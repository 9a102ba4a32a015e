//! Shows how an installation comes along: its conditions as steps, live where there is JavaScript.

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
use contracts::registry::{
    Condition, ConditionStatus, ConditionType, Entry, Installation, InstallationState, entry::Server,
};
use tonic::{Code, Status};

use super::{
    Pages,
    install::{self, Link},
    problem::Problem,
    services::Opener,
    signin, view,
};
use crate::sentence::as_sentence;

const POLL: Duration = Duration::from_millis(700);
/// A stream ends after this time, so that no shutdown waits for it; the browser connects again.
const STREAM: Duration = Duration::from_secs(45);
/// After a change, services look again at what was ready. If one finds nothing to report, this is when waiting ends.
const SETTLED_AFTER: Duration = Duration::from_secs(20);

/// How far one step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing has been reported.
    Working,
    /// As it should be.
    Done,
    /// The opener must enter something.
    NeedsInput,
    /// Not as it should be.
    Failed,
}

/// One condition, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) title: &'static str,
    pub(super) progress: Progress,
    pub(super) text: String,
}

/// An installation, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) steps: Vec<Step>,
    pub(super) outcome: Progress,
    /// One or two sentences: what is, and what to do.
    pub(super) summary: String,
}

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
    let _under_way = match pages.charge(&session, false) {
        Ok(under_way) => under_way,
        Err(problem) => return pages.refuse_to(&session, &here, &problem),
    };
    let opener = pages.services.of(&session.token);
    let problem = match follow(&opener, &entry, &id, pages.clock.now()).await {
        Ok(Some((entry, _, look))) => {
            let shown = view::progress::Shown {
                session: &session,
                entry: &entry,
                id: &id,
                here: &here,
                form: &form,
                look: &look,
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

/// Looks at an installation of this entry; `None` where there is none for this opener.
async fn follow(
    opener: &Opener<'_>,
    entry: &str,
    id: &str,
    now: SystemTime,
) -> Result<Option<(Entry, Installation, Look)>, Status> {
    let valid = (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let Some(entry) = install::entry_name(entry).filter(|_| valid) else {
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

/// What conditions mean to people.
pub(super) fn look(entry: &Entry, installation: &Installation, tools: Option<usize>, now: SystemTime) -> Look {
    let changed = installation
        .update_time
        .and_then(|time| SystemTime::try_from(time).ok());
    let settled = changed.is_some_and(|changed| now.duration_since(changed).is_ok_and(|age| age > SETTLED_AFTER));
    let step = |kind: ConditionType, title, working: &str, done: &str| {
        let condition = installation
            .conditions
            .iter()
            .find(|condition| condition.r#type() == kind);
        let stale =
            condition.is_some_and(|condition| condition.observed_generation < installation.generation) && !settled;
        step(condition.filter(|_| !stale), title, working, done)
    };
    let mut steps = vec![step(
        ConditionType::CredentialReady,
        "Credential",
        "Waiting for the credential service.",
        "Everything that is needed is stored.",
    )];
    if let Some(text) = lacks_stored_credential(entry) {
        steps.push(Step {
            title: "Credential of the entry",
            progress: Progress::Failed,
            text,
        });
    }
    if matches!(entry.server, Some(Server::SelfHosted(_))) {
        steps.push(step(
            ConditionType::RuntimeReady,
            "Server",
            "Starting the server.",
            "The server runs.",
        ));
    }
    let found = match tools {
        Some(count) => format!("{} found.", counted(count)),
        None => "The tools are known.".to_owned(),
    };
    steps.push(step(
        ConditionType::ToolsDiscovered,
        "Tools",
        "Asking the server for its tools.",
        &found,
    ));
    if let Some(reinstall) = &installation.reinstall_required {
        let text = as_sentence(&reinstall.message);
        steps.insert(
            0,
            Step {
                title: "New input",
                progress: Progress::NeedsInput,
                text,
            },
        );
    }
    let worst = |progress| steps.iter().find(|step| step.progress == progress);
    let (outcome, summary) = if installation.delete_time.is_some() {
        (Progress::Failed, "This installation has been deleted.".to_owned())
    } else if let Some(step) = worst(Progress::NeedsInput) {
        (
            Progress::NeedsInput,
            format!("Something is still to be entered. {}", step.text),
        )
    } else if let Some(step) = worst(Progress::Failed) {
        (Progress::Failed, format!("{} failed. {}", step.title, step.text))
    } else if worst(Progress::Working).is_some() || installation.state() != InstallationState::Ready {
        (Progress::Working, "Working on it. This can take a minute.".to_owned())
    } else {
        let tools = tools.map_or_else(|| "it works".to_owned(), counted);
        (
            Progress::Done,
            format!("Ready: {tools}. Go back to where you came from and retry your call."),
        )
    };
    Look {
        steps,
        outcome,
        summary,
    }
}

/// What is wrong with the secrets that an admin stores once on the entry; `None` where nothing is.
pub(super) fn lacks_stored_credential(entry: &Entry) -> Option<String> {
    let credential = entry
        .conditions
        .iter()
        .find(|condition| condition.r#type() == ConditionType::CredentialReady)?;
    (credential.status() == ConditionStatus::False).then(|| {
        let why = as_sentence(&credential.message);
        format!("A credential is missing that all installations use: an admin must store it on the entry. {why}")
            .trim_end()
            .to_owned()
    })
}

fn step(condition: Option<&Condition>, title: &'static str, working: &str, done: &str) -> Step {
    let Some(condition) = condition else {
        return Step {
            title,
            progress: Progress::Working,
            text: working.to_owned(),
        };
    };
    let said = as_sentence(&condition.message);
    let or = |otherwise: &str| {
        if said.is_empty() {
            otherwise.to_owned()
        } else {
            said.clone()
        }
    };
    let (progress, text) = match condition.status() {
        ConditionStatus::True => (Progress::Done, done.to_owned()),
        ConditionStatus::False if needs_input(&condition.reason) => {
            (Progress::NeedsInput, or("A credential is still to be entered."))
        }
        ConditionStatus::False => (Progress::Failed, or("The service gave no reason.")),
        ConditionStatus::Unknown | ConditionStatus::Unspecified => (Progress::Working, or(working)),
    };
    Step { title, progress, text }
}

/// What the opener can put right in the form.
fn needs_input(reason: &str) -> bool {
    matches!(
        reason,
        "CREDENTIAL_REQUIRED" | "DESTINATION_CHANGED" | "CREDENTIAL_EXPIRED"
    )
}

fn counted(tools: usize) -> String {
    match tools {
        0 => "the server offers no tools".to_owned(),
        1 => "1 tool".to_owned(),
        n => format!("{n} tools"),
    }
}

/// The page's path and query below the public URL.
pub(super) fn progress_path(entry: &str, id: &str, link: &Link) -> String {
    let link = Link {
        installation: None,
        new: None,
        ..link.clone()
    };
    let form = install::path(entry, &link);
    let (path, query) = form
        .split_once('?')
        .map_or((form.as_str(), String::new()), |(path, query)| {
            (path, format!("?{query}"))
        });
    let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
    format!("{path}/progress/{id}{query}")
}

#[cfg(test)]
mod tests {
    use contracts::registry::{RemoteServer, SelfHostedServer};

    use super::*;

    fn remote() -> Entry {
        Entry {
            server: Some(Server::Remote(RemoteServer::default())),
            ..Entry::default()
        }
    }

    fn condition(kind: ConditionType, status: ConditionStatus, reason: &str, generation: i64) -> Condition {
        Condition {
            r#type: kind.into(),
            status: status.into(),
            reason: reason.to_owned(),
            message: "what happened".to_owned(),
            observed_generation: generation,
            ..Condition::default()
        }
    }

    fn installation(state: InstallationState, conditions: Vec<Condition>) -> Installation {
        Installation {
            state: state.into(),
            generation: 2,
            conditions,
            update_time: Some(SystemTime::UNIX_EPOCH.into()),
            ..Installation::default()
        }
    }

    #[test]
    fn is_ready_when_every_service_has_seen_the_last_change() {
        use {ConditionStatus::True, ConditionType::*};
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let ready = |seen| {
            installation(
                InstallationState::Ready,
                vec![
                    condition(CredentialReady, True, "", 2),
                    condition(ToolsDiscovered, True, "", seen),
                ],
            )
        };
        let done = look(&remote(), &ready(2), Some(3), now);
        assert_eq!(done.outcome, Progress::Done);
        assert!(done.summary.starts_with("Ready: 3 tools."));
        assert_eq!(look(&remote(), &ready(1), Some(3), now).outcome, Progress::Working);
        let later = now + SETTLED_AFTER;
        assert_eq!(
            look(&remote(), &ready(1), Some(3), later).outcome,
            Progress::Done,
            "nothing else is coming"
        );
    }

    #[test]
    fn a_credential_that_an_admin_must_store_is_not_asked_of_the_opener() {
        use {ConditionStatus::*, ConditionType::*};
        let conditions = vec![
            condition(CredentialReady, True, "", 2),
            condition(ToolsDiscovered, True, "", 2),
        ];
        let ready = installation(InstallationState::Ready, conditions);
        let stored = |status, reason| Entry {
            conditions: vec![condition(CredentialReady, status, reason, 1)],
            ..remote()
        };
        let lacking = look(
            &stored(False, "CREDENTIAL_REQUIRED"),
            &ready,
            None,
            SystemTime::UNIX_EPOCH,
        );
        assert_eq!((lacking.outcome, lacking.steps.len()), (Progress::Failed, 3));
        assert!(
            lacking
                .summary
                .contains("an admin must store it on the entry. What happened."),
            "{}",
            lacking.summary
        );
        let there = look(&stored(True, ""), &ready, None, SystemTime::UNIX_EPOCH);
        assert_eq!((there.outcome, there.steps.len()), (Progress::Done, 2));
    }

    #[test]
    fn says_what_failed_and_what_to_do() {
        use {ConditionStatus::*, ConditionType::*};
        let now = SystemTime::UNIX_EPOCH;
        let hosted = Entry {
            server: Some(Server::SelfHosted(SelfHostedServer::default())),
            ..Entry::default()
        };
        let crashed = installation(
            InstallationState::Failed,
            vec![
                condition(CredentialReady, True, "", 2),
                condition(RuntimeReady, False, "CRASH_LOOP", 2),
            ],
        );
        let crashed = look(&hosted, &crashed, None, now);
        assert_eq!(
            (crashed.outcome, crashed.summary.as_str()),
            (Progress::Failed, "Server failed. What happened.")
        );
        assert_eq!(crashed.steps.len(), 3);
        let missing = installation(
            InstallationState::Pending,
            vec![condition(CredentialReady, False, "CREDENTIAL_REQUIRED", 2)],
        );
        assert_eq!(look(&remote(), &missing, None, now).outcome, Progress::NeedsInput);
        assert_eq!(
            look(&remote(), &installation(InstallationState::Pending, vec![]), None, now).outcome,
            Progress::Working
        );
    }
}
