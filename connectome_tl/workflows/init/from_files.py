"""`connectome-tl init --from TABLE --matrices FOLDER` (or `--images`): inspect files, ask, write settings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from connectome_tl.arguments import checked_arguments
from connectome_tl.atlas import load_atlas
from connectome_tl.errors import OutputError
from connectome_tl.provenance import write_text
from connectome_tl.workflows.init.images import look_at_images
from connectome_tl.workflows.init.look import Seen, all_of, look
from connectome_tl.workflows.init.questions import FILE_QUESTIONS, Ask, choice_of, settle
from connectome_tl.workflows.init.text import cohort_text, study_text


@checked_arguments
def init_study(
    table: str | Path | Sequence[str | Path],
    matrices: str | Path,
    folder: str | Path,
    *,
    answers: Mapping[str, str] | None = None,
    pattern: str | None = None,
    atlas: str | None = None,
    images: bool = False,
) -> tuple[Path, ...]:
    """Write a `cohort.yaml` and a `study.yaml` from a spreadsheet and matrices, like `connectome-tl init --from`.

    Args:
        table: the spreadsheet, or several that are joined by id, that of the participants first.
        matrices: folder of the matrices. folder: where the settings are written.
        images: whether `matrices` is a folder of images, one volume per subject, as for `--images`.
        answers: what the files do not contain, as for `--answer`: `{"atlas": "aal90"}`.
        pattern: pattern of the matrices, if subjects have several.
        atlas: atlas of the rows if the files do not name them.

    Returns:
        The written files; `study.yaml` is not written if the table has no outcome.

    Raises:
        DataError: the ids of the table and the names of the files do not match. OutputError: a file exists already.
    """
    told = answers or {}
    tables = [Path(table)] if isinstance(table, str | Path) else [Path(one) for one in table]
    _, made = start_from(
        tables, Path(matrices), Path(folder), answers=told, ask=None, pattern=pattern, atlas=atlas, images=images
    )
    return tuple(made)


def start_from(
    tables: Sequence[Path],
    matrices: Path,
    folder: Path,
    *,
    answers: Mapping[str, str],
    ask: Ask | None,
    pattern: str | None = None,
    atlas: str | None = None,
    images: bool = False,
) -> tuple[Seen, list[Path]]:
    """Inspect the files, ask questions, and write the settings.

    Args:
        tables: that of the participants, and further ones.
        atlas: atlas of the rows if the files do not name them. pattern: of the files, if the subjects have several.
        images: whether `matrices` is a folder of images.
    """
    told = {key: answers[key] for key in FILE_QUESTIONS if key in answers} | ({"pattern": pattern} if pattern else {})
    if "pattern" in told:  # relative to the matrices, or as the note on other patterns and cohort.yaml have it
        told["pattern"] = told["pattern"].removeprefix(f"{Path(os.path.relpath(matrices, folder)).as_posix()}/")
    answers = {key: value for key, value in answers.items() if key not in FILE_QUESTIONS}
    inspect = look_at_images if images else look
    seen = inspect(tables, matrices, folder, lambda key, choices: choice_of(key, choices, told, ask))
    if atlas is not None:
        seen = replace(seen, atlases=(load_atlas(atlas).name,))
        answers = answers if seen.named else {"atlas": seen.atlases[0], **answers}
    seen, settled = settle(seen, answers, ask)
    return seen, write_start(seen, settled, folder)


def write_start(seen: Seen, answers: Mapping[str, str], folder: Path) -> list[Path]:
    """Write cohort.yaml and, if there are outcomes, study.yaml, without overwriting files.

    Raises:
        OutputError: a file of that name exists.
    """
    texts = {"cohort.yaml": cohort_text(seen, answers, folder)}
    outcomes = all_of(seen, "outcome")
    if outcomes:
        texts["study.yaml"] = study_text(seen)
    for name in texts:
        if (folder / name).exists():
            remedy = "Give another folder; or keep it, edit it, and check it with `connectome-tl cohort`."
            raise OutputError("this file exists already", file=folder / name, remedy=remedy)
    return [write_text(folder / name, text) for name, text in texts.items()]
