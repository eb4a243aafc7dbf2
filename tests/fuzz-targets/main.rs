//! One program for all targets: `SANDBAR_FUZZ_TARGET` says which it is. Without that it prints their names.
//! The rest is libFuzzer's: its options, folders of inputs, or files to try again.

#![no_main]
#![allow(clippy::exit, clippy::disallowed_methods, reason = "libFuzzer has the main function")]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use sandbar_ingress::decoders::DECODERS;
use sandbar_tests::targets::{self, Target};

static TARGET: OnceLock<Target> = OnceLock::new();

fuzz_target!(init: choose(), |bytes: &[u8]| {
    let target = TARGET.get().expect("it was chosen");
    let _taken = (target.check)(bytes);
});

fn choose() {
    let all = targets::all(DECODERS.iter().map(|decoder| (decoder.name, decoder.seeds, decoder.decode)));
    let Ok(name) = std::env::var("SANDBAR_FUZZ_TARGET") else {
        all.iter().for_each(|target| println!("{}", target.name));
        std::process::exit(0);
    };
    let target = all.into_iter().find(|target| target.name == name).expect("a target has this name");
    plant(&target);
    let _first = TARGET.set(target);
}

/// The seeds, in the first folder that is given, which libFuzzer reads next and adds to.
fn plant(target: &Target) {
    let Some(folder) = std::env::args().skip(1).map(PathBuf::from).find(|path| path.is_dir()) else { return };
    for (index, seed) in target.seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{index}")), seed).expect("the folder can be written to");
    }
}
