-- The schema of traps, made from the catalogs of the server that runs this: whatever a careless statement names without
-- its schema is found here before it is found in pg_catalog. Each trap does what its original does, and says in the log
-- who asked, and by which statement.
SET search_path = pg_catalog;
SET check_function_bodies = off;

CREATE SCHEMA traps;
GRANT USAGE ON SCHEMA traps TO PUBLIC;

CREATE FUNCTION traps._note(kind text, original text, context text) RETURNS void LANGUAGE plpgsql AS $note$
DECLARE
    found pg_catalog.text;
    last pg_catalog.text;
BEGIN
    found := pg_catalog.json_build_object('kind', kind, 'name', original, 'current', CURRENT_USER, 'session', SESSION_USER,
        'super', (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) CURRENT_USER),
        'context', pg_catalog."left"(context, 20000));
    -- A statement that goes through a thousand rows says it once.
    last := pg_catalog.current_setting('traps.last', true);
    IF last IS NULL OR last OPERATOR(pg_catalog.<>) pg_catalog.md5(found) THEN
        PERFORM pg_catalog.set_config('traps.last', pg_catalog.md5(found), false);
        RAISE LOG 'trap: %', found;
    END IF;
END$note$;

-- What is called straight from a session, as the user of that session, is nobody else's.
CREATE FUNCTION traps._look(kind text, original text, context text) RETURNS void LANGUAGE plpgsql AS $look$
BEGIN
    IF CURRENT_USER OPERATOR(pg_catalog.<>) SESSION_USER OR pg_catalog.strpos(context, E'\nSQL ') OPERATOR(pg_catalog.>) 0
        OR pg_catalog.strpos(context, E'\nPL/pgSQL function upkeep.') OPERATOR(pg_catalog.>) 0 THEN
        PERFORM traps._note(kind, original, context);
    END IF;
END$look$;

CREATE FUNCTION traps._domain(original text) RETURNS boolean LANGUAGE plpgsql AS $domain$
DECLARE
    context pg_catalog.text;
BEGIN
    GET DIAGNOSTICS context = PG_CONTEXT;
    PERFORM traps._look('type', original, context);
    RETURN true;
END$domain$;

DO $traps$
DECLARE
    it record;
    body text;
    call text;
    made int[] := ARRAY[0, 0, 0];
    -- Types that the grammar knows by itself; their names are never looked up.
    keywords CONSTANT text[] := ARRAY['bit', 'bool', 'boolean', 'bpchar', 'char', 'float4', 'float8', 'int2', 'int4', 'int8', 'interval',
        'json', 'numeric', 'time', 'timestamp', 'timestamptz', 'timetz', 'varbit', 'varchar', 'xml'];
BEGIN
    FOR it IN
        SELECT t.oid, t.typname FROM pg_type t
         WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype IN ('b', 'e', 'r', 'm') AND t.typisdefined
           AND t.typcategory <> 'A'
           -- The grammar looks for int4 and its like in pg_catalog only when they are spelled int, and so on: the short names are trapped.
           AND t.typname <> ALL (ARRAY['bit', 'char', 'interval', 'time', 'timestamp', 'varchar',
                                         'json', 'xml', 'numeric', 'pg_node_tree'])
         ORDER BY t.typname
    LOOP
        BEGIN
            EXECUTE format('CREATE DOMAIN traps.%I AS pg_catalog.%I CHECK (traps._domain(%L))', it.typname, it.typname, it.typname);
            made[1] := made[1] + 1;
        EXCEPTION WHEN feature_not_supported OR datatype_mismatch OR undefined_object OR wrong_object_type THEN NULL;
        END;
    END LOOP;

    FOR it IN
        SELECT p.*, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result
          FROM pg_proc p
         WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.proargmodes IS NULL AND p.provariadic = 0
           AND NOT EXISTS (SELECT FROM unnest(p.proargtypes::oid[] || p.prorettype) a JOIN pg_type t ON t.oid = a
                            WHERE t.typtype = 'p' AND NOT (a = p.prorettype AND t.typname = 'void'))
           -- What the server calls by itself while it reads and writes values has no name to be found by.
           AND NOT EXISTS (SELECT FROM pg_type t 
                            WHERE p.oid IN (t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin, t.typmodout))
         ORDER BY p.oid
    LOOP
        SELECT coalesce(string_agg('$' || n, ', ' ORDER BY n), '') INTO body FROM generate_series(1, it.pronargs) n;
        call := format('pg_catalog.%I(%s)', it.proname, body);
        call := CASE WHEN it.proretset THEN 'RETURN QUERY SELECT * FROM ' || call
                     WHEN it.prorettype = 'void'::regtype THEN 'PERFORM ' || call
                     ELSE 'RETURN ' || call END;
        body := format('DECLARE _context pg_catalog.text; BEGIN GET DIAGNOSTICS _context = PG_CONTEXT; '
            'PERFORM traps._look(''function'', %L, _context); %s; END', it.proname, call);
        BEGIN
            EXECUTE format('CREATE FUNCTION traps.%I(%s) RETURNS %s LANGUAGE plpgsql %s %s %s COST %s %s AS %L',
                it.proname, it.arguments, it.result,
                CASE it.provolatile WHEN 'i' THEN 'IMMUTABLE' WHEN 's' THEN 'STABLE' ELSE 'VOLATILE' END,
                CASE WHEN it.proisstrict THEN 'STRICT' ELSE '' END, CASE WHEN it.proleakproof THEN 'LEAKPROOF' ELSE '' END,
                it.procost, CASE WHEN it.proretset THEN 'ROWS ' || it.prorows ELSE '' END, body);
            made[2] := made[2] + 1;
        EXCEPTION WHEN feature_not_supported OR invalid_function_definition OR duplicate_function THEN NULL;
        END;
    END LOOP;

    FOR it IN
        SELECT o.oid, o.oprname, o.oprkind, format_type(o.oprleft, NULL) AS l, format_type(o.oprright, NULL) AS r,
               format_type(o.oprresult, NULL) AS result, p.provolatile, p.proisstrict, p.proleakproof
          FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode
         WHERE o.oprnamespace = 'pg_catalog'::regnamespace
           AND NOT EXISTS (SELECT FROM pg_type t WHERE t.oid IN (o.oprleft, o.oprright, o.oprresult) AND t.typtype = 'p')
         ORDER BY o.oid
    LOOP
        call := CASE it.oprkind WHEN 'l' THEN format('OPERATOR(pg_catalog.%s) $1', it.oprname)
                     ELSE format('$1 OPERATOR(pg_catalog.%s) $2', it.oprname) END;
        body := format('DECLARE _context pg_catalog.text; BEGIN GET DIAGNOSTICS _context = PG_CONTEXT; '
            'PERFORM traps._look(''operator'', %L, _context); RETURN %s; END', it.oprname, call);
        EXECUTE format('CREATE FUNCTION traps._operator_%s(%s) RETURNS %s LANGUAGE plpgsql %s %s %s COST 1 AS %L',
            it.oid, concat_ws(', ', CASE WHEN it.oprkind <> 'l' THEN it.l END, it.r), it.result,
            CASE it.provolatile WHEN 'i' THEN 'IMMUTABLE' WHEN 's' THEN 'STABLE' ELSE 'VOLATILE' END,
            CASE WHEN it.proisstrict THEN 'STRICT' ELSE '' END, CASE WHEN it.proleakproof THEN 'LEAKPROOF' ELSE '' END, body);
        EXECUTE format('CREATE OPERATOR traps.%s (FUNCTION = traps._operator_%s, %s RIGHTARG = %s)', it.oprname, it.oid,
            CASE WHEN it.oprkind <> 'l' THEN 'LEFTARG = ' || it.l || ',' ELSE '' END, it.r);
        made[3] := made[3] + 1;
    END LOOP;
    RAISE NOTICE 'traps: % types, % functions, % operators', made[1], made[2], made[3];
END$traps$;
