//! A minimal MCP client over streamable HTTP, which gives tests the gateway's responses unchanged.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::tls::install_crypto;

/// What the client declares.
#[derive(Clone, Debug)]
pub struct McpOptions {
    /// The revision it requests.
    pub revision: String,
    /// Its capabilities.
    pub capabilities: Value,
    /// Additional headers of each request.
    pub headers: Vec<(String, String)>,
}

impl Default for McpOptions {
    fn default() -> Self {
        Self {
            revision: "2025-11-25".to_owned(),
            capabilities: json!({}),
            headers: Vec::new(),
        }
    }
}

impl McpOptions {
    /// A client that can open URLs (revision 2025-11-25, elicitation by URL).
    pub fn with_url_elicitation() -> Self {
        Self {
            capabilities: json!({"elicitation": {"url": {}}}),
            ..Self::default()
        }
    }

    /// Adds a header to each request.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// The response of an endpoint to one message.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: StatusCode,
    /// The HTTP headers.
    pub headers: HeaderMap,
    /// The body, unchanged.
    pub text: String,
    /// The JSON-RPC messages in the body: one in a JSON body, or all of an event stream.
    pub messages: Vec<Value>,
}

impl Reply {
    /// The response with this id, or with no id; null if there is none.
    pub fn answer(&self, id: u64) -> Value {
        let answers = |message: &&Value| message.get("result").is_some() || message.get("error").is_some();
        self.messages
            .iter()
            .filter(answers)
            .find(|message| message["id"] == json!(id) || message["id"].is_null())
            .cloned()
            .unwrap_or_default()
    }
}

/// The response of an endpoint that began no session.
#[derive(Clone, Debug)]
pub struct Refused(pub Reply);

/// An initialized client.
#[derive(Debug)]
pub struct McpClient {
    http: reqwest::Client,
    url: String,
    headers: HeaderMap,
    next_id: AtomicU64,
    /// The server's response to `initialize`.
    pub initialized: Value,
}

impl McpClient {
    /// Initializes a session at `url`.
    ///
    /// # Errors
    /// The response of the endpoint, if it began no session.
    pub async fn connect(url: &str, token: Option<&str>, options: McpOptions) -> Result<Self, Refused> {
        let mut client = Self::bare(url, token, &options);
        let parameters = json!({
            "protocolVersion": options.revision,
            "capabilities": options.capabilities,
            "clientInfo": {"name": "journey", "version": "1"},
        });
        let (id, reply) = client.send("initialize", parameters).await;
        let answer = reply.answer(id);
        if !reply.status.is_success() || answer.get("result").is_none() {
            return Err(Refused(reply));
        }
        client.initialized = answer["result"].clone();
        if let Some(session) = reply.headers.get("mcp-session-id") {
            client.headers.insert("mcp-session-id", session.clone());
        }
        if let Some(version) = client.initialized["protocolVersion"].as_str() {
            client
                .headers
                .insert("mcp-protocol-version", version.parse().expect("a revision is ASCII"));
        }
        let reply = client
            .post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            .await;
        if reply.status != StatusCode::ACCEPTED {
            return Err(Refused(reply));
        }
        Ok(client)
    }

    /// A client that has not initialized a session.
    ///
    /// # Panics
    /// If a header is invalid.
    pub fn bare(url: &str, token: Option<&str>, options: &McpOptions) -> Self {
        install_crypto();
        let mut headers = HeaderMap::new();
        headers.insert(
            "accept",
            HeaderValue::from_static("application/json, text/event-stream"),
        );
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        if let Some(token) = token {
            headers.insert(
                "authorization",
                format!("Bearer {token}").parse().expect("a token is ASCII"),
            );
        }
        for (name, value) in &options.headers {
            headers.append(
                name.parse::<HeaderName>().expect("the test names a header"),
                value.parse().expect("the header value is valid"),
            );
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(std::time::Duration::from_secs(90))
            .build()
            .expect("a client without TLS settings");
        Self {
            http,
            url: url.to_owned(),
            headers,
            next_id: AtomicU64::new(1),
            initialized: Value::Null,
        }
    }

    /// The session id.
    pub fn session(&self) -> Option<&str> {
        self.headers.get("mcp-session-id")?.to_str().ok()
    }

    /// Sets a header of all further requests, such as another session id or token.
    ///
    /// # Panics
    /// If the header is invalid.
    pub fn set_header(&mut self, name: &str, value: &str) {
        let name = name.parse::<HeaderName>().expect("the test names a header");
        self.headers
            .insert(name, value.parse().expect("the header value is valid"));
    }

    /// Sends a request with a new id.
    pub async fn send(&self, method: &str, params: Value) -> (u64, Reply) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let reply = self
            .post(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await;
        (id, reply)
    }

    /// Posts a JSON value.
    pub async fn post(&self, message: &Value) -> Reply {
        self.post_text(message.to_string()).await
    }

    /// Posts a text.
    ///
    /// # Panics
    /// If there is no HTTP response.
    pub async fn post_text(&self, body: String) -> Reply {
        let answer = self
            .http
            .post(&self.url)
            .headers(self.headers.clone())
            .body(body)
            .send()
            .await;
        let answer = answer.unwrap_or_else(|error| panic!("no HTTP answer from {}: {error:?}", self.url));
        let (status, headers) = (answer.status(), answer.headers().clone());
        let text = answer
            .text()
            .await
            .unwrap_or_else(|error| panic!("the answer breaks off: {error:?}"));
        let stream = headers
            .get("content-type")
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let messages = if stream {
            events(&text)
                .filter_map(|data| serde_json::from_str(&data).ok())
                .collect()
        } else {
            serde_json::from_str(&text).into_iter().collect()
        };
        Reply {
            status,
            headers,
            text,
            messages,
        }
    }

    /// Sends a request, and returns its JSON-RPC response with `result` or `error`.
    pub async fn request(&self, method: &str, params: Value) -> Value {
        let (id, reply) = self.send(method, params).await;
        let answer = reply.answer(id);
        assert!(
            !answer.is_null(),
            "no answer to {method}: {} {}",
            reply.status,
            reply.text
        );
        answer
    }

    /// Calls a tool, and returns the whole response.
    pub async fn call(&self, tool: &str, arguments: Value) -> Value {
        self.request("tools/call", json!({"name": tool, "arguments": arguments}))
            .await
    }

    /// Calls a tool, and returns the text of its first content block.
    ///
    /// # Panics
    /// If the call fails.
    pub async fn call_text(&self, tool: &str, arguments: Value) -> String {
        let answer = self.call(tool, arguments).await;
        assert_ne!(answer["result"]["isError"], json!(true), "{tool}: {answer}");
        let text = answer["result"]["content"][0]["text"].as_str();
        text.unwrap_or_else(|| panic!("{tool} returned no text: {answer}"))
            .to_owned()
    }

    /// Lists all tools, page by page.
    ///
    /// # Panics
    /// If the endpoint returns an error.
    pub async fn list_tools(&self) -> Vec<Value> {
        let mut tools = Vec::new();
        let mut params = json!({});
        loop {
            let answer = self.request("tools/list", params).await;
            let page = answer["result"]["tools"]
                .as_array()
                .unwrap_or_else(|| panic!("no tools: {answer}"));
            tools.extend(page.iter().cloned());
            match answer["result"].get("nextCursor").filter(|cursor| !cursor.is_null()) {
                Some(cursor) => params = json!({"cursor": cursor}),
                None => return tools,
            }
        }
    }

    /// The names of all tools, sorted.
    pub async fn tool_names(&self) -> Vec<String> {
        let tools = self.list_tools().await;
        let mut names: Vec<String> = tools
            .iter()
            .map(|tool| tool["name"].as_str().unwrap_or_default().to_owned())
            .collect();
        names.sort();
        names
    }

    /// Opens the stream for messages from the server.
    ///
    /// # Panics
    /// If there is no HTTP response.
    pub async fn open_stream(&self) -> reqwest::Response {
        self.try_open_stream().await.expect("an HTTP answer")
    }

    /// Opens the stream for messages from the server. Returns `None` if the connection ends without a response, or if
    /// there is none in time: the HTTP client hangs if its connection was closed while a request waited for one.
    pub async fn try_open_stream(&self) -> Option<reqwest::Response> {
        let mut headers = self.headers.clone();
        headers.insert("accept", HeaderValue::from_static("text/event-stream"));
        headers.remove("content-type");
        let request = self
            .http
            .get(&self.url)
            .headers(headers)
            .timeout(std::time::Duration::from_secs(600));
        let answer = tokio::time::timeout(std::time::Duration::from_secs(20), request.send());
        answer.await.ok()?.ok()
    }

    /// Ends the session.
    ///
    /// # Panics
    /// If there is no HTTP response.
    pub async fn delete(&self) -> StatusCode {
        let request = self.http.delete(&self.url).headers(self.headers.clone());
        request.send().await.expect("an HTTP answer").status()
    }
}

/// The data of each event in an event stream.
fn events(text: &str) -> impl Iterator<Item = String> {
    let text = text.replace("\r\n", "\n");
    let events: Vec<String> = text
        .split("\n\n")
        .map(|event| {
            let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
            lines
                .map(|line| line.strip_prefix(' ').unwrap_or(line))
                .collect::<Vec<_>>()
                .join("\n")
        })
        .filter(|data| !data.is_empty())
        .collect();
    events.into_iter()
}
