//! Tests of the contract of [`Runtime`] that every runtime runs: the tests of a runtime implement [`Tested`] and call [`run`].

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use pretty_assertions::{assert_eq, assert_ne};
use secrecy::SecretString;

use crate::domain::{
    logs::LogQuery,
    runtime::{Restart, Runtime, RuntimeError},
    spec::{
        DrawError, FieldValue, Missing, SecretSource, Secrets, ServerSpec,
        tests::{Fixed, required_secret, token},
    },
    status::{Held, State, Status},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A runtime under test. It retries failed starts within milliseconds.
pub(crate) trait Tested {
    fn runtime(&self) -> &dyn Runtime;

    /// A server that this runtime can run, the same at each call. At each start it writes one line, which has the value of its environment
    /// variable `TOKEN`, if it is set. `tests/programs/server.py` is such a program.
    fn spec(&self, kind: Kind) -> ServerSpec;

    /// Whether a process or pod of an owner's server exists, including processes that the server started. Found without asking the runtime
    /// where that is possible.
    fn runs(&self, owner: &str) -> bool;
}

/// How a server behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Becomes ready, and runs until it is stopped.
    Runs,
    /// Ends as soon as it is started, after it wrote its line.
    Ends,
}

/// Runs all cases, each on a runtime that `subject` makes for it. With real processes, the test requires a runtime of several threads.
pub(crate) async fn run<S: Tested>(subject: impl AsyncFn() -> S) {
    the_same_digest_restarts_nothing(&subject().await).await;
    another_digest_starts_another_server(&subject().await).await;
    what_is_held_does_not_run(&subject().await).await;
    nothing_is_left_of_what_is_removed(&subject().await).await;
    a_restart_is_done_once(&subject().await).await;
    what_ends_is_started_again(&subject().await).await;
    secrets_are_drawn_for_a_start(&subject().await).await;
    secrets_are_masked_in_logs(&subject().await).await;
    logs_tell_runs_apart(&subject().await).await;
    everything_is_observed(&subject().await).await;
    the_last_call_decides(&subject().await).await;
    an_owner_does_not_affect_another(&subject().await).await;
    it_can_be_used_after_a_release(&subject().await).await;
}

/// Waits until the owner's status is as `condition` says.
pub(crate) async fn until<S: Tested>(
    subject: &S,
    owner: &str,
    what: &str,
    condition: impl Fn(&Status) -> bool,
) -> Status {
    let mut observed = subject.runtime().observe();
    let seen = async {
        while let Some(observed) = observed.next().await {
            let of_owner = observed.status.filter(|_| observed.owner == owner);
            if let Some(status) = of_owner.filter(&condition) {
                return status;
            }
        }
        panic!("the runtime is gone");
    };
    let seen = tokio::time::timeout(PATIENCE, seen).await;
    seen.unwrap_or_else(|_| panic!("timed out waiting: {what}: {:?}", subject.runtime().status(owner)))
}

async fn running<S: Tested>(subject: &S, owner: &str) -> Status {
    let status = until(subject, owner, "it runs", |status| status.state == State::Running).await;
    assert!(subject.runs(owner), "{status:?}");
    status
}

fn held(reason: &'static str, generation: i64) -> Held {
    Held {
        reason,
        message: "Somebody must do something.".to_owned(),
        generation,
        expected: true,
    }
}

fn restart(id: &str) -> Restart {
    Restart {
        id: id.to_owned(),
        update_package_of: None,
    }
}

/// The spec with another value in its environment.
fn with(spec: &ServerSpec, value: &str) -> ServerSpec {
    ServerSpec {
        environment: BTreeMap::from([("VALUE".to_owned(), value.to_owned())]),
        ..spec.clone()
    }
}

async fn the_same_digest_restarts_nothing<S: Tested>(subject: &S) {
    let (runtime, spec) = (subject.runtime(), subject.spec(Kind::Runs));
    runtime.apply("one", spec.clone()).await;
    let first = running(subject, "one").await;
    assert_eq!((first.generation, &first.spec_digest), (1, &spec.digest()));
    assert!(!first.endpoint.is_empty() && first.reason.is_empty() && first.expected);
    let later = ServerSpec {
        generation: 2,
        revision: 2,
        ..spec
    };
    runtime.apply("one", later).await;
    let second = until(subject, "one", "the generation", |status| status.generation == 2).await;
    assert_eq!((second.state, &second.endpoint), (State::Running, &first.endpoint));
    assert_eq!(second.start_time, first.start_time);
    runtime.release().await;
}

async fn another_digest_starts_another_server<S: Tested>(subject: &S) {
    let (runtime, spec) = (subject.runtime(), subject.spec(Kind::Runs));
    runtime.apply("one", spec.clone()).await;
    let first = running(subject, "one").await;
    let other = ServerSpec {
        generation: 2,
        ..with(&spec, "other")
    };
    runtime.apply("one", other.clone()).await;
    let digest = other.digest();
    let second = until(subject, "one", "the other one", |status| status.spec_digest == digest).await;
    assert_eq!((second.state, second.generation), (State::Running, 2));
    assert_ne!(second.endpoint, first.endpoint);
    runtime.release().await;
}

async fn what_is_held_does_not_run<S: Tested>(subject: &S) {
    let (runtime, spec) = (subject.runtime(), subject.spec(Kind::Runs));
    runtime.hold("one", held("FIELD_REQUIRED", 1)).await;
    let status = until(subject, "one", "it is held", |s| s.reason == "FIELD_REQUIRED").await;
    assert_eq!((status.state, status.generation), (State::Pending, 1));
    assert!(!subject.runs("one"));
    runtime.apply("one", spec.clone()).await;
    running(subject, "one").await;
    let elsewhere = Held {
        expected: false,
        ..held("NOT_SELF_HOSTED", 2)
    };
    runtime.hold("one", elsewhere).await;
    let status = until(subject, "one", "it is held", |s| s.reason == "NOT_SELF_HOSTED").await;
    assert!(status.endpoint.is_empty() && status.spec_digest.is_empty() && !status.expected);
    ended(subject, "one").await;
    // The same digest as before starts a server, since none runs.
    runtime.apply("one", spec).await;
    running(subject, "one").await;
    runtime.release().await;
}

async fn ended<S: Tested>(subject: &S, owner: &str) {
    let start = Instant::now();
    while subject.runs(owner) {
        assert!(start.elapsed() < PATIENCE, "it still runs");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn nothing_is_left_of_what_is_removed<S: Tested>(subject: &S) {
    let (runtime, spec) = (subject.runtime(), subject.spec(Kind::Runs));
    for owner in ["never there", "", "../one", "ü"] {
        runtime.stop(owner).await;
        runtime.remove(owner).await.unwrap();
    }
    runtime.apply("one", spec.clone()).await;
    running(subject, "one").await;
    runtime.stop("one").await;
    assert!(!subject.runs("one") && runtime.status("one").is_none());
    runtime.apply("one", spec.clone()).await;
    running(subject, "one").await;
    runtime.remove("one").await.unwrap();
    assert!(!subject.runs("one") && runtime.status("one").is_none());
    runtime.remove("one").await.unwrap();
    // Also right after it was applied.
    runtime.apply("one", spec.clone()).await;
    runtime.remove("one").await.unwrap();
    assert!(!subject.runs("one") && runtime.status("one").is_none());
    runtime.apply("one", spec).await;
    running(subject, "one").await;
    runtime.release().await;
}

async fn a_restart_is_done_once<S: Tested>(subject: &S) {
    let (runtime, spec) = (subject.runtime(), subject.spec(Kind::Runs));
    let unknown = runtime.restart("one", restart("a")).await;
    assert!(matches!(unknown, Err(RuntimeError::Unknown)));
    runtime.apply("one", spec).await;
    let first = running(subject, "one").await;
    runtime.restart("one", restart("a")).await.unwrap();
    let second = until(subject, "one", "the restart", |s| s.observed_restart == "a").await;
    assert_eq!((second.state, second.requested_restart.as_str()), (State::Running, "a"));
    assert_ne!(second.endpoint, first.endpoint);
    runtime.restart("one", restart("c")).await.unwrap();
    until(subject, "one", "the restart", |s| s.observed_restart == "c").await;
    // A request that is sent again after another one.
    runtime.restart("one", restart("a")).await.unwrap();
    assert_eq!(runtime.status("one").unwrap().requested_restart, "c");
    runtime.hold("one", held("FIELD_REQUIRED", 3)).await;
    until(subject, "one", "it is held", |s| s.reason == "FIELD_REQUIRED").await;
    // A held server is not started, but the restart has an outcome.
    runtime.restart("one", restart("b")).await.unwrap();
    let held = until(subject, "one", "the restart", |s| s.observed_restart == "b").await;
    assert_eq!(held.reason, "FIELD_REQUIRED");
    assert!(!subject.runs("one"));
    runtime.release().await;
}

async fn what_ends_is_started_again<S: Tested>(subject: &S) {
    let runtime = subject.runtime();
    runtime.apply("one", subject.spec(Kind::Ends)).await;
    let failed = until(subject, "one", "it failed", |s| s.state == State::Failed).await;
    assert!(!failed.reason.is_empty() && failed.endpoint.is_empty() && failed.expected);
    until(subject, "one", "it is tried again", |s| s.restart_count >= 2).await;
    // A corrected spec runs.
    runtime.apply("one", subject.spec(Kind::Runs)).await;
    running(subject, "one").await;
    runtime.release().await;
}

/// Has one secret, or none, and counts the calls.
#[derive(Default)]
struct Source {
    value: Mutex<Option<&'static str>>,
    unavailable: AtomicU64,
    drawn: AtomicU64,
}

#[async_trait::async_trait]
impl SecretSource for Source {
    async fn draw(&self) -> Result<Secrets, DrawError> {
        self.drawn.fetch_add(1, Ordering::SeqCst);
        let due = |left: u64| left.checked_sub(1);
        if self
            .unavailable
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, due)
            .is_ok()
        {
            return Err(DrawError::Unavailable("not now".to_owned()));
        }
        match *self.value.lock().unwrap() {
            Some(value) => Ok([("token".to_owned(), SecretString::from(value))].into()),
            None => Err(DrawError::Missing(Missing {
                reason: "DESTINATION_CHANGED",
                message: "Confirm it.".to_owned(),
            })),
        }
    }
}

async fn secrets_are_drawn_for_a_start<S: Tested>(subject: &S) {
    let (runtime, source) = (subject.runtime(), Arc::new(Source::default()));
    let spec = |generation| ServerSpec {
        fields: vec![token(required_secret())],
        credential_generations: (generation, 0),
        secrets: Arc::clone(&source) as Arc<dyn SecretSource>,
        ..subject.spec(Kind::Runs)
    };
    runtime.apply("one", spec(1)).await;
    let waiting = until(subject, "one", "it waits", |s| s.reason == "DESTINATION_CHANGED").await;
    assert_eq!(
        (waiting.state, waiting.message.as_str()),
        (State::Pending, "Confirm it.")
    );
    assert!(!subject.runs("one"));
    // The same spec again makes the runtime draw again: the secret may be there now.
    *source.value.lock().unwrap() = Some("first");
    source.unavailable.store(1, Ordering::SeqCst);
    runtime.apply("one", spec(1)).await;
    let first = running(subject, "one").await;
    assert!(source.drawn.load(Ordering::SeqCst) >= 3, "it was unavailable once");
    *source.value.lock().unwrap() = Some("second");
    runtime.apply("one", spec(2)).await;
    let digest = spec(2).digest();
    let second = until(subject, "one", "the new secret", |s| s.spec_digest == digest).await;
    assert_ne!(second.endpoint, first.endpoint);
    // A server does not go on with a secret that was deleted.
    *source.value.lock().unwrap() = None;
    runtime.apply("one", spec(3)).await;
    until(subject, "one", "it waits", |s| s.reason == "DESTINATION_CHANGED").await;
    ended(subject, "one").await;
    runtime.release().await;
}

async fn secrets_are_masked_in_logs<S: Tested>(subject: &S) {
    const SECRET: &str = "suite-secret-9d1c";
    let runtime = subject.runtime();
    let secrets = Secrets::from([("token".to_owned(), SecretString::from(SECRET))]);
    let spec = |value| ServerSpec {
        fields: vec![token(value)],
        secrets: Arc::new(Fixed(secrets.clone())),
        ..subject.spec(Kind::Runs)
    };
    let query = LogQuery {
        tail: 100,
        since: 0,
        follow: true,
        previous: false,
    };
    runtime
        .apply("one", spec(FieldValue::Plain("suite-plain".to_owned())))
        .await;
    let mut lines = runtime.logs("one", query);
    let plain = lines.next().await.unwrap();
    assert!(plain.text.contains("suite-plain"), "{plain:?}");
    runtime.apply("one", spec(required_secret())).await;
    let masked = lines.next().await.unwrap();
    assert!(!masked.text.contains(SECRET), "{masked:?}");
    running(subject, "one").await;
    runtime.release().await;
}

async fn logs_tell_runs_apart<S: Tested>(subject: &S) {
    let runtime = subject.runtime();
    let all = LogQuery {
        tail: 100,
        since: 0,
        follow: false,
        previous: false,
    };
    let lines = async |query| runtime.logs("one", query).collect::<Vec<_>>().await.len();
    assert_eq!(lines(all).await, 0);
    runtime.apply("one", subject.spec(Kind::Runs)).await;
    let mut followed = runtime.logs("one", LogQuery { follow: true, ..all });
    running(subject, "one").await;
    followed.next().await.unwrap();
    let previous = LogQuery { previous: true, ..all };
    assert_eq!((lines(all).await, lines(previous).await), (1, 0));
    runtime.restart("one", restart("a")).await.unwrap();
    until(subject, "one", "the restart", |s| s.observed_restart == "a").await;
    followed.next().await.unwrap();
    assert_eq!((lines(all).await, lines(previous).await), (2, 1));
    assert_eq!(lines(LogQuery { tail: 1, ..all }).await, 1);
    assert_eq!(lines(LogQuery { since: i64::MAX, ..all }).await, 0);
    runtime.remove("one").await.unwrap();
    assert!(followed.next().await.is_none(), "there is nothing more to follow");
    runtime.release().await;
}

async fn everything_is_observed<S: Tested>(subject: &S) {
    let runtime = subject.runtime();
    runtime.apply("one", subject.spec(Kind::Runs)).await;
    running(subject, "one").await;
    let mut observed = runtime.observe();
    let first = observed.next().await.unwrap();
    assert_eq!(first.owner, "one");
    assert_eq!(first.status, runtime.status("one"), "what there is comes first");
    runtime.hold("two", held("FIELD_REQUIRED", 7)).await;
    let two = observed.next().await.unwrap();
    assert_eq!((two.owner.as_str(), two.status.unwrap().generation), ("two", 7));
    runtime.stop("one").await;
    let gone = async {
        while let Some(observed) = observed.next().await {
            if observed.owner == "one" && observed.status.is_none() {
                return;
            }
        }
        panic!("the runtime is still there");
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    runtime.release().await;
}

/// However quickly calls follow each other.
async fn the_last_call_decides<S: Tested>(subject: &S) {
    let (runtime, spec) = (subject.runtime(), subject.spec(Kind::Runs));
    for round in 0..5 {
        runtime.apply("one", with(&spec, &round.to_string())).await;
        runtime.hold("one", held("FIELD_REQUIRED", round)).await;
    }
    let last = with(&spec, "last");
    runtime.apply("one", last.clone()).await;
    let digest = last.digest();
    until(subject, "one", "the last one", |s| s.spec_digest == digest).await;
    for _ in 0..3 {
        runtime.stop("one").await;
        runtime.apply("one", last.clone()).await;
    }
    running(subject, "one").await;
    runtime.release().await;
}

async fn an_owner_does_not_affect_another<S: Tested>(subject: &S) {
    let (runtime, spec) = (subject.runtime(), subject.spec(Kind::Runs));
    // This name begins with that of another owner.
    let longer = "two-more";
    for owner in ["one", "two", longer] {
        runtime.apply(owner, spec.clone()).await;
    }
    let one = running(subject, "one").await;
    let two = running(subject, "two").await;
    running(subject, longer).await;
    assert_ne!(one.endpoint, two.endpoint);
    runtime.apply("three", subject.spec(Kind::Ends)).await;
    until(subject, "three", "it failed", |s| s.state == State::Failed).await;
    runtime.remove("two").await.unwrap();
    assert!(subject.runs(longer));
    assert_eq!(running(subject, "one").await, one);
    runtime.release().await;
}

/// Another orchestrator may hold the lease for a while.
async fn it_can_be_used_after_a_release<S: Tested>(subject: &S) {
    let (runtime, spec) = (subject.runtime(), subject.spec(Kind::Runs));
    for _ in 0..2 {
        runtime.apply("one", spec.clone()).await;
        running(subject, "one").await;
        runtime.release().await;
    }
}
