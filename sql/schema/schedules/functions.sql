-- What people do to schedules. All of it is to be granted.

CREATE FUNCTION upkeep.schedule(
    name text,
    schedule text,
    command text,
    timezone text DEFAULT NULL,
    timeout interval DEFAULT NULL,
    retries integer DEFAULT 0,
    retry_backoff interval DEFAULT '1 minute',
    catch_up boolean DEFAULT false,
    paused boolean DEFAULT false,
    if_not_exists boolean DEFAULT false
) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'upkeep_schedule_wrapper';
COMMENT ON FUNCTION upkeep.schedule(text, text, text, text, interval, integer, interval, boolean, boolean, boolean) IS
'Runs a SQL command again and again as the caller, and returns the schedule. '
'schedule: five cron fields, @hourly @daily @weekly @monthly @yearly, or an interval of at least 1 second such as '
'''5 minutes''; timezone: of the fields, default the session''s; timeout: cancels a run (null: none); '
'retries: of a run that failed or timed out, after retry_backoff, doubled each time; '
'catch_up: makes up for one run missed while the server was down. To be granted. '
'42601 in schedule or command, 22023 wrong argument or a schedule that never runs, 42710 name in use, '
'0A000 for a command that cannot run in a worker.';

CREATE FUNCTION upkeep.unschedule(name text) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'unschedule_by_name_wrapper';
COMMENT ON FUNCTION upkeep.unschedule(text) IS
'Ends a schedule for good and forgets its runs; a run that has started goes on. '
'Owner''s members and upkeep.admin_role. To be granted. 42704 no such schedule, 22023 several of this name.';

CREATE FUNCTION upkeep.unschedule(schedule uuid) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'unschedule_by_id_wrapper';
COMMENT ON FUNCTION upkeep.unschedule(uuid) IS
'Ends a schedule for good and forgets its runs; a run that has started goes on. '
'Owner''s members and upkeep.admin_role. To be granted. 42704 no such schedule.';

CREATE FUNCTION upkeep.alter_schedule(
    name text,
    schedule text DEFAULT NULL,
    command text DEFAULT NULL,
    timezone text DEFAULT NULL,
    timeout interval DEFAULT NULL,
    retries integer DEFAULT NULL,
    retry_backoff interval DEFAULT NULL,
    catch_up boolean DEFAULT NULL,
    paused boolean DEFAULT NULL,
    new_name text DEFAULT NULL
) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'alter_schedule_by_name_wrapper';
COMMENT ON FUNCTION upkeep.alter_schedule(text, text, text, text, interval, integer, interval, boolean, boolean, text) IS
'Changes a schedule from its next run on; null keeps what is, timeout ''0'' takes it away. '
'paused => true and false stop and go on; what was due meanwhile is not made up for. '
'Owner''s members; members of upkeep.admin_role may pause. To be granted. '
'Errors as of upkeep.schedule; 42704 no such schedule, 22023 several of this name.';

CREATE FUNCTION upkeep.alter_schedule(
    id uuid,
    schedule text DEFAULT NULL,
    command text DEFAULT NULL,
    timezone text DEFAULT NULL,
    timeout interval DEFAULT NULL,
    retries integer DEFAULT NULL,
    retry_backoff interval DEFAULT NULL,
    catch_up boolean DEFAULT NULL,
    paused boolean DEFAULT NULL,
    new_name text DEFAULT NULL
) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'alter_schedule_by_id_wrapper';
COMMENT ON FUNCTION upkeep.alter_schedule(uuid, text, text, text, interval, integer, interval, boolean, boolean, text) IS
'Changes a schedule from its next run on; null keeps what is, timeout ''0'' takes it away. '
'paused => true and false stop and go on; what was due meanwhile is not made up for. '
'Owner''s members; members of upkeep.admin_role may pause. To be granted. '
'Errors as of upkeep.schedule; 42704 no such schedule.';

CREATE FUNCTION upkeep.run_now(name text) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'run_now_by_name_wrapper';
COMMENT ON FUNCTION upkeep.run_now(text) IS
'Runs a schedule''s command once now, paused or not, and returns the job. Owner''s members. To be granted. '
'42704 no such schedule, 22023 several of this name, 55006 a run has not ended, 53400 upkeep.max_jobs_per_role, '
'55000 it came with a dump.';

CREATE FUNCTION upkeep.run_now(schedule uuid) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'run_now_by_id_wrapper';
COMMENT ON FUNCTION upkeep.run_now(uuid) IS
'Runs a schedule''s command once now, paused or not, and returns the job. Owner''s members. To be granted. '
'42704 no such schedule, 55006 a run has not ended, 53400 upkeep.max_jobs_per_role, 55000 it came with a dump.';

REVOKE EXECUTE ON FUNCTION
    upkeep.schedule(text, text, text, text, interval, integer, interval, boolean, boolean, boolean),
    upkeep.unschedule(text), upkeep.unschedule(uuid),
    upkeep.alter_schedule(text, text, text, text, interval, integer, interval, boolean, boolean, text),
    upkeep.alter_schedule(uuid, text, text, text, interval, integer, interval, boolean, boolean, text),
    upkeep.run_now(text), upkeep.run_now(uuid) FROM PUBLIC;
