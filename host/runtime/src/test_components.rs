//! Tiny components for tests, well-behaved and hostile, made without any toolchain: each is a page of text
//! (`test_components/*.wat`) against the canonical ABI of the component model.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const COMMON: &str = include_str!("test_components/common.wat");
const CONFIGURE: &str = include_str!("test_components/configure.wat");
const NOTHING: &str = include_str!("test_components/nothing.wat");

macro_rules! components {
    ($($(#[$doc:meta])* $name:ident($world:ident, $configure:expr);)*) => {
        $(
            $(#[$doc])*
            pub fn $name() -> Vec<u8> {
                build(include_str!(concat!("test_components/", stringify!($name), ".wat")), $configure, World::$world)
            }
        )*
    };
}

components! {
    /// One message: the reading's topic, content type, attributes and payload.
    echo(Handler, CONFIGURE);
    /// No outputs.
    nothing(Handler, CONFIGURE);
    /// Never returns.
    endless_loop(Handler, CONFIGURE);
    /// Takes memory until it is refused, then traps.
    memory_growth(Handler, CONFIGURE);
    /// Calls itself without end.
    deep_recursion(Handler, CONFIGURE);
    /// 10,000 messages of 64 KiB.
    huge_output(Handler, CONFIGURE);
    /// Traps, in `give_up`.
    trap(Handler, CONFIGURE);
    /// Traps at every third call of one instance, and does nothing at the others.
    trap_every_third(Handler, CONFIGURE);
    /// Counts its calls in the state's `count` (eight bytes, little-endian), and puts the count out.
    counter(Handler, CONFIGURE);
    /// Rejects: `no such sensor`.
    reject(Handler, CONFIGURE);
    /// Wants a retry: `not yet`.
    retry(Handler, CONFIGURE);
    /// A message to the topic `a/#`.
    wildcard_topic(Handler, CONFIGURE);
    /// A reply without a topic, of `on`, with an attribute that it may not set; and a command for `lamp`: `switch`, `on`.
    reply_and_command(Handler, CONFIGURE);
    /// Refuses a configuration without `greeting`; puts out what is there.
    greeting(Handler, "");
    /// Its `configure` logs `no such table`, then traps.
    failing_init(Handler, "");
    /// Logs 1000 lines at level `warn`, then traps.
    talkative(Handler, CONFIGURE);
    /// Puts out 32 bytes: the wall clock's seconds (8) and nanoseconds (4, and 4 of padding), a random number (8),
    /// and by how many nanoseconds the monotonic clock moved between two looks (8).
    time_and_chance(Wasi, CONFIGURE);
    /// Prints `one line`, ended, and `and half a`, not ended.
    printing(Wasi, CONFIGURE);
    /// Waits an hour in a WASI poll.
    sleeping(Wasi, CONFIGURE);
}

/// No WebAssembly.
pub fn garbage() -> Vec<u8> {
    b"#!/bin/sh\necho hello\n".to_vec()
}

/// A core module.
pub fn core_module() -> Vec<u8> {
    core(NOTHING, CONFIGURE)
}

/// A component that breaks off in the middle.
pub fn truncated() -> Vec<u8> {
    let mut whole = echo();
    whole.truncate(whole.len() / 2);
    whole
}

/// Exports `configure` alone.
pub fn missing_export() -> Vec<u8> {
    build("", CONFIGURE, World::MissingExport)
}

/// Imports an interface that is nearly ours.
pub fn unknown_import() -> Vec<u8> {
    build(
        concat!(
            r#"(import "sandbar:handlers/state@0.1.0" "get" (func))"#,
            include_str!("test_components/nothing.wat")
        ),
        CONFIGURE,
        World::UnknownImport,
    )
}

/// Its `handle` takes bytes and returns bytes.
pub fn wrong_type() -> Vec<u8> {
    build(r#"(func (export "handle") (param i32 i32) (result i32) unreachable)"#, CONFIGURE, World::WrongType)
}

#[derive(Clone, Copy)]
enum World {
    Handler,
    Wasi,
    MissingExport,
    UnknownImport,
    WrongType,
}

impl World {
    const fn name(self) -> &'static str {
        match self {
            Self::Handler => "sandbar:handler/handler",
            Self::Wasi => "sandbar:tests/wasi",
            Self::MissingExport => "sandbar:tests/missing-export",
            Self::UnknownImport => "sandbar:tests/unknown-import",
            Self::WrongType => "sandbar:tests/wrong-type",
        }
    }
}

/// In the order in which they build on each other.
const WIT: [(&str, &str); 5] = [
    ("config.wit", include_str!("../../../wit/deps/config/store.wit")),
    ("logging.wit", include_str!("../../../wit/deps/logging/logging.wit")),
    ("keyvalue.wit", include_str!("../../../wit/deps/keyvalue/keyvalue.wit")),
    ("handler.wit", include_str!("../../../wit/handler.wit")),
    ("worlds.wit", include_str!("test_components/worlds.wit")),
];

fn build(fields: &str, configure: &str, world: World) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let packages = WIT.map(|(path, text)| resolve.push_str(path, text).expect("the contract is valid"));
    let world = resolve.select_world(&packages, Some(world.name())).expect("the world is there");
    let mut module = core(fields, configure);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)
        .expect("a world can be written");
    let mut encoder = ComponentEncoder::default();
    let encoded = encoder.validate(true).module(&module).and_then(|encoder| encoder.encode());
    encoded.expect("the text fits the world")
}

fn core(fields: &str, configure: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {fields} {configure} {COMMON})")).expect("the text is valid")
}
