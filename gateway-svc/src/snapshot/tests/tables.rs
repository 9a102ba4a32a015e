//! What gateways expose, and which of their tables a change builds anew.

use contracts::registry::AssignmentMode;
use pretty_assertions::assert_eq;

use super::*;
use crate::{
    route::Table,
    snapshot::testing::{assignment, discovered, entry, plain_assignment, plain_entry},
};

pub(super) fn names(snapshot: &Snapshot, gateway: &str) -> Vec<String> {
    let table = snapshot.table(&gateway_ref(gateway)).unwrap();
    let names = table.routes().iter().map(|route| route.exposed_name.to_string());
    names.collect()
}

fn labelled(slug: &str, value: &str) -> pb::Entry {
    pb::Entry {
        labels: [("area".to_owned(), value.to_owned())].into(),
        ..plain_entry(slug)
    }
}

fn automatic(slug: &str, value: &str) -> pb::Gateway {
    pb::Gateway {
        assignment_mode: AssignmentMode::Automatic.into(),
        labels: [("area".to_owned(), value.to_owned())].into(),
        ..plain_gateway(slug)
    }
}

/// Automatic assignment is in force with the revision that causes it.
#[test]
fn labels_move_tools_at_once() {
    let mut writer = Registry::default()
        .with(entry(labelled("time", "core")))
        .tools("e-time", &["now"])
        .with(gateway(automatic("core", "core")))
        .with(gateway(automatic("web", "web")))
        .writer();
    let (first, _) = writer.snapshot(1);
    let both = |snapshot: &Snapshot| (names(snapshot, "core"), names(snapshot, "web"));
    let time = vec!["time__now".to_owned()];
    assert_eq!(both(&first), (time.clone(), vec![]));
    let moved = pb::Entry {
        discovered: vec![discovered("e-time", &["now"]).0],
        ..labelled("time", "web")
    };
    let (second, _) = after(&mut writer, [put_change(entry(moved))]);
    assert_eq!(both(&second), (vec![], time.clone()));
    assert_eq!(
        both(&first),
        (time.clone(), vec![]),
        "a snapshot in use stays what it was"
    );
    assert_eq!((first.revision(), second.revision()), (1, 2));
    let (third, _) = after(&mut writer, [put_change(gateway(automatic("core", "web")))]);
    assert_eq!(both(&third), (time.clone(), time.clone()));
    let (fourth, _) = after(&mut writer, [put_change(gateway(plain_gateway("web")))]);
    assert_eq!(both(&fourth), (time, vec![]), "not in automatic mode any more");
}

/// An entry that was made before the others, and gets their label after them.
#[test]
fn an_older_entry_that_is_labelled_later_takes_no_name() {
    let since = |slug: &str, revision: i64| pb::Entry {
        label_revisions: [("area".to_owned(), revision)].into(),
        ..labelled(slug, "core")
    };
    let core = pb::Gateway {
        omit_entry_prefix: Some(true),
        ..automatic("core", "core")
    };
    let mut writer = Registry::default()
        .with(entry(labelled("a", "none")))
        .tools("e-a", &["who"])
        .with(entry(since("b", 3)))
        .tools("e-b", &["who"])
        .with(gateway(core))
        .writer();
    let leads = |snapshot: &Snapshot| {
        let table = snapshot.table(&gateway_ref("core")).unwrap();
        table.find("who").unwrap().source.entry_uid.to_string()
    };
    let (first, _) = after(&mut writer, []);
    assert_eq!(leads(&first), "e-b");
    let with_tools = |revision| pb::Entry {
        discovered: vec![discovered("e-a", &["who"]).0],
        ..since("a", revision)
    };
    let (second, _) = after(&mut writer, [put_change(entry(with_tools(4)))]);
    assert_eq!((leads(&second), names(&second, "core").len()), ("e-b".to_owned(), 2));
    let (third, _) = after(&mut writer, [put_change(entry(with_tools(2)))]);
    assert_eq!(leads(&third), "e-a", "the same label, since another revision");
}

/// The entry that was assigned first is installed for the first time. A gateway process that starts then comes to the same names.
#[test]
fn an_entry_whose_tools_are_discovered_later_takes_no_name() {
    let bare = pb::Gateway {
        omit_entry_prefix: Some(true),
        ..plain_gateway("all")
    };
    let known = |slug: &str, since: i64| pb::Entry {
        discovered: vec![pb::DiscoveredSet {
            since_revisions: vec![since],
            ..discovered(&format!("e-{slug}"), &["who"]).0
        }],
        ..plain_entry(slug)
    };
    let registry = |first: pb::Entry| {
        Registry::default()
            .with(entry(plain_entry("a")))
            .tools("e-a", &["who"])
            .with(entry(first))
            .with(entry(plain_entry("b")))
            .tools("e-b", &["who"])
            .with(entry(known("b", 3)))
            .with(gateway(bare.clone()))
            .assign("all", "a", "*")
            .assign("all", "b", "*")
    };
    let led = |snapshot: &Snapshot| {
        let table = snapshot.table(&gateway_ref("all")).unwrap();
        let leads = |name: &&str| table.find(name).unwrap().source.entry_uid.to_string();
        let names: Vec<&str> = table.routes().iter().map(|route| &*route.exposed_name).collect();
        names
            .iter()
            .map(leads)
            .zip(names.iter().map(|&name| name.to_owned()))
            .collect::<Vec<_>>()
    };
    let mut writer = registry(plain_entry("a")).writer();
    let (before, _) = after(&mut writer, []);
    assert_eq!(led(&before), [("e-b".to_owned(), "who".to_owned())]);
    let (now, _) = after(&mut writer, [put_change(entry(known("a", 4)))]);
    let now = led(&now);
    assert_eq!((now.len(), &now[0]), (2, &led(&before)[0]));
    let (restarted, _) = after(&mut registry(known("a", 4)).writer(), []);
    assert_eq!(led(&restarted), now);
    let (older, _) = after(&mut writer, [put_change(entry(known("a", 2)))]);
    assert_eq!(led(&older)[0].0, "e-a");
}

/// What a change does to the tables of four gateways.
#[test]
fn only_the_tables_concerned_are_built_anew() {
    let with_tools = |mut entry: pb::Entry, tools: &[&str]| {
        entry.discovered = vec![discovered(&entry.uid, tools).0];
        entry
    };
    let time = |change: &dyn Fn(&mut pb::Entry)| {
        let mut time = with_tools(labelled("time", "core"), &["now"]);
        time.labels.insert("kind".to_owned(), "clock".to_owned());
        change(&mut time);
        put_change(entry(time))
    };
    let mut by_kind = automatic("by-kind", "none");
    by_kind.labels.insert("kind".to_owned(), "clock".to_owned());
    let registry = Registry::default()
        .entry("mail", &["send"])
        .with(gateway(automatic("core", "core")))
        .with(gateway(automatic("web", "web")))
        .with(gateway(by_kind))
        .gateway("one")
        .gateway("all")
        .gateway("mail")
        .assign("one", "time", "now")
        .assign("all", "time", "*")
        .assign("mail", "mail", "send");
    let mut writer = registry.writer();
    let (_, objects) = discovered("e-time", &["now", "convert"]);
    after(&mut writer, objects.into_iter().map(put_change));
    let (_, objects) = discovered("e-time", &["now"]);
    after(&mut writer, objects.into_iter().map(put_change));
    let (mut last, _) = after(&mut writer, [time(&|_| {})]);

    let all = ["core", "web", "by-kind", "one", "all", "mail"];
    let mut anew = |changes: Vec<Change>| -> Vec<&str> {
        // A table that was not used is not built: a change would not be seen here.
        let table = |snapshot: &Snapshot, gateway| -> *const Table { snapshot.table(&gateway_ref(gateway)).unwrap() };
        let before = all.map(|gateway| table(&last, gateway));
        let (next, _) = after(&mut writer, changes);
        let now = all.map(|gateway| table(&next, gateway));
        let changed = (0..all.len()).filter(|&index| before[index] != now[index]);
        let changed = changed.map(|index| all[index]).collect();
        last = next;
        changed
    };
    let nothing: [&str; 0] = [];
    assert_eq!(anew(vec![]), nothing);
    assert_eq!(
        anew(vec![time(&|time| time.display_name = "Clock".to_owned())]),
        nothing
    );
    let to_web = |time: &mut pb::Entry| {
        time.labels.insert("area".to_owned(), "web".to_owned());
    };
    assert_eq!(anew(vec![time(&to_web)]), ["core", "web"], "the other label stays");
    assert_eq!(anew(vec![time(&|_| {})]), ["core", "web"]);
    let more_tools = |time: &mut pb::Entry| {
        time.discovered = vec![discovered("e-time", &["now", "convert"]).0];
    };
    assert_eq!(anew(vec![time(&more_tools)]), ["core", "by-kind", "one", "all"]);
    let draft = |time: &mut pb::Entry| {
        more_tools(time);
        time.lifecycle = pb::EntryLifecycle::Draft.into();
    };
    assert_eq!(anew(vec![time(&draft)]), ["core", "by-kind"]);
    assert_eq!(
        anew(vec![remove(ObjectKind::Entry, "e-time")]),
        ["core", "by-kind", "one", "all"]
    );
    let opened = pb::Gateway {
        description: "for all".to_owned(),
        ..automatic("core", "core")
    };
    assert_eq!(anew(vec![put_change(gateway(opened))]), nothing);
    assert_eq!(anew(vec![put_change(gateway(automatic("core", "web")))]), ["core"]);
    let another = assignment(plain_assignment("one", "mail", "send", None));
    assert_eq!(anew(vec![put_change(another)]), ["one"]);
    assert_eq!(
        anew(vec![remove(ObjectKind::ToolAssignment, "a-one-mail-send")]),
        ["one"]
    );
    assert_eq!(
        anew(vec![remove(ObjectKind::ToolAssignment, "a-one-mail-send")]),
        nothing
    );
}

/// A table that was not used yet is not built from what has changed since its snapshot.
#[test]
fn a_table_belongs_to_its_snapshot_whenever_it_is_built() {
    let mut writer = Registry::default()
        .entry("time", &["now"])
        .gateway("default")
        .assign("default", "time", "now")
        .writer();
    let (first, _) = writer.snapshot(1);
    let (same, _) = after(&mut writer, [put_change(gateway(plain_gateway("other")))]);
    let (without, _) = after(&mut writer, [remove(ObjectKind::ToolAssignment, "a-default-time-now")]);
    assert!(names(&without, "default").is_empty());
    assert_eq!(names(&same, "default"), ["time__now"]);
    assert!(std::ptr::eq(
        first.table(&gateway_ref("default")).unwrap(),
        same.table(&gateway_ref("default")).unwrap()
    ));
}

#[test]
fn tools_come_with_discovery_and_go_with_removal() {
    let time = |tools: &[&str]| pb::Entry {
        discovered: vec![discovered("e-time", tools).0],
        ..labelled("time", "core")
    };
    let mut writer = Registry::default()
        .with(entry(labelled("time", "core")))
        .with(gateway(automatic("auto", "core")))
        .gateway("all")
        .assign("all", "time", "*")
        .writer();
    let mut both = |changes: Vec<Change>| {
        let (snapshot, _) = after(&mut writer, changes);
        assert_eq!(names(&snapshot, "auto"), names(&snapshot, "all"));
        names(&snapshot, "all")
    };
    let nothing: [&str; 0] = [];
    assert_eq!(both(vec![]), nothing, "a never installed entry has no tools");
    let discover = |tools: &[&str]| -> Vec<Change> {
        let (_, objects) = discovered("e-time", tools);
        objects
            .into_iter()
            .chain([entry(time(tools))])
            .map(put_change)
            .collect()
    };
    assert_eq!(both(discover(&["now", "convert"])), ["time__convert", "time__now"]);
    assert_eq!(both(discover(&["now"])), ["time__now"]);
    let deleted = pb::Entry {
        delete_time: Some(prost_types::Timestamp::default()),
        ..time(&["now"])
    };
    assert_eq!(both(vec![put_change(entry(deleted))]), nothing);
    assert_eq!(both(vec![put_change(entry(time(&["now"])))]), ["time__now"]);
    assert_eq!(both(vec![remove(ObjectKind::Entry, "e-time")]), nothing);
    let unknown = pb::Entry {
        discovered: vec![pb::DiscoveredSet {
            kind: 999,
            ..discovered("e-time", &["now"]).0
        }],
        ..labelled("time", "core")
    };
    assert_eq!(
        both(vec![put_change(entry(unknown))]),
        nothing,
        "a kind that is not known"
    );
}

#[test]
fn assignments_and_gateways_come_and_go_in_any_order() {
    let assigned = || put_change(assignment(plain_assignment("default", "time", "now", None)));
    let there = || put_change(gateway(plain_gateway("default")));
    let mut writer = Registry::default().entry("time", &["now"]).writer();
    after(&mut writer, [assigned()]);
    let (snapshot, _) = after(&mut writer, [there()]);
    assert_eq!(names(&snapshot, "default"), ["time__now"], "the assignment came first");
    let (without, _) = after(&mut writer, [remove(ObjectKind::ToolAssignment, "a-default-time-now")]);
    assert!(names(&without, "default").is_empty());

    after(&mut writer, [assigned()]);
    let (gone, _) = after(&mut writer, [remove(ObjectKind::Gateway, "g-default")]);
    assert!(gone.consumer(&gateway_ref("default")).is_none());
    let (gone, _) = after(&mut writer, [remove(ObjectKind::ToolAssignment, "a-default-time-now")]);
    assert!(
        gone.table(&gateway_ref("default")).is_none(),
        "it has outlived its gateway"
    );

    // A slug used again is another gateway: it inherits nothing, and the old one's removal does not take it away.
    after(&mut writer, [there(), assigned()]);
    let reused = pb::Gateway {
        uid: "g-2".to_owned(),
        ..plain_gateway("default")
    };
    let changes = [put_change(gateway(reused)), remove(ObjectKind::Gateway, "g-default")];
    let (reused, _) = after(&mut writer, changes);
    assert!(names(&reused, "default").is_empty());
}

#[test]
fn an_assignment_of_a_kind_that_is_not_known_is_left_out() {
    let unknown = pb::ToolAssignment {
        kind: 999,
        ..plain_assignment("default", "time", "now", None)
    };
    let registry = Registry::default()
        .entry("time", &["now"])
        .gateway("default")
        .with(assignment(unknown));
    assert!(names(&registry.snapshot(), "default").is_empty());
}
