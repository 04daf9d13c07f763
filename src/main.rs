//! Arguments and exit codes.

use std::process::ExitCode;

fn main() -> ExitCode {
    plugchat_receiver::cli::main()
}
