//! What the machine and the write-ahead log say, without SQL and without a transaction.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use pgrx::pg_sys;

/// A clock that all processes of the server share and that nobody sets.
pub fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the struct it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Gives this process less of the processor where others want it than the server's sessions have, never more. A server that was started
/// with a nice value gives it to all of them.
pub fn be_nice(more: i32) {
    const LEAST: i32 = 19;
    // SAFETY: the calls look at two processes and change this one only.
    unsafe {
        let nice = LEAST.min(libc::getpriority(libc::PRIO_PROCESS, pg_sys::PostmasterPid as u32) + more);
        if libc::getpriority(libc::PRIO_PROCESS, 0) < nice {
            libc::setpriority(libc::PRIO_PROCESS, 0, nice);
        }
    }
}

/// Where the next WAL record goes. Only outside of recovery.
pub fn wal_insert_position() -> u64 {
    // SAFETY: reads shared memory under its own lock.
    unsafe { pg_sys::GetXLogInsertRecPtr() }
}

/// Up to where WAL is on disk, which is what standbys can have. Only outside of recovery.
pub fn wal_flush_position() -> u64 {
    // SAFETY: reads shared memory under its own lock; a null pointer means: no timeline, please.
    unsafe { pg_sys::GetFlushRecPtr(std::ptr::null_mut()) }
}

/// Bytes of WAL that this process has written since it began.
pub fn own_wal_bytes() -> u64 {
    // SAFETY: a counter of this process.
    unsafe { pg_sys::pgWalUsage.wal_bytes }
}

/// Writes to disk what this transaction has put into the log, if more than this is not there yet: whoever commits next would have to.
pub fn flush_wal(at_most: u64) {
    // SAFETY: the end of the last record of ours, which is in the log. (`GetXLogInsertRecPtr` may be beyond what there is, behind the
    // header of a page that has not begun.)
    unsafe {
        let ours = pg_sys::XactLastRecEnd;
        if ours.saturating_sub(wal_flush_position()) > at_most {
            pg_sys::XLogFlush(ours);
        }
    }
}

/// Makes the first of the next WAL segments that is not there. Whoever comes to the end of one makes the next, writes all of it, and
/// everybody who commits waits for him. `false`: they are there. Only in a transaction: it raises if the disk is full.
pub fn make_wal_segment(ahead: u64) -> bool {
    let (bytes, next) = (wal_segment_bytes(), wal_insert_position() / wal_segment_bytes() + 1);
    // SAFETY: not in recovery.
    let timeline = unsafe { pg_sys::GetWALInsertionTimeLine() };
    let of_log = (1_u64 << 32) / bytes;
    let is_missing = |segment: &u64| {
        !Path::new(&format!("pg_wal/{timeline:08X}{:08X}{:08X}", segment / of_log, segment % of_log)).exists()
    };
    let Some(missing) = (next..next + ahead).find(is_missing) else { return false };
    // SAFETY: as the server does itself; it gives back an open file.
    unsafe { libc::close(pg_sys::XLogFileInit(missing, timeline)) };
    true
}

/// Bytes of a WAL segment.
pub fn wal_segment_bytes() -> u64 {
    // SAFETY: set once at server start.
    u64::try_from(unsafe { pg_sys::wal_segment_size }).unwrap_or(16 << 20)
}

/// A file system that the server writes to.
pub struct Disk {
    pub place: String,
    /// Bytes that the server may still write there.
    pub free: u64,
}

/// The file systems of the data directory, of WAL and of each tablespace.
pub fn disks() -> Vec<Disk> {
    let mut places = vec![("the data directory".to_owned(), ".".into()), ("pg_wal".to_owned(), "pg_wal".into())];
    // A server's processes stay in its data directory.
    for entry in fs::read_dir("pg_tblspc").into_iter().flatten().flatten() {
        places.push((format!("tablespace {}", entry.file_name().to_string_lossy()), entry.path()));
    }
    places.into_iter().filter_map(|(place, path)| Some(Disk { place, free: free_bytes(&path)? })).collect()
}

fn free_bytes(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: an all-zero struct is valid, and is filled by the call.
    unsafe {
        let mut facts: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut facts) == 0).then(|| facts.f_bavail * facts.f_frsize)
    }
}

/// For how long there was somebody who could not go on because the processor or the disk was busy, since the machine was started.
/// `None`: its kernel does not tell.
pub fn stalled() -> Option<[Duration; 2]> {
    let of = |path| {
        let text = fs::read_to_string(path).ok()?;
        let total = text.lines().next()?.strip_prefix("some ")?.rsplit_once("total=")?.1;
        Some(Duration::from_micros(total.trim().parse().ok()?))
    };
    Some([of("/proc/pressure/cpu")?, of("/proc/pressure/io")?])
}

/// How many of them this server may use.
pub fn processors() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |processors| processors.get() as f64)
}

/// As shared memory holds times.
pub fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}

/// The value of a setting in its base unit as the server counts it, read at C level (LAW 6).
pub fn number_setting(name: &CStr) -> Option<i64> {
    let value = super::catalog::setting(name);
    value.parse().ok()
}

/// Does the server shut down? Its main process tells its children no more than "end"; to others it says why in its
/// lock file, in the line for its status, before it tells them (`PM_STATUS_STOPPING`).
pub fn is_server_stopping() -> bool {
    // A process of the server is at home in its data directory.
    std::fs::read_to_string("postmaster.pid")
        .is_ok_and(|file| file.lines().nth(7).is_some_and(|status| status.trim() == "stopping"))
}
