import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import struct

from gpae.errors import UserError
from gpae.runs import checkpoint
from gpae.runs.checkpoint import Checkpoints
from gpae.runs.stored import read_arrays


@struct.dataclass
class State:
    params: dict
    optimiser: tuple
    key: jax.Array
    environments: dict
    nothing: tuple
    absent: None = None


def make_state(width=3):
    """Every kind of leaf that a training state has."""
    params = {"dense": {"kernel": jnp.linspace(-1, 1, 2 * width).reshape(2, width), "bias": jnp.zeros(width)}}
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3)).init(params)
    environments = {
        "done": jnp.array([True, False]),
        "time": jnp.array([3, -4], jnp.int32),
        "bits": jnp.array([0, 2**32 - 1], jnp.uint32),
        "odd": jnp.array([np.nan, -0.0, np.inf, 1e-45], jnp.float32),
        "half": jnp.ones(3, jnp.bfloat16),
        "empty": jnp.zeros((0, 4)),
        "host": np.array(5, np.int64),
    }
    return State(params, optimiser, jax.random.split(jax.random.key(7), 2), environments, ())


def as_bytes(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    raw = [jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x for _, x in leaves]
    return [
        (jax.tree_util.keystr(path), str(leaf.dtype), leaf.shape, np.asarray(data).tobytes())
        for (path, leaf), data in zip(leaves, raw, strict=True)
    ]


@pytest.fixture
def saved(tmp_path):
    state = make_state()
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(3, {"state": state, "best": state.params}, {"env_steps": 30, "best_win_rate": [0.5]})
    return tmp_path / "checkpoints"


@pytest.mark.parametrize("abstract", [False, True])
def test_round_trip_is_bit_for_bit(saved, abstract):
    state = make_state()
    template = jax.tree.map(jnp.zeros_like, state.replace(key=jax.random.split(jax.random.key(0), 2)))
    if abstract:
        template = jax.eval_shape(lambda: template)
    template = template.replace(environments={**template.environments, "host": np.zeros((), np.int64)})
    with Checkpoints(saved) as checkpoints:
        assert checkpoints.latest == 3
        items, info = checkpoints.restore({"state": template})
    assert as_bytes(items["state"]) == as_bytes(state)
    assert jax.tree.structure(items["state"]) == jax.tree.structure(state)
    assert isinstance(items["state"].environments["host"], np.ndarray)
    assert isinstance(items["state"].environments["done"], jax.Array)
    assert info == {"env_steps": 30, "best_win_rate": [0.5]}
    assert np.array_equal(jax.random.uniform(items["state"].key[1], (3,)), jax.random.uniform(state.key[1], (3,)))


def test_one_item_is_read_without_the_others_and_without_writing(saved):
    before = sorted(saved.rglob("*"))
    with Checkpoints(saved, read_only=True) as checkpoints:
        items, _ = checkpoints.restore({"best": make_state().params})
        assert checkpoints.info() == {"env_steps": 30, "best_win_rate": [0.5]}
    assert as_bytes(items["best"]) == as_bytes(make_state().params)
    assert sorted(saved.rglob("*")) == before


def test_a_field_of_an_item_is_read_without_the_rest(saved):
    with Checkpoints(saved, read_only=True) as checkpoints:
        items, _ = checkpoints.restore({"state.params": make_state().params})
        assert as_bytes(items["state.params"]) == as_bytes(make_state().params)
        assert list(checkpoints.arrays("state.params")) == list(checkpoints.arrays("best"))
        with pytest.raises(UserError, match=r"does not fit: state.par\['dense'\]\['bias'\] is absent there"):
            checkpoints.restore({"state.par": make_state().params})
        with pytest.raises(UserError, match="has no 'actor'; it holds state, best"):
            checkpoints.arrays("actor.params")


def test_the_arrays_of_an_item_are_read_without_knowing_what_they_are_like(saved):
    with Checkpoints(saved, read_only=True) as checkpoints:
        found = checkpoints.arrays("best")
        assert list(found) == ["['dense']['bias']", "['dense']['kernel']"]
        np.testing.assert_array_equal(found["['dense']['kernel']"], make_state().params["dense"]["kernel"])
        with pytest.raises(UserError, match="has no 'actor'; it holds state, best"):
            checkpoints.arrays("actor")


def test_placement_is_kept(saved):
    device = jax.devices()[-1]
    template = jax.device_put(make_state().params, device)
    with Checkpoints(saved) as checkpoints:
        items, _ = checkpoints.restore({"best": template})
    assert {leaf.device for leaf in jax.tree.leaves(items["best"])} == {device}


def test_two_are_kept_and_updates_only_grow(saved):
    tree = {"state": {"w": jnp.arange(3.0)}}
    with Checkpoints(saved) as checkpoints:
        for update in (4, 9):
            checkpoints.save(update, tree, {"u": update})
        with pytest.raises(ValueError, match="not later than the checkpoint of update 9"):
            checkpoints.save(9, tree, {})
        assert checkpoints.info() == {"u": 9}
        assert checkpoints.info(4) == {"u": 4}
        with pytest.raises(UserError, match="no checkpoint of update 3; there are: 4, 9"):
            checkpoints.info(3)


def test_leaves_must_be_arrays(tmp_path):
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(TypeError, match=r"\['lr'\] is float"):
        checkpoints.save(1, {"state": {"lr": 0.1}}, {})


def test_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match="holds no checkpoint"):
        Checkpoints(tmp_path / "none", read_only=True)
    assert not (tmp_path / "none").exists()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest is None
        with pytest.raises(UserError, match="holds no checkpoint"):
            checkpoints.restore({"state": {}})


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ({"best": make_state(4).params}, r"best\['dense'\]\['bias'\] is float32\[3\] there and float32\[4\] here"),
        ({"best": {"dense": {"kernel": jnp.zeros((2, 3))}}}, r"\['bias'\] is float32\[3\] there and absent here"),
        ({"best": {**make_state().params, "more": jnp.zeros(1)}}, r"\['more'\] is absent there and float32\[1\] here"),
        ({"state": make_state().replace(key=jnp.zeros((2, 2), jnp.uint32))}, r"\.key is key<fry>\[2, 2\] there and u"),
        ({"state": make_state().replace(params=jax.tree.map(jnp.int32, make_state().params))}, "int32.* here, .*here"),
        ({"policy": {}}, "has no 'policy'"),
    ],
)
def test_another_tree_is_named(saved, template, words):
    with Checkpoints(saved) as checkpoints, pytest.raises(UserError, match=words):
        checkpoints.restore(template)


def files_of(folder):
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and p.stat().st_size > 0)


@pytest.mark.parametrize("damage", ["cut", "removed", "flipped"])
def test_damage_anywhere_is_named_or_harmless(saved, damage):
    """Each file in turn is damaged; what is returned is right or nothing is returned."""
    state = make_state()
    noticed = set()
    for name in files_of(saved / "3"):
        file = saved / "3" / name
        content = file.read_bytes()
        if damage == "cut":
            file.write_bytes(content[: len(content) // 2])
        elif damage == "removed":
            file.unlink()
        else:
            file.write_bytes(bytes(b ^ 0xFF for b in content))
        try:
            with Checkpoints(saved, read_only=True) as checkpoints:
                items, _ = checkpoints.restore({"state": state, "best": state.params})
            assert as_bytes(items) == as_bytes({"state": state, "best": state.params})
        except UserError:
            noticed.add(name)
        file.write_bytes(content)
    needed = {n for n in files_of(saved / "3") if n.name in {"manifest.ocdbt", "metadata"} and len(n.parts) == 2}
    assert len(needed) == 3
    assert needed <= noticed


def test_damaged_latest_names_the_one_before(saved):
    with Checkpoints(saved) as checkpoints:
        checkpoints.save(4, {"state": {"w": jnp.arange(3.0)}}, {})
    for file in (saved / "4" / "state" / "d").iterdir():
        file.write_bytes(b"")
    with (
        Checkpoints(saved) as checkpoints,
        pytest.raises(UserError, match=r"4 is damaged .* remove that folder to use the one of update 3"),
    ):
        checkpoints.restore({"state": {"w": jnp.zeros(3)}})


def test_changed_contents_are_named(saved, monkeypatch):
    """Even if TensorStore returned other numbers than were saved."""

    def changed(folder, wanted):
        return {name: array + 1 for name, array in read_arrays(folder, wanted).items()}

    monkeypatch.setattr(checkpoint, "read_arrays", changed)
    with (
        Checkpoints(saved) as checkpoints,
        pytest.raises(UserError, match=r"best\['dense'\]\['bias'\] is not what"),
    ):
        checkpoints.restore({"best": make_state().params})


def test_foreign_checkpoint_is_named(tmp_path):
    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(1, args=ocp.args.StandardSave({"w": jnp.zeros(3)}))
        manager.wait_until_finished()
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match=f"{tmp_path / '1'} is damaged"):
        checkpoints.restore({"state": {"w": jnp.zeros(3)}})


def test_a_folder_with_a_number_for_a_name_is_no_checkpoint(saved):
    (saved / "8").mkdir()
    (saved / "8" / "notes.txt").write_text("mine")
    with Checkpoints(saved) as checkpoints, pytest.raises(UserError, match=r"8 is damaged .* the one of update 3"):
        checkpoints.restore({"best": make_state().params})


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("RESOURCE_EXHAUSTED: Error writing file [OS error 28: No space left on device]"),
    ],
)
def test_full_disk_is_named_and_the_checkpoint_before_loads(saved, monkeypatch, error):
    def full(self, *args, **kwargs):
        raise error

    with Checkpoints(saved) as checkpoints:
        with monkeypatch.context() as patch:
            patch.setattr(ocp.StandardCheckpointHandler, "async_save", full)
            with pytest.raises(UserError, match="disk is full"):
                checkpoints.save(4, {"state": make_state()}, {})
        items, _ = checkpoints.restore({"best": make_state().params})
        assert as_bytes(items["best"]) == as_bytes(make_state().params)
        checkpoints.save(4, {"state": {"w": jnp.zeros(3)}}, {})
        assert checkpoints.latest == 4


INFO = {
    "update": 48,
    "env_steps": 480,
    "seconds": 12.25,
    "best_scores": [0.5, -float("inf")],
    "sizes": {"num_agents": 3, "num_actions": 5, "observation_size": 7},
}


@pytest.fixture
def two(tmp_path):
    """Checkpoints of updates 40 and 48, small enough that every byte of them can be changed."""
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for update in (40, 48):
            items = {"state": {"w": jnp.full((2, 3), update / 7), "key": jax.random.key(update)}}
            checkpoints.save(update, items, INFO | {"update": update, "env_steps": 10 * update})
    return tmp_path / "checkpoints"


TEMPLATE = {"state": {"w": jnp.zeros((2, 3)), "key": jax.random.key(0)}}


def load(path, update=None):
    with Checkpoints(path, read_only=True) as checkpoints:
        return checkpoints.restore(TEMPLATE, update)


def test_notes_are_those_of_the_chosen_update_and_not_of_the_latest(two):
    for update in (40, 48, None):
        items, info = load(two, update)
        assert info == INFO | {"update": update or 48, "env_steps": 10 * (update or 48)}
        assert float(items["state"]["w"][0, 0]) == np.float32((update or 48) / 7)
        with Checkpoints(two, read_only=True) as checkpoints:
            assert checkpoints.info(update) == info


@pytest.mark.parametrize("mask", [0xFF, 0x03])
def test_a_flipped_byte_anywhere_is_noticed_or_changes_nothing(two, mask):
    """0x03 makes a 2 of a 1: another digit, another format."""
    items, info = load(two)
    noticed = unnoticed = 0
    for name in files_of(two / "48"):
        file = two / "48" / name
        content = file.read_bytes()
        for place in range(mask % 11, len(content), 13):
            file.write_bytes(content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :])
            try:
                found, found_info = load(two)
            except UserError:
                noticed += 1
            else:
                assert (as_bytes(found), found_info) == (as_bytes(items), info), (name, place)
                unnoticed += 1
        file.write_bytes(content)
    assert min(noticed, unnoticed) > 10


def notes_of(path, update=48):
    return path / str(update) / "about" / "metadata"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"update": 48, "env_steps"', '"update": 40, "env_steps"'),
        ('"update": 48, "leaves"', '"update": 40, "leaves"'),
        ("[0.5, -Infinity]", "[0.9, -Infinity]"),
        ("[0.5, -Infinity]", "[0.5]"),
        ('"seconds": 12.25', '"seconds": 12.26'),
        ('"num_agents": 3', '"num_agents": 2'),
        ('"float32"', '"float64"'),
        ('"format": 2', '"format": 1'),
        ('"sum"', '"rum"'),
    ],
)
def test_changed_digits_of_the_notes_are_noticed(two, before, after):
    file = notes_of(two)
    assert file.read_text().count(before) == 1
    file.write_text(file.read_text().replace(before, after))
    with pytest.raises(UserError, match=r"48 is damaged \(its notes are not what was saved\); .* the one of update 40"):
        load(two)
    with (
        Checkpoints(two, read_only=True) as checkpoints,
        pytest.raises(UserError, match="its notes are not what was saved"),
    ):
        checkpoints.info()
    assert load(two, 40)[1]["update"] == 40


def test_a_renamed_checkpoint_is_noticed(two):
    (two / "48").rename(two / "50")
    with pytest.raises(UserError, match=r"50 is damaged \(it was saved as that of update 48, and renamed or changed\)"):
        load(two)
    shutil.rmtree(two / "40")
    shutil.copytree(two / "50", two / "40")
    with pytest.raises(UserError, match="saved as that of update 48"):
        load(two, 40)


def as_format_1(path, changes=None):
    """The notes as gpae 0.1 wrote them: no checksum of the notes, no update beside the trainer's."""
    about = json.loads(notes_of(path).read_text())
    info = {k: v for k, v in {**about["info"], **(changes or {})}.items() if v is not ...}
    notes_of(path).write_text(json.dumps({"format": 1, "leaves": about["leaves"], "info": info}))


def test_checkpoints_of_gpae_0_1_still_load(two):
    items, info = load(two)
    as_format_1(two)
    again, info_again = load(two)
    assert as_bytes(again) == as_bytes(items)
    assert info_again == info
    with Checkpoints(two) as checkpoints:
        checkpoints.save(49, TEMPLATE, INFO | {"update": 49})
        assert checkpoints.info(48) == info


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"update": 40}, "it was saved as that of update 40"),
        ({"update": "48"}, 'info/update is "48", not a whole number'),
        ({"seconds": None}, "info/seconds is null"),
        ({"best_scores": "0.5"}, 'info/best_scores is "0.5", not a list'),
        ({"best_scores": [None]}, "info/best_scores/0 is null"),
        ({"sizes": {"num_agents": "3"}}, 'info/sizes/num_agents is "3"'),
        ({"sizes": 3}, "info/sizes is 3, not a mapping"),
        ({"sizes": ...}, "info/sizes is missing"),
    ],
)
def test_notes_without_a_checksum_are_checked_by_what_they_hold(two, changes, words):
    as_format_1(two, changes)
    with pytest.raises(UserError, match=words):
        load(two)


def test_arrays_in_another_order_are_noticed_without_a_checksum_too(two):
    as_format_1(two)
    about = json.loads(notes_of(two).read_text())
    about["leaves"]["state"].reverse()
    notes_of(two).write_text(json.dumps(about))
    with pytest.raises(UserError, match="the arrays of state are in another order"):
        load(two)


@pytest.mark.parametrize(
    "notes", ["3", "[]", "null", "{}", '{"format": 3}', '{"format": "2"}', '{"format": 2}', "{", ""]
)
def test_notes_that_are_none_are_named(two, notes):
    notes_of(two).write_text(notes)
    with pytest.raises(UserError, match=r"48 (is damaged|was not made by this version)"):
        load(two)


def test_a_folder_that_was_removed_while_training_is_not_made_again(two):
    with Checkpoints(two) as checkpoints:
        shutil.rmtree(two)
        with pytest.raises(UserError, match=r"was removed while it was in use; update 49 is not saved"):
            checkpoints.save(49, TEMPLATE, {})
    assert not two.exists()


def test_a_limit_of_file_sizes_is_named_and_the_checkpoint_before_loads(two):
    script = textwrap.dedent("""
        import resource, sys
        import numpy as np
        from gpae.errors import UserError
        from gpae.runs.checkpoint import Checkpoints
        with Checkpoints(sys.argv[1]) as checkpoints:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
            try:
                checkpoints.save(49, {"state": {"w": np.random.default_rng(0).random(10_000)}}, {})
            except UserError as error:
                print(error)
    """)
    child = subprocess.run([sys.executable, "-c", script, str(two)], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert child.stdout.startswith("files may not be that large here (ulimit -f): ")
    assert child.stderr == ""
    assert load(two)[1]["update"] == 48


def test_checkpoints_without_permission_are_not_called_damaged(two, monkeypatch):
    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checkpoint, "read_arrays", forbidden)
    with pytest.raises(UserError, match="cannot be read: no permission"):
        load(two)


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "checkpoints").write_text("mine")
    for read_only in (False, True):
        with pytest.raises(UserError, match="checkpoints is a file; only a folder may be there"):
            Checkpoints(tmp_path / "checkpoints", read_only=read_only)


CHILD = textwrap.dedent("""
    import os, signal, sys
    import jax.numpy as jnp
    from orbax.checkpoint import CheckpointManager, StandardCheckpointHandler
    from gpae.runs.checkpoint import Checkpoints

    path, moment = sys.argv[1:]

    def die(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)

    with Checkpoints(path) as checkpoints:
        checkpoints.save(1, {"state": {"w": jnp.arange(1000.0)}}, {"update": 1})
        if moment == "arrays are being written":
            save = StandardCheckpointHandler.async_save
            async def dying(self, *args, **kwargs):
                await save(self, *args, **kwargs)
                die()
            StandardCheckpointHandler.async_save = dying
        elif moment == "everything is written but not yet in place":
            StandardCheckpointHandler.finalize = die
        else:
            save = CheckpointManager.save
            CheckpointManager.save = lambda *args, **kwargs: (save(*args, **kwargs), die())
        checkpoints.save(2, {"state": {"w": -jnp.arange(1000.0)}}, {"update": 2})
    print("not killed")
""")


@pytest.mark.parametrize(
    ("moment", "latest"),
    [("arrays are being written", 1), ("everything is written but not yet in place", 1), ("it is in place", 2)],
)
def test_kill_while_saving_leaves_a_whole_checkpoint(tmp_path, moment, latest):
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), moment], capture_output=True, text=True, env=dict(os.environ)
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    leftovers = [p.name for p in tmp_path.iterdir() if not p.name.isdigit()]
    assert bool(leftovers) == (latest == 1)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest == latest
        items, info = checkpoints.restore({"state": {"w": jnp.zeros(1000)}})
        assert info == {"update": latest}
        sign = 1.0 if latest == 1 else -1.0
        np.testing.assert_array_equal(items["state"]["w"], sign * np.arange(1000.0, dtype=np.float32))
        checkpoints.save(3, {"state": {"w": jnp.zeros(1000)}}, {"update": 3})
    assert not [p for p in tmp_path.iterdir() if not p.name.isdigit()]


def test_users_see_nothing_of_orbax(tmp_path):
    script = textwrap.dedent("""
        import logging, sys
        import absl.logging
        import jax.numpy as jnp
        from gpae.runs.checkpoint import Checkpoints

        tree = {"state": {"w": jnp.zeros(3)}}
        with Checkpoints(sys.argv[1]) as checkpoints:
            checkpoints.save(1, tree, {})
            checkpoints.restore(tree)
        # What its threads report when one of many reads or writes fails; UserError has said it by then.
        absl.logging.error("a thread failed")
        logging.getLogger("asyncio").error("Future exception was never retrieved: tensorstore_spec=...")
        class Late:
            def __init__(self, words):
                self.words = words
            def __del__(self):
                raise RuntimeError(self.words)
        Late("Event loop is closed")
        Late("something else")
    """)
    child = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
    assert (child.returncode, child.stdout) == (0, "")
    errors = [line for line in child.stderr.splitlines() if "Error" in line and "raise" not in line]
    assert errors == ["RuntimeError: something else"]
    assert "a thread failed" not in child.stderr
    assert "never retrieved" not in child.stderr
