//! Shows the install page: the entry, for whom it is installed, and the form for a new installation or one that is there.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};

use super::{
    Pages,
    form::Errors,
    link::{Link, install_path},
    load::{Choice, everybody, load},
    problem::Problem,
    signin,
    view::{self, install::Shown},
};

pub(super) async fn show(
    State(pages): State<Arc<Pages>>,
    Path(entry): Path<String>,
    Query(link): Query<Link>,
    headers: HeaderMap,
) -> Response {
    let here = install_path(&entry, &link);
    let Some(session) = pages.session(&headers).await else {
        return signin::redirect(&pages.sign_in_path(&here));
    };
    let _in_flight = match pages.charge(&session, false) {
        Ok(in_flight) => in_flight,
        Err(problem) => return pages.refuse_to(&session, &here, &problem),
    };
    let opener = pages.services.of(&session.token);
    let problem = match load(&opener, &entry, Choice::Link(&link)).await {
        Ok(Some(loaded)) => {
            // The page is complete without it.
            let everybody = match loaded.admin {
                true => everybody(&opener, &loaded.entry).await.ok(),
                false => None,
            };
            let shown = Shown {
                session: &session,
                link: &link,
                loaded: &loaded,
                entered: None,
                errors: &Errors::default(),
                everybody: everybody.as_ref(),
            };
            return view::install::page(&pages, StatusCode::OK, &shown);
        }
        Ok(None) => Problem::not_found(),
        Err(status) => Problem::of(&status, pages.sign_in_path(&here), format!("{}{here}", pages.prefix)),
    };
    pages.refuse_to(&session, &here, &problem)
}
