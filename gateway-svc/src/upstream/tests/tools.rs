//! Lists of tools.

use pretty_assertions::assert_eq;

use super::*;

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
    let tools = upstreams(short()).list_tools(&target(&url)).await.unwrap();
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
    let tools = upstreams(short()).list_tools(&target(&url)).await.unwrap();
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["good"]);
}
