//! What is declared through the API: the store keeps it as bytes that it does not look into.

/// What a document declares. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Module = 1,
    Route = 2,
    Ingress = 3,
    Sink = 4,
    Setting = 5,
    Replay = 6,
}
