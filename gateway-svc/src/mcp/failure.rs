//! What a client gets when a call fails.

use std::time::Duration;

use serde_json::json;

use super::rpc::{INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, RpcError, result};
use crate::domain::{CallError, RESTARTED, Repair};

/// "URL elicitation required", of 2025-11-25.
pub(super) const URL_ELICITATION_REQUIRED: i64 = -32042;
/// A resource that no server has.
pub(super) const RESOURCE_NOT_FOUND: i64 = -32002;

/// The member of `_meta` with the error for programs, where `structuredContent` cannot have it.
const META: &str = "chandlery.dev/error";

/// What a client gets when a call fails.
pub(super) enum Failure {
    /// A tool's result, as JSON.
    Result(String),
    Error(RpcError),
}

/// The whole message that answers a call, under the client's id. `None`: the client cancelled the call and expects no answer.
///
/// `takes_links`: the client takes the error that asks to open a link. `of_tool`, `declares_output`: see [`of`].
pub(super) fn answer(
    error: &CallError,
    id: &str,
    takes_links: bool,
    of_tool: bool,
    declares_output: impl FnOnce() -> bool,
) -> Option<bytes::Bytes> {
    if let CallError::Repair(repair) = error
        && takes_links
    {
        return Some(elicitation(repair).under(Some(id)));
    }
    Some(match of(error, of_tool, declares_output)? {
        Failure::Result(value) => result(id, value.as_bytes()),
        Failure::Error(error) => error.under(Some(id)),
    })
}

/// What a client gets. `None`: it cancelled the call and expects no answer. `of_tool`: a tool's failure is a result.
///
/// `declares_output`: the tool has an output schema. Clients validate `structuredContent` against it even in errors, and would show
/// their user that it is invalid instead of the install link; the error is in `_meta` then.
pub(super) fn of(error: &CallError, of_tool: bool, declares_output: impl FnOnce() -> bool) -> Option<Failure> {
    let tool_result = |text: &str, structured: serde_json::Value| {
        if !of_tool {
            let data = Some(structured.to_string());
            return Failure::Error(RpcError {
                data,
                ..RpcError::new(INTERNAL_ERROR, text)
            });
        }
        Failure::Result(error_result(text, &structured, declares_output()))
    };
    let rpc = |code, text: String| Failure::Error(RpcError::new(code, text));
    Some(match error {
        CallError::Repair(repair) => tool_result(
            &format!("{} {}", repair.message, repair.install_url),
            json!({"error": repair.reason.name(), "entry": &*repair.entry, "install_url": repair.install_url}),
        ),
        CallError::Upstream {
            entry,
            fault,
            message,
            again,
        } => tool_result(message, at_entry(fault.name(), entry, *again)),
        CallError::Credential {
            entry,
            fault,
            message,
            again,
        } => tool_result(message, at_entry(fault.name(), entry, *again)),
        CallError::UpstreamError {
            code, message, error, ..
        } => {
            let data = crate::json::Object::parse(error.get())
                .ok()
                .and_then(|error| error.get("data").map(str::to_owned));
            Failure::Error(RpcError {
                code: *code,
                message: message.clone(),
                data,
            })
        }
        CallError::ToolNotFound(name) => rpc(INVALID_PARAMS, format!("Unknown tool: {name}")),
        CallError::NotFound { what, name } => {
            let (code, shown) = match *what {
                "resource" => (RESOURCE_NOT_FOUND, "Resource not found"),
                _ => (INVALID_PARAMS, "Unknown prompt"),
            };
            rpc(code, format!("{shown}: {name}"))
        }
        CallError::NotOffered => rpc(METHOD_NOT_FOUND, error.to_string()),
        CallError::InvalidCall(_) => rpc(INVALID_PARAMS, error.to_string()),
        CallError::Cancelled => return None,
        CallError::Stopping => tool_result(
            &error.to_string(),
            json!({"error": "gateway_stopping", "retry_after_seconds": RESTARTED.as_secs()}),
        ),
        CallError::Interrupted => tool_result(&error.to_string(), json!({"error": "call_interrupted"})),
        CallError::NoRoom { .. }
        | CallError::ConsumerNotFound(_)
        | CallError::CredentialsUnavailable
        | CallError::RegistryUnavailable
        | CallError::Internal => rpc(INTERNAL_ERROR, error.to_string()),
    })
}

/// What failed at an entry's server, and when to try again, if that is known.
fn at_entry(error: &str, entry: &str, again: Option<Duration>) -> serde_json::Value {
    let mut structured = json!({"error": error, "entry": entry});
    if let Some(wait) = again {
        structured["retry_after_seconds"] = wait.as_secs().into();
    }
    structured
}

/// A tool's result that says what failed: to people and models, and to programs. `declares_output`: see [`of`].
pub(super) fn error_result(text: &str, structured: &serde_json::Value, declares_output: bool) -> String {
    let content = json!([{"type": "text", "text": text}]);
    let value = if declares_output {
        json!({"content": content, "_meta": {META: structured}, "isError": true})
    } else {
        json!({"content": content, "structuredContent": structured, "isError": true})
    };
    value.to_string()
}

/// Asks the client to open the install link for its user.
fn elicitation(repair: &Repair) -> RpcError {
    let elicitation = json!({
        "mode": "url",
        "elicitationId": service_kit::random::uuid().to_string(),
        "url": repair.install_url,
        "message": repair.message,
    });
    RpcError {
        code: URL_ELICITATION_REQUIRED,
        message: repair.message.clone(),
        data: Some(json!({"elicitations": [elicitation]}).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{
        domain::{RepairReason, UpstreamFault},
        mcp::session::Session,
        upstream::{Profile, Revision},
    };

    fn session(revision: Revision, opens_links: bool) -> Session {
        Session {
            revision,
            opens_links,
            profile: Profile::default(),
            id: [0; 12],
            until: std::time::SystemTime::UNIX_EPOCH,
        }
    }

    fn missing() -> CallError {
        CallError::from(Repair {
            reason: RepairReason::CredentialRequired,
            entry: "mail".into(),
            display_name: "Mail".into(),
            message: "Mail is not connected yet. Open the link to connect it, then try again.".to_owned(),
            install_url: "https://x/install/mail?gateway=g".to_owned(),
        })
    }

    fn parsed(error: &CallError, session: &Session) -> Value {
        serde_json::from_slice(&answer(error, "7", session.takes_links(), true, || false).unwrap()).unwrap()
    }

    /// A missing credential is answered with a link that a person can open.
    #[test]
    fn a_missing_credential_is_a_link() {
        for session in [
            session(Revision::V2025_11_25, false),
            session(Revision::V2025_06_18, true),
        ] {
            let message = parsed(&missing(), &session);
            assert_eq!(message["id"], 7);
            let result = &message["result"];
            assert_eq!(result["isError"], true);
            let text = result["content"][0]["text"].as_str().unwrap();
            assert!(
                text.contains("Mail") && text.contains("https://x/install/mail?gateway=g"),
                "{text}"
            );
            assert_eq!(
                result["structuredContent"],
                json!({"error": "credential_required", "entry": "mail", "install_url": "https://x/install/mail?gateway=g"})
            );
        }
        let message = parsed(&missing(), &session(Revision::V2025_11_25, true));
        assert_eq!(message["error"]["code"], -32042);
        let elicitation = &message["error"]["data"]["elicitations"][0];
        assert_eq!(
            (&elicitation["mode"], &elicitation["url"]),
            (&json!("url"), &json!("https://x/install/mail?gateway=g"))
        );
        assert!(
            elicitation["elicitationId"]
                .as_str()
                .unwrap()
                .parse::<uuid::Uuid>()
                .is_ok()
        );
    }

    #[test]
    fn an_output_schema_does_not_hide_the_link() {
        let message = answer(&missing(), "7", false, true, || true).unwrap();
        let result = &serde_json::from_slice::<Value>(&message).unwrap()["result"];
        assert!(result.get("structuredContent").is_none());
        assert_eq!(result["_meta"]["chandlery.dev/error"]["error"], "credential_required");
        assert!(
            result["content"][0]["text"]
                .as_str()
                .unwrap()
                .contains("https://x/install/mail")
        );
    }

    #[test]
    fn an_upstreams_fault_is_named_as_such() {
        let error = CallError::Upstream {
            entry: "mail".into(),
            fault: UpstreamFault::Timeout,
            message: "Mail is at fault".to_owned(),
            again: None,
        };
        let message = parsed(&error, &session(Revision::LATEST, true));
        assert_eq!(
            message["result"]["structuredContent"],
            json!({"error": "upstream_timeout", "entry": "mail"})
        );
        let error = CallError::Upstream {
            entry: "mail".into(),
            fault: UpstreamFault::Busy,
            message: "Mail is busy".to_owned(),
            again: Some(crate::domain::FREE),
        };
        let message = parsed(&error, &session(Revision::LATEST, true));
        assert_eq!(
            message["result"]["structuredContent"],
            json!({"error": "upstream_busy", "entry": "mail", "retry_after_seconds": 5})
        );
        let message = parsed(&CallError::Stopping, &session(Revision::LATEST, true));
        assert_eq!(
            message["result"]["structuredContent"],
            json!({"error": "gateway_stopping", "retry_after_seconds": 5})
        );
        assert!(answer(&CallError::Cancelled, "7", true, true, || false).is_none());
    }
}
