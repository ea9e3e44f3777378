"""The protocol table, dataset names, and the split into gallery and probes."""

import numpy as np
import pytest

from model.common.errors import UsageError, UserError
from model.evaluation.protocols import PROTOCOLS, plan_of, protocol_of


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("CASIA-B", "CASIA-B"), ("casia-b", "CASIA-B"), ("CASIA_B", "CASIA-B"), ("OUMVLP", "OUMVLP"),
        ("OU-MVLP", "OUMVLP"), ("OU_MVLP", "OUMVLP"), ("casiaa", "CASIA-A"), ("synthetic", "Synthetic"),
    ],
)  # fmt: skip
def test_spellings_of_a_dataset(spelling, name):
    assert protocol_of(spelling).name == name


def test_unknown_dataset_error_lists_known_ones():
    with pytest.raises(UsageError, match=r"'CASIA-E'.*CASIA-B, OUMVLP, CASIA-A, Synthetic") as error:
        protocol_of("CASIA-E")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
def test_takes_are_in_one_part_only(protocol):
    takes = [*protocol.gallery, *(take for wanted in protocol.probes.values() for take in wanted)]
    assert len(takes) == len(set(takes))


def test_published_rows_use_the_conditions_of_the_protocol():
    for protocol in PROTOCOLS:
        for row in protocol.published:
            for figures in (row.including, row.excluding):
                assert figures is None or set(figures) <= set(protocol.probes)


def test_plan_sorts_rows_by_part_and_view():
    takes = ["bg-01", "nm-01", "nm-05", "nm-02", "nm-01", "xx-01", "nm-06", "nm-04"]
    views = ["090", "180", "9", "000", "9", "777", "front", "180"]
    plan = plan_of(takes, views, protocol_of("CASIA-B"))
    assert plan.views == ("000", "9", "090", "180", "front")  # numbers first, then names; 777 is unused
    assert plan.conditions == ("NM", "BG")
    assert plan.gallery_rows.tolist() == [3, 4, 1, 7]
    assert plan.gallery_counts.tolist() == [1, 1, 0, 2, 0]
    assert plan.probe_rows.tolist() == [2, 6, 0]
    assert plan.probe_condition.tolist() == [0, 0, 1]
    assert [plan.views[v] for v in plan.probe_view] == ["9", "front", "090"]
    assert any("condition CL is skipped" in note for note in plan.notes)
    assert "1 sequence of seq_type xx-01: neither gallery nor probe in CASIA-B, ignored" in plan.notes


@pytest.mark.parametrize(("takes", "part"), [(["nm-05"], "gallery"), (["nm-01", "zz-09"], "probe"), ([], "gallery")])
def test_empty_part_error_lists_the_available_takes(takes, part):
    with pytest.raises(UserError, match=f"no {part} sequence for protocol CASIA-B") as error:
        plan_of(takes, ["000"] * len(takes), protocol_of("CASIA-B"))
    assert all(take in str(error.value) for take in takes)
    assert "\n" not in str(error.value)


def test_views_can_be_an_array_and_are_in_natural_order():
    plan = plan_of(np.array(["01", "00"] * 2), np.array(["cam10", "cam9", "90", "015"]), protocol_of("OUMVLP"))
    assert plan.views == ("015", "90", "cam9", "cam10")


@pytest.mark.parametrize(
    ("gallery", "probe", "takes", "probes"),
    [
        (["walk1"], ["walk2"], ("walk1",), {"WALK2": ("walk2",)}),
        (["a,b", "c"], ["ALL=x,y", "ALL=z"], ("a", "b", "c"), {"ALL": ("x", "y", "z")}),
        (["nm-01"], ["nm-05", "cl-01", "nm-06"], ("nm-01",), {"NM": ("nm-05", "nm-06"), "CL": ("cl-01",)}),
        (["nm-0[1-4]"], ["NM=nm-05,nm-06", "bg-*"], ("nm-0[1-4]",), {"NM": ("nm-05", "nm-06"), "BG": ("bg-*",)}),
        (["00"], ["*1"], ("00",), {"PROBE": ("*1",)}),
    ],
)
def test_users_name_their_own_takes(gallery, probe, takes, probes):
    protocol = protocol_of("mygait", gallery, probe)
    assert (protocol.name, protocol.gallery, protocol.probes) == ("mygait", takes, probes)
    assert list(protocol.probes) == list(probes)  # in the order of the printed table


def test_own_takes_of_a_known_dataset_have_no_published_figures():
    assert protocol_of("casia-b", ["nm-01"]).probes == protocol_of("CASIA-B").probes
    assert not protocol_of("CASIA-B", ["nm-01"]).published
    probes = ["NM=nm-05,nm-06", "bg-01,bg-02", "cl-01", "cl-02"]
    assert protocol_of("CASIA-B", ["nm-01,nm-02,nm-03,nm-04"], probes).published


@pytest.mark.parametrize(
    ("gallery", "probe", "message"),
    [
        ([], [], "no evaluation protocol for dataset 'mygait'.*--gallery walk1 --probe walk2.*python -m model.embed"),
        (["walk1"], [], "no evaluation protocol for dataset 'mygait'"),
        (["walk1"], ["walk1"], "take walk1 belongs to the gallery and to the probes of WALK1"),
        (["walk*"], ["ALL=walk2"], "take walk2 belongs to the gallery and to the probes of ALL"),
        (["walk1"], ["walk2", "ALL=walk[23]"], r"take walk2 belongs to the probes of WALK2 and to the probes of ALL"),
        (["walk1"], ["NM="], "--probe NM=: a take has no name"),
        (["walk1,"], ["walk2"], "--gallery walk1,: a take has no name"),
        (["walk1"], ["a/b=walk2"], "the condition 'a/b' cannot be part of a file name"),
    ],
)
def test_takes_that_make_no_protocol_are_rejected(gallery, probe, message):
    with pytest.raises(UsageError, match=message) as error:
        protocol_of("mygait", gallery, probe)
    assert "\n" not in str(error.value)


def test_patterns_select_the_takes_that_they_match():
    takes = ["nm-01", "nm-05", "nm-02", "cl-01", "x[1]", "nm-06", "nm-03"]
    views = [str(number % 2) for number in range(len(takes))]
    by_pattern = plan_of(takes, views, protocol_of("mine", ["nm-0[1-3]"], ["NM=nm-0[56]", "C=c?-*", "x[1]"]))
    by_name = plan_of(takes, views, protocol_of("mine", ["nm-01,nm-02,nm-03"], ["NM=nm-05,nm-06", "C=cl-01", "x[[]1]"]))
    assert by_pattern.conditions == by_name.conditions == ("NM", "C", "X")  # a name with brackets matches itself
    assert by_pattern.probe_rows.tolist() == by_name.probe_rows.tolist() == [1, 5, 3, 4]
    assert by_pattern.gallery_rows.tolist() == by_name.gallery_rows.tolist() and by_pattern.notes == by_name.notes == ()
    with pytest.raises(UserError, match="take nm-02 belongs to the gallery and to"):
        plan_of(takes, views, protocol_of("mine", ["nm-0[12]"], ["nm-0[26]"]))
