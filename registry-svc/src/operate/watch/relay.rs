//! The messages of a watch as they are sent: what was stored goes out as the bytes it is, and is shared by all who get it. On the wire
//! they are those of the contract.

use contracts::registry::{Bookmark, Compacted, Removal, Resumed, SnapshotBegin, SnapshotEnd};
use prost::bytes::Bytes;

use crate::store::changes::{Batch, Logged, Part};

/// `WatchResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Response {
    #[prost(oneof = "Message", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub(super) message: Option<Message>,
}

/// `WatchResponse.message`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Message {
    #[prost(message, tag = "1")]
    SnapshotBegin(SnapshotBegin),
    #[prost(message, tag = "2")]
    SnapshotObjects(SnapshotObjects),
    #[prost(message, tag = "3")]
    SnapshotEnd(SnapshotEnd),
    #[prost(message, tag = "4")]
    Changes(ChangeBatch),
    #[prost(message, tag = "5")]
    Bookmark(Bookmark),
    #[prost(message, tag = "6")]
    Compacted(Compacted),
    #[prost(message, tag = "7")]
    ChangePart(ChangePart),
    #[prost(message, tag = "8")]
    Resumed(Resumed),
}

/// `SnapshotObjects`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SnapshotObjects {
    /// Encoded `WatchedObject`s.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(super) objects: Vec<Bytes>,
}

/// `ChangeBatch`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ChangeBatch {
    #[prost(int64, tag = "1")]
    revision: i64,
    #[prost(message, repeated, tag = "2")]
    changes: Vec<Change>,
}

/// `ChangePart`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ChangePart {
    #[prost(int64, tag = "1")]
    revision: i64,
    #[prost(message, repeated, tag = "2")]
    changes: Vec<Change>,
    #[prost(bool, tag = "3")]
    last: bool,
}

/// `Change`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Change {
    #[prost(oneof = "Changed", tags = "1, 2")]
    change: Option<Changed>,
}

/// `Change.change`.
#[derive(Clone, PartialEq, prost::Oneof)]
enum Changed {
    /// An encoded `WatchedObject`.
    #[prost(bytes = "bytes", tag = "1")]
    Put(Bytes),
    #[prost(message, tag = "2")]
    Remove(Removal),
}

impl From<Logged> for Change {
    fn from(logged: Logged) -> Self {
        let changed = match logged.object {
            Some(object) => Changed::Put(object),
            None => Changed::Remove(Removal {
                // A kind is an enum's value; there is none so large.
                kind: i32::try_from(logged.kind).unwrap_or_default(),
                key: logged.key,
            }),
        };
        Self { change: Some(changed) }
    }
}

impl Message {
    /// Says nothing but that the registry is there, to a watcher that has some of this revision, or all of it.
    pub(super) fn alive(revision: i64, is_inside: bool) -> Self {
        if is_inside {
            let changes = Vec::new();
            Self::ChangePart(ChangePart {
                revision,
                changes,
                last: false,
            })
        } else {
            Self::Bookmark(Bookmark { revision })
        }
    }
}

impl From<Batch> for Message {
    fn from(batch: Batch) -> Self {
        let revision = batch.revision;
        let changes = batch.changes.into_iter().map(Change::from).collect();
        match batch.part {
            Part::Whole => Self::Changes(ChangeBatch { revision, changes }),
            part => Self::ChangePart(ChangePart {
                revision,
                changes,
                last: part == Part::Last,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use contracts::registry::{self as contract, Entry, watch_response, watched_object};
    use prost::Message as _;

    use super::*;
    use crate::store::Object;

    fn decoded(message: Message) -> watch_response::Message {
        let bytes = Response { message: Some(message) }.encode_to_vec();
        contract::WatchResponse::decode(bytes.as_slice())
            .unwrap()
            .message
            .unwrap()
    }

    #[test]
    fn the_contract_reads_what_is_sent() {
        use watch_response::Message as Contract;
        let entry = Entry {
            name: "entries/time".to_owned(),
            ..Entry::default()
        };
        let stored = Bytes::from(Object::Entry.watched("uid", &entry.encode_to_vec()));
        let object = contract::WatchedObject {
            key: "uid".to_owned(),
            object: Some(watched_object::Object::Entry(entry)),
        };
        let removal = Removal {
            kind: contract::ObjectKind::Team.into(),
            key: "gone".to_owned(),
        };
        let put = Change {
            change: Some(Changed::Put(stored.clone())),
        };
        let remove = Change {
            change: Some(Changed::Remove(removal.clone())),
        };
        let contract_changes = vec![
            contract::Change {
                change: Some(contract::change::Change::Put(object.clone())),
            },
            contract::Change {
                change: Some(contract::change::Change::Remove(removal)),
            },
        ];
        let begin = SnapshotBegin {
            database_epoch: "e".to_owned(),
        };
        assert_eq!(
            decoded(Message::SnapshotBegin(begin.clone())),
            Contract::SnapshotBegin(begin)
        );
        assert_eq!(
            decoded(Message::SnapshotObjects(SnapshotObjects { objects: vec![stored] })),
            Contract::SnapshotObjects(contract::SnapshotObjects { objects: vec![object] })
        );
        let end = SnapshotEnd { revision: 7 };
        assert_eq!(decoded(Message::SnapshotEnd(end)), Contract::SnapshotEnd(end));
        let batch = ChangeBatch {
            revision: 7,
            changes: vec![put.clone(), remove.clone()],
        };
        let expected = contract::ChangeBatch {
            revision: 7,
            changes: contract_changes.clone(),
        };
        assert_eq!(decoded(Message::Changes(batch)), Contract::Changes(expected));
        let bookmark = Bookmark { revision: 7 };
        assert_eq!(decoded(Message::Bookmark(bookmark)), Contract::Bookmark(bookmark));
        assert_eq!(
            decoded(Message::Compacted(Compacted {})),
            Contract::Compacted(Compacted {})
        );
        let resumed = Resumed { revision: 7 };
        assert_eq!(decoded(Message::Resumed(resumed)), Contract::Resumed(resumed));
        let part = ChangePart {
            revision: 7,
            changes: vec![put, remove],
            last: true,
        };
        let expected = contract::ChangePart {
            revision: 7,
            changes: contract_changes,
            last: true,
        };
        assert_eq!(decoded(Message::ChangePart(part)), Contract::ChangePart(expected));
    }
}
