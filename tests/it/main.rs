//! Promises, tried from outside on the real binary.

mod fake_plugchat;
mod inside;
mod support;

mod admin;
mod answers;
mod backup;
mod body_retention;
mod bounds;
mod canary;
mod commands;
mod configuration;
mod delivery;
mod destination;
mod durable;
mod erase;
mod forms;
mod forward;
mod isolation;
mod kills;
mod odd_answers;
mod operator;
mod places;
mod refusals;
mod register;
mod rejected;
mod replay;
mod requests;
mod room;
mod schema;
mod secrets;
mod send;
mod smoke;
mod starting;
mod stopping;
mod transitions;
