//! A browser without JavaScript, of one person: it keeps cookies, and follows what a page leads to when a test says so.

use std::collections::BTreeMap;

use reqwest::{Method, Url};

use crate::{Stack, tls::install_crypto};

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 12;

/// The browser.
#[derive(Debug)]
pub struct Browser {
    http: reqwest::Client,
    /// By name; all servers of a test have the same host.
    cookies: BTreeMap<String, String>,
}

/// A page.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where it is, after redirects.
    pub url: Url,
    /// The HTTP status.
    pub status: u16,
    /// Where it sends the browser by itself, if it does.
    pub refresh: Option<String>,
    /// HTML.
    pub html: String,
}

impl Page {
    /// What a person reads, in one line.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for part in self.html.split('<') {
            text.push(' ');
            text.push_str(part.split_once('>').map_or(part, |(_, shown)| shown));
        }
        let text = text.replace("&quot;", "\"").replace("&#39;", "'").replace("&amp;", "&");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The hidden fields of the form that is sent to this path.
    ///
    /// # Panics
    /// If there is no such form.
    pub fn form(&self, action: &str) -> Vec<(String, String)> {
        let start = self.html.find(&format!("action=\"{action}"));
        let start = start.unwrap_or_else(|| panic!("no form for {action} at {}: {}", self.url, self.text()));
        let form = self.html[start..].split("</form>").next().unwrap_or_default();
        form.split("<input type=\"hidden\"")
            .skip(1)
            .map(|field| (attribute(field, "name"), attribute(field, "value")))
            .collect()
    }
}

fn attribute(tag: &str, name: &str) -> String {
    let after = tag.split(&format!("{name}=\"")).nth(1).unwrap_or_default();
    let value = after.split('"').next().unwrap_or_default();
    value.replace("&quot;", "\"").replace("&amp;", "&")
}

impl Browser {
    /// A browser whose person has signed in to the pages of this stack, at the development issuer.
    ///
    /// # Panics
    /// If that fails.
    pub async fn signed_in(stack: &Stack, name: &str) -> Self {
        install_crypto();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client without TLS settings");
        let mut browser = Self {
            http,
            cookies: BTreeMap::new(),
        };
        let question = browser.get(&stack.url("/signin?return=%2F&here=1")).await;
        let mut form = question.form("/dev/authorize");
        form.push(("email".to_owned(), format!("{name}@example.com")));
        form.push(("code".to_owned(), stack.sign_in_code()));
        let page = browser.post(&stack.url("/dev/authorize"), &form).await;
        assert!(page.text().contains("You are signed in"), "{}", page.text());
        browser
    }

    /// Opens a URL, and follows redirects.
    pub async fn get(&mut self, url: &str) -> Page {
        self.open(Method::GET, url, None).await
    }

    /// Submits a form.
    pub async fn post(&mut self, url: &str, form: &[(String, String)]) -> Page {
        self.open(Method::POST, url, Some(form)).await
    }

    async fn open(&mut self, method: Method, url: &str, mut form: Option<&[(String, String)]>) -> Page {
        let (mut method, mut url) = (method, Url::parse(url).expect("a URL"));
        for _ in 0..MAX_REDIRECTS {
            let jar: Vec<_> = self
                .cookies
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let mut request = self.http.request(method, url.clone()).header("cookie", jar.join("; "));
            if let Some(form) = form.take() {
                request = request.header("origin", url.origin().ascii_serialization()).form(form);
            }
            let answer = request.send().await.unwrap_or_else(|error| panic!("{url}: {error}"));
            for cookie in answer.headers().get_all("set-cookie") {
                let cookie = cookie.to_str().expect("ASCII");
                let pair = cookie.split(';').next().unwrap_or_default();
                let (name, value) = pair.split_once('=').expect("a cookie has a name");
                match cookie.to_ascii_lowercase().contains("max-age=0") {
                    true => self.cookies.remove(name),
                    false => self.cookies.insert(name.to_owned(), value.to_owned()),
                };
            }
            let header = |name: &str| {
                let value = answer.headers().get(name)?;
                Some(value.to_str().expect("ASCII").to_owned())
            };
            if let Some(to) = header("location") {
                (method, url) = (Method::GET, url.join(&to).expect("a URL"));
                continue;
            }
            let refresh = header("refresh").and_then(|value| Some(value.split_once("url=")?.1.to_owned()));
            let status = answer.status().as_u16();
            let html = answer.text().await.expect("it is finished");
            return Page {
                url,
                status,
                refresh,
                html,
            };
        }
        panic!("no page at the end of the redirects: {url}")
    }
}
