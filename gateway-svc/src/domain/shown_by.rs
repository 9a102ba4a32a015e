//! What MCP Apps says in a `_meta`: which resource shows a tool or a result.

use std::ops::Range;

use crate::json::Object;

/// Where the URIs of these resources are in a `_meta`, which is JSON: each a string, with its quotation marks. The second form is that of the
/// drafts of the extension.
pub(crate) fn shown_by(meta: &str) -> Vec<Range<usize>> {
    let Ok(object) = Object::parse(meta) else {
        return Vec::new();
    };
    let nested = || {
        let ui = object.range("ui")?;
        let at = Object::parse(&meta[ui.clone()]).ok()?.range("resourceUri")?;
        Some(ui.start + at.start..ui.start + at.end)
    };
    let found = nested().into_iter().chain(object.range("ui/resourceUri"));
    let mut found: Vec<_> = found.filter(|at| meta[at.clone()].starts_with('"')).collect();
    found.sort_by_key(|at| at.start);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_both_forms() {
        for (meta, expected) in [
            (r#"{"ui":{"resourceUri":"ui://a"}}"#, &[r#""ui://a""#][..]),
            (
                r#"{"ui/resourceUri":"ui://b", "x":1, "ui":{ "visibility":[],"resourceUri" : "ui:\u002f/a"}}"#,
                &[r#""ui://b""#, r#""ui:\u002f/a""#],
            ),
            (r#"{"ui":"ui://a","resourceUri":"ui://a"}"#, &[]),
            (r#"{"ui":{"resourceUri":5},"ui/resourceUri":null}"#, &[]),
            ("[]", &[]),
        ] {
            let found: Vec<&str> = shown_by(meta).into_iter().map(|at| &meta[at]).collect();
            assert_eq!(found, expected, "{meta}");
        }
    }
}
