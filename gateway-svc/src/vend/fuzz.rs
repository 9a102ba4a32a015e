//! Headers that a client sends, for gateways that let some pass.

use bolero::check;
use http::{HeaderMap, HeaderName, HeaderValue};
use registry_model::headers::{is_authorization, is_field_name, is_field_value, is_managed, may_pass_through};
use service_kit::fuzz::{ITERATIONS, split, weave};

use super::passthrough;
use crate::domain::{Audience, Consumer, ConsumerKind, ConsumerRef, Labels};

const NAMES: [&str; 24] = [
    "x-user",
    "X-User",
    "authorization",
    "Authorization",
    "host",
    "cookie",
    "connection",
    "mcp-session-id",
    "mcp-param-",
    "x-forwarded-",
    "for",
    "proxy-",
    "transfer-encoding",
    "content-length",
    "te",
    "-",
    "_",
    " ",
    ":",
    "\r\n",
    "\t",
    "traceparent",
    "x",
    "\u{e9}",
];

#[test]
fn only_what_may_pass_passes_and_replaces_nothing() {
    check!(name = "passthrough")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            let (names, values) = split(bytes);
            let listed: Vec<String> = names.chunks(3).map(|chunk| weave(chunk, &NAMES)).collect();
            let consumer = consumer(listed.clone());
            let mut client = HeaderMap::new();
            for (name, value) in listed.iter().zip(values.chunks(5).chain(std::iter::repeat(&b"v"[..]))) {
                if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value)) {
                    client.append(name, value);
                }
            }
            let ours = HeaderMap::from_iter([(HeaderName::from_static("x-user"), HeaderValue::from_static("ours"))]);
            let mut out = HeaderMap::new();
            passthrough(&client, &consumer, &ours, &mut out);
            for (name, value) in &out {
                assert!(!is_managed(name.as_str()) && !is_authorization(name.as_str()), "{name}");
                assert!(!ours.contains_key(name) && client.get_all(name).iter().any(|sent| sent == value));
                assert!(listed.iter().any(|listed| listed.eq_ignore_ascii_case(name.as_str())));
            }
        });
}

fn consumer(passthrough_headers: Vec<String>) -> Consumer {
    Consumer {
        name: ConsumerRef::new(ConsumerKind::Gateway, "g"),
        uid: "g".into(),
        display_name: "g".to_owned(),
        description: String::new(),
        labels: Labels::default(),
        automatic: false,
        audience: Audience {
            organization: true,
            teams: Box::default(),
            author: None,
        },
        passthrough_headers,
        omit_entry_prefix: false,
        searched: false,
        tokens_only: false,
    }
}

/// What the registry takes for a header, the HTTP library takes as well, and the other way round as far as it goes.
#[test]
fn header_rules_agree_with_the_http_library() {
    check!(name = "header_rules")
        .with_iterations(ITERATIONS)
        .for_each(|bytes: &[u8]| {
            for text in [weave(bytes, &NAMES), String::from_utf8_lossy(bytes).into_owned()] {
                let parsed = HeaderName::try_from(&text);
                if is_field_name(&text) {
                    assert!(parsed.is_ok(), "{text:?}");
                }
                if let Ok(parsed) = &parsed
                    && may_pass_through(&text)
                {
                    assert!(
                        !is_managed(parsed.as_str()),
                        "{text:?} is managed under the name it is sent by"
                    );
                }
                if is_field_value(&text) {
                    let value = HeaderValue::try_from(&text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
                    assert!(value.to_str().is_ok_and(|value| value == text));
                }
            }
        });
}
