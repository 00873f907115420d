//! The server's functions, declared again: pgrx's own bindings catch and rebuild every error, so that the application would see
//! another one than the server has raised (LAW 12). An error leaves these by longjmp: no frame that it passes holds anything to
//! drop.
//!
//! Each is declared here and nowhere else, for two declarations that disagree would compile. As in the server's headers of 15 to
//! 18, which differ where a `cfg` says so.

use std::ffi::{c_char, c_int, c_long, c_void};

use pgrx::pg_sys::{
    self, AclMode, AclResult, ArrayBuildState, Bitmapset, Datum, FmgrInfo, FunctionCallInfo, HeapTuple, LOCKMODE,
    LWLock, List, MemoryContext, MemoryContextCallback, Node, Oid, QueryDesc, Relation, SPIPlanPtr, Snapshot,
    SubTransactionId, TupleDesc, TupleTableSlot,
};

/// Called with each node of a tree; `true` ends the walk.
pub type Walker = unsafe extern "C-unwind" fn(node: *mut Node, context: *mut c_void) -> bool;
/// A function of the server's version-1 calling convention.
pub type Version1 = unsafe extern "C-unwind" fn(call: FunctionCallInfo) -> Datum;

/// `PQcommMethods` of libpq.h.
#[repr(C)]
pub struct Methods {
    pub comm_reset: unsafe extern "C-unwind" fn(),
    pub flush: unsafe extern "C-unwind" fn() -> c_int,
    pub flush_if_writable: unsafe extern "C-unwind" fn() -> c_int,
    pub is_send_pending: unsafe extern "C-unwind" fn() -> bool,
    pub putmessage: unsafe extern "C-unwind" fn(kind: c_char, body: *const c_char, length: usize) -> c_int,
    pub putmessage_noblock: unsafe extern "C-unwind" fn(kind: c_char, body: *const c_char, length: usize),
}

// Memory. What allocates raises when there is none left.
unsafe extern "C-unwind" {
    pub fn palloc(size: usize) -> *mut c_void;
    pub fn palloc0(size: usize) -> *mut c_void;
    pub fn MemoryContextAlloc(context: MemoryContext, size: usize) -> *mut c_void;
    pub fn MemoryContextAllocZero(context: MemoryContext, size: usize) -> *mut c_void;
    pub fn MemoryContextStrdup(context: MemoryContext, text: *const c_char) -> *mut c_char;
    /// Does not raise, but for what reset callbacks do.
    pub fn MemoryContextDelete(context: MemoryContext);
    /// Does not raise.
    pub fn MemoryContextRegisterResetCallback(context: MemoryContext, callback: *mut MemoryContextCallback);
    pub fn AllocSetContextCreateInternal(
        parent: MemoryContext,
        name: *const c_char,
        min_context_size: usize,
        init_block_size: usize,
        max_block_size: usize,
    ) -> MemoryContext;
    pub fn hash_create(
        name: *const c_char,
        count: c_long,
        info: *const pg_sys::HASHCTL,
        flags: c_int,
    ) -> *mut pg_sys::HTAB;
    pub fn hash_search(
        table: *mut pg_sys::HTAB,
        key: *const c_void,
        action: pg_sys::HASHACTION::Type,
        found: *mut bool,
    ) -> *mut c_void;
    /// Does not raise.
    pub fn hash_bytes_extended(bytes: *const u8, length: c_int, seed: u64) -> u64;
    /// Raises if the member is negative.
    pub fn bms_is_member(member: c_int, set: *const Bitmapset) -> bool;
}

// Errors of ours: begun, filled, and raised by errfinish. The format is a C one: text of anybody's goes in as an argument.
unsafe extern "C-unwind" {
    pub fn errstart(elevel: c_int, domain: *const c_char) -> bool;
    pub fn errfinish(filename: *const c_char, lineno: c_int, funcname: *const c_char);
    pub fn errcode(sqlstate: c_int) -> c_int;
    pub fn errmsg_internal(fmt: *const c_char, ...) -> c_int;
    pub fn errdetail_internal(fmt: *const c_char, ...) -> c_int;
    pub fn errhint(fmt: *const c_char, ...) -> c_int;
    pub fn err_generic_string(field: c_int, text: *const c_char) -> c_int;
    pub fn errtablecol(relation: Relation, attnum: c_int) -> c_int;
    pub fn internalerrposition(cursorpos: c_int) -> c_int;
    pub fn internalerrquery(query: *const c_char) -> c_int;
    // Those of the error that is being reported: they do not raise while there is one.
    pub fn geterrcode() -> c_int;
    pub fn geterrposition() -> c_int;
    pub fn getinternalerrposition() -> c_int;
}

// Statements of ours inside other people's.
unsafe extern "C-unwind" {
    pub fn SPI_connect() -> c_int;
    pub fn SPI_finish() -> c_int;
    pub fn SPI_prepare(src: *const c_char, nargs: c_int, types: *mut Oid) -> SPIPlanPtr;
    pub fn SPI_keepplan(plan: SPIPlanPtr) -> c_int;
    pub fn SPI_execute_snapshot(
        plan: SPIPlanPtr,
        values: *mut Datum,
        nulls: *const c_char,
        snapshot: Snapshot,
        crosscheck: Snapshot,
        read_only: bool,
        fire_triggers: bool,
        count: c_long,
    ) -> c_int;
    pub fn SPI_register_trigger_data(data: *mut pg_sys::TriggerData) -> c_int;
    pub fn SPI_getbinval(tuple: HeapTuple, desc: TupleDesc, number: c_int, isnull: *mut bool) -> Datum;
    /// Does not raise.
    pub fn SPI_gettypeid(desc: TupleDesc, number: c_int) -> Oid;
    /// Does not raise.
    pub fn SPI_plan_get_plan_sources(plan: SPIPlanPtr) -> *mut List;
}

// Transactions, snapshots and time.
unsafe extern "C-unwind" {
    pub fn GetLatestSnapshot() -> Snapshot;
    pub fn GetTransactionSnapshot() -> Snapshot;
    pub fn PushActiveSnapshot(snapshot: Snapshot);
    pub fn PopActiveSnapshot();
    pub fn CommandCounterIncrement();
    // None of these raises.
    pub fn GetCurrentSubTransactionId() -> SubTransactionId;
    pub fn GetTopTransactionIdIfAny() -> pg_sys::TransactionId;
    pub fn GetCurrentTransactionStartTimestamp() -> i64;
    pub fn GetCurrentStatementStartTimestamp() -> i64;
    pub fn GetCurrentTimestamp() -> i64;
    pub fn RecoveryInProgress() -> bool;
}

// Who it is, and what he may do.
unsafe extern "C-unwind" {
    // Neither raises.
    pub fn GetUserId() -> Oid;
    pub fn GetOuterUserId() -> Oid;
    pub fn GetUserNameFromId(role: Oid, missing_ok: bool) -> *mut c_char;
    /// Does not raise.
    pub fn InNoForceRLSOperation() -> bool;
    pub fn superuser_arg(role: Oid) -> bool;
    /// `AclMode` has 32 bits on 15.
    pub fn pg_class_aclcheck(relid: Oid, role: Oid, mode: AclMode) -> AclResult::Type;
    #[cfg(feature = "pg15")]
    pub fn pg_proc_aclcheck(function: Oid, role: Oid, mode: AclMode) -> AclResult::Type;
}

// Settings.
unsafe extern "C-unwind" {
    /// Does not raise.
    pub fn NewGUCNestLevel() -> c_int;
    pub fn AtEOXact_GUC(commit: bool, level: c_int);
    pub fn set_config_option(
        name: *const c_char,
        value: *const c_char,
        context: pg_sys::GucContext::Type,
        source: pg_sys::GucSource::Type,
        action: pg_sys::GucAction::Type,
        change: bool,
        level: c_int,
        reload: bool,
    ) -> c_int;
    pub fn GetConfigOption(name: *const c_char, missing_ok: bool, restrict: bool) -> *const c_char;
}

// Relations and catalogs.
unsafe extern "C-unwind" {
    pub fn try_relation_open(relid: Oid, lock: LOCKMODE) -> Relation;
    pub fn relation_close(relation: Relation, lock: LOCKMODE);
    pub fn LockRelationOid(relid: Oid, lock: LOCKMODE);
    pub fn RelationGetPartitionQual(relation: Relation) -> *mut List;
    pub fn has_subclass(relid: Oid) -> bool;
    /// In the order of their OIDs.
    pub fn find_inheritance_children(parent: Oid, lock: LOCKMODE) -> *mut List;
    pub fn get_rel_name(relid: Oid) -> *mut c_char;
    pub fn get_func_namespace(function: Oid) -> Oid;
    pub fn SearchSysCache1(cache: c_int, key: Datum) -> HeapTuple;
    /// Does not raise.
    pub fn ReleaseSysCache(tuple: HeapTuple);
    pub fn GetTempNamespaceState(namespace: *mut Oid, toast: *mut Oid);
    pub fn ResetTempTableNamespace();
}

// Rows.
unsafe extern "C-unwind" {
    pub fn slot_getsomeattrs_int(slot: *mut TupleTableSlot, attnum: c_int);
    pub fn table_slot_create(relation: Relation, list: *mut *mut List) -> *mut TupleTableSlot;
    pub fn ExecDropSingleTupleTableSlot(slot: *mut TupleTableSlot);
    pub fn tuplestore_tuple_count(store: *mut pg_sys::Tuplestorestate) -> i64;
    pub fn heap_form_tuple(desc: TupleDesc, values: *mut Datum, nulls: *mut bool) -> HeapTuple;
    pub fn heap_modify_tuple_by_cols(
        tuple: HeapTuple,
        desc: TupleDesc,
        count: c_int,
        columns: *const c_int,
        values: *const Datum,
        nulls: *const bool,
    ) -> HeapTuple;
    pub fn heap_copy_tuple_as_datum(tuple: HeapTuple, desc: TupleDesc) -> Datum;
    pub fn HeapTupleHeaderGetDatum(tuple: pg_sys::HeapTupleHeader) -> Datum;
    pub fn CreateTemplateTupleDesc(natts: c_int) -> TupleDesc;
    pub fn TupleDescInitEntry(
        desc: TupleDesc,
        number: i16,
        name: *const c_char,
        type_oid: Oid,
        typmod: i32,
        dimensions: c_int,
    );
    pub fn BlessTupleDesc(desc: TupleDesc) -> TupleDesc;
}

// Values, and the functions of their types, which may raise whatever they like.
unsafe extern "C-unwind" {
    pub fn datumCopy(value: Datum, by_value: bool, length: c_int) -> Datum;
    pub fn datum_image_eq(a: Datum, b: Datum, by_value: bool, length: c_int) -> bool;
    pub fn toast_raw_datum_size(value: Datum) -> usize;
    pub fn initArrayResult(element: Oid, context: MemoryContext, subcontext: bool) -> *mut ArrayBuildState;
    pub fn accumArrayResult(
        state: *mut ArrayBuildState,
        value: Datum,
        null: bool,
        element: Oid,
        context: MemoryContext,
    ) -> *mut ArrayBuildState;
    pub fn makeArrayResult(state: *mut ArrayBuildState, context: MemoryContext) -> Datum;
    pub fn getBaseType(type_oid: Oid) -> Oid;
    pub fn getTypeOutputInfo(type_oid: Oid, output: *mut Oid, is_varlena: *mut bool);
    pub fn getTypeInputInfo(type_oid: Oid, input: *mut Oid, parameter: *mut Oid);
    pub fn lookup_type_cache(type_oid: Oid, flags: c_int) -> *mut pg_sys::TypeCacheEntry;
    pub fn format_type_be(type_oid: Oid) -> *mut c_char;
    pub fn OidOutputFunctionCall(function: Oid, value: Datum) -> *mut c_char;
    pub fn OidInputFunctionCall(function: Oid, text: *mut c_char, parameter: Oid, typmod: i32) -> Datum;
    pub fn OidSendFunctionCall(function: Oid, value: Datum) -> *mut pg_sys::bytea;
    pub fn OidReceiveFunctionCall(
        function: Oid,
        buffer: *mut pg_sys::StringInfoData,
        parameter: Oid,
        typmod: i32,
    ) -> Datum;
    #[cfg(not(feature = "pg15"))]
    pub fn InputFunctionCallSafe(
        function: *mut FmgrInfo,
        text: *mut c_char,
        parameter: Oid,
        typmod: i32,
        context: *mut Node,
        result: *mut Datum,
    ) -> bool;
    #[cfg(not(feature = "pg15"))]
    pub fn fmgr_info(function: Oid, info: *mut FmgrInfo);
    pub fn FunctionCall2Coll(function: *mut FmgrInfo, collation: Oid, a: Datum, b: Datum) -> Datum;
    pub fn DirectFunctionCall1Coll(function: Version1, collation: Oid, argument: Datum) -> Datum;
    pub fn timestamptz_timestamp(call: FunctionCallInfo) -> Datum;
    /// Does not raise, and reads no argument.
    pub fn pg_trigger_depth(call: FunctionCallInfo) -> Datum;
    /// Does not raise.
    pub fn pg_strong_random(buffer: *mut c_void, length: usize) -> bool;
}

// Text and encodings.
unsafe extern "C-unwind" {
    pub fn text_to_cstring(text: *const pg_sys::text) -> *mut c_char;
    pub fn cstring_to_text(text: *const c_char) -> *mut pg_sys::text;
    pub fn cstring_to_text_with_len(text: *const c_char, length: c_int) -> *mut pg_sys::text;
    /// Raises only if `no_error` is not set.
    pub fn pg_verifymbstr(text: *const c_char, length: c_int, no_error: bool) -> bool;
    // None of these raises; the second gives the bytes of whole characters within a limit.
    pub fn pg_mbstrlen_with_len(text: *const c_char, length: c_int) -> c_int;
    pub fn pg_mbcliplen(text: *const c_char, length: c_int, limit: c_int) -> c_int;
    pub fn GetDatabaseEncoding() -> c_int;
    pub fn GetDatabaseEncodingName() -> *const c_char;
    pub fn pg_get_client_encoding() -> c_int;
}

// Trees of statements. The walkers have other names since 16, where macros check their arguments.
unsafe extern "C-unwind" {
    #[cfg_attr(not(feature = "pg15"), link_name = "query_tree_walker_impl")]
    pub fn query_tree_walker(query: *mut pg_sys::Query, walker: Walker, context: *mut c_void, flags: c_int) -> bool;
    #[cfg_attr(not(feature = "pg15"), link_name = "expression_tree_walker_impl")]
    pub fn expression_tree_walker(node: *mut Node, walker: Walker, context: *mut c_void) -> bool;
    #[cfg_attr(not(feature = "pg15"), link_name = "raw_expression_tree_walker_impl")]
    pub fn raw_expression_tree_walker(node: *mut Node, walker: Walker, context: *mut c_void) -> bool;
    pub fn pull_varattnos(node: *mut Node, relation: pg_sys::Index, columns: *mut *mut Bitmapset);
    // Neither raises.
    pub fn CreateCommandTag(statement: *mut Node) -> pg_sys::CommandTag::Type;
    pub fn GetCommandTagName(tag: pg_sys::CommandTag::Type) -> *const c_char;
}

// What hooks pass on to.
unsafe extern "C-unwind" {
    pub fn standard_ExecutorStart(desc: *mut QueryDesc, flags: c_int);
    #[cfg(not(feature = "pg18"))]
    pub fn standard_ExecutorRun(desc: *mut QueryDesc, direction: pg_sys::ScanDirection::Type, count: u64, once: bool);
    #[cfg(feature = "pg18")]
    pub fn standard_ExecutorRun(desc: *mut QueryDesc, direction: pg_sys::ScanDirection::Type, count: u64);
    pub fn standard_ExecutorFinish(desc: *mut QueryDesc);
    pub fn standard_ExecutorEnd(desc: *mut QueryDesc);
    pub fn standard_ProcessUtility(
        statement: *mut pg_sys::PlannedStmt,
        query: *const c_char,
        read_only_tree: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        params: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        receiver: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
    /// Does not raise. Unsigned before 18, of the same 64 bits.
    pub fn pgstat_get_my_query_id() -> i64;
}

// This process and others.
unsafe extern "C-unwind" {
    pub fn RegisterTimeout(id: c_int, handler: unsafe extern "C-unwind" fn()) -> c_int;
    pub fn enable_timeout_after(id: c_int, delay_ms: c_int);
    pub fn enable_timeout_every(id: c_int, first: i64, delay_ms: c_int);
    pub fn disable_timeout(id: c_int, keep_indicator: bool);
    pub fn get_timeout_indicator(id: c_int, reset: bool) -> bool;
    /// Does not raise; under `ProcArrayLock`.
    pub fn BackendPidGetProcWithLock(pid: c_int) -> *mut pg_sys::PGPROC;
    pub fn LWLockAcquire(lock: *mut LWLock, mode: pg_sys::LWLockMode::Type) -> bool;
    pub fn LWLockRelease(lock: *mut LWLock);
    /// The server's handler of SIGTERM. Does not raise: it leaves a note.
    pub fn die(signal: c_int);
}

// Variables that pgrx does not know.
unsafe extern "C-unwind" {
    pub static bytea_output: c_int;
    pub static xmlbinary: c_int;
    pub static xmloption: c_int;
    pub static locale_monetary: *const c_char;
    /// Who sends messages to the client.
    pub static mut PqCommMethods: *const Methods;
    pub static mut FrontendProtocol: u32;
}
