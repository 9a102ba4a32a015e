//! Arguments that a server gets in headers, too: `x-mcp-header` in the `inputSchema` of a tool.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::header::{text, value};
use crate::json::{self, Object};

/// An argument that a server gets in a header, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirrored {
    pub(super) header: HeaderName,
    /// The names of the members that lead to it.
    pub(super) path: Box<[Box<str>]>,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Boolean,
}

impl Mirrored {
    /// The header and its value for these arguments, a JSON object; `None` if they have no value for it.
    pub(super) fn header(&self, arguments: &str) -> Option<(HeaderName, HeaderValue)> {
        Some((self.header.clone(), value(&self.plain(arguments)?)?))
    }

    /// Whether these headers say of it what these arguments, a JSON object, say: both the same, or neither anything.
    pub(crate) fn agrees(&self, headers: &HeaderMap, arguments: &str) -> bool {
        // What no header can hold is in none.
        let plain = self.plain(arguments).filter(|plain| value(plain).is_some());
        let mut values = headers.get_all(&self.header).iter();
        match (plain, values.next(), values.next()) {
            (None, None, None) => true,
            (Some(plain), Some(value), None) => text(value).is_some_and(|text| match self.kind {
                Kind::Integer => integer(&text).is_some_and(|number| number.to_string() == plain),
                Kind::Text | Kind::Boolean => text == plain,
            }),
            _ => false,
        }
    }

    /// The name of the header.
    pub(crate) fn name(&self) -> &str {
        self.header.as_str()
    }

    fn plain<'a>(&self, arguments: &'a str) -> Option<Cow<'a, str>> {
        let mut text = arguments;
        for name in &self.path {
            text = Object::parse(text).ok()?.get(name)?;
        }
        match self.kind {
            Kind::Text => json::unescape(text),
            Kind::Boolean => matches!(text, "true" | "false").then(|| text.into()),
            Kind::Integer => integer(text).map(|number| number.to_string().into()),
        }
    }
}

/// A number as servers compare it: `42.0` and `4.2e1` are 42. `None` if it is no integer that every parser reads exactly.
fn integer(text: &str) -> Option<i64> {
    const EXACT: i64 = (1 << 53) - 1;
    let number = match text.parse::<i64>() {
        Ok(number) => number,
        Err(_) => {
            let number: f64 = text.parse().ok().filter(|_| !text.starts_with('"'))?;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a cast saturates, and the bound below refuses that"
            )]
            (number.fract() == 0.0).then_some(number as i64)?
        }
    };
    (-EXACT..=EXACT).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn headers(schema: &str, arguments: &str) -> Vec<(String, String)> {
        let all = Mirrored::all(schema);
        let headers = all.iter().filter_map(|mirrored| mirrored.header(arguments));
        let text = |(name, value): (HeaderName, HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
        headers.map(text).collect()
    }

    #[test]
    fn declared_arguments_are_repeated_in_headers() {
        let schema = r#"{"type":"object","properties":{
            "region":{"type":"string","x-mcp-header":"Region"},
            "count":{"type":"integer","x-mcp-header":"Count"},
            "deep":{"type":"object","properties":{"flag":{"type":"boolean","x-mcp-header":"Flag"}}},
            "plain":{"type":"string"}}}"#;
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        assert_eq!(
            headers(
                schema,
                r#"{"region":"eu","count":42.0,"deep":{"flag":true},"plain":"x"}"#
            ),
            [
                ("mcp-param-region", "eu"),
                ("mcp-param-count", "42"),
                ("mcp-param-flag", "true")
            ]
            .map(pair)
        );
        assert_eq!(
            headers(schema, r#"{"region":"Zürich","count":null,"deep":{}}"#),
            [("mcp-param-region", "=?base64?WsO8cmljaA==?=")].map(pair)
        );
    }

    #[test]
    fn headers_and_arguments_agree() {
        let schema =
            r#"{"properties":{"n":{"type":"integer","x-mcp-header":"N"},"t":{"type":"string","x-mcp-header":"T"}}}"#;
        let agrees = |of: &[(&'static str, &'static str)], arguments: &str| {
            let mut headers = HeaderMap::new();
            for (name, value) in of {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            let all = Mirrored::all(schema);
            all.iter().all(|mirrored| mirrored.agrees(&headers, arguments))
        };
        let (n, t) = (("mcp-param-n", "42"), ("mcp-param-t", "=?base64?w7w=?="));
        for (of, arguments) in [
            (&[][..], "{}"),
            (&[n, t], r#"{"n":42.0,"t":"\u00fc"}"#),
            (&[("mcp-param-n", "42.0"), t], r#"{"n":42,"t":"ü"}"#),
            (&[n], r#"{"n":42,"t":null}"#),
            (&[("mcp-param-other", "x")], "{}"),
        ] {
            assert!(agrees(of, arguments), "{of:?} {arguments}");
        }
        for (of, arguments) in [
            (&[][..], r#"{"n":42}"#),
            (&[n], "{}"),
            (&[n], r#"{"n":43}"#),
            (&[n], r#"{"n":"42"}"#),
            (&[n, n], r#"{"n":42}"#),
            (&[t], r#"{"t":"u"}"#),
            (&[("mcp-param-t", "=?base64?w7?=")], r#"{"t":"ü"}"#),
            (&[t], "[]"),
        ] {
            assert!(!agrees(of, arguments), "{of:?} {arguments}");
        }
    }

    /// Some parsers would read another number.
    #[test]
    fn what_is_no_exact_integer_is_left_out() {
        let schema = r#"{"properties":{"a":{"type":"integer","x-mcp-header":"A"}}}"#;
        for value in ["9007199254740993", "1.5", "1e400", "\"1\"", "true"] {
            assert_eq!(headers(schema, &format!(r#"{{"a":{value}}}"#)), [], "{value}");
        }
    }
}
