"""``--criterion sentence_prediction_scl``: cross-entropy plus supervised contrastive learning."""

# No postponed annotations here: fairseq and omegaconf read the field types of the config as types.
import logging
import math
from dataclasses import dataclass, field

from fairseq.criterions import register_criterion
from fairseq.criterions.sentence_prediction import (
    SentencePredictionConfig,
    SentencePredictionCriterion,
)
from fairseq.dataclass import ChoiceEnum
from fairseq.logging import metrics

from scl_fairseq.criterions import diagnostics, reports
from scl_fairseq.criterions.contrast import Contrast
from scl_fairseq.criterions.frozen import FrozenReader
from scl_fairseq.criterions.options import (
    ContrastConfig,
    arithmetic_of,
    check_contrast,
    embedding_of,
)
from scl_fairseq.criterions.probe import begin_as_probe
from scl_fairseq.criterions.reader import Reader
from scl_fairseq.criterions.reports import Reports
from scl_fairseq.criterions.targets import check_targets
from scl_fairseq.embeddings import CONTRASTED, POOLED
from scl_fairseq.losses import supervised_contrastive_loss
from scl_fairseq.text.dictionary import labels_of

logger = logging.getLogger(__name__)

# Penalties that stock sentence_prediction adds to its loss for AdaPrune, outside of lambda.
STOCK_REGULARIZERS = ("mha_reg_loss", "ffn_reg_loss")


@dataclass
class SentencePredictionSCLConfig(ContrastConfig, SentencePredictionConfig):
    """Options of stock ``sentence_prediction`` and those of the contrastive term."""

    scl_lambda: float = field(
        default=0.9,
        metadata={"help": "weight of SCL in (1 - lambda) CE + lambda SCL, from 0 to 1"},
    )
    scl_reduction: ChoiceEnum(["mean", "sum"]) = field(
        default="mean",
        metadata={
            "help": "mean over anchors, as cross-entropy, or the paper's literal sum over the batch"
        },
    )
    freeze_encoder: bool = field(
        default=False,
        metadata={
            "help": "train a linear classifier on the embeddings of the encoder as it was loaded: "
            "of the head only out_proj is trained, each sentence is embedded once; needs "
            "--scl-lambda 0 and --pooler-activation-fn linear"
        },
    )
    head_init: ChoiceEnum(["drawn", "probe"]) = field(
        default="drawn",
        metadata={
            "help": "how the classification head begins: drawn at random, or as a logistic "
            "regression on what it reads of the training set (linear probing, then fine-tuning), "
            "which takes seconds"
        },
    )
    keep_head: bool = field(
        default=False,
        metadata={
            "help": "begin with the classification head of a checkpoint of another task too, its "
            "outputs standing for the labels in their order; otherwise that is refused"
        },
    )
    report_mcc: bool = field(
        default=False,
        metadata={"help": "report Matthews correlation (x 100) on validation sets"},
    )
    report_acc_and_f1: bool = field(
        default=False,
        metadata={
            "help": "report F1 of one class, see --f1-label, and its mean with accuracy (x 100)"
        },
    )
    f1_label: str = field(
        default="",
        metadata={
            "help": "label whose F1 --report-acc-and-f1 reports; by default, of two labels, 1 of 0 "
            "and 1, the greater of other numbers, the alphabetically later of words"
        },
    )


@register_criterion("sentence_prediction_scl", dataclass=SentencePredictionSCLConfig)
class SentencePredictionSCLCriterion(SentencePredictionCriterion):
    """L = (1 - lambda) CE + lambda SCL (Gunel et al., arXiv 2011.01403, equation 1).

    Cross-entropy is stock ``sentence_prediction``'s own code, so lambda = 0 is stock training to
    the bit. Logs ``ce_loss`` and ``scl_loss`` too, per example and base 2 like fairseq's ``loss``.

    Raises:
        ValueError: when built with lambda outside [0, 1], temperature not greater than 0,
            regression targets together with lambda > 0, F1 of a class that is not there, or a task
            without labels; in a forward pass: a target is none of the classes.
    """

    def __init__(self, cfg: SentencePredictionSCLConfig, task):
        _check_config(cfg, task)
        super().__init__(cfg, task)
        self.scl_lambda = cfg.scl_lambda
        self.scl_temperature = cfg.scl_temperature
        self._arithmetic = arithmetic_of(cfg)
        self.scl_reduction = str(cfg.scl_reduction)
        self.scl_embedding = embedding_of(cfg)
        self.head_pooling = str(cfg.head_pooling)
        self.scl_diagnostics = cfg.scl_diagnostics
        self._freezes = cfg.freeze_encoder
        self._begins_as_probe = str(cfg.head_init) == "probe"
        reader_class = FrozenReader if self._freezes else Reader
        self._reader = reader_class(
            cfg, self.classification_head_name, task.source_dictionary.pad()
        )
        self._contrast = Contrast(cfg, task, self._reader)
        self._labels = [] if self.regression_target else labels_of(task.label_dictionary)
        self.reports = Reports(self._labels, cfg.report_mcc, cfg.report_acc_and_f1, cfg.f1_label)
        if self.reports.f1_label is not None:
            logger.info("f1 and acc_and_f1 are of the label %s", self.reports.f1_label)
        # The stock reports turn labels into integers by name and cannot be summed over workers;
        # ours replace them. What is left to stock is Pearson and Spearman, for regression.
        self.keep_pred_and_targ = getattr(cfg, "report_pearson_and_spearman", False)
        if self.scl_lambda == 1:
            logger.warning(
                "--scl-lambda 1 leaves the classifier untrained: it receives gradients of zero and "
                "accuracy stays at chance. The encoder is trained by the contrastive term alone."
            )

    def prepare_model(self, model) -> None:
        """See ``checkpoints.training_state``, which says when fairseq calls these."""
        self._reader.prepare_model(model)

    def finish_loading(self, model, train_subset: str = "train") -> None:
        """The weights are there."""
        self._reader.finish_loading(model)
        if self._begins_as_probe:
            if train_subset not in self.task.datasets:
                self.task.load_dataset(train_subset)
            begin_as_probe(
                model,
                self.classification_head_name,
                self.head_pooling,
                self.task.dataset(train_subset),
                self.task.source_dictionary.pad(),
            )

    def settle(self, update_num: int) -> None:
        """Before and after each try of an update."""
        self._contrast.settle(update_num)

    def training_state(self):
        """What checkpoints keep."""
        return self._contrast.state()

    def load_training_state(self, state) -> None:
        """What a checkpoint has kept."""
        self._contrast.load(state)

    def begin_from(self, state) -> None:
        """A first stage's state: what the classifier reads may not be what it contrasted."""
        kind = state.get(CONTRASTED)
        if kind is None or kind == self.head_pooling:
            return
        other = f"the checkpoint's first stage contrasted --scl-embedding {kind}"
        if self._freezes:
            raise ValueError(
                f"--freeze-encoder trains a classifier of {self.head_pooling}, but {other}: give "
                "both stages the same --head-pooling, or train this one without --freeze-encoder"
            )
        if kind != POOLED:
            logger.warning("the classifier reads %s, but %s", self.head_pooling, other)

    def forward(self, model, sample: dict, reduce: bool = True):
        """Loss summed over the batch, its sample size, and what to log; one encoder forward."""
        if not self.regression_target:
            check_targets(sample, self._labels, is_training=model.training)
        self._reader.prepare(model)
        with self._reader.capture(model, sample["net_input"]) as captured:
            stock_loss, sample_size, logging_output = super().forward(model, sample, reduce)
        targets = model.get_targets(sample, [captured.logits]).view(-1)
        embeddings = self._reader.rows(captured)
        if self.scl_diagnostics:
            labels = None if self.regression_target else targets
            logging_output.update(diagnostics.batch_sums(embeddings, labels))
        if self.regression_target:
            return stock_loss, sample_size, logging_output

        if self.scl_lambda == 0:
            # The term is only watched: nothing is recorded for a gradient of it.
            embeddings = embeddings.detach()
        contrast = self._contrast(
            model, embeddings, targets, sample["net_input"], num_classes=len(self._labels)
        )
        if self.scl_diagnostics and model.training:
            logging_output.update(diagnostics.positives(contrast))
        scl_loss = supervised_contrastive_loss(
            contrast.rows,
            contrast.labels,
            self.scl_temperature,
            "sum",
            contrast.own,
            num_classes=contrast.num_classes,
            arithmetic=self._arithmetic,
        )
        self._contrast.remember(contrast)
        regularizer = sum(logging_output.get(key, 0.0) for key in STOCK_REGULARIZERS)
        loss = stock_loss
        if self.scl_lambda > 0:
            # The trainer divides by all workers' sample size: to it, a sum is the mean.
            weight = contrast.batch_size if self.scl_reduction == "sum" else 1
            loss = (1 - self.scl_lambda) * stock_loss + self.scl_lambda * (
                weight * scl_loss + regularizer
            )

        logging_output["loss"] = loss.data
        logging_output["ce_loss"] = (stock_loss - regularizer).data
        logging_output["scl_loss"] = scl_loss.data
        if self.reports.is_wanted and not model.training:
            logits = captured.logits
            found = self.reports.batch_counts(logits.argmax(dim=1), targets, logits.size(1))
            logging_output.update(found)
        return loss, sample_size, logging_output

    @staticmethod
    def reduce_metrics(logging_outputs) -> None:
        """Aggregate logging outputs from data-parallel training."""
        SentencePredictionCriterion.reduce_metrics(logging_outputs)
        nsentences = sum(log.get("nsentences", 0) for log in logging_outputs)
        for key in ("ce_loss", "scl_loss"):
            if any(key in log for log in logging_outputs):
                total = sum(log.get(key, 0) for log in logging_outputs)
                metrics.log_scalar(key, total / nsentences / math.log(2), nsentences, round=3)
        reports.reduce_metrics(logging_outputs)
        diagnostics.reduce_metrics(logging_outputs)


def _check_config(cfg: SentencePredictionSCLConfig, task) -> None:
    if not getattr(task, "has_labels", True):
        raise ValueError(
            "--criterion sentence_prediction_scl needs a task with labels: "
            "--task sentence_prediction"
        )
    if not 0 <= cfg.scl_lambda <= 1:  # also refuses NaN
        raise ValueError(f"--scl-lambda must lie between 0 and 1, got {cfg.scl_lambda}")
    check_contrast(cfg)
    if cfg.scl_queue_size and cfg.scl_lambda == 0:
        raise ValueError("--scl-queue-size serves the contrastive term: --scl-lambda 0 has none")
    if cfg.freeze_encoder:
        _check_frozen(cfg)
    if str(cfg.head_init) == "probe" and (cfg.regression_target or cfg.keep_head):
        option = "--regression-target" if cfg.regression_target else "--keep-head"
        raise ValueError(f"--head-init probe begins as a new classifier: not with {option}")
    if cfg.regression_target and cfg.scl_lambda > 0:
        raise ValueError(
            "--regression-target has no classes to contrast: use it with --scl-lambda 0, "
            f"got {cfg.scl_lambda}"
        )
    for name in ("report_mcc", "report_acc_and_f1"):
        if cfg.regression_target and getattr(cfg, name):
            raise ValueError(f"--{name.replace('_', '-')} is of classes: not --regression-target")


def _check_frozen(cfg: SentencePredictionSCLConfig) -> None:
    if cfg.scl_lambda != 0:
        raise ValueError(
            "--freeze-encoder leaves nothing for the contrastive term to train: use it with "
            f"--scl-lambda 0, got {cfg.scl_lambda}"
        )
    if embedding_of(cfg) not in (str(cfg.head_pooling), POOLED):
        raise ValueError("--freeze-encoder keeps what the head reads: leave out --scl-embedding")
    if cfg.scl_chunk_size:
        raise ValueError("--freeze-encoder keeps no activations: leave out --scl-chunk-size")
