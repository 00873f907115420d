//! How long a constant is in the text of a statement. The server says where constants begin; nothing here can panic or
//! allocate, because it runs where people's statements are analyzed.

/// Bytes of the constant at the beginning of `text`: a number, perhaps after a minus; a string of any kind; a word such as
/// `true`; a parameter. At least 1, unless there is nothing.
pub fn constant_length(text: &[u8], standard_strings: bool) -> usize {
    let length = match text {
        [b'\'', ..] => quoted(text, 1, !standard_strings),
        [b'e' | b'E', b'\'', ..] => quoted(text, 2, true),
        [b'b' | b'B' | b'x' | b'X' | b'n' | b'N', b'\'', ..] => quoted(text, 2, false),
        [b'u' | b'U', b'&', b'\'', ..] => quoted(text, 3, false),
        [b'$', b'0'..=b'9', ..] => 1 + run(text, 1, |byte| byte.is_ascii_digit()),
        [b'$', ..] => dollar_quoted(text),
        [b'-', ..] => {
            let blanks = run(text, 1, |byte| byte.is_ascii_whitespace());
            1 + blanks + number(text, 1 + blanks)
        }
        [b'0'..=b'9' | b'.', ..] => number(text, 0),
        _ => run(text, 0, |byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80),
    };
    length.clamp(usize::from(!text.is_empty()), text.len())
}

fn run(text: &[u8], from: usize, of: impl Fn(u8) -> bool) -> usize {
    text.iter().skip(from).take_while(|&&byte| of(byte)).count()
}

/// Also 0x1F, 1_000 and 1.5e-3.
fn number(text: &[u8], from: usize) -> usize {
    let mut end = from;
    let mut before = 0;
    let hex = matches!(text.get(from.saturating_add(1)), Some(b'x' | b'X'));
    while let Some(&byte) = text.get(end) {
        let sign_of_exponent = matches!(byte, b'+' | b'-') && matches!(before, b'e' | b'E') && !hex && end > from;
        if !(byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.' || sign_of_exponent)
            // 1..10 is a range in PL/pgSQL.
            || (byte == b'.' && text.get(end + 1) == Some(&b'.'))
        {
            break;
        }
        before = byte;
        end += 1;
    }
    end - from
}

/// To the closing quote; a string may go on after a line break.
fn quoted(text: &[u8], opening: usize, backslashes: bool) -> usize {
    let mut at = opening;
    while let Some(&byte) = text.get(at) {
        at += 1;
        if byte == b'\\' && backslashes {
            at += 1;
        } else if byte == b'\'' {
            if text.get(at) == Some(&b'\'') {
                at += 1;
                continue;
            }
            let blanks = run(text, at, |byte| byte.is_ascii_whitespace());
            let goes_on = text.get(at + blanks) == Some(&b'\'')
                && text.iter().skip(at).take(blanks).any(|&byte| matches!(byte, b'\n' | b'\r'));
            if !goes_on {
                return at;
            }
            at += blanks + 1;
        }
    }
    text.len()
}

fn dollar_quoted(text: &[u8]) -> usize {
    let tag = 1 + run(text, 1, |byte| byte != b'$') + 1;
    let Some((tag, rest)) = text.split_at_checked(tag) else { return text.len() };
    rest.windows(tag.len()).position(|window| window == tag).map_or(text.len(), |at| at + 2 * tag.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_kind_of_constant_ends_where_it_ends() {
        for constant in [
            "1",
            "-1",
            "- 1",
            "1.5",
            ".5",
            "1.5e-3",
            "1e+10",
            "0x1F",
            "1_000",
            "'it'",
            "''",
            "'it''s'",
            "'a'\n  'b'",
            r"E'it\'s'",
            "B'01'",
            "x'ff'",
            "N'a'",
            r"U&'\0041'",
            "$$it's$$",
            "$q$ $$ $q$",
            "true",
            "NULL",
            "$12",
        ] {
            for rest in ["", ")", ", 'x'", " + 1", "::text", " 'x'"] {
                let text = format!("{constant}{rest}");
                assert_eq!(constant_length(text.as_bytes(), true), constant.len(), "{text}");
            }
        }
        assert_eq!(constant_length(br"'it\'s' ", false), 7);
        assert_eq!(constant_length(br"'it\' ", true), 5);
        assert_eq!(constant_length(b"'open", true), 5);
        assert_eq!(constant_length(b"$q$open", true), 7);
        assert_eq!(constant_length(b"1..10", true), 1);
    }

    proptest! {
        #[test]
        fn nothing_panics_or_leaves_the_text(text in prop::collection::vec(any::<u8>(), 0..40), standard: bool) {
            let length = constant_length(&text, standard);
            prop_assert!(length <= text.len());
            prop_assert!(length > 0 || text.is_empty());
        }
    }
}
