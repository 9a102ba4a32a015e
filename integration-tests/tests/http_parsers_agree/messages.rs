//! What clients send: valid, odd and hostile.

use integration_tests::chance::Chance;

/// Beginnings of a request.
const LINES: [&str; 22] = [
    "POST / HTTP/1.1\r\nhost: a\r\n",
    "GET /mcp/team?a=b&c=%20 HTTP/1.1\r\nHost: a.example:8080\r\n",
    "\r\n\r\nDELETE //b/../c HTTP/1.1\r\nhost:a\r\n",
    "HEAD /~!$&'()*+,;=:@ HTTP/1.1\r\nhost: [::1]:80 \r\n",
    "OPTIONS /a??b HTTP/1.1\r\nHOST:\ta\t\r\n",
    "PUT /a HTTP/1.0\r\nhost: a\r\n",
    "PATCH /a HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n",
    "POST /\" HTTP/1.1\r\nhost: a\r\n",
    "POST /{} HTTP/1.1\r\nhost: a\r\n",
    "POST /\\ HTTP/1.1\r\nhost: a\r\n",
    "POST /\u{e9} HTTP/1.1\r\nhost: a\r\n",
    "POST /#a HTTP/1.1\r\nhost: a\r\n",
    "POST http://b/ HTTP/1.1\r\nhost: a\r\n",
    "POST  / HTTP/1.1\r\nhost: a\r\n",
    "POST / HTTP/1.1\nhost: a\n",
    "POST / HTTP/1.1\rhost: a\r\n",
    "POST / HTTP/1.1\r\n",
    "POST / HTTP/1.1\r\nhost: a\r\nhost: b\r\n",
    "POST / HTTP/2.0\r\nhost: a\r\n",
    "POST / HTTP/1.1\r\nhost: a, b\r\n",
    "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n",
    "post / HTTP/1.1\r\nhost: a\r\n",
];

/// Fields that say where the body ends, or seem to.
const FRAMINGS: [&str; 25] = [
    "",
    "content-length: 5\r\n",
    "Content-Length:\t 5 \t\r\n",
    "content-length: 0\r\n",
    "content-length: 00005\r\n",
    "content-length: +5\r\n",
    "content-length: 5, 5\r\n",
    "content-length: 5\r\ncontent-length: 5\r\n",
    "content-length: 0\r\ncontent-length: 5\r\n",
    "content-length: 0x5\r\n",
    "content-length : 5\r\n",
    "content-length\t: 5\r\n",
    "content-length\u{b}: 5\r\n",
    "content_length: 5\r\n",
    "x: y\r\n content-length: 5\r\n",
    "x: y\ncontent-length: 5\r\n",
    "x: y\rcontent-length: 5\r\n",
    "transfer-encoding: chunked\r\n",
    "Transfer-Encoding: CHUNKED\r\n",
    "transfer-encoding:\u{b}chunked\r\n",
    "transfer-encoding: gzip, chunked\r\n",
    "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
    "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
    "content-length: 5\r\ntransfer-encoding: chunked\r\n",
    "transfer-encoding: identity\r\ncontent-length: 5\r\n",
];

/// Further fields. Not `Connection: upgrade`: Node takes what follows for another protocol, which nothing in its program speaks, and does not close behind
/// half a body.
const FIELDS: [&str; 11] = [
    "a: \u{e9}\u{80}\r\na:\r\nA: b\tc\r\n",
    "__proto__: a\r\nconstructor: b\r\n",
    "connection: close\r\n",
    "connection: keep-alive, x\r\nx: y\r\n",
    "upgrade: websocket\r\n",
    "expect: 100-continue\r\n",
    "expect: more\r\n",
    "connection: content-length\r\n",
    "cookie: a=b\r\ncookie: c=d\r\n",
    "a: \0\r\n",
    "!#$%&'*+-.^_`|~: a\r\n",
];

/// Bodies; what follows one that is shorter is another request, or none. Not those with extensions that are no `name=value`: Node refuses them, and we skip
/// them to the same CRLF.
const BODIES: [&str; 18] = [
    "",
    "12345",
    "123",
    "5\r\n12345\r\n0\r\n\r\n",
    "005;a=\"b;c\"\r\n12345\r\n000;d\r\na: b\r\n\r\n",
    "5\r\n12345\r\n0\r\ncontent-length: 9\r\n\r\n",
    "5\r\n12345\r\n0\r\ntransfer-encoding: chunked\r\n\r\n",
    "5 \r\n12345\r\n0\r\n\r\n",
    "5\t\r\n12345\r\n0\r\n\r\n",
    "5\n12345\r\n0\r\n\r\n",
    "5;a\nb\r\n12345\r\n0\r\n\r\n",
    "0x5\r\n12345\r\n0\r\n\r\n",
    "10000000000000005\r\n12345\r\n0\r\n\r\n",
    "5\r\n123456\r\n0\r\n\r\n",
    "5\r\n1234\r\n0\r\n\r\n",
    "5\r\n12345\r\n0\r\na\r\n\r\n",
    "0\r\n\n",
    "0\r\n\r\n",
];

const BEHIND: &str = "GET /behind HTTP/1.1\r\nhost: a\r\n\r\n";

/// What is put in at random. Not `;`, which is an extension without a name, and not a tab: Node refuses a valid one behind `chunked`.
const STRAY: [&[u8]; 14] = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b":",
    b",",
    b"\x0b",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"0",
    b"a",
    b"\r\n\r\n",
];

/// Each part beside usual ones, all framings with all bodies, and `random` others.
pub(crate) fn all(random: usize) -> Vec<Vec<u8>> {
    let mut all: Vec<String> = Vec::new();
    all.extend(LINES.map(|line| format!("{line}content-length: 5\r\n\r\n12345{BEHIND}")));
    all.extend(LINES.map(|line| format!("{line}\r\n{BEHIND}")));
    all.extend(FIELDS.map(|fields| format!("{}{fields}content-length: 5\r\n\r\n12345{BEHIND}", LINES[0])));
    for framing in FRAMINGS {
        all.extend(BODIES.map(|body| format!("{}{framing}\r\n{body}{BEHIND}", LINES[0])));
    }
    let mut all: Vec<_> = all.into_iter().map(String::into_bytes).collect();
    let mut chance = Chance(1);
    all.extend((0..random).map(|_| any(&mut chance)));
    all
}

/// One to three requests, mostly valid, often with a stray byte.
fn any(chance: &mut Chance) -> Vec<u8> {
    let (mut message, mut extended) = (Vec::new(), false);
    for _ in 0..=chance.below(3) {
        // The first of each are the valid ones.
        let usual = chance.below(4) > 0;
        let line = chance.of(if usual { &LINES[..7] } else { &LINES });
        let (framing, body) = match chance.below(4) {
            0 => (FRAMINGS[0], BODIES[0]),
            1 => (chance.of(&FRAMINGS[1..3]), BODIES[1]),
            2 => (chance.of(&FRAMINGS[17..19]), chance.of(&BODIES[3..5])),
            _ => (chance.of(&FRAMINGS), chance.of(&BODIES)),
        };
        let fields = if chance.below(3) == 0 { chance.of(&FIELDS) } else { "" };
        message.extend_from_slice(format!("{line}{fields}{framing}\r\n{body}").as_bytes());
        extended |= body.contains(';');
    }
    // In an extension it could be what Node alone refuses.
    if !extended && chance.below(2) == 0 {
        let at = chance.below(message.len());
        let until = at + chance.below(2);
        message.splice(at..until, chance.of(&STRAY).iter().copied());
    }
    message
}
