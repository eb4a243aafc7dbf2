//! `host/proto/otlp.proto`, as its build script has compiled it.

#![allow(clippy::all, unreachable_pub, unused_qualifications, dead_code, reason = "generated")]

include!(concat!(env!("OUT_DIR"), "/otlp.rs"));
