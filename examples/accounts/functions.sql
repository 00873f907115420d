-- What the application does with accounts. The condition on deleted_at makes the functions right in both ways of hiding:
-- `users` is the table with live_view, and the view of its live rows with swap.

-- Counts a failure, and locks the account for half an hour after five. Returns the failures since the last success.
CREATE FUNCTION record_failed_login(user_id uuid, ip inet, user_agent text,
                                    location text DEFAULT NULL, reason text DEFAULT 'wrong password')
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    attempts integer;
BEGIN
    UPDATE users u
       SET failed_attempts = u.failed_attempts + 1,
           locked_until = CASE WHEN u.failed_attempts + 1 >= 5 THEN now() + interval '30 minutes' ELSE u.locked_until END
     WHERE u.id = record_failed_login.user_id AND u.deleted_at IS NULL
    RETURNING u.failed_attempts INTO attempts;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no user %', user_id USING ERRCODE = 'no_data_found';
    END IF;
    INSERT INTO login_history (user_id, ip, user_agent, location, success, failure_reason, risk_score)
    VALUES (user_id, ip, user_agent, location, false, reason, least(100, 20 * attempts));
    RETURN attempts;
END $$;

-- Ends the count of failures, notes when and from where, and whether the place is a new one.
CREATE FUNCTION record_successful_login(user_id uuid, ip inet, user_agent text, location text DEFAULT NULL)
RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    entry uuid;
    is_new boolean;
BEGIN
    UPDATE users u
       SET failed_attempts = 0, locked_until = NULL, last_login_at = now(), last_login_ip = record_successful_login.ip
     WHERE u.id = record_successful_login.user_id AND u.deleted_at IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no user %', user_id USING ERRCODE = 'no_data_found';
    END IF;
    SELECT count(*) > 0 AND count(*) FILTER (WHERE h.ip = record_successful_login.ip) = 0 INTO is_new
      FROM login_history h
     WHERE h.user_id = record_successful_login.user_id AND h.success AND h.deleted_at IS NULL;
    INSERT INTO login_history (user_id, ip, user_agent, location, success, risk_score, is_unusual)
    VALUES (user_id, ip, user_agent, location, true, CASE WHEN is_new THEN 50 ELSE 0 END, is_new)
    RETURNING id INTO entry;
    RETURN entry;
END $$;

CREATE FUNCTION lock_account(user_id uuid, how_long interval DEFAULT '30 minutes') RETURNS timestamptz LANGUAGE sql AS $$
    UPDATE users u SET locked_until = now() + how_long WHERE u.id = lock_account.user_id AND u.deleted_at IS NULL
    RETURNING u.locked_until
$$;

CREATE FUNCTION unlock_account(user_id uuid) RETURNS boolean LANGUAGE sql AS $$
    WITH unlocked AS (
        UPDATE users u SET locked_until = NULL, failed_attempts = 0
         WHERE u.id = unlock_account.user_id AND u.deleted_at IS NULL
        RETURNING 1)
    SELECT count(*) > 0 FROM unlocked
$$;

CREATE FUNCTION is_locked(user_id uuid) RETURNS boolean STABLE LANGUAGE sql AS $$
    SELECT u.locked_until > now() IS TRUE FROM users u WHERE u.id = is_locked.user_id AND u.deleted_at IS NULL
$$;

CREATE FUNCTION full_name(user_id uuid) RETURNS text STABLE LANGUAGE sql AS $$
    SELECT u.first_name || ' ' || u.last_name FROM users u WHERE u.id = full_name.user_id AND u.deleted_at IS NULL
$$;

CREATE FUNCTION password_age(user_id uuid) RETURNS interval STABLE LANGUAGE sql AS $$
    SELECT now() - u.password_changed_at FROM users u WHERE u.id = password_age.user_id AND u.deleted_at IS NULL
$$;

-- Everything that may leave the server.
CREATE FUNCTION user_to_jsonb(user_id uuid) RETURNS jsonb STABLE LANGUAGE sql AS $$
    SELECT to_jsonb(u) - ARRAY['password_hash', 'mfa_secret', 'backup_codes']
      FROM users u WHERE u.id = user_to_jsonb.user_id AND u.deleted_at IS NULL
$$;

-- From now on or from its end, whichever is later; a session that was revoked stays so.
CREATE FUNCTION extend_session(session_id uuid, hours integer DEFAULT 24) RETURNS timestamptz LANGUAGE sql AS $$
    UPDATE user_sessions s SET expires_at = greatest(s.expires_at, now()) + make_interval(hours => hours)
     WHERE s.id = session_id AND s.revoked_at IS NULL AND s.deleted_at IS NULL
    RETURNING s.expires_at
$$;

CREATE FUNCTION is_expired(session_id uuid) RETURNS boolean STABLE LANGUAGE sql AS $$
    SELECT s.expires_at <= now() FROM user_sessions s WHERE s.id = session_id AND s.deleted_at IS NULL
$$;

CREATE FUNCTION is_active(session_id uuid) RETURNS boolean STABLE LANGUAGE sql AS $$
    SELECT coalesce(bool_or(s.expires_at > now() AND s.revoked_at IS NULL), false)
      FROM user_sessions s WHERE s.id = session_id AND s.deleted_at IS NULL
$$;
