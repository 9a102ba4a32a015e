//! Tool assignments: this tool of this entry, for this gateway or agent.

use contracts::registry::{ToolAssignment, tool_assignment::Binding};
use service_kit::status::Violations;

use super::text::{id_in, is_slug, is_uuid};

/// The longest name of a tool that a server may have.
const MAX_TOOL: usize = 256;
/// The longest name shown to clients.
const MAX_EXPOSED: usize = 64;

/// What somebody asks to assign, valid by itself; what it names is looked up when it is saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AssignmentSpec {
    /// Slug of the entry.
    pub(crate) entry: String,
    /// The server's own name of the tool.
    pub(crate) tool: String,
    /// Uid of the installation it is pinned to; `None`: resolved at call time.
    pub(crate) pinned: Option<String>,
    /// Name shown to clients; empty: made from entry and tool.
    pub(crate) exposed_name: String,
}

impl AssignmentSpec {
    /// Checks a message; names everything that is wrong, with paths that begin with `tool_assignment`.
    pub(crate) fn parse(message: ToolAssignment) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let entry = id_in("entries", &message.entry).filter(|slug| is_slug(slug));
        if entry.is_none() {
            violations.add("tool_assignment.entry", "must be an entry's name: entries/{entry}");
        }
        if message.tool.is_empty() || message.tool.len() > MAX_TOOL || message.tool.chars().any(char::is_control) {
            violations.add(
                "tool_assignment.tool",
                format!("must be a tool's name, of at most {MAX_TOOL} bytes"),
            );
        }
        let spec = Self {
            entry: entry.unwrap_or_default().to_owned(),
            tool: message.tool,
            pinned: check_binding(&mut violations, message.binding.as_ref()),
            exposed_name: check_exposed_name(&mut violations, message.exposed_name),
        };
        violations.into_result(spec)
    }
}

/// The uid of the installation a binding pins to.
pub(crate) fn check_binding(violations: &mut Violations, binding: Option<&Binding>) -> Option<String> {
    let Some(Binding::PinnedInstallation(name)) = binding else {
        return None;
    };
    let uid = id_in("installations", name).filter(|uid| is_uuid(uid));
    if uid.is_none() {
        violations.add(
            "tool_assignment.pinned_installation",
            "must be an installation's name: installations/{installation}",
        );
    }
    uid.map(str::to_owned)
}

/// An exposed name, or empty.
pub(crate) fn check_exposed_name(violations: &mut Violations, name: String) -> String {
    let valid = name.len() <= MAX_EXPOSED
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if !valid {
        violations.add(
            "tool_assignment.exposed_name",
            "must be 1 to 64 of A-Z, a-z, 0-9, _ and -, or empty",
        );
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_everything_that_is_wrong() {
        let message = ToolAssignment {
            entry: "entry/x".into(),
            tool: String::new(),
            exposed_name: "a.b".into(),
            binding: Some(Binding::PinnedInstallation("installations/x".into())),
            ..Default::default()
        };
        let wrong = AssignmentSpec::parse(message).unwrap_err();
        let fields: Vec<_> = wrong.iter().map(|(field, _)| field).collect();
        assert_eq!(
            fields,
            [
                "tool_assignment.entry",
                "tool_assignment.tool",
                "tool_assignment.pinned_installation",
                "tool_assignment.exposed_name"
            ]
        );
    }

    #[test]
    fn takes_any_name_a_server_may_give_its_tool() {
        let message = ToolAssignment {
            entry: "entries/x".into(),
            tool: "a.b/c d".into(),
            ..Default::default()
        };
        let spec = AssignmentSpec::parse(message).unwrap();
        assert_eq!(
            (spec.entry.as_str(), spec.tool.as_str(), spec.pinned),
            ("x", "a.b/c d", None)
        );
    }
}
