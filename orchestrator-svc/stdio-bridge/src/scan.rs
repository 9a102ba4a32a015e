//! Finds which requests invalid answers answer: those that are too long to be kept, not JSON, spread over several lines, or in a batch that is.

use crate::envelope::number;

/// Bytes kept of a name or a value. The relevant members are shorter.
const KEPT: usize = 64;
/// Ids kept: as many as [`Limits::pending_requests`](crate::Limits) by default.
const MOST_IDS: usize = 1024;

/// Reads the members of one message, or of each message of a batch, from bytes that arrive in parts, in bounded memory. Skips the content of their
/// values, so that nothing in it is mistaken for a member.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scan {
    at: At,
    /// Arrays open around the message: batches, also in batches.
    batches: usize,
    /// Brackets open within the value.
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The name of the current member.
    name: Vec<u8>,
    is_id: bool,
    value: Vec<u8>,
    message: Message,
    /// The requests that the messages before this one answer.
    answered: Vec<u64>,
    any_rpc: bool,
    any_batch: bool,
    length: usize,
}

/// What was read of one message.
#[derive(Clone, Debug, Default)]
struct Message {
    /// Several if it has several members `id`, of which it cannot be said which one is meant.
    ids: Vec<u64>,
    has_id: bool,
    is_rpc: bool,
    has_method: bool,
}

/// Where a [`Scan`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Start,
    /// In a batch, outside of its messages.
    Batch,
    BeforeName,
    Name,
    BeforeColon,
    Value,
    /// The object or the batch is closed. What follows is not read.
    Closed,
    /// It is neither.
    Broken,
}

impl Message {
    /// Whether it may be an answer, as far as it was read.
    fn may_answer(&self) -> bool {
        self.is_rpc && !self.has_method
    }

    fn answers(&self) -> &[u64] {
        if self.may_answer() { &self.ids } else { &[] }
    }
}

impl Scan {
    /// Reads further bytes, up to the end of the object or the batch. Returns how many.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        let mut read = 0;
        for &byte in bytes {
            if matches!(self.at, At::Closed | At::Broken) {
                break;
            }
            self.step(byte);
            read += 1;
        }
        self.length += read;
        read
    }

    /// Whether a message has begun and is not closed, or is in a batch that is not.
    pub(crate) fn is_open(&self) -> bool {
        match self.at {
            At::Start | At::Closed | At::Broken => false,
            // Lines of a log begin with a bracket, too.
            At::Batch => self.any_rpc,
            At::BeforeName | At::Name | At::BeforeColon | At::Value => true,
        }
    }

    /// Whether the object or the batch is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.at == At::Closed
    }

    /// Whether it is rather a message, or has one, than a line of a log, as far as it was read.
    pub(crate) fn is_rpc(&self) -> bool {
        self.any_rpc || self.message.is_rpc
    }

    /// The bytes that were read.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Whether it is a batch.
    pub(crate) fn is_batch(&self) -> bool {
        self.any_batch
    }

    /// The ids of the requests that it answers, as far as it was read.
    pub(crate) fn answers(&self) -> impl Iterator<Item = u64> {
        self.answered.iter().chain(self.message.answers()).copied()
    }

    /// Whether it has begun an answer without saying yet whose it is.
    pub(crate) fn may_answer_any(&self) -> bool {
        self.is_open() && self.message.may_answer() && !self.message.has_id
    }

    fn step(&mut self, byte: u8) {
        let blank = byte.is_ascii_whitespace();
        match self.at {
            At::Batch => self.batch(byte),
            At::Start if byte == b'[' => {
                self.any_batch = true;
                self.batch(byte);
            }
            At::Start if byte == b'{' => self.at = At::BeforeName,
            At::BeforeName if byte == b'"' => {
                self.name.clear();
                self.at = At::Name;
            }
            At::BeforeName if byte == b'}' => self.end_of_message(),
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
            // Of a message, and of the others in its batch, the rest is read all the same.
            At::BeforeName | At::BeforeColon if self.batches > 0 || self.message.is_rpc => {
                self.is_id = false;
                self.value.clear();
                self.at = At::Value;
                self.value(byte);
            }
            _ => self.at = At::Broken,
        }
    }

    /// Reads what is between the messages of a batch, whatever it is.
    fn batch(&mut self, byte: u8) {
        self.at = At::Batch;
        if self.escaped {
            self.escaped = false;
        } else if self.in_string {
            self.escaped = byte == b'\\';
            self.in_string = byte != b'"';
        } else {
            match byte {
                b'"' => self.in_string = true,
                b'[' => self.batches += 1,
                b']' => {
                    self.batches -= 1;
                    if self.batches == 0 {
                        self.at = At::Closed;
                    }
                }
                b'{' => self.at = At::BeforeName,
                _ => {}
            }
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
                    return self.end_of_message();
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
        self.message.has_method |= name == "method";
        self.message.is_rpc |= matches!(name.as_str(), "jsonrpc" | "result");
        self.is_id = name == "id";
    }

    /// Evaluates a complete member.
    fn member(&mut self) {
        if !self.is_id {
            return;
        }
        self.message.has_id = true;
        let id = str::from_utf8(self.value.trim_ascii()).ok().and_then(number);
        let room = self.answered.len() + self.message.ids.len() < MOST_IDS;
        self.message.ids.extend(id.filter(|_| room));
    }

    fn end_of_message(&mut self) {
        if self.batches == 0 {
            self.at = At::Closed;
            return;
        }
        let message = std::mem::take(&mut self.message);
        self.answered.extend_from_slice(message.answers());
        self.any_rpc |= message.is_rpc;
        self.at = At::Batch;
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

    fn answers(text: &[u8]) -> Vec<u64> {
        let mut scan = Scan::default();
        scan.push(text);
        scan.answers().collect()
    }

    #[test]
    fn finds_the_id_at_any_position() {
        for text in [
            r#"{"jsonrpc":"2.0","id":17,"result":NaN}"#,
            r#" { "result" : {"id": 3, "a": [{"id": 4}]}, "jsonrpc": "2.0", "id" : 17 } trailing"#,
            r#"{"id":"17","jsonrpc":"2.0","result":"\"id\":5,{\\"}"#,
            "{\n  \"jsonrpc\": \"2.0\",\n  \"id\": 17.0,\n  \"result\": {\n    \"id\": 5\n  }\n}",
            r#"{"jsonrpc":"2.0","\u0069d":17,"error":null,"result":{}}"#,
            r#"{"jsonrpc":"2.0",result:[{"id":3}],,"id":17}"#,
        ] {
            assert_eq!(answers(text.as_bytes()), [17], "{text}");
        }
        assert_eq!(answers(b"{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":\"\xff\"}"), [17]);
    }

    #[test]
    fn mistakes_nothing_else_for_an_answer() {
        for text in [
            r#"{"jsonrpc":"2.0","id":17,"method":"roots/list"}"#,
            r#"{"level":"info","id":17,"message":"a log line"}"#,
            r#"{"jsonrpc":"2.0","result":{"id":17}}"#,
            r#"{"jsonrpc":"2.0","result":"id","x":[{"id":17}]}"#,
            r#"{ id: 17, jsonrpc: 2, result: 1 }"#,
            r#"[{"jsonrpc":"2.0","id":17,"method":"roots/list"}]"#,
            r#"["{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":{}}"]"#,
            r#"[INFO] {"jsonrpc":"2.0","id":17,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":{"id":17},"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":17.5,"result":{}}"#,
        ] {
            assert_eq!(answers(text.as_bytes()), [0; 0], "{text}");
        }
    }

    #[test]
    fn finds_the_ids_of_a_batch_whatever_else_is_in_it() {
        let of = |id| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":[{{"id":4}}]}}"#);
        for between in [
            ",",
            ",NaN,",
            ",{},",
            ",{\"a\":1,},",
            ",{broken: [}, \"]\"},",
            ",{broken},",
            ",\"]{\\\"\",",
            "],[[1],",
            "",
            r#",{"id":5,"method":"m","jsonrpc":"2.0"},"#,
        ] {
            let text = format!("[[{}{between}{}]]", of(1), of(2));
            assert_eq!(answers(text.as_bytes()), [1, 2], "{text}");
            assert_eq!(answers(&text.as_bytes()[..text.len() - 4]), [1, 2], "cut: {text}");
        }
    }

    #[test]
    fn two_ids_are_both_found() {
        assert_eq!(answers(br#"{"jsonrpc":"2.0","id":1,"id":2,"result":{}}"#), [1, 2]);
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
        assert_eq!((scan.is_closed(), scan.answers().collect()), (true, vec![5]));
        assert!(scan.name.capacity() + scan.value.capacity() <= 4 * KEPT);
        let mut scan = Scan::default();
        scan.push(b"[");
        for _ in 0..MOST_IDS {
            scan.push(br#"{"id":1,"id":2,"result":3,"id":4},"#);
        }
        assert_eq!(scan.answers().count(), MOST_IDS);
    }
}
