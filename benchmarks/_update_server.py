"""Whole updates of whichever gpae PYTHONPATH names, one for each line read: `update.py` runs it once per checkout."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time

import jax
import jax.numpy as jnp

from gpae.envs import make


def build(changes):
    """The update, compiled, as a function of its state alone, and the first state."""
    from gpae.algorithms.base import Budget
    from gpae.settings import as_arrays
    from gpae.training.compilation import enable_compilation_cache
    from gpae.training.presets import preset

    enable_compilation_cache()
    config = preset("quickstart", "gpae").replace(**changes)
    env = make(config.env)
    budget = Budget(updates=config.num_updates, gradient_steps=jnp.float32(config.gradient_steps))
    settings = as_arrays(config.algorithm)
    state = jax.jit(lambda settings, key: settings.init(env, key))(settings, jax.random.key(0))
    update = jax.jit(lambda settings, state, budget: settings.update(env, state, budget))
    update = update.lower(settings, state, budget).compile()
    return lambda state: update(settings, state, budget), state


def build_before_0_2(changes):
    """The same of commit 344cedd, whose names were others."""
    from gpae.compilation import enable_compilation_cache
    from gpae.presets import preset

    from gpae.algorithms.actor_critic import ActorCritic, hyper_of

    enable_compilation_cache()
    config = dataclasses.replace(preset("quickstart", "gpae"), **changes)
    learner = ActorCritic.build(config, make(config.env))
    hyper, state = hyper_of(config), jax.jit(learner.init)(jax.random.key(0))
    update = jax.jit(learner.update).lower(state, hyper).compile()
    return lambda state: update(state, hyper), state


def main():
    changes, core = json.loads(sys.argv[1]), int(sys.argv[2])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    try:
        update, state = build(changes)
    except ModuleNotFoundError:
        update, state = build_before_0_2(changes)
    state, _ = jax.block_until_ready(update(state))
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        state, _ = jax.block_until_ready(update(state))
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main()
