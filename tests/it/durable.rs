//! That a 200 is durable can't be seen in a crash of the program alone: what the kernel has it keeps. So the order of the system
//! calls is looked at: a sync of the database's log before each answer.

use std::process::{Command, Stdio};

use crate::support::{Home, SECRET, callback, eventually, request};

#[test]
fn every_200_comes_after_a_sync_to_disk() {
    let receiver = Home::new("").start_with(|command| {
        let traced = std::mem::replace(command, Command::new("strace"));
        // -D: the receiver stays the child, and strace is what goes with it.
        command.args("-D -f -y -e trace=fsync,fdatasync,write,writev,sendto -e signal=none -o trace".split(' '));
        command.arg(traced.get_program()).args(traced.get_args());
        command.current_dir(traced.get_current_dir().expect("receivers run in their folder"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    });
    let path = format!("/message-status/{SECRET}");
    let json = [("content-type", "application/json")];
    for number in 0..10 {
        let body = callback(&format!("message-{number}"), "SENT", 1_632_234_645_000);
        assert_eq!(request(receiver.address, "POST", &path, &json, body.as_bytes()).status, 200);
    }
    let home = receiver.stop();
    let path = home.config().with_file_name("trace");
    let trace = eventually("strace writes its last line", || {
        std::fs::read_to_string(&path).ok().filter(|trace| trace.trim_end().ends_with("exited with 0 +++"))
    });
    let (mut synced, mut answers) = (false, 0);
    for line in trace.lines() {
        // A call that another thread's line parts is done where it is resumed.
        let is_whole = line.contains("sync(") && line.contains("sqlite3-wal") && line.ends_with("= 0");
        synced |= is_whole || line.contains("sync resumed");
        if line.contains("HTTP/1.1 200") {
            assert!(synced, "answer {answers} came before a sync:\n{trace}");
            (synced, answers) = (false, answers + 1);
        }
    }
    assert_eq!(answers, 10, "{trace}");
}
