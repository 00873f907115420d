//! What everybody's statements pass when they are counted (LAWS 12 and 13): raw functions with nothing to drop, which call the
//! next hook directly. Nothing here catches: which statements failed is known from the callbacks of (sub)transactions.
//!
//! Two books are kept in this process. FRAMES are statements that have begun and are to be counted when they end; a cursor's
//! stays while it is open. LEVELS are the calls into the executor or a utility statement that are on the stack now, each with
//! the subtransaction it began in: when that is rolled back, the call is gone, and its statement has failed.

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char, c_int, c_void};

use pgrx::pg_sys::{self, NodeTag};

use super::query_capture;
use super::query_memory::{self as memory, Failure};

unsafe extern "C-unwind" {
    // Declared again because pgrx's own bindings catch and rebuild every error.
    fn standard_ExecutorStart(desc: *mut pg_sys::QueryDesc, flags: c_int);
    #[cfg(not(feature = "pg18"))]
    fn standard_ExecutorRun(
        desc: *mut pg_sys::QueryDesc,
        direction: pg_sys::ScanDirection::Type,
        count: u64,
        once: bool,
    );
    #[cfg(feature = "pg18")]
    fn standard_ExecutorRun(desc: *mut pg_sys::QueryDesc, direction: pg_sys::ScanDirection::Type, count: u64);
    fn standard_ExecutorFinish(desc: *mut pg_sys::QueryDesc);
    fn standard_ExecutorEnd(desc: *mut pg_sys::QueryDesc);
    fn standard_ProcessUtility(
        statement: *mut pg_sys::PlannedStmt,
        query: *const c_char,
        read_only_tree: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        params: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        receiver: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
    // None of these raises.
    fn GetUserId() -> pg_sys::Oid;
    fn GetCurrentSubTransactionId() -> pg_sys::SubTransactionId;
    fn CreateCommandTag(statement: *mut pg_sys::Node) -> pg_sys::CommandTag::Type;
    fn GetCommandTagName(tag: pg_sys::CommandTag::Type) -> *const c_char;
    fn pgstat_get_my_query_id() -> i64;
}

/// Which statements are counted.
const TRACK_NONE: c_int = 0;
const TRACK_TOP: c_int = 1;
const TRACK_ALL: c_int = 2;

const MOST_FRAMES: usize = 64;
const MOST_LEVELS: usize = 64;
const NO_FRAME: usize = usize::MAX;

#[derive(Clone, Copy)]
struct Frame {
    /// What it is known by: its QueryDesc, or a place on the stack; null: free.
    id: *const c_void,
    queryid: i64,
    user: u32,
    toplevel: bool,
    /// What runs directly below an EXPLAIN is counted as the EXPLAIN.
    explain: bool,
    running: bool,
    subtransaction: u32,
    started: u64,
    elapsed: u64,
    rows: u64,
}

const FREE: Frame = Frame {
    id: std::ptr::null(),
    queryid: 0,
    user: 0,
    toplevel: false,
    explain: false,
    running: false,
    subtransaction: 0,
    started: 0,
    elapsed: 0,
    rows: 0,
};

#[derive(Clone, Copy)]
struct Level {
    subtransaction: u32,
    frame: usize,
}

struct Books {
    track: c_int,
    frames: [Frame; MOST_FRAMES],
    /// One above the last frame in use.
    top: usize,
    levels: [Level; MOST_LEVELS],
    level: usize,
    /// Not counted at all: our own schedulers.
    off: bool,
    /// Not counted for now: our own bookkeeping.
    quiet: u32,
    /// What the log said of the last error.
    last_error: Option<Failure>,
}

struct Global<T>(UnsafeCell<T>);
// SAFETY: backends have one thread.
unsafe impl<T> Sync for Global<T> {}

static BOOKS: Global<Books> = Global(UnsafeCell::new(Books {
    track: TRACK_TOP,
    frames: [FREE; MOST_FRAMES],
    top: 0,
    levels: [Level { subtransaction: 0, frame: NO_FRAME }; MOST_LEVELS],
    level: 0,
    off: false,
    quiet: 0,
    last_error: None,
}));

#[inline]
fn books() -> *mut Books {
    BOOKS.0.get()
}

struct Next {
    start: pg_sys::ExecutorStart_hook_type,
    run: pg_sys::ExecutorRun_hook_type,
    finish: pg_sys::ExecutorFinish_hook_type,
    end: pg_sys::ExecutorEnd_hook_type,
    utility: pg_sys::ProcessUtility_hook_type,
    analyze: pg_sys::post_parse_analyze_hook_type,
    log: pg_sys::emit_log_hook_type,
    request: pg_sys::shmem_request_hook_type,
    startup: pg_sys::shmem_startup_hook_type,
}

static NEXT: Global<Next> = Global(UnsafeCell::new(Next {
    start: None,
    run: None,
    finish: None,
    end: None,
    utility: None,
    analyze: None,
    log: None,
    request: None,
    startup: None,
}));

#[inline]
fn next() -> &'static Next {
    // SAFETY: written once, before the postmaster forks.
    unsafe { &*NEXT.0.get() }
}

/// Defines `upkeep.track_queries`: read as a plain variable on every statement.
pub fn define_setting() {
    struct Options([pg_sys::config_enum_entry; 4]);
    // SAFETY: constant.
    unsafe impl Sync for Options {}
    const fn option(name: &'static CStr, value: c_int) -> pg_sys::config_enum_entry {
        pg_sys::config_enum_entry { name: name.as_ptr(), val: value, hidden: false }
    }
    static OPTIONS: Options = Options([
        option(c"none", TRACK_NONE),
        option(c"top", TRACK_TOP),
        option(c"all", TRACK_ALL),
        pg_sys::config_enum_entry { name: std::ptr::null(), val: 0, hidden: false },
    ]);
    // SAFETY: all of it lives as long as the process.
    unsafe {
        pg_sys::DefineCustomEnumVariable(
            c"upkeep.track_queries".as_ptr(),
            c"Which statements upkeep.query_stats counts.".as_ptr(),
            c"top: those that clients send; all: also those within functions; none. Takes shared_preload_libraries."
                .as_ptr(),
            &raw mut (*books()).track,
            TRACK_TOP,
            OPTIONS.0.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            0,
            None,
            None,
            None,
        );
    }
}

/// Installs everything. Only while `shared_preload_libraries` are loaded.
pub fn install() {
    // SAFETY: one thread, before anything runs.
    unsafe {
        pg_sys::EnableQueryId();
        *NEXT.0.get() = Next {
            start: pg_sys::ExecutorStart_hook,
            run: pg_sys::ExecutorRun_hook,
            finish: pg_sys::ExecutorFinish_hook,
            end: pg_sys::ExecutorEnd_hook,
            utility: pg_sys::ProcessUtility_hook,
            analyze: pg_sys::post_parse_analyze_hook,
            log: pg_sys::emit_log_hook,
            request: pg_sys::shmem_request_hook,
            startup: pg_sys::shmem_startup_hook,
        };
        pg_sys::ExecutorStart_hook = Some(executor_start);
        pg_sys::ExecutorRun_hook = Some(executor_run);
        pg_sys::ExecutorFinish_hook = Some(executor_finish);
        pg_sys::ExecutorEnd_hook = Some(executor_end);
        pg_sys::ProcessUtility_hook = Some(process_utility);
        pg_sys::post_parse_analyze_hook = Some(post_parse_analyze);
        pg_sys::emit_log_hook = Some(emit_log);
        pg_sys::shmem_request_hook = Some(shmem_request);
        pg_sys::shmem_startup_hook = Some(shmem_startup);
        // The list of callbacks is inherited by every process that is forked.
        pg_sys::RegisterXactCallback(Some(transaction_ended), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(subtransaction_ended), std::ptr::null_mut());
    }
}

unsafe extern "C-unwind" fn shmem_request() {
    unsafe {
        if let Some(next) = next().request {
            next();
        }
        pg_sys::RequestAddinShmemSpace(memory::size(crate::settings::query_max()));
    }
}

/// In the postmaster, at its start and after a crash: the memory is new each time.
unsafe extern "C-unwind" fn shmem_startup() {
    unsafe {
        if let Some(next) = next().startup {
            next();
        }
        let entries = crate::settings::query_max();
        let mut found = false;
        let address =
            pg_sys::ShmemInitStruct(c"pg_upkeep query statistics".as_ptr(), memory::size(entries), &mut found);
        memory::create(address.cast(), entries);
    }
}

/// This process is not counted from now on.
pub fn ignore_this_process() {
    // SAFETY: one thread.
    unsafe { (*books()).off = true };
}

/// While it lives nothing is counted: statements of our own on our tables.
pub struct Quiet(());

impl Quiet {
    pub fn begin() -> Self {
        // SAFETY: one thread.
        unsafe { (*books()).quiet = (*books()).quiet.wrapping_add(1) };
        Quiet(())
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // SAFETY: one thread.
        unsafe { (*books()).quiet = (*books()).quiet.saturating_sub(1) };
    }
}

#[inline]
unsafe fn is_counting() -> bool {
    unsafe {
        let books = books();
        (*books).track != TRACK_NONE && !(*books).off && (*books).quiet == 0 && pg_sys::ParallelWorkerNumber < 0
    }
}

#[inline]
unsafe fn counts_here() -> bool {
    unsafe { is_counting() && ((*books()).level == 0 || (*books()).track == TRACK_ALL) }
}

#[inline]
fn clock() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the struct it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

#[inline]
unsafe fn frame(number: usize) -> *mut Frame {
    // SAFETY of the pointer: numbers below MOST_FRAMES only.
    unsafe { (&raw mut (*books()).frames).cast::<Frame>().add(number) }
}

#[inline]
unsafe fn level(number: usize) -> *mut Level {
    unsafe { (&raw mut (*books()).levels).cast::<Level>().add(number) }
}

/// A new frame. When all are in use the oldest open cursor is counted as it is.
unsafe fn push(new: Frame) -> usize {
    unsafe {
        let books = books();
        if (*books).top < MOST_FRAMES {
            *frame((*books).top) = new;
            (*books).top = (*books).top.wrapping_add(1);
            return (*books).top.wrapping_sub(1);
        }
        let mut i = 0;
        while i < MOST_FRAMES {
            if (*frame(i)).id.is_null() || !(*frame(i)).running {
                let old = *frame(i);
                if !old.id.is_null() {
                    memory::count_call(old.queryid, old.user, old.toplevel, old.elapsed, old.rows);
                }
                *frame(i) = new;
                return i;
            }
            i = i.wrapping_add(1);
        }
        // So deep in functions: it counts, but without its time.
        memory::count_call(new.queryid, new.user, new.toplevel, 0, 0);
        NO_FRAME
    }
}

#[inline]
unsafe fn find(id: *const c_void) -> usize {
    unsafe {
        let mut i = (*books()).top;
        while i > 0 {
            i = i.wrapping_sub(1);
            if (*frame(i)).id == id {
                return i;
            }
        }
        NO_FRAME
    }
}

#[inline]
unsafe fn forget(number: usize) {
    unsafe {
        let books = books();
        *frame(number) = FREE;
        while (*books).top > 0 && (*frame((*books).top.wrapping_sub(1))).id.is_null() {
            (*books).top = (*books).top.wrapping_sub(1);
        }
    }
}

/// A call begins; gives the level to go back to.
#[inline]
unsafe fn enter(number: usize) -> usize {
    unsafe {
        let books = books();
        let now = (*books).level;
        let subtransaction = GetCurrentSubTransactionId();
        if now < MOST_LEVELS {
            *level(now) = Level { subtransaction, frame: number };
        }
        (*books).level = now.wrapping_add(1);
        if number != NO_FRAME {
            let frame = frame(number);
            (*frame).running = true;
            (*frame).subtransaction = subtransaction;
            (*frame).started = clock();
        }
        now
    }
}

/// A call has come back. A frame that is not its own any more was given up meanwhile.
#[inline]
unsafe fn leave(before: usize, number: usize, id: *const c_void) {
    unsafe {
        (*books()).level = before;
        if number != NO_FRAME && (*frame(number)).id == id {
            let frame = frame(number);
            (*frame).running = false;
            (*frame).elapsed = (*frame).elapsed.wrapping_add(clock().wrapping_sub((*frame).started));
        }
    }
}

#[allow(clippy::unnecessary_cast)] // unsigned before 18
unsafe extern "C-unwind" fn executor_start(desc: *mut pg_sys::QueryDesc, flags: c_int) {
    unsafe {
        match next().start {
            Some(next) => next(desc, flags),
            None => standard_ExecutorStart(desc, flags),
        }
        if !counts_here() || flags as u32 & pg_sys::EXEC_FLAG_EXPLAIN_ONLY != 0 {
            return;
        }
        let queryid = (*(*desc).plannedstmt).queryId as i64;
        let depth = (*books()).level;
        if queryid == 0 || is_explained(depth) {
            return;
        }
        push(Frame {
            id: desc.cast(),
            queryid,
            user: GetUserId().to_u32(),
            toplevel: depth == 0,
            subtransaction: GetCurrentSubTransactionId(),
            ..FREE
        });
    }
}

#[inline]
unsafe fn is_explained(depth: usize) -> bool {
    unsafe {
        if depth == 0 || depth > MOST_LEVELS {
            return false;
        }
        let above = (*level(depth.wrapping_sub(1))).frame;
        above != NO_FRAME && (*frame(above)).explain
    }
}

#[cfg(not(feature = "pg18"))]
unsafe extern "C-unwind" fn executor_run(
    desc: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
    once: bool,
) {
    unsafe {
        let counted = is_counting();
        let number = if counted { find(desc.cast()) } else { NO_FRAME };
        let before = if counted { enter(number) } else { 0 };
        match next().run {
            Some(next) => next(desc, direction, count, once),
            None => standard_ExecutorRun(desc, direction, count, once),
        }
        if counted {
            has_run(before, number, desc);
        }
    }
}

#[cfg(feature = "pg18")]
unsafe extern "C-unwind" fn executor_run(
    desc: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
) {
    unsafe {
        let counted = is_counting();
        let number = if counted { find(desc.cast()) } else { NO_FRAME };
        let before = if counted { enter(number) } else { 0 };
        match next().run {
            Some(next) => next(desc, direction, count),
            None => standard_ExecutorRun(desc, direction, count),
        }
        if counted {
            has_run(before, number, desc);
        }
    }
}

#[inline]
unsafe fn has_run(before: usize, number: usize, desc: *mut pg_sys::QueryDesc) {
    unsafe {
        leave(before, number, desc.cast());
        if number != NO_FRAME && (*frame(number)).id == desc.cast() {
            // Each run of a cursor counts its rows from 0.
            (*frame(number)).rows = (*frame(number)).rows.wrapping_add((*(*desc).estate).es_processed);
        }
    }
}

/// AFTER triggers run here.
unsafe extern "C-unwind" fn executor_finish(desc: *mut pg_sys::QueryDesc) {
    unsafe {
        let counted = is_counting()
            && ((*desc).operation != pg_sys::CmdType::CMD_SELECT || (*(*desc).plannedstmt).hasModifyingCTE);
        let number = if counted { find(desc.cast()) } else { NO_FRAME };
        let before = if counted { enter(number) } else { 0 };
        match next().finish {
            Some(next) => next(desc),
            None => standard_ExecutorFinish(desc),
        }
        if counted {
            leave(before, number, desc.cast());
        }
    }
}

unsafe extern "C-unwind" fn executor_end(desc: *mut pg_sys::QueryDesc) {
    unsafe {
        if (*books()).top > 0 {
            let number = find(desc.cast());
            if number != NO_FRAME {
                let done = *frame(number);
                forget(number);
                memory::count_call(done.queryid, done.user, done.toplevel, done.elapsed, done.rows);
            }
        }
        match next().end {
            Some(next) => next(desc),
            None => standard_ExecutorEnd(desc),
        }
    }
}

unsafe extern "C-unwind" fn process_utility(
    statement: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    receiver: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    unsafe {
        // What EXECUTE runs is counted as what was prepared; parts of a statement are not counted beside it.
        let node = (*(*statement).utilityStmt).type_;
        let counted = is_counting()
            && !matches!(node, NodeTag::T_ExecuteStmt | NodeTag::T_PrepareStmt | NodeTag::T_DeallocateStmt)
            && context != pg_sys::ProcessUtilityContext::PROCESS_UTILITY_SUBCOMMAND;
        let makes_us = node == NodeTag::T_CreateExtensionStmt
            && CStr::from_ptr((*(*statement).utilityStmt.cast::<pg_sys::CreateExtensionStmt>()).extname)
                == c"pg_upkeep";
        let mut number = NO_FRAME;
        let mut before = 0;
        let mut place = 0_u8;
        let id: *const c_void = (&raw mut place).cast();
        if counted {
            if counts_here() && !is_explained((*books()).level) {
                let user = GetUserId().to_u32();
                number = push(Frame {
                    id,
                    queryid: query_capture::utility(statement, query, command_tag((*statement).utilityStmt), user),
                    user,
                    toplevel: (*books()).level == 0,
                    explain: node == NodeTag::T_ExplainStmt,
                    ..FREE
                });
            }
            before = enter(number);
        }
        // From here on the statement may be gone: COMMIT and ROLLBACK free it.
        match next().utility {
            Some(next) => next(statement, query, read_only_tree, context, params, environment, receiver, completion),
            None => standard_ProcessUtility(
                statement,
                query,
                read_only_tree,
                context,
                params,
                environment,
                receiver,
                completion,
            ),
        }
        if counted {
            leave(before, number, id);
            if number != NO_FRAME && (*frame(number)).id == id {
                let done = *frame(number);
                forget(number);
                memory::count_call(done.queryid, done.user, done.toplevel, done.elapsed, rows_of(completion));
            }
        }
        if makes_us {
            memory::extension_may_exist();
        }
    }
}

unsafe fn command_tag(statement: *mut pg_sys::Node) -> *const c_char {
    unsafe { GetCommandTagName(CreateCommandTag(statement)) }
}

unsafe fn rows_of(completion: *mut pg_sys::QueryCompletion) -> u64 {
    use pg_sys::CommandTag::*;
    unsafe {
        if completion.is_null() {
            return 0;
        }
        match (*completion).commandTag {
            CMDTAG_COPY | CMDTAG_FETCH | CMDTAG_SELECT | CMDTAG_REFRESH_MATERIALIZED_VIEW => (*completion).nprocessed,
            _ => 0,
        }
    }
}

unsafe extern "C-unwind" fn post_parse_analyze(
    state: *mut pg_sys::ParseState,
    query: *mut pg_sys::Query,
    jumble: *mut pg_sys::JumbleState,
) {
    unsafe {
        if let Some(next) = next().analyze {
            next(state, query, jumble);
        }
        if counts_here() && (*query).queryId != 0 && (*query).utilityStmt.is_null() {
            query_capture::analyzed(state, query, jumble, GetUserId().to_u32());
        }
    }
}

/// An error on its way to the log or the client. It may not fail, nor report anything.
unsafe extern "C-unwind" fn emit_log(error: *mut pg_sys::ErrorData) {
    unsafe {
        if (*error).elevel >= ERROR && is_counting() {
            let failure = kind(error);
            let books = books();
            (*books).last_error = Some(failure);
            // Before the executor: an error of the planner, or of a permission.
            if (*books).level == 0 && pg_sys::MyDatabaseId != pg_sys::InvalidOid && memory::is_available() {
                let queryid = pgstat_get_my_query_id();
                if queryid != 0 {
                    (*books).last_error = None;
                    memory::count_failure(queryid, GetUserId().to_u32(), true, failure);
                }
            }
        }
        if let Some(next) = next().log {
            next(error);
        }
    }
}

const ERROR: c_int = pgrx::PgLogLevel::ERROR as c_int;

/// A cancellation and a timeout have the same SQLSTATE; what tells them apart is the message before it is translated.
unsafe fn kind(error: *const pg_sys::ErrorData) -> Failure {
    const CANCELED: c_int = crate::error::QUERY_CANCELED.0;
    const TERMINATED: c_int = crate::error::ADMIN_SHUTDOWN.0;
    unsafe {
        match (*error).sqlerrcode {
            CANCELED => {
                let id = (*error).message_id;
                if !id.is_null() && CStr::from_ptr(id) == c"canceling statement due to statement timeout" {
                    Failure::Timeout
                } else {
                    Failure::Cancellation
                }
            }
            TERMINATED => Failure::Cancellation,
            _ => Failure::Error,
        }
    }
}

/// Running statements that began in subtransaction `from` or below have failed; what was open there is gone.
unsafe fn fail(from: u32, keep_running: bool) {
    unsafe {
        let books = books();
        let failure = (*books).last_error.take().unwrap_or(Failure::Unknown);
        if !keep_running {
            if (*books).level > MOST_LEVELS {
                (*books).level = MOST_LEVELS;
            }
            while (*books).level > 0 && (*level((*books).level.wrapping_sub(1))).subtransaction >= from {
                (*books).level = (*books).level.wrapping_sub(1);
            }
        }
        let mut i = (*books).top;
        while i > 0 {
            i = i.wrapping_sub(1);
            let gone = *frame(i);
            if gone.id.is_null() || gone.subtransaction < from || (keep_running && gone.running) {
                continue;
            }
            forget(i);
            if gone.running {
                memory::count_failure(gone.queryid, gone.user, gone.toplevel, failure);
            }
        }
    }
}

unsafe extern "C-unwind" fn transaction_ended(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    use pg_sys::XactEvent::*;
    unsafe {
        match event {
            // ROLLBACK in a procedure: its CALL goes on. After an error the server has forgotten the text before it aborts.
            XACT_EVENT_ABORT => {
                let goes_on = !pg_sys::debug_query_string.is_null() && (*books()).level > 0;
                if !goes_on {
                    // Whoever was at it may have been jumped over.
                    (*books()).quiet = 0;
                }
                fail(0, goes_on);
            }
            XACT_EVENT_COMMIT | XACT_EVENT_PREPARE => {
                (*books()).last_error = None;
                if (*books()).top > 0 {
                    fail(0, true);
                }
            }
            _ => {}
        }
    }
}

unsafe extern "C-unwind" fn subtransaction_ended(
    event: pg_sys::SubXactEvent::Type,
    mine: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _arg: *mut c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB {
        unsafe { fail(mine, false) };
    }
}
