//! Pages of lists.

use service_kit::page_token::PageTokens;

use super::rpc::{INVALID_PARAMS, RpcError};
use crate::{
    calls::Item,
    domain::ListedTool,
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

impl Listed for ListedTool {
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

    /// The page, as a result: as many of `items` as it has room for.
    pub(super) fn write<L: Listed>(&self, member: &str, items: &[L]) -> Vec<u8> {
        let (mut size, mut shown) = (0, 0);
        for item in items.iter().take(PAGE) {
            size += item.size();
            shown += 1;
            if size > PAGE_BYTES {
                break;
            }
        }
        let more = shown < items.len();
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::domain::Definition;

    fn tool(name: &str, definition: &str) -> ListedTool {
        ListedTool {
            exposed_name: name.into(),
            entry: "e".into(),
            tool: name.into(),
            definition: Arc::new(Definition::parse(definition).unwrap()),
        }
    }

    fn pages<'a>(cursors: &'a PageTokens, binding: &str) -> Pages<'a> {
        Pages::new(cursors, binding.to_owned())
    }

    fn after(pages: &Pages<'_>, params: &str) -> Result<Option<String>, RpcError> {
        pages.after(Some(&Object::parse(params).unwrap()))
    }

    /// A list longer than a page is complete over all pages.
    #[test]
    fn pages_are_whole_and_follow_each_other() {
        let cursors = PageTokens::new([1; 32]);
        let pages = pages(&cursors, "list");
        let definition = r#"{"name":"x","inputSchema":{"n":12345678901234567890}}"#;
        let tools: Vec<_> = (0..450).map(|n| tool(&format!("t{n:04}"), definition)).collect();
        let (mut seen, mut params) = (Vec::new(), String::from("{}"));
        loop {
            let shown = after(&pages, &params).unwrap();
            let first = shown.map_or(0, |shown| tools.partition_point(|tool| *tool.exposed_name <= *shown));
            let text = String::from_utf8(pages.write("tools", &tools[first..])).unwrap();
            assert!(text.contains("12345678901234567890"));
            let result: Value = serde_json::from_str(&text).unwrap();
            let page = result["tools"].as_array().unwrap();
            assert!(page.len() <= PAGE);
            seen.extend(page.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()));
            match result["nextCursor"].as_str() {
                Some(cursor) => params = format!(r#"{{"cursor":"{cursor}"}}"#),
                None => break,
            }
        }
        assert!(seen.iter().eq(tools.iter().map(|tool| &*tool.exposed_name)));
    }

    #[test]
    fn a_page_of_large_items_is_shorter() {
        let cursors = PageTokens::new([1; 32]);
        let definition = format!(r#"{{"name":"x","description":"{}"}}"#, "d".repeat(PAGE_BYTES / 4));
        let tools: Vec<_> = (0..9).map(|n| tool(&format!("t{n}"), &definition)).collect();
        let ended = pages(&cursors, "list").write("tools", &tools);
        let ended: Value = serde_json::from_slice(&ended).unwrap();
        assert_eq!(ended["tools"].as_array().unwrap().len(), 4);
        assert!(ended["nextCursor"].is_string(), "the others follow");
    }

    #[test]
    fn cursors_are_of_one_list() {
        let cursors = PageTokens::new([1; 32]);
        let tools: Vec<_> = (0..=PAGE).map(|n| tool(&format!("t{n:04}"), "{}")).collect();
        let page = pages(&cursors, "list").write("tools", &tools);
        let page: Value = serde_json::from_slice(&page).unwrap();
        let params = format!(r#"{{"cursor":{}}}"#, page["nextCursor"]);
        assert_eq!(
            after(&pages(&cursors, "list"), &params).unwrap().as_deref(),
            Some("t0199")
        );
        for (binding, params) in [
            ("another", params.as_str()),
            ("list", r#"{"cursor":"x"}"#),
            ("list", r#"{"cursor":""}"#),
            ("list", r#"{"cursor":5}"#),
        ] {
            let refused = after(&pages(&cursors, binding), params).unwrap_err();
            assert_eq!(refused.code, INVALID_PARAMS, "{params}");
        }
    }
}
