//! The identity of objects.

use uuid::Uuid;

/// A new uid: a UUID of version 7 (RFC 9562), so that what is made one after the other lies together in indexes.
#[expect(
    clippy::disallowed_methods,
    reason = "only an order follows from the time in it: in indexes, and of what one revision makes"
)]
pub(crate) fn new_uid() -> String {
    Uuid::now_v7().to_string()
}
