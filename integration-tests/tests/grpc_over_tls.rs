//! Calls over gRPC from another machine require TLS.

use std::time::Duration;

use contracts::registry::{GetUserRequest, user_service_client::UserServiceClient};
use integration_tests::{
    Stack, eventually_within,
    process::Program,
    stack::binary,
    tls::{Certificates, install_crypto},
};
use tokio::process::Command;
use tonic::{
    Code, Request,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

async fn whoami(channel: Channel, token: &str) -> Result<String, tonic::Status> {
    let mut request = Request::new(GetUserRequest {
        name: "users/me".to_owned(),
    });
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    let user = UserServiceClient::new(channel).get_user(request).await?;
    Ok(user.into_inner().email)
}

#[tokio::test]
async fn a_certificate_protects_the_calls() {
    install_crypto();
    let certificates = Certificates::new();
    let stack = Stack::builder()
        .flag("--grpc-tls-cert", certificates.path("cert.pem"))
        .flag("--grpc-tls-key", certificates.path("key.pem"))
        .start()
        .await;
    let token = stack.token("alice@example.com", &[], false);
    let endpoint = |scheme: &str| Endpoint::from_shared(format!("{scheme}://{}", stack.grpc())).unwrap();
    let with = |authority: String| {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(authority))
            .domain_name("localhost")
    };

    let trusted = endpoint("https")
        .tls_config(with(certificates.authority.clone()))
        .unwrap();
    let email = whoami(trusted.connect_lazy(), &token).await.unwrap();
    assert_eq!(email, "alice@example.com");

    let refused = whoami(endpoint("http").connect_lazy(), &token).await.unwrap_err();
    assert_ne!(
        refused.code(),
        Code::Unauthenticated,
        "plain HTTP got an answer: {refused:?}"
    );
    let other = endpoint("https")
        .tls_config(with(Certificates::new().authority))
        .unwrap();
    let refused = whoami(other.connect_lazy(), &token).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "another authority: {refused:?}");
}

/// Asserts that the program refuses to start and explains what to do.
async fn refusal(arguments: &[&str], hint: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary());
    command.current_dir(folder.path()).args(arguments);
    let mut program = Program::start(command);
    let status = eventually_within(Duration::from_secs(20), "it refuses to start", || {
        let ended = program.ended();
        async move { ended }
    })
    .await;
    assert!(!status.success());
    let lines = program.lines().clone();
    eventually_within(
        Duration::from_secs(5),
        &format!("it explains what to do: {hint}"),
        || {
            let said = lines.contain(hint);
            async move { said.then_some(()) }
        },
    )
    .await;
}

#[tokio::test]
async fn other_machines_require_tls() {
    let arguments = ["--http", "127.0.0.1:0", "--grpc", "0.0.0.0:0"];
    refusal(&arguments, "--grpc-tls-cert").await;
    refusal(&arguments, "--grpc-tls-proxy").await;
}

/// Anybody who can reach the development issuer could call as anybody.
#[tokio::test]
async fn other_machines_require_another_issuer() {
    install_crypto();
    let certificates = Certificates::new();
    let (certificate, key) = (certificates.path("cert.pem"), certificates.path("key.pem"));
    let arguments = ["--http", "127.0.0.1:0", "--grpc", "0.0.0.0:0"];
    let ours = ["--grpc-tls-cert", &certificate, "--grpc-tls-key", &key];
    let proxy = ["--grpc-tls-proxy", "10.0.0.5/32"];
    for tls in [&ours[..], &proxy] {
        refusal(&[&arguments[..], tls].concat(), "--issuers FILE").await;
    }
    refusal(&["--http", "0.0.0.0:0", "--grpc", "127.0.0.1:0"], "--public-url").await;
}
