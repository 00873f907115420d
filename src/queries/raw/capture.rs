//! Taking down the text of a statement when it is first met: constants become $1, $2, ... Where people's statements are analyzed:
//! no allocation, no error, nothing that can panic.

use std::ffi::{CStr, c_char, c_int};

use pgrx::pg_sys::{self, NodeTag};

use super::books::part_of;
use super::memory;
use super::texts::{self, Taker, Texts, Writer};
use crate::queries::normalize::constant_length;
use crate::server::raw::unguarded::pg_mbcliplen;

fn who(user: u32) -> u64 {
    // SAFETY: set when the process connected.
    u64::from(unsafe { pg_sys::MyDatabaseId.to_u32() }) << 32 | u64::from(user)
}

/// Longest text with room left for its search_path.
const LONGEST: usize = 29_000;
const LONGEST_PATH: usize = 2_000;

/// A statement has been analyzed.
///
/// # Safety
/// The pointers are those of `post_parse_analyze_hook`.
#[allow(clippy::unnecessary_cast)] // unsigned before 18
pub unsafe fn analyzed(
    state: *const pg_sys::ParseState,
    query: *const pg_sys::Query,
    jumble: *const pg_sys::JumbleState,
    user: u32,
) {
    // SAFETY: what was analyzed stays until the hook returns; a text ends in a zero, and the constants are as many as
    // the state says. They are sorted in place, which nobody minds.
    unsafe {
        let Some(texts) = texts::texts() else { return };
        let queryid = (*query).queryId as i64;
        if texts.is_known(queryid, who(user)) || (*state).p_sourcetext.is_null() {
            return;
        }
        let Some(taker) = memory::taker_of_texts(user) else { return };
        let source = (*state).p_sourcetext;
        let (location, length) = part_of(source, (*query).stmt_location, (*query).stmt_len);
        let Some((text, offset)) = part(source, location, length) else {
            return;
        };
        let (constants, first_parameter): (&mut [pg_sys::LocationLen], c_int) =
            if jumble.is_null() || (*jumble).clocations.is_null() || (*jumble).clocations_count <= 0 {
                (&mut [], 0)
            } else {
                let count = (*jumble).clocations_count as usize;
                (std::slice::from_raw_parts_mut((*jumble).clocations, count), (*jumble).highest_extern_param_id)
            };
        // The server sorts nothing; whoever comes after us may find them sorted.
        constants.sort_unstable_by_key(|constant| constant.location);
        store(texts, queryid, taker, |out| normalize(out, text, offset, constants, first_parameter));
    }
}

/// The id under which a utility statement is counted, and its text taken down. `own` is what the server calls it by; 0: nothing.
///
/// # Safety
/// The pointers are those of `ProcessUtility_hook`, the tag a name of the server's.
pub unsafe fn utility(
    statement: *const pg_sys::PlannedStmt,
    own: i64,
    query: *const c_char,
    tag: *const c_char,
    user: u32,
) -> i64 {
    // SAFETY: a utility statement has its node; tag and text end in a zero.
    unsafe {
        let tag = CStr::from_ptr(tag).to_bytes();
        let shown = own != 0 && is_without_secrets((*(*statement).utilityStmt).type_);
        let queryid = if shown { own } else { id_of_tag(tag) };
        if let Some(texts) = texts::texts()
            && !texts.is_known(queryid, who(user))
            && let Some(taker) = memory::taker_of_texts(user)
        {
            let text = if shown { part(query, (*statement).stmt_location, (*statement).stmt_len) } else { None };
            store(texts, queryid, taker, |out| push_within(out, text.map_or(tag, |(text, _)| text)));
        }
        queryid
    }
}

/// Statements whose text holds names and numbers only.
fn is_without_secrets(node: NodeTag) -> bool {
    use NodeTag::*;
    matches!(
        node,
        T_VacuumStmt
            | T_ReindexStmt
            | T_ClusterStmt
            | T_RefreshMatViewStmt
            | T_TruncateStmt
            | T_LockStmt
            | T_CheckPointStmt
    )
}

/// The same in every version and on every server; never 0.
fn id_of_tag(tag: &[u8]) -> i64 {
    let hash = tag
        .iter()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    (hash | 1) as i64
}

/// A statement's own part of the text that was sent, without blanks around it, and where it begins.
///
/// Safety: null, or it ends in a zero and lives as long as what is given.
unsafe fn part<'a>(source: *const c_char, location: c_int, length: c_int) -> Option<(&'a [u8], usize)> {
    if source.is_null() {
        return None;
    }
    // SAFETY: not null.
    let all = unsafe { CStr::from_ptr(source) }.to_bytes();
    let from = usize::try_from(location).unwrap_or(0);
    let rest = all.get(from..)?;
    let own = match usize::try_from(length) {
        Ok(length) if length > 0 => rest.get(..length)?,
        _ => rest,
    };
    let trimmed = own.trim_ascii_start();
    Some((trimmed.trim_ascii_end(), from.wrapping_add(own.len().wrapping_sub(trimmed.len()))))
}

/// Not in the middle of a character.
fn clip(text: &[u8], longest: usize) -> &[u8] {
    if text.len() <= longest {
        return text;
    }
    // SAFETY: within the text.
    let length = unsafe { pg_mbcliplen(text.as_ptr().cast(), text.len() as c_int, longest as c_int) };
    text.get(..length.max(0) as usize).unwrap_or(&[])
}

/// As much as a text may have; false: it was longer.
fn push_within(out: &mut Writer, bytes: &[u8]) -> bool {
    let clipped = clip(bytes, LONGEST.saturating_sub(out.written()));
    out.push(clipped) && clipped.len() == bytes.len()
}

/// `write` says whether all of the text was written.
fn store(texts: &'static Texts, queryid: i64, taker: Taker, write: impl FnOnce(&mut Writer) -> bool) {
    let Some(mut out) = texts.begin(taker) else { return };
    let whole = write(&mut out);
    let bytes = out.written();
    // SAFETY: the value of search_path, which is never null.
    let path = unsafe { CStr::from_ptr(pg_sys::namespace_search_path) }.to_bytes();
    let clipped = clip(path, LONGEST_PATH);
    out.push(clipped);
    if out.has_room() {
        out.publish(queryid, bytes, !whole || clipped.len() < path.len());
    } else {
        // Half a text, cut anywhere, is no use to anybody; at the next occasion there may be room.
        out.give_up();
    }
}

fn normalize(
    out: &mut Writer,
    text: &[u8],
    offset: usize,
    constants: &[pg_sys::LocationLen],
    first_parameter: c_int,
) -> bool {
    // SAFETY: a setting.
    let standard_strings = unsafe { pg_sys::standard_conforming_strings };
    let mut parameter = first_parameter;
    let mut done = 0;
    for constant in constants {
        let Some(at) = usize::try_from(constant.location).ok().and_then(|location| location.checked_sub(offset)) else {
            continue;
        };
        if at < done {
            continue;
        }
        if at >= text.len() {
            break;
        }
        if is_parameter(constant) {
            continue;
        }
        parameter = parameter.wrapping_add(1);
        let (Some(before), Some(rest)) = (text.get(done..at), text.get(at..)) else { break };
        let (squashed, length) = match squashed_length(constant) {
            Some(length) => (true, length.min(rest.len())),
            None => (false, constant_length(rest, standard_strings)),
        };
        if !push_within(out, before)
            || !push_within(out, b"$")
            || !push_number(out, parameter)
            || (squashed && !push_within(out, b" /*, ... */"))
        {
            return false;
        }
        done = at.wrapping_add(length);
    }
    push_within(out, text.get(done..).unwrap_or(&[]))
}

#[cfg(feature = "pg18")]
fn squashed_length(constant: &pg_sys::LocationLen) -> Option<usize> {
    constant.squashed.then(|| usize::try_from(constant.length).unwrap_or(0))
}

#[cfg(not(feature = "pg18"))]
fn squashed_length(_constant: &pg_sys::LocationLen) -> Option<usize> {
    None
}

/// A parameter of the client's stays what it is.
#[cfg(feature = "pg18")]
fn is_parameter(constant: &pg_sys::LocationLen) -> bool {
    constant.extern_param && !constant.squashed
}

#[cfg(not(feature = "pg18"))]
fn is_parameter(_constant: &pg_sys::LocationLen) -> bool {
    false
}

fn push_number(out: &mut Writer, number: c_int) -> bool {
    let mut digits = [b'0'; 10];
    let mut rest = number.unsigned_abs();
    let mut from = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0'.wrapping_add((rest % 10) as u8);
        from = from.wrapping_sub(1);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    push_within(out, digits.get(from..).unwrap_or(&[]))
}
