//! YUYV, what most cameras give that give no JPEG, as a JPEG. Pure.

use jpeg_encoder::{Encoder, EncodingError, ImageBuffer, JpegColorType, SamplingFactor};

/// One picture: of every two pixels the first one's luma, blue, the second one's luma, red.
#[derive(Clone, Copy)]
pub(crate) struct Yuyv<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) width: u16,
    pub(crate) height: u16,
    /// Bytes from one line to the next.
    pub(crate) stride: usize,
    pub(crate) range: Range,
}

/// What black and white are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// 16 and 235, as in television (ITU-R BT.601); what cameras give that do not say otherwise.
    Limited,
    /// 0 and 255, as in a JPEG.
    Full,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum YuyvError {
    #[error("a picture of {width} × {height} has {needed} bytes, this one {found}")]
    Short { width: u16, height: u16, needed: usize, found: usize },
    #[error("it cannot be made a JPEG: {0}")]
    Encoding(#[from] EncodingError),
}

impl Yuyv<'_> {
    /// `quality` is 1 to 100.
    pub(crate) fn encode(self, quality: u8) -> Result<Vec<u8>, YuyvError> {
        let line = usize::from(self.width).div_ceil(2) * 4;
        let needed = self.stride.max(line) * usize::from(self.height).saturating_sub(1) + line;
        if self.bytes.len() < needed || self.stride < line {
            let (width, height, found) = (self.width, self.height, self.bytes.len());
            return Err(YuyvError::Short { width, height, needed, found });
        }
        let mut jpeg = Vec::with_capacity(needed / 8);
        let mut encoder = Encoder::new(&mut jpeg, quality);
        // As many of each colour as there are: nothing is lost by the conversion itself.
        encoder.set_sampling_factor(SamplingFactor::F_2_1);
        encoder.encode_image(self)?;
        Ok(jpeg)
    }
}

impl ImageBuffer for Yuyv<'_> {
    fn get_jpeg_color_type(&self) -> JpegColorType {
        JpegColorType::Ycbcr
    }

    fn width(&self) -> u16 {
        self.width
    }

    fn height(&self) -> u16 {
        self.height
    }

    fn fill_buffers(&self, y: u16, buffers: &mut [Vec<u8>; 4]) {
        let line = self.bytes.get(usize::from(y) * self.stride..).unwrap_or_default();
        let [luma, blue, red, _] = buffers;
        for x in 0..usize::from(self.width) {
            let Some([first, u, second, v]) = line.get(x / 2 * 4..x / 2 * 4 + 4) else { return };
            luma.push(self.range.luma(if x % 2 == 0 { *first } else { *second }));
            blue.push(self.range.colour(*u));
            red.push(self.range.colour(*v));
        }
    }
}

impl Range {
    fn luma(self, value: u8) -> u8 {
        match self {
            Self::Full => value,
            Self::Limited => stretch(i32::from(value) - 16, 219, 0),
        }
    }

    fn colour(self, value: u8) -> u8 {
        match self {
            Self::Full => value,
            Self::Limited => stretch(i32::from(value) - 128, 224, 128),
        }
    }
}

/// From `steps` to 255 steps, rounded, around `middle`.
fn stretch(value: i32, steps: i32, middle: i32) -> u8 {
    let rounding = if value < 0 { -steps / 2 } else { steps / 2 };
    ((value * 255 + rounding) / steps + middle).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::super::jpeg;
    use super::*;

    fn lines(picture: Yuyv<'_>) -> [Vec<u8>; 3] {
        let mut buffers = <[Vec<u8>; 4]>::default();
        (0..picture.height).for_each(|y| picture.fill_buffers(y, &mut buffers));
        let [luma, blue, red, _] = buffers;
        [luma, blue, red]
    }

    #[test]
    fn pixels_are_told_apart_line_by_line() {
        // Two lines of two pixels, each with two bytes that are none.
        let bytes = [10, 1, 20, 2, 0, 0, 30, 3, 40, 4, 0, 0];
        let picture = Yuyv { bytes: &bytes, width: 2, height: 2, stride: 6, range: Range::Full };
        assert_eq!(lines(picture), [vec![10, 20, 30, 40], vec![1, 1, 3, 3], vec![2, 2, 4, 4]]);
    }

    #[test]
    fn televisions_black_and_white_become_those_of_a_jpeg() {
        for (luma, expected) in [(16, 0), (235, 255), (0, 0), (255, 255), (126, 128)] {
            assert_eq!(Range::Limited.luma(luma), expected, "{luma}");
        }
        for (colour, expected) in [(128, 128), (240, 255), (16, 0), (0, 0), (255, 255)] {
            assert_eq!(Range::Limited.colour(colour), expected, "{colour}");
        }
        assert_eq!((Range::Full.luma(16), Range::Full.colour(240)), (16, 240));
    }

    #[test]
    fn it_becomes_a_jpeg_of_its_size() {
        let bytes: Vec<u8> = (0..64 * 48 * 2).map(|at| (at % 256) as u8).collect();
        let picture = Yuyv { bytes: &bytes, width: 64, height: 48, stride: 128, range: Range::Limited };
        let made = jpeg::check(&picture.encode(85).unwrap().into()).unwrap();
        assert_eq!((made.width, made.height), (64, 48));
    }

    #[test]
    fn half_a_picture_is_refused() {
        let bytes = [0; 64 * 48 * 2];
        let picture = |bytes, stride| Yuyv { bytes, width: 64, height: 48, stride, range: Range::Full };
        let short = picture(&bytes[..bytes.len() - 1], 128).encode(85).unwrap_err();
        assert_eq!(short.to_string(), "a picture of 64 × 48 has 6144 bytes, this one 6143");
        assert!(picture(&bytes, 127).encode(85).is_err() && picture(&bytes, 0).encode(85).is_err());
    }
}
