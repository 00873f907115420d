//! Locks of relations by their OIDs, without asking who may have them: for DDL of ours, which takes all of its locks before it
//! begins. LOCK TABLE would ask for more than some of it needs.

use pgrx::pg_sys::{self, LOCKMODE, Oid};

use super::unguarded::find_inheritance_children;

/// The server's modes, by their numbers: all of them, since each is in somebody's way.
#[allow(dead_code)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    AccessShare = 1,
    RowShare,
    RowExclusive,
    ShareUpdateExclusive,
    Share,
    ShareRowExclusive,
    Exclusive,
    AccessExclusive,
}

impl Mode {
    /// The modes that it cannot be held beside: a bit for each, by their numbers. As in the server's lock.c.
    pub const fn conflicts(self) -> i32 {
        match self {
            Mode::AccessShare => 1 << 8,
            Mode::RowShare => 0b1_1000_0000,
            Mode::RowExclusive => 0b1_1110_0000,
            Mode::ShareUpdateExclusive => 0b1_1111_0000,
            Mode::Share => 0b1_1101_1000,
            Mode::ShareRowExclusive => 0b1_1111_1000,
            Mode::Exclusive => 0b1_1111_1100,
            Mode::AccessExclusive => 0b1_1111_1110,
        }
    }

    /// Whoever holds this one needs not take the other one.
    pub const fn covers(self, other: Mode) -> bool {
        self.conflicts() & other.conflicts() == other.conflicts()
    }

    /// Who writes to the table has to wait.
    pub const fn is_strong(self) -> bool {
        self.conflicts() & (1 << Mode::RowExclusive as i32) != 0
    }
}

/// Takes it until the (sub)transaction is over, without waiting. `false`: somebody is in the way.
pub fn lock_at_once(relid: Oid, mode: Mode) -> bool {
    // SAFETY: in a transaction, whose end lets go of it.
    unsafe { pg_sys::ConditionalLockRelationOid(relid, mode as LOCKMODE) }
}

/// Waits for it, no longer than `lock_timeout`.
pub fn lock(relid: Oid, mode: Mode) {
    // SAFETY: as above.
    unsafe { pg_sys::LockRelationOid(relid, mode as LOCKMODE) };
}

/// Lets go of what was just taken: there is no such relation any more.
pub fn unlock(relid: Oid, mode: Mode) {
    // SAFETY: taken by the caller, in the same mode.
    unsafe { pg_sys::UnlockRelationOid(relid, mode as LOCKMODE) };
}

/// Its partitions, or what else inherits from it, as of now; not what is below those.
pub fn children(relid: Oid) -> Vec<Oid> {
    // SAFETY: in a transaction. The list is a fresh one, of OIDs; nothing to drop in the inner closure.
    unsafe {
        let list = pg_sys::ffi::pg_guard_ffi_boundary(|| find_inheritance_children(relid, pg_sys::NoLock as LOCKMODE));
        pgrx::PgList::<Oid>::from_pg(list).iter_oid().collect()
    }
}

/// Is it a view, which its readers lock before the tables below it?
pub fn is_view(relid: Oid) -> bool {
    // SAFETY: looks it up in the catalog cache; an unknown OID gives 0.
    unsafe { pg_sys::get_rel_relkind(relid) as u8 == pg_sys::RELKIND_VIEW }
}

#[cfg(test)]
mod tests {
    use super::Mode::{self, *};

    const ALL: [Mode; 8] = [
        AccessShare,
        RowShare,
        RowExclusive,
        ShareUpdateExclusive,
        Share,
        ShareRowExclusive,
        Exclusive,
        AccessExclusive,
    ];

    #[test]
    fn a_conflict_has_two_sides() {
        for a in ALL {
            for b in ALL {
                let conflict = |a: Mode, b: Mode| a.conflicts() & (1 << b as i32) != 0;
                assert_eq!(conflict(a, b), conflict(b, a), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn two_modes_need_not_be_one_below_the_other() {
        assert!(AccessExclusive.covers(Share) && ShareRowExclusive.covers(ShareUpdateExclusive));
        assert!(!Share.covers(ShareUpdateExclusive) && !ShareUpdateExclusive.covers(Share));
        assert_eq!(ALL.into_iter().filter(|mode| mode.is_strong()).collect::<Vec<_>>(), &ALL[4..]);
    }
}
