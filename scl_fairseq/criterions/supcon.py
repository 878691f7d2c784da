"""``--criterion supcon``: supervised contrastive learning of an encoder, without a classifier."""

# No postponed annotations here: fairseq and omegaconf read the field types of the config as types.
import logging
import math
from dataclasses import dataclass, field

from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import ChoiceEnum
from fairseq.logging import metrics

from scl_fairseq.criterions import diagnostics, neighbours
from scl_fairseq.criterions.contrast import Contrast
from scl_fairseq.criterions.options import (
    ContrastConfig,
    arithmetic_of,
    check_contrast,
    check_contrasted,
    embedding_of,
)
from scl_fairseq.criterions.reader import Reader
from scl_fairseq.criterions.targets import check_targets
from scl_fairseq.criterions.text_views import group_views
from scl_fairseq.criterions.views import TEXT, Views
from scl_fairseq.embeddings import CONTRASTED, POOLED
from scl_fairseq.losses.multi_view import AVERAGES
from scl_fairseq.models.head_pooling import tell_pooling
from scl_fairseq.models.projection_head import PROJECTIONS, ProjectionHead
from scl_fairseq.text.dictionary import labels_of

logger = logging.getLogger(__name__)


@dataclass
class SupConConfig(ContrastConfig):
    """Options of SupCon's first stage."""

    classification_head_name: str = field(
        default="sentence_classification_head",
        metadata={
            "help": "name of the classification head, which is not trained; without a projection "
            "the embedding is the one that it reads"
        },
    )
    # The task asks its criterion for it.
    regression_target: bool = field(
        default=False,
        metadata={"help": "targets are no classes: needs --supcon-unsupervised"},
    )
    supcon_views: int = field(
        default=2, metadata={"help": "views of each sentence in training, 1 or more"}
    )
    supcon_view_source: ChoiceEnum(["dropout", TEXT]) = field(
        default="dropout",
        metadata={
            "help": "what makes the views of a sentence differ: dropout alone, or the texts that "
            "scl-augment made of it as well"
        },
    )
    supcon_projection: ChoiceEnum(["none", *PROJECTIONS]) = field(
        default="mlp",
        metadata={
            "help": "what the embedding goes through before it is contrasted: a linear map, or an "
            "MLP with one hidden layer"
        },
    )
    supcon_projection_dim: int = field(
        default=128, metadata={"help": "width of what the projection makes"}
    )
    supcon_head_name: str = field(
        default="supcon_projection",
        metadata={"help": "name of the projection among the model's classification heads"},
    )
    supcon_average: ChoiceEnum(list(AVERAGES)) = field(
        default="out",
        metadata={
            "help": "where the mean over positives stands: out of the logarithm (L_out) or in it"
        },
    )
    supcon_unsupervised: bool = field(
        default=False,
        metadata={
            "help": "ignore labels: each sentence's only positives are its own views; data without "
            "labels needs it"
        },
    )


@register_criterion("supcon", dataclass=SupConConfig)
class SupConCriterion(FairseqCriterion):
    """The multi-view loss of Khosla et al. (arXiv 2004.11362), on a projection of the embedding.

    Every view is an anchor. Logs ``loss`` per anchor, base 2 like fairseq's, and in validation
    ``knn_accuracy``: percent of sentences whose nearest neighbour in the batch is of their class.
    Validation has no dropout: a sentence's views are equal there.

    Raises:
        ValueError: when built with options that are out of their range, or do not fit together or
            the task; in a forward pass: a target is none of the classes.
    """

    label_hint = ": --supcon-unsupervised contrasts sentences without them"

    def __init__(self, cfg: SupConConfig, task):
        _check_config(cfg, task)
        super().__init__(task)
        self.temperature = cfg.scl_temperature
        self._arithmetic = arithmetic_of(cfg)
        self.average = str(cfg.supcon_average)
        self.is_unsupervised = cfg.supcon_unsupervised
        self.needs_labels = not cfg.supcon_unsupervised
        self.regression_target = cfg.regression_target
        has_classes = getattr(task, "has_labels", True) and not cfg.regression_target
        self._labels = labels_of(task.label_dictionary) if has_classes else None
        self.scl_diagnostics = cfg.scl_diagnostics
        self._embedding, self.head_pooling = embedding_of(cfg), str(cfg.head_pooling)
        self._classifier = cfg.classification_head_name
        if self._embedding not in (self.head_pooling, POOLED):
            logger.warning(
                "--scl-embedding %s is contrasted; a classifier that begins from this checkpoint "
                "reads %s, which is not: for a second stage leave out --scl-embedding",
                self._embedding,
                self.head_pooling,
            )
        self.projection, self.projection_dim = str(cfg.supcon_projection), cfg.supcon_projection_dim
        projects = self.projection != "none"
        self.head_name = cfg.supcon_head_name if projects else cfg.classification_head_name
        padding_idx = task.source_dictionary.pad()
        self._reader = Reader(cfg, self.head_name, padding_idx, projects)
        self._contrast = Contrast(cfg, task, self._reader)
        self._views = Views(str(cfg.supcon_view_source), cfg.supcon_views)
        if str(cfg.supcon_view_source) == TEXT:
            group_views(task, cfg.supcon_views)

    def prepare_model(self, model) -> None:
        """See ``checkpoints.training_state``, which says when fairseq calls these."""
        heads = getattr(model, "classification_heads", None)
        if heads and self._classifier in heads:  # the second stage begins with it
            tell_pooling(model, self._classifier, self.head_pooling)
        if self.projection == "none":
            return
        if heads is None or self.head_name in heads:
            raise ValueError(
                f"--supcon-head-name {self.head_name}: the model has such a head already"
                if heads
                else "--criterion supcon needs a model with classification heads: RoBERTa or BART"
            )
        head = ProjectionHead(model.args.encoder_embed_dim, self.projection_dim, self.projection)
        heads[self.head_name] = head.to(next(model.parameters()).dtype)

    def settle(self, update_num: int) -> None:
        """Before and after each try of an update."""
        self._contrast.settle(update_num)

    def training_state(self):
        """What checkpoints keep."""
        return {**(self._contrast.state() or {}), CONTRASTED: self._embedding}

    def load_training_state(self, state) -> None:
        """What a checkpoint has kept."""
        check_contrasted(state, self._embedding)
        self._contrast.load(state)

    def forward(self, model, sample: dict, reduce: bool = True):
        """Loss summed over anchors, their number, and what to log; one encoder forward."""
        is_training = model.training
        self._check_labels(sample, is_training)
        self._reader.prepare(model)
        rows = self._reader.read(model, self._views.net_input(sample, is_training))
        classes = None if self.regression_target else self._views.labels(sample, is_training)
        labels = None if self.is_unsupervised else classes
        logging_output = {} if is_training else neighbours.batch_counts(rows, classes)
        if self.scl_diagnostics and not is_training:
            logging_output.update(diagnostics.batch_sums(rows, classes))

        rows = self._views.rows(rows, is_training)
        num_classes = None if labels is None else len(self._labels)
        contrast = self._contrast(
            model, rows, labels, sample["net_input"], self._views.number, num_classes
        )
        if self.scl_diagnostics and is_training:
            marks = self._views.marks(rows, labels)
            logging_output.update(diagnostics.batch_sums(rows, marks))
            logging_output.update(diagnostics.positives(contrast))
        loss = AVERAGES[self.average](
            contrast.rows,
            contrast.labels,
            self.temperature,
            "sum",
            contrast.own,
            num_classes=contrast.num_classes,
            arithmetic=self._arithmetic,
        )
        self._contrast.remember(contrast)
        logging_output.update(
            loss=loss.data,
            ntokens=sample["ntokens"],
            nsentences=len(rows) // self._views.number,
            sample_size=len(rows),
        )
        return loss, len(rows), logging_output

    def _check_labels(self, sample: dict, is_training: bool) -> None:
        """Without labels training ignores them, and validation counts neighbours by them."""
        is_counted = not is_training and sample.get("target") is not None
        if self.needs_labels or (is_counted and self._labels is not None):
            check_targets(sample, self._labels, self.label_hint, is_training)

    @staticmethod
    def reduce_metrics(logging_outputs) -> None:
        """Aggregate logging outputs from data-parallel training."""
        anchors = sum(log.get("sample_size", 0) for log in logging_outputs)
        total = sum(log.get("loss", 0) for log in logging_outputs)
        metrics.log_scalar("loss", total / anchors / math.log(2), anchors, round=3)
        neighbours.reduce_metrics(logging_outputs)
        diagnostics.reduce_metrics(logging_outputs)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """All that is logged are sums."""
        return True


def _check_config(cfg: SupConConfig, task) -> None:
    check_contrast(cfg)
    if not getattr(task, "has_labels", True):
        _check_unlabelled(cfg, task)
    if cfg.supcon_views < 1:
        raise ValueError(f"--supcon-views must be 1 or more, got {cfg.supcon_views}")
    if str(cfg.supcon_view_source) == TEXT and cfg.supcon_views < 2:
        raise ValueError(
            f"--supcon-view-source text needs --supcon-views 2 or more, got {cfg.supcon_views}"
        )
    if cfg.supcon_projection_dim < 1:
        raise ValueError(
            f"--supcon-projection-dim must be 1 or more, got {cfg.supcon_projection_dim}"
        )
    projects = str(cfg.supcon_projection) != "none"
    if projects and str(cfg.scl_embedding) == POOLED:
        raise ValueError(
            "--scl-embedding pooled is inside of the classification head: use it with "
            "--supcon-projection none"
        )
    if projects and cfg.supcon_head_name == cfg.classification_head_name:
        raise ValueError(
            f"--supcon-head-name {cfg.supcon_head_name} is the classification head's name"
        )
    if cfg.regression_target and not cfg.supcon_unsupervised:
        raise ValueError(
            "--regression-target has no classes to contrast: use --supcon-unsupervised"
        )
    if cfg.supcon_unsupervised and cfg.supcon_views == 1 and not cfg.scl_momentum:
        raise ValueError(
            "--supcon-unsupervised with --supcon-views 1 has no positives: they come from further "
            "views, or from the keys of --scl-queue-size with --scl-momentum above 0"
        )


def _check_unlabelled(cfg: SupConConfig, task) -> None:
    if not cfg.supcon_unsupervised:
        raise ValueError(
            "--criterion supcon contrasts classes, and this task has no labels: give "
            "--supcon-unsupervised to contrast sentences, or use --task sentence_prediction"
        )
    if task.cfg.text_columns > 1:
        raise ValueError(
            f"--criterion supcon reads one text of a row, got --text-columns "
            f"{task.cfg.text_columns}: --criterion simcse reads further ones"
        )
