"""Settings of image embeddings from the network of another study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from connectome_tl.settings.base import Record, Settings
from connectome_tl.settings.encoders import Count, EncoderSettings, Probability
from connectome_tl.settings.records.scores import Number


class EmbeddingUse(Settings):
    """Use a file of `connectome-tl embed` instead of volumes.

    Each outer fold uses the first fit of the file that was trained without its tested subjects and their relatives. If
    there is none, the study is refused.

    Args:
        file: relative to study.yaml.
        what: the `embedding`, or the `age_gap`: predicted minus true age, corrected by a linear fit of the gap on
            age in the training rows of each fold.
        hash: SHA-256 of the file; set by a run.
        fit: key of the fit; set for each fold.
    """

    file: str = Field(min_length=1)
    what: Literal["embedding", "age_gap"] = "embedding"
    hash: str = ""
    fit: str = ""

    def describe(self) -> str:
        """A sentence for the methods section."""
        what = {
            "embedding": "embeddings of their images",
            "age_gap": "their brain-age gap, corrected for age on the training rows of each fold",
        }[self.what]
        return (
            f"Instead of volumes, the models used {what}, computed by networks of another study that were trained "
            "without the tested subjects and their relatives."
        )


class EmbeddingEncoder(EncoderSettings):
    """A dense layer on precomputed embeddings (`image.embedding`)."""

    modality: ClassVar[str] = "image"
    kind: Literal["embedding"] = "embedding"
    width: Count = 16
    dropout: Probability = 0.0

    @property
    def is_atlas_bound(self) -> bool:
        return False

    def describe(self) -> str:
        return f"a dense layer of width {self.width} on precomputed image embeddings"


class EmbeddedFit(Record):
    """Embeddings of the subjects by one fit.

    Attributes:
        fit: its key. stage: finetune or pretrain.
        seen, families, participants: training subjects of the fit and of earlier fits, their families, and their
            participants if they are scans.
        age_unit: unit of the gap; empty if the fit does not predict age.
        embedding: (width,) by subject. gap: predicted minus true age by subject, if known.
    """

    fit: str
    stage: str
    seen: tuple[str, ...]
    families: tuple[str, ...] = ()
    participants: tuple[str, ...] = ()
    age_unit: str = ""
    embedding: dict[str, tuple[Number, ...]]
    gap: dict[str, Number] = Field(default_factory=dict)


class ImageEmbeddings(Record):
    """Embeddings by fit and subject.

    Attributes:
        made_of: hashes of the study and the cohort, and versions.
        images: SHA-256 of the image of each subject.
        notes: what to consider before these embeddings are used.
    """

    made_of: dict[str, str]
    images: dict[str, str]
    notes: tuple[str, ...] = ()
    fits: Annotated[tuple[EmbeddedFit, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _rows_are_alike(self) -> ImageEmbeddings:
        for one in self.fits:
            if set(one.embedding) != set(self.images) or len({len(row) for row in one.embedding.values()}) > 1:
                raise ValueError(f"fit {one.fit[:12]} has not one embedding of the same width per image")
        return self

    def of(self, fit: str) -> EmbeddedFit | None:
        """The record of one fit."""
        return next((one for one in self.fits if one.fit == fit), None)

    def renamed(self, ids: Sequence[str], names: Sequence[str]) -> ImageEmbeddings:
        """The embeddings of `ids` under new names; a subject may get several names."""
        pairs = [(new, old) for new, old in zip(names, ids, strict=True) if old in self.images]
        fits = tuple(
            one.model_copy(
                update={
                    "embedding": {new: one.embedding[old] for new, old in pairs},
                    "gap": {new: one.gap[old] for new, old in pairs if old in one.gap},
                }
            )
            for one in self.fits
        )
        return self.model_copy(update={"images": {new: self.images[old] for new, old in pairs}, "fits": fits})
