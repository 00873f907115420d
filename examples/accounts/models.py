"""The accounts as SQLAlchemy 2 models. What the database stamps is fetched, never sent."""

import datetime
import uuid
from typing import Any, Optional

from sqlalchemy import FetchedValue, ForeignKey, event, func, select, text
from sqlalchemy.dialects.postgresql import INET, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from settings import visible


class Base(DeclarativeBase):
    type_annotation_map = {dict[str, Any]: JSONB, list[str]: JSONB}


def stamped(**more: Any) -> Any:
    """A column that only the database writes."""
    return mapped_column(server_default=FetchedValue(), **more)


def uuid_key() -> Any:
    return mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))


class Timestamps:
    created_at: Mapped[datetime.datetime] = stamped()
    updated_at: Mapped[datetime.datetime] = stamped(server_onupdate=FetchedValue())


class User(Timestamps, Base):
    __tablename__ = visible("users")

    id: Mapped[uuid.UUID] = uuid_key()
    username: Mapped[str]
    email: Mapped[str]
    first_name: Mapped[str]
    last_name: Mapped[str]
    password_hash: Mapped[str]
    password_changed_at: Mapped[datetime.datetime] = mapped_column(server_default=func.now())
    failed_attempts: Mapped[int] = mapped_column(server_default=text("0"))
    locked_until: Mapped[Optional[datetime.datetime]]
    last_login_at: Mapped[Optional[datetime.datetime]]
    last_login_ip: Mapped[Optional[str]] = mapped_column(INET)
    mfa_enabled: Mapped[bool] = mapped_column(server_default=text("false"))
    mfa_secret: Mapped[Optional[str]]
    backup_codes: Mapped[list[str]] = mapped_column(server_default=text("'[]'"))
    created_by: Mapped[str] = stamped()
    updated_by: Mapped[str] = stamped(server_onupdate=FetchedValue())
    version: Mapped[int] = mapped_column()

    # The cascade is the database's.
    sessions: Mapped[list["UserSession"]] = relationship(back_populates="user", passive_deletes="all")
    logins: Mapped[list["Login"]] = relationship(back_populates="user", passive_deletes="all")

    # Sends what was read plus one: the mode `incremented`.
    __mapper_args__ = {"version_id_col": version}

    @property
    def full_name(self) -> str:
        return f"{self.first_name} {self.last_name}"


class UserSession(Timestamps, Base):
    __tablename__ = visible("user_sessions")

    id: Mapped[uuid.UUID] = uuid_key()
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(User.id))
    token: Mapped[str]
    expires_at: Mapped[datetime.datetime] = mapped_column(server_default=text("now() + interval '24 hours'"))
    revoked_at: Mapped[Optional[datetime.datetime]]
    ip: Mapped[Optional[str]] = mapped_column(INET)
    user_agent: Mapped[Optional[str]]

    user: Mapped[User] = relationship(back_populates="sessions")


class Login(Base):
    __tablename__ = visible("login_history")

    id: Mapped[uuid.UUID] = uuid_key()
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(User.id))
    attempted_at: Mapped[datetime.datetime] = mapped_column(server_default=func.now())
    ip: Mapped[Optional[str]] = mapped_column(INET)
    user_agent: Mapped[Optional[str]]
    location: Mapped[Optional[str]]
    success: Mapped[bool]
    failure_reason: Mapped[Optional[str]]
    risk_score: Mapped[int] = mapped_column(server_default=text("0"))
    is_unusual: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime.datetime] = stamped()

    user: Mapped[User] = relationship(back_populates="logins")


@event.listens_for(Session, "after_begin")
def tell_actor(session: Session, _transaction: Any, connection: Any) -> None:
    """Who works in this transaction: Session(engine, info={"actor": ...})."""
    if actor := session.info.get("actor"):
        connection.execute(select(func.set_config("upkeep.actor", actor, True)))


# The usual queries. Views show live rows only, so that none of these has to say it.


def newest_users(limit: int = 20) -> Any:
    return select(User).order_by(User.created_at.desc()).limit(limit)


def user_by_email(email: str) -> Any:
    return select(User).where(User.email == email.lower())


def logins_since(user_id: uuid.UUID, since: datetime.datetime) -> Any:
    where = (Login.user_id == user_id, Login.attempted_at >= since)
    return select(Login).where(*where).order_by(Login.attempted_at.desc())


def active_session_count(user_id: uuid.UUID) -> Any:
    where = (UserSession.user_id == user_id, UserSession.expires_at > func.now(), UserSession.revoked_at.is_(None))
    return select(func.count()).select_from(UserSession).where(*where)


def failed_logins_by_ip(ip: str, since: datetime.datetime) -> Any:
    where = (Login.ip == ip, Login.attempted_at >= since, ~Login.success)
    return select(func.count()).select_from(Login).where(*where)
