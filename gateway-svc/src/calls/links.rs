//! Where the results of servers name resources.

use std::{ops::Range, sync::Arc};

use crate::{
    domain::shown_by,
    json::{self, Object},
};

/// The most blocks of a result that are looked at.
const MOST: usize = 100_000;

/// Methods whose results name resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Blocks of `content`.
    Tool,
    /// Blocks of `messages[].content`.
    Prompt,
    /// `contents[].uri`.
    Read,
    /// Those of the result of a call that has become a task (2026-07-28).
    Task,
}

impl Names {
    /// `None`: this method's do not.
    pub(super) fn of(method: &str) -> Option<Self> {
        match method {
            "tools/call" | "tasks/result" => Some(Self::Tool),
            "prompts/get" => Some(Self::Prompt),
            "resources/read" => Some(Self::Read),
            "tasks/get" => Some(Self::Task),
            _ => None,
        }
    }

    /// Whether a result may name any. Takes a fraction of the time that reading it does.
    pub(super) fn mentioned_in(result: &str) -> bool {
        result.contains("\"uri\"") || result.contains("esourceUri\"")
    }

    /// The result with these URIs in place of the server's own; `None`: as it is.
    pub(super) fn renamed(self, result: &str, exposed: impl Fn(&str) -> Option<Arc<str>>) -> Option<Vec<u8>> {
        let (mut out, mut copied) = (Vec::new(), 0);
        for at in self.places(result) {
            let own = json::unescape(&result[at.clone()]);
            let Some(exposed) = own.and_then(|own| exposed(&own)) else {
                continue;
            };
            out.extend_from_slice(&result.as_bytes()[copied..at.start]);
            json::push_string(&mut out, &exposed);
            copied = at.end;
        }
        if copied == 0 {
            return None;
        }
        out.extend_from_slice(&result.as_bytes()[copied..]);
        Some(out)
    }

    /// Where the URIs are, in order: each a string, with its quotation marks.
    fn places(self, result: &str) -> Vec<Range<usize>> {
        let mut places = Places {
            result,
            found: Vec::new(),
        };
        let Ok(object) = Object::parse(result) else {
            return places.found;
        };
        let object = match self {
            Self::Task => match object.get("result").and_then(|result| Object::parse(result).ok()) {
                Some(result) => result,
                None => return places.found,
            },
            _ => object,
        };
        match self {
            Self::Tool | Self::Task => places.blocks(object.get("content")),
            Self::Prompt => {
                for message in elements(object.get("messages")) {
                    let content = Object::parse(message).ok().and_then(|message| message.get("content"));
                    match content {
                        Some(block) if block.starts_with('{') => places.block(block),
                        content => places.blocks(content),
                    }
                }
            }
            Self::Read => elements(object.get("contents")).for_each(|content| places.uri(content)),
        }
        if let Some(meta) = object.get("_meta") {
            let start = places.offset(meta);
            let moved = shown_by(meta).into_iter().map(|at| start + at.start..start + at.end);
            places.found.extend(moved);
        }
        places.found.sort_by_key(|at| at.start);
        places.found
    }
}

/// The elements of an array.
fn elements(list: Option<&str>) -> impl Iterator<Item = &str> {
    let list = list.and_then(|list| json::elements(list, MOST).ok());
    list.into_iter().flatten()
}

struct Places<'a> {
    result: &'a str,
    found: Vec<Range<usize>>,
}

impl<'a> Places<'a> {
    /// Where a part of the result is in it.
    fn offset(&self, part: &'a str) -> usize {
        part.as_ptr() as usize - self.result.as_ptr() as usize
    }

    fn blocks(&mut self, list: Option<&'a str>) {
        elements(list).for_each(|block| self.block(block));
    }

    /// A link to a resource, or a resource.
    fn block(&mut self, block: &'a str) {
        let Ok(object) = Object::parse(block) else { return };
        match object.string("type").as_deref() {
            Some("resource_link") => self.uri(block),
            Some("resource") => {
                if let Some(resource) = object.get("resource") {
                    self.uri(resource);
                }
            }
            _ => {}
        }
    }

    /// The URI of an object.
    fn uri(&mut self, object: &'a str) {
        let uri = Object::parse(object).ok().and_then(|object| object.get("uri"));
        if let Some(uri) = uri.filter(|uri| uri.starts_with('"')) {
            let start = self.offset(uri);
            self.found.push(start..start + uri.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn renamed(names: Names, result: &str) -> Option<String> {
        let exposed = |own: &str| own.starts_with("u:").then(|| format!("{own}#x").into());
        assert!(Names::mentioned_in(result));
        let renamed = names.renamed(result, exposed)?;
        Some(String::from_utf8(renamed).unwrap())
    }

    #[test]
    fn a_result_names_what_the_client_may_read_and_is_otherwise_as_it_came() {
        let tool = r#"{ "_meta":{"ui":{"resourceUri":"u:1"},"n":1.0}, "content":[{"type":"resource_link","name":"u:2","uri" : "u:\u0032"},
            {"type":"text","text":"u:3","uri":"u:3"},{"resource":{"uri":"u:4","text":"","_meta":{"uri":"u:5"}},"type":"resource"},
            {"type":"resource_link","uri":"v:1"},5,{"type":"resource","resource":"u:6"}],"structuredContent":{"uri":"u:7"}}"#;
        let expected = tool
            .replace(r#""u:1""#, r##""u:1#x""##)
            .replace(r#""u:\u0032""#, r##""u:2#x""##)
            .replace(r#""u:4""#, r##""u:4#x""##);
        assert_eq!(renamed(Names::Tool, tool).unwrap(), expected);
        let prompt = r#"{"messages":[{"role":"user","content":{"type":"resource_link","uri":"u:1"}},{"content":[{"type":"resource","resource":{"uri":"u:2"}}]},7],"_meta":{"ui/resourceUri":"u:3"}}"#;
        let expected = r##"{"messages":[{"role":"user","content":{"type":"resource_link","uri":"u:1#x"}},{"content":[{"type":"resource","resource":{"uri":"u:2#x"}}]},7],"_meta":{"ui/resourceUri":"u:3#x"}}"##;
        assert_eq!(renamed(Names::Prompt, prompt).unwrap(), expected);
        let task = format!(
            r#"{{"taskId":"u:1","status":"completed","result":{tool},"_meta":{{"ui":{{"resourceUri":"u:8"}}}}}}"#
        );
        let expected = task.replace(tool, &renamed(Names::Tool, tool).unwrap());
        assert_eq!(renamed(Names::Task, &task).unwrap(), expected);
        let working = r#"{"taskId":"u:1","status":"working","x":{"uri":"u:2"}}"#;
        assert_eq!(renamed(Names::Task, working), None);
        let read = r#"{"contents":[{"uri":"u:1","text":"u:1"},{"uri":"v:2"},{"uri":null}],"x":12345678901234567890}"#;
        let expected =
            r##"{"contents":[{"uri":"u:1#x","text":"u:1"},{"uri":"v:2"},{"uri":null}],"x":12345678901234567890}"##;
        assert_eq!(renamed(Names::Read, read).unwrap(), expected);
        for other in [r#"{"contents":[{"uri":"v:1"}]}"#, r#"{"contents":{"uri":"u:1"}}"#] {
            assert_eq!(renamed(Names::Read, other), None);
        }
        assert!(!Names::mentioned_in(r#"{"content":[{"type":"text","text":"a"}]}"#));
    }
}
