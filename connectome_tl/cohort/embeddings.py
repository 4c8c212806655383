"""Read precomputed image embeddings of a cohort, and check that they belong to its images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.imaging.volumes.cache import image_hash
from connectome_tl.plurals import counted
from connectome_tl.settings.images.embedding import ImageEmbeddings
from connectome_tl.wording import first_fault


def read_embeddings(file: str | Path) -> ImageEmbeddings:
    """Read a file of `connectome-tl embed`.

    Raises:
        MissingInputError: no such file. DataError: another or a damaged file.
    """
    path = Path(file)
    try:
        return ImageEmbeddings.model_validate_json(path.read_text("utf-8"))
    except OSError as error:
        raise MissingInputError(
            "embeddings not found", file=path, remedy="Make them with `connectome-tl embed RUN COHORT.yaml --out FILE`."
        ) from error
    except (ValidationError, UnicodeDecodeError) as error:
        what = first_fault(error) if isinstance(error, ValidationError) else "it is not text"
        raise DataError(
            f"not a file of embeddings: {what}", file=path, remedy="Make it again with `connectome-tl embed`."
        ) from error


def with_embeddings(cohort: Cohort, file: str | Path) -> Cohort:
    """The cohort with the embeddings of its images; subjects without an embedding count as without an image.

    Raises:
        MissingInputError, DataError: as `read_embeddings`; an embedding of another image than the subject's; none of
            any subject.
    """
    found = read_embeddings(file)
    for subject, image in zip(cohort.ids, cohort.volumes, strict=False):
        if image and subject in found.images and image_hash(image) != found.images[subject]:
            raise DataError(
                "the embedding was computed from another image than the subject's current one",
                subject=subject,
                file=image,
                remedy="Make the embeddings again with `connectome-tl embed`.",
            )
    images = tuple(
        image if subject in found.images else "" for subject, image in zip(cohort.ids, cohort.volumes, strict=False)
    )
    if not any(images):
        raise DataError(
            f"no image of cohort {cohort.name!r} has an embedding in this file",
            file=file,
            remedy="Make the embeddings from this cohort.yaml, which needs `volumes`.",
        )
    lost = sum(map(bool, cohort.volumes)) - sum(map(bool, images))
    notes = (f"{counted(lost, 'image has', 'images have')} no embedding (missing)",) if lost else ()
    return replace(cohort, embeddings=found, volumes=images, notes=(*cohort.notes, *found.notes, *notes))
