-- User accounts as an application has them: users, their sessions, their logins. Live rows only matter to unique keys and
-- to the usual queries, hence the partial indexes.

CREATE TABLE users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    username text NOT NULL CHECK (username ~ '^[a-z0-9_.-]{2,40}$'),
    email text NOT NULL CHECK (email = lower(email)),
    first_name text NOT NULL,
    last_name text NOT NULL,
    password_hash text NOT NULL,
    password_changed_at timestamptz NOT NULL DEFAULT now(),
    failed_attempts integer NOT NULL DEFAULT 0,
    locked_until timestamptz,
    last_login_at timestamptz,
    last_login_ip inet,
    mfa_enabled boolean NOT NULL DEFAULT false,
    mfa_secret text,
    backup_codes jsonb NOT NULL DEFAULT '[]',
    deleted_at timestamptz,
    CHECK (NOT mfa_enabled OR mfa_secret IS NOT NULL)
);

CREATE TABLE user_sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    token text NOT NULL,
    expires_at timestamptz NOT NULL DEFAULT now() + interval '24 hours',
    revoked_at timestamptz,
    ip inet,
    user_agent text,
    deleted_at timestamptz
);

CREATE TABLE login_history (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    attempted_at timestamptz NOT NULL DEFAULT now(),
    ip inet,
    user_agent text,
    location text,
    success boolean NOT NULL,
    failure_reason text,
    risk_score integer NOT NULL DEFAULT 0 CHECK (risk_score BETWEEN 0 AND 100),
    is_unusual boolean NOT NULL DEFAULT false,
    deleted_at timestamptz,
    CHECK (success = (failure_reason IS NULL))
);

-- Times and users are kept by the database, and a change made for an old version of a user is refused.
SELECT upkeep.enable_timestamps('users');
SELECT upkeep.enable_userstamps('users');
SELECT upkeep.enable_row_version('users');
SELECT upkeep.enable_timestamps('user_sessions');
SELECT upkeep.enable_timestamps('login_history', updated_at => NULL);

CREATE UNIQUE INDEX users_username_key ON users (username) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX users_email_key ON users (email) WHERE deleted_at IS NULL;
CREATE INDEX users_newest ON users (created_at DESC) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX user_sessions_token_key ON user_sessions (token) WHERE deleted_at IS NULL;
CREATE INDEX user_sessions_active ON user_sessions (user_id, expires_at) WHERE deleted_at IS NULL AND revoked_at IS NULL;
CREATE INDEX login_history_of_user ON login_history (user_id, attempted_at DESC) WHERE deleted_at IS NULL;
CREATE INDEX login_history_failed ON login_history (ip, attempted_at) WHERE deleted_at IS NULL AND NOT success;
-- For the foreign keys: a purge looks for children of deleted rows, too.
CREATE INDEX user_sessions_user_id ON user_sessions (user_id);
CREATE INDEX login_history_user_id ON login_history (user_id);
