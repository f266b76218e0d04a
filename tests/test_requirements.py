import importlib.metadata
import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from runs import ROOT

LOCK = dict(
    line.split("==")
    for line in (ROOT / "requirements-cpu.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)
LEFT_OUT = {"torchvision", "torchaudio", "torchcodec", "triton"}


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_lock_names_all_that_its_packages_need(python: str) -> None:
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    looked_at = 0
    for package in importlib.metadata.distributions():
        if LOCK.get(canonicalize_name(package.name)) != package.version:
            continue
        looked_at += 1
        for requirement in map(Requirement, package.requires or []):
            name = canonicalize_name(requirement.name)
            if name in LEFT_OUT or (
                requirement.marker is not None and not requirement.marker.evaluate(environment)
            ):
                continue
            needed = f"{package.name} needs {requirement} on Python {python}"
            assert name in LOCK, needed
            assert requirement.specifier.contains(LOCK[name], prereleases=True), needed
    assert looked_at > 100


def test_ci_installs_what_the_readme_says() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    commands = re.findall(r"\.venv/bin/pip install (--no-deps .*?) &&", readme)
    assert len(commands) == 4
    assert f"torch=={LOCK['torch']} " in commands[0]
    for command in commands:
        assert f"install --quiet {command}\n" in ci
