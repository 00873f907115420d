//! A private PostgreSQL cluster: its own data, socket and settings, gone when it is dropped.

mod clock;
mod copies;
mod guardian;
mod shim;
mod template;

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use postgres::{Client, NoTls};
use rustix::process::{Pid, Signal, kill_process};

use self::clock::Clock;
use self::guardian::Guardian;
use crate::pg::SUPERUSER;
use crate::room::{LONGEST_SOCKET, Room};
use crate::session::Session;
use crate::tree::Tree;
use crate::wait::{wait_for, wait_until};
use crate::{command, hostile};

/// Set in the environment: statements within functions are counted as well, and by pg_stat_statements too.
const EVERYTHING: &str = "UPKEEP_EVERYTHING";

/// Long enough for a loaded machine, short enough to notice that something hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);
const SETTINGS: &str = "harness.conf";

/// How to stop a server, in pg_ctl's words.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// Disconnects everyone, ends the workers, writes a checkpoint.
    Fast,
    /// Quits without a checkpoint: the next start recovers.
    Immediate,
}

pub struct Cluster {
    pub tree: Tree,
    name: String,
    dir: PathBuf,
    settings: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    server: Option<Child>,
    /// None for a cluster that outlives us.
    guardian: Option<Guardian>,
    clock: Option<Clock>,
}

/// What a new cluster is to be like.
pub struct ClusterBuilder {
    tree: Tree,
    name: String,
    settings: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    lasting: bool,
    own_identity: bool,
    initdb_options: Vec<String>,
    clock: Option<i64>,
    slow_disk: Option<Duration>,
}

impl ClusterBuilder {
    /// A setting in postgresql.conf; the last word on a name counts.
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        set(&mut self.settings, name, value.to_string());
        self
    }

    /// With `shared_preload_libraries = 'pg_upkeep'`; with everything on that can be if [`EVERYTHING`] is set.
    pub fn preloaded(self) -> Self {
        if std::env::var_os(EVERYTHING).is_none() {
            return self.set("shared_preload_libraries", "pg_upkeep");
        }
        self.set("shared_preload_libraries", "pg_stat_statements, pg_upkeep")
            .set("pg_stat_statements.track", "all")
            .set("upkeep.track_queries", "all")
    }

    /// With fsync, as every real server has it.
    pub fn durable(self) -> Self {
        self.set("fsync", "on")
    }

    /// In the environment of the server.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The server keeps running after we are gone, and replaces one of the same name.
    pub fn lasting(mut self) -> Self {
        self.lasting = true;
        self
    }

    /// With a system identifier of its own. The others are copies of one initdb and share it, which makes them quicker to
    /// have and useless for telling two servers apart.
    pub fn own_identity(mut self) -> Self {
        self.own_identity = true;
        self
    }

    /// Not a copy, but from an initdb of its own with this option.
    pub fn initdb_option(mut self, option: &str) -> Self {
        self.initdb_options.push(option.to_owned());
        self.own_identity()
    }

    /// Starts in the belief that it is this many seconds after 1970-01-01 UTC; `set_clock` tells it otherwise.
    pub fn clock(mut self, seconds: i64) -> Self {
        self.clock = Some(seconds);
        self
    }

    /// With fsync, on a disk that takes so much longer to write WAL. Not together with a clock of its own.
    pub fn slow_disk(mut self, longer: Duration) -> Self {
        self.slow_disk = Some(longer);
        self.durable().set("wal_sync_method", "fdatasync")
    }

    pub fn start(self) -> Result<Cluster> {
        let dir = self.tree.room.clusters().join(&self.name);
        let mut cluster = Cluster {
            tree: self.tree,
            name: self.name,
            dir,
            settings: self.settings,
            environment: self.environment,
            server: None,
            guardian: None,
            clock: None,
        };
        cluster.make_dir(self.lasting)?;
        if let Some(seconds) = self.clock {
            let clock = Clock::build(&cluster.scratch(), &cluster.tree.user)?;
            clock.set(seconds)?;
            cluster.clock = Some(clock);
        }
        if let Some(longer) = self.slow_disk {
            let library = shim::build("disk", &cluster.scratch(), &cluster.tree.user)?;
            let settings =
                [("LD_PRELOAD", library.display().to_string()), ("UPKEEP_DISK", longer.as_micros().to_string())];
            cluster.environment.extend(settings.map(|(name, value)| (name.to_owned(), value)));
        }
        if self.own_identity {
            template::initdb(&cluster.tree, &cluster.data(), &self.initdb_options)?;
        } else {
            template::copy(&cluster.tree, &cluster.data())?;
        }
        cluster.include_settings()?;
        cluster.start()?;
        Ok(cluster)
    }
}

impl Cluster {
    pub fn builder(tree: &Tree, name: &str) -> ClusterBuilder {
        let settings = [
            ("listen_addresses", ""),
            ("unix_socket_permissions", "0700"),
            ("fsync", "off"),
            ("max_worker_processes", "32"),
            ("log_line_prefix", "%m [%p] %b %d %a "),
            ("log_lock_waits", "on"),
            ("timezone", "UTC"),
        ];
        let mut settings = settings.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
        if hostile::wanted() {
            set(&mut settings, "log_line_prefix", hostile::LOG_LINE_PREFIX.to_owned());
            set(&mut settings, "log_statement", "all".to_owned());
        }
        ClusterBuilder {
            tree: tree.clone(),
            name: name.to_owned(),
            settings,
            environment: Vec::new(),
            lasting: false,
            own_identity: false,
            initdb_options: Vec::new(),
            clock: None,
            slow_disk: None,
        }
    }

    /// A name that no other cluster has: two suites may ask for the same.
    pub fn unique_name(name: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!("{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// Stops and removes a lasting cluster of this name. Returns whether there was a running one.
    pub fn remove_lasting(room: &Room, name: &str) -> Result<bool> {
        remove(&room.clusters().join(name))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The socket's directory: what goes after `psql -h`.
    pub fn host(&self) -> PathBuf {
        self.dir.join("s")
    }

    pub fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// How long the log is: `log_since` this shows what came later.
    pub fn log_position(&self) -> u64 {
        fs::metadata(self.log_file()).map_or(0, |m| m.len())
    }

    pub fn log_since(&self, position: u64) -> String {
        let mut text = Vec::new();
        let read = File::open(self.log_file())
            .and_then(|mut log| log.seek(SeekFrom::Start(position)).and_then(|_| log.read_to_end(&mut text)));
        read.map(|_| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    pub fn start(&mut self) -> Result<()> {
        self.write_settings()?;
        let log = File::options().append(true).create(true).open(self.log_file())?;
        let mut postgres = self.tree.server_command("postgres");
        postgres.arg("-D").arg(self.data()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        postgres.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(clock) = &self.clock {
            clock.preload(&mut postgres);
        }
        if self.guardian.is_none() {
            // Ctrl-C at our terminal is not meant for a server that outlives us.
            postgres.process_group(0);
        }
        self.server = Some(postgres.spawn().context("postgres")?);
        let log_start = self.log_position();
        wait_for("the server to accept connections", PATIENCE, || {
            if let Some(status) = self.server.as_mut().expect("it was just started").try_wait()? {
                bail!("the server did not start ({status}):\n{}", self.log_since(log_start));
            }
            Ok(self.client("postgres", SUPERUSER).ok().map(drop))
        })
    }

    pub fn stop(&mut self, how: Stop) -> Result<()> {
        let Some(server) = &mut self.server else { return Ok(()) };
        let signal = match how {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        };
        // It may have gone by itself.
        let _ = kill_process(Pid::from_child(server), signal);
        wait_for("the server to stop", PATIENCE, || Ok(server.try_wait()?))?;
        self.server = None;
        Ok(())
    }

    pub fn restart(&mut self) -> Result<()> {
        self.stop(Stop::Fast)?;
        self.start()
    }

    /// Kills the postmaster as a power failure would, and waits until its orphans are gone too.
    pub fn crash(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        server.kill()?;
        server.wait()?;
        let data = self.data();
        wait_until("the orphans of the crashed server to end", PATIENCE, || processes_in(&data).is_empty())
    }

    /// kill -9 of one of this server's processes.
    pub fn kill(&self, pid: i32) -> Result<()> {
        if !processes_in(&self.data()).contains(&pid) {
            bail!("{pid} is no process of this server");
        }
        let pid = Pid::from_raw(pid).context("no process id")?;
        kill_process(pid, Signal::KILL).with_context(|| format!("kill -9 {pid:?}"))
    }

    pub fn postmaster_pid(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// Sets the clock of a server started with one: to so many seconds after 1970-01-01 UTC.
    pub fn set_clock(&self, seconds: i64) -> Result<()> {
        self.clock.as_ref().context("this server has no clock of its own")?.set(seconds)
    }

    /// Changes settings; they count from the next `reload` or `restart` on.
    pub fn set(&mut self, name: &str, value: impl ToString) -> Result<()> {
        set(&mut self.settings, name, value.to_string());
        self.write_settings()
    }

    /// Makes the server read its settings again, and waits until it has.
    pub fn reload(&self) -> Result<()> {
        let mut client = self.client("postgres", SUPERUSER)?;
        let loaded = "SELECT pg_conf_load_time()::text";
        let before: String = client.query_one(loaded, &[])?.get(0);
        client.batch_execute("SELECT pg_reload_conf()")?;
        wait_until("the settings to be read again", PATIENCE, || {
            // A session sees the new time once it has taken notice itself: between two statements.
            client.query_one(loaded, &[]).is_ok_and(|row| row.get::<_, String>(0) != before)
        })
    }

    /// A session of the superuser.
    pub fn connect(&self, database: &str) -> Result<Session> {
        self.connect_as(database, SUPERUSER)
    }

    pub fn connect_as(&self, database: &str, user: &str) -> Result<Session> {
        Session::open(self.connection(database, user))
    }

    /// kill -9 of one of this server's processes, and a session after the restart of all others which that causes.
    pub fn kill_and_recover(&self, pid: i32, database: &str) -> Result<Session> {
        let before = self.log_position();
        self.kill(pid)?;
        self.wait_for_restart(before)?;
        self.connect_again(database)
    }

    /// Since that place in its log. Until then the server takes connections that it ends in a moment.
    pub fn wait_for_restart(&self, since: u64) -> Result<()> {
        wait_until("the server to restart itself", PATIENCE, || self.log_since(since).contains("reinitializing"))
    }

    /// A session of the superuser, as soon as the server is back from restarting itself.
    pub fn connect_again(&self, database: &str) -> Result<Session> {
        self.connect_again_as(database, SUPERUSER)
    }

    pub fn connect_again_as(&self, database: &str, user: &str) -> Result<Session> {
        wait_for("the server to accept connections again", PATIENCE, || {
            // The old postmaster's last moments accept a connection and end it.
            let session = self.connect_as(database, user).and_then(|mut s| s.run("SELECT 1").map(|()| s));
            Ok(session.ok())
        })
    }

    /// How to connect, for those who want to set more.
    pub fn connection(&self, database: &str, user: &str) -> postgres::Config {
        let mut config = postgres::Config::new();
        config.host_path(self.host()).dbname(database).user(user).application_name("pg_upkeep harness");
        config
    }

    fn client(&self, database: &str, user: &str) -> Result<Client> {
        Ok(self.connection(database, user).connect(NoTls)?)
    }

    /// A client program of this PostgreSQL, told where to connect: `client_command("pgbench", "demo")`.
    pub fn client_command(&self, program: &str, database: &str) -> Command {
        let mut command = self.tree.client_command(program);
        command.env("PGHOST", self.host()).env("PGUSER", SUPERUSER).env("PGDATABASE", database);
        command
    }

    /// Runs a script in psql and returns its standard output. The first error ends it.
    pub fn psql(&self, database: &str, script: &str) -> Result<String> {
        let mut psql = self.client_command("psql", database);
        command::capture(psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", script]))
    }

    /// A directory beside the data which goes with the cluster.
    pub fn scratch(&self) -> PathBuf {
        self.dir.join("scratch")
    }

    /// Gives up control of a lasting cluster: it keeps running.
    pub fn leave_running(mut self) {
        self.server = None;
    }

    fn make_dir(&mut self, lasting: bool) -> Result<()> {
        remove(&self.dir)?;
        let socket = self.host().join(".s.PGSQL.5432");
        if socket.as_os_str().len() >= LONGEST_SOCKET {
            bail!("the socket's path is too long: {}", socket.display());
        }
        let user = self.tree.user.clone();
        for (dir, mode) in [(self.dir.clone(), 0o711), (self.host(), 0o711), (self.scratch(), 0o755)] {
            fs::DirBuilder::new().mode(mode).create(&dir).with_context(|| dir.display().to_string())?;
            user.own(&dir)?;
        }
        if !lasting {
            self.guardian = Some(Guardian::over(&self.dir)?);
        }
        Ok(())
    }

    fn include_settings(&self) -> Result<()> {
        let conf = self.data().join("postgresql.conf");
        let text = fs::read_to_string(&conf)?;
        if !text.contains(SETTINGS) {
            fs::write(&conf, format!("{text}\ninclude = '{SETTINGS}'\n"))?;
        }
        Ok(())
    }

    fn write_settings(&self) -> Result<()> {
        let quote = |value: &str| value.replace('\'', "''");
        let mut text = format!("unix_socket_directories = '{}'\n", quote(&self.host().to_string_lossy()));
        for (name, value) in &self.settings {
            text += &format!("{name} = '{}'\n", quote(value));
        }
        let file = self.data().join(SETTINGS);
        fs::write(&file, text)?;
        self.tree.user.own(&file)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.server.is_none() && self.guardian.is_none() {
            return;
        }
        if std::thread::panicking() {
            eprintln!("--- end of the log of server {} ---\n{}---", self.name, last_lines(&self.log(), 40));
        }
        // Nothing to report to: the guardian gets another try when we are gone.
        let _ = self.stop(Stop::Immediate);
        let guilty = if hostile::wanted() { hostile::judge(&self.log(), None) } else { Vec::new() };
        let _ = remove(&self.dir);
        hostile::complain(&guilty);
    }
}

/// Processes whose working directory is this data directory: a server's processes never leave it.
pub fn processes_in(data: &Path) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data)).collect()
}

/// How often a process has gone to sleep by itself: each time something had woken it.
pub fn context_switches(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    Ok(line.context("no such line in /proc/PID/status")?.trim().parse()?)
}

/// Stops whatever server runs in a cluster's directory and removes it. Returns whether one ran.
fn remove(dir: &Path) -> Result<bool> {
    let data = dir.join("data");
    let running = processes_in(&data);
    if !running.is_empty() {
        let postmaster = fs::read_to_string(data.join("postmaster.pid")).ok();
        let postmaster = postmaster.and_then(|f| f.lines().next()?.parse().ok());
        for &pid in postmaster.as_ref().filter(|p| running.contains(p)).into_iter().chain(&running) {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, Signal::QUIT);
            }
        }
        wait_until("the old server to stop", PATIENCE, || processes_in(&data).is_empty())?;
    }
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    Ok(!running.is_empty())
}

fn set(settings: &mut Vec<(String, String)>, name: &str, value: String) {
    settings.retain(|(known, _)| known != name);
    settings.push((name.to_owned(), value));
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|l| format!("{l}\n")).collect()
}
