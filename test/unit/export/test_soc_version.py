"""Choose the SoC version from tables of npu-smi, which the stand-in prints as the published source of npu-smi does."""

import pytest
from cann_folder import write_command, write_script

from model.common.errors import UsageError, UserError
from model.export.atc import commands, soc_version
from model.export.atc.soc_version import choose_soc_version, parse_chips, read_board, soc_version_of

# Output of a driver of 2025 for a card with two chips. The widths of its columns differ from those of the stand-in.
TWO_CHIPS = """\
+--------------------------------------------------------------------------------------------------------+
| npu-smi 25.0.rc1.1                               Version: 25.0.rc1.1                                   |
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Name                  | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device                | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===============================+=================+======================================================+
| 6       310P3                 | OK              | NA           55                0     / 0             |
| 0       0                     | 0000:83:00.0    | 0            1175 / 44280                            |
+-------------------------------+-----------------+------------------------------------------------------+
| 6       310P3                 | OK              | NA           52                3262  / 3262          |
| 1       1                     | 0000:83:00.0    | 0            8322 / 43693                            |
+===============================+=================+======================================================+
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Chip                  | Process id      | Process name             | Process memory(MB)        |
+===============================+=================+======================================================+
| 6       1                     | 31415           | python3                  | 7123                      |
+===============================+=================+======================================================+
"""


@pytest.fixture
def npu_smi(tmp_path, monkeypatch):
    """Put the stand-in first on the PATH and return a function that sets its chips."""
    write_command(tmp_path / "bin", "npu-smi")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return lambda chips: monkeypatch.setenv("NPU_SMI_CHIPS", chips)


@pytest.mark.parametrize(
    ("chips", "expected"),
    [
        ("310", "Ascend310"),
        ("310P3,310P3", "Ascend310P3"),
        ("310B4", "Ascend310B4"),  # the second row of this chip shows NA instead of a bus
        ("910ProB", "Ascend910ProB"),
        ("910B3,910B3,910B3", "Ascend910B3"),
        ("910B4-1", "Ascend910B4-1"),
        ("Ascend910:9392", "Ascend910_9392"),
        ("Ascend950PR:9599", "Ascend950PR_9599"),
    ],
)
def test_name_of_every_product(npu_smi, chips, expected):
    npu_smi(chips)
    assert choose_soc_version("") == (expected, "from npu-smi info")


def test_parse_chips_reads_both_chips_and_no_process():
    assert parse_chips(TWO_CHIPS) == [("6", "310P3"), ("6", "310P3")]


def test_several_kinds_of_chips_need_a_choice(npu_smi):
    npu_smi("310P3,310P1")
    with pytest.raises(UserError, match=r"Ascend310P1 and Ascend310P3; choose one with --soc_version"):
        choose_soc_version("")
    assert choose_soc_version("Ascend310P1") == ("Ascend310P1", "as given")


@pytest.mark.parametrize("chips", ["", "nothing to see"])
def test_default_without_chips(npu_smi, monkeypatch, chips):
    if chips:
        monkeypatch.setenv("NPU_SMI_FAULT", chips)
    npu_smi("")
    found, why = choose_soc_version("")
    assert found == "Ascend310" and "npu-smi" in why and "--soc_version" in why


@pytest.mark.parametrize("script", [None, "exec tail -f /dev/null"], ids=["missing", "hanging"])
def test_default_without_a_working_npu_smi(tmp_path, monkeypatch, script):
    if script:
        write_script(tmp_path / "npu-smi", script)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(commands, "TIMEOUT", 0.2)
    assert choose_soc_version("")[0] == "Ascend310"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("310P3", "for example Ascend310P3"),
        ("ascend310p3", "for example Ascend310P3"),
        ("Ascend310;id", "ATC expects"),
        ("Ascend310 P3", "ATC expects"),
        ("Ascend", "ATC expects"),
    ],
)
def test_a_malformed_soc_version_is_rejected(given, words):
    with pytest.raises(UsageError) as caught:
        choose_soc_version(given)
    assert words in str(caught.value) and given in str(caught.value)


@pytest.mark.parametrize("given", ["Ascend310", "Ascend310P3", "Ascend910B4-1", "Ascend910_9392", "Ascend310P3Vir01"])
def test_npu_smi_is_not_run_for_a_given_soc_version(monkeypatch, given):
    monkeypatch.setattr(soc_version, "run_npu_smi", lambda *_: pytest.fail("npu-smi was run"))
    assert choose_soc_version(given)[0] == given


@pytest.mark.parametrize("npu", ["", "NA"])
def test_a_product_family_without_npu_name_is_an_error(monkeypatch, npu):
    def run(*arguments):
        assert arguments[:5] == ("info", "-t", "board", "-i", "3")
        return f"\tChip Name                      : Ascend910\n\tNPU Name                       : {npu}\n"

    monkeypatch.setattr(soc_version, "run_npu_smi", run)
    assert read_board("3")["Chip Name"] == "Ascend910"
    with pytest.raises(UserError, match=r"reports the chip as Ascend910.*give --soc_version.*-t board -i 3 -c 0"):
        soc_version_of("3", "Ascend910")
