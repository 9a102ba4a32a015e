//! All tools of an upstream, for discovery.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use service_kit::turns::off_thread;
use tokio_util::sync::CancellationToken;

use super::{
    answer::Event, error::UpstreamError, message::Reply, messages::Answer, target::Target, upstreams::Upstreams,
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

impl Upstreams {
    /// Sends a request of the gateway's own and waits for the reply; other messages of the upstream are dropped.
    pub(crate) async fn ask(&self, target: &Arc<Target>, method: &str, params: &[u8]) -> Result<Reply, UpstreamError> {
        let request = self.request(method, params, &[]);
        match self.call(target, request, CancellationToken::new()).await? {
            Answer::Whole(reply) => Ok(reply),
            Answer::Stream(mut answers) => loop {
                if let Event::Reply(reply) = answers.next().await? {
                    return Ok(reply);
                }
            },
        }
    }

    /// Every tool of the upstream, over all pages, in its order.
    pub(crate) async fn list_tools(&self, target: &Arc<Target>) -> Result<Vec<ListedTool>, UpstreamError> {
        let mut tools = Vec::new();
        let mut names = HashSet::new();
        let mut params = Vec::new();
        let mut cursors = HashSet::new();
        let (mut size, mut left_out, mut first_left_out) = (0, 0, None);
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
            size += page.len();
            let mask = target.definitions_mask();
            let read = off_thread(page.len(), move || read_page(&page, mask)).await?;
            for tool in read.tools {
                if !names.insert(tool.name.clone()) {
                    return Err(UpstreamError::invalid("two tools of its list have the same name"));
                }
                tools.push(tool);
            }
            left_out += read.left_out;
            first_left_out = first_left_out.or(read.first_left_out);
            if tools.len() + left_out > MAX_TOOLS || size > self.limits().max_stream {
                return Err(UpstreamError::invalid("its list of tools is too long"));
            }
            match read.next_cursor {
                None => {
                    if let Some(why) = first_left_out {
                        tracing::warn!(
                            installation.uid = %target.installation(),
                            left_out,
                            first = why,
                            "tools of an upstream are left out: clients would read them differently"
                        );
                    }
                    return Ok(tools);
                }
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

/// A page of a list of tools.
struct Page {
    tools: Vec<ListedTool>,
    /// How many clients would not read alike; and of the first of them, why.
    left_out: usize,
    first_left_out: Option<String>,
    /// As it came.
    next_cursor: Option<String>,
}

/// `mask` returns the text of a definition with secrets masked, if it has any.
fn read_page(page: &[u8], mask: impl Fn(&str, usize) -> Option<String>) -> Result<Page, UpstreamError> {
    let text = std::str::from_utf8(page).map_err(|_| UpstreamError::invalid("it is not UTF-8"))?;
    let page = Object::parse(text)?;
    let listed = page
        .get("tools")
        .ok_or_else(|| UpstreamError::invalid("its list has no tools"))?;
    let mut read = Page {
        tools: Vec::new(),
        left_out: 0,
        first_left_out: None,
        next_cursor: page
            .get("nextCursor")
            .filter(|&cursor| cursor != "null" && cursor != "\"\"")
            .map(str::to_owned),
    };
    for definition in json::elements(listed, MAX_TOOLS)? {
        match listed_tool(definition, &mask)? {
            Ok(tool) => read.tools.push(tool),
            Err(why) => {
                read.left_out += 1;
                read.first_left_out.get_or_insert(why);
            }
        }
    }
    Ok(read)
}

/// A tool; or why it is left out.
fn listed_tool(
    definition: &str,
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
    if let Some(why) = misleading(definition, &tool) {
        let name: String = name.chars().take(100).collect();
        return Ok(Err(format!("{name:?}: {why}")));
    }
    Ok(Ok(ListedTool {
        name: name.into_owned(),
        definition: definition.to_owned(),
    }))
}
