//! What the results of servers lack that clients of this revision must get.

use bytes::Bytes;

use super::super::pieces::Change;
use crate::json::Object;

/// What a result lacks, before its end. `kept`: whether it must say how long clients may keep it, and who.
pub(super) fn lacking(result: &Object<'_>, kept: bool) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut added = Vec::new();
    let mut add = |member: &str| {
        if !added.is_empty() || result.iter().next().is_some() {
            added.push(b',');
        }
        added.extend_from_slice(member.as_bytes());
    };
    if result.get("resultType").is_none() {
        add("\"resultType\":\"complete\"");
    }
    if kept {
        if result.get("ttlMs").is_none() {
            add("\"ttlMs\":0");
        }
        match result.get("cacheScope") {
            None => add("\"cacheScope\":\"private\""),
            Some("\"private\"") => {}
            // Who may read it at its server is not who may read it here.
            Some(_) => changes.extend(
                result
                    .range("cacheScope")
                    .map(|range| (range, Bytes::from_static(b"\"private\""))),
            ),
        }
    }
    if !added.is_empty() {
        let end = result.text().trim_end().len().saturating_sub(1);
        changes.push((end..end, added.into()));
    }
    changes
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn with(text: &str, kept: bool) -> String {
        let changes = lacking(&Object::parse(text).unwrap(), kept);
        let (mut out, mut copied) = (String::new(), 0);
        for (range, new) in changes {
            out += &text[copied..range.start];
            out += std::str::from_utf8(&new).unwrap();
            copied = range.end;
        }
        out + &text[copied..]
    }

    #[test]
    fn a_result_gets_what_it_lacks() {
        for (text, kept, expected) in [
            ("{}", false, r#"{"resultType":"complete"}"#),
            (r#"{"a":1.0 }"#, false, r#"{"a":1.0 ,"resultType":"complete"}"#),
            (
                r#"{"resultType":"task","a":[]}"#,
                false,
                r#"{"resultType":"task","a":[]}"#,
            ),
            (
                "{}",
                true,
                r#"{"resultType":"complete","ttlMs":0,"cacheScope":"private"}"#,
            ),
            (
                r#"{"cacheScope":"public","ttlMs":5}"#,
                true,
                r#"{"cacheScope":"private","ttlMs":5,"resultType":"complete"}"#,
            ),
            (
                r#"{"resultType":"complete","ttlMs":5,"cacheScope":"private"}"#,
                true,
                r#"{"resultType":"complete","ttlMs":5,"cacheScope":"private"}"#,
            ),
        ] {
            assert_eq!(with(text, kept), expected);
        }
    }
}
