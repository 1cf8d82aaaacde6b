"""The bundled routing beside the tables of textbooks, and what it says about invalid input."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from worker.routing import InvalidHydrographError, coefficients, muskingum_cunge, process, route

# Chow, Maidment, Mays: Applied Hydrology (1988), example 8.4.1: K = 2.3 h, X = 0.15, step 1 h, flows in cfs.
CHOW_INFLOW = [93, 137, 208, 320, 442, 546, 630, 678, 691, 675, 634, 571, 477, 390, 329, 247, 184, 134, 108, 90]
CHOW_OUTFLOW = [85, 91, 114, 159, 233, 324, 420, 509, 578, 623, 642, 635, 603, 546, 479, 413, 341, 274, 215, 170]


def test_muskingum_gives_the_coefficients_and_the_table_of_applied_hydrology() -> None:
    assert coefficients(2.3, 0.15, 1) == pytest.approx((0.0631, 0.3442, 0.5927), abs=5e-5)
    outflow = route(CHOW_INFLOW, 2.3, 0.15, 1, initial_outflow=85)
    assert outflow == pytest.approx(CHOW_OUTFLOW, abs=0.51)  # the book rounds to whole cfs


def test_muskingum_cunge_gives_the_coefficients_of_engineering_hydrology() -> None:
    # Ponce: Engineering Hydrology (1989), section 9.4, the example with constant parameters: peak 1,000 m3/s, area
    # 400 m2, top width 100 m, beta 1.6, slope 0.000868, reach 14.4 km, step 1 h. Courant number 1, Reynolds 0.2.
    k_hours, x = muskingum_cunge(14_400, 0.000868, 1000, 400, 100, 1.6)
    assert k_hours == pytest.approx(1)
    assert 1 - 2 * x == pytest.approx(0.2, abs=0.001)
    assert coefficients(k_hours, x, 1) == pytest.approx((0.091, 0.818, 0.091), abs=5e-4)


def test_the_volume_of_a_flood_is_conserved() -> None:
    inflow = [0.0, 200, 400, 600, 800, 1000, 800, 600, 400, 200, *[0.0] * 60]
    assert sum(route(inflow, 1.4, 0.3, 1)) == pytest.approx(sum(inflow))


def run(folder: Path, text: str) -> list[dict[str, str]]:
    source = folder / "reach.csv"
    source.write_text(text)
    process(source, folder)
    with (folder / "routed.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_file_is_routed_with_times_as_they_were(tmp_path: Path) -> None:
    times = [f"2026-03-01T{hour:02}:00:00Z" for hour in range(20)]
    lines = [f"{time},{flow}" for time, flow in zip(times, CHOW_INFLOW, strict=True)]
    parameters = ["# k_hours = 2.3", "# x=0.15", "# initial_outflow = 85"]
    rows = run(tmp_path, "\n".join([*parameters, "time,inflow", *lines, ""]))
    assert [row["time"] for row in rows] == times
    assert [float(row["inflow"]) for row in rows] == CHOW_INFLOW
    assert [float(row["outflow"]) for row in rows] == pytest.approx(CHOW_OUTFLOW, abs=0.51)


def test_a_channel_is_routed_by_muskingum_cunge(tmp_path: Path) -> None:
    channel = "# length_m = 14400\n# slope = 0.000868\n# reference_flow = 1000\n# area_m2 = 400\n"
    rows = run(tmp_path, channel + "# top_width_m = 100\n# beta = 1.6\ntime,inflow\n0,0\n1,200\n2,400\n")
    assert [float(row["outflow"]) for row in rows] == pytest.approx([0, 18.2, 201.7], abs=0.2)


REACH = "# k_hours = 2\n# x = 0.2\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file: the header must be `time,inflow`"),
        ("time;inflow\n", "line 1: the header must be"),
        (REACH + "time,inflow\n0,1\n", "1 rows: at least 2"),
        (REACH + "time,inflow\n0,1\n1,abc\n", "line 5: inflow 'abc' is not a number"),
        (REACH + "time,inflow\n0,1\n1,nan\n", "line 5: inflow 'nan' is not a number"),
        (REACH + "time,inflow\n0,1\n1,-2\n", "line 5: inflow -2 is negative"),
        (REACH + "time,inflow\n0,1\nnoon,2\n", "line 5: time 'noon' is neither hours nor ISO 8601"),
        (REACH + "time,inflow\n0,1\nnan,2\n", "line 5: time 'nan' is neither"),
        (REACH + "time,inflow\n0,1,3\n1,2\n", "line 4: 3 columns instead of 2"),
        (REACH + "time,inflow\n0,1\n1,2\n\n3,2\n", "line 7: time 3 is 2 h after the time before it, not 1 h"),
        (REACH + "time,inflow\n0,1\n0,2\n", "line 5: time 0 is not after"),
        ("# k_hours = 2\ntime,inflow\n0,1\n1,2\n", "missing parameters: x"),
        ("# length_m = 2\ntime,inflow\n0,1\n1,2\n", "missing parameters: slope, reference_flow, area_m2, top_width_m"),
        ("# speed = 2\ntime,inflow\n0,1\n1,2\n", "line 1: '# speed = 2' is not `# NAME = NUMBER`"),
        ("# k_hours = 0\n# x = 0.2\ntime,inflow\n0,1\n1,2\n", "line 1: k_hours = 0 is not positive"),
        ("# k_hours = 2\n# x = 0.7\ntime,inflow\n0,1\n1,2\n", "X at most 0.5"),
        (REACH + "time,inflow\n0,1\n12,2\n", r"the time step is 12 h; .* from 0.8 h \(2KX\) to 3.2 h"),
    ],
)
def test_invalid_input_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidHydrographError, match=message):
        run(tmp_path, text)
    assert not (tmp_path / "routed.csv").exists()


def test_invalid_lines_are_named_up_to_a_limit(tmp_path: Path) -> None:
    with pytest.raises(InvalidHydrographError) as error:
        run(tmp_path, REACH + "time,inflow\n" + "x,y\n" * 50)
    assert str(error.value).splitlines()[-1] == "… 30 more"


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidHydrographError, match="not UTF-8"):
        process(tmp_path / "a.csv", tmp_path)
