//! Background workers: registration, start-up in the one order that does not
//! deadlock, signals, waiting.

use std::ffi::{CStr, CString, c_char, c_int};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgrx::pg_guard;
use pgrx::pg_sys::{self, Oid};

use super::inherited::{self, Inherited};
use super::process::Process;
use super::unguarded::die;
use crate::error::{Error, INTERNAL_ERROR, Result};

/// Set by our SIGTERM handler, so that an exit callback can tell an orderly
/// termination from an error of the work.
static TERMINATED: AtomicBool = AtomicBool::new(false);

/// Was this worker asked to end (`pg_terminate_backend`, shutdown)?
pub fn was_terminated() -> bool {
    TERMINATED.load(Ordering::Relaxed)
}

/// The server's own `die`: with pgrx's handler a running query ignores SIGTERM
/// until it ends (seconds instead of 0.1 s).
unsafe extern "C-unwind" fn on_sigterm(signal: c_int) {
    TERMINATED.store(true, Ordering::Relaxed);
    // SAFETY: the server's own handler: it leaves a note.
    unsafe { die(signal) };
}

unsafe extern "C-unwind" fn on_sighup(_signal: c_int) {
    // SAFETY: a flag, and the latch, which may be set in a signal handler.
    unsafe {
        pg_sys::ConfigReloadPending = 1;
        pg_sys::SetLatch(pg_sys::MyLatch);
    }
}

/// Installs the handlers and unblocks signals. Must come before a connection is
/// made: a worker that connects with signals blocked while DROP DATABASE WITH
/// (FORCE) runs makes that DROP hang for ever.
pub fn accept_signals() {
    // SAFETY: before the process connects; the handlers are functions of this library.
    unsafe {
        install(libc::SIGTERM, on_sigterm);
        install(libc::SIGHUP, on_sighup);
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// Safety: the handler may be called in the middle of anything.
unsafe fn install(signal: c_int, handler: unsafe extern "C-unwind" fn(c_int)) {
    // SAFETY: as the caller promises.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(signal, Some(handler));
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(signal, Some(handler));
    }
}

/// Connects to the shared catalogs only.
pub fn connect_without_database() {
    // SAFETY: once in a worker's life, before anything needs a catalog.
    unsafe { pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0) };
}

/// Connects to a database as a role; the bootstrap superuser if none is given. What ALTER DATABASE or ALTER ROLE have set
/// for it is not taken over (LAW 8).
/// From 17 on a role without LOGIN may own work as well (LAW 10).
pub fn connect(database: Oid, role: Oid) {
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    let flags = 0;
    #[cfg(not(any(feature = "pg15", feature = "pg16")))]
    let flags = pg_sys::BGWORKER_BYPASS_ROLELOGINCHECK;
    let inherited = Inherited::note();
    // SAFETY: once in a worker's life, before anything needs a catalog.
    unsafe { pg_sys::BackgroundWorkerInitializeConnectionByOid(database, role, flags) };
    inherited.take_back();
    begin_session();
}

/// After a statement of a user's, which may have been a SET: as when the session began (LAW 8).
pub fn forget_settings() {
    inherited::reset_session();
    begin_session();
}

/// What workers do differently from the server's own settings. A user's text in a job meets these, the door pins the rest for
/// statements of ours.
fn begin_session() {
    for (name, value) in [
        ("role", "none"),
        ("session_replication_role", "origin"),
        ("search_path", "pg_catalog, pg_temp"),
        ("default_transaction_isolation", "read committed"),
        ("default_transaction_read_only", "off"),
        ("default_transaction_deferrable", "off"),
        ("statement_timeout", "0"),
        ("lock_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
        ("idle_session_timeout", "0"),
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        ("transaction_timeout", "0"),
        ("TimeZone", "UTC"),
        ("DateStyle", "ISO, MDY"),
        ("row_security", "on"),
        ("track_activities", "on"),
        ("client_min_messages", "warning"),
    ] {
        super::spi::set_session(name, value);
    }
}

/// What to start, and how it ends.
pub struct Registration<'a> {
    /// Shown as `backend_type` in `pg_stat_activity`.
    pub kind: &'static str,
    /// The exported main function.
    pub function: &'static CStr,
    pub argument: u32,
    pub extra: &'a [u8],
    /// `None`: never restarted by the postmaster.
    pub restart: Option<Duration>,
}

/// Longest `extra` that fits `bgw_extra`.
pub const EXTRA_BYTES: usize = 128;

impl Registration<'_> {
    fn build(&self, notify: bool) -> pg_sys::BackgroundWorker {
        // SAFETY: an all-zero BackgroundWorker is valid: empty strings and zeroes.
        let mut worker: pg_sys::BackgroundWorker = unsafe { std::mem::zeroed() };
        copy_text(&mut worker.bgw_name, self.kind.as_bytes());
        copy_text(&mut worker.bgw_type, self.kind.as_bytes());
        copy_text(&mut worker.bgw_library_name, b"pg_upkeep");
        copy_text(&mut worker.bgw_function_name, self.function.to_bytes());
        copy_text(&mut worker.bgw_extra, self.extra);
        worker.bgw_flags = (pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION) as c_int;
        // On a standby nothing runs; after promotion the postmaster starts us.
        worker.bgw_start_time = pg_sys::BgWorkerStartTime::BgWorkerStart_RecoveryFinished;
        worker.bgw_restart_time = match self.restart {
            Some(delay) => delay.as_secs() as c_int,
            None => pg_sys::BGW_NEVER_RESTART,
        };
        worker.bgw_main_arg = pg_sys::Datum::from(self.argument as usize);
        // SAFETY: a variable of this process.
        worker.bgw_notify_pid = if notify { unsafe { pg_sys::MyProcPid } } else { 0 };
        worker
    }

    /// Under `shared_preload_libraries`.
    pub fn register_static(&self) {
        let mut worker = self.build(false);
        // SAFETY: while libraries are preloaded; the registration is copied.
        unsafe { pg_sys::RegisterBackgroundWorker(&mut worker) };
    }

    /// At run time. `None`: `max_worker_processes` is used up. The caller's latch
    /// is set when the worker starts and when it ends.
    pub fn start(&self) -> Option<Handle> {
        let mut worker = self.build(true);
        let mut handle = std::ptr::null_mut();
        // The handle must outlive the transaction that asks.
        // SAFETY: the context is put back; the registration is copied, and the handle written.
        let started = unsafe {
            let context = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
            let started = pg_sys::RegisterDynamicBackgroundWorker(&mut worker, &mut handle);
            pg_sys::MemoryContextSwitchTo(context);
            started
        };
        started.then_some(Handle(handle))
    }
}

fn copy_text(target: &mut [c_char], source: &[u8]) {
    debug_assert!(source.len() <= target.len());
    for (to, from) in target.iter_mut().zip(source) {
        *to = *from as c_char;
    }
}

/// A worker that this process started.
pub struct Handle(*mut pg_sys::BackgroundWorkerHandle);

impl Handle {
    pub fn is_running(&self) -> bool {
        let mut pid = 0;
        // SAFETY: a handle lasts as long as the process.
        let status = unsafe { pg_sys::GetBackgroundWorkerPid(self.0, &mut pid) };
        status != pg_sys::BgwHandleStatus::BGWH_STOPPED
    }

    pub fn pid(&self) -> Option<i32> {
        let mut pid = 0;
        // SAFETY: a handle lasts as long as the process.
        let status = unsafe { pg_sys::GetBackgroundWorkerPid(self.0, &mut pid) };
        (status == pg_sys::BgwHandleStatus::BGWH_STARTED).then_some(pid)
    }

    /// Waits until the postmaster has started it (or it has already ended).
    pub fn wait_for_startup(&self) -> Result<i32> {
        let mut pid = 0;
        // SAFETY: a handle lasts as long as the process; it takes interrupts while it waits.
        match unsafe { pg_sys::WaitForBackgroundWorkerStartup(self.0, &mut pid) } {
            pg_sys::BgwHandleStatus::BGWH_STARTED => Ok(pid),
            _ => Err(Error::new(INTERNAL_ERROR, "the background worker ended at once")
                .hint("The reason is in the server's log.")),
        }
    }
}

/// The bytes given as [`Registration::extra`].
pub fn my_extra() -> [u8; EXTRA_BYTES] {
    // SAFETY: MyBgworkerEntry is set in every background worker.
    unsafe { (*pg_sys::MyBgworkerEntry).bgw_extra.map(|byte| byte as u8) }
}

/// Sleeps until the latch is set or the time is over. Ends the process when it
/// was terminated; rereads the configuration when asked to. True: the latch was set.
pub fn wait(time: Duration) -> bool {
    let woken = wait_for_latch(time);
    // Nothing runs that could be canceled: whoever tried has woken us.
    // SAFETY: a flag of this process.
    unsafe { pg_sys::QueryCancelPending = 0 };
    pgrx::check_for_interrupts!();
    reload_configuration();
    woken
}

/// Sleeps in the middle of a step, whatever comes; what has come is heard afterwards.
pub fn rest_in_step(time: Duration) {
    // SAFETY: waits for no latch.
    unsafe {
        pg_sys::WaitLatch(
            std::ptr::null_mut(),
            (pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as c_int,
            time.as_millis() as std::ffi::c_long,
            pg_sys::PG_WAIT_EXTENSION,
        );
    }
    pgrx::check_for_interrupts!();
}

/// The same for a session of a client's, whose configuration is not ours to reread.
pub fn wait_in_session(time: Duration) {
    wait_for_latch(time);
    pgrx::check_for_interrupts!();
}

fn wait_for_latch(time: Duration) -> bool {
    // SAFETY: this process's own latch.
    unsafe {
        let events = pg_sys::WaitLatch(
            pg_sys::MyLatch,
            (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as c_int,
            time.as_millis() as std::ffi::c_long,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
        events & pg_sys::WL_LATCH_SET as c_int != 0
    }
}

/// Asks one of our workers to end.
pub fn terminate(process: Process) {
    process.signal(libc::SIGTERM);
}

pub fn reload_configuration() {
    // SAFETY: a flag that a signal handler sets, and what the server's own main loops do then.
    unsafe {
        if pg_sys::ConfigReloadPending != 0 {
            pg_sys::ConfigReloadPending = 0;
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}

/// Shows what this process does: `active` with `text`, or `idle`.
pub fn report_activity(text: Option<&str>) {
    let text = text.and_then(|text| CString::new(text).ok());
    // SAFETY: the text is copied.
    unsafe {
        match &text {
            Some(text) => pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, text.as_ptr()),
            None => pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null()),
        }
    }
}

pub fn report_application_name(name: &str) {
    if let Ok(name) = CString::new(name) {
        // SAFETY: the text is copied.
        unsafe { pg_sys::pgstat_report_appname(name.as_ptr()) };
    }
}

/// Runs `f` while the process ends in order, when transactions are still possible.
pub fn before_exit(f: fn()) {
    // SAFETY: functions of this library, which stays loaded.
    unsafe { pg_sys::before_shmem_exit(Some(at_exit), pg_sys::Datum::from(f as usize)) };
}

#[pg_guard]
unsafe extern "C-unwind" fn at_exit(_code: c_int, f: pg_sys::Datum) {
    // SAFETY: `before_exit` has made the datum of such a function.
    let f = unsafe { std::mem::transmute::<*const (), fn()>(f.cast_mut_ptr::<()>().cast_const()) };
    f();
}

/// Leaves for good: the postmaster forgets a worker that ends with 0.
pub fn leave() -> ! {
    #[allow(unreachable_code)]
    // SAFETY: ends the process with its callbacks, from which nothing comes back to us.
    unsafe {
        pg_sys::proc_exit(0);
        std::process::abort() // bound as returning on 18
    }
}

/// Is this a server on its way from one version to the next?
pub fn is_binary_upgrade() -> bool {
    // SAFETY: a variable of this process.
    unsafe { pg_sys::IsBinaryUpgrade }
}

/// Is the library being loaded by `shared_preload_libraries`?
pub fn is_preloading() -> bool {
    // SAFETY: a variable of this process.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

pub fn my_pid() -> i32 {
    // SAFETY: a variable of this process.
    unsafe { pg_sys::MyProcPid }
}

pub fn in_recovery() -> bool {
    // SAFETY: a plain read of shared memory.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// Sets the latch of another process; nothing happens if it is gone.
pub fn wake(pid: i32) {
    // SAFETY: a PGPROC, and its latch, is in shared memory for as long as the server runs.
    unsafe {
        let process = pg_sys::BackendPidGetProc(pid);
        if !process.is_null() {
            pg_sys::SetLatch(&raw mut (*process).procLatch);
        }
    }
}
