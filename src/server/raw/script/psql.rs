//! What psql reads itself in a script and never sends: meta-commands, and the data of `COPY .. FROM STDIN`. And how text is handed to
//! the server's lexer, which knows nothing of either.

/// Those that send what stands in front of them: it ends there as at a semicolon.
const SENDING: [&str; 9] = ["g", "gx", "gset", "gexec", "gdesc", "crosstabview", "watch", "parse", "sendpipeline"];
/// Those after which it is gone.
const FORGETTING: [&str; 9] = [
    "r",
    "reset",
    "close_prepared",
    "startpipeline",
    "syncpipeline",
    "endpipeline",
    "flush",
    "flushrequest",
    "getresults",
];
/// Their argument is the rest of the line, whatever is in it.
const OF_THE_LINE: [&str; 8] = ["!", "copy", "h", "help", "ef", "ev", "sf", "sv"];
/// They write into a program, whose text is the rest of the line.
const INTO_A_PROGRAM: [&str; 6] = ["g", "gx", "o", "out", "w", "write"];

/// What becomes of the statement that a meta-command stands in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effect {
    Sends,
    Forgets,
    /// Nothing: it goes on behind the command.
    GoesOn,
}

/// A meta-command that a text begins with.
#[derive(Debug, PartialEq)]
pub struct MetaCommand<'a> {
    pub name: &'a str,
    /// With its backslash and its arguments.
    pub text: &'a str,
    /// Where the next one begins, or SQL again.
    pub length: usize,
}

impl MetaCommand<'_> {
    pub fn effect(&self) -> Effect {
        match self.name {
            name if SENDING.contains(&name) => Effect::Sends,
            name if FORGETTING.contains(&name) => Effect::Forgets,
            _ => Effect::GoesOn,
        }
    }
}

/// `text` begins with a backslash.
pub fn meta_command(text: &str) -> MetaCommand<'_> {
    let line = text.split('\n').next().unwrap_or(text);
    let name = line[1..].split(|c: char| c.is_ascii_whitespace() || c == '\\').next().unwrap_or_default();
    let (end, length) = arguments_end(line, name);
    MetaCommand { name, text: line[..end].trim_ascii_end(), length }
}

/// Where the arguments end, and what follows them.
fn arguments_end(line: &str, name: &str) -> (usize, usize) {
    let whole = (line.len(), line.len());
    // Without a name it is a wrong one, after which psql throws the line away.
    if name.is_empty() || OF_THE_LINE.contains(&name) {
        return whole;
    }
    let bytes = line.as_bytes();
    let (mut at, mut quote) = (1 + name.len(), None);
    while let Some(&byte) = bytes.get(at) {
        match (quote, byte) {
            (Some(b'\''), b'\\') => at += 1,
            (Some(open), _) => quote = Some(open).filter(|_| byte != open),
            (None, b'\'' | b'"' | b'`') => quote = Some(byte),
            (None, b'|') if INTO_A_PROGRAM.contains(&name) && bytes[at - 1].is_ascii_whitespace() => return whole,
            // Two end the arguments, and one begins the next command.
            (None, b'\\') => return (at, if bytes.get(at + 1) == Some(&b'\\') { at + 2 } else { at }),
            (None, _) => {}
        }
        at += 1;
    }
    whole
}

/// The rows that begin at the byte `from`: where they end, and where the line after their `\.` begins.
pub fn copy_data(text: &str, from: usize) -> (usize, usize) {
    let mut at = from;
    for line in text[from..].split_inclusive('\n') {
        if line.trim_end_matches(['\r', '\n']) == "\\." {
            return (at, at + line.len());
        }
        at += line.len();
    }
    (at, at)
}

/// Is the colon at `at` the beginning of a variable of psql's? The server can mean something else by it, as in `a[1:n]`.
pub fn is_variable(text: &str, at: usize) -> bool {
    match text.as_bytes().get(at + 1..).unwrap_or_default() {
        [b'{', b'?', ..] | [b'\'' | b'"', ..] => true,
        [first, ..] => first.is_ascii_alphanumeric() || *first == b'_' || !first.is_ascii(),
        [] => false,
    }
}

/// Behind a literal `U&'..'` that begins at the byte `start`, if one does: the lexer takes it only while strings are as the
/// standard says, and psql reads it like that all the same.
pub fn closing_quote(text: &str, start: usize) -> Option<usize> {
    let literal = text.get(start..)?;
    literal.get(..3).filter(|prefix| prefix.eq_ignore_ascii_case("u&'"))?;
    let mut quotes =
        literal.bytes().enumerate().skip(3).filter(|(_, byte)| *byte == b'\'').map(|(at, _)| at).peekable();
    while let Some(at) = quotes.next() {
        // Two are one.
        if quotes.next_if_eq(&(at + 1)).is_none() {
            return Some(start + at + 1);
        }
    }
    None
}

/// A text of the same length, with the same tokens for whoever only wants to know where they end, in which nothing is wrong. The
/// lexer counts characters from the beginning for each error that it raises; here it has next to none to raise.
pub fn for_the_lexer(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    // No part of a name.
    if text.starts_with('\u{feff}') {
        bytes[..3].fill(b' ');
    }
    let mut at = 0;
    while at < bytes.len() {
        let next = bytes.get(at + 1).copied();
        match bytes[at] {
            // Escapes of characters, which may be none.
            b'\\' if matches!(next, Some(b'u' | b'U' | b'x')) => bytes[at + 1] = b'q',
            // Nothing between the quotes, or a quote first: see `closing_quote`.
            b'&' if bytes[at + 1..].starts_with(b"''") => bytes[at..at + 3].copy_from_slice(b" qq"),
            // A name of no length; or a quote in a name.
            b'"' if next == Some(b'"') => {
                bytes[at..at + 2].fill(b'q');
                at += 1;
            }
            // A parameter.
            b'$' => at += bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count(),
            // 12ab is no number, but could be a name if it began with a letter: of another kind for each digit, since
            // they tell `$a1$` from `$a2$`.
            digit @ b'0'..=b'9' => bytes[at] = digit | 0x80,
            _ => {}
        }
        at += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_command_ends_with_its_line_or_at_a_backslash() {
        for (text, name, command, rest) in [
            ("\\x\nSELECT", "x", "\\x", "\nSELECT"),
            ("\\echo a b \r\nSELECT", "echo", "\\echo a b", "\nSELECT"),
            ("\\echo 'a\\\\b' \\\\ SELECT 1;", "echo", "\\echo 'a\\\\b'", " SELECT 1;"),
            ("\\echo \"\\\\\" `\\\\`\\\\SELECT", "echo", "\\echo \"\\\\\" `\\\\`", "SELECT"),
            ("\\gset \\echo x", "gset", "\\gset", "\\echo x"),
            ("\\gset\\echo x", "gset", "\\gset", "\\echo x"),
            ("\\! cat \\\\ x\n", "!", "\\! cat \\\\ x", "\n"),
            ("\\g | cat \\\\ x", "g", "\\g | cat \\\\ x", ""),
            ("\\echo '\n'", "echo", "\\echo '", "\n'"),
            ("\\", "", "\\", ""),
            ("\\\\ SELECT \\x\n", "", "\\\\ SELECT \\x", "\n"),
            ("\\.\n", ".", "\\.", "\n"),
        ] {
            let found = meta_command(text);
            assert_eq!((found.name, found.text, &text[found.length..]), (name, command, rest), "{text}");
        }
    }

    #[test]
    fn data_end_with_a_dot() {
        let text = "1\n\\.x\n\\.\r\nSELECT";
        assert_eq!(copy_data(text, 0), (6, 10));
        assert_eq!(copy_data(text, 10), (16, 16));
        assert_eq!(copy_data("\\.", 0), (0, 2));
        assert_eq!(copy_data("", 0), (0, 0));
    }

    #[test]
    fn a_unicode_literal_ends_at_its_quote() {
        assert_eq!(closing_quote("a U&' \\' x", 2), Some(8));
        assert_eq!(closing_quote("u&'a''b'''", 0), Some(10));
        assert_eq!(closing_quote("u&'a''", 0), None);
        assert_eq!(closing_quote("E'a'", 0), None);
    }

    #[test]
    fn the_lexer_reads_the_same_places() {
        let read = |text: &str| String::from_utf8_lossy(&for_the_lexer(text)).into_owned();
        assert_eq!(
            read("\u{feff}E'\\ud' U&'\\u' U&'' u&\"a\"\"\" '\\\\U' \"\" $12 $a$ x$3"),
            "   E'\\qd' U&'\\q' U qq u&\"aqq\" '\\\\q' qq $12 $a$ x$3"
        );
        assert_eq!(for_the_lexer("a1 2b$a3$"), b"a\xb1 \xb2b$a\xb3$");
    }
}
