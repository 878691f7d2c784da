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
from torch import Tensor

from scl_fairseq.criterions import confusion, diagnostics
from scl_fairseq.criterions.contrast import Contrast
from scl_fairseq.criterions.frozen import FrozenReader
from scl_fairseq.criterions.options import ContrastConfig, check_contrast
from scl_fairseq.criterions.reader import Reader
from scl_fairseq.losses import supervised_contrastive_loss
from scl_fairseq.metrics import accuracy, binary_f1, matthews_corrcoef

logger = logging.getLogger(__name__)

# Settings that stock sentence_prediction does not have, the same on every fairseq version.
OWN_REPORTS = ("report_mcc", "report_acc_and_f1")
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
        metadata={"help": "report F1 of class 1 and its mean with accuracy (x 100), two classes"},
    )


@register_criterion("sentence_prediction_scl", dataclass=SentencePredictionSCLConfig)
class SentencePredictionSCLCriterion(SentencePredictionCriterion):
    """L = (1 - lambda) CE + lambda SCL (Gunel et al., arXiv 2011.01403, equation 1).

    Cross-entropy is stock ``sentence_prediction``'s own code, so lambda = 0 is stock training to
    the bit. Logs ``ce_loss`` and ``scl_loss`` too, per example and base 2 like fairseq's ``loss``.

    Raises:
        ValueError: when built with lambda outside [0, 1], temperature not greater than 0,
            regression targets together with lambda > 0, F1 for other than two classes, or a task
            without labels.
    """

    def __init__(self, cfg: SentencePredictionSCLConfig, task):
        _check_config(cfg, task)
        super().__init__(cfg, task)
        self.scl_lambda = cfg.scl_lambda
        self.scl_temperature = cfg.scl_temperature
        self.scl_reduction = str(cfg.scl_reduction)
        self.scl_embedding = str(cfg.scl_embedding)
        self.scl_diagnostics = cfg.scl_diagnostics
        reader_class = FrozenReader if cfg.freeze_encoder else Reader
        self._reader = reader_class(
            cfg, self.classification_head_name, task.source_dictionary.pad()
        )
        self._contrast = Contrast(cfg, task, self._reader)
        self.report_mcc = cfg.report_mcc
        self.report_acc_and_f1 = cfg.report_acc_and_f1
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

    def finish_loading(self, model) -> None:
        """The weights are there."""
        self._reader.finish_loading(model)

    def training_state(self):
        """What checkpoints keep."""
        return self._contrast.state()

    def load_training_state(self, state) -> None:
        """What a checkpoint has kept."""
        self._contrast.load(state)

    def forward(self, model, sample: dict, reduce: bool = True):
        """Loss summed over the batch, its sample size, and what to log; one encoder forward."""
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
        contrast = self._contrast(model, embeddings, targets, sample["net_input"])
        if self.scl_diagnostics and model.training:
            logging_output.update(diagnostics.positives(contrast.labels, contrast.own))
        scl_loss = supervised_contrastive_loss(
            contrast.rows, contrast.labels, self.scl_temperature, "sum", contrast.own
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
        if not model.training and (self.report_mcc or self.report_acc_and_f1):
            logging_output.update(self._confusion_cells(captured.logits, targets))
        return loss, sample_size, logging_output

    def _confusion_cells(self, logits: Tensor, targets: Tensor) -> dict[str, int]:
        cells = confusion.count_cells(logits.argmax(dim=1), targets, logits.size(1))
        # reduce_metrics is a static method: what it should derive travels with the counts.
        wanted = {f"_{name}": 1 for name in OWN_REPORTS if getattr(self, name)}
        return {**cells, **wanted}

    @staticmethod
    def reduce_metrics(logging_outputs) -> None:
        """Aggregate logging outputs from data-parallel training."""
        SentencePredictionCriterion.reduce_metrics(logging_outputs)
        nsentences = sum(log.get("nsentences", 0) for log in logging_outputs)
        for key in ("ce_loss", "scl_loss"):
            if any(key in log for log in logging_outputs):
                total = sum(log.get(key, 0) for log in logging_outputs)
                metrics.log_scalar(key, total / nsentences / math.log(2), nsentences, round=3)
        _reduce_confusion(logging_outputs)
        diagnostics.reduce_metrics(logging_outputs)


def _reduce_confusion(logging_outputs) -> None:
    keys = {key for log in logging_outputs for key in log if key.startswith(confusion.PREFIX)}
    for key in sorted(keys):
        # Plain numbers: a checkpoint's best metric is one of these, and must load weights-only.
        count = int(sum(log.get(key, 0) for log in logging_outputs))
        metrics.log_scalar_sum(key, count)

    def derive(name, function):
        def from_meters(meters):
            counts = {key: meters[key].sum for key in keys}
            return round(100 * function(confusion.matrix(counts)), 1)

        metrics.log_derived(name, from_meters)

    if any("_report_mcc" in log for log in logging_outputs):
        derive("mcc", matthews_corrcoef)
    if any("_report_acc_and_f1" in log for log in logging_outputs):
        derive("f1", binary_f1)
        derive("acc_and_f1", lambda m: (accuracy(m) + binary_f1(m)) / 2)


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
    if cfg.regression_target and cfg.scl_lambda > 0:
        raise ValueError(
            "--regression-target has no classes to contrast: use it with --scl-lambda 0, "
            f"got {cfg.scl_lambda}"
        )
    num_classes = getattr(task.cfg, "num_classes", 2)
    if cfg.report_acc_and_f1 and num_classes != 2:
        raise ValueError(
            f"--report-acc-and-f1 is the F1 of class 1 of two, got --num-classes {num_classes}"
        )


def _check_frozen(cfg: SentencePredictionSCLConfig) -> None:
    if cfg.scl_lambda != 0:
        raise ValueError(
            "--freeze-encoder leaves nothing for the contrastive term to train: use it with "
            f"--scl-lambda 0, got {cfg.scl_lambda}"
        )
    if str(cfg.scl_embedding) == "mean":
        raise ValueError("--freeze-encoder keeps what the head reads: --scl-embedding cls, pooled")
    if cfg.scl_chunk_size:
        raise ValueError("--freeze-encoder keeps no activations: leave out --scl-chunk-size")
