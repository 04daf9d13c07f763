//! What the server's errors mean.

use redis::ServerError;

use super::connection::Server;
use crate::sink::Failure;
use crate::sink::excerpt::excerpt;

/// What it means for a change that the server answered with this error.
pub(super) fn failure(server: &Server, error: &ServerError) -> Failure {
    let (code, details) = (error.code(), error.details().unwrap_or_default());
    let (kind, remark): (fn(String) -> Failure, &str) = match code {
        "OOM" | "MISCONF" | "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "BUSY" | "NOREPLICAS" => {
            (Failure::away, "")
        }
        "READONLY" => (Failure::away, " (it is a replica: the URL should lead to the master)"),
        // What they say is a slot and an address.
        "MOVED" | "ASK" => {
            return Failure::away(
                server.says(&format!("{code}: it belongs to a Redis Cluster, which is not supported")),
            );
        }
        "NOAUTH" => (Failure::away, " (the URL has no password)"),
        "WRONGPASS" => (Failure::away, " (the URL's user or password is wrong)"),
        "DENIED" => (Failure::away, ""),
        "WRONGTYPE" => (Failure::refused, " (the key is there, and is no stream)"),
        "NOPERM" => (Failure::refused, " (the user lacks +xadd, or the key)"),
        // What it says to everybody about commands of any size.
        "ERR" if details.starts_with("Protocol error: unauthenticated") => {
            (Failure::away, " (the URL has no password)")
        }
        "ERR" if details.starts_with("Protocol error: invalid bulk length") => {
            (Failure::refused, " (the message is larger than its proto-max-bulk-len)")
        }
        "ERR" if details.starts_with("max number of clients") => (Failure::away, ""),
        _ => (Failure::try_again, ""),
    };
    let said = excerpt(format!("{code} {details}").as_bytes(), &server.hidden);
    kind(format!("{}{remark}", server.says(&said)))
}
