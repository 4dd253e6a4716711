"""How a problem is fitted: every function takes a `FitProblem` and returns a `Posterior`."""
