//! Plugchat's `update-webhooks` as its documentation has it, on a real socket, and servers that behave worse.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;

/// The only token that it accepts.
pub(crate) const TOKEN: &str = "canary-token-77d1e0b45a";

/// Where it takes webhooks.
pub(crate) const PATH: &str = "/api/integrations/update-webhooks";

/// How it answers.
#[derive(Clone)]
pub(crate) enum Behaviour {
    /// By the documented rules.
    Documented,
    /// Always with this status, these headers and this body.
    Always(u16, &'static str, String),
    /// Likewise so many times, and from then on not at all: the connection closes.
    First(usize, u16, String),
    /// Not at all; the connection stays.
    Silent,
    /// Not at all; the connection closes.
    Closes,
    /// With something else than HTTP.
    Babbles,
}

/// A request that it got.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// A running fake. Dropping it ends it.
pub(crate) struct FakePlugchat {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    thread: Option<JoinHandle<()>>,
}

impl FakePlugchat {
    /// Starts one on a free port of this host.
    pub(crate) fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let thread = std::thread::spawn(move || serve(&listener, &behaviour, &seen));
        Self { address, requests, thread: Some(thread) }
    }

    /// What `plugchat.endpoint` has to be to reach it.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// The requests it has got, oldest first.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("nothing panics while it is held").clone()
    }
}

impl Drop for FakePlugchat {
    fn drop(&mut self) {
        // An empty connection ends the thread; it may have ended by itself.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, behaviour: &Behaviour, seen: &Mutex<Vec<Request>>) {
    let mut kept_open = Vec::new();
    while let Ok((mut stream, _)) = listener.accept() {
        if let Behaviour::Babbles = behaviour {
            // Whatever was asked for, and be it a TLS handshake.
            match stream.read(&mut [0; 4096]) {
                Ok(1..) => stream.write_all(b"220 mail.example.com ESMTP\r\n").expect("the caller reads an answer"),
                _ => return,
            }
            seen.lock().expect("nothing panics while it is held").push(Request::default());
            continue;
        }
        let Some(request) = read(&stream) else { return };
        seen.lock().expect("nothing panics while it is held").push(request.clone());
        let (status, headers, body) = match behaviour {
            Behaviour::Documented => documented(&request),
            Behaviour::Always(status, headers, body) => (*status, *headers, body.clone()),
            Behaviour::First(count, ..) if seen.lock().expect("nothing panics while it is held").len() > *count => {
                continue;
            }
            Behaviour::First(_, status, body) => (*status, "", body.clone()),
            Behaviour::Silent => {
                kept_open.push(stream);
                continue;
            }
            Behaviour::Closes | Behaviour::Babbles => continue,
        };
        // The caller may have gone.
        let _ = write!(
            stream,
            "HTTP/1.1 {status} Answer\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}",
            body.len()
        );
    }
}

fn documented(request: &Request) -> (u16, &'static str, String) {
    let json = "content-type: application/json\r\n";
    let refuse = |status: u16, error: &str| (status, json, format!(r#"{{"error": "{error}"}}"#));
    if request.path != PATH {
        return refuse(404, "Not found");
    }
    if request.method != "PUT" {
        return refuse(405, "Method not allowed");
    }
    let media_type = request.header("content-type").unwrap_or_default();
    if media_type.split(';').next().unwrap_or_default().trim() != "application/json" {
        return refuse(415, "Unsupported media type");
    }
    let is_right = request.header("authorization") == Some(&format!("Bearer {TOKEN}"));
    let body = request.json();
    let value = body.get("value").and_then(Value::as_object);
    let Some(value) = value.filter(|value| is_right && !value.is_empty() && value.values().all(Value::is_string))
    else {
        return refuse(401, "Unauthorized");
    };
    if !value.values().all(|url| url.as_str().is_some_and(|url| url.starts_with("https://"))) {
        return refuse(400, "Webhooks have to be safe");
    }
    (200, json, r#"{"value": true}"#.into())
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body: String::from_utf8(body).ok()? })
}
