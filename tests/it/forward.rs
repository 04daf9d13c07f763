//! From a callback to a destination over HTTP, through the whole program.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver as Requests, channel};

use serde_json::Value;
use standardwebhooks::Webhook;

use crate::support::{Home, PATIENCE, Receiver, SECRET, STORED, callback, eventually, output_of, write};

const KEY: &str = "whsec_Q2FuYXJ5Q2FuYXJ5Q2FuYXJ5Q2FuYXJ5";

/// What must never be printed.
const CANARIES: [&str; 5] = ["canary-path", "canary-query", "canary-header", "Q2FuYXJ5", "5544999999999"];

/// Answers each request with the next of these, on a connection of its own, and hands the requests on.
fn destination(answers: Vec<String>) -> (SocketAddr, Requests<(axum::http::HeaderMap, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("the sink connects");
            let request = read_request(&mut stream);
            write(&mut stream, answer.as_bytes());
            // The test may be over.
            let _ = sender.send(request);
        }
        // The port is closed before whoever waits for a request is told that there will be none.
        drop(listener);
        drop(sender);
    });
    (address, requests)
}

fn answer(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn read_request(stream: &mut TcpStream) -> (axum::http::HeaderMap, String) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a request comes");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("heads are ASCII");
    let mut headers = axum::http::HeaderMap::new();
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        let name: axum::http::HeaderName = name.parse().expect("a name");
        headers.insert(name, value.parse().expect("a value"));
    }
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.to_str().ok().and_then(|length| length.parse().ok()).expect("a number"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("the body comes");
    (headers, String::from_utf8(body).expect("bodies are JSON"))
}

fn configuration(address: SocketAddr) -> String {
    format!(
        "secrets = [\"{SECRET}\"]\n[log]\nlevel = \"trace\"\n[sinks.crm.forward]\nurl = \"http://{address}/canary-path?key=canary-query\"
         signing_secrets = [\"{KEY}\"]\nheaders = {{ authorization = \"Bearer canary-header\" }}
         [sinks.crm.delivery]\nbackoff = {{ min = \"1ms\", max = \"2ms\" }}"
    )
}

#[test]
fn a_change_is_forwarded_again_until_it_is_accepted_and_nothing_secret_is_printed() {
    let echo = "POST /canary-path?key=canary-query Bearer canary-header: 5544999999999?";
    let (address, requests) = destination(vec![answer(500, echo), answer(503, echo), answer(200, echo)]);
    let receiver = Receiver::start(&configuration(address));
    assert_eq!(receiver.post(&callback("3EB0", "READ", 1_632_234_645_000)).body, STORED);
    let attempts: Vec<_> = (0..3).map(|_| requests.recv_timeout(PATIENCE).expect("it is tried")).collect();
    let stored = &receiver.stored()[0];
    for (headers, body) in &attempts {
        assert_eq!(headers["webhook-id"], stored["id"].as_str().unwrap());
        assert_eq!(headers["authorization"], "Bearer canary-header");
        Webhook::new(KEY).unwrap().verify(body.as_bytes(), headers).expect("the signature fits");
        let event: Value = serde_json::from_str(body).unwrap();
        assert_eq!((&event["message_id"], &event["status"]), (&"3EB0".into(), &"READ".into()));
    }
    eventually("it is accepted", || {
        let sink = receiver.admin_get("/api/v1/sinks").json()[0].clone();
        (sink["delivered"] == 1 && sink["deferred"] == 0).then_some(())
    });
    let output = receiver.output();
    assert!(output.contains("answered 500") && output.contains("\"TRACE\""), "{output}");
    for canary in CANARIES {
        assert!(!output.contains(canary), "{canary} is in:\n{output}");
    }
    receiver.stop();
}

#[test]
fn check_says_where_a_sink_forwards_to_and_reaches_it_without_handing_anything_over() {
    let (address, requests) = destination(vec![answer(404, "")]);
    let home = Home::new(&configuration(address));
    let (code, reached, _) = output_of(&mut home.command(&["check", "--connect"]));
    assert_eq!(code, 0, "{reached}");
    assert!(reached.contains(&format!("crm: forward, events to http://{address}, signed, within 10s")), "{reached}");
    assert!(reached.contains(&format!("{address} answers: 404 to a HEAD request")), "{reached}");
    assert_eq!(requests.recv_timeout(PATIENCE).expect("it is reached").1, "");
    assert!(requests.recv_timeout(PATIENCE).is_err(), "the destination is gone, and its port with it");
    let (code, unreached, errors) = output_of(&mut home.command(&["check", "--connect"]));
    assert_eq!(code, 2, "{unreached}");
    assert!(unreached.contains(&format!("no answer from {address}: the connection was refused")), "{unreached}");
    for canary in CANARIES {
        assert!(![&reached, &unreached, &errors].iter().any(|output| output.contains(canary)), "{canary}");
    }
}

#[test]
fn a_sink_that_cannot_be_built_is_a_wrong_configuration() {
    let home = Home::new("[sinks.crm.forward]\nurl_file = \"nowhere\"");
    for command in ["serve", "check"] {
        let (code, _, errors) = output_of(&mut home.command(&[command]));
        assert_eq!(code, 2, "{errors}");
        assert!(errors.contains("sinks.crm: forward.url_file: cannot read nowhere"), "{errors}");
    }
}
