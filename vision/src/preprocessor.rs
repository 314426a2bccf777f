//! The numbers of `preprocessor_config.json`, checked, and what they do to a picture.

use serde_json::Value;

use crate::{Error, FrameStack, Note, Patches, Picture, Result, resize_bicubic, smart_resize};

/// How pictures become patches. The default is ERNIE 4.5 VL.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessor {
    /// Side of a patch in pixels.
    pub patch_size: u32,
    /// Patches per side of a block that becomes one token.
    pub merge_size: u32,
    /// Video frames that become one token.
    pub temporal_merge: u32,
    /// Fewest pixels of a resized picture.
    pub min_pixels: u32,
    /// Most pixels of a resized picture.
    pub max_pixels: u32,
    /// Fewest pixels of a resized video frame.
    pub video_min_pixels: u32,
    /// Most pixels of a resized video frame.
    pub video_max_pixels: u32,
    /// Subtracted from red, green, blue in `0..=1`.
    pub mean: [f32; 3],
    /// Divides what is left.
    pub std: [f32; 3],
}

/// Pixels of one 28 by 28 block, the unit in which ERNIE states its limits.
const BLOCK: u32 = 28 * 28;

impl Default for Preprocessor {
    fn default() -> Self {
        Preprocessor {
            patch_size: 14,
            merge_size: 2,
            temporal_merge: 2,
            min_pixels: 4 * BLOCK,
            max_pixels: 6177 * BLOCK, // the processor's limit, above the image class's own 1280 blocks
            video_min_pixels: 299 * BLOCK,
            video_max_pixels: 1196 * BLOCK,
            // CLIP's statistics.
            mean: [0.48145466, 0.4578275, 0.40821073],
            std: [0.26862954, 0.261_302_6, 0.275_777_1],
        }
    }
}

/// A config may not ask for more pixels than this, however large its numbers: a picture of 64 Mi
/// pixels is 0.8 GB of patches.
const MAX_PIXELS: u32 = 64 << 20;

impl Preprocessor {
    /// Reads `preprocessor_config.json` (limits as `min_pixels`/`max_pixels` or as
    /// `size.shortest_edge`/`size.longest_edge`), or a `processor_config.json` that holds it as
    /// `image_processor` with `video_processor` beside it. What is not stated stays at the default.
    ///
    /// # Errors
    /// If it is not JSON, a number is out of range, or it asks for steps that this crate does not
    /// do (another filter than bicubic, patches in raster order).
    pub fn from_json(json: &str) -> Result<Self> {
        let config: Value =
            serde_json::from_str(json).map_err(|error| Error::Config(format!("not JSON: {error}")))?;
        let mut pre = Preprocessor::default();
        pre.read_image_section(Section(config.get("image_processor").unwrap_or(&config)))?;
        if let Some(video) = config.get("video_processor") {
            let (min, max) = Section(video).pixel_limits(pre.video_min_pixels, pre.video_max_pixels)?;
            (pre.video_min_pixels, pre.video_max_pixels) = (min, max);
        }
        Ok(pre)
    }

    fn read_image_section(&mut self, config: Section<'_>) -> Result<()> {
        if !config.0.is_object() {
            return Err(Error::Config("expected a JSON object".to_string()));
        }
        if let Some(kind) = config.0.get("image_processor_type").and_then(Value::as_str)
            && kind.contains("PaddleOCR")
        {
            return Err(Error::Config(format!(
                "`{kind}` orders its patches in raster order, which is not supported"
            )));
        }
        config.expect("do_resize", true)?;
        config.expect("do_rescale", true)?;
        config.expect("do_normalize", true)?;
        config.expect("resample", 3)?; // PIL's number for bicubic
        if let Some(factor) = config.0.get("rescale_factor").filter(|value| !value.is_null())
            && !factor.as_f64().is_some_and(|factor| (factor * 255.0 - 1.0).abs() < 1e-6)
        {
            return Err(Error::Config(format!("`rescale_factor` is {factor}, only 1/255 is supported")));
        }
        self.patch_size = config.number("patch_size", self.patch_size, 1..=64)?;
        self.merge_size = config.number("merge_size", self.merge_size, 1..=8)?;
        self.temporal_merge = config.number("temporal_patch_size", self.temporal_merge, 1..=8)?;
        self.temporal_merge = config.number("temporal_conv_size", self.temporal_merge, 1..=8)?;
        (self.min_pixels, self.max_pixels) = config.pixel_limits(self.min_pixels, self.max_pixels)?;
        self.mean = config.channels("image_mean", self.mean, |x| x.is_finite())?;
        self.std = config.channels("image_std", self.std, |x| x.is_finite() && x > 0.0)?;
        Ok(())
    }

    /// Side of a block that becomes one token, in pixels.
    pub fn factor(&self) -> u32 {
        self.patch_size * self.merge_size
    }

    /// The `(height, width)` a picture of this size is resized to.
    ///
    /// # Errors
    /// As [`smart_resize`](crate::smart_resize()).
    pub fn smart_resize(&self, height: u32, width: u32) -> Result<(u32, u32)> {
        smart_resize(height, width, self.factor(), self.min_pixels, self.max_pixels)
    }

    /// The `(height, width)` a video frame of this size is resized to.
    ///
    /// # Errors
    /// As [`smart_resize`](crate::smart_resize()).
    pub fn smart_resize_frame(&self, height: u32, width: u32) -> Result<(u32, u32)> {
        smart_resize(height, width, self.factor(), self.video_min_pixels, self.video_max_pixels)
    }

    /// Resizes one picture and cuts it into patches.
    ///
    /// # Errors
    /// If the picture's buffer does not match its size, or its sides differ more than 200 times.
    pub fn image(&self, picture: &Picture) -> Result<Patches> {
        picture.check()?;
        let (height, width) = self.smart_resize(picture.height, picture.width)?;
        let size = [picture.width, picture.height];
        let mut patches = Patches::with_capacity(self, size, [1, height, width]);
        patches.notes.extend(picture.notes.iter().cloned());
        patches.notes.extend(resize_note(picture, height, width));
        patches.push_frame(self, &self.resized(picture, height, width));
        Ok(patches)
    }

    /// Resizes the frames of a video, all of one size, and cuts them into patches. If their number
    /// is not a multiple of [`temporal_merge`](Self::temporal_merge), the last one is repeated.
    ///
    /// For long videos push frames into [`Preprocessor::stack`] as they are decoded.
    ///
    /// # Errors
    /// As [`Preprocessor::image`]; and if there are no frames, or their sizes differ.
    pub fn video(&self, frames: &[Picture]) -> Result<Patches> {
        let mut stack = self.stack();
        for frame in frames {
            stack.push(frame)?;
        }
        stack.finish()
    }

    /// An empty stack of video frames.
    pub fn stack(&self) -> FrameStack<'_> {
        FrameStack::new(self)
    }

    pub(crate) fn resized(&self, picture: &Picture, height: u32, width: u32) -> Vec<u8> {
        resize_bicubic(&picture.rgb, picture.width, picture.height, width, height)
    }
}

pub(crate) fn resize_note(picture: &Picture, height: u32, width: u32) -> Option<Note> {
    let (from, to) = ([picture.width, picture.height], [width, height]);
    (from != to).then_some(Note::Resized { from, to })
}

/// A JSON object whose numbers are not to be trusted.
#[derive(Clone, Copy)]
struct Section<'a>(&'a Value);

impl Section<'_> {
    /// Refuses any other value than the one we compute with. Absent and `null` are fine.
    fn expect(self, key: &str, supported: impl Into<Value>) -> Result<()> {
        let supported = supported.into();
        match self.0.get(key) {
            Some(found) if !found.is_null() && *found != supported => {
                Err(Error::Config(format!("`{key}` is {found}, only {supported} is supported")))
            }
            _ => Ok(()),
        }
    }

    fn number(self, key: &str, default: u32, range: std::ops::RangeInclusive<u32>) -> Result<u32> {
        let Some(found) = self.0.get(key).filter(|value| !value.is_null()) else { return Ok(default) };
        match found.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| range.contains(n)) {
            Some(number) => Ok(number),
            None => Err(Error::Config(format!(
                "`{key}` is {found}, but must be a whole number from {} to {}",
                range.start(),
                range.end()
            ))),
        }
    }

    fn pixel_limits(self, min: u32, max: u32) -> Result<(u32, u32)> {
        let size = Section(self.0.get("size").unwrap_or(&Value::Null));
        let limit = |keys: [&str; 2], default| {
            let default = size.number(keys[0], default, 1..=MAX_PIXELS)?;
            let default = size.number(keys[1], default, 1..=MAX_PIXELS)?;
            self.number(keys[0], default, 1..=MAX_PIXELS)
        };
        let min = limit(["min_pixels", "shortest_edge"], min)?;
        let max = limit(["max_pixels", "longest_edge"], max)?;
        if min > max {
            return Err(Error::Config(format!("`min_pixels` {min} is above `max_pixels` {max}")));
        }
        Ok((min, max))
    }

    fn channels(self, key: &str, default: [f32; 3], valid: impl Fn(f32) -> bool) -> Result<[f32; 3]> {
        let Some(found) = self.0.get(key).filter(|value| !value.is_null()) else { return Ok(default) };
        let parsed: Option<Vec<f32>> =
            found.as_array().and_then(|list| list.iter().map(|x| x.as_f64().map(|x| x as f32)).collect());
        match parsed.as_deref() {
            Some(&[r, g, b]) if [r, g, b].into_iter().all(valid) => Ok([r, g, b]),
            _ => Err(Error::Config(format!("`{key}` is {found}, but must be three usable numbers"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_config_is_the_default() {
        assert_eq!(Preprocessor::from_json("{}").unwrap(), Preprocessor::default());
    }

    #[test]
    fn limits_are_read_in_each_spelling() {
        for json in [
            r#"{"min_pixels": 784, "max_pixels": 7840}"#,
            r#"{"size": {"min_pixels": 784, "max_pixels": 7840}}"#,
            r#"{"size": {"shortest_edge": 784, "longest_edge": 7840}, "resample": 3, "patch_size": 14}"#,
            r#"{"image_processor": {"size": {"shortest_edge": 784, "longest_edge": 7840}, "temporal_patch_size": null}}"#,
        ] {
            let pre = Preprocessor::from_json(json).unwrap();
            assert_eq!((pre.min_pixels, pre.max_pixels), (784, 7840), "{json}");
            assert_eq!(pre.video_max_pixels, 937_664);
        }
        let json = r#"{"video_processor": {"size": {"shortest_edge": 784, "longest_edge": 7840}}}"#;
        let pre = Preprocessor::from_json(json).unwrap();
        assert_eq!((pre.video_min_pixels, pre.video_max_pixels), (784, 7840));
    }

    #[test]
    fn bad_configs_are_named() {
        for (json, expected) in [
            ("[", "not JSON"),
            ("[]", "JSON object"),
            (r#"{"patch_size": 0}"#, "`patch_size` is 0, but must be a whole number from 1 to 64"),
            (r#"{"merge_size": 4000000000}"#, "`merge_size`"),
            (r#"{"max_pixels": 1e30}"#, "`max_pixels`"),
            (r#"{"min_pixels": 100, "max_pixels": 99}"#, "above"),
            (r#"{"image_std": [0, 1, 1]}"#, "`image_std`"),
            (r#"{"image_mean": [0.5]}"#, "`image_mean`"),
            (r#"{"resample": 2}"#, "only 3"),
            (r#"{"do_normalize": false}"#, "only true"),
            (r#"{"rescale_factor": 0.5}"#, "1/255"),
            (r#"{"image_processor_type": "PaddleOCRVLImageProcessor"}"#, "raster"),
        ] {
            let error = Preprocessor::from_json(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }
}
