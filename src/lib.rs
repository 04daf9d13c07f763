//! Receives WhatsApp message-status callbacks from Plugchat and Z-API, durably, and hands each status change on.
//!
//! The path of a callback: **receive** ([`http`]) → **parse** ([`callback`]) → **commit** ([`store`]) → *answer 200* →
//! **drain** ([`dispatch`]) → **deliver** ([`sink`]).
//!
//! - There is no 200 without a commit on disk.
//! - `http` never sees a sink and a sink never sees a request: they meet in the store.
//! - `callback` alone knows the wire format, `store` alone knows SQL, `http` alone knows status codes, each sink's file alone
//!   knows its client.
//! - Nothing below `service` knows the whole configuration. Nothing is unbounded. No task is spawned and forgotten.
//!
//! In reading order: [`status`], [`callback`], [`store`], [`sink`], [`dispatch`], [`http`], [`admin`], [`plugchat`], [`config`],
//! [`service`], [`systemd`], [`cli`], [`telemetry`].

pub mod admin;
pub mod callback;
pub mod cli;
pub mod config;
pub mod dispatch;
pub mod http;
mod keyfile;
mod metrics;
mod network;
mod phone;
pub mod plugchat;
pub mod secret;
pub mod service;
mod silence;
pub mod sink;
pub mod status;
pub mod store;
pub mod systemd;
pub mod telemetry;
mod throttle;
mod visible;

pub use config::Config;
