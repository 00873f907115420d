//! The server's own text of an expression, with a schema in front of every name.
//!
//! Deparsed under the door's path, names of pg_catalog come out bare, since they are visible there. In a statement on a user's
//! table, which is analysed under his path, they would be looked up by that.

use std::ffi::{CStr, c_int, c_void};

use pgrx::pg_sys::{self, A_Expr_Kind, Node, NodeTag};

use super::unguarded::raw_expression_tree_walker;
use super::{encoding, script};
use crate::error::Result;

const SELECT: &str = "SELECT ";

/// At a byte of the text: so many bytes give way to this.
struct Edit {
    at: usize,
    length: usize,
    text: Vec<u8>,
}

/// `expression` is what the server has deparsed under `search_path = pg_catalog, pg_temp`, of an object that is not temporary: a
/// bare name is one of pg_catalog's.
pub fn expression(expression: &str) -> Result<String> {
    let text = encoding::to_c(&format!("{SELECT}{expression}"))?;
    let mut edits: Vec<Edit> = Vec::new();
    // SAFETY: in a transaction; the tree lives in the current memory context.
    unsafe {
        for statement in script::trees(&text) {
            look((*statement).stmt, (&raw mut edits).cast());
        }
    }
    let mut bytes = text.into_bytes();
    edits.sort_unstable_by_key(|edit| std::cmp::Reverse(edit.at));
    for Edit { at, length, text } in edits {
        bytes.splice(at..at + length, text);
    }
    Ok(encoding::from_server(&bytes[SELECT.len()..]))
}

/// The only part of a name.
///
/// Safety: a list of String nodes, or null; the text lives as long as the tree.
unsafe fn bare<'a>(name: *mut pg_sys::List) -> Option<&'a CStr> {
    // SAFETY: the only element is there.
    unsafe {
        let alone = !name.is_null() && (*name).length == 1;
        alone.then(|| CStr::from_ptr((*pg_sys::list_nth(name, 0).cast::<pg_sys::String>()).sval))
    }
}

unsafe extern "C-unwind" fn look(node: *mut Node, context: *mut c_void) -> bool {
    // SAFETY: the walker gives nodes of a raw tree and hands through the edits that it was begun with, which nobody
    // else has meanwhile.
    unsafe {
        if node.is_null() {
            return false;
        }
        let edits = &mut *context.cast::<Vec<Edit>>();
        let mut in_front = |name: *mut pg_sys::List, location: c_int, skip: usize| {
            if let (Some(_), Ok(at)) = (bare(name), usize::try_from(location)) {
                edits.push(Edit { at: at + skip, length: 0, text: b"pg_catalog.".to_vec() });
            }
        };
        match (*node).type_ {
            NodeTag::T_FuncCall => {
                let call = &*node.cast::<pg_sys::FuncCall>();
                in_front(call.funcname, call.location, 0);
            }
            NodeTag::T_TypeName => {
                let kind = &*node.cast::<pg_sys::TypeName>();
                in_front(kind.names, kind.location, 0);
            }
            NodeTag::T_CollateClause => {
                let clause = &*node.cast::<pg_sys::CollateClause>();
                in_front(clause.collname, clause.location, "COLLATE ".len());
            }
            NodeTag::T_A_Expr => {
                let expression = &*node.cast::<pg_sys::A_Expr>();
                let plain = matches!(
                    expression.kind,
                    A_Expr_Kind::AEXPR_OP | A_Expr_Kind::AEXPR_OP_ANY | A_Expr_Kind::AEXPR_OP_ALL
                );
                if let (true, Some(name), Ok(at)) = (plain, bare(expression.name), usize::try_from(expression.location))
                {
                    let text = [b"OPERATOR(pg_catalog.", name.to_bytes(), b")"].concat();
                    edits.push(Edit { at, length: name.count_bytes(), text });
                }
            }
            _ => {}
        }
        raw_expression_tree_walker(node, look, context)
    }
}
