//! Small labelled photographs, if the user has them: stored zips of JPEGs, one folder a WordNet class.
//!
//! 200 fine classes are far too many for a model this small, so each maps to an everyday word,
//! or to none: then the honest answer is that we are not sure.

use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use image::RgbImage;

/// What a photograph shows, in one everyday word.
#[derive(Debug)]
pub(crate) struct PhotoWord {
    /// The noun.
    pub(crate) noun: &'static str,
    /// How a caption names it: "a photo of …".
    pub(crate) phrase: &'static str,
    /// WordNet ids of its classes, without the leading `n`.
    classes: &'static [u32],
}

const fn word(noun: &'static str, phrase: &'static str, classes: &'static [u32]) -> PhotoWord {
    PhotoWord { noun, phrase, classes }
}

/// The words for photographs.
#[rustfmt::skip]
pub(crate) const PHOTO_WORDS: &[PhotoWord] = &[
    word("dog", "a dog", &[2085620, 2094433, 2099601, 2099712, 2106662, 2113799]),
    word("cat", "a cat", &[2123045, 2123394, 2124075]),
    word("bird", "a bird", &[1855672, 2002724, 2056570, 2058221]),
    word("frog", "a frog", &[1641577, 1644900]),
    word("fish", "a fish", &[1443537]),
    word("spider", "a spider", &[1774384, 1774750]),
    word("butterfly", "a butterfly", &[2279972, 2281406]),
    word("insect", "an insect", &[2165456, 2190166, 2206856, 2226429, 2231487, 2233338, 2236044, 2268443]),
    word("monkey", "a monkey", &[2480495, 2481823, 2486410]),
    // Large mammals: bear, lion, cougar, pig, ox, bison, sheep, gazelle, camel, elephant.
    word("animal", "an animal", &[2132136, 2129165, 2125311, 2395406, 2403003, 2410509, 2415577, 2423022, 2437312, 2504458]),
    // Jellyfish, coral, sea slug, sea cucumber, reef.
    word("sea life", "sea life", &[1910747, 1917289, 1950731, 2321529, 9256479]),
    word("car", "a car", &[2814533, 3100240, 3670208, 4285008]),
    word("truck", "a truck", &[3796401, 3977966]),
    word("bus", "a bus", &[4146614, 4487081]),
    word("train", "a train", &[2917067, 3393912]),
    word("boat", "a boat", &[3447447, 3662601]),
    word("fruit", "fruit", &[7747607, 7749582, 7753592, 7768694, 7720875]),
    word("food", "food", &[7583066, 7614500, 7695742, 7711569, 7715103, 7871810, 7873807, 7875152, 7579787]),
    word("bottle", "a bottle", &[2823428, 3983396, 3937543, 4560804]),
    word("clothes", "clothes", &[2669723, 2730930, 2837789, 2963159, 3404251, 3617480, 3763968, 3770439, 3980874, 4371430, 4532106]),
    word("furniture", "furniture", &[3179701, 3201208, 4099969]),
    word("building", "a building", &[2793495, 2814860, 4417672, 4486054, 4562935, 3837869]),
    word("bridge", "a bridge", &[4311004, 4366367, 4532670]),
    word("mountain", "a mountain", &[9193705, 9246464]),
    word("water", "the water's edge", &[9332890, 9428293]),
    word("shop", "a shop", &[2791270, 2927161, 3089624]),
];

/// An index into [`PHOTO_WORDS`].
pub(crate) type PhotoWordId = usize;

/// Some photographs, still as JPEG bytes: decoded, 40,000 of them would fill half a gigabyte.
#[derive(Debug, Default)]
pub(crate) struct Photos {
    files: Vec<Vec<u8>>,
    /// By word; the last list is the photographs that no word fits.
    by_word: Vec<Vec<(usize, Range<usize>)>>,
}

impl Photos {
    /// Reads the named stored zips of `folder`.
    ///
    /// # Errors
    /// If a file cannot be read, or is not a stored zip of `CLASS/FILE` members.
    pub(crate) fn open(folder: &Path, names: &[&str]) -> Result<Self> {
        let mut photos = Self { files: Vec::new(), by_word: vec![Vec::new(); PHOTO_WORDS.len() + 1] };
        for name in names {
            let path = folder.join(name);
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let members =
                stored_members(&bytes).with_context(|| format!("{} is not a stored zip", path.display()))?;
            for (member, range) in members {
                let class = member
                    .split('/')
                    .next()
                    .and_then(|c| c.strip_prefix('n'))
                    .and_then(|c| c.parse::<u32>().ok());
                let Some(class) = class else { continue };
                let known = PHOTO_WORDS.iter().position(|word| word.classes.contains(&class));
                photos.by_word[known.unwrap_or(PHOTO_WORDS.len())].push((photos.files.len(), range));
            }
            photos.files.push(bytes);
        }
        ensure!(
            photos.by_word.iter().all(|list| !list.is_empty()),
            "{} lacks photographs of some words",
            folder.display()
        );
        Ok(photos)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_word.is_empty()
    }

    /// How many photographs show a word (`None`: no word fits).
    pub(crate) fn count(&self, word: Option<PhotoWordId>) -> usize {
        self.by_word[word.unwrap_or(PHOTO_WORDS.len())].len()
    }

    /// One photograph of a word; `index` is below [`Self::count`]. A damaged file gives grey.
    pub(crate) fn decode(&self, word: Option<PhotoWordId>, index: usize) -> RgbImage {
        let (file, range) = &self.by_word[word.unwrap_or(PHOTO_WORDS.len())][index];
        match image::load_from_memory_with_format(&self.files[*file][range.clone()], image::ImageFormat::Jpeg)
        {
            Ok(picture) => picture.to_rgb8(),
            Err(_) => RgbImage::from_pixel(64, 64, image::Rgb([128; 3])),
        }
    }
}

/// Names and byte ranges of the members of a zip whose members are not compressed.
///
/// `None` if the bytes are anything else. Layout: APPNOTE.TXT 6.3, sections 4.3.7, 4.3.12 and 4.3.16.
fn stored_members(bytes: &[u8]) -> Option<Vec<(String, Range<usize>)>> {
    let u16_at = |at: usize| Some(usize::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)));
    let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    let end = bytes.windows(4).rposition(|w| w == b"PK\x05\x06")?;
    let (count, mut at) = (u16_at(end + 10)?, u32_at(end + 16)?);
    let mut members = Vec::with_capacity(count);
    for _ in 0..count {
        if bytes.get(at..at + 4)? != b"PK\x01\x02" {
            return None;
        }
        let (method, len, name_len) = (u16_at(at + 10)?, u32_at(at + 20)?, u16_at(at + 28)?);
        let name = String::from_utf8_lossy(bytes.get(at + 46..at + 46 + name_len)?).into_owned();
        let local = u32_at(at + 42)?;
        let start = local + 30 + u16_at(local + 26)? + u16_at(local + 28)?;
        if !name.ends_with('/') {
            if method != 0 || bytes.len() < start + len {
                return None;
            }
            members.push((name, start..start + len));
        }
        at += 46 + name_len + u16_at(at + 30)? + u16_at(at + 32)?;
    }
    Some(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// One stored member, its directory entry and the end record.
    fn zip(name: &str, content: &[u8]) -> Vec<u8> {
        let le16 = |v: usize| (v as u16).to_le_bytes();
        let le32 = |v: usize| (v as u32).to_le_bytes();
        let sizes = [le32(content.len()), le32(content.len())].concat();
        let mut bytes = [b"PK\x03\x04".as_slice(), &[0; 14], &sizes, &le16(name.len()), &[0; 2]].concat();
        bytes.extend([name.as_bytes(), content].concat());
        let directory = bytes.len();
        bytes.extend(
            [b"PK\x01\x02".as_slice(), &[0; 16], &sizes, &le16(name.len()), &[0; 12], &le32(0)].concat(),
        );
        bytes.extend(name.as_bytes());
        let directory_len = bytes.len() - directory;
        bytes.extend([b"PK\x05\x06".as_slice(), &[0; 4], &le16(1), &le16(1)].concat());
        bytes.extend([le32(directory_len), le32(directory)].concat());
        bytes.extend([0; 2]);
        bytes
    }

    #[test]
    fn stored_members_are_found() {
        let bytes = zip("n123/a.JPEG", b"content");
        let members = stored_members(&bytes).unwrap();
        assert_eq!(members.len(), 1);
        assert_eq!(members[0].0, "n123/a.JPEG");
        assert_eq!(&bytes[members[0].1.clone()], b"content");
    }

    #[test]
    fn a_cut_zip_is_refused() {
        let bytes = zip("n123/a.JPEG", b"content");
        assert!((0..bytes.len() - 2).all(|len| stored_members(&bytes[..len]).is_none()));
    }

    #[test]
    fn a_class_has_at_most_one_word() {
        let all: Vec<u32> = PHOTO_WORDS.iter().flat_map(|w| w.classes).copied().collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }
}
