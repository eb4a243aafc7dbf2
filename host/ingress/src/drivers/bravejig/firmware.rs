//! How firmware is cut for the line. Pure.

/// Bytes of firmware in one part, for a module and for the router.
const BLOCK: usize = 238;
const CHUNK: usize = 1024;

/// The first block says how long the image is.
const FIRST: usize = BLOCK - 4;

/// The number of the last part.
const LAST: u16 = 0xffff;

/// What a module needs to be told, in order: the hardware that it is for, the length and the image.
pub(super) fn module_parts(hardware: u16, image: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let length = u32::try_from(image.len()).map_err(|_| "firmware_base64: is too long".to_owned())?;
    if image.len() <= FIRST {
        return Err(format!("firmware_base64: an image has more than {FIRST} bytes"));
    }
    let rest: Vec<&[u8]> = image[FIRST..].chunks(BLOCK).collect();
    if rest.len() > usize::from(LAST) - 2 {
        return Err("firmware_base64: is too long".to_owned());
    }
    let mut hardware = hardware.to_le_bytes().to_vec();
    hardware.resize(BLOCK, 0xff);
    let first = [&length.to_le_bytes(), &image[..FIRST]].concat();
    let mut parts = vec![part(0, &hardware), part(1, &first)];
    for (index, block) in rest.iter().enumerate() {
        let number = if index + 1 == rest.len() { LAST } else { u16::try_from(index + 2).unwrap_or(LAST) };
        parts.push(part(number, block));
    }
    Ok(parts)
}

fn part(number: u16, block: &[u8]) -> Vec<u8> {
    [&number.to_le_bytes(), block].concat()
}

/// What the router is told after it was told the length.
pub(super) fn router_parts(image: &[u8]) -> Vec<Vec<u8>> {
    let part = |chunk: &[u8]| {
        let size = u16::try_from(chunk.len()).expect("at most 1024");
        [&size.to_le_bytes(), chunk].concat()
    };
    image.chunks(CHUNK).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modules_parts_are_numbered_and_the_last_one_says_so() {
        let image: Vec<u8> = (0..=255).cycle().take(234 + 238 + 5).collect();
        let parts = module_parts(0x0a0b, &image).unwrap();
        let heads: Vec<_> = parts.iter().map(|part| (part[0], part[1], part.len())).collect();
        assert_eq!(heads, [(0, 0, 240), (1, 0, 240), (2, 0, 240), (0xff, 0xff, 7)]);
        assert_eq!((&parts[0][2..5], parts[0][239]), (&[0x0b, 0x0a, 0xff][..], 0xff));
        assert_eq!(parts[1][2..6], (image.len() as u32).to_le_bytes());
        let again: Vec<u8> =
            parts[1][6..].iter().chain(&parts[2][2..]).chain(&parts[3][2..]).copied().collect();
        assert_eq!(again, image);
        assert!(module_parts(1, &image[..234]).is_err());
    }

    #[test]
    fn a_routers_parts_say_how_long_they_are() {
        let parts = router_parts(&[7; 1030]);
        assert_eq!((&parts[0][..2], parts[0].len()), (&[0, 4][..], 1026));
        assert_eq!(parts[1], [&[6, 0][..], &[7; 6]].concat());
    }
}
