"""InfoCSE: its losses layer by layer, and along which paths gradients reach the encoder."""

import copy

import pytest
import torch
import torch.nn.functional as F

import scl_fairseq
from scl_fairseq.checkpoints.loading import UNUSED_COPIES
from scl_fairseq.criterions.auxiliary import _cross_entropy
from scl_fairseq.criterions.further_forward import further_forward
from tests import runs, stock
from tests.criterions.test_simcse import loops, mlp
from tests.criterions.unlabelled import NO_DROPOUT, build, gradients
from tests.data_parallel import case, relative_difference, run, together

BATCH = range(8)
PAD = 1
STAGE_1 = ["--infocse-contrast", 0, "--infocse-lambda", 1, "--infocse-mlm", 1]
STAGE_2 = ["--infocse-lambda", 0.3]
ONLY_AUX = ["--infocse-contrast", 0, "--infocse-lambda", 1]
DETECTION = [*STAGE_2, "--infocse-rtd", 0.5]
ONLY_RTD = ["--infocse-contrast", 0, "--infocse-lambda", 0, "--infocse-rtd", 1]


def make(lines, *flags, **kwargs):
    return build(lines.data, *NO_DROPOUT, *flags, criterion="infocse", **kwargs)


def layer(module, x, padding):
    return module(x.transpose(0, 1), encoder_padding_mask=padding).transpose(0, 1)


def states_of(model, tokens, depth):
    """Hidden states by fairseq's own forward of all layers."""
    states = model(tokens, features_only=True, return_all_hiddens=True)[1]["inner_states"]
    return states[depth].transpose(0, 1)


def rebuilt(head, vector, states):
    """The head's layers on [h, M^{>0}] of one sentence, (T, C)."""
    x = torch.stack([vector, *states[1:]])[None]
    for module in head.layers:
        x = layer(module, x, None)
    return (x if head.layer_norm is None else head.layer_norm(x))[0]


def auxiliary_loss(model, vectors, states, masked):
    """The printed formula: layers on [h, M^{>0}], a mean over the masked tokens, one by one."""
    head, lm_head = model.classification_heads["infocse_auxiliary"], model.encoder.lm_head
    is_shared = lm_head.weight is model.encoder.sentence_encoder.embed_tokens.weight
    weight = lm_head.weight.detach() if is_shared else lm_head.weight
    tokens, target = masked["src_tokens"], masked["target"]
    total, count = 0, 0
    for row in range(len(tokens)):
        length = int(tokens[row].ne(PAD).sum())
        x = rebuilt(head, vectors[row], states[row, :length])
        for place in range(length):
            word = int(target[row, place])
            if word != PAD:
                y = lm_head.layer_norm(lm_head.activation_fn(lm_head.dense(x[place])))
                scores = weight @ y + lm_head.bias
                total = total + torch.logsumexp(scores, 0) - scores[word]
                count += 1
    assert count > 10
    return total / count


def detection_loss(model, generator, vectors, masked, special):
    """Sentence by sentence: the generator's likeliest words, and a mean over all words of all."""
    head = model.classification_heads["infocse_detector"]
    terms, replaced = [], []
    for vector, tokens, target in zip(vectors, masked["src_tokens"], masked["target"], strict=True):
        tokens = tokens[: int(tokens.ne(PAD).sum())]
        whole, edited = tokens.clone(), tokens.clone()
        scores = generator(tokens[None])[0][0].detach()
        for place in target.ne(PAD).nonzero().flatten().tolist():
            whole[place] = target[place]
            order = scores[place].argsort(descending=True).tolist()
            words = [word for word in order if word not in special]
            edited[place] = words[0]
        states = states_of(model, edited[None], 1)[0].detach()
        x = rebuilt(head, vector, states)
        for place in range(1, len(tokens) - 1):
            score = head.score.weight[0] @ x[place] + head.score.bias[0]
            replaced.append(bool(edited[place] != whole[place]))
            terms.append(F.softplus(-score if replaced[-1] else score))
    assert 0.1 < sum(replaced) / len(replaced) < 0.9
    return sum(terms) / len(terms)


def mlm_loss(model, masked):
    chosen = masked["target"].ne(PAD)
    logits = model(masked["src_tokens"])[0][chosen]
    return F.cross_entropy(logits, masked["target"][chosen])


@pytest.mark.parametrize("arch", ["roberta", "roberta_prenorm"])
@pytest.mark.parametrize(
    "flags",
    [
        *([], ["--scl-packed"], ["--untie-weights-roberta"]),
        *(["--scl-embedding", "mean"], ["--scl-embedding", "mean", "--scl-packed"]),
    ],
    ids=" ".join,
)
def test_the_second_stage_equals_the_formula(lines, arch, flags):
    """Loss, and gradients of everything: views, masks, detached states, constant embeddings."""
    built = make(lines, *STAGE_2, *flags, arch=arch)
    batch, model = built.batch(BATCH), built.model.train()
    assert len(batch["masked"]["target"]) == 16
    loss, size, log = built.criterion(model, batch)
    loss.backward()
    found = gradients(model)
    model.zero_grad(set_to_none=True)
    tokens = batch["net_input"]["src_tokens"].repeat_interleave(2, dim=0)
    features = model(tokens, features_only=True)[0]
    vectors = features[:, 0]
    if "mean" in flags:
        pairs = zip(features, tokens, strict=True)
        vectors = torch.stack([states[text.ne(PAD)].mean(dim=0) for states, text in pairs])
    states = states_of(model, batch["masked"]["src_tokens"], 1).detach()
    aux = auxiliary_loss(model, vectors, states, batch["masked"])
    contrast = loops(mlp(model, vectors), 2)
    expected = contrast + 0.3 * 8 * aux
    expected.backward()
    assert size == 8
    assert float(log["aux_loss"]) == pytest.approx(8 * float(aux.detach()), rel=1e-6)
    assert float(log["cl_loss"]) == pytest.approx(float(contrast.detach()), rel=1e-6)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert "mlm_loss" not in log
    assert relative_difference(found, gradients(model)) < 1e-6


def test_the_first_stage_equals_the_formula(lines):
    built = make(lines, *STAGE_1)
    batch, model = built.batch(BATCH), built.model.train()
    assert len(batch["masked"]["target"]) == 8
    loss, _, log = built.criterion(model, batch)
    loss.backward()
    found = gradients(model)
    model.zero_grad(set_to_none=True)
    vectors = model(**batch["net_input"], features_only=True)[0][:, 0]
    states = states_of(model, batch["masked"]["src_tokens"], 1).detach()
    aux = auxiliary_loss(model, vectors, states, batch["masked"])
    mlm = mlm_loss(model, batch["masked"])
    (8 * (aux + mlm)).backward()
    assert float(log["mlm_loss"]) == pytest.approx(8 * float(mlm.detach()), rel=1e-9)
    assert float(loss.detach()) == pytest.approx(8 * float((aux + mlm).detach()), rel=1e-9)
    assert "cl_loss" not in log
    assert relative_difference(found, gradients(model)) < 1e-9


@pytest.mark.parametrize("packed", [[], ["--scl-packed"]])
@pytest.mark.parametrize("weight", [0, 0.3])
def test_replaced_token_detection_equals_the_formula(lines, weight, packed):
    """Instead of L_aux, and beside it; the generator is the encoder that the training began with,
    whose likeliest words are sometimes special tokens here, and never taken.
    """
    flags = ["--infocse-lambda", weight, "--infocse-rtd", 0.7]
    built = make(lines, *flags, *packed)
    batch, model = built.batch(BATCH), built.model.train()
    special = [0, PAD, 2, built.task.dictionary.index("<mask>")]
    with torch.no_grad():
        model.encoder.lm_head.bias[special] = 3.0
    generator = copy.deepcopy(model)
    built.criterion(model, batch)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    loss, _, log = built.criterion(model, batch)
    loss.backward()
    found = gradients(model)
    model.zero_grad(set_to_none=True)
    tokens = batch["net_input"]["src_tokens"].repeat_interleave(2, dim=0)
    vectors = model(tokens, features_only=True)[0][:, 0]
    detection = detection_loss(model, generator, vectors, batch["masked"], special)
    expected = loops(mlp(model, vectors), 2) + 0.7 * 8 * detection
    if weight:
        states = states_of(model, batch["masked"]["src_tokens"], 1).detach()
        expected = expected + weight * 8 * auxiliary_loss(model, vectors, states, batch["masked"])
    expected.backward()
    assert float(log["rtd_loss"]) == pytest.approx(8 * float(detection.detach()), rel=1e-6)
    assert ("aux_loss" in log) == (weight > 0)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert relative_difference(found, gradients(model)) < 1e-6


@pytest.mark.parametrize("packed", [[], ["--scl-packed"]])
@pytest.mark.parametrize("flags", [STAGE_1, STAGE_2, DETECTION])
def test_a_batch_without_masked_words_has_nothing_to_rebuild(lines, flags, packed):
    """Short sentences at a low rate; in float32, which has products of its own."""
    built = make(lines, *flags, *packed)
    batch, model = built.batch(BATCH), built.model.float().train()
    target = batch["masked"]["target"]
    batch["masked"]["src_tokens"] = torch.where(
        target.ne(PAD), target, batch["masked"]["src_tokens"]
    )
    target.fill_(PAD)
    loss, _, log = built.criterion(model, batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert [float(log[name]) for name in ("aux_loss", "mlm_loss") if name in log] == [0] * (
        1 + (flags is STAGE_1)
    )
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())


def test_words_in_half_precision_are_summed_in_float32():
    logits = torch.randn(600, 50).half()
    target = torch.randint(50, (600,))
    loss = _cross_entropy(logits, target)
    assert loss.dtype == torch.float32
    expected = F.cross_entropy(logits.double(), target)
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize(
    ("flags", "head"), [(STAGE_2, "infocse_auxiliary"), (DETECTION, "infocse_detector")]
)
def test_packed_layers_compute_no_padding(lines, flags, head):
    built, seen = make(lines, *flags, "--scl-packed"), []
    batch, model = built.batch(BATCH), built.model.train()
    for layer in model.classification_heads[head].layers:
        layer.fc1.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[:-1]))
    built.criterion(model, batch)
    tokens = batch["masked"]["src_tokens"]
    is_token = tokens != built.task.source_dictionary.pad()
    assert not is_token.all()
    assert seen == [(int(is_token.sum()),)] * 2


@pytest.fixture
def cut(monkeypatch):
    """``cut("h")`` or ``cut("M")``: no gradient passes there any more."""
    from scl_fairseq.models.auxiliary_head import AuxiliaryHead

    original = AuxiliaryHead.forward

    def apply(path):
        def forward(self, vectors, states, *others):
            if path == "h":
                vectors = vectors.detach()
            if path == "M":
                states = states.detach()
            return original(self, vectors, states, *others)

        monkeypatch.setattr(AuxiliaryHead, "forward", forward)

    return apply


def encoder_gradients(lines, *flags, only=ONLY_AUX, head="infocse_auxiliary"):
    """Largest gradient of L_aux in each part of the encoder, embeddings among them."""
    built = make(lines, *only, *flags)
    loss, _, _ = built.criterion(built.model.train(), built.batch(BATCH))
    if loss.requires_grad:
        loss.backward()
    found = {}
    for name, parameter in built.model.encoder.sentence_encoder.named_parameters():
        part = name.split(".")[1] if name.startswith("layers") else "embeddings"
        size = 0.0 if parameter.grad is None else float(parameter.grad.abs().max())
        found[part] = max(found.get(part, 0.0), size)
    assert set(found) == {"embeddings", "0", "1"}
    for name, parameter in built.model.classification_heads[head].named_parameters():
        # Layers of fairseq 0.12.2 have copies that nothing uses.
        assert name.endswith(UNUSED_COPIES) or parameter.grad.abs().max() > 0, name
    return found


def test_l_aux_reaches_the_encoder_only_through_h(lines, cut):
    """Layer 1 lies above the states M, so only h can bring a gradient to it."""
    whole = encoder_gradients(lines)
    assert min(whole.values()) > 0
    cut("h")
    assert set(encoder_gradients(lines).values()) == {0.0}
    cut("M")
    assert encoder_gradients(lines) == whole


def test_l_rtd_reaches_the_encoder_only_through_h(lines, cut):
    detector = {"only": ONLY_RTD, "head": "infocse_detector"}
    whole = encoder_gradients(lines, **detector)
    assert min(whole.values()) > 0
    cut("h")
    assert set(encoder_gradients(lines, **detector).values()) == {0.0}


def test_without_detach_it_comes_through_the_states_too(lines, cut):
    both = encoder_gradients(lines, "--infocse-no-detach")
    assert min(both.values()) > 0
    cut("h")
    through_states = encoder_gradients(lines, "--infocse-no-detach")
    assert through_states["1"] == 0
    assert through_states["0"] > 0
    assert through_states["embeddings"] > 0
    cut("M")
    assert encoder_gradients(lines, "--infocse-no-detach") == encoder_gradients(lines)


def test_other_masks_change_the_loss_and_not_what_stands_first(lines, monkeypatch):
    """H~ begins with the vector of the whole sentence, whatever is masked; M's own is not read."""
    from scl_fairseq.models.auxiliary_head import AuxiliaryHead

    built, seen = make(lines, *STAGE_2), []
    original = AuxiliaryHead.forward

    def forward(self, vectors, states, *others):
        seen.append(vectors.detach().clone())
        return original(self, vectors, states, *others)

    monkeypatch.setattr(AuxiliaryHead, "forward", forward)
    losses = []
    for epoch in (1, 2):
        built.rows.set_epoch(epoch)
        batch = built.batch(BATCH)
        losses.append(float(built.criterion(built.model.train(), batch)[2]["aux_loss"]))
    assert losses[0] != losses[1]
    assert torch.equal(*seen)
    head = built.model.classification_heads["infocse_auxiliary"]
    states = torch.randn(2, 5, 32).double()
    changed = states.clone()
    changed[:, 0] = 7
    padding = torch.zeros(2, 5, dtype=torch.bool)
    rows = [original(head, torch.ones(2, 32).double(), each, padding) for each in (states, changed)]
    assert torch.equal(*rows)


@pytest.mark.parametrize("views", ["all", "one"])
@pytest.mark.parametrize("columns", [1, 3])
def test_vectors_stand_with_the_masks_of_their_own_sentence(lines, views, columns, monkeypatch):
    from scl_fairseq.models.auxiliary_head import AuxiliaryHead

    data = lines.data if columns == 1 else lines.triples
    flags = [*NO_DROPOUT, *STAGE_2, "--text-columns", columns, "--mask-views", views]
    built, seen = build(data, *flags, criterion="infocse"), []
    original = AuxiliaryHead.forward
    monkeypatch.setattr(
        AuxiliaryHead, "forward", lambda self, *args: seen.append(args[0]) or original(self, *args)
    )
    batch = built.batch(BATCH)
    copies = 2 if (views, columns) == ("all", 1) else 1
    own = built.model(**batch["net_input"], features_only=True)[0][:, 0]
    for is_training in (True, False):
        built.criterion(built.model.train(is_training), batch)
        assert torch.allclose(seen[-1], own.repeat_interleave(copies, dim=0), atol=1e-9)


def test_lambda_0_is_simcse_to_the_bit(tiny, lines, tmp_path):
    for name, options in (("simcse", []), ("infocse", ["--infocse-lambda", 0])):
        command = runs.embedding_command(
            tiny, lines.data, tmp_path / name, *options, "--no-epoch-checkpoints", criterion=name
        )
        runs.train(command)
    last = "checkpoint_last.pt"
    runs.assert_same_weights(tmp_path / "simcse" / last, tmp_path / "infocse" / last)


def test_frozen_states_are_those_of_the_beginning(lines):
    built = make(lines, *STAGE_2, "--infocse-states", "frozen")
    batch, model = built.batch(BATCH), built.model.train()
    at_first = copy.deepcopy(model)
    built.criterion(model, batch)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    log = built.criterion(model, batch)[2]
    vectors = model(**batch["net_input"], features_only=True)[0][:, 0].repeat_interleave(2, dim=0)
    for made_by, is_equal in ((at_first, True), (model, False)):
        states = states_of(made_by, batch["masked"]["src_tokens"], 1).detach()
        aux = float(auxiliary_loss(model, vectors, states, batch["masked"]).detach())
        assert (float(log["aux_loss"]) == pytest.approx(8 * aux, rel=1e-6)) == is_equal
    other = make(lines, *STAGE_2, "--infocse-states", "frozen")
    other.criterion.load_training_state(built.criterion.training_state())
    other.model.load_state_dict(model.state_dict())
    again = other.criterion(other.model.train(), batch)[2]
    assert float(again["aux_loss"]) == pytest.approx(float(log["aux_loss"]), rel=1e-6)


@pytest.mark.parametrize("kind", ["own", "frozen"])
def test_frozen_states_have_no_dropout(lines, kind, monkeypatch):
    from scl_fairseq.models.auxiliary_head import AuxiliaryHead

    flags = ["--infocse-states", kind, "--dropout", 0.1]
    built, seen = build(lines.data, *STAGE_2, *flags, criterion="infocse"), []
    original = AuxiliaryHead.forward
    monkeypatch.setattr(
        AuxiliaryHead, "forward", lambda self, *args: seen.append(args) or original(self, *args)
    )
    for _ in range(2):
        built.criterion(built.model.train(), built.batch(BATCH))
    (vectors, states, *_), (other_vectors, other_states, *_) = seen
    assert not torch.equal(vectors, other_vectors)
    assert torch.equal(states, other_states) == (kind == "frozen")


def test_a_deeper_layer_and_more_layers(lines):
    built = make(lines, *ONLY_AUX, "--infocse-states-layer", 2, "--infocse-layers", 3)
    batch, model = built.batch(BATCH), built.model.train()
    loss = built.criterion(model, batch)[0]
    assert len(model.classification_heads["infocse_auxiliary"].layers) == 3
    vectors = model(**batch["net_input"], features_only=True)[0][:, 0]
    states = states_of(model, batch["masked"]["src_tokens"], 2)
    aux = auxiliary_loss(model, vectors, states, batch["masked"])
    assert float(loss.detach()) == pytest.approx(8 * float(aux.detach()), rel=1e-9)


def updates(*counts, number=3):
    rows = iter(list(range(64)) * 8)
    return [[[next(rows) for _ in range(count)] for count in counts] for _ in range(number)]


def test_workers(tiny, lines, tmp_path):
    """Each worker's means are of its own masked tokens: equal batches of one sentence twice."""
    cases = {
        f"{name}, {backend}": case(
            [[[i, i], [i, i]] for i in range(3)], *flags, "--mask-views", "one", backend=backend
        )
        for name, flags in (("first", STAGE_1), ("second", STAGE_2), ("detection", DETECTION))
        for backend in ("legacy_ddp", "pytorch_ddp")
    }

    def command(tiny, save_dir, *options):
        return runs.embedding_command(tiny, lines.data, save_dir, *options, criterion="infocse")

    two = run(cases, 2, tiny, tmp_path / "two", command)
    alone = {name: together(given) for name, given in cases.items()}
    one = run(alone, 1, tiny, tmp_path / "one", command)[0]
    for name in cases:
        for worker in two:
            assert worker[name]["errors"] == one[name]["errors"] == []
            for part in ("gradients", "weights"):
                assert relative_difference(worker[name][part], one[name][part]) < 1e-5, (name, part)


def test_both_stages_as_commands(tiny, lines, tmp_path):
    """The second takes up the first one's heads; a killed run resumes; the hub has the encoder."""

    def train(folder, *options):
        flags = ["--no-epoch-checkpoints", "--user-dir", runs.ROOT / "scl_fairseq"]
        command = runs.embedding_command(
            tiny, lines.data, folder, *flags, *options, criterion="infocse"
        )
        return runs.train(command).stdout

    last = "checkpoint_last.pt"
    output = train(tmp_path / "one", *STAGE_1, "--max-epoch", 6)
    for name in ("aux_loss", "mlm_loss"):
        values = runs.logged(output, name)
        assert values[-1] < values[0]
    start = ["--finetune-from-model", tmp_path / "one" / last]
    output = train(tmp_path / "two", *STAGE_2, *start, "--max-update", 1)
    before, after = (runs.weights(tmp_path / part / last) for part in ("one", "two"))
    auxiliary = [name for name in before if "infocse_auxiliary" in name]
    assert auxiliary
    for name in auxiliary:
        # Adam's step is the learning rate, far less than what initialisation would change.
        assert (before[name] - after[name]).abs().max() < 1.1e-3
    frozen = [*DETECTION, *start, "--infocse-states", "frozen"]
    train(tmp_path / "whole", *frozen)
    train(tmp_path / "parts", *frozen, "--max-update", 5)
    train(tmp_path / "parts", *frozen)
    runs.assert_same_weights(tmp_path / "whole" / last, tmp_path / "parts" / last)

    model = scl_fairseq.load(tmp_path / "whole" / last)
    assert not {"infocse_auxiliary", "infocse_detector"} & {*model.model.classification_heads}
    weights = runs.weights(tmp_path / "whole" / last)
    for name, tensor in model.model.state_dict().items():
        if name.startswith("encoder.") and name in weights:
            assert torch.equal(tensor, weights[name])
    assert model.embed(["a sentence"]).shape == (1, 32)

    start = tmp_path / "whole" / last
    stock.fine_tune(tiny, start, tmp_path / "stock", "--max-update", 1, "--lr", 0)
    tuned = runs.weights(tmp_path / "stock" / last)
    assert not any("infocse" in name for name in tuned)
    encoder = [name for name in weights if name.startswith("encoder.")]
    assert all(torch.equal(tuned[name], weights[name]) for name in encoder)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--infocse-lambda", -1], "--infocse-lambda must be 0 or more, got -1"),
        (["--infocse-mlm", "nan"], "--infocse-mlm must be 0 or more, got nan"),
        (["--infocse-lambda", 0, "--infocse-contrast", 0], "there is no loss"),
        (["--infocse-rtd", "inf"], "--infocse-rtd must be 0 or more, got inf"),
        (["--infocse-layers", 0], "--infocse-layers must be 1 or more, got 0"),
        (["--infocse-states-layer", 3], "--infocse-states-layer 3: the encoder has 2 layers"),
        (["--infocse-states", "frozen", "--infocse-mlm", 1], "frozen has no gradients"),
        (["--scl-chunk-size", 4], "--scl-chunk-size cannot be used"),
        ([*ONLY_RTD, "--scl-chunk-size", 4], "--scl-chunk-size cannot be used"),
    ],
)
def test_bad_options(lines, flags, message):
    with pytest.raises(ValueError, match=message):
        make(lines, *flags)


def test_further_forward_leaves_the_model_as_it_was(lines):
    model = make(lines).model
    with pytest.raises(RuntimeError), further_forward(model, lambda: {}):
        raise RuntimeError
    assert "forward" not in vars(model)
