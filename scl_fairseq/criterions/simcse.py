"""``--criterion simcse``: contrastive learning of sentence embeddings, with labels or without."""

# No postponed annotations here: fairseq and omegaconf read the field types of the config as types.
import math
from dataclasses import dataclass, field

from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import ChoiceEnum
from fairseq.logging import metrics
from torch import Tensor, nn

from scl_fairseq.criterions import diagnostics
from scl_fairseq.criterions.candidates import Candidates
from scl_fairseq.criterions.options import (
    ContrastConfig,
    arithmetic_of,
    check_contrast,
    check_contrasted,
    embedding_of,
)
from scl_fairseq.criterions.reader import Reader
from scl_fairseq.criterions.texts import Texts
from scl_fairseq.embeddings import CONTRASTED, POOLED
from scl_fairseq.losses import info_nce_loss
from scl_fairseq.models.tanh_head import TanhHead

HEAD = "simcse_mlp"


@dataclass
class SimCSEConfig(ContrastConfig):
    """Options of SimCSE."""

    scl_temperature: float = field(
        default=0.05, metadata={"help": "temperature tau of the cosines, greater than 0"}
    )
    simcse_mlp: ChoiceEnum(["train", "none"]) = field(
        default="train",
        metadata={
            "help": "contrast, in training, what a linear layer and tanh make of the embedding, or "
            "the embedding itself; what is evaluated is the embedding itself"
        },
    )


@register_criterion("simcse", dataclass=SimCSEConfig)
class SimCSECriterion(FairseqCriterion):
    """SimCSE (Gao et al., arXiv 2104.08821): each sentence is to find its positive.

    Without labels that is the sentence once more under other dropout, in the same forward pass;
    with two or three text columns (``--task sentence_embedding --text-columns``) it is the second
    text, and a third one is a hard negative. Candidates are the positives and hard negatives of all
    workers, and the keys of the queue. Logs ``loss`` per sentence, base 2 like fairseq's; that of
    validation is of the embedding itself, without dropout.

    Raises:
        ValueError: when built with an option out of its range.
    """

    name = "simcse"

    def __init__(self, cfg: SimCSEConfig, task):
        _check_config(cfg)
        super().__init__(task)
        self.temperature = cfg.scl_temperature
        self._arithmetic = arithmetic_of(cfg)
        self.scl_diagnostics = cfg.scl_diagnostics
        self._padding_idx = task.source_dictionary.pad()
        self._embedding = self.head_pooling = embedding_of(cfg)  # there is no head beside it
        self._projects = str(cfg.simcse_mlp) == "train"
        self._reader = self._make_reader(cfg, self._projects)
        # Evaluation has no MLP.
        self._plain_reader = self._make_reader(cfg, False)
        self._candidates = Candidates(cfg, task, self._reader)

    def _make_reader(self, cfg: SimCSEConfig, projects: bool) -> Reader:
        return Reader(cfg, HEAD, self._padding_idx, projects)

    def prepare_model(self, model: nn.Module) -> None:
        """See ``checkpoints.training_state``, which says when fairseq calls these."""
        heads = getattr(model, "classification_heads", None)
        if heads is None or hasattr(model, "decoder"):
            raise ValueError(f"--criterion {self.name} needs a RoBERTa model")
        heads[HEAD] = TanhHead(model.args.encoder_embed_dim)
        if not self._projects:  # runs all the same, and torch's DDP waits for its gradients
            heads[HEAD].requires_grad_(False)

    def settle(self, update_num: int) -> None:
        """Before and after each try of an update."""
        self._candidates.settle(update_num)

    def training_state(self):
        """What checkpoints keep."""
        return {**(self._candidates.state() or {}), CONTRASTED: self._embedding}

    def load_training_state(self, state) -> None:
        """What a checkpoint has kept."""
        check_contrasted(state, self._embedding)
        self._candidates.load(state)

    def forward(self, model: nn.Module, sample: dict, reduce: bool = True):
        """Loss summed over the sentences, their number, and what to log; one encoder forward."""
        texts = Texts(sample, self._padding_idx)
        rows = self._embed(model, texts)
        loss, logging_output = self._contrast(model, texts, rows)
        logging_output.update(
            loss=loss.data,
            ntokens=sample["ntokens"],
            nsentences=texts.num_sentences,
            sample_size=texts.num_sentences,
        )
        return loss, texts.num_sentences, logging_output

    def _embed(self, model: nn.Module, texts: Texts) -> Tensor:
        """(B V, D), a sentence's V texts in a row."""
        reader = self._reader if model.training else self._plain_reader
        reader.prepare(model)
        rows = reader.read(model, texts.net_input(model.training))
        return texts.rows(rows, model.training)

    def _contrast(self, model: nn.Module, texts: Texts, rows: Tensor) -> tuple[Tensor, dict]:
        """InfoNCE summed over the sentences, and diagnostics."""
        found = self._candidates(model, rows, texts)
        loss = info_nce_loss(
            found.queries,
            found.candidates,
            found.positives,
            self.temperature,
            "sum",
            arithmetic=self._arithmetic,
        )
        self._candidates.remember(found)
        if not self.scl_diagnostics:
            return loss, {}
        pairs = rows.view(texts.num_sentences, texts.number, -1)[:, :2].flatten(0, 1)
        return loss, diagnostics.batch_sums(pairs, texts.marks(pairs))

    @staticmethod
    def reduce_metrics(logging_outputs) -> None:
        """Aggregate logging outputs from data-parallel training."""
        sentences = sum(log.get("nsentences", 0) for log in logging_outputs)
        for key in ("loss", "cl_loss", "aux_loss", "mlm_loss", "rtd_loss"):
            if any(key in log for log in logging_outputs):
                total = sum(log.get(key, 0) for log in logging_outputs)
                metrics.log_scalar(key, total / sentences / math.log(2), sentences, round=3)
        diagnostics.reduce_metrics(logging_outputs)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """All that is logged are sums."""
        return True


def _check_config(cfg: SimCSEConfig) -> None:
    check_contrast(cfg)
    if str(cfg.scl_embedding) == POOLED:
        raise ValueError("--scl-embedding pooled is inside of a classifier: use cls or mean")
