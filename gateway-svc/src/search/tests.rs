//! What queries find, and in which order.

use pretty_assertions::assert_eq;

use super::*;

/// The exposed names that a query finds.
fn found<'a>(tools: &[Searched<'a>], query: &str) -> Vec<&'a str> {
    let index = Index::of(tools.iter().cloned());
    let places = index.search(query);
    places
        .into_iter()
        .map(|place| tools[place as usize].exposed_name)
        .collect()
}

fn tool<'a>(exposed_name: &'a str, definition: &'a str) -> Searched<'a> {
    let (entry, tool) = exposed_name.split_once("__").unwrap();
    Searched {
        exposed_name,
        tool,
        entry,
        definition: definition.into(),
    }
}

#[test]
fn a_name_counts_more_than_a_title_and_that_more_than_a_description_and_a_schema() {
    let tools = [
        tool(
            "a__one",
            r#"{"description":"","inputSchema":{"properties":{"weather":{}}}}"#,
        ),
        tool("b__two", r#"{"description":"Weather"}"#),
        tool("c__three", r#"{"title":"Weather"}"#),
        tool("d__weather", "{}"),
        tool("e__other", "{}"),
    ];
    assert_eq!(found(&tools, "weather"), ["d__weather", "c__three", "b__two", "a__one"]);
}

#[test]
fn finds_by_everything_that_describes_a_tool() {
    let definition = r#"{"annotations":{"title":"Annotated"},"inputSchema":{"type":"object","properties":{"repositoryName":{"description":"Whose code","enum":["public"]},
        "filter":{"anyOf":[{"properties":{"assignee":{"title":"Person"}}}]}},"$defs":{"x":{"description":"Defined"}}}}"#;
    let tools = [tool("github__list", definition), tool("mail__send", "{}")];
    for query in [
        "github",
        "annotated",
        "repository",
        "code",
        "public",
        "ASSIGNEE",
        "person",
        "defined",
        "Lists",
    ] {
        assert_eq!(found(&tools, query), ["github__list"], "{query}");
    }
    for query in ["object", "type", "properties", "", "!?", "nothing"] {
        assert_eq!(found(&tools, query), Vec::<&str>::new(), "{query}");
    }
    let chosen = [Searched {
        exposed_name: "postman",
        ..tools[1].clone()
    }];
    assert_eq!(found(&chosen, "postman"), ["postman"]);
    assert_eq!(found(&chosen, "send"), ["postman"]);
}

#[test]
fn who_has_more_of_the_words_comes_first() {
    let tools = [
        tool("github__create_branch", "{}"),
        tool("github__create_issue", "{}"),
        tool("github__list_issues", "{}"),
        tool("jira__create_issue", "{}"),
    ];
    assert_eq!(
        found(&tools, "create a GitHub issue"),
        [
            "github__create_issue",
            "jira__create_issue",
            "github__create_branch",
            "github__list_issues"
        ]
    );
    assert_eq!(found(&tools, "jira create_issue")[0], "jira__create_issue");
}

#[test]
fn the_last_word_may_be_a_beginning() {
    let tools = [
        tool("a__calendar", "{}"),
        tool("b__cal", "{}"),
        tool("c__send", r#"{"description":"calendar"}"#),
    ];
    assert_eq!(found(&tools, "cal"), ["b__cal", "a__calendar", "c__send"]);
    assert_eq!(found(&tools, "calen")[0], "a__calendar");
    assert_eq!(found(&tools, "ca"), Vec::<&str>::new(), "two letters begin too much");
    assert_eq!(found(&tools, "calen send"), ["c__send"], "only the last");
}

/// Whatever the order in which a map has them.
#[test]
fn equals_are_in_the_order_of_the_list() {
    let names: Vec<String> = (0..300).map(|n| format!("e{n:03}__same_name")).collect();
    let tools: Vec<_> = names.iter().map(|name| tool(name, "{}")).collect();
    for _ in 0..5 {
        assert_eq!(found(&tools, "same name"), names);
    }
}

#[test]
fn words_of_most_tools_find_nothing_by_themselves() {
    let names: Vec<String> = (0..400).map(|n| format!("e__tool_{n}")).collect();
    let mut tools: Vec<_> = names
        .iter()
        .map(|name| tool(name, r#"{"description":"Gets the thing"}"#))
        .collect();
    tools.push(tool("f__pay", r#"{"description":"Pays the invoice"}"#));
    assert_eq!(found(&tools, "pay the invoice"), ["f__pay"]);
    assert_eq!(found(&tools, "the").len(), 401, "unless there are no others");
}

#[test]
fn odd_definitions_are_found_by_their_names() {
    let deep = format!("{}1{}", r#"{"inputSchema":{"a":"#.repeat(30), "}}".repeat(30));
    for definition in ["[]", "", "{\"title\":5}", &deep] {
        let tools = [tool("a__odd", definition)];
        assert_eq!(found(&tools, "odd"), ["a__odd"], "{definition}");
    }
    assert_eq!(Index::of([]).search("x"), Vec::<u32>::new());
}
