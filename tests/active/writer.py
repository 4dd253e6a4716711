"""Processes that write into one ledger, for the tests of sharing.

    python writer.py work FOLDER OUT         claim what is asked for, one after the other
    python writer.py ask FOLDER SEED         ask for all structures, in an order of its own
    python writer.py hang FOLDER             claim one and never come back
"""

import sys
import time
from pathlib import Path

import numpy as np
from linear_learner import lj_oracle, make_pool

from bayespot.active.ledger import Ledger

N = 12


def asked(ledger, indices, oracle):
    pool = make_pool(N)
    return ledger.ask(
        [pool.structures[i] for i in indices], oracle.settings, round=0, role="batch",
        indices=indices, families=[pool.families[i] for i in indices],
    )


def main(what, folder, *more):
    oracle = lj_oracle()
    with Ledger.open(folder, shared=True, lease=1.0) as ledger:
        print("ready", flush=True)
        if what == "ask":
            order = np.random.default_rng(int(more[0])).permutation(N).tolist()
            for i in order:
                asked(ledger, [i], oracle)
        if what == "work":
            mine = []
            for key, state in ledger.states().items():
                if state == "asked" and ledger.claim([key]):
                    mine.append(key)
                    ledger.finish(key, oracle.label(ledger.entries([key])[0].structure))
            Path(more[0]).write_text("\n".join(mine))
        if what == "hang":
            ledger.claim(list(ledger.states())[:1])
            print("claimed", flush=True)
            time.sleep(600)


if __name__ == "__main__":
    main(*sys.argv[1:])
