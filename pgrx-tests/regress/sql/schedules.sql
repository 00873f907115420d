-- What people read when a schedule is not one.
\set VERBOSITY default
SELECT upkeep.schedule('x', '60 * * * *', 'SELECT 1');
SELECT upkeep.schedule('x', '0 0 * * mon-fry', 'SELECT 1');
SELECT upkeep.schedule('x', '*/90 * * * *', 'SELECT 1');
SELECT upkeep.schedule('x', '5/10 * * * *', 'SELECT 1');
SELECT upkeep.schedule('x', '0 22-2 * * *', 'SELECT 1');
SELECT upkeep.schedule('x', '0 0 * *', 'SELECT 1');
SELECT upkeep.schedule('x', '0 * * * * *', 'SELECT 1');
SELECT upkeep.schedule('x', '0 0 30 2 *', 'SELECT 1');
SELECT upkeep.schedule('x', '@reboot', 'SELECT 1');
SELECT upkeep.schedule('x', '@never', 'SELECT 1');
SELECT upkeep.schedule('x', 'every day', 'SELECT 1');
SELECT upkeep.schedule('x', '1 day', 'SELECT 1');
SELECT upkeep.schedule('x', '10 milliseconds', 'SELECT 1');
SELECT upkeep.schedule('x', '@daily', 'SELECT 1', timezone => 'Middle-earth/Shire');
SELECT upkeep.schedule('x', '@daily', 'SELECT 1; SELECT 2');
SELECT upkeep.schedule('x', '@daily', 'SELECT 1', timeout => '-1 s');
SELECT upkeep.unschedule('x');
SELECT upkeep.run_now('00000000-0000-0000-0000-000000000000'::uuid);
