//! The resources that those who share a session have subscribed to.

use std::collections::{HashMap, HashSet};

use crate::upstream::{Client, LONGEST_URI, SharedTopics};

/// The resources, by their URIs.
#[derive(Debug, Default)]
pub(super) struct Topics {
    all: HashMap<Box<str>, Topic>,
    /// The same, for the stream of a modern server.
    asked: SharedTopics,
}

#[derive(Debug, Default)]
struct Topic {
    /// Those who have subscribed to it, or whose request to is under way.
    clients: HashSet<Client>,
    /// Whether the server has been told, or is being told, in the session that there is now.
    said: bool,
    /// Whether somebody has unsubscribed whose request the server was not sent.
    owed: bool,
}

/// What remains when a client no longer has a topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    Others,
    /// Nobody; and whether somebody has unsubscribed whose request the server was not sent.
    Nobody {
        owed: bool,
    },
}

impl Topics {
    /// `said`: the client tells the server itself.
    pub(super) fn add(&mut self, client: &Client, uri: &str, said: bool) {
        let topic = self.all.entry(uri.into()).or_default();
        topic.clients.insert(client.clone());
        topic.said |= said;
        self.asked.add(uri);
    }

    pub(super) fn remove(&mut self, client: &Client, uri: &str) -> Left {
        let Some(topic) = self.all.get_mut(uri) else {
            return Left::Nobody { owed: false };
        };
        topic.clients.remove(client);
        if !topic.clients.is_empty() {
            topic.owed = true;
            return Left::Others;
        }
        let owed = topic.owed;
        self.all.remove(uri);
        self.asked.remove(uri);
        Left::Nobody { owed }
    }

    pub(super) fn has(&self, uri: &str) -> bool {
        self.all.contains_key(uri)
    }

    pub(super) fn asked(&self) -> SharedTopics {
        self.asked.clone()
    }

    /// A session has taken the place of the one that knew of them.
    pub(super) fn forget_said(&mut self) {
        self.all.values_mut().for_each(|topic| topic.said = false);
    }

    /// Those that the server is to be told of.
    pub(super) fn unsaid(&self) -> Vec<Box<str>> {
        let unsaid = self.all.iter().filter(|(_, topic)| !topic.said);
        unsaid.map(|(uri, _)| uri.clone()).collect()
    }

    pub(super) fn say(&mut self, uri: &str) {
        if let Some(topic) = self.all.get_mut(uri) {
            topic.said = true;
        }
    }

    /// Who has subscribed to this resource, or to one that it is a part of.
    pub(super) fn told(&self, uri: &str) -> HashSet<Client> {
        let known = wholes(uri).filter_map(|whole| self.all.get(whole));
        known.flat_map(|topic| topic.clients.iter().cloned()).collect()
    }
}

/// What a resource is a part of, see [`crate::upstream::is_part_of`]: as much as can be subscribed to.
fn wholes(uri: &str) -> impl Iterator<Item = &str> {
    let ends = uri.bytes().enumerate().take(LONGEST_URI + 1);
    let ends = ends.filter(|(_, byte)| b"/#?".contains(byte));
    let ends = ends.flat_map(|(at, byte)| [Some(at), (byte == b'/').then_some(at + 1)]);
    let parts = ends.flatten().chain([uri.len()]).filter(|&end| end <= LONGEST_URI);
    let mut last = None;
    // After a slash comes what begins with another.
    parts
        .filter(move |&end| last.replace(end) != Some(end))
        .map(|end| &uri[..end])
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::upstream::is_part_of;

    #[test]
    fn a_resource_is_a_part_of_what_it_begins_with() {
        for uri in ["x:/a//b/?c#d", "x:", "", "/", "x:/é/ü?", "a/b/"] {
            let all: Vec<&str> = wholes(uri).collect();
            let ends = (0..=uri.len()).filter(|&end| uri.is_char_boundary(end));
            let expected: Vec<&str> = ends
                .map(|end| &uri[..end])
                .filter(|whole| is_part_of(uri, whole))
                .collect();
            assert_eq!(all, expected, "{uri}");
        }
        let long = format!("x:/{}/b", "a".repeat(LONGEST_URI));
        assert_eq!(wholes(&long).collect::<Vec<_>>(), ["x:", "x:/"]);
    }

    #[test]
    fn what_one_no_longer_needs_others_keep() {
        let [one, other] = [1, 2].map(|id| Client::Session([id; 12]));
        let mut topics = Topics::default();
        topics.add(&one, "x:/a", true);
        topics.add(&other, "x:/a", false);
        assert_eq!(topics.told("x:/a/b").len(), 2);
        assert_eq!(topics.remove(&one, "x:/a"), Left::Others);
        assert!(topics.unsaid().is_empty());
        topics.forget_said();
        assert_eq!(topics.unsaid(), [Box::from("x:/a")]);
        topics.say("x:/a");
        assert!(topics.unsaid().is_empty());
        assert_eq!(topics.remove(&other, "x:/a"), Left::Nobody { owed: true });
        assert!(!topics.has("x:/a") && topics.told("x:/a").is_empty());
    }
}
