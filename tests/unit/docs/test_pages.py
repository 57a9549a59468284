"""Every page: its commands and examples run, its links lead somewhere, and the index names it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pages
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from heads import RayCluster
from hosts import Network, obstacle
from pyarrow import fs
from stores import BUCKET, KEYS, s3_server

from lstm_ray.cli.app import app
from lstm_ray.datasets.demo import write_demo
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.precision.choice import FORMATS

NPM_ASKS = ("npm", "view", "--fetch-retries=0", "--fetch-timeout=20000", "onnxruntime-web", "version")
NEEDS = {
    "s3": ("", lambda: True),  # the tests' own server
    "aws": ("Amazon's command line", lambda: shutil.which("aws")),
    "npm": ("npm and its registry", lambda: shutil.which("npm") and not subprocess.call(NPM_ASKS, timeout=60)),
    "mlflow": ("MLflow", lambda: importlib.util.find_spec("mlflow")),
    "int8": ("a processor with VNNI", lambda: FORMATS["int8"].is_on(Target.host())),
}
LATER = frozenset({"slow", "ray", "head", "host", "elsewhere", *NEEDS})

PATHS = f"{Path(__file__).parent}:{pages.ROOT}"


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Gives the variables of a shell that has `lstm-ray` on its path."""
    return pages.command_on_path(tmp_path_factory.mktemp("bin"))


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory, environment: Mapping[str, str]) -> Path:
    """Gives the directory that the README's commands leave behind, and with which the other pages begin."""
    directory = tmp_path_factory.mktemp("pages") / "work"
    directory.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        pages.run(pages.FIRST, {}, LATER, environment)
    write_demo(directory / "imdb", rows=1000, seed=1)  # instead of a download
    (directory / "imdb" / "reviews.parquet").rename(directory / "imdb" / "unlabelled.parquet")
    return directory.rename(directory.with_name("begun"))


@pytest.fixture
def work(begun: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Makes a copy of that directory the current one. Its path is always the same: settings in it hold paths.

    Modules that a page has imported from it are forgotten: other tests have some of the same names.
    """
    directory = begun.with_name("work")
    shutil.copytree(begun, directory)
    monkeypatch.chdir(directory)
    monkeypatch.setenv("KUBECONFIG", os.devnull)  # `cluster validate` asks no cluster of whoever runs the tests
    yield directory
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(f"{directory}/"):
            del sys.modules[name]
    shutil.rmtree(directory)


def pages_with(word: str | None = None) -> list[str]:
    """Lists the pages that have a block with this word, or, without a word, a block of the first tier."""
    return [
        page
        for page in pages.PAGES
        if any(
            block.language in ("sh", "python") and (word in block.words if word else LATER.isdisjoint(block.words))
            for block in pages.blocks(page)
        )
    ]


@pytest.mark.parametrize("page", [page for page in pages_with() if page not in pages.FROM_NOTHING])
@pytest.mark.usefixtures("work")
def test_a_page_runs(page: str, environment: Mapping[str, str]) -> None:
    pages.run(page, {}, LATER, environment)


def test_the_readme_runs(begun: Path) -> None:
    whole, killed = (
        {path.name: path.read_bytes() for path in begun.glob(f"{name}/part-*")} for name in ("whole", "killed")
    )
    assert len(whole) == 300
    assert killed == whole


@pytest.mark.second_tier
@pytest.mark.parametrize("page", pages.FROM_NOTHING)
def test_a_page_that_begins_with_nothing_runs_in_an_empty_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str], page: str
) -> None:
    monkeypatch.chdir(tmp_path)
    pages.run(page, {}, LATER - {"slow"}, environment)


@pytest.mark.second_tier
@pytest.mark.parametrize("page", [page for page in pages_with("slow") if page not in pages.FROM_NOTHING])
@pytest.mark.usefixtures("work")
def test_the_slow_blocks_of_a_page_run_too(page: str, environment: Mapping[str, str]) -> None:
    pages.run(page, {}, LATER - {"slow"}, environment)


def program(page: str, later: frozenset[str], environment: Mapping[str, str], instead: tuple[str, str]) -> list[str]:
    """Returns the command that runs a page in a process of its own, with which a Ray that it starts ends."""
    source = f"import pages; pages.run({page!r}, {{}}, {later!r}, {dict(environment)!r}, {instead!r})"
    return [sys.executable, "-W", "ignore", "-c", source]


def run_in_a_process(
    page: str, later: frozenset[str], environment: Mapping[str, str], instead: tuple[str, str] = ("", "")
) -> None:
    """Runs a page in a process of its own."""
    variables = {**os.environ, **environment, "PYTHONPATH": PATHS}
    command = program(page, later, environment, instead)
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.second_tier
@pytest.mark.parametrize("page", pages_with("ray"))
@pytest.mark.usefixtures("work")
def test_the_blocks_that_start_ray_run_too(page: str, environment: Mapping[str, str]) -> None:
    run_in_a_process(page, LATER - {"ray"}, environment)


@pytest.mark.second_tier
@pytest.mark.parametrize("page", [page for page in pages_with("head") if page not in pages_with("host")])
@pytest.mark.usefixtures("work")
def test_the_blocks_that_join_a_ray_run_too(page: str, environment: Mapping[str, str]) -> None:
    with RayCluster() as cluster:
        cluster.start_node(cpus=4, dashboard=True)
        joined = {"RAY_ADDRESS": cluster.address, "RAY_API_SERVER_ADDRESS": f"http://{cluster.dashboard}"}
        run_in_a_process(page, LATER - {"head"}, {**cluster.environment, **environment, **joined})


@pytest.mark.second_tier
@pytest.mark.parametrize("page", pages_with("host"))
def test_the_blocks_that_need_a_machine_of_their_own_run_too(
    work: Path, page: str, environment: Mapping[str, str]
) -> None:
    if reason := obstacle():
        pytest.skip(reason)
    later = LATER - {"head", "host"}
    alone = {"PYTHONPATH": PATHS, "HOME": str(work), "RAY_AUTH_MODE": "token"}
    alone["RAY_raylet_start_wait_time_s"] = "120"  # a busy machine may take longer than the usual 30 s
    without = ("env", *(f"--unset={name}" for name in ("RAY_AUTH_TOKEN", "RAY_ADDRESS")))
    with Network() as network:
        host = network.add_host("alone")
        done = host.run(*without, *program(page, later, environment, ("", "")), limit_s=500, **alone)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.second_tier
@pytest.mark.parametrize(("page", "need"), [(page, need) for need in NEEDS for page in pages_with(need)])
def test_the_blocks_that_need_something_run_too(
    work: Path, page: str, need: str, environment: Mapping[str, str]
) -> None:
    name, is_here = NEEDS[need]
    if not is_here():
        pytest.skip(f"needs {name}")
    with s3_server() as (address, store):
        for local, stored in (("corpus/reviews.parquet", "reviews/1.parquet"), ("runs/first/model", "model")):
            fs.copy_files(str(work / local), f"{BUCKET}/{stored}", destination_filesystem=store)
        server = {**KEYS, "AWS_ENDPOINT_URL": f"http://{address}", "AWS_DEFAULT_REGION": "us-east-1"}
        variables = {**environment, **server, "HOME": str(work)}
        run_in_a_process(page, LATER - {need}, variables, ("127.0.0.1:9000", address))


@pytest.mark.parametrize("page", pages.PAGES)
def test_a_block_that_runs_nowhere_has_a_reason(page: str) -> None:
    for block in pages.blocks(page):
        assert block.words.keys() <= LATER | {"exit"}, block.words
        assert block.words.get("elsewhere", "") in pages.ELSEWHERE, block.words


COMMANDS = [(page, command) for page in pages.PAGES for command in pages.commands(page)]


def test_the_program_for_onnx_refuses_a_model_whose_steps_it_does_not_take(tmp_path: Path) -> None:
    (program,) = (block.text for block in pages.blocks("docs/how-to/serve.md") if block.file == "onnx_scores.py")
    settings = {"vocabulary_size": 9, "max_tokens": 4, "padding": "pre", "punctuation": "drop"}
    example = {"text": "good", "ids": [0, 0, 0, 3]}  # without the id of the start
    described = {"text": settings, "example": example, "input": {"shape": ["batch", 4]}}
    (tmp_path / "export.json").write_text(json.dumps(described))
    pq.write_table(pa.table({"word": ["good"], "id": [3]}), tmp_path / "vocabulary.parquet")
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path, "good"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"{tmp_path}: this model reads texts in another way: ")


def test_commands_are_found_in_pages() -> None:
    found = {" ".join(command.split()[:2]) for _, command in COMMANDS}
    assert {"cluster render", "cluster validate", "cluster up", "cluster down", "submit score.yaml"} <= found
    assert len(COMMANDS) > 100


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_of_a_page_is_understood(page: str, command: str) -> None:
    group, *_ = command.split()
    # `jobs list | status ID | logs ID [--follow]` is several.
    for choice in command.removeprefix(group).split("|"):
        parse([group, *shlex.split(re.sub(r"[\[\]]", "", choice), comments=True)])


def parse(words: list[str]) -> None:
    """Parses a command line as the program does, and runs nothing. A page may leave arguments out: `cluster up`."""
    command: Any = typer.main.get_command(app)
    context = typer.Context(command)
    while hasattr(command, "commands") and words:
        name, *words = words
        assert name in command.commands, name
        command = command.commands[name]
        context = typer.Context(command, parent=context)
    command.make_parser(context).parse_args(words)  # raises what Typer would tell: an option that there is not


@pytest.mark.parametrize("page", pages.PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = pages.read(page)
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset|href)="([^"]+)"', text)
    for link in links:
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (pages.ROOT / page).parent / path if path else pages.ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def anchors(text: str) -> set[str]:
    """Returns the anchors that GitHub gives to headings: "## The run directory" -> the-run-directory."""
    without_code = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_index_names_every_page() -> None:
    index = pages.read("docs/README.md")
    named = set(re.findall(r"\]\(([\w./-]+\.md)\)", index))
    there = {str(path.relative_to(pages.ROOT / "docs")) for path in (pages.ROOT / "docs").glob("**/*.md")} - {
        "README.md"
    }
    assert there <= named, f"add to docs/README.md: {sorted(there - named)}"
    assert {*pages.PAGES} >= {*pages.FROM_NOTHING, "CONTRIBUTING.md"}


def test_output_is_compared_by_its_words() -> None:
    pattern = pages.as_pattern("rows   6,000 of ... (positive 0.93)")
    assert re.search(pattern, "rows 300 of many others (negative 1.5e-3)")
    assert not re.search(pattern, "lines 300 of many others (negative 1)")
