//! What a test of the sandbox leaves. The only test of its program, since it looks at all children of the process.

use std::path::Path;

use nix::{
    errno::Errno,
    sys::wait::{WaitPidFlag, waitpid},
};

#[test]
fn a_test_of_the_sandbox_leaves_no_child() {
    let (hidden, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bridge = Path::new(env!("CARGO_BIN_EXE_stdio-bridge"));
    sandbox::probe(bridge, hidden.path(), scratch.path()).unwrap();
    assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(Errno::ECHILD));
}
