"""The whole state of a run on disk, such that a resumed run equals the unbroken one bit for bit.

A checkpoint is one folder `checkpoints/<update>/` that appears in one piece: Orbax writes beside it and renames at the
end. It holds several *items* (trees of arrays), so that the policy can be read without the optimiser, and "about", its
notes: for every array its path, shape, dtype and checksum, the update, what the trainer wants to remember, and a
checksum of the notes themselves. Latest state and best parameters are items of the same checkpoint: one that a crash
leaves behind never has the one without the other. Only who writes imports Orbax (`gpae.runs.stored` reads).

Format 1, of gpae 0.1, has no checksum of the notes and no update in them. It is still read. Where several processes
train one run, each writes what lies on its devices; an array that is shared out has a checksum of its pieces' checksums
(format 3).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gpae.errors import UserError
from gpae.runs import schema
from gpae.runs.checksums import checksum, checksums
from gpae.runs.files import LARGEST, clear_disk_errors, disk_error, refuse_irregular
from gpae.runs.stored import read_arrays
from gpae.types import PyTree

_FORMAT = 2
_IN_PIECES = 3
_ABOUT = "about"
_NO_DAMAGE = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Of reading: the checkpoint may well be whole."""


class Checkpoints:
    """The checkpoints of one run. Use as a context manager, or call `close`."""

    def __init__(self, path: str | Path, *, read_only: bool = False, keep: int = 2):
        """Opens the folder of checkpoints.

        Args:
          path: the run's `checkpoints` folder; made if missing, unless `read_only`.
          read_only: write nothing; may be done while another process trains.
          keep: how many checkpoints to keep. Two, so that a run whose latest one is damaged can go on.

        Raises:
          UserError: the folder cannot be made or is a link; or it is not there and `read_only`.
        """
        self.path = Path(path).absolute()
        _refuse_irregular_below(self.path)
        self._keep = None if read_only else keep
        if read_only:
            if not self.path.is_dir():
                raise UserError(f"{self.path} holds no checkpoint")
            return
        with clear_disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            _ = self._orbax  # removes what was left half written

    @cached_property
    def _orbax(self) -> Any:
        import orbax.checkpoint as ocp

        _silence_orbax()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self._keep, create=False, cleanup_tmp_directories=True, enable_async_checkpointing=False
        )
        return ocp.CheckpointManager(self.path, options=options)

    @property
    def updates(self) -> list[int]:
        """The updates whose checkpoints are there, in order. One that is being written has another name."""
        with clear_disk_errors(self.path, "read"), contextlib.suppress(FileNotFoundError):
            return sorted(int(name) for name in os.listdir(self.path) if name.isascii() and name.isdecimal())
        return []

    @property
    def latest(self) -> int | None:
        """The update of the latest whole checkpoint; None if there is none."""
        return max(self.updates, default=None)

    def save(self, update: int, items: Mapping[str, PyTree], info: Mapping[str, Any]) -> None:
        """Saves, and returns when everything is on disk (so the arrays may be donated afterwards).

        Killed at any moment, the checkpoints before it still load.

        Args:
          update: later than `latest`.
          items: name -> tree of JAX or NumPy arrays; typed keys too.
          info: what else to remember; plain JSON.

        Raises:
          UserError: the disk is full, writing is not permitted, or the folder was removed. The checkpoints before are
            intact.
          ValueError: not later than `latest`.
          TypeError: a leaf is not an array.
        """
        if self.latest is not None and update <= self.latest:
            raise ValueError(f"update {update} is not later than the checkpoint of update {self.latest}")
        if not self.path.is_dir():  # Orbax would make it again, without the run around it
            raise UserError(f"{self.path} was removed while it was in use; update {update} is not saved")
        arrays: dict[str, dict[str, Any]] = {}
        leaves: dict[str, list[dict[str, Any]]] = {}
        for name, tree in items.items():
            data = [_data(path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
            noted = checksums(data)
            leaves[name] = [d | sums for d, sums in zip(_describe(tree), noted, strict=True)]
            # Orbax stores no arrays of size 0; their description is enough.
            arrays[name] = {_key(i): x for i, x in enumerate(data) if x.size}
        import orbax.checkpoint as ocp

        saved = {name: ocp.args.StandardSave(a) for name, a in arrays.items() if a}
        pieces = any("pieces" in leaf for of_item in leaves.values() for leaf in of_item)
        about = {"format": _IN_PIECES if pieces else _FORMAT, "update": update, "leaves": leaves, "info": dict(info)}
        about["sum"] = _sum(about)
        with clear_disk_errors(self.path), _quiet():
            self._orbax.save(update, args=ocp.args.Composite(**saved, **{_ABOUT: ocp.args.JsonSave(about)}))
            self._orbax.wait_until_finished()

    def info(self, update: int | None = None) -> dict[str, Any]:
        """What was remembered with the checkpoint of `update` (default: the latest).

        Raises:
          UserError: there is no such checkpoint, or it is damaged or foreign.
        """
        return self._about(self._choose(update))["info"]

    def restore(
        self, templates: Mapping[str, PyTree], update: int | None = None
    ) -> tuple[dict[str, PyTree], dict[str, Any]]:
        """The items named in `templates`, bit for bit as they were saved, and the info.

        Args:
          templates: item -> a tree of the same structure, shapes and dtypes; arrays or `jax.ShapeDtypeStruct`s. Where
            the template is a NumPy array, so is the result; an array placed on given devices is placed there again.
            "params.actor" is that field of the item "params", and no more of it is read.
          update: which checkpoint; default the latest.

        Raises:
          UserError: there is no such checkpoint; it is damaged (files missing or cut, contents changed, renamed); it is
            not ours; it does not have the structure, shapes or dtypes of the templates. Nothing is returned then.
        """
        update = self._choose(update)
        about = self._about(update)
        leaves = {name: self._leaves(update, about, name) for name in templates}
        for name, template in templates.items():
            self._compare(update, list(leaves[name].values()), template, name)
        items = {}
        for name, template in templates.items():
            data = self._read(update, name, leaves[name])
            like, structure = jax.tree.flatten(template)
            described = leaves[name].values()
            items[name] = jax.tree.unflatten(
                structure, [_placed(x, d["key"], t) for x, d, t in zip(data, described, like, strict=True)]
            )
        return items, about["info"]

    def arrays(self, item: str, update: int | None = None) -> dict[str, np.ndarray]:
        """Path -> array of everything in an item, as it is stored: what it is like need not be known beforehand.

        Raises:
          UserError: there is no such checkpoint or item, or it is damaged.
        """
        update = self._choose(update)
        leaves = self._leaves(update, self._about(update), item)
        return {d["path"]: x for d, x in zip(leaves.values(), self._read(update, item, leaves), strict=True)}

    def close(self) -> None:
        """Ends Orbax's threads."""
        if self._keep is not None:
            self._orbax.close()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _choose(self, update: int | None) -> int:
        there = self.updates
        chosen = max(there, default=None) if update is None else update
        if chosen is None:
            raise UserError(f"{self.path} holds no checkpoint")
        if chosen not in there:
            known = ", ".join(map(str, there)) or "none"
            raise UserError(f"{self.path} holds no checkpoint of update {chosen}; there are: {known}")
        return chosen

    def _about(self, update: int) -> dict[str, Any]:
        """The notes of a checkpoint, checked."""
        file = self.path / str(update) / _ABOUT / "metadata"
        about = self._checked(update, lambda: json.loads(file.read_bytes()))
        if not isinstance(about, dict) or about.get("format") not in (1, _FORMAT, _IN_PIECES):
            raise UserError(f"checkpoint {self.path / str(update)} was not made by this version of gpae")
        old = about["format"] == 1
        # A changed digit of a later format does not make it one of format 1.
        if not ({"sum", "update"}.isdisjoint(about) if old else about.get("sum") == _sum(about)):
            raise self._damaged(update, "its notes are not what was saved")
        schema.notes(about, file, complete=old)
        noted = about["info"].get("update", update) if old else about["update"]
        if noted != update:
            raise self._damaged(update, f"it was saved as that of update {noted}, and renamed or changed")
        return about

    def _leaves(self, update: int, about: Mapping[str, Any], item: str) -> dict[str, dict[str, Any]]:
        """Key -> description, of the leaves of an item, or of a field of one."""
        whole, _, field = item.partition(".")
        if whole not in about["leaves"]:
            there = ", ".join(about["leaves"])
            raise UserError(f"checkpoint {self.path / str(update)} has no {whole!r}; it holds {there}")
        leaves = {_key(i): d for i, d in enumerate(about["leaves"][whole])}
        if not field:
            return leaves
        start, ends = f".{field}", (f".{field}[", f".{field}.")
        return {k: d | {"path": d["path"].removeprefix(start)} for k, d in leaves.items() if d["path"].startswith(ends)}

    def _read(self, update: int, item: str, leaves: Mapping[str, dict[str, Any]]) -> list[np.ndarray]:
        """The arrays of an item, each of them what was saved."""
        folder = self.path / str(update) / item.partition(".")[0]
        wanted = {key: (tuple(d["shape"]), d["dtype"]) for key, d in leaves.items() if _size(d)}
        loaded = self._checked(update, lambda: read_arrays(folder, wanted))
        found = []
        for key, d in leaves.items():
            x = loaded[key] if _size(d) else np.empty(d["shape"], d["dtype"])
            if checksum(x, d.get("pieces")) != d["crc32"]:
                raise self._damaged(update, f"{item}{d['path']} is not what was saved")
            found.append(x)
        return found

    def _checked(self, update: int, read: Callable[[], Any]) -> Any:
        """What `read` returns of a checkpoint; whatever is wrong is said in one line."""
        _refuse_irregular_below(self.path / str(update))
        try:
            return read()
        except Exception as error:  # TensorStore and json raise many kinds
            if getattr(error, "errno", None) in _NO_DAMAGE and (clear := disk_error(error, self.path, "read")):
                raise clear from error
            words = (str(error).splitlines() or [""])[0][:200]
            raise self._damaged(update, f"{type(error).__name__}: {words}") from error

    def _damaged(self, update: int, what: str) -> UserError:
        others = [other for other in self.updates if other != update]
        remedy = f"; remove that folder to use the one of update {max(others)}" if others else ""
        return UserError(f"checkpoint {self.path / str(update)} is damaged ({what}){remedy}")

    def _compare(self, update: int, there: list[dict[str, Any]], template: PyTree, item: str) -> None:
        here = _describe(template)
        saved = {d["path"]: _words(d) for d in there}
        wanted = {d["path"]: _words(d) for d in here}
        differing = [
            f"{item}{path} is {saved.get(path, 'absent')} there and {wanted.get(path, 'absent')} here"
            for path in {**saved, **wanted}
            if saved.get(path) != wanted.get(path)
        ]
        if differing:
            more = f", and {len(differing) - 3} more" if len(differing) > 3 else ""
            raise UserError(f"checkpoint {self.path / str(update)} does not fit: {', '.join(differing[:3])}{more}")
        if [(d["path"], _words(d)) for d in there] != [(d["path"], _words(d)) for d in here]:
            raise self._damaged(update, f"the arrays of {item} are in another order")


def _silence_orbax() -> None:
    """What Orbax has to say is raised as well; its threads say it once more, even after that."""
    logging.getLogger("absl").setLevel(logging.CRITICAL + 1)
    before = sys.unraisablehook
    if getattr(before, "__module__", None) != __name__:

        def hook(unraisable: Any) -> None:
            # Reads still under way when another one has failed.
            if "Event loop is closed" not in str(unraisable.exc_value):
                before(unraisable)

        sys.unraisablehook = hook
        logging.getLogger("asyncio").addFilter(lambda record: "tensorstore_spec" not in record.getMessage())


def _refuse_irregular_below(folder: Path) -> None:
    """Only files and folders of its own are read: a link may lead anywhere, and a pipe would never end."""
    refuse_irregular(folder, folder=True)
    for place, folders, files in os.walk(folder):
        for name in folders:
            refuse_irregular(Path(place, name), folder=True)
        for name in files:
            # What is not an array's data is read at once.
            refuse_irregular(Path(place, name), most=None if Path(place).name == "d" else LARGEST)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _sum(about: Mapping[str, Any]) -> str:
    """Checksum of a checkpoint's notes, as they are after they have been written and read."""
    rest = json.loads(json.dumps({name: value for name, value in about.items() if name != "sum"}))
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _key(index: int) -> str:
    return f"{index:05d}"


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _data(path: Any, leaf: Any) -> Any:
    """A leaf as it is stored: in NumPy, or where it lies if no process has all devices."""
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
        raise TypeError(f"{jax.tree_util.keystr(path)} is {type(leaf).__name__}, not an array")
    if isinstance(leaf, jax.Array) and _is_key(leaf):
        leaf = jax.random.key_data(leaf)
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return leaf
    return np.asarray(jax.device_get(leaf))


def _describe(tree: PyTree) -> list[dict[str, Any]]:
    """Path, shape and dtype of every leaf as it is stored; "key" names the generator of typed keys."""
    described = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        key = str(leaf.dtype) if _is_key(leaf) else None
        stored = jax.eval_shape(jax.random.key_data, leaf) if key else leaf
        described.append(
            {
                "path": jax.tree_util.keystr(path),
                "shape": [int(n) for n in stored.shape],
                "dtype": str(stored.dtype),
                "key": key,
            }
        )
    return described


def _words(d: Mapping[str, Any]) -> str:
    return f"{d['key'] or d['dtype']}{d['shape']}"


def _size(d: Mapping[str, Any]) -> int:
    return int(np.prod(d["shape"], dtype=np.int64))


def _placed(x: np.ndarray, key: str | None, like: Any) -> Any:
    if key is None and not isinstance(like, jax.Array | jax.ShapeDtypeStruct):
        return x
    array = jax.numpy.array(x)
    if key is not None:
        array = jax.random.wrap_key_data(array, impl=_implementations()[key])
    placement = like.sharding if isinstance(like, jax.ShapeDtypeStruct) or like.committed else None
    return array if placement is None else jax.device_put(array, placement)


@functools.cache
def _implementations() -> dict[str, str]:
    """Dtype of typed keys -> the generator's name. Made when it is needed: importing starts no backend of JAX's."""
    return {
        str(jax.eval_shape(lambda name=name: jax.random.key(0, impl=name)).dtype): name
        for name in ("threefry2x32", "rbg", "unsafe_rbg")
    }
