"""The README and docs/guarantees.md say what is true: settings with their defaults, the tree, and tests that exist."""

import re
from pathlib import Path

import pytest

from app.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text()
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text()
SETTINGS = README.split("## Settings")[1].split("\n## ")[0]
ROWS = {name: row for row in SETTINGS.splitlines() if row.startswith("| `") for name in re.findall(r"`([A-Z][A-Z_]+)`", row)}


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_in_the_table_with_its_default(name: str) -> None:
    row, position = ROWS[name.upper()], re.findall(r"`([A-Z][A-Z_]+)`", ROWS[name.upper()]).index(name.upper())
    assert re.findall(r"`([^`]+)`", row.split("|")[2])[position] == spelled(name)


def test_no_row_names_a_setting_that_is_gone() -> None:
    assert set(ROWS) == {name.upper() for name in Settings.model_fields}


def test_the_tree_names_what_exists() -> None:
    tree = README.split("## The tree")[1].split("## Commands")[0]
    known = {path.name for path in ROOT.rglob("*") if not {".venv", "node_modules"} & set(path.parts)} | {"python"}
    named = set(re.findall(r"\b[a-z_]+\.(?:py|sql)\b", tree)) | {name.rstrip("/") for name in re.findall(r"\b[a-z_]+/", tree)}
    assert named <= known, named - known


@pytest.mark.parametrize("page", [README, GUARANTEES], ids=["README", "guarantees"])
def test_every_test_that_a_page_names_exists(page: str) -> None:
    known = {
        f"{path.name}::{test}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for test in re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(), re.M)
    }
    named = set(re.findall(r"`(test_\w+\.py::\w+)`", page))
    assert len(named) > 20
    assert named <= known, named - known


def spelled(name: str) -> str:
    """A default as one would write it into the environment."""
    settings = Settings.model_construct()
    value = settings.provider_limit_s if name == "provider_timeout_s" else Settings.model_fields[name].default
    if isinstance(value, tuple):
        return ",".join(f"{part:g}" if isinstance(part, float | int) else str(part).partition("/")[0] for part in value) or '""'
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'
