//! How instances get their memory on this machine (docs/decisions/0003-instance-memory.md), and the engine.

use wasmtime::{Config, Engine, OptLevel, PoolingAllocationConfig};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Where instances live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceMemory {
    /// Slots mapped at the start: an instance is made in microseconds.
    Pooled {
        memories: u32,
        /// Bytes of address space of each: the most that one memory can have.
        reservation: u64,
    },
    /// Mapped when needed: little address space, slower to make.
    OnDemand,
}

/// What the machine, its control group and its limits leave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Bytes of physical memory.
    memory: u64,
    /// Bytes of address space, unless unlimited.
    address_space: Option<u64>,
}

impl Room {
    pub(crate) fn here() -> Self {
        let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| meminfo_total(&text));
        let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max");
        let group = group.ok().and_then(|text| text.trim().parse().ok());
        let memory = total.into_iter().chain(group).min().unwrap_or(GIB);
        let address_space = rustix::process::getrlimit(rustix::process::Resource::As).current;
        Self { memory, address_space }
    }

    /// What to try, the best first; the last always works.
    pub(crate) fn choices(self) -> Vec<InstanceMemory> {
        // A slot's bookkeeping and warm pages cost real memory.
        let memories = u32::try_from(self.memory / (8 * MIB)).unwrap_or(u32::MAX).clamp(32, 256);
        let mut choices = Vec::new();
        match self.address_space {
            // Whole 4 GiB need no bounds checks; 39-bit address spaces have no room for them.
            None => {
                choices.push(InstanceMemory::Pooled { memories, reservation: 4 * GIB });
                choices.push(InstanceMemory::Pooled { memories, reservation: 256 * MIB });
            }
            Some(bytes) if bytes >= 256 * GIB => {
                choices.push(InstanceMemory::Pooled { memories, reservation: 256 * MIB });
            }
            Some(_) => {}
        }
        choices.push(InstanceMemory::OnDemand);
        choices
    }

    /// Bytes that a slot may keep resident between instances, so that they need not be mapped anew.
    fn keep_resident(self) -> usize {
        match self.memory >= 4 * GIB {
            true => MIB as usize,
            false => 128 << 10,
        }
    }
}

fn meminfo_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

impl InstanceMemory {
    /// The most bytes that one memory can have.
    pub(crate) fn memory_max(self) -> usize {
        let most = match self {
            Self::Pooled { reservation, .. } => reservation,
            Self::OnDemand => 4 * GIB,
        };
        usize::try_from(most).unwrap_or(usize::MAX)
    }
}

/// The engine, with the first choice that the machine can do.
pub(crate) fn start(
    room: Room,
    choices: &[InstanceMemory],
) -> Result<(Engine, InstanceMemory), wasmtime::Error> {
    let mut last = wasmtime::format_err!("no way of allocating instances was offered");
    for choice in choices {
        match Engine::new(&config(room, *choice)) {
            Ok(engine) => return Ok((engine, *choice)),
            Err(error) => {
                tracing::debug!(?choice, error = %format_args!("{error:#}"), "not enough address space");
                last = error;
            }
        }
    }
    Err(last)
}

fn config(room: Room, choice: InstanceMemory) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        // The same numbers on every machine, as replays and comparisons expect.
        .relaxed_simd_deterministic(true)
        .wasm_memory64(false)
        // Backtraces name functions; offsets within them would make the code a third larger.
        .generate_address_map(false)
        .native_unwind_info(false)
        // A guest's recursion ends at the first, with a trap; the rest is for host functions that it calls.
        .max_wasm_stack(512 << 10)
        .async_stack_size(1 << 20);
    match choice {
        InstanceMemory::Pooled { memories, reservation } => {
            config.memory_reservation(reservation).memory_guard_size(match reservation >= 4 * GIB {
                true => 32 * MIB,
                false => 64 << 10,
            });
            config.allocation_strategy(pool(room, memories, reservation));
        }
        InstanceMemory::OnDemand => {
            config
                .memory_reservation(4 * MIB)
                .memory_reservation_for_growth(4 * MIB)
                .memory_guard_size(64 << 10)
                .guard_before_linear_memory(false);
        }
    }
    config
}

fn pool(room: Room, memories: u32, reservation: u64) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_memories(memories)
        .total_component_instances(memories * 2)
        .total_stacks(memories * 2)
        .total_tables(memories * 8)
        .total_core_instances(memories * 64)
        .max_memory_size(usize::try_from(reservation).unwrap_or(usize::MAX))
        // A Python component has 38 core instances.
        .max_core_instances_per_component(128)
        .max_memories_per_component(16)
        .max_tables_per_component(128)
        .max_component_instance_size(4 << 20)
        .table_elements(50_000)
        .linear_memory_keep_resident(room.keep_resident())
        .table_keep_resident(16 << 10)
        .max_unused_warm_slots(memories / 8);
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(memory: u64, address_space: Option<u64>, best: InstanceMemory) {
        let choices = Room { memory, address_space }.choices();
        assert_eq!((choices[0], choices[choices.len() - 1]), (best, InstanceMemory::OnDemand));
    }

    #[test]
    fn follows_the_machine() {
        check(16 * GIB, None, InstanceMemory::Pooled { memories: 256, reservation: 4 * GIB });
        check(GIB, None, InstanceMemory::Pooled { memories: 128, reservation: 4 * GIB });
        check(16 * GIB, Some(300 * GIB), InstanceMemory::Pooled { memories: 256, reservation: 256 * MIB });
        check(16 * GIB, Some(2 * GIB), InstanceMemory::OnDemand);
    }

    #[test]
    fn reads_the_kernels_words() {
        assert_eq!(meminfo_total("MemTotal:        1024 kB\nMemFree: 1 kB\n"), Some(1 << 20));
        assert_eq!(meminfo_total("MemFree: 1 kB\n"), None);
    }
}
