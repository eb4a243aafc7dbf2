//! The host works where a process may have 2 GiB of address space (`ulimit -v`): this starts itself so.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::process::{Command, ExitCode};

use sandbar_runtime::test_components as components;
use sandbar_runtime::{InstanceMemory, Limits};

const CHILD: &str = "SANDBAR_SMALL_ADDRESS_SPACE";

fn main() -> ExitCode {
    if std::env::var_os(CHILD).is_some() {
        work();
        return ExitCode::SUCCESS;
    }
    let this = std::env::current_exe().unwrap();
    let script = "ulimit -v 2097152 && exec \"$0\"";
    let status = Command::new("sh").arg("-c").arg(script).arg(this).env(CHILD, "1").status().unwrap();
    match status.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Forty handlers, four instances each at work at once, a hostile one among them.
fn work() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let host = support::host();
        assert_eq!(host.runtime.instance_memory(), InstanceMemory::OnDemand);
        let hungry = Limits { memory: 32 << 20, ..support::limits() };
        let hungry = host.limited(&components::memory_growth(), hungry).await;
        assert_eq!(support::call(&hungry).await.result.unwrap_err().code(), "out_of_memory");
        let component = host.runtime.load(&components::echo()).unwrap();
        for _ in 0..40 {
            let handler = host.runtime.handler(&component, support::settings()).await.unwrap();
            let mut instances = Vec::new();
            for _ in 0..4 {
                instances.push(handler.checkout().await.unwrap());
            }
            for instance in &mut instances {
                support::call_on(instance).await.result.unwrap();
            }
        }
    });
}
