mod answers;
mod configuration;
mod conformance;
mod destination;
mod logins;
mod outages;
mod tls;
