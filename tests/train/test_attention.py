import pytest
import torch
from test_loss import VOCABULARY, small_model
from transformers import LlamaForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ssd.config.choices import Attention
from ssd.errors import ModelError
from ssd.train.attention import (
    VARLEN,
    attention_kwargs,
    check_isolation,
    choose_attention,
    varlen_attention,
)
from ssd.train.network import CompletionLoss

CPU = torch.device("cpu")
BACKENDS = ["varlen", "sdpa", "eager"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_changing_one_packed_document_leaves_its_neighbours_logits_unchanged(backend: str) -> None:
    model = small_model(backend).eval()
    lengths = [7, 5, 9]
    ids = torch.randint(VOCABULARY, (1, sum(lengths)), generator=torch.Generator().manual_seed(3))
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    name = model.config._attn_implementation

    def logits(ids: torch.Tensor) -> torch.Tensor:
        output = model(
            input_ids=ids,
            position_ids=positions,
            use_cache=False,
            **attention_kwargs(name, lengths),
        )
        assert isinstance(output.logits, torch.Tensor)
        return output.logits

    before = logits(ids)
    changed = ids.clone()
    changed[0, 7:12] = (changed[0, 7:12] + 1) % VOCABULARY  # the document in the middle
    after = logits(changed)
    assert torch.equal(before[:, :7], after[:, :7])
    assert torch.equal(before[:, 12:], after[:, 12:])
    assert not torch.allclose(before[:, 7:12], after[:, 7:12])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bf16", [True, False])
def test_every_backend_passes_the_start_up_check(backend: str, bf16: bool) -> None:
    model = small_model(backend)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        check_isolation(CompletionLoss(model), model.config._attn_implementation, VOCABULARY, CPU)


def test_the_start_up_check_finds_attention_that_leaks() -> None:
    def leaking(module, query, key, value, mask, document_ends=None, **kwargs):  # type: ignore[no-untyped-def]
        return varlen_attention(module, query, key, value, mask, document_ends=None, **kwargs)

    ALL_ATTENTION_FUNCTIONS.register("leaking", leaking)
    model = small_model()
    model.config._attn_implementation = "leaking"
    with pytest.raises(ModelError, match="documents of a packed row see each other under"):
        check_isolation(CompletionLoss(model), "leaking", VOCABULARY, CPU)


@pytest.mark.parametrize("window", [None, 3])
def test_varlen_equals_plain_attention_of_each_document(window: int | None) -> None:
    torch.manual_seed(0)
    lengths = [6, 4]
    query = torch.randn(1, 4, 10, 8)
    key, value = torch.randn(1, 2, 10, 8), torch.randn(1, 2, 10, 8)
    found, _ = varlen_attention(
        torch.nn.Module(), query, key, value, None, sliding_window=window,
        **attention_kwargs(VARLEN, lengths),
    )  # fmt: skip
    start = 0
    for length in lengths:
        part = slice(start, start + length)
        keys = key[:, :, part].repeat_interleave(2, 1)
        values = value[:, :, part].repeat_interleave(2, 1)
        scores = query[:, :, part] @ keys.transpose(2, 3) / 8**0.5
        rows, columns = torch.arange(length)[:, None], torch.arange(length)[None]
        seen = (columns <= rows) & (columns > rows - (window or length))
        expected = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ values
        torch.testing.assert_close(found[:, part], expected.transpose(1, 2))
        start += length


def test_varlen_refuses_what_it_does_not_know() -> None:
    one = torch.randn(1, 1, 2, 4)
    with pytest.raises(ModelError, match="does not know this model's s_aux"):
        varlen_attention(torch.nn.Module(), one, one, one, None, s_aux=one)


def test_auto_takes_what_the_architecture_offers() -> None:
    class Plain:
        _supports_sdpa = True

    class Sinks:
        _supports_sdpa = False

    assert choose_attention(Attention.auto, LlamaForCausalLM) == VARLEN
    assert choose_attention(Attention.auto, Plain) == "sdpa"
    assert choose_attention(Attention.auto, Sinks) == "eager"
    assert choose_attention(Attention.flash_attention_3, LlamaForCausalLM) == VARLEN
    with pytest.raises(ModelError, match=r"hardware.attention=varlen is not offered by Plain"):
        choose_attention(Attention.varlen, Plain)


@pytest.mark.gpu
def test_the_flash_kernel_equals_sdpa_per_document() -> None:
    torch.manual_seed(0)
    lengths = [64, 100, 36]
    shape = (1, 4, 200, 64)
    query = torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    key = torch.randn(1, 2, 200, 64, device="cuda", dtype=torch.bfloat16)
    packed = attention_kwargs(VARLEN, lengths, query.device)
    flash, _ = varlen_attention(torch.nn.Module(), query, key, key, None, **packed)
    expected, _ = varlen_attention(
        torch.nn.Module(), query.float().cpu(), key.float().cpu(), key.float().cpu(), None,
        **attention_kwargs(VARLEN, lengths),
    )  # fmt: skip
    torch.testing.assert_close(flash.float().cpu(), expected, atol=2e-2, rtol=2e-2)
