"""JAX's persistent compilation cache, switched on in the user's cache directory."""

from __future__ import annotations

import os
from pathlib import Path

import jax


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
