//! Tool assignments: this tool of this entry, or all of its tools, for this gateway or agent.

use contracts::registry::{
    FeatureKind, ToolAssignment,
    tool_assignment::{Binding, Selection},
};
use prost_types::FieldMask;
use service_kit::status::Violations;

use super::{
    field_mask::Mask,
    text::{id_in, is_slug, is_uuid},
};

/// The longest name of a tool that a server may have.
const MAX_TOOL: usize = 256;
/// The longest name shown to clients.
const MAX_EXPOSED: usize = 64;

/// Stands for a pinned installation that the caller may not see.
pub(crate) const HIDDEN_INSTALLATION: &str = "installations/-";

/// What somebody asks to assign, valid by itself; what it names is looked up when it is saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AssignmentSpec {
    /// Slug of the entry.
    pub(crate) entry: String,
    /// Which tools.
    pub(crate) selection: Selection,
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
        match FeatureKind::try_from(message.kind) {
            Ok(FeatureKind::Unspecified | FeatureKind::Tool) => {}
            Err(_) => violations.add("tool_assignment.kind", "must be FEATURE_KIND_TOOL, or unset"),
        }
        match &message.selection {
            None => violations.add("tool_assignment.selection", "must be set: tool or all_tools"),
            Some(Selection::Tool(tool)) => check_tool(&mut violations, tool),
            Some(Selection::AllTools(_)) => {}
        }
        let pinned = check_binding(&mut violations, message.binding.as_ref());
        check_exposed_name(&mut violations, message.selection.as_ref(), &message.exposed_name);
        match (entry, message.selection) {
            (Some(entry), Some(selection)) if violations.is_empty() => Ok(Self {
                entry: entry.to_owned(),
                selection,
                pinned,
                exposed_name: message.exposed_name,
            }),
            _ => Err(violations),
        }
    }
}

/// The tool that is assigned, by the server's own name of it; `None`: all of the entry.
pub(crate) fn tool(assignment: &ToolAssignment) -> Option<&str> {
    match &assignment.selection {
        Some(Selection::Tool(tool)) => Some(tool),
        Some(Selection::AllTools(_)) | None => None,
    }
}

/// The uid of the installation that it is pinned to.
pub(crate) fn pinned_uid(assignment: &ToolAssignment) -> Option<&str> {
    match &assignment.binding {
        Some(Binding::PinnedInstallation(name)) => id_in("installations", name),
        Some(Binding::ResolveAtCallTime(_)) | None => None,
    }
}

/// Takes what `mask` names from `change`, and checks it.
pub(crate) fn apply_mask(
    current: &ToolAssignment,
    change: ToolAssignment,
    mask: Option<&FieldMask>,
) -> Result<ToolAssignment, Violations> {
    let ToolAssignment {
        name: _,
        uid: _,
        entry: _,
        selection: _,
        binding,
        exposed_name,
        etag: _,
        create_time: _,
        update_time: _,
        creator: _,
        registry_revision: _,
        kind: _,
        entry_uid: _,
        consumer_uid: _,
        consented_visibility: _,
        consent_time: _,
        create_revision: _,
    } = change;
    let mut next = current.clone();
    let mut mask = Mask::new(mask);
    mask.apply("exposed_name", &mut next.exposed_name, exposed_name);
    mask.apply_case("pinned_installation", &mut next.binding, &binding, |binding| {
        matches!(binding, Binding::PinnedInstallation(_))
    });
    mask.apply_case("resolve_at_call_time", &mut next.binding, &binding, |binding| {
        matches!(binding, Binding::ResolveAtCallTime(_))
    });
    mask.finish()?;
    match &next.binding {
        None => next.binding = Some(Binding::ResolveAtCallTime(Default::default())),
        // Sent back as it was shown to somebody who may not see it.
        Some(Binding::PinnedInstallation(name)) if name == HIDDEN_INSTALLATION => {
            next.binding.clone_from(&current.binding);
        }
        Some(_) => {}
    }
    let mut violations = Violations::new();
    check_binding(&mut violations, next.binding.as_ref());
    check_exposed_name(&mut violations, next.selection.as_ref(), &next.exposed_name);
    violations.into_result(next)
}

fn check_tool(violations: &mut Violations, tool: &str) {
    if tool.is_empty() || tool.len() > MAX_TOOL || tool.chars().any(char::is_control) {
        violations.add(
            "tool_assignment.tool",
            format!("must be a tool's name, of at most {MAX_TOOL} bytes"),
        );
    }
}

/// The uid of the installation a binding pins to.
fn check_binding(violations: &mut Violations, binding: Option<&Binding>) -> Option<String> {
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

fn check_exposed_name(violations: &mut Violations, selection: Option<&Selection>, name: &str) {
    const FIELD: &str = "tool_assignment.exposed_name";
    let valid = name.len() <= MAX_EXPOSED
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if !valid {
        violations.add(FIELD, "must be 1 to 64 of A-Z, a-z, 0-9, _ and -, or empty");
    } else if !name.is_empty() && matches!(selection, Some(Selection::AllTools(_))) {
        violations.add(
            FIELD,
            "must be empty where all tools are assigned: each is shown by its own name",
        );
    }
}

#[cfg(test)]
mod tests {
    use contracts::registry::{AllTools, ResolveAtCallTime};

    use super::*;

    fn wrong(message: ToolAssignment) -> Vec<String> {
        let wrong = AssignmentSpec::parse(message).unwrap_err();
        wrong.iter().map(|(field, _)| field.to_owned()).collect()
    }

    #[test]
    fn names_everything_that_is_wrong() {
        let message = ToolAssignment {
            entry: "entry/x".into(),
            kind: 7,
            selection: Some(Selection::Tool(String::new())),
            exposed_name: "a.b".into(),
            binding: Some(Binding::PinnedInstallation("installations/x".into())),
            ..Default::default()
        };
        let expected = [
            "tool_assignment.entry",
            "tool_assignment.kind",
            "tool_assignment.tool",
            "tool_assignment.pinned_installation",
            "tool_assignment.exposed_name",
        ];
        assert_eq!(wrong(message), expected);
        let message = ToolAssignment {
            entry: "entries/x".into(),
            ..Default::default()
        };
        assert_eq!(wrong(message), ["tool_assignment.selection"]);
    }

    #[test]
    fn takes_any_name_a_server_may_give_its_tool() {
        let message = ToolAssignment {
            entry: "entries/x".into(),
            selection: Some(Selection::Tool("a.b/c d".into())),
            ..Default::default()
        };
        let spec = AssignmentSpec::parse(message).unwrap();
        assert_eq!((spec.entry.as_str(), spec.pinned), ("x", None));
    }

    #[test]
    fn shows_each_of_all_tools_by_its_own_name() {
        let message = ToolAssignment {
            entry: "entries/x".into(),
            selection: Some(Selection::AllTools(AllTools {})),
            exposed_name: "clock".into(),
            ..Default::default()
        };
        assert_eq!(wrong(message.clone()), ["tool_assignment.exposed_name"]);
        let unnamed = ToolAssignment {
            exposed_name: String::new(),
            ..message.clone()
        };
        AssignmentSpec::parse(unnamed.clone()).unwrap();
        assert!(apply_mask(&unnamed, message, None).is_err());
    }

    #[test]
    fn keeps_a_pin_that_is_sent_back_as_it_was_shown() {
        let pinned = |name: &str| Some(Binding::PinnedInstallation(name.into()));
        let current = ToolAssignment {
            selection: Some(Selection::Tool("t".into())),
            binding: pinned("installations/5a8c2f0e-6f5c-4d07-9c38-5a1f6f6d2a10"),
            ..Default::default()
        };
        let change = ToolAssignment {
            binding: pinned(HIDDEN_INSTALLATION),
            exposed_name: "clock".into(),
            ..Default::default()
        };
        let next = apply_mask(&current, change, None).unwrap();
        assert_eq!((next.exposed_name.as_str(), &next.binding), ("clock", &current.binding));
        let all = FieldMask {
            paths: vec!["*".into()],
        };
        let cleared = apply_mask(&next, ToolAssignment::default(), Some(&all)).unwrap();
        assert_eq!(cleared.exposed_name, "");
        assert_eq!(cleared.binding, Some(Binding::ResolveAtCallTime(ResolveAtCallTime {})));
    }
}
