//! Facts of the build, for `--version`. The same sources, compiler and commit give the same ones.

use std::process::Command;

fn main() {
    // Otherwise every change of any file would run this again.
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PLUGCHAT_RECEIVER_COMMIT");
    // Whoever builds says it: what is built from may be no checkout, and asking git would make every commit compile anew.
    let commit = variable("PLUGCHAT_RECEIVER_COMMIT");
    println!("cargo::rustc-env=BUILD_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=BUILD_TARGET={}", variable("TARGET").as_deref().unwrap_or("unknown"));
    let rustc = variable("RUSTC").and_then(|rustc| Command::new(rustc).arg("--version").output().ok());
    let rustc = rustc.and_then(|output| String::from_utf8(output.stdout).ok());
    println!("cargo::rustc-env=BUILD_RUSTC={}", rustc.as_deref().unwrap_or("rustc unknown").trim_end());
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
