"""Whether the error bars of a fit cover structures that it has not seen.

    validation = cross_validate(dataset, fit, folds=folds(dataset))
    print(validation.text())

`folds` says what is left out together, `cross_validate` refits without each fold and predicts it,
`loo` leaves out single structures without a refit, `compare` puts several potentials side by side.
"""

from bayespot.validation.comparing import Comparison, compare
from bayespot.validation.held_out import held_out_cases, together
from bayespot.validation.one_left_out import LeaveOneOut, loo
from bayespot.validation.refits import Validation, cross_validate
from bayespot.validation.splitting import folds

__all__ = [
    "Comparison",
    "LeaveOneOut",
    "Validation",
    "compare",
    "cross_validate",
    "folds",
    "held_out_cases",
    "loo",
    "together",
]
