//! Values in words.

use serde_json::Value;

/// A value in words: lists with commas, figures in groups of three.
pub fn string(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(string).collect::<Vec<_>>().join(", "),
        Value::Number(number) => number.as_i64().map_or_else(|| number.to_string(), grouped),
        other => other.to_string(),
    }
}

pub fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// As pg_size_pretty does it, with a decimal where that says more.
pub fn size(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["bytes", "kB", "MB", "GB"] {
        if value < 1024.0 {
            return if value >= 10.0 || unit == "bytes" {
                format!("{value:.0} {unit}")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(
            [0.0, 1023.0, 8192.0, 15728640.0, 1.5e12].map(size),
            ["0 bytes", "1023 bytes", "8.0 kB", "15 MB", "1.4 TB"]
        );
        assert_eq!([grouped(0), grouped(-1234), grouped(999)], ["0", "-1,234", "999"]);
    }
}
