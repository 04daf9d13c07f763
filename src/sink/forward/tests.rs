mod configuration;
mod conformance;
mod destination;
mod failures;
mod requests;
mod tls;
