//! An operator installs the program with its bridge, with a bridge of another build, and without one: local servers run each time.

use std::{fs, path::Path};

use integration_tests::{Stack, process::descendants, stack::binary, wait::eventually};

/// Starts the program in a folder with this bridge, and returns the stack and the command line of the demo server's bridge.
async fn started_with(bridge: Option<&Path>) -> (Stack, String) {
    // Not elsewhere: a hard link does not cross file systems.
    let folder = tempfile::tempdir_in(binary().parent().expect("a folder has it")).expect("it can be written");
    let program = folder.path().join("chandlery");
    fs::hard_link(binary(), &program).expect("it is a file");
    if let Some(bridge) = bridge {
        fs::hard_link(bridge, folder.path().join("stdio-bridge"))
            .unwrap_or_else(|error| panic!("{}: {error}; cargo build -p stdio-bridge", bridge.display()));
    }
    let stack = Stack::builder().program(&program).start().await;
    let alice = stack.member("alice");
    let client = stack.mcp("default", &alice).await;
    eventually("the demo answers", || async {
        let hello = client.call("demo__hello", serde_json::json!({"name": "Alice"})).await;
        hello.to_string().contains("Hello").then_some(())
    })
    .await;
    let bridges = descendants(stack.pid()).into_iter();
    let mut bridges = bridges.filter(|process| process.parent == stack.pid());
    let bridge = bridges
        .next()
        .expect("the demo has one")
        .arguments
        .trim_end()
        .to_owned();
    assert_eq!(bridges.next(), None);
    (stack, bridge)
}

const REFUSED: &str = "stdio-bridge is not used: it is of another build";

#[tokio::test(flavor = "multi_thread")]
async fn the_bridge_runs_as_a_program_of_its_own() {
    let (stack, bridge) = started_with(Some(&binary().with_file_name("stdio-bridge"))).await;
    assert!(bridge.ends_with("/stdio-bridge"), "{bridge}");
    assert!(!stack.lines().contain("is not used"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_of_another_build_is_not_used_and_the_log_says_so() {
    // The program itself is no bridge of its own.
    let (stack, bridge) = started_with(Some(binary())).await;
    assert!(bridge.ends_with("/chandlery stdio-bridge"), "{bridge}");
    assert!(stack.lines().contain(REFUSED), "{:?}", stack.lines().all());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_bridge_of_its_own_the_program_is_the_bridge() {
    let (stack, bridge) = started_with(None).await;
    assert!(bridge.ends_with("/chandlery stdio-bridge"), "{bridge}");
    assert!(!stack.lines().contain("is not used"));
}
