-- A migration that adds a column, fills it and makes it mandatory, run by psql while the application works:
--   psql -X -v ON_ERROR_STOP=1 -f migration.sql
-- It can be run again after any interruption.

-- Stands for your table.
CREATE TABLE IF NOT EXISTS orders (id bigint PRIMARY KEY, cents bigint NOT NULL, currency text);
INSERT INTO orders SELECT i, i * 10, NULL FROM generate_series(1, 20000) i ON CONFLICT DO NOTHING;

-- 1. New rows get their value by themselves.
SET lock_timeout = '200ms';
ALTER TABLE orders ALTER COLUMN currency SET DEFAULT 'EUR';
RESET lock_timeout;

-- 2. The old ones are filled in the background; asked for twice, it is the same job.
SELECT upkeep.backfill('orders', $$currency = 'EUR'$$, 'currency IS NULL',
                       name => 'orders.currency', if_not_exists => true) AS job \gset
CALL upkeep.wait(:'job');

-- 3. No row is left: the check is proved without blocking writers, and makes SET NOT NULL instant.
ALTER TABLE orders DROP CONSTRAINT IF EXISTS orders_currency_present;
ALTER TABLE orders ADD CONSTRAINT orders_currency_present CHECK (currency IS NOT NULL) NOT VALID;
ALTER TABLE orders VALIDATE CONSTRAINT orders_currency_present;
ALTER TABLE orders ALTER COLUMN currency SET NOT NULL;
ALTER TABLE orders DROP CONSTRAINT orders_currency_present;
