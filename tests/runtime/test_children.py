"""Real child processes: ended when their work is done, by signals, and with all they started."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ssd.artifacts.store import Artifact, artifact
from ssd.errors import PreemptedError, StageError
from ssd.runtime import children
from ssd.runtime.children import run_child

STARTS_ANOTHER = (
    "import subprocess, sys, time\n"
    "from pathlib import Path\n"
    "from ssd.artifacts.store import artifact\n"
    "from ssd.runtime.reporting import reporting_errors\n"
    "folder = Path(sys.argv[1])\n"
    "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "(folder / 'pids').write_text(str(other.pid))\n"
)


def child(folder: Path, program: str) -> list[str]:
    return [sys.executable, "-c", STARTS_ANOTHER + program, str(folder)]


def corpus(folder: Path) -> Artifact:
    return artifact(folder, "corpus", {})


def left_behind(folder: Path) -> bool:
    """Whether the process that the child has started still runs."""
    process = Path("/proc") / (folder / "pids").read_text() / "stat"
    return process.is_file() and process.read_text().split(")")[1].split()[0] != "Z"


def when_it_has_started(folder: Path, number: int) -> threading.Thread:
    """Sends this process a signal once the child in `folder` is ready."""

    def send() -> None:
        while not (folder / "ready").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_a_process_that_hangs_after_its_work_is_ended_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(children, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(children, "LINGER_SECONDS", 0.3)
    finishes = (
        "corpus = artifact(folder, 'corpus', {})\n"
        "with corpus.writing():\n    corpus.finish(started=0.0, counts={})\n"
        "time.sleep(600)"
    )
    run_child(child(tmp_path, finishes), "stage sample", is_whole=lambda: corpus(tmp_path).done)
    assert corpus(tmp_path).done
    assert not left_behind(tmp_path)
    assert "stage sample" in capsys.readouterr().out


def test_a_process_whose_work_is_not_done_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(children, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(children, "LINGER_SECONDS", 0.0)
    program = "time.sleep(1)"
    run_child(child(tmp_path, program), "stage sample", is_whole=lambda: corpus(tmp_path).done)
    assert capsys.readouterr().out == ""


def test_a_killed_process_leaves_nothing_that_it_started(tmp_path: Path) -> None:
    dies = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(StageError, match="SIGKILL"):
        run_child(child(tmp_path, dies), "stage sample")
    assert not left_behind(tmp_path)


def test_a_killed_process_leaves_nothing_that_its_own_children_started(tmp_path: Path) -> None:
    stubborn = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(tmp_path / 'pids')!r}, 'w').write(str(os.getpid()))\n"
        "os.kill(os.getppid(), signal.SIGKILL)\n"
        "time.sleep(600)"
    )
    starts = (
        f"from ssd.runtime.children import run_child\n"
        f"run_child([sys.executable, '-c', {stubborn!r}], 'x')"
    )
    with pytest.raises(StageError, match="SIGKILL"):
        run_child(child(tmp_path, starts), "stage evaluate")
    assert not left_behind(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_lets_a_process_close_what_it_has_opened(tmp_path: Path, number: int) -> None:
    opens = (
        "class Engine:\n"
        "    def __enter__(self): (folder / 'ready').touch()\n"
        "    def __exit__(self, *_): (folder / 'closed').touch()\n"
        "with reporting_errors(), Engine():\n    time.sleep(600)"
    )
    sender = when_it_has_started(tmp_path, number)
    with pytest.raises(PreemptedError, match="stage sample"):
        run_child(child(tmp_path, opens), "stage sample")
    sender.join()
    assert (tmp_path / "closed").exists()


def test_a_second_signal_does_not_break_the_clean_up_after_the_first(tmp_path: Path) -> None:
    opens = (
        "class Engine:\n"
        "    def __enter__(self): (folder / 'ready').touch()\n"
        "    def __exit__(self, *_):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        (folder / 'closed').touch()\n"
        "import os, signal\n"
        "with reporting_errors(), Engine():\n    time.sleep(600)"
    )
    sender = when_it_has_started(tmp_path, signal.SIGTERM)
    with pytest.raises(PreemptedError):
        run_child(child(tmp_path, opens), "stage sample")
    sender.join()
    assert (tmp_path / "closed").exists()


def test_a_signal_stops_the_run_where_the_stage_ends_well_nonetheless(tmp_path: Path) -> None:
    ends = (
        "import signal\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "(folder / 'ready').touch()\ntime.sleep(600)"
    )
    sender = when_it_has_started(tmp_path, signal.SIGTERM)
    with pytest.raises(PreemptedError):
        run_child(child(tmp_path, ends), "stage report")
    sender.join()


def test_a_reader_that_has_enough_ends_a_command_without_a_word() -> None:
    program = "from ssd.runtime.reporting import reporting_errors\nwith reporting_errors():\n    {}"
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", program.format("print('x' * 100, flush=True)")]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, "")
    command = [sys.executable, "-c", program.format("raise BrokenPipeError('of something else')")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "of something else" in ended.stderr
