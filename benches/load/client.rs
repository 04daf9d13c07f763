//! Callbacks over kept connections, as cheaply as they can be posted.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What each message goes through.
const STATUSES: [&str; 3] = ["SENT", "RECEIVED", "READ"];

/// Messages of all runs of this process, so that none is a duplicate.
static MESSAGES: AtomicU64 = AtomicU64::new(0);

/// Posts the lifecycles of so many messages, over so many connections at once, each callback after the answer to the one before;
/// how long that took. Each answer is 200.
pub(crate) async fn post(address: SocketAddr, path: &str, messages: u64, connections: u64) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let mut posting = JoinSet::new();
    for connection in 0..connections {
        let share = messages / connections + u64::from(connection < messages % connections);
        posting.spawn(post_one_after_another(address, path.to_owned(), share));
    }
    while let Some(posted) = posting.join_next().await {
        posted??;
    }
    Ok(begun.elapsed())
}

async fn post_one_after_another(address: SocketAddr, path: String, messages: u64) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    for _ in 0..messages {
        let number = MESSAGES.fetch_add(1, Ordering::Relaxed) + (u64::from(std::process::id()) << 40);
        // Scattered over the index, as the ids of messages are.
        let id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for status in STATUSES {
            let body = format!(
                r#"{{"instanceId":"3C67AB641C8AA0412F6A242B4E23AEF7","status":"{status}","ids":["3EB0{id:016X}"],"momment":1632234645000,"phoneDevice":0,"phone":"55449{:08}","type":"MessageStatusCallback","isGroup":false}}"#,
                id % 100_000_000
            );
            let answer = exchange(&mut stream, "POST", &path, &body).await?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "not stored: {answer}");
        }
    }
    Ok(())
}

/// One request over a connection of its own; the answer's body.
pub(crate) async fn request(address: SocketAddr, method: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let answer = exchange(&mut stream, method, path, "").await?;
    ensure!(answer.starts_with("HTTP/1.1 20"), "{method} {path}: {answer}");
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// One request and its answer, head and body.
async fn exchange(stream: &mut TcpStream, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await?;
    let mut answer = Vec::with_capacity(512);
    loop {
        ensure!(stream.read_buf(&mut answer).await? > 0, "the connection closed");
        let text = std::str::from_utf8(&answer)?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        if body.len() >= length.parse::<usize>().context("a length is a number")? {
            return Ok(text.to_owned());
        }
    }
}
