//! The system's randomness. Code whose random values a test must predict takes a generator as a parameter instead.

use rand::{CryptoRng, RngCore as _};
use uuid::Uuid;

/// A generator seeded by the operating system, suitable for secrets.
pub fn rng() -> impl CryptoRng {
    rand::rng()
}

/// Random bytes, suitable for secrets.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// A random UUID (version 4).
pub fn uuid() -> Uuid {
    Uuid::new_v4()
}
