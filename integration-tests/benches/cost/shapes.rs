//! Shapes of data that cost a careless reader more than their size suggests.

/// How a shape is sent to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A JSON value in the arguments of a tool call over MCP.
    Arguments,
    /// Members of the envelope of a tool call, after a comma.
    Envelope,
    /// The whole body of a POST to an MCP endpoint.
    Body,
    /// A JSON value in the result of an upstream.
    Answer,
    /// Members of the envelope of an upstream's response, after a comma.
    AnswerEnvelope,
    /// A JSON value in the result of an upstream that responds with one event.
    Event,
    /// An event stream of an upstream, which ends with its response.
    Events,
    /// Header lines of a request.
    Head,
    /// `arguments_json` of CallTool over gRPC.
    CallTool,
    /// A CreateEntry message over gRPC.
    CreateEntry,
    /// `query` of ListEntries over gRPC.
    Query,
    /// `page_token` of ListEntries over gRPC.
    PageToken,
    /// An install form.
    Form,
}

/// A shape, and how it is sent.
pub(crate) struct Shape {
    pub(crate) name: String,
    pub(crate) way: Way,
    /// Its large size.
    pub(crate) bytes: usize,
    /// Makes the shape in about this many bytes.
    pub(crate) make: Box<dyn Fn(usize) -> Vec<u8>>,
}

/// A message may have 4 MiB.
const MESSAGE: usize = 3_900_000;
/// 9,000 members with names of the greatest length.
const NAMES_BYTES: usize = 2_250_000;
/// A response of an upstream may have 16 MiB.
const ANSWER: usize = 16_000_000;
/// About the limit of a request head.
const HEAD: usize = 30_000;
const GRPC: usize = 3_900_000;
/// A request that creates or lists entries may have 2 MiB.
const ENTRY: usize = 2_000_000;
const FORM: usize = 8_000_000;

/// A name, and a function that makes a text of about this many bytes.
type Made = (&'static str, fn(usize) -> String);

/// JSON values.
const VALUES: [Made; 14] = [
    ("text", |bytes| format!("\"{}\"", "x".repeat(bytes))),
    ("text of other scripts", |bytes| {
        format!("\"{}\"", "\u{6f22}".repeat(bytes / 3))
    }),
    ("escapes", |bytes| format!("\"{}\"", "\\n".repeat(bytes / 2))),
    ("escaped surrogates", |bytes| {
        format!("\"{}\"", "\\ud83d\\ude00".repeat(bytes / 12))
    }),
    ("short texts", |bytes| format!("[{}\"\"]", "\"\",".repeat(bytes / 3))),
    ("texts with an escape", |bytes| {
        format!("[{}\"\"]", "\"\\n\",".repeat(bytes / 5))
    }),
    ("digits", |bytes| format!("[{}1]", "1,".repeat(bytes / 2))),
    ("numbers with exponents", |bytes| {
        format!("[{}1]", "1.5e-300,".repeat(bytes / 9))
    }),
    ("one long number", |bytes| format!("0.{}", "1".repeat(bytes))),
    ("deep arrays", |bytes| {
        format!(
            "[{}0]",
            format!("{}{},", "[".repeat(90), "]".repeat(90)).repeat(bytes / 181)
        )
    }),
    ("deep objects", |bytes| {
        format!(
            "[{}0]",
            format!("{}0{},", "{\"a\":".repeat(90), "}".repeat(90)).repeat(bytes / 542)
        )
    }),
    ("objects of one member", |bytes| {
        format!("[{}0]", "{\"\":0},".repeat(bytes / 7))
    }),
    ("objects of 10,000 members", |bytes| {
        let members: Vec<String> = (0..10_000).map(|n| format!("\"{n:04x}\":0")).collect();
        let object = format!("{{{}}},", members.join(","));
        format!("[{}0]", object.repeat((bytes / object.len()).max(1)))
    }),
    ("space", |bytes| format!("[{}0]", " ".repeat(bytes))),
];

/// Unknown members of an envelope: at most 9,000, with names of the greatest length.
const NAMES: [Made; 4] = [
    ("many members", |bytes| members(bytes, &"n".repeat(240))),
    ("a long name", |bytes| format!(",\"{}\":0", "m".repeat(bytes))),
    ("names of accents", |bytes| members(bytes, &"\u{301}\u{327}".repeat(60))),
    ("names of what folds away", |bytes| members(bytes, &"_".repeat(240))),
];

fn members(bytes: usize, name: &str) -> String {
    let count = bytes / (name.len() + 10);
    (0..count).map(|n| format!(",\"{n:04}{name}\":0")).collect()
}

/// The shapes of `list` whose names are in `only`; all shapes if `only` is empty.
fn these(of: &str, way: Way, bytes: usize, list: &[Made], only: &[&str]) -> Vec<Shape> {
    for name in only {
        assert!(list.iter().any(|(known, _)| known == name), "there is no shape {name}");
    }
    let wanted = |name: &str| only.is_empty() || only.contains(&name);
    list.iter()
        .filter(|(name, _)| wanted(name))
        .map(|&(name, make)| Shape {
            name: format!("{of}: {name}"),
            way,
            bytes,
            make: Box::new(move |bytes| make(bytes).into_bytes()),
        })
        .collect()
}

/// All shapes.
pub(crate) fn all() -> Vec<Shape> {
    let costly = ["text", "escapes", "digits", "deep objects", "objects of 10,000 members"];
    let mut shapes = [
        these("message", Way::Arguments, MESSAGE, &VALUES, &[]),
        these("message", Way::Envelope, NAMES_BYTES, &NAMES, &[]),
        these("answer", Way::Answer, ANSWER, &VALUES, &[]),
        these("answer", Way::AnswerEnvelope, NAMES_BYTES, &NAMES, &[]),
        these("event", Way::Event, ANSWER, &VALUES, &costly),
        these("CallTool", Way::CallTool, GRPC, &VALUES, &costly),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>();
    let mut more = |name: &str, way, bytes, make: fn(usize) -> Vec<u8>| {
        shapes.push(Shape {
            name: name.to_owned(),
            way,
            bytes,
            make: Box::new(make),
        });
    };
    more("message: a batch that is none", Way::Body, MESSAGE, |bytes| {
        format!("[{}0]", "0,".repeat(bytes / 2)).into_bytes()
    });
    more("message: no UTF-8", Way::Body, MESSAGE, |bytes| {
        [vec![b' '; bytes], vec![0xff]].concat()
    });
    more("events: comments", Way::Events, ANSWER, |bytes| {
        ":\n".repeat(bytes / 2).into_bytes()
    });
    more("events: empty events", Way::Events, ANSWER, |bytes| {
        "\n".repeat(bytes).into_bytes()
    });
    more("events: carriage returns", Way::Events, ANSWER, |bytes| {
        ":\r".repeat(bytes / 2).into_bytes()
    });
    more("events: many lines of data", Way::Events, ANSWER, |bytes| {
        format!(
            "data:{{\n{}data:\"jsonrpc\":\"2.0\",\"method\":\"x\"}}\n\n",
            "data\n".repeat(bytes / 5)
        )
        .into_bytes()
    });
    more("events: small notifications", Way::Events, ANSWER, |bytes| {
        let event = "data:{\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n\n";
        event.repeat(bytes / event.len()).into_bytes()
    });
    more("head: many lines", Way::Head, HEAD, |bytes| {
        (0..bytes / 300)
            .map(|n| format!("x-{n:04}: {}\r\n", "v".repeat(289)))
            .collect::<String>()
            .into_bytes()
    });
    more("head: Accept", Way::Head, HEAD, |bytes| {
        format!("accept: {}*/*\r\n", "a/b,".repeat(bytes / 4)).into_bytes()
    });
    more("head: Cookie", Way::Head, HEAD, |bytes| {
        format!("cookie: {}a=b\r\n", "a=b; ".repeat(bytes / 5)).into_bytes()
    });
    more("head: X-Forwarded-For", Way::Head, HEAD, |bytes| {
        format!("x-forwarded-for: {}127.0.0.1\r\n", "127.0.0.1, ".repeat(bytes / 11)).into_bytes()
    });
    more("CreateEntry: labels", Way::CreateEntry, ENTRY, |bytes| {
        protobuf::labels(bytes)
    });
    more("CreateEntry: empty install fields", Way::CreateEntry, ENTRY, |bytes| {
        protobuf::install_fields(bytes)
    });
    more("CreateEntry: unknown fields", Way::CreateEntry, ENTRY, |bytes| {
        protobuf::unknown(bytes)
    });
    more("CreateEntry: one long text", Way::CreateEntry, ENTRY, |bytes| {
        protobuf::text(bytes)
    });
    more("ListEntries: a query of many words", Way::Query, ENTRY, |bytes| {
        "ab ".repeat(bytes / 3).into_bytes()
    });
    more("ListEntries: a page token", Way::PageToken, ENTRY, |bytes| {
        "A".repeat(bytes).into_bytes()
    });
    more("form: fields", Way::Form, FORM, |bytes| {
        "a=&".repeat(bytes / 3).into_bytes()
    });
    more("form: secrets", Way::Form, FORM, |bytes| {
        (0..bytes / 15)
            .map(|n| format!("secret.{n:06}=&"))
            .collect::<String>()
            .into_bytes()
    });
    more("form: escapes", Way::Form, FORM, |bytes| {
        format!("value.a={}", "%41".repeat(bytes / 3)).into_bytes()
    });
    more("form: text", Way::Form, FORM, |bytes| {
        format!("secret.a={}", "x".repeat(bytes)).into_bytes()
    });
    shapes
}

/// CreateEntry messages.
mod protobuf {
    use std::collections::HashMap;

    use contracts::registry::{CreateEntryRequest, Entry, InstallField};
    use prost::Message as _;

    fn create(entry: Entry) -> Vec<u8> {
        let request = CreateEntryRequest {
            entry_id: "cost".to_owned(),
            entry: Some(entry),
            ..CreateEntryRequest::default()
        };
        request.encode_to_vec()
    }

    pub(super) fn labels(bytes: usize) -> Vec<u8> {
        let labels: HashMap<String, String> = (0..bytes / 400).map(|n| (format!("{n:06}"), "v".repeat(380))).collect();
        create(Entry {
            labels,
            ..Entry::default()
        })
    }

    pub(super) fn install_fields(bytes: usize) -> Vec<u8> {
        create(Entry {
            install_fields: vec![InstallField::default(); bytes / 2],
            ..Entry::default()
        })
    }

    /// Empty fields with an unknown number.
    pub(super) fn unknown(bytes: usize) -> Vec<u8> {
        [0xfa, 0x3f, 0x00].repeat(bytes / 3)
    }

    pub(super) fn text(bytes: usize) -> Vec<u8> {
        create(Entry {
            description: "d".repeat(bytes),
            ..Entry::default()
        })
    }
}
