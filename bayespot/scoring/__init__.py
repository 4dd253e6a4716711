r"""How good a prediction and its error bars are: every score is a function of (prediction, truth).

The arguments are plain arrays of one quantity in one unit; a score has that unit or none.
Error bars are those of a Gaussian, ``mean +- z std``. Scores of which less is better: `rmse`,
`mae`, `crps_gaussian`, `log_score`, `miscalibration_area`, `ence`. A good `rms_z` is 1, a good
`rank_correlation` is `expected_rank_correlation`.

A coverage is a fraction, so it comes with an interval: `wilson_interval` where the cases are
independent, `cluster_bootstrap_coverage` where they come in clusters. Force components of one
configuration are strongly dependent; the configuration, or the family, is the unit.
"""

from bayespot.scoring.intervals import (
    Coverage,
    cluster_bootstrap_coverage,
    cluster_bootstrap_mean,
    coverage_over_groups,
    mean_over_groups,
    wilson_interval,
)
from bayespot.scoring.spread import (
    FORCE_ZERO,
    Score,
    coverage,
    coverage_curve,
    covered,
    crps_gaussian,
    ence,
    expected_rank_correlation,
    log_score,
    mae,
    miscalibration_area,
    rank_correlation,
    rms_z,
    rmse,
    score,
    sharpness,
    symmetry_zeros,
)

__all__ = [
    "FORCE_ZERO",
    "Coverage",
    "Score",
    "cluster_bootstrap_coverage",
    "cluster_bootstrap_mean",
    "coverage",
    "coverage_curve",
    "coverage_over_groups",
    "covered",
    "crps_gaussian",
    "ence",
    "expected_rank_correlation",
    "log_score",
    "mae",
    "mean_over_groups",
    "miscalibration_area",
    "rank_correlation",
    "rms_z",
    "rmse",
    "score",
    "sharpness",
    "symmetry_zeros",
    "wilson_interval",
]
