//! Installations and what they run.

use contracts::registry::ConditionStatus;
use pretty_assertions::assert_eq;

use super::*;
use crate::{
    domain::Endpoint,
    snapshot::testing::{entry, entry_credential, hosted_revision, plain_entry, plain_revision, revision, runtime},
};

fn hosted(endpoint: &str) -> Option<Endpoint> {
    Some(Endpoint::Hosted(endpoint.into()))
}

fn endpoint(snapshot: &Snapshot, uid: &str) -> Option<Endpoint> {
    snapshot.running(snapshot.installation(uid)?)?.endpoint
}

/// Who is told of a change, sorted.
fn told(uids: &HashSet<Arc<str>>) -> Vec<&str> {
    let mut uids: Vec<&str> = uids.iter().map(|uid| &**uid).collect();
    uids.sort_unstable();
    uids
}

/// All orders of these.
fn orders(objects: &[pb::WatchedObject]) -> Vec<Vec<pb::WatchedObject>> {
    let Some((first, rest)) = objects.split_first() else {
        return vec![vec![]];
    };
    let insert = |order: Vec<pb::WatchedObject>| {
        (0..=order.len()).map(move |at| {
            let mut order = order.clone();
            order.insert(at, first.clone());
            order
        })
    };
    orders(rest).into_iter().flat_map(insert).collect()
}

#[test]
fn what_an_installation_runs_does_not_depend_on_the_order() {
    let made = Made {
        running: Some(pb::EntryRevision {
            number: 2,
            ..hosted_revision("time")
        }),
        ..Made::new("i", "time", "alice")
    };
    let objects = [
        entry(plain_entry("time")),
        revision(plain_revision("time")),
        made.revision(),
        made.object(),
        runtime("i", "unix:/run/i.sock"),
    ];
    let orders = orders(&objects);
    assert_eq!(orders.len(), 120);
    for order in orders {
        let mut writer = Writer::default();
        for object in &order {
            after(&mut writer, [put_change(object.clone())]);
        }
        let (snapshot, _) = writer.snapshot(3);
        assert_eq!(endpoint(&snapshot, "i"), hosted("unix:/run/i.sock"));
        let keys = || order.iter().map(|object| object.key.as_str()).collect::<Vec<_>>();
        assert!(snapshot.personal("e-time", &user_id("alice")).is_some(), "{:?}", keys());
    }
}

#[test]
fn a_runtime_is_the_installations_own_and_goes_with_it() {
    let made = |uid, owner| Made {
        running: Some(hosted_revision("time")),
        ..Made::new(uid, "time", owner)
    };
    let registry = Registry::default()
        .entry("time", &[])
        .install(made("a", "alice"))
        .install(made("b", "bob"))
        .with(runtime("b", "http://10.0.0.1/mcp"));
    let mut writer = registry.writer();
    let both = |snapshot: &Snapshot| (endpoint(snapshot, "a"), endpoint(snapshot, "b"));
    let (snapshot, _) = writer.snapshot(1);
    assert_eq!(both(&snapshot), (None, hosted("http://10.0.0.1/mcp")));
    let (own, uids) = after(&mut writer, [put_change(runtime("a", "http://10.0.0.2/mcp"))]);
    assert_eq!(
        both(&own),
        (hosted("http://10.0.0.2/mcp"), hosted("http://10.0.0.1/mcp"))
    );
    assert_eq!(told(&uids), ["a"]);
    let (stopped, _) = after(&mut writer, [put_change(runtime("a", ""))]);
    assert_eq!(endpoint(&stopped, "a"), None);
    let (gone, uids) = after(&mut writer, [remove(ObjectKind::Runtime, "b")]);
    assert_eq!((endpoint(&gone, "b"), told(&uids)), (None, vec!["b"]));

    after(&mut writer, [put_change(runtime("b", "http://10.0.0.4/mcp"))]);
    after(&mut writer, [remove(ObjectKind::Installation, "b")]);
    let (again, _) = after(&mut writer, [put_change(made("b", "bob").object())]);
    assert_eq!(endpoint(&again, "b"), None);
}

#[test]
fn an_entrys_credential_concerns_all_its_installations_and_its_labels_none() {
    let of = |generation, status| pb::Entry {
        credential_generation: generation,
        conditions: entry_credential(status, "R"),
        ..plain_entry("time")
    };
    let mut writer = Registry::default()
        .with(entry(of(1, ConditionStatus::False)))
        .entry("mail", &[])
        .install(Made::new("a", "time", "alice"))
        .install(Made::new("t", "time", "team:core"))
        .install(Made::new("m", "mail", "alice"))
        .writer();
    let (_, all) = writer.snapshot(1);
    assert_eq!(all.len(), 3, "all are looked at once");
    let mut told = |entry: pb::Entry| after(&mut writer, [put_change(super::super::testing::entry(entry))]).1;
    let concerned: HashSet<Arc<str>> = ["a".into(), "t".into()].into();
    assert_eq!(told(of(1, ConditionStatus::True)), concerned);
    assert_eq!(told(of(2, ConditionStatus::True)), concerned);
    let relabelled = pb::Entry {
        labels: [("a".to_owned(), "b".to_owned())].into(),
        display_name: "Another".to_owned(),
        ..of(2, ConditionStatus::True)
    };
    assert_eq!(told(relabelled), HashSet::new());
}

#[test]
fn installations_share_the_revision_they_run() {
    let number = |number| pb::EntryRevision {
        number,
        ..plain_revision("time")
    };
    let made = |uid, owner, running| Made {
        running: Some(number(running)),
        ..Made::new(uid, "time", owner)
    };
    let registry = Registry::default()
        .entry("time", &[])
        .install(made("a", "alice", 1))
        .with(revision(number(2)))
        .with(made("b", "bob", 2).object())
        .with(made("c", "carol", 2).object());
    let [a, b, c] = {
        let snapshot = registry.snapshot();
        ["a", "b", "c"].map(|uid| snapshot.running(snapshot.installation(uid).unwrap()).unwrap())
    };
    assert!(Arc::ptr_eq(&b.revision, &c.revision) && !Arc::ptr_eq(&a.revision, &b.revision));
    let mut writer = registry.writer();
    let (snapshot, _) = after(&mut writer, [remove(ObjectKind::EntryRevision, "e-time/1")]);
    assert!(snapshot.running(snapshot.installation("a").unwrap()).is_none());
    assert!(snapshot.running(snapshot.installation("b").unwrap()).is_some());
}

#[test]
fn headers_of_an_installation_come_from_its_revision_and_its_values() {
    let field = |key: &str, kind: pb::InstallFieldType| pb::InstallField {
        key: key.to_owned(),
        r#type: kind.into(),
        target: Some(pb::install_field::Target::Header(pb::HeaderTarget {
            name: format!("x-{key}"),
        })),
        ..pb::InstallField::default()
    };
    let header = |name: &str, source| pb::AdditionalHeader {
        name: name.to_owned(),
        source: Some(source),
    };
    let running = pb::EntryRevision {
        install_fields: vec![
            pb::InstallField {
                default_value: "eu".to_owned(),
                ..field("region", pb::InstallFieldType::String)
            },
            pb::InstallField {
                source: pb::InstallFieldSource::Stored.into(),
                stored_value: "acme".to_owned(),
                target: None,
                ..field("tenant", pb::InstallFieldType::String)
            },
            field("optional", pb::InstallFieldType::String),
        ],
        additional_headers: vec![
            header("x-version", pb::additional_header::Source::Value("2".to_owned())),
            header("x-tenant", pb::additional_header::Source::Field("tenant".to_owned())),
        ],
        ..plain_revision("time")
    };
    let made = |running: &pb::EntryRevision, values: &[(&str, &str)]| {
        let made = Made {
            running: Some(running.clone()),
            ..Made::new("i", "time", "alice")
        };
        let mut object = made.object();
        if let Some(Object::Installation(installation)) = &mut object.object {
            let values = values
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            installation.values = values.collect();
        }
        let registry = Registry::default().entry("time", &[]).with(made.revision());
        registry.with(object).running("i")
    };
    let of = |values| made(&running, values);
    let plain = of(&[]);
    let headers: Vec<_> = plain.fixed_headers().collect();
    assert_eq!(headers, [("x-version", "2"), ("x-tenant", "acme"), ("x-region", "eu")]);
    let entered = of(&[("region", "us"), ("optional", "1"), ("tenant", "evil")]);
    let headers: Vec<_> = entered.fixed_headers().collect();
    assert_eq!(
        headers,
        [
            ("x-version", "2"),
            ("x-tenant", "acme"),
            ("x-region", "us"),
            ("x-optional", "1")
        ]
    );
    assert!(!plain.revision.vends_headers, "nothing secret goes into a header");
    assert!(!plain.revision.stored_secrets);
    let url = "https://mcp.example.com/mcp".parse().unwrap();
    assert_eq!(plain.endpoint, Some(Endpoint::Remote(Arc::new(url))));

    let mut secret = running.clone();
    secret.install_fields.push(field("key", pb::InstallFieldType::Secret));
    let running = made(&secret, &[("key", "never")]);
    assert!(running.revision.vends_headers && !running.revision.stored_secrets);
    assert!(!running.fixed_headers().any(|(name, _)| name == "x-key"));
    secret.install_fields[3].source = pb::InstallFieldSource::Stored.into();
    assert!(made(&secret, &[]).revision.stored_secrets);
}
