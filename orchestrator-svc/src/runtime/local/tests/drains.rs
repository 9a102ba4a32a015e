//! Servers that take long to end keep no slots from others.

use nix::{sys::stat::Mode, unistd::mkfifo};

use super::{
    secrets::{Answers, Source, held, secret, with_secret},
    *,
};
use crate::{domain::runtime::Restart, runtime::local::supervisor::RESTARTED};

/// A runtime whose servers do not end before [`end`].
async fn lingering() -> Local {
    let local = Local::with(|config| config.limits.input_end_millis = 600_000).await;
    mkfifo(&pipe(&local), Mode::S_IRWXU).unwrap();
    local
}

fn pipe(local: &Local) -> PathBuf {
    local.folder.path().join("linger")
}

fn linger(local: &Local, spec: ServerSpec) -> ServerSpec {
    let mut arguments = spec.arguments;
    arguments.extend(["--linger".to_owned(), pipe(local).to_string_lossy().into_owned()]);
    ServerSpec { arguments, ..spec }
}

/// Lets the server end that is being stopped. Those after it end at once.
async fn end(local: &Local) {
    let pipe = pipe(local);
    let end = move || {
        fs::File::options().write(true).open(&pipe).unwrap();
        fs::remove_file(&pipe).unwrap();
    };
    tokio::task::spawn_blocking(end).await.unwrap();
}

fn restart() -> Restart {
    Restart {
        id: "a".to_owned(),
        update_package_of: None,
    }
}

/// Waits until the server of "one" is being stopped for its successor, which has got its slots.
async fn stopping(local: &Local) {
    suite::until(local, "one", "it is being restarted", |s| s.message == RESTARTED).await;
}

/// With a temporary folder that is emptied when the next server is started.
fn used(local: &Local) -> PathBuf {
    let file = local.folder.path().join("i/one/tmp/used");
    fs::write(&file, "").unwrap();
    file
}

#[tokio::test]
async fn a_server_whose_predecessor_took_longer_than_its_slot_waits_for_another() {
    let mut local = lingering().await;
    Arc::get_mut(&mut local.runtime.shared).unwrap().drain = Duration::ZERO;
    let spec = linger(&local, local.spec(Kind::Runs));
    local.runtime.apply("one", spec.clone()).await;
    local.running("one").await;
    let used = used(&local);
    local.runtime.restart("one", restart()).await.unwrap();
    stopping(&local).await;
    let occupied = local.occupy_starts().await;
    local.runtime.apply("one", ServerSpec { generation: 2, ..spec }).await;
    end(&local).await;
    suite::until(&local, "one", "it is looked at", |s| s.generation == 2).await;
    assert!(used.exists(), "its successor was started without a slot");
    drop(occupied);
    let second = suite::until(&local, "one", "the restart", |s| s.observed_restart == "a").await;
    assert_eq!(second.state, State::Running);
    local.runtime.release().await;
}

#[tokio::test]
async fn a_server_that_is_being_stopped_occupies_no_slot_for_draws() {
    let local = lingering().await;
    let draws = Arc::clone(&local.runtime.shared.draws);
    let source = Source::that(Answers::InTurn(Mutex::new([Ok(secret()), Ok(secret())].into())));
    local
        .runtime
        .apply("one", linger(&local, with_secret(&local, &source)))
        .await;
    local.running("one").await;
    local.runtime.restart("one", restart()).await.unwrap();
    stopping(&local).await;
    assert_eq!(draws.available_permits(), DRAWS);
    end(&local).await;
    suite::until(&local, "one", "the restart", |s| s.observed_restart == "a").await;
    local.runtime.release().await;
}

#[tokio::test]
async fn a_server_that_is_being_stopped_since_its_secrets_are_gone_occupies_no_slot_for_draws() {
    let local = lingering().await;
    let draws = Arc::clone(&local.runtime.shared.draws);
    let source = Source::that(Answers::InTurn(Mutex::new([Ok(secret())].into())));
    local
        .runtime
        .apply("one", linger(&local, with_secret(&local, &source)))
        .await;
    local.running("one").await;
    local.runtime.restart("one", restart()).await.unwrap();
    suite::until(&local, "one", "it is held", |s| s.reason == "CREDENTIAL_REQUIRED").await;
    assert!(local.runs("one"));
    assert_eq!(draws.available_permits(), DRAWS);
    end(&local).await;
    local.runtime.release().await;
}

/// It had been restarted, and its successor waited for a start slot.
#[tokio::test]
async fn a_server_that_is_being_stopped_since_it_is_held_occupies_no_slot_for_draws() {
    let local = lingering().await;
    let draws = Arc::clone(&local.runtime.shared.draws);
    let source = Source::that(Answers::InTurn(Mutex::new([Ok(secret()), Ok(secret())].into())));
    local
        .runtime
        .apply("one", linger(&local, with_secret(&local, &source)))
        .await;
    local.running("one").await;
    let occupied = local.occupy_starts().await;
    local.runtime.restart("one", restart()).await.unwrap();
    source.asked(2).await;
    local.runtime.hold("one", held()).await;
    suite::until(&local, "one", "it is held", |s| s.reason == "FIELD_REQUIRED").await;
    assert!(local.runs("one"));
    assert_eq!(draws.available_permits(), DRAWS);
    drop(occupied);
    end(&local).await;
    local.runtime.release().await;
}
