//! Finds which request an invalid answer answers: one that is too long to be kept, not JSON, or spread over several lines.

use crate::envelope::number;

/// Bytes kept of a name or a value. The relevant members are shorter.
const KEPT: usize = 64;

/// Reads the members of one object from bytes that arrive in parts, in bounded memory. Skips the content of their values, so that nothing in it is
/// mistaken for a member.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scan {
    at: At,
    /// Brackets open within the value.
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The name of the current member.
    name: Vec<u8>,
    is_id: bool,
    value: Vec<u8>,
    id: Option<u64>,
    is_rpc: bool,
    has_method: bool,
}

/// Where a [`Scan`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Start,
    BeforeName,
    Name,
    BeforeColon,
    Value,
    /// The object is closed. What follows is ignored.
    Closed,
    /// It is not an object.
    Broken,
}

impl Scan {
    /// Reads further bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if matches!(self.at, At::Closed | At::Broken) {
                return;
            }
            self.step(byte);
        }
    }

    /// Whether the object has begun and is not closed.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.at, At::Start | At::Closed | At::Broken)
    }

    /// Whether the object is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.at == At::Closed
    }

    /// Whether it is rather a message than a line of a log, as far as it was read.
    pub(crate) fn is_rpc(&self) -> bool {
        self.is_rpc
    }

    /// The id of the request that it answers, as far as it was read.
    pub(crate) fn answers(&self) -> Option<u64> {
        self.id.filter(|_| self.may_answer())
    }

    /// Whether it may be an answer, as far as it was read.
    pub(crate) fn may_answer(&self) -> bool {
        self.is_rpc && !self.has_method
    }

    fn step(&mut self, byte: u8) {
        let blank = byte.is_ascii_whitespace();
        match self.at {
            At::Start if byte == b'{' => self.at = At::BeforeName,
            At::BeforeName if byte == b'"' => {
                self.name.clear();
                self.at = At::Name;
            }
            At::BeforeName if byte == b'}' => self.at = At::Closed,
            At::Name if self.escaped => {
                self.escaped = false;
                keep(&mut self.name, byte);
            }
            At::Name if byte == b'"' => self.at = At::BeforeColon,
            At::Name => {
                self.escaped = byte == b'\\';
                keep(&mut self.name, byte);
            }
            At::BeforeColon if byte == b':' => {
                self.named();
                self.value.clear();
                self.at = At::Value;
            }
            At::Value => self.value(byte),
            At::Start | At::BeforeName | At::BeforeColon if blank => {}
            _ => self.at = At::Broken,
        }
    }

    fn value(&mut self, byte: u8) {
        if self.escaped {
            self.escaped = false;
        } else if self.in_string {
            self.escaped = byte == b'\\';
            self.in_string = byte != b'"';
        } else {
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth > 0 => self.depth -= 1,
                b',' if self.depth == 0 => {
                    self.member();
                    self.at = At::BeforeName;
                    return;
                }
                b'}' => {
                    self.member();
                    self.at = At::Closed;
                    return;
                }
                _ => {}
            }
        }
        keep(&mut self.value, byte);
    }

    /// Evaluates a complete name. Its value may never end.
    fn named(&mut self) {
        let quoted = [b"\"", &self.name[..], b"\""].concat();
        let name = serde_json::from_slice::<String>(&quoted).unwrap_or_default();
        self.has_method |= name == "method";
        self.is_rpc |= matches!(name.as_str(), "jsonrpc" | "result");
        self.is_id = name == "id";
    }

    /// Evaluates a complete member.
    fn member(&mut self) {
        if self.is_id {
            self.id = str::from_utf8(self.value.trim_ascii()).ok().and_then(number);
        }
    }
}

fn keep(kept: &mut Vec<u8>, byte: u8) {
    if kept.len() < KEPT {
        kept.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn answers(text: &[u8]) -> Option<u64> {
        let mut scan = Scan::default();
        scan.push(text);
        scan.answers()
    }

    #[test]
    fn finds_the_id_at_any_position() {
        for text in [
            r#"{"jsonrpc":"2.0","id":17,"result":NaN}"#,
            r#" { "result" : {"id": 3, "a": [{"id": 4}]}, "jsonrpc": "2.0", "id" : 17 } trailing"#,
            r#"{"id":"17","jsonrpc":"2.0","result":"\"id\":5,{\\"}"#,
            "{\n  \"jsonrpc\": \"2.0\",\n  \"id\": 17.0,\n  \"result\": {\n    \"id\": 5\n  }\n}",
            r#"{"jsonrpc":"2.0","\u0069d":17,"error":null,"result":{}}"#,
        ] {
            assert_eq!(answers(text.as_bytes()), Some(17), "{text}");
        }
        assert_eq!(
            answers(b"{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":\"\xff\"}"),
            Some(17)
        );
    }

    #[test]
    fn mistakes_nothing_else_for_an_answer() {
        for text in [
            r#"{"jsonrpc":"2.0","id":17,"method":"roots/list"}"#,
            r#"{"level":"info","id":17,"message":"a log line"}"#,
            r#"{"jsonrpc":"2.0","result":{"id":17}}"#,
            r#"{"jsonrpc":"2.0","result":"id","x":[{"id":17}]}"#,
            r#"{ id: 17, jsonrpc: 2, result: 1 }"#,
            r#"[{"jsonrpc":"2.0","id":17,"result":{}}]"#,
            r#"{"jsonrpc":"2.0","id":{"id":17},"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":17.5,"result":{}}"#,
        ] {
            assert_eq!(answers(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn memory_does_not_grow_with_the_length() {
        let mut scan = Scan::default();
        scan.push(br#"{"jsonrpc":"2.0","result":""#);
        for _ in 0..1000 {
            scan.push(&[b'x'; 1000]);
        }
        assert!(scan.is_open());
        scan.push(br#"","id":5}"#);
        assert_eq!((scan.is_closed(), scan.answers()), (true, Some(5)));
        assert!(scan.name.capacity() + scan.value.capacity() <= 4 * KEPT);
    }
}
