//! Recorded pictures: decoding, resizing and patches against the reference.

use std::fs;

use serde_json::Value;
use sha2::{Digest, Sha256};
use vision::{DecodeOptions, Picture, Preprocessor, decode, resize_bicubic};

use crate::recorded::folder;

struct Records {
    preprocessor: Preprocessor,
    row_columns: Vec<usize>,
}

impl Records {
    /// What is wrong with a picture, if anything.
    fn check(&self, record: &Value) -> Result<(), String> {
        let bytes = fs::read(folder("preprocess").join(record["file"].as_str().unwrap())).unwrap();
        if record["refused"].is_string() {
            let refused = decode(&bytes, &DecodeOptions::default())
                .map_err(|_| ())
                .and_then(|picture| self.preprocessor.image(&picture).map_err(|_| ()));
            return refused.map_or(Ok(()), |_| Err("it was not refused".to_owned()));
        }
        for (key, apply_orientation) in [("expected", true), ("expected_raw", false)] {
            let Some(expected) = record.get(key) else { continue };
            match decode(&bytes, &DecodeOptions { apply_orientation, ..DecodeOptions::default() }) {
                Ok(picture) => self.check_picture(&picture, record, expected, key == "expected")?,
                Err(_) if record["may_refuse"] == true => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    fn check_picture(
        &self,
        picture: &Picture,
        record: &Value,
        expected: &Value,
        upright: bool,
    ) -> Result<(), String> {
        let patches = self.preprocessor.image(picture).map_err(|error| error.to_string())?;
        let grid = serde_json::to_value(patches.grid_thw).unwrap();
        if grid != expected["grid_thw"] {
            return Err(format!("its grid is {grid}, not {}", expected["grid_thw"]));
        }
        let (height, width) = patches.resized();
        let rgb = resize_bicubic(&picture.rgb, picture.width, picture.height, width, height);
        if let Some(sha256) = expected["sha256"].as_str() {
            let found: String = Sha256::digest(&rgb).iter().map(|byte| format!("{byte:02x}")).collect();
            if found != sha256 {
                return Err("its resized pixels differ".to_owned());
            }
            for (row, values) in expected["rows"].as_object().unwrap() {
                let patch = &patches.pixel_values[row.parse::<usize>().unwrap() * 588..][..588];
                let found = self.row_columns.iter().map(|&column| patch[column]);
                let expected = values.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32);
                if found.zip(expected).any(|(found, expected)| (found - expected).abs() > 1e-5) {
                    return Err(format!("patch {row} differs"));
                }
            }
        } else if upright {
            let png = fs::read(folder("preprocess").join(record["resized_png"].as_str().unwrap())).unwrap();
            let reference = decode(&png, &DecodeOptions::default()).unwrap();
            let levels = rgb.iter().zip(&reference.rgb).map(|(a, b)| f64::from(a.abs_diff(*b)));
            let (mean, max) = (levels.clone().sum::<f64>() / rgb.len() as f64, levels.fold(0.0, f64::max));
            let limit = |key: &str| record["tolerance"][key].as_f64().unwrap();
            if rgb.len() != reference.rgb.len()
                || mean > limit("mean_abs_level")
                || max > limit("max_abs_level")
            {
                return Err(format!("its levels differ by {mean:.2} in the mean and {max} at most"));
            }
        }
        Ok(())
    }
}

#[test]
fn recorded_pictures_become_the_recorded_patches() {
    let pictures = fs::read(folder("preprocess").join("pictures.json")).unwrap();
    let json: Value = serde_json::from_slice(&pictures).unwrap();
    let number = |key: &str| u32::try_from(json[key].as_u64().unwrap()).unwrap();
    let columns = json["row_columns"].as_array().unwrap();
    let records = Records {
        preprocessor: Preprocessor {
            min_pixels: number("min_pixels"),
            max_pixels: number("max_pixels"),
            ..Preprocessor::default()
        },
        row_columns: columns.iter().map(|column| column.as_u64().unwrap() as usize).collect(),
    };
    let pictures = json["pictures"].as_array().unwrap();
    assert!(pictures.len() >= 60, "only {} pictures are recorded", pictures.len());
    let wrong: Vec<String> = pictures
        .iter()
        .filter_map(|record| records.check(record).err().map(|fault| format!("{}: {fault}", record["file"])))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
