//! What a JPEG must be to be handed on (ITU-T T.81, annex B). Pure: nothing is decoded.

use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use jpeg_encoder::{ColorType, Encoder};

/// A JPEG that begins and ends as one, and its size in pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) jpeg: Bytes,
    pub(crate) width: u16,
    pub(crate) height: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JpegError {
    #[error("it does not begin as a JPEG")]
    NoStart,
    #[error("it is cut short at byte {at}")]
    Short { at: usize },
    #[error("byte {at} is {found:#04x}, where a marker must be")]
    NoMarker { at: usize, found: u8 },
    #[error("it has no picture")]
    NoScan,
    #[error("it does not say how large it is")]
    NoSize,
}

const START: [u8; 2] = [0xff, 0xd8];
const END: [u8; 2] = [0xff, 0xd9];

/// What the segments before the picture say.
#[derive(Default)]
struct Head {
    size: Option<(u16, u16)>,
    has_huffman_tables: bool,
    /// Where the picture's own segment begins.
    scan: usize,
}

/// What follows the end is cut off: cameras pad. Where the Huffman tables are left out, as in many a camera's MJPEG,
/// those of the standard (annex K.3) are put in: only so is it a JPEG.
pub(crate) fn check(bytes: &Bytes) -> Result<Picture, JpegError> {
    let head = head(bytes)?;
    let (width, height) = head.size.ok_or(JpegError::NoSize)?;
    let picture = &bytes[head.scan..];
    let end = picture.windows(2).rposition(|pair| pair == END).ok_or(JpegError::Short { at: bytes.len() })?;
    let end = head.scan + end + END.len();
    let jpeg = match head.has_huffman_tables {
        true => bytes.slice(..end),
        false => {
            let tables = standard_tables();
            let mut whole = BytesMut::with_capacity(end + tables.len());
            whole.extend_from_slice(&bytes[..head.scan]);
            whole.extend_from_slice(tables);
            whole.extend_from_slice(&bytes[head.scan..end]);
            whole.freeze()
        }
    };
    Ok(Picture { jpeg, width, height })
}

fn head(bytes: &[u8]) -> Result<Head, JpegError> {
    if !bytes.starts_with(&START) {
        return Err(JpegError::NoStart);
    }
    let mut head = Head::default();
    let mut at = START.len();
    loop {
        let byte = |at: usize| bytes.get(at).copied().ok_or(JpegError::Short { at: bytes.len() });
        let (first, marker) = (byte(at)?, byte(at + 1)?);
        match (first, marker) {
            // Bytes may be filled up with these.
            (0xff, 0xff) => at += 1,
            // Without a length: restarts, and what is reserved for the moment.
            (0xff, 0x01 | 0xd0..=0xd7) => at += 2,
            (0xff, 0xd9) => return Err(JpegError::NoScan),
            (0xff, 0xda) => return Ok(Head { scan: at, ..head }),
            (0xff, _) => {
                let length = usize::from(u16::from_be_bytes([byte(at + 2)?, byte(at + 3)?]));
                let segment = bytes.get(at + 4..at + 2 + length.max(2));
                head.segment(marker, segment.ok_or(JpegError::Short { at: bytes.len() })?);
                at += 2 + length.max(2);
            }
            (found, _) => return Err(JpegError::NoMarker { at, found }),
        }
    }
}

impl Head {
    fn segment(&mut self, marker: u8, segment: &[u8]) {
        match (marker, segment) {
            (0xc4, _) => self.has_huffman_tables = true,
            (0xc8 | 0xcc, _) => {}
            (0xc0..=0xcf, [_, high, low, wide, narrow, ..]) => {
                let (height, width) =
                    (u16::from_be_bytes([*high, *low]), u16::from_be_bytes([*wide, *narrow]));
                self.size = Some((width, height)).filter(|_| width > 0 && height > 0);
            }
            _ => {}
        }
    }
}

/// The segments with them: out of a picture by our own encoder, which uses them.
fn standard_tables() -> &'static [u8] {
    static TABLES: OnceLock<Vec<u8>> = OnceLock::new();
    TABLES.get_or_init(|| {
        let mut jpeg = Vec::new();
        // It only fails to write, or of a size that is none.
        drop(Encoder::new(&mut jpeg, 50).encode(&[0; 8 * 8 * 3], 8, 8, ColorType::Ycbcr));
        let mut tables = Vec::new();
        let mut at = START.len();
        while let Some([0xff, marker, high, low]) = jpeg.get(at..at + 4) {
            let end = at + 2 + usize::from(u16::from_be_bytes([*high, *low]));
            match marker {
                0xda => break,
                0xc4 => tables.extend_from_slice(jpeg.get(at..end).unwrap_or_default()),
                _ => {}
            }
            at = end;
        }
        tables
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The smallest thing that passes for a JPEG of this size: `note` stands where the picture would.
    pub(in super::super) fn jpeg(width: u16, height: u16, note: &[u8]) -> Bytes {
        let [high, low] = height.to_be_bytes();
        let [wide, narrow] = width.to_be_bytes();
        let frame = [0xff, 0xc0, 0, 11, 8, high, low, wide, narrow, 1, 1, 0x11, 0];
        let tables = [0xff, 0xc4, 0, 3, 0];
        let scan = [0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0];
        [&START[..], &tables, &frame, &scan, note, &END].concat().into()
    }

    #[test]
    fn says_how_large_it_is_and_cuts_off_what_follows() {
        let whole = jpeg(640, 480, b"x");
        let picture = check(&whole).unwrap();
        assert_eq!((picture.width, picture.height, &picture.jpeg), (640, 480, &whole));
        let padded: Bytes = [&whole[..], &[0; 100]].concat().into();
        assert_eq!(check(&padded), Ok(picture));
    }

    #[test]
    fn an_end_within_a_segment_is_none() {
        let thumbnail = [&[0xff, 0xe1, 0, 6][..], &START, &END].concat();
        let whole = jpeg(8, 8, b"x");
        let with = Bytes::from([&whole[..2], &thumbnail, &whole[2..]].concat());
        assert_eq!(check(&with).unwrap().jpeg, with);
        let cut = with.slice(..with.len() - 2);
        assert_eq!(check(&cut), Err(JpegError::Short { at: cut.len() }));
    }

    #[test]
    fn what_is_no_jpeg_is_refused() {
        let whole = jpeg(8, 8, b"");
        for length in 0..whole.len() {
            assert!(check(&whole.slice(..length)).is_err(), "{length} bytes");
        }
        let error = |bytes: &[u8]| check(&Bytes::copy_from_slice(bytes)).unwrap_err();
        assert_eq!(error(b"GIF89a"), JpegError::NoStart);
        assert_eq!(error(&[0xff, 0xd8, 0x11, 0]), JpegError::NoMarker { at: 2, found: 0x11 });
        assert_eq!(error(&[0xff, 0xd8, 0xff, 0xd9]), JpegError::NoScan);
        assert_eq!(error(&jpeg(0, 8, b"")), JpegError::NoSize);
        assert_eq!(error(&[0xff, 0xd8, 0xff, 0xe0, 0xff, 0xff, 0]), JpegError::Short { at: 7 });
    }

    #[test]
    fn the_tables_that_a_camera_leaves_out_are_put_in() {
        let pixels: Vec<u8> = (0..16 * 16 * 3).map(|at| (at * 7 % 251) as u8).collect();
        let mut whole = Vec::new();
        Encoder::new(&mut whole, 80).encode(&pixels, 16, 16, ColorType::Ycbcr).unwrap();
        let tables = standard_tables();
        // Four tables of annex K.3: 29, 179, 29 and 179 bytes, each in a segment or all in one.
        assert!(tables.len() > 400, "{} bytes", tables.len());
        let mut bare = whole.clone();
        let mut rest = tables;
        while let [0xff, 0xc4, high, low, ..] = rest {
            let (segment, after) = rest.split_at(2 + usize::from(u16::from_be_bytes([*high, *low])));
            let at = bare.windows(segment.len()).position(|window| window == segment).unwrap();
            bare.drain(at..at + segment.len());
            rest = after;
        }
        let mended = check(&bare.into()).unwrap();
        assert_eq!((mended.width, mended.height, mended.jpeg.len()), (16, 16, whole.len()));
        assert!(mended.jpeg.windows(tables.len()).any(|window| window == tables));
    }
}
