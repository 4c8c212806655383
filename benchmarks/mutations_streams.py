"""About 1,000 mutants of tractograms, label images, weights and gradient tables against an independent oracle.

Prints the numbers of mutants read correctly, refused, and failed (silently wrong, refused wrongly, read
although header and content disagree, traceback, more than 5 s, more than 1 GB), and every failure with its seed.

    OMP_NUM_THREADS=1 python benchmarks/mutations_streams.py [--n 1000] [--seeds 1 2 3]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.properties.stream_trials import N_MUTATIONS, trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000, help="mutants, over all seeds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    given = parser.parse_args()
    total: Counter[str] = Counter()
    n_faults, start = 0, time.monotonic()
    for seed in given.seeds:
        outcomes, faults = trials(seed, given.n // len(given.seeds), show=print)
        total += outcomes
        n_faults += len(faults)
    seconds = time.monotonic() - start
    print(f"{sum(total.values())} mutants of {N_MUTATIONS} kinds, seeds {given.seeds}, {seconds:.0f} s")
    for outcome, count in total.most_common():
        print(f"{count:6d} {outcome}")
    sys.exit(1 if n_faults else 0)


if __name__ == "__main__":
    main()
