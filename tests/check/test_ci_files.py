"""The files for other people's CI: they are valid, name what exists, and their steps do what they say."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from recipes_for_tests import ROOT

from edgecnn.cli import cli

ACTION = ROOT / "action.yml"
HOOKS = ROOT / ".pre-commit-hooks.yaml"
PAGE = ROOT / "docs" / "gate-your-ci.md"
GITHUB = ROOT / "docs" / "ci" / "github.yml"
GITLAB = ROOT / "docs" / "ci" / "gitlab.yml"
FILES = (ACTION, HOOKS, PAGE, GITHUB, GITLAB)
BASELINE = "edgecnn-baseline.json"


def parsed(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def page_blocks() -> list[Any]:
    return [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)]


def all_steps() -> list[dict[str, Any]]:
    jobs = parsed(GITHUB)["jobs"].values()
    return [*parsed(ACTION)["runs"]["steps"], *(step for job in jobs for step in job["steps"])]


def scripts() -> list[str]:
    return [step["run"] for step in all_steps() if "run" in step]


def edgecnn(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgecnn", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with one model in its baseline."""
    work = tmp_path / "work"
    (work / "models").mkdir(parents=True)
    grow(work, 10_000)
    assert edgecnn(work, "baseline", "update", "models").returncode == 0
    return work


def grow(folder: Path, size_bytes: int) -> None:
    (folder / "models" / "a b.tflite").write_bytes(b"t" * size_bytes)


@dataclass(frozen=True)
class Ran:
    code: int
    said: str
    outputs: dict[str, str]
    summary: str
    comment: str


def run_action(folder: Path, labels: Any = None, **given: str) -> Ran:
    """Runs the shell step of the action that checks, as a runner does."""
    (step,) = (one for one in parsed(ACTION)["runs"]["steps"] if one.get("id") == "check")
    temp = folder.parent / "temp"
    # The step that installs edgecnn needs an index: in its place, the edgecnn that is under test.
    binaries = temp / "edgecnn" / "bin"
    binaries.mkdir(parents=True, exist_ok=True)
    for name, words in (("python", ""), ("edgecnn", "-m edgecnn ")):
        (binaries / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words}"$@"\n')
        (binaries / name).chmod(0o755)
    values = {name: one.get("default", "") for name, one in parsed(ACTION)["inputs"].items()}
    values |= {"paths": "models", **{name.replace("_", "-"): text for name, text in given.items()}}
    env = {}
    for name, expression in step["env"].items():
        named = re.fullmatch(r"\$\{\{ inputs\.([a-z-]+) \}\}", expression)
        env[name] = values[named[1]] if named else json.dumps(labels)
    script, output, summary = temp / "step.sh", temp / "output", temp / "summary"
    script.write_text(step["run"])
    output.write_text("")
    summary.write_text("")
    paths = {"RUNNER_TEMP": temp, "GITHUB_OUTPUT": output, "GITHUB_STEP_SUMMARY": summary}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
        cwd=folder,
        env={**os.environ, **env, **{name: str(path) for name, path in paths.items()}},
        capture_output=True,
        text=True,
        check=False,
    )
    outputs = dict(line.split("=", 1) for line in output.read_text().splitlines())
    comment = Path(outputs["comment"]).read_text() if "comment" in outputs else ""
    return Ran(done.returncode, done.stdout + done.stderr, outputs, summary.read_text(), comment)


def test_green(folder: Path) -> None:
    ran = run_action(folder)
    assert (ran.code, ran.outputs["verdict"]) == (0, "pass"), ran.said
    assert "::notice title=edgecnn check::pass" in ran.said
    assert ran.comment == ran.summary, "the summary is written once"
    assert ran.comment.startswith("**✅")


def test_red(folder: Path) -> None:
    grow(folder, 20_000)
    ran = run_action(folder)
    assert (ran.code, ran.outputs["verdict"]) == (1, "fail"), ran.said
    assert "::error file=models/a b.tflite," in ran.said
    assert ran.comment == ran.summary
    assert ran.comment.startswith("**❌")


def test_growth_is_accepted_by_the_label_and_it_says_so(folder: Path) -> None:
    grow(folder, 20_000)
    ran = run_action(folder, labels=["bug", "larger"], growth_label="larger")
    assert (ran.code, ran.outputs["verdict"]) == (0, "accepted"), ran.said
    for text in (ran.said, ran.comment, ran.summary):
        assert "accepted by the label 'larger'" in text


@pytest.mark.parametrize("labels", [None, [], ["larger-not"]])
def test_growth_without_the_label_is_red(folder: Path, labels: list[str] | None) -> None:
    grow(folder, 20_000)
    ran = run_action(folder, labels=labels, growth_label="larger")
    assert (ran.code, ran.outputs["verdict"]) == (1, "fail"), ran.said


def test_the_label_does_not_accept_a_file_over_its_budget(folder: Path) -> None:
    grow(folder, 20_000)
    (folder / "limits.yaml").write_text("budget:\n  models/*.tflite: {max_size: 15 kB}\n")
    ran = run_action(folder, labels=["larger"], growth_label="larger", budget="limits.yaml")
    assert (ran.code, ran.outputs["verdict"]) == (1, "fail"), ran.said


def test_the_label_does_not_accept_a_file_that_is_gone(folder: Path) -> None:
    (folder / "models" / "b.tflite").write_bytes(b"t")
    (folder / "models" / "a b.tflite").unlink()
    ran = run_action(folder, labels=["larger"], growth_label="larger")
    assert (ran.code, ran.outputs["verdict"]) == (1, "fail"), ran.said


def test_the_inputs_reach_the_check_word_for_word(folder: Path) -> None:
    grow(folder, 10_900)
    (folder / BASELINE).rename(folder / "known $(touch oops).json")
    ran = run_action(
        folder,
        paths="models/*.tflite\n\nmodels/a b.tflite\n",
        baseline="known $(touch oops).json",
        allow="max_lsb=+1 LSB\nsize=+10 %\n",
    )
    assert (ran.code, ran.outputs["verdict"]) == (0, "pass"), ran.said
    assert not (folder / "oops").exists()


def test_counts_reach_the_check(folder: Path) -> None:
    digest = hashlib.sha256((folder / "models" / "a b.tflite").read_bytes()).hexdigest()
    record = {"file": "a b.tflite", "sha256": digest, "cpu": "cortex-a72", "runtime": "litert"}
    record |= {"runtime_version": "2.1", "instructions": 1000}
    (folder / "my counts.json").write_text(json.dumps([record]))
    assert edgecnn(folder, "baseline", "update", "models", "--counts", "my counts.json").returncode == 0
    assert run_action(folder).code == 1, "the count that the baseline has is missing"
    assert run_action(folder, counts="my counts.json").code == 0


def test_what_cannot_be_checked_is_red_whatever_the_label(folder: Path) -> None:
    ran = run_action(folder, labels=["larger"], growth_label="larger", paths="nothing")
    assert ran.code == 2
    assert "there is no such file or folder" in ran.said
    assert not ran.outputs


def test_no_expression_is_in_a_script() -> None:
    assert len(scripts()) == 3
    for script in scripts():
        assert "${{" not in script
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


LINTED = {ACTION: "github-actions", GITHUB: "github-workflows", GITLAB: "gitlab-ci"}


def schema_faults(path: Path, kind: str) -> str:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{kind}", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout if done.returncode else ""


@pytest.mark.parametrize("path", LINTED, ids=lambda path: path.name)
def test_the_files_are_as_the_forges_want_them(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("check_jsonschema")
    assert schema_faults(path, LINTED[path]) == ""
    broken = tmp_path / path.name
    broken.write_text(re.sub(r"\b(using: composite|runs-on: .*|when: always)", "oops: 1", path.read_text()))
    assert "oops" in schema_faults(broken, LINTED[path])


def shell_faults(script: str) -> str:
    command = [shutil.which("shellcheck", path=SEARCHED) or "", "--shell=bash", "-"]
    return subprocess.run(command, input=script, capture_output=True, text=True, check=False).stdout


# What pip installed is beside the interpreter, and not always on the PATH.
SEARCHED = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


@pytest.mark.skipif(not shutil.which("shellcheck", path=SEARCHED), reason="needs shellcheck")
def test_shellcheck_has_nothing_to_say_of_the_steps() -> None:
    assert "SC2086" in shell_faults("rm $1"), "it finds what is wrong"
    for script in [*scripts(), "\n".join(parsed(GITLAB)["edgecnn-check"]["script"])]:
        assert shell_faults(script) == ""


def test_make_check_lints_every_file_for_other_peoples_ci() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for path, kind in LINTED.items():
        assert f"--builtin-schema vendor.{kind} {path.relative_to(ROOT)}\n" in makefile


def test_inputs_and_outputs_that_are_named_exist() -> None:
    action = parsed(ACTION)
    used = set(re.findall(r"\$\{\{ inputs\.([a-z-]+) \}\}", ACTION.read_text()))
    assert used == set(action["inputs"])
    assert set(re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(), re.MULTILINE)) == used
    (in_page,) = (one[0] for one in page_blocks() if isinstance(one, list))
    (in_example,) = (one for one in all_steps() if one.get("uses", "").startswith("OWNER/edgecnn@"))
    for step in (in_page, in_example):
        assert set(step["with"]) <= used
    (check,) = (one for one in action["runs"]["steps"] if one.get("id") == "check")
    for name, output in action["outputs"].items():
        assert output["value"] == f"${{{{ steps.check.outputs.{name} }}}}"
        assert f'echo "{name}=' in check["run"]


def test_no_token_is_where_code_of_the_repository_is() -> None:
    assert "token" not in ACTION.read_text().lower()
    workflow = parsed(GITHUB)
    check, comment = workflow["jobs"]["check"], workflow["jobs"]["comment"]
    assert workflow["permissions"] == {}
    assert check["permissions"] == {"contents": "read"}
    assert comment["permissions"] == {"pull-requests": "write"}
    assert "token" not in str(check)
    assert [step.get("uses") for step in comment["steps"]] == ["actions/download-artifact@v4", None]


@pytest.mark.parametrize(("known", "expected"), [("", "issues/7/comments"), ("31\n32", "issues/comments/31")])
def test_the_comment_is_posted_once_and_edited_after_that(tmp_path: Path, known: str, expected: str) -> None:
    script = parsed(GITHUB)["jobs"]["comment"]["steps"][-1]["run"]
    # In place of GitHub: what it knows, and what it is told.
    gh = tmp_path / "gh"
    gh.write_text('#!/bin/sh\ncase "$*" in *--paginate*) echo "$KNOWN";; *) echo "$@" >> told;; esac\n')
    gh.chmod(0o755)
    (tmp_path / "comment.md").write_text("**fine** $(touch oops)\n")
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "REPOSITORY": "o/r", "NUMBER": "7", "KNOWN": known}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    subprocess.run(command, cwd=tmp_path, env=env, check=True)
    (told,) = (tmp_path / "told").read_text().splitlines()
    assert f" repos/o/r/{expected} --field body=@body.md" in told
    assert (tmp_path / "body.md").read_text() == "<!-- edgecnn check -->\n**fine** $(touch oops)\n"
    assert not (tmp_path / "oops").exists()


def test_commands_and_options_that_are_named_exist() -> None:
    n_named = 0
    for path in FILES:
        for name, rest in re.findall(r'edgecnn"? (check|baseline update) ([^`\n]*)', path.read_text()):
            command = cli.commands[name.split()[0]]
            if isinstance(command, click.Group):
                command = command.commands[name.split()[1]]
            known = {flag for one in command.params if isinstance(one, click.Option) for flag in one.opts}
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest):
                assert option in known, f"{path.name}: edgecnn {name} has no {option}"
                n_named += 1
    assert n_named >= 5
    check_options = {flag for one in cli.commands["check"].params for flag in one.opts}
    assert set(re.findall(r"args\+=\((--[a-z-]+) ", ACTION.read_text())) <= check_options
    (config,) = (one for one in page_blocks() if isinstance(one, dict))
    (hook,) = config["repos"][0]["hooks"]
    assert {word for word in hook["args"] if word.startswith("--")} <= check_options


def test_the_gitlab_job_reports_the_file_that_it_writes() -> None:
    job = parsed(GITLAB)["edgecnn-check"]
    assert job["script"][-1].endswith(f"> {job['artifacts']['reports']['junit']}")
    assert job["artifacts"]["when"] == "always"


def test_edgecnn_is_installed_from_its_repository() -> None:
    """Whoever owns its name on the index may not be who wrote this."""
    lines = [line for path in FILES for line in path.read_text().splitlines() if "pip install" in line]
    assert len(lines) == 2
    for line in lines:
        assert "edgecnn @ git+https://" in line or '"$GITHUB_ACTION_PATH"' in line, line


def test_the_page_links_to_files_that_exist() -> None:
    for target in re.findall(r"\]\(([^)h][^)]*)\)", PAGE.read_text()):
        assert (PAGE.parent / target).exists(), target


def hook(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Runs the hook's entry on the model, as pre-commit does: the entry, the arguments, the staged files."""
    (entry,) = parsed(HOOKS)
    assert re.search(entry["files"], "models/a b.tflite")
    assert not re.search(entry["files"], "models/a.tflite.json")
    program, *words = shlex.split(entry["entry"])
    assert program == "edgecnn"
    return edgecnn(folder, *words, *args, "models/a b.tflite")


def test_the_hook_refuses_a_file_over_its_budget_by_name(folder: Path) -> None:
    (folder / BASELINE).unlink()
    (folder / "budget.yaml").write_text("budget:\n  models/*.tflite: {max_size: 15 kB}\n")
    assert hook(folder, "--budget", "budget.yaml").returncode == 0
    grow(folder, 20_000)
    refused = hook(folder, "--budget", "budget.yaml")
    assert refused.returncode == 1
    assert "models/a b.tflite: max_size_bytes fail" in refused.stdout


def test_the_hook_judges_the_staged_file_alone_against_the_baseline(folder: Path) -> None:
    other = folder / "models" / "other.onnx"
    other.write_bytes(b"o")
    assert edgecnn(folder, "baseline", "update", "models").returncode == 0
    assert hook(folder).returncode == 0, "the other model is not staged"
    grow(folder, 20_000)
    refused = hook(folder)
    assert refused.returncode == 1
    assert "models/a b.tflite: size fail" in refused.stdout
