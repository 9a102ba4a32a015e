//! Which arguments of a tool a schema declares for headers, and whether it may: a client leaves a tool out that declares one in another way
//! (Streamable HTTP, "Custom Headers from Tool Parameters").

use std::{collections::HashSet, sync::Arc};

use http::HeaderName;

use super::mirrored::{Kind, Mirrored};
use crate::json::{self, Object};

const KEYWORD: &str = "x-mcp-header";
const PREFIX: &str = "mcp-param-";
/// Further ones are not sent: no server reads as many headers.
const MOST: usize = 64;
/// Characters of a text of the server that are shown.
const SHOWN: usize = 100;

/// Keywords of JSON Schema whose value is a schema, or a list of some.
const SCHEMAS: [&str; 15] = [
    "items",
    "prefixItems",
    "contains",
    "additionalProperties",
    "unevaluatedProperties",
    "unevaluatedItems",
    "propertyNames",
    "oneOf",
    "anyOf",
    "allOf",
    "not",
    "if",
    "then",
    "else",
    "contentSchema",
];
/// Those whose value has schemas by name.
const NAMED: [&str; 4] = ["patternProperties", "dependentSchemas", "$defs", "definitions"];

/// Why a declaration is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::upstream) enum Invalid {
    #[error("{KEYWORD} must be on a property that `properties` alone lead to")]
    Misplaced,
    #[error("{KEYWORD} of {0:?} must be a name of a header")]
    Name(String),
    #[error("{KEYWORD} of {0:?} must be on a string, an integer or a boolean")]
    Type(String),
    #[error("{KEYWORD} of {0:?} is the same as of another property")]
    Twice(String),
}

impl Mirrored {
    /// Those that a schema declares. None, if a declaration is not valid.
    pub(crate) fn all(input_schema: &str) -> Arc<[Self]> {
        let mut all = Self::declared(input_schema).unwrap_or_default();
        all.truncate(MOST);
        all.into()
    }

    /// All that a schema declares, by `properties` at any depth.
    pub(in crate::upstream) fn declared(input_schema: &str) -> Result<Vec<Self>, Invalid> {
        let mut walk = Walk::default();
        walk.schema(input_schema, true)?;
        Ok(walk.found)
    }
}

#[derive(Debug, Default)]
struct Walk {
    path: Vec<Box<str>>,
    found: Vec<Mirrored>,
    headers: HashSet<HeaderName>,
}

impl Walk {
    /// Looks into a schema. `is_argument`: `properties` alone lead to it.
    fn schema(&mut self, schema: &str, is_argument: bool) -> Result<(), Invalid> {
        // Most schemas declare nothing, and are not looked into.
        if !schema.contains(KEYWORD) {
            return Ok(());
        }
        if let Ok(schemas) = json::elements(schema, usize::MAX) {
            return schemas.into_iter().try_for_each(|schema| self.schema(schema, false));
        }
        // A number or a text is no schema.
        let Ok(object) = Object::parse(schema) else {
            return Ok(());
        };
        if let Some(name) = object.get(KEYWORD) {
            if !is_argument || self.path.is_empty() {
                return Err(Invalid::Misplaced);
            }
            self.declaration(name, &object)?;
        }
        for (keyword, value) in object.iter() {
            if keyword == "properties" {
                self.named(value, is_argument)?;
            } else if NAMED.contains(&keyword) {
                self.named(value, false)?;
            } else if SCHEMAS.contains(&keyword) {
                self.schema(value, false)?;
            }
        }
        Ok(())
    }

    fn named(&mut self, schemas: &str, is_argument: bool) -> Result<(), Invalid> {
        let Ok(schemas) = Object::parse(schemas) else {
            return Ok(());
        };
        for (name, schema) in schemas.iter() {
            self.path.push(name.into());
            self.schema(schema, is_argument)?;
            self.path.pop();
        }
        Ok(())
    }

    fn declaration(&mut self, name: &str, property: &Object<'_>) -> Result<(), Invalid> {
        let named = json::unescape(name).filter(|name| !name.is_empty());
        let header = named.and_then(|name| HeaderName::try_from(format!("{PREFIX}{name}")).ok());
        let header = header.ok_or_else(|| Invalid::Name(self.shown()))?;
        let kind = kind(property).ok_or_else(|| Invalid::Type(self.shown()))?;
        if !self.headers.insert(header.clone()) {
            return Err(Invalid::Twice(self.shown()));
        }
        let path = self.path.clone().into();
        self.found.push(Mirrored { header, path, kind });
        Ok(())
    }

    fn shown(&self) -> String {
        self.path.join(".").chars().take(SHOWN).collect()
    }
}

fn kind(schema: &Object<'_>) -> Option<Kind> {
    match schema.string("type")?.as_ref() {
        "string" => Some(Kind::Text),
        "integer" => Some(Kind::Integer),
        "boolean" => Some(Kind::Boolean),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn declared(schema: &str) -> Result<Vec<String>, String> {
        let declared = Mirrored::declared(schema).map_err(|invalid| invalid.to_string())?;
        Ok(declared.iter().map(|mirrored| mirrored.name().to_owned()).collect())
    }

    #[test]
    fn arguments_at_any_depth_are_declared() {
        let schema = r#"{"type":"object","properties":{
            "a":{"type":"string","x-mcp-header":"Region"},
            "b":{"type":"object","properties":{"c":{"type":"integer","x-mcp-header":"Deep"}}},
            "x-mcp-header":{"type":"number"}},
            "default":{"x-mcp-header":"data"},"items":{"enum":["x-mcp-header"]}}"#;
        assert_eq!(
            declared(schema),
            Ok(vec!["mcp-param-region".to_owned(), "mcp-param-deep".to_owned()])
        );
    }

    #[test]
    fn says_what_is_not_valid() {
        const NAME: &str = r#"x-mcp-header of "a" must be a name of a header"#;
        const TYPE: &str = r#"x-mcp-header of "a" must be on a string, an integer or a boolean"#;
        const MISPLACED: &str = "x-mcp-header must be on a property that `properties` alone lead to";
        for (property, why) in [
            (r#"{"type":"string","x-mcp-header":""}"#, NAME),
            (r#"{"type":"string","x-mcp-header":"a b"}"#, NAME),
            (r#"{"type":"string","x-mcp-header":"a:b"}"#, NAME),
            (r#"{"type":"string","x-mcp-header":"R\u00e9gion"}"#, NAME),
            (r#"{"type":"string","x-mcp-header":"a\tb"}"#, NAME),
            (r#"{"type":"string","x-mcp-header":7}"#, NAME),
            (r#"{"type":"number","x-mcp-header":"X"}"#, TYPE),
            (r#"{"type":"null","x-mcp-header":"X"}"#, TYPE),
            (r#"{"type":["string"],"x-mcp-header":"X"}"#, TYPE),
            (r#"{"x-mcp-header":"X"}"#, TYPE),
            (r#"{"type":"object","x-mcp-header":"X"}"#, TYPE),
            (
                r#"{"type":"array","items":{"type":"string","x-mcp-header":"X"}}"#,
                MISPLACED,
            ),
            (
                r#"{"anyOf":[{"type":"null"},{"type":"string","x-mcp-header":"X"}]}"#,
                MISPLACED,
            ),
            (
                r#"{"not":{"properties":{"b":{"type":"string","x-mcp-header":"X"}}}}"#,
                MISPLACED,
            ),
        ] {
            let schema = format!(r#"{{"properties":{{"a":{property}}}}}"#);
            assert_eq!(declared(&schema), Err(why.to_owned()), "{property}");
        }
        for schema in [
            r#"{"type":"string","x-mcp-header":"X"}"#,
            r#"{"$defs":{"a":{"type":"string","x-mcp-header":"X"}}}"#,
        ] {
            assert_eq!(declared(schema), Err(MISPLACED.to_owned()), "{schema}");
        }
        let twice = r#"{"properties":{"a":{"type":"string","x-mcp-header":"My"},"b":{"properties":{"c":{"type":"string","x-mcp-header":"mY"}}}}}"#;
        assert_eq!(
            declared(twice),
            Err(r#"x-mcp-header of "b.c" is the same as of another property"#.to_owned())
        );
    }

    #[test]
    fn one_that_is_not_valid_spoils_the_others() {
        let schema =
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"number","x-mcp-header":"B"}}}"#;
        assert_eq!(*Mirrored::all(schema), []);
    }
}
