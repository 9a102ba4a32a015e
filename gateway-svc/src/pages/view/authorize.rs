//! Whether an MCP client may call a gateway for a person.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use maud::html;
use service_kit::identity::IssuerConfig;

use super::signin::display;
use crate::{facade::Asked, pages::Pages};

/// The title where a client's request is refused.
pub(in crate::pages) const NOT_CONNECTED: &str = "This client cannot be connected";

/// Asks. `sealed` is what was asked for.
pub(in crate::pages) fn question(pages: &Pages, asked: &Asked, issuers: &[&IssuerConfig], sealed: &str) -> Response {
    let body = html! {
        h1 { "Allow " span.wrap { (asked.client) } " to use your tools?" }
        p {
            "It will be able to call every tool of " strong.wrap { (asked.endpoint) } " as you, with the accounts that you have connected."
        }
        dl {
            dt { "Client" }
            dd.wrap {
                (asked.client)
                @match &asked.vouched_by {
                    Some(host) => { ", says " strong { (host) } },
                    None => { " (it calls itself so; nobody has checked that)" },
                }
            }
            dt { "Access goes to" }
            dd.wrap { strong { (asked.destination) } }
            dt { "Tools of" }
            dd.wrap { (asked.endpoint) }
        }
        p { "Allow this only if you have just connected this client yourself." }
        form method="post" action={ (pages.prefix) "/oauth/authorize" } {
            input type="hidden" name="request" value=(sealed);
            ul.choices {
                @for issuer in issuers {
                    li {
                        button type="submit" name="issuer" value=(issuer.issuer) { "Allow, and sign in with " (display(issuer)) }
                    }
                }
                li { button.quiet type="submit" { "Do not allow" } }
            }
        }
    };
    pages.page(StatusCode::OK, "Allow a client", None, &body, false)
}

/// Says what is wrong with the client's request. `back` tells the client, which is at this destination.
pub(in crate::pages) fn refused(pages: &Pages, why: &str, destination: &str, back: &str) -> Response {
    let body = html! {
        h1 { (NOT_CONNECTED) }
        p {
            "Its request is not valid: " (why) ". Nothing was allowed. The people who maintain the client must correct it."
        }
        p { "If you came here from " strong.wrap { (destination) } ", you can go back there, where you may be told more. Else close this page." }
        p { a.wrap href=(back) rel="noreferrer" { "Go back to " (destination) } }
    };
    pages.page(StatusCode::BAD_REQUEST, NOT_CONNECTED, None, &body, false)
}

/// Sends the browser on. No redirect: browsers apply the policy for forms to where one redirects, and where the way ends is not known here.
pub(in crate::pages) fn onward(pages: &Pages, to: &str) -> Response {
    let body = html! {
        h1 { "One moment" }
        p { "If nothing happens, " a href=(to) rel="noreferrer" { "go on" } "." }
    };
    let mut response = pages.page(StatusCode::OK, "One moment", None, &body, false);
    let headers = response.headers_mut();
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(refresh) = HeaderValue::try_from(format!("0;url={to}")) {
        headers.insert(HeaderName::from_static("refresh"), refresh);
    }
    response
}
