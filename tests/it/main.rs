//! Promises, tried from outside on the real binary.

mod support;

mod durable;
mod secrets;
mod smoke;
