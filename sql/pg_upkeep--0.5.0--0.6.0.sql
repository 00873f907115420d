\echo Use "ALTER EXTENSION pg_upkeep UPDATE" to load this file. \quit
