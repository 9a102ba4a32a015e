//! Tool definitions, kept once however many servers have them.

use super::{Tx, on};

/// The definition with this hash, exactly as a server gave it.
pub(crate) async fn find(tx: &mut Tx, hash: &str) -> sqlx::Result<Option<String>> {
    const SELECT: &str = "SELECT definition FROM tool_definitions WHERE hash = $1";
    on!(tx, c => sqlx::query_scalar(SELECT).bind(hash).fetch_optional(&mut *c).await)
}
