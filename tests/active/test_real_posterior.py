"""The loop with the real statistics: Lennard-Jones, Laplace, prediction and information.

Misfit is treated as by default: a discrepancy, from the first three structures on.
"""

import numpy as np
import pytest
from linear_learner import lj_oracle, make_pool

import bayespot
from bayespot.active import CampaignSettings, Ledger, choose, potential_learner, run_campaign
from bayespot.errors import ConfigError
from bayespot.oracles import make_oracle
from bayespot.prediction import predict

pytestmark = pytest.mark.slow  # compiles the likelihood for two sizes of training set

SETTINGS = CampaignSettings(seed=2, initial=3, batch=2, rounds=1, test_fraction=0.25)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    bayespot.configure()
    pool = make_pool(12, labels=True)
    folder = tmp_path_factory.mktemp("real")
    learner = potential_learner(
        bayespot.LennardJones(species=("Ar",)), method="laplace", chains=2, draws=100, starts=4
    )
    arguments = {"pool": pool, "oracle": make_oracle("archive", archive=pool), "learner": learner}
    result = run_campaign(SETTINGS, folder=folder, **arguments)
    return folder, result, arguments


def test_a_round_with_the_real_statistics(campaign):
    folder, result, _ = campaign
    assert [row["n_labels"] for row in result.curve] == [3, 5]
    assert result.curve[1]["method"] == "laplace"
    assert [row["misfit"] for row in result.curve] == ["discrepancy"] * 2
    assert result.coverage["energy"]["n"] == 2
    assert result.curve[1]["test"]["rmse"]["forces"] < 0.05
    posterior = bayespot.Posterior.load(folder / "round_001" / "posterior.nc")
    assert posterior.record["n_structures"] == 5
    assert posterior.record["details"]["temperature_from"] == "families left out"
    text = (folder / "summary.md").read_text(encoding="utf-8")
    assert "misfit = none" not in text


def test_the_same_again_from_its_own_files(campaign, tmp_path):
    folder, _, arguments = campaign
    run_campaign(SETTINGS, folder=tmp_path, **arguments)
    assert Ledger.read(tmp_path).digest() == Ledger.read(folder).digest()
    chosen = [(f / "round_000" / "chosen.json").read_text() for f in (folder, tmp_path)]
    assert chosen[0] == chosen[1]


def test_every_rule_takes_the_real_posterior(campaign):
    folder, _, arguments = campaign
    posterior = bayespot.Posterior.load(folder / "round_001" / "posterior.nc")
    pool = list(arguments["pool"].structures)
    for name in ("information_gain", "information_matching", "max_std"):
        choice = choose(name, posterior, pool, 3)
        assert len(set(choice.indices)) == 3
        assert np.all(np.isfinite(choice.scores))
        assert choice.gains[0] > 0


def test_a_single_point_cannot_choose(campaign, tmp_path):
    arguments = campaign[2] | {
        "learner": potential_learner(
            bayespot.LennardJones(species=("Ar",)), method="map", starts=2
        )
    }
    with pytest.raises(ConfigError, match="a map posterior is a single point"):
        run_campaign(SETTINGS, folder=tmp_path, **arguments)
    with pytest.raises(ConfigError, match="unknown fit method 'vi'"):
        potential_learner(bayespot.LennardJones(species=("Ar",)), method="vi")


def test_the_truth_is_found(campaign):
    oracle = lj_oracle()
    posterior = bayespot.Posterior.load(campaign[0] / "round_001" / "posterior.nc")
    structure = make_pool(3).structures[2]
    prediction = predict(posterior, [structure])
    truth = oracle.label(structure)
    np.testing.assert_allclose(prediction.forces, truth.forces, atol=0.03)
