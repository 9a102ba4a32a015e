//! What a table holds.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use pretty_assertions::assert_eq;

use super::{table::Route, *};
use crate::domain::{Audience, Consumer, ConsumerKind, ConsumerRef, Entry, Labels, Lifecycle, ToolSet, ToolsSince};

fn everybody() -> Audience {
    Audience {
        organization: true,
        teams: Box::default(),
        author: None,
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let label = |&(key, value): &(&str, &str)| ((key.into(), value.into()), 0);
    pairs.iter().map(label).collect()
}

fn entry(slug: &str, label: &str) -> Entry {
    Entry {
        uid: format!("uid-{slug}").into(),
        slug: slug.into(),
        display_name: slug.into(),
        labels: labels(&[("team", label)]),
        audience: everybody(),
        lifecycle: Lifecycle::Approved,
        tools: None,
        tools_since: ToolsSince::default(),
        credential: None,
        credential_generation: 0,
        deleted: false,
    }
}

fn consumer(automatic: bool, label: &str) -> Consumer {
    Consumer {
        name: ConsumerRef::new(ConsumerKind::Gateway, "g"),
        uid: "g".into(),
        display_name: "g".to_owned(),
        description: String::new(),
        labels: labels(&[("team", label), ("other", "x")]),
        automatic,
        audience: everybody(),
        passthrough_headers: Vec::new(),
        omit_entry_prefix: false,
        searched: false,
        tokens_only: false,
    }
}

fn pinned(installation: &str) -> Option<Arc<Pinned>> {
    Some(Arc::new(Pinned {
        installation: installation.into(),
        consented: None,
    }))
}

/// `tool` is `*` for all tools.
fn assignment(entry: &str, tool: &str, pinned: Option<Arc<Pinned>>, name: Option<&str>) -> Assignment {
    Assignment {
        since: 0,
        entry_uid: format!("uid-{entry}").into(),
        tool: (tool != "*").then(|| tool.into()),
        pinned,
        exposed_name: name.map(Into::into),
    }
}

fn table(consumer: &Consumer, assignments: &[Assignment], entries: &[(Entry, &[&str])]) -> Table {
    let uids: Vec<Arc<str>> = (0..assignments.len()).map(|index| index.to_string().into()).collect();
    let sets: HashMap<&str, (&Entry, ToolSet)> = entries
        .iter()
        .map(|(entry, tools)| {
            let tools = tools.iter().map(|&tool| (tool.into(), "hash".into())).collect();
            (&*entry.uid, (entry, tools))
        })
        .collect();
    let candidate = |uid: &str| {
        let (entry, tools) = sets.get(uid)?;
        Some(Candidate {
            entry,
            tools: Some(tools),
        })
    };
    let all = entries.iter().filter_map(|(entry, _)| candidate(&entry.uid));
    Table::build(consumer, uids.iter().zip(assignments), candidate, all)
}

fn names(table: &Table) -> Vec<&str> {
    table.routes().iter().map(|route| &*route.exposed_name).collect()
}

/// Exposed name and the installation it is pinned to.
fn bindings(table: &Table) -> Vec<(&str, Option<&str>)> {
    let binding = |route: &'_ Route| {
        route
            .source
            .pinned
            .as_ref()
            .map(|pinned| pinned.installation.to_string())
    };
    assert!(table.routes().is_sorted_by_key(|route| &route.exposed_name));
    table
        .routes()
        .iter()
        .map(|route| {
            assert_eq!(binding(table.find(&route.exposed_name).unwrap()), binding(route));
            (
                &*route.exposed_name,
                route.source.pinned.as_ref().map(|pinned| &*pinned.installation),
            )
        })
        .collect()
}

#[test]
fn holds_what_was_assigned() {
    let assignments = [
        assignment("time", "now", None, None),
        assignment("time", "now", None, None),
        assignment("time", "convert", pinned("i1"), Some("tz")),
        assignment("gone", "x", None, None),
        assignment("gone", "*", None, None),
    ];
    let table = table(&consumer(false, "core"), &assignments, &[(entry("time", "core"), &[])]);
    assert_eq!(bindings(&table), [("time__now", None), ("tz", Some("i1"))]);
    assert!(table.find("time__convert").is_none());
}

#[test]
fn automatic_mode_adds_every_tool_of_entries_that_share_a_label() {
    let draft = Entry {
        lifecycle: Lifecycle::Draft,
        ..entry("draft", "core")
    };
    let deprecated = Entry {
        lifecycle: Lifecycle::Deprecated,
        ..entry("old", "core")
    };
    let deleted = Entry {
        deleted: true,
        ..entry("gone", "core")
    };
    let entries: [(Entry, &[&str]); 5] = [
        (entry("time", "core"), &["now", "convert"]),
        (entry("mail", "other-team"), &["send"]),
        (draft, &["x"]),
        (deprecated, &["y"]),
        (deleted, &["z"]),
    ];
    let assignments = [assignment("time", "now", None, Some("clock"))];
    assert_eq!(
        names(&table(&consumer(true, "core"), &assignments, &entries)),
        ["clock", "old__y", "time__convert"]
    );
    assert_eq!(
        names(&table(&consumer(false, "core"), &assignments, &entries)),
        ["clock"]
    );
}

#[test]
fn all_tools_give_way_to_a_single_one_and_come_before_automatic_mode() {
    let entries: [(Entry, &[&str]); 2] = [
        (entry("time", "core"), &["now", "convert"]),
        (entry("mail", "core"), &["send"]),
    ];
    let assignments = [
        assignment("time", "*", pinned("shared"), None),
        assignment("time", "now", None, Some("clock")),
    ];
    for automatic in [false, true] {
        let table = table(&consumer(automatic, "core"), &assignments, &entries);
        let mut expected = vec![("clock", None), ("time__convert", Some("shared"))];
        if automatic {
            expected.insert(1, ("mail__send", None));
        }
        assert_eq!(bindings(&table), expected);
    }
    let twice = [
        assignment("time", "*", pinned("one"), None),
        assignment("time", "*", pinned("two"), None),
        assignment("time", "*", None, None),
        assignment("time", "*", None, None),
    ];
    let manual = consumer(false, "core");
    assert_eq!(
        table(&manual, &twice, &entries).routes().len(),
        6,
        "a tool for each binding"
    );
    assert!(
        table(&manual, &twice, &[(entry("time", "core"), &[])])
            .routes()
            .is_empty(),
        "no tool is known yet"
    );
}

#[test]
fn does_not_depend_on_the_order_of_assignments() {
    let consented = |team: &str| {
        Some(Arc::new(Pinned {
            installation: "i".into(),
            consented: Some(Consent {
                to: Audience {
                    organization: false,
                    teams: [team.into()].into(),
                    author: None,
                },
                at: SystemTime::UNIX_EPOCH,
            }),
        }))
    };
    let time = entry("time", "core");
    let (first, second) = (
        ("1".into(), assignment("time", "now", consented("red"), None)),
        ("2".into(), assignment("time", "now", consented("blue"), None)),
    );
    let candidate = |_: &str| {
        Some(Candidate {
            entry: &time,
            tools: None,
        })
    };
    for order in [[&first, &second], [&second, &first]] {
        let assigned = order.map(|(uid, assignment)| (uid, assignment));
        let table = Table::build(&consumer(false, "core"), assigned, candidate, []);
        let [route] = table.routes() else { panic!("{table:?}") };
        assert_eq!(route.source.pinned, consented("red"));
    }
}

fn without_prefix() -> Consumer {
    Consumer {
        omit_entry_prefix: true,
        ..consumer(false, "core")
    }
}

/// Under the name that it has while the older one is there, the newer is found also once that has left.
#[test]
fn a_name_stays_when_another_joins() {
    // The newer one is the first by entry.
    let entries: [(Entry, &[&str]); 3] = [
        (entry("z", "core"), &["who", "only"]),
        (entry("a", "core"), &["who"]),
        (entry("b", "core"), &["who"]),
    ];
    let gateway = without_prefix();
    let all = ["z", "a", "b"].map(|entry| assignment(entry, "*", None, None));
    let leads = |table: &Table, name: &str| table.find(name).map(|route| route.source.entry_uid.to_string());
    let alone = table(&gateway, &all[..1], &entries);
    assert_eq!(names(&alone), ["only", "who"]);
    let mut suffixed = Vec::new();
    for joined in 2..=3 {
        let table = table(&gateway, &all[..joined], &entries);
        assert_eq!(leads(&table, "who").as_deref(), Some("uid-z"));
        let now = names(&table).into_iter().filter(|name| name.starts_with("who_"));
        let now: Vec<String> = now.map(str::to_owned).collect();
        assert!(
            now.len() == joined - 1 && suffixed.iter().all(|name| now.contains(name)),
            "{now:?}"
        );
        suffixed = now;
    }
    let left = table(&gateway, &all[1..], &entries);
    assert_eq!(leads(&left, "who").as_deref(), Some("uid-a"));
    assert_eq!(names(&left).len(), 2);
    for name in &suffixed {
        assert!(leads(&left, name).is_some_and(|uid| uid != "uid-z"), "{name}");
    }
    assert_eq!(leads(&left, "who_aaaaaaaa"), None);
}

/// What automatic mode adds is as old as its entry, also once it is assigned, and a single tool as old as all of them.
#[test]
fn a_name_stays_however_the_tool_is_assigned() {
    let entries: [(Entry, &[&str]); 2] = [(entry("a", "core"), &["who"]), (entry("b", "core"), &["who"])];
    let automatic = Consumer {
        automatic: true,
        ..without_prefix()
    };
    for (entry, tool) in [("a", "*"), ("a", "who"), ("b", "*"), ("b", "who")] {
        let later: Arc<str> = "uid-z".into();
        let assigned = assignment(entry, tool, None, None);
        let tools: ToolSet = std::iter::once(("who".into(), "hash".into())).collect();
        let of = |uid: &str| {
            let (entry, _) = entries.iter().find(|(entry, _)| *entry.uid == *uid)?;
            let tools = Some(&tools);
            Some(Candidate { entry, tools })
        };
        let all = ["uid-a", "uid-b"].map(|uid| of(uid).unwrap());
        let table = Table::build(&automatic, [(&later, &assigned)], of, all);
        assert_eq!(*table.find("who").unwrap().source.entry_uid, *"uid-a", "{assigned:?}");
    }
    let gateway = without_prefix();
    let before = [assignment("b", "*", None, None), assignment("a", "*", None, None)];
    let after = [&before[..], &[assignment("b", "who", None, None)]].concat();
    assert_eq!(
        names(&table(&gateway, &before, &entries)),
        names(&table(&gateway, &after, &entries))
    );
}

/// Not since the entry was made: it may get the label later, or the gateway may.
#[test]
fn what_automatic_mode_adds_is_as_old_as_the_label_by_which_it_does() {
    let labelled = |slug: &str, since: &[(&str, i64)]| Entry {
        labels: since
            .iter()
            .map(|&(key, since)| ((key.into(), "x".into()), since))
            .collect(),
        ..entry(slug, "")
    };
    let gateway = |since: i64| Consumer {
        automatic: true,
        labels: [(("team".into(), "x".into()), since), (("other".into(), "x".into()), 2)]
            .into_iter()
            .collect(),
        ..without_prefix()
    };
    let led = |gateway: &Consumer, assigned: &[Assignment], first: &[(&str, i64)], second: &[(&str, i64)]| {
        let entries: [(Entry, &[&str]); 2] = [(labelled("a", first), &["who"]), (labelled("b", second), &["who"])];
        let table = table(gateway, assigned, &entries);
        let whole: Vec<&str> = table.whole().iter().map(|source| &*source.entry_uid).collect();
        assert!(
            table
                .find("who")
                .is_some_and(|route| *route.source.entry_uid == *whole[0])
        );
        whole[0].to_owned()
    };
    assert_eq!(led(&gateway(1), &[], &[("team", 3)], &[("team", 4)]), "uid-a");
    assert_eq!(led(&gateway(1), &[], &[("team", 5)], &[("team", 4)]), "uid-b");
    assert_eq!(
        led(&gateway(6), &[], &[("team", 5)], &[("team", 4)]),
        "uid-a",
        "both joined then"
    );
    let two: [(&str, i64); 2] = [("team", 5), ("other", 3)];
    assert_eq!(
        led(&gateway(1), &[], &two, &[("team", 4)]),
        "uid-a",
        "by the other label"
    );
    let later = Assignment {
        since: 9,
        ..assignment("a", "*", None, None)
    };
    assert_eq!(
        led(
            &gateway(1),
            std::slice::from_ref(&later),
            &[("team", 5)],
            &[("team", 4)]
        ),
        "uid-b"
    );
    assert_eq!(led(&gateway(1), &[later], &[("team", 3)], &[("team", 4)]), "uid-a");
    let earlier = Assignment {
        since: 3,
        ..assignment("a", "*", None, None)
    };
    assert_eq!(led(&gateway(1), &[earlier], &[("team", 5)], &[("team", 4)]), "uid-a");
}

/// An entry may be installed for the first time long after it was assigned, and its server may get other tools.
#[test]
fn a_tool_that_its_entry_has_later_takes_no_name() {
    let known = |slug: &str, since: &[i64]| Entry {
        tools_since: since.into(),
        ..entry(slug, "core")
    };
    let assigned = |entry: &str, tool: &str, since: i64| Assignment {
        since,
        ..assignment(entry, tool, None, None)
    };
    let automatic = Consumer {
        automatic: true,
        ..without_prefix()
    };
    let leads = |consumer: &Consumer, assigned: &[Assignment], since: &[i64]| {
        let entries: [(Entry, &[&str]); 2] = [(known("a", since), &["only", "who"]), (known("b", &[5]), &["who"])];
        let table = table(consumer, assigned, &entries);
        assert_eq!(names(&table).len(), 3);
        table.find("who").unwrap().source.entry_uid.to_string()
    };
    let all = [assigned("a", "*", 1), assigned("b", "*", 2)];
    for (consumer, all) in [(&without_prefix(), &all[..]), (&automatic, &[]), (&automatic, &all)] {
        assert_eq!(leads(consumer, all, &[4]), "uid-a");
        assert_eq!(leads(consumer, all, &[6]), "uid-b", "its entry had none");
        assert_eq!(leads(consumer, all, &[4, 6]), "uid-b", "its entry had another");
        assert_eq!(leads(consumer, all, &[6, 4]), "uid-a");
        assert_eq!(leads(consumer, all, &[]), "uid-a", "since nobody knows when");
        let by_itself = |since| [all, &[assigned("a", "who", since)]].concat();
        let [before, since, after] = [3, 6, 9].map(by_itself);
        assert_eq!(leads(consumer, &before, &[8]), "uid-a", "it had the name before");
        assert_eq!(leads(consumer, &since, &[8]), "uid-b");
        assert_eq!(leads(consumer, &after, &[4]), "uid-a", "it was there with all others");
        assert_eq!(leads(consumer, &after, &[8]), "uid-b");
    }
}

#[test]
fn knows_sources_with_all_from_the_oldest_to_the_newest() {
    let entries: [(Entry, &[&str]); 3] = [
        (entry("z", "core"), &["who"]),
        (entry("a", "core"), &[]),
        (entry("m", "core"), &["who"]),
    ];
    let assignments = [
        assignment("z", "*", None, None),
        assignment("a", "*", pinned("i1"), None),
        assignment("z", "*", None, None),
        assignment("m", "who", None, None),
    ];
    let table = table(&consumer(false, "core"), &assignments, &entries);
    let whole: Vec<(&str, Uris)> = (table.whole().iter())
        .map(|source| (&*source.entry_uid, source.uris()))
        .collect();
    assert_eq!(whole, [("uid-z", Uris::Same), ("uid-a", Uris::Unknown)]);
    assert!(table.whole().iter().all(|source| table.has_whole(source)));
    for uid in ["uid-a", "uid-z"] {
        let of_it: Vec<&str> = table.whole_of(uid).iter().map(|source| &*source.entry_uid).collect();
        assert_eq!(of_it, [uid], "however old they are");
    }
    let single = &table.find("m__who").unwrap().source;
    assert!(!table.has_whole(single) && single.uris() == Uris::Same);
    let newer = &table.whole()[1];
    newer.seen(true);
    newer.seen(false);
    assert_eq!(
        newer.uris(),
        Uris::Others,
        "what one client knows by another URI, others may"
    );
}
