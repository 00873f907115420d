//! The argument `options` of a backfill.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, INVALID_PARAMETER_VALUE, Result};

const KNOWN: &str = "strategy, range_blocks, strides, window_ranges, max_quarantined, vacuum, touch_stamps";

/// How the table is walked; `None` in [`Options`] leaves it to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Walk {
    Blocks,
    Keys,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    pub strategy: Option<Walk>,
    pub range_blocks: Option<u32>,
    pub strides: Option<u32>,
    pub window_ranges: Option<u32>,
    pub max_quarantined: Option<u32>,
    /// VACUUM after each tenth of a table.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub vacuum: bool,
    /// Changes updated_at and the like, and counts the row version, as anybody's UPDATE does.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub touch_stamps: bool,
}

impl Options {
    pub const MAX_QUARANTINED: u32 = 100;

    pub fn max_quarantined(&self) -> i64 {
        i64::from(self.max_quarantined.unwrap_or(Self::MAX_QUARANTINED))
    }

    pub fn read(given: &Value) -> Result<Self> {
        let Value::Object(given) = given else {
            return Err(invalid("options must be a JSON object".to_owned()));
        };
        if let Some(unknown) = given.keys().find(|key| !KNOWN.split(", ").any(|k| k == *key)) {
            return Err(invalid(format!("unknown option \"{unknown}\"")));
        }
        Ok(Options {
            strategy: strategy(given)?,
            range_blocks: whole(given, "range_blocks", 1..=16384)?,
            strides: whole(given, "strides", 1..=100)?,
            window_ranges: whole(given, "window_ranges", 1..=1000)?,
            max_quarantined: whole(given, "max_quarantined", 0..=1_000_000)?,
            vacuum: boolean(given, "vacuum")?,
            touch_stamps: boolean(given, "touch_stamps")?,
        })
    }
}

fn strategy(given: &Map<String, Value>) -> Result<Option<Walk>> {
    match given.get("strategy").map(|value| value.as_str()) {
        None | Some(Some("auto")) => Ok(None),
        Some(Some("blocks")) => Ok(Some(Walk::Blocks)),
        Some(Some("keys")) => Ok(Some(Walk::Keys)),
        Some(_) => Err(invalid("option \"strategy\" must be auto, blocks or keys".to_owned())),
    }
}

fn boolean(given: &Map<String, Value>, key: &str) -> Result<bool> {
    let Some(value) = given.get(key) else { return Ok(false) };
    value.as_bool().ok_or_else(|| invalid(format!("option \"{key}\" must be true or false")))
}

fn whole(given: &Map<String, Value>, key: &str, range: RangeInclusive<u32>) -> Result<Option<u32>> {
    let Some(value) = given.get(key) else { return Ok(None) };
    value
        .as_u64()
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| range.contains(number))
        .map(Some)
        .ok_or_else(|| {
            invalid(format!("option \"{key}\" must be a whole number from {} to {}", range.start(), range.end()))
        })
}

fn invalid(message: String) -> Error {
    Error::new(INVALID_PARAMETER_VALUE, message).hint(format!("Known options: {KNOWN}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_given_is_all_automatic() {
        assert_eq!(Options::read(&json!({})).unwrap(), Options::default());
        assert_eq!(Options::default().max_quarantined(), 100);
    }

    #[test]
    fn an_unknown_key_lists_the_known_ones() {
        let error = Options::read(&json!({"stride": 3})).unwrap_err();
        assert_eq!(error.sqlstate, INVALID_PARAMETER_VALUE);
        assert!(error.hint.unwrap().contains("window_ranges"));
    }

    #[test]
    fn values_have_ranges() {
        for bad in [
            json!({"strides": 0}),
            json!({"strides": 2.5}),
            json!({"strides": "3"}),
            json!({"range_blocks": 99999}),
            json!({"strategy": "fast"}),
            json!({"strategy": 1}),
            json!({"vacuum": "yes"}),
            json!({"touch_stamps": 1}),
            json!([]),
        ] {
            assert!(Options::read(&bad).is_err(), "{bad}");
        }
        let options = Options::read(&json!({"strategy": "keys", "max_quarantined": 0})).unwrap();
        assert_eq!(options.strategy, Some(Walk::Keys));
        assert_eq!(options.max_quarantined(), 0);
    }

    #[test]
    fn what_is_stored_can_be_read_again() {
        let options =
            Options::read(&json!({"strategy": "blocks", "strides": 7, "vacuum": true, "touch_stamps": true})).unwrap();
        let stored = serde_json::to_value(&options).unwrap();
        assert_eq!(serde_json::from_value::<Options>(stored).unwrap(), options);
    }
}
