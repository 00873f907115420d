//! The event triggers that are told of statements by their parse trees.

use pgrx::pg_sys::FunctionCallInfo;
use pgrx::prelude::*;

use crate::server::{alteration, view};
use crate::soft_delete::ddl::{first, follow};

#[pg_extern(sql = false)]
fn before_alter(call: FunctionCallInfo) {
    // SAFETY: the server's own call, while it lasts; that it is one of an event trigger is looked at.
    first::before_alter(|| unsafe { alteration::of_event(call) });
}

#[pg_extern(sql = false)]
fn follow_ddl(call: FunctionCallInfo) {
    // SAFETY: as above.
    follow::follow_ddl(|| unsafe { alteration::of_event(call) });
}

#[pg_extern(sql = false)]
fn make_way_for_trigger(call: FunctionCallInfo) {
    // SAFETY: as above.
    if let Some(new) = unsafe { view::trigger_to_be(call) } {
        follow::make_way_for_trigger(&new);
    }
}
