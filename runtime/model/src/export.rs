//! A checkpoint as the tensors of a GGUF file.

use std::collections::HashMap;
use std::ops::Range;

use tensor::{Error, RawTensor, Result};

use crate::names;
use crate::{Checkpoint, Config};

/// A tensor of a GGUF file, and the parameters that it consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufSource {
    /// Name in the GGUF file.
    pub name: String,
    /// Rows first.
    pub shape: Vec<usize>,
    /// What fills it, one behind the other: the experts of a stack, else one parameter.
    pub parts: Vec<ParameterRows>,
}

/// Some rows of a parameter; those of a vector are its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterRows {
    /// Canonical name.
    name: String,
    /// Of the whole parameter.
    shape: Vec<usize>,
    rows: Range<usize>,
}

impl GgufSource {
    /// Values of one row of a part; the rows of a vector are its elements.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.parts[0].shape[1..].iter().product()
    }
}

impl ParameterRows {
    /// Canonical name of the parameter.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many rows these are.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.rows.len()
    }
}

/// The tensors of a GGUF file that hold `parameters`, given with their shapes in the order in which a model
/// takes them.
///
/// # Errors
/// If a parameter has no place in such a file.
pub fn gguf_tensors(parameters: &[(String, Vec<usize>)], config: &Config) -> Result<Vec<GgufSource>> {
    let n_text_experts = config.text.moe.as_ref().map_or(0, |moe| moe.text.n_experts);
    let mut tensors: Vec<GgufSource> = Vec::new();
    let mut by_name: HashMap<String, usize> = HashMap::new();
    for (name, shape) in parameters {
        let places = names::places(name, n_text_experts);
        let places =
            places.ok_or_else(|| Error::format("GGUF", format!("`{name}` has no name in such files")))?;
        let is_table = places.len() > 1;
        for (row, place) in places.into_iter().enumerate() {
            let (rows, stored) = match (is_table, place.expert) {
                (true, _) if row >= shape[0] => continue,
                (true, _) => (row..row + 1, shape[1..].to_vec()),
                (false, None) => (0..shape[0], shape.clone()),
                (false, Some(_)) => (0..shape[0], [&[1], &shape[..]].concat()),
            };
            let part = ParameterRows { name: name.clone(), shape: shape.clone(), rows };
            let i = *by_name.entry(place.tensor.clone()).or_insert_with(|| {
                tensors.push(GgufSource { name: place.tensor, shape: stored, parts: Vec::new() });
                tensors.len() - 1
            });
            let tensor = &mut tensors[i];
            if place.expert.unwrap_or(0) != tensor.parts.len() {
                return Err(Error::format("GGUF", format!("`{name}` is out of order")));
            }
            tensor.parts.push(part);
            if place.expert.is_some() {
                tensor.shape[0] = tensor.parts.len();
            }
        }
    }
    Ok(tensors)
}

impl Checkpoint {
    /// The tensors of a GGUF file that hold all parameters that [`check`](Self::check) has seen, in the order
    /// in which a model takes them.
    ///
    /// # Errors
    /// If a parameter has no place in such a file.
    pub fn gguf_tensors(&self) -> Result<Vec<GgufSource>> {
        gguf_tensors(self.checked(), &self.config)
    }

    /// Rows `rows` of `part` as the checkpoint stores them, which are shared unless they lie transposed.
    ///
    /// # Errors
    /// If there are fewer rows.
    pub fn part_rows(&self, part: &ParameterRows, rows: Range<usize>) -> Result<RawTensor> {
        if rows.end > part.n_rows() {
            return Err(Error::shape("export", format!("`{}` has no rows {rows:?}", part.name)));
        }
        self.raw(&part.name, &part.shape, part.rows.start + rows.start..part.rows.start + rows.end)
    }
}
