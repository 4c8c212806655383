"""Settings of image embeddings from the network of another study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from connectome_tl.settings.base import Record, Settings
from connectome_tl.settings.encoders import Count, EncoderSettings, Probability
from connectome_tl.settings.records.scores import Number


class EmbeddingUse(Settings):
    """A file of `connectome-tl embed` in the place of volumes.

    Each outer fold takes the first of its fits that saw neither a tested subject nor kin of one; where all did, the
    study is refused.

    Args:
        file: relative to study.yaml.
        what: the `embedding`, or the `age_gap`: predicted minus true age, corrected by a line of the gap by age that
            is fitted on the training rows of each fold.
        hash: SHA-256 of the file; filled in by a run.
        fit: which fit's; filled in for each fold.
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
            f"Instead of volumes the models saw {what}, made by networks of another study that had seen neither the "
            "tested subjects nor their kin."
        )


class EmbeddingEncoder(EncoderSettings):
    """A dense layer on embeddings that were made beforehand (`image.embedding`)."""

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
    """What one fit makes of the subjects.

    Attributes:
        fit: its key. stage: finetune or pretrain.
        seen, families: subjects that the fit, or one before it, learnt from, and their families.
        age_unit: of the gap; empty where the fit predicts no age.
        embedding: subject to (width,). gap: subject to predicted minus true age, where that is known.
    """

    fit: str
    stage: str
    seen: tuple[str, ...]
    families: tuple[str, ...] = ()
    age_unit: str = ""
    embedding: dict[str, tuple[Number, ...]]
    gap: dict[str, Number] = Field(default_factory=dict)


class ImageEmbeddings(Record):
    """Embeddings by fit and subject.

    Attributes:
        made_of: hashes of the study and the cohort, and versions.
        images: SHA-256 of the image that each subject's embeddings were made of.
    """

    made_of: dict[str, str]
    images: dict[str, str]
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

    def unseen_by(self, ids: frozenset[str], families: frozenset[str]) -> EmbeddedFit | None:
        """The first fit that saw none of these subjects and none of their families.

        A family may be called by the id of a subject, as that of volumes made from its label map is.
        """
        kin = families | ids
        return next((one for one in self.fits if not ids & set(one.seen) and not kin & set(one.families)), None)

    def renamed(self, ids: Sequence[str], names: Sequence[str]) -> ImageEmbeddings:
        """The embeddings of `ids` under these names; one subject may come under several."""
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
