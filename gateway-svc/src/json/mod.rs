//! JSON as the data path needs it: validated completely, parsed one level deep, and passed on byte for byte.
//!
//! The check is iterative, so that nesting cannot overflow the stack, and bounded, so that it cannot fill the memory.

mod alike;
mod digest;
mod few;
#[cfg(test)]
mod fuzz;
mod names;
mod walk;

use std::{borrow::Cow, ops::Range};

use bytes::{Bytes, BytesMut};

use alike::Alike;
pub(crate) use alike::check;
pub(crate) use digest::digest;
use few::Few;
use names::Names;
use walk::{Anything, Visitor, skip_space, skip_string, skip_value, walk};

/// Deeper values are refused: no legitimate message is nested this deep, and many parsers of servers would fail on it.
pub(crate) const MAX_DEPTH: usize = 100;

/// Objects with more members are refused: no legitimate message has as many in one object.
pub(crate) const MAX_MEMBERS: usize = 10_000;

/// Longer names (bytes) of members next to known ones are refused.
pub(crate) const MAX_NAME: usize = 256;

/// The members of a JSON-RPC message.
pub(crate) const RPC_MEMBERS: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];

/// Why a text is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonError {
    /// Not JSON (RFC 8259).
    #[error("it is not JSON (at byte {0})")]
    Syntax(usize),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("it is nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
    /// JSON, but not an object.
    #[error("it is not a JSON object")]
    NotAnObject,
    /// The same member twice: two parsers could read different values.
    #[error("it has the same member twice")]
    Duplicate,
    /// One object has more than [`MAX_MEMBERS`].
    #[error("an object in it has more than {MAX_MEMBERS} members")]
    TooMany,
    /// A list has more elements than this.
    #[error("it has more than {0} elements")]
    TooLong(usize),
    /// A number that some parsers reject and others read as infinity.
    #[error("it has a number that is too large (at byte {0})")]
    Number(usize),
    /// Half of a surrogate pair: some parsers reject it, others replace or keep it.
    #[error("it has text that is not Unicode (at byte {0})")]
    Surrogate(usize),
}

/// One member of an object: its name, and its value as it is in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member<'a> {
    /// The name, unescaped.
    pub(crate) name: Cow<'a, str>,
    /// Where the value is in the text.
    pub(crate) range: Range<usize>,
}

/// An object, parsed one level deep.
#[derive(Debug, Clone)]
pub(crate) struct Object<'a> {
    text: &'a str,
    /// Most messages have no more.
    members: Few<Member<'a>, 4>,
}

impl<'a> Object<'a> {
    /// Validates the whole text and parses it. No name occurs twice.
    pub(crate) fn parse(text: &'a str) -> Result<Self, JsonError> {
        Self::parse_with(text, &mut Anything)
    }

    /// [`parse`](Self::parse) and [`check`] in one pass: takes what both take. The error need not be the one that these find first.
    pub(crate) fn parse_alike(text: &'a str) -> Result<Self, JsonError> {
        Self::parse_with(text, &mut Alike::new(text))
    }

    /// The visitor sees the values.
    fn parse_with(text: &'a str, visitor: &mut impl Visitor) -> Result<Self, JsonError> {
        let bytes = text.as_bytes();
        let mut at = skip_space(bytes, 0);
        if bytes.get(at) != Some(&b'{') {
            let end = skip_value(bytes, at)?;
            return Err(if skip_space(bytes, end) == bytes.len() {
                JsonError::NotAnObject
            } else {
                JsonError::Syntax(end)
            });
        }
        let mut members = Few::new();
        let mut names = Names::default();
        at = skip_space(bytes, at + 1);
        if bytes.get(at) == Some(&b'}') {
            at += 1;
        } else {
            loop {
                let name_end = skip_string(bytes, at)?;
                let name = unescape(&text[at..name_end]).ok_or(JsonError::Syntax(at))?;
                at = skip_space(bytes, name_end);
                if bytes.get(at) != Some(&b':') {
                    return Err(JsonError::Syntax(at));
                }
                let start = skip_space(bytes, at + 1);
                let end = walk(bytes, start, MAX_DEPTH, visitor)?;
                let before = members.iter().map(|member: &Member<'_>| &member.name);
                names.add(members.len(), before, name.clone())?;
                members.push(Member {
                    name,
                    range: start..end,
                });
                at = skip_space(bytes, end);
                match bytes.get(at) {
                    Some(b',') => at = skip_space(bytes, at + 1),
                    Some(b'}') => {
                        at += 1;
                        break;
                    }
                    _ => return Err(JsonError::Syntax(at)),
                }
            }
        }
        at = skip_space(bytes, at);
        if at == bytes.len() {
            Ok(Self { text, members })
        } else {
            Err(JsonError::Syntax(at))
        }
    }

    /// The text, verbatim.
    pub(crate) const fn text(&self) -> &'a str {
        self.text
    }

    /// Bytes of the text.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// Where a member's value is in the text.
    pub(crate) fn range(&self, name: &str) -> Option<Range<usize>> {
        self.members
            .iter()
            .find(|member| member.name == name)
            .map(|member| member.range.clone())
    }

    /// A member's value, as it is in the text.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.range(name).map(|range| &self.text[range])
    }

    /// A member's value, if it is a string.
    pub(crate) fn string(&self, name: &str) -> Option<Cow<'a, str>> {
        self.get(name).and_then(unescape)
    }

    /// Name and value of each member, in the order of the text.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.members
            .iter()
            .map(|member| (&*member.name, &self.text[member.range.clone()]))
    }

    /// As [`Object::iter`], for the lifetime of the text.
    pub(crate) fn into_members(self) -> impl Iterator<Item = (Cow<'a, str>, &'a str)> {
        let text = self.text;
        self.members
            .into_elements()
            .map(move |member| (member.name, &text[member.range]))
    }

    /// A name in this object that lenient parsers may read as one of `known`, although it is none of them: the gateway and the server would
    /// read two different messages. That includes `__proto__`, which JavaScript reads as the prototype; names with a NUL, where C strings
    /// end; and names longer than [`MAX_NAME`], which some parsers truncate.
    pub(crate) fn lookalike(&self, known: &[&str]) -> Option<&str> {
        let unknown = self
            .members
            .iter()
            .map(|member| &*member.name)
            .filter(|name| !known.contains(name));
        let found = unknown.into_iter().find(|name| {
            name.len() > MAX_NAME || *name == "__proto__" || name.contains('\0') || names::look_alike(name, known)
        });
        found.map(|name| &name[..name.floor_char_boundary(MAX_NAME)])
    }
}

/// The elements of an array, at most `most`, as they are in the text; the whole text is validated.
pub(crate) fn elements(text: &str, most: usize) -> Result<Vec<&str>, JsonError> {
    let bytes = text.as_bytes();
    let mut at = skip_space(bytes, 0);
    if bytes.get(at) != Some(&b'[') {
        return Err(JsonError::Syntax(at));
    }
    let mut elements = Vec::new();
    at = skip_space(bytes, at + 1);
    if bytes.get(at) == Some(&b']') {
        at += 1;
    } else {
        loop {
            let end = skip_value(bytes, at)?;
            if elements.len() == most {
                return Err(JsonError::TooLong(most));
            }
            elements.push(&text[at..end]);
            at = skip_space(bytes, end);
            match bytes.get(at) {
                Some(b',') => at = skip_space(bytes, at + 1),
                Some(b']') => {
                    at += 1;
                    break;
                }
                _ => return Err(JsonError::Syntax(at)),
            }
        }
    }
    at = skip_space(bytes, at);
    if at == bytes.len() {
        Ok(elements)
    } else {
        Err(JsonError::Syntax(at))
    }
}

/// Where a member is of the object in this place of the text, or of one in it: the last of these names, each in the object before.
pub(crate) fn place(text: &str, object: Range<usize>, names: &[&str]) -> Option<Range<usize>> {
    names.iter().try_fold(object, |object, name| {
        let start = object.start;
        let inner = Object::parse(&text[object]).ok()?.range(name)?;
        Some(start + inner.start..start + inner.end)
    })
}

/// The text of a JSON string; `None` for any other value.
pub(crate) fn unescape(value: &str) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(value).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// Appends `text` as a JSON string.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(&mut *out, text).expect("a Vec takes every byte");
}

/// A text as a JSON string.
pub(crate) fn string(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    push_string(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

/// Appends a comma to an object that is being written, unless it has just begun.
pub(crate) fn push_comma(out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
}

/// Appends a member to an object that is being written, with a comma before it unless the object has just begun.
pub(crate) fn push_member(out: &mut Vec<u8>, name: &str, value: &str) {
    push_comma(out);
    push_string(out, name);
    out.push(b':');
    out.extend_from_slice(value.as_bytes());
}

/// How long a member is in an object that is being written, with the comma or the brace before it, where nothing in its name is escaped.
pub(crate) const fn member_len(name: &str, value_len: usize) -> usize {
    name.len() + value_len + r#","":"#.len()
}

/// Appends members, as [`push_member`].
pub(crate) fn push_members<'a>(out: &mut Vec<u8>, members: impl IntoIterator<Item = (&'a str, &'a str)>) {
    for (name, value) in members {
        push_member(out, name, value);
    }
}

/// A text with this in one place of it.
pub(crate) fn replaced(text: &[u8], place: Range<usize>, with: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(text.len() + with.len());
    out.extend_from_slice(&text[..place.start]);
    out.extend_from_slice(with);
    out.extend_from_slice(&text[place.end..]);
    out.freeze()
}

/// An object of these members. The values are JSON.
pub(crate) fn object<'a>(members: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut out = Vec::from(b"{");
    push_members(&mut out, members);
    out.push(b'}');
    out
}

/// Members of an object, with a comma before each. The values are JSON.
pub(crate) fn members<'a>(members: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut out = Vec::new();
    push_members(&mut out, members);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_serde_json_takes_and_nothing_else() {
        let texts = [
            r#"{}"#,
            r#" { "a" : 1 , "b" : [ ] } "#,
            r#"{"a":"\u00e9\n\"","b":-0.5e+10,"c":[true,false,null,{"d":[[]]}]}"#,
            r#"{"a":"long enough to fill more than eight bytes, ä, \\ and more"}"#,
            r#"{"a":1,}"#,
            r#"{"a":01}"#,
            r#"{"a":1"#,
            r#"{"a":"}"#,
            r#"{"a":tru}"#,
            r#"{"a":[1}}"#,
            r#"{"a":{1]}"#,
            r#"{"a" 1}"#,
            r#"{a:1}"#,
            r#"{"a":1}x"#,
            r#"{"a":"\x"}"#,
            r#"{"a":"\u12"}"#,
            r#"{"a":.5}"#,
            r#"{"a":1.}"#,
            r#"{"a":1e}"#,
            r#"{"a":-}"#,
            "{\"a\":\"tab\tinside\"}",
            r#"{"a":[,]}"#,
            r#"{"a":[1,]}"#,
            "",
            "{",
            r#"{"a":{"b":1,"c"}}"#,
            r#"{"a":nul}"#,
            r#"{,}"#,
        ];
        for text in texts {
            let theirs = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok();
            assert_eq!(Object::parse(text).is_ok(), theirs, "{text}");
        }
    }

    #[test]
    fn keeps_values_as_they_came() {
        let object =
            Object::parse(r#"{"n":123456789012345678901234567890.10,"o":{ "x" : 1 },"\u0061":"b\n"}"#).unwrap();
        assert_eq!(object.get("n"), Some("123456789012345678901234567890.10"));
        assert_eq!(object.get("o"), Some(r#"{ "x" : 1 }"#));
        assert_eq!(object.string("a").unwrap(), "b\n");
        assert_eq!(object.string("n"), None);
    }

    #[test]
    fn refuses_what_parsers_read_differently() {
        assert_eq!(
            Object::parse(r#"{"a":1,"\u0061":2}"#).unwrap_err(),
            JsonError::Duplicate
        );
        let object = Object::parse(r#"{"name":1,"Name":2}"#).unwrap();
        assert_eq!(object.lookalike(&["name"]), Some("Name"));
        assert_eq!(object.lookalike(&["name", "Name"]), None);
        let (most, more) = ("m".repeat(MAX_NAME), "m".repeat(MAX_NAME + 1));
        let text = format!(r#"{{"{most}":1}}"#);
        assert_eq!(Object::parse(&text).unwrap().lookalike(&["name"]), None);
        let text = format!(r#"{{"{more}":1}}"#);
        assert_eq!(
            Object::parse(&text).unwrap().lookalike(&["name"]),
            Some(&*most),
            "too long to be shown"
        );
        assert_eq!(Object::parse("[1]").unwrap_err(), JsonError::NotAnObject);
    }

    #[test]
    fn deep_nesting_neither_overflows_nor_passes() {
        for open in ["[", "{\"a\":"] {
            let text = format!("{{\"a\":{}", open.repeat(1_000_000));
            assert_eq!(Object::parse(&text).unwrap_err(), JsonError::TooDeep);
        }
        let text = format!("{{\"a\":{}{}}}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        assert!(Object::parse(&text).is_ok());
    }

    #[test]
    fn many_members_are_accepted_and_too_many_are_not() {
        let object = |members: usize| {
            let members: Vec<_> = (0..members).map(|index| format!("\"{index}\":1")).collect();
            format!("{{{}}}", members.join(","))
        };
        let text = object(MAX_MEMBERS);
        assert_eq!(Object::parse(&text).unwrap().iter().count(), MAX_MEMBERS);
        assert_eq!(Object::parse(&object(MAX_MEMBERS + 1)).unwrap_err(), JsonError::TooMany);
        let twice = text.replace(&format!("\"{}\"", MAX_MEMBERS - 1), "\"\\u0031\"");
        assert_eq!(Object::parse(&twice).unwrap_err(), JsonError::Duplicate);
    }

    #[test]
    fn takes_arrays_apart() {
        assert_eq!(
            elements(r#" [ 1, {"a":[2]} ,"x"] "#, 3).unwrap(),
            ["1", r#"{"a":[2]}"#, "\"x\""]
        );
        assert_eq!(elements("[]", 0).unwrap(), Vec::<&str>::new());
        assert!(elements("[1", 9).is_err());
        assert!(elements("[1]]", 9).is_err());
        assert_eq!(elements("[1,2]", 1).unwrap_err(), JsonError::TooLong(1));
    }
}
