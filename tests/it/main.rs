//! Promises, tried from outside on the real binary.

mod support;

mod admin;
mod answers;
mod bounds;
mod durable;
mod forms;
mod rejected;
mod requests;
mod secrets;
mod smoke;
mod transitions;
