//! How the engines find the pages of lists: by an index, whatever is in the tables.

use contracts::registry::{EntryLifecycle, InstallationState};
use sqlx::Row as _;

use super::{
    Tx, assignments, consumers, entry_list, features, gateway_tokens, installations,
    list::{Bind, List, bound},
    on, revisions, rows,
    search::Spelling,
    teams,
    testing::on_each_engine,
    users,
};
use crate::domain::{Caller, caller::CallerTeam, consumer::ConsumerKind};

fn team(uid: &str) -> CallerTeam {
    CallerTeam {
        uid: uid.to_owned(),
        slug: uid.to_owned(),
        members_manage_installations: true,
    }
}

fn caller(admin: bool) -> Caller {
    Caller {
        uid: "u".to_owned(),
        admin,
        machine: false,
        teams: vec![team("a"), team("b")],
    }
}

/// Every page that people can ask for, and how often what was found is sorted: pages of few by their nature, those of objects that
/// are found by another table, unions.
fn pages() -> Vec<(String, String, Vec<Bind>, usize)> {
    let mut pages = Vec::new();
    for admin in [false, true] {
        let caller = caller(admin);
        let mut add = |name: &str, list: List, sorts: usize| {
            let (sql, binds) = list.statement((1, "x"), 51);
            pages.push((format!("{name}, admin: {admin}"), sql, binds, sorts));
        };
        let label = ("k".to_owned(), "v".to_owned());
        let filter = |labels: &[(String, String)], lifecycle, words: &[&str]| entry_list::Filter {
            labels: labels.to_vec(),
            lifecycle,
            words: words.iter().map(|&word| word.to_owned()).collect(),
        };
        let mut many_teams = caller.clone();
        many_teams.teams = (0..40).map(|index| team(&format!("t{index}"))).collect();
        let spelt = Spelling::Few(vec![b"ab".to_vec(), b"ac".to_vec()]);
        for filter in [
            filter(&[], EntryLifecycle::Unspecified, &[]),
            filter(&[], EntryLifecycle::Approved, &[]),
            filter(&[label.clone(), label.clone()], EntryLifecycle::Approved, &["a", "b"]),
        ] {
            let spellings = [spelt.clone(), Spelling::Many];
            for (caller, way) in [&caller, &many_teams].into_iter().flat_map(|caller| {
                let ways = entry_list::ways(caller, &filter, &spellings[..filter.words.len()]);
                ways.into_iter().map(move |way| (caller, way))
            }) {
                let name = format!("entries by {filter:?}, {way:?}");
                let list = entry_list::list_by(caller, &filter, way, &[]);
                let sorts = 1 + list.arms.iter().filter(|arm| arm.unordered).count();
                add(&name, list, sorts);
            }
        }
        let of = |entry: &str, team: &str, user: &str, state| installations::Filter {
            entry_uid: entry.to_owned(),
            team_uid: team.to_owned(),
            user_uid: user.to_owned(),
            state,
        };
        let any = InstallationState::Unspecified;
        for (name, filter, merged) in [
            ("installations", of("", "", "", any), true),
            ("installations of an entry", of("e", "", "", any), true),
            ("installations of a team", of("", "a", "", any), false),
            ("installations of a user", of("", "", "u", any), false),
            (
                "installations that wait for cleanup",
                of("", "", "", InstallationState::Deleting),
                false,
            ),
            (
                "installations in a state",
                of("", "", "", InstallationState::Failed),
                false,
            ),
            (
                "installations by all",
                of("e", "a", "", InstallationState::Failed),
                false,
            ),
        ] {
            add(
                name,
                installations::list(&caller, &filter).expect("there can be some"),
                usize::from(!admin || merged),
            );
        }
        add("gateways", consumers::list(&caller, ConsumerKind::Gateway), 1);
        add("agents", consumers::list(&caller, ConsumerKind::Agent), 1);
        add("assignments", assignments::list(&caller, "c"), 0);
        add("teams", teams::list(&caller), usize::from(!admin));
        add("gateway tokens", gateway_tokens::list(&caller), usize::from(!admin));
    }
    let mut several = caller(false);
    several.teams = (0..40).map(|index| team(&format!("t{index}"))).collect();
    let installations = |entry_uid: &str| {
        let filter = installations::Filter {
            entry_uid: entry_uid.to_owned(),
            ..installations::Filter::default()
        };
        installations::list(&several, &filter).expect("there can be some")
    };
    for (name, list) in [
        ("installations", installations("")),
        ("installations of an entry", installations("e")),
        ("gateways", consumers::list(&several, ConsumerKind::Gateway)),
        ("gateway tokens", gateway_tokens::list(&several)),
    ] {
        let (sql, binds) = list.statement((1, "x"), 51);
        pages.push((format!("{name} of somebody in many teams"), sql, binds, 2));
    }
    let plain = |name: &str, sql: &str, binds: Vec<Bind>| (name.to_owned(), sql.to_owned(), binds, 0);
    let (time, limit) = (Bind::Int(1), Bind::Int(51));
    let text = || Bind::from("x");
    pages.push(plain("users", users::LIST, vec![time.clone(), text(), limit.clone()]));
    pages.push(plain(
        "users by email",
        users::LIST_BY_EMAIL,
        vec![time.clone(), text(), limit.clone(), text()],
    ));
    pages.push(plain(
        "team members",
        teams::LIST_MEMBERS,
        vec![text(), time.clone(), text(), limit.clone()],
    ));
    pages.push(plain(
        "entry revisions",
        revisions::BEFORE,
        vec![text(), time, limit.clone()],
    ));
    pages.push(plain("tools", features::AFTER, vec![text(), text(), limit]));
    pages
}

async fn plan(tx: &mut Tx, shared: bool, sql: &str, binds: Vec<Bind>) -> sqlx::Result<Vec<String>> {
    if shared {
        // Tables are empty here: without this, to read them whole would be the right thing to do.
        rows!(tx, "SELECT set_config('enable_seqscan', 'off', TRUE)", [], _row => Ok(()))?;
    }
    let explain = if shared { "EXPLAIN" } else { "EXPLAIN QUERY PLAN" };
    let column = if shared { 0 } else { 3 };
    on!(tx, c => {
        bound!(format!("{explain} {sql}"), binds).fetch_all(&mut *c).await?.iter().map(|row| row.try_get::<String, _>(column)).collect()
    })
}

#[tokio::test]
async fn the_engines_take_the_statements_of_a_thousand_teams() {
    let mut caller = caller(false);
    caller.teams = (0..1_000).map(|index| team(&format!("team-{index}"))).collect();
    on_each_engine(async |opened| {
        let mut tx = opened.db.read().await.unwrap();
        let any = installations::Filter::default();
        let of_one = installations::Filter {
            entry_uid: "e".to_owned(),
            state: InstallationState::Failed,
            ..installations::Filter::default()
        };
        let all = entry_list::Filter {
            labels: (0..8).map(|index| (format!("k{index}"), "v".to_owned())).collect(),
            lifecycle: EntryLifecycle::Approved,
            words: (0..8).map(|index| format!("w{index}")).collect(),
        };
        let spellings = vec![Spelling::Few(vec![b"w".to_vec()]); all.words.len()];
        for way in entry_list::ways(&caller, &all, &spellings) {
            let list = entry_list::list_by(&caller, &all, way, &[]);
            assert!(list.page(&mut tx, (0, ""), 51).await.unwrap().is_empty());
        }
        for filter in [entry_list::Filter::default(), all] {
            let list = entry_list::list(&mut tx, &caller, &filter).await.unwrap();
            let list = list.expect("there can be some");
            assert!(list.page(&mut tx, (0, ""), 51).await.unwrap().is_empty());
        }
        for list in [
            installations::list(&caller, &any).expect("there can be some"),
            installations::list(&caller, &of_one).expect("there can be some"),
            consumers::list(&caller, ConsumerKind::Gateway),
            gateway_tokens::list(&caller),
            teams::list(&caller),
        ] {
            assert!(list.page(&mut tx, (0, ""), 51).await.unwrap().is_empty());
        }
    })
    .await;
}

#[tokio::test]
async fn every_page_is_found_by_an_index() {
    on_each_engine(async |opened| {
        let shared = opened.db.is_shared();
        for (name, sql, binds, sorts) in pages() {
            let mut tx = opened.db.read().await.unwrap();
            let plan = plan(&mut tx, shared, &sql, binds).await.unwrap();
            let whole = plan.iter().any(|line| {
                let reads_all = line.contains("Seq Scan on")
                    || line.starts_with("SCAN ")
                        && !line.contains(" USING ")
                        && !line.contains("arm_")
                        && !line.contains("found");
                // Of the values of a constant list.
                reads_all && !line.contains("CONSTANT ROW")
            });
            assert!(!whole, "{name} reads a whole table:\n{sql}\n{plan:#?}");
            let sorting = |line: &&String| line.contains("USE TEMP B-TREE FOR ORDER BY");
            assert!(
                plan.iter().filter(sorting).count() <= sorts,
                "{name} sorts all it finds:\n{sql}\n{plan:#?}"
            );
            // An index that only says in which order a table is read whole is none: a page must be sought in it.
            assert!(
                shared || plan.iter().any(|line| line.starts_with("SEARCH ")),
                "{name} seeks nothing:\n{sql}\n{plan:#?}"
            );
        }
    })
    .await;
}
