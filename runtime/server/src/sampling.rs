//! Options of an answer that several APIs name alike.

use engine::GenerateOptions;

use crate::app::new_seed;
use crate::fields::Fields;
use crate::problem::{Problem, Result};

/// Texts that may end an answer.
const MAX_STOPS: usize = 16;
/// Bytes of such a text.
const MAX_STOP_LEN: usize = 1024;

/// Temperature, top-p, top-k, min-p and penalties, where given.
pub(crate) fn read(fields: &mut Fields, options: &mut GenerateOptions, hottest: f64) -> Result<()> {
    set(&mut options.temperature, fields.number("temperature", 0.0..=hottest)?);
    set(&mut options.top_p, fields.number("top_p", f64::MIN_POSITIVE..=1.0)?);
    set(&mut options.min_p, fields.number("min_p", 0.0..=1.0)?);
    if let Some(k) = fields.integer("top_k", 0..=u64::from(u32::MAX))? {
        options.top_k = k as usize;
    }
    set(&mut options.frequency_penalty, fields.number("frequency_penalty", -2.0..=2.0)?);
    set(&mut options.presence_penalty, fields.number("presence_penalty", -2.0..=2.0)?);
    Ok(())
}

/// The seed, or a new one. Negative ones are taken by their bits.
pub(crate) fn read_seed(fields: &mut Fields) -> Result<u64> {
    match fields.value("seed") {
        None => Ok(new_seed()),
        Some(value) => value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned)).ok_or_else(|| {
            Problem::field(fields.path("seed"), format!("it is {value}, but must be a whole number"))
        }),
    }
}

/// Texts that end the answer.
pub(crate) fn read_stops(fields: &mut Fields, name: &str) -> Result<Vec<String>> {
    let stops = fields.texts(name)?;
    let path = fields.path(name);
    if stops.len() > MAX_STOPS {
        return Err(Problem::field(path, format!("it has {} texts, the limit is {MAX_STOPS}", stops.len())));
    }
    match stops.iter().find(|stop| stop.is_empty() || stop.len() > MAX_STOP_LEN) {
        Some(stop) => {
            let len = stop.len();
            Err(Problem::field(
                path,
                format!("a text has {len} bytes, but needs between 1 and {MAX_STOP_LEN}"),
            ))
        }
        None => Ok(stops),
    }
}

/// Whether the oldest messages may be left out if all of them are too long; by default that is an error.
pub(crate) fn read_truncation(fields: &mut Fields) -> Result<bool> {
    match fields.text("truncation")?.as_deref() {
        None | Some("disabled") => Ok(false),
        Some("auto") => Ok(true),
        Some(other) => {
            let message = format!("`{other}` is not known; it is auto or disabled");
            Err(Problem::field(fields.path("truncation"), message))
        }
    }
}

pub(crate) fn set(option: &mut f64, wish: Option<f64>) {
    if let Some(wish) = wish {
        *option = wish;
    }
}
