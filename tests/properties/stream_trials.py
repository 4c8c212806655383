"""Mutants processed by the package: each outcome is right, an allowed refusal, or a named failure."""

from __future__ import annotations

import contextlib
import resource
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import nibabel as nib
import numpy as np
import pandas as pd

from connectome_tl.errors import ConnectomeTLError, InternalError
from connectome_tl.imaging.read.dwi import read_dwi
from connectome_tl.workflows.data.assemble import assemble_files
from tests.properties.gradient_mutations import GRADIENTS, N, table
from tests.properties.image_mutations import IMAGES, WEIGHTS
from tests.properties.stream_scene import Must, Rng, expected, files_of, scene
from tests.properties.track_mutations import TRACKS

SECONDS, MEMORY = 5, 1 << 30
_ALL = [
    *((name, "tracks") for name in TRACKS),
    *((name, "image") for name in IMAGES),
    *((name, "weights") for name in WEIGHTS),
    *((name, "gradients") for name in GRADIENTS),
]


class Hang(Exception):
    """A mutant took too long."""


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _outcome(run: Callable[[], bool], must: Must) -> str:
    """`right`, `refused`, or a failure: `silently wrong`, `refused wrongly`, `hang`, `memory`, `traceback`."""
    try:
        with _in_time():
            right = run()
    except InternalError as error:
        return f"traceback: {error}"
    except ConnectomeTLError as error:
        return f"refused wrongly: {error}" if must is Must.READ else "refused"
    except Hang:
        return "hang"
    except MemoryError:
        return "memory"
    except Exception as error:  # every other exception is a traceback for the user
        return f"traceback: {type(error).__name__}: {error}"
    if right and must is not Must.REFUSE:
        return "right"
    return "read although it must not be" if right else "silently wrong"


def _assembly(rng: Rng, folder: Path, first: tuple[str, str]) -> tuple[str, str]:
    """One mutation of each kind for a third of the mutants, otherwise the named one only."""
    name, kind = first
    several = rng.random() < 0.33
    chosen = {"image": "as u1", "tracks": "tck double", "weights": "none"}
    if several:
        chosen = {k: str(rng.choice([*of])) for k, of in (("image", IMAGES), ("tracks", TRACKS), ("weights", WEIGHTS))}
    chosen[kind] = name
    files, musts = files_of(scene(rng)), set()
    for k, of in (("image", IMAGES), ("tracks", TRACKS), ("weights", WEIGHTS)):
        must, mutate = of[chosen[k]]
        musts.add(must)
        files = mutate(files, rng)
    must = next(m for m in (Must.REFUSE, Must.EITHER, Must.READ) if m in musts)

    def run() -> bool:
        paths = files.write(folder)
        done = assemble_files(
            paths["tracks"], paths["image"], folder / "out.tsv", labels=paths["table"], weights=paths.get("weights")
        )
        found = pd.read_csv(done.file, sep="\t")
        truth = expected(files.scene, weighted=files.weights is not None)
        return tuple(found.columns) == files.scene.names and np.allclose(found.to_numpy(), truth, rtol=1e-6, atol=1e-9)

    label = ", ".join(chosen.values()) if several else name
    return label, _outcome(run, must)


def _gradients(rng: Rng, folder: Path, name: str) -> tuple[str, str]:
    must, mutate = GRADIENTS[name]
    given = mutate(table(rng), rng)

    def run() -> bool:
        paths = {ending: folder / f"dwi.{ending}" for ending in given.files}
        for ending, path in paths.items():
            path.write_bytes(given.files[ending])
        image = nib.Nifti1Image(rng.uniform(50, 900, (4, 4, 4, N)).astype(np.float32), given.affine)
        image.set_sform(given.affine, 1)
        nib.save(image, folder / "dwi.nii")
        dwi = read_dwi(
            folder / "dwi.nii", paths.get("bval"), paths.get("bvec"), table=paths.get("b"), b0_max=given.b0_max
        )
        weighted = given.bvals > given.b0_max
        same = np.allclose(dwi.bvals, given.bvals, rtol=0.02, atol=1e-6) and (dwi.is_b0 == ~weighted).all()
        return bool(same and np.allclose(dwi.directions[weighted], given.world[weighted], atol=1e-5))

    return name, _outcome(run, must)


def trials(seed: int, n: int, *, show: Callable[[str], None] | None = None) -> tuple[Counter[str], list[str]]:
    """Outcomes of n mutants, each mutation at least n / (number of mutations) times; and the single failures."""
    outcomes: Counter[str] = Counter()
    faults = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for k in range(n):
        rng = np.random.default_rng([seed, k])
        name, kind = _ALL[k % len(_ALL)]
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            what, found = _gradients(rng, folder, name) if kind == "gradients" else _assembly(rng, folder, (name, kind))
        outcomes[found.partition(":")[0]] += 1
        if found not in ("right", "refused"):
            faults.append(f"seed {seed}, mutant {k}, {kind}: {what}: {found}")
            if show is not None:
                show(faults[-1])
    if (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 > MEMORY:
        outcomes["memory"] += 1
        faults.append(f"seed {seed}: more than {MEMORY >> 30} GB")
    return outcomes, faults


N_MUTATIONS = len(_ALL)
