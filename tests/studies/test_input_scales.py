"""What `studies/input_scales.py` calls the numbers that SMAX shows."""

import sys
from pathlib import Path

import numpy as np
import pytest

from gpae.envs import make

sys.path.append(str(Path(__file__).parents[2] / "studies"))
from input_scales import kinds, layer_norm, rows, shares


@pytest.mark.parametrize(("name", "version"), [("smax/3s_vs_5z", "0.2"), ("smax/smacv2_5_units", "0.1")])
def test_every_number_is_called_what_it_is(name, version):
    env = make(name, version=version)
    named, shown = kinds(env.spec.state_size // 12), rows(env, 8, 40, seed=0)
    for of, x in shown.items():
        names = np.array(named[of])
        assert x.shape[-1] == len(names)
        assert x[:, names == "health"].min() >= 0
        assert x[:, names == "health"].max() == 1
        types = x[:, np.flatnonzero(names == "type")[:6]]
        assert set(np.unique(types.sum(1))) <= {0.0, 1.0}  # one-hot, or the unit is not seen or dead
        assert np.abs(x[:, names == "position"]).max() > (1 if of == "state" else 0.5)
    attacks = shown["observations"][:, np.array(named["observations"]) == "last attack"]
    whole = np.array_equal(attacks, attacks.round())
    assert whole is (version == "0.1")
    assert attacks.max() > 1 if whole else attacks.max() <= 1
    moves = shown["observations"][:, np.array(named["observations"]) == "movement"]
    assert set(np.unique(moves.round(6))) == {-1.0, 0.0, 1.0}


def test_shares_add_up_and_layer_norm_is_of_rows():
    x = np.array([[1.0, 10.0, 0.0], [2.0, 30.0, 0.0]])
    assert shares(x, ["a", "b", "b"]) == pytest.approx({"a": 0.25 / 100.25, "b": 100 / 100.25})
    np.testing.assert_allclose(layer_norm(x).mean(1), 0.0, atol=1e-12)
    np.testing.assert_allclose(layer_norm(x).std(1), 1.0, rtol=1e-4)
