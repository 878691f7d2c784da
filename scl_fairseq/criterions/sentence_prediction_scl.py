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
from torch import Tensor, nn

from scl_fairseq.criterions import confusion, diagnostics
from scl_fairseq.criterions.capture import EMBEDDINGS, HeadCapture
from scl_fairseq.criterions.chunks import ChunkedCapture
from scl_fairseq.criterions.host_memory import keep_freed_memory
from scl_fairseq.criterions.workers import Workers, check_wrappers
from scl_fairseq.distributed import Gathered
from scl_fairseq.losses import supervised_contrastive_loss
from scl_fairseq.losses.supervised_contrastive import check_temperature
from scl_fairseq.metrics import accuracy, binary_f1, matthews_corrcoef
from scl_fairseq.models.packed_encoder import pack

logger = logging.getLogger(__name__)

# Settings that stock sentence_prediction does not have, the same on every fairseq version.
OWN_REPORTS = ("report_mcc", "report_acc_and_f1")
# Penalties that stock sentence_prediction adds to its loss for AdaPrune, outside of lambda.
STOCK_REGULARIZERS = ("mha_reg_loss", "ffn_reg_loss")


@dataclass
class SentencePredictionSCLConfig(SentencePredictionConfig):
    """Options of stock ``sentence_prediction`` and those of the contrastive term."""

    scl_lambda: float = field(
        default=0.9,
        metadata={"help": "weight of SCL in (1 - lambda) CE + lambda SCL, from 0 to 1"},
    )
    scl_temperature: float = field(
        default=0.3,
        metadata={"help": "temperature tau of the contrastive term, greater than 0"},
    )
    scl_reduction: ChoiceEnum(["mean", "sum"]) = field(
        default="mean",
        metadata={
            "help": "mean over anchors, as cross-entropy, or the paper's literal sum over the batch"
        },
    )
    scl_embedding: ChoiceEnum(list(EMBEDDINGS)) = field(
        default="cls",
        metadata={
            "help": "sentence embedding to contrast: cls (what the head reads), pooled (what its "
            "output projection reads) or mean (over the positions that are not padding)"
        },
    )
    scl_gather: ChoiceEnum(["all", "none"]) = field(
        default="all",
        metadata={
            "help": "in training, contrast a sentence with those of all workers, or with none but "
            "its own worker's"
        },
    )
    scl_chunk_size: int = field(
        default=0,
        metadata={
            "help": "sentences that go through the model at a time in training, for batches that "
            "memory does not hold; the loss sees the whole batch, backward computes each chunk's "
            "activations again; 0: all at once"
        },
    )
    scl_packed: bool = field(
        default=False,
        metadata={
            "help": "compute no padding, in training and validation: the same function on the "
            "tokens that there are, several times as fast where lengths differ; RoBERTa models "
            "only; the checkpoint is the same"
        },
    )
    scl_diagnostics: bool = field(
        default=False,
        metadata={
            "help": "log how the embeddings lie, in training and validation: in_class_cosine, "
            "between_class_cosine, alignment, uniformity and anchors_with_positive (percent of "
            "examples with another of their class in the batch); uniformity alone for regression"
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
            regression targets together with lambda > 0, or F1 for other than two classes.
    """

    def __init__(self, cfg: SentencePredictionSCLConfig, task):
        _check_config(cfg, task)
        super().__init__(cfg, task)
        self.scl_lambda = cfg.scl_lambda
        self.scl_temperature = cfg.scl_temperature
        self.scl_reduction = str(cfg.scl_reduction)
        self.scl_embedding = str(cfg.scl_embedding)
        self.scl_chunk_size = cfg.scl_chunk_size
        self.scl_packed = cfg.scl_packed
        self.scl_diagnostics = cfg.scl_diagnostics
        self._is_checked = False
        self._workers = Workers(task) if str(cfg.scl_gather) == "all" else None
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

    def forward(self, model: nn.Module, sample: dict, reduce: bool = True):
        """Loss summed over the batch, its sample size, and what to log; one encoder forward."""
        if model.training and not self._is_checked:
            check_wrappers(model)
            self._is_checked = True
        if self.scl_packed:
            _pack(model)
        padding_idx = self.task.source_dictionary.pad()
        with self._capture(model, padding_idx) as captured:
            stock_loss, sample_size, logging_output = super().forward(model, sample, reduce)
        targets = model.get_targets(sample, [captured.logits]).view(-1)
        embeddings = captured.embedding(sample["net_input"], padding_idx)
        if self.scl_diagnostics:
            labels = None if self.regression_target else targets
            logging_output.update(diagnostics.batch_sums(embeddings, labels))
        if self.regression_target:
            return stock_loss, sample_size, logging_output

        if self.scl_lambda == 0:
            # The term is only watched: nothing is recorded for a gradient of it.
            embeddings = embeddings.detach()
        contrast = Gathered(embeddings, targets, slice(0, len(embeddings)))
        if self._workers is not None and model.training:
            contrast = self._workers.gather(embeddings, targets)
            if self.scl_diagnostics:
                logging_output.update(diagnostics.positives(contrast.labels, contrast.own))
        scl_loss = supervised_contrastive_loss(
            contrast.rows, contrast.labels, self.scl_temperature, "sum", contrast.own
        )
        regularizer = sum(logging_output.get(key, 0.0) for key in STOCK_REGULARIZERS)
        loss = stock_loss
        if self.scl_lambda > 0:
            # The trainer divides by all workers' sample size: to it, a sum is the mean.
            weight = len(contrast.rows) if self.scl_reduction == "sum" else 1
            loss = (1 - self.scl_lambda) * stock_loss + self.scl_lambda * (
                weight * scl_loss + regularizer
            )

        logging_output["loss"] = loss.data
        logging_output["ce_loss"] = (stock_loss - regularizer).data
        logging_output["scl_loss"] = scl_loss.data
        if not model.training and (self.report_mcc or self.report_acc_and_f1):
            logging_output.update(self._confusion_cells(captured.logits, targets))
        return loss, sample_size, logging_output

    def _capture(self, model: nn.Module, padding_idx: int) -> HeadCapture | ChunkedCapture:
        if not (self.scl_chunk_size and model.training):
            return HeadCapture(model, self.classification_head_name, self.scl_embedding)
        return ChunkedCapture(
            model,
            self.classification_head_name,
            self.scl_chunk_size,
            self.scl_embedding,
            padding_idx,
        )

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


def _pack(model: nn.Module) -> None:
    try:
        pack(model)
    except ValueError as error:
        raise ValueError(f"--scl-packed: {error}") from None
    if next(model.parameters()).device.type == "cpu":
        keep_freed_memory()


def _check_config(cfg: SentencePredictionSCLConfig, task) -> None:
    if not 0 <= cfg.scl_lambda <= 1:  # also refuses NaN
        raise ValueError(f"--scl-lambda must lie between 0 and 1, got {cfg.scl_lambda}")
    try:
        check_temperature(cfg.scl_temperature)
    except ValueError as error:
        raise ValueError(f"--scl-temperature: {error}") from None
    if cfg.regression_target and cfg.scl_lambda > 0:
        raise ValueError(
            "--regression-target has no classes to contrast: use it with --scl-lambda 0, "
            f"got {cfg.scl_lambda}"
        )
    if cfg.scl_chunk_size < 0:
        raise ValueError(f"--scl-chunk-size must be 0 or more, got {cfg.scl_chunk_size}")
    num_classes = getattr(task.cfg, "num_classes", 2)
    if cfg.report_acc_and_f1 and num_classes != 2:
        raise ValueError(
            f"--report-acc-and-f1 is the F1 of class 1 of two, got --num-classes {num_classes}"
        )
