//! What can be watched, and where its documents are.

use contracts::registry::ObjectKind;
use prost::encoding::{WireType, encode_key, encode_varint, string};

/// A kind of watched object, in the order in which one revision's changes and a snapshot are sent: what is named comes before
/// what names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Object {
    FeatureDefinition,
    FeatureSet,
    Team,
    TeamMember,
    DeactivatedUser,
    Entry,
    EntryRevision,
    Runtime,
    Installation,
    Gateway,
    Agent,
    ToolAssignment,
    GatewayToken,
    GatewayReplica,
}

impl Object {
    /// All of them, in the order of a snapshot.
    pub(crate) const ALL: [Self; 14] = [
        Self::FeatureDefinition,
        Self::FeatureSet,
        Self::Team,
        Self::TeamMember,
        Self::DeactivatedUser,
        Self::Entry,
        Self::EntryRevision,
        Self::Runtime,
        Self::Installation,
        Self::Gateway,
        Self::Agent,
        Self::ToolAssignment,
        Self::GatewayToken,
        Self::GatewayReplica,
    ];

    /// As watchers name it.
    pub(crate) const fn kind(self) -> ObjectKind {
        match self {
            Self::FeatureDefinition => ObjectKind::FeatureDefinition,
            Self::FeatureSet => ObjectKind::FeatureSet,
            Self::Team => ObjectKind::Team,
            Self::TeamMember => ObjectKind::TeamMember,
            Self::DeactivatedUser => ObjectKind::DeactivatedUser,
            Self::Entry => ObjectKind::Entry,
            Self::EntryRevision => ObjectKind::EntryRevision,
            Self::Runtime => ObjectKind::Runtime,
            Self::Installation => ObjectKind::Installation,
            Self::Gateway => ObjectKind::Gateway,
            Self::Agent => ObjectKind::Agent,
            Self::ToolAssignment => ObjectKind::ToolAssignment,
            Self::GatewayToken => ObjectKind::GatewayToken,
            Self::GatewayReplica => ObjectKind::GatewayReplica,
        }
    }

    /// The bit of its kind.
    pub(crate) const fn bit(self) -> i64 {
        1 << self.kind() as i64
    }

    /// The field of `WatchedObject` that holds it.
    const fn field(self) -> u32 {
        match self {
            Self::Entry => 2,
            Self::Installation => 3,
            Self::Gateway => 4,
            Self::Agent => 5,
            Self::ToolAssignment => 6,
            Self::Team => 7,
            Self::DeactivatedUser => 8,
            Self::GatewayToken => 9,
            Self::FeatureDefinition => 10,
            Self::FeatureSet => 11,
            Self::EntryRevision => 12,
            Self::TeamMember => 13,
            Self::Runtime => 14,
            Self::GatewayReplica => 15,
        }
    }

    /// An encoded `WatchedObject` of this kind. The document goes in as the bytes it is: a field that only a newer program knows is
    /// not lost.
    pub(crate) fn watched(self, key: &str, document: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(key.len() + document.len() + 16);
        string::encode(1, &key.to_owned(), &mut bytes);
        encode_key(self.field(), WireType::LengthDelimited, &mut bytes);
        encode_varint(document.len() as u64, &mut bytes);
        bytes.extend_from_slice(document);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use contracts::registry::{
        Agent, DeactivatedUser, Entry, EntryRevision, FeatureDefinition, FeatureSet, Gateway, GatewayReplica,
        Installation, Runtime, Team, ToolAssignment, WatchedGatewayToken, WatchedObject, WatchedTeamMember,
        watched_object::Object as Watched,
    };
    use prost::Message as _;

    use super::*;

    fn default_of(object: Object) -> Watched {
        match object {
            Object::FeatureDefinition => Watched::FeatureDefinition(FeatureDefinition::default()),
            Object::FeatureSet => Watched::FeatureSet(FeatureSet::default()),
            Object::Team => Watched::Team(Team::default()),
            Object::TeamMember => Watched::TeamMember(WatchedTeamMember::default()),
            Object::DeactivatedUser => Watched::DeactivatedUser(DeactivatedUser::default()),
            Object::Entry => Watched::Entry(Entry::default()),
            Object::EntryRevision => Watched::EntryRevision(EntryRevision::default()),
            Object::Runtime => Watched::Runtime(Runtime::default()),
            Object::Installation => Watched::Installation(Installation::default()),
            Object::Gateway => Watched::Gateway(Gateway::default()),
            Object::Agent => Watched::Agent(Agent::default()),
            Object::ToolAssignment => Watched::ToolAssignment(ToolAssignment::default()),
            Object::GatewayToken => Watched::GatewayToken(WatchedGatewayToken::default()),
            Object::GatewayReplica => Watched::GatewayReplica(GatewayReplica::default()),
        }
    }

    #[test]
    fn frames_documents_as_the_contract_encodes_them() {
        for object in Object::ALL {
            let expected = WatchedObject {
                key: "k".to_owned(),
                object: Some(default_of(object)),
            };
            assert_eq!(object.watched("k", &[]), expected.encode_to_vec(), "{object:?}");
        }
        let entry = Entry {
            name: "entries/x".to_owned(),
            ..Entry::default()
        };
        let framed = Object::Entry.watched("u", &entry.encode_to_vec());
        let watched = WatchedObject::decode(framed.as_slice()).unwrap();
        assert_eq!(
            (watched.key.as_str(), watched.object),
            ("u", Some(Watched::Entry(entry)))
        );
    }
}
