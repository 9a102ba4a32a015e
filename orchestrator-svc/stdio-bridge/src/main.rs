//! The bridge as a program of its own. It takes everything from standard input.

use std::process::ExitCode;

fn main() -> ExitCode {
    stdio_bridge::main()
}
