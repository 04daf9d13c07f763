//! Promises, tried from outside on the real binary.

mod support;

mod durable;
mod answers;
mod bounds;
mod requests;
mod secrets;
mod smoke;
