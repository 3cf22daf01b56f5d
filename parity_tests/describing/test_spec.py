"""Reading, checking and writing specs."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from resnet_spec.describing.presets import PRESETS
from resnet_spec.describing.spec import Spec
from resnet_spec.describing.spec_files import dump_json, dump_toml, json_schema, load_spec
from resnet_spec.errors import SpecError
from resnet_spec.planning.lowering import lower

SMALL: dict[str, Any] = {"block": "basic", "stages": [{"width": 8, "blocks": 1}]}


def problems(source: Any, settings: tuple[str, ...] = ()) -> tuple[str, ...]:
    with pytest.raises(SpecError) as caught:
        load_spec(source, settings)
    return caught.value.problems


def test_expansion_follows_from_the_block_unless_given() -> None:
    assert load_spec(SMALL).expansion == 1
    assert load_spec({**SMALL, "block": "bottleneck"}).expansion == 4
    assert load_spec({**SMALL, "block": "bottleneck", "expansion": 2}).expansion == 2
    assert load_spec("resnet18", ["block=bottleneck"]).expansion == 4


def test_specs_are_frozen_and_equal_by_value() -> None:
    spec = load_spec(SMALL)
    with pytest.raises(ValidationError, match="frozen"):
        spec.classes = 3  # pyright: ignore[reportAttributeAccessIssue]
    assert spec == load_spec(SMALL)
    assert hash(spec) == hash(load_spec(SMALL))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_round_trips(name: str, tmp_path: Path) -> None:
    spec = load_spec(name)
    for suffix, text in ((".toml", dump_toml(spec)), (".json", dump_json(spec))):
        path = tmp_path / f"other{suffix}"
        path.write_text(text, encoding="utf-8")
        assert load_spec(path) == spec
    assert load_spec(spec.to_dict()) == spec
    assert load_spec(spec) == spec


def test_a_file_changes_its_base_tables_merge_lists_replace(tmp_path: Path) -> None:
    path = tmp_path / "slim.toml"
    path.write_text(
        'base = "resnet50d"\nclasses = 7\nstages = [{width = 8, blocks = 2}]\n'
        "[stem]\nwidths = [4, 6]\n"
    )
    spec = load_spec(path)
    assert spec.name == "slim"
    assert spec.classes == 7
    assert [(stage.width, stage.blocks) for stage in spec.stages] == [(8, 2)]
    assert spec.stem.widths == (4, 6)
    assert spec.stem.kernel == 3, "the base's other keys of the table stay"
    assert spec.downsample == "avg_pool"


def test_settings_reach_into_lists_tables_and_defaults() -> None:
    spec = load_spec(
        "resnet50",
        ["stages[2].blocks=4", "norm.eps=1e-3", "stem.widths[0]=32", "name=mine", "squeeze=0.25"],
    )
    assert [stage.blocks for stage in spec.stages] == [3, 4, 4, 3]
    assert (spec.norm.eps, spec.norm.decay) == (1e-3, 0.9)
    assert (spec.stem.widths, spec.name, spec.squeeze) == ((32,), "mine", 0.25)
    assert load_spec("resnet50").stages[2].blocks == 6, "the preset itself is not changed"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"classes": 0}, "classes = 0: must be >= 1"),
        ({"classes": True}, "classes = true: must be an integer"),
        ({"clases": 5}, "clases = 5: unknown key; did you mean 'classes'?"),
        ({"block": "basics"}, "block = \"basics\": must be 'basic' or 'bottleneck'"),
        ({"stages": []}, "stages = []: must have at least 1 entry"),
        (
            {"stages": [{"width": 8, "blocks": 1, "strid": 2}]},
            "stages[0].strid = 2: unknown key; did you mean 'stride'?",
        ),
        ({"stages": [{"width": 8}]}, "stages[0].blocks: is required"),
        ({"norm": {"eps": 0.0}}, "norm.eps = 0.0: must be > 0.0"),
        ({"norm": {"eps": float("inf")}}, "norm.eps = Infinity: must be a finite number"),
        ({"norm": 3}, "norm = 3: must be a table of keys"),
        ({"stem": {"kernel": 4}}, "stem.kernel = 4: must be odd"),
        ({"groups": 2}, 'groups = 2: must be 1 with basic blocks; use block = "bottleneck"'),
        (
            {"stride_position": "1x1"},
            'stride_position = "1x1": basic blocks have no 1x1 convolution',
        ),
        (
            {"order": "pre_activation", "zero_init_last_norm": True},
            "zero_init_last_norm = true: pre-activation blocks end in a convolution, not a norm; "
            "set it to false",
        ),
        (
            {"shortcut": "none", "stochastic_depth": 0.5},
            "stochastic_depth = 0.5: needs shortcuts, and shortcut is none; set it to 0.0",
        ),
        (
            {"shortcut": "zero_pad"},
            "stages[0].width = 8: shortcut A cannot go from 64 channels to 8; "
            'use shortcut = "projection"',
        ),
        (
            {"input": {"mean": [0.5], "std": [0.5]}},
            "input.mean = [0.5]: must have 3 entries, as input.channels, or none",
        ),
        ({"name": "a/b"}, 'name = "a/b": must hold no slash, backslash or control character'),
        (
            {"stages": [{"width": 8, "blocks": 10_001}]},
            "stages = 10001 blocks: must have at most 10000 in all",
        ),
    ],
)
def test_a_broken_rule_gives_its_line(changes: dict[str, Any], line: str) -> None:
    assert line in problems({**SMALL, **changes})


def test_all_problems_are_reported_with_the_file_s_name(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('block = "basic"\nclasses = 0\nexpantion = 2\n[[stages]]\nwidth = -1\n')
    assert problems(path) == (
        "bad.toml: classes = 0: must be >= 1",
        "bad.toml: stages[0].width = -1: must be >= 1",
        "bad.toml: stages[0].blocks: is required",
        "bad.toml: expantion = 2: unknown key; did you mean 'expansion'?",
    )


def test_sources_that_cannot_be_read_give_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    broken, binary, large = (tmp_path / name for name in ("broken.toml", "b.json", "large.toml"))
    broken.write_text("a = [")
    binary.write_bytes(b"\xff\xfd")  # FF FE would be the mark of UTF-16.
    large.write_bytes(b"#" * (1 << 20) + b"\n")
    listing = tmp_path / "list.json"
    listing.write_text("[1]")
    nested = tmp_path / "nested.json"
    nested.write_text("[" * 100_000)
    for source, words in (
        (
            "resnet5O",
            "spec = resnet5O: is neither a preset nor a .toml or .json file; did you mean",
        ),
        ("zzzzzzz", "see: resnet-spec list"),
        (tmp_path / "missing.toml", "cannot be read: No such file"),
        (folder, "cannot be read: Is a directory"),
        (broken, "broken.toml: is not valid TOML"),
        (binary, "is not UTF-8 text"),
        (large, "is larger than 1048576 bytes"),
        (listing, "must hold a table of keys"),
        (nested, "nested.json: is not valid JSON"),
        ("a\0b.toml", "cannot be read"),
        ({"base": "resnet5O"}, "did you mean 'resnet50'?"),
        ({"base": ["resnet50"]}, "is neither a preset"),
    ):
        (line,) = problems(source)
        assert words in line
        assert "\n" not in line


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("stages[9].blocks=4", "stages[9] does not exist; stages has 4 entries, counted from 0"),
        ("classes", "must be of the form key=value"),
        ("=3", "must be of the form key=value"),
        ("stages.blocks=4", "stages is not a table of keys"),
        ("classes[0]=4", "classes is not a list"),
        ("stages[x].blocks=4", "is not a key or key[index]"),
        ("norm.epss=1", "norm.epss = 1: unknown key; did you mean 'eps'?"),
        ("classes=ten", 'classes = "ten": must be an integer'),
    ],
)
def test_a_wrong_setting_gives_its_line(setting: str, words: str) -> None:
    (line,) = problems("resnet50", (setting,))
    assert words in line


_KEYS = st.sampled_from([*Spec.model_fields, "base", "width", "blocks", "self"]) | st.text()
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-1, 70)
    | st.floats()
    | st.text()
    | st.sampled_from(["basic", "bottleneck", "resnet18", "none"])
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(_KEYS | st.integers(), _VALUES, max_size=6), st.lists(st.text(), max_size=1))
def test_any_dict_gives_a_spec_or_a_spec_error(data: Any, changes: list[str]) -> None:
    try:
        spec = load_spec(data, changes)
    except SpecError as error:
        assert error.problems
    else:
        assert isinstance(spec, Spec)


_VALID = st.fixed_dictionaries(
    {
        "block": st.sampled_from(["basic", "bottleneck"]),
        "stages": st.lists(
            st.fixed_dictionaries(
                {"width": st.integers(64, 999), "blocks": st.integers(1, 2)},
                optional={"stride": st.integers(1, 3), "dilation": st.integers(1, 3)},
            ),
            min_size=1,
            max_size=3,
        ),
    },
    optional={
        "name": st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1),
        "shortcut": st.sampled_from(["projection", "projection_all", "none"]),
        "order": st.sampled_from(["post_activation", "pre_activation"]),
        "padding": st.sampled_from(["explicit", "same"]),
        "stem": st.fixed_dictionaries(
            {"pool_padding": st.sampled_from(["explicit", "same", None])}
        ),
        "squeeze": st.floats(0, 0.999),
        "norm": st.fixed_dictionaries(
            {"eps": st.floats(1e-300, 1e300), "decay": st.floats(0, 0.999)}
        ),
    },
)


@settings(max_examples=100, deadline=None)
@given(data=_VALID, size=st.integers(1, 70))
def test_valid_specs_round_trip_bit_equal_and_lower(
    data: dict[str, Any], size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    try:
        spec = load_spec(data)
    except SpecError as error:
        assert all("slash" in line for line in error.problems), error
        return
    folder = tmp_path_factory.mktemp("specs")
    for suffix, text in ((".toml", dump_toml(spec)), (".json", dump_json(spec))):
        path = folder / f"spec{suffix}"
        path.write_text(text, encoding="utf-8")
        assert repr(load_spec(path)) == repr(spec)
    assert lower(spec, size).ops[-1].out_shape == (1000,)


def test_fields_without_a_value_are_left_out_of_toml_and_may_be_missing() -> None:
    spec = load_spec(SMALL)
    assert "padding" not in tomllib.loads(dump_toml(spec))["stem"]
    assert json.loads(dump_json(spec))["stem"]["pool_padding"] is None
    older = spec.to_dict()
    del older["stem"]["padding"], older["stem"]["pool_padding"]
    assert Spec.from_dict(older) == spec
    changed = load_spec(SMALL, ["stem.pool_padding=same"])
    assert tomllib.loads(dump_toml(changed))["stem"]["pool_padding"] == "same"
    assert problems(SMALL, ("stem.padding=valid",)) == (
        "stem.padding = \"valid\": must be 'explicit' or 'same'",
    )


@pytest.mark.parametrize("name", ['quote" and tab', "\x7f", "é 中 😀", "#[x] = '''"])
def test_any_printable_name_survives_toml(name: str, tmp_path: Path) -> None:
    try:
        spec = load_spec({**SMALL, "name": name})
    except SpecError:
        assert not name.isprintable()
        return
    path = tmp_path / "spec.toml"
    path.write_text(dump_toml(spec), encoding="utf-8")
    assert load_spec(path).name == name


def test_the_schema_takes_what_load_spec_takes_and_refuses_what_it_refuses() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for name in PRESETS:
        assert validator.is_valid(json.loads(dump_json(load_spec(name))))
    for good in (SMALL, {"base": "resnet50", "norm": {"eps": 1e-3}}):
        assert validator.is_valid(good)
    for bad in (
        {**SMALL, "clases": 1},
        {**SMALL, "block": "basics"},
        {**SMALL, "stages": []},
        {**SMALL, "classes": "ten"},
        {"block": "basic"},
        {"base": "resnet5O"},
    ):
        assert not validator.is_valid(bad)
        problems(bad)


DOCUMENT = (Path(__file__).parents[2] / "docs" / "spec.md").read_text(encoding="utf-8")


def test_the_documented_files_are_valid() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", DOCUMENT, flags=re.DOTALL)
    assert len(blocks) == 2
    assert [load_spec(tomllib.loads(block)).classes for block in blocks] == [10, 10]


def test_every_field_is_documented() -> None:
    spec = load_spec(SMALL)
    fields = [name for name in Spec.model_fields if name not in ("input", "stem", "norm")]
    for table in ("input", "stem", "norm"):
        fields += [f"{table}.{name}" for name in type(getattr(spec, table)).model_fields]
    fields += [f"stages[i].{name}" for name in type(spec.stages[0]).model_fields]
    assert [name for name in fields if f"`{name}`" not in DOCUMENT] == []


def test_the_schema_explains_fields() -> None:
    properties = json_schema()["properties"]
    assert "He et al. 2015" in properties["shortcut"]["description"]
