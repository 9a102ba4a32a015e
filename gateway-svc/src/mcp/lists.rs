//! `prompts/list`, `resources/list` and `resources/templates/list`.

use super::{
    page::{Pages, invalid_cursor},
    rpc::RpcError,
    visit::Visit,
};
use crate::{
    calls::{ListKind, Visitor},
    domain::CallError,
    json::Object,
};

/// Why there is no page.
pub(super) enum Failed {
    Cursor(RpcError),
    Call(CallError),
}

impl Visit {
    /// A page of a list, as a result. The first is asked for anew; those after it are of the same list.
    pub(super) async fn page(
        &self,
        visitor: &Visitor<'_>,
        kind: ListKind,
        params: Option<&Object<'_>>,
    ) -> Result<Vec<u8>, Failed> {
        let binding = format!("{} {} {}", kind.method(), visitor.consumer, visitor.subject);
        let pages = Pages::new(&self.at.mcp.cursors, binding);
        let after = pages.after(params).map_err(Failed::Cursor)?;
        let calls = &self.at.mcp.calls;
        let listing = match &after {
            None => calls.list(visitor, kind).await,
            Some(_) => calls.known_list(visitor, kind).await,
        };
        let listing = listing.map_err(Failed::Call)?;
        let rest = listing.after(after.as_deref());
        let rest = rest.ok_or_else(|| Failed::Cursor(invalid_cursor()))?;
        Ok(pages.write(kind.member(), rest))
    }
}
