//! Links to the install page and to the progress page of an entry.

use serde::{Deserialize, Serialize};
use url::form_urlencoded;

/// What an install link carries besides the entry.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Link {
    /// The gateway the call came through.
    pub(super) gateway: Option<String>,
    /// The agent the call came through.
    pub(super) agent: Option<String>,
    /// Uid of an installation to look at.
    pub(super) installation: Option<String>,
    /// Set to make another installation although there is one.
    pub(super) new: Option<String>,
}

/// `entries/{entry}`, if it can be one.
pub(super) fn entry_name(id: &str) -> Option<String> {
    let valid = (1..=40).contains(&id.len()) && id.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    valid.then(|| format!("entries/{id}"))
}

/// Path and query of the install page, below the public URL.
pub(super) fn install_path(entry: &str, link: &Link) -> String {
    let entry: String = form_urlencoded::byte_serialize(entry.as_bytes()).collect();
    let pairs = [
        ("gateway", &link.gateway),
        ("agent", &link.agent),
        ("installation", &link.installation),
        ("new", &link.new),
    ];
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(
        pairs
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.as_ref()?))),
    );
    match query.finish() {
        query if query.is_empty() => format!("/install/{entry}"),
        query => format!("/install/{entry}?{query}"),
    }
}

/// Path and query of the progress page, below the public URL.
pub(super) fn progress_path(entry: &str, id: &str, link: &Link) -> String {
    below(entry, "progress", id, link)
}

/// Path and query of the form that connects an account or, if `what` is `disconnect`, disconnects it.
pub(super) fn connect_path(entry: &str, id: &str, what: &str, link: &Link) -> String {
    below(entry, what, id, link)
}

fn below(entry: &str, what: &str, id: &str, link: &Link) -> String {
    let link = Link {
        installation: None,
        new: None,
        ..link.clone()
    };
    let form = install_path(entry, &link);
    let (path, query) = form
        .split_once('?')
        .map_or((form.as_str(), String::new()), |(path, query)| {
            (path, format!("?{query}"))
        });
    let id: String = form_urlencoded::byte_serialize(id.as_bytes()).collect();
    format!("{path}/{what}/{id}{query}")
}
