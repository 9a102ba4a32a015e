//! Receives the sessions of a place, one after the other, for the clients that are there.

use std::sync::Arc;

use futures::{StreamExt as _, future::join_all, stream};
use tokio::{
    select,
    time::{Instant, interval_at, sleep},
};

use super::{
    behind::Put,
    hub::{AT_A_TIME, Hub},
    places::{Current, Succession},
};
use crate::{
    calls::{
        delays::{LONGEST, STOOD, TOUCHED, delays},
        targets,
    },
    upstream::{Client, Heard, OpenSession, Place, SharedTopics, Target, UpstreamError},
};

/// Why a session is not received any more.
enum Ended {
    /// Its stream has ended, or could not be opened.
    Stream,
    /// It has no stream.
    HasNone,
    /// Another is to take its place, or nobody is to hear it now.
    NotNow,
}

impl Hub {
    /// Until nobody is left.
    pub(super) async fn receive(self: Arc<Self>, mut succession: Succession) {
        let place = succession.place.clone();
        let touch = async {
            let mut due = interval_at(Instant::now() + TOUCHED, TOUCHED);
            loop {
                due.tick().await;
                if let Some(target) = self.places.target(&place) {
                    self.upstreams.touch(&target).await;
                }
            }
        };
        select! {
            () = self.stop.cancelled() => {}
            () = touch => {}
            () = self.receive_all(&mut succession) => {}
        }
    }

    async fn receive_all(self: &Arc<Self>, succession: &mut Succession) {
        let (mut delays, mut last): (_, Option<OpenSession>) = (delays(), None);
        loop {
            let current = succession.current.borrow_and_update().clone();
            let Some(current) = current else {
                match succession.current.changed().await {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            };
            let is_same = last.as_ref().is_some_and(|last| last.continues_as(&current.session));
            let is_another = last.is_some() && !is_same;
            last = Some(current.session.clone());
            let mut since = Instant::now();
            let (topics, unsaid) = (&succession.topics, &succession.unsaid);
            let received = async {
                let subscribed = async {
                    // What changes from then on is heard.
                    current.stream_begun.wait().await;
                    loop {
                        self.subscribe_all(&succession.place, &current).await;
                        unsaid.notified().await;
                    }
                };
                let another = async {
                    current.stream_begun.wait().await;
                    if is_another {
                        self.tell_another(&succession.place, &current.session).await;
                    }
                    std::future::pending().await
                };
                let ended = select! {
                    ended = self.receive_one(&succession.place, &current, topics, is_same, &mut since) => ended,
                    () = subscribed => return,
                    () = another => return,
                };
                if since.elapsed() > STOOD {
                    delays = self::delays();
                }
                let pause = delays.next().unwrap_or(LONGEST);
                match ended {
                    Ended::Stream => sleep(pause).await,
                    Ended::HasNone => sleep(LONGEST).await,
                    Ended::NotNow => select! {
                        () = sleep(pause) => {}
                        // A client listens again.
                        () = unsaid.notified() => {}
                    },
                }
                // One that takes another's place is made known, also if nobody waits for it any more.
                let mended = tokio::spawn(Arc::clone(self).mend(succession.place.clone(), current.clone()));
                let _ = mended.await;
            };
            select! {
                () = received => {}
                changed = succession.current.changed() => match changed {
                    Ok(()) => {}
                    Err(_) => return,
                },
            }
        }
    }

    /// Until the stream of a session ends, if it has one. `again`: it had one, or was to have one, before. `since` is set to when it began.
    async fn receive_one(
        self: &Arc<Self>,
        place: &Place,
        current: &Current,
        topics: &SharedTopics,
        again: bool,
        since: &mut Instant,
    ) -> Ended {
        let target = self.places.target(place);
        // Its own, where calls go elsewhere by now.
        let target = target.filter(|target| target.key() == current.session.key());
        let target = target.unwrap_or_else(|| Arc::clone(&current.session.target));
        let (upstreams, session) = (&self.upstreams, &current.session);
        let opened = if again {
            let stand = || async {
                let now = self.target_now(place).await;
                let now = now.filter(|now| now.key() == session.key())?;
                Some(upstreams.stand_for_all(session, &now, topics).await)
            };
            upstreams.once_reachable(&target, stand).await
        } else {
            Some(upstreams.stand_for_all(session, &target, topics).await)
        };
        // Another takes its place, or nobody is to hear it now.
        let Some(opened) = opened else { return Ended::NotNow };
        *since = Instant::now();
        current.stream_begun.set();
        match opened {
            Ok(Some(mut stream)) => {
                while let Ok(heard) = stream.next().await {
                    if targets::is_elsewhere(&self.store, &target) {
                        break;
                    }
                    self.tell(place, heard).await;
                }
            }
            Ok(None) if !session.is_lost() => return Ended::HasNone,
            Ok(None) => {}
            Err(error) => log(&target, &error),
        }
        Ended::Stream
    }

    /// Tells the server what is subscribed to in this place that it has not been told in this session.
    async fn subscribe_all(&self, place: &Place, Current { session, .. }: &Current) {
        let subscribe = |uri: Box<str>| async move {
            let upstreams = &self.upstreams;
            upstreams
                .change_subscription(session, "resources/subscribe", &uri)
                .await;
            self.places.say(place, session, &uri);
        };
        let unsaid = self.places.unsaid(place);
        stream::iter(unsaid).for_each_concurrent(AT_A_TIME, subscribe).await;
    }

    /// Tells the clients of a place that its session is another: in the one before, they would have heard what has changed since.
    async fn tell_another(self: &Arc<Self>, place: &Place, session: &OpenSession) {
        if session.is_legacy() {
            for list in Heard::of_another(session) {
                self.tell(place, list).await;
            }
        }
    }

    pub(super) async fn tell(self: &Arc<Self>, place: &Place, heard: Heard) {
        match heard {
            // The registry tells those who see them.
            Heard::ToolsChanged(installation) => (self.tools_changed)(&installation),
            heard => {
                let clients = self.places.told(place, &heard);
                let installation = place.installation();
                join_all(clients.iter().map(|client| self.tell_one(client, installation, &heard))).await;
            }
        }
    }

    async fn tell_one(self: &Arc<Self>, client: &Client, installation: &Arc<str>, heard: &Heard) {
        let Some(copy) = heard.copy().filter(|_| self.listeners.listens(client)) else {
            return;
        };
        match self.behind.put(client, (Arc::clone(installation), copy)).await {
            Put::Waits => {}
            Put::First => {
                let (this, client) = (Arc::clone(self), client.clone());
                self.upstreams.in_background(async move {
                    while let Some((installation, heard)) = this.behind.take(&client) {
                        this.listeners.pass_on(&client, &installation, heard).await;
                    }
                });
            }
            // It learns from the end of its stream that it does not hear all.
            Put::TooMuch => {
                self.behind.forget(client);
                self.listeners.dismiss(client);
            }
        }
    }
}

/// A server that has been started again, as a rule.
pub(super) fn log(target: &Target, error: &UpstreamError) {
    tracing::debug!(installation.uid = %target.installation(), error = %error, "a server's stream cannot be opened");
}
