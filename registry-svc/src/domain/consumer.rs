//! The two consumers of tools: MCP gateways and agents. They have the same fields, so both are kept as the former's message.

use std::collections::BTreeSet;

use contracts::registry::{Agent, AssignmentMode, Gateway, ToolListing};
use prost_types::FieldMask;
use registry_model::headers::{is_authorization, is_field_name, is_managed};
use service_kit::status::Violations;

use super::{
    field_mask::Mask,
    text::{check_labels, check_line, check_text},
    visibility,
};

const MAX_PASSTHROUGH: usize = 64;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ConsumerKind {
    /// For MCP clients, at `/mcp/{gateway}`.
    Gateway = 1,
    /// At `/agents/{agent}/mcp`.
    Agent = 2,
}

impl ConsumerKind {
    /// Of the one with this resource name.
    pub(crate) fn of(name: &str) -> Self {
        if name.starts_with("agents/") {
            Self::Agent
        } else {
            Self::Gateway
        }
    }

    /// First part of the resource name.
    pub(crate) fn collection(self) -> &'static str {
        match self {
            Self::Gateway => "gateways",
            Self::Agent => "agents",
        }
    }

    /// The field of a request that holds one.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Agent => "agent",
        }
    }
}

/// What an admin says about a gateway or an agent, valid as a whole; every output only field is empty.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConsumerSpec(Gateway);

impl ConsumerSpec {
    /// Checks a message; names everything that is wrong, with paths that begin with `gateway` or `agent`.
    pub(crate) fn parse(kind: ConsumerKind, message: Gateway) -> Result<Self, Violations> {
        let mut message = output_free(message);
        let mut violations = Violations::new();
        check_line(&mut violations, "display_name", &message.display_name, 120);
        check_text(&mut violations, "description", &message.description, 4_000);
        check_labels(&mut violations, "labels", &message.labels);
        match AssignmentMode::try_from(message.assignment_mode) {
            Err(_) => violations.add("assignment_mode", "must be MANUAL or AUTOMATIC"),
            Ok(AssignmentMode::Unspecified) => message.set_assignment_mode(AssignmentMode::Manual),
            Ok(AssignmentMode::Manual | AssignmentMode::Automatic) => {}
        }
        message.visibility = Some(visibility::parse(
            &mut violations,
            "visibility",
            message.visibility.take(),
        ));
        check_passthrough(&mut violations, &message.passthrough_headers);
        message.omit_entry_prefix = Some(message.omit_entry_prefix());
        message.tokens_only = Some(message.tokens_only());
        match ToolListing::try_from(message.tool_listing) {
            Err(_) => violations.add("tool_listing", "must be ALL or SEARCH"),
            Ok(ToolListing::Unspecified) => message.set_tool_listing(ToolListing::All),
            Ok(ToolListing::All | ToolListing::Search) => {}
        }
        let mut all = Violations::new();
        all.extend(kind.field(), violations);
        all.into_result(Self(message))
    }

    /// What was said of one that is kept.
    pub(crate) fn of(stored: Gateway) -> Self {
        Self(output_free(stored))
    }

    /// The message, without what only the registry says.
    pub(crate) fn message(&self) -> &Gateway {
        &self.0
    }

    /// The message, to be completed with what only the registry says.
    pub(crate) fn into_message(self) -> Gateway {
        self.0
    }
}

/// `current` with what `mask` takes from `change`. The result is yet to be checked.
pub(crate) fn apply_mask(current: &Gateway, change: Gateway, mask: Option<&FieldMask>) -> Result<Gateway, Violations> {
    let Gateway {
        name: _,
        uid: _,
        display_name,
        description,
        labels,
        assignment_mode,
        visibility,
        passthrough_headers,
        omit_entry_prefix,
        tokens_only,
        tool_listing,
        etag: _,
        create_time: _,
        update_time: _,
        creator: _,
        registry_revision: _,
        label_revisions: _,
    } = change;
    let mut next = current.clone();
    let mut mask = Mask::new(mask);
    mask.apply("display_name", &mut next.display_name, display_name);
    mask.apply("description", &mut next.description, description);
    mask.apply("labels", &mut next.labels, labels);
    mask.apply("assignment_mode", &mut next.assignment_mode, assignment_mode);
    mask.apply("visibility", &mut next.visibility, visibility);
    mask.apply(
        "passthrough_headers",
        &mut next.passthrough_headers,
        passthrough_headers,
    );
    mask.apply("omit_entry_prefix", &mut next.omit_entry_prefix, omit_entry_prefix);
    mask.apply("tokens_only", &mut next.tokens_only, tokens_only);
    mask.apply("tool_listing", &mut next.tool_listing, tool_listing);
    mask.finish()?;
    Ok(next)
}

/// Defines a conversion between two messages that have the same fields; a field that one of them lacks does not compile.
macro_rules! convert {
    ($(#[$doc:meta])* $name:ident: $from:ident => $into:ident) => {
        $(#[$doc])*
        pub(crate) fn $name(message: $from) -> $into {
            let $from {
                name,
                uid,
                display_name,
                description,
                labels,
                assignment_mode,
                visibility,
                passthrough_headers,
                omit_entry_prefix,
                tokens_only,
                tool_listing,
                etag,
                create_time,
                update_time,
                creator,
                registry_revision,
                label_revisions,
            } = message;
            $into {
                name,
                uid,
                display_name,
                description,
                labels,
                assignment_mode,
                visibility,
                passthrough_headers,
                omit_entry_prefix,
                tokens_only,
                tool_listing,
                etag,
                create_time,
                update_time,
                creator,
                registry_revision,
                label_revisions,
            }
        }
    };
}

convert! {
    /// An agent's message as a gateway's.
    from_agent: Agent => Gateway
}

convert! {
    /// A gateway's message as an agent's.
    into_agent: Gateway => Agent
}

/// The message without what only the registry says.
fn output_free(message: Gateway) -> Gateway {
    let Gateway {
        name: _,
        uid: _,
        display_name,
        description,
        labels,
        assignment_mode,
        visibility,
        passthrough_headers,
        omit_entry_prefix,
        tokens_only,
        tool_listing,
        etag: _,
        create_time: _,
        update_time: _,
        creator: _,
        registry_revision: _,
        label_revisions: _,
    } = message;
    Gateway {
        display_name,
        description,
        labels,
        assignment_mode,
        visibility,
        passthrough_headers,
        omit_entry_prefix,
        tokens_only,
        tool_listing,
        ..Gateway::default()
    }
}

fn check_passthrough(violations: &mut Violations, names: &[String]) {
    if names.len() > MAX_PASSTHROUGH {
        violations.add(
            "passthrough_headers",
            format!("must have at most {MAX_PASSTHROUGH} elements"),
        );
    }
    let mut seen = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        let path = format!("passthrough_headers[{index}]");
        if !is_field_name(name) {
            violations.add(
                path,
                "must be a header name (RFC 9110, section 5.1); patterns are not supported",
            );
        } else if is_managed(name) || is_authorization(name) {
            violations.add(path, format!("{name} is managed by the gateway and never forwarded"));
        } else if !seen.insert(name.to_ascii_lowercase()) {
            violations.add(path, format!("{name} is a duplicate"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_everything_that_is_wrong() {
        let message = Gateway {
            display_name: "a\nb".to_owned(),
            assignment_mode: 7,
            tool_listing: 7,
            labels: [("a".to_owned(), "-".to_owned())].into(),
            passthrough_headers: ["x-a", "X-A", "authorization", "a b", "Mcp-Session-Id", "*\r\n"]
                .map(String::from)
                .into(),
            ..Default::default()
        };
        let wrong = ConsumerSpec::parse(ConsumerKind::Agent, message).unwrap_err();
        let fields: Vec<_> = wrong.iter().map(|(field, _)| field).collect();
        assert_eq!(
            fields,
            [
                "agent.display_name",
                "agent.labels[a]",
                "agent.assignment_mode",
                "agent.passthrough_headers[1]",
                "agent.passthrough_headers[2]",
                "agent.passthrough_headers[3]",
                "agent.passthrough_headers[4]",
                "agent.passthrough_headers[5]",
                "agent.tool_listing",
            ]
        );
    }

    #[test]
    fn makes_defaults_explicit() {
        let spec = ConsumerSpec::parse(
            ConsumerKind::Gateway,
            Gateway {
                uid: "forged".into(),
                ..Default::default()
            },
        )
        .unwrap();
        assert_eq!(spec.message().assignment_mode(), AssignmentMode::Manual);
        assert_eq!(spec.message().tool_listing(), ToolListing::All);
        assert_eq!(spec.message().visibility, Some(visibility::organization()));
        assert_eq!(spec.message().uid, "");
    }

    #[test]
    fn without_a_mask_what_is_unset_stays() {
        let current = Gateway {
            description: "kept".into(),
            omit_entry_prefix: Some(true),
            tokens_only: Some(true),
            tool_listing: ToolListing::Search.into(),
            ..Default::default()
        };
        let change = Gateway {
            display_name: "new".into(),
            ..Default::default()
        };
        let merged = apply_mask(&current, change.clone(), None).unwrap();
        let expected = Gateway {
            display_name: "new".into(),
            ..current.clone()
        };
        assert_eq!(merged, expected);
        let all = FieldMask {
            paths: vec!["*".into()],
        };
        assert_eq!(apply_mask(&current, change.clone(), Some(&all)).unwrap(), change);
    }

    #[test]
    fn an_agent_is_kept_whole_as_a_gateway() {
        let agent = Agent {
            display_name: "d".into(),
            omit_entry_prefix: Some(true),
            tokens_only: Some(true),
            tool_listing: ToolListing::Search.into(),
            registry_revision: 3,
            passthrough_headers: vec!["x".into()],
            ..Default::default()
        };
        assert_eq!(into_agent(from_agent(agent.clone())), agent);
    }
}
