"""A policy for many environments at once, and what loading one takes."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpae
from gpae.errors import UserError

OLD = Path(__file__).parents[1] / "data" / "run-0.1"
ROWS = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
MASKS = np.ones((5, 3, 2), bool)
MASKS[0, :, 0] = False


@pytest.fixture
def policy(run):
    """Of agents that know their index, in `probe/team`."""
    return run.policy()


def test_a_batch_is_what_each_agent_does_by_itself(run, policy):
    """In five environments over three steps, an episode that begins among them; with and without a legal choice."""
    carry = policy.initial_carry(5)
    alone = {(e, i): run.policy(agent=i) for e in range(5) for i in range(3)}
    memories = {place: one.initial_carry() for place, one in alone.items()}
    for step in range(3):
        is_first = np.arange(5) == 1 if step == 2 else None
        actions, carry = policy.batch(ROWS * (step + 1), carry, MASKS, is_first=is_first)
        assert (actions.shape, actions.dtype) == ((5, 3), jnp.int32)
        for (e, i), one in alone.items():
            memory = one.initial_carry() if step == 2 and e == 1 else memories[e, i]
            action, memories[e, i] = one(ROWS[e, i] * (step + 1), memory, MASKS[e, i])
            assert action == actions[e, i]
            np.testing.assert_allclose(memories[e, i][0, 0], carry[e, i], rtol=1e-5, atol=1e-6)
    assert (np.asarray(actions)[0] == 1).all()


def test_a_batch_is_drawn_with_a_key(policy):
    carry = policy.initial_carry(5)
    drawn = np.stack([policy.batch(ROWS, carry, MASKS, jax.random.key(i))[0] for i in range(20)])
    assert (drawn[:, 0] == 1).all()  # the only legal action
    assert set(drawn[:, 1:].ravel().tolist()) == {0, 1}


def test_a_batch_can_be_used_inside_a_compiled_loop(policy):
    def step(carry, rows):
        actions, carry = policy.batch(rows, carry, jnp.asarray(MASKS))
        return carry, actions

    _, actions = jax.jit(lambda rows: jax.lax.scan(step, policy.initial_carry(5), rows))(jnp.stack([ROWS, -ROWS]))
    first, carry = policy.batch(ROWS, policy.initial_carry(5), MASKS)
    second, _ = policy.batch(-ROWS, carry, MASKS)
    np.testing.assert_array_equal(actions, np.stack([first, second]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"observations": ROWS[0]}, r"observations has shape \[3, 4\]; this policy wants \[any, any, 4\]"),
        ({"observations": ROWS[:, :2]}, "observations are of 2 agents; these know their index, and are 3"),
        ({"observations": np.where(ROWS[2, 1, 3] == ROWS, np.nan, ROWS)}, "environment 2, agent 1, entry 3 is nan"),
        ({"action_masks": None}, "action_masks are needed"),
        ({"action_masks": MASKS[1:]}, r"action_masks has shape \[4, 3, 2\]; this policy wants \[5, 3, 2\]"),
        ({"action_masks": MASKS * 0.5}, "action_masks hold 0.5"),
        ({"action_masks": MASKS & False}, "environment 0, agent 0 no action"),
        ({"is_first": np.zeros(4, bool)}, r"is_first has shape \[4\]; this policy wants \[5\]"),
        ({"carry": np.zeros((1, 1, 8))}, r"carry is not this policy's: begin with initial_carry\(5\)"),
    ],
)
def test_what_a_batch_cannot_be_is_named_in_one_line(policy, changes, words):
    given = {"observations": ROWS, "action_masks": MASKS, "carry": policy.initial_carry(5)} | changes
    with pytest.raises(UserError, match=words) as error:
        policy.batch(**given)
    assert len(str(error.value).splitlines()) == 1


def test_loading_and_acting_import_no_optimiser_no_writer_of_checkpoints_and_no_progress_display(run):
    """Flax itself imports a part of Rich; nothing of it is added."""
    program = (
        "import sys\n"
        "import flax.linen\n"
        "rich = {name for name in sys.modules if name.partition('.')[0] == 'rich'}\n"
        "import gpae, numpy as np\n"
        f"policy = gpae.load_policy({str(run.path)!r}, agent=0)\n"
        "policy(np.ones(4), policy.initial_carry(), [True, True])\n"
        "policy.batch(np.ones((2, 3, 4)), policy.initial_carry(2), np.ones((2, 3, 2)))\n"
        "unwanted = {'optax', 'orbax', 'rich', 'chex', 'jaxmarl', 'tyro', 'matplotlib', 'scipy'}\n"
        "found = {name for name in sys.modules if name.partition('.')[0] in unwanted} - rich\n"
        "sys.exit(f'imported: {sorted(found)}' if found else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_any_number_of_agents_will_do_where_they_do_not_know_their_index():
    policy = gpae.load_policy(OLD)
    seen, masks = np.random.default_rng(0).normal(size=(5, 3, 6)), np.ones((5, 3, 2))
    assert policy.num_agents == 2
    actions, carry = policy.batch(seen, policy.initial_carry(5, 3), masks)
    assert actions.shape == (5, 3)
    with pytest.raises(UserError, match=r"begin with initial_carry\(5, 3\)"):
        policy.batch(seen, policy.initial_carry(5), masks)
    action, memory = policy(seen[3, 1], policy.initial_carry(), masks[3, 1])
    assert action == actions[3, 1]
    np.testing.assert_allclose(memory[0, 0], carry[3, 1], rtol=1e-5, atol=1e-6)
