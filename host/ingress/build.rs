//! Makes what the `kraken` driver speaks from `host/proto`, without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../proto/kraken.proto");
    let files = protox::compile(["kraken.proto"], ["../proto"])?;
    tonic_prost_build::configure().bytes(".kraken").compile_fds(files)?;
    Ok(())
}
