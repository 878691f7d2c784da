"""``--task sentence_embedding``: sentences without labels, for contrastive learning."""

# No postponed annotations here: fairseq and omegaconf read the field types of the config as types.
import contextlib
import functools
import logging
import os
import weakref
from dataclasses import dataclass, field

import numpy as np
from fairseq import models
from fairseq.data import Dictionary, data_utils
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.tasks import FairseqTask, register_task
from omegaconf import II, MISSING, OmegaConf, open_dict

from scl_fairseq.tasks.masking import Masking
from scl_fairseq.tasks.sentence_rows import COLUMNS, SentenceRows

logger = logging.getLogger(__name__)

SHORTEST = 3  # <s>, a token, </s>


@dataclass
class SentenceEmbeddingConfig(FairseqDataclass):
    """Options of the task."""

    data: str = field(
        default=MISSING,
        metadata={"help": "what scl-preprocess --task lines wrote, or data of sentence_prediction"},
    )
    text_columns: int = field(
        default=1,
        metadata={
            "help": "texts of a row: 1 (a sentence, or of sentence_prediction's data the first), "
            "2 (with one that means the same) or 3 (and one that does not)"
        },
    )
    max_length: int = field(
        default=32,
        metadata={"help": "positions of a sentence, <s> and </s> counted; longer ones are cut"},
    )
    max_positions: int = field(default=512, metadata={"help": "positions of the model"})
    mask_rate: float = field(
        default=0.4,
        metadata={"help": "share of a sentence's tokens that masked copies mask, where wanted"},
    )
    mask_views: ChoiceEnum(["all", "one"]) = field(
        default="all",
        metadata={"help": "masked copies, where wanted: one for each view of a sentence, or one"},
    )
    seed: int = II("common.seed")


@register_task("sentence_embedding", dataclass=SentenceEmbeddingConfig)
class SentenceEmbeddingTask(FairseqTask):
    """Rows of one to three sentences; no targets.

    Raises:
        ValueError: when built with an option out of its range.
    """

    has_labels = False  # criterions that need them say so

    def __init__(self, cfg: SentenceEmbeddingConfig, dictionary: Dictionary):
        super().__init__(cfg)
        _check_config(cfg)
        _serve_one_epoch(cfg)
        self.dictionary = dictionary
        self._copies = 0

    @classmethod
    def setup_task(cls, cfg: SentenceEmbeddingConfig, **kwargs) -> "SentenceEmbeddingTask":
        """Build the task with the data's dictionary."""
        dictionary = Dictionary.load(os.path.join(_folders(cfg.data, 1)[0], "dict.txt"))
        dictionary.add_symbol("<mask>")
        logger.info("dictionary: %d types", len(dictionary))
        return cls(cfg, dictionary)

    def want_masked_copies(self, views: int) -> None:
        """Have batches of what is loaded from now on carry masked copies.

        Args:
            views: how often a sentence goes through the model.
        """
        self._copies = views if str(self.cfg.mask_views) == "all" else min(views, 1)

    def load_dataset(self, split: str, combine: bool = False, **kwargs) -> SentenceRows:
        """Load a split.

        Raises:
            FileNotFoundError: a column of it is missing.
        """
        columns = []
        for folder in _folders(self.cfg.data, self.cfg.text_columns):
            path = os.path.join(folder, split)
            column = data_utils.load_indexed_dataset(path, self.dictionary, combine=combine)
            if column is None:
                raise FileNotFoundError(f"Dataset not found: {split} ({path})")
            columns.append(column)
        if len({len(column) for column in columns}) > 1:
            raise ValueError(f"{self.cfg.data}: {split} has columns of different lengths")
        self.datasets[split] = SentenceRows(
            columns,
            self.cfg.max_length,
            self.dictionary.bos(),
            self.dictionary.pad(),
            self.dictionary.eos(),
            self._masking(),
            self._copies,
            self.cfg.seed,
        )
        logger.info("loaded %d rows of %s", len(self.datasets[split]), split)
        return self.datasets[split]

    def get_batch_iterator(self, dataset, *args, **kwargs):
        """Batches of an epoch, as of every task of fairseq; other sentences in each epoch."""
        batches = super().get_batch_iterator(dataset, *args, **kwargs)
        draw = getattr(type(batches), "ordered_batches", None)
        if draw is not None:  # otherwise they are in a circle with it; see _serve_one_epoch
            batches.ordered_batches = functools.partial(draw, weakref.proxy(batches))
        return batches

    def _masking(self) -> Masking:
        special, unknown = self.special_tokens, self.dictionary.unk()
        words = np.setdiff1d(np.arange(len(self.dictionary)), [*special, unknown])
        mask = self.dictionary.index("<mask>")
        return Masking(self.cfg.mask_rate, mask, self.dictionary.pad(), special, words)

    @property
    def special_tokens(self) -> np.ndarray:
        """Indices of tokens that are no words: ``<s>``, ``</s>``, ``<pad>`` and ``<mask>``."""
        special = np.array([*range(self.dictionary.nspecial), self.dictionary.index("<mask>")])
        return special[special != self.dictionary.unk()]  # stands for a word

    def build_model(self, cfg, from_checkpoint: bool = False):
        """Build a model with as many positions as the task says."""
        with open_dict(cfg) if OmegaConf.is_config(cfg) else contextlib.ExitStack():
            cfg.max_positions = self.cfg.max_positions
        return models.build_model(cfg, self, from_checkpoint)

    def max_positions(self) -> int:
        """Positions of the model."""
        return self.cfg.max_positions

    @property
    def source_dictionary(self) -> Dictionary:
        """Of the sentences."""
        return self.dictionary

    @property
    def target_dictionary(self) -> Dictionary:
        """The same: what is predicted are tokens of the sentences."""
        return self.dictionary


def _folders(data: str, count: int) -> list[str]:
    """Where the columns lie: the folder itself, or its ``input0``, ``input1``, ``input2``."""
    folders = [os.path.join(data, f"input{place}") for place in range(count)]
    return folders if count > 1 or os.path.isdir(folders[0]) else [data]


def _check_config(cfg: SentenceEmbeddingConfig) -> None:
    if not 1 <= cfg.text_columns <= len(COLUMNS):
        raise ValueError(f"--text-columns must be 1 to {len(COLUMNS)}, got {cfg.text_columns}")
    if not SHORTEST <= cfg.max_length <= cfg.max_positions:
        raise ValueError(
            f"--max-length must be {SHORTEST} to --max-positions {cfg.max_positions}, got "
            f"{cfg.max_length}"
        )
    if not 0 < cfg.mask_rate <= 1:
        raise ValueError(f"--mask-rate must be greater than 0 and at most 1, got {cfg.mask_rate}")


def _serve_one_epoch(cfg: SentenceEmbeddingConfig) -> None:
    """Have fairseq's data loaders keep nothing for the next epoch, which has its own.

    Their processes are to end with the last reference to them: left to the garbage collector they
    hold up the training until torch's timeout of 5 seconds.
    """
    with open_dict(cfg) if OmegaConf.is_config(cfg) else contextlib.ExitStack():
        # All that fairseq asks for: what is not there raises an error that keeps its frames.
        cfg.persistent_workers = cfg.reuse_dataloader = cfg.rebuild_batches = False
