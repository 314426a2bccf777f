//! What the containers of GIF, WebP and APNG say about their frames, without decoding any.

use std::iter;

use image::ImageFormat;

/// Browsers show frames that ask for 10 ms or less this long, and so do we.
const DEFAULT_SECONDS: f64 = 0.1;
const SHORTEST_SECONDS: f64 = 0.010_5;

/// How long each frame of an animated GIF, WebP or APNG is shown, in seconds.
///
/// Empty for still pictures and for anything else. A GIF of one frame is a still picture. A damaged
/// file gives the frames before the damage.
pub fn frame_durations(bytes: &[u8]) -> Vec<f64> {
    let mut seconds = Vec::new();
    // The walkers stop with `None` at the end or at the first byte that is missing; what they found stays.
    let _ = match image::guess_format(bytes) {
        Ok(ImageFormat::Gif) => walk_gif(bytes, &mut seconds),
        Ok(ImageFormat::WebP) => walk_webp(bytes, &mut seconds),
        Ok(ImageFormat::Png) => walk_png(bytes, &mut seconds),
        _ => None,
    };
    if seconds.len() < 2 {
        return Vec::new();
    }
    for duration in &mut seconds {
        if *duration < SHORTEST_SECONDS {
            *duration = DEFAULT_SECONDS;
        }
    }
    seconds
}

/// GIF89a: each image descriptor is a frame; the graphic control block before it holds its delay.
fn walk_gif(bytes: &[u8], seconds: &mut Vec<f64>) -> Option<()> {
    let color_table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let mut at = 13 + color_table(*bytes.get(10)?);
    let mut delay = 0.0;
    loop {
        match *bytes.get(at)? {
            0x21 => {
                if *bytes.get(at + 1)? == 0xf9 {
                    delay = f64::from(u16::from_le_bytes(read(bytes, at + 4)?)) / 100.0;
                }
                at = skip_gif_blocks(bytes, at + 2)?;
            }
            0x2c => {
                seconds.push(delay);
                delay = 0.0;
                // Descriptor, local colour table, one byte of LZW code size, data.
                at += 10 + color_table(*bytes.get(at + 9)?) + 1;
                at = skip_gif_blocks(bytes, at)?;
            }
            _ => return None,
        }
    }
}

/// The position after a chain of length-prefixed blocks that ends with an empty one.
fn skip_gif_blocks(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            len => at += 1 + usize::from(len),
        }
    }
}

/// WebP: each `ANMF` chunk is a frame, with its duration in milliseconds.
fn walk_webp(bytes: &[u8], seconds: &mut Vec<f64>) -> Option<()> {
    for (_, payload) in riff_chunks(&bytes[12..]).filter(|(name, _)| name == b"ANMF") {
        let [a, b, c] = read(payload, 12)?;
        seconds.push(f64::from(u32::from_le_bytes([a, b, c, 0])) / 1000.0);
    }
    None
}

/// The chunks of a RIFF file, each with its name. Stops before one that is cut short.
pub(crate) fn riff_chunks(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    iter::from_fn(move || {
        let (name, rest) = bytes.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let (payload, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        // Chunks begin at even positions.
        bytes = rest.get(payload.len() % 2..).unwrap_or_default();
        Some((*name, payload))
    })
}

/// APNG: each `fcTL` chunk is a frame, with its delay as a fraction of a second.
fn walk_png(bytes: &[u8], seconds: &mut Vec<f64>) -> Option<()> {
    let mut at = 8;
    let mut is_animated = false;
    loop {
        let len = u32::from_be_bytes(read(bytes, at)?) as usize;
        match bytes.get(at + 4..at + 8)? {
            b"acTL" => is_animated = true,
            b"fcTL" if is_animated => {
                let numerator = u16::from_be_bytes(read(bytes, at + 8 + 20)?);
                let denominator = match u16::from_be_bytes(read(bytes, at + 8 + 22)?) {
                    0 => 100, // as the APNG specification says
                    stated => stated,
                };
                seconds.push(f64::from(numerator) / f64::from(denominator));
            }
            _ => {}
        }
        at = at.checked_add(12)?.checked_add(len)?;
    }
}

fn read<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stills_and_noise_have_no_durations() {
        for bytes in [
            &b""[..],
            b"GIF89a",
            b"RIFF\0\0\0\0WEBP",
            b"RIFF\0\0\0\0WEBPANMF\x04\0\0\0",
            b"\x89PNG\r\n\x1a\n",
        ] {
            assert!(frame_durations(bytes).is_empty());
        }
    }

    #[test]
    fn gif_delays_follow_browsers() {
        // Two one-pixel frames without a colour table: 0.2 s, and 0.01 s which is shown for 0.1 s.
        let frame = |delay: u8| {
            let mut bytes = vec![0x21, 0xf9, 4, 0, delay, 0, 0, 0];
            bytes.extend([0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x44, 1, 0]);
            bytes
        };
        let gif = [b"GIF89a\x01\0\x01\0\0\0\0".as_slice(), &frame(20), &frame(1), b";"].concat();
        assert_eq!(frame_durations(&gif), [0.2, 0.1]);
    }

    #[test]
    fn chunks_are_padded_to_even_length() {
        let bytes = b"abcd\x01\0\0\0x\0efgh\0\0\0\0ijkl\x05\0\0\0cut";
        let chunks: Vec<_> = riff_chunks(bytes).collect();
        assert_eq!(chunks, [(*b"abcd", &b"x"[..]), (*b"efgh", &b""[..])]);
    }
}
