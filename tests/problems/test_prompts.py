import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from runs import compose_config

from ssd.errors import ConfigError, DataError
from ssd.problems.problem import Problem
from ssd.problems.prompts import drop_duplicates, load_prompts
from ssd.problems.rows import fixed_subset


def file_data(path: Path, *overrides: str):  # type: ignore[no-untyped-def]
    return compose_config("model=qwen3_4b", "data=file", f"data.path={path}", *overrides).data


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_the_packaged_sets_have_their_published_sizes() -> None:
    sizes = {}
    for split in ("prompt", "test", "validation", "train"):
        sizes[split] = len(
            load_prompts(compose_config("model=qwen3_4b", "data=mbpp", f"data.split={split}").data)[
                0
            ]
        )
    assert sizes == {"prompt": 10, "test": 500, "validation": 90, "train": 374}
    assert len(load_prompts(compose_config("model=qwen3_4b", "data=humaneval").data)[0]) == 164


def test_the_packaged_files_are_the_published_ones(shared: Path) -> None:
    from ssd.problems.problem import packaged_file
    from ssd.problems.rows import read_jsonl

    assert read_jsonl(packaged_file("mbpp")) == read_jsonl(shared / "mbpp" / "mbpp.jsonl")
    assert read_jsonl(packaged_file("humaneval")) == read_jsonl(
        shared / "humaneval" / "HumanEval.jsonl.gz"
    )


def test_repeats_up_to_white_space_are_dropped_and_counted(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "p.jsonl", [{"question": "a b"}, {"question": " a\n\tb "}, {"question": "ab"}]
    )
    problems, counts = load_prompts(file_data(path))
    assert [problem.question for problem in problems] == ["a b", "ab"]
    assert counts == {"rows": 3, "not_passed": 0, "duplicates": 1, "beyond_limit": 0}
    assert len(load_prompts(file_data(path, "data.dedup=false"))[0]) == 3


def test_is_passed_keeps_only_passed_rows(tmp_path: Path) -> None:
    rows = [
        {"question": "a", "is_passed": True},
        {"question": "b", "is_passed": False},
        {"question": "c"},
    ]
    path = write_jsonl(tmp_path / "p.jsonl", rows)
    assert [p.question for p in load_prompts(file_data(path, "data.is_passed=true"))[0]] == ["a"]


def test_rstar_coder_rows_load_from_a_local_copy_of_the_data_set(tmp_path: Path) -> None:
    rows = [
        {
            "question_id": "1",
            "question": "Add.",
            "starter_code": "",
            "response": "x",
            "is_passed": True,
        },
        {
            "question_id": "1",
            "question": "Add. ",
            "starter_code": "",
            "response": "y",
            "is_passed": False,
        },
        {
            "question_id": "1",
            "question": "Add two.",
            "starter_code": "def f():",
            "response": "z",
            "is_passed": False,
        },
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "train.parquet")
    data = compose_config(
        "model=qwen3_4b", f"data.hub_name={tmp_path}", "data.hub_config=null"
    ).data
    problems, counts = load_prompts(data)
    assert [(p.problem_id, p.question, p.starter_code) for p in problems] == [
        ("1", "Add.", None),
        ("1#2", "Add two.", "def f():"),
    ]
    assert counts["duplicates"] == 1


def test_parquet_prompts_load(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"question": "a"}]), path)
    assert load_prompts(file_data(path))[0] == [Problem("0", "a")]


def test_leetcode_prompts_load_by_column_name(shared: Path) -> None:
    path = shared / "leetcode" / "LeetCodeDataset-v0.2.0-train.jsonl.gz"
    problems, counts = load_prompts(
        file_data(path, "data.question_field=query", "data.id_field=task_id")
    )
    assert counts["rows"] == 1890
    assert len(problems) + counts["duplicates"] == 1890


CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "Hello."},
]
SHAPES = [
    ("messages", {"messages": CHAT}, "hi"),
    ("conversations", {"conversations": [{"from": "human", "value": "hi"}]}, "hi"),
    ("prompt", {"prompt": "Write f."}, "Write f."),
    ("prompt", {"prompt": CHAT[:2]}, "hi"),
    ("instruction", {"instruction": "Write f.", "output": "x"}, "Write f."),
    ("instruction", {"instruction": "Sort.", "input": "3 1", "output": "x"}, "Sort.\n\n3 1"),
]


@pytest.mark.parametrize(("field", "row", "question"), SHAPES)
def test_the_shapes_people_have_are_read_and_their_column_is_named_where_it_is_not_set(
    tmp_path: Path, field: str, row: dict[str, Any], question: str
) -> None:
    path, parquet = tmp_path / "p.jsonl", tmp_path / "p.parquet"
    path.write_text(json.dumps(row))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), parquet)
    for file in (path, parquet):
        with pytest.raises(DataError, match=f"row 1 .* add data.question_field={field}$"):
            load_prompts(file_data(file))
        problems, _ = load_prompts(file_data(file, f"data.question_field={field}"))
        assert problems == [Problem("0", question)]


def test_csv_files_and_json_arrays_are_read(tmp_path: Path) -> None:
    table, array = tmp_path / "p.csv", tmp_path / "p.json"
    table.write_text('\ufeffquestion,id\n"Add,\ntwo.",a\nSort.,b\n', encoding="utf-8")
    array.write_text(json.dumps([{"question": "Add."}, {"question": "Sort."}], indent=2))
    problems, _ = load_prompts(file_data(table))
    assert problems == [Problem("a", "Add,\ntwo."), Problem("b", "Sort.")]
    assert [one.question for one in load_prompts(file_data(array))[0]] == ["Add.", "Sort."]
    table.write_bytes(b"question\n\xff\n")
    with pytest.raises(DataError, match="no readable CSV"):
        load_prompts(file_data(table))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"question": "q", "starter_code": 5}', "row 1 has 5 in data.starter_field=starter_code"),
        ('{"messages": [{"role": "assistant", "content": "a"}]}', "data.question_field"),
        ("[1]", "item 1 is not a JSON object"),
        ("[", "its array is not JSON"),
        ("", "holds no prompts"),
        ('{"question": "a"}\n{broken\n', "line 2 is not JSON"),
        ('{"question": "a"}\n[1]\n', "line 2 is not a JSON object"),
        ('{"quest": "a"}\n', "did you mean 'quest'"),
        ('{"question": "a"}\n{"question": " "}\n', "row 2 has no text"),
    ],
)
def test_a_bad_prompt_file_says_what_and_where(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        load_prompts(file_data(path))


def test_missing_and_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no file"):
        load_prompts(file_data(tmp_path / "absent.jsonl"))
    (tmp_path / "p.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="no readable Parquet"):
        load_prompts(file_data(tmp_path / "p.parquet"))
    (tmp_path / "p.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match="cannot be read"):
        load_prompts(file_data(tmp_path / "p.jsonl.gz"))


def test_unknown_packaged_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'mbpp'"):
        load_prompts(compose_config("data.name=mbp").data)
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        load_prompts(compose_config("data.split=trian").data)


def test_a_smaller_subset_lies_inside_a_larger_one() -> None:
    items = [str(i) for i in range(100)]
    small, large = fixed_subset(items, 10, str), fixed_subset(items, 30, str)
    assert len(small) == 10
    assert set(small) < set(large)
    assert large == sorted(large, key=int)
    assert fixed_subset(items, None, str) == items


def test_the_first_of_a_group_is_kept() -> None:
    assert drop_duplicates([Problem("1", "x y"), Problem("2", "x  y")]) == [Problem("1", "x y")]


def test_a_cache_of_data_sets_that_cannot_be_written_is_named_by_its_variable(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")  # no folder can be created below it
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text('{"question": "Add two numbers."}\n')
    loads = (
        "from ssd.config.settings import DataConfig, DataSource\n"
        "from ssd.problems.prompts import load_prompts\n"
        f"load_prompts(DataConfig(name='a', source=DataSource.hub, hub_name='{tmp_path}/set'))"
    )
    # In a process of its own: the hub client reads the variable as it is imported.
    done = subprocess.run(
        [sys.executable, "-c", loads],
        env={**os.environ, "HF_HOME": f"{tmp_path}/file/hub"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert f"cannot write {tmp_path}/file/hub" in last
    assert "set HF_HOME to a writable folder" in last
