"""An oracle for tests of workers: Lennard-Jones that takes its time and writes down every call.

What it notes goes to a file that is only appended to, so that calls can be counted without the
ledger. It is found by workers through PYTHONPATH.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from linear_learner import lj_oracle

from bayespot.errors import OracleError
from bayespot.oracles import calculation_key


class SlowOracle:
    """Notes, waits, calculates, notes; fails for, or kills its process for, stated structures."""

    def __init__(self, calls, *, delay=0.05, fails=(), kills=(), once=()) -> None:
        inner = lj_oracle()
        self.name, self.settings = inner.name, inner.settings
        self.calls, self.delay = str(calls), delay
        self.fails, self.kills, self.once = set(fails), set(kills), set(once)

    def note(self, text: str) -> None:
        handle = os.open(self.calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{text}\n".encode())
        os.close(handle)

    def label(self, structure):
        key = calculation_key(structure, self.settings)
        before = Path(self.calls).read_text() if Path(self.calls).exists() else ""
        self.note(f"start {key} {os.getpid()} {time.time():.3f}")
        if key in self.kills or (key in self.once and key not in before):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.delay)
        if key in self.fails:
            raise OracleError("not converged", "not_converged", [{"mixing": 0.1}])
        result = lj_oracle().label(structure)
        self.note(f"end {key} {os.getpid()} {time.time():.3f}")
        return result
