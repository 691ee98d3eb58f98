"""How programs are compiled: in other threads while the caller goes on, and kept between processes in JAX's cache."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any
from weakref import WeakSet

import jax

_COMPILERS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="compiler")
_BEGUN: WeakSet[Future[Any]] = WeakSet()


def cache_directory() -> Path:
    """Where compiled programs are kept: $GPAE_CACHE_DIR, or gpae/jax in the user's cache directory."""
    if chosen := os.environ.get("GPAE_CACHE_DIR"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpae" / "jax"


def enable_compilation_cache() -> None:
    """Keeps compiled programs between processes, unless the user has chosen a cache of her own or none.

    JAX_COMPILATION_CACHE_DIR and JAX_ENABLE_COMPILATION_CACHE are left as they are found.
    """
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(cache_directory()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


class Program:
    """A function that is traced at once, in the caller's thread, and compiled in another; a call waits for it."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, **options: Any):
        """Traces `function`.

        Args:
          function: what to compile.
          arguments: arrays, or what has their shapes and dtypes.
          options: of `jax.jit`.
        """
        with _uncollected():
            traced = jax.jit(function, **options).trace(*arguments)
            self.shapes: Any = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), traced.out_info)
            self._lower = traced.lower
            self._compiled: Future[Any] | None = None

    def compile(self, *, last: bool = False) -> None:
        """Begins to compile it, if that has not begun.

        Args:
          last: when all that has begun so far is ready, since it would take their cores from them.
        """
        if self._compiled is None:
            with _uncollected():
                lowered = self._lower()
            before = list(_BEGUN) if last else []
            self._compiled = _COMPILERS.submit(lambda: (wait(before), lowered.compile())[1])
            _BEGUN.add(self._compiled)

    @property
    def ready(self) -> bool:
        """Whether a call begins at once."""
        return self._compiled is not None and self._compiled.done()

    def wait(self) -> Any:
        """The compiled program."""
        self.compile()
        assert self._compiled is not None
        return self._compiled.result()

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns."""
        return self.wait()(*arguments)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Tracing makes many objects that live on: looking for garbage among them takes a tenth of its time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
