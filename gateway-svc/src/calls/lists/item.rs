//! One prompt, resource or template of a server, verbatim.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

use crate::{
    json::{self, Object},
    route::Source,
    upstream::UpstreamError,
};

/// What a list is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ListKind {
    Prompts,
    Resources,
    /// Of resources.
    Templates,
}

impl ListKind {
    pub(crate) const fn method(self) -> &'static str {
        match self {
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::Templates => "resources/templates/list",
        }
    }

    /// The member of the result that has the list.
    pub(crate) const fn member(self) -> &'static str {
        match self {
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }

    /// The member of an item that identifies it.
    const fn key(self) -> &'static str {
        match self {
            Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
        }
    }
}

/// A prompt, a resource or a template.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Whose server has it.
    pub(super) source: Arc<Source>,
    /// As the server knows it.
    pub(super) own: Arc<str>,
    /// As the client knows it.
    pub(super) exposed: Arc<str>,
    /// As the server lists it.
    definition: Bytes,
    /// Where the first is in the second.
    key: Range<usize>,
}

impl Item {
    /// A resource that its server has, and that is in no list.
    pub(super) fn unlisted(source: &Arc<Source>, own: &Arc<str>) -> Self {
        Self {
            source: Arc::clone(source),
            own: Arc::clone(own),
            exposed: Arc::clone(own),
            definition: Bytes::new(),
            key: 0..0,
        }
    }

    pub(super) fn found(&self) -> Found {
        Found {
            source: Arc::clone(&self.source),
            own: Arc::clone(&self.own),
        }
    }

    /// As the client knows it.
    pub(crate) fn exposed(&self) -> &Arc<str> {
        &self.exposed
    }

    pub(crate) fn size(&self) -> usize {
        self.definition.len() + 2 * self.own.len() + 96
    }

    /// Appends it as the client gets it.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        if self.own == self.exposed {
            out.extend_from_slice(&self.definition);
            return;
        }
        out.extend_from_slice(&self.definition[..self.key.start]);
        json::push_string(out, &self.exposed);
        out.extend_from_slice(&self.definition[self.key.end..]);
    }
}

/// What a client's name or URI stands for.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Whose server has it.
    pub(crate) source: Arc<Source>,
    /// As that server knows it.
    pub(crate) own: Arc<str>,
}

/// A page of a server's list.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) items: Vec<Item>,
    /// As it came.
    pub(super) next_cursor: Option<String>,
}

/// Reads the result of a request for a list. What clients would read differently is left out. No more than `most` items are read.
pub(super) fn read(result: &Bytes, kind: ListKind, source: &Arc<Source>, most: usize) -> Result<Page, UpstreamError> {
    let text = std::str::from_utf8(result).map_err(|_| UpstreamError::invalid("it is not UTF-8"))?;
    let page = Object::parse(text)?;
    let listed = page
        .get(kind.member())
        .ok_or_else(|| UpstreamError::invalid(format!("its answer to {} has no {}", kind.method(), kind.member())))?;
    let mut items = Vec::new();
    for definition in json::elements(listed, most)? {
        items.extend(item(result, definition, kind, source));
    }
    let cursor = page
        .get("nextCursor")
        .filter(|cursor| !matches!(*cursor, "null" | "\"\""));
    Ok(Page {
        items,
        next_cursor: cursor.map(str::to_owned),
    })
}

fn item(page: &Bytes, definition: &str, kind: ListKind, source: &Arc<Source>) -> Option<Item> {
    json::check(definition).ok()?;
    let object = Object::parse(definition).ok()?;
    if object.lookalike(&[kind.key(), "_meta"]).is_some() {
        return None;
    }
    let own: Arc<str> = object.string(kind.key())?.into();
    Some(Item {
        source: Arc::clone(source),
        exposed: Arc::clone(&own),
        own,
        key: object.range(kind.key())?,
        definition: page.slice_ref(definition.as_bytes()),
    })
}
