//! What can be watched, in the order in which one revision's changes are told: definitions before the sets that name them.

use contracts::registry::ObjectKind;

/// A kind of watched object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Object {
    ToolDefinition,
    ToolSet,
    Team,
    DeactivatedUser,
    Entry,
    Installation,
    Gateway,
    Agent,
    ToolAssignment,
    GatewayToken,
}

impl Object {
    /// All of them, in the order of a snapshot.
    pub(crate) const ALL: [Self; 10] = [
        Self::ToolDefinition,
        Self::ToolSet,
        Self::Team,
        Self::DeactivatedUser,
        Self::Entry,
        Self::Installation,
        Self::Gateway,
        Self::Agent,
        Self::ToolAssignment,
        Self::GatewayToken,
    ];

    /// As watchers name it.
    pub(crate) const fn kind(self) -> ObjectKind {
        match self {
            Self::ToolDefinition => ObjectKind::ToolDefinition,
            Self::ToolSet => ObjectKind::ToolSet,
            Self::Team => ObjectKind::Team,
            Self::DeactivatedUser => ObjectKind::DeactivatedUser,
            Self::Entry => ObjectKind::Entry,
            Self::Installation => ObjectKind::Installation,
            Self::Gateway => ObjectKind::Gateway,
            Self::Agent => ObjectKind::Agent,
            Self::ToolAssignment => ObjectKind::ToolAssignment,
            Self::GatewayToken => ObjectKind::GatewayToken,
        }
    }

    /// Writes the revision into the object's row.
    pub(super) const fn mark(self) -> Option<&'static str> {
        match self {
            Self::ToolDefinition => Some("UPDATE tool_definitions SET revision = $1 WHERE hash = $2"),
            Self::ToolSet => Some("UPDATE tool_sets SET revision = $1 WHERE owner_uid = $2"),
            Self::Team => Some("UPDATE teams SET revision = $1 WHERE uid = $2"),
            Self::DeactivatedUser => None,
            Self::Entry => Some("UPDATE entries SET revision = $1 WHERE uid = $2"),
            Self::Installation => Some("UPDATE installations SET revision = $1 WHERE uid = $2"),
            Self::Gateway | Self::Agent => Some("UPDATE consumers SET revision = $1 WHERE uid = $2"),
            Self::ToolAssignment => Some("UPDATE tool_assignments SET revision = $1 WHERE uid = $2"),
            Self::GatewayToken => Some("UPDATE gateway_tokens SET revision = $1 WHERE uid = $2"),
        }
    }
}

/// The bits of some kinds; of all when there are none.
pub(crate) fn bits(kinds: impl IntoIterator<Item = ObjectKind>) -> i64 {
    let bits = kinds.into_iter().fold(0, |bits, kind| bits | (1 << kind as i64));
    if bits == 0 {
        Object::ALL
            .iter()
            .fold(0, |bits, object| bits | (1 << object.kind() as i64))
    } else {
        bits
    }
}
