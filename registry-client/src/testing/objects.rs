//! The objects that the fake registry sends to watchers, by kind and key.

use std::collections::BTreeMap;

use contracts::registry::{
    Change, Entry, EntryRevision, FeatureDefinition, FeatureSet, Gateway, Installation, ObjectKind, Removal, Runtime,
    ToolAssignment, WatchedObject, change, watched_object::Object,
};

/// A kind of object that can be watched.
pub trait Watched: Clone + 'static {
    /// The kind in the contract.
    const KIND: ObjectKind;
    /// `WatchedObject.key`.
    fn key(&self) -> String;
    /// Wraps the object as it is sent.
    fn into_object(self) -> Object;
    /// Returns the object if it is of this kind.
    fn of(object: &Object) -> Option<&Self>;
}

macro_rules! watched {
    ($($kind:ident($object:ident) => $key:expr;)*) => {$(
        impl Watched for $kind {
            const KIND: ObjectKind = ObjectKind::$kind;

            fn key(&self) -> String {
                let $object = self;
                $key
            }

            fn into_object(self) -> Object {
                Object::$kind(self)
            }

            fn of(object: &Object) -> Option<&Self> {
                match object {
                    Object::$kind(object) => Some(object),
                    _ => None,
                }
            }
        }
    )*};
}

watched! {
    Entry(entry) => entry.uid.clone();
    EntryRevision(revision) => format!("{}/{}", revision.entry_uid, revision.number);
    FeatureDefinition(definition) => definition.hash.clone();
    FeatureSet(set) => set.hash.clone();
    Gateway(gateway) => gateway.uid.clone();
    Installation(installation) => installation.uid.clone();
    Runtime(runtime) => runtime.owner_uid.clone();
    ToolAssignment(assignment) => assignment.uid.clone();
}

/// All watched objects, and the changes since the last revision.
#[derive(Debug)]
pub struct Objects {
    revision: i64,
    objects: BTreeMap<(ObjectKind, String), Object>,
    changes: Vec<Change>,
}

impl Default for Objects {
    /// No objects, at revision 1: a real registry is never at 0.
    fn default() -> Self {
        Self {
            revision: 1,
            objects: BTreeMap::new(),
            changes: Vec::new(),
        }
    }
}

impl Objects {
    /// The latest revision. Changes get the next one.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The object with this key.
    pub fn get<T: Watched>(&self, key: &str) -> Option<&T> {
        self.objects.get(&(T::KIND, key.to_owned())).and_then(T::of)
    }

    /// All objects of a kind, in the order of their keys.
    pub fn all<T: Watched>(&self) -> impl Iterator<Item = &T> {
        self.objects.values().filter_map(T::of)
    }

    /// The entry revision that an installation runs.
    pub fn running(&self, installation: &Installation) -> Option<&EntryRevision> {
        let (uid, number) = (&installation.entry_uid, installation.running_entry_revision);
        self.get(&format!("{uid}/{number}"))
    }

    /// The runtime that serves an installation: its own, else the one of its entry.
    pub fn runtime_of(&self, installation: &Installation) -> Option<&Runtime> {
        self.get(&installation.uid)
            .or_else(|| self.get(&installation.entry_uid))
    }

    /// Adds an object, or replaces the one with the same key. Sets `registry_revision`, if the kind has it. Putting an
    /// object that is equal to the known one changes nothing.
    pub fn put<T: Watched>(&mut self, object: T) {
        let key = object.key();
        let object = object.into_object();
        let known = self.objects.get(&(T::KIND, key.clone()));
        if known.is_some_and(|known| stamped(known.clone(), 0) == stamped(object.clone(), 0)) {
            return;
        }
        let object = stamped(object, self.revision + 1);
        self.objects.insert((T::KIND, key.clone()), object.clone());
        let object = Some(object);
        self.changes.push(Change {
            change: Some(change::Change::Put(WatchedObject { key, object })),
        });
    }

    /// Edits the object with this key; `None` if there is none. The edit must not change the key.
    pub fn edit<T: Watched>(&mut self, key: &str, edit: impl FnOnce(&mut T)) -> Option<()> {
        let mut object = self.get::<T>(key)?.clone();
        edit(&mut object);
        self.put(object);
        Some(())
    }

    /// Removes the object with this key; `None` if there is none.
    pub fn remove<T: Watched>(&mut self, key: &str) -> Option<T> {
        let object = self.objects.remove(&(T::KIND, key.to_owned()))?;
        let removal = Removal {
            kind: T::KIND.into(),
            key: key.to_owned(),
        };
        self.changes.push(Change {
            change: Some(change::Change::Remove(removal)),
        });
        T::of(&object).cloned()
    }

    /// Removes the runtime of an owner that is removed. This is not a change of its own: watchers remove it with the
    /// owner.
    pub(super) fn remove_runtime(&mut self, owner_uid: &str) {
        self.objects.remove(&(ObjectKind::Runtime, owner_uid.to_owned()));
    }

    /// Takes the changes since the last commit, which form one revision. Without changes there is no new revision.
    pub(super) fn commit(&mut self) -> Vec<Change> {
        self.revision += i64::from(!self.changes.is_empty());
        std::mem::take(&mut self.changes)
    }

    /// All objects, in the least convenient order that the contract allows: what an object belongs to comes after it,
    /// except that definitions come before sets, and entry revisions before installations.
    pub(super) fn snapshot(&self) -> Vec<WatchedObject> {
        let rank = |kind| match kind {
            ObjectKind::Runtime => 0,
            ObjectKind::ToolAssignment => 1,
            ObjectKind::FeatureDefinition | ObjectKind::EntryRevision => 2,
            ObjectKind::FeatureSet | ObjectKind::Installation => 3,
            _ => 4,
        };
        let mut objects: Vec<_> = self.objects.iter().collect();
        objects.sort_by_key(|((kind, _), _)| rank(*kind));
        let objects = objects.into_iter();
        objects
            .map(|((_, key), object)| WatchedObject {
                key: key.clone(),
                object: Some(object.clone()),
            })
            .collect()
    }
}

/// Sets the object's `registry_revision`, if the kind has it.
fn stamped(mut object: Object, revision: i64) -> Object {
    match &mut object {
        Object::Entry(entry) => entry.registry_revision = revision,
        Object::Installation(installation) => installation.registry_revision = revision,
        Object::Runtime(runtime) => runtime.registry_revision = revision,
        Object::Gateway(gateway) => gateway.registry_revision = revision,
        Object::ToolAssignment(assignment) => assignment.registry_revision = revision,
        _ => {}
    }
    object
}
