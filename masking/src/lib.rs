//! What is masked of a secret in a text, and how: the same in the gateway and in the bridge of a self-hosted server.
//!
//! A server may repeat the secrets that it was given, in any common encoding, with invisible characters in between. [`Needles`] are the texts to look for,
//! [`found`] finds them, [`mask`] replaces them in a text, and [`mask_json`] in the strings and numbers of a JSON text. Secrets are wiped from memory.

mod beginnings;
mod escapes;
mod forms;
mod header;
mod hidden;
mod inner;
mod json;
mod needles;
mod pieces;
mod text;
mod userinfo;

pub use header::of_header;
pub use hidden::{is_hidden, without_hidden};
pub use json::{Unreadable, mask_json};
pub use needles::{Needles, found};
pub use pieces::LONGEST;
pub use text::{LONG, mask};
pub use userinfo::of_urls;
