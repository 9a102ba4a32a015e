//! The progress page.

use axum::{http::StatusCode, response::Response};
use contracts::registry::Entry;
use maud::{Markup, html};

use super::words::name;
use crate::pages::{
    Pages,
    link::{Link, install_path},
    model::progress::{Look, Progress},
    session::Session,
};

/// What the view is made from.
pub(in crate::pages) struct Shown<'a> {
    pub(in crate::pages) session: &'a Session,
    pub(in crate::pages) entry: &'a Entry,
    pub(in crate::pages) id: &'a str,
    /// The page's own path and query.
    pub(in crate::pages) here: &'a str,
    /// The link to the form.
    pub(in crate::pages) form: &'a Link,
    pub(in crate::pages) look: &'a Look,
    /// The account that the installation is connected to, as a part of the page.
    pub(in crate::pages) account: Option<Markup>,
}

pub(in crate::pages) fn page(pages: &Pages, shown: &Shown<'_>) -> Response {
    let Shown {
        session,
        entry,
        id,
        here,
        form,
        look,
        account,
    } = shown;
    let slug = entry.name.strip_prefix("entries/").unwrap_or(&entry.name);
    let (path, query) = here
        .split_once('?')
        .map_or((*here, String::new()), |(path, query)| (path, format!("?{query}")));
    let live = look.outcome != Progress::Done;
    let body = html! {
        h1 { "Installing " (name(entry)) }
        div #progress data-installation=(id) data-outcome=(word(look.outcome))
            data-events=[live.then(|| format!("{}{path}/events{query}", pages.prefix))] {
            p #summary role="status" { (look.summary) }
            div #details { (details(pages, slug, form, look)) }
        }
        @if let Some(account) = account { (account) }
        @if live {
            p #refresh { a href={ (pages.prefix) (here) } { "Refresh this page" } " to see how it goes on." }
        }
    };
    let title = format!("Installing {}", name(entry));
    pages.page(StatusCode::OK, &title, Some((session, here)), &body, live)
}

/// The steps, and what to do next. Sent anew with each change.
pub(in crate::pages) fn details(pages: &Pages, slug: &str, form: &Link, look: &Look) -> Markup {
    let to_form = format!("{}{}", pages.prefix, install_path(slug, form));
    html! {
        // Tells programs that the list is not final; people hear the summary.
        ol.steps aria-busy=[(look.outcome == Progress::Working).then_some("true")] {
            @for step in &look.steps {
                li data-progress=(word(step.progress)) {
                    strong { (step.title) } " " span.mark { (mark(step.progress)) }
                    p { (step.text) }
                }
            }
        }
        @match look.outcome {
            Progress::Done => p { "You can close this page. " a href=(to_form) { "Look at the installation" } },
            Progress::NeedsInput => p { a.button href=(to_form) { "Enter it" } },
            Progress::Failed => p {
                "If it was something you entered, " a href=(to_form) { "change it" }
                ". If not, tell the people who curate this entry what it says above."
            },
            Progress::Working => p { "You can close this page: it goes on without it." },
        }
    }
}

/// For style and tests.
pub(in crate::pages) fn word(progress: Progress) -> &'static str {
    match progress {
        Progress::Working => "working",
        Progress::Done => "done",
        Progress::NeedsInput => "needs-input",
        Progress::Failed => "failed",
    }
}

/// For people.
fn mark(progress: Progress) -> &'static str {
    match progress {
        Progress::Working => "in progress",
        Progress::Done => "done",
        Progress::NeedsInput => "needs you",
        Progress::Failed => "failed",
    }
}
