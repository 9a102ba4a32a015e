//! All tools of an upstream, for discovery.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use service_kit::{cancel::Cancel, turns::off_thread};

use super::{
    answer::Event, client::Era, error::UpstreamError, left_out::LeftOut, message::Reply, messages::Answer,
    modern::mirrored::Mirrored, target::Target, upstreams::Upstreams,
};
use crate::json::{self, Object};

/// The registry accepts no more of one installation.
const MAX_TOOLS: usize = 4_096;
const MAX_PAGES: usize = 500;
/// Bytes of JSON.
const MAX_CURSOR: usize = 4 << 10;

/// A tool as the upstream lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedTool {
    /// The upstream's own name of it.
    pub(crate) name: String,
    /// The definition, verbatim.
    pub(crate) definition: String,
}

/// The tools of an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ToolList {
    /// In the upstream's order.
    pub(crate) tools: Vec<ListedTool>,
    /// Those that no client is to be shown.
    pub(crate) left_out: LeftOut,
}

/// Why clients would read a definition differently, or fail on it and on the whole list of a gateway.
fn misleading(definition: &str, tool: &Object<'_>) -> Option<String> {
    const MEMBERS: [&str; 9] = [
        "name",
        "title",
        "description",
        "inputSchema",
        "outputSchema",
        "annotations",
        "icons",
        "execution",
        "_meta",
    ];
    if let Err(error) = json::check(definition) {
        return Some(error.to_string());
    }
    let lookalike = tool.lookalike(&MEMBERS)?;
    Some(format!("its member {lookalike:?} can be mistaken for another"))
}

/// Why clients of 2026-07-28 must leave a tool out of the list of such a server.
fn misdeclared(era: Era, tool: &Object<'_>) -> Option<String> {
    let schema = tool.get("inputSchema").filter(|_| era == Era::Modern)?;
    Some(Mirrored::declared(schema).err()?.to_string())
}

impl Upstreams {
    /// Sends a request of the gateway's own and waits for the reply; other messages of the upstream are dropped.
    pub(crate) async fn ask(&self, target: &Arc<Target>, method: &str, params: &[u8]) -> Result<Reply, UpstreamError> {
        let request = self.request(method, params, &[]);
        match self.call(target, request, Cancel::default()).await? {
            Answer::Whole(reply) => Ok(reply),
            Answer::Stream(mut answers) => loop {
                if let Event::Reply(reply) = answers.next().await? {
                    return Ok(reply);
                }
            },
        }
    }

    /// Every tool of the upstream, over all pages.
    pub(crate) async fn list_tools(&self, target: &Arc<Target>) -> Result<ToolList, UpstreamError> {
        let mut list = ToolList::default();
        let mut names = HashSet::new();
        let mut params = Vec::new();
        let mut cursors = HashSet::new();
        let mut size = 0;
        for _ in 0..MAX_PAGES {
            let reply = self.ask(target, "tools/list", &params).await?;
            let page: Bytes = match reply.result() {
                Some(result) => result,
                None => {
                    let said = target.masked(&reply.refusal().unwrap_or_default());
                    let said: String = said.chars().take(300).collect();
                    return Err(UpstreamError::invalid(format!("it refuses tools/list: {said}")));
                }
            };
            let session = self.session(target).await.map_err(|error| error.masked(target))?;
            size += page.len();
            let (era, mask) = (session.era, target.definitions_mask());
            let (read, next_cursor) = off_thread(page.len(), move || read_page(&page, era, mask)).await?;
            for tool in read.tools {
                if !names.insert(tool.name.clone()) {
                    return Err(UpstreamError::invalid("two tools of its list have the same name"));
                }
                list.tools.push(tool);
            }
            list.left_out.append(read.left_out);
            if list.tools.len() + list.left_out.len() > MAX_TOOLS || size > self.limits().max_stream {
                return Err(UpstreamError::invalid("its list of tools is too long"));
            }
            match next_cursor {
                None => return Ok(list),
                Some(cursor) if cursor.len() > MAX_CURSOR => {
                    return Err(UpstreamError::invalid("the cursor of its list of tools is too long"));
                }
                Some(cursor) if !cursors.insert(cursor.clone()) => {
                    return Err(UpstreamError::invalid("its list of tools repeats a page"));
                }
                Some(cursor) => params = format!(r#"{{"cursor":{cursor}}}"#).into_bytes(),
            }
        }
        Err(UpstreamError::invalid("its list of tools has too many pages"))
    }
}

/// Reads a page; with it, the cursor of the next one, as it came. `mask` returns the text of a definition with secrets masked, if it has any.
fn read_page(
    page: &[u8],
    era: Era,
    mask: impl Fn(&str, usize) -> Option<String>,
) -> Result<(ToolList, Option<String>), UpstreamError> {
    let text = std::str::from_utf8(page).map_err(|_| UpstreamError::invalid("it is not UTF-8"))?;
    let page = Object::parse(text)?;
    let listed = page
        .get("tools")
        .ok_or_else(|| UpstreamError::invalid("its list has no tools"))?;
    let mut read = ToolList::default();
    for definition in json::elements(listed, MAX_TOOLS)? {
        match listed_tool(definition, era, &mask)? {
            Ok(tool) => read.tools.push(tool),
            Err(why) => read.left_out.add(why),
        }
    }
    let next_cursor = page.get("nextCursor");
    let next_cursor = next_cursor.filter(|&cursor| cursor != "null" && cursor != "\"\"");
    Ok((read, next_cursor.map(str::to_owned)))
}

/// A tool; or why it is left out.
fn listed_tool(
    definition: &str,
    era: Era,
    mask: impl Fn(&str, usize) -> Option<String>,
) -> Result<Result<ListedTool, String>, UpstreamError> {
    let masked = match masking::mask_json(definition, masking::LONG, mask) {
        Ok(masked) => masked,
        Err(masking::Unreadable) => return Ok(Err("a string in it cannot be read".to_owned())),
    };
    let definition = masked.as_deref().unwrap_or(definition);
    let tool = match Object::parse(definition) {
        Ok(tool) => tool,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let name = tool.string("name").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| UpstreamError::invalid("a tool of its list has no name"))?;
    if let Some(why) = misleading(definition, &tool).or_else(|| misdeclared(era, &tool)) {
        let name: String = name.chars().take(100).collect();
        return Ok(Err(format!("{name:?}: {why}")));
    }
    Ok(Ok(ListedTool {
        name: name.into_owned(),
        definition: definition.to_owned(),
    }))
}
