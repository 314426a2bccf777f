//! What the containers of GIF, WebP and APNG say about their frames, without decoding any.

/// Browsers show frames that ask for 10 ms or less this long, and so do we.
const DEFAULT_SECONDS: f64 = 0.1;
const SHORTEST_SECONDS: f64 = 0.010_5;

/// How long each frame of an animated GIF, WebP or APNG is shown, in seconds.
///
/// Empty for still pictures and for anything else. A GIF of one frame is a still picture. A damaged
/// file gives the frames before the damage.
pub fn frame_durations(bytes: &[u8]) -> Vec<f64> {
    let mut seconds = Vec::new();
    // The walkers stop with `None` at the first byte that is missing; what they found stays.
    if bytes.starts_with(b"GIF8") {
        let _ = walk_gif(bytes, &mut seconds);
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        let _ = walk_webp(bytes, &mut seconds);
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        let _ = walk_png(bytes, &mut seconds);
    }
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
    let mut at = 12;
    loop {
        let len = u32::from_le_bytes(read(bytes, at + 4)?) as usize;
        if bytes.get(at..at + 4)? == b"ANMF" {
            let [a, b, c] = read(bytes, at + 8 + 12)?;
            seconds.push(f64::from(u32::from_le_bytes([a, b, c, 0])) / 1000.0);
        }
        at = at.checked_add(8)?.checked_add(len)?.checked_add(len & 1)?;
    }
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
