//! HTTP/2 against the real program, frame by frame.

#[path = "../common/mod.rs"]
mod common;

mod abuse;
mod grpc;
mod raw;
mod requests;
mod rules;
mod stopping;
