//! The recorded cases, found in their folder.

use std::fs;
use std::path::{Path, PathBuf};

use engine::eval::EvalCase;
use engine::{LoadOptions, ModelFiles, ModelInput, Traceable, load_traceable};
use model::{Checkpoint, Config};
use serde_json::Value;
use tensor::SharedBytes;
use tensor::weights::{NamedArray, Safetensors, TensorIndex};

/// Largest error of an output, as a share of its largest value.
pub(crate) const TOLERANCE: f32 = 1e-4;

/// A checkpoint, inputs, and what the reference made of them.
pub(crate) struct Case {
    pub(crate) name: String,
    /// The folder or file of the checkpoint.
    pub(crate) model: PathBuf,
    /// `input.safetensors`.
    pub(crate) input: PathBuf,
    pub(crate) expected: TensorIndex,
}

pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded").join(name)
}

pub(crate) fn read(path: &Path) -> TensorIndex {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Safetensors::parse(SharedBytes::new(bytes)).unwrap().into_index()
}

/// Every recorded case: each folder with a `meta.json`.
pub(crate) fn cases() -> Vec<Case> {
    let mut names: Vec<String> = fs::read_dir(folder(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| folder(name).join("meta.json").is_file())
        .collect();
    names.sort();
    names.iter().map(|name| case(name)).collect()
}

pub(crate) fn case(name: &str) -> Case {
    let meta: Value = serde_json::from_slice(&fs::read(folder(name).join("meta.json")).unwrap()).unwrap();
    let other = |key: &str| folder(meta[key].as_str().unwrap_or(name));
    let values = other("same_as");
    Case {
        name: name.to_owned(),
        model: other("model_from"),
        input: values.join("input.safetensors"),
        expected: read(&values.join("expected.safetensors")),
    }
}

impl Case {
    pub(crate) fn load(&self, options: impl Into<LoadOptions>) -> Box<dyn Traceable> {
        let files = ModelFiles::open(&self.model).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        load_traceable(&files, options).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        ModelFiles::open(&self.model).unwrap().checkpoint().unwrap()
    }

    pub(crate) fn prompt(&self, config: &Config) -> ModelInput {
        EvalCase::read(&read(&self.input), config).unwrap().input
    }

    pub(crate) fn expected_f32(&self, name: &str) -> Vec<f32> {
        match self.expected.array(name).unwrap() {
            Some((_, NamedArray::F32(values))) => values,
            other => panic!("{}: {name} is {other:?}", self.name),
        }
    }
}

/// The largest error as a share of the largest expected value; infinite if lengths differ or a value is NaN.
pub(crate) fn relative_error(found: &[f32], expected: &[f32]) -> f32 {
    if found.len() != expected.len() || found.iter().any(|v| v.is_nan()) {
        return f32::INFINITY;
    }
    let largest = expected.iter().fold(f32::MIN_POSITIVE, |largest, v| largest.max(v.abs()));
    found.iter().zip(expected).fold(0.0f32, |error, (f, e)| error.max((f - e).abs())) / largest
}
