"""Driver of the kill tests: one campaign with a slow oracle that notes every call in a file."""

from __future__ import annotations

import os
import sys
import time

from linear_learner import linear_learner, lj_oracle, make_pool

from bayespot.active import CampaignSettings, run_campaign
from bayespot.errors import OracleError
from bayespot.oracles import calculation_key

SETTINGS = CampaignSettings(seed=7, initial=3, batch=2, rounds=4, test_fraction=0.25)
BROKEN = 12  # this structure of the pool always fails
DELAY = float(os.environ.get("KILL_DRIVER_DELAY", "0.06"))  # seconds


class NotedOracle:
    """Lennard-Jones that takes its time and writes down, append only, what it was asked."""

    def __init__(self, pool, calls: str) -> None:
        self._inner = lj_oracle()
        self.name, self.settings = self._inner.name, self._inner.settings
        self._handle = os.open(calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._broken = calculation_key(pool.structures[BROKEN], self.settings)

    def note(self, text: str) -> None:
        os.write(self._handle, f"{text}\n".encode())

    def label(self, structure):
        key = calculation_key(structure, self.settings)
        self.note(f"start {key}")
        time.sleep(DELAY)
        if key == self._broken:
            raise OracleError("not converged: made to fail")
        result = self._inner.label(structure)
        self.note(f"end {key}")
        return result


def slow_fit(*args, **kwargs):
    from linear_learner import fit

    time.sleep(DELAY)
    return fit(*args, **kwargs)


def main(folder: str, calls: str) -> None:
    pool = make_pool(24, labels=True)
    oracle = NotedOracle(pool, calls)
    oracle.note("ready")
    run_campaign(SETTINGS, pool=pool, oracle=oracle, learner=linear_learner(fit=slow_fit),
                 folder=folder)
    oracle.note("finished")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
