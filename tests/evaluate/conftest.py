"""Both backends of the sandbox, and samples and verdicts to feed them with."""

import pytest

from ssd.config import SandboxName
from ssd.errors import HardwareError
from ssd.evaluate.sandbox import Sandbox, load_sandbox

TIMEOUT = 2.0
MEMORY_MIB = 512


@pytest.fixture(scope="session")
def namespaces() -> Sandbox:
    """The isolating backend."""
    try:
        return load_sandbox(SandboxName.auto, timeout=TIMEOUT, memory_mib=MEMORY_MIB)
    except HardwareError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def patient(namespaces: Sandbox) -> Sandbox:
    """The isolating backend with time for reference solutions:
    mbpp/123 takes seconds on a busy machine."""
    return load_sandbox(SandboxName.auto, timeout=30, memory_mib=2048)


@pytest.fixture(scope="session", params=["namespaces", "process"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    """Each backend in turn."""
    if request.param == "namespaces":
        found: Sandbox = request.getfixturevalue("namespaces")
        return found
    return load_sandbox(SandboxName.none, timeout=TIMEOUT, memory_mib=MEMORY_MIB)
