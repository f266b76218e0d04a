"""`ssd doctor`: each item in one line, with the remedy where it would stop a run."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ssd import doctor
from ssd.errors import FLAWED, HardwareError
from ssd.runtime.findings import Finding, State
from ssd.sandbox import backends


def test_every_item_has_its_line() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "ssd", "doctor"], capture_output=True, text=True, check=False
    )
    lines = answer.stdout.split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in lines] == list(doctor.ITEMS)
    states = {line.split()[1] for line in lines}
    assert states <= {state.value for state in State}
    assert answer.returncode == (FLAWED if "refused" in states else 0), answer.stderr


def test_it_imports_neither_torch_nor_vllm() -> None:
    code = "import sys, ssd.doctor; print({'torch', 'vllm', 'transformers'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code],
                            capture_output=True, text=True, check=True)  # fmt: skip
    assert answer.stdout == "set()\n"


def test_what_would_stop_a_run_is_refused_and_the_rest_still_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(item: str) -> Finding:
        raise HardwareError("no isolation: install bubblewrap")

    items = {"sandbox": fails, "python": doctor.python}
    monkeypatch.setattr(doctor, "ITEMS", items)
    monkeypatch.setattr(sys, "argv", ["ssd doctor"])
    with pytest.raises(SystemExit) as ending:
        doctor.main()
    assert ending.value.code == FLAWED
    first, second, _, last = capsys.readouterr().out.splitlines()
    assert first.split(maxsplit=2) == ["sandbox", "refused", "no isolation: install bubblewrap"]
    assert second.split()[:2] == ["python", "ok"]
    assert last == "1 to mend"


@pytest.mark.parametrize(
    ("ask", "variables", "says"),
    [
        (doctor.hub, {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        (doctor.hub, {"HF_ENDPOINT": "http://127.0.0.1:9"}, "http://127.0.0.1:9 does not answer"),
        (
            doctor.wandb,
            {"WANDB_MODE": "online", "WANDB_BASE_URL": "http://127.0.0.1:9"},
            "logger.mode=offline, or logger=none",
        ),
    ],
)
def test_a_server_that_does_not_answer_is_a_note_with_the_way_round(
    ask: object, variables: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = ask("item")  # type: ignore[operator]
    assert found.state is State.note
    assert says in found.text


def test_a_full_disk_names_what_moves_the_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSD_CACHE", str(tmp_path / "cache"))
    sizes = {tmp_path: 2**30}
    monkeypatch.setattr(
        doctor.shutil,
        "disk_usage",
        lambda folder: SimpleNamespace(free=sizes.get(folder, 100 * 2**30)),
    )
    found = doctor.disk("disk")
    assert found.state is State.note
    assert found.text.startswith("1 GiB free for ")
    assert found.text.endswith("free some, or move SSD_CACHE")


def test_what_forbids_user_namespaces_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ubuntu from 24.04 on sets this one to 1."""
    assert backends.blocks() == "" or "sudo sysctl" in backends.blocks()
    monkeypatch.setattr(backends, "SYSCTLS", tmp_path)
    file = tmp_path / "kernel" / "apparmor_restrict_unprivileged_userns"
    file.parent.mkdir()
    file.write_text("0\n")
    assert backends.blocks() == ""
    file.write_text("1\n")
    assert "kernel.apparmor_restrict_unprivileged_userns=0" in backends.blocks()
