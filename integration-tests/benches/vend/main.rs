//! Measures a vend: a call of gateway-svc to credential-svc, which keeps secrets in Vault (OpenBao).
//!
//! `cargo bench -p integration-tests --bench vend` takes about a minute, and requires OpenBao (`integration-tests/tools openbao`).
//! Everything but OpenBao runs in this process, connected as in `deploy/standalone`. Four calls are compared, in turns: a health check, which does
//! nothing, over the same connection; a vend of what credential-svc has read lately; a vend of what it has not read yet; and a read
//! from OpenBao itself. `CHANDLERY_BENCH_ROUNDS` sets how often (default 10).

#[path = "../../tests/vault_replicas/world.rs"]
mod world;

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    time::{Duration, Instant},
};

use contracts::registry::Installation;
use futures::future::join_all;
use integration_tests::walk;
use serde_json::Value;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use world::{Replica, World};

/// Installations, each with a secret of its own.
const INSTALLATIONS: usize = 100;
/// Calls of one caller in a round.
const CALLS: usize = 2_000;
const ROUNDS: usize = 10;
/// Callers at a time, where there are several.
const CALLERS: usize = 16;
/// The longest that a vend may take which needs no read.
const TARGET: Duration = Duration::from_millis(1);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let report = runtime.block_on(measure());
    let _ = std::io::stdout().write_all(report.as_bytes());
}

async fn measure() -> String {
    let rounds = std::env::var("CHANDLERY_BENCH_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(ROUNDS);
    let world = World::start().await;
    let (installations, destination) = installed(&world).await;
    let vend = async |replica: &Replica, number: usize| {
        let vended = replica.vend(&installations[number % INSTALLATIONS], &destination).await;
        assert_eq!(vended.expect("it is stored").headers.len(), 1);
    };
    let path = first_path(&world).await;
    let mut report = String::new();
    let [mut nothing, mut warm, mut cold, mut direct, mut many] = [const { Vec::new() }; 5];
    for round in 0..rounds {
        let replica = world.replica(&format!("replica-{round}")).await;
        // Not the first ones of a replica, which connect.
        for number in 0..INSTALLATIONS {
            let times = if number < 10 { &mut Vec::new() } else { &mut cold };
            timed(times, vend(&replica, number)).await;
        }
        for number in 0..CALLS {
            timed(&mut nothing, check_health(&replica)).await;
            timed(&mut warm, vend(&replica, number)).await;
        }
        for _ in 0..INSTALLATIONS {
            timed(&mut direct, async {
                assert_eq!(world.bao.ask("GET", &path, Value::Null).await.0, 200)
            })
            .await;
        }
        let caller = async |caller: usize| {
            let mut times = Vec::new();
            for number in 0..CALLS / CALLERS {
                timed(&mut times, vend(&replica, caller + number)).await;
            }
            times
        };
        many.extend(join_all((0..CALLERS).map(caller)).await.concat());
    }
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let _ = writeln!(report, "load of the machine: {}", load.trim());
    let _ = writeln!(
        report,
        "{:<44} {:>8} {:>9} {:>9} {:>9}",
        "µs", "calls", "median", "p99", "p99.9"
    );
    line(&mut report, "health check, 1 caller", &mut nothing);
    let met = line(&mut report, "vend from memory, 1 caller", &mut warm);
    line(&mut report, &format!("vend from memory, {CALLERS} callers"), &mut many);
    line(&mut report, "vend that reads from OpenBao, 1 caller", &mut cold);
    line(&mut report, "read from OpenBao on a new connection", &mut direct);
    let verdict = if met <= TARGET { "met" } else { "MISSED" };
    let _ = writeln!(
        report,
        "target: a vend from memory takes at most {TARGET:?} (p99 of 1 caller): {verdict}"
    );
    report
}

async fn timed(times: &mut Vec<Duration>, call: impl Future<Output = ()>) {
    let begin = Instant::now();
    call.await;
    times.push(begin.elapsed());
}

/// Adds a line of the table. Returns the 99th percentile.
fn line(report: &mut String, title: &str, times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let [median, p99, last] = [at(0.5), at(0.99), at(0.999)];
    let _ = writeln!(
        report,
        "{title:<44} {:>8} {:>9.0} {:>9.0} {:>9.0}",
        times.len(),
        micros(median),
        micros(p99),
        micros(last)
    );
    p99
}

async fn check_health(replica: &Replica) {
    let mut client = HealthClient::new(replica.channel.clone());
    let answer = client.check(HealthCheckRequest::default()).await;
    answer.expect("it answers");
}

/// Where OpenBao has the first value.
async fn first_path(world: &World) -> String {
    let mut path = "chandlery/installation/".to_owned();
    while path.ends_with('/') {
        let (_, listed) = world
            .bao
            .ask("LIST", &format!("secret/metadata/{path}"), Value::Null)
            .await;
        path.push_str(listed["data"]["keys"][0].as_str().expect("it is stored"));
    }
    format!("secret/data/{path}")
}

/// Installations of one entry with their secrets, and where these go.
async fn installed(world: &World) -> (Vec<Installation>, String) {
    let replica = world.replica("first").await;
    let entry = walk::with_static(walk::remote("http://127.0.0.1:1"), "key", walk::bearer());
    world.at_registry("admin").publish("api", entry).await;
    let mut installations = Vec::new();
    let mut destination = String::new();
    for number in 0..INSTALLATIONS {
        let subject = format!("user-{number}");
        let installation = world.at_registry(&subject).create_installation("api", None, &[]).await;
        let installation = installation.expect("a member may");
        let secrets = [("key", format!("secret-of-{subject}"))];
        let secrets = secrets.each_ref().map(|(key, value)| (*key, value.as_str()));
        let put = world
            .at(&replica, &subject)
            .put_secrets(&installation.name, &secrets)
            .await;
        destination = put.expect("it is theirs").present_destination;
        installations.push(installation);
    }
    (installations, destination)
}
