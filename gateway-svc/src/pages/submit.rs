//! Takes the install form: makes or changes the installation, then puts the secrets, then shows progress. A form that
//! comes twice does nothing twice.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use contracts::{
    credential::{ErrorReason, SecretValue},
    registry::{Installation, installation::Scope as Owner},
};
use secrecy::{ExposeSecret as _, SecretString};
use service_kit::{
    status::{Reason, StatusBuilder},
    turns::off_thread,
};
use tonic::{Code, Status};

use super::{
    MAX_FORM, Pages,
    form::{self, Accepted, Errors, Submission},
    guard::FormState,
    link::{Link, entry_name, install_path},
    load::{Choice, load},
    model::install::{GoesTo, Loaded},
    problem::{self, Problem},
    services::Opener,
    signin,
    view::{self, install::Shown},
};
use crate::buffers::Unread;

pub(super) async fn submit(
    State(pages): State<Arc<Pages>>,
    Path(entry): Path<String>,
    Query(link): Query<Link>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let here = install_path(&entry, &link);
    let back = format!("{}{here}", pages.prefix);
    // Until it is known who sends it, and that their own page does, nothing of the form is read.
    let Some(session) = pages.session(&headers).await else {
        return pages.refuse(&Problem::signed_out(pages.sign_in_path(&here)));
    };
    if !pages.came_from_our_pages(&headers) {
        return pages.refuse_to(&session, &here, &Problem::forged(back));
    }
    let _in_flight = match pages.charge(&session, true) {
        Ok(in_flight) => in_flight,
        Err(problem) => return pages.refuse_to(&session, &here, &problem.action("Open the page again", back)),
    };
    let (body, _room) = match pages.forms.read(body, session.user.id.as_str(), MAX_FORM).await {
        Ok(read) => read,
        Err(unread) => {
            let problem = Problem::unread(unread).action("Open the page again", back);
            return pages.refuse_to(&session, &here, &problem);
        }
    };
    let Some(mut submission) = off_thread(body.len(), || Submission::parse(body)).await else {
        let problem = Problem::unread(Unread::TooLarge).action("Open the page again", back);
        return pages.refuse_to(&session, &here, &problem);
    };
    let state = entry_name(&entry).and_then(|name| pages.open_form(&session, &name, &submission.state));
    let Some(state) = state else {
        return pages.refuse_to(&session, &here, &Problem::forged(back));
    };
    let opener = pages.services.of(&session.token);
    let outcome = match load(&opener, &entry, Choice::Form(&state)).await {
        Err(status) => Outcome::Refused(status),
        Ok(None) => Outcome::Gone,
        Ok(Some(loaded)) => apply(&pages, &opener, &state, loaded, &mut submission).await,
    };
    match outcome {
        Outcome::Done(installation) => {
            let id = installation.name.rsplit('/').next().unwrap_or_default();
            let kept = Link {
                installation: None,
                new: None,
                ..link
            };
            let query = install_path(&entry, &kept)
                .split_once('?')
                .map(|(_, query)| format!("?{query}"))
                .unwrap_or_default();
            signin::redirect(&format!("{}/install/{entry}/progress/{id}{query}", pages.prefix))
        }
        Outcome::Gone => pages.refuse_to(&session, &here, &Problem::not_found()),
        Outcome::Refused(status) => {
            pages.refuse_to(&session, &here, &Problem::of(&status, pages.sign_in_path(&here), back))
        }
        Outcome::Errors(loaded, errors) => {
            let shown = Shown {
                session: &session,
                link: &link,
                loaded: &loaded,
                entered: Some(&submission),
                errors: &errors,
                everybody: None,
            };
            view::install::page(&pages, StatusCode::UNPROCESSABLE_ENTITY, &shown)
        }
    }
}

/// What came of a submission.
enum Outcome {
    /// Everything is stored.
    Done(Box<Installation>),
    /// The form comes back, with what is wrong.
    Errors(Box<Loaded>, Errors),
    /// What it was for is not there any more.
    Gone,
    /// A page of its own says why.
    Refused(Status),
}

async fn apply(
    pages: &Pages,
    opener: &Opener<'_>,
    state: &FormState,
    loaded: Loaded,
    submission: &mut Submission,
) -> Outcome {
    let loaded = Box::new(loaded);
    let mut errors = Errors::default();
    let accepted = submission
        .check(&loaded.entry, &loaded.stored())
        .unwrap_or_else(|found| {
            errors = found;
            Accepted::default()
        });
    if let Some(moved) = loaded.moved() {
        let shown = state.goes_to.as_ref();
        if !matches!(shown, Some(GoesTo::Exactly(shown)) if *shown == moved.present_destination) {
            errors.general.push(
                "The entry was changed again while you looked at it. Check where your credential would go now."
                    .to_owned(),
            );
        } else if !submission.confirm {
            errors.fields.insert(
                "confirm".to_owned(),
                "Agree to what has changed, or leave this page to keep things as they are.".to_owned(),
            );
        }
    }
    if loaded.installation().is_none()
        && !loaded
            .scopes
            .iter()
            .any(|scope| scope.manageable && scope.value == submission.scope)
    {
        errors
            .fields
            .insert("scope".to_owned(), "Choose who the installation is for.".to_owned());
    }
    if !errors.is_empty() {
        return Outcome::Errors(loaded, errors);
    }
    let sent: Vec<String> = accepted.secrets.iter().map(|(key, _)| key.clone()).collect();
    match store(pages, opener, state, &loaded, &submission.scope, accepted).await {
        Ok(installation) => Outcome::Done(Box::new(installation)),
        Err(status) if matches!(status.code(), Code::Unauthenticated | Code::NotFound) => Outcome::Refused(status),
        Err(status) => {
            let mut errors = form::sort_violations(problem::violations(&status), &loaded.entry, &sent);
            if errors.is_empty() {
                errors = Errors::general(problem::explain(&status));
            }
            // The installation may be there by now, though its secrets are not.
            let id = loaded.entry.name.trim_start_matches("entries/");
            let now_there = match opener
                .installation_of(&loaded.entry.name, team(&submission.scope))
                .await
            {
                Ok(Some(installation)) if loaded.installation().is_none() => Some(installation.uid),
                _ => None,
            };
            let link = Link {
                installation: now_there,
                ..Link::default()
            };
            let choice = if link.installation.is_some() {
                Choice::Link(&link)
            } else {
                Choice::Form(state)
            };
            match load(opener, id, choice).await {
                Ok(Some(reloaded)) => Outcome::Errors(Box::new(reloaded), errors),
                Ok(None) => Outcome::Gone,
                Err(status) => Outcome::Refused(status),
            }
        }
    }
}

async fn store(
    pages: &Pages,
    opener: &Opener<'_>,
    state: &FormState,
    loaded: &Loaded,
    scope: &str,
    accepted: Accepted,
) -> Result<Installation, Status> {
    let values: std::collections::HashMap<String, String> = accepted.values.clone().into_iter().collect();
    let found = match loaded.installation() {
        Some(installation) => Some(installation.clone()),
        // A form sent twice, or another tab: the second one changes what the first has made.
        None => loaded
            .scopes
            .iter()
            .find(|other| other.value == scope)
            .and_then(|other| other.installation.clone()),
    };
    let installation = match found {
        Some(installation) => bring_up_to_date(opener, installation, values).await?,
        None => {
            let owner = match team(scope) {
                Some(team) => Owner::Team(team.to_owned()),
                None => Owner::User("users/me".to_owned()),
            };
            let wanted = Installation {
                entry: loaded.entry.name.clone(),
                scope: Some(owner),
                values: values.clone(),
                ..Installation::default()
            };
            let request_id = create_id(pages, state, scope, &accepted.values);
            match opener.create(wanted, request_id).await {
                Err(status) if status.code() == Code::AlreadyExists => {
                    let found = opener
                        .installation_of(&loaded.entry.name, team(scope))
                        .await?
                        .ok_or(status)?;
                    bring_up_to_date(opener, found, values).await?
                }
                created => created?,
            }
        }
    };
    let moved = loaded.moved().is_some();
    if !moved && accepted.secrets.is_empty() {
        return Ok(installation);
    }
    // Looked at again: what was shown is agreed to, and nothing that came after it.
    let credential = opener.credential(&installation.name).await?;
    let present = credential.present_destination;
    if state.goes_to.as_ref().is_some_and(|shown| !shown.covers(&present)) {
        return Err(stale());
    }
    if moved && credential.bound_destination != present {
        opener.confirm(&installation.name, present.clone()).await?;
    }
    if !accepted.secrets.is_empty() {
        let request_id = put_id(pages, state, &installation.name, &accepted.secrets);
        let values = accepted
            .secrets
            .into_iter()
            .map(|(key, secret)| SecretValue {
                key,
                value: secret.expose_secret().to_owned(),
            })
            .collect();
        opener.put(&installation.name, values, request_id, present).await?;
    }
    Ok(installation)
}

/// As credential-svc says it.
fn stale() -> Status {
    let reason = Reason::of(ErrorReason::DestinationStale, ErrorReason::as_str_name);
    StatusBuilder::new(Code::Aborted, reason, "it has changed since it was shown").build()
}

/// Changes an installation if something changes by it.
async fn bring_up_to_date(
    opener: &Opener<'_>,
    installation: Installation,
    values: std::collections::HashMap<String, String>,
) -> Result<Installation, Status> {
    if installation.values == values && installation.reinstall_required.is_none() {
        return Ok(installation);
    }
    let Installation { name, etag, .. } = installation;
    opener
        .update(Installation {
            name,
            etag,
            values,
            ..Installation::default()
        })
        .await
}

fn team(scope: &str) -> Option<&str> {
    scope.starts_with("teams/").then_some(scope)
}

fn create_id(pages: &Pages, state: &FormState, scope: &str, values: &BTreeMap<String, String>) -> String {
    let values = values.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]);
    pages
        .sealer
        .request_id(["create", state.form.as_str(), scope].into_iter().chain(values))
}

fn put_id(pages: &Pages, state: &FormState, installation: &str, secrets: &[(String, SecretString)]) -> String {
    let secrets = secrets
        .iter()
        .flat_map(|(key, secret)| [key.as_str(), secret.expose_secret()]);
    pages
        .sealer
        .request_id(["put", state.form.as_str(), installation].into_iter().chain(secrets))
}
