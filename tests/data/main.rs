//! The sinks that keep data, and both ways of Kraken, against servers and clients that nobody here wrote:
//! PostgreSQL, MariaDB, SQLite's own program, Redis, gRPC's Python implementation.
//!
//! Each test starts its own server, on the loopback address, with a data directory of its own, as an unprivileged
//! user where the server insists, and ends it by its process id. One that is not installed fails its test.
//!
//! MongoDB: Debian 12 has no server, and none is in a package registry. Its peer is MockupDB, MongoDB's own library
//! for servers that tests of drivers talk to, with the collection kept by a program of ours: the wire protocol and
//! BSON are read by what MongoDB's people wrote, what a collection does is only played.

mod certificates;
mod collectors;
mod from_kraken;
mod mariadb;
mod mongodb;
mod postgres;
mod python;
mod redis;
mod server;
mod sqlite;
mod stage;
