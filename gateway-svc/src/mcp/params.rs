//! The `params` of requests that upstreams answer.

use super::rpc::{INVALID_PARAMS, RpcError};
use crate::{
    calls::Meta,
    json::{self, Object},
};

/// The parts of `params`.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    /// The member that decides where the request goes, as JSON.
    pub(super) key: &'a str,
    /// The members besides that and `_meta`, verbatim.
    pub(super) params: Vec<(&'a str, &'a str)>,
    /// `_meta`.
    pub(super) meta: Option<Meta<'a>>,
}

impl<'a> Parts<'a> {
    /// The arguments of a tool or a prompt, a JSON object.
    pub(super) fn arguments(&self) -> &'a str {
        let given = self.params.iter().find(|(name, _)| *name == "arguments");
        given.map_or("{}", |(_, arguments)| arguments)
    }
}

/// What the `params` of a method consist of, as far as they have a meaning to the gateway or a server.
#[derive(Debug)]
pub(super) struct Shape {
    /// The member that decides where the request goes.
    pub(super) key: &'static str,
    /// The others.
    pub(super) others: &'static [&'static str],
}

/// `tools/call`
pub(super) const TOOL: Shape = Shape {
    key: "name",
    others: &["arguments", "_meta", "task"],
};

/// `prompts/get`
pub(super) const PROMPT: Shape = Shape {
    key: "name",
    others: &["arguments", "_meta"],
};
/// `resources/read`, `resources/subscribe` and `resources/unsubscribe`
pub(super) const RESOURCE: Shape = Shape {
    key: "uri",
    others: &["_meta"],
};
/// `tasks/get`, `tasks/result`, `tasks/cancel`, and `tasks/update` of 2026-07-28
pub(super) const TASK: Shape = Shape {
    key: "taskId",
    others: &["inputResponses", "_meta"],
};
/// `completion/complete`
pub(super) const COMPLETION: Shape = Shape {
    key: "ref",
    others: &["argument", "context", "_meta"],
};

/// Takes `params` apart.
pub(super) fn parts<'a>(params: Option<&'a Object<'a>>, shape: &Shape) -> Result<Parts<'a>, RpcError> {
    let invalid = |what: &str| RpcError::new(INVALID_PARAMS, what);
    let given = params.and_then(|params| Some((params, params.get(shape.key)?)));
    let (params, key) = given.ok_or_else(|| invalid(&format!("params.{} is missing", shape.key)))?;
    let ambiguous = |of: &str, name: &str| {
        let what = format!("the member {name:?} of {of} can be mistaken for another; send the exact name");
        RpcError::new(INVALID_PARAMS, what)
    };
    if let Some(name) = params
        .lookalike(&[shape.key])
        .or_else(|| params.lookalike(shape.others))
    {
        return Err(ambiguous("params", name));
    }
    if shape.others.contains(&"arguments")
        && params
            .get("arguments")
            .is_some_and(|arguments| !arguments.starts_with('{'))
    {
        return Err(invalid("params.arguments must be an object"));
    }
    let meta = match params.get("_meta") {
        None => None,
        Some(meta) => {
            let meta = Object::parse(meta).map_err(|_| invalid("params._meta must be an object"))?;
            if let Some(name) = meta.lookalike(&["progressToken"]) {
                return Err(ambiguous("params._meta", name));
            }
            let progress_token = meta.get("progressToken");
            if progress_token.is_some_and(|token| !is_progress_token(token)) {
                return Err(invalid("params._meta.progressToken must be a string or a number"));
            }
            let members = meta
                .into_members()
                .filter(|(name, _)| name != "progressToken")
                .collect();
            Some(Meta {
                progress_token,
                members,
            })
        }
    };
    let rest = params
        .iter()
        .filter(|(name, _)| *name != shape.key && *name != "_meta")
        .collect();
    Ok(Parts {
        key,
        params: rest,
        meta,
    })
}

fn is_progress_token(token: &str) -> bool {
    token.len() <= 1024
        && (json::unescape(token).is_some() || token.starts_with(|c: char| c == '-' || c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_params_and_keeps_the_rest() {
        let object = Object::parse(
            r#"{"name":"a","arguments":{"x":1.0},"_meta":{"progressToken":1,"k":[2]},"task":{},"new":12345678901234567890}"#,
        )
        .unwrap();
        let parts = parts(Some(&object), &TOOL).unwrap();
        assert_eq!(parts.key, "\"a\"");
        assert_eq!(
            parts.params,
            [
                ("arguments", r#"{"x":1.0}"#),
                ("task", "{}"),
                ("new", "12345678901234567890")
            ]
        );
        let meta = parts.meta.unwrap();
        assert_eq!(
            (meta.progress_token, meta.members),
            (Some("1"), vec![("k".into(), "[2]")])
        );
    }

    #[test]
    fn refuses_odd_params() {
        for text in [
            "{}",
            r#"{"name":"a","arguments":[]}"#,
            r#"{"name":"a","Name":"b"}"#,
            r#"{"name":"a","argument\u017f":{}}"#,
            r#"{"name":"a","Tas\u212a":{}}"#,
            r#"{"name":"a","_meta":{"progress_token":1}}"#,
            r#"{"name":"a","_meta":1}"#,
            r#"{"name":"a","_meta":{"progressToken":{}}}"#,
            r#"{"name":"a","arguments":null}"#,
        ] {
            let object = Object::parse(text).unwrap();
            assert_eq!(
                parts(Some(&object), &TOOL).err().map(|error| error.code),
                Some(INVALID_PARAMS),
                "{text}"
            );
        }
        assert!(parts(None, &TOOL).is_err());
    }
}
