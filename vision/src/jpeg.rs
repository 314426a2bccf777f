//! Two facts about a JPEG file that its decoder keeps to itself.

/// What the marker segments say.
pub(crate) struct JpegFacts {
    /// 1 grey, 3 colour, 4 CMYK; 0 if no frame header was found.
    pub(crate) n_components: u8,
    /// Whether the scans are followed by the end marker. The decoder paints what is missing from a
    /// cut file grey and reports success.
    pub(crate) is_complete: bool,
}

impl JpegFacts {
    /// Walks the markers of a file that starts with `FF D8`.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let mut facts = JpegFacts { n_components: 0, is_complete: false };
        let mut at = 2;
        while let Some(marker) = next_marker(bytes, &mut at) {
            match marker {
                0xd9 => {
                    facts.is_complete = true;
                    break;
                }
                // Frame headers: all of C0..=CF but Huffman tables, JPEG extensions and arithmetic conditioning.
                0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                    facts.n_components = bytes.get(at + 7).copied().unwrap_or(0);
                    at = segment_end(bytes, at);
                }
                0x01 | 0xd0..=0xd8 => {} // markers without a segment
                _ => at = segment_end(bytes, at),
            }
        }
        facts
    }
}

/// The next marker byte at or after `at`, which moves past it. Skips scan data on the way, where
/// `FF 00` is a stuffed byte and `FF D0` to `FF D7` restart the decoder.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        let rest = bytes.get(*at..)?;
        *at += rest.iter().position(|&byte| byte == 0xff)? + 1;
        match *bytes.get(*at)? {
            0x00 | 0xd0..=0xd7 => *at += 1,
            0xff => {} // fill byte
            marker => {
                *at += 1;
                return Some(marker);
            }
        }
    }
}

/// Where the segment ends whose length field is at `at`.
fn segment_end(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at..at + 2) {
        Some(len) => at + usize::from(u16::from_be_bytes([len[0], len[1]])).max(2),
        None => bytes.len(),
    }
}
