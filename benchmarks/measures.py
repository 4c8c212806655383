"""Graph measures of 1,000 connectomes of 116 regions, compared with a networkx loop.

One thread, CPU time, medians. The loop is timed on a sample and extrapolated.

    OMP_NUM_THREADS=1 python benchmarks/measures.py [--subjects 1000] [--sample 3]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import bct
import networkx as nx
import numpy as np

from connectome_tl.atlas import load_atlas
from connectome_tl.connectome.measures import graph_measures, local_efficiency


def connectomes(n_subjects: int, n_regions: int, density: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.gamma(1.0, 20.0, (n_subjects, n_regions, n_regions))
    values *= rng.random(values.shape) < density
    upper = np.triu(values, 1)
    return upper + upper.swapaxes(1, 2)


def with_networkx(matrix: np.ndarray, communities: list[set[int]]) -> list[float]:
    """The same seven global measures of one subject."""
    graph = nx.from_numpy_array(matrix)
    for _, _, data in graph.edges(data=True):
        data["length"] = 1 / data["weight"]
    lengths = [v for _, d in nx.all_pairs_dijkstra_path_length(graph, weight="length") for v in d.values() if v > 0]
    n = len(graph)
    return [
        nx.density(graph),
        float(np.mean([value for _, value in graph.degree(weight="weight")])),
        nx.average_clustering(graph, weight="weight"),
        sum(1 / length for length in lengths) / (n * (n - 1)),
        float(np.mean(lengths)),
        max(nx.rich_club_coefficient(graph, normalized=False).values()),
        nx.community.modularity(graph, communities, weight="weight"),
    ]


def cpu(run: Callable[[], object], repeats: int) -> float:
    spent = []
    for _ in range(repeats):
        started = time.process_time()
        run()
        spent.append(time.process_time() - started)
    return median(spent)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--subjects", type=int, default=1000)
    parser.add_argument("--sample", type=int, default=3)
    arguments = parser.parse_args()
    partition = np.array([region.lobe for region in load_atlas("aal116").regions])
    communities = [set(np.flatnonzero(partition == lobe).tolist()) for lobe in np.unique(partition)]
    for density in (0.2, 1.0):
        weights = connectomes(arguments.subjects, len(partition), density)
        whole = cpu(lambda w=weights: graph_measures(w, partition=partition), 3)
        one = cpu(lambda w=weights: with_networkx(w[0], communities), arguments.sample)
        table = graph_measures(weights[:1], partition=partition)
        difference = float(np.abs(table.to_numpy()[0] - with_networkx(weights[0], communities)).max())
        print(f"density {density:g}: {whole:.2f} CPU s for {arguments.subjects} subjects")
        print(f"  networkx {one:.3f} CPU s a subject, extrapolated {one * arguments.subjects:.0f} s")
        print(f"  largest difference {difference:.1e}")
        print(f"ratio_measures_density_{density:g}: {one * arguments.subjects / whole:.0f}")
        few = weights[: max(1, arguments.subjects // 10)]
        whole = cpu(lambda w=few: local_efficiency(w), 1)
        one = cpu(lambda w=weights: bct.efficiency_wei(w[0], local=True), 1)
        print(f"  local efficiency: {whole:.2f} CPU s for {len(few)} subjects, bctpy {one:.1f} s a subject")
        print(f"ratio_local_efficiency_density_{density:g}: {one * len(few) / whole:.0f}")


if __name__ == "__main__":
    main()
