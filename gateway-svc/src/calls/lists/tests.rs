//! Whose the client's URIs are.

use bytes::Bytes;
use pretty_assertions::assert_eq;

use super::{
    item,
    listing::{Listed, Whose},
    *,
};
use crate::{
    domain::ConsumerKind,
    resolve::Reached,
    route::Uris,
    snapshot::testing::{Made, Registry, assignment, person, plain_assignment},
};

/// Alice's own server, one of her team with the same program, and another; from the oldest to the newest.
fn reached() -> Vec<Reached> {
    let since = |uid: &str, entry: &str, pinned: Option<&str>| {
        assignment(contracts::registry::ToolAssignment {
            uid: uid.to_owned(),
            ..plain_assignment("g", entry, "*", pinned)
        })
    };
    let registry = Registry::default()
        .entry("z", &["t"])
        .entry("a", &["t"])
        .gateway("g")
        .with(since("1", "z", None))
        .with(since("2", "z", Some("shared")))
        .with(since("3", "a", None))
        .install(Made::new("own", "z", "alice"))
        .install(Made::new("shared", "z", "team:core"))
        .install(Made::new("other", "a", "alice"));
    let gateway = ConsumerRef::new(ConsumerKind::Gateway, "g");
    resolve::whole(&registry.snapshot(), &person("alice"), &gateway).unwrap()
}

fn listed(kind: ListKind, of_each: [Option<&[&str]>; 3]) -> impl Iterator<Item = Listed> {
    reached().into_iter().zip(of_each).map(move |(reached, items)| {
        let (member, key) = match kind {
            ListKind::Templates => ("resourceTemplates", "uriTemplate"),
            _ => ("resources", "uri"),
        };
        let items = items.map(|items| {
            let items: Vec<String> = items.iter().map(|item| format!(r#"{{"{key}":"{item}"}}"#)).collect();
            let page = Bytes::from(format!(r#"{{"{member}":[{}]}}"#, items.join(",")));
            item::read(&page, kind, &reached.source, 100).unwrap().items
        });
        Listed::new(reached, kind, items)
    })
}

fn listing(kind: ListKind, of_each: [Option<&[&str]>; 3]) -> Listing {
    Listing::of(kind, true, listed(kind, of_each).collect())
}

fn uris(listing: &Listing) -> Vec<&str> {
    listing
        .after(None)
        .unwrap()
        .iter()
        .map(|item| &**item.exposed())
        .collect()
}

/// Also two of one entry.
#[test]
fn each_source_has_uris_of_its_own() {
    let resources = listing(
        ListKind::Resources,
        [Some(&["u:1"]), Some(&["u:1", "u:2"]), Some(&["u:1"])],
    );
    let all: Vec<String> = uris(&resources).into_iter().map(str::to_owned).collect();
    let [own, shared, only, other] = &all[..] else {
        panic!("{all:?}")
    };
    assert_eq!([&**own, &**only, &**other], ["u:1", "u:2", "u:1#chandlery:a"]);
    assert!(shared.starts_with("u:1#chandlery:z."), "{shared}");
    let at = |uid, uri| resources.whose(Of::Installation(uid), uri);
    assert_eq!(at("own", "u:1"), Whose::Own(None));
    assert_eq!(at("shared", "u:1"), Whose::Own(Some(shared.as_str().into())));
    assert_eq!(at("other", "u:1"), Whose::Own(Some(other.as_str().into())));
    assert_eq!(at("own", "u:2"), Whose::Anothers);
    assert_eq!(at("own", "u:3"), Whose::Nobodys);
    assert_eq!(at("unknown", "u:1"), Whose::Anothers);
    for (uri, entry, own) in [(&**shared, "e-z", "u:1"), ("u:9#chandlery:a", "e-a", "u:9")] {
        let found = resources.find(uri).or_else(|| resources.tagged(uri)).unwrap();
        assert_eq!((&*found.source.entry_uid, &*found.own), (entry, own), "{uri}");
    }
    assert!(resources.tagged("u:9#chandlery:b").is_none() && resources.tagged("u:1").is_none());
    let told = || [&**own, shared, other].map(|uri| resources.find(uri).unwrap().source.uris());
    let before = told()[0];
    // One caller reaches fewer servers than others.
    resources.tell_sources(ListKind::Resources, 4);
    assert_eq!(told(), [before, Uris::Others, Uris::Others]);
    resources.tell_sources(ListKind::Resources, 3);
    assert_eq!(told(), [Uris::Same, Uris::Others, Uris::Others]);
}

#[test]
fn a_uri_is_made_from_the_template_of_the_oldest_that_says_whose_uris_it_makes() {
    let templates = listing(
        ListKind::Templates,
        [
            Some(&["{+all}", "t:a/{x}"]),
            Some(&["t:{+x}", "s:{x}"]),
            Some(&["s:{x}", "t:b/{x}"]),
        ],
    );
    let made = |uri| {
        templates
            .matching(uri, false)
            .map(|found| found.source.pinned.is_some())
    };
    let entry = |uri| {
        templates
            .matching(uri, false)
            .map(|found| found.source.entry_uid.to_string())
    };
    assert_eq!((made("t:a/1"), made("t:c")), (Some(false), Some(true)));
    assert_eq!(entry("other:1").as_deref(), Some("e-z"));
    assert!(templates.matching("other:1", true).is_none());
    assert_eq!(made("s:1"), Some(true));
    let at = |uid, uri| templates.made_by(Of::Installation(uid), uri);
    assert_eq!(at("shared", "s:1"), Whose::Own(None));
    assert_eq!(at("other", "s:1"), Whose::Own(Some("s:1#chandlery:a".into())));
    assert_eq!(at("own", "s:1"), Whose::Own(Some("s:1#chandlery:z".into())));
    assert_eq!(at("other", "t:a/1"), Whose::Anothers);
}

#[test]
fn a_server_that_is_alone_may_have_more_than_it_lists() {
    let alone = listing(ListKind::Resources, [None, Some(&[]), None]);
    assert!(alone.only().is_some_and(|source| source.pinned.is_some()));
    assert!(
        listing(ListKind::Resources, [None, Some(&[]), Some(&[])])
            .only()
            .is_none()
    );
    assert!(listing(ListKind::Resources, [None, None, None]).only().is_none());
}

/// It may list what a newer one has.
#[test]
fn nothing_is_said_of_what_is_newer_than_a_server_that_did_not_answer() {
    for fails in [true, false] {
        let of_each: [Option<&[&str]>; 3] = [Some(&["u:1"]), None, Some(&["u:2"])];
        let all = listed(ListKind::Resources, of_each).map(|listed| match listed.items {
            None if fails => listed.failed(),
            _ => listed,
        });
        let listing = Listing::of(ListKind::Resources, true, all.collect());
        listing.tell_sources(ListKind::Resources, 3);
        let told = ["u:1", "u:2"].map(|uri| listing.find(uri).unwrap().source.uris());
        let newest = if fails { Uris::Unknown } else { Uris::Same };
        assert_eq!(told, [Uris::Same, newest]);
    }
}
