//! `subscriptions/listen`: a stream of what changes, which the client says in the request.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::StatusCode;
use service_kit::quota::InFlight;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    super::{
        Mcp, body,
        list::{Seen, ToolsWatch, Viewer, may_hear},
        refusal::{IN_A_SECOND, later},
        rpc::{INVALID_PARAMS, Message, RpcError, result},
        standing::when_over,
        tasks::OwnTasks,
        visit::Visit,
    },
    failure,
    meta::Stated,
};
use crate::{
    calls::{Listener, Visitor},
    domain::ConsumerRef,
    json::{self, Object},
    upstream::{Client, Heard, List, is_part_of, modern_names::SUBSCRIPTION},
};

const TOOLS: &str = "toolsListChanged";
const PROMPTS: &str = "promptsListChanged";
const RESOURCES: &str = "resourcesListChanged";
const URIS: &str = "resourceSubscriptions";
const TASK_IDS: &str = "taskIds";

/// The most resources of one stream; and the most tasks.
const MOST_URIS: usize = 128;
const MOST_TASKS: usize = 128;
/// How many of them are subscribed to at a time, and how long all of it may take.
const AT_A_TIME: usize = 32;
const WITHIN: Duration = Duration::from_secs(15);

/// How much servers may say before all is subscribed to.
const MOST_EARLY: usize = 16;
const TOO_SLOW: &str = "the servers said more than could be relayed";

/// What a client wants to be told of.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    tools: bool,
    prompts: bool,
    resources: bool,
    /// Resources, by the URIs that the client knows.
    uris: BTreeSet<String>,
    /// Tasks, by the ids that the client knows.
    tasks: BTreeSet<String>,
}

/// One of those.
enum Wish {
    Uri(String),
    Task(String),
}

impl Wanted {
    fn read(params: Option<&Object<'_>>) -> Result<Self, RpcError> {
        let invalid = |what: &str| RpcError::new(INVALID_PARAMS, format!("params.notifications{what}"));
        let filter = params.and_then(|params| params.get("notifications"));
        let filter = filter.and_then(|filter| Object::parse(filter).ok());
        let filter = filter.ok_or_else(|| invalid(" must be an object"))?;
        let flag = |name: &str| match filter.get(name) {
            None | Some("false" | "null") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(invalid(&format!(".{name} must be true or false"))),
        };
        let listed = |name: &str, most: usize, what: &str| {
            let wrong = || invalid(&format!(".{name} must be at most {most} {what}"));
            let Some(list) = filter.get(name).filter(|&list| list != "null") else {
                return Ok(BTreeSet::new());
            };
            let items = json::elements(list, most).map_err(|_| wrong())?.into_iter();
            let items = items.map(|item| json::unescape(item).map(|item| item.into_owned()).ok_or_else(wrong));
            items.collect::<Result<BTreeSet<String>, _>>()
        };
        Ok(Self {
            tools: flag(TOOLS)?,
            prompts: flag(PROMPTS)?,
            resources: flag(RESOURCES)?,
            uris: listed(URIS, MOST_URIS, "URIs")?,
            tasks: listed(TASK_IDS, MOST_TASKS, "ids")?,
        })
    }

    /// As the client is told what it will get.
    fn write(&self) -> String {
        let flags = [
            (TOOLS, self.tools),
            (PROMPTS, self.prompts),
            (RESOURCES, self.resources),
        ];
        let flags = flags.iter().filter(|(_, is_set)| *is_set);
        let mut all: serde_json::Map<_, _> = flags.map(|(name, _)| ((*name).to_owned(), true.into())).collect();
        for (name, list) in [(URIS, &self.uris), (TASK_IDS, &self.tasks)] {
            if !list.is_empty() {
                all.insert(name.to_owned(), list.iter().cloned().collect());
            }
        }
        serde_json::Value::from(all).to_string()
    }

    /// Whether a resource is one of those, or a part of one.
    fn names(&self, uri: &str) -> bool {
        self.uris.contains(uri) || self.uris.iter().any(|wanted| is_part_of(uri, wanted))
    }
}

impl Visit {
    /// Begins the stream.
    pub(super) async fn listen(&self, id: &str, message: &Message<'_>, stated: &Stated, open: InFlight) -> Response {
        let wanted = match Wanted::read(message.params.as_ref()) {
            Ok(wanted) => wanted,
            Err(error) => return failure::respond(&error, id),
        };
        if !wanted.tasks.is_empty()
            && let Err(error) = stated.require_tasks()
        {
            return failure::respond(&error, id);
        }
        let visitor = self.modern_visitor(stated);
        let identified = self.who.identified.clone().without_token();
        let over = when_over(&self.at.mcp, &identified);
        let viewer = Arc::new((identified, self.who.consumer.name.clone()));
        let mut listener = self
            .at
            .mcp
            .calls
            .listen(&visitor.client, may_hear(&self.at.mcp, &viewer));
        let wishes = wanted.uris.into_iter().map(Wish::Uri);
        let wishes = wishes.chain(wanted.tasks.into_iter().map(Wish::Task));
        let subscribe = |wish: Wish| async { self.subscribe(&visitor, &wish).await.then_some(wish) };
        let subscribed = stream::iter(wishes).map(subscribe);
        // A server that does not answer keeps nobody from the others.
        let subscribed = subscribed.buffer_unordered(AT_A_TIME).take_until(sleep(WITHIN));
        let subscribed = subscribed.filter_map(std::future::ready).collect();
        let mut subscribed = std::pin::pin!(subscribed);
        // Servers are listened to meanwhile: from their acknowledgement on, what changes is for the client.
        let mut early = Vec::new();
        let subscribed: Vec<Wish> = loop {
            tokio::select! {
                subscribed = &mut subscribed => break subscribed,
                // Those that say more than this wait.
                heard = self.at.mcp.calls.hear(&mut listener), if early.len() < MOST_EARLY => match heard {
                    Some(heard) => early.push(heard),
                    None => return later(StatusCode::SERVICE_UNAVAILABLE, TOO_SLOW, Some(id), IN_A_SECOND),
                },
            }
        };
        let (mut uris, mut tasks) = (BTreeSet::new(), BTreeSet::new());
        for wish in subscribed {
            match wish {
                Wish::Uri(uri) => uris.insert(uri),
                Wish::Task(task) => tasks.insert(task),
            };
        }
        let told = Told {
            tasks: self.tasks(),
            mcp: Arc::clone(&self.at.mcp),
            client: visitor.client.clone(),
            subject: Arc::clone(visitor.subject),
            consumer: self.who.consumer.name.clone(),
            wanted: Wanted {
                uris,
                tasks,
                tools: wanted.tools,
                prompts: wanted.prompts,
                resources: wanted.resources,
            },
            id: id.into(),
        };
        let notifications = notifications(told, viewer, over, (early, listener), open);
        body::events(body::as_events(notifications))
    }

    /// Whether a server tells of this from now on.
    async fn subscribe(&self, visitor: &Visitor<'_>, wish: &Wish) -> bool {
        let calls = &self.at.mcp.calls;
        match wish {
            Wish::Uri(uri) => calls.subscribe(visitor, uri).await,
            Wish::Task(task) => match self.route_task(visitor, task) {
                Some(routed) => calls.follow_task(visitor, &routed.found.source, &routed.own).await,
                None => false,
            },
        }
    }
}

/// What the client is told, until its caller's token is `over`. `early`: what was heard already.
fn notifications(
    told: Told,
    viewer: Viewer,
    over: Instant,
    (early, mut listener): (Vec<Heard>, Listener),
    open: InFlight,
) -> impl Stream<Item = [Bytes; 1]> + Send {
    async_stream::stream! {
        let _open = open;
        let mcp = Arc::clone(&told.mcp);
        yield [told.acknowledged()];
        let Some(mut tools) = ToolsWatch::new(Arc::clone(&mcp), viewer).await else { return };
        for heard in early {
            if let Some(message) = told.message(heard, &tools) {
                yield [message];
            }
        }
        loop {
            let heard = tokio::select! {
                looked = tools.looked() => {
                    listener.look_again();
                    match looked {
                        Some(Seen::List(_)) => Some(Heard::Changed(List::Tools)),
                        Some(Seen::SameList) => continue,
                        None => return,
                    }
                }
                heard = mcp.calls.hear(&mut listener) => heard,
                () = sleep_until(over) => return,
                () = mcp.stop.cancelled() => {
                    yield [told.over()];
                    return;
                }
            };
            let Some(heard) = heard else { return };
            if let Some(message) = told.message(heard, &tools) {
                yield [message];
            }
        }
    }
}

/// A client, and what it is told.
struct Told {
    mcp: Arc<Mcp>,
    client: Client,
    subject: Arc<str>,
    consumer: ConsumerRef,
    wanted: Wanted,
    /// Those of the caller.
    tasks: OwnTasks,
    /// The id of the request, as JSON, which names the stream.
    id: Box<str>,
}

impl Told {
    /// `_meta` of what is sent on the stream: a member, with its name.
    fn meta(&self) -> String {
        format!(r#""_meta":{{"{SUBSCRIPTION}":{}}}"#, self.id)
    }

    /// What it will get.
    fn acknowledged(&self) -> Bytes {
        let params = format!(r#"{{{},"notifications":{}}}"#, self.meta(), self.wanted.write());
        notification("subscriptions/acknowledged", &params)
    }

    /// That nothing follows.
    fn over(&self) -> Bytes {
        let end = format!(r#"{{"resultType":"complete",{}}}"#, self.meta());
        result(&self.id, end.as_bytes())
    }

    /// What a server says, as the client gets it; `None`: it has not asked for it.
    fn message(&self, heard: Heard, tools: &ToolsWatch) -> Option<Bytes> {
        let heard = match heard {
            Heard::ToolsChanged(installation) if tools.shows_all(&installation) => Heard::Changed(List::Tools),
            heard => heard,
        };
        match heard {
            Heard::Changed(list) => {
                let (is_wanted, method) = match list {
                    List::Tools => (self.wanted.tools, "tools/list_changed"),
                    List::Prompts => (self.wanted.prompts, "prompts/list_changed"),
                    List::Resources => (self.wanted.resources, "resources/list_changed"),
                };
                is_wanted.then(|| notification(method, &format!("{{{}}}", self.meta())))
            }
            Heard::Updated(updated) => {
                let calls = &self.mcp.calls;
                let wanted = |uri: &str| self.wanted.names(uri);
                let uri = calls.exposed_uri(&self.client, &self.subject, &self.consumer, &updated, wanted)?;
                let stream = format!(r#","{SUBSCRIPTION}":{}"#, self.id);
                Some(updated.message(&uri, stream.as_bytes()))
            }
            Heard::Request(asking) => {
                asking.refuse("clients of this revision are asked in results only");
                None
            }
            Heard::Notification { installation, text } => self.task(&installation, &text),
            Heard::ToolsChanged(_) | Heard::Progress(_) | Heard::Withdrawn { .. } => None,
        }
    }

    /// What a server says of a task, as the client gets it.
    fn task(&self, installation: &str, text: &[u8]) -> Option<Bytes> {
        let message = Object::parse(std::str::from_utf8(text).ok()?).ok()?;
        if message.string("method")? != "notifications/tasks" {
            return None;
        }
        let params = Object::parse(message.get("params")?).ok()?;
        let id = self.tasks.id(installation, &params.string("taskId")?)?;
        if !self.wanted.tasks.contains(&id) {
            return None;
        }
        let meta = params.get("_meta").and_then(|meta| Object::parse(meta).ok());
        let meta = meta
            .iter()
            .flat_map(Object::iter)
            .filter(|(name, _)| *name != SUBSCRIPTION);
        let meta = String::from_utf8(json::object(meta.chain([(SUBSCRIPTION, &*self.id)]))).ok()?;
        let id = format!("\"{id}\"");
        let others = params.iter().filter(|(name, _)| *name != "_meta");
        let others = others.map(|(name, value)| (name, if name == "taskId" { &*id } else { value }));
        let params = json::object(others.chain([("_meta", &*meta)]));
        Some(notification("tasks", std::str::from_utf8(&params).ok()?))
    }
}

fn notification(method: &str, params: &str) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{params}}}"#).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Wanted, RpcError> {
        Wanted::read(Some(&Object::parse(text).unwrap()))
    }

    #[test]
    fn a_client_gets_what_it_has_asked_for() {
        let wanted = read(r#"{"notifications":{"toolsListChanged":true,"promptsListChanged":false,"resourceSubscriptions":["x:a","x:\u0062/"],"new":1}}"#).unwrap();
        assert_eq!(
            wanted.write(),
            r#"{"resourceSubscriptions":["x:a","x:b/"],"toolsListChanged":true}"#
        );
        for (uri, named) in [
            ("x:a", true),
            ("x:a/1", true),
            ("x:ab", false),
            ("x:b/c", true),
            ("x:b", false),
            ("", false),
        ] {
            assert_eq!(wanted.names(uri), named, "{uri}");
        }
        assert_eq!(read(r#"{"notifications":{}}"#).unwrap().write(), "{}");
        for odd in [
            "{}",
            r#"{"notifications":[]}"#,
            r#"{"notifications":{"toolsListChanged":"yes"}}"#,
            r#"{"notifications":{"resourceSubscriptions":"x:"}}"#,
            r#"{"notifications":{"resourceSubscriptions":[1]}}"#,
        ] {
            assert_eq!(read(odd).unwrap_err().code, INVALID_PARAMS, "{odd}");
        }
        let many = vec!["\"x:\""; MOST_URIS + 1].join(",");
        assert!(read(&format!(r#"{{"notifications":{{"resourceSubscriptions":[{many}]}}}}"#)).is_err());
    }
}
