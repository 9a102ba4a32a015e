//! Where authorization servers send browsers back to (RFC 6749, section 4.1.2).
//!
//! The query has a code. Whatever comes of it, the browser is sent on: the URL with the code is on no page, and stays in no history.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, RawQuery, State},
    http::HeaderMap,
    response::Response,
};
use contracts::credential::FinishAuthorizationRequest;
use serde::{Deserialize, Serialize};
use url::form_urlencoded;
use zeroize::Zeroize as _;

use super::{
    Pages,
    connect::Pending,
    link::progress_path,
    not_connected::{NotConnected, Why},
    problem::Problem,
    signin,
};

const PURPOSE: &str = "not connected";
const CALLBACK: &str = "/oauth/callback";
const PROBLEM: &str = "/oauth/problem";
/// Bytes of the parameters, as they are sent on. Codes of real servers can have 2 KiB.
const MAX_CODE: usize = 8 << 10;
const MAX_PARAMETER: usize = 2 << 10;

pub(super) async fn callback(
    State(pages): State<Arc<Pages>>,
    server: Option<Path<String>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let Some(mut answer) = parse(query.as_deref().unwrap_or_default()) else {
        return pages.stop(None, &NotConnected::from(Why::Malformed));
    };
    // Each authorization server has its own path: an answer of another is seen by that.
    answer.redirect_uri = match server {
        Some(Path(tag)) => format!("{}{CALLBACK}/{tag}", pages.public),
        None => format!("{}{CALLBACK}", pages.public),
    };
    let Some(pending) = pages.remembered(&headers, &answer.state) else {
        return pages.stop(None, &NotConnected::from(Why::Foreign));
    };
    let state = answer.state.clone();
    let mut response = match pages.finish_connecting(&headers, &pending, answer).await {
        Ok(()) => {
            let done = progress_path(&pending.entry, &pending.id, &pending.link);
            signin::redirect(&format!("{}{done}", pages.prefix))
        }
        Err(why) => pages.stop(Some(&pending), &why),
    };
    pages.forget(response.headers_mut(), &state);
    response
}

/// Says why nothing was connected.
pub(super) async fn problem(State(pages): State<Arc<Pages>>, Query(shown): Query<Shown>) -> Response {
    let Some(stopped) = pages.sealer.open::<Stopped>(PURPOSE, &shown.p) else {
        return pages.refuse(&Problem::not_found());
    };
    let problem = stopped.why.problem();
    match stopped.installation {
        Some(path) if stopped.why.requires_sign_in() => {
            pages.refuse(&problem.action("Sign in", pages.sign_in_path(&path)))
        }
        Some(path) => pages.refuse(&problem.action("Back to the installation", format!("{}{path}", pages.prefix))),
        None => pages.refuse(&problem),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Shown {
    p: String,
}

/// What the page of a failure says. Sealed, so that nobody else can put words on it.
#[derive(Serialize, Deserialize)]
struct Stopped {
    why: NotConnected,
    /// Path of the installation's page below the public URL.
    installation: Option<String>,
}

/// The parameters; `None` if they cannot be those of an answer: one occurs twice (RFC 6749, section 3.1), or is too long.
fn parse(query: &str) -> Option<FinishAuthorizationRequest> {
    let mut answer = FinishAuthorizationRequest::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let (known, most) = match &*name {
            "state" => (&mut answer.state, MAX_PARAMETER),
            "code" => (&mut answer.code, MAX_CODE),
            "iss" => (&mut answer.issuer, MAX_PARAMETER),
            "error" => (&mut answer.error, MAX_PARAMETER),
            "error_description" => (&mut answer.error_description, MAX_PARAMETER),
            _ => continue,
        };
        if !known.is_empty() || value.len() > most {
            answer.code.zeroize();
            return None;
        }
        *known = value.into_owned();
    }
    (!answer.state.is_empty()).then_some(answer)
}

impl Pages {
    async fn finish_connecting(
        &self,
        headers: &HeaderMap,
        pending: &Pending,
        answer: FinishAuthorizationRequest,
    ) -> Result<(), NotConnected> {
        let session = self.session(headers).await.ok_or(Why::SignedOut)?;
        if session.user.id.as_str() != pending.user {
            return Err(Why::SomebodyElse.into());
        }
        let _under_way = self
            .charge(&session, true)
            .map_err(|problem| NotConnected::new(Why::TooMuch, problem.text))?;
        let finished = self.services.of(&session.token).finish_authorization(answer).await;
        finished.map(drop).map_err(|status| NotConnected::of(&status))
    }

    /// Sends the browser to the page that says why nothing was connected.
    fn stop(&self, pending: Option<&Pending>, why: &NotConnected) -> Response {
        let stopped = Stopped {
            why: why.clone(),
            installation: pending.map(|pending| progress_path(&pending.entry, &pending.id, &pending.link)),
        };
        let sealed = self.sealer.seal(PURPOSE, &stopped);
        signin::redirect(&format!("{}{PROBLEM}?p={sealed}", self.prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_only_what_can_be_an_answer() {
        let answer = parse("code=a%2Bb&state=s&iss=https%3A%2F%2Fas.example&scope=x").unwrap();
        assert_eq!(
            (answer.code.as_str(), answer.state.as_str(), answer.issuer.as_str()),
            ("a+b", "s", "https://as.example")
        );
        let denied = parse("error=access_denied&error_description=no&state=s").unwrap();
        assert_eq!(
            (denied.error.as_str(), denied.error_description.as_str()),
            ("access_denied", "no")
        );
        let long = "x".repeat(MAX_CODE + 1);
        for query in [
            "",
            "code=a",
            "state=",
            "state=a&state=b",
            "state=s&code=a&code=b",
            &format!("state=s&code={long}"),
            &format!("state={long}"),
        ] {
            assert!(parse(query).is_none(), "{query}");
        }
    }
}
