use std::num::NonZeroU32;

use super::*;

fn quotas(limit: u32) -> Arc<Quotas> {
    let count = NonZeroU32::new(limit).unwrap();
    Quotas::new(Allowance {
        requests: count,
        writes: count,
        sessions: count,
        sign_ins: count,
        calls: 2,
        streams: 1,
        proxies: Vec::new(),
    })
}

#[test]
fn each_caller_has_a_bucket() {
    let quotas = quotas(3);
    let (alice, bob): (Arc<str>, Arc<str>) = ("users/alice".into(), "users/bob".into());
    for _ in 0..3 {
        quotas.requests(&alice, 1).unwrap();
    }
    let exceeded = quotas.requests(&alice, 1).unwrap_err();
    assert!(
        exceeded
            .to_string()
            .contains("you have made 3 requests within a minute, as many as one caller may; try again in"),
        "{exceeded}"
    );
    assert!(exceeded.to_string().contains("--max-requests-per-minute"), "{exceeded}");
    quotas.requests(&bob, 3).unwrap();
    quotas.writes.take(&alice, 1).expect("another bucket");
    quotas.session(&alice).expect("another bucket");
}

#[test]
fn takes_all_or_nothing() {
    let quotas = quotas(3);
    let alice: Arc<str> = "users/alice".into();
    quotas.requests(&alice, 2).unwrap();
    quotas.requests(&alice, 2).unwrap_err();
    quotas.requests(&alice, 1).expect("it is left");
    quotas.requests(&alice, 0).unwrap();
    // More than the capacity of the bucket.
    let never = quotas.requests(&"users/bob".into(), 4).unwrap_err();
    assert_eq!(never.retry_after(), "60");
}

#[test]
fn a_refused_caller_learns_when_to_retry() {
    use tonic_types::StatusExt as _;
    let quotas = quotas(2);
    let alice: Arc<str> = "users/alice".into();
    quotas.requests(&alice, 2).unwrap();
    let exceeded = quotas.requests(&alice, 1).unwrap_err();
    let seconds: u64 = exceeded.retry_after().to_str().unwrap().parse().unwrap();
    assert!((1..=30).contains(&seconds), "{seconds}");
    let status = exceeded.status();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "QUOTA_EXCEEDED");
    assert_eq!(details.error_info().unwrap().metadata["quota"], "requests");
    assert!(details.retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
}

#[test]
fn a_dropped_permit_is_not_in_progress() {
    let quotas = quotas(1);
    let (alice, bob): (Arc<str>, Arc<str>) = ("users/alice".into(), "users/bob".into());
    let first = quotas.call(&alice).unwrap();
    let _second = quotas.call(&alice).unwrap();
    assert_eq!(quotas.call(&alice).unwrap_err().retry_after(), "1");
    let _stream = quotas.stream(&alice).expect("streams have a count of their own");
    quotas.stream(&alice).unwrap_err();
    drop(quotas.call(&bob).unwrap());
    assert_eq!(
        quotas.calls.lock().len(),
        1,
        "a caller with nothing in progress is forgotten"
    );
    drop(first);
    let _third = quotas.call(&alice).unwrap();
    quotas.calls(&alice, 5).unwrap_err();
    let all = quotas.calls(&bob, 5).unwrap();
    assert_eq!(all.len(), 2, "as many as he may");
    drop(all);
    assert_eq!(quotas.calls(&bob, 1).unwrap().len(), 1);
}

#[test]
fn a_caller_with_a_full_bucket_is_forgotten() {
    // The rate is so high that each bucket is full again at once.
    let buckets = Buckets::new(Quota::Requests, NonZeroU32::MAX);
    for caller in 0..1_000 {
        buckets.take(&format!("users/{caller}").into(), 1).unwrap();
    }
    assert_eq!(buckets.len(), 1_000);
    while buckets.len() > 0 {
        buckets.forget_full();
    }
}

#[test]
fn all_quotas_of_a_caller_count_together() {
    let quotas = quotas(3);
    let (alice, bob): (Arc<str>, Arc<str>) = ("users/alice".into(), "users/bob".into());
    // Another value with the same name, as each client brings its own.
    let again: Arc<str> = "users/alice".into();
    let (first, second) = (
        quotas.of_caller(Callers::one(&alice)),
        quotas.of_caller(Callers::one(&again)),
    );
    first.request().unwrap();
    second.request().unwrap();
    quotas.requests(&alice, 1).unwrap();
    let (by_name, by_quota) = (quotas.requests(&again, 1).unwrap_err(), first.request().unwrap_err());
    assert_eq!(by_name.to_string(), by_quota.to_string());
    let _one = first.call().unwrap();
    let two = quotas.call(&alice).unwrap();
    assert_eq!(second.call().unwrap_err().retry_after(), "1");
    drop(two);
    drop(second.call().unwrap());
    let team = quotas.of_caller(Callers {
        minute: &bob,
        at_a_time: &alice,
    });
    team.request().expect("a bucket of his own");
    let _two = team.call().unwrap();
    team.call().expect_err("the team's");
}

#[test]
fn a_count_is_forgotten_with_the_last_who_holds_it() {
    let quotas = quotas(1);
    let alice: Arc<str> = "users/alice".into();
    let quota = quotas.of_caller(Callers::one(&alice));
    drop(quota.call().unwrap());
    assert_eq!(quotas.calls.lock().len(), 1, "it is held");
    let call = quota.call().unwrap();
    drop(quota);
    let second = quotas.call(&alice).expect("one is in progress, not two");
    quotas.call(&alice).unwrap_err();
    drop(call);
    drop(quotas.call(&alice).expect("the first has ended"));
    drop(second);
    assert!(quotas.calls.lock().is_empty());
}

/// Else the limit of a minute would begin anew.
#[test]
fn a_bucket_that_is_held_or_not_full_is_not_forgotten() {
    let alice: Arc<str> = "users/alice".into();
    let buckets = Buckets::new(Quota::Requests, NonZeroU32::new(2).unwrap());
    buckets.take(&alice, 2).unwrap();
    buckets.forget_full();
    buckets.take(&alice, 1).unwrap_err();
    // Full again at once.
    let buckets = Buckets::new(Quota::Requests, NonZeroU32::MAX);
    let held = buckets.of(&alice);
    buckets.forget_full();
    assert!(Arc::ptr_eq(&held, &buckets.of(&alice)));
    drop(held);
    buckets.forget_full();
    assert_eq!(buckets.len(), 0);
}

#[test]
fn sign_ins_are_counted_by_address() {
    let quotas = quotas(1);
    let from = |address: &str| {
        let peer = Peer::External(address.parse().unwrap());
        quotas.sign_in(Some(peer), &HeaderMap::new())
    };
    from("203.0.113.1:1").unwrap();
    from("203.0.113.1:2").unwrap_err();
    from("203.0.113.2:1").unwrap();
    from("[2001:db8::1]:1").unwrap();
    from("[2001:db8::2]:1").unwrap_err();
}
