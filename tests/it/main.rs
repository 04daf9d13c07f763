//! Promises, tried from outside on the real binary.

mod fake_plugchat;
mod inside;
mod support;

mod admin;
mod answers;
mod bounds;
mod canary;
mod commands;
mod configuration;
mod delivery;
mod destination;
mod durable;
mod follow;
mod forms;
mod forward;
mod isolation;
mod kills;
mod odd_answers;
mod openapi;
mod operator;
mod places;
mod refusals;
mod register;
mod rejected;
mod replay;
mod requests;
mod room;
mod secrets;
mod send;
mod smoke;
mod starting;
mod stopping;
mod tail;
mod transitions;
