"""What the accounts promise, on a real server: python -m unittest. The database of ACCOUNTS_URL is emptied; its name must
end in _test, and it must have pg_upkeep.

The tests of Plain run against schema.sql and functions.sql, the others against the migration and the models.
"""

import datetime
import unittest
import uuid
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

import settings
from models import Login, User, UserSession, active_session_count, failed_logins_by_ip, logins_since, newest_users, user_by_email
from settings import HIDE, base, visible

HERE = Path(__file__).resolve().parent
TABLES = ("users", "user_sessions", "login_history")
YEAR = datetime.timedelta(days=365)


def soon() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


class WithDatabase(unittest.TestCase):
    """A schema of its own for each class, gone afterwards."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.engine = create_engine(settings.URL)
        if not cls.engine.url.database.endswith("_test"):
            raise RuntimeError(f"{cls.engine.url.database} is no database for tests")
        with cls.engine.begin() as connection:
            connection.execute(text("DROP SCHEMA IF EXISTS public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        cls.prepare()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.engine.dispose()

    def session(self, actor: str = "") -> Session:
        return Session(self.engine, info={"actor": actor})

    def value(self, sql: str, **arguments: object) -> object:
        with self.engine.begin() as connection:
            return connection.execute(text(sql), arguments).scalar_one()

    def fails_with(self, sqlstate: str, error: DBAPIError) -> None:
        self.assertEqual(error.orig.sqlstate, sqlstate, error)


class Migrated(WithDatabase):
    @classmethod
    def prepare(cls) -> None:
        command.upgrade(Config(str(HERE / "alembic.ini")), "head")

    def new_user(self, name: str, **more: object) -> uuid.UUID:
        with self.session(actor="signup") as session:
            user = User(
                username=name, email=f"{name}@example.com", first_name="First", last_name=name, password_hash="x", **more
            )
            session.add(user)
            session.commit()
            return user.id


class Stamps(Migrated):
    def test_who_and_when_are_kept_by_the_database(self) -> None:
        key = self.new_user("stamped")
        with self.session(actor="support") as session:
            user = session.get_one(User, key)
            self.assertEqual((user.created_by, user.updated_by, user.version), ("signup", "signup", 1))
            before = user.updated_at
            user.first_name = "Second"
            session.commit()
            self.assertEqual((user.created_by, user.updated_by, user.version), ("signup", "support", 2))
            self.assertGreater(user.updated_at, before)
        with self.session() as session:
            user = session.get_one(User, key)
            user.created_by = "forged"
            user.last_name = "changed"
            session.commit()
            self.assertEqual(user.created_by, "signup")
            self.assertEqual(user.updated_by, session.scalar(text("SELECT current_user")))

    def test_a_stale_user_is_not_written(self) -> None:
        key = self.new_user("contested")
        with self.session() as first, self.session() as second:
            mine, theirs = first.get_one(User, key), second.get_one(User, key)
            theirs.first_name = "theirs"
            second.commit()
            mine.first_name = "mine"
            with self.assertRaises(StaleDataError):
                first.commit()
            first.rollback()
            with self.assertRaises(StaleDataError):
                self.delete_stale(first, key)
        # Without the WHERE of the ORM the database says it.
        with self.assertRaises(DBAPIError) as caught:
            self.value(
                f"UPDATE {visible('users')} SET first_name = 'mine', version = 2 WHERE id = :key RETURNING id", key=key
            )
        self.fails_with("40001", caught.exception)
        self.assertEqual(self.value(f"SELECT first_name FROM {visible('users')} WHERE id = :key", key=key), "theirs")

    def delete_stale(self, session: Session, key: uuid.UUID) -> None:
        """Deletes a user whom somebody else has changed since he was read."""
        user = session.get_one(User, key)
        with self.session() as other:
            other.get_one(User, key).last_name = "changed again"
            other.commit()
        session.delete(user)
        session.commit()


class Functions(Migrated):
    def test_five_failures_lock_for_half_an_hour(self) -> None:
        key = self.new_user("forgetful")
        fail = "SELECT record_failed_login(:key, '192.0.2.1', 'test')"
        self.assertEqual([self.value(fail, key=key) for _ in range(4)], [1, 2, 3, 4])
        self.assertIs(self.value("SELECT is_locked(:key)", key=key), False)
        self.assertEqual(self.value(fail, key=key), 5)
        self.assertIs(self.value("SELECT is_locked(:key)", key=key), True)
        with self.session() as session:
            left = session.get_one(User, key).locked_until - soon()
            self.assertTrue(datetime.timedelta(minutes=29) < left <= datetime.timedelta(minutes=30), left)
            risks = session.scalars(select(Login.risk_score).where(Login.user_id == key).order_by(Login.risk_score))
            self.assertEqual(list(risks), [20, 40, 60, 80, 100])
        self.assertIs(self.value("SELECT unlock_account(:key)", key=key), True)
        self.assertIs(self.value("SELECT is_locked(:key)", key=key), False)
        self.value("SELECT lock_account(:key, '1 day')", key=key)
        self.assertIs(self.value("SELECT is_locked(:key)", key=key), True)
        with self.assertRaises(DBAPIError) as caught:
            self.value(fail, key=uuid.uuid4())
        self.fails_with("P0002", caught.exception)

    def test_a_success_ends_the_count_and_notes_new_places(self) -> None:
        key = self.new_user("traveler")
        login = "SELECT record_successful_login(:key, :ip, 'test', 'somewhere')"
        self.value("SELECT record_failed_login(:key, '192.0.2.7', 'test')", key=key)
        for ip in ("192.0.2.7", "192.0.2.7", "198.51.100.9"):
            self.value(login, key=key, ip=ip)
        with self.session() as session:
            user = session.get_one(User, key)
            self.assertEqual((user.failed_attempts, str(user.last_login_ip)), (0, "198.51.100.9"))
            since = session.scalars(logins_since(key, soon() - YEAR)).all()
            self.assertEqual([(str(row.ip), row.success, row.is_unusual) for row in since if row.is_unusual],
                             [("198.51.100.9", True, True)])
            self.assertEqual(len(since), 4)

    def test_sessions_end_and_are_extended(self) -> None:
        key = self.new_user("busy")
        with self.session() as session:
            entry = UserSession(user_id=key, token="t1", expires_at=soon() - datetime.timedelta(hours=1))
            session.add(entry)
            session.commit()
            number = entry.id
        look = "SELECT is_expired(:key)::text || is_active(:key)::text"
        self.assertEqual(self.value(look, key=number), "truefalse")
        self.value("SELECT extend_session(:key, 2)", key=number)
        self.assertEqual(self.value(look, key=number), "falsetrue")
        with self.session() as session:
            self.assertEqual(session.scalar(active_session_count(key)), 1)
            session.get_one(UserSession, number).revoked_at = soon()
            session.commit()
            self.assertEqual(session.scalar(active_session_count(key)), 0)
        self.assertIs(self.value("SELECT is_active(:key)", key=number), False)
        self.assertIsNone(self.value("SELECT extend_session(:key, 2)", key=number))

    def test_secrets_stay_here(self) -> None:
        key = self.new_user("secretive", mfa_enabled=True, mfa_secret="s", backup_codes=["1", "2"])
        shown = self.value("SELECT user_to_jsonb(:key)", key=key)
        self.assertEqual(shown["username"], "secretive")
        self.assertTrue({"password_hash", "mfa_secret", "backup_codes"}.isdisjoint(shown))
        self.assertEqual(self.value("SELECT full_name(:key)", key=key), "First secretive")
        self.assertLess(self.value("SELECT password_age(:key)", key=key), datetime.timedelta(hours=1))

    def test_names_are_unique(self) -> None:
        self.new_user("only")
        with self.assertRaises(IntegrityError) as caught:
            self.new_user("only")
        self.fails_with("23505", caught.exception)


class Plans(Migrated):
    def test_the_usual_queries_are_index_scans(self) -> None:
        users, sessions, logins = (base(table) for table in TABLES)
        with self.engine.begin() as connection:
            connection.execute(text(
                f"INSERT INTO {users} (username, email, first_name, last_name, password_hash, created_at)"
                " SELECT 'u' || n, 'u' || n || '@example.com', 'F', 'L', 'x', now() - n * interval '1 minute'"
                " FROM generate_series(1, 5000) n"))
            connection.execute(text(
                f"INSERT INTO {sessions} (user_id, token, expires_at)"
                f" SELECT id, 'token ' || username || n, now() + (n - 2) * interval '1 hour' FROM {users}, generate_series(1, 4) n"))
            connection.execute(text(
                f"INSERT INTO {logins} (user_id, attempted_at, ip, success, failure_reason)"
                " SELECT id, now() - n * interval '1 day', ('10.0.' || n || '.' || failed_attempts + abs(hashtext(username)) % 250)::inet,"
                f" n % 3 > 0, CASE WHEN n % 3 = 0 THEN 'wrong password' END FROM {users}, generate_series(1, 8) n"))
            for table in (users, sessions, logins):
                connection.execute(text(f"ANALYZE {table}"))
            key = connection.execute(text(f"SELECT id FROM {users} WHERE username = 'u77'")).scalar_one()
        week = soon() - datetime.timedelta(days=7)
        with self.session() as session:
            for query, index in (
                (newest_users(), "users_newest"),
                (user_by_email("U77@example.com"), "users_email_key"),
                (logins_since(key, week), "login_history_of_user"),
                (active_session_count(key), "user_sessions_active"),
                (failed_logins_by_ip("10.0.3.4", week), "login_history_failed"),
            ):
                self.assertIsNotNone(session.execute(query).first(), query)
                nodes = list(self.nodes(session, query))
                self.assertEqual({node.get("Index Name") for node in nodes if "Index Name" in node}, {index}, nodes)
                self.assertNotIn("Seq Scan", {node["Node Type"] for node in nodes}, nodes)

    def nodes(self, session: Session, query: object) -> object:
        compiled = query.compile(self.engine, compile_kwargs={"render_postcompile": True})
        rows = session.connection().exec_driver_sql("EXPLAIN (FORMAT JSON) " + str(compiled), compiled.params)
        left = [rows.scalar_one()[0]["Plan"]]
        while left:
            node = left.pop()
            left.extend(node.get("Plans", []))
            yield node


class Plain(WithDatabase):
    """The same in SQL alone."""

    @classmethod
    def prepare(cls) -> None:
        with psycopg.connect(settings.URL.replace("+psycopg", ""), autocommit=True) as connection:
            scripts = ["schema.sql", "functions.sql"] + (["soft_delete.sql"] if HIDE != "none" else [])
            for script in scripts:
                source = (HERE / script).read_text(encoding="utf-8")
                connection.execute(source.replace(":'hide'", f"'{HIDE}'"))

    def test_an_account_lives_its_life(self) -> None:
        key = self.value(
            f"INSERT INTO {visible('users')} (username, email, first_name, last_name, password_hash)"
            " VALUES ('plain', 'plain@example.com', 'Plain', 'Sql', 'x') RETURNING id")
        for _ in range(5):
            self.value("SELECT record_failed_login(:key, '192.0.2.1', 'psql')", key=key)
        self.assertIs(self.value("SELECT is_locked(:key)", key=key), True)
        self.assertIs(self.value("SELECT unlock_account(:key)", key=key), True)
        self.value("SELECT record_successful_login(:key, '192.0.2.1', 'psql')", key=key)
        self.assertEqual(
            self.value(f"SELECT version FROM {visible('users')} WHERE id = :key AND updated_at IS NOT NULL", key=key), 8)


class SoftDelete(Migrated):
    def populate(self, name: str) -> uuid.UUID:
        key = self.new_user(name)
        with self.session() as session:
            session.add_all(UserSession(user_id=key, token=f"{name} {n}") for n in range(2))
            session.add_all(Login(user_id=key, success=True, ip="192.0.2.5") for n in range(3))
            session.commit()
        return key

    def live(self, key: uuid.UUID) -> list[object]:
        return [
            self.value(f"SELECT count(*) FROM {visible(table)} WHERE {column} = :key", key=key)
            for table, column in zip(TABLES, ("id", "user_id", "user_id"))
        ]

    def deletion(self, key: uuid.UUID) -> uuid.UUID:
        return self.value(f"SELECT deletion_id FROM {base('users')} WHERE id = :key", key=key)

    def delete(self, key: uuid.UUID) -> uuid.UUID:
        with self.session(actor="support") as session:
            session.delete(session.get_one(User, key))
            session.commit()
        return self.deletion(key)

    def test_a_deleted_user_takes_his_rows_along_and_brings_them_back(self) -> None:
        key = self.populate("leaver")
        other = self.populate("stayer")
        deletion = self.delete(key)
        self.assertEqual((self.live(key), self.live(other)), ([0, 0, 0], [1, 2, 3]))
        rows = self.value("SELECT rows FROM upkeep.deletions WHERE id = :id", id=deletion)
        self.assertEqual(sorted(rows.values()), [1, 2, 3])
        self.assertEqual(self.value("SELECT deleted_by FROM upkeep.deletions WHERE id = :id", id=deletion), "support")
        self.assertEqual(self.value("SELECT upkeep.undelete(:id)", id=deletion), 6)
        self.assertEqual(self.live(key), [1, 2, 3])
        with self.session() as session:
            user = session.get_one(User, key)
            self.assertEqual((len(user.sessions), len(user.logins), user.created_by), (2, 3, "signup"))

    def test_a_deleted_email_can_register_again(self) -> None:
        key = self.populate("again")
        deletion = self.delete(key)
        successor = self.new_user("again")
        with self.assertRaises(DBAPIError) as caught:
            self.value("SELECT upkeep.undelete(:id)", id=deletion)
        self.fails_with("23505", caught.exception)
        self.delete(successor)
        self.assertEqual(self.value("SELECT upkeep.undelete(:id)", id=deletion), 6)
        with self.session() as session:
            self.assertEqual(session.scalars(user_by_email("Again@example.com")).one().id, key)

    def test_one_statement_counts_the_rows_it_names(self) -> None:
        key = self.populate("counted")
        with self.engine.begin() as connection:
            deleted = connection.execute(text(f"DELETE FROM {visible('users')} WHERE id = :key"), {"key": key})
            self.assertEqual(deleted.rowcount, 1)
        self.assertEqual(self.live(key), [0, 0, 0])

    def test_a_session_of_a_deleted_user_cannot_begin(self) -> None:
        key = self.populate("gone")
        self.delete(key)
        with self.session() as session, self.assertRaises(IntegrityError) as caught:
            session.add(UserSession(user_id=key, token="late"))
            session.commit()
        self.fails_with("23503", caught.exception)

    def test_nothing_is_deleted_for_good(self) -> None:
        key = self.populate("kept")
        with self.assertRaises(DBAPIError):
            self.value(f"DELETE FROM {base('users')} WHERE id = :key RETURNING id", key=key)
        self.assertEqual(self.live(key), [1, 2, 3])


def load_tests(loader: unittest.TestLoader, _tests: object, _pattern: object) -> unittest.TestSuite:
    classes = [Stamps, Functions, Plans, Plain] + ([SoftDelete] if HIDE != "none" else [])
    return unittest.TestSuite(loader.loadTestsFromTestCase(one) for one in classes)


if __name__ == "__main__":
    unittest.main()
