//! The bridge, started by the tests of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    stdio_bridge::main()
}
