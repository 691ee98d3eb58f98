"""An exported policy does what the policy does: as StableHLO in JAX, as ONNX in onnxruntime."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpae
from gpae.cli import main
from gpae.envs import make
from gpae.errors import UserError
from gpae.networks import STATISTICS
from gpae.training.export import as_onnx, as_stablehlo, export_policy
from gpae.training.policy import Policy, Sizes, _template

pytestmark = pytest.mark.slow

OLD = Path(__file__).parents[1] / "data" / "run-0.1"
KINDS = {
    "discrete, recurrent": ("gpae", {"env": "probe/team", "actor_identity": True}),
    "discrete, feed-forward": ("mappo", {"env": "probe/team", "recurrent": False, "head_layers": 1}),
    "own networks, recurrent": ("gpae", {"env": "probe/team", "share_parameters": "false"}),
    "normalised, recurrent": ("mappo", {"env": "probe/team", "normalise_observations": True, "actor_identity": True}),
    "values, recurrent": ("qmix", {"env": "probe/team", "layer_norm": False}),
    "continuous, recurrent": ("gpae", {"env": "probe/aim", "action_scale": "state", "squash": True}),
    "continuous, feed-forward": ("ippo", {"env": "probe/aim", "recurrent": False}),
}


def policy_of(kind, agent=None):
    """With parameters drawn wider than when training begins, so that every layer matters."""
    name, settings = KINDS[kind]
    config = gpae.configure(name, hidden_size=8, **settings)
    spec = make(config.env).spec
    actor = config.algorithm.actor(spec)
    bounds = (spec.actions.low, spec.actions.high) if spec.continuous else None
    sizes = Sizes(spec.num_agents, spec.actions.size, spec.observation_size, spec.action_names or None, bounds)
    shapes = _template(actor, 1, sizes)
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(0.2, 0.7, size=x.shape), jnp.float32), shapes)
    if statistics := params.get(STATISTICS):
        params = {**params, STATISTICS: jax.tree.map(lambda x: jnp.abs(x) + 0.1, statistics)}
    return Policy(actor, params, sizes, agent=agent)


def steps_of(policy, envs, call):
    """Three steps, an episode that begins among them: what `call` returns beside what the policy does."""
    rng = np.random.default_rng(2)
    ours, theirs = (policy.initial_carry(envs, policy.acting_agents) for _ in range(2))
    theirs = jax.tree.map(np.asarray, theirs)
    found = []
    for step in range(3):
        shape = (envs, policy.acting_agents)
        seen = rng.normal(size=(*shape, policy.observation_size)).astype(np.float32)
        masks = rng.random((*shape, policy.num_actions)) < 0.6
        masks[..., -1] = True
        first = np.full(envs, step == 2)
        pi, ours = policy.distribution(*map(jnp.asarray, (seen, masks, first)), ours)
        outputs = call(seen, masks, first, theirs)
        theirs = outputs.get("next_carry", ())
        np.testing.assert_array_equal(outputs["actions"].shape, pi.mode().shape)
        if policy.bounds is None:
            assert np.asarray(outputs["actions"]).dtype == np.int32
            np.testing.assert_array_equal(outputs["actions"], pi.mode())
            assert np.take_along_axis(masks, np.asarray(outputs["actions"])[..., None], -1).all()
            np.testing.assert_allclose(np.exp(outputs["log_probs"]), np.exp(pi.log_probs), atol=1e-5)
        else:
            np.testing.assert_allclose(outputs["actions"], pi.mode(), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(outputs["mean"], pi.mean, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(outputs["log_scale"], pi.log_scale, rtol=1e-4, atol=1e-5)
        for x, y in zip(jax.tree.leaves(theirs), jax.tree.leaves(ours), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
        found.append(np.asarray(outputs["actions"]))
    return np.stack(found)


@pytest.mark.parametrize("kind", KINDS)
def test_stablehlo_does_what_the_policy_does(kind):
    policy = policy_of(kind)
    exported = jax.export.deserialize(bytearray(as_stablehlo(policy)))
    assert set(exported.platforms) >= {"cpu", "cuda", "tpu"}
    for envs in (1, 4):
        assert len(np.unique(steps_of(policy, envs, exported.call))) > 1


def in_onnxruntime(policy):
    """The session, and a call that takes arrays in order and returns the outputs by name."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(as_onnx(policy))
    names, outputs = ([x.name for x in found] for found in (session.get_inputs(), session.get_outputs()))

    def call(*arrays):
        given = dict(zip(names, arrays, strict=False))
        return dict(zip(outputs, session.run(None, given), strict=True))

    return session, call


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_does_what_the_policy_does(kind):
    policy = policy_of(kind)
    session, call = in_onnxruntime(policy)
    names = [x.name for x in session.get_inputs()]
    assert names == ["observations", "action_masks", "is_first", "carry"][: 4 if "recurrent" in kind else 3]
    for envs in (1, 4):
        assert len(np.unique(steps_of(policy, envs, call))) > 1
    about = json.loads(session.get_modelmeta().custom_metadata_map["gpae"])
    assert about["bounds"] == (None if policy.bounds is None else list(policy.bounds))
    assert about["observation_size"] == policy.observation_size


@pytest.mark.parametrize("kind", ["own networks, recurrent", "continuous, feed-forward"])
def test_one_agent_that_is_shown_no_index_is_exported_too(kind):
    policy = policy_of(kind, agent=1)
    steps_of(policy, 2, in_onnxruntime(policy)[1])


def test_one_agent_is_exported_with_its_index_built_in():
    team, one = policy_of("discrete, recurrent"), policy_of("discrete, recurrent", agent=1)
    exported = jax.export.deserialize(bytearray(as_stablehlo(one)))
    steps_of(one, 2, exported.call)
    seen = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    masks = np.ones((2, 3, 2), bool)
    found = exported.call(seen[:, 1:2], masks[:, 1:2], np.zeros(2, bool), one.initial_carry(2, 1))
    whole, _ = team.distribution(*map(jnp.asarray, (seen, masks, np.zeros(2, bool))), team.initial_carry(2))
    np.testing.assert_allclose(found["log_probs"][:, 0], whole.log_probs[:, 1], rtol=1e-4, atol=1e-5)


def blocks():
    """The Python of docs/use.md: for StableHLO, and for ONNX."""
    return re.findall(r"```python\n(.*?)```", (OLD.parents[2] / "docs" / "use.md").read_text(), flags=re.S)


def test_the_command_writes_what_the_documentation_uses_in_onnxruntime(tmp_path, monkeypatch, capfd):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(OLD), "--best", "-o", "policy.onnx"]) == 0
    found = {}
    exec(blocks()[1], found)
    assert found["actions"].tolist() == [[1, 1]] * 5
    assert found["carry"].shape == (5, 2, 8)
    assert capfd.readouterr().err == ""


def test_the_command_writes_a_file_that_jax_alone_can_call(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(OLD)]) == 0
    said = capsys.readouterr().out
    assert "float32 [E, 2, 6]" in said
    assert f"policy.stablehlo: {Path('policy.stablehlo').stat().st_size:,} bytes" in said
    program = blocks()[0] + (
        "import sys\n"
        "assert actions.tolist() == [[1, 1]] * 5, actions\n"
        "sys.exit('flax' in sys.modules or 'gpae' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_what_cannot_be_exported_is_one_line_and_writes_nothing(tmp_path, monkeypatch, capsys):
    assert main(["export", str(OLD), "-o", str(tmp_path / "policy.pb")]) == 2
    assert "ends in .stablehlo or .onnx" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(UserError, match=r"ONNX needs jax2onnx; it comes with `pip install -e '.\[onnx\]'`"):
        export_policy(gpae.load_policy(OLD), tmp_path / "policy.onnx")
    assert not list(tmp_path.iterdir())
