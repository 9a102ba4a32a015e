//! Pages of lists.

use service_kit::page_token::PageTokens;

use super::rpc::{INVALID_PARAMS, RpcError};
use crate::{
    calls::Item,
    domain::ExposedTool,
    json::{self, Object},
};

/// The most items of a page.
pub(super) const PAGE: usize = 200;
/// A page ends after this many bytes.
pub(super) const PAGE_BYTES: usize = 512 << 10;

/// What is listed.
pub(super) trait Listed {
    /// The name or URI that the client knows it by.
    fn exposed(&self) -> &str;

    /// Bytes, roughly.
    fn size(&self) -> usize;

    /// Appends it as the client gets it.
    fn write(&self, out: &mut Vec<u8>);
}

impl Listed for ExposedTool {
    fn exposed(&self) -> &str {
        &self.exposed_name
    }

    fn size(&self) -> usize {
        self.definition.len(&self.exposed_name) + 1
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.definition.write(&self.exposed_name, out);
    }
}

impl Listed for Item {
    fn exposed(&self) -> &str {
        Self::exposed(self)
    }

    fn size(&self) -> usize {
        Self::size(self)
    }

    fn write(&self, out: &mut Vec<u8>) {
        Self::write(self, out);
    }
}

/// The pages of one list.
pub(super) struct Pages<'a> {
    cursors: &'a PageTokens,
    /// What the list is of, and for whom.
    binding: String,
}

impl<'a> Pages<'a> {
    pub(super) const fn new(cursors: &'a PageTokens, binding: String) -> Self {
        Self { cursors, binding }
    }

    /// What the page comes after that is requested; `None`: the first.
    pub(super) fn after(&self, params: Option<&Object<'_>>) -> Result<Option<String>, RpcError> {
        match params.and_then(|params| params.get("cursor")) {
            None | Some("null") => Ok(None),
            Some(cursor) => {
                let cursor = json::unescape(cursor).filter(|cursor| !cursor.is_empty());
                let opened = cursor.and_then(|cursor| self.cursors.open(&self.binding, &cursor).ok());
                opened.ok_or_else(invalid_cursor)
            }
        }
    }

    /// The page, as a result: as many of `items` as it has room for. `more`: others follow those.
    pub(super) fn write<L: Listed>(&self, member: &str, items: &[L], more: bool) -> Vec<u8> {
        let (mut size, mut shown) = (0, 0);
        for item in items.iter().take(PAGE) {
            size += item.size();
            shown += 1;
            if size > PAGE_BYTES {
                break;
            }
        }
        let more = more || shown < items.len();
        let mut out = Vec::with_capacity(size + 128);
        out.push(b'{');
        json::push_member(&mut out, member, "[");
        for (index, item) in items[..shown].iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            item.write(&mut out);
        }
        out.push(b']');
        if let Some(last) = items[..shown].last().filter(|_| more) {
            out.extend_from_slice(b",\"nextCursor\":");
            json::push_string(&mut out, &self.cursors.seal(&self.binding, &last.exposed()));
        }
        out.push(b'}');
        out
    }
}

/// The error of a cursor that is not one of the list's.
pub(super) fn invalid_cursor() -> RpcError {
    let what = "the cursor was not made for this list: ask for the first page without one";
    RpcError::new(INVALID_PARAMS, what)
}
