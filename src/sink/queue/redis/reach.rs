//! Whether the server would take entries.

use std::collections::HashMap;
use std::sync::Arc;

use redis::{cmd, from_redis_value};

use super::answer;
use super::connection::{Connection, NoReply, Server};

/// Tries whether entries could be added to this stream, adds none, and says what came of it.
pub(super) async fn reach(server: &Arc<Server>, stream: &str) -> Result<String, String> {
    let connection = server.connect().await?;
    // No entry can have this id. That is said last: after what keeps any other from being added.
    let mut impossible = cmd("XADD");
    impossible.arg(stream).arg("NOMKSTREAM").arg("0-0").arg("id").arg("");
    match connection.request(&impossible).await {
        Err(NoReply::Error(error))
            if error.code() == "ERR" && error.details().is_some_and(|said| said.contains("ID")) => {}
        Err(error) => return Err(connection.told(error)),
        Ok(_) => return Err(server.says("as if it had added what no stream can have")),
    }
    let entries = match connection.request(cmd("XLEN").arg(stream)).await {
        Ok(entries) => from_redis_value::<u64>(entries).map(|entries| format!(", which has {entries} entries")),
        Err(NoReply::Error(error)) if error.code() == "WRONGTYPE" => return Err(answer::failure(server, &error).cause),
        // It is not for everybody to ask.
        Err(_) => Ok(String::new()),
    };
    let entries = entries.unwrap_or_default();
    Ok(server.says(&format!("and takes entries into the stream {stream}{entries}{}", durability(&connection).await)))
}

/// What the server does for its data to survive it, where it says that.
async fn durability(connection: &Connection) -> &'static str {
    let Ok(reply) = connection.request(cmd("CONFIG").arg("GET").arg("append*")).await else { return "" };
    let settings: HashMap<String, String> = from_redis_value(reply).unwrap_or_default();
    match ["appendonly", "appendfsync"].map(|name| settings.get(name).map(String::as_str)) {
        [Some("no"), _] => "; what it confirms is in its memory only (appendonly no)",
        [Some("yes"), Some("always")] => "; what it confirms is synced to its disk (appendfsync always)",
        [Some("yes"), Some("everysec")] => {
            "; what it confirms is synced to its disk within a second or two (appendfsync everysec)"
        }
        [Some("yes"), Some("no")] => "; what it confirms is on its disk when its system likes (appendfsync no)",
        _ => "",
    }
}
