//! What hostile clients and servers send.

mod answers;
mod requests;

use crate::fuzz::weave;

/// Fields that say something of the message, and others.
const FIELDS: [&str; 18] = [
    "content-length: 2\r\n",
    "Content-Length:  12 \r\n",
    "content-length: 0\r\n",
    "content-length: +2\r\n",
    "transfer-encoding: chunked\r\n",
    "Transfer-Encoding:chunked\t\r\n",
    "transfer-encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "connection: close\r\n",
    "connection: keep-alive, x\r\n",
    "content-type: text/event-stream\r\n",
    "set-cookie: a\r\n",
    "a: b\r\n",
    "a:\r\n",
    "a : b\r\n",
    " folded\r\n",
    "expect: 100-continue\r\n",
    "Connection: Upgrade\r\nUpgrade: h2c\r\n",
];

/// Parts of bodies.
const BODY: [&str; 18] = [
    "2\r\nok\r\n",
    "2;a=\"b\"\r\nok\r\n",
    "003\r\nabc\r\n",
    "A\r\n0123456789\r\n",
    "0\r\n\r\n",
    "0\r\na: b\r\n\r\n",
    "0;a\r\n",
    "1\r\n",
    "\r\n",
    "\n",
    "ok",
    "0",
    "f",
    ";a",
    ": ",
    "HTTP/1.1 200 OK\r\n\r\n",
    "GET /b HTTP/1.1\r\nhost: a\r\n\r\n",
    "POST /c HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n",
];

/// The texts that an input stands for: itself, its words, and words in the order of a message that begins with one of `lines`, of which most have a valid
/// head.
fn texts(bytes: &[u8], lines: &[&'static str]) -> [Vec<u8>; 3] {
    let words = [lines, &FIELDS, &BODY].concat();
    let mut shaped = String::new();
    if let Some((first, rest)) = bytes.split_first() {
        let first = usize::from(*first);
        shaped.push_str(lines[first % lines.len()]);
        let (head, body) = rest.split_at((first / lines.len() % 4).min(rest.len()));
        let word = |words: &[&'static str], byte: &u8| words[usize::from(*byte) % words.len()];
        shaped.extend(head.iter().map(|byte| word(&FIELDS, byte)));
        shaped.push_str("\r\n");
        shaped.extend(body.iter().map(|byte| word(&BODY, byte)));
    }
    [bytes.to_vec(), weave(bytes, &words).into_bytes(), shaped.into_bytes()]
}
