"""The registry: where modules come from, what hides what, and what is noticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import claude_comms
from claude_comms.descriptors import Module, ModuleDescriptor, Permissions, Registry, capability, descriptor
from claude_comms.errors import ConfigError, DescriptorError, UnknownModuleError

if TYPE_CHECKING:
    from tests.unit.descriptors.conftest import Write


def test_the_shipped_modules_are_known_without_a_home_and_none_is_made(home: Path) -> None:
    registry = Registry(home)
    assert {"arangodb", "claude_mcp", "marker"} <= {module.name for module in registry.list()}
    assert registry.get("marker").origin == "shipped"
    assert registry.problems() == []
    assert not home.parent.exists()


def test_an_unknown_name_says_what_is_known_and_what_was_meant(home: Path) -> None:
    with pytest.raises(UnknownModuleError) as caught:
        Registry(home).get("arangdb")
    assert caught.value.suggestion == "arangodb"
    assert "marker" in caught.value.known


def test_directories_may_be_given_as_text(home: Path, tmp_path: Path, write: Write) -> None:
    write(tmp_path / "more", "own.yaml", "name: own\nsummary: of my own\n")
    assert Registry(str(home), [str(tmp_path / "more")]).get("own").descriptor.summary == "of my own"


def test_the_order_of_precedence_and_what_is_hidden(home: Path, tmp_path: Path, write: Write) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    shipped = Registry(home).get("marker").file
    in_home = write(home / "descriptors", "marker.yaml", "name: marker\nsummary: home\n")
    in_second = write(second, "b.json", '{"name": "marker", "summary": "second"}')
    in_first = write(first, "a.yml", "name: marker\nsummary: first\n")
    own = write(tmp_path / "own", "m.yaml", "name: marker\nsummary: own\n")

    registry = Registry(home, [first, second])
    module = registry.get("marker")
    assert (module.origin, module.file, module.hides) == ("extra", in_first, (in_second, in_home, shipped))
    in_first.unlink()
    assert registry.get("marker").file == in_second
    in_second.unlink()
    assert (registry.get("marker").origin, registry.get("marker").hides) == ("home", (shipped,))
    module = registry.register("marker", path=tmp_path, descriptor_file=own)
    assert (module.origin, module.file, module.hides) == ("registered", own, (in_home, shipped))
    assert module.descriptor.summary == "own"


def test_changed_added_and_removed_files_are_noticed(home: Path, tmp_path: Path, write: Write) -> None:
    registry = Registry(home, [tmp_path / "more"])
    with pytest.raises(UnknownModuleError):
        registry.get("x")
    file = write(tmp_path / "more", "x.yaml", "name: x\nsummary: one\n")
    digests = [registry.get("x").digest]
    for text in ("two", "six", "ten"):  # as long as before, and at once: only the change itself tells
        write(tmp_path / "more", "x.yaml", f"name: x\nsummary: {text}\n")
        assert registry.get("x").descriptor.summary == text
        digests.append(registry.get("x").digest)
    assert len(set(digests)) == 4
    file.unlink()
    with pytest.raises(UnknownModuleError):
        registry.get("x")


def test_one_look_reads_as_of_its_beginning_and_the_next_read_notices(home: Path, tmp_path: Path, write: Write) -> None:
    file = write(tmp_path / "own", "own.yaml", "name: own\nsummary: before\n")
    registry = Registry(home, [tmp_path / "own"])
    with registry.one_look():
        assert registry.get("own").descriptor.summary == "before"
        file.unlink()
        assert registry.get("own").descriptor.summary == "before"
    with pytest.raises(UnknownModuleError), registry.one_look():
        registry.get("own")
    with pytest.raises(UnknownModuleError):
        registry.get("own")


def test_an_unchanged_module_is_not_made_again(home: Path, tmp_path: Path, write: Write) -> None:
    file = write(tmp_path / "more", "x.yaml", "name: x\n")
    old = file.stat().st_mtime_ns - 10**9
    os.utime(file, ns=(old, old))
    registry = Registry(home, [tmp_path / "more"])
    seen: list[Module] = []
    for _ in range(10_000):  # until the directory's change is old enough to be trusted
        seen = [*seen[-1:], registry.get("x")]
        if len(seen) == 2 and seen[0] is seen[1]:
            return
    pytest.fail("the module was made anew for every look-up")


def test_a_changed_parent_is_noticed(home: Path, tmp_path: Path, write: Write) -> None:
    write(tmp_path, "child.yaml", "name: child\nextends: base\n")
    write(tmp_path, "base.yaml", "name: base\nsummary: one\n")
    registry = Registry(home, [tmp_path])
    before = registry.get("child")
    write(tmp_path, "base.yaml", "name: base\nsummary: two\n")
    after = registry.get("child")
    assert (before.descriptor.summary, after.descriptor.summary) == ("one", "two")
    assert before.digest != after.digest


def test_a_broken_file_leaves_the_others_alone_and_tells_when_asked(home: Path, tmp_path: Path, write: Write) -> None:
    write(tmp_path, "a.yaml", "name: good\n")
    named = write(tmp_path, "b.yaml", "name: bad\nsumary: x\n")
    unreadable = write(tmp_path, "marker.yaml", "name: [\n")
    write(tmp_path, "c.yaml", "name: one\nextends: two\n")
    write(tmp_path, "d.yaml", "name: two\nextends: one\n")
    registry = Registry(home, [tmp_path, tmp_path / "gone"])
    names = [module.name for module in registry.list()]
    assert "good" in names
    assert "bad" not in names
    paths = {Path(str(error.path)).name for error in registry.problems()}
    assert paths == {"b.yaml", "marker.yaml", "c.yaml", "d.yaml", "gone"}
    for name, file in (("bad", named), ("marker", unreadable)):
        with pytest.raises(DescriptorError) as caught:
            registry.get(name)
        assert caught.value.path == file
    with pytest.raises(DescriptorError, match="one → two → one"):
        registry.get("one")


# --- registering -------------------------------------------------------------------------------


def test_a_registered_file_stays_where_it_is_and_edits_count(home: Path, tmp_path: Path, write: Write) -> None:
    file = write(tmp_path, "x.yaml", "name: x\nsummary: one\n")
    registry = Registry(home)
    registry.register("x", path=tmp_path, descriptor_file=file)
    write(tmp_path, "x.yaml", "name: x\nsummary: edited\n")
    module = registry.get("x")
    assert (module.descriptor.summary, module.file, module.path) == ("edited", file, tmp_path)
    assert not (home / "descriptors").exists()


def test_a_descriptor_made_in_code_is_written_to_the_home(home: Path, tmp_path: Path) -> None:
    Registry(home).register("x", path=tmp_path, descriptor=descriptor("x", "made"))
    module = Registry(home).get("x")
    assert (module.origin, module.file, module.hides) == ("registered", home / "descriptors" / "x.yaml", ())
    assert module.descriptor.summary == "made"
    for path in (home, home / "descriptors", home / "registry.json", home / "descriptors" / "x.yaml"):
        assert path.stat().st_mode & 0o077 == 0


def test_without_a_descriptor_the_known_one_is_taken_else_one_is_drafted(home: Path, tmp_path: Path) -> None:
    registry = Registry(home)
    module = registry.register("marker", path=tmp_path)
    assert (module.origin, module.path) == ("registered", tmp_path)
    assert len(module.descriptor.capabilities) > 3
    assert registry.register("fresh", path=tmp_path).descriptor.metadata["drafted_from"] == []


def test_the_wrong_name_and_a_path_that_is_no_directory_are_refused(home: Path, tmp_path: Path, write: Write) -> None:
    file = write(tmp_path, "x.yaml", "name: x\n")
    registry = Registry(home)
    with pytest.raises(ConfigError, match="describes 'x', not 'y'"):
        registry.register("y", path=tmp_path, descriptor_file=file)
    for path in (file, tmp_path / "gone"):
        with pytest.raises(ConfigError, match="is not a directory"):
            registry.register("x", path=path, descriptor_file=file)
    with pytest.raises(UnknownModuleError):
        registry.get("y")


def test_update_keeps_what_is_not_given(home: Path, tmp_path: Path) -> None:
    registry = Registry(home)
    registry.register("x", path=tmp_path, descriptor=descriptor("x", "one"), granted=("Bash",))
    module = registry.update("x", descriptor=descriptor("x", "two"))
    assert (module.descriptor.summary, module.path, module.granted) == ("two", tmp_path, ("Bash",))
    (tmp_path / "sub").mkdir()
    assert registry.update("x", path=tmp_path / "sub", granted=()).granted == ()
    with pytest.raises(ConfigError, match="marker is not registered; it comes from"):
        registry.update("marker", path=tmp_path)


def test_unregister_forgets_the_module_and_what_was_written_for_it(home: Path, tmp_path: Path, write: Write) -> None:
    registry = Registry(home)
    registry.register("x", path=tmp_path, descriptor=descriptor("x"))
    assert registry.unregister("x") is None
    with pytest.raises(UnknownModuleError):
        registry.get("x")
    file = write(tmp_path, "y.yaml", "name: y\n")
    registry.register("y", descriptor_file=file)
    registry.unregister("y")
    assert file.exists()
    with pytest.raises(UnknownModuleError):
        registry.unregister("y")


def test_a_drafted_file_that_was_edited_is_neither_removed_nor_overwritten(
    home: Path, tmp_path: Path, write: Write
) -> None:
    registry = Registry(home)
    file = registry.register("x", path=tmp_path, descriptor=descriptor("x", "draft")).file
    assert file is not None
    write(file.parent, file.name, "name: x\nsummary: by hand\n")
    with pytest.raises(ConfigError, match="edited by hand"):
        registry.register("x", path=tmp_path, descriptor=descriptor("x", "again"))
    assert registry.unregister("x") == file
    assert (registry.get("x").origin, registry.get("x").descriptor.summary) == ("home", "by hand")


def test_a_registered_file_that_is_gone_says_how_to_register_again(home: Path, tmp_path: Path, write: Write) -> None:
    file = write(tmp_path, "x.yaml", "name: x\n")
    registry = Registry(home)
    registry.register("x", path=tmp_path, descriptor_file=file)
    file.unlink()
    with pytest.raises(DescriptorError, match=r"is gone .*register-module x --path DIR --desc FILE"):
        registry.get("x")
    write(tmp_path, "x.yaml", "name: other\n")
    with pytest.raises(DescriptorError, match="registered as 'x' but says 'other'"):
        registry.get("x")


@pytest.mark.parametrize(
    "text", ["{", '{"version": 1, "modules": []}', '{"version": 2}', "\0", '{"modules": {"x": {"path": 3}}}']
)
def test_a_damaged_registry_is_named(home: Path, text: str, write: Write, tmp_path: Path) -> None:
    write(home, "registry.json", text)
    for action in (lambda: Registry(home).get("marker"), lambda: Registry(home).register("marker", path=tmp_path)):
        with pytest.raises(ConfigError, match=r"registry\.json is damaged"):
            action()
    assert (home / "registry.json").read_text(encoding="utf-8") == text


REGISTER = """
import sys
from pathlib import Path
from claude_comms.descriptors import Registry, descriptor
for number in range(8):
    name = f"m{sys.argv[2]}-{number}"
    Registry(Path(sys.argv[1])).register(name, descriptor=descriptor(name))
"""


def test_registrations_of_several_processes_are_all_kept(home: Path) -> None:
    root = Path(claude_comms.__file__).parents[1]
    processes = [
        subprocess.Popen([sys.executable, "-c", REGISTER, str(home), str(number)], cwd=root) for number in range(4)
    ]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    assert len(json.loads((home / "registry.json").read_text())["modules"]) == 32


def test_the_deepest_registered_path_that_holds_a_directory_wins(home: Path, tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    registry = Registry(home)
    registry.register("outer", path=tmp_path / "a", descriptor=descriptor("outer"))
    registry.register("inner", path=inner, descriptor=descriptor("inner"))
    (inner / "c").mkdir()
    link = tmp_path / "link"
    link.symlink_to(inner)
    found = {path: registry.module_for_path(path) for path in (inner / "c", inner, tmp_path / "a", tmp_path, link)}
    assert [module and module.name for module in found.values()] == ["inner", "inner", "outer", None, "inner"]


# --- permissions -------------------------------------------------------------------------------


def asking(*tools: str) -> ModuleDescriptor:
    return ModuleDescriptor(name="x", permissions=Permissions(tools=tools))


def test_asking_for_more_than_was_granted_needs_the_user_again(home: Path, tmp_path: Path) -> None:
    registry = Registry(home)
    module = registry.register("x", path=tmp_path, descriptor=asking("Read", "Bash"), granted=("Bash",))
    assert (module.permissions_changed, module.grants) == (False, ("Read", "Grep", "Glob", "Bash"))
    module = registry.update("x", descriptor=asking("Bash", "Write"))
    assert (module.permissions_changed, module.ungranted) == (True, ("Write",))
    assert module.grants == ("Read", "Grep", "Glob", "Bash")
    module = registry.update("x", descriptor=asking())
    assert (module.needs_confirmation, module.grants) == (False, ("Read", "Grep", "Glob"))


def test_without_a_path_nothing_is_granted(home: Path) -> None:
    module = Registry(home).register("x", descriptor=asking("Read"))
    assert module.grants == ()


# --- finding -----------------------------------------------------------------------------------


@pytest.fixture
def finder(home: Path) -> Registry:
    registry = Registry(home)
    cards: list[dict[str, Any]] = [
        {"name": "mailer", "summary": "Sends letters.", "data_types": ("Mail", {"name": "address"})},
        {"name": "printer", "relationships": ({"module": "mailer", "kind": "Feeds"},)},
    ]
    for card in cards:
        registry.register(card["name"], descriptor=ModuleDescriptor.model_validate(card))
    registry.update(
        "printer",
        descriptor=descriptor(
            "printer",
            capabilities=[capability("print_page", "Puts ink on paper.", tags=["Ink"]), capability("stop")],
            relationships=({"module": "mailer", "kind": "Feeds"},),
        ),
    )
    return registry


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"capability": "PRINT_PAGE"}, ["printer"]),
        ({"capability": "print"}, []),
        ({"tag": "ink"}, ["printer"]),
        ({"tag": "ink", "capability": "stop"}, []),
        ({"data_type": "mail"}, ["mailer"]),
        ({"data_type": "address"}, ["mailer"]),
        ({"relationship": "mailer"}, ["printer"]),
        ({"relationship": "feeds"}, ["printer"]),
        ({"relationship": "feeds", "data_type": "mail"}, []),
    ],
)
def test_modules_are_found_by_what_they_have(finder: Registry, filters: dict[str, str], names: list[str]) -> None:
    assert [match.module.name for match in finder.find_modules(**filters)] == names


def test_a_question_in_words_ranks_modules_and_says_why(finder: Registry) -> None:
    best, *_ = finder.find_modules("How do I get ink on the papers?")
    assert best.module.name == "printer"
    assert best.score > 0
    assert [item.name for item in best.capabilities] == ["print_page"]
    assert finder.find_modules("zzz qqq") == []
    assert finder.find_modules("ink on paper", data_type="mail") == []


def test_the_index_follows_changes(finder: Registry) -> None:
    assert finder.find_modules("submarine") == []
    finder.register("boat", descriptor=descriptor("boat", "A submarine."))
    assert [match.module.name for match in finder.find_modules("submarine")] == ["boat"]


def test_a_filter_alone_says_which_capabilities_it_meant(finder: Registry) -> None:
    (match,) = finder.find_modules(tag="ink")
    assert [item.name for item in match.capabilities] == ["print_page"]


def test_no_module_is_called_like_whoever_asks_in_no_modules_name(home: Path, tmp_path: Path) -> None:
    registry = Registry(home)
    with pytest.raises(ConfigError, match="Choose another name"):
        registry.register("anonymous", path=tmp_path)
    assert "anonymous" not in {module.name for module in registry.list()}
