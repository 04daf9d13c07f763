mod configuration;
mod destination;
mod failures;
mod requests;
mod tls;
