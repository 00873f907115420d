"""Users, their sessions and their logins, with row stamps and soft delete.

Revision ID: 0001
Revises:
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import INET, JSONB

from settings import HIDE

revision = "0001"
down_revision = None

TIME = sa.DateTime(timezone=True)
LIVE = sa.text("deleted_at IS NULL")


def key() -> sa.Column:
    return sa.Column("id", sa.Uuid, primary_key=True, server_default=sa.text("gen_random_uuid()"))


def of_user() -> sa.Column:
    return sa.Column("user_id", sa.Uuid, sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False)


def text(name: str, **more: object) -> sa.Column:
    return sa.Column(name, sa.Text, **more)


def number(name: str) -> sa.Column:
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")


def flag(name: str) -> sa.Column:
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false())


def upgrade() -> None:
    op.create_table(
        "users",
        key(),
        text("username", nullable=False),
        text("email", nullable=False),
        text("first_name", nullable=False),
        text("last_name", nullable=False),
        text("password_hash", nullable=False),
        sa.Column("password_changed_at", TIME, nullable=False, server_default=sa.func.now()),
        number("failed_attempts"),
        sa.Column("locked_until", TIME),
        sa.Column("last_login_at", TIME),
        sa.Column("last_login_ip", INET),
        flag("mfa_enabled"),
        text("mfa_secret"),
        sa.Column("backup_codes", JSONB, nullable=False, server_default="[]"),
        sa.Column("deleted_at", TIME),
        sa.CheckConstraint("email = lower(email)"),
        sa.CheckConstraint("NOT mfa_enabled OR mfa_secret IS NOT NULL"),
    )
    op.create_table(
        "user_sessions",
        key(),
        of_user(),
        text("token", nullable=False),
        sa.Column("expires_at", TIME, nullable=False, server_default=sa.text("now() + interval '24 hours'")),
        sa.Column("revoked_at", TIME),
        sa.Column("ip", INET),
        text("user_agent"),
        sa.Column("deleted_at", TIME),
    )
    op.create_table(
        "login_history",
        key(),
        of_user(),
        sa.Column("attempted_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("ip", INET),
        text("user_agent"),
        text("location"),
        sa.Column("success", sa.Boolean, nullable=False),
        text("failure_reason"),
        number("risk_score"),
        flag("is_unusual"),
        sa.Column("deleted_at", TIME),
        sa.CheckConstraint("success = (failure_reason IS NULL)"),
    )
    op.execute("SELECT upkeep.enable_timestamps('users'), upkeep.enable_userstamps('users')")
    op.execute("SELECT upkeep.enable_row_version('users')")
    op.execute("SELECT upkeep.enable_timestamps('user_sessions')")
    op.execute("SELECT upkeep.enable_timestamps('login_history', updated_at => NULL)")

    op.create_index("users_username_key", "users", ["username"], unique=True, postgresql_where=LIVE)
    op.create_index("users_email_key", "users", ["email"], unique=True, postgresql_where=LIVE)
    op.create_index("users_newest", "users", [sa.text("created_at DESC")], postgresql_where=LIVE)
    op.create_index("user_sessions_token_key", "user_sessions", ["token"], unique=True, postgresql_where=LIVE)
    op.create_index(
        "user_sessions_active",
        "user_sessions",
        ["user_id", "expires_at"],
        postgresql_where=sa.text("deleted_at IS NULL AND revoked_at IS NULL"),
    )
    op.create_index(
        "login_history_of_user", "login_history", ["user_id", sa.text("attempted_at DESC")], postgresql_where=LIVE
    )
    op.create_index(
        "login_history_failed",
        "login_history",
        ["ip", "attempted_at"],
        postgresql_where=sa.text("deleted_at IS NULL AND NOT success"),
    )
    op.create_index("user_sessions_user_id", "user_sessions", ["user_id"])
    op.create_index("login_history_user_id", "login_history", ["user_id"])

    if HIDE != "none":
        # Children first: a table whose rows would really be deleted with their parent is refused.
        for table in ("login_history", "user_sessions", "users"):
            op.execute(f"SELECT upkeep.enable_soft_delete('{table}', '{HIDE}')")
    functions = (Path(__file__).resolve().parents[2] / "functions.sql").read_text(encoding="utf-8")
    # Nothing in the file is a parameter.
    op.get_bind().exec_driver_sql(functions, execution_options={"no_parameters": True})


def downgrade() -> None:
    if HIDE != "none":
        for table in ("users", "user_sessions", "login_history"):
            op.execute(f"SELECT upkeep.disable_soft_delete('{table}', 'keep')")
    op.execute(
        "DROP FUNCTION record_failed_login, record_successful_login, lock_account, unlock_account, is_locked, full_name,"
        " password_age, user_to_jsonb, extend_session, is_expired, is_active"
    )
    for table in ("login_history", "user_sessions", "users"):
        op.drop_table(table)
