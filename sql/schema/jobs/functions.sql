-- What people do to jobs, and the workers that run them.

CREATE FUNCTION upkeep.pause(job uuid) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pause_wrapper';
COMMENT ON FUNCTION upkeep.pause(uuid) IS
'Pauses a job after its current batch, and its children. Owner''s members and upkeep.admin_role. '
'42704 no such job, 42501 not yours, 55000 finished or a command that has started.';

CREATE FUNCTION upkeep.resume(job uuid) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'resume_wrapper';
COMMENT ON FUNCTION upkeep.resume(uuid) IS
'Lets a paused job go on where it was, with its children, or one that waits: now, and whatever it waits for. '
'Owner''s members. 55000 if it is finished, came with a dump (resume_all), or is a child of a paused job.';

CREATE FUNCTION upkeep.cancel(job uuid) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cancel_wrapper';
COMMENT ON FUNCTION upkeep.cancel(uuid) IS
'Ends a job and its children for good once the caller''s transaction commits; its current batch or command is canceled, '
'what was committed stays. Owner''s members and upkeep.admin_role. 55000 if it has finished.';

CREATE FUNCTION upkeep.retry(job uuid) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'retry_wrapper';
COMMENT ON FUNCTION upkeep.retry(uuid) IS
'Starts a failed or canceled job again at its cursor, or a done one for its quarantined and left rows, and its children '
'likewise. Owner''s members. 55000 if there is nothing to try again, or it is a child of a finished job.';

CREATE FUNCTION upkeep.drop_job(job uuid) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'drop_job_wrapper';
COMMENT ON FUNCTION upkeep.drop_job(uuid) IS
'Forgets a finished job, its history and its children. Owner''s members and upkeep.admin_role. '
'55000 if it has not finished, or is a child of a job; 55006 if a child has not finished.';

CREATE FUNCTION upkeep.alter_job(
    job uuid,
    batch_time interval DEFAULT NULL,
    workers integer DEFAULT NULL,
    name text DEFAULT NULL,
    run_between text DEFAULT NULL,
    timezone text DEFAULT NULL,
    max_replica_lag interval DEFAULT NULL,
    max_replica_lag_bytes bigint DEFAULT NULL,
    max_wal_rate integer DEFAULT NULL,
    throttle_work_ratio double precision DEFAULT NULL,
    max_slowdown double precision DEFAULT NULL
) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'alter_job_0_9_wrapper';
COMMENT ON FUNCTION upkeep.alter_job(uuid, interval, integer, text, text, text, interval, bigint, integer, double precision,
                                     double precision) IS
'Changes an unfinished job, also while it runs, and the limits of its children; null keeps what is. '
'batch_time 10 ms to 60 s, workers 1 to 64; '
'run_between: hours as ''22:00-05:00'' in timezone (default the session''s), '''' for always; '
'the rest tightens the settings of these names (kB/s, 0..1, 1.01 and more). 0 takes a limit away again, and has batch_time follow '
'the setting. Owner''s members. 22023 a value out of range.';

CREATE FUNCTION upkeep.pause_all(reason text DEFAULT NULL) RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'pause_all_wrapper';
COMMENT ON FUNCTION upkeep.pause_all(text) IS
'Pauses every unfinished job of this database except commands that have started, and holds every schedule; '
'returns how many. What other transactions have locked is passed over, with a warning that names it (55P03). '
'To be granted.';

CREATE FUNCTION upkeep.resume_all() RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'resume_all_wrapper';
COMMENT ON FUNCTION upkeep.resume_all() IS
'Resumes every paused job and held schedule of this database, those that came with a dump or copy included (owner and '
'table are found by name); returns how many. What other transactions have locked is passed over, with a warning that '
'names it (55P03). To be granted.';

CREATE PROCEDURE upkeep.wait(job uuid, timeout interval DEFAULT NULL)
    LANGUAGE c AS 'MODULE_PATHNAME', 'wait_wrapper';
COMMENT ON PROCEDURE upkeep.wait(uuid, interval) IS
'Waits for a job with progress as notices, holding no snapshot. Raises the job''s error if it fails, '
'57014 if it is canceled or the timeout passes, 25001 inside a transaction block.';

CREATE FUNCTION upkeep.start_workers() RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'start_workers_wrapper';
COMMENT ON FUNCTION upkeep.start_workers() IS
'Starts background workers for this database until the server restarts; returns 1, or 0 if they run already. '
'Without shared_preload_libraries. To be granted. 53000 if max_worker_processes is used up.';

CREATE FUNCTION upkeep.stop_workers() RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'stop_workers_wrapper';
COMMENT ON FUNCTION upkeep.stop_workers() IS
'Ends the workers that start_workers() started; jobs wait where they are. Returns the number of processes ended. '
'To be granted. 55000 if the library is preloaded.';

CREATE FUNCTION upkeep.run_in_background(command text, name text DEFAULT NULL, retries integer DEFAULT 0) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'run_in_background_wrapper';
COMMENT ON FUNCTION upkeep.run_in_background(text, text, integer) IS
'Runs one SQL command in a worker as the caller, top-level ones (VACUUM, CREATE INDEX CONCURRENTLY, CALL) included. '
'retries: how often a failed or interrupted run is repeated. To be granted. '
'42601 unless exactly one statement; 0A000 for BEGIN, COMMIT, LISTEN, COPY FROM STDIN or TO STDOUT; '
'54000 more than 1 MB.';

REVOKE EXECUTE ON FUNCTION upkeep.start_workers(), upkeep.stop_workers(), upkeep.pause_all(text),
    upkeep.resume_all(), upkeep.run_in_background(text, text, integer) FROM PUBLIC;
