//! The install page.

use axum::{http::StatusCode, response::Response};
use contracts::registry::{ConditionStatus, Entry, EntryLifecycle, InstallationState, entry::Server};
use maud::{Markup, html};
use registry_model::install_fields::is_secret;

use super::{
    connection::Place,
    consent, everybody, fields,
    signin::display,
    who,
    words::{name, slug, state_text},
};
use crate::{
    pages::{
        Pages,
        form::{Errors, Submission, prompted},
        link::{Link, entry_name, install_path, progress_path},
        model::{
            connection,
            everybody::Everybody,
            install::{Loaded, Scope, Target, destination},
            progress::{lacks_stored_credential, shared_server_failure},
        },
        session::Session,
    },
    sentence::as_sentence,
};

/// What the view is made from.
pub(in crate::pages) struct Shown<'a> {
    pub(in crate::pages) session: &'a Session,
    pub(in crate::pages) link: &'a Link,
    pub(in crate::pages) loaded: &'a Loaded,
    /// What was submitted, where the form comes back.
    pub(in crate::pages) entered: Option<&'a Submission>,
    pub(in crate::pages) errors: &'a Errors,
    /// Of an admin alone.
    pub(in crate::pages) everybody: Option<&'a Everybody>,
}

pub(in crate::pages) fn page(pages: &Pages, status: StatusCode, shown: &Shown<'_>) -> Response {
    let Shown {
        session,
        link,
        loaded,
        errors,
        ..
    } = shown;
    let entry = &loaded.entry;
    let here = install_path(slug(entry), link);
    let verb = if loaded.installation().is_some() {
        "Manage"
    } else {
        "Install"
    };
    let body = html! {
        h1 { (verb) " " (name(entry)) }
        (errors_summary(shown))
        (account(pages, session, link, loaded))
        (about(entry))
        @match (&loaded.target, can_install(entry)) {
            (Target::New, false) => { (closed(entry)) }
            (Target::Existing { scope, .. }, _) => { (existing(pages, shown, &loaded.scopes[*scope], &here)) }
            (Target::New, true) => { (form(pages, shown, &here)) }
        }
        (others(pages, entry, link, loaded))
        @if let Some(everybody) = shown.everybody { (everybody::section(pages, entry, link, everybody)) }
    };
    let title = format!("{verb} {}", name(entry));
    let title = if errors.is_empty() {
        title
    } else {
        format!("Error: {title}")
    };
    pages.page(status, &title, Some((session, here.as_str())), &body, false)
}

/// Everything that is wrong, each leading to its field.
fn errors_summary(shown: &Shown<'_>) -> Markup {
    let errors = shown.errors;
    let place = |key: &str| prompted(&shown.loaded.entry).position(|field| field.key == key);
    let mut of_fields: Vec<_> = errors.fields.iter().collect();
    // As the form has them; what belongs to no field comes first, as it does there.
    of_fields.sort_by_key(|(key, _)| place(key));
    html! {
        @if !errors.is_empty() {
            div.errors role="alert" tabindex="-1" {
                h2 { "This was not saved yet" }
                ul {
                    @for text in &errors.general { li { (text) } }
                    @for (key, text) in of_fields {
                        li { a href={ "#" (target_id(key, shown)) } { (text) } }
                    }
                }
                @if prompted(&shown.loaded.entry).any(is_secret) {
                    p { "Secrets are never sent back to your browser: enter them again." }
                }
            }
        }
    }
}

fn target_id(key: &str, shown: &Shown<'_>) -> String {
    let is_field = prompted(&shown.loaded.entry).any(|field| field.key == key);
    match key {
        "scope" if !is_field => "scope-0".to_owned(),
        "confirm" if !is_field => "confirm".to_owned(),
        key => fields::id(key),
    }
}

/// For whom, and a warning that the link may have come from somebody else.
fn account(pages: &Pages, session: &Session, link: &Link, loaded: &Loaded) -> Markup {
    let user = &session.user;
    let issuer = pages.verifier.issuers().find(|issuer| issuer.issuer == user.issuer);
    let doing = if loaded.installation().is_some() {
        "You are signed in as"
    } else {
        "This installs for"
    };
    let through = match (&link.gateway, &link.agent) {
        (Some(gateway), _) if is_slug(gateway) => Some(("the gateway", gateway)),
        (_, Some(agent)) if is_slug(agent) => Some(("the agent", agent)),
        _ => None,
    };
    html! {
        section.account aria-labelledby="account" {
            h2 #account { (doing) }
            p.identity { strong { (who(session)) } }
            p.issuer {
                "Signed in with "
                @if let Some(issuer) = issuer.filter(|issuer| issuer.display_name.is_some()) { (display(issuer)) ", " }
                span.wrap { (user.issuer) }
            }
            p {
                @if let Some((kind, slug)) = through { "The call that led here came through " (kind) " " strong { (slug) } ". It " }
                @else { "If a call led you here, it " }
                "may have been made by somebody else. Go on only if you know what it is for, and if this is the account to use."
            }
        }
    }
}

/// What the entry is.
fn about(entry: &Entry) -> Markup {
    let destination = destination(entry).map(|destination| destination.description);
    html! {
        section.about aria-labelledby="about" {
            h2 #about { "About " (name(entry)) }
            @if !entry.description.is_empty() { (paragraphs(&entry.description)) }
            dl {
                @if let Some(destination) = &destination {
                    @match &entry.server {
                        Some(Server::SelfHosted(_)) => {
                            dt { "What runs" }
                            dd { "Chandlery runs " code.wrap { (destination) } " for you. What you enter goes to it." }
                        }
                        _ => {
                            dt { "Where it goes" }
                            dd { "What you enter is sent to " code.wrap { (destination) } ", and nowhere else." }
                        }
                    }
                }
                @if !entry.version.is_empty() { dt { "Version" } dd { (entry.version) } }
                @if let Some(url) = safe_link(&entry.docs_url) {
                    dt { "Documentation" }
                    dd { a.wrap href=(url) rel="noreferrer noopener" target="_blank" { (url) " (opens a new tab)" } }
                }
            }
            @if !entry.instructions.is_empty() {
                h3 { "How to install" }
                (paragraphs(&entry.instructions))
            }
        }
    }
}

/// The state of an installation, and the form to change it.
fn existing(pages: &Pages, shown: &Shown<'_>, scope: &Scope, here: &str) -> Markup {
    let entry = &shown.loaded.entry;
    let Some(installation) = &scope.installation else {
        return html! {};
    };
    let moved = shown.loaded.moved().is_some();
    let failure = shared_server_failure(entry);
    let state = match installation.state() {
        InstallationState::Ready if failure.is_some() => InstallationState::Failed,
        state => state,
    };
    html! {
        section aria-labelledby="state" {
            h2 #state { (state_heading(scope)) }
            p.state data-state=(state.as_str_name()) { (state_text(state)) }
            @if let Some(reinstall) = &installation.reinstall_required {
                p.wanted { "The entry has changed and needs something from you. " (reinstall.message) }
            }
            @for condition in installation.conditions.iter().filter(|condition| condition.status() == ConditionStatus::False) {
                p { (as_sentence(&condition.message)) }
            }
            @if let Some(text) = lacks_stored_credential(entry) { p { (text) } }
            @if let Some(text) = failure { p { (text) } }
            p { a href={ (pages.prefix) (progress_path(slug(entry), &installation.uid, shown.link)) } { "See each step" } }
        }
        @if let Some(credential) = shown.loaded.credential()
            && let Some(account) = connection::account(entry, installation, credential, &shown.loaded.me) {
            (super::connection::section(pages, &Place {
                session: shown.session,
                entry: slug(entry),
                id: &installation.uid,
                link: shown.link,
                destination: &credential.present_destination,
            }, &account))
        }
        @if scope.manageable {
            @if prompted(entry).next().is_some() || moved || installation.reinstall_required.is_some() {
                (form(pages, shown, here))
            } @else if !connection::connects(entry) {
                p { "There is nothing to enter for it." }
            }
        } @else {
            p { "Only admins may change it." }
        }
    }
}

fn state_heading(scope: &Scope) -> String {
    match scope.value.as_str() {
        "me" => "You have this installed".to_owned(),
        _ => format!("{} has this installed", scope.label),
    }
}

fn form(pages: &Pages, shown: &Shown<'_>, here: &str) -> Markup {
    let Shown {
        session,
        loaded,
        entered,
        errors,
        ..
    } = shown;
    let entry = &loaded.entry;
    let installation = loaded.installation();
    let stored = loaded.stored();
    let wanted = installation
        .and_then(|found| found.reinstall_required.as_ref())
        .map(|needed| needed.fields.as_slice());
    let context = fields::Context {
        installation,
        entered: *entered,
        errors,
        stored: &stored,
        wanted: wanted.unwrap_or_default(),
    };
    let sealed = pages.form_state(
        session,
        &entry.name,
        installation.map(|found| found.name.clone()),
        loaded.goes_to(),
    );
    let nothing = prompted(entry).next().is_none();
    html! {
        form.install method="post" action={ (pages.prefix) (here) } novalidate aria-labelledby="enter" {
            h2 #enter { @if installation.is_some() { "Change it" } @else if nothing { "Nothing to enter" } @else { "What it needs" } }
            @if nothing && installation.is_none() {
                @if connection::connects(entry) { p { "It needs no settings. Once it is installed, you connect an account." } }
                @else { p { "It needs no credential and no settings." } }
            }
            input type="hidden" name="state" value=(sealed);
            @if installation.is_none() { (scopes(shown)) }
            @for field in prompted(entry) { (fields::field(field, &context)) }
            @if let Some(moved) = loaded.moved() { (consent::question(moved, errors)) }
            button type="submit" { @if installation.is_some() { "Save" } @else { "Install" } }
        }
    }
}

/// Personal, or for a team.
fn scopes(shown: &Shown<'_>) -> Markup {
    let free: Vec<&Scope> = shown
        .loaded
        .scopes
        .iter()
        .filter(|scope| scope.manageable && scope.installation.is_none())
        .collect();
    let chosen = shown.entered.map(|entered| entered.scope.as_str()).unwrap_or_default();
    let chosen = if free.iter().any(|scope| scope.value == chosen) {
        chosen
    } else {
        free.first().map_or("", |scope| &scope.value)
    };
    let error = shown.errors.fields.get("scope");
    html! {
        @if let [only] = free.as_slice() {
            input type="hidden" name="scope" value=(only.value);
            p.scope { strong { "For: " } @if only.value == "me" { "only you. Calls you make use it; nobody else's do." } @else { (only.label) } }
        } @else {
            fieldset aria-describedby=[error.map(|_| "scope-error")] {
                legend { "Installs for" }
                @if let Some(error) = error { p.error #scope-error { (error) } }
                @for (index, scope) in free.iter().enumerate() {
                    div.choice {
                        input type="radio" name="scope" id={ "scope-" (index) } value=(scope.value) checked[scope.value == chosen];
                        label for={ "scope-" (index) } {
                            (scope.label)
                            @if scope.value == "me" { span.help { " – nobody else's calls use it" } }
                            @else { span.help { " – every member's calls may use what you enter" } }
                        }
                    }
                }
            }
        }
    }
}

fn closed(entry: &Entry) -> Markup {
    html! {
        section aria-labelledby="closed" {
            h2 #closed { "This cannot be installed" }
            p {
                @if entry.lifecycle() == EntryLifecycle::Deprecated {
                    "The entry is deprecated: it goes on for those who have it, but nobody new can install it."
                } @else {
                    "The entry is a draft. It can be installed once an admin has approved it."
                }
            }
        }
    }
}

/// The other installations of this entry that concern the opener.
fn others(pages: &Pages, entry: &Entry, link: &Link, loaded: &Loaded) -> Markup {
    let shown = loaded.installation().map(|installation| &installation.name);
    let others: Vec<_> = loaded
        .scopes
        .iter()
        .filter_map(|scope| Some((scope, scope.installation.as_ref()?)))
        .filter(|(_, installation)| Some(&installation.name) != shown)
        .collect();
    let free = shown.is_some()
        && can_install(entry)
        && loaded
            .scopes
            .iter()
            .any(|scope| scope.manageable && scope.installation.is_none());
    let to = |link: Link| format!("{}{}", pages.prefix, install_path(slug(entry), &link));
    let base = Link {
        installation: None,
        new: None,
        ..link.clone()
    };
    html! {
        @if free || !others.is_empty() {
            section aria-labelledby="others" {
                h2 #others { "Other installations" }
                ul {
                    @for (scope, installation) in others {
                        li {
                            a href=(to(Link { installation: Some(installation.uid.clone()), ..base.clone() })) { (scope.label) }
                            ": " (state_text(installation.state()))
                        }
                    }
                    @if free {
                        li { a href=(to(Link { new: Some("1".to_owned()), ..base.clone() })) { @if loaded.scopes[0].installation.is_none() { "Install it for yourself" } @else { "Install it for a team" } } }
                    }
                }
            }
        }
    }
}

fn can_install(entry: &Entry) -> bool {
    entry.lifecycle() == EntryLifecycle::Approved
}

fn is_slug(text: &str) -> bool {
    entry_name(text).is_some()
}

/// Only what a browser can follow without harm.
fn safe_link(url: &str) -> Option<&str> {
    (url.starts_with("https://") || url.starts_with("http://")).then_some(url)
}

/// Plain text: an empty line separates paragraphs, a line break stays one.
fn paragraphs(text: &str) -> Markup {
    html! {
        @for paragraph in text.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty()) {
            p.text { (paragraph) }
        }
    }
}
