//! The two consumers of tools: MCP gateways and agents. They have the same fields, so both are kept as the former's message.

use std::collections::BTreeSet;

use contracts::registry::{Agent, AssignmentMode, Gateway};
use prost_types::FieldMask;
use registry_client::headers::{is_authorization, is_field_name, is_managed};
use service_kit::status::Violations;

use super::{
    field_mask::{self, Paths},
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
        let mut all = Violations::new();
        all.extend(kind.field(), violations);
        all.into_result(Self(message))
    }

    /// A specification that was checked before it was saved.
    pub(crate) fn from_stored(message: Gateway) -> Self {
        Self(message)
    }

    /// The message.
    pub(crate) fn message(&self) -> &Gateway {
        &self.0
    }
}

/// `current` with the fields that `mask` names taken from `change`. The result is yet to be checked.
pub(crate) fn apply_mask(current: &Gateway, change: Gateway, mask: Option<&FieldMask>) -> Result<Gateway, Violations> {
    const FIELDS: [&str; 7] = [
        "display_name",
        "description",
        "labels",
        "assignment_mode",
        "visibility",
        "passthrough_headers",
        "omit_entry_prefix",
    ];
    let paths = match field_mask::parse(mask, &FIELDS)? {
        Paths::All => return Ok(change),
        Paths::Some(paths) => paths,
    };
    let mut result = current.clone();
    for path in paths {
        match path {
            "display_name" => result.display_name.clone_from(&change.display_name),
            "description" => result.description.clone_from(&change.description),
            "labels" => result.labels.clone_from(&change.labels),
            "assignment_mode" => result.assignment_mode = change.assignment_mode,
            "visibility" => result.visibility.clone_from(&change.visibility),
            "passthrough_headers" => result.passthrough_headers.clone_from(&change.passthrough_headers),
            _ => result.omit_entry_prefix = change.omit_entry_prefix,
        }
    }
    Ok(result)
}

/// An agent's message as a gateway's.
pub(crate) fn from_agent(agent: Agent) -> Gateway {
    Gateway {
        name: agent.name,
        uid: agent.uid,
        display_name: agent.display_name,
        description: agent.description,
        labels: agent.labels,
        assignment_mode: agent.assignment_mode,
        visibility: agent.visibility,
        passthrough_headers: agent.passthrough_headers,
        omit_entry_prefix: agent.omit_entry_prefix,
        etag: agent.etag,
        create_time: agent.create_time,
        update_time: agent.update_time,
        creator: agent.creator,
        revision: agent.revision,
    }
}

/// A gateway's message as an agent's.
pub(crate) fn into_agent(gateway: Gateway) -> Agent {
    Agent {
        name: gateway.name,
        uid: gateway.uid,
        display_name: gateway.display_name,
        description: gateway.description,
        labels: gateway.labels,
        assignment_mode: gateway.assignment_mode,
        visibility: gateway.visibility,
        passthrough_headers: gateway.passthrough_headers,
        omit_entry_prefix: gateway.omit_entry_prefix,
        etag: gateway.etag,
        create_time: gateway.create_time,
        update_time: gateway.update_time,
        creator: gateway.creator,
        revision: gateway.revision,
    }
}

/// The message without what only the registry says.
pub(crate) fn output_free(message: Gateway) -> Gateway {
    Gateway {
        name: String::new(),
        uid: String::new(),
        etag: String::new(),
        create_time: None,
        update_time: None,
        creator: String::new(),
        revision: 0,
        ..message
    }
}

fn check_passthrough(violations: &mut Violations, names: &[String]) {
    if names.len() > MAX_PASSTHROUGH {
        violations.add("passthrough_headers", format!("must be at most {MAX_PASSTHROUGH}"));
    }
    let mut seen = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        let path = format!("passthrough_headers[{index}]");
        if !is_field_name(name) {
            violations.add(
                path,
                "must be a header name (RFC 9110, section 5.1); there are no patterns",
            );
        } else if is_managed(name) || is_authorization(name) {
            violations.add(path, format!("{name} is managed by the gateway and never forwarded"));
        } else if !seen.insert(name.to_ascii_lowercase()) {
            violations.add(path, format!("{name} is there twice"));
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
        assert_eq!(spec.message().visibility, Some(visibility::organization()));
        assert_eq!(spec.message().uid, "");
    }

    #[test]
    fn an_agent_is_kept_whole_as_a_gateway() {
        let agent = Agent {
            display_name: "d".into(),
            omit_entry_prefix: true,
            revision: 3,
            passthrough_headers: vec!["x".into()],
            ..Default::default()
        };
        assert_eq!(into_agent(from_agent(agent.clone())), agent);
    }
}
