"""`ssd artifacts list | show | verify | prune | export | import`."""

import argparse
import re
import sys
from pathlib import Path

from ssd.artifacts.files import mib
from ssd.artifacts.names import MANIFEST
from ssd.artifacts.store import all_digests, read_manifest, verify
from ssd.errors import FLAWED
from ssd.inventory.holdings import DAY, Holding, Inventory, take_inventory
from ssd.inventory.prune import candidates, delete, sweep
from ssd.inventory.transfer import add_export, add_import, run_export, run_import
from ssd.runtime.command_line import command_line
from ssd.runtime.reporting import reporting_errors

UNITS = {"h": DAY / 24, "d": DAY, "w": 7 * DAY}


def main() -> None:
    """Run one of the commands."""
    arguments = parser().parse_args()
    with reporting_errors():
        arguments.run(arguments)


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    own = command_line(
        "artifacts",
        "See, check, clean up, export and import what the store holds.",
        "list",
        "verify outputs/main/defaults/corpus",
        "prune --older-than 30d  # says what would go; --yes deletes it",
    )
    commands = own.add_subparsers(
        dest="command", required=True, parser_class=argparse.ArgumentParser
    )
    name = "folder, link of a run folder, or the first digits of a fingerprint"

    def add(command: str, run: object, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(command, help=text, description=text)
        added.add_argument(
            "--outputs", type=Path, default=Path("outputs"), metavar="FOLDER",
            help="holds store/ and the run folders; outputs by default",
        )  # fmt: skip
        added.set_defaults(run=run)
        return added

    add("list", run_list, "A line per artifact: size, age, state, and how many runs refer to it.")
    show = add("show", run_show, "One artifact: inputs, files, what it refers to and what refers.")
    show.add_argument("name", metavar="NAME", help=name)
    check = add(
        "verify", run_verify, f"Hash files again and compare; exit code {FLAWED} for a fault."
    )
    check.add_argument("names", nargs="*", metavar="NAME", help=f"{name}; all where left out")
    prune = add("prune", run_prune, "Delete what no run refers to; says what, and needs --yes.")
    prune.add_argument(
        "names", nargs="*", metavar="NAME", help="delete these, whatever refers to them"
    )
    prune.add_argument(
        "--older-than", type=age, default=30 * DAY, metavar="AGE",
        help="unwritten for so long, such as 12h, 30d (default) or 0d; not for named ones",
    )  # fmt: skip
    prune.add_argument("--yes", action="store_true", help="delete; without it, only say what")
    add_export(add("export", run_export, "Write a corpus for other trainers, as chat or as ids."))
    add_import(add("import", run_import, "Make a corpus, for train.corpus=FOLDER, of a file."))
    return own


def age(text: str) -> float:
    """Seconds of `12h`, `30d` or `2w`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([hdw])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text} is no age: write 12h, 30d or 2w")
    return float(match[1]) * UNITS[match[2]]


def run_list(arguments: argparse.Namespace) -> None:
    """Print the table of a store."""
    inventory = take_inventory(arguments.outputs)
    print(f"{'kind':12}{'fingerprint':18}{'size':>14}{'age':>8}  {'state':12}runs")
    for each in inventory.holdings:
        print(row(each))
    total = sum(each.num_bytes for each in inventory.holdings)
    freed = candidates(inventory, [], 30 * DAY)
    print(
        f"{len(inventory.holdings)} artifacts, {mib(total)}; prune would free "
        f"{mib(sum(each.num_bytes for each in freed))} in {len(freed)}"
    )
    print_unknown(inventory)


def row(holding: Holding) -> str:
    """One line of the table."""
    hours = holding.age_seconds * 24 / DAY
    old = f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} d"
    kind, fingerprint = holding.place
    return (
        f"{kind:12}{fingerprint:18}{mib(holding.num_bytes):>14}{old:>8}  {holding.state:12}"
        f"{len(holding.runs)}"
    )


def print_unknown(inventory: Inventory) -> None:
    """Name the runs whose artifacts cannot be located."""
    for folder, reason in inventory.unknown.items():
        print(f"note: {folder} cannot be read, so prune deletes nothing unnamed: {reason}")


def run_show(arguments: argparse.Namespace) -> None:
    """Print one artifact."""
    inventory = take_inventory(arguments.outputs)
    holding = inventory.named(arguments.name)
    print(row(holding))
    print(f"folder      {holding.artifact.folder}")
    if holding.state == "finished":
        manifest = read_manifest(holding.artifact.folder)
        for fact, value in manifest.items():
            if fact not in ("files", "libraries", "kind", "fingerprint"):
                print(f"{fact:12}{value}")
        for file in manifest.get("files", ()):
            print(f"{'file':12}{file}")
    for kind, fingerprint in holding.refers_to:
        print(f"{'made from':12}{kind} {fingerprint}")
    for each in inventory.holdings:
        if holding.place in each.refers_to:
            print(f"{'used by':12}{each.artifact.kind} {each.artifact.folder.name}")
    for folder in holding.runs:
        print(f"{'run':12}{folder}")


def run_verify(arguments: argparse.Namespace) -> None:
    """Check artifacts; exits with `FLAWED` where a file is not as it was written."""
    names, inventory = arguments.names, None
    folders = [Path(name) for name in names if Path(name).is_dir()]
    if len(folders) < len(names) or not names:
        inventory = take_inventory(arguments.outputs)
        others = [name for name in names if not Path(name).is_dir()]
        chosen = [inventory.named(name) for name in others] if names else inventory.holdings
        folders += [each.artifact.folder for each in chosen if each.state != "unfinished" or names]
    flawed = False
    for folder in folders:
        faults = verify(folder)
        flawed |= bool(faults)
        for fault in faults:
            print(f"{folder}: {fault}")
        if faults:
            print(f"{folder}: delete it (prune {folder.resolve().name}), and its run makes it anew")
        else:
            print(f"{folder}: {_verdict(folder)}")
    if not folders:
        print(f"{arguments.outputs} holds no finished artifact")
    sys.exit(FLAWED if flawed else 0)


def _verdict(folder: Path) -> str:
    digests = all_digests(folder, read_manifest(folder))
    if not digests:
        return f"cannot be verified: its {MANIFEST} holds no digests"
    return f"every file is as it was written ({len(digests)})"


def run_prune(arguments: argparse.Namespace) -> None:
    """Say what would be deleted, or delete it."""
    inventory = take_inventory(arguments.outputs)
    chosen = candidates(inventory, arguments.names, arguments.older_than)
    if not arguments.names:
        print_unknown(inventory)
    for each in chosen:
        print(row(each))
        for folder in each.runs:
            print(f"  referred to by {folder}")
    total = mib(sum(each.num_bytes for each in chosen))
    if not arguments.yes:
        print(f"would free {total} in {len(chosen)} artifacts; add --yes to delete them")
        return
    sweep(arguments.outputs)
    kept = [(each, reason) for each, reason in delete(chosen) if reason is not None]
    for each, reason in kept:
        print(f"note: {each.artifact.folder.name} stays: {reason}")
    freed = sum(each.num_bytes for each in chosen) - sum(each.num_bytes for each, _ in kept)
    print(f"freed {mib(freed)} in {len(chosen) - len(kept)} artifacts")
