-- The public surface: what there is, who may do what, and that each thing is described. A change here is a change of what
-- users rely on: read the diff before you accept it.

\pset format unaligned
-- Functions and procedures. "caller" runs with the caller's rights, "definer" with the owner's.
SELECT p.proname, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result,
       CASE WHEN p.prosecdef THEN 'definer' ELSE 'caller' END AS rights,
       CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END AS volatility,
       p.proparallel AS parallel,
       has_function_privilege('public', p.oid, 'EXECUTE') AS public
  FROM pg_proc p
 WHERE p.pronamespace = 'upkeep'::regnamespace AND p.proname NOT LIKE '\_%'
 ORDER BY p.proname COLLATE "C", 2;

-- Views and their columns.
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
 WHERE c.relnamespace = 'upkeep'::regnamespace AND c.relkind = 'v'
 ORDER BY c.relname COLLATE "C", a.attnum;

-- Settings.
SELECT name, unit, context, vartype, boot_val, min_val, max_val FROM pg_settings
 WHERE name LIKE 'upkeep.%' ORDER BY name COLLATE "C";

-- None of the following may have rows.

-- Tables that are not private, by name or by rights.
SELECT c.relname FROM pg_class c
 WHERE c.relnamespace = 'upkeep'::regnamespace AND c.relkind IN ('r', 'p', 'S')
   AND (c.relname NOT LIKE '\_%' OR has_table_privilege('public', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE'));

-- Tables from which nothing could be deleted where all tables are published.
SELECT c.relname FROM pg_class c
 WHERE c.relnamespace = 'upkeep'::regnamespace AND c.relkind = 'r' AND c.relreplident = 'd'
   AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary);

-- Views that a cheap function in WHERE could see through.
SELECT c.relname FROM pg_class c
 WHERE c.relnamespace = 'upkeep'::regnamespace AND c.relkind = 'v'
   AND NOT coalesce('security_barrier=true' = ANY (c.reloptions), false);

-- Public objects without a description.
SELECT p.oid::regprocedure AS undescribed FROM pg_proc p
 WHERE p.pronamespace = 'upkeep'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL
UNION ALL
SELECT NULL FROM pg_class c WHERE c.relnamespace = 'upkeep'::regnamespace AND c.relkind = 'v'
   AND obj_description(c.oid, 'pg_class') IS NULL;

-- Functions that run with the owner's rights without a pinned search_path, or that take SQL text with the owner's rights.
SELECT p.oid::regprocedure FROM pg_proc p
 WHERE p.pronamespace = 'upkeep'::regnamespace AND p.prosecdef
   AND (NOT coalesce(p.proconfig::text LIKE '%search_path=%', false) OR 'text'::regtype = ANY (p.proargtypes::oid[]));

-- An existing schema is not adopted.
DROP EXTENSION pg_upkeep;
CREATE SCHEMA upkeep;
\set VERBOSITY sqlstate
CREATE EXTENSION pg_upkeep;
\set VERBOSITY default
DROP SCHEMA upkeep;
CREATE EXTENSION pg_upkeep;
