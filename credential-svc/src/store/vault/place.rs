//! Where values are in Vault: `PREFIX/KIND/SHARD/NAME`.
//!
//! Vault answers a list with all names of a folder, so owners are spread over 256 folders by a digest of their uid.

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::domain::owner::Owner;

/// The kinds of owners, which are folders, in the order in which they are listed.
pub(super) const KINDS: [&str; 2] = ["entry", "installation"];

/// Where the value of an owner is. The order of places is the order of this store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    kind: usize,
    pub(super) shard: String,
    pub(super) name: String,
}

impl Place {
    pub(super) fn of(owner: &Owner) -> Self {
        let digest = Sha256::digest(owner.uid());
        Self {
            kind: KINDS.iter().position(|kind| *kind == owner.kind()).unwrap_or_default(),
            shard: HEXLOWER.encode(&digest[..1]),
            name: written(owner.uid()),
        }
    }

    /// The name of its folder among [`KINDS`].
    pub(super) fn kind(&self) -> &'static str {
        KINDS[self.kind]
    }

    /// The path below the prefix.
    pub(super) fn path(&self) -> String {
        format!("{}/{}/{}", self.kind(), self.shard, self.name)
    }
}

/// The owner whose value has this name in this folder; `None` where no owner has.
pub(super) fn owner(kind: &str, shard: &str, name: &str) -> Option<Owner> {
    let uid = read(name)?;
    let owner = match kind {
        "entry" => Owner::Entry(uid),
        _ => Owner::Installation(uid),
    };
    let place = Place::of(&owner);
    (place.kind() == kind && place.shard == shard && place.name == name).then_some(owner)
}

/// A uid as a name: every byte but letters, digits and hyphens is `_` and two hexadecimal digits. Names are never empty, and none is `.`
/// or `..` or has a slash, so they do not leave their folder.
fn written(uid: &str) -> String {
    let mut name = String::with_capacity(uid.len());
    for byte in uid.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' => name.push(char::from(byte)),
            _ => {
                name.push('_');
                name.push_str(&HEXLOWER.encode(&[byte]));
            }
        }
    }
    if name.is_empty() { "_".to_owned() } else { name }
}

/// The uid of a name; `None` where it is the name of none. Other texts that give the same uid are sorted out by [`owner`].
fn read(name: &str) -> Option<String> {
    if name == "_" {
        return Some(String::new());
    }
    let mut parts = name.split('_');
    let mut uid = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, plain) = part.split_at_checked(2)?;
        uid.extend(HEXLOWER.decode(digits.as_bytes()).ok()?);
        uid.extend(plain.as_bytes());
    }
    String::from_utf8(uid).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_uid_leaves_its_folder() {
        let hostile = [
            "",
            ".",
            "..",
            "../../sys/seal",
            "a/b",
            "a?b#c",
            "%2e%2e",
            "_",
            "_2e",
            "ü",
            "a b\n",
            "\0",
        ];
        let mut paths = BTreeSet::new();
        for uid in hostile {
            let installation = Owner::Installation(uid.to_owned());
            for owner_ in [Owner::Entry(uid.to_owned()), installation] {
                let place = Place::of(&owner_);
                let is_plain = |char: char| char.is_ascii_alphanumeric() || char == '-' || char == '_';
                assert!(
                    !place.name.is_empty() && place.name.chars().all(is_plain),
                    "{uid:?}: {place:?}"
                );
                assert_eq!(owner(place.kind(), &place.shard, &place.name), Some(owner_));
                assert!(paths.insert(place.path()), "{uid:?}");
            }
        }
    }

    #[test]
    fn a_uuid_is_its_own_name() {
        let owner = Owner::Installation("0192f0c1-2b7e-4c55-9d2a-6c1f3e6a9b10".to_owned());
        assert_eq!(
            Place::of(&owner).path(),
            "installation/b6/0192f0c1-2b7e-4c55-9d2a-6c1f3e6a9b10"
        );
    }

    #[test]
    fn what_others_put_there_is_nobodys() {
        for (kind, shard, name) in [
            ("entry", "00", "0192f0c1-2b7e-4c55-9d2a-6c1f3e6a9b10"),
            ("entry", "b6", "_2"),
            ("entry", "b6", "_FF"),
            ("entry", "b6", "a_61"),
            ("entry", "b6", "folder/"),
            ("elsewhere", "b6", "0192f0c1-2b7e-4c55-9d2a-6c1f3e6a9b10"),
        ] {
            assert_eq!(owner(kind, shard, name), None, "{kind} {shard} {name}");
        }
    }
}
