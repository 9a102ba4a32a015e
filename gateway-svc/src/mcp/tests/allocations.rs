//! What a call of a known client allocates.

use std::{env, fmt::Write as _};

use super::*;
use crate::allocations::{Allocation, counted};

/// Allocations of one call, of which none depends on anything but the code.
const MOST: usize = 9;
/// Bytes that these have in all.
const MOST_BYTES: usize = 7 << 10;

/// With `ALLOCATION_SITES`, it says where each was made, and fails.
#[tokio::test]
async fn a_call_of_a_known_client_allocates_little() {
    let mut world = world(answers(r#"{"content":[]}"#)).await;
    let registry = (world.registry.clone().gateway("direct")).assign("direct", "mail", "send");
    fill(&mut world.feed, 2, registry.objects).await;
    let opened = initialize(0, "2025-11-25", &json!({}));
    let opened = world.send(post(opened).at("/mcp/direct").by("alice")).await;
    let session = opened.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let request: Request = post(Body::empty())
        .at("/mcp/direct")
        .by("alice")
        .session(&session)
        .into();
    let endpoint = world.endpoint(&Arc::new(request.into_parts().0)).unwrap();
    let finds_sites = env::var_os("ALLOCATION_SITES").is_some();
    let mut least: Option<Vec<Allocation>> = None;
    // The first ones find out what the others know.
    for _ in 0..8 {
        let answer = Arc::clone(&endpoint).answer(app::RequestBody::Whole(CALL.into()));
        let size = size_of_val(&*answer);
        let (answer, mut allocations) = counted(answer, finds_sites).await;
        allocations.push(Allocation {
            bytes: size,
            site: None,
        });
        assert!(text(answer.into()).await.contains(r#""content""#));
        if least.as_ref().is_none_or(|least| allocations.len() < least.len()) {
            least = Some(allocations);
        }
    }
    let allocations = least.unwrap();
    let bytes: usize = allocations.iter().map(|allocation| allocation.bytes).sum();
    let said = said(&allocations);
    assert!(!finds_sites, "{} of {bytes} bytes:{said}", allocations.len());
    assert!(
        allocations.len() <= MOST && bytes <= MOST_BYTES,
        "{} of {bytes} bytes:{said}",
        allocations.len()
    );
}

/// Each by its size, and the code of this workspace that made it.
fn said(allocations: &[Allocation]) -> String {
    let mut said = String::new();
    for Allocation { bytes, site } in allocations {
        let site = site.as_ref().map(ToString::to_string).unwrap_or_default();
        let own = |line: &&str| line.contains("gateway_svc::") || line.contains("service_kit::");
        let frames: Vec<&str> = site
            .lines()
            .filter(own)
            .filter(|line| !line.contains("::allocations::"))
            .take(3)
            .map(str::trim)
            .collect();
        write!(said, "\n{bytes} {}", frames.join(" < ")).unwrap();
    }
    said
}
