//! Who the receiver says that it is.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

use super::streams::Log;
use super::{CANARY, sink};
use crate::sink::FailureKind;
use crate::sink::broker::nats;
use crate::sink::conformance::{Give as _, delivery, first_failure};
use crate::sink::queue::Broker as _;

/// Its acknowledgement is enough to know that the change is there.
const MAKES: &str = "create_stream = { name = \"WHATSAPP\" }\ntimeout = \"5s\"\n";

/// Tries a server with the right credentials and with wrong ones, each an option; neither may be seen on the log.
async fn try_both(server_lines: &str, right: &dyn Fn(u16) -> String, wrong: &dyn Fn(u16) -> String, secrets: &[&str]) {
    let log = Log::default();
    let writer = log.clone();
    let _guard = tracing::subscriber::set_default(
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish(),
    );
    let server = nats::start_with(server_lines);
    let port = server.address().port();
    let with = |option: String| sink(server.address(), &format!("{option}\n{MAKES}"));
    let refused = with(wrong(port));
    let failure = first_failure(&refused, &[delivery("m")]).await;
    assert_eq!(failure.kind, FailureKind::Away { after: None });
    assert!(
        failure.cause.contains("the server refuses the user, the password, the token or the key"),
        "{}",
        failure.cause
    );
    let reached = refused.reach().await.unwrap_err();
    let accepted = with(right(port));
    accepted.give(&[delivery("m")]).await.unwrap();
    let shown = format!("{} {failure:?} {reached} {}", accepted.describe(), refused.describe());
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("async_nats"), "the client's own lines are among them");
    for secret in secrets.iter().copied().chain([CANARY]) {
        assert!(!shown.contains(secret), "{secret}: {shown}");
        assert!(!logged.contains(secret), "{secret}: {logged}");
    }
}

#[tokio::test]
async fn a_user_and_password_in_the_url_are_taken_as_they_are_meant() {
    let user = |password: &str, port: u16| format!("url = \"nats://us%40er:{password}@127.0.0.1:{port}\"");
    try_both(
        &format!("authorization {{ user: \"us@er\", password: \"{CANARY}/pass:word\" }}"),
        &|port| user(&format!("{CANARY}%2Fpass%3Aword"), port),
        &|port| user(&format!("{CANARY}-wrong"), port),
        &[],
    )
    .await;
}

#[tokio::test]
async fn a_token_in_the_url_is_taken() {
    let token = |token: &str, port: u16| format!("url = \"nats://{token}@127.0.0.1:{port}\"");
    try_both(
        &format!("authorization {{ token: \"{CANARY}\" }}"),
        &|port| token(CANARY, port),
        &|port| token(&format!("{CANARY}-wrong"), port),
        &[],
    )
    .await;
}

#[tokio::test]
async fn an_nkey_is_taken_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (key, other) = (KeyPair::new_user(), KeyPair::new_user());
    let [right, wrong] = [("right", &key), ("wrong", &other)].map(|(name, key)| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{}\n", key.seed().unwrap())).unwrap();
        format!("nkey_file = \"{}\"", path.display())
    });
    let lines = format!("authorization {{ users: [{{ nkey: {} }}] }}", key.public_key());
    let seeds = [key.seed().unwrap(), other.seed().unwrap()];
    try_both(&lines, &|_| right.clone(), &|_| wrong.clone(), &[&seeds[0], &seeds[1]]).await;
}

#[tokio::test]
async fn a_credentials_file_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (operator, system, account) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let everything = [
        "subs",
        "data",
        "payload",
        "imports",
        "exports",
        "conn",
        "leaf",
        "mem_storage",
        "disk_storage",
        "streams",
        "consumer",
    ];
    let mut limits: Value = everything.iter().map(|limit| ((*limit).to_owned(), json!(-1))).collect();
    limits["wildcards"] = json!(true);
    let mut no_storage = limits.clone();
    for limit in ["mem_storage", "disk_storage"] {
        no_storage[limit] = json!(0);
    }
    let system_key = system.public_key();
    let lines = format!(
        "operator: {}\nsystem_account: {system_key}\nresolver: MEMORY\nresolver_preload: {{ {system_key}: {}, {}: {} }}",
        token(&operator, &operator, json!({ "type": "operator" })),
        token(&operator, &system, json!({ "type": "account", "limits": no_storage })),
        account.public_key(),
        token(&operator, &account, json!({ "type": "account", "limits": limits })),
    );
    let user = |file: &str, by: &KeyPair| credentials(&folder.path().join(file), by);
    let (right, secret) = user("right", &account);
    let (wrong, other) = user("wrong", &KeyPair::new_account());
    try_both(&lines, &|_| right.clone(), &|_| wrong.clone(), &[&secret[0], &secret[1], &other[0], &other[1]]).await;
}

/// Writes the credentials of a new user of this account. The option with the file, and what is secret in it.
fn credentials(path: &Path, account: &KeyPair) -> (String, [String; 2]) {
    let user = KeyPair::new_user();
    let limits = json!({ "type": "user", "subs": -1, "data": -1, "payload": -1 });
    let (token, seed) = (token(account, &user, limits), user.seed().unwrap());
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    std::fs::write(path, text).unwrap();
    (format!("credentials_file = \"{}\"", path.display()), [token, seed])
}

/// A JWT by which one key vouches for another.
fn token(by: &KeyPair, of: &KeyPair, mut claims: Value) -> String {
    claims["version"] = json!(2);
    let claims =
        json!({ "jti": "1", "iat": 1, "iss": by.public_key(), "sub": of.public_key(), "name": "x", "nats": claims });
    let parts =
        [json!({ "typ": "JWT", "alg": "ed25519-nkey" }), claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let signed = parts.join(".");
    let signature = URL_SAFE_NO_PAD.encode(by.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}
