//! Tools, as servers define them and as clients see them.

use std::{fmt, sync::Arc};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A tool as one caller sees it.
#[derive(Clone, Debug)]
pub(crate) struct ExposedTool {
    /// The name to call it by.
    pub(crate) exposed_name: Arc<str>,
    /// Slug of its entry.
    pub(crate) entry: Arc<str>,
    /// The server's own name of it.
    pub(crate) tool: Arc<str>,
    /// The server's definition with `name` replaced: a JSON object, to be sent as it is.
    pub(crate) definition: Arc<str>,
    /// Whether a call of this caller would find an installation that works.
    pub(crate) connected: bool,
}

/// A tool as its server defines it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiscoveredTool {
    /// The server's own name of it.
    pub(crate) name: String,
    /// The definition exactly as the server gave it.
    pub(crate) definition_json: String,
}

/// The definition with another `name`, and all else byte for byte as it came. `None` if it is no JSON object.
pub(crate) fn rename(definition_json: &str, name: &str) -> Option<String> {
    let Members(members) = serde_json::from_str(definition_json).ok()?;
    let mut renamed = String::with_capacity(definition_json.len() + name.len());
    renamed.push_str("{\"name\":");
    renamed.push_str(&serde_json::to_string(name).ok()?);
    // A second `name` would leave it to each client which one it takes.
    for (key, value) in members.iter().filter(|(key, _)| key != "name") {
        renamed.push(',');
        renamed.push_str(&serde_json::to_string(key).ok()?);
        renamed.push(':');
        renamed.push_str(value.get());
    }
    renamed.push('}');
    Some(renamed)
}

/// The members of an object, in order, their values unread.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renames_and_leaves_the_rest_alone() {
        let definition = r##"{"title":"T","name":"old","inputSchema":{ "$ref":"#/x", "n":12345678901234567890 },"_meta":{"a":1e400}}"##;
        assert_eq!(
            rename(definition, "new").unwrap(),
            r##"{"name":"new","title":"T","inputSchema":{ "$ref":"#/x", "n":12345678901234567890 },"_meta":{"a":1e400}}"##
        );
        assert_eq!(
            rename(r#"{"name":"a","x":1,"name":"b"}"#, "c").unwrap(),
            r#"{"name":"c","x":1}"#
        );
        assert_eq!(rename("[]", "c"), None);
        assert_eq!(rename("{", "c"), None);
    }
}
