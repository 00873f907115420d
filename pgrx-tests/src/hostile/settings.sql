-- Every setting that an ordinary role can have for all its sessions, by ALTER ROLE or ALTER DATABASE, and that changes
-- how values are written, read, compared or planned: at its oddest value, for everybody. Made from pg_settings; what is
-- left out says why.
DO $settings$
DECLARE
    it record;
    odd text;
BEGIN
    FOR it IN
        SELECT s.name, s.vartype, s.boot_val, s.min_val, s.enumvals FROM pg_catalog.pg_settings s
         WHERE s.context = 'user'
           AND (s.category LIKE 'Query Tuning%' OR s.category LIKE 'Client Connection Defaults / Locale%'
                OR s.category LIKE 'Version and Platform%' OR s.category LIKE 'Client Connection Defaults / Statement%')
           AND s.name <> ALL (ARRAY[
               -- How tests get on the path at all: it is set beside.
               'search_path',
               -- The client's bytes, which the driver says when it connects.
               'client_encoding',
               -- Texts of tests have backslashes and escapes; what a session reads has to mean what was written there.
               'standard_conforming_strings', 'escape_string_warning', 'backslash_quote',
               -- Statements of tests write, in READ COMMITTED; LAW 8 for these has tests of its own (workers.rs).
               'default_transaction_isolation', 'default_transaction_read_only', 'default_transaction_deferrable',
               'transaction_isolation', 'transaction_read_only', 'transaction_deferrable',
               -- They end sessions and statements of the tests themselves.
               'statement_timeout', 'lock_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout',
               'idle_in_transaction_timeout',
               -- Off, each read of a table with policies is an error for its users: theirs to choose, see privileges.rs.
               'row_security',
               -- Notices are what some tests look at; what is lost in a session is not lost in a worker.
               'client_min_messages',
               -- A tablespace that must exist, an access method of which there is one.
               'default_tablespace', 'temp_tablespaces', 'default_table_access_method',
               -- Debugging output for each statement, and a random seed.
               'seed', 'debug_parallel_query', 'force_parallel_mode', 'createrole_self_grant',
               -- The locales that exist: C.
               'lc_messages', 'lc_monetary', 'lc_numeric', 'lc_time', 'default_text_search_config', 'timezone_abbreviations',
               -- The server's own messages quote by it, which tests compare.
               'quote_all_identifiers',
               -- Every null is then equal to itself in tests' own statements.
               'transform_null_equals',
               -- Costs decide which index is used, and whether a test ends today.
               'enable_indexscan', 'enable_bitmapscan', 'enable_tidscan', 'enable_hashjoin',
               'enable_hashagg', 'enable_material', 'enable_sort',
               'jit_above_cost', 'jit_inline_above_cost', 'jit_optimize_above_cost'])
    LOOP
        odd := CASE it.name
            WHEN 'DateStyle' THEN 'SQL, DMY'
            WHEN 'IntervalStyle' THEN 'sql_standard'
            WHEN 'TimeZone' THEN 'Pacific/Chatham'
            WHEN 'extra_float_digits' THEN '0'
            WHEN 'bytea_output' THEN 'escape'
            WHEN 'xmlbinary' THEN 'hex'
            WHEN 'xmloption' THEN 'document'
            WHEN 'array_nulls' THEN 'off'
            WHEN 'plan_cache_mode' THEN 'force_generic_plan'
            WHEN 'geqo' THEN 'on'
            WHEN 'geqo_threshold' THEN '2'
            WHEN 'from_collapse_limit' THEN '1'
            WHEN 'join_collapse_limit' THEN '1'
            WHEN 'constraint_exclusion' THEN 'off'
            WHEN 'check_function_bodies' THEN 'off'
            WHEN 'cursor_tuple_fraction' THEN '0'
            WHEN 'random_page_cost' THEN '0'
            WHEN 'gin_fuzzy_search_limit' THEN '1'
            WHEN 'gin_pending_list_limit' THEN '64'
            WHEN 'default_toast_compression' THEN NULL
            ELSE CASE WHEN it.vartype = 'bool' AND it.name NOT LIKE 'jit%'
                 THEN CASE it.boot_val WHEN 'on' THEN 'off' ELSE 'on' END END END;
        IF odd IS NOT NULL THEN
            EXECUTE pg_catalog.format('ALTER ROLE ALL SET %I TO %L', it.name, odd);
        END IF;
    END LOOP;
    ALTER ROLE ALL SET search_path = public, traps, pg_catalog;
    -- By the one role, too: what is set there counts before what is set for all.
    ALTER ROLE postgres SET extra_float_digits = 0;
    ALTER ROLE postgres SET work_mem = '64kB';
END$settings$;
