//! A client that shares a connection, or a proxy in front, cannot have one request taken for another: wherever our reader of HTTP/1.1 accepts what comes
//! over a connection, Node.js reads the same requests in it.
//!
//! Tools: node

#[path = "http_parsers_agree/messages.rs"]
mod messages;
#[path = "http_parsers_agree/ours.rs"]
mod ours;

use std::{env, fs};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use integration_tests::script::node;

/// How many messages are put together at random, beside those that are written down. `CHANDLERY_TEST_MESSAGES` is another number, for a long run.
const RANDOM: usize = 1_500;

#[tokio::test(flavor = "multi_thread")]
async fn node_reads_the_requests_that_are_accepted() {
    let random = env::var("CHANDLERY_TEST_MESSAGES").ok();
    let random = random.map_or(RANDOM, |number| number.parse().expect("it is a number"));
    let messages = messages::all(random);
    let file = tempfile::NamedTempFile::new().expect("there is room");
    let lines: String = messages.iter().map(|message| STANDARD.encode(message) + "\n").collect();
    fs::write(file.path(), lines).expect("it can be written");
    let theirs = node("read_requests.mjs", [file.path()]).await.json();
    let theirs = theirs.as_array().expect("a list");
    assert_eq!(theirs.len(), messages.len());
    let (mut accepted, mut refused) = (0, 0);
    for (message, theirs) in messages.iter().zip(theirs) {
        let ours = ours::requests(message);
        let mut theirs = theirs.as_array().expect("a list").clone();
        for request in &mut theirs {
            // Ours is not among the fields, and both have read a body of this length.
            if let Some(fields) = request[3].as_object_mut() {
                fields.remove("content-length");
            }
        }
        let shown = message.escape_ascii();
        // What is behind those that we accept, we refuse.
        assert!(
            theirs.len() >= ours.len(),
            "{shown}\nours: {ours:#?}\nNode's: {theirs:#?}"
        );
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "{shown}");
        }
        match ours.is_empty() {
            true => refused += 1,
            false => accepted += 1,
        }
    }
    // Both must occur often for the test to be meaningful.
    assert!(
        accepted > messages.len() / 5 && refused > messages.len() / 5,
        "{accepted} accepted, {refused} refused"
    );
}
