//! Keys of 32 random bytes that can be exchanged for new ones: the current one seals, and those before it open still what they sealed.
//!
//! A key's id is derived from it, so that the same key has the same id wherever it is. A file holds a line for each key, the current one
//! first: its id, a space, and its 64 hexadecimal digits. Files of earlier programs, a key alone as 32 bytes or 64 digits, are read too.

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
/// Digits of an id.
const ID: usize = 8;
const LINE: usize = ID + 1 + 2 * LENGTH + 1;

/// Keys for one purpose, the current one first; wiped when dropped. Not shown by `Debug`, but their ids.
#[derive(Clone)]
pub struct Ring {
    keys: Vec<Zeroizing<[u8; LENGTH]>>,
}

impl Ring {
    /// A new key alone.
    pub fn random() -> Result<Self, KeyFileError> {
        let mut key = Zeroizing::new([0; LENGTH]);
        random(&mut key[..])?;
        Ok(Self { keys: vec![key] })
    }

    /// What a file holds, made with one key where there is none.
    pub fn open(path: &Path) -> Result<Self, KeyFileError> {
        if let Some(ring) = Self::existing(path)? {
            return Ok(ring);
        }
        create(path, &Self::random()?.encode())?;
        // Where somebody else was faster, theirs is the key.
        Self::existing(path)?.ok_or_else(|| KeyFileError::Io {
            path: path.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        })
    }

    /// What a file holds; `None` where there is none.
    pub fn existing(path: &Path) -> Result<Option<Self>, KeyFileError> {
        let Some(content) = read(path)? else { return Ok(None) };
        Self::decode(&content).map(Some).ok_or_else(|| KeyFileError::Damaged {
            path: path.to_owned(),
            what: "it does not hold keys with their ids",
        })
    }

    /// Puts these keys in place of what a file holds.
    pub fn save(&self, path: &Path) -> Result<(), KeyFileError> {
        replace(path, &self.encode())
    }

    /// With a new current key, and the present one behind it; those before are forgotten.
    pub fn rotated(&self) -> Result<Self, KeyFileError> {
        let mut next = Self::random()?;
        next.keys.push(self.keys[0].clone());
        Ok(next)
    }

    /// The current key alone.
    #[must_use]
    pub fn current(&self) -> Self {
        Self {
            keys: vec![self.keys[0].clone()],
        }
    }

    /// The keys, the current one first; at least one.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &[u8; LENGTH]> {
        self.keys.iter().map(|key| &**key)
    }

    /// The keys' ids, in the same order.
    pub fn ids(&self) -> Vec<String> {
        self.keys().map(id).collect()
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        // The exact capacity: a buffer that grows leaves copies behind.
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

    fn decode(content: &[u8]) -> Option<Self> {
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
            // Without an id, and alone.
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

/// What tells a key from others, and nothing else of it.
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
    fn keeps_the_current_key_and_the_one_before() {
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
    fn reads_files_of_earlier_programs_and_no_damaged_ones() {
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
    fn shows_no_key() {
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
    fn what_is_read_from_a_file_is_written_the_same() {
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
