"""References of the methods that a run used, for the page and as BibTeX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from connectome_tl.settings.records.explanations import ExplanationRecord
from connectome_tl.settings.records.results import RunRecord


@dataclass(frozen=True)
class Reference:
    """One entry. `used` decides from the record whether a run has to cite it."""

    key: str
    authors: str
    title: str
    where: str
    year: int
    doi: str
    why: str
    used: Callable[[RunRecord], bool] = bool

    @property
    def bibtex(self) -> str:
        """The entry in BibTeX."""
        authors = " and ".join(self.authors.split("; "))
        title = f"{{{self.title}}}"  # braces preserve capitals
        fields = {"author": authors, "title": title, "journal": self.where, "year": str(self.year), "doi": self.doi}
        inner = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items() if value)
        return f"@article{{{self.key},\n{inner}\n}}\n"

    @property
    def text(self) -> str:
        """Authors, year, title, where, DOI."""
        first = self.authors.split("; ")
        who = first[0] if len(first) == 1 else f"{first[0]} et al." if len(first) > 2 else " & ".join(first)
        doi = f", doi:{self.doi}" if self.doi else ""
        return f"{who} {self.year}. {self.title}. {self.where}{doi}"


def _says(*words: str) -> Callable[[RunRecord], bool]:
    return lambda record: any(word in record.methods for word in words)


def _has(package: str) -> Callable[[RunRecord], bool]:
    return lambda record: package in record.versions


REFERENCES: tuple[Reference, ...] = (
    Reference(
        "allen1974",
        "Allen, D. M.",
        "The relationship between variable selection and data augmentation and a method for prediction",
        "Technometrics",
        1974,
        "10.1080/00401706.1974.10489157",
        "leave-out predictions of ridge in closed form",
        _says("closed-form core"),
    ),
    Reference(
        "patterson1971",
        "Patterson, H. D.; Thompson, R.",
        "Recovery of inter-block information when block sizes are unequal",
        "Biometrika",
        1971,
        "10.1093/biomet/58.3.545",
        "weights of the blocks of the core",
        _says("closed-form core"),
    ),
    Reference(
        "he2020",
        "He, T.; Kong, R.; Holmes, A. J.",
        "Deep neural networks and kernel regression achieve comparable accuracies for functional "
        "connectivity prediction of behavior and demographics",
        "NeuroImage",
        2020,
        "10.1016/j.neuroimage.2019.116276",
        "kernel ridge regression compared with networks",
        _says("closed-form core"),
    ),
    Reference(
        "varoquaux2010",
        "Varoquaux, G.; Baronnet, F.; Kleinschmidt, A.; Fillard, P.; Thirion, B.",
        "Detection of brain functional-connectivity difference in post-stroke patients using "
        "group-level covariance modeling",
        "MICCAI",
        2010,
        "10.1007/978-3-642-15705-9_25",
        "tangent space",
        _says("tangent space"),
    ),
    Reference(
        "johnson2007",
        "Johnson, W. E.; Li, C.; Rabinovic, A.",
        "Adjusting batch effects in microarray expression data using empirical Bayes methods",
        "Biostatistics",
        2007,
        "10.1093/biostatistics/kxj037",
        "site effects",
        _says("ComBat"),
    ),
    Reference(
        "he2016",
        "He, K.; Zhang, X.; Ren, S.; Sun, J.",
        "Deep residual learning for image recognition",
        "CVPR",
        2016,
        "10.1109/CVPR.2016.90",
        "network on volumes",
        _says("3D ResNet"),
    ),
    Reference(
        "huang2017",
        "Huang, G.; Liu, Z.; van der Maaten, L.; Weinberger, K. Q.",
        "Densely connected convolutional networks",
        "CVPR",
        2017,
        "10.1109/CVPR.2017.243",
        "network on volumes",
        _says("3D DenseNet"),
    ),
    Reference(
        "peng2021",
        "Peng, H.; Gong, W.; Beckmann, C. F.; Vedaldi, A.; Smith, S. M.",
        "Accurate brain age prediction with lightweight deep neural networks",
        "Medical Image Analysis",
        2021,
        "10.1016/j.media.2020.101871",
        "network on volumes",
        _says("simple fully convolutional 3D network"),
    ),
    Reference(
        "cheng2021",
        "Cheng, J.; Liu, Z.; Guan, H.; and others",
        "Brain age estimation from MRI using cascade networks with ranking loss",
        "IEEE Transactions on Medical Imaging",
        2021,
        "10.1109/TMI.2021.3085948",
        "age network in two stages, dense multi-scale network",
        _says("an age network in two stages", "dense multi-scale 3D network"),
    ),
    Reference(
        "wang2021",
        "Wang, H.; Zhang, C.; Yu, J.; and others",
        "Voxel-wise cross-volume representation learning for 3D neuron reconstruction",
        "MLMI",
        2021,
        "",
        "contrast between voxels (arXiv:2108.06522)",
        _says("contrast between voxels"),
    ),
    Reference(
        "platt1999",
        "Platt, J.",
        "Probabilistic outputs for support vector machines and comparisons to regularized likelihood methods",
        "Advances in Large Margin Classifiers",
        1999,
        "",
        "recalibration",
        _says("Platt"),
    ),
    Reference(
        "winkler2015",
        "Winkler, A. M.; Webster, M. A.; Vidaurre, D.; Nichols, T. E.; Smith, S. M.",
        "Multi-level block permutation",
        "NeuroImage",
        2015,
        "10.1016/j.neuroimage.2015.05.092",
        "permutation tests",
        lambda record: bool(record.permutations),
    ),
    Reference(
        "riley2023",
        "Riley, R. D.; Collins, G. S.",
        "Stability of clinical prediction models developed using statistical or machine learning methods",
        "Biometrical Journal",
        2023,
        "10.1002/bimj.202200302",
        "instability of single risks",
        lambda record: bool(record.instability),
    ),
    Reference(
        "vickers2006",
        "Vickers, A. J.; Elkin, E. B.",
        "Decision curve analysis: a novel method for evaluating prediction models",
        "Medical Decision Making",
        2006,
        "10.1177/0272989X06295361",
        "net benefit",
        lambda record: bool(record.decision_curves),
    ),
    Reference(
        "collins2024",
        "Collins, G. S.; Moons, K. G. M.; Dhiman, P.; and others",
        "TRIPOD+AI statement: updated guidance for reporting clinical prediction models that use "
        "regression or machine learning methods",
        "BMJ",
        2024,
        "10.1136/bmj-2023-078378",
        "reporting",
    ),
    Reference(
        "moons2025",
        "Moons, K. G. M.; Damen, J. A. A.; Kaul, T.; and others",
        "PROBAST+AI: an updated quality, risk of bias, and applicability assessment tool for "
        "prediction models using regression or artificial intelligence methods",
        "BMJ",
        2025,
        "10.1136/bmj-2024-082505",
        "appraisal",
    ),
    Reference(
        "tejani2024",
        "Tejani, A. S.; Klontzas, M. E.; Gatti, A. A.; and others",
        "Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 update",
        "Radiology: Artificial Intelligence",
        2024,
        "10.1148/ryai.240300",
        "reporting",
    ),
    Reference(
        "pedregosa2011",
        "Pedregosa, F.; Varoquaux, G.; Gramfort, A.; and others",
        "Scikit-learn: machine learning in Python",
        "Journal of Machine Learning Research",
        2011,
        "",
        "software",
        _has("scikit-learn"),
    ),
    Reference(
        "harris2020",
        "Harris, C. R.; Millman, K. J.; van der Walt, S. J.; and others",
        "Array programming with NumPy",
        "Nature",
        2020,
        "10.1038/s41586-020-2649-2",
        "software",
        _has("numpy"),
    ),
    Reference(
        "virtanen2020",
        "Virtanen, P.; Gommers, R.; Oliphant, T. E.; and others",
        "SciPy 1.0: fundamental algorithms for scientific computing in Python",
        "Nature Methods",
        2020,
        "10.1038/s41592-019-0686-2",
        "software",
        _has("scipy"),
    ),
    Reference(
        "paszke2019",
        "Paszke, A.; Gross, S.; Massa, F.; and others",
        "PyTorch: an imperative style, high-performance deep learning library",
        "Advances in Neural Information Processing Systems",
        2019,
        "",
        "software",
        _has("torch"),
    ),
)
OF_EXPLANATIONS: tuple[Reference, ...] = (
    Reference(
        "haufe2014",
        "Haufe, S.; Meinecke, F.; Goergen, K.; and others",
        "On the interpretation of weight vectors of linear models in multivariate neuroimaging",
        "NeuroImage",
        2014,
        "10.1016/j.neuroimage.2013.10.067",
        "patterns",
    ),
    Reference(
        "sundararajan2017",
        "Sundararajan, M.; Taly, A.; Yan, Q.",
        "Axiomatic attribution for deep networks",
        "ICML",
        2017,
        "",
        "integrated gradients",
    ),
    Reference(
        "erion2021",
        "Erion, G.; Janizek, J. D.; Sturmfels, P.; Lundberg, S. M.; Lee, S.-I.",
        "Improving performance of deep learning models with axiomatic attribution priors and expected gradients",
        "Nature Machine Intelligence",
        2021,
        "10.1038/s42256-021-00343-w",
        "paths from training rows",
    ),
    Reference(
        "kokhlikyan2020",
        "Kokhlikyan, N.; Miglani, V.; Martin, M.; and others",
        "Captum: a unified and generic model interpretability library for PyTorch",
        "arXiv:2009.07896",
        2020,
        "",
        "software",
    ),
)


def references_of(record: RunRecord, explained: ExplanationRecord | None = None) -> list[Reference]:
    """References of the methods that this run used, sorted by key."""
    found = [one for one in REFERENCES if one.used(record)] if record.scores else []
    found += OF_EXPLANATIONS if explained is not None and explained.maps else ()
    return sorted(found, key=lambda one: one.key)


def bibliography(found: list[Reference]) -> str:
    """A BibTeX file."""
    return "\n".join(one.bibtex for one in found)
