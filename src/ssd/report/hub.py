"""A run as a repository of the model hub: model or adapter, card, corpus, report.

The model lies at the top, so that its id loads it; `corpus/` is what `train.corpus=hub:ID` trains
on, and `ssd/` what `ssd publish RUN_DIR FOLDER` writes. Nothing names a path of
this machine, apart from an adapter whose base is a local folder.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from ssd.artifacts.files import write_json, write_text
from ssd.artifacts.names import ADAPTER, CARD, CORPUS, HUB_CORPUS, MANIFEST
from ssd.errors import ArtifactError, one_line
from ssd.models.names import ADAPTER_CONFIG, GENERATION_CONFIG
from ssd.report.exports.card import card
from ssd.report.exports.card_usage import base_name
from ssd.report.published import publish, without_paths
from ssd.report.run.facts import Facts, collect
from ssd.report.run.serving import generation_config, reported, usable
from ssd.report.study.collection import is_run
from ssd.run import lineage

EVIDENCE = "ssd"
"""The repository's folder of report and scores."""


def stage(run_dir: Path, into: Path, *, link: bool = False) -> list[str]:
    """Write what the hub gets into a folder.

    Args:
        link: link to the large files instead of copying them.

    Returns:
        What others will lack, one sentence each.

    Raises:
        ArtifactError: the run has no trained model or no report, or a file of it is damaged.
    """
    facts = _facts(run_dir)
    export = reported(facts)
    model = None if export is None else usable(export)
    if export is None or model is None:
        raise ArtifactError(f"{run_dir} has no trained model: run its stages sample and train")
    lacks = publish(run_dir, into / EVIDENCE)
    checkpoint, corpus = lineage.checkpoint(facts.run), lineage.corpus(facts.run)
    checkpoint.intact(f"{model.folder.relative_to(checkpoint.folder)}/")
    corpus.intact(CORPUS)
    part = model.folder.name
    for source in sorted(path for path in model.folder.rglob("*") if path.is_file()):
        if source.name not in (CARD, GENERATION_CONFIG):
            _put(source, into / source.relative_to(model.folder), link)
    settings = model.folder if part != ADAPTER else Path(model.base)
    write_json(into / GENERATION_CONFIG, generation_config(settings, model.decoding))
    write_text(into / CARD, without_paths(card(export, part)))
    for name in (CORPUS, MANIFEST):
        _put(corpus.folder / name, into / HUB_CORPUS / name, link)
    if part == ADAPTER and (into / ADAPTER_CONFIG).is_file():
        base = json.loads((into / ADAPTER_CONFIG).read_text())["base_model_name_or_path"]
        if Path(base).is_dir():
            lacks.append(f"{ADAPTER_CONFIG} names {base} as its base, which others do not have.")
    return lacks


def _facts(run_dir: Path) -> Facts:
    if not is_run(run_dir):
        raise ArtifactError(f"{run_dir} is no run: the hub takes one, a folder with config.yaml")
    return collect(run_dir, read_positions=False)


def _put(source: Path, to: Path, link: bool) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.unlink(missing_ok=True)
    if link:
        to.symlink_to(source.resolve())
    else:
        shutil.copy2(source, to)


def contents(folder: Path) -> list[tuple[str, int]]:
    """Every file of a staged folder and its size in bytes, by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(str(path.relative_to(folder)), path.stat().st_size) for path in files]


def default_name(run_dir: Path) -> str:
    """A repository's name where none is given: the base model's, and that it was self-distilled."""
    name = base_name(_facts(run_dir)).rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^\w.-]+", "-", f"{name}-ssd").strip("-.")


def upload(folder: Path, repo_id: str, *, public: bool, api: Any = None) -> str:
    """Send a staged folder to the hub, into a repository that is made where there is none.

    Args:
        repo_id: `OWNER/NAME`, or `NAME` for one of your own.
        public: whether everybody may read it.
        api: the hub's client; that of `huggingface_hub` by default.

    Returns:
        The repository's address.

    Raises:
        ArtifactError: the repository is public and `public` was not asked for, or the hub refused.
    """
    if api is None:
        from huggingface_hub import HfApi

        api = HfApi()
    try:
        made = api.create_repo(repo_id, private=not public, exist_ok=True)
        is_private = api.model_info(made.repo_id).private
    except Exception as error:  # the hub client's own, the HTTP library's, the system's
        raise _refused(repo_id, error) from error
    if not public and not is_private:
        raise ArtifactError(
            f"{made.repo_id} is there already and everybody can read it: add --public, or name "
            "another one with --repo-id"
        )
    try:
        api.upload_folder(
            repo_id=made.repo_id, folder_path=folder, commit_message="Simple self-distillation"
        )
    except Exception as error:  # the same
        raise _refused(repo_id, error) from error
    return str(made)


def _refused(repo_id: str, error: Exception) -> ArtifactError:
    return ArtifactError(
        f"the hub did not take {repo_id} ({one_line(error)[:200]}): log in with hf auth login, or "
        "name a repository of yours with --repo-id"
    )
