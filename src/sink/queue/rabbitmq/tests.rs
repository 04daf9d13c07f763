//! What the sink promises, on the real server.

mod away;
mod configuration;
mod conformance;
mod declare;
mod messages;
mod place;
mod refusals;
mod tls;
