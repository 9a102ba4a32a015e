//! Lists of tools.

use pretty_assertions::assert_eq;

use super::{
    modern::{LEGACY, MODERN, changing, modern, replied},
    *,
};

#[tokio::test]
async fn a_list_of_more_tools_than_there_can_be_is_refused() {
    for (list, why) in [
        (format!("[{}0]", "0,".repeat(100_000)), "more than 4096 elements"),
        (
            format!(r#"[],"nextCursor":"{}""#, "c".repeat(5_000)),
            "cursor of its list of tools is too long",
        ),
    ] {
        let (url, _seen) = server(move |message, _| {
            json_text(format!(
                r#"{{"jsonrpc":"2.0","id":{},"result":{{"tools":{list}}}}}"#,
                message["id"]
            ))
        })
        .await;
        let error = upstreams(short()).list_tools(&target(&url)).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

/// All pages are read.
#[tokio::test]
async fn lists_tools_over_all_pages() {
    let (url, _seen) = server(|message, _| {
        let result = match message["params"]["cursor"].as_str() {
            None => r#"{"tools":[{"name":"a","inputSchema":{"x":1.0}}],"nextCursor":"2"}"#,
            _ => r#"{"tools":[{"name":"b", "y":9007199254740993}]}"#,
        };
        json_text(format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#,
            message["id"]
        ))
    })
    .await;
    let tools = upstreams(short()).list_tools(&target(&url)).await.unwrap().tools;
    assert_eq!(tools[0].definition, r#"{"name":"a","inputSchema":{"x":1.0}}"#);
    assert_eq!(
        tools[1],
        ListedTool {
            name: "b".into(),
            definition: r#"{"name":"b", "y":9007199254740993}"#.into()
        }
    );
    let (url, _seen) = server(|message, _| {
        json_text(format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"tools":[],"nextCursor":"x"}}}}"#,
            message["id"]
        ))
    })
    .await;
    assert!(
        upstreams(short())
            .list_tools(&target(&url))
            .await
            .unwrap_err()
            .to_string()
            .contains("repeats a page")
    );
}

/// One client would not read the list of a whole gateway, another would see other names in it.
#[tokio::test]
async fn tools_that_clients_would_read_differently_are_left_out() {
    let (url, _seen) = server(|message, _| {
        json_text(format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"tools":[
                {{"name":"half","description":"\ud800"}},
                {{"name":"large","inputSchema":{{"maximum":1e999}}}},
                {{"name":"innocent","NAME":"other__tool"}},
                {{"name":"twice","description":"a","description":"b"}},
                {{"name":"heir","__proto__":{{}}}},
                {{"name":"good","inputSchema":{{"maximum":18446744073709551615}}}}]}}}}"#,
            message["id"]
        ))
    })
    .await;
    let list = upstreams(short()).list_tools(&target(&url)).await.unwrap();
    let names: Vec<&str> = list.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["good"]);
    let left_out = list.left_out.to_string();
    assert!(left_out.starts_with("5 tools are left out"), "{left_out}");
    assert!(left_out.contains(r#""innocent": its member "NAME""#), "{left_out}");
}

#[tokio::test]
async fn discovery_lists_the_tools_of_a_modern_server() {
    let list = |message: &Value| {
        let (tool, next) = match message["params"]["cursor"].as_str() {
            None => ("a", json!("more")),
            Some(_) => ("b", Value::Null),
        };
        let mut result = json!({"resultType": "complete", "ttlMs": 0, "cacheScope": "private", "tools": [{"name": tool, "inputSchema": {"type": "object"}}]});
        if !next.is_null() {
            result["nextCursor"] = next;
        }
        replied(message, result)
    };
    let (url, _seen) = modern(list).await;
    let tools = upstreams(patient()).list_tools(&target(&url)).await.unwrap().tools;
    let names: Vec<_> = tools.iter().map(|tool| &*tool.name).collect();
    assert_eq!(names, ["a", "b"]);
}

/// Such a client must not offer them to anybody.
#[tokio::test]
async fn tools_with_invalid_headers_are_left_out_of_the_list_of_a_modern_server() {
    let list = |message: &Value| {
        let tool = |name: &str, kind: &str| {
            let region = json!({"type": kind, "x-mcp-header": "Region"});
            json!({"name": name, "inputSchema": {"type": "object", "properties": {"region": region}}})
        };
        let tools = json!([tool("good", "string"), tool("bad", "number")]);
        replied(
            message,
            json!({"resultType": "complete", "ttlMs": 0, "cacheScope": "private", "tools": tools}),
        )
    };
    for (era, expected) in [(MODERN, &["good"][..]), (LEGACY, &["good", "bad"])] {
        let (url, _seen) = changing(Arc::new(AtomicUsize::new(era)), list).await;
        let list = upstreams(patient()).list_tools(&target(&url)).await.unwrap();
        let names: Vec<_> = list.tools.iter().map(|tool| &*tool.name).collect();
        assert_eq!(names, expected);
        let left_out = list.left_out.to_string();
        assert_eq!(
            left_out.contains(r#""bad": x-mcp-header of "region""#),
            era == MODERN,
            "{left_out}"
        );
    }
}
