"""Where the database is, and how deleted rows are hidden there."""

import os

URL = os.environ.get("ACCOUNTS_URL", "postgresql+psycopg:///accounts")

#: live_view, swap, or none: no soft delete at all.
HIDE = os.environ.get("ACCOUNTS_HIDE", "live_view")


def visible(table: str) -> str:
    """What the application reads and writes: live rows only."""
    return table + "_live" if HIDE == "live_view" else table


def base(table: str) -> str:
    """The table itself, with the deleted rows."""
    return table + "_all" if HIDE == "swap" else table
