//! What the public listener makes of requests: paths, methods, headers, and the ways HTTP has to send them.

use crate::support::{
    JSON, Receiver, SECRET, STORED, callback, connect, path, read_answer, read_to_close, request, send_head,
    send_request, write,
};

#[test]
fn there_is_nothing_at_another_path() {
    let receiver = Receiver::start("");
    let longer = format!("/message-status/{SECRET}/more");
    let inner = format!("/message-status//{SECRET}");
    for other in ["/", "/message-statuses", "/Message-Status", "/livez", "/api/v1/changes", &longer, &inner] {
        for method in ["POST", "GET"] {
            request(receiver.address, method, other, &JSON, callback("A", "READ", 1).as_bytes()).problem(404);
        }
    }
}

#[test]
fn the_path_can_be_another() {
    let receiver = Receiver::start("path = \"/hooks/plugchat.v1\"\n");
    let post = |path: &str| receiver.post_to(path, &JSON, callback("A", "READ", 1).as_bytes());
    assert_eq!(post(&format!("/hooks/plugchat.v1/{SECRET}")).status, 200);
    assert_eq!(post(&format!("/hooks/plugchat.v1?token={SECRET}")).status, 200);
    post(&path()).problem(404);
    let (code, url, _) = receiver.run(&["url"]);
    assert_eq!(code, 0);
    assert!(url.contains("/hooks/plugchat.v1/"), "{url}");
}

#[test]
fn only_posts_are_taken_and_the_answer_says_so() {
    let receiver = Receiver::start("");
    for path in [path(), "/message-status".into(), "/message-status/wrong".into()] {
        for method in ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
            let answer = request(receiver.address, method, &path, &JSON, callback("A", "READ", 1).as_bytes());
            assert_eq!(answer.header("allow"), Some("post"), "{method}: {answer:?}");
            answer.problem(405);
        }
        let mut stream = connect(receiver.address);
        send_head(&mut stream, &[&format!("HEAD {path} HTTP/1.1"), "host: x", "connection: close"]);
        let answer = read_to_close(&mut stream).to_lowercase();
        assert!(answer.starts_with("http/1.1 405 ") && answer.contains("\r\nallow: post\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "an answer to HEAD has no body: {answer}");
    }
    assert!(receiver.stored().is_empty());
}

#[test]
fn only_json_is_taken() {
    let receiver = Receiver::start("");
    let post = |headers: &[(&str, &str)]| receiver.post_to(&path(), headers, callback("A", "READ", 1).as_bytes());
    for headers in [
        vec![],
        vec![("content-type", "")],
        vec![("content-type", "text/plain")],
        vec![("content-type", "application/x-www-form-urlencoded")],
        vec![("content-type", "multipart/form-data; boundary=x")],
        vec![("content-type", "text/json")],
        vec![("content-type", "application/jsonp")],
        vec![("accept", "application/json")],
        vec![JSON[0], ("content-encoding", "gzip")],
    ] {
        post(&headers).problem(415);
    }
    assert!(receiver.stored().is_empty());
    for taken in
        ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/json;charset=x"]
    {
        let answer = post(&[("content-type", taken)]);
        assert_eq!(answer.status, 200, "{taken}: {answer:?}");
    }
}

#[test]
fn a_caller_that_offers_http_2_is_heard_all_the_same() {
    let receiver = Receiver::start("");
    let mut stream = connect(receiver.address);
    let offer = [
        ("connection", "Upgrade, HTTP2-Settings"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        JSON[0],
    ];
    for message_id in ["A", "B"] {
        send_request(&mut stream, "POST", &path(), &offer, callback(message_id, "READ", 1).as_bytes());
        let answer = read_answer(&mut stream);
        assert_eq!((answer.status, answer.body.as_str()), (200, STORED));
    }
}

#[test]
fn a_caller_that_waits_to_be_told_to_go_on_is_told_once_its_secret_is_right() {
    let receiver = Receiver::start("");
    let body = callback("A", "READ", 1);
    let length = format!("content-length: {}", body.len());
    let head =
        |path: &str| [&format!("POST {path} HTTP/1.1"), "host: x", "expect: 100-continue", &length].map(str::to_owned);
    let head = |path: &str| [head(path).to_vec(), vec!["content-type: application/json".into()]].concat();
    let send = |stream: &mut _, path: &str| {
        let lines = head(path);
        send_head(stream, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    };
    let mut stream = connect(receiver.address);
    send(&mut stream, &path());
    assert_eq!(read_answer(&mut stream).status, 100);
    write(&mut stream, body.as_bytes());
    assert_eq!(read_answer(&mut stream).body, STORED);

    let mut stream = connect(receiver.address);
    send(&mut stream, "/message-status/wrong");
    read_answer(&mut stream).problem(401);
}

#[test]
fn one_connection_carries_many_requests_and_refusals() {
    let receiver = Receiver::start("");
    let mut stream = connect(receiver.address);
    for number in 0..20 {
        let id = format!("M{number}");
        send_request(&mut stream, "POST", &path(), &JSON, callback(&id, "READ", 1).as_bytes());
        assert_eq!(read_answer(&mut stream).body, STORED);
        send_request(&mut stream, "POST", &path(), &JSON, b"{");
        read_answer(&mut stream).problem(400);
        send_request(&mut stream, "POST", &path(), &JSON, b"{}");
        read_answer(&mut stream).problem(422);
        send_request(&mut stream, "POST", "/message-status/wrong", &JSON, b"{}");
        read_answer(&mut stream).problem(401);
        send_request(&mut stream, "GET", "/", &[], b"");
        read_answer(&mut stream).problem(404);
    }
}

#[test]
fn requests_sent_without_waiting_for_answers_are_answered_in_order() {
    let receiver = Receiver::start("");
    let one = |path: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let (path, first) = (path(), callback("A", "SENT", 1));
    let second = callback("A", "READ", 2);
    let requests = [one(&path, &first), one("/none", &first), one(&path, &first), one(&path, &second)];
    let mut stream = connect(receiver.address);
    write(&mut stream, requests.concat().as_bytes());
    assert_eq!(read_answer(&mut stream).body, STORED);
    read_answer(&mut stream).problem(404);
    assert_eq!(read_answer(&mut stream).body, r#"{"stored": 0, "duplicates": 1}"#);
    assert_eq!(read_answer(&mut stream).body, STORED);
}

#[test]
fn a_body_in_chunks_is_a_body() {
    let receiver = Receiver::start("");
    let mut stream = connect(receiver.address);
    let start = format!("POST {} HTTP/1.1", path());
    send_head(&mut stream, &[&start, "host: x", "content-type: application/json", "transfer-encoding: chunked"]);
    for chunk in callback("A", "READ", 1).as_bytes().chunks(7) {
        write(&mut stream, &[format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    }
    write(&mut stream, b"0\r\n\r\n");
    assert_eq!(read_answer(&mut stream).body, STORED);
}

#[test]
fn what_is_no_http_is_answered_without_a_body_and_a_request_without_a_host_is_taken() {
    let receiver = Receiver::start("");
    let long = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", "x".repeat(100 << 10));
    for (text, status) in [("hello\r\n\r\n", 400), ("POST / HTTP/9.9\r\n\r\n", 400), (long.as_str(), 431)] {
        let mut stream = connect(receiver.address);
        write(&mut stream, text.as_bytes());
        let answer = read_answer(&mut stream);
        assert_eq!((answer.status, answer.body.as_str()), (status, ""), "{answer:?}");
    }
    let body = callback("A", "READ", 1);
    let mut stream = connect(receiver.address);
    let (start, length) = (format!("POST {} HTTP/1.1", path()), format!("content-length: {}", body.len()));
    send_head(&mut stream, &[&start, "content-type: application/json", &length]);
    write(&mut stream, body.as_bytes());
    assert_eq!(read_answer(&mut stream).body, STORED);
}

#[test]
fn http_1_0_is_spoken_too() {
    let receiver = Receiver::start("");
    let body = callback("A", "READ", 1);
    let mut stream = connect(receiver.address);
    let (start, length) = (format!("POST {} HTTP/1.0", path()), format!("Content-Length: {}", body.len()));
    send_head(&mut stream, &[&start, "Content-Type: application/json", &length]);
    write(&mut stream, body.as_bytes());
    let answer = read_to_close(&mut stream);
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with(STORED), "{answer}");
}
