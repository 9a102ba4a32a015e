//! Tools that only the caller's own server has.

use pretty_assertions::assert_eq;

use super::*;
use crate::domain::{Definition, ListedTools, OwnTools};

/// The entry has `now`; Alice's own server has more than that since she installed it, and Bob's has not.
fn grown() -> Registry {
    Registry::default()
        .entry("time", &["now"])
        .gateway("default")
        .assign("default", "time", "*")
        .install(Made::new("hers", "time", "alice"))
        .tools("hers", &["now", "a later", "zone"])
        .install(Made::new("his", "time", "bob"))
        .tools("his", &["now"])
}

fn names(registry: &Registry, caller: &str) -> Vec<String> {
    let listed = list(&registry.snapshot(), &person(caller), &default()).unwrap();
    listed.iter().map(|tool| tool.exposed_name.to_string()).collect()
}

fn called(registry: &Registry, caller: &str, name: &str) -> Result<(String, String), CallError> {
    let target = call(&registry.snapshot(), &person(caller), &default(), name, None, &links())?;
    let tool = target.tool.unwrap().to_string();
    Ok((target.running.installation.uid.to_string(), tool))
}

#[test]
fn are_listed_and_called_where_all_tools_are_assigned() {
    let registry = grown();
    assert_eq!(names(&registry, "alice"), ["time__a_later", "time__now", "time__zone"]);
    assert_eq!(
        called(&registry, "alice", "time__a_later").unwrap(),
        ("hers".to_owned(), "a later".to_owned())
    );
    let snapshot = registry.snapshot();
    let alice = person("alice");
    let explained = explain(&snapshot, &alice, &default(), "time__zone", &links()).unwrap();
    assert_eq!((&*explained.tool, explained.reason), ("zone", None));
    assert!(definition(&snapshot, &alice, &default(), "time__zone", None).is_some());
    let others = [
        seen(&snapshot, &alice, &default()),
        seen(&snapshot, &person("bob"), &default()),
    ];
    assert_ne!(others[0].as_ref().unwrap(), others[1].as_ref().unwrap());
}

#[test]
fn are_nobody_elses() {
    let registry = grown();
    assert_eq!(names(&registry, "bob"), ["time__now"]);
    assert_eq!(names(&registry, "carol"), ["time__now"]);
    assert!(matches!(
        called(&registry, "bob", "time__zone"),
        Err(CallError::ToolNotFound(_))
    ));
}

#[test]
fn follow_page_by_page() {
    let snapshot = grown().snapshot();
    let mut after: Option<String> = None;
    let mut all = Vec::new();
    loop {
        let list::Page { tools, more } =
            page(&snapshot, &person("alice"), &default(), None, after.as_deref(), 1).unwrap();
        after = tools.first().map(|tool| tool.exposed_name.to_string());
        all.extend(after.clone());
        if !more {
            break;
        }
    }
    assert_eq!(all, ["time__a_later", "time__now", "time__zone"]);
}

#[test]
fn are_not_exposed_where_tools_are_assigned_one_by_one() {
    let registry = Registry::default()
        .entry("time", &["now"])
        .gateway("default")
        .assign("default", "time", "now")
        .install(Made::new("hers", "time", "alice"))
        .tools("hers", &["now", "zone"]);
    assert_eq!(names(&registry, "alice"), ["time__now"]);
}

/// It has a name already.
#[test]
fn are_listed_once_where_one_is_assigned_by_itself_too() {
    let renamed = pb::ToolAssignment {
        exposed_name: "z".to_owned(),
        ..plain_assignment("default", "time", "zone", None)
    };
    let registry = grown().with(assignment(renamed));
    assert_eq!(names(&registry, "alice"), ["time__a_later", "time__now", "z"]);
}

/// They give way to the names of the table.
#[test]
fn never_take_a_name_that_is_another_tools() {
    let renamed = pb::ToolAssignment {
        exposed_name: "time__zone".to_owned(),
        ..plain_assignment("default", "time", "now", None)
    };
    let registry = grown().with(assignment(renamed));
    let [first, zone, other] = &names(&registry, "alice")[..] else {
        panic!()
    };
    assert_eq!((&**first, &**zone), ("time__a_later", "time__zone"));
    assert!(other.starts_with("time__zone_"), "{other}");
    assert_eq!(called(&registry, "alice", zone).unwrap().1, "now");
    assert_eq!(called(&registry, "alice", other).unwrap().1, "zone");
}

/// What a server lists to one client takes the place of what it listed to the registry.
#[test]
fn of_a_client_alone_are_what_its_server_lists_there() {
    let tool = |name: &str, hash: &str| {
        let definition = Definition::parse(&format!(r#"{{"name":"{name}"}}"#)).unwrap();
        (name.into(), (hash.into(), Arc::new(definition)))
    };
    let listed: ListedTools = [tool("now", "other"), tool("own", "o")].into_iter().collect();
    let own = OwnTools::default().with(&"hers".into(), Some(listed));
    let (snapshot, alice) = (grown().snapshot(), person("alice"));
    let page = page(&snapshot, &alice, &default(), Some(&own), None, 10).unwrap();
    let shown: Vec<_> = page
        .tools
        .iter()
        .map(|tool| (&*tool.exposed_name, &*tool.hash))
        .collect();
    assert_eq!(shown, [("time__now", "other"), ("time__own", "o")]);
    let target = call(&snapshot, &alice, &default(), "time__own", Some(&own), &links()).unwrap();
    assert_eq!((target.tool.as_deref(), target.whole), (Some("own"), true));
    assert!(shows_all(&snapshot, &alice, &default(), "hers"));
    assert!(!shows_all(&snapshot, &alice, &default(), "his"));
}
