//! Secrets are drawn for a start, from a source that may not answer, or has none.

use std::collections::VecDeque;

use futures::future;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::sync::{Notify, watch};

use super::*;
use crate::domain::{
    runtime::Restart,
    spec::{
        DrawError, Missing, SecretSource, Secrets,
        tests::{required_secret, token},
    },
};

/// A source that counts who asks.
#[derive(Default)]
pub(super) struct Source {
    asked: watch::Sender<usize>,
    answers: Answers,
}

/// What a source answers.
#[derive(Default)]
pub(super) enum Answers {
    /// It has no secret.
    #[default]
    Missing,
    Never,
    /// It has a secret from the second time on. It answers the first time when this is notified.
    Late(Notify),
    /// These, then it has no secret.
    InTurn(Mutex<VecDeque<Result<Secrets, DrawError>>>),
}

pub(super) fn secret() -> Secrets {
    [("token".to_owned(), "t0ken".into())].into()
}

impl Source {
    pub(super) fn that(answers: Answers) -> Arc<Self> {
        Arc::new(Self {
            answers,
            ..Self::default()
        })
    }

    /// Waits until it was asked so many times.
    pub(super) async fn asked(&self, times: usize) {
        let mut asked = self.asked.subscribe();
        asked.wait_for(|asked| *asked >= times).await.unwrap();
    }
}

#[async_trait::async_trait]
impl SecretSource for Source {
    async fn draw(&self) -> Result<Secrets, DrawError> {
        self.asked.send_modify(|asked| *asked += 1);
        let first = *self.asked.borrow() == 1;
        match &self.answers {
            Answers::Never => future::pending().await,
            Answers::Late(_) if !first => return Ok(secret()),
            Answers::InTurn(answers) => {
                if let Some(answer) = answers.lock().unwrap().pop_front() {
                    return answer;
                }
            }
            Answers::Late(answer) => answer.notified().await,
            Answers::Missing => {}
        }
        Err(DrawError::Missing(Missing {
            reason: "CREDENTIAL_REQUIRED",
            message: "Enter it.".to_owned(),
        }))
    }
}

pub(super) fn with_secret(local: &Local, source: &Arc<Source>) -> ServerSpec {
    ServerSpec {
        fields: vec![token(required_secret())],
        secrets: Arc::clone(source) as _,
        ..local.spec(Kind::Runs)
    }
}

pub(super) fn held() -> Held {
    Held {
        reason: "FIELD_REQUIRED",
        message: String::new(),
        generation: 1,
        expected: true,
    }
}

/// Each status is reported, and its report comes back as another look at the same spec: the look must not make another status.
#[tokio::test]
async fn secrets_that_are_missing_again_make_no_other_status() {
    let local = Local::new().await;
    let source = Source::that(Answers::Missing);
    let spec = with_secret(&local, &source);
    local.runtime.apply("one", spec.clone()).await;
    suite::until(&local, "one", "it is held", |s| s.reason == "CREDENTIAL_REQUIRED").await;
    let mut observed = local.runtime.observe();
    observed.next().await.unwrap();
    for times in 2..5 {
        local.runtime.apply("one", spec.clone()).await;
        source.asked(times).await;
    }
    local.runtime.hold("two", held()).await;
    let next = observed.next().await.unwrap();
    assert_eq!(next.owner, "two", "{next:?}");
    local.runtime.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_does_not_answer_delays_no_server_without_secrets() {
    let local = Local::new().await;
    let source = Source::that(Answers::Never);
    let slots = local.runtime.shared.starts.slots.available_permits();
    for number in 0..slots.max(DRAWS) + 1 {
        let spec = with_secret(&local, &source);
        local.runtime.apply(&format!("waits-{number}"), spec).await;
    }
    source.asked(slots.min(DRAWS)).await;
    local.runtime.apply("one", local.spec(Kind::Runs)).await;
    local.running("one").await;
    // A draw in progress does not delay a hold either.
    local.runtime.hold("waits-0", held()).await;
    suite::until(&local, "waits-0", "it is held", |s| s.reason == "FIELD_REQUIRED").await;
    local.runtime.release().await;
}

/// While the secrets of another spec do not come, the server that runs is supervised.
#[tokio::test]
async fn a_server_is_held_while_the_secrets_of_another_spec_are_drawn() {
    let local = Local::new().await;
    local.runtime.apply("one", local.spec(Kind::Runs)).await;
    local.running("one").await;
    let source = Source::that(Answers::Never);
    local.runtime.apply("one", with_secret(&local, &source)).await;
    source.asked(1).await;
    let draws = &local.runtime.shared.draws;
    assert_eq!(draws.available_permits(), DRAWS - 1);
    local.runtime.hold("one", held()).await;
    let restart = Restart {
        id: "a".to_owned(),
        update_package_of: None,
    };
    local.runtime.restart("one", restart).await.unwrap();
    let held = suite::until(&local, "one", "the restart", |s| s.observed_restart == "a").await;
    assert_eq!(held.reason, "FIELD_REQUIRED");
    assert!(!local.runs("one"));
    assert_eq!(draws.available_permits(), DRAWS);
    local.runtime.release().await;
}

#[tokio::test]
async fn a_server_that_ends_while_the_secrets_of_another_spec_are_drawn_is_replaced() {
    let local = Local::with_backoff(Duration::from_secs(600)).await;
    local.runtime.apply("one", local.spec(Kind::Runs)).await;
    local.running("one").await;
    let source = Source::that(Answers::Late(Notify::new()));
    let other = with_secret(&local, &source);
    local.runtime.apply("one", other.clone()).await;
    source.asked(1).await;
    for pid in local.processes("one") {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    source.asked(2).await;
    let digest = other.digest();
    let second = suite::until(&local, "one", "it runs", |s| s.spec_digest == digest).await;
    assert_eq!((second.state, second.restart_count), (State::Running, 0));
    local.runtime.release().await;
}

/// The same spec again may mean that the secret was entered, also while the source is being asked.
#[tokio::test]
async fn a_secret_that_is_entered_during_a_draw_is_drawn() {
    let local = Local::new().await;
    let source = Source::that(Answers::Late(Notify::new()));
    let spec = with_secret(&local, &source);
    local.runtime.apply("one", spec.clone()).await;
    source.asked(1).await;
    let again = ServerSpec { generation: 2, ..spec };
    local.runtime.apply("one", again).await;
    suite::until(&local, "one", "it is looked at", |s| s.generation == 2).await;
    let Answers::Late(answer) = &source.answers else {
        unreachable!("it is late");
    };
    answer.notify_one();
    local.running("one").await;
    local.runtime.release().await;
}

/// A server that runs is restarted with the secrets of that time.
#[tokio::test]
async fn a_restart_waits_for_its_secrets_and_stops_a_server_whose_secrets_are_gone() {
    let local = Local::new().await;
    let unavailable = Err(DrawError::Unavailable("not now".to_owned()));
    let answers = VecDeque::from([Ok(secret()), unavailable, Ok(secret())]);
    let source = Source::that(Answers::InTurn(Mutex::new(answers)));
    local.runtime.apply("one", with_secret(&local, &source)).await;
    let first = local.running("one").await;
    let restart = |id: &str| Restart {
        id: id.to_owned(),
        update_package_of: None,
    };
    local.runtime.restart("one", restart("a")).await.unwrap();
    source.asked(2).await;
    assert_eq!(local.running("one").await.endpoint, first.endpoint);
    let second = suite::until(&local, "one", "the restart", |s| s.observed_restart == "a").await;
    assert_eq!(second.state, State::Running);
    assert_ne!(second.endpoint, first.endpoint);
    // No start slot is required to stop it.
    let occupied = local.occupy_starts().await;
    local.runtime.restart("one", restart("b")).await.unwrap();
    let held = suite::until(&local, "one", "the restart", |s| s.observed_restart == "b").await;
    assert_eq!(held.reason, "CREDENTIAL_REQUIRED");
    assert!(!local.runs("one"));
    drop(occupied);
    local.runtime.release().await;
}

/// A proxy's URL is in the environment of all servers, and its password is none of their users' business.
#[tokio::test(flavor = "multi_thread")]
async fn the_password_of_a_proxy_is_masked() {
    let local = Local::new().await;
    let mut spec = local.spec(Kind::Ends);
    let proxy = "http://operator:pr0xy-canary@proxy.example:3128";
    spec.environment.insert("TOKEN".to_owned(), proxy.to_owned());
    local.runtime.apply("one", spec).await;
    let status = suite::until(&local, "one", "it fails", |status| status.state == State::Failed).await;
    assert!(status.message.contains("http://[redacted]@proxy.example"), "{status:?}");
    local.runtime.release().await;
}
