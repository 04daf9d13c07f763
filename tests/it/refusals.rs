//! What was not taken is on the log, wherever it was turned away, without its path.

use crate::support::{
    Home, JSON, Receiver, SECRET, after, callback, connect, path, read_answer, request, send_request, wait_until, write,
};

/// Waits for the line of a refusal.
fn refused(receiver: &Receiver, status: u16, route: &str) {
    let line = receiver.wait_for_line("it was not taken", |line| line["status"] == status);
    assert_eq!((&line["message"], &line["route"]), (&"callback not taken".into(), &route.into()), "{line}");
    assert_eq!(line["caller"], "127.0.0.1", "{line}");
    assert!(!line.to_string().contains(SECRET), "{line}");
}

#[test]
fn another_path_and_another_method_are_logged() {
    let receiver = Receiver::start("");
    request(receiver.address, "POST", &format!("/elsewhere/{SECRET}"), &JSON, b"{}").problem(404);
    refused(&receiver, 404, "(another path)");
    request(receiver.address, "GET", &path(), &[], b"").problem(405);
    refused(&receiver, 405, "/message-status/{secret}");
}

#[test]
fn slow_headers_and_too_many_connections_are_logged() {
    let receiver = Receiver::start("limits = { connections = 1, header_timeout = \"500ms\" }\n");
    let mut slow = connect(receiver.address);
    write(&mut slow, b"POST /");
    read_answer(&mut connect(receiver.address)).problem(503);
    refused(&receiver, 503, "(no request)");
    read_answer(&mut slow).problem(408);
    refused(&receiver, 408, "(no request)");
}

#[test]
fn running_out_of_open_files_is_logged_when_it_begins_and_when_it_is_over() {
    let receiver = Home::new("limits = { connections = 200 }\n").start_with(|command| after("ulimit -n 64", command));
    let open: Vec<_> = (0..100).map(|_| connect(receiver.address)).collect();
    receiver.wait_for_output("cannot accept connections");
    drop(open);
    wait_until("it is over", || {
        request(receiver.address, "GET", "/", &[], b"").problem(404);
        receiver.output().contains("connections are accepted again")
    });
    let output = receiver.output();
    assert_eq!(output.matches("cannot accept connections").count(), 1, "{output}");
    assert!(output.contains("there may be more connections than open files"), "{output}");
}

#[test]
fn no_more_than_a_few_a_second_are_logged() {
    let receiver = Receiver::start("");
    let mut stream = connect(receiver.address);
    for _ in 0..500 {
        send_request(&mut stream, "GET", "/", &[], b"");
        read_answer(&mut stream).problem(404);
    }
    wait_until("a later one says how many were not logged", || {
        send_request(&mut stream, "GET", "/", &[], b"");
        read_answer(&mut stream).problem(404);
        receiver.output().contains("more callbacks were not taken than are logged")
    });
    assert!(receiver.output().matches("callback not taken").count() < 400, "{}", receiver.output());
}

#[test]
fn the_first_use_of_each_of_several_secrets_is_logged_by_its_number() {
    let receiver = Receiver::start("secrets = [\"canary-new-5f0c2\", \"canary-old-77aa1\"]\n");
    for (secret, number) in [("canary-old-77aa1", 2), ("canary-new-5f0c2", 1)] {
        for id in ["A", "B"] {
            let body = callback(&format!("{id}{number}"), "READ", 1);
            assert_eq!(receiver.post_to(&format!("/message-status/{secret}"), &JSON, body.as_bytes()).status, 200);
        }
        let line = receiver.wait_for_line("a secret is used", |line| line["secret"] == number);
        assert_eq!((&line["level"], &line["of"]), (&"INFO".into(), &2.into()), "{line}");
    }
    let output = receiver.end("TERM").output;
    assert_eq!(output.matches("for the first time since the start").count(), 2, "{output}");
    assert!(!output.contains("canary"), "{output}");
}
