//! The store as its users see it, on a simulated disk unless the disk itself is what is tested.

#![allow(clippy::unwrap_used, reason = "also what tests share is a test")]

mod damage;
mod damaged_rows;
mod faults;
mod large;
mod large_faults;
mod listing;
mod load;
mod operations;
mod power;
mod retention;
mod rig;
mod trace;
