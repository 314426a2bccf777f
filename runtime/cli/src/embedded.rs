//! The model inside this program, so that it works on a fresh machine with the network off.

use engine::ModelFiles;

/// What messages call it.
const NAME: &str = "the model inside";

/// The files of `assets/model` by their names.
pub(crate) const FILES: &[(&str, &[u8])] = &[
    ("config.json", include_bytes!("../../../assets/model/config.json")),
    ("model.safetensors", include_bytes!("../../../assets/model/model.safetensors")),
    ("tokenizer.json", include_bytes!("../../../assets/model/tokenizer.json")),
    ("chat_template.jinja", include_bytes!("../../../assets/model/chat_template.jinja")),
    ("preprocessor_config.json", include_bytes!("../../../assets/model/preprocessor_config.json")),
];

/// The model of these files.
pub(crate) fn files() -> ModelFiles {
    ModelFiles::from_static(NAME, FILES)
}
