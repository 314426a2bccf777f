//! One object of a JSON configuration, read key by key with limits.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::ConfigError;

type Result<T> = std::result::Result<T, ConfigError>;

/// An object of the configuration and where it is.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    map: &'a Map<String, Value>,
    path: &'static str,
}

impl<'a> Section<'a> {
    pub(super) fn root(value: &'a Value) -> Result<Self> {
        let map = value.as_object().ok_or_else(|| ConfigError::Json("it is no JSON object".to_owned()))?;
        Ok(Self { map, path: "" })
    }

    /// The object `key` of this one, if there is such an object.
    pub(super) fn child(&self, key: &'static str) -> Option<Self> {
        Some(Self { map: self.map.get(key)?.as_object()?, path: key })
    }

    /// The name of `key` for messages.
    pub(super) fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of `key`, unless it is absent or null.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn missing(&self, key: &str) -> ConfigError {
        ConfigError::Missing(self.full(key))
    }

    fn bad(&self, key: &str, value: &Value, expected: impl Into<String>) -> ConfigError {
        let mut found = value.to_string();
        if found.len() > 80 {
            found = format!("a value of {} characters", found.len());
        }
        ConfigError::value(&self.full(key), found, expected)
    }

    fn as_count(&self, key: &str, value: &Value, range: &RangeInclusive<usize>) -> Result<usize> {
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            self.bad(key, value, format!("a whole number from {} to {}", range.start(), range.end()))
        })
    }

    /// A number that sizes something.
    pub(super) fn count(&self, key: &str, range: RangeInclusive<usize>) -> Result<Option<usize>> {
        self.get(key).map(|value| self.as_count(key, value, &range)).transpose()
    }

    /// A number that sizes something and has no default.
    pub(super) fn required(&self, key: &str, range: RangeInclusive<usize>) -> Result<usize> {
        self.count(key, range)?.ok_or_else(|| self.missing(key))
    }

    /// One number, or a list of one or two: for text, and for vision.
    pub(super) fn one_or_two(&self, key: &str, range: RangeInclusive<usize>) -> Result<Option<[usize; 2]>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let values = match value.as_array().map(Vec::as_slice) {
            None => [value, value],
            Some([both]) => [both, both],
            Some([text, vision]) => [text, vision],
            Some(_) => return Err(self.bad(key, value, "a number or a list of two")),
        };
        let [text, vision] = values.map(|value| self.as_count(key, value, &range));
        Ok(Some([text?, vision?]))
    }

    /// As [`one_or_two`](Self::one_or_two), where null and -1 mean the last layer, here `usize::MAX`.
    pub(super) fn ends(&self, key: &str) -> Result<Vec<usize>> {
        let Some(value) = self.get(key) else { return Ok(vec![usize::MAX]) };
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let end = |value: &Value| match value.as_i64() {
            None if value.is_null() => Ok(usize::MAX),
            Some(-1) => Ok(usize::MAX),
            _ => self.as_count(key, value, &(0..=usize::MAX)),
        };
        match values.len() {
            1 | 2 => values.iter().map(end).collect(),
            _ => Err(self.bad(key, value, "a number or a list of two")),
        }
    }

    /// A list of numbers.
    pub(super) fn counts(&self, key: &str, range: RangeInclusive<usize>) -> Result<Option<Vec<usize>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let values = value.as_array().ok_or_else(|| self.bad(key, value, "a list"))?;
        values.iter().map(|value| self.as_count(key, value, &range)).collect::<Result<_>>().map(Some)
    }

    /// A positive number.
    pub(super) fn positive(&self, key: &str) -> Result<Option<f64>> {
        let number = |value: &Value| {
            let number = value.as_f64().filter(|x| *x > 0.0 && *x < 1e30);
            number.ok_or_else(|| self.bad(key, value, "a positive number"))
        };
        self.get(key).map(number).transpose()
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        let flag = |value: &Value| value.as_bool().ok_or_else(|| self.bad(key, value, "true or false"));
        self.get(key).map(flag).transpose()
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        let text = |value: &'a Value| value.as_str().ok_or_else(|| self.bad(key, value, "a text"));
        self.get(key).map(text).transpose()
    }

    /// Refuses a text other than `expected`.
    pub(super) fn expect_text(&self, key: &str, expected: &str) -> Result<()> {
        match self.text(key)? {
            Some(found) if found != expected => {
                Err(ConfigError::value(&self.full(key), format!("`{found}`"), format!("`{expected}`")))
            }
            _ => Ok(()),
        }
    }

    /// A token id, or the first of several.
    pub(super) fn token_id(&self, key: &str) -> Result<Option<u32>> {
        let id = self.count(key, 0..=u32::MAX as usize)?;
        Ok(id.map(|id| id as u32))
    }

    /// One token id or a list of them.
    pub(super) fn token_ids(&self, key: &str) -> Result<Option<Vec<u32>>> {
        match self.get(key) {
            Some(Value::Array(ids)) if ids.len() <= 1024 => {
                let id = |value| self.as_count(key, value, &(0..=u32::MAX as usize)).map(|id| id as u32);
                ids.iter().map(id).collect::<Result<_>>().map(Some)
            }
            _ => Ok(self.token_id(key)?.map(|id| vec![id])),
        }
    }
}
