"""Hostile descriptors: refused early, with little memory, and nothing of them runs.

Time is bounded by the child process' timeout and CPU limit, memory by its address space.
"""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

import claude_comms
from claude_comms.descriptors import load_descriptor, loads_descriptor
from claude_comms.errors import DescriptorError

ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]\n" for number in range(1, 12)
)
LONG_KEYS = "? " + "k" * 60_000 + "\n:\n" + "".join(f"  a{number}: 1\n" for number in range(9_000))
REFERENCES = (
    "name: x\ncapabilities:\n- name: a\n  examples: [{input: 1}]\n  input_schema:\n    $ref: '#/$defs/a0'\n    $defs:\n"
    + "".join(
        f"      a{n}: {{allOf: [{{$ref: '#/$defs/a{n + 1}'}}, {{$ref: '#/%24defs/a{n + 1}'}}]}}\n" for n in range(60)
    )
    + "      a60: {type: string}\n"
)
EXAMPLES = "name: x\ncapabilities:\n- name: a\n  input_schema: {type: text}\n  examples:\n"

HOSTILE: dict[str, tuple[str, str]] = {
    "alias bomb": (ALIASES, "aliases written out"),
    "alias to itself": ("name: &a [*a]\n", "contains itself"),
    "deep by aliases": (
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 60)),
        "levels deep",
    ),
    "20,000 flow lists": ("name: " + "[" * 20_000, "levels deep"),
    "20,000 flow mappings": ("{a: " * 20_000, "levels deep"),
    "20,000 block lists": ("- " * 20_000, "levels deep"),
    "20,000 keys that are keys": ("? " * 20_000, "key must be text"),
    "python object": ("name: !!python/object/apply:os.abort []\n", "tag"),
    "python name": ("name: !!python/name:os.system x\n", "tag"),
    "own tag": ("name: !run x\n", "tag"),
    "duplicate keys": ("name: x\nname: y\n", "twice"),
    "a NUL": ("name: x\nsummary: \0\n", "NUL"),
    "many values": ("- a\n" * 60_000, "more than 10000 values"),
    "many keys": ("".join(f"k{number}: 1\n" for number in range(20_000)), "more than 10000 values"),
    "many examples": (EXAMPLES + "  - {input: 1}\n" * 51, "capabilities[0].examples: has 51 entries of at most 50"),
    "many examples in all": (
        "name: x\ncapabilities:\n"
        + "".join(f"- {{name: a{n}, examples: [{', '.join(['{input: 1}'] * 50)}]}}\n" for n in range(21)),
        "line 2: capabilities: has 1050 examples in all of at most 1000",
    ),
    "many tags": (
        "name: x\ncapabilities:\n- name: a\n  tags:\n" + "  - b\n" * 51,
        "tags: has 51 entries of at most 50",
    ),
    "many capabilities": (
        "name: x\ncapabilities:\n" + "".join(f"- name: a{n}\n" for n in range(501)),
        "line 2: capabilities: has 501 entries of at most 500",
    ),
    "many data types": (
        "name: x\ndata_types:\n" + "".join(f"- a{n}\n" for n in range(501)),
        "line 2: data_types: has 501 entries of at most 500",
    ),
    "long keys": (LONG_KEYS, "longer than 1000 characters"),
    "a huge number": ("name: " + "9" * 200_000, "too large"),
    "doubling references": (REFERENCES, "too long to check"),
    "a reference to itself": (
        "name: x\ncapabilities: [{name: a, input_schema: {$ref: '#'}, examples: [{input: 1}]}]\n",
        "too long to check",
    ),
    "a foreign reference": (
        "name: x\ncapabilities: [{name: a, input_schema: {$ref: 'file:///etc/passwd'}, examples: [{input: 1}]}]\n",
        "outside this document",
    ),
    "too many bytes": ("#" * 10_000_000, "at most"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_refused_and_says_why(name: str) -> None:
    text, said = HOSTILE[name]
    with pytest.raises(DescriptorError) as caught:
        loads_descriptor(text)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 20_000


@pytest.mark.parametrize("name", HOSTILE)
def test_refusing_needs_little_memory(name: str, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(HOSTILE[name][0], encoding="utf-8")
    tracemalloc.start()
    try:
        with pytest.raises(DescriptorError):
            load_descriptor(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50 * 1024 * 1024


def test_lists_that_are_too_long_are_refused_before_what_is_in_them_is_looked_at() -> None:
    """8,000 wrong entries are one problem, and not 8,000."""
    for text in ("name: x\ncapabilities:\n" + "- a\n" * 8_000, EXAMPLES + "  - {input: a}\n" * 3_000):
        with pytest.raises(DescriptorError) as caught:
            loads_descriptor(text)
        assert len(caught.value.problems) == 1


def test_lists_of_the_greatest_length_are_fine() -> None:
    text = "name: x\ncapabilities:\n" + "".join(f"- {{name: a{n}}}\n" for n in range(499))
    text += f"- {{name: b, examples: [{', '.join(['{input: 1}'] * 50)}]}}\n"
    assert len(loads_descriptor(text).capabilities) == 500


def test_deep_json_is_refused() -> None:
    for text in ("[" * 20_000, '{"a":' * 20_000, "[[" * 16 + "[" + "1" + "]" * 33):
        with pytest.raises(DescriptorError, match="levels deep"):
            loads_descriptor(text, "json")


CHILD = """
import resource, sys
from pathlib import Path
from claude_comms.descriptors import load_descriptor
from claude_comms.errors import DescriptorError
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 128 * 2**20, used + 128 * 2**20))
refused = 0
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        load_descriptor(path)
    except DescriptorError:
        refused += 1
print(refused)
"""


def test_all_of_them_together_are_refused_by_a_bounded_process(tmp_path: Path) -> None:
    for number, (text, _) in enumerate(HOSTILE.values()):
        (tmp_path / f"{number}.yaml").write_text(text, encoding="utf-8")
    root = Path(claude_comms.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)], cwd=root, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout.strip() == str(len(HOSTILE)), done.stderr


def test_the_pure_python_parser_refuses_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    from claude_comms.descriptors import _yaml

    monkeypatch.setattr(_yaml, "_LOADER", yaml.SafeLoader)
    for name in ("alias bomb", "alias to itself", "20,000 block lists", "python object", "duplicate keys", "a NUL"):
        with pytest.raises(DescriptorError):
            loads_descriptor(HOSTILE[name][0])
    with pytest.raises(DescriptorError):
        loads_descriptor('name: "\\UFFFFFFFF"\n')
    assert loads_descriptor("name: x\nsummary: yes\n").summary == "yes"


def test_schemas_that_refer_to_themselves_further_down_are_fine() -> None:
    text = """
name: tree
capabilities:
  - name: grow
    input_schema:
      $ref: '#/$defs/node'
      $defs: {node: {type: object, properties: {children: {type: array, items: {$ref: '#/$defs/node'}}}}}
    examples: [{input: {children: [{children: [{children: []}]}, {}]}}]
"""
    assert loads_descriptor(text).capabilities[0].name == "grow"
