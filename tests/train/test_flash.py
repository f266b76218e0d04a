"""FlashAttention-3 is used only where it gives what PyTorch's own kernel gives."""

import importlib.util

import pytest
import torch

from ssd.errors import HardwareError
from ssd.train.flash import TOLERANCE, attend, require_close, use_flash_3

CPU = torch.device("cpu")


def test_results_that_differ_by_more_than_rounding_are_refused() -> None:
    expected = attend(CPU)
    assert len(expected) == 2 * 4
    rounded = [result.bfloat16().float() * (1 + TOLERANCE / 2) for result in expected]
    require_close(rounded, expected)
    for position in range(len(expected)):
        wrong = list(expected)
        wrong[position] = wrong[position] * 1.05
        with pytest.raises(HardwareError, match=r"differs .* 0\.05 .*hardware.attention=varlen"):
            require_close(wrong, expected)
    wrong[0] = wrong[0] * torch.nan
    with pytest.raises(HardwareError, match="nan"):
        require_close(wrong, expected)


def test_the_documents_and_windows_that_are_compared_matter() -> None:
    whole, windowed = attend(CPU)[0], attend(CPU)[4]
    with pytest.raises(HardwareError):
        require_close([windowed], [whole])


@pytest.mark.skipif(
    importlib.util.find_spec("flash_attn_interface") is not None, reason="the package is here"
)
def test_a_package_that_cannot_be_loaded_is_told_in_one_line() -> None:
    with pytest.raises(HardwareError, match=r"flash_attn_interface.*=varlen") as error:
        use_flash_3(CPU)
    assert "\n" not in str(error.value)


@pytest.mark.gpu
def test_on_a_gpu_the_third_generation_gives_what_the_second_gives() -> None:
    pytest.importorskip("flash_attn_interface")
    from torch.nn.attention import restore_flash_attention_impl

    use_flash_3(torch.device("cuda"))
    restore_flash_attention_impl()
