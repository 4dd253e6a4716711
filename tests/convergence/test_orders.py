"""Orders of convergence, the uncertainty of a reference, and which setting is taken."""

import numpy as np
import pytest

from bayespot.convergence.choice import cheapest, meets
from bayespot.convergence.orders import fit_order
from bayespot.convergence.references import reference_uncertainty

STEP = np.geomspace(1e-5, 1e-1, 9)


@pytest.mark.parametrize("order", [0.5, 1.0, 2.0])
def test_exact_power(order):
    found = fit_order(STEP, 3.0 * STEP**order)
    assert found.slope == pytest.approx(order, abs=1e-12)
    assert found.standard_error < 1e-7
    assert np.exp(found.intercept) == pytest.approx(3.0)
    assert found.used == tuple(range(9))


@pytest.mark.parametrize(("points", "says"), [(4, 0.95), (9, 0.92)])
def test_interval_covers_as_often_as_it_says(points, says):
    """Under noise of a factor 1.3; five points that may be left out cost it 3 % of coverage."""
    rng, n = np.random.default_rng(0), 600
    inside = 0
    for _ in range(n):
        noise = rng.normal(0.0, np.log(1.3), points)
        found = fit_order(STEP[:points], STEP[:points] ** 2 * np.exp(noise))
        inside += found.low <= 2.0 <= found.high
    assert inside / n == pytest.approx(says, abs=3 * np.sqrt(says * (1 - says) / n))


def test_what_is_not_resolved_does_not_count():
    """Below a floor of the reference the error stays; with the floor given the order is right."""
    floor = 1e-6
    error = np.maximum(STEP**2, floor)
    assert fit_order(STEP, error).slope < 1.7
    found = fit_order(STEP, error, floor=floor)
    assert found.slope == pytest.approx(2.0, abs=1e-12)
    assert all(STEP[k] ** 2 > 3 * floor for k in found.used)
    assert len(found.used) == int(np.sum(3 * floor < STEP**2))


def test_loose_points_before_the_asymptotic_range_are_left_out():
    rng = np.random.default_rng(1)
    error = STEP**2 * np.exp(rng.normal(0.0, 0.05, STEP.size))
    error[-2:] *= [10.0, 40.0]
    found = fit_order(STEP, error)
    assert found.used == tuple(range(7))
    assert found.low < 2.0 < found.high


def test_four_points_are_kept():
    """The four tightest are always fitted: fewer agree with anything."""
    error = STEP[:5] ** 2 * np.array([1.0, 1.0, 1.0, 1.0, 50.0])
    assert fit_order(STEP[:5], error).used == (0, 1, 2, 3)
    assert fit_order(STEP[:4], error[1:]).used == (0, 1, 2, 3)


def test_too_little_to_fit():
    assert fit_order(STEP[:2], STEP[:2]) is None
    assert fit_order(STEP, np.full(STEP.size, np.nan)) is None
    assert fit_order(STEP, STEP, floor=1.0) is None
    assert fit_order(STEP, np.where(STEP > 1e-2, STEP, 0.0)) is None


@pytest.mark.parametrize(
    ("last", "before", "expected"),
    [
        (1.0, 4.0, 1.0 / 3.0),  # halved steps, differences fall by 4: 1/4 + 1/16 + ... is left
        (1.0, 2.5, 2.0 / 3.0),
        (1.0, 8.0, 1.0 / 3.0),  # an agreement that good may be chance,
        (1.0, 1000.0, 1000.0 / 30.0),  # and this one all the more
        (0.0, 3.0, 0.1),
        (1.0, 1.9, 1.9),  # more would be left than the last difference: the larger one counts
        (1.0, 0.5, 1.0),  # grew
        (1.0, None, 1.0),
        (0.0, 0.0, 0.0),
        (None, 1.0, None),
    ],
)
def test_uncertainty_of_the_reference(last, before, expected):
    assert reference_uncertainty(last, before) == (
        None if expected is None else pytest.approx(expected)
    )


@pytest.mark.parametrize("order", [1.2, 2.0, 3.5])
def test_uncertainty_knows_uneven_steps(order):
    """With an exact power law and any steps, what is said is the error of the reference."""
    h = np.array([1 / 16, 1 / 20, 1 / 45])
    error = 7.0 * h**order
    last, before = error[1] - error[2], error[0] - error[1]
    said = reference_uncertainty(last, before, h)
    assert said == pytest.approx(max(error[2], last / 3, before / 30), rel=1e-6)


@pytest.mark.parametrize("ratio", [0.45, 0.3, 0.1])
def test_uncertainty_bounds_what_is_left_of_a_geometric_series(ratio):
    """The true error of the tightest level is at most what is said, and not 4 times less."""
    steps = ratio ** np.arange(40)
    said = reference_uncertainty(steps[5], steps[4])
    left = steps[6:].sum()
    assert left <= said
    assert said <= max(left, steps[5] / 3) * (1 + 1e-9)  # 40 terms of the series are not all


def test_cheapest_needs_all_tighter_ones():
    cost = [1, 2, 3, 4, 5]
    whole = [True] * 5
    assert cheapest([False, False, True, True, True], whole, cost) == 2
    # good by chance at 1, bad again at 2
    assert cheapest([False, True, False, True, True], whole, cost) == 3
    assert cheapest([True] * 5, whole, cost) == 0
    assert cheapest([True, True, True, True, False], whole, cost) is None
    # a tighter setting that happens to be cheaper is taken
    assert cheapest([False, False, True, True, True], whole, [1, 2, 3, 2.5, 5]) == 3
    # failures: not taken, but no reason against looser ones
    assert cheapest([True, True, True, True, True], [True, True, False, False, False], cost) == 0
    assert cheapest([False, False, True, True, True], [True] * 2 + [False, True, True], cost) == 3
    assert cheapest([True] * 2, [False] * 2, cost[:2]) is None


def test_target_includes_the_error_of_the_reference():
    target = {"forces": 1.0, "stress": 1.0}
    assert meets({"forces": 0.7, "stress": 0.9}, {"forces": 0.3}, target)
    assert not meets({"forces": 0.7, "stress": 0.9}, {"forces": 0.4}, target)
    assert not meets({"forces": 0.7, "stress": 0.9}, {"forces": 0.1, "stress": 0.2}, target)
    assert meets({"forces": 0.7, "stress": None, "energy": 9.0}, {}, target)
