//! The account that an installation is connected to: what it is, and the buttons to connect and disconnect.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use contracts::credential::Connection;
use maud::{Markup, html};
use prost_types::Timestamp;
use url::Url;

use crate::pages::{
    Pages,
    link::{Link, connect_path},
    model::{connection::Account, install::GoesTo},
    session::Session,
};

/// Where the account is shown, and where what the opener entrusts would go.
pub(in crate::pages) struct Place<'a> {
    pub(in crate::pages) session: &'a Session,
    /// Slug of the entry.
    pub(in crate::pages) entry: &'a str,
    /// Uid of the installation.
    pub(in crate::pages) id: &'a str,
    pub(in crate::pages) link: &'a Link,
    /// As credential-svc says it.
    pub(in crate::pages) destination: &'a str,
}

/// The account, as a part of a page.
pub(in crate::pages) fn section(pages: &Pages, place: &Place<'_>, account: &Account<'_>) -> Markup {
    let heading = if account.by_person {
        "Connected account"
    } else {
        "Token"
    };
    html! {
        section.connection aria-labelledby="connection" {
            h2 #connection { (heading) }
            @match account.connection {
                Some(connection) => {
                    @if !connection.failure.is_empty() {
                        p.wanted { "A person must connect again. " (crate::sentence::as_sentence(&connection.failure)) }
                    }
                    @if !connection.demanded_scopes.is_empty() {
                        p.wanted {
                            "The account does not have these scopes: " span.wrap { (connection.demanded_scopes.join(" ")) } ". "
                            "The server demanded them, or the entry names them now. They are asked for when somebody connects again."
                        }
                    }
                    @if !connection.refusal.is_empty() {
                        p.wanted { "There is no new token. " (crate::sentence::as_sentence(&connection.refusal)) }
                    }
                    (details(connection))
                }
                None => p { "No account is connected." },
            }
            @if account.may_connect { (buttons(pages, place, account)) }
            @else if account.by_person { p { "Only the owner of the installation can connect an account or disconnect it." } }
        }
    }
}

fn details(connection: &Connection) -> Markup {
    html! {
        dl {
            @if !connection.account.is_empty() { dt { "Account" } dd.wrap { (connection.account) } }
            dt { "Authorization server" }
            dd.wrap { (connection.issuer) }
            @if let Some(time) = &connection.connect_time { dt { "Connected" } dd { (moment(time)) } }
            @if let Some(time) = &connection.refresh_time {
                dt { "Scopes" }
                dd.wrap {
                    @if connection.scopes.is_empty() { "The authorization server does not say." }
                    @else { (connection.scopes.join(" ")) }
                }
                dt { "Token issued" }
                dd { (moment(time)) }
                dt { "Token expires" }
                dd {
                    @match &connection.expire_time {
                        Some(time) => (moment(time)),
                        None => "The authorization server does not say",
                    }
                    @if connection.refreshable { "; it is renewed before that" }
                }
            }
        }
    }
}

/// To the minute.
fn moment(time: &Timestamp) -> Markup {
    let exact = time.to_string();
    let shown = exact.get(..16).unwrap_or(&exact).replace('T', " ");
    html! { time datetime=(exact) { (shown) " UTC" } }
}

fn buttons(pages: &Pages, place: &Place<'_>, account: &Account<'_>) -> Markup {
    let goes_to = Some(GoesTo::Exactly(place.destination.to_owned()));
    let installation = Some(format!("installations/{}", place.id));
    let entry = format!("entries/{}", place.entry);
    let state = pages.form_state(place.session, &entry, installation, goes_to);
    let to = |what| {
        format!(
            "{}{}",
            pages.prefix,
            connect_path(place.entry, place.id, what, place.link)
        )
    };
    let connected = account.connection.is_some();
    html! {
        @if account.incomplete {
            p { "Before you connect, enter what is missing or agree to what has changed: in the form of this installation." }
        } @else {
            form method="post" action=(to("connect")) {
                input type="hidden" name="state" value=(state);
                p { "You sign in at the authorization server, and come back here." }
                button type="submit" { @if connected { "Connect again" } @else { "Connect" } }
            }
        }
        @if connected {
            form method="post" action=(to("disconnect")) {
                input type="hidden" name="state" value=(state);
                p.help { "Disconnecting ends the access that you allowed, and deletes what else you entered for this installation." }
                button.quiet type="submit" { "Disconnect" }
            }
        }
    }
}

/// Sends the browser to the authorization server. No redirect: browsers apply the policy for forms to where one redirects, and the authorization
/// server is known only now.
pub(in crate::pages) fn leave(pages: &Pages, session: &Session, here: &str, to: &Url) -> Response {
    let host = to.host_str().unwrap_or_default();
    let body = html! {
        h1 { "Going to " span.wrap { (host) } }
        p { "You are sent to " strong.wrap { (host) } " to sign in and to allow access. Then you come back." }
        p { a.button href=(to.as_str()) rel="noreferrer" { "Go on" } }
    };
    let mut response = pages.page(StatusCode::OK, "Connecting", Some((session, here)), &body, false);
    let headers = response.headers_mut();
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(refresh) = HeaderValue::try_from(format!("0;url={to}")) {
        headers.insert(HeaderName::from_static("refresh"), refresh);
    }
    response
}
