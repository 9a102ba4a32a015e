//! All tools of an upstream, for discovery.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use service_kit::turns::off_thread;
use tokio_util::sync::CancellationToken;

use super::{
    answer::{Answer, Event},
    error::UpstreamError,
    exchange::Upstreams,
    message::Reply,
    target::Target,
};
use crate::json::{self, Object};

const MAX_TOOLS: usize = 5_000;
const MAX_PAGES: usize = 500;

/// A tool as the upstream lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedTool {
    /// The upstream's own name of it.
    pub(crate) name: String,
    /// The definition exactly as it came.
    pub(crate) definition: String,
}

/// Why some clients would read a definition otherwise than others, or not at all, and with it the whole list of a gateway.
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
    Some(format!("its member {lookalike:?} may be taken for another"))
}

impl Upstreams {
    /// Sends a request of the gateway's own and waits for the reply; what else the upstream says on the way is dropped.
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
        let mut size = 0;
        for _ in 0..MAX_PAGES {
            let reply = self.ask(target, "tools/list", &params).await?;
            let page: Bytes = match reply.result() {
                Some(result) => result,
                None => {
                    let error = reply.error().unwrap_or_default();
                    let error: String = String::from_utf8_lossy(&error).chars().take(300).collect();
                    return Err(UpstreamError::invalid(format!("it refuses tools/list: {error}")));
                }
            };
            let (listed, next) = off_thread(page.len(), move || read_page(&page)).await?;
            size += listed.iter().map(|tool| tool.definition.len()).sum::<usize>();
            for tool in listed {
                if !names.insert(tool.name.clone()) {
                    return Err(UpstreamError::invalid("two tools of its list have the same name"));
                }
                tools.push(tool);
            }
            if tools.len() > MAX_TOOLS || size > self.limits().max_stream {
                return Err(UpstreamError::invalid("its list of tools is too long"));
            }
            match next {
                None => return Ok(tools),
                Some(cursor) if !cursors.insert(cursor.clone()) => {
                    return Err(UpstreamError::invalid("its list of tools goes in circles"));
                }
                Some(cursor) => params = format!(r#"{{"cursor":{cursor}}}"#).into_bytes(),
            }
        }
        Err(UpstreamError::invalid("its list of tools has too many pages"))
    }
}

/// The tools of a page, without those that clients would not read alike; and its `nextCursor` as it came.
fn read_page(page: &[u8]) -> Result<(Vec<ListedTool>, Option<String>), UpstreamError> {
    let text = std::str::from_utf8(page).map_err(|_| UpstreamError::invalid("it is not UTF-8"))?;
    let page = Object::parse(text)?;
    let listed = page
        .get("tools")
        .ok_or_else(|| UpstreamError::invalid("its list has no tools"))?;
    let mut tools = Vec::new();
    for definition in json::elements(listed)? {
        let tool = match Object::parse(definition) {
            Ok(tool) => tool,
            Err(error) => {
                tracing::warn!(error = %error, "a tool of an upstream is left out: it cannot be read");
                continue;
            }
        };
        let name = tool.string("name").map(|name| name.into_owned());
        let name = name.filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| UpstreamError::invalid("a tool of its list has no name"))?;
        if let Some(why) = misleading(definition, &tool) {
            tracing::warn!(
                tool = name,
                reason = why,
                "a tool of an upstream is left out: clients would not read it alike"
            );
            continue;
        }
        tools.push(ListedTool {
            name,
            definition: definition.to_owned(),
        });
    }
    let cursor = page
        .get("nextCursor")
        .filter(|&cursor| cursor != "null" && cursor != "\"\"");
    Ok((tools, cursor.map(str::to_owned)))
}
