//! The one error type: what a person reads (message, detail, hint) and the
//! SQLSTATE that goes with it, whether the mistake was ours, theirs or the
//! server's.

use std::fmt;

/// A five-character SQLSTATE in PostgreSQL's packed form (`MAKE_SQLSTATE`).
///
/// pgrx's own enum is closed: a code of a user's (`RAISE .. ERRCODE 'ABC01'`)
/// would become XX000 in it, and LAW 22 classifies by the real one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(pub i32);

impl SqlState {
    pub const fn new(code: &[u8; 5]) -> Self {
        let mut packed = 0;
        let mut i = 5;
        while i > 0 {
            i -= 1;
            packed = (packed << 6) | ((code[i] - b'0') & 0x3F) as i32;
        }
        SqlState(packed)
    }

    /// Reads a code such as one stored with a failed job; anything that is not
    /// five characters is XX000.
    pub fn parse(text: &str) -> Self {
        text.as_bytes().try_into().map_or(INTERNAL_ERROR, |code: &[u8; 5]| SqlState::new(code))
    }

    pub fn code(self) -> [u8; 5] {
        std::array::from_fn(|i| (((self.0 >> (6 * i)) & 0x3F) as u8) + b'0')
    }

    pub fn class(self) -> [u8; 2] {
        let code = self.code();
        [code[0], code[1]]
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.code().iter().try_for_each(|&byte| write!(f, "{}", byte as char))
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqlState({self})")
    }
}

macro_rules! sqlstates {
    ($($name:ident = $code:literal),* $(,)?) => {
        $(pub const $name: SqlState = SqlState::new($code);)*
    };
}

sqlstates! {
    SUCCESSFUL_COMPLETION = b"00000",
    FEATURE_NOT_SUPPORTED = b"0A000",
    NULL_VALUE_NOT_ALLOWED = b"22004",
    INVALID_PARAMETER_VALUE = b"22023",
    STRING_TOO_LONG = b"22001",
    NUMERIC_VALUE_OUT_OF_RANGE = b"22003",
    RAISE_EXCEPTION = b"P0001",
    ACTIVE_SQL_TRANSACTION = b"25001",
    READ_ONLY_SQL_TRANSACTION = b"25006",
    TRANSACTION_TIMEOUT = b"25P04",
    INSUFFICIENT_PRIVILEGE = b"42501",
    SYNTAX_ERROR = b"42601",
    UNDEFINED_OBJECT = b"42704",
    UNDEFINED_TABLE = b"42P01",
    DUPLICATE_COLUMN = b"42701",
    DATATYPE_MISMATCH = b"42804",
    GENERATED_ALWAYS = b"428C9",
    INVALID_TRIGGER_PROTOCOL = b"39P01",
    DUPLICATE_OBJECT = b"42710",
    DUPLICATE_TABLE = b"42P07",
    UNDEFINED_PARAMETER = b"42P02",
    WRONG_OBJECT_TYPE = b"42809",
    INVALID_TABLE_DEFINITION = b"42P16",
    OBJECT_NOT_IN_PREREQUISITE_STATE = b"55000",
    OBJECT_IN_USE = b"55006",
    LOCK_NOT_AVAILABLE = b"55P03",
    SERIALIZATION_FAILURE = b"40001",
    DEADLOCK_DETECTED = b"40P01",
    QUERY_CANCELED = b"57014",
    ADMIN_SHUTDOWN = b"57P01",
    INSUFFICIENT_RESOURCES = b"53000",
    CONFIGURATION_LIMIT_EXCEEDED = b"53400",
    PROGRAM_LIMIT_EXCEEDED = b"54000",
    INTERNAL_ERROR = b"XX000",
}

/// An error on its way to a person.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub sqlstate: SqlState,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Where in `query` the error is: a character position, counted from 1.
    pub position: Option<Position>,
}

/// A place in a text of the user's, shown by psql as `LINE 1: ...` and a caret.
#[derive(Clone, Debug)]
pub struct Position {
    pub query: String,
    pub character: i32,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(sqlstate: SqlState, message: impl Into<String>) -> Self {
        Error { sqlstate, message: message.into(), detail: None, hint: None, position: None }
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn at(mut self, query: &str, character: i32) -> Self {
        self.position = (character > 0).then(|| Position { query: query.to_owned(), character });
        self
    }
}

/// API misuse and failed conversions; PostgreSQL's own errors never arrive this way.
impl From<pgrx::spi::SpiError> for Error {
    fn from(error: pgrx::spi::SpiError) -> Self {
        Error::new(INTERNAL_ERROR, format!("unexpected SPI result: {error}"))
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Error::new(INTERNAL_ERROR, format!("unexpected stored value: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_survives_packing() {
        for code in [b"00000", b"ABC01", b"57P01", b"ZZZZZ"] {
            assert_eq!(&SqlState::new(code).code(), code);
        }
    }

    #[test]
    fn packing_is_postgresqls() {
        // ERRCODE_UNIQUE_VIOLATION as the server's headers give it.
        assert_eq!(SqlState::new(b"23505"), SqlState(83906754));
        assert_eq!(SqlState::parse("23505").to_string(), "23505");
        assert_eq!(SqlState::parse("nonsense"), INTERNAL_ERROR);
    }
}
