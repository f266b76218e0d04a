"""In which precision a machine computes."""

from pathlib import Path

import pytest
import torch
from runs import compose_config

from ssd.config.choices import Accelerator, Dtype, Precision
from ssd.config.settings import HardwareConfig
from ssd.runtime import precision
from ssd.runtime.precision import compute_dtype, multiplies_bf16, note_products, product_precision

CPU = HardwareConfig(accelerator=Accelerator.cpu)


@pytest.mark.parametrize(
    ("cpu", "multiplies"),
    [
        ("flags\t\t: fma avx avx2", False),
        ("flags\t\t: avx2 avx512f avx512bw", True),
        ("Features\t: fp asimd", False),
        ("Features\t: fp asimd bf16", True),
        ("model name: one that tells nothing", True),
    ],
)
def test_bf16_is_computed_in_fp32_on_a_cpu_without_products_of_it(
    cpu: str,
    multiplies: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{cpu}\n")
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "cpuinfo")
    asked, instead = (Dtype.bfloat16, Precision.bf16), (Dtype.float32, Precision.fp32)
    assert (
        compute_dtype(Dtype.bfloat16, CPU),
        product_precision(Precision.bf16, CPU),
    ) == (asked if multiplies else instead)
    assert compute_dtype(Dtype.float16, CPU) is Dtype.float16
    assert product_precision(Precision.fp32, CPU) is Precision.fp32
    assert multiplies_bf16(HardwareConfig(accelerator=Accelerator.gpu))
    note_products(compose_config("model=tiny", "hardware=cpu"))
    assert ("no bf16 products" in capsys.readouterr().out) == (not multiplies)


def test_onednn_says_the_same_of_this_cpu() -> None:
    assert multiplies_bf16(CPU) == torch.ops.mkldnn._is_mkldnn_bf16_supported()
