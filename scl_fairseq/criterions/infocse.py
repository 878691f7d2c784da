"""``--criterion infocse``: SimCSE whose embedding has to help rebuild the sentence."""

# No postponed annotations here: fairseq and omegaconf read the field types of the config as types.
import math
from dataclasses import dataclass, field

import torch
from fairseq.criterions import register_criterion
from fairseq.dataclass import ChoiceEnum
from torch import Tensor, nn

from scl_fairseq.criterions.auxiliary import AuxiliaryNetwork
from scl_fairseq.criterions.detection import ReplacedTokenDetection
from scl_fairseq.criterions.further_forward import further_forward
from scl_fairseq.criterions.lower_states import LowerStates
from scl_fairseq.criterions.momentum import MomentumCopy
from scl_fairseq.criterions.simcse import HEAD, SimCSEConfig, SimCSECriterion
from scl_fairseq.criterions.texts import Texts


@dataclass
class InfoCSEConfig(SimCSEConfig):
    """Options of InfoCSE; by default those of its second stage."""

    infocse_lambda: float = field(
        default=0.005, metadata={"help": "weight of L_aux, the auxiliary network's loss"}
    )
    infocse_contrast: float = field(
        default=1.0, metadata={"help": "weight of L_cl, SimCSE's loss; 0 in the first stage"}
    )
    infocse_mlm: float = field(
        default=0.0,
        metadata={"help": "weight of L_mlm, the encoder's own masked language modelling; 1 in the "
                  "first stage"},
    )  # fmt: skip
    infocse_rtd: float = field(
        default=0.0,
        metadata={"help": "weight of L_rtd, DiffCSE's replaced-token detection, beside L_aux or, "
                  "with --infocse-lambda 0, instead of it; DiffCSE has 0.005"},
    )  # fmt: skip
    infocse_layers: int = field(
        default=2, metadata={"help": "layers of the auxiliary network, 1 or more"}
    )
    infocse_states_layer: int = field(
        default=0,
        metadata={
            "help": "layer of the encoder whose states of the masked sentence the auxiliary "
            "network reads; 0: half way up, 6 of 12"
        },
    )
    infocse_states: ChoiceEnum(["own", "frozen"]) = field(
        default="own",
        metadata={
            "help": "whose states those are: the encoder's own, or a copy's that stays as the "
            "training found it and has no dropout"
        },
    )
    infocse_no_detach: bool = field(
        default=False,
        metadata={"help": "let L_aux train the encoder through those states too (an ablation)"},
    )


@register_criterion("infocse", dataclass=InfoCSEConfig)
class InfoCSECriterion(SimCSECriterion):
    """L_cl + lambda L_aux, or in the first stage L_mlm + L_aux (Wu et al., arXiv 2210.06432).

    L_aux is the loss of a few transformer layers that predict the masked words of a sentence from
    H~ = [h, M^{>0}]: h the embedding of the sentence as it is, before SimCSE's MLP (the CLS vector;
    with ``--head-pooling mean`` the mean), M what a lower layer of the encoder makes of its masked
    copy, a constant. Words are predicted by the encoder's language-model head, whose word
    embeddings are constants to L_aux where they are the encoder's own: it trains the encoder
    through h alone. L_rtd is that of a second such network, which tells the words that are no
    longer the sentence's own (``criterions.detection``). L_aux and L_mlm are means over the masked
    tokens of a worker's batch, L_rtd over its words. Logs ``cl_loss``, ``aux_loss``, ``mlm_loss``
    and ``rtd_loss`` too, base 2.

    Raises:
        ValueError: when built with an option out of its range, or with a task that masks nothing.
    """

    name = "infocse"

    def __init__(self, cfg: InfoCSEConfig, task):
        _check_config(cfg)
        super().__init__(cfg, task)
        self.weights = {
            "cl_loss": cfg.infocse_contrast,
            "aux_loss": cfg.infocse_lambda,
            "mlm_loss": cfg.infocse_mlm,
            "rtd_loss": cfg.infocse_rtd,
        }
        self._networks: list[AuxiliaryNetwork | ReplacedTokenDetection] = []
        self._states: LowerStates | None = None
        self._frozen: MomentumCopy | None = None
        if not cfg.infocse_contrast:
            self._projects, self._reader = False, self._plain_reader
        if cfg.infocse_lambda or cfg.infocse_mlm or cfg.infocse_rtd:
            self._build_networks(cfg, task)

    def _build_networks(self, cfg: InfoCSEConfig, task) -> None:
        if not hasattr(task, "want_masked_copies"):
            raise ValueError("--criterion infocse needs --task sentence_embedding, which masks")
        is_twice = cfg.infocse_contrast > 0 and task.cfg.text_columns == 1
        task.want_masked_copies(2 if is_twice else 1)
        is_frozen = str(cfg.infocse_states) == "frozen"
        if is_frozen or cfg.infocse_rtd:
            self._frozen = MomentumCopy(1.0)  # it is never updated
        makes_states = self._frozen if is_frozen else None
        depth, is_detached = cfg.infocse_states_layer, not cfg.infocse_no_detach
        self._states = LowerStates(depth, is_detached, makes_states)
        if cfg.infocse_lambda or cfg.infocse_mlm:
            wants = cfg.infocse_lambda > 0, cfg.infocse_mlm > 0
            rebuilder = AuxiliaryNetwork(
                cfg.infocse_layers, self._states, *wants, self._padding_idx
            )
            self._networks.append(rebuilder)
        if cfg.infocse_rtd:
            special = torch.from_numpy(task.special_tokens)
            detector = ReplacedTokenDetection(
                cfg.infocse_layers, self._states, self._frozen, self._padding_idx, special
            )
            self._networks.append(detector)

    def prepare_model(self, model: nn.Module) -> None:
        """See ``checkpoints.training_state``, which says when fairseq calls these."""
        super().prepare_model(model)
        if self._states is not None:
            self._states.prepare_model(model)
        for network in self._networks:
            network.prepare_model(model)

    def training_state(self):
        """What checkpoints keep."""
        state = super().training_state()
        frozen = self._frozen.state() if self._frozen is not None else None
        if frozen is not None:
            state["frozen"] = frozen
        return state

    def load_training_state(self, state) -> None:
        """What a checkpoint has kept."""
        super().load_training_state(state)
        if self._frozen is not None and "frozen" in state:
            self._frozen.load(state["frozen"])

    def forward(self, model: nn.Module, sample: dict, reduce: bool = True):
        """Loss summed over the sentences, their number, and what to log; L_cl alone is SimCSE."""
        if not self._networks:
            return super().forward(model, sample, reduce)
        texts = Texts(sample, self._padding_idx)
        rows, losses = self._embed_and_rebuild(model, texts, sample["masked"])
        count, logging_output = texts.num_sentences, {}
        # Their means weigh as much as that of L_cl over the sentences.
        losses = {name: count * loss for name, loss in losses.items()}
        if self.weights["cl_loss"]:
            losses["cl_loss"], logging_output = self._contrast(model, texts, rows)
        loss = sum(self.weights[name] * value for name, value in losses.items())
        logging_output.update({name: value.data for name, value in losses.items()})
        logging_output.update(
            loss=loss.data, ntokens=sample["ntokens"], nsentences=count, sample_size=count
        )
        return loss, count, logging_output

    def _embed_and_rebuild(
        self, model: nn.Module, texts: Texts, masked: dict
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Embeddings, (B V, D), and the losses of the masked copies, in one forward."""
        reader = self._reader if model.training else self._plain_reader
        reader.prepare(model)
        if self._frozen is not None:
            self._frozen.follow(model, 0)  # made before the forward below is changed
        bare = model
        while hasattr(bare, "module"):
            bare = bare.module
        losses: dict[str, Tensor] = {}
        needs_views = self.weights["cl_loss"] > 0
        net_input = texts.net_input(model.training) if needs_views else texts.sentences
        with reader.capture(model, net_input) as captured:

            def rebuild() -> dict[str, Tensor]:
                vectors = captured.embedding().to(captured.features.dtype)
                for network in self._networks:
                    losses.update(network(bare, vectors, masked))
                return losses

            with further_forward(model, rebuild):
                model(**net_input, features_only=True, classification_head_name=HEAD)
        rows = reader.rows(captured)
        return (texts.rows(rows, model.training) if needs_views else rows), losses


def _check_config(cfg: InfoCSEConfig) -> None:
    for name in ("infocse_lambda", "infocse_contrast", "infocse_mlm", "infocse_rtd"):
        value = getattr(cfg, name)
        if not 0 <= value < math.inf:  # also refuses NaN
            raise ValueError(f"--{name.replace('_', '-')} must be 0 or more, got {value}")
    has_network = cfg.infocse_lambda or cfg.infocse_mlm or cfg.infocse_rtd
    if not (has_network or cfg.infocse_contrast):
        raise ValueError(
            "--infocse-lambda, --infocse-contrast, --infocse-mlm and --infocse-rtd are all 0: "
            "there is no loss"
        )
    if cfg.infocse_layers < 1:
        raise ValueError(f"--infocse-layers must be 1 or more, got {cfg.infocse_layers}")
    if cfg.infocse_states_layer < 0:
        raise ValueError(
            f"--infocse-states-layer must be 0 or more, got {cfg.infocse_states_layer}"
        )
    is_frozen = str(cfg.infocse_states) == "frozen"
    if is_frozen and (cfg.infocse_mlm or cfg.infocse_no_detach):
        raise ValueError(
            "--infocse-states frozen has no gradients: use it without --infocse-mlm and "
            "--infocse-no-detach"
        )
    if cfg.scl_chunk_size and has_network:
        raise ValueError(
            "--scl-chunk-size cannot be used with --infocse-lambda, --infocse-mlm or --infocse-rtd"
        )
