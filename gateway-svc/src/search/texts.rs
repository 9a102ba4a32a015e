//! The texts by which a tool is found.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::words::words;

/// Words of one tool that count. A schema may have any number.
const MOST_WORDS: usize = 2_000;

/// A tool that can be found.
#[derive(Clone, Debug)]
pub(crate) struct Searched<'a> {
    /// The name to call it by.
    pub(crate) exposed_name: &'a str,
    /// The server's own name of it.
    pub(crate) tool: &'a str,
    /// Slug of its entry.
    pub(crate) entry: &'a str,
    /// Its definition, a JSON object.
    pub(crate) definition: Cow<'a, str>,
}

/// Where in a tool a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Title,
    Entry,
    Description,
    /// Names, titles, descriptions and values of arguments.
    Schema,
}

impl Field {
    /// What a word counts here.
    pub(super) const fn weight(self) -> f32 {
        match self {
            Self::Name => 6.0,
            Self::Title => 4.0,
            Self::Entry => 3.0,
            Self::Description => 2.0,
            Self::Schema => 1.0,
        }
    }

    /// How many words are usual here: in a longer text, each counts less.
    const fn usual(self) -> f32 {
        match self {
            Self::Name | Self::Title => 3.0,
            Self::Entry => 2.0,
            Self::Description => 20.0,
            Self::Schema => 40.0,
        }
    }
}

/// The words of one tool, by field. Kept to be filled again.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// The fields one after another, each with the end of its words.
    fields: Vec<(Field, usize)>,
    /// Words, one after another, with the end of each.
    words: String,
    ends: Vec<usize>,
}

impl Texts {
    /// Fills it with the words of a tool.
    pub(super) fn read(&mut self, tool: &Searched<'_>) {
        self.fields.clear();
        self.words.clear();
        self.ends.clear();
        let definition: Map<String, Value> = serde_json::from_str(&tool.definition).unwrap_or_default();
        let text = |name: &str| definition.get(name).and_then(Value::as_str).unwrap_or_default();
        self.add(tool.tool);
        // Its prefix is the entry's, unless the name was chosen.
        if let Some(chosen) = chosen(tool) {
            self.add(chosen);
        }
        self.end(Field::Name);
        self.add(text("title"));
        let annotations = definition.get("annotations").and_then(Value::as_object);
        self.add(
            annotations
                .and_then(|annotations| annotations.get("title")?.as_str())
                .unwrap_or_default(),
        );
        self.end(Field::Title);
        self.add(tool.entry);
        self.end(Field::Entry);
        self.add(text("description"));
        self.end(Field::Description);
        if let Some(schema) = definition.get("inputSchema").and_then(Value::as_object) {
            self.schema(schema);
        }
        self.end(Field::Schema);
    }

    /// Calls `each` with every word, and what it counts in its field.
    pub(super) fn each(&self, mut each: impl FnMut(&str, f32)) {
        let (mut first, mut start) = (0, 0);
        for &(field, last) in &self.fields {
            let length = (last - first) as f32;
            let counts = field.weight() * 2.0 / (1.0 + length / field.usual());
            for &end in &self.ends[first..last] {
                each(&self.words[start..end], counts);
                start = end;
            }
            first = last;
        }
    }

    fn add(&mut self, text: &str) {
        let Self { words: all, ends, .. } = self;
        words(text, |word| {
            if ends.len() < MOST_WORDS {
                all.push_str(word);
                ends.push(all.len());
            }
        });
    }

    fn end(&mut self, field: Field) {
        self.fields.push((field, self.ends.len()));
    }

    /// The depth is bounded where definitions are parsed.
    fn schema(&mut self, schema: &Map<String, Value>) {
        for (name, value) in schema {
            match (name.as_str(), value) {
                ("title" | "description", Value::String(text)) => self.add(text),
                ("enum", Value::Array(values)) => values
                    .iter()
                    .filter_map(Value::as_str)
                    .for_each(|value| self.add(value)),
                ("properties", Value::Object(properties)) => {
                    for (name, property) in properties {
                        self.add(name);
                        self.below(property);
                    }
                }
                ("default" | "const" | "examples" | "pattern", _) => {}
                (_, value) => self.below(value),
            }
        }
    }

    fn below(&mut self, value: &Value) {
        match value {
            Value::Object(schema) => self.schema(schema),
            Value::Array(schemas) => schemas.iter().for_each(|schema| self.below(schema)),
            _ => {}
        }
    }
}

/// The exposed name, if it is not made of the entry's and the tool's.
fn chosen<'a>(tool: &Searched<'a>) -> Option<&'a str> {
    let rest = tool.exposed_name.strip_prefix(tool.entry);
    let rest = rest
        .and_then(|rest| rest.strip_prefix("__"))
        .unwrap_or(tool.exposed_name);
    (rest != tool.tool).then_some(rest)
}
