"""Descriptors from installed packages, found by real metadata on the path."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import pytest

from claude_comms.descriptors import Registry, dump_descriptor, load_descriptor, loads_descriptor
from claude_comms.errors import DescriptorError

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = '''
from typing import Literal
from claude_comms.descriptors import BaseDescriptor, ModuleDescriptor

class Shouting(ModuleDescriptor):
    """A card with a field of its own."""
    volume: int = 1
    def to_prompt(self, role):
        return super().to_prompt(role).upper() + "!" * self.volume

class Clock(BaseDescriptor):
    name = "clock"
    summary = "Tells the hour."
    def to_prompt(self, role):
        return f"clock as {role}"

class Marker(Clock):
    name = "marker"

def make():
    clock = Clock()
    clock.name = "made"
    return clock

def broken():
    raise RuntimeError("no battery")

instance = make()
instance.name = "ready"
number = 3
'''
ENTRY_POINTS = """
[claude_comms.descriptors]
shouting = clocks_for_test:Shouting
clock = clocks_for_test:Clock
marker = clocks_for_test:Marker
made = clocks_for_test:make
ready = clocks_for_test:instance
broken = clocks_for_test:broken
number = clocks_for_test:number
misnamed = clocks_for_test:Clock
missing = clocks_for_test_that_is_not_there:Clock
"""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    metadata = site / "clocks_for_test-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "clocks_for_test.py").write_text(SOURCE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: clocks-for-test\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    monkeypatch.delitem(sys.modules, "clocks_for_test", raising=False)
    importlib.invalidate_caches()


def test_a_file_is_read_by_the_class_that_it_names(tmp_path: Path, home: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("name: x\nclass: shouting\nvolume: 3\nsummary: quiet\n")
    card = load_descriptor(file)
    assert card.to_prompt("source") == "MODULE X: QUIET!!!"
    assert loads_descriptor(dump_descriptor(card, "json"), "json") == card
    assert Registry(home, [tmp_path]).get("x").descriptor == card


def test_without_the_class_its_fields_are_unknown() -> None:
    with pytest.raises(DescriptorError, match="volume: no such field"):
        loads_descriptor("name: x\nvolume: 3\n")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("shoutin", "did you mean shouting"),
        ("zzz", "known: .*clock"),
        ("clock", "not a subclass of ModuleDescriptor"),
        ("missing", "ModuleNotFoundError"),
    ],
)
def test_a_class_that_cannot_read_files_says_so_at_its_line(name: str, said: str) -> None:
    with pytest.raises(DescriptorError, match=said) as caught:
        loads_descriptor(f"name: x\nclass: {name}\n")
    assert (caught.value.field, caught.value.line) == ("class", 2)


def test_classes_functions_and_instances_are_modules_of_their_own(home: Path) -> None:
    registry = Registry(home)
    names = [module.name for module in registry.list()]
    assert {"clock", "made", "ready"} <= set(names)
    assert not {"shouting", "broken", "number", "misnamed", "missing"} & set(names)
    module = registry.get("clock")
    assert (module.origin, module.file, module.descriptor.to_prompt("target")) == (
        "entry point",
        None,
        "clock as target",
    )
    assert [match.module.name for match in registry.find_modules("which hour")][:1] == ["clock"]


def test_one_that_is_broken_is_a_problem_and_says_why_when_asked(home: Path) -> None:
    registry = Registry(home)
    told = "\n".join(str(error) for error in registry.problems())
    for said in ("no battery", "neither is nor makes", "is named 'clock'", "ModuleNotFoundError"):
        assert said in told
    with pytest.raises(DescriptorError, match="no battery"):
        registry.get("broken")


def test_an_installed_module_hides_the_shipped_one_and_a_file_hides_it(home: Path, tmp_path: Path) -> None:
    module = Registry(home).get("marker")
    assert module.origin == "entry point"
    assert [path.name for path in module.hides] == ["marker.yaml"]
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "marker.yaml").write_text("name: marker\n")
    assert Registry(home, [tmp_path / "more"]).get("marker").origin == "extra"
