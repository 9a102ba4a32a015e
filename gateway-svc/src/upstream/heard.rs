//! What servers say outside the answers to calls.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

use super::{
    answer::Event, asking::Asking, message::List, modern::names::SUBSCRIPTION, open_session::OpenSession,
    progress::Progress,
};
use crate::json::{self, Object};

/// What a server says.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A list of its has changed, other than that of its tools.
    Changed(List),
    /// The tools of this installation's server have changed, at least for this client.
    ToolsChanged(Arc<str>),
    /// A resource has changed.
    Updated(Updated),
    /// The progress of a call of a client without a session.
    Progress(Progress),
    /// Anything else that it notifies its client of.
    Notification {
        /// The installation whose server it is.
        installation: Arc<str>,
        /// Ready to be passed on, but for the task that it may be about.
        text: Bytes,
    },
    /// It withdraws a request of its own; see [`Event::Withdrawn`].
    Withdrawn {
        /// `notifications/cancelled`, verbatim.
        text: Bytes,
        /// Where the id is that the server knows its request by.
        id: Range<usize>,
    },
    /// A request of its own.
    Request(Asking),
}

/// A resource that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Updated {
    /// The installation whose server has it.
    pub(crate) installation: Arc<str>,
    /// As the server knows it.
    pub(crate) uri: String,
    /// The other members of `params`, each with a comma before it, without `_meta`.
    members: Vec<u8>,
    /// The members of `_meta`, each with a comma before it.
    meta: Vec<u8>,
}

/// Whether a resource is the one that is subscribed to, or a part of it.
pub(crate) fn is_part_of(uri: &str, subscribed: &str) -> bool {
    let rest = uri.strip_prefix(subscribed);
    rest.is_some_and(|rest| rest.is_empty() || subscribed.ends_with('/') || rest.starts_with(['/', '#', '?']))
}

impl Updated {
    #[cfg(test)]
    pub(crate) fn for_tests(uri: &str) -> Self {
        Self {
            installation: "a".into(),
            uri: uri.to_owned(),
            members: Vec::new(),
            meta: Vec::new(),
        }
    }

    /// The notification, with this URI and these further members of `_meta`, each with a comma before it.
    pub(crate) fn message(&self, uri: &str, meta: &[u8]) -> Bytes {
        let mut out =
            Vec::from(&br#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"#[..]);
        json::push_string(&mut out, uri);
        out.extend_from_slice(&self.members);
        let meta = [&self.meta[..], meta].concat();
        if let Some(first) = meta.get(1..) {
            out.extend_from_slice(b",\"_meta\":{");
            out.extend_from_slice(first);
            out.push(b'}');
        }
        out.extend_from_slice(b"}}");
        out.into()
    }
}

impl Heard {
    /// What an event of the stream of this installation's server says; `None`: nothing for clients.
    pub(crate) fn of(event: Event, installation: &Arc<str>) -> Option<Self> {
        Some(match event {
            Event::ListChanged(List::Tools) => Self::ToolsChanged(Arc::clone(installation)),
            Event::ListChanged(list) => Self::Changed(list),
            Event::Progress(progress) => Self::Progress(progress),
            Event::Withdrawn { text, id } => Self::Withdrawn { text, id },
            Event::Request(asking) => Self::Request(asking),
            Event::Reply(_) => return None,
            Event::Notification(text) => {
                let decoded = std::str::from_utf8(&text).ok()?;
                let object = Object::parse(decoded).ok()?;
                match &*object.string("method")? {
                    "notifications/subscriptions/acknowledged" => return None,
                    "notifications/resources/updated" => {
                        let params = Object::parse(object.get("params")?).ok()?;
                        Self::Updated(updated(&params, installation)?)
                    }
                    _ => Self::Notification {
                        installation: Arc::clone(installation),
                        text,
                    },
                }
            }
        })
    }

    /// Whether a client that has not read the other yet learns nothing from this one.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Changed(one), Self::Changed(other)) => one == other,
            (Self::Updated(one), Self::Updated(other)) => one == other,
            _ => false,
        }
    }

    /// Nobody hears it: what the server asks is refused.
    pub(crate) fn for_nobody(self) {
        if let Self::Request(asking) = self {
            asking.refuse("nobody listens who can be asked this");
        }
    }

    /// About how many bytes it is.
    pub(crate) fn length(&self) -> usize {
        match self {
            Self::Updated(updated) => updated.uri.len() + updated.members.len() + updated.meta.len(),
            Self::Notification { text, .. } | Self::Withdrawn { text, .. } => text.len(),
            Self::Request(asking) => asking.length(),
            Self::Changed(_) | Self::ToolsChanged(_) | Self::Progress(_) => 0,
        }
    }

    /// That all lists may have changed: this session takes the place of another.
    pub(crate) fn of_another(session: &OpenSession) -> impl Iterator<Item = Self> {
        let offers = session.session.offers;
        let tools = Some(Self::ToolsChanged(Arc::clone(session.target.installation())));
        let prompts = offers.prompts.then_some(Self::Changed(List::Prompts));
        let resources = offers.resources.then_some(Self::Changed(List::Resources));
        [tools, prompts, resources].into_iter().flatten()
    }

    /// The same for another who listens; `None`: it is for one.
    pub(crate) fn copy(&self) -> Option<Self> {
        match self {
            Self::Changed(list) => Some(Self::Changed(*list)),
            Self::ToolsChanged(installation) => Some(Self::ToolsChanged(Arc::clone(installation))),
            Self::Updated(updated) => Some(Self::Updated(updated.clone())),
            Self::Notification { installation, text } => Some(Self::Notification {
                installation: Arc::clone(installation),
                text: text.clone(),
            }),
            Self::Progress(_) | Self::Withdrawn { .. } | Self::Request(_) => None,
        }
    }
}

fn updated(params: &Object<'_>, installation: &Arc<str>) -> Option<Updated> {
    let meta = params.get("_meta").and_then(|meta| Object::parse(meta).ok());
    let meta = meta.as_ref().into_iter().flat_map(Object::iter);
    Some(Updated {
        installation: Arc::clone(installation),
        uri: params.string("uri")?.into_owned(),
        members: json::members(params.iter().filter(|(name, _)| !matches!(*name, "uri" | "_meta"))),
        meta: json::members(meta.filter(|(name, _)| *name != SUBSCRIPTION)),
    })
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn a_resource_keeps_what_its_server_says_of_it() {
        let heard =
            |text: &'static str| Heard::of(Event::Notification(Bytes::from_static(text.as_bytes())), &"i".into());
        let text = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":3,"a":1.0},"uri":"x:\u002f","title":"t"}}"#;
        let Some(Heard::Updated(updated)) = heard(text) else {
            panic!()
        };
        assert_eq!(updated.uri, "x:/");
        assert_eq!(
            updated.message("y:", b",\"b\":2"),
            r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"y:","title":"t","_meta":{"a":1.0,"b":2}}}"#
        );
        let bare = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x:"}}"#;
        let Some(Heard::Updated(updated)) = heard(bare) else {
            panic!()
        };
        assert_eq!(updated.message("x:", b""), bare);
        let acknowledged =
            r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{}}}"#;
        assert!(heard(acknowledged).is_none());
        let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#;
        assert!(matches!(heard(log), Some(Heard::Notification { text, .. }) if text == log));
    }
}
