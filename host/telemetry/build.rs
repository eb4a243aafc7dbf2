//! Makes what collectors understand from `host/proto`, without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../proto/otlp.proto");
    let files = protox::compile(["otlp.proto"], ["../proto"])?;
    tonic_prost_build::configure().bytes(".otlp").compile_fds(files)?;
    Ok(())
}
