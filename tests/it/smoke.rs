//! The shortest way from a callback to the log.

use crate::support::{DOCUMENTED, Receiver, output_of};

#[test]
fn the_documented_callbacks_are_answered_and_logged_in_order() {
    let receiver = Receiver::start("");
    for callback in DOCUMENTED {
        let answer = receiver.post(callback);
        assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"stored": 1, "duplicates": 0}"#));
    }
    let lines = receiver.changes_on_the_log(DOCUMENTED.len());
    let seen: Vec<_> =
        lines.iter().map(|line| (line["status"].as_str().unwrap(), line["transition"].as_str().unwrap())).collect();
    let expected = [
        ("SENT", "advance"),
        ("RECEIVED", "advance"),
        ("READ", "advance"),
        ("READ-SELF", "unranked"),
        ("PLAYED", "advance"),
    ];
    assert_eq!(seen, expected);
    assert_eq!(lines[2]["previous_status"], "RECEIVED");
    receiver.stop();
}

#[test]
fn its_health_can_be_asked_for_on_a_host_without_certificates() {
    let receiver = Receiver::start("");
    let mut command = receiver.home().command(&["healthcheck"]);
    command.env("PLUGCHAT_RECEIVER__ADMIN__LISTEN", receiver.admin.to_string());
    command.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent");
    let (code, out, error) = output_of(&mut command);
    assert_eq!((code, out.as_str()), (0, "ready\n"), "{error}");
}
