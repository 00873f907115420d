//! Statements glued from text of ours and fragments of the user's, which know
//! whose text a character belongs to.

use crate::error::Error;

#[derive(Clone, Debug, Default)]
pub struct Glue {
    text: String,
    /// The user's fragments: the character (from 0) each starts at, and its text.
    fragments: Vec<(usize, String)>,
}

impl Glue {
    pub fn new(ours: &str) -> Self {
        Glue::default().ours(ours)
    }

    pub fn ours(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    /// Newlines on both sides: a fragment may end in a `--` comment.
    pub fn theirs(mut self, text: &str) -> Self {
        self.text.push('\n');
        self.fragments.push((self.text.chars().count(), text.to_owned()));
        self.text.push_str(text);
        self.text.push('\n');
        self
    }

    /// The user's text in it.
    pub fn fragments(&self) -> Vec<&str> {
        self.fragments.iter().map(|(_, text)| text.as_str()).collect()
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The user's fragment that holds this character (from 1) of the whole, and
    /// the character in it.
    fn owner(&self, character: i32) -> Option<(&str, i32)> {
        let at = usize::try_from(character).ok()?.checked_sub(1)?;
        self.fragments.iter().find_map(|(start, text)| {
            let within = at.checked_sub(*start)?;
            // The end itself counts: "syntax error at end of input".
            (within <= text.chars().count() + 1).then(|| (text.as_str(), within.min(text.chars().count()) as i32 + 1))
        })
    }

    /// Lets an error that the server found in the whole point into the user's text.
    pub fn blame(&self, mut error: Error) -> Error {
        let Some(position) = error.position.take() else { return error };
        match self.owner(position.character) {
            Some((text, character)) => error.at(text, character),
            None => error,
        }
    }

    /// The same for a place that the parser gave as an offset in bytes.
    pub fn blame_byte(&self, error: Error, location: Option<usize>) -> Error {
        let character =
            location.and_then(|byte| self.text.get(..byte)).map_or(0, |before| before.chars().count() as i32 + 1);
        match self.owner(character) {
            Some((text, character)) => error.at(text, character),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::SYNTAX_ERROR;
    use proptest::prelude::*;

    fn blamed(glue: &Glue, character: i32) -> Option<(String, i32)> {
        let error = Error::new(SYNTAX_ERROR, "x").at("whole", character);
        glue.blame(error).position.map(|place| (place.query, place.character))
    }

    #[test]
    fn an_error_points_into_the_fragment() {
        let glue = Glue::new("UPDATE t SET").theirs("ä = b +").ours("WHERE").theirs("c");
        // Characters: "UPDATE t SET\n" is 13 long, so the fragment starts at 14.
        assert_eq!(blamed(&glue, 14), Some(("ä = b +".into(), 1)));
        assert_eq!(blamed(&glue, 18), Some(("ä = b +".into(), 5)));
        assert_eq!(blamed(&glue, 3), None);
        assert_eq!(blamed(&glue, glue.text().chars().count() as i32 + 1), Some(("c".into(), 2)));
    }

    proptest! {
        #[test]
        fn every_character_of_a_fragment_is_found(before in "\\PC*", text in "\\PC+", at in 0usize..50) {
            let at = at % text.chars().count();
            let glue = Glue::new(&before).theirs(&text).ours("tail");
            let whole = before.chars().count() + 1 + at + 1;
            prop_assert_eq!(blamed(&glue, whole as i32), Some((text, at as i32 + 1)));
        }
    }
}
