//! Discovery, against servers and a registry that are made for the test.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
};

use contracts::registry::{
    self as pb, Change, ConditionStatus, ReportDiscoveryRequest, change,
    report_discovery_request::{Outcome, Subject},
};
use futures::FutureExt as _;
use pretty_assertions::assert_eq;
use registry_client::{testing::FakeRegistry, watch::Sink as _};
use service_kit::{Clock, Workload, pipe::pipe, serve::serve};

use super::*;
use crate::domain::DiscoveredTool;
use crate::snapshot::{
    Feed,
    testing::{
        Made, Registry, entry, entry_credential, fill, hosted_revision, plain_entry, plain_revision, runtime,
        shared_revision, shared_runtime,
    },
};

type Answer = Result<DiscoveredTools, Failure>;

/// Servers that give their answers one after the other; one without an answer hangs.
#[derive(Default)]
struct Servers {
    answers: Mutex<HashMap<String, VecDeque<Answer>>>,
    asked: AtomicUsize,
}

impl ListTools for Servers {
    fn list_tools(&self, running: Running, _: Option<Arc<CallerToken>>) -> BoxFuture<'_, Answer> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let next = self
            .answers
            .lock()
            .unwrap()
            .get_mut(&*running.installation.uid)
            .and_then(VecDeque::pop_front);
        match next {
            Some(answer) => async move { answer }.boxed(),
            None => futures::future::pending().boxed(),
        }
    }
}

fn tools(names: &[&str]) -> Answer {
    let tool = |&name: &&str| DiscoveredTool {
        name: name.to_owned(),
        definition_json: "{}".to_owned(),
    };
    Ok(DiscoveredTools {
        tools: names.iter().map(tool).collect(),
        left_out: String::new(),
    })
}

fn refused() -> Answer {
    Err(Failure::Installation {
        reason: "UPSTREAM_INVALID",
        message: "no".to_owned(),
    })
}

struct Stage {
    discovery: Arc<Discovery>,
    servers: Arc<Servers>,
    feed: Feed,
    reported: FakeRegistry,
    /// How many of the reports were read.
    seen: usize,
    store: Arc<Store>,
    _stop: tokio_util::sync::DropGuard,
}

/// A discovery that runs, with these answers by installation.
async fn stage(registry: Registry, answers: &[(&str, Vec<Answer>)], timeout: Duration) -> Stage {
    stage_with(Duration::from_secs(300), registry, answers, timeout).await
}

async fn stage_with(
    staleness: Duration,
    registry: Registry,
    answers: &[(&str, Vec<Answer>)],
    timeout: Duration,
) -> Stage {
    let store = Store::new(staleness, Clock::System);
    let (changed, changes) = mpsc::unbounded_channel();
    let mut feed = Feed::new(Arc::clone(&store), changed);
    let servers = Arc::new(Servers {
        answers: Mutex::new(
            answers
                .iter()
                .map(|(uid, answers)| ((*uid).to_owned(), answers.clone().into()))
                .collect(),
        ),
        ..Servers::default()
    });
    let (channel, listener) = pipe(Workload::Gateway);
    let reported = FakeRegistry::new();
    let stop = CancellationToken::new();
    tokio::spawn(serve(reported.routes().prepare(), listener, stop.clone()));
    let (discovery, announced) = Discovery::new(
        Arc::clone(&store),
        Arc::clone(&servers) as _,
        Reports::new(channel),
        8,
        timeout,
    );
    fill(&mut feed, 1, registry.entry("time", &[]).objects).await;
    feed.connected(true);
    tokio::spawn(Arc::clone(&discovery).run(changes, announced, stop.clone()));
    Stage {
        discovery,
        servers,
        feed,
        reported,
        seen: 0,
        store,
        _stop: stop.drop_guard(),
    }
}

fn line(report: ReportDiscoveryRequest) -> String {
    let Some(Subject::InstallationUid(uid)) = report.subject else {
        panic!("no subject")
    };
    match report.outcome.expect("an outcome") {
        Outcome::Tools(found) => {
            let tools: Vec<_> = found.tools.iter().map(|tool| tool.tool.as_str()).collect();
            format!(
                "{uid} tools={} generation={}",
                tools.join(","),
                report.observed_generation
            )
        }
        Outcome::Failure(failure) => format!("{uid} {}", failure.reason),
    }
}

impl Stage {
    /// The next report that the registry gets: `i tools=a,b generation=1` or `i UPSTREAM_INVALID`.
    async fn next_report(&mut self) -> String {
        let next = |registry: &FakeRegistry| registry.reports().discovery.into_iter().nth(self.seen);
        let report = self.reported.until(next).await;
        self.seen += 1;
        line(report)
    }

    async fn put(&mut self, revision: i64, object: pb::WatchedObject) {
        self.feed
            .changes(
                revision,
                vec![Change {
                    change: Some(change::Change::Put(object)),
                }],
            )
            .await;
    }
}

fn undiscovered(uid: &'static str) -> Made {
    Made {
        tools: ConditionStatus::Unknown,
        ..Made::new(uid, "time", uid)
    }
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn continues_while_the_registry_is_unreachable_for_long() {
    let registry = Registry::default().install(undiscovered("i"));
    let answers = [("i", vec![refused(), tools(&["a"])])];
    let mut stage = stage_with(Duration::ZERO, registry, &answers, LONG).await;
    assert_eq!(stage.next_report().await, "i UPSTREAM_INVALID");
    stage.feed.connected(false);
    while stage.store.load().is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(stage.next_report().await.starts_with("i tools=a"));
}

#[tokio::test]
async fn what_becomes_usable_is_asked_and_what_is_known_is_not() {
    let waiting = Made {
        credential: (ConditionStatus::False, "CREDENTIAL_REQUIRED"),
        ..undiscovered("waits")
    };
    let registry = Registry::default()
        .install(undiscovered("new"))
        .install(Made::new("known", "time", "bob"))
        .install(waiting.clone());
    let answers = [("new", vec![tools(&["b", "a"])]), ("waits", vec![tools(&[])])];
    let mut stage = stage(registry, &answers, LONG).await;
    assert_eq!(stage.next_report().await, "new tools=b,a generation=1");
    stage
        .put(
            2,
            Made {
                credential: (ConditionStatus::True, ""),
                ..waiting
            }
            .object(),
        )
        .await;
    assert_eq!(
        stage.next_report().await,
        "waits tools= generation=1",
        "no tools is told as it is"
    );
    assert_eq!(stage.servers.asked.load(Ordering::SeqCst), 2);
}

/// A server that hangs delays no other discovery, and a failed discovery is repeated.
#[tokio::test]
async fn a_bad_server_delays_no_other_and_is_asked_again() {
    let registry = Registry::default()
        .install(undiscovered("hangs"))
        .install(undiscovered("fails"))
        .install(undiscovered("works"));
    let answers = [
        ("fails", vec![refused(), tools(&["x"])]),
        ("works", vec![tools(&["y"])]),
    ];
    let mut stage = stage(registry, &answers, Duration::from_millis(300)).await;
    let mut told = Vec::new();
    while ![
        "works tools=y generation=1",
        "fails UPSTREAM_INVALID",
        "fails tools=x generation=1",
        "hangs UPSTREAM_TIMEOUT",
    ]
    .iter()
    .all(|wanted| told.iter().any(|line: &String| line == wanted))
    {
        told.push(stage.next_report().await);
    }
}

/// What is written to the log, shared with the subscriber that writes it.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A restart is no reason to warn an operator, and is not told to the owner as a failure.
#[tokio::test]
async fn a_server_that_is_being_stopped_is_no_cause_for_a_warning() {
    let unavailable = |planned| {
        Err(Failure::Transient {
            reason: "UPSTREAM_UNREACHABLE",
            message: "The MCP server of time is being stopped.".to_owned(),
            planned,
        })
    };
    for (planned, level) in [(true, "DEBUG"), (false, "WARN")] {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || writer.clone())
            .finish();
        let _default = tracing::subscriber::set_default(subscriber);
        let registry = Registry::default().install(undiscovered("i"));
        let mut stage = stage(registry, &[("i", vec![unavailable(planned), tools(&["a"])])], LONG).await;
        assert_eq!(stage.next_report().await, "i tools=a generation=1");
        let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let told: Vec<_> = lines.lines().filter(|line| line.contains("is being stopped")).collect();
        assert!(told.len() == 1 && told[0].contains(level), "{lines}");
    }
}

#[tokio::test]
async fn its_own_report_wakes_no_worker_but_a_new_credential_does() {
    let registry = Registry::default().install(undiscovered("i"));
    let mut stage = stage(registry, &[("i", vec![refused(), refused(), tools(&["x"])])], LONG).await;
    assert_eq!(stage.next_report().await, "i UPSTREAM_INVALID");
    let mut failed = undiscovered("i").object();
    if let Some(pb::watched_object::Object::Installation(installation)) = &mut failed.object {
        installation.conditions[1].status = ConditionStatus::False.into();
    }
    stage.put(2, failed.clone()).await;
    if let Some(pb::watched_object::Object::Installation(installation)) = &mut failed.object {
        installation.credential_generation = 2;
    }
    stage.put(3, failed).await;
    // Every answer is asked for, so the third comes however the retries fall.
    for line in ["i UPSTREAM_INVALID", "i tools=x generation=1"] {
        assert_eq!(stage.next_report().await, line);
    }
}

/// A server that announces a changed list is asked again.
#[tokio::test]
async fn an_announced_change_is_looked_at() {
    let registry = Registry::default().install(Made::new("i", "time", "alice"));
    let mut stage = stage(registry, &[("i", vec![tools(&["new"])])], LONG).await;
    // The first change makes the runner know the installation; nothing is due then.
    stage.put(2, Made::new("i", "time", "alice").object()).await;
    let snapshot = stage.store.load().unwrap();
    while stage.discovery.due(&"i".into()).is_some() || stage.discovery.lock_known().is_empty() {
        tokio::task::yield_now().await;
    }
    stage.discovery.changed(&"i".into());
    assert_eq!(stage.next_report().await, "i tools=new generation=1");
    assert!(snapshot.installation("i").is_some());
}

#[tokio::test]
async fn on_demand_it_is_asked_at_once() {
    let registry = Registry::default().install(Made::new("i", "time", "alice"));
    let mut stage = stage(registry, &[("i", vec![tools(&["b", "a"]), refused()])], LONG).await;
    let snapshot = stage.store.load().unwrap();
    let running = snapshot.running(snapshot.installation("i").unwrap()).unwrap();
    assert_eq!(stage.discovery.now(&running, None).await.unwrap(), ["a", "b"]);
    assert_eq!(stage.next_report().await, "i tools=b,a generation=1");
    assert!(matches!(
        stage.discovery.now(&running, None).await,
        Err(Failure::Installation {
            reason: "UPSTREAM_INVALID",
            ..
        })
    ));
    assert_eq!(stage.next_report().await, "i UPSTREAM_INVALID");
}

/// A runtime that comes, or moves, wakes the discovery of its installation.
#[tokio::test]
async fn another_runtime_is_asked() {
    let hosted = |uid| {
        let made = Made {
            running: Some(hosted_revision("time")),
            ..undiscovered(uid)
        };
        let mut object = made.object();
        if let Some(pb::watched_object::Object::Installation(installation)) = &mut object.object {
            let runs = pb::Condition {
                r#type: pb::ConditionType::RuntimeReady.into(),
                status: ConditionStatus::True.into(),
                ..pb::Condition::default()
            };
            installation.conditions.push(runs);
        }
        (made.revision(), object)
    };
    let (running, own) = hosted("own");
    let registry = Registry::default().with(running).with(own);
    let answers = [("own", vec![tools(&["a"]), tools(&["b"]), tools(&["d"])])];
    let mut stage = stage(registry, &answers, LONG).await;
    stage.put(2, runtime("own", "unix:/run/1.sock")).await;
    assert_eq!(stage.next_report().await, "own tools=a generation=1");
    stage.put(3, runtime("own", "unix:/run/2.sock")).await;
    assert_eq!(stage.next_report().await, "own tools=b generation=1");
    let changed = |changes| {
        let mut object = runtime("own", "unix:/run/2.sock");
        if let Some(pb::watched_object::Object::Runtime(runtime)) = &mut object.object {
            runtime.tool_list_changes = changes;
        }
        object
    };
    stage.put(5, changed(1)).await;
    assert_eq!(
        stage.next_report().await,
        "own tools=d generation=1",
        "it said that its list changed"
    );
    stage.put(6, changed(1)).await;
    assert_eq!(stage.servers.asked.load(Ordering::SeqCst), 3);
}

/// A few are asked at first, however many share it.
#[tokio::test]
async fn a_restart_of_a_shared_server_is_followed_by_all_where_it_has_other_tools() {
    const ALL: [&str; 5] = ["a", "b", "c", "d", "e"];
    let made = |uid: &'static str| Made {
        running: Some(shared_revision("time", 1, "x")),
        owner: uid,
        ..undiscovered(uid)
    };
    let discovered = |uid: &'static str, set: &str| {
        let known = Made {
            tools: ConditionStatus::True,
            ..made(uid)
        };
        let mut object = known.object();
        if let Some(pb::watched_object::Object::Installation(installation)) = &mut object.object {
            installation.discovered = vec![pb::DiscoveredSet {
                kind: pb::FeatureKind::Tool.into(),
                set_hash: set.to_owned(),
                ..pb::DiscoveredSet::default()
            }];
        }
        object
    };
    let answers = ALL.map(|uid| (uid, vec![tools(&["one"]), tools(&["two"])]));
    let mut registry = Registry::default().with(made("a").revision());
    for uid in ALL {
        registry = registry.with(made(uid).object());
    }
    let mut stage = stage(registry, &answers, LONG).await;
    let mut revision = 1;
    let mut put = async |stage: &mut Stage, object| {
        revision += 1;
        stage.put(revision, object).await;
    };
    put(&mut stage, shared_runtime("time", 1, "unix:/run/1.sock")).await;
    for _ in ALL {
        assert!(stage.next_report().await.ends_with("tools=one generation=1"));
    }
    for uid in ALL {
        put(&mut stage, discovered(uid, "one")).await;
    }
    put(&mut stage, shared_runtime("time", 1, "")).await;
    put(&mut stage, shared_runtime("time", 1, "unix:/run/2.sock")).await;
    // Each is asked, the last ones because the first have other tools now.
    let mut asked = Vec::new();
    for _ in ALL {
        let report = stage.next_report().await;
        assert!(report.ends_with("tools=two generation=1"), "{report}");
        let uid = ALL.into_iter().find(|uid| report.starts_with(uid)).unwrap();
        put(&mut stage, discovered(uid, "two")).await;
        asked.push(uid);
    }
    asked.sort_unstable();
    assert_eq!(asked, ALL);
}

/// Its tools are those of another version.
#[tokio::test]
async fn a_shared_server_is_asked_once_it_runs_what_the_installation_does() {
    let made = Made {
        running: Some(shared_revision("time", 2, "x")),
        ..undiscovered("a")
    };
    let registry = Registry::default()
        .with(crate::snapshot::testing::revision(shared_revision("time", 1, "x")))
        .with(made.revision())
        .with(made.object())
        .with(shared_runtime("time", 1, "unix:/run/1.sock"));
    let answers = [("a", vec![tools(&["one"])]), ("later", vec![tools(&["other"])])];
    let mut stage = stage(registry, &answers, LONG).await;
    // Another one that is looked at after it.
    let later = Made {
        running: Some(pb::EntryRevision {
            number: 3,
            ..plain_revision("time")
        }),
        owner: "later",
        ..undiscovered("later")
    };
    stage.put(2, later.revision()).await;
    stage.put(3, later.object()).await;
    assert_eq!(stage.next_report().await, "later tools=other generation=1");
    stage.put(4, shared_runtime("time", 2, "unix:/run/2.sock")).await;
    assert_eq!(stage.next_report().await, "a tools=one generation=1");
    // What it announces is looked at.
    stage
        .servers
        .answers
        .lock()
        .unwrap()
        .insert("a".to_owned(), [tools(&["two"])].into());
    stage.discovery.changed(&"a".into());
    assert_eq!(stage.next_report().await, "a tools=two generation=1");
}

/// A credential stored on the entry wakes the discovery of all its installations.
#[tokio::test]
async fn a_new_credential_of_the_entry_is_tried() {
    let running = pb::EntryRevision {
        install_fields: vec![pb::InstallField {
            r#type: pb::InstallFieldType::Secret.into(),
            source: pb::InstallFieldSource::Stored.into(),
            target: Some(crate::snapshot::testing::to_header("x-key")),
            ..pb::InstallField::default()
        }],
        ..plain_revision("time")
    };
    let made = Made {
        running: Some(running),
        ..undiscovered("i")
    };
    let entry = |credential_generation, status| {
        entry(pb::Entry {
            credential_generation,
            conditions: entry_credential(status, "R"),
            ..plain_entry("time")
        })
    };
    let mut stage = stage(Registry::default(), &[("i", vec![tools(&["a"]), tools(&["b"])])], LONG).await;
    stage.put(2, entry(0, ConditionStatus::False)).await;
    stage.put(3, made.revision()).await;
    stage.put(4, made.object()).await;
    tokio::task::yield_now().await;
    assert_eq!(
        stage.servers.asked.load(Ordering::SeqCst),
        0,
        "an admin must store it first"
    );
    stage.put(5, entry(1, ConditionStatus::True)).await;
    assert_eq!(stage.next_report().await, "i tools=a generation=1");
    stage.put(6, entry(2, ConditionStatus::True)).await;
    assert_eq!(stage.next_report().await, "i tools=b generation=1");
}

/// What is gone is not remembered.
#[tokio::test]
async fn a_removed_installation_is_forgotten() {
    let registry = Registry::default().install(Made::new("i", "time", "alice"));
    let mut stage = stage(registry, &[], LONG).await;
    while stage.discovery.lock_known().is_empty() {
        tokio::task::yield_now().await;
    }
    let removal = pb::Removal {
        kind: pb::ObjectKind::Installation.into(),
        key: "i".to_owned(),
    };
    let removed = Change {
        change: Some(change::Change::Remove(removal)),
    };
    stage.feed.changes(2, vec![removed]).await;
    while !stage.discovery.lock_known().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(stage.servers.asked.load(Ordering::SeqCst), 0);
}

/// It would be refused for want of a caller, and that would be reported.
#[test]
fn what_requires_a_caller_is_asked_on_demand_only() {
    let of = |model| {
        let running = pb::EntryRevision {
            credential_model: Some(model),
            ..plain_revision("time")
        };
        let made = Made {
            running: Some(running),
            ..Made::new("own", "time", "alice")
        };
        askable(&Registry::default().entry("time", &[]).install(made).running("own"))
    };
    use pb::entry_revision::CredentialModel;
    assert!(of(CredentialModel::NoCredential(pb::NoCredential {})));
    let injection = Some(crate::snapshot::testing::bearer());
    assert!(!of(CredentialModel::JwtPassthrough(pb::JwtPassthroughCredential {
        injection,
        ..pb::JwtPassthroughCredential::default()
    })));
}
