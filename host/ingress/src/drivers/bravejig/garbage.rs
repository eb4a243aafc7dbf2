//! For those who throw garbage at what reads the line.

use super::parser::{Parser, STALL};
use super::uplink;
use super::wire::Frame;

/// Whether all of it was frames.
pub(crate) fn decodes(bytes: &[u8]) -> bool {
    let mut parser = Parser::default();
    parser.push(bytes);
    let mut found = 0;
    while let Some(frame) = parser.next(STALL) {
        found += 1;
        if let Frame::Uplink(uplink) = frame {
            // What the parser takes for an uplink can be read.
            assert!(
                uplink.data.len() <= 8 || !uplink::decode(&uplink).is_empty() || uplink.data[6..8] == [0, 0]
            );
        }
    }
    found > 0 && parser.take_skipped() == 0
}
