//! The pages' HTML.

pub(super) mod authorize;
pub(super) mod connection;
mod consent;
mod everybody;
mod fields;
pub(super) mod home;
pub(super) mod install;
pub(super) mod progress;
pub(super) mod signin;
mod words;

use axum::{
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, html};

use super::{Pages, problem::Problem, session::Session};

/// Nothing from elsewhere, nothing inline, no frames, forms only to us.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

impl Pages {
    /// A page that explains a problem to somebody who is not signed in.
    pub(super) fn refuse(&self, problem: &Problem) -> Response {
        self.explain(problem, None)
    }

    /// A page that explains a problem to somebody who is; `here` is where they are.
    pub(super) fn refuse_to(&self, session: &Session, here: &str, problem: &Problem) -> Response {
        self.explain(problem, (!problem.ends_session).then_some((session, here)))
    }

    fn explain(&self, problem: &Problem, account: Option<(&Session, &str)>) -> Response {
        let body = html! {
            h1 { (problem.title) }
            p { (problem.text) }
            @if let Some((label, path)) = &problem.action {
                p { a.button href=(path) { (label) } }
            }
        };
        let mut response = self.page(problem.status, problem.title, account, &body, false);
        if problem.ends_session {
            self.end_session(response.headers_mut());
        }
        if let Some(seconds) = problem.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }

    /// A whole page. `account` is who is signed in, and where they are below the public URL.
    fn page(
        &self,
        status: StatusCode,
        title: &str,
        account: Option<(&Session, &str)>,
        body: &Markup,
        live: bool,
    ) -> Response {
        let prefix = &self.prefix;
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="robots" content="noindex";
                    title { (title) " – Chandlery" }
                    link rel="stylesheet" href={ (prefix) "/static/pages.css" };
                    @if live { script src={ (prefix) "/static/progress.js" } defer {} }
                }
                body {
                    a.skip href="#main" { "Skip to the content" }
                    header {
                        span.brand { "Chandlery" }
                        @if let Some((session, here)) = account {
                            form method="post" action={ (prefix) "/signout" } {
                                span.who { (who(session)) }
                                input type="hidden" name="return" value=(here);
                                button.quiet type="submit" { "Sign out" }
                            }
                        }
                    }
                    main #main tabindex="-1" { (body) }
                }
            }
        };
        let headers = [
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::CACHE_CONTROL, "no-store"),
            // With no-referrer browsers would send `Origin: null` with our own forms.
            (header::REFERRER_POLICY, "same-origin"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ];
        (status, headers, page).into_response()
    }
}

/// The name by which people know the account.
fn who(session: &Session) -> &str {
    let user = &session.user;
    user.email
        .as_deref()
        .or(user.display_name.as_deref())
        .unwrap_or(&user.subject)
}
