//! What a server says, with whatever is in it, is what a client gets: byte for byte, up to ids, names and what a revision adds.

use std::fmt::Write as _;

use pretty_assertions::assert_eq;

use super::*;
use crate::json::{Object, elements};

/// A seed that is always tried.
const SEED: u64 = 0x5eed_0011;
/// How many sessions of each seed.
const SESSIONS: u64 = 12;

/// Makes JSON of a seed (SplitMix64).
struct Generator(u64);

impl Generator {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }

    fn one_of<'a>(&mut self, of: &[&'a str]) -> &'a str {
        let index = self.next(of.len() as u64);
        of[usize::try_from(index).unwrap()]
    }

    /// A string's text that a reader of UTF-16, lines or C strings takes for something else.
    fn string(&mut self) -> String {
        let parts = (0..self.next(6)).map(|_| {
            self.one_of(&[
                "a",
                "\u{1f9f0}",
                "\\u0000",
                "\\ud83e\\uddf0",
                "\u{2028}",
                "\\\"",
                "\\\\",
                "\\/",
                "\u{202e}",
                "\u{301}",
                "data: ",
                "\\n",
                "\u{fffd}",
                "\u{10ffff}",
                "e\u{301}",
            ])
        });
        format!("\"{}\"", parts.collect::<String>())
    }

    fn value(&mut self, depth: u64) -> String {
        match self.next(if depth == 0 { 3 } else { 5 }) {
            0 => self.string(),
            1 => self
                .one_of(&[
                    "12345678901234567890123",
                    "1.0",
                    "-0.0",
                    "1E+2",
                    "0.1000",
                    "9007199254740993",
                    "1e-7",
                ])
                .to_owned(),
            2 => self
                .one_of(&["null", "true", "false", "[]", "{}", "[ ]", "{ }"])
                .to_owned(),
            3 => {
                let items: Vec<String> = (0..self.next(4)).map(|_| self.value(depth - 1)).collect();
                format!("[{}]", items.join(self.one_of(&[",", " , "])))
            }
            _ => format!("{{{}}}", self.members(depth - 1)),
        }
    }

    /// Members with names that nobody knows.
    fn members(&mut self, depth: u64) -> String {
        let members = (0..1 + self.next(4)).map(|n| {
            let name = self.one_of(&["new", "\u{fc}", "a/b", "$ref", "\\u0041", ""]);
            let space = self.one_of(&["", " "]);
            format!("\"{name}{n}\"{space}:{space}{}", self.value(depth))
        });
        members.collect::<Vec<_>>().join(",")
    }

    /// An object with these members, and others.
    fn object(&mut self, known: &str) -> String {
        let depth = 1 + self.next(24);
        match self.next(3) {
            0 => format!("{{{known},{}}}", self.members(depth)),
            1 => format!("{{ {},{known} }}", self.members(depth)),
            _ => format!("{{{known}}}"),
        }
    }

    /// The items of a list, page by page. `known` is what each has, with its number for `#`.
    fn pages(&mut self, known: &str) -> Vec<Vec<String>> {
        let mut number = 0;
        let pages = (0..1 + self.next(9)).map(|_| {
            let items = (0..self.next(5)).map(|_| {
                number += 1;
                self.object(&known.replace('#', &number.to_string()))
            });
            items.collect()
        });
        pages.collect()
    }
}

/// A list: its method, its member, and what all its items have.
const LISTS: [(&str, &str, &str); 3] = [
    ("prompts/list", "prompts", r#""name":"p#""#),
    ("resources/list", "resources", r#""uri":"a:#""#),
    (
        "resources/templates/list",
        "resourceTemplates",
        r#""uriTemplate":"t#://{x}""#,
    ),
];

/// All that a server says in one session.
struct Session {
    lists: Vec<Vec<Vec<String>>>,
    definition: String,
    result: String,
    error: String,
    notifications: Vec<String>,
    arguments: String,
}

impl Session {
    fn of(seed: u64) -> Self {
        let mut made = Generator(seed);
        let notifications = (0..made.next(4)).map(|_| {
            let params = made.object(r#""level":"error","data":1"#);
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{params},"x":1.0}}"#)
        });
        let notifications = notifications.collect();
        let schema = made.object(r#""type":"object""#);
        Self {
            lists: LISTS.iter().map(|(.., known)| made.pages(known)).collect(),
            definition: made.object(&format!(r#""name":"send","inputSchema":{schema}"#)),
            result: made.object(r#""content":[],"messages":[],"contents":[],"completion":{}"#),
            error: made.object(r#""code":-32050,"message":"no""#),
            notifications,
            arguments: made.object(r#""n":1"#),
        }
    }

    /// As the server answers.
    fn answer(&self, message: &Value) -> Response {
        let method = message["method"].as_str().unwrap();
        let list = LISTS.iter().position(|(known, ..)| *known == method);
        let Some(list) = list else {
            let reply = self.reply(message, &message["id"]);
            if self.notifications.is_empty() {
                return raw(reply);
            }
            let mut events = String::new();
            for message in self.notifications.iter().chain([&reply]) {
                write!(events, "data: {message}\n\n").unwrap();
            }
            return ([("content-type", "text/event-stream")], events).into_response();
        };
        let page: usize = message["params"]["cursor"]
            .as_str()
            .map_or(0, |cursor| cursor.parse().unwrap());
        let (pages, member) = (&self.lists[list], LISTS[list].1);
        let next = (page + 1 < pages.len()).then(|| format!(r#","nextCursor":"{}""#, page + 1));
        let result = format!(
            r#"{{"{member}":[{}]{}}}"#,
            pages[page].join(","),
            next.unwrap_or_default()
        );
        raw(format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#,
            message["id"]
        ))
    }

    fn reply(&self, message: &Value, id: &Value) -> String {
        if message["params"]["_meta"]["fails"] == true {
            return format!(r#"{{"id":{id},"y":[ 1.0 ],"error":{},"jsonrpc":"2.0"}}"#, self.error);
        }
        format!(r#"{{"id":{id},"y":[ 1.0 ],"result":{},"jsonrpc":"2.0"}}"#, self.result)
    }
}

impl World {
    async fn said(&self, session: &str, message: &Value) -> String {
        let ask = post(message.to_string()).at("/mcp/all").by("alice").session(session);
        text(self.send(ask).await).await
    }

    /// All items of a list, verbatim.
    async fn items(&self, session: &str, method: &str, member: &str) -> Vec<String> {
        let (mut items, mut params) = (Vec::new(), json!({}));
        loop {
            let list = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
            let said = self.said(session, &list).await;
            let message = Object::parse(&said).unwrap();
            let result = Object::parse(message.get("result").unwrap_or_else(|| panic!("{said}"))).unwrap();
            items.extend(
                elements(result.get(member).unwrap(), 1000)
                    .unwrap()
                    .into_iter()
                    .map(str::to_owned),
            );
            match result.string("nextCursor") {
                Some(cursor) => params = json!({"cursor": cursor}),
                None => return items,
            }
        }
    }
}

/// Items as names and verbatim values: where its name is and how a member is written, the gateway says anew, since it has decided by it.
fn by_member(items: &[String]) -> Vec<Vec<(String, String)>> {
    let members = |item: &String| {
        let object = Object::parse(item).unwrap();
        let members = object.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut members: Vec<_> = members.collect();
        members.sort();
        members
    };
    items.iter().map(members).collect()
}

async fn is_relayed(seed: u64) {
    let served = Arc::new(Session::of(seed));
    let serves = Arc::clone(&served);
    let mut world = world(move |message, _| serves.answer(&message)).await;
    let mut registry = world.registry.clone().gateway("all").assign("all", "mail", "*");
    for object in &mut registry.objects {
        if let Some(pb::watched_object::Object::FeatureDefinition(definition)) = &mut object.object {
            definition.definition_json.clone_from(&served.definition);
        }
    }
    fill(&mut world.feed, 2, registry.objects).await;
    let opened = world
        .send(post(initialize(0, "2025-11-25", &json!({}))).at("/mcp/all").by("alice"))
        .await;
    let session = opened.headers()["mcp-session-id"].to_str().unwrap().to_owned();

    let listed = world.items(&session, "tools/list", "tools").await;
    let named = served.definition.replace(r#""send""#, r#""mail__send""#);
    assert_eq!(by_member(&listed), by_member(&[named]));
    for ((method, member, _), pages) in LISTS.iter().zip(&served.lists) {
        let named = |item: &String| match *member {
            "prompts" => item.replacen(r#""name":"p"#, r#""name":"mail__p"#, 1),
            _ => item.clone(),
        };
        let expected: Vec<String> = pages.iter().flatten().map(named).collect();
        let listed = world.items(&session, method, member).await;
        assert_eq!(by_member(&listed), by_member(&expected), "{method}");
    }
    let has = |list: usize| served.lists[list].iter().any(|page| !page.is_empty());
    let arguments: Value = serde_json::from_str(&served.arguments).unwrap();
    for (method, params) in [
        ("tools/call", json!({"name": "mail__send", "arguments": arguments})),
        ("prompts/get", json!({"name": "mail__p1", "arguments": arguments})),
        ("resources/read", json!({"uri": "a:1", "arguments": arguments})),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/resource", "uri": "a:1"}, "arguments": arguments}),
        ),
    ] {
        // A server may have no prompts, or no resources.
        if method.starts_with('p') && !has(0) || method.starts_with(['r', 'c']) && !has(1) {
            continue;
        }
        for fails in [false, true] {
            let mut params = params.clone();
            params["_meta"] = json!({"fails": fails, "k": "\u{2028}"});
            let id = json!("\u{e4}");
            let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
            let said = world.said(&session, &message).await;
            let reply = served.reply(&message, &id);
            let expected: Vec<&String> = served.notifications.iter().chain([&reply]).collect();
            let got: Vec<&str> = match served.notifications.len() {
                0 => vec![&said],
                _ => said.lines().filter_map(|line| line.strip_prefix("data: ")).collect(),
            };
            assert_eq!(got, expected, "{method}");
            let sent = world.saw(|message| message["method"] == method).await;
            assert_eq!(sent["params"]["arguments"], arguments, "{method}");
            assert_eq!(sent["params"]["_meta"]["k"], "\u{2028}", "{method}");
        }
    }
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "the output of a test that fails names its seed")]
async fn a_client_gets_what_the_server_says() {
    let random = u64::from_be_bytes(service_kit::random::bytes());
    for first in [SEED, random] {
        for session in 0..SESSIONS {
            let seed = first.wrapping_add(session);
            println!("seed {seed:#x}");
            is_relayed(seed).await;
        }
    }
}
