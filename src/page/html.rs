//! Writing HTML in which no text can become markup (LAW 11): tags and attribute names are literals of this program, everything
//! else goes through [`Html::text`] or [`Html::open`], which escape it.

pub struct Html {
    out: String,
    open: Vec<&'static str>,
}

impl Html {
    pub fn page() -> Self {
        Html { out: String::from("<!DOCTYPE html>\n"), open: Vec::new() }
    }

    pub fn open(&mut self, tag: &'static str, attributes: &[(&'static str, &str)]) -> &mut Self {
        self.begin(tag, attributes);
        self.open.push(tag);
        self
    }

    /// A tag without content, such as `meta`.
    pub fn void(&mut self, tag: &'static str, attributes: &[(&'static str, &str)]) -> &mut Self {
        self.begin(tag, attributes);
        self
    }

    fn begin(&mut self, tag: &'static str, attributes: &[(&'static str, &str)]) {
        self.out.push('<');
        self.out.push_str(tag);
        for (name, value) in attributes {
            self.out.push(' ');
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape(value, &mut self.out);
            self.out.push('"');
        }
        self.out.push('>');
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        escape(text, &mut self.out);
        self
    }

    /// Closes what was opened last.
    pub fn close(&mut self) -> &mut Self {
        if let Some(tag) = self.open.pop() {
            self.out.push_str("</");
            self.out.push_str(tag);
            self.out.push('>');
            if BLOCKS.contains(&tag) {
                self.out.push('\n');
            }
        }
        self
    }

    /// A whole element.
    pub fn element(&mut self, tag: &'static str, attributes: &[(&'static str, &str)], text: &str) -> &mut Self {
        self.open(tag, attributes).text(text).close()
    }

    /// The one place where text is not escaped: a style sheet that is a constant of this program.
    pub fn style(&mut self, sheet: &'static str) -> &mut Self {
        self.out.push_str("<style>");
        self.out.push_str(sheet);
        self.out.push_str("</style>");
        self
    }

    pub fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.close();
        }
        self.out
    }
}

/// A line break after these keeps the source readable and changes nothing.
const BLOCKS: [&str; 9] = ["head", "header", "section", "article", "p", "h1", "h2", "ul", "pre"];

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            // What cannot be seen, or turns the reading direction of what follows, is shown as what it is.
            c if c.is_control() || is_deceptive(c) => out.push_str(&format!("\u{FFFD}{:04X}", c as u32)),
            c => out.push(c),
        }
    }
}

/// Zero-width characters, and the ones that reorder text.
fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_stays_text() {
        let mut html = Html::page();
        html.element("p", &[("title", "\"><script>")], "<b>&'\"</b>");
        assert_eq!(
            html.finish(),
            "<!DOCTYPE html>\n<p title=\"&quot;&gt;&lt;script&gt;\">&lt;b&gt;&amp;&#39;&quot;&lt;/b&gt;</p>\n"
        );
    }

    #[test]
    fn what_deceives_the_eye_is_shown() {
        let mut html = Html::page();
        html.text("a\u{202E}b\u{0}c");
        assert!(html.finish().ends_with("a\u{FFFD}202Eb\u{FFFD}0000c"));
    }

    #[test]
    fn everything_is_closed() {
        let mut html = Html::page();
        html.open("main", &[]).open("p", &[]).text("x");
        assert!(html.finish().ends_with("<main><p>x</p>\n</main>"));
    }

    proptest! {
        #[test]
        fn no_text_makes_markup(text in any::<String>()) {
            let mut html = Html::page();
            html.open("p", &[("title", &text)]).text(&text);
            let page = html.finish();
            prop_assert_eq!(page.matches('<').count(), 3);
            prop_assert_eq!(page.matches('>').count(), 3);
            prop_assert_eq!(page.matches('"').count(), 2);
        }
    }
}
