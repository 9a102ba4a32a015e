//! Clients that are known: what holds for the first of their requests holds for each.

use std::thread;

use pretty_assertions::assert_eq;
use tokio::sync::RwLock;

use super::*;

/// Alice's `mail` by a gateway that passes no headers on, so that where calls go is kept.
const DIRECT: &str = "/mcp/direct";

fn with_direct(world: &World) -> Registry {
    world
        .registry
        .clone()
        .gateway("direct")
        .assign("direct", "mail", "send")
}

async fn session(world: &World, who: &str) -> String {
    let body = initialize(0, "2025-11-25", &json!({}));
    let opened = world.send(post(body).at(DIRECT).by(who)).await;
    opened.headers()["mcp-session-id"].to_str().unwrap().to_owned()
}

impl World {
    async fn directly(&self, who: &str, session: &str) -> (StatusCode, String) {
        let response = self.send(post(CALL).at(DIRECT).by(who).session(session)).await;
        (response.status(), text(response).await)
    }
}

/// The headers of the calls that have come.
fn calls(world: &mut World) -> Vec<HeaderMap> {
    let came = std::iter::from_fn(|| world.seen.try_recv().ok());
    came.filter(|(message, _)| message["method"] == "tools/call")
        .map(|(_, headers)| headers)
        .collect()
}

#[tokio::test]
async fn what_the_registry_says_holds_from_the_next_call_on() {
    let mut world = world(answers(r#"{"content":[]}"#)).await;
    let registry = with_direct(&world);
    fill(&mut world.feed, 2, registry.objects.clone()).await;
    let session = session(&world, "alice").await;
    for _ in 0..3 {
        let (status, answer) = world.directly("alice", &session).await;
        assert_eq!(
            (status.as_u16(), answer.contains(r#""content""#)),
            (200, true),
            "{answer}"
        );
    }
    assert_eq!(calls(&mut world).len(), 3);
    let without = |key: &str| {
        let others = registry.objects.iter().filter(|object| object.key != key);
        others.cloned().collect::<Vec<_>>()
    };
    // She has uninstalled it.
    fill(&mut world.feed, 3, without("i-alice")).await;
    let (_, answer) = world.directly("alice", &session).await;
    assert!(answer.contains("/install/mail"), "{answer}");
    fill(&mut world.feed, 4, registry.objects.clone()).await;
    assert!(world.directly("alice", &session).await.1.contains(r#""content""#));
    // Her token is revoked.
    fill(&mut world.feed, 5, without("alice")).await;
    assert_eq!(world.directly("alice", &session).await.0, 401);
    assert_eq!(calls(&mut world).len(), 1);
}

/// A token or a session is known with the rest of what came with it, and alone it is nothing.
#[tokio::test]
async fn nobody_is_known_by_a_part_of_what_they_send() {
    let mut world = world(answers("{}")).await;
    let registry = with_direct(&world);
    fill(&mut world.feed, 2, registry.objects).await;
    let session = session(&world, "alice").await;
    assert_eq!(world.directly("alice", &session).await.0, 200);
    assert_eq!(world.directly("bob", &session).await.0, 404);
    assert_eq!(world.directly("carol", &session).await.0, 401);
    let elsewhere = world.send(post(CALL).by("alice").session(&session)).await;
    assert_eq!(elsewhere.status(), 404);
    let another = if session.starts_with('x') { 'y' } else { 'x' };
    let other_end = format!("{another}{}", &session[1..]);
    assert_eq!(world.directly("alice", &other_end).await.0, 404);
    let ended = method("DELETE").at(DIRECT).by("alice").session(&session);
    assert_eq!(world.send(ended).await.status(), 204);
    assert_eq!(world.directly("alice", &session).await.0, 404);
}

/// Of headers that come twice, all of the gateway reads the first: who is known by theirs is not taken for another behind it, nor with it.
#[tokio::test]
async fn who_sends_a_header_twice_is_whom_the_first_names() {
    let world = &mut world(answers("{}")).await;
    let registry = with_direct(world);
    fill(&mut world.feed, 2, registry.objects).await;
    let handle = session(world, "alice").await;
    assert_eq!(world.directly("alice", &handle).await.0, 200);
    let status = async |first: &str, second: &str| {
        let second = format!("Bearer cht_{second}");
        let asked = post(CALL).at(DIRECT).by(first).header("authorization", &second);
        world.send(asked.session(&handle)).await.status().as_u16()
    };
    assert_eq!(status("bob", "alice").await, 404);
    assert_eq!(status("nobody", "alice").await, 401);
    assert_eq!(status("alice", "bob").await, 200);
    let other = session(world, "bob").await;
    for (handles, expected) in [([&handle, &other], 200), ([&other, &handle], 404)] {
        let asked = post(CALL).at(DIRECT).by("alice");
        let asked = asked.session(handles[0]).session(handles[1]);
        assert_eq!(world.send(asked).await.status(), expected);
    }
    // What is known by one spelling of a header is known by no other, and is worked out for that.
    let other_case = post(CALL).at(DIRECT).header("Authorization", "bearer  cht_alice");
    assert_eq!(world.send(other_case.session(&handle)).await.status(), 200);
}

/// The new credential is that of all later calls: the server refuses one, not one each time.
#[tokio::test]
async fn a_credential_that_was_replaced_is_not_sent_again() {
    let mut world = world(|message, headers| {
        if message["method"] == "tools/call" && headers["authorization"] == "Bearer secret-1" {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        answers("{}")(message, headers)
    })
    .await;
    let registry = with_direct(&world);
    fill(&mut world.feed, 2, registry.objects).await;
    *world.credentials.0.lock().unwrap() = Some(2);
    let session = session(&world, "alice").await;
    for _ in 0..3 {
        assert_eq!(world.directly("alice", &session).await.0, 200);
    }
    let sent = calls(&mut world);
    let sent: Vec<&str> = sent
        .iter()
        .map(|headers| headers["authorization"].to_str().unwrap())
        .collect();
    assert_eq!(
        sent,
        [
            "Bearer secret-1",
            "Bearer secret-2",
            "Bearer secret-2",
            "Bearer secret-2"
        ]
    );
}

/// Revocations at an authorization server change nothing in the registry: what one client's server refuses is sent for no other client either.
#[tokio::test]
async fn a_credential_that_one_client_was_refused_is_sent_for_no_other() {
    let oldest_good = Arc::new(AtomicUsize::new(1));
    let limit = Arc::clone(&oldest_good);
    let mut world = world(move |message, headers| {
        let number = headers["authorization"]
            .to_str()
            .unwrap()
            .strip_prefix("Bearer secret-");
        if message["method"] == "tools/call" && number.unwrap().parse::<usize>().unwrap() < limit.load(Ordering::SeqCst)
        {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        answers("{}")(message, headers)
    })
    .await;
    let registry = with_direct(&world);
    fill(&mut world.feed, 2, registry.objects).await;
    let (one, other) = (session(&world, "alice").await, session(&world, "alice").await);
    for session in [&one, &other] {
        assert_eq!(world.directly("alice", session).await.0, 200);
    }
    for best in [2, 3] {
        *world.credentials.0.lock().unwrap() = Some(best);
        oldest_good.store(best.try_into().unwrap(), Ordering::SeqCst);
        let (status, answer) = world.directly("alice", &one).await;
        assert_eq!((status.as_u16(), answer.contains("error")), (200, false), "{answer}");
    }
    let (status, answer) = world.directly("alice", &other).await;
    assert_eq!((status.as_u16(), answer.contains("error")), (200, false), "{answer}");
    let sent = calls(&mut world);
    let sent: Vec<&str> = sent
        .iter()
        .map(|headers| headers["authorization"].to_str().unwrap())
        .collect();
    let numbers: Vec<&str> = sent.iter().map(|sent| &sent["Bearer secret-".len()..]).collect();
    assert_eq!(numbers, ["1", "1", "1", "2", "2", "3", "3"]);
}

/// Threads that each serve connections, as lanes do.
const THREADS: usize = 4;

fn on_threads<F: Future<Output = ()>>(serve: impl Fn(usize) -> F + Sync) {
    let run = |number| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(serve(number));
    };
    let run = &run;
    thread::scope(|scope| (0..THREADS).for_each(|number| drop(scope.spawn(move || run(number)))));
}

/// Each thread knows clients by itself. What is refused, ended or revoked, it is on all of them, from the next call on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_on_one_thread_is_over_on_all() {
    const LAST: i64 = 12;
    let (oldest_good, refused) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicUsize::new(0)));
    let (limit, count) = (Arc::clone(&oldest_good), Arc::clone(&refused));
    let mut world = world(move |message, headers| {
        let number = headers["authorization"]
            .to_str()
            .unwrap()
            .strip_prefix("Bearer secret-");
        if message["method"] == "tools/call" && number.unwrap().parse::<usize>().unwrap() < limit.load(Ordering::SeqCst)
        {
            count.fetch_add(1, Ordering::SeqCst);
            return StatusCode::UNAUTHORIZED.into_response();
        }
        answers("{}")(message, headers)
    })
    .await;
    let registry = with_direct(&world);
    fill(&mut world.feed, 2, registry.objects.clone()).await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(session(&world, "alice").await);
    }
    // A credential is revoked between two calls: one that is refused twice would fail rightly.
    let between = RwLock::new(());
    let (made, has_ended, stops) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicBool::new(false));
    let failed = Mutex::new(Vec::new());
    let calls_more = async || {
        let before = made.load(Ordering::SeqCst);
        while made.load(Ordering::SeqCst) < before + 3 * THREADS && !stops.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    };
    let (shared, sessions) = (&world, &sessions);
    let serve = async |thread: usize| {
        if thread == 0 {
            for best in 2..=LAST {
                calls_more().await;
                let _nobody_calls = between.write().await;
                *shared.credentials.0.lock().unwrap() = Some(best);
                oldest_good.store(best.try_into().unwrap(), Ordering::SeqCst);
            }
            let ended = method("DELETE").at(DIRECT).by("alice").session(&sessions[0]);
            assert_eq!(shared.send(ended).await.status(), 204);
            has_ended.store(true, Ordering::SeqCst);
            calls_more().await;
            stops.store(true, Ordering::SeqCst);
            return;
        }
        for session in sessions.iter().cycle() {
            if stops.load(Ordering::SeqCst) {
                return;
            }
            let _calls = between.read().await;
            let is_over = session == &sessions[0] && has_ended.load(Ordering::SeqCst);
            // Each under an id of its own.
            let body = CALL.replacen("c1", &made.fetch_add(1, Ordering::SeqCst).to_string(), 1);
            let response = shared.send(post(body).at(DIRECT).by("alice").session(session)).await;
            let (status, answer) = (response.status().as_u16(), text(response).await);
            let is_right = match status {
                200 => !is_over && answer.contains("result"),
                // One that is under way ends with its session.
                202 => !is_over && *session == sessions[0],
                404 => *session == sessions[0],
                _ => false,
            };
            if !is_right {
                failed.lock().unwrap().push((status, is_over, answer));
                stops.store(true, Ordering::SeqCst);
            }
        }
    };
    tokio::task::block_in_place(|| on_threads(serve));
    assert_eq!(failed.into_inner().unwrap(), []);
    // Each was refused to those alone that were under way with it.
    let most = usize::try_from(LAST - 1).unwrap() * (THREADS - 1);
    assert!((1..=most).contains(&refused.load(Ordering::SeqCst)), "{refused:?}");
    calls(&mut world);
    let others = registry.objects.into_iter().filter(|object| object.key != "alice");
    fill(&mut world.feed, 3, others.collect()).await;
    let shared = &world;
    tokio::task::block_in_place(|| {
        on_threads(async |_| {
            for session in sessions {
                assert_eq!(shared.directly("alice", session).await.0, 401);
            }
        });
    });
    assert_eq!(calls(&mut world).len(), 0);
}

/// The entry leads to another server by now, and the credential is for that one.
#[tokio::test]
async fn a_server_that_was_replaced_gets_no_secret_of_its_successor() {
    let mut world = world(answers("{}")).await;
    world.session.store(1, Ordering::SeqCst);
    let registry = with_direct(&world);
    fill(&mut world.feed, 2, registry.objects.clone()).await;
    let session = session(&world, "alice").await;
    assert_eq!(world.directly("alice", &session).await.0, 200);
    let mut moved = registry.objects;
    for object in &mut moved {
        if let Some(Object::EntryRevision(revision)) = &mut object.object
            && let Some(pb::entry_revision::Server::Remote(remote)) = &mut revision.server
        {
            remote.url = remote.url.replace("/mcp", "/other");
        }
    }
    fill(&mut world.feed, 3, moved).await;
    calls(&mut world);
    let ended = method("DELETE").at(DIRECT).by("alice").session(&session);
    assert_eq!(world.send(ended).await.status(), 204);
    let (message, headers) = world.seen.recv().await.unwrap();
    assert_eq!(
        (&message["method"], &headers["x-path"]),
        (&json!("DELETE"), &http::HeaderValue::from_static("/mcp"))
    );
    assert_eq!(headers.get("authorization"), None);
}
