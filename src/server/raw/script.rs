//! A script of the user's: its statements, in order, each with its place, its tag and its text.
//!
//! The server's lexer finds where a statement ends, and the server's grammar says what it is: nothing here knows SQL but for a
//! semicolon that ends none (in parentheses, in a body of BEGIN ATOMIC). What psql would do with the text before anything is sent
//! is not guessed at. It is told as such, and the statements around it are found as psql finds them.

use std::ffi::{CStr, CString, c_char, c_int};

use pgrx::pg_sys::{self, NodeTag};
use pgrx::{PgList, PgLogLevel};

use super::catch::subtransaction;
use super::{encoding, memory};
use crate::error::{Error, PROGRAM_LIMIT_EXCEEDED, Result, SYNTAX_ERROR};

mod psql;
#[cfg(feature = "pg_test")]
mod tests;

use psql::Effect;

/// Bytes of a script, as of any text that somebody gives to a function of ours.
const LONGEST: usize = 1 << 20;
/// What the lexer does not take, it is asked to pass over so many times. Then the rest of the script is one statement.
const COMPLAINTS: usize = 1000;

#[derive(Clone, Debug)]
pub struct Piece<'a> {
    pub what: What,
    /// From its first token to its last one. Without the semicolon, and without comments around it.
    pub text: &'a str,
    /// The byte of the script that it begins with, from 0.
    pub start: usize,
    /// The character that it begins with, from 1, as the server counts places of errors; and its line, from 1.
    pub character: usize,
    pub line: usize,
}

#[derive(Clone, Debug)]
pub enum What {
    /// A statement, with its tag.
    Sql(String),
    /// Not a statement: what the server says of it. Its place counts in the script, whose text it leaves to the caller.
    Wrong(Error),
    /// A statement that only psql can make: it puts the value of a variable in, or takes a meta-command out of it.
    OfPsql,
    /// `\x` and its kin, and the `\;` between two statements that psql sends together.
    MetaCommand,
    /// What follows `COPY .. FROM STDIN`, without the line that ends it.
    CopyData,
}

/// The statements of a text, as the server's grammar finds them.
///
/// Safety: in a transaction, in whose current memory the trees live.
pub unsafe fn trees(text: &CStr) -> impl Iterator<Item = *mut pg_sys::RawStmt> + use<> {
    // SAFETY: `text` ends in a zero; the parser gives a list of RawStmt, or none, and copies what it keeps.
    unsafe {
        let statements = pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        PgList::<pg_sys::RawStmt>::from_pg(statements)
    }
    .iter_ptr()
    .collect::<Vec<_>>()
    .into_iter()
}

/// The one statement of a text.
///
/// Safety: as [`trees`].
pub unsafe fn tree(text: &CStr) -> Result<*mut pg_sys::RawStmt> {
    // SAFETY: as the caller promises.
    let mut statements = unsafe { trees(text) };
    match (statements.next(), statements.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(Error::new(SYNTAX_ERROR, "this is not one statement")),
    }
}

/// The tag of a statement, such as `VACUUM`.
///
/// Safety: a statement, raw or not.
pub unsafe fn tag(statement: *mut pg_sys::Node) -> String {
    // SAFETY: as the caller promises; names of tags are static.
    unsafe {
        CStr::from_ptr(pg_sys::GetCommandTagName(pg_sys::CreateCommandTag(statement))).to_string_lossy().into_owned()
    }
}

/// Splits a script as psql does, under the settings in force.
pub fn split(text: &str) -> Result<Vec<Piece<'_>>> {
    if text.len() > LONGEST {
        return Err(Error::new(
            PROGRAM_LIMIT_EXCEEDED,
            format!("a script must have at most 1 MB, but has {} bytes", text.len()),
        ));
    }
    if text.contains('\0') {
        return Err(Error::new(SYNTAX_ERROR, "the script contains a zero byte"));
    }
    let _silence = Silence::begin();
    // SAFETY: in a transaction. Lexer and trees live in memory of their own, which goes when all of it has been read.
    unsafe {
        let context = memory::new_context(pg_sys::CurrentMemoryContext);
        let before = pg_sys::MemoryContextSwitchTo(context);
        let mut reader = Reader::new(text);
        let end = reader.read_all();
        pg_sys::MemoryContextSwitchTo(before);
        pg_sys::MemoryContextDelete(context);
        end?;
        Ok(with_places(text, reader.pieces))
    }
}

/// Pieces know their bytes only: characters and lines are counted once, from the first to the last.
fn with_places<'a>(text: &'a str, mut pieces: Vec<Piece<'a>>) -> Vec<Piece<'a>> {
    pieces.sort_by_key(|piece| piece.start);
    let (mut at, mut character, mut line) = (0, 1, 1);
    for piece in &mut pieces {
        let between = &text[at..piece.start];
        character += characters(between);
        line += between.matches('\n').count();
        at = piece.start;
        (piece.character, piece.line) = (character, line);
        if let What::Wrong(Error { position: Some(position), .. }) = &mut piece.what {
            position.character += character as i32 - 1;
        }
    }
    pieces
}

/// As the server counts them: where it knows no encoding, a byte is a character.
pub fn characters(text: &str) -> usize {
    if encoding::is_utf8() || encoding::is_converted() { text.chars().count() } else { text.len() }
}

/// While a script is read, nobody is told of what is odd in it: that is for whoever runs a statement. How strings are read
/// may change from one statement to the next; it is put back.
struct Silence {
    client: c_int,
    log: c_int,
    of_escapes: bool,
    standard: bool,
}

impl Silence {
    fn begin() -> Self {
        // SAFETY: plain variables of this thread.
        unsafe {
            let before = Silence {
                client: pg_sys::client_min_messages,
                log: pg_sys::log_min_messages,
                of_escapes: pg_sys::escape_string_warning,
                standard: pg_sys::standard_conforming_strings,
            };
            pg_sys::client_min_messages = PgLogLevel::ERROR as c_int;
            pg_sys::log_min_messages = PgLogLevel::ERROR as c_int;
            pg_sys::escape_string_warning = false;
            before
        }
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // SAFETY: as in `begin`.
        unsafe {
            pg_sys::client_min_messages = self.client;
            pg_sys::log_min_messages = self.log;
            pg_sys::escape_string_warning = self.of_escapes;
            pg_sys::standard_conforming_strings = self.standard;
        }
    }
}

/// The server's lexer on a copy of a text, with the same places.
struct Lexer {
    scanner: pg_sys::core_yyscan_t,
    extra: *mut pg_sys::core_yy_extra_type,
    /// Where the token begins that was read, or begun, last.
    start: c_int,
}

impl Lexer {
    /// Safety: in memory that lives as long as this. `text` has no zero byte.
    unsafe fn new(text: &str) -> Self {
        let mut bytes = psql::for_the_lexer(text);
        bytes.push(0);
        // SAFETY: it copies the text, which ends in a zero; the tables of keywords are the server's own. An escaped quote
        // is refused, where it is refused, by the grammar.
        unsafe {
            let extra = memory::allocate::<pg_sys::core_yy_extra_type>(1);
            let tokens = (&raw const pg_sys::ScanKeywordTokens).cast();
            let scanner = pg_sys::scanner_init(bytes.as_ptr().cast(), extra, &raw const pg_sys::ScanKeywords, tokens);
            (*extra).backslash_quote = pg_sys::BackslashQuoteType::BACKSLASH_QUOTE_ON as c_int;
            (*extra).escape_string_warning = false;
            Lexer { scanner, extra, start: 0 }
        }
    }

    /// The bytes of the next token. After an error the same can be asked again: the lexer goes on behind what it complained of.
    fn next(&mut self) -> Option<(usize, usize)> {
        let mut value = pg_sys::core_YYSTYPE::default();
        // SAFETY: the scanner lives as long as this.
        let code = unsafe { pg_sys::core_yylex(&mut value, &mut self.start, self.scanner) };
        (code != 0).then(|| self.token())
    }

    /// The token that begins at `start`: the lexer keeps a zero behind the one that it read last.
    fn token(&self) -> (usize, usize) {
        let start = self.start as usize;
        // SAFETY: within the lexer's copy, which ends in a zero.
        let length = unsafe { CStr::from_ptr((*self.extra).scanbuf.add(start)).count_bytes() };
        (start, start + length)
    }

    /// What lies there, behind what was read, is as good as not there.
    fn blank(&mut self, from: usize, to: usize) {
        // SAFETY: within the lexer's copy, as all places of the text.
        unsafe { std::ptr::write_bytes((*self.extra).scanbuf.add(from), b' ', to.saturating_sub(from)) };
    }

    /// As [`Self::blank`], right behind the token that was read last. The lexer holds the byte there in its hand and puts it
    /// back: whoever reads on ignores what it makes of that. A quote must not go on into the text.
    fn blank_behind(&mut self, text: &str, from: usize, to: usize) {
        self.blank(from + 1, to);
        if let Some(&[quote @ (b'\'' | b'"'), _]) = text.as_bytes().get(from..from + 2) {
            // SAFETY: within the lexer's copy.
            unsafe { *(*self.extra).scanbuf.add(from + 1) = quote as c_char };
        }
    }

    fn set_standard(&mut self, standard: bool) {
        // SAFETY: of this thread, and of this lexer. The grammar reads the one, the lexer has taken the other.
        unsafe {
            pg_sys::standard_conforming_strings = standard;
            (*self.extra).standard_conforming_strings = standard;
        }
    }
}

/// How far into `CREATE OR REPLACE FUNCTION f() .. BEGIN ATOMIC .. END` a statement is.
#[derive(Clone, Copy, Default, PartialEq)]
enum Routine {
    #[default]
    Start,
    Create,
    CreateOr,
    CreateOrReplace,
    Head,
    /// So many END are missing.
    Body(usize),
    Other,
}

/// A statement that has begun.
#[derive(Default)]
struct Open {
    start: usize,
    /// The end of its last token so far.
    end: usize,
    parentheses: usize,
    routine: Routine,
    /// The token before, if it is one of those that matter.
    last: Last,
    /// Colons that psql could take for its own.
    variables: Vec<usize>,
    hole: Hole,
}

/// Something that psql takes out of a statement.
#[derive(Clone, Copy, Default, PartialEq)]
enum Hole {
    #[default]
    None,
    /// Behind its last token so far.
    AtTheEnd,
    Inside,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Last {
    #[default]
    Any,
    Begin,
    /// AS or a dot: any word behind it is a name.
    BeforeName,
}

impl Open {
    fn semicolon_ends(&self) -> bool {
        self.parentheses == 0 && !matches!(self.routine, Routine::Body(_))
    }

    fn take(&mut self, token: &str) {
        let is = |word: &str| token.eq_ignore_ascii_case(word);
        match token {
            "(" => self.parentheses += 1,
            ")" => self.parentheses = self.parentheses.saturating_sub(1),
            _ => {}
        }
        self.routine = match self.routine {
            Routine::Start if is("create") => Routine::Create,
            Routine::Create if is("or") => Routine::CreateOr,
            Routine::CreateOr if is("replace") => Routine::CreateOrReplace,
            Routine::Create | Routine::CreateOrReplace if is("function") || is("procedure") => Routine::Head,
            Routine::Head if self.last == Last::Begin && is("atomic") => Routine::Body(1),
            Routine::Body(ends) if self.last != Last::BeforeName && is("case") => Routine::Body(ends + 1),
            Routine::Body(1) if self.last != Last::BeforeName && is("end") => Routine::Other,
            Routine::Body(ends) if self.last != Last::BeforeName && is("end") => Routine::Body(ends - 1),
            same @ (Routine::Head | Routine::Body(_)) => same,
            _ => Routine::Other,
        };
        self.last = match token {
            _ if is("begin") => Last::Begin,
            "." => Last::BeforeName,
            _ if is("as") => Last::BeforeName,
            _ => Last::Any,
        };
    }
}

/// What the grammar says of a statement, besides its tag.
struct Found {
    tag: String,
    /// psql reads on behind the statement's line.
    reads_data: bool,
    /// How strings are read from now on; `None` inside: as at first.
    strings: Option<Option<bool>>,
}

struct Reader<'a> {
    text: &'a str,
    lexer: Lexer,
    /// Trees of one statement.
    trees: pg_sys::MemoryContext,
    pieces: Vec<Piece<'a>>,
    open: Option<Open>,
    /// What the lexer says of places before this one counts for nothing.
    skip: usize,
    /// So many COPY wait for the data behind the line that psql sends them in.
    copies: usize,
    /// The line after which data were found last, and where they ended.
    data: (usize, usize),
    /// As at first.
    standard: bool,
}

impl<'a> Reader<'a> {
    /// Safety: in a transaction, in memory that lives as long as this.
    unsafe fn new(text: &'a str) -> Self {
        // SAFETY: as the caller promises.
        unsafe {
            Reader {
                text,
                lexer: Lexer::new(text),
                trees: memory::new_context(pg_sys::CurrentMemoryContext),
                pieces: Vec::new(),
                open: None,
                skip: 0,
                copies: 0,
                data: (0, 0),
                standard: pg_sys::standard_conforming_strings,
            }
        }
    }

    fn read_all(&mut self) -> Result<()> {
        let mut complained = 0;
        for complaint in 1.. {
            match subtransaction(|| self.read()) {
                Ok(()) => return self.finish(),
                Err(error) if !is_of_the_text(&error) => return Err(error),
                Err(_) => {}
            }
            // A token that the lexer does not take: the grammar says so again, when the statement has ended.
            let (start, mut end) = self.lexer.token();
            let literal = psql::closing_quote(self.text, start).filter(|_| start >= self.skip);
            if let Some(quote) = literal {
                self.lexer.blank_behind(self.text, end, quote);
                end = quote;
            }
            self.token(start, end)?;
            self.skip = literal.unwrap_or(self.skip);
            if end >= self.text.len() || end <= complained || complaint == COMPLAINTS {
                if let Some(open) = &mut self.open {
                    open.end = self.text.trim_ascii_end().len().max(open.start);
                }
                return self.finish();
            }
            complained = end;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        while let Some((start, end)) = self.lexer.next() {
            pgrx::check_for_interrupts!();
            self.token(start, end)?;
        }
        Ok(())
    }

    fn token(&mut self, start: usize, end: usize) -> Result<()> {
        if start < self.skip {
            return Ok(());
        }
        let token = &self.text[start..end];
        match token {
            "\\" => return self.backslash(start),
            ";" if self.open.as_ref().is_none_or(Open::semicolon_ends) => {
                self.finish()?;
                self.data_behind(start);
                return Ok(());
            }
            _ => {}
        }
        let open = self.open.get_or_insert_with(|| Open { start, ..Open::default() });
        open.end = end;
        if open.hole == Hole::AtTheEnd {
            open.hole = Hole::Inside;
        }
        open.take(token);
        if token == ":" && psql::is_variable(self.text, start) {
            open.variables.push(start);
        }
        Ok(())
    }

    fn backslash(&mut self, start: usize) -> Result<()> {
        match self.text.as_bytes().get(start + 1) {
            Some(b';') => {
                self.finish()?;
                self.push(What::MetaCommand, start, start + 2);
                self.skip = start + 2;
                return Ok(());
            }
            Some(b':') => {
                let open = self.open.get_or_insert_with(|| Open { start, ..Open::default() });
                (open.end, open.hole) = (start + 2, Hole::Inside);
                self.skip = start + 2;
                return Ok(());
            }
            _ => {}
        }
        let mut at = start;
        while self.text[at..].starts_with('\\') {
            let command = psql::meta_command(&self.text[at..]);
            self.push(What::MetaCommand, at, at + command.text.len());
            match command.effect() {
                Effect::Sends => {
                    self.finish()?;
                    self.data_behind(at);
                }
                Effect::Forgets => {
                    if let Some(open) = &mut self.open {
                        open.hole = Hole::Inside;
                    }
                    self.finish()?;
                    self.copies = 0;
                }
                Effect::GoesOn => {
                    if let Some(open @ Open { hole: Hole::None, .. }) = &mut self.open {
                        open.hole = Hole::AtTheEnd;
                    }
                    if command.name == "copy" && self.look(&command.text[1..]).is_ok_and(|found| found.reads_data) {
                        self.copies += 1;
                        self.data_behind(at);
                    }
                }
            }
            at += command.length;
        }
        self.lexer.blank_behind(self.text, start + 1, at);
        self.skip = at;
        Ok(())
    }

    fn push(&mut self, what: What, start: usize, end: usize) {
        self.pieces.push(Piece { what, text: &self.text[start..end], start, character: 0, line: 0 });
    }

    /// The statement that is open ends with its last token.
    fn finish(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let text = &self.text[open.start..open.end];
        let has_data = open.start < self.data.0 && self.data.0 < open.end;
        let mut found = if has_data || open.hole == Hole::Inside { None } else { Some(self.look(text)) };
        let what = match &found {
            Some(Ok(found)) => What::Sql(found.tag.clone()),
            Some(Err(error)) if !is_of_the_text(error) => return Err(error.clone()),
            Some(Err(error)) => {
                let place = error.position.as_ref().map_or(0, |position| position.character as usize);
                // What stands before the first variable is the server's to judge.
                match open.variables.first() {
                    Some(&colon) if characters(&self.text[open.start..colon]) < place => {
                        found = Some(self.look(&without(text, open.start, &open.variables)));
                        What::OfPsql
                    }
                    _ => What::Wrong(error.clone()),
                }
            }
            None => What::OfPsql,
        };
        if let Some(Ok(found)) = found {
            self.copies += usize::from(found.reads_data);
            if let Some(strings) = found.strings {
                self.lexer.set_standard(strings.unwrap_or(self.standard));
            }
        }
        self.push(what, open.start, open.end);
        Ok(())
    }

    /// The data of what psql sends at `sent` begin with the next line. What is left of this one comes after them.
    fn data_behind(&mut self, sent: usize) {
        for _ in 0..std::mem::take(&mut self.copies) {
            let (line, after) = self.data;
            let (line, from) = if sent < line {
                (line, after)
            } else {
                let line = self.text[sent..].find('\n').map_or(self.text.len(), |at| sent + at);
                (line, (line + 1).min(self.text.len()))
            };
            let (end, next) = psql::copy_data(self.text, from);
            if from < next {
                self.push(What::CopyData, from, end);
                self.lexer.blank(from, next);
            }
            self.data = (line, next);
        }
    }

    /// What the grammar makes of it.
    fn look(&mut self, text: &str) -> Result<Found> {
        // SAFETY: in a transaction; the trees live in memory of their own, and nobody has the last ones any more.
        unsafe {
            pg_sys::MemoryContextReset(self.trees);
            let before = pg_sys::MemoryContextSwitchTo(self.trees);
            let found = subtransaction(|| look(&CString::new(encoding::to_server(text)).unwrap_or_default()));
            pg_sys::MemoryContextSwitchTo(before);
            found
        }
    }
}

/// Safety: as [`trees`].
unsafe fn look(text: &CStr) -> Result<Found> {
    // SAFETY: a node is cast to what its tag says.
    unsafe {
        let statement = (*tree(text)?).stmt;
        let (mut reads_data, mut strings) = (false, None);
        match (*statement).type_ {
            NodeTag::T_CopyStmt => {
                let copy = &*statement.cast::<pg_sys::CopyStmt>();
                reads_data = copy.is_from && copy.filename.is_null() && !copy.is_program;
            }
            NodeTag::T_VariableSetStmt => strings = strings_set_by(statement.cast()),
            _ => {}
        }
        Ok(Found { tag: tag(statement), reads_data, strings })
    }
}

/// Safety: a SET or RESET.
unsafe fn strings_set_by(set: *mut pg_sys::VariableSetStmt) -> Option<Option<bool>> {
    // SAFETY: as the caller promises; RESET ALL has no name.
    unsafe {
        use pg_sys::VariableSetKind::*;
        if (*set).kind == VAR_RESET_ALL {
            return Some(None);
        }
        if (*set).name.is_null()
            || !CStr::from_ptr((*set).name).to_bytes().eq_ignore_ascii_case(b"standard_conforming_strings")
        {
            return None;
        }
        let mut standard = false;
        match (*set).kind {
            VAR_SET_VALUE => {
                let value = pg_sys::ExtractSetVariableArgs(set);
                pg_sys::parse_bool(value, &mut standard).then_some(Some(standard))
            }
            VAR_SET_DEFAULT | VAR_RESET => Some(None),
            _ => None,
        }
    }
}

/// A statement without the colons of variables: what remains says at least what kind of statement it is.
fn without(text: &str, start: usize, colons: &[usize]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for colon in colons {
        bytes[colon - start] = b' ';
    }
    String::from_utf8(bytes).unwrap_or_default()
}

/// Not that memory is missing, or that somebody has canceled.
fn is_of_the_text(error: &Error) -> bool {
    !matches!(&error.sqlstate.class(), b"53" | b"57" | b"58" | b"XX")
}
