//! What a trigger is to stamp, read once a statement from its arguments, its WHEN and the table's columns.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys::{self, MemoryContext, Oid};

use crate::server::raw::unguarded;

use super::{raise, slots};

/// Columns that one trigger can stamp: created_at, updated_at, created_by, updated_by, version.
pub const MAX_STAMPS: usize = 5;

/// What kind of value a column takes.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Timestamptz,
    Timestamp,
    Text,
    Name,
    Integer,
    Bigint,
}

/// A column to be stamped.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Stamp {
    /// Counted from 1; 0: there is none.
    pub attnum: i32,
    pub kind: Kind,
    /// Most characters, for a varchar with a limit; else negative.
    pub limit: i32,
}

impl Stamp {
    pub fn is_there(&self) -> bool {
        self.attnum != 0
    }
}

/// How values of a column are compared.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Column {
    pub length: i16,
    pub by_value: bool,
    /// Not dropped, not generated, not a stamp: a change of it is a change of the row.
    pub counts: bool,
}

/// Which moment a time is.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Moment {
    Transaction,
    Statement,
    Now,
}

#[repr(C)]
pub struct Layout {
    pub created_at: Stamp,
    pub updated_at: Stamp,
    pub created_by: Stamp,
    pub updated_by: Stamp,
    pub version: Stamp,
    pub clock: Moment,
    /// The client sends the version that it read, not the next one.
    pub echo: bool,
    pub version_required: bool,
    pub refuses_created_at: bool,
    pub refuses_created_by: bool,
    pub context: MemoryContext,
    /// The name of that role, once it has been looked up.
    pub user: Oid,
    pub user_name: *const c_char,
    pub columns: *mut Column,
}

impl Layout {
    /// Safety: what the server calls the trigger for; `context` lives as long as the function's own memory.
    pub unsafe fn read(data: *const pg_sys::TriggerData, context: MemoryContext) -> *mut Layout {
        // SAFETY: trigger and relation stay open while the trigger runs; its texts end in a zero, and there are as
        // many arguments as it says. Zeros are valid for all of a layout.
        unsafe {
            let trigger = (*data).tg_trigger;
            let descriptor = (*(*data).tg_relation).rd_att;
            // All zeroes: no stamp, the transaction's time, version + 1, nothing refused.
            let layout = unguarded::MemoryContextAllocZero(context, size_of::<Layout>()).cast::<Layout>();
            (*layout).context = context;
            let mut numbers = [0; MAX_STAMPS];
            let found = if (*trigger).tgqual.is_null() {
                0
            } else {
                column_numbers(CStr::from_ptr((*trigger).tgqual).to_bytes(), &mut numbers)
            };
            let mut next = numbers.iter().take(found);
            for i in 0..(*trigger).tgnargs as usize {
                let argument = CStr::from_ptr(*(*trigger).tgargs.add(i));
                let stamp = match argument.to_bytes() {
                    b"created_at" => &raw mut (*layout).created_at,
                    b"updated_at" => &raw mut (*layout).updated_at,
                    b"created_by" => &raw mut (*layout).created_by,
                    b"updated_by" => &raw mut (*layout).updated_by,
                    b"version" => &raw mut (*layout).version,
                    option => {
                        if !(*layout).set(option) {
                            raise::wrong_arguments(data);
                        }
                        continue;
                    }
                };
                let Some(&number) = next.next() else { raise::wrong_arguments(data) };
                if number > (*descriptor).natts || (*stamp).is_there() {
                    raise::wrong_arguments(data);
                }
                let attribute = slots::attribute(descriptor, number as usize - 1);
                *stamp = match stamp_of(attribute) {
                    Some(kind) => Stamp { attnum: number, kind, limit: limit_of(attribute) },
                    None => raise::wrong_arguments(data),
                };
            }
            if next.next().is_some() || !(*layout).fits() {
                raise::wrong_arguments(data);
            }
            (*layout).read_columns(descriptor);
            layout
        }
    }

    fn set(&mut self, option: &[u8]) -> bool {
        match option {
            b"clock=transaction" => self.clock = Moment::Transaction,
            b"clock=statement" => self.clock = Moment::Statement,
            b"clock=clock" => self.clock = Moment::Now,
            b"mode=incremented" => self.echo = false,
            b"mode=echo" => self.echo = true,
            b"required" => self.version_required = true,
            b"refuse=created_at" => self.refuses_created_at = true,
            b"refuse=created_by" => self.refuses_created_by = true,
            _ => return false,
        }
        true
    }

    /// The version's column, as errors name it.
    pub fn named_version(&self) -> raise::Version {
        let how = if self.echo { c"the version that it read" } else { c"the version that it read plus one" };
        raise::Version { attnum: self.version.attnum, how }
    }

    /// Does every stamp have a column of a type for it?
    fn fits(&self) -> bool {
        let is = |stamp: &Stamp, a, b| !stamp.is_there() || stamp.kind == a || stamp.kind == b;
        is(&self.created_at, Kind::Timestamptz, Kind::Timestamp)
            && is(&self.updated_at, Kind::Timestamptz, Kind::Timestamp)
            && is(&self.created_by, Kind::Text, Kind::Name)
            && is(&self.updated_by, Kind::Text, Kind::Name)
            && is(&self.version, Kind::Integer, Kind::Bigint)
    }

    fn stamps(&self, attnum: i32) -> bool {
        [self.created_at, self.updated_at, self.created_by, self.updated_by, self.version]
            .iter()
            .any(|stamp| stamp.attnum == attnum)
    }

    /// Safety: the descriptor is of the trigger's relation.
    unsafe fn read_columns(&mut self, descriptor: pg_sys::TupleDesc) {
        // SAFETY: room for all columns, each of which is written.
        unsafe {
            let count = (*descriptor).natts as usize;
            self.columns = unguarded::MemoryContextAllocZero(self.context, (count + 1) * size_of::<Column>()).cast();
            for i in 0..count {
                let attribute = slots::attribute(descriptor, i);
                *self.columns.add(i) = Column {
                    length: (*attribute).attlen,
                    by_value: (*attribute).attbyval,
                    counts: !(*attribute).attisdropped && (*attribute).attgenerated == 0 && !self.stamps(i as i32 + 1),
                };
            }
        }
    }
}

/// Safety: a column as the relation cache has it.
unsafe fn stamp_of(attribute: *const pg_sys::FormData_pg_attribute) -> Option<Kind> {
    // SAFETY: as the caller promises.
    unsafe {
        if (*attribute).attisdropped || (*attribute).attgenerated != 0 {
            return None;
        }
        match (*attribute).atttypid {
            pg_sys::TIMESTAMPTZOID => Some(Kind::Timestamptz),
            pg_sys::TIMESTAMPOID => Some(Kind::Timestamp),
            pg_sys::TEXTOID | pg_sys::VARCHAROID => Some(Kind::Text),
            pg_sys::NAMEOID => Some(Kind::Name),
            pg_sys::INT4OID => Some(Kind::Integer),
            pg_sys::INT8OID => Some(Kind::Bigint),
            _ => None,
        }
    }
}

/// Safety: a column as the relation cache has it.
unsafe fn limit_of(attribute: *const pg_sys::FormData_pg_attribute) -> i32 {
    const HEADER: i32 = 4;
    // SAFETY: as the caller promises.
    unsafe {
        if (*attribute).atttypid == pg_sys::VARCHAROID && (*attribute).atttypmod >= HEADER {
            (*attribute).atttypmod - HEADER
        } else {
            -1
        }
    }
}

/// The columns that a WHEN names, in its order, from the server's own notation of it; how many there are. More than
/// there is room for are not counted.
fn column_numbers(when: &[u8], numbers: &mut [i32; MAX_STAMPS]) -> usize {
    const FIELD: &[u8] = b":varattno ";
    let mut found = 0;
    let mut rest = when;
    while let Some(at) = rest.windows(FIELD.len()).position(|window| window == FIELD) {
        let (_, after) = rest.split_at(at + FIELD.len());
        rest = after;
        let number = after
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .fold(0i32, |number, digit| number.saturating_mul(10).saturating_add(i32::from(digit - b'0')));
        let Some(place) = numbers.get_mut(found) else { break };
        if number > 0 {
            *place = number;
            found += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `true OR NEW.b IS NULL OR NEW.l IS NULL` as PostgreSQL 18 stores it.
    const WHEN: &[u8] = b"{BOOLEXPR :boolop or :args ({CONST :consttype 16 :consttypmod -1 :constvalue 1 [ 1 0 0 0 0 0 0 0 ]} \
        {NULLTEST :arg {VAR :varno 2 :varattno 2 :vartype 1184 :varnosyn 2 :varattnosyn 2 :location 9} :nulltesttype 0} \
        {NULLTEST :arg {VAR :varno 2 :varattno 12 :vartype 23 :varnosyn 2 :varattnosyn 12 :location 9} :nulltesttype 0})}";

    #[test]
    fn columns_come_in_the_order_of_the_condition() {
        let mut numbers = [0; MAX_STAMPS];
        assert_eq!(column_numbers(WHEN, &mut numbers), 2);
        assert_eq!(numbers, [2, 12, 0, 0, 0]);
    }

    #[test]
    fn nonsense_has_no_columns() {
        for text in [&b""[..], b":varattno ", b":varattno x", b":varattno 0", b":varattno -3", b":varattnosyn 4"] {
            assert_eq!(column_numbers(text, &mut [0; MAX_STAMPS]), 0, "{}", String::from_utf8_lossy(text));
        }
        let many = ":varattno 7 ".repeat(9);
        assert_eq!(column_numbers(many.as_bytes(), &mut [0; MAX_STAMPS]), MAX_STAMPS);
        let huge = format!(":varattno {} ", "9".repeat(40));
        let mut numbers = [0; MAX_STAMPS];
        column_numbers(huge.as_bytes(), &mut numbers);
        assert_eq!(numbers[0], i32::MAX);
    }
}
