"""tuning.db, in which Optuna keeps what it knows of a tuning's trials (SQLite)."""

from __future__ import annotations

import json
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpae.errors import UserError
from gpae.studies.tuning import DATABASE, Method, Tuning
from gpae.training.config import with_later

if TYPE_CHECKING:
    import optuna


@contextmanager
def database(tuning: Tuning, *, new: bool = True) -> Iterator[dict[str, optuna.Study]]:
    """A method's name -> Optuna's study.

    Args:
      tuning: whose.
      new: whether those that are not there yet are made. Otherwise they are left out, and nothing is written.

    Raises:
      UserError: Optuna is not installed; the database is damaged, of another file or of another version of Optuna; or
        the disk refuses, also later, while it is used.
    """
    file = tuning.path / DATABASE
    if not new and not file.exists():
        yield {}
        return
    try:
        import optuna
    except ImportError as error:
        raise UserError("optuna is not installed; it comes with `pip install -e '.[tune]'`") from error
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield _studies(tuning, file, new) if new or _begun(file) else {}
    except (SQLAlchemyError, sqlite3.Error, json.JSONDecodeError, optuna.exceptions.StorageInternalError) as error:
        raise _unusable(file, error) from error


def _connect(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=60, check_same_thread=False)


def _begun(file: Path) -> bool:
    """Whether Optuna has made its tables: the one with their version is the last."""
    with closing(_connect(file)) as connection:
        (found,) = connection.execute("select count(*) from sqlite_master where name = 'alembic_version'").fetchone()
        return bool(found and connection.execute("select * from alembic_version").fetchall())


def _studies(tuning: Tuning, file: Path, new: bool) -> dict[str, optuna.Study]:
    import optuna
    from sqlalchemy.pool import NullPool

    engine = {"creator": lambda: _connect(file), "poolclass": NullPool}
    try:
        storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs=engine, skip_table_creation=not new)
    except RuntimeError as error:  # it was made by another version of Optuna, and the words say what to do
        raise UserError(f"{file}: {str(error).replace('$STORAGE_URL', f'sqlite:///{file}')}") from error
    there, found = {study.study_name for study in storage.get_all_studies()}, {}
    for method in tuning.methods:
        if new:
            found[method.name] = optuna.create_study(
                storage=storage,
                study_name=method.name,
                direction="maximize",
                load_if_exists=True,
                pruner=_pruner(tuning),
            )
        elif method.name in there:
            found[method.name] = optuna.load_study(storage=storage, study_name=method.name)
        else:
            continue
        _check_same(tuning, method, found[method.name], new)
    return found


def _unusable(file: Path, error: Exception) -> UserError:
    """What to say of an error of the database: SQLite's own words, which SQLAlchemy and Optuna wrap in theirs."""
    cause = error if error.__cause__ is None else error.__cause__
    cause = getattr(cause, "orig", None) or cause
    words = str(cause).splitlines()[0]
    if isinstance(cause, sqlite3.OperationalError):  # read-only, locked, full: what is in there may be whole
        return UserError(f"{file} cannot be used: {words}")
    return UserError(f"{file} cannot be used ({words}); where it is damaged, give the tuning another name")


def _check_same(tuning: Tuning, method: Method, study: optuna.Study, new: bool) -> None:
    """Refuses to put trials beside others of another make."""
    now, before = method.as_dict(), study.user_attrs.get("method")
    if before is None:
        if new:
            study.set_user_attr("method", now)
        return
    now = json.loads(json.dumps(now))
    fixed = with_later(before["settings"], method.config)
    before = before | {"settings": {key: value for key, value in fixed.items() if key not in now["space"]}}
    for part in now:
        if now[part] != before[part]:
            keys = [*now[part], *before[part]] if isinstance(now[part], dict) else []
            names = sorted({key for key in keys if now[part].get(key) != before[part].get(key)})
            what = f"{part} ({', '.join(names)})" if names else part
            which = f"{tuning.path} was begun with another file: {what} of {method.name} differ"
            raise UserError(f"{which}; give the tuning another name")


def _pruner(tuning: Tuning) -> Any:
    import optuna

    if tuning.pruning is None:
        return optuna.pruners.NopPruner()
    rule = tuning.pruning
    return optuna.pruners.PercentilePruner(100 * rule.keep, n_startup_trials=rule.after, n_warmup_steps=rule.start)
