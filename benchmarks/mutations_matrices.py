"""Structure-aware mutants of every matrix format, with the correct result known from their construction.

Prints the numbers of mutants read correctly, refused, read with a warning, refused although readable, and failed
(silently wrong, traceback, more than 5 s); and the peak memory of the whole process. Linux only (memory).

    python benchmarks/mutations_matrices.py [--mutants 1000] [--seed 1] [--only "csv: permuted"]
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path

from rich.progress import track

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "properties"))
from matrix_mutants import makers
from mutation_outcomes import FAILURES, outcome

MOST_MEMORY = 1_000_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutants", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="mutants whose names contain this text")
    asked = parser.parse_args()
    chosen = [(name, make) for name, make in makers() if asked.only in name]
    counts: Counter[str] = Counter()
    failures, refusals = [], Counter[str]()
    made = number = 0
    with tempfile.TemporaryDirectory() as folder:
        for _ in track(range(asked.mutants), description="mutants"):
            found = "not made"
            while found == "not made":
                name, make = chosen[number % len(chosen)]
                found, why = outcome(make, Path(folder) / "m", [asked.seed, number])
                number += 1
            made += 1
            counts[found] += 1
            if found in FAILURES:
                failures.append(f"{name} (seed {asked.seed}, number {number - 1}): {found}: {why}")
            elif found.startswith("refused although"):
                refusals[name] += 1
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for line in failures:
        print(line)
    for name, count in refusals.most_common():
        print(f"refused although it could be read: {name} ({count})")
    for what, count in counts.most_common():
        print(f"{what:<35} {count:>6}")
    print(f"{'mutants':<35} {made:>6}")
    print(f"{'peak memory, MB':<35} {memory // 1_000_000:>6}")
    return 1 if failures or memory > MOST_MEMORY else 0


if __name__ == "__main__":
    sys.exit(main())
