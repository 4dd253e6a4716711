import itertools

import numpy as np
import pytest
from linear_learner import fisher_of, fit, information, make_pool, predict

from bayespot.active.acquisition import (
    ACQUISITIONS,
    choose,
    force_std_scores,
)
from bayespot.active.designs import expected_information, greedy_information, greedy_matching
from bayespot.errors import ConfigError, NotConverged


def problem(seed: int, n: int = 9, p: int = 4, rank: int = 2):
    """Random covariance with spreads over four decades, and low-rank Fisher matrices."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-2, 2, p)
    root = rng.normal(size=(p, p)) * scale[:, None]
    jacobian = rng.normal(size=(n, rank, p)) / scale
    return root @ root.T, np.einsum("nra,nrb->nab", jacobian, jacobian)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_greedy_against_all_batches(seed, batch):
    covariance, fisher = problem(seed)
    indices, gains, _ = greedy_information(covariance, fisher, batch)
    best = max(
        expected_information(covariance, fisher, chosen)
        for chosen in itertools.combinations(range(len(fisher)), batch)
    )
    reached = expected_information(covariance, fisher, indices)
    assert reached >= (1 - 1 / np.e) * best
    assert sum(gains) == pytest.approx(reached, rel=1e-10)
    if batch == 1:
        assert reached == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_lazy_equals_plain_greedy(seed):
    covariance, fisher = problem(seed, n=25)
    plain = []
    for _ in range(8):
        rest = [i for i in range(25) if i not in plain]
        plain.append(max(rest, key=lambda i: expected_information(covariance, fisher, [*plain, i])))
    assert greedy_information(covariance, fisher, 8)[0] == plain


def test_marginal_gains_shrink_and_are_positive():
    covariance, fisher = problem(1, n=20)
    _, gains, scores = greedy_information(covariance, fisher, 20)
    assert np.all(np.diff(gains) <= 1e-9)
    assert min(gains) > 0
    assert gains[0] == pytest.approx(scores.max())


def test_log_determinant_identities():
    covariance, fisher = problem(2)
    p = len(covariance)
    direct = 0.5 * np.linalg.slogdet(np.eye(p) + covariance @ fisher.sum(axis=0))[1]
    assert expected_information(covariance, fisher) == pytest.approx(direct, rel=1e-9)
    # The same from the side of the data: 1/2 logdet(I + R C R^T), R = K^(1/2) J.
    values, vectors = np.linalg.eigh(fisher[0])
    r = (vectors * np.sqrt(np.clip(values, 0, None))).T
    data = 0.5 * np.linalg.slogdet(np.eye(p) + r @ covariance @ r.T)[1]
    assert expected_information(covariance, fisher, [0]) == pytest.approx(data, rel=1e-9)
    # Chain rule: the second gain is that of the updated covariance.
    updated = np.linalg.inv(np.linalg.inv(covariance) + fisher[0])
    both = expected_information(covariance, fisher, [0, 1])
    first = expected_information(covariance, fisher, [0])
    second = expected_information(updated, fisher, [1])
    assert both == pytest.approx(first + second, rel=1e-8)


def test_reparametrization_changes_nothing():
    covariance, fisher = problem(3, n=15)
    rng = np.random.default_rng(0)
    change = rng.normal(size=covariance.shape) * 10.0 ** rng.uniform(-3, 3, len(covariance))
    inverse = np.linalg.inv(change)
    other = change @ covariance @ change.T
    other_fisher = np.einsum("ia,nij,jb->nab", inverse, fisher, inverse)
    first = greedy_information(covariance, fisher, 6)
    second = greedy_information(other, other_fisher, 6)
    assert first[0] == second[0]
    np.testing.assert_allclose(first[1], second[1], rtol=1e-6)


def test_duplicates_are_not_chosen_together():
    covariance, fisher = problem(4, n=6, rank=1)
    strongest = int(np.argmax(greedy_information(covariance, fisher, 1)[2]))
    crowded = np.concatenate([fisher, np.repeat(fisher[strongest][None], 5, axis=0)])
    chosen, _, scores = greedy_information(covariance, crowded, 3)
    assert sum(i == strongest or i >= 6 for i in chosen) == 1
    assert np.sum(np.isclose(scores, scores.max())) == 6  # alone they look equally good


def test_singular_covariance_and_useless_structures():
    covariance = np.diag([1.0, 0.0])
    fisher = np.array([np.zeros((2, 2)), np.diag([0.0, 5.0]), np.diag([1.0, 0.0])])
    indices, gains, _ = greedy_information(covariance, fisher, 2)
    assert indices == [2, 0]
    assert gains == pytest.approx([0.5 * np.log(2), 0.0])


def test_force_std_scores_by_hand():
    spread = np.array([[1.0, 2, 3], [4, 5, 6], [0, 0, 9]])
    offsets = np.array([0, 2, 3])
    np.testing.assert_allclose(force_std_scores(spread, offsets, 1.0), [6, 9])
    np.testing.assert_allclose(force_std_scores(spread, offsets, 0.5), [3.5, 0])
    spread[0, 0] = np.nan
    assert force_std_scores(spread, offsets)[0] == -np.inf


@pytest.fixture(scope="module")
def fitted():
    pool = make_pool(12, labels=True)
    return fit(pool[:2], seed=0, warmup_factor=1, checkpoint=None), list(pool.structures)


@pytest.mark.parametrize("name", sorted(ACQUISITIONS))
def test_every_rule_through_one_door(name, fitted):
    posterior, pool = fitted
    ways = {"predict": predict, "information": information}
    choice = choose(name, posterior, pool, 4, seed=[1, 2], **ways)
    again = choose(name, posterior, pool, 4, seed=[1, 2], **ways)
    assert choice.indices == again.indices
    assert len(set(choice.indices)) == 4
    assert choice.scores.shape == (12,)
    assert len(choice.gains) == 4
    assert choose(name, posterior, pool, 99, **ways).indices.__len__() == 12
    assert choose(name, posterior, [], 3, **ways).problems == ("the pool is empty",)
    some = choose(name, posterior, pool, 4, available=[7, 2, 9], **ways)
    assert set(some.indices) == {2, 7, 9}
    assert np.isnan(some.scores).sum() == 9
    assert choose(name, posterior, pool, 4, available=[], **ways).indices == ()
    if name != "random":
        assert choice.scores[choice.indices[0]] == choice.scores.max()


def test_information_reduces_the_spread_more_than_random(fitted):
    posterior, pool = fitted
    ways = {"predict": predict, "information": information}
    total = {}
    for name in ("information_gain", "random"):
        indices = choose(name, posterior, pool, 3, seed=0, **ways).indices
        added = sum(fisher_of(pool[i]) for i in indices)
        total[name] = np.linalg.slogdet(np.linalg.inv(posterior.covariance) + added)[1]
    assert total["information_gain"] > total["random"]


def test_broken_structures_are_named_not_fatal(fitted):
    posterior, pool = fitted

    def broken(post, structures, **more):
        covariance, fisher = information(post, structures)
        fisher[3] = np.nan
        return covariance, fisher

    choice = choose("information_gain", posterior, pool, 5, information=broken, predict=predict)
    assert 3 not in choice.indices
    assert choice.problems == ("1 of 12 structures have no finite score",)


def test_mistakes_are_answered(fitted):
    posterior, pool = fitted
    with pytest.raises(ConfigError, match="did you mean 'information_gain'"):
        choose("informationgain", posterior, pool, 2)
    with pytest.raises(ConfigError, match=r"quantile = 1\.5"):
        choose("max_std", posterior, pool, 2, quantile=1.5)
    with pytest.raises(ConfigError, match="batch = 0"):
        choose("random", posterior, pool, 0)
    unconverged = fit(make_pool(2, labels=True), seed=0, warmup_factor=1, checkpoint=None)
    unconverged.converged = False
    with pytest.raises(NotConverged, match="not converged"):
        choose("max_std", unconverged, pool, 2, predict=predict)
    assert choose("random", unconverged, pool, 2).indices
    point = fit(make_pool(2, labels=True), seed=0, warmup_factor=1, checkpoint=None)
    point.method = "map"
    with pytest.raises(ConfigError, match="a map posterior is a single point"):
        choose("information_gain", point, pool, 2)


# --- information matching ------------------------------------------------------------------


def mismatch(fisher, chosen):
    """D of the module's docstring, by another route: traces of M^-1 A instead of square roots."""
    size, p = fisher.shape[:2]
    pool = (np.eye(p) + fisher.sum(axis=0)) / size
    ratio = np.linalg.solve(pool, fisher[list(chosen)].mean(axis=0))
    return np.trace(ratio @ ratio) - 2 * np.trace(ratio) + p


@pytest.mark.parametrize("seed", range(4))
def test_matching_takes_the_best_next_structure(seed):
    _, fisher = problem(seed, n=12)
    labelled, available = [3, 7], [0, 1, 2, 4, 5, 6, 8, 9, 10, 11]
    indices, gains, scores = greedy_matching(fisher, labelled, available, 4)
    have = list(labelled)
    for index, gain in zip(indices, gains, strict=True):
        rest = [c for c in available if c not in have]
        best = min(rest, key=lambda c: mismatch(fisher, [*have, c]))
        assert available[index] == best
        assert gain == pytest.approx(mismatch(fisher, have) - mismatch(fisher, [*have, best]))
        have.append(best)
    alone = [mismatch(fisher, labelled) - mismatch(fisher, [*labelled, c]) for c in available]
    np.testing.assert_allclose(scores, alone, rtol=1e-8)


def test_matching_leaves_the_extreme_structure_that_information_gain_takes():
    """One structure of a hundred tells a thousand times more: fitting to it would be bias."""
    rng = np.random.default_rng(0)
    jacobian = rng.normal(size=(100, 6, 3))
    jacobian[17] *= 30.0
    fisher = np.einsum("nra,nrb->nab", jacobian, jacobian)
    assert greedy_information(np.eye(3), fisher, 1)[0] == [17]
    assert 17 not in greedy_matching(fisher, [0, 1, 2], np.arange(3, 100), 5)[0]


def test_a_matched_batch_is_closer_to_the_pool_than_random_ones():
    _, fisher = problem(5, n=60, rank=6)
    chosen = greedy_matching(fisher, [], np.arange(60), 12)[0]
    rng = np.random.default_rng(1)
    others = [mismatch(fisher, rng.choice(60, 12, replace=False)) for _ in range(200)]
    assert mismatch(fisher, chosen) < min(others)


def test_matching_by_name_counts_the_rest_as_labelled():
    pool = make_pool(20)
    posterior = fit(pool[:6], seed=0, warmup_factor=1, checkpoint=None)
    _, fisher = information(posterior, list(pool.structures))
    choice = choose("information_matching", posterior, list(pool.structures), 3,
                    available=range(6, 20), information=information, predict=predict)
    expected = greedy_matching(np.asarray(fisher), range(6), range(6, 20), 3)[0]
    assert choice.indices == tuple(6 + k for k in expected)
