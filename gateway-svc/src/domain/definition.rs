//! The definition of a tool, ready to be shown under any name.

use std::ops::Range;

use super::shown_by::shown_by;
use crate::json::{self, Object};

const INPUT_SCHEMA: &str = "inputSchema";

/// A tool's definition as its server gave it, apart from its name: one is kept for all gateways that show the tool, each under a
/// name of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    /// All members but `name`, byte for byte, each after a comma; and the brace that ends the object.
    rest: Box<str>,
    declares_output: bool,
    mirrors_arguments: bool,
    /// The URIs of the resources that show it (MCP Apps), with where they are in `rest`.
    shown_by: Box<[(Box<str>, Range<usize>)]>,
}

impl Definition {
    /// Parses a definition. `None` if it is not a JSON object, or one that parsers read differently: discovery reports neither.
    pub(crate) fn parse(definition_json: &str) -> Option<Self> {
        let members = Object::parse(definition_json).ok()?;
        let mut rest = Vec::with_capacity(definition_json.len());
        let (mut declares_output, mut mirrors_arguments) = (false, false);
        let mut shown = Vec::new();
        for (key, value) in members.iter().filter(|(key, _)| *key != "name") {
            rest.push(b',');
            json::push_string(&mut rest, key);
            rest.push(b':');
            if key == "_meta" {
                let uri = |at: Range<usize>| Some((json::unescape(&value[at.clone()])?.into(), at));
                let moved = |(uri, at): (_, Range<usize>)| (uri, rest.len() + at.start..rest.len() + at.end);
                shown.extend(shown_by(value).into_iter().filter_map(uri).map(moved));
            }
            rest.extend_from_slice(value.as_bytes());
            declares_output |= key == "outputSchema" && value != "null";
            mirrors_arguments |= key == INPUT_SCHEMA && value.contains("\"x-mcp-header\"");
        }
        rest.push(b'}');
        Some(Self {
            rest: String::from_utf8(rest).ok()?.into(),
            declares_output,
            mirrors_arguments,
            shown_by: shown.into(),
        })
    }

    /// The URIs of the resources that show the tool (MCP Apps), as its server knows them.
    pub(crate) fn shown_by(&self) -> impl ExactSizeIterator<Item = &str> {
        self.shown_by.iter().map(|(uri, _)| &**uri)
    }

    /// The same with the URIs that clients know those resources by. `None`: with all of them as they are.
    pub(crate) fn shown_as(&self, exposed: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let (mut whole, mut copied, mut changed) = (String::from(r#"{"name":"""#), 0, false);
        for (uri, at) in &self.shown_by {
            let Some(exposed) = exposed(uri) else { continue };
            whole += &self.rest[copied..at.start];
            whole += &json::string(&exposed);
            (copied, changed) = (at.end, true);
        }
        whole += &self.rest[copied..];
        changed.then(|| Self::parse(&whole)).flatten()
    }

    /// Whether the tool has an output schema.
    pub(crate) const fn declares_output(&self) -> bool {
        self.declares_output
    }

    /// The schema of its arguments, where a modern server may get some of them in headers, too.
    pub(crate) fn mirroring_schema(&self) -> Option<String> {
        let whole = self.mirrors_arguments.then(|| self.to_json(""))?;
        Some(Object::parse(&whole).ok()?.get(INPUT_SCHEMA)?.to_owned())
    }

    /// Its length under this name, in bytes.
    pub(crate) const fn len(&self, name: &str) -> usize {
        r#"{"name":"""#.len() + name.len() + self.rest.len()
    }

    /// Appends it under this name: a JSON object.
    pub(crate) fn write(&self, name: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"name\":");
        json::push_string(out, name);
        out.extend_from_slice(self.rest.as_bytes());
    }

    /// It under this name: a JSON object.
    pub(crate) fn to_json(&self, name: &str) -> String {
        let mut out = Vec::with_capacity(self.len(name));
        self.write(name, &mut out);
        String::from_utf8(out).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renames_and_leaves_the_rest_alone() {
        let rename = |definition, name| Definition::parse(definition).map(|definition| definition.to_json(name));
        let definition = r##"{"title":"T","name":"old","inputSchema":{ "$ref":"#/x", "n":12345678901234567890 },"_meta":{"a":1e400}}"##;
        assert_eq!(
            rename(definition, "new").unwrap(),
            r##"{"name":"new","title":"T","inputSchema":{ "$ref":"#/x", "n":12345678901234567890 },"_meta":{"a":1e400}}"##
        );
        assert_eq!(rename(r#"{"name":"a","x":1,"name":"b"}"#, "c"), None);
        assert_eq!(rename(r#"{"name":"a"}"#, "c").unwrap(), r#"{"name":"c"}"#);
        assert_eq!(rename("[]", "c"), None);
        assert_eq!(rename("{", "c"), None);
        let parsed = Definition::parse(definition).unwrap();
        assert_eq!(parsed.len("new"), parsed.to_json("new").len());
    }

    #[test]
    fn has_a_schema_to_look_into_only_where_arguments_may_be_in_headers() {
        let schema = |definition| Definition::parse(definition).unwrap().mirroring_schema();
        let mirroring = r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}"#;
        let definition = format!(r#"{{"name":"a","inputSchema":{mirroring}}}"#);
        assert_eq!(schema(&definition).as_deref(), Some(mirroring));
        assert_eq!(schema(r#"{"name":"a","inputSchema":{},"x-mcp-header":1}"#), None);
    }

    #[test]
    fn says_which_resources_show_it_and_as_clients_know_them() {
        let text = r#"{"name":"a","x":1.0,"_meta":{"ui":{"resourceUri":"ui:\u002f/w"},"k":[ 1 ],"ui/resourceUri":"ui://v"},"z":2}"#;
        let definition = Definition::parse(text).unwrap();
        assert_eq!(definition.shown_by().collect::<Vec<_>>(), ["ui://w", "ui://v"]);
        assert_eq!(definition.shown_as(|_| None), None);
        let shown = definition.shown_as(|uri| (uri == "ui://w").then(|| format!("{uri}#\"")));
        let shown = shown.unwrap();
        assert_eq!(shown.to_json("a"), text.replace(r"ui:\u002f/w", r#"ui://w#\""#));
        assert_eq!(shown.shown_by().collect::<Vec<_>>(), ["ui://w#\"", "ui://v"]);
        assert_eq!(
            Definition::parse(r#"{"name":"a","_meta":{}}"#)
                .unwrap()
                .shown_by()
                .len(),
            0
        );
    }

    #[test]
    fn knows_whether_it_has_an_output_schema() {
        let declares = |definition| Definition::parse(definition).unwrap().declares_output();
        assert!(declares(r#"{"name":"a","outputSchema":{}}"#));
        assert!(!declares(r#"{"name":"a","outputSchema":null}"#));
        assert!(!declares(r#"{"name":"a","inputSchema":{"outputSchema":{}}}"#));
    }
}
