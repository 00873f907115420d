//! Acting as somebody else for some statements.

use std::ffi::c_int;

use pgrx::pg_sys::{self, Oid};

use super::report::{Report, raise};
use super::unguarded::{relation_close, try_relation_open};

/// Another user for some statements, as the server's foreign keys switch to a table's owner. Nothing is dropped when an error
/// passes: its (sub)transaction puts the user back.
///
/// Not a restricted operation, and settings are not put back: the triggers that a cascade sets off are to find what they find
/// below ON DELETE CASCADE, where they may queue deferred triggers, create temporary tables and set variables of the session.
/// It opens nothing that is not open: whoever writes to a table runs its owner's triggers, and a superuser runs them as
/// superuser. For DDL and looks, which set off no triggers by themselves, `spi::as_owner` is stricter.
#[derive(Clone, Copy)]
pub struct Identity {
    user: Oid,
    security: c_int,
}

/// Safety: in a transaction, which puts the user back if an error passes.
pub unsafe fn become_user(user: Oid, more: u32) -> Identity {
    // SAFETY: writes to both fields, then sets what nobody but this process reads.
    unsafe {
        let mut identity = Identity { user: Oid::INVALID, security: 0 };
        pg_sys::GetUserIdAndSecContext(&mut identity.user, &mut identity.security);
        pg_sys::SetUserIdAndSecContext(
            user,
            identity.security | (pg_sys::SECURITY_LOCAL_USERID_CHANGE | more) as c_int,
        );
        identity
    }
}

/// The owner of a relation, as he is under the lock that the statement takes of it: who has had it before, or when its
/// statements were put together, is no measure. It may have been handed over while a trigger of somebody's, or another lock,
/// was waited for, and then its new owner's triggers would run as the old one.
///
/// Safety: as [`become_user`]; no frame above has anything to drop.
pub unsafe fn become_owner(relid: Oid, lock: u32) -> Identity {
    // SAFETY: an open relation has its row; it is closed before the owner is used, which is copied.
    unsafe {
        // The lock stays, as that of the statement would.
        let relation = try_relation_open(relid, lock as pg_sys::LOCKMODE);
        if relation.is_null() {
            raise(&Report::new(c"42P01", c"a table was dropped in the middle of the statement"));
        }
        let owner = (*(*relation).rd_rel).relowner;
        relation_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        become_user(owner, pg_sys::SECURITY_NOFORCE_RLS)
    }
}

/// Safety: what [`become_user`] has given, in the same (sub)transaction.
pub unsafe fn become_again(identity: Identity) {
    // SAFETY: as the caller promises.
    unsafe { pg_sys::SetUserIdAndSecContext(identity.user, identity.security) };
}
