//! A NATS client of a few lines that shares nothing with the sink's: what tests look at streams with.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::PATIENCE;

/// How long an answer is waited for that may not come.
const SOON: Duration = Duration::from_millis(500);

/// How many requests are sent before their answers are read.
const AT_ONCE: u64 = 500;

/// A connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

/// A message in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) subject: String,
    /// The headers' lines, names and values as they came.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Stored {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("bodies are JSON")
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(there, _)| there == name).map(|(_, value)| value.as_str())
    }
}

impl Client {
    /// Connects as somebody without a name.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::connect_as(address, json!({}))
    }

    /// Connects as somebody: `user` and `pass`, or `auth_token`.
    pub(crate) fn connect_as(address: SocketAddr, mut who: Value) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        let mut client = Self { stream: BufReader::new(stream) };
        for (key, value) in [("headers", json!(true)), ("no_responders", json!(true)), ("verbose", json!(false))] {
            who[key] = value;
        }
        client.write(&format!("CONNECT {who}\r\nSUB inbox.* 1\r\n"));
        client
    }

    /// What JetStream's API answers to a request.
    pub(crate) fn ask(&mut self, what: &str, body: &Value) -> Value {
        let mut answers = self.ask_all([(format!("$JS.API.{what}"), body.to_string())]);
        answers.pop().expect("one answer to one request").expect("JetStream is there")
    }

    /// Likewise, and asked once: `None` while nobody answers, as in a cluster without a leader.
    pub(crate) fn try_ask(mut self, what: &str, body: &Value) -> Option<Value> {
        self.stream.get_ref().set_read_timeout(Some(SOON)).expect("a time-out can be set");
        self.ask_all([(format!("$JS.API.{what}"), body.to_string())]).pop().flatten()
    }

    /// Makes a stream with this name, and whatever else is given.
    pub(crate) fn make_stream(&mut self, name: &str, settings: Value) {
        let answer = self.ask(&format!("STREAM.CREATE.{name}"), &with_name(name, settings));
        assert!(answer["error"].is_null(), "{answer}");
    }

    /// Changes a stream.
    pub(crate) fn update_stream(&mut self, name: &str, settings: Value) {
        let answer = self.ask(&format!("STREAM.UPDATE.{name}"), &with_name(name, settings));
        assert!(answer["error"].is_null(), "{answer}");
    }

    /// The stream's configuration.
    pub(crate) fn stream(&mut self, name: &str) -> Value {
        self.ask(&format!("STREAM.INFO.{name}"), &json!({}))["config"].clone()
    }

    /// How many messages a stream has.
    pub(crate) fn count(&mut self, name: &str) -> u64 {
        self.ask(&format!("STREAM.INFO.{name}"), &json!({}))["state"]["messages"].as_u64().expect("the stream is there")
    }

    /// All that a stream has, in its order. None of it may have been deleted.
    pub(crate) fn stored(&mut self, name: &str) -> Vec<Stored> {
        let state = self.ask(&format!("STREAM.INFO.{name}"), &json!({}))["state"].clone();
        let sequence = |key: &str| state[key].as_u64().expect("the stream is there");
        let (mut from, last) = (sequence("first_seq"), sequence("last_seq"));
        let mut stored = Vec::new();
        while from <= last && sequence("messages") > 0 {
            let to = last.min(from + AT_ONCE - 1);
            let subject = format!("$JS.API.STREAM.MSG.GET.{name}");
            let answers = self.ask_all((from..=to).map(|seq| (subject.clone(), json!({ "seq": seq }).to_string())));
            stored.extend(answers.into_iter().map(|answer| read(&answer.expect("JetStream is there")["message"])));
            from = to + 1;
        }
        stored
    }

    /// The answer to each request; `None` where nobody listens.
    fn ask_all(&mut self, requests: impl IntoIterator<Item = (String, String)>) -> Vec<Option<Value>> {
        let (mut text, mut count) = (String::new(), 0);
        for (subject, body) in requests {
            text.push_str(&format!("PUB {subject} inbox.{count} {}\r\n{body}\r\n", body.len()));
            count += 1;
        }
        self.write(&text);
        let mut answers = vec![None; count];
        for _ in 0..count {
            let Some((subject, payload)) = self.read_message() else { break };
            let number: usize = subject.rsplit('.').next().and_then(|number| number.parse().ok()).expect("our inbox");
            answers[number] = serde_json::from_slice(&payload).ok();
        }
        answers
    }

    /// The next message, its subject and payload; `None` when none comes in time.
    fn read_message(&mut self) -> Option<(String, Vec<u8>)> {
        loop {
            let mut line = String::new();
            if let Err(error) = self.stream.read_line(&mut line) {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
                return None;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| words[words.len() - at].parse::<usize>().expect("a number of bytes");
            let (head, total) = match words.first().copied() {
                Some("MSG") => (0, number(1)),
                Some("HMSG") => (number(2), number(1)),
                Some("PING") => {
                    self.write("PONG\r\n");
                    continue;
                }
                Some("INFO" | "PONG" | "+OK") => continue,
                _ => panic!("the server says {line:?}"),
            };
            let subject = words[1].to_owned();
            let mut bytes = vec![0; total + 2];
            self.stream.read_exact(&mut bytes).expect("the whole message comes");
            bytes.truncate(total);
            return Some((subject, bytes.split_off(head)));
        }
    }

    fn write(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).expect("the server reads on");
    }
}

fn with_name(name: &str, mut settings: Value) -> Value {
    settings["name"] = json!(name);
    settings
}

fn read(message: &Value) -> Stored {
    let decoded = |key: &str| {
        let bytes = STANDARD.decode(message[key].as_str().unwrap_or_default()).expect("base64");
        String::from_utf8(bytes).expect("text")
    };
    let headers = decoded("hdrs");
    let headers = headers.lines().skip(1).filter_map(|line| line.split_once(": "));
    Stored {
        subject: message["subject"].as_str().expect("it is there").to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        body: decoded("data"),
    }
}
