//! Who may call: those who have a secret, from where they are allowed to.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::support::{
    Answer, JSON, Receiver, SECRET, STORED, callback, connect, path, read_answer, send_head, send_request,
};

/// Posts a callback that was not sent before, with these headers and no others but its type.
fn post(receiver: &Receiver, path: &str, headers: &[(&str, &str)]) -> Answer {
    let message_id = format!("{path} {headers:?}");
    let headers = [&JSON, headers].concat();
    receiver.post_to(path, &headers, callback(&message_id, "READ", 1_632_234_645_000).as_bytes())
}

#[test]
fn the_secret_is_taken_from_the_path_the_query_and_the_bearer_token() {
    let receiver = Receiver::start("");
    let bearer = format!("Bearer {SECRET}");
    let lower = format!("bearer {SECRET}");
    for (path, headers) in [
        (path(), vec![]),
        (format!("/message-status?token={SECRET}"), vec![]),
        (format!("/message-status/?a=b&token={SECRET}&c"), vec![]),
        ("/message-status".into(), vec![("authorization", bearer.as_str())]),
        ("/message-status/".into(), vec![("Authorization", lower.as_str())]),
        (format!("/message-status/wrong?token={SECRET}"), vec![]),
        (format!("/message-status/{}?token=wrong", SECRET.replace('-', "%2D")), vec![("authorization", "Basic eDp5")]),
    ] {
        let answer = post(&receiver, &path, &headers);
        assert_eq!((answer.status, answer.body.as_str()), (200, STORED), "{path} {headers:?}");
    }
}

#[test]
fn without_the_secret_every_callback_is_refused_wherever_another_text_stands() {
    let receiver = Receiver::start("");
    let shorter = &SECRET[..SECRET.len() - 1];
    let upper = SECRET.to_uppercase();
    let (bearer, basic) = (format!("Bearer {shorter}"), format!("Basic {SECRET}"));
    for (path, headers) in [
        ("/message-status".to_owned(), vec![]),
        ("/message-status/".into(), vec![]),
        ("/message-status?token=".into(), vec![]),
        ("/message-status".into(), vec![("authorization", "Bearer ")]),
        ("/message-status".into(), vec![("authorization", "Bearer")]),
        ("/message-status/wrong".into(), vec![]),
        (format!("/message-status/{shorter}"), vec![]),
        (format!("/message-status/{SECRET}x"), vec![]),
        (format!("/message-status/{SECRET}%00"), vec![]),
        (format!("/message-status/{upper}"), vec![]),
        ("/message-status/%FF%FE".into(), vec![]),
        (format!("/message-status?token={shorter}"), vec![]),
        (format!("/message-status?Token={SECRET}"), vec![]),
        ("/message-status?token=%FF".into(), vec![]),
        ("/message-status".into(), vec![("authorization", bearer.as_str())]),
        ("/message-status".into(), vec![("authorization", basic.as_str())]),
        ("/message-status".into(), vec![("authorization", SECRET)]),
        ("/message-status".into(), vec![("z-api-token", SECRET), ("client-token", SECRET)]),
    ] {
        let answer = post(&receiver, &path, &headers);
        answer.problem(401);
        assert!(!answer.body.contains(shorter), "{answer:?}");
    }
    assert_eq!(receiver.stored(), [] as [serde_json::Value; 0]);
}

#[test]
fn each_of_several_secrets_is_taken() {
    let receiver = Receiver::start("secrets = [\"the-new-one-5f0c2\", \"the-old-one-77aa1\"]\n");
    for secret in ["the-new-one-5f0c2", "the-old-one-77aa1"] {
        assert_eq!(post(&receiver, &format!("/message-status/{secret}"), &[]).status, 200);
        assert_eq!(post(&receiver, &format!("/message-status?token={secret}"), &[]).status, 200);
        let bearer = format!("Bearer {secret}");
        assert_eq!(post(&receiver, "/message-status", &[("authorization", &bearer)]).status, 200);
    }
    post(&receiver, "/message-status/the-new-one-5f0c2the-old-one-77aa1", &[]).problem(401);
    post(&receiver, &path(), &[]).problem(401);
}

#[test]
fn a_secret_of_any_characters_works_in_each_place_and_in_the_printed_url() {
    let secret = "p%41ss/w?r&d#é +x=%";
    let receiver = Receiver::start(&format!("secrets = [\"{secret}\"]\n"));
    let encoded = utf8_percent_encode(secret, NON_ALPHANUMERIC);
    assert_eq!(post(&receiver, &format!("/message-status/{encoded}"), &[]).status, 200);
    assert_eq!(post(&receiver, &format!("/message-status?token={encoded}"), &[]).status, 200);
    assert_eq!(post(&receiver, "/message-status", &[("authorization", &format!("Bearer {secret}"))]).status, 200);
    let (code, url, _) = receiver.run(&["url"]);
    let printed = url.trim_end().strip_prefix(&format!("http://{}", receiver.address)).expect("the receiver's address");
    assert_eq!((code, post(&receiver, printed, &[("x", "y")]).status), (0, 200), "{url}");
    post(&receiver, "/message-status/pAss%2Fw%3Fr%26d%23%C3%A9%20+x=%", &[]).problem(401);
}

#[test]
fn a_wrong_secret_is_answered_before_the_body_is_sent() {
    let receiver = Receiver::start("");
    let mut stream = connect(receiver.address);
    send_head(
        &mut stream,
        &["POST /message-status/wrong HTTP/1.1", "host: x", "content-type: application/json", "content-length: 500"],
    );
    read_answer(&mut stream).problem(401);
}

#[test]
fn a_right_secret_elsewhere_on_the_connection_does_not_help_a_request_without_one() {
    let receiver = Receiver::start("");
    let mut stream = connect(receiver.address);
    send_request(&mut stream, "POST", &path(), &JSON, callback("A", "READ", 1).as_bytes());
    assert_eq!(read_answer(&mut stream).status, 200);
    send_request(&mut stream, "POST", "/message-status", &JSON, callback("B", "READ", 1).as_bytes());
    read_answer(&mut stream).problem(401);
}

#[test]
fn only_callers_from_allowed_addresses_are_heard_and_only_trusted_proxies_say_who_calls() {
    let proxied = Receiver::start("allow_from = [\"203.0.113.0/24\", \"2001:db8::/32\"]\n");
    for (forwarded, status) in [
        (vec![], 403),
        (vec!["203.0.113.7"], 200),
        (vec!["2001:db8::1"], 200),
        (vec!["198.51.100.1"], 403),
        (vec!["198.51.100.1, 203.0.113.7"], 200),
        (vec!["203.0.113.7, 198.51.100.1"], 403),
        (vec!["203.0.113.7", "198.51.100.1"], 403),
        (vec!["203.0.113.7, 127.0.0.9"], 200),
        (vec!["203.0.113.7, unknown"], 403),
        (vec!["127.0.0.1"], 403),
        (vec!["203.0.113.7:4711"], 200),
        (vec!["\"[2001:db8::1]:443\", 127.0.0.9:1"], 200),
        (vec!["\"198.51.100.1:80\""], 403),
    ] {
        let headers: Vec<_> = forwarded.iter().map(|value| ("X-Forwarded-For", *value)).collect();
        let answer = post(&proxied, &path(), &headers);
        assert_eq!(answer.status, status, "{forwarded:?}: {answer:?}");
        if status == 403 {
            answer.problem(403);
        }
    }
    let direct = Receiver::start("allow_from = [\"203.0.113.0/24\"]\ntrusted_proxies = []\n");
    post(&direct, &path(), &[("x-forwarded-for", "203.0.113.7")]).problem(403);
    let local = Receiver::start("allow_from = [\"127.0.0.1/32\"]\ntrusted_proxies = []\n");
    assert_eq!(post(&local, &path(), &[("x-forwarded-for", "203.0.113.7")]).status, 200);
}

#[test]
fn an_allowed_address_does_not_stand_in_for_the_secret() {
    let receiver = Receiver::start("allow_from = [\"127.0.0.0/8\"]\n");
    post(&receiver, "/message-status/wrong", &[]).problem(401);
    assert_eq!(post(&receiver, &path(), &[]).status, 200);
}
