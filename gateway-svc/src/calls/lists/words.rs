//! The URIs by which clients have subscribed to resources. They are told of changes by these, whatever the lists say by then.

use std::sync::Arc;

use moka::{ops::compute::Op, policy::EvictionPolicy, sync::Cache};

use super::item::Found;
use crate::{route::Source, upstream::Client};

/// Of one client at the servers of one entry. Of more, the first are forgotten.
const MOST: usize = 256;
/// Bytes of all clients. Of more, those that were used last are kept.
const BYTES: u64 = 32 << 20;

/// What clients have subscribed to, by client and uid of the entry.
pub(super) struct Words(Cache<(Client, Arc<str>), Arc<[Word]>>);

/// A resource that a client has subscribed to.
#[derive(Clone, Debug)]
struct Word {
    /// Uid of the installation that its source is pinned to.
    pinned: Option<Arc<str>>,
    /// As the server knows it.
    own: Arc<str>,
    /// As the client has named it.
    exposed: Arc<str>,
}

impl Word {
    fn is_of(&self, pinned: Option<&Arc<str>>, own: &str) -> bool {
        *self.own == *own && self.pinned.as_ref() == pinned
    }

    fn size(&self) -> usize {
        96 + self.own.len() + self.exposed.len()
    }
}

impl Default for Words {
    fn default() -> Self {
        let weight = |_: &(Client, Arc<str>), words: &Arc<[Word]>| {
            let bytes = 256 + words.iter().map(Word::size).sum::<usize>();
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().eviction_policy(EvictionPolicy::lru());
        Self(cache.weigher(weight).max_capacity(BYTES).build())
    }
}

impl Words {
    /// A client subscribes to this by the URI that is `exposed` to it.
    pub(super) fn subscribed(&self, client: &Client, found: &Found, exposed: &str) {
        let word = Word {
            pinned: pinned(&found.source).cloned(),
            own: Arc::clone(&found.own),
            exposed: exposed.into(),
        };
        self.alter(client, &found.source.entry_uid, |words| {
            words.retain(|known| !(known.is_of(word.pinned.as_ref(), &word.own) && known.exposed == word.exposed));
            words.push(word);
            words.drain(..words.len().saturating_sub(MOST));
        });
    }

    /// A client unsubscribes from this.
    pub(super) fn unsubscribed(&self, client: &Client, found: &Found) {
        let pinned = pinned(&found.source);
        self.alter(client, &found.source.entry_uid, |words| {
            words.retain(|known| !known.is_of(pinned, &found.own));
        });
    }

    /// By which URIs a client has subscribed to what the server of an installation of this entry calls `own`, the last first.
    pub(super) fn of(&self, client: &Client, entry_uid: &Arc<str>, installation: &str, own: &str) -> Vec<Arc<str>> {
        let words = self.0.get(&(client.clone(), Arc::clone(entry_uid)));
        let is_its = |word: &&Word| word.pinned.as_ref().is_none_or(|pinned| **pinned == *installation);
        let its = words.iter().flat_map(|words| words.iter().rev());
        its.filter(|word| *word.own == *own && is_its(word))
            .map(|word| Arc::clone(&word.exposed))
            .collect()
    }

    fn alter(&self, client: &Client, entry_uid: &Arc<str>, change: impl FnOnce(&mut Vec<Word>)) {
        let key = (client.clone(), Arc::clone(entry_uid));
        self.0.entry(key).and_compute_with(|known| {
            let mut words = known.map(|known| known.value().to_vec()).unwrap_or_default();
            change(&mut words);
            if words.is_empty() {
                return Op::Remove;
            }
            Op::Put(words.into())
        });
    }
}

fn pinned(source: &Source) -> Option<&Arc<str>> {
    source.pinned.as_ref().map(|pinned| &pinned.installation)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::route::Pinned;

    #[test]
    fn a_client_subscribes_by_its_own_words() {
        let (words, client, entry) = (Words::default(), Client::Session([1; 12]), Arc::from("e"));
        let found = |pinned: Option<&str>, own: &str| Found {
            source: Arc::new(Source::new(
                Arc::clone(&entry),
                pinned.map(|uid| {
                    Arc::new(Pinned {
                        installation: uid.into(),
                        consented: None,
                    })
                }),
            )),
            own: own.into(),
        };
        let of = |installation: &str, own: &str| -> Vec<String> {
            let words = words.of(&client, &entry, installation, own);
            words.iter().map(ToString::to_string).collect()
        };
        words.subscribed(&client, &found(None, "u:1"), "u:1");
        words.subscribed(&client, &found(None, "u:1"), "u:1#b");
        words.subscribed(&client, &found(Some("p"), "u:1"), "u:1#p");
        assert_eq!(of("i", "u:1"), ["u:1#b", "u:1"]);
        assert_eq!(of("p", "u:1"), ["u:1#p", "u:1#b", "u:1"]);
        words.subscribed(&client, &found(None, "u:1"), "u:1");
        assert_eq!(of("i", "u:1"), ["u:1", "u:1#b"], "each once");
        words.unsubscribed(&client, &found(None, "u:1"));
        assert_eq!((of("i", "u:1").len(), of("p", "u:1")), (0, vec!["u:1#p".to_owned()]));
        for number in 0..=MOST {
            words.subscribed(&client, &found(None, &number.to_string()), "u");
        }
        assert_eq!(
            (of("p", "u:1").len(), of("i", "0").len(), of("i", "1").len()),
            (0, 0, 1)
        );
    }
}
