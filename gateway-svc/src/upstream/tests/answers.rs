//! Answers of upstreams, valid and not.

use pretty_assertions::assert_eq;

use super::*;

#[tokio::test]
async fn hostile_answers_are_typed_errors() {
    let hostile: Vec<(&str, Handler)> = vec![
        (
            "HTTP 500",
            Arc::new(|_, _| (http::StatusCode::INTERNAL_SERVER_ERROR, "oops").into_response()),
        ),
        (
            "text/html",
            Arc::new(|_, _| axum::response::Html("<html>").into_response()),
        ),
        (
            "another id",
            Arc::new(|_, _| json_text(r#"{"jsonrpc":"2.0","id":0,"result":{}}"#)),
        ),
        ("not JSON", Arc::new(|_, _| json_text("<html>"))),
        (
            "nested",
            Arc::new(|message, _| {
                json_text(format!(
                    r#"{{"jsonrpc":"2.0","id":{},"result":{{"a":{}"#,
                    message["id"],
                    "[".repeat(100_000)
                ))
            }),
        ),
        (
            "redirect",
            Arc::new(|_, _| axum::response::Redirect::temporary("http://127.0.0.1:1/").into_response()),
        ),
        ("HTTP 202", Arc::new(|_, _| http::StatusCode::ACCEPTED.into_response())),
        ("no content type", Arc::new(|_, _| Body::from("{}").into_response())),
        (
            "stream ended",
            Arc::new(|_, _| {
                events(vec![
                    "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n".into(),
                ])
            }),
        ),
        (
            "another id",
            Arc::new(|_, _| events(vec!["data: {\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{}}\n\n".into()])),
        ),
        (
            "its content type is not valid",
            Arc::new(|_, _| ([("content-type", "text/<script>")], "").into_response()),
        ),
        ("larger than", Arc::new(|_, _| json_text(vec![b' '; 2 << 20]))),
        (
            "the connection broke",
            Arc::new(|_, _| {
                let pieces: Vec<Result<Bytes, std::io::Error>> = vec![
                    Ok(Bytes::from_static(b"{\"jsonrpc\"")),
                    Err(std::io::Error::other("gone")),
                ];
                (
                    [("content-type", "application/json")],
                    Body::from_stream(stream::iter(pieces)),
                )
                    .into_response()
            }),
        ),
    ];
    for (expected, handler) in hostile {
        let (url, _seen) = server(move |message, headers| handler(message, headers)).await;
        let why = invalid(call(&upstreams(patient()), &target(&url)).await);
        assert!(why.contains(expected), "{why} should say {expected}");
    }
}

#[tokio::test]
async fn errors_of_the_upstream_arrive_as_they_are() {
    for status in [200, 400] {
        let (url, _seen) = server(move |message, _| {
            let mut response = json_text(format!(
                r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32602,"message":"no","data":{{"x":1}}}}}}"#,
                message["id"]
            ));
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
            response
        })
        .await;
        let reply = call(&upstreams(short()), &target(&url)).await.unwrap();
        assert_eq!(
            reply.error().unwrap(),
            r#"{"code":-32602,"message":"no","data":{"x":1}}"#
        );
    }
}

#[tokio::test]
async fn a_stream_stays_a_stream_and_its_requests_are_answered() {
    let (url, mut seen) = server(|message, _| {
        // The id is its progress token, too.
        let id = &message["id"];
        events(vec![
            "id: 1\ndata:\n\n".to_owned(),
            format!("data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{{\"progressToken\":{id},\"progress\":1}}}}\n\n"),
            "data: {\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"ping\"}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"roots/list\"}\n\n".to_owned(),
            "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n".to_owned(),
            format!("event: message\ndata: {{\"jsonrpc\":\"2.0\",\"id\":{id},\ndata: \"result\":{{}}}}\n\n"),
        ])
    })
    .await;
    let (upstreams, target) = (upstreams(short()), target(&url));
    let token = Some(Bytes::from_static(b"\"p\""));
    let request = upstreams.request_for("tools/call", token, br#"{"name":"t"}"#, &[]);
    let Answer::Stream(mut answers) = upstreams.call(&target, request, Cancel::default()).await.unwrap() else {
        panic!()
    };
    let Event::Notification(progress) = answers.next().await.unwrap() else {
        panic!()
    };
    assert_eq!(
        progress,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":1}}"#
    );
    assert!(matches!(answers.next().await.unwrap(), Event::ListChanged(List::Tools)));
    assert!(matches!(answers.next().await.unwrap(), Event::Reply(_)));
    let mut answered = Vec::new();
    while answered.len() < 2 {
        let (message, _) = seen.recv().await.unwrap();
        if message.get("method").is_none() {
            answered.push(message);
        }
    }
    answered.sort_by_key(|message| message["id"].is_number());
    assert_eq!(answered[0], json!({"jsonrpc": "2.0", "id": "a", "result": {}}));
    assert_eq!(answered[1]["error"]["code"], -32601);
}

/// However it is split, and whatever precedes it.
#[tokio::test]
async fn bare_json_sent_as_a_stream_is_accepted() {
    for begins in ["\n", "\n|", "\u{feff}|", "\u{feff}| |\r\n", "|"] {
        let (url, _seen) = server(move |message, _| {
            let text = format!(
                "{begins}{{\"jsonrpc\":\"2.0\",\"id\":{},|\"result\":{{}}}}",
                message["id"]
            );
            // Each is a chunk, and read by itself.
            events(text.split('|').map(str::to_owned).collect())
        })
        .await;
        let reply = call(&upstreams(patient()), &target(&url)).await.expect(begins);
        assert_eq!(reply.result().unwrap(), "{}");
    }
}

#[tokio::test]
async fn events_without_data_are_skipped() {
    let (url, _seen) = server(|message, _| {
        let id = &message["id"];
        events(vec![format!(
            "data:\ndata:\n\ndata: \n\ndata:  \n\ndata: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}\n\n"
        )])
    })
    .await;
    call(&upstreams(patient()), &target(&url)).await.unwrap();
}
