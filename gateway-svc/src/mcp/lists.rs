//! `prompts/list`, `resources/list` and `resources/templates/list`.

use super::{
    list::{PAGE, PAGE_BYTES, invalid_cursor},
    rpc::RpcError,
    visit::Visit,
};
use crate::{
    calls::{ListKind, Visitor},
    domain::CallError,
    json::{self, Object},
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
        let invalid = || Failed::Cursor(invalid_cursor());
        let binding = format!("{} {} {}", kind.method(), visitor.consumer, visitor.subject);
        let after: Option<String> = match params.and_then(|params| params.get("cursor")) {
            None | Some("null") => None,
            Some(cursor) => {
                let cursor = json::unescape(cursor).ok_or_else(invalid)?;
                self.mcp.cursors.open(&binding, &cursor).map_err(|_| invalid())?
            }
        };
        let calls = &self.mcp.calls;
        let listing = match &after {
            None => calls.list(visitor, kind).await,
            Some(_) => calls.known_list(visitor, kind).await,
        };
        let listing = listing.map_err(Failed::Call)?;
        let rest = listing.after(after.as_deref()).ok_or_else(invalid)?;
        let (mut size, mut shown) = (0, 0);
        for item in rest.iter().take(PAGE) {
            size += item.size();
            shown += 1;
            if size > PAGE_BYTES {
                break;
            }
        }
        let mut out = Vec::with_capacity(size + 128);
        out.push(b'{');
        json::push_string(&mut out, kind.member());
        out.extend_from_slice(b":[");
        for (index, item) in rest[..shown].iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            item.write(&mut out);
        }
        out.push(b']');
        if let Some(last) = rest[..shown].last().filter(|_| shown < rest.len()) {
            out.extend_from_slice(b",\"nextCursor\":");
            json::push_string(&mut out, &self.mcp.cursors.seal(&binding, &&**last.exposed()));
        }
        out.push(b'}');
        Ok(out)
    }
}
