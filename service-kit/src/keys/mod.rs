//! Rings of 256-bit keys that can be rotated: the current key encrypts, and the previous one still decrypts what it has
//! encrypted.
//!
//! A key's id is derived from the key, so the same key has the same id everywhere. A key file has one line for each
//! key, the current one first: its id, a space, and the key as 64 hexadecimal digits. Files that earlier versions
//! wrote, with one key as 32 bytes or as 64 digits, can be read too.

mod file;
mod seal;

use std::{fmt, path::Path};

use aws_lc_rs::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use zeroize::Zeroizing;

pub use file::{KeyFileError, create, read, remove, replace};
pub use seal::Sealing;

const LENGTH: usize = 32;
/// Hexadecimal digits of an id.
const ID: usize = 8;
const LINE: usize = ID + 1 + 2 * LENGTH + 1;

/// Keys for one purpose, the current one first. They are wiped when dropped, and `Debug` shows only their ids.
#[derive(Clone)]
pub struct Ring {
    keys: Vec<Zeroizing<[u8; LENGTH]>>,
}

impl Ring {
    /// A ring with one new key.
    pub fn random() -> Result<Self, KeyFileError> {
        let mut key = Zeroizing::new([0; LENGTH]);
        random(&mut key[..])?;
        Ok(Self { keys: vec![key] })
    }

    /// Reads a key file. If there is none, creates it with one key.
    pub fn open(path: &Path) -> Result<Self, KeyFileError> {
        if let Some(ring) = Self::existing(path)? {
            return Ok(ring);
        }
        create(path, &Self::random()?.encode())?;
        // If another process was faster, its key is used.
        Self::existing(path)?.ok_or_else(|| KeyFileError::Io {
            path: path.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        })
    }

    /// Reads a key file; `None` if there is none.
    pub fn existing(path: &Path) -> Result<Option<Self>, KeyFileError> {
        let Some(content) = read(path)? else { return Ok(None) };
        Self::decode(&content).map(Some).ok_or_else(|| KeyFileError::Damaged {
            path: path.to_owned(),
            what: "it does not hold keys with their ids",
        })
    }

    /// Replaces the content of a key file with these keys.
    pub fn save(&self, path: &Path) -> Result<(), KeyFileError> {
        replace(path, &self.encode())
    }

    /// Returns a ring with a new current key followed by the present one. Older keys are dropped.
    pub fn rotated(&self) -> Result<Self, KeyFileError> {
        let mut next = Self::random()?;
        next.keys.push(self.keys[0].clone());
        Ok(next)
    }

    /// Returns a ring with the current key only.
    #[must_use]
    pub fn current(&self) -> Self {
        Self {
            keys: vec![self.keys[0].clone()],
        }
    }

    /// The keys, the current one first. There is at least one.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &[u8; LENGTH]> {
        self.keys.iter().map(|key| &**key)
    }

    /// The ids of the keys, in the same order.
    pub fn ids(&self) -> Vec<String> {
        self.keys().map(id).collect()
    }

    /// The content of a key file with these keys.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        // Allocated at the full size: a buffer that grows leaves copies of the keys in memory.
        let mut text = Zeroizing::new(Vec::with_capacity(self.keys.len() * LINE));
        let mut digits = Zeroizing::new([0; 2 * LENGTH]);
        for key in self.keys() {
            HEX.encode_mut(key, &mut digits[..]);
            text.extend_from_slice(id(key).as_bytes());
            text.push(b' ');
            text.extend_from_slice(&digits[..]);
            text.push(b'\n');
        }
        text
    }

    /// The keys in the content of a key file; `None` if there are none.
    pub fn decode(content: &[u8]) -> Option<Self> {
        if let Ok(key) = <[u8; LENGTH]>::try_from(content) {
            return Some(key.into());
        }
        let lines: Vec<&[u8]> = content
            .strip_suffix(b"\n")
            .unwrap_or(content)
            .split(|&b| b == b'\n')
            .collect();
        let keys = lines.iter().map(|line| match line.split_at_checked(ID + 1) {
            Some((named, digits)) if line.len() == LINE - 1 => {
                let key = decode_key(digits)?;
                (named.strip_suffix(b" ")? == id(&key).as_bytes()).then_some(key)
            }
            // A single key without an id, from an earlier version.
            _ if lines.len() == 1 => decode_key(line),
            _ => None,
        });
        let keys = keys.collect::<Option<Vec<_>>>()?;
        (!keys.is_empty()).then_some(Self { keys })
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("ids", &self.ids()).finish_non_exhaustive()
    }
}

impl From<[u8; LENGTH]> for Ring {
    fn from(key: [u8; LENGTH]) -> Self {
        Self {
            keys: vec![Zeroizing::new(key)],
        }
    }
}

impl From<&Self> for Ring {
    fn from(ring: &Self) -> Self {
        ring.clone()
    }
}

/// Identifies a key without revealing it.
fn id(key: &[u8; LENGTH]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"chandlery key id");
    HEX.encode(&tag.as_ref()[..ID / 2])
}

fn decode_key(digits: &[u8]) -> Option<Zeroizing<[u8; LENGTH]>> {
    let mut key = Zeroizing::new([0; LENGTH]);
    let whole = HEX.decode_len(digits.len()).ok()? == LENGTH;
    whole.then(|| HEX.decode_mut(digits, &mut key[..]).ok()).flatten()?;
    Some(key)
}

fn random(bytes: &mut [u8]) -> Result<(), KeyFileError> {
    SystemRandom::new().fill(bytes).map_err(|_| KeyFileError::Random)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn keeps_the_current_and_the_previous_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        assert!(Ring::existing(&path).unwrap().is_none());
        let first = Ring::open(&path).unwrap();
        assert_eq!(Ring::open(&path).unwrap().ids(), first.ids());
        first.rotated().unwrap().save(&path).unwrap();
        let second = Ring::open(&path).unwrap();
        assert_eq!(second.ids()[1..], first.ids());
        assert_ne!(second.ids()[0], first.ids()[0]);
        let third = second.rotated().unwrap();
        assert_eq!(third.ids()[1..], second.ids()[..1], "the first is forgotten");
        assert_eq!(third.current().ids(), third.ids()[..1]);
    }

    #[test]
    fn reads_files_of_earlier_versions_and_refuses_damaged_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        let read = |content: &[u8]| {
            replace(&path, content).unwrap();
            Ring::existing(&path).map(|ring| ring.unwrap().ids())
        };
        let known = Ring::from([0xab; 32]).ids();
        assert_eq!(read(&[0xab; 32]).unwrap(), known);
        let digits = "ab".repeat(32);
        assert_eq!(read(digits.as_bytes()).unwrap(), known);
        assert_eq!(read(format!("{digits}\n").as_bytes()).unwrap(), known);
        let line = format!("{} {digits}\n", known[0]);
        assert_eq!(read(line.as_bytes()).unwrap(), known);
        assert_eq!(read(line.repeat(2).as_bytes()).unwrap().len(), 2);
        for damaged in [
            "",
            "short",
            &digits[1..],
            &digits.replace('a', "g"),
            &line.replace("ab", "ac"),
            &format!("00000000 {digits}\n"),
            &format!("{digits}\n{digits}\n"),
            &format!("{line}\n"),
        ] {
            let refused = read(damaged.as_bytes()).unwrap_err();
            assert!(matches!(refused, KeyFileError::Damaged { .. }), "{damaged:?}");
        }
    }

    #[test]
    fn debug_and_errors_show_no_key() {
        let ring = Ring::from([0xab; 32]);
        let shown = format!("{ring:?}");
        assert!(
            shown.contains(&ring.ids()[0]) && !shown.contains("abab") && !shown.contains("171"),
            "{shown}"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        fs::write(&path, "secret").unwrap();
        assert!(!format!("{:?}", Ring::existing(&path)).contains("secret"));
    }

    #[test]
    fn decodes_what_it_encodes() {
        bolero::check!(name = "key_file")
            .with_iterations(crate::fuzz::ITERATIONS)
            .for_each(|bytes: &[u8]| {
                let line = format!("{} {}\n", Ring::from([0xab; 32]).ids()[0], "ab".repeat(32));
                let woven = crate::fuzz::weave(bytes, &[&line, " ", "\n", "ab", &"ab".repeat(32), "AB"]);
                for content in [bytes, woven.as_bytes()] {
                    let Some(ring) = Ring::decode(content) else { continue };
                    let again = Ring::decode(&ring.encode()).expect("it was just written");
                    assert!(ring.keys().eq(again.keys()) && ring.keys().len() > 0);
                }
            });
    }
}
