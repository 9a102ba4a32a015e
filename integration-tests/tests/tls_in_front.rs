//! HTTP over TLS, with a certificate that changes while the program runs.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use http::{StatusCode, Version};
use integration_tests::{
    Stack, eventually,
    script::{Outcome, run},
    stack::StackBuilder,
    tls::{Certificates, install_crypto},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
};

fn over_tls(folder: &Path) -> StackBuilder {
    let path = |name| folder.join(name).to_string_lossy().into_owned();
    Stack::builder()
        .flag("--tls-cert", path("cert.pem"))
        .flag("--tls-key", path("key.pem"))
}

fn folder(certificates: &Certificates) -> PathBuf {
    let certificate = PathBuf::from(certificates.path("cert.pem"));
    certificate.parent().expect("it is in a folder").to_owned()
}

/// A URL with the name for which the certificate is.
fn url(stack: &Stack, path: &str) -> String {
    let (_, port) = stack.http().rsplit_once(':').expect("it has a port");
    format!("https://localhost:{port}{path}")
}

/// Asks whether the program lives, and trusts this authority alone.
async fn curl(stack: &Stack, authority: &Certificates, options: &[&str]) -> Outcome {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--noproxy", "*", "--output", "/dev/null"])
        .args(["--write-out", "%{http_code} %{http_version}", "--cacert"])
        .arg(authority.path("authority.pem"))
        .args(options)
        .arg(url(stack, "/livez"));
    run(command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_speak_http_over_tls() {
    install_crypto();
    let certificates = Certificates::new();
    let stack = over_tls(&folder(&certificates)).start().await;
    for (options, expected) in [
        (&["--http1.1"][..], "200 1.1"),
        (&["--http2"], "200 2"),
        (&["--http1.1", "--tls-max", "1.2"], "200 1.1"),
        (&["--http2", "--tlsv1.3"], "200 2"),
    ] {
        let answer = curl(&stack, &certificates, options).await;
        assert_eq!(answer.stdout, expected, "{options:?}: {answer:?}");
    }
    let other = curl(&stack, &Certificates::new(), &[]).await;
    assert!(!other.success, "another authority: {other:?}");

    // A token of the development issuer is verified, which the services reach without the certificate.
    let authority = reqwest::Certificate::from_pem(certificates.authority.as_bytes()).expect("it is PEM");
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([authority]);
    let client = client.build().expect("a client");
    let initialize = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
    });
    let request = client
        .post(url(&stack, "/mcp/default"))
        .bearer_auth(stack.token("alice@example.com", &[], false))
        .header("accept", "application/json, text/event-stream")
        .json(&initialize);
    let answer = request.send().await.expect("it answers");
    assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
    assert!(answer.headers().contains_key("strict-transport-security"));

    let mut plain = TcpStream::connect(stack.http()).await.expect("it listens");
    plain
        .write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .expect("it reads");
    let mut answer = Vec::new();
    let _end = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_used() {
    install_crypto();
    let (first, second) = (Certificates::new(), Certificates::new());
    let at = tempfile::tempdir().expect("there is a place for temporary files");
    let current = at.path().join("current");
    // The folder is replaced at once, as that of a secret in Kubernetes.
    let replace = |with: &Path| {
        let new = at.path().join("new");
        symlink(with, &new)
            .and_then(|()| fs::rename(&new, &current))
            .expect("the folder is ours");
    };
    replace(&folder(&first));
    let stack = over_tls(&current).start().await;
    assert!(curl(&stack, &first, &[]).await.success);

    let broken = Certificates::new();
    fs::copy(second.path("key.pem"), broken.path("key.pem")).expect("the folder is ours");
    replace(&folder(&broken));
    eventually("it says what is wrong", || async {
        stack
            .lines()
            .contain("the certificate in use stays: --tls-cert")
            .then_some(())
    })
    .await;
    assert!(curl(&stack, &first, &[]).await.success);

    replace(&folder(&second));
    eventually("the new certificate is used", || async {
        curl(&stack, &second, &[]).await.success.then_some(())
    })
    .await;
    assert!(!curl(&stack, &first, &[]).await.success);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_stall_in_the_handshake_are_closed() {
    install_crypto();
    let certificates = Certificates::new();
    let stack = over_tls(&folder(&certificates))
        .flag("--client-timeout", "2")
        .flag("--max-connections", "16")
        .start()
        .await;
    let mut stalling = Vec::new();
    for sent in [&b""[..], b"\x16\x03\x01\x02\0\x01"].repeat(8) {
        let mut client = TcpStream::connect(stack.http()).await.expect("it listens");
        client.write_all(sent).await.expect("it reads");
        stalling.push(client);
    }
    // Any of them gives its place to a client that asks something.
    eventually("others are served", || async {
        curl(&stack, &certificates, &[]).await.success.then_some(())
    })
    .await;
    for mut client in stalling {
        let _end = client.read_to_end(&mut Vec::new()).await;
    }
}

#[tokio::test]
async fn the_public_url_must_be_https() {
    install_crypto();
    let certificates = Certificates::new();
    let start = over_tls(&folder(&certificates)).flag("--public-url", "http://tools.example.com");
    let said = start.start_refused().await;
    assert!(
        said.contains("--tls-cert") && said.contains("give the https URL"),
        "{said}"
    );
}
