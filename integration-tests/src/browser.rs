//! A browser that follows redirects and keeps cookies, for pages where nobody has to type anything.

use reqwest::Url;

use crate::tls::install_crypto;

/// Opens an authorization URL, and follows its redirects up to the one to `redirect_uri`, which is returned.
///
/// # Panics
/// If it ends elsewhere.
pub async fn sign_in(authorization_url: &str, redirect_uri: &str) -> String {
    install_crypto();
    let browser = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client without TLS settings");
    let mut cookies: Vec<(String, String)> = Vec::new();
    let mut url = Url::parse(authorization_url).expect("a URL");
    for _ in 0..10 {
        let jar: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let answer = browser.get(url.clone()).header("cookie", jar.join("; ")).send().await;
        let answer = answer.expect("it answers");
        for cookie in answer.headers().get_all("set-cookie") {
            let cookie = cookie.to_str().expect("ASCII").split(';').next().unwrap_or_default();
            if let Some((name, value)) = cookie.split_once('=') {
                cookies.retain(|(known, _)| known != name);
                cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        let to = answer
            .headers()
            .get("location")
            .and_then(|to| to.to_str().ok())
            .map(str::to_owned);
        let Some(to) = to else {
            panic!("{url} does not redirect: {}", answer.text().await.unwrap_or_default());
        };
        url = url.join(&to).expect("a URL");
        if url.as_str().starts_with(redirect_uri) {
            return url.into();
        }
    }
    panic!("no redirect to {redirect_uri}: {url}")
}
