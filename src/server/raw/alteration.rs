//! An ALTER of a relation that an event trigger is called for, by its parse tree.

use pgrx::PgList;
use pgrx::pg_sys::{self, NodeTag, Oid};

use crate::error::Result;

pub struct Alteration {
    relation: *mut pg_sys::RangeVar,
    /// It locks the relation against readers.
    pub excludes_readers: bool,
    pub is_rename: bool,
    partitions: Vec<(*mut pg_sys::RangeVar, bool)>,
}

impl Alteration {
    /// What it is about, by the caller's search_path. [`Oid::INVALID`]: there is nothing of that name.
    pub fn relation(&self) -> Oid {
        find(self.relation)
    }

    /// The partitions that it attaches (`true`), or detaches.
    pub fn partitions(&self, attached: bool) -> impl Iterator<Item = Oid> {
        let named = self.partitions.iter().filter(move |(_, attaches)| *attaches == attached);
        named.map(|(name, _)| find(*name)).filter(|oid| *oid != Oid::INVALID)
    }
}

fn find(name: *mut pg_sys::RangeVar) -> Oid {
    // SAFETY: the statement's tree lives until it has run; errors are caught by the subtransaction around us.
    unsafe {
        pg_sys::RangeVarGetRelidExtended(
            name,
            pg_sys::NoLock as pg_sys::LOCKMODE,
            pg_sys::RVROption::RVR_MISSING_OK,
            None,
            std::ptr::null_mut(),
        )
    }
}

/// What the event trigger was called for, if it is an ALTER of a relation. In a subtransaction.
///
/// # Safety
/// The argument is that of the call.
pub unsafe fn of_event(fcinfo: pg_sys::FunctionCallInfo) -> Result<Option<Alteration>> {
    // SAFETY: the event trigger's data and the statement's tree last as long as the call; a node is cast to what its
    // tag says.
    unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || (*context).type_ != NodeTag::T_EventTriggerData {
            return Ok(None);
        }
        let statement = (*context.cast::<pg_sys::EventTriggerData>()).parsetree;
        if statement.is_null() {
            return Ok(None);
        }
        let plain =
            |relation, is_rename| Alteration { relation, excludes_readers: true, is_rename, partitions: vec![] };
        let alteration = match (*statement).type_ {
            NodeTag::T_AlterTableStmt => {
                let alter = &*statement.cast::<pg_sys::AlterTableStmt>();
                let level = pg_sys::AlterTableGetLockLevel(alter.cmds);
                Alteration {
                    excludes_readers: level == pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE,
                    partitions: partitions(alter.cmds),
                    ..plain(alter.relation, false)
                }
            }
            NodeTag::T_RenameStmt => plain((*statement.cast::<pg_sys::RenameStmt>()).relation, true),
            NodeTag::T_AlterObjectSchemaStmt => {
                plain((*statement.cast::<pg_sys::AlterObjectSchemaStmt>()).relation, false)
            }
            _ => return Ok(None),
        };
        Ok((!alteration.relation.is_null()).then_some(alteration))
    }
}

/// Safety: a list of ALTER TABLE's commands, or null.
unsafe fn partitions(commands: *mut pg_sys::List) -> Vec<(*mut pg_sys::RangeVar, bool)> {
    // SAFETY: as the caller promises; the definition of these two commands is a PartitionCmd.
    unsafe {
        let commands = PgList::<pg_sys::AlterTableCmd>::from_pg(commands);
        let found = commands.iter_ptr().filter_map(|command| {
            let attaches = match (*command).subtype {
                pg_sys::AlterTableType::AT_AttachPartition => true,
                pg_sys::AlterTableType::AT_DetachPartition | pg_sys::AlterTableType::AT_DetachPartitionFinalize => {
                    false
                }
                _ => return None,
            };
            let partition = (*command).def.cast::<pg_sys::PartitionCmd>();
            if partition.is_null() || (*partition).name.is_null() {
                return None;
            }
            Some(((*partition).name, attaches))
        });
        found.collect()
    }
}
