//! What the pages show, without how: neither requests nor HTML.

pub(super) mod connection;
pub(super) mod everybody;
pub(super) mod install;
pub(super) mod progress;
