//! The lists of tools of clients' own sessions, bounded for each caller: one who has many takes nothing from others.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{domain::OwnTools, upstream::Client};

/// Bytes of one client, of all clients of a caller, and of all. Of more than the last two, those that were used last are kept.
const OF_CLIENT: usize = 4 << 20;
const OF_CALLER: usize = 16 << 20;
const OF_ALL: usize = 256 << 20;
/// How long they are kept after they were last used.
const UNUSED: Duration = Duration::from_secs(3600);
/// What a client costs besides its tools.
const OWN_BYTES: usize = 512;

/// What servers list for clients alone.
#[derive(Debug, Default)]
pub(super) struct KeptLists(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    clients: HashMap<Client, Entry>,
    callers: HashMap<Arc<str>, Share>,
    of_all: Share,
    /// How often something was used.
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    tools: Arc<OwnTools>,
    caller: Arc<str>,
    bytes: usize,
    used: u64,
    at: Instant,
}

/// What is kept of a caller, or of all.
#[derive(Debug, Default)]
struct Share {
    bytes: usize,
    /// By when they were used.
    clients: BTreeMap<u64, Client>,
}

impl KeptLists {
    pub(super) fn get(&self, client: &Client) -> Option<Arc<OwnTools>> {
        let mut all = self.lock();
        let entry = all.take(client)?;
        let tools = Arc::clone(&entry.tools);
        all.put(client, entry);
        Some(tools)
    }

    /// Keeps these in the place of what the client had; false: they are too large for one client, and it has what it had.
    pub(super) fn put(&self, client: &Client, caller: &Arc<str>, tools: OwnTools) -> bool {
        let bytes = OWN_BYTES + tools.size();
        if bytes > OF_CLIENT {
            return false;
        }
        let mut all = self.lock();
        all.take(client);
        all.drop_unused();
        if tools.is_empty() {
            return true;
        }
        let (tools, caller) = (Arc::new(tools), Arc::clone(caller));
        let at = Instant::now();
        all.put(
            client,
            Entry {
                tools,
                caller: Arc::clone(&caller),
                bytes,
                used: 0,
                at,
            },
        );
        while let Some(first) = all.callers.get(&caller).and_then(|share| share.over(OF_CALLER)) {
            all.take(&first);
        }
        while let Some(first) = all.of_all.over(OF_ALL) {
            all.take(&first);
        }
        true
    }

    pub(super) fn remove(&self, client: &Client) {
        self.lock().take(client);
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        // Nothing panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// The client whose tools were not used for longest, if there are more bytes than this.
    fn over(&self, most: usize) -> Option<Client> {
        let (_, first) = self.clients.first_key_value()?;
        (self.bytes > most).then(|| first.clone())
    }
}

impl All {
    fn take(&mut self, client: &Client) -> Option<Entry> {
        let entry = self.clients.remove(client)?;
        let Self { callers, of_all, .. } = self;
        if let Some(share) = callers.get_mut(&entry.caller) {
            share.bytes -= entry.bytes;
            share.clients.remove(&entry.used);
            if share.clients.is_empty() {
                callers.remove(&entry.caller);
            }
        }
        of_all.bytes -= entry.bytes;
        of_all.clients.remove(&entry.used);
        Some(entry)
    }

    fn put(&mut self, client: &Client, mut entry: Entry) {
        self.uses += 1;
        (entry.used, entry.at) = (self.uses, Instant::now());
        for share in [
            self.callers.entry(Arc::clone(&entry.caller)).or_default(),
            &mut self.of_all,
        ] {
            share.bytes += entry.bytes;
            share.clients.insert(entry.used, client.clone());
        }
        self.clients.insert(client.clone(), entry);
    }

    fn drop_unused(&mut self) {
        while let Some((_, first)) = self.of_all.clients.first_key_value() {
            let first = first.clone();
            if self
                .clients
                .get(&first)
                .is_some_and(|entry| entry.at.elapsed() < UNUSED)
            {
                return;
            }
            self.take(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Definition, ListedTools};

    fn client(number: u8) -> Client {
        Client::Session([number; 12])
    }

    fn tools(bytes: usize) -> OwnTools {
        let text = format!(r#"{{"name":"t","description":"{}"}}"#, "x".repeat(bytes));
        let definition = Arc::new(Definition::parse(&text).unwrap());
        let listed: ListedTools = [("t".into(), ("h".into(), definition))].into_iter().collect();
        OwnTools::default().with(&"i".into(), Some(listed))
    }

    #[test]
    fn a_caller_with_many_takes_nothing_from_others() {
        let (kept, [alice, bob]) = (KeptLists::default(), ["users/alice", "users/bob"].map(Arc::from));
        assert!(kept.put(&client(0), &bob, tools(1 << 20)));
        assert!(!kept.put(&client(1), &alice, tools(OF_CLIENT)));
        let most = u8::try_from(OF_CALLER / (3 << 20)).unwrap();
        for number in 1..=most {
            assert!(kept.put(&client(number), &alice, tools(3 << 20)));
        }
        // Of hers, the one goes that was not used for longest.
        assert!(kept.get(&client(1)).is_some());
        for number in most + 1..100 {
            assert!(kept.put(&client(number), &alice, tools(3 << 20)));
            assert!(kept.get(&client(1)).is_some());
        }
        assert!(kept.get(&client(2)).is_none() && kept.get(&client(99)).is_some());
        assert!(kept.get(&client(0)).is_some());
        for number in 0..100 {
            kept.remove(&client(number));
        }
        let all = kept.lock();
        assert!(all.callers.is_empty() && all.of_all.clients.is_empty() && all.of_all.bytes == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_used_for_long_goes() {
        let (kept, alice) = (KeptLists::default(), "users/alice".into());
        kept.put(&client(1), &alice, tools(1));
        kept.put(&client(2), &alice, tools(1));
        tokio::time::advance(UNUSED / 2).await;
        assert!(kept.get(&client(1)).is_some());
        tokio::time::advance(UNUSED / 2).await;
        kept.put(&client(3), &alice, tools(1));
        assert_eq!([1, 2, 3].map(|n| kept.get(&client(n)).is_some()), [true, false, true]);
    }
}
