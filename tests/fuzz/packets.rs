//! That no packet of MQTT is left out.

use sandbar_ingress::decoders::DECODERS;
use sandbar_tests::targets::packets::TYPES;
use sandbar_tests::targets::{self, Target};

#[test]
fn every_packet_of_both_versions_is_a_target_and_its_seeds_are_taken() {
    let all = targets::all(DECODERS.iter().map(|decoder| (decoder.name, decoder.seeds, decoder.decode)));
    for (version, types) in [("3.1.1", &TYPES[1..15]), ("5.0", &TYPES[1..])] {
        for packet in types {
            let ending = format!(" {version} {packet}");
            let found: Vec<&Target> = all.iter().filter(|target| target.name.ends_with(&ending)).collect();
            assert!(!found.is_empty(), "no target{ending}");
            for target in found {
                assert!(target.seeds.iter().all(|seed| (target.check)(seed)), "{}", target.name);
            }
        }
    }
}
