//! PostgreSQL crashes, and every acknowledged write survives.
//!
//! Tools: postgres

use std::time::Duration;

use contracts::registry::{Gateway, GetGatewayRequest};
use integration_tests::{Stack, eventually, postgres::Server};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use secrecy::ExposeSecret as _;
use sqlx::{Connection as _, PgConnection};
use tonic::Code;

const ROUNDS: usize = 3;
const CALLS: usize = 4;

/// The processes that write to disk, and the sessions in which the registry checks what has been flushed, which also
/// causes a flush. The test stops them for a moment, as if the disk were slow.
async fn writers(connection: &mut PgConnection) -> Vec<Pid> {
    const FIND: &str = "SELECT pid FROM pg_stat_activity \
        WHERE backend_type = 'walwriter' OR application_name IN ('chandlery flush', 'chandlery signal')";
    let pids: Vec<i32> = sqlx::query_scalar(FIND)
        .fetch_all(connection)
        .await
        .expect("it answers");
    pids.into_iter().map(Pid::from_raw).collect()
}

fn signal(pids: &[Pid], signal: Signal) {
    for pid in pids {
        // A process that has ended writes nothing.
        let _ = kill(*pid, signal);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_a_crash() {
    let server = Server::own().await.expect("PostgreSQL starts");
    let url = server.url.expose_secret();
    let stack = Stack::builder().variable("CHANDLERY_DATABASE_URL", url).start().await;
    let admin = stack.admin();
    let mut refused = 0;
    for round in 0..ROUNDS {
        let mut connection = eventually("PostgreSQL answers", || async { PgConnection::connect(url).await.ok() }).await;
        // The session that flushes exists after the first write.
        eventually("the registry accepts a write", || async {
            let made = admin
                .create_gateway(&format!("before-{round}"), Gateway::default())
                .await;
            match made.map_err(|status| status.code()) {
                Ok(_) | Err(Code::AlreadyExists) => Some(()),
                Err(_) => None,
            }
        })
        .await;
        let stopped = writers(&mut connection).await;
        assert!(stopped.len() > 1, "{stopped:?}");
        signal(&stopped, Signal::SIGSTOP);
        let mut calls = Vec::new();
        for call in 0..CALLS {
            let slug = format!("g-{round}-{call}");
            let (admin, name) = (admin.clone(), slug.clone());
            calls.push((
                slug.clone(),
                tokio::spawn(async move { admin.create_gateway(&name, Gateway::default()).await }),
            ));
            // One after another, so that some calls wait for a flush that others have begun.
            eventually("it has committed", || async {
                const FIND: &str = "SELECT count(*) FROM consumers WHERE slug = $1";
                let mut connection = PgConnection::connect(url).await.ok()?;
                let found: i64 = sqlx::query_scalar(FIND)
                    .bind(&slug)
                    .fetch_one(&mut connection)
                    .await
                    .ok()?;
                (found > 0).then_some(())
            })
            .await;
        }
        // After one of its processes crashes, PostgreSQL restarts from what is on disk.
        let victim: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&mut connection)
            .await
            .expect("it answers");
        signal(&[Pid::from_raw(victim)], Signal::SIGKILL);
        eventually("PostgreSQL notices", || async {
            PgConnection::connect(url).await.err()
        })
        .await;
        signal(&stopped, Signal::SIGCONT);
        for (slug, call) in calls {
            let answer = tokio::time::timeout(Duration::from_secs(60), call).await;
            let answer = answer.expect("it ends").expect("it does not panic");
            let found = eventually("the registry answers", || async {
                let request = GetGatewayRequest {
                    name: format!("gateways/{slug}"),
                };
                match admin.gateways().get_gateway(request).await {
                    Ok(_) => Some(true),
                    Err(status) => (status.code() == Code::NotFound).then_some(false),
                }
            })
            .await;
            match answer {
                Ok(_) => assert!(found, "{slug} was acknowledged and is lost"),
                Err(status) => {
                    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 0, "no crash came before a flush");
}
