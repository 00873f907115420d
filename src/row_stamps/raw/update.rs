//! What becomes of a row: which stamps keep, which get a new value.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys::{self, Datum, HeapTuple, Relation, TriggerData, TupleTableSlot};

use crate::server::raw::unguarded;

use super::layout::{Kind, Layout, MAX_STAMPS, Moment, Stamp};
use super::{is_left_alone, raise, slots};
use crate::settings;
use crate::soft_delete;

/// Values that the new row gets instead of its own.
struct Changes {
    count: usize,
    attnums: [i32; MAX_STAMPS],
    values: [Datum; MAX_STAMPS],
    nulls: [bool; MAX_STAMPS],
}

impl Changes {
    const NONE: Changes =
        Changes { count: 0, attnums: [0; MAX_STAMPS], values: [Datum::null(); MAX_STAMPS], nulls: [false; MAX_STAMPS] };

    #[inline(always)]
    fn set(&mut self, stamp: &Stamp, value: Datum, null: bool) {
        // Never full: a stamp is set once at most.
        if let (Some(attnum), Some(place), Some(is_null)) =
            (self.attnums.get_mut(self.count), self.values.get_mut(self.count), self.nulls.get_mut(self.count))
        {
            (*attnum, *place, *is_null) = (stamp.attnum, value, null);
            self.count += 1;
        }
    }

    /// The row with these values; the row itself if there are none.
    ///
    /// Safety: slot and tuple are the row, of that relation; the slot is filled.
    unsafe fn apply(&self, relation: Relation, slot: *mut TupleTableSlot, tuple: HeapTuple) -> HeapTuple {
        if self.count == 0 {
            return tuple;
        }
        // SAFETY: arrays for all columns, in the memory of the row, where the server takes the tuple; stamps are
        // columns of the relation.
        unsafe {
            let descriptor = (*relation).rd_att;
            let columns = (*descriptor).natts as usize;
            let values = unguarded::palloc(columns * size_of::<Datum>()).cast::<Datum>();
            let nulls = unguarded::palloc(columns).cast::<bool>();
            std::ptr::copy_nonoverlapping((*slot).tts_values, values, columns);
            std::ptr::copy_nonoverlapping((*slot).tts_isnull, nulls, columns);
            for ((&attnum, &value), &null) in self.attnums.iter().zip(&self.values).zip(&self.nulls).take(self.count) {
                *values.add(attnum as usize - 1) = value;
                *nulls.add(attnum as usize - 1) = null;
            }
            let changed = unguarded::heap_form_tuple(descriptor, values, nulls);
            (*(*changed).t_data).t_ctid = (*(*tuple).t_data).t_ctid;
            (*changed).t_self = (*tuple).t_self;
            (*changed).t_tableOid = (*tuple).t_tableOid;
            changed
        }
    }
}

/// What an INSERT gives is kept: a row may come from elsewhere, another partition for one. The rest is filled.
///
/// Safety: what the server calls the trigger for, before an INSERT of a row; the layout was read of it.
pub unsafe fn stamp_insert(data: *const TriggerData, layout: *mut Layout) -> HeapTuple {
    // SAFETY: there is a slot with the row; the layout lives as long as the function's own memory, and one call has
    // it at a time.
    unsafe {
        let (relation, slot) = ((*data).tg_relation, (*data).tg_trigslot);
        slots::fill_slot(slot);
        let layout = &mut *layout;
        let mut changes = Changes::NONE;
        let mut moment = None;
        for stamp in [layout.created_at, layout.updated_at] {
            if stamp.is_there() && is_null(slot, &stamp) {
                // The same for both.
                let moment = *moment.get_or_insert_with(|| now(layout));
                changes.set(&stamp, time_datum(moment, &stamp), false);
            }
        }
        for stamp in [layout.created_by, layout.updated_by] {
            if stamp.is_there() && is_null(slot, &stamp) {
                changes.set(&stamp, actor(layout, relation, &stamp), false);
            }
        }
        if layout.version.is_there() && is_null(slot, &layout.version) {
            changes.set(&layout.version, Datum::from(1i64), false);
        }
        changes.apply(relation, slot, (*data).tg_trigtuple)
    }
}

/// Safety: what the server calls the trigger for, before an UPDATE of a row; the layout was read of it.
pub unsafe fn stamp_update(data: *const TriggerData, layout: *mut Layout) -> HeapTuple {
    // SAFETY: there are slots with both rows; the layout lives as long as the function's own memory, and one call has
    // it at a time.
    unsafe {
        let relation = (*data).tg_relation;
        if is_left_alone(relation) || soft_delete::raw::completes_row() {
            return (*data).tg_newtuple;
        }
        // The old row is the newest one: whoever waited for another's change sees that one here.
        let (old, new) = ((*data).tg_trigslot, (*data).tg_newslot);
        slots::fill_slot(old);
        slots::fill_slot(new);
        let layout = &mut *layout;
        let mut changes = Changes::NONE;
        for (stamp, refuses) in
            [(layout.created_at, layout.refuses_created_at), (layout.created_by, layout.refuses_created_by)]
        {
            // What nobody knew yet may be told once.
            if stamp.is_there() && !is_null(old, &stamp) && differs(layout, old, new, &stamp) {
                if refuses {
                    raise::immutable(relation, stamp.attnum);
                }
                keep(&mut changes, old, &stamp);
            }
        }
        let mut is_changed = is_changed(layout, old, new, (*data).tg_updatedcols);
        if layout.version.is_there() {
            let version = layout.version;
            match next_version(data, layout, is_changed) {
                Version::Sent => is_changed = true,
                Version::Next(next) => changes.set(&version, Datum::from(next), false),
                Version::Kept => {}
            }
        }
        for stamp in [layout.updated_at, layout.updated_by] {
            if !stamp.is_there() {
                continue;
            }
            if !is_changed {
                if differs(layout, old, new, &stamp) {
                    keep(&mut changes, old, &stamp);
                }
            } else if stamp.attnum == layout.updated_at.attnum {
                changes.set(&stamp, time_datum(now(layout), &stamp), false);
            } else {
                changes.set(&stamp, actor(layout, relation, &stamp), false);
            }
        }
        changes.apply(relation, new, (*data).tg_newtuple)
    }
}

/// Safety: the slot is filled, and has the stamp's column.
#[inline(always)]
unsafe fn is_null(slot: *const TupleTableSlot, stamp: &Stamp) -> bool {
    // SAFETY: counted from 1.
    unsafe { *(*slot).tts_isnull.add(stamp.attnum as usize - 1) }
}

/// Safety: as [`is_null`].
#[inline(always)]
unsafe fn value(slot: *const TupleTableSlot, stamp: &Stamp) -> Datum {
    // SAFETY: counted from 1.
    unsafe { *(*slot).tts_values.add(stamp.attnum as usize - 1) }
}

/// Safety: as [`is_null`].
unsafe fn keep(changes: &mut Changes, old: *const TupleTableSlot, stamp: &Stamp) {
    // SAFETY: as the caller promises.
    unsafe { changes.set(stamp, value(old, stamp), is_null(old, stamp)) }
}

/// Safety: both slots are filled, and have the columns of the layout.
unsafe fn differs(layout: &Layout, old: *const TupleTableSlot, new: *const TupleTableSlot, stamp: &Stamp) -> bool {
    // SAFETY: counted from 1.
    unsafe { column_differs(layout, old, new, stamp.attnum as usize - 1) }
}

/// Is any column but the stamps another one than before? Those that the statement names are looked at first.
///
/// Safety: as [`differs`]; the set is null or one.
unsafe fn is_changed(
    layout: &Layout,
    old: *const TupleTableSlot,
    new: *const TupleTableSlot,
    named: *const pg_sys::Bitmapset,
) -> bool {
    // SAFETY: slots and layout have the columns of the relation.
    unsafe {
        let columns = (*(*new).tts_tupleDescriptor).natts as usize;
        for named_ones in [true, false] {
            for i in 0..columns {
                if is_member(named, i) == named_ones
                    && (*layout.columns.add(i)).counts
                    && column_differs(layout, old, new, i)
                {
                    return true;
                }
            }
        }
        false
    }
}

/// Does the statement name column `i`, counted from 0?
///
/// Safety: the set is null or one.
#[inline(always)]
unsafe fn is_member(named: *const pg_sys::Bitmapset, i: usize) -> bool {
    // SAFETY: the word is within those that the set has.
    unsafe {
        if named.is_null() {
            return false;
        }
        let bit = i + 1 + -pg_sys::FirstLowInvalidHeapAttributeNumber as usize;
        let bits = pg_sys::bitmapword::BITS as usize;
        bit / bits < (*named).nwords as usize && *(*named).words.as_ptr().add(bit / bits) >> (bit % bits) & 1 != 0
    }
}

/// Safety: as [`differs`], and they have column `i`.
#[inline(always)]
unsafe fn column_differs(layout: &Layout, old: *const TupleTableSlot, new: *const TupleTableSlot, i: usize) -> bool {
    // SAFETY: values are there where they are not null.
    unsafe {
        let (old_null, new_null) = (*(*old).tts_isnull.add(i), *(*new).tts_isnull.add(i));
        if old_null || new_null {
            return old_null != new_null;
        }
        let (a, b) = (*(*old).tts_values.add(i), *(*new).tts_values.add(i));
        let column = *layout.columns.add(i);
        // The same place is the same value: a large one that the UPDATE does not name is not fetched.
        a != b && (column.by_value || !is_same(a, b, column.length))
    }
}

/// Safety: values that are passed by reference, of that length.
unsafe fn is_same(a: Datum, b: Datum, length: i16) -> bool {
    const VARLENA: i16 = -1;
    // SAFETY: a varlena has at least a header of a byte, and behind that of one out of line its tag and pointer.
    unsafe {
        (length == VARLENA && is_external(a) && is_external(b) && same_bytes(a, b, external_size()))
            || unguarded::datum_image_eq(a, b, false, i32::from(length))
    }
}

/// Safety: both have so many bytes.
unsafe fn same_bytes(a: Datum, b: Datum, bytes: usize) -> bool {
    // SAFETY: as the caller promises.
    let slice = |datum: Datum| unsafe { std::slice::from_raw_parts(datum.cast_mut_ptr::<u8>(), bytes) };
    slice(a) == slice(b)
}

/// Is it a pointer to a value that is stored out of line on disk?
///
/// Safety: a varlena.
unsafe fn is_external(datum: Datum) -> bool {
    const EXTERNAL_HEADER: u8 = if cfg!(target_endian = "little") { 0x01 } else { 0x80 };
    const ON_DISK: u8 = pg_sys::vartag_external::VARTAG_ONDISK as u8;
    let bytes = datum.cast_mut_ptr::<u8>();
    // SAFETY: the tag is looked at only where the header says that there is one.
    unsafe { *bytes == EXTERNAL_HEADER && *bytes.add(1) == ON_DISK }
}

/// Header, tag and pointer.
const fn external_size() -> usize {
    2 + size_of::<pg_sys::varatt_external>()
}

/// What becomes of a row's version.
enum Version {
    /// It stays what the new row says.
    Kept,
    /// The client has counted.
    Sent,
    Next(i64),
}

/// Safety: as [`stamp_update`]; the layout has a version, and the slots are filled.
unsafe fn next_version(data: *const TriggerData, layout: &Layout, is_changed: bool) -> Version {
    // SAFETY: the version is a column of the relation, of the type that its kind says.
    unsafe {
        let (relation, old, new) = ((*data).tg_relation, (*data).tg_trigslot, (*data).tg_newslot);
        let stamp = &layout.version;
        // A row from before there were versions counts as 0.
        let read = |slot| if is_null(slot, stamp) { None } else { Some(number(value(slot, stamp), stamp.kind)) };
        let (before, sent) = (read(old), read(new));
        let current = before.unwrap_or(0);
        // A trigger before this one may have set it, too.
        if is_member((*data).tg_updatedcols, stamp.attnum as usize - 1) || sent != before {
            let expected = if layout.echo { Some(current) } else { current.checked_add(1) };
            match sent {
                None if !(layout.echo && before.is_none()) => raise::version_null(relation, layout.named_version()),
                Some(sent) if Some(sent) != expected => {
                    let read = if layout.echo { sent } else { sent.wrapping_sub(1) };
                    raise::stale(relation, layout.named_version(), current, sent, read)
                }
                _ => {}
            }
            if !layout.echo {
                return Version::Sent;
            }
        } else if layout.version_required && !unguarded::InNoForceRLSOperation() && !soft_delete::raw::fires_trigger() {
            // But for what a foreign key does to the rows that refer to a changed one, and a deletion to a row.
            raise::version_missing(relation, layout.named_version());
        }
        let greatest = if stamp.kind == Kind::Integer { i64::from(i32::MAX) } else { i64::MAX };
        match is_changed {
            false => Version::Kept,
            true if current >= greatest => raise::version_exhausted(relation, layout.named_version()),
            true => Version::Next(current + 1),
        }
    }
}

fn number(datum: Datum, kind: Kind) -> i64 {
    match kind {
        Kind::Integer => i64::from(datum.value() as u32 as i32),
        _ => datum.value() as i64,
    }
}

/// Microseconds since 2000.
///
/// Safety: in a transaction.
unsafe fn now(layout: &Layout) -> i64 {
    // SAFETY: plain reads.
    unsafe {
        match layout.clock {
            Moment::Transaction => unguarded::GetCurrentTransactionStartTimestamp(),
            Moment::Statement => unguarded::GetCurrentStatementStartTimestamp(),
            Moment::Now => unguarded::GetCurrentTimestamp(),
        }
    }
}

/// Safety: in a transaction; nothing above has anything to drop.
unsafe fn time_datum(moment: i64, stamp: &Stamp) -> Datum {
    if stamp.kind != Kind::Timestamp {
        return Datum::from(moment);
    }
    // In the session's time zone, as an assignment of now() is.
    // SAFETY: a strict function of one argument, which is not null; out of range is an error of the server's.
    unsafe {
        unguarded::DirectFunctionCall1Coll(unguarded::timestamptz_timestamp, pg_sys::InvalidOid, Datum::from(moment))
    }
}

/// Who it was: `upkeep.actor`, else the role that the session acts as outside of SECURITY DEFINER functions.
///
/// Safety: an open relation; nothing above has anything to drop.
unsafe fn actor(layout: &mut Layout, relation: Relation, stamp: &Stamp) -> Datum {
    // SAFETY: the setting is null or ends in a zero, and nothing in here changes it. The value is in the memory of
    // the row.
    unsafe {
        let told = *settings::actor_place();
        let name = if told.is_null() || *told == 0 { user_name(layout) } else { told };
        let length = CStr::from_ptr(name).count_bytes() as i32;
        if stamp.kind == Kind::Name {
            return name_datum(name, length);
        }
        if stamp.limit >= 0 && length > stamp.limit && unguarded::pg_mbstrlen_with_len(name, length) > stamp.limit {
            raise::too_long(relation, stamp.attnum, stamp.limit);
        }
        Datum::from(unguarded::cstring_to_text_with_len(name, length))
    }
}

/// Safety: in a transaction; nothing above has anything to drop.
unsafe fn user_name(layout: &mut Layout) -> *const c_char {
    // SAFETY: the name is copied into the memory of the layout, which lives as long.
    unsafe {
        let user = unguarded::GetOuterUserId();
        if layout.user != user {
            let name = unguarded::GetUserNameFromId(user, false);
            layout.user_name = unguarded::MemoryContextStrdup(layout.context, name);
            layout.user = user;
        }
        layout.user_name
    }
}

/// Cut to what a name holds, as the server does with names.
///
/// Safety: a text of that length.
unsafe fn name_datum(text: *const c_char, length: i32) -> Datum {
    const SIZE: usize = pg_sys::NAMEDATALEN as usize;
    // SAFETY: room for a name of the server's; what is copied is shorter by the zero.
    unsafe {
        let length = unguarded::pg_mbcliplen(text, length, SIZE as i32 - 1) as usize;
        let name = unguarded::palloc(SIZE).cast::<c_char>();
        std::ptr::write_bytes(name, 0, SIZE);
        std::ptr::copy_nonoverlapping(text, name, length);
        Datum::from(name)
    }
}
