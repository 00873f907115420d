//! Blows that provably land inside an open transaction.
//!
//! Looking and then striking leaves a gap in which the transaction may end. So the process is stopped first (SIGSTOP);
//! what it is doing then is what it dies doing.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::{Cluster, PATIENCE, processes_in};
use crate::session::Session;
use crate::wait::wait_for;

#[derive(Clone, Copy, Debug)]
pub enum Blow {
    /// pg_terminate_backend
    Terminate,
    /// kill -9: the server restarts all of its processes.
    Kill,
}

/// A process that is stopped may hold a lock that our look needs; then it must go on before we can look at all.
const LONGEST_STOP: Duration = Duration::from_millis(300);

/// Waits until one of the server's `pg_upkeep executor` processes is inside a transaction that has written something, and
/// strikes it there. Returns its process id.
pub fn strike_open_step(server: &Cluster, session: &mut Session, blow: Blow) -> Result<i32> {
    let writers = "SELECT pid FROM pg_catalog.pg_stat_activity
                    WHERE backend_type = 'pg_upkeep executor' AND backend_xid IS NOT NULL";
    strike(server, session, blow, writers)
}

/// The same for the processes that a query names.
pub fn strike(server: &Cluster, session: &mut Session, blow: Blow, victims: &str) -> Result<i32> {
    wait_for(&format!("a blow ({blow:?}) to land inside a transaction"), PATIENCE, || {
        for pid in session.values::<i32>(victims)? {
            if strike_once(server, session, blow, pid)? {
                return Ok(Some(pid));
            }
        }
        Ok(None)
    })
}

/// Whether the blow landed: the process was in a transaction with writes when it was stopped.
fn strike_once(server: &Cluster, session: &mut Session, blow: Blow, pid: i32) -> Result<bool> {
    if !processes_in(&server.data()).contains(&pid) {
        return Ok(false);
    }
    let process = Pid::from_raw(pid).context("no process id")?;
    if kill_process(process, Signal::STOP).is_err() {
        return Ok(false);
    }
    let (looked, look_is_over) = channel::<()>();
    let rescuer = thread::spawn(move || {
        let timed_out = matches!(look_is_over.recv_timeout(LONGEST_STOP), Err(RecvTimeoutError::Timeout));
        if timed_out {
            let _ = kill_process(process, Signal::CONT);
        }
        timed_out
    });
    let look = format!("SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = {pid} AND backend_xid IS NOT NULL");
    let inside = session.value::<bool>(&look);
    let _ = looked.send(());
    let Ok(rescued) = rescuer.join() else { bail!("the rescuer panicked") };
    let landed = !rescued && matches!(inside, Ok(true));
    if landed {
        match blow {
            // Sent to the stopped process: it finds the signal when it goes on.
            Blow::Terminate => session.run(&format!("SELECT pg_terminate_backend({pid})"))?,
            Blow::Kill => kill_process(process, Signal::KILL)?,
        }
    }
    let _ = kill_process(process, Signal::CONT);
    inside.map(|_| landed)
}
