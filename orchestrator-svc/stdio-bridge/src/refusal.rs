//! Which parts of a server's answers are masked.
//!
//! People who may not know the secrets see errors: the gateway's log and the conditions of an installation quote them. They also see what a server
//! says about itself, such as its list of tools: the gateway shows that in the registry, whoever installed the server. The result of a call is
//! for its caller only, who asked for this content, and is passed on as it is.

use masking::{LONG, mask_json};

use crate::{
    envelope::{Members, error},
    redact::Redactor,
};

/// The JSON-RPC error code instead of an answer that cannot be passed on.
pub(crate) const BAD_ANSWER: i32 = -32005;
/// What the caller is told instead of an answer that cannot be read.
const UNREADABLE: &str = "The MCP server's answer cannot be read: a string in it has no end, or is not Unicode.";

/// Whether the result of this method describes the server.
pub(crate) fn describes(method: &str) -> bool {
    matches!(method, "initialize" | "server/discover") || method.ends_with("/list")
}

/// Whether [`masked`] looks for secrets in the answer.
pub(crate) fn is_shown(answer: &Members<'_>, describes: bool) -> bool {
    describes || answer.get("error").is_some()
}

/// The answer with the secrets masked in its error or, where that describes the server, in its result; `None` if there are none.
pub(crate) fn masked(answer: &Members<'_>, describes: bool, redactor: &Redactor) -> Option<String> {
    let mask = |text: &str, shortest| redactor.mask(text, shortest);
    let (name, masked) = match (answer.get("error"), answer.get("result")) {
        (Some(error), _) => ("error", mask_json(error.get(), 0, mask)),
        (None, Some(result)) if describes => ("result", mask_json(result.get(), LONG, mask)),
        _ => return None,
    };
    match masked {
        Ok(masked) => Some(answer.with(name, &masked?)),
        Err(_) => Some(error(
            answer.get("id").map_or("null", |id| id.get()),
            BAD_ANSWER,
            UNREADABLE,
        )),
    }
}

/// The same for what is not read as a message here, and may be by others.
pub(crate) fn masked_text(text: &str, redactor: &Redactor) -> Option<String> {
    mask_json(text, 0, |text, shortest| redactor.mask(text, shortest))
        .unwrap_or_else(|_| Some(error("null", BAD_ANSWER, UNREADABLE)))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn masked(answer: &str, describes: bool, secrets: &[&str]) -> Option<String> {
        super::masked(
            &Members::parse(answer.as_bytes()).unwrap(),
            describes,
            &Redactor::new(secrets),
        )
    }

    #[test]
    fn masks_every_string_of_an_error_and_not_the_envelope() {
        let refused = |error: &str| format!(r#"{{"jsonrpc":"2.0","id":"2.0","error":{error}}}"#);
        let said =
            r#"{"code": -1,"message":"401 for s3cr3t-\u0022ca\u0000n\u202eary 2.0","data":[{"s3cr3t-\"canary":1.50}]}"#;
        let expected = r#"{"code": -1,"message":"401 for [redacted] [redacted]","data":[{"[redacted]":1.50}]}"#;
        let secrets = ["s3cr3t-\"canary", "2.0"];
        assert_eq!(masked(&refused(said), false, &secrets), Some(refused(expected)));
        assert_eq!(
            masked(&refused(r#"{"code": -1,"message":"no\ncanary"}"#), false, &secrets),
            None
        );
    }

    /// A short one is the name of a parameter more often than a secret.
    #[test]
    fn a_description_keeps_short_words() {
        let tool = |key: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{{"name":"get","description":"with {key}","inputSchema":{{"properties":{{"user":{{}}}}}}}}]}}}}"#
            )
        };
        let secrets = ["s3cr3t-canary", "user"];
        assert_eq!(masked(&tool("s3cr3t-canary"), true, &secrets), Some(tool("[redacted]")));
        assert_eq!(masked(&tool("a key"), true, &secrets), None);
        assert_eq!(masked(&tool("s3cr3t-canary"), false, &secrets), None);
    }

    #[test]
    fn a_secret_is_masked_where_it_is_a_number() {
        let tool = |default: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":91827364,"result":{{"default":{default},"maximum":12345678}}}}"#)
        };
        let secrets = ["91827364", "1234"];
        assert_eq!(masked(&tool("91827364"), true, &secrets), Some(tool(r#""[redacted]""#)));
        assert_eq!(masked(&tool("1234"), true, &secrets), None);
    }

    #[test]
    fn an_error_that_cannot_be_read_is_not_passed_on() {
        let told = masked(
            r#"{"jsonrpc":"2.0","id":7,"error":"s3cr3t-canary\ud800"}"#,
            false,
            &["s3cr3t-canary"],
        );
        assert_eq!(told, Some(error("7", BAD_ANSWER, UNREADABLE)));
    }
}
