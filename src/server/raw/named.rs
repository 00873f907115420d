//! What a statement of ours on a user's table may name (see `names` of [`super::Planned`] and [`super::repeated::Statement`]).
//!
//! Its text has names, and the server looks them up again whenever something has changed: in the middle of somebody's
//! statement too, where a trigger of his can have put another table or a view under the name, while the statement runs as
//! the owner of the table that was meant. That is found out where the names have just become OIDs: after each analysis, and
//! before rules and views are put in and anything is planned, because planning already runs functions (LAW 4). From there on
//! the server has only OIDs: what was looked at is what runs. The same goes for types, operators, collations and functions
//! ([`objects`]).
//!
//! A statement is known by the address of its text, which the server hands to the hook. Nothing is kept of a run, so there
//! is nothing that an error could leave behind.

// One contract for all of them: a transaction is open, and a text stays where it is until it is forgotten.
#![allow(clippy::missing_safety_doc)]

pub mod objects;

use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_void};

use pgrx::pg_sys::{self, NodeTag, Oid};

use super::report::{Report, raise};
use super::unguarded::{SPI_plan_get_plan_sources, expression_tree_walker, query_tree_walker};
use objects::Objects;

struct Named {
    relations: Vec<Oid>,
    /// Without text of a user's, which may name anything: no other relation at all, and nothing else but these.
    objects: Option<Objects>,
    /// In a job.
    step: bool,
}

static mut NAMED: BTreeMap<usize, Named> = BTreeMap::new();
static mut NEXT: pg_sys::post_parse_analyze_hook_type = None;

/// In every process that has the library: without preload too.
pub fn install() {
    // SAFETY: one thread: nobody calls the hook between these two lines.
    unsafe {
        NEXT = pg_sys::post_parse_analyze_hook;
        pg_sys::post_parse_analyze_hook = Some(analyzed);
    }
}

/// The statement with its text at this address names these relations, until [`forget`].
///
/// Safety: [`forget`] is called before the text goes.
pub unsafe fn expect(text: *const c_char, relations: &[Oid], objects: Option<Objects>, step: bool) {
    let named = Named { relations: relations.to_vec(), objects, step };
    let all = &raw mut NAMED;
    // SAFETY: one thread, and nobody keeps a reference into the map.
    unsafe { (*all).insert(text as usize, named) };
}

/// Safety: none of its own; of a text that was never expected there is nothing to forget.
pub unsafe fn forget(text: *const c_char) {
    let all = &raw mut NAMED;
    // SAFETY: as in `expect`.
    unsafe { (*all).remove(&(text as usize)) };
}

/// Where the server keeps the text of a plan of one statement.
///
/// Safety: a plan of one statement.
pub unsafe fn text_of(plan: pg_sys::SPIPlanPtr) -> *const c_char {
    // SAFETY: it has one source, and that its text, for as long as it lives.
    unsafe {
        let source: *mut pg_sys::CachedPlanSource = (*(*SPI_plan_get_plan_sources(plan)).elements).ptr_value.cast();
        (*source).query_string
    }
}

unsafe extern "C-unwind" fn analyzed(
    state: *mut pg_sys::ParseState,
    query: *mut pg_sys::Query,
    jumble: *mut pg_sys::JumbleState,
) {
    // SAFETY: the server's own arguments. Nothing here inserts into or removes from the map while a part of it is
    // looked at: neither walk runs code of a user's. No frame has anything to drop.
    unsafe {
        if let Some(next) = NEXT {
            next(state, query, jumble);
        }
        let all = &raw const NAMED;
        let known = &*all;
        if known.is_empty() {
            return;
        }
        let Some(named) = known.get(&((*state).p_sourcetext as usize)) else { return };
        let wrong = match named.objects {
            Some(_) => names_another(query.cast(), std::ptr::from_ref(named).cast_mut().cast()),
            None => is_from_another(query, named),
        };
        if wrong {
            refuse(named.step);
        }
        if named.objects.is_some() && names_strange_objects(query.cast(), std::ptr::from_ref(named).cast_mut().cast()) {
            refuse_objects(named.step);
        }
    }
}

/// Safety: no frame above has anything to drop.
unsafe fn refuse(step: bool) -> ! {
    // SAFETY: static texts.
    unsafe {
        if step {
            raise(&Report {
                detail: c"Its name is another table's now, which is left as it was.".as_ptr(),
                ..Report::new(c"40001", c"a table was renamed in the middle of a step")
            });
        }
        raise(&Report {
            detail: c"Its name is another table's now.".as_ptr(),
            hint: c"Try the transaction again.".as_ptr(),
            ..Report::new(c"40001", c"a table was renamed in the middle of the statement")
        })
    }
}

/// Safety: no frame above has anything to drop.
unsafe fn refuse_objects(step: bool) -> ! {
    // SAFETY: static texts, or null.
    unsafe {
        let message = if step {
            c"what a type, operator or collation is called was changed in the middle of a step"
        } else {
            c"what a type, operator or collation is called was changed in the middle of the statement"
        };
        raise(&Report {
            detail: c"A name that belongs to the table's columns or keys is another object's now.".as_ptr(),
            hint: if step { std::ptr::null() } else { c"Try the transaction again.".as_ptr() },
            ..Report::new(c"40001", message)
        })
    }
}

/// A table that was meant can have become a view: by a rule, up to 15.
///
/// Safety: an entry of an analysed query.
unsafe fn is_meant(entry: *const pg_sys::RangeTblEntry, named: &Named) -> bool {
    // SAFETY: as the caller promises; the index is below the length.
    unsafe {
        if (*entry).rtekind != pg_sys::RTEKind::RTE_RELATION {
            return true;
        }
        if !matches!((*entry).relkind as u8, b'r' | b'p' | b'f') {
            return false;
        }
        let mut i = 0;
        while i < named.relations.len() {
            if *named.relations.as_ptr().add(i) == (*entry).relid {
                return true;
            }
            i += 1;
        }
        false
    }
}

/// Anywhere in the tree.
unsafe extern "C-unwind" fn names_another(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    // SAFETY: the walker gives nodes of an analysed query, and hands through the `Named` that it was begun with.
    unsafe {
        if node.is_null() {
            return false;
        }
        match (*node).type_ {
            NodeTag::T_RangeTblEntry => !is_meant(node.cast(), &*context.cast::<Named>()),
            NodeTag::T_Query => {
                query_tree_walker(node.cast(), names_another, context, pg_sys::QTW_EXAMINE_RTES_BEFORE as c_int)
            }
            _ => expression_tree_walker(node, names_another, context),
        }
    }
}

/// Anywhere in the tree.
unsafe extern "C-unwind" fn names_strange_objects(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    // SAFETY: as in `names_another`.
    unsafe {
        if node.is_null() {
            return false;
        }
        let named = &*context.cast::<Named>();
        if let Some(objects) = &named.objects
            && !objects.has_those_of(node)
        {
            return true;
        }
        match (*node).type_ {
            NodeTag::T_Query => query_tree_walker(node.cast(), names_strange_objects, context, 0),
            _ => expression_tree_walker(node, names_strange_objects, context),
        }
    }
}

/// What the statement changes and what is in its FROM, which is ours; text of the user's is in expressions only.
///
/// Safety: an analysed query, or null in none of its places.
unsafe fn is_from_another(query: *const pg_sys::Query, named: &Named) -> bool {
    // SAFETY: lists of a Query hold what their fields say, and each index is below the length.
    unsafe {
        let mut i = 0;
        while i < length((*query).rtable) {
            let entry: *const pg_sys::RangeTblEntry = element((*query).rtable, i).cast();
            i += 1;
            if !is_meant(entry, named) {
                return true;
            }
            if (*entry).rtekind == pg_sys::RTEKind::RTE_SUBQUERY && is_from_another((*entry).subquery, named) {
                return true;
            }
        }
        i = 0;
        while i < length((*query).cteList) {
            let part: *const pg_sys::CommonTableExpr = element((*query).cteList, i).cast();
            i += 1;
            if is_from_another((*part).ctequery.cast_const().cast(), named) {
                return true;
            }
        }
        false
    }
}

/// Safety: a list, or null.
unsafe fn length(list: *const pg_sys::List) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { if list.is_null() { 0 } else { (*list).length } }
}

/// Safety: a list that is longer than `i`.
unsafe fn element(list: *const pg_sys::List, i: c_int) -> *const c_void {
    // SAFETY: as the caller promises.
    unsafe { (*(*list).elements.add(i as usize)).ptr_value.cast_const() }
}
