//! Makes small JPEG pictures of large ones. What it does is told in README.md.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{ImageReader, Limits};
use sandbar_guest::prelude::*;

struct Thumbnail {
    width: u32,
    height: u32,
    quality: u8,
    topic: String,
}

/// Pixels of a picture that is taken: their bytes must fit into the route's memory, several times.
const PIXELS_MAX: u64 = 8 << 20;

impl Handler for Thumbnail {
    fn configure() -> Result<Self, String> {
        let (width, height) = (config::parse_or("width", 320)?, config::parse_or("height", 320)?);
        let quality = config::parse_or("quality", 75)?;
        if width == 0 || height == 0 || !(1..=100).contains(&quality) {
            return Err("settings `width` and `height` must be above 0, `quality` from 1 to 100".to_owned());
        }
        let topic = config::get("topic").unwrap_or_else(|| "{topic}/thumbnail".to_owned());
        Ok(Self { width, height, quality, topic })
    }

    fn handle(&self, reading: Reading) -> Result<Vec<Output>, Failure> {
        let no_picture =
            |error: &dyn std::fmt::Display| Failure::reject(format!("the picture cannot be read: {error}"));
        let open = || ImageReader::new(Cursor::new(&reading.payload)).with_guessed_format();
        let size = open().map_err(|error| no_picture(&error))?.into_dimensions();
        let (width, height) = size.map_err(|error| no_picture(&error))?;
        if u64::from(width) * u64::from(height) > PIXELS_MAX {
            return Err(Failure::reject(format!("{width} by {height} pixels are more than {PIXELS_MAX}")));
        }
        let mut reader = open().map_err(|error| no_picture(&error))?;
        reader.limits(Limits::no_limits());
        let picture = reader.decode().map_err(|error| no_picture(&error))?;
        // Never larger than it was.
        let small = match width <= self.width && height <= self.height {
            true => picture,
            false => picture.thumbnail(self.width, self.height),
        };
        let mut bytes = Vec::new();
        let small = small.to_rgb8();
        JpegEncoder::new_with_quality(&mut bytes, self.quality)
            .encode_image(&small)
            .map_err(|error| Failure::reject(format!("the thumbnail cannot be written: {error}")))?;
        let message = Message::new(reading.fill_in(&self.topic), "image/jpeg", bytes)
            .with_attribute("picture.width", small.width().to_string())
            .with_attribute("picture.height", small.height().to_string());
        Ok(vec![message.into()])
    }
}

sandbar_guest::handler!(Thumbnail);

#[cfg(test)]
mod tests {
    use sandbar_guest::testing::{Harness, reading};

    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let picture = image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 128]));
        picture.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png).unwrap();
        bytes
    }

    #[test]
    fn keeps_the_proportions_and_enlarges_nothing() {
        let mut thumbnail = Harness::<Thumbnail>::new(&[("width", "32"), ("height", "32")]).unwrap();
        for (size, expected) in [((200, 100), (32, 16)), ((64, 128), (16, 32)), ((20, 10), (20, 10))] {
            let outputs = thumbnail.handle(reading("cam", png(size.0, size.1))).unwrap();
            let [Output::Message(message)] = &outputs[..] else { panic!("{outputs:?}") };
            let small = image::load_from_memory(&message.payload).unwrap();
            assert_eq!((small.width(), small.height()), expected);
        }
    }

    #[test]
    fn what_is_no_picture_is_rejected() {
        let mut thumbnail = Harness::<Thumbnail>::new(&[]).unwrap();
        let mut broken = png(64, 64);
        broken.truncate(60);
        for payload in [b"hello".to_vec(), vec![], broken] {
            assert!(matches!(thumbnail.handle(reading("cam", payload)), Err(Failure::Reject(_))));
        }
    }
}
