//! `register`: what it asks Plugchat for, and what it makes of each answer.

use std::net::TcpListener;

use percent_encoding::percent_decode_str;
use serde_json::json;

use crate::fake_plugchat::{Behaviour, FakePlugchat, PATH, TOKEN};
use crate::support::{DOCUMENTED, Home, Receiver, SECRET, output_of, request};

/// A folder whose configuration has a public URL, and a token for Plugchat at this endpoint.
fn home(endpoint: &str) -> Home {
    Home::new(&configuration("https://status.example.com", endpoint))
}

fn configuration(public_url: &str, endpoint: &str) -> String {
    format!("public_url = \"{public_url}\"\n[plugchat]\ntoken = \"{TOKEN}\"\nendpoint = \"{endpoint}\"\n")
}

/// Runs `register`; its exit code, and all that it printed, in which there is never a secret.
fn register(home: &Home, arguments: &[&str]) -> (i32, String) {
    let mut command = home.command(&["register"]);
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    // A name server that can't be reached is given up soon.
    command.env("RES_OPTIONS", "timeout:1 attempts:1");
    let (code, out, error) = output_of(command.args(arguments));
    let printed = out + &error;
    for canary in [SECRET, TOKEN, "canary"] {
        assert!(!printed.contains(canary), "{printed}");
    }
    (code, printed)
}

fn register_at(behaviour: Behaviour) -> (i32, String) {
    let plugchat = FakePlugchat::start(behaviour);
    let result = register(&home(&plugchat.endpoint()), &["--timeout", "20s"]);
    assert_eq!(plugchat.requests().len(), 1, "it asks once");
    result
}

fn always(status: u16, body: &str) -> Behaviour {
    Behaviour::Always(status, "content-type: application/json\r\n", body.into())
}

#[test]
fn the_fake_is_as_strict_as_the_documentation() {
    let plugchat = FakePlugchat::start(Behaviour::Documented);
    let good = r#"{"value": {"messageStatus": "https://x.example"}}"#;
    let (bearer, json) = (format!("Bearer {TOKEN}"), "application/json");
    for (method, content_type, token, body, status) in [
        ("PUT", json, bearer.as_str(), good, 200),
        ("POST", json, &bearer, good, 405),
        ("PUT", "text/plain", &bearer, good, 415),
        ("PUT", json, "Bearer another", good, 401),
        ("PUT", json, TOKEN, good, 401),
        ("PUT", json, &bearer, r#"{"messageStatus": "https://x.example"}"#, 401),
        ("PUT", json, &bearer, r#"{"value": "https://x.example"}"#, 401),
        ("PUT", json, &bearer, r#"{"value": {"messageStatus": "http://x.example"}}"#, 400),
    ] {
        let headers = [("content-type", content_type), ("authorization", token)];
        let answer = request(plugchat.address, method, PATH, &headers, body.as_bytes());
        assert_eq!(answer.status, status, "{method} {content_type} {token} {body}");
    }
}

#[test]
fn the_public_url_and_nothing_else_is_registered() {
    let plugchat = FakePlugchat::start(Behaviour::Documented);
    let (code, printed) = register(&home(&plugchat.endpoint()), &[]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("registered https://status.example.com/message-status/…"), "{printed}");
    assert!(printed.contains("send a WhatsApp message"), "it is to be confirmed with a real event: {printed}");
    let requests = plugchat.requests();
    let [request] = requests.as_slice() else { panic!("one request: {requests:?}") };
    let body = percent_decode_str(&request.body).decode_utf8_lossy();
    let url = format!("https://status.example.com/message-status/{SECRET}");
    assert_eq!(body, json!({ "value": { "messageStatus": url } }).to_string());
}

#[test]
fn the_registered_url_is_one_that_the_receiver_answers_to() {
    let plugchat = FakePlugchat::start(Behaviour::Documented);
    let secret = "not/plain?ünd & long%20enough";
    let extra = configuration("https://status.example.com/behind/", &plugchat.endpoint());
    let receiver = Receiver::start(&format!("secrets = [\"{secret}\"]\n{extra}"));
    let (code, printed) = register(receiver.home(), &[]);
    assert_eq!(code, 0, "{printed}");
    let body = plugchat.requests()[0].json();
    let url = body["value"]["messageStatus"].as_str().expect("a URL");
    let path = url.strip_prefix("https://status.example.com/behind").expect("it is under the public URL");
    let answer = receiver.post_to(path, &[("content-type", "application/json")], DOCUMENTED[0].as_bytes());
    assert_eq!(answer.status, 200);
    assert!(!printed.contains("plain"), "{printed}");
}

#[test]
fn another_url_and_another_token_can_be_given() {
    let plugchat = FakePlugchat::start(Behaviour::Documented);
    let home = Home::new(&format!(
        "[plugchat]\ntoken = \"canary-of-an-old-account\"\nendpoint = \"{}\"\n",
        plugchat.endpoint()
    ));
    let file = home.config().with_file_name("token");
    std::fs::write(&file, format!("{TOKEN}\n")).expect("it can be written");
    let url = "https://canary.example.com/hook?token=canary-in-the-query";
    let mut command = home.command(&["register", "--url", url, "--token-file"]);
    let (code, out, error) = output_of(command.arg(&file));
    assert_eq!(code, 0, "{error}");
    assert!(!format!("{out}{error}").contains("canary-"), "{out}{error}");
    let requests = plugchat.requests();
    assert_eq!(requests[0].json(), json!({ "value": { "messageStatus": url } }));
    assert_eq!(requests[0].header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
}

#[test]
fn a_dry_run_shows_the_request_and_sends_nothing() {
    let plugchat = FakePlugchat::start(Behaviour::Documented);
    let (code, printed) = register(&home(&plugchat.endpoint()), &["--dry-run"]);
    assert_eq!(code, 0, "{printed}");
    for part in [
        &format!("PUT {}", plugchat.endpoint()),
        "Authorization: Bearer …",
        "Content-Type: application/json",
        r#"{"value":{"messageStatus":"https://status.example.com/message-status/…"}}"#,
        "nothing was sent",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert!(plugchat.requests().is_empty());
}

#[test]
fn what_cannot_work_is_refused_before_anybody_is_asked() {
    let plugchat = FakePlugchat::start(Behaviour::Documented);
    let endpoint = plugchat.endpoint();
    let in_the_clear = format!("http://plugchat.example.com{PATH}");
    let public = "https://status.example.com";
    for (configuration, arguments, advice) in [
        (
            format!("[plugchat]\ntoken = \"{TOKEN}\"\nendpoint = \"{endpoint}\"\n"),
            &[][..],
            "server.public_url is not set",
        ),
        (configuration("http://status.example.com", &endpoint), &[], "https"),
        (configuration(public, &endpoint), &["--url", "http://status.example.com/canary"], "https"),
        (configuration(public, &endpoint), &["--url", "canary"], "is not a URL"),
        (format!("public_url = \"{public}\"\n[plugchat]\nendpoint = \"{endpoint}\"\n"), &[], "plugchat.token_file"),
        (configuration(public, &endpoint), &["--token-file", "not-there"], "--token-file: cannot read"),
        (configuration(public, &endpoint).replace(TOKEN, "Bearer canary"), &[], "Bearer"),
        (configuration(public, &in_the_clear), &[], "in the clear"),
        (configuration(public, &endpoint), &["--timeout", "0s"], "--timeout"),
        (format!("secrets_file = \"not-there\"\n{}", configuration(public, &endpoint)), &[], "server.secrets_file"),
    ] {
        let (code, printed) = register(&Home::new(&configuration), arguments);
        assert_eq!(code, 2, "{advice}: {printed}");
        assert!(printed.contains(advice), "{advice}: {printed}");
    }
    assert!(plugchat.requests().is_empty());
}

#[test]
fn a_public_url_that_cannot_be_registered_is_told_by_check() {
    for (public_url, is_told) in [("http://status.example.com", true), ("https://status.example.com", false)] {
        let home = Home::new(&format!("public_url = \"{public_url}\"\n"));
        let (code, _, error) = output_of(&mut home.command(&["check"]));
        assert_eq!((code, error.contains("register refuses it")), (0, is_told), "{error}");
    }
}

#[test]
fn a_wrong_token_is_told_from_a_wrong_url() {
    let plugchat = FakePlugchat::start(Behaviour::Documented);
    let home =
        Home::new(&configuration("https://status.example.com", &plugchat.endpoint()).replace(TOKEN, "canary-wrong"));
    let (code, printed) = register(&home, &[]);
    assert_eq!(code, 1, "{printed}");
    assert!(
        printed.contains("does not accept the token (401)") && printed.contains("It said: Unauthorized"),
        "{printed}"
    );
}

#[test]
fn each_refusal_is_explained() {
    for (status, meaning) in [
        (301, "redirect"),
        (400, "refuses the URL"),
        (401, "does not accept the token"),
        (403, "account's rights"),
        (404, "nothing at plugchat.endpoint"),
        (405, "PUT is not allowed"),
        (415, "Content-Type"),
        (418, "refuses the request"),
        (422, "refuses the URL"),
        (429, "asked too often"),
        (500, "trouble of its own"),
        (503, "trouble of its own"),
    ] {
        let (code, printed) = register_at(always(status, ""));
        assert_eq!(code, 1, "{status}: {printed}");
        assert!(printed.contains(&format!("({status})")) && printed.contains(meaning), "{status}: {printed}");
    }
}

#[test]
fn any_success_is_one() {
    for status in [200, 201, 202, 204] {
        let (code, printed) = register_at(always(status, ""));
        assert_eq!(code, 0, "{printed}");
        assert!(printed.contains(&format!("({status})")), "{printed}");
    }
}

#[test]
fn an_answer_that_repeats_what_was_sent_is_not_repeated() {
    let url = format!("https://status.example.com/message-status/{SECRET}");
    for status in [200, 400] {
        let body = json!({ "error": format!("cannot take {url} with {TOKEN}"), "url": url }).to_string();
        let (_, printed) = register_at(always(status, &body));
        assert!(printed.contains("said: cannot take …"), "{printed}");
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = FakePlugchat::start(Behaviour::Documented);
    let headers: &'static str = format!("location: http://{}{PATH}\r\n", elsewhere.address).leak();
    for status in [301, 302, 303, 307, 308] {
        let (code, printed) = register_at(Behaviour::Always(status, headers, String::new()));
        assert_eq!(code, 1, "{printed}");
        assert!(printed.contains("not followed"), "{printed}");
    }
    assert!(elsewhere.requests().is_empty(), "the token went nowhere else");
}

#[test]
fn a_proxy_never_sees_the_token_in_the_clear() {
    let proxy = FakePlugchat::start(Behaviour::Documented);
    let plugchat = FakePlugchat::start(Behaviour::Documented);
    let home = home(&plugchat.endpoint());
    let mut command = home.command(&["register"]);
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, format!("http://{}", proxy.address));
    }
    let (code, _, error) = output_of(command.env_remove("no_proxy").env_remove("NO_PROXY"));
    assert_eq!((code, plugchat.requests().len()), (0, 1), "{error}");
    assert!(proxy.requests().is_empty());
}

#[test]
fn whoever_does_not_answer_is_told_from_who_is_not_there() {
    let (code, printed) = register_at(Behaviour::Closes);
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains("closed before an answer") && printed.contains("may have been registered"), "{printed}");

    let (code, printed) = register_at(Behaviour::Babbles);
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains("not HTTP"), "{printed}");

    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let (code, printed) = register(&home(&format!("http://{nobody}{PATH}")), &[]);
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains("refused") && !printed.contains("may have been registered"), "{printed}");

    let (code, printed) = register(&home(&format!("https://plugchat.invalid{PATH}")), &[]);
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains("plugchat.invalid") && printed.contains("cannot be resolved"), "{printed}");
}

#[test]
fn an_answer_that_never_comes_is_not_waited_for_without_end() {
    let plugchat = FakePlugchat::start(Behaviour::Silent);
    let (code, printed) = register(&home(&plugchat.endpoint()), &["--timeout", "1s"]);
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains("no answer came in time") && printed.contains("may have been registered"), "{printed}");
    assert_eq!(plugchat.requests().len(), 1);
}

#[test]
fn a_server_that_does_not_speak_tls_never_sees_the_token() {
    let plugchat = FakePlugchat::start(Behaviour::Babbles);
    let (code, printed) = register(&home(&plugchat.endpoint().replace("http://", "https://")), &[]);
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains("TLS"), "{printed}");
}
