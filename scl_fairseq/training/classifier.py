"""``scl_fairseq.SCLClassifier``: what ``scl-train`` does, by scikit-learn's conventions."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from scl_fairseq.files import read_json, replaced_folder
from scl_fairseq.training import examples
from scl_fairseq.training.choices import CE_SCL, DEV_SHARE, EMBEDDED, LOSSES
from scl_fairseq.training.packing import ABOUT, packed, quiet, unpack

if TYPE_CHECKING:
    from scl_fairseq.inference.hub import SentenceModel
    from scl_fairseq.training.running import Progress

_JSON_KINDS = (str, int, float, bool)


class SCLClassifier(ClassifierMixin, TransformerMixin, BaseEstimator):
    """A pre-trained encoder, fine-tuned to tell classes of texts apart.

    Args:
        encoder: ``embedded`` (all-MiniLM-L6-v2 from its package), or a folder: of ``scl-convert``,
            of Hugging Face or sentence-transformers.
        loss: ``ce``, ``ce+scl``, ``supcon``, ``simcse`` or ``infocse``.
        max_epoch: of the training; None: by the recipe for so many examples, as all that follows.
        batch_size: texts of an update.
        lr: highest learning rate.
        scl_lambda: weight of the supervised contrastive term.
        scl_temperature: its temperature.
        max_length: positions to which longer texts are cut; None: those of the encoder.
        dev_share: part of the examples by which the epoch is chosen, drawn class by class, where
            ``fit`` is given no others.
        random_state: of the draw and the training, a whole number.
        threads: to compute with; None: as many as torch is set to.
        device: ``cpu`` or ``cuda``; None: a GPU where there is one.
        further_options: more options of ``fairseq-train``, a list of words.
        callbacks: called with a ``training.running.Progress`` after each update and validation.

    Attributes:
        classes_: (C,), the labels, sorted; columns of ``predict_proba``.
        n_features_out_: width of the vectors of ``transform``.
        dev_accuracy_: the best of the validations, percent.
        recipe_: options of ``fairseq-train`` that the recipe has set.

    Example:
        >>> from scl_fairseq import SCLClassifier
        >>> model = SCLClassifier().fit(["so good", "so bad", ...], ["pos", "neg", ...])
        >>> model.predict(["a fine film"])
        array(['pos'], dtype='<U3')
    """

    def __init__(
        self,
        encoder: str = EMBEDDED,
        loss: str = CE_SCL,
        *,
        max_epoch: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        scl_lambda: float | None = None,
        scl_temperature: float | None = None,
        max_length: int | None = None,
        dev_share: float = DEV_SHARE,
        random_state: int = 1,
        threads: int | None = None,
        device: str | None = None,
        further_options: Sequence[str] = (),
        callbacks: Sequence[Callable[[Progress], None]] = (),
    ):
        self.encoder = encoder
        self.loss = loss
        self.max_epoch = max_epoch
        self.batch_size = batch_size
        self.lr = lr
        self.scl_lambda = scl_lambda
        self.scl_temperature = scl_temperature
        self.max_length = max_length
        self.dev_share = dev_share
        self.random_state = random_state
        self.threads = threads
        self.device = device
        self.further_options = further_options
        self.callbacks = callbacks

    def fit(self, X: Any, y: Any, validation_data: tuple[Any, Any] | None = None) -> SCLClassifier:
        """Train.

        Args:
            X: texts, or pairs of them: a list, an array, a column or table of pandas', a column of
                a data set.
            y: a label of each, of any type that can be compared.
            validation_data: texts and labels by which the epoch is chosen; none are taken from X
                then.

        Raises:
            ValueError: a text or label is missing, a class has too few examples, or a parameter is
                out of its range; the message has the row, from 0.
        """
        if self.loss not in LOSSES:
            raise ValueError(f"loss {self.loss!r}, expected one of {', '.join(LOSSES)}")
        rows = examples.texts_of(X)
        labels = examples.labels_of(y, len(rows))
        if not rows:
            raise ValueError("no texts; expected texts with labels")
        classes = examples.classes_of(labels)
        names = examples.names_of(classes)
        indices = examples.indices_of(labels, classes)
        dev = None
        if validation_data is not None:
            dev_rows = examples.texts_of(validation_data[0], "validation texts", len(rows[0]))
            dev_labels = examples.labels_of(validation_data[1], len(dev_rows))
            dev = dev_rows, examples.indices_of(dev_labels, classes)
        else:
            _check_counts(indices, classes)
        self._train(rows, indices, names, dev)
        self.classes_ = classes
        return self

    def predict(self, X: Any) -> np.ndarray:
        """(N,), the most probable label of each text, as it came in ``fit``."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """(N, C), the probability of each class, in the order of ``classes_``."""
        model = self._fitted()
        return model.predict(self._rows(X)).probabilities.numpy()

    def transform(self, X: Any) -> np.ndarray:
        """(N, D), the vector of each text that the training has formed."""
        model = self._fitted()
        return model.embed(self._rows(X)).numpy()

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """(D,), names of the numbers of ``transform``."""
        self._fitted()
        names = [f"sclclassifier{place}" for place in range(self.n_features_out_)]
        return np.array(names, dtype=object)

    def save(self, folder: str | Path) -> None:
        """Write a folder that ``load``, ``scl_fairseq.load`` and ``scl-predict`` take.

        Raises:
            ValueError: the folder holds something else, or labels are of a type that JSON lacks;
                pickle keeps those.
        """
        check_is_fitted(self, "classes_")
        classes = self.classes_.tolist()
        for value in classes:
            if not isinstance(value, _JSON_KINDS):
                raise ValueError(
                    f"the label {value!r} is of {type(value).__name__}, which cannot be saved in "
                    "JSON; pickle keeps it"
                )
        about = {
            "classes": classes,
            "dtype": self.classes_.dtype.str,
            "parameters": {
                name: value if isinstance(value, (*_JSON_KINDS, type(None))) else list(value)
                for name, value in self.get_params(deep=False).items()
                if name != "callbacks"
            },
            "n_features_out": self.n_features_out_,
            "dev_accuracy": self.dev_accuracy_,
            "recipe": self.recipe_,
        }
        with replaced_folder(Path(folder), lambda place: (place / ABOUT).is_file()) as target:
            unpack(self._files, target)
            text = json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False)
            (target / ABOUT).write_text(f"{text}\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> SCLClassifier:
        """What ``save`` or ``scl-train`` wrote.

        Raises:
            ValueError, OSError: it is no such folder, or damaged.
        """
        folder = Path(folder)
        about = read_json(folder / ABOUT) if (folder / ABOUT).is_file() else {}
        parameters = about.get("parameters", {})
        found = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in parameters.items()})
        if device is not None:
            found.device = device
        found._files = packed(folder)
        model = found._load(folder)
        labels = about.get("classes", model.labels)
        found.classes_ = np.array(labels, dtype=np.dtype(about.get("dtype", "O")))
        found.n_features_out_ = about.get("n_features_out") or _width(model)
        found.dev_accuracy_ = about.get("dev_accuracy")
        found.recipe_ = about.get("recipe", {})
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Weights are kept as the checkpoint's bytes; the model is built again where it is used."""
        state = dict(super().__getstate__())
        state.pop("_model", None)
        return state

    def __sklearn_tags__(self):
        """What scikit-learn asks of an estimator: this one reads texts."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags

    def _train(
        self,
        rows: Sequence[examples.Pair],
        indices: Sequence[int],
        names: Sequence[str],
        dev: tuple[Sequence[examples.Pair], Sequence[int]] | None,
    ) -> None:
        import torch

        from scl_fairseq.training.inputs import Inputs
        from scl_fairseq.training.plan import Wanted
        from scl_fairseq.training.tables import TableSettings
        from scl_fairseq.training.train import Job, Watch, train

        settings = TableSettings(examples.TEXTS[: len(rows[0])], examples.LABEL)
        on_cpu = self._on_cpu()
        wanted = Wanted(
            self.loss, self.random_state, self.threads or torch.get_num_threads(), on_cpu,
            tuple(self._options()),
        )  # fmt: skip
        accuracies: list[float] = []

        def tell(stage: int, progress: Progress) -> None:
            if progress.scores and "accuracy" in progress.scores:
                accuracies.append(progress.scores["accuracy"])
            for callback in self.callbacks:
                callback(progress)

        with quiet(), tempfile.TemporaryDirectory(prefix="scl-classifier-") as scratch:
            source, out = Path(scratch) / "tables", Path(scratch) / "model"
            examples.write_rows(source / "train.jsonl", rows, [names[i] for i in indices])
            if dev is not None:
                examples.write_rows(source / "dev.jsonl", dev[0], [names[i] for i in dev[1]])
            inputs = Inputs(
                path=source,
                task=settings.task(names),
                labels=tuple(names),
                num_inputs=len(rows[0]),
                dev_share=self.dev_share if dev is None else None,
                sha256="",
                tables=settings,
            )
            job = Job(inputs, wanted, out, str(self.encoder), self.max_length, evaluates=False)
            trained = train(job, Watch(progress=tell))
            self._files = packed(out)
            self._model = self._load(out)
        self.recipe_ = dict(trained.record["recipe"])
        self.n_features_out_ = _width(self._model)
        self.dev_accuracy_ = max(accuracies, default=None)

    def _options(self) -> Iterator[str]:
        for name in ("max_epoch", "batch_size", "lr", "scl_lambda", "scl_temperature"):
            value = getattr(self, name)
            if value is not None:
                yield from (f"--{name.replace('_', '-')}", str(value))
        yield from map(str, self.further_options)

    def _on_cpu(self) -> bool:
        import torch

        if self.device not in (None, "cpu", "cuda"):
            raise ValueError(f"device {self.device!r}, expected 'cpu' or 'cuda'")
        is_there = torch.cuda.is_available()
        if self.device == "cuda" and not is_there:
            raise ValueError("device 'cuda': there is no GPU here; device='cpu' trains without")
        return self.device == "cpu" or not is_there

    def _rows(self, texts: Any) -> list[Any]:
        rows = examples.texts_of(texts, num_inputs=self._fitted().num_inputs)
        return [row if len(row) > 1 else row[0] for row in rows]

    def _fitted(self) -> SentenceModel:
        check_is_fitted(self, "classes_")
        if getattr(self, "_model", None) is None:
            with tempfile.TemporaryDirectory(prefix="scl-classifier-") as scratch:
                unpack(self._files, Path(scratch))
                self._model = self._load(Path(scratch))
        return self._model

    def _load(self, folder: Path) -> SentenceModel:
        import scl_fairseq

        with quiet():
            return scl_fairseq.load(folder, device="cpu" if self._on_cpu() else "cuda")


def _check_counts(indices: Sequence[int], classes: np.ndarray) -> None:
    counts = np.bincount(indices, minlength=len(classes))
    for value, count in zip(classes.tolist(), counts.tolist(), strict=True):
        if count < 2:
            raise ValueError(
                f"one example of the class {value!r}, of which dev needs one and the training "
                "another; add some, or give validation_data"
            )


def _width(model: SentenceModel) -> int:
    return model.embed([("a",) * (model.num_inputs or 1)]).shape[1]
