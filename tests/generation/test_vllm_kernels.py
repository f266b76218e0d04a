from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from runs import compose_config
from torch import Tensor
from vllm import ir

from ssd.generation.engines import load_engine
from ssd.generation.vllm_kernels import PROVIDER
from ssd.models import Weights
from ssd.runtime.hardware import resolve

EPSILON = 1e-6


@pytest.fixture(scope="module", autouse=True)
def engine(tiny_weights: Weights) -> Iterator[object]:
    config = compose_config("model=tiny", "hardware=cpu")
    with load_engine(
        config.sampler.engine,
        Path(tiny_weights.path),
        config.model,
        resolve(config.hardware),
        max_model_len=64,
    ) as engine:
        yield engine


def tensors(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, residual = torch.randn(2, 7, 96, generator=generator).to(dtype)
    return x, residual, torch.rand(96, generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_are_vllms_own_to_rounding(dtype: torch.dtype) -> None:
    x, residual, weight = tensors(dtype)
    tolerance = {"rtol": 1.6e-2, "atol": 1e-5}  # two roundings of bf16
    plain = ir.ops.rms_norm
    heads = torch.cat([x, residual], dim=-1)[:, :96].unflatten(-1, (3, 32))  # as Qwen3 norms them
    for rows, scale in ((x, weight), (heads, weight[:32])):
        torch.testing.assert_close(
            plain.impls[PROVIDER].impl_fn(rows, scale, EPSILON),
            plain.impls["native"].impl_fn(rows, scale, EPSILON),
            **tolerance,
        )
    fused = ir.ops.fused_add_rms_norm
    expected = fused.impls["native"].impl_fn(x, residual, weight, EPSILON)
    found = fused.impls[PROVIDER].impl_fn(x.clone(), residual.clone(), weight, EPSILON)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **tolerance)


def test_the_engine_uses_them_where_their_arguments_fit() -> None:
    x, residual, weight = tensors(torch.bfloat16)
    norm, fused = ir.ops.rms_norm, ir.ops.fused_add_rms_norm
    assert norm.dispatch(x, weight, EPSILON).provider == PROVIDER
    assert norm.dispatch(x, weight, EPSILON, 48).provider == "native"
    assert norm.dispatch(x, None, EPSILON).provider == "native"
    assert fused.dispatch(x, residual, weight, EPSILON).provider == PROVIDER
    strided = x.T.contiguous().T
    assert fused.dispatch(strided, residual, weight, EPSILON).provider == "native"
    assert fused.dispatch(x, strided, weight, EPSILON).provider == "native"
