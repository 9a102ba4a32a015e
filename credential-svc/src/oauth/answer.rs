//! Answers of endpoints that speak OAuth (RFC 6749, section 5).

use std::time::Duration;

use reqwest::{
    StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};

use super::{fields::Fields, form::Form, http::Answer, text::readable};
use crate::domain::authorization::servers::ServerError;

const MAX_CODE: usize = 100;
const MAX_DESCRIPTION: usize = 300;
/// The longest pause that a server gets.
const MAX_PAUSE: Duration = Duration::from_secs(3_600);

/// The object of a successful answer to `form`.
pub(super) fn read(answer: &Answer, form: &Form) -> Result<Fields, ServerError> {
    succeeded(answer, form)?.ok_or_else(|| {
        let origin = &answer.origin;
        ServerError::Unusable(format!("{origin} answered with something that is not a JSON object"))
    })
}

/// Whether the answer to `form` is a success; with its object, if there is one.
pub(super) fn succeeded(answer: &Answer, form: &Form) -> Result<Option<Fields>, ServerError> {
    if let Some(fault) = fault(answer) {
        return Err(match pause(answer) {
            Some(pause) => ServerError::Busy {
                why: format!("{fault}, and asks for a pause of {} s", pause.as_secs()),
                pause,
            },
            None => fault,
        });
    }
    let fields = parse(answer);
    // Some servers answer with an error and status 200.
    if let Some(error) = fields.as_ref().and_then(|fields| refusal(&answer.origin, fields, form)) {
        return Err(error);
    }
    match answer.status.is_success() {
        true => Ok(fields),
        false => Err(unexpected(answer)),
    }
}

/// A fault of the server's own, after which it may answer otherwise later.
pub(super) fn fault(answer: &Answer) -> Option<ServerError> {
    let status = answer.status;
    let is_fault =
        status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    is_fault.then(|| ServerError::Unavailable(format!("{} answered with status {}", answer.origin, status.as_u16())))
}

/// For how long the server asks for no more requests (RFC 9110, section 10.2.3; RFC 6585, section 4). Authorization servers give seconds; of a
/// date nothing is known.
fn pause(answer: &Answer) -> Option<Duration> {
    let asks = matches!(
        answer.status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    );
    let given = answer.headers.get(RETRY_AFTER).filter(|_| asks)?;
    let seconds = given.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_PAUSE))
}

fn unexpected(answer: &Answer) -> ServerError {
    let (origin, status) = (&answer.origin, answer.status.as_u16());
    ServerError::Unusable(match answer.status.is_redirection() {
        true => format!("{origin} answered with a redirect (status {status}), which is not followed"),
        false => format!("{origin} answered with status {status}, and no OAuth error"),
    })
}

fn parse(answer: &Answer) -> Option<Fields> {
    let content_type = answer.headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    match content_type.is_some_and(|value| value.starts_with(b"application/x-www-form-urlencoded")) {
        true => Some(Fields::parse_form(&answer.body)),
        false => Fields::parse(&answer.body),
    }
}

fn refusal(origin: &str, fields: &Fields, form: &Form) -> Option<ServerError> {
    let code = form.redact(fields.text("error")?);
    // RFC 6749, section 5.2.
    let permitted = |c: &char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
    let code: String = code.chars().filter(permitted).take(MAX_CODE).collect();
    let description = form.redact(fields.text("error_description").unwrap_or_default());
    let description = match readable(&description, MAX_DESCRIPTION) {
        text if text.is_empty() => format!("{origin} refuses: {code}"),
        text => format!("{origin} refuses: {code} ({text})"),
    };
    Some(match code.as_str() {
        "server_error" | "temporarily_unavailable" => ServerError::Unavailable(description),
        _ => ServerError::Refused { code, description },
    })
}
