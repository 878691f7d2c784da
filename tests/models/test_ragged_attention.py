"""Packed attention by torch's operators: what torch offers, what is handed over, what comes back.

Only a GPU runs the kernels. Here tensors of the meta device show shapes and types, and stand-ins
with the kernels' arguments show what the kernels are asked for.
"""

import inspect

import pytest
import torch

from scl_fairseq.models import ragged_attention
from scl_fairseq.models.packed_attention import attend
from scl_fairseq.models.packing import find_packing
from scl_fairseq.models.ragged_attention import (
    EFFICIENT,
    FLASH,
    NESTED,
    OPERATORS,
    attend_ragged,
    has_ragged_kernel,
    is_offered,
    kernel_for,
)

LENGTHS = [23, 2, 9, 9, 1, 40, 17]
HEADS, SCALING = 3, 0.2
HALVES = (torch.float16, torch.bfloat16)
CUDA = torch.device("cuda")


def tolerance(dtype, roundings):
    """Relative; float32 products of a kernel may be three of TF32."""
    return max(roundings * torch.finfo(dtype).eps, 1e-5)


def packing_of(lengths, device="cpu", in_groups=False):
    is_token = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return find_packing(is_token.to(device), in_groups)


def parts_of(lengths, width, dtype, device="cpu", first_only=False):
    """Query, key and value as leaves."""
    generator = torch.Generator().manual_seed(width)
    sizes = [len(lengths) if first_only else sum(lengths), sum(lengths), sum(lengths)]
    return [
        torch.randn(size, HEADS * width, generator=generator, dtype=torch.float64)
        .to(device, dtype)
        .requires_grad_()
        for size in sizes
    ]


def by_sentences(query, key, value, lengths, first_only):
    """Sentence by sentence; sentences lie one after another."""
    found, start = [], 0
    for number, length in enumerate(lengths):
        rows = slice(start, start + length)
        asked = query[number : number + 1] if first_only else query[rows]
        split = [part.unflatten(1, (HEADS, -1)).transpose(0, 1) for part in (asked, key[rows])]
        weights = (SCALING * split[0] @ split[1].transpose(1, 2)).softmax(dim=-1)
        of_heads = weights @ value[rows].unflatten(1, (HEADS, -1)).transpose(0, 1)
        found.append(of_heads.transpose(0, 1).flatten(1))
        start += length
    return torch.cat(found)


# --- What torch offers ---


def test_this_torch_has_the_operators():
    """Where a new torch has others, packed attention is right but slow: this test then fails."""
    for name, leading in OPERATORS.values():
        arguments = getattr(torch.ops.aten, name).default._schema.arguments
        assert tuple(one.name for one in arguments)[: len(leading)] == leading
    assert is_offered(EFFICIENT)
    assert is_offered(FLASH) == torch.backends.cuda.is_flash_attention_available()


@pytest.fixture
def offered(monkeypatch):
    """As if this torch were built for a GPU, whose generation is ``offered(9, 0)``."""

    def gpu(*capability):
        monkeypatch.setattr(ragged_attention, "capability", lambda device: capability)

    monkeypatch.setattr(ragged_attention, "is_offered", lambda kernel: True)
    gpu(9, 0)
    return gpu


@pytest.mark.parametrize(
    ("capability", "dtype", "width", "expected"),
    [
        ((9, 0), torch.bfloat16, 64, FLASH),
        ((8, 0), torch.float16, 32, FLASH),
        ((8, 0), torch.float16, 256, EFFICIENT),  # no backward on every GPU
        ((7, 5), torch.float16, 64, EFFICIENT),
        ((7, 0), torch.bfloat16, 64, NESTED),
        ((9, 0), torch.float32, 64, EFFICIENT),
        ((9, 0), torch.float64, 64, NESTED),
        ((9, 0), torch.bfloat16, 6, NESTED),
        ((9, 0), torch.float32, 12, NESTED),
    ],
)
def test_kernel_by_gpu_type_and_width(offered, capability, dtype, width, expected):
    offered(*capability)
    assert kernel_for(dtype, width, CUDA) == expected


def test_kernels_that_are_switched_off_or_not_there(offered, monkeypatch):
    assert kernel_for(torch.bfloat16, 64, torch.device("cpu")) == NESTED
    monkeypatch.setattr(torch.backends.cuda, "flash_sdp_enabled", lambda: False)
    assert kernel_for(torch.bfloat16, 64, CUDA) == EFFICIENT
    monkeypatch.setattr(torch.backends.cuda, "mem_efficient_sdp_enabled", lambda: False)
    assert kernel_for(torch.bfloat16, 64, CUDA) == NESTED
    monkeypatch.undo()
    monkeypatch.setattr(ragged_attention, "capability", lambda device: (9, 0))
    monkeypatch.setattr(ragged_attention, "is_offered", lambda kernel: False)
    assert kernel_for(torch.float32, 64, CUDA) == NESTED


@pytest.mark.parametrize("change", ["another name", "another order", "no scale", "not there"])
def test_an_operator_of_other_arguments_is_not_used(monkeypatch, change):
    name, leading = OPERATORS[EFFICIENT]
    if change == "not there":
        monkeypatch.setitem(OPERATORS, EFFICIENT, ("_no_such_attention", leading))
    elif change == "another name":
        monkeypatch.setitem(OPERATORS, EFFICIENT, (name, (*leading[:-1], "records")))
    elif change == "another order":
        monkeypatch.setitem(OPERATORS, EFFICIENT, (name, leading[::-1]))
    else:  # as torch._weight_norm: an operator that has none
        monkeypatch.setitem(OPERATORS, EFFICIENT, ("_weight_norm", ("v", "g", "dim")))
    assert not is_offered.__wrapped__(EFFICIENT)


def test_amds_gpus_have_nested_tensors(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.0")
    assert not is_offered.__wrapped__(EFFICIENT)


# --- What the kernels are asked for, by stand-ins that compute it in float64 ---


class StandIns:
    """In the operators' places; of each call the type and what else was asked for is noted."""

    def __init__(self):
        self.calls = []

    def _flash_attention_forward(
        self, query, key, value, cum_seq_q, cum_seq_k, max_q, max_k, dropout_p, is_causal,
        return_debug_mask, *, scale=None,
    ):  # fmt: skip
        assert not return_debug_mask
        ends = cum_seq_q, cum_seq_k, max_q, max_k
        return self._attend(FLASH, query, key, value, *ends, dropout_p, is_causal, scale)

    def _efficient_attention_forward(
        self, query, key, value, bias, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k,
        dropout_p, custom_mask_type, compute_log_sumexp=False, *, scale=None,
    ):  # fmt: skip
        assert bias is None
        records = any(part.requires_grad for part in (query, key, value))
        assert compute_log_sumexp == (torch.is_grad_enabled() and records)
        query, key, value = (part.squeeze(0) for part in (query, key, value))
        ends = cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k
        found = self._attend(
            EFFICIENT, query, key, value, *ends, dropout_p, custom_mask_type, scale
        )
        return [one.unsqueeze(0) for one in found]

    def _attend(
        self, kernel, query, key, value, of_queries, of_keys, most, longest, dropout, mask, scale
    ):
        assert of_queries.dtype == of_keys.dtype == torch.int32
        assert not mask
        self.calls.append((kernel, query.dtype, dropout, most, longest))
        found = []
        for number in range(len(of_keys) - 1):
            rows = slice(int(of_keys[number]), int(of_keys[number + 1]))
            asked = slice(int(of_queries[number]), int(of_queries[number + 1]))
            assert asked.stop - asked.start <= most
            assert rows.stop - rows.start <= longest
            split = [
                part.double().transpose(0, 1) for part in (query[asked], key[rows], value[rows])
            ]
            weights = (scale * split[0] @ split[1].transpose(1, 2)).softmax(dim=-1)
            found.append((weights @ split[2]).transpose(0, 1))
        return [torch.cat(found).to(query.dtype)]


def test_stand_ins_have_the_operators_arguments():
    for name, leading in OPERATORS.values():
        assert tuple(inspect.signature(getattr(StandIns(), name)).parameters) == (*leading, "scale")


@pytest.fixture
def stand_ins(monkeypatch):
    """Kernels of a GPU, on tensors of a CPU."""
    found = StandIns()
    original = kernel_for
    monkeypatch.setattr(
        ragged_attention, "kernel_for", lambda dtype, width, device: original(dtype, width, CUDA)
    )
    for name, _ in OPERATORS.values():
        monkeypatch.setattr(torch.ops.aten, name, getattr(found, name))
    return found


@pytest.mark.parametrize("first_only", [False, True], ids=["all", "first"])
@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
def test_results_and_gradients(offered, stand_ins, dtype, width, first_only):
    packing = packing_of(LENGTHS)
    parts = parts_of(LENGTHS, width, dtype, first_only=first_only)
    wide = [part.detach().double().requires_grad_() for part in parts]
    expected = by_sentences(*wide, LENGTHS, first_only)
    weights = torch.randn_like(expected)
    expected_grads = torch.autograd.grad((expected * weights).sum(), wide)

    found = attend(*parts, packing, HEADS, SCALING, 0.0)
    assert found.dtype == dtype
    assert (found - expected).abs().max() < tolerance(dtype, 8) * expected.abs().max()
    grads = torch.autograd.grad((found * weights).sum(), parts)
    for grad, other in zip(grads, expected_grads, strict=True):
        assert (grad - other).abs().max() < tolerance(dtype, 40) * other.abs().max()

    kernel = FLASH if dtype in HALVES else EFFICIENT
    most = 1 if first_only else max(LENGTHS)
    assert stand_ins.calls == [(kernel, dtype, 0.0, most, max(LENGTHS))]


def test_dropout_arrives_and_nothing_is_kept_without_gradients(offered, stand_ins):
    packing = packing_of(LENGTHS)
    for dtype, kernel in ((torch.bfloat16, FLASH), (torch.float32, EFFICIENT)):
        parts = parts_of(LENGTHS, 64, dtype)
        attend(*parts, packing, HEADS, SCALING, 0.1)
        with torch.no_grad():
            attend(*parts, packing, HEADS, SCALING, 0.0)
        assert [call[0::2] for call in stand_ins.calls] == [
            (kernel, 0.1, max(LENGTHS)),
            (kernel, 0.0, max(LENGTHS)),
        ]
        stand_ins.calls.clear()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_autocast_is_heeded(offered, stand_ins, monkeypatch, dtype):
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: True)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda device: dtype)
    cast = ragged_attention._autocast
    monkeypatch.setattr(ragged_attention, "_autocast", lambda *parts: as_if_on_a_gpu(cast, parts))
    packing = packing_of(LENGTHS)
    attend(*parts_of(LENGTHS, 64, torch.float32), packing, HEADS, SCALING, 0.0)
    assert stand_ins.calls[0][:2] == (FLASH, dtype)
    attend(*parts_of(LENGTHS, 64, torch.float64), packing, HEADS, SCALING, 0.0)
    assert len(stand_ins.calls) == 1  # by nested tensors, in float64


def as_if_on_a_gpu(cast, parts):
    class OnGPU:
        device = CUDA

        def __init__(self, part):
            self.part, self.dtype = part, part.dtype

        def to(self, dtype):
            return OnGPU(self.part.to(dtype))

    return tuple(one.part for one in cast(*map(OnGPU, parts)))


# --- Shapes and types on the meta device ---


@pytest.mark.parametrize("first_only", [False, True], ids=["all", "first"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
def test_operators_and_fallbacks_agree(offered, monkeypatch, dtype, width, dropout, first_only):
    def shapes(on_device, in_groups, kernel, with_gradients=True):
        monkeypatch.setattr(ragged_attention, "kernel_for", lambda *about: kernel)
        packing = packing_of(LENGTHS, in_groups=in_groups)
        if on_device == "meta":
            packing = on_meta(packing)
        parts = parts_of(LENGTHS, width, dtype, on_device, first_only)
        found = attend(*parts, packing, HEADS, SCALING, dropout)
        if with_gradients:
            found.float().sum().backward()
        gradients = [(one.grad.shape, one.grad.dtype) for one in parts if with_gradients]
        return (found.shape, found.dtype), gradients

    kernel = FLASH if dtype in HALVES else EFFICIENT
    expected = shapes("meta", True, None)
    # torch itself fails to say the shapes of the other kernel's gradients.
    found = shapes("meta", False, kernel, with_gradients=kernel == FLASH)
    assert found[0] == expected[0]
    assert found[1] == (expected[1] if kernel == FLASH else [])
    if dtype == torch.float32 and not dropout:  # on a CPU, where nested tensors do those alone
        assert shapes("cpu", False, NESTED) == expected


def on_meta(packing):
    """The same packing, its tensors without numbers."""
    from dataclasses import fields, replace

    values = {field.name: getattr(packing, field.name) for field in fields(packing)}
    moved = {name: one.to("meta") for name, one in values.items() if torch.is_tensor(one)}
    groups = tuple(
        replace(
            group,
            places=None if group.places is None else group.places.to("meta"),
            is_padding=None if group.is_padding is None else group.is_padding.to("meta"),
        )
        for group in packing.groups
    )
    return replace(packing, **moved, groups=groups)


# --- The kernels themselves ---


@pytest.mark.gpu
@pytest.mark.parametrize("first_only", [False, True], ids=["all", "first"])
@pytest.mark.parametrize("width", [6, 8, 32, 64])
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
def test_kernels_against_float64(dtype, width, first_only):
    """As exact as the rounding of what they are given and of what they return."""
    assert has_ragged_kernel(CUDA)
    packing = packing_of(LENGTHS, "cuda")
    parts = parts_of(LENGTHS, width, dtype, "cuda", first_only)
    wide = [part.detach().cpu().double().requires_grad_() for part in parts]
    expected = by_sentences(*wide, LENGTHS, first_only)
    weights = torch.randn_like(expected)
    expected_grads = torch.autograd.grad((expected * weights).sum(), wide)
    found = attend_ragged(*parts, packing, HEADS, SCALING, 0.0)
    assert found.dtype == dtype
    assert (found.cpu() - expected).abs().max() < tolerance(dtype, 8) * expected.abs().max()
    grads = torch.autograd.grad((found * weights.cuda()).sum(), parts)
    for grad, other in zip(grads, expected_grads, strict=True):
        assert (grad.cpu() - other).abs().max() < tolerance(dtype, 40) * other.abs().max()


@pytest.mark.gpu
@pytest.mark.parametrize("first_only", [False, True], ids=["all", "first"])
@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
def test_dropout_of_the_kernels(dtype, width, first_only):
    """Equal weights of ones, a share dropped: the mean stays 1, the spread is the binomial's."""
    lengths, dropout = [64] * 64, 0.1
    packing = packing_of(lengths, "cuda")
    query, key, value = (torch.zeros_like(part) for part in parts_of(
        lengths, width, dtype, "cuda", first_only
    ))  # fmt: skip
    value = (value + 1).requires_grad_()
    found = attend_ragged(query, key, value, packing, HEADS, SCALING, dropout)
    found.float().sum().backward()
    # Of a head all columns are the same: what was drawn is (tokens, heads).
    drawn = found.float().unflatten(1, (HEADS, width))[:, :, 0]
    spread = (dropout / (1 - dropout) / 64) ** 0.5
    assert abs(drawn.mean().item() - 1) < 5 * spread / len(drawn) ** 0.5 + 0.002
    assert abs(drawn.std().item() / spread - 1) < 0.25
    # The backward drops what the forward dropped.
    total = found.float().sum().item()
    assert abs(value.grad.float().sum().item() - total) < 0.01 * total
    again = attend_ragged(query, key, value, packing, HEADS, SCALING, dropout)
    assert not torch.equal(found, again)
