import csv
import filecmp
import re
import time
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from fred_trainer.data import DataError, read_index, report, split, write_sequences
from fred_trainer.data.read.annotations import parse_line
from fred_trainer.data.read.source import read_bytes
from fred_trainer.data.synth.conditions import LIGHTS, SCENERIES, Scenery, draw_conditions
from fred_trainer.data.synth.events import make_events
from fred_trainer.data.synth.flights import make_birds
from fred_trainer.data.synth.scenery import draw_frame, draw_glare, draw_scene, hidden_share

KINDS: tuple[Scenery, ...] = ("day", "several", "day", "empty", "day")


def clear(seed: int, number: int) -> bool:
    """Nothing in this flight that pixels would be mistaken for, and sharp."""
    drawn = draw_conditions(seed, number, "day")
    return drawn.light != "glare" and not (drawn.occluded or drawn.birds or drawn.blur or drawn.leaves)


SEED = next(seed for seed in range(3000) if all(clear(seed, number) for number in (0, 2)))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Full size, for the pixels; large drones in clear air."""
    root = tmp_path_factory.mktemp("synth") / "fred"
    write_sequences(root, sequences=5, frames=8, test_sequences=1, seed=SEED, sceneries=KINDS, drone_px=(31, 92))
    return root


def test_what_is_written_reads_back_whole(root):
    index = read_index(root)
    assert set(index.irregularities) <= {"boxes crossing the border, clipped"}
    assert len(index.pairs) == 48
    assert all(pair.rgb and pair.event for pair in index.pairs)
    assert {pair.sequence: pair.subset for pair in index.pairs} == dict.fromkeys(range(5), "train") | {8: "test"}
    assert {(pair.width, pair.height) for pair in index.pairs} == {(1280, 720)}
    assert max(len(pair.boxes) for pair in index.pairs) == 2
    assert min(len(pair.boxes) for pair in index.pairs) == 0
    parts = split(index)
    assert {pair.sequence for pair in parts.validation} == {4}
    assert all(20 <= x2 - x1 <= 115 for pair in parts.train if pair.sequence != 3 for x1, _, x2, _ in pair.boxes)


def test_drones_are_where_their_boxes_say_in_both_images(root):
    """Within the box the picture is darker than around it, and most events there are."""
    checked = 0
    for pair in read_index(root).pairs:
        for box in pair.boxes:
            x1, y1, x2, y2 = map(int, box)
            if x1 < 60 or x2 > 1220 or not clear(SEED, pair.sequence):
                continue  # partly in the black border of RGB
            rgb = cv2.imread(str(pair.rgb)).mean(axis=2)
            events = cv2.imread(str(pair.event)).max(axis=2) > 0
            around = np.s_[y1 - 8 : y2 + 8, x1 - 8 : x2 + 8]
            outside = rgb[around].copy()
            outside[8:-8, 8:-8] = np.nan
            assert rgb[y1:y2, x1:x2].min() < np.nanmin(outside) - 10
            assert events[y1:y2, x1:x2].mean() > 0.03
            assert events[y1:y2, x1:x2].mean() > 20 * events[y1 - 60 : y1 - 20, x1:x2].mean()
            colours = cv2.imread(str(pair.event))[y1:y2, x1:x2].reshape(-1, 3)
            positive, negative = (
                (colours == colour).all(axis=1).mean() for colour in ((255, 255, 255), (201, 126, 64))
            )
            assert min(positive, negative) > 0.01  # the drone moved: edges of both polarities
            dark = rgb < np.nanmin(outside) - 10
            rows, columns = (np.flatnonzero(dark[around].any(axis=axis)) for axis in (1, 0))
            found = (x1 - 8 + columns[0], y1 - 8 + rows[0], x1 - 7 + columns[-1], y1 - 7 + rows[-1])
            assert np.abs(np.subtract(found, (x1, y1, x2, y2))).max() <= 6  # blades are thin and half transparent
            checked += 1
    assert checked > 12


def test_names_and_lines_are_as_published(root):
    for number, word in ((0, "frame_"), (1, "")):
        folder = root / "train" / str(number)
        names = sorted(path.name for path in (folder / "RGB").iterdir())
        assert all(re.fullmatch(rf"Video_{number}_\d\d_\d\d_\d\d\.\d{{6}}\.jpg", name) for name in names)
        events = {path.name for path in (folder / "Event" / "Frames").iterdir()}
        assert events == {f"Video_{number}_{word}{33_333 * k}.png" for k in range(1, 9)}
        lines = (folder / "coordinates.txt").read_text().splitlines()
        form = r"\d\.\d{1,6}: -?\d+\.0, -?\d+\.0, \d+\.0, \d+\.0, \d, [A-Z][A-Za-z0-9 ]+"
        assert all(re.fullmatch(form, line) for line in lines)
    assert all(line.endswith("cineape20 ") for line in lines)
    clocks = [float(name[-13:-4]) + 60 * int(name[-16:-14]) for name in names]
    assert len({round(step, 6) for step in np.diff(clocks)}) > 4  # jitter


def test_the_boxes_without_padding_lie_within_those_with(root):
    for folder in (root / "train").iterdir():
        whole, cut = (
            [parse_line(line) for line in (folder / name).read_text().splitlines()]
            for name in ("coordinates.txt", "coordinates_rgb.txt")
        )
        boxes = {(a.time_s, a.drone): a.box for a in whole}
        for annotation in cut:
            x1, y1, x2, y2 = boxes[annotation.time_s, annotation.drone]
            assert annotation.box == (max(x1, 26), y1, min(x2, 1254), y2)
    rgb = cv2.imread(str(next((root / "train" / "0" / "RGB").iterdir())))
    assert rgb[:, :20].max() < 8
    assert rgb[:, 40:60].mean() > 60


def test_the_drive_layout(tmp_path):
    write_sequences(tmp_path / "d", sequences=2, frames=4, layout="drive", width=320, height=180)
    index = read_index(tmp_path / "d")
    assert [pair.id for pair in index.pairs] == [f"{s}/{k:06d}" for s in (0, 1) for k in range(1, 5)]
    assert all(pair.boxes and pair.rgb.parent.name == "PADDED_RGB" and pair.subset is None for pair in index.pairs)
    assert not index.irregularities
    folder = tmp_path / "d" / "0"
    assert len(list((folder / "RGB").iterdir())) == 4
    (folder / "interpolated_coordinates.txt").unlink()
    plain = read_index(tmp_path / "d")
    assert plain.fingerprint == index.fingerprint
    assert plain.irregularities == {"annotations before the first frame (t = 0), dropped": 1}


def test_the_same_seed_gives_the_same_files_and_another_one_others(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_sequences(tmp_path / name, sequences=1, frames=2, seed=seed, width=320, height=180)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 7
    match, mismatch, errors = filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", files, shallow=False)
    assert (len(match), mismatch, errors) == (7, [], [])
    assert read_index(tmp_path / "a").fingerprint != read_index(tmp_path / "c").fingerprint


def test_the_default_stays_within_its_limits(root):
    """200 pairs: at most 40 MB and 20 s of one core; measured on 8 of its 40 frames."""
    size = sum(path.stat().st_size for path in root.rglob("*.*"))
    assert size / 48 * 200 < 40e6


def test_it_is_fast(tmp_path):
    before = time.process_time()
    write_sequences(tmp_path / "f", sequences=1, frames=20)
    assert (time.process_time() - before) * 10 < 20  # s of one core, with room for the scene of each sequence


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(DataError, match="holds something already and nothing is overwritten"):
        write_sequences(tmp_path, sequences=1, frames=1)
    with pytest.raises(DataError, match="holds something already"):
        write_sequences(tmp_path / "mine", sequences=1, frames=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "new").mkdir()
    write_sequences(tmp_path / "new", sequences=1, frames=1, width=64, height=64)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert len(read_index(tmp_path / "new").pairs) == 1


def test_an_interrupted_one_is_not_taken_for_a_data_set(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("fred_trainer.data.synth.sequence_writer._write_lines", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_sequences(tmp_path / "new", sequences=2, frames=1, width=64, height=64)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sequences": 0}, "needs one sequence, one frame"),
        ({"frames": 0}, "needs one sequence, one frame"),
        ({"width": 32}, "64 x 64 px"),
        ({"layout": "drive", "test_sequences": 1}, "does not tell test sequences apart"),
    ],
)
def test_impossible_numbers(tmp_path, arguments, message):
    with pytest.raises(DataError, match=message):
        write_sequences(tmp_path / "new", **arguments)
    assert not list(tmp_path.iterdir())


def test_the_report(root):
    index = read_index(root)
    text = report(index, split(index))
    tables = text.partition("how each sequence")[0]
    rows = {words[0]: words[1:] for words in map(str.split, tables.splitlines()) if words}
    boxes = {s: sum(len(pair.boxes) for pair in index.pairs if pair.sequence == s) for s in (0, 1, 2, 3, 4, 8)}
    assert rows["1"] == ["train", "1280x720", "8", "8", "8", "8", "8", str(boxes[1])]
    assert rows["4"][0] == "validation"
    assert rows["8"] == ["test", "1280x720", "8", "8", "8", "8", rows["8"][6], str(boxes[8])]
    assert rows["all"] == ["48", "48", "48", "48", rows["all"][4], str(sum(boxes.values()))]
    assert rows["validation"] == ["1", "8", "8", "8", "8", "8", str(boxes[4])]
    assert rows["fingerprint"] == [index.fingerprint]
    assert not any(line.endswith(" ") for line in text.splitlines())


@pytest.fixture(scope="module")
def sceneries(tmp_path_factory):
    """One sequence of each, at a quarter of the size: name -> pairs."""
    root = tmp_path_factory.mktemp("sceneries") / "fred"
    write_sequences(root, sequences=len(SCENERIES), frames=16, width=640, height=360)
    index = read_index(root)
    return {name: [pair for pair in index.pairs if pair.sequence == at] for at, name in enumerate(SCENERIES)}


def events_in_boxes(pairs) -> float:
    """Share of the pixels of the boxes that have an event."""
    shares = []
    for pair in pairs:
        frame = cv2.imread(str(pair.event)).max(axis=2) > 0
        shares += [frame[int(y1) : int(y2), int(x1) : int(x2)].mean() for x1, y1, x2, y2 in pair.boxes]
    return float(np.mean(shares))


def brightness(pairs) -> float:
    return float(np.mean([cv2.imread(str(pair.rgb)).mean() for pair in pairs]))


def px_per_frame(pairs) -> float:
    centres = np.array([(x1 + x2, y1 + y2) for pair in pairs for x1, y1, x2, y2 in pair.boxes[:1]]) / 2
    return float(np.hypot(*np.diff(centres, axis=0).T).mean())


def test_at_night_rgb_is_nearly_black_and_the_events_are_all_there(sceneries):
    assert brightness(sceneries["night"]) < 4
    assert brightness(sceneries["day"]) > 80
    assert events_in_boxes(sceneries["night"]) > 0.15


def test_a_hovering_drone_makes_hardly_any_events_and_is_seen_in_rgb(sceneries):
    assert events_in_boxes(sceneries["hover"]) < 0.3 * events_in_boxes(sceneries["day"])
    assert px_per_frame(sceneries["hover"]) < 0.5
    assert brightness(sceneries["hover"]) > 60


def test_fast_is_fast_several_are_several_and_empty_is_empty(sceneries):
    assert px_per_frame(sceneries["fast"]) > 2 * px_per_frame(sceneries["day"])
    assert {len(pair.boxes) for pair in sceneries["several"]} == {2}
    boxes = [len(pair.boxes) for pair in sceneries["empty"]]
    assert boxes[:8] == [0] * 8
    assert {len(pair.boxes) for pair in sceneries["day"]} == {1}


def test_archives_hold_what_the_folders_do(tmp_path):
    for layout in ("hf", "zip"):
        write_sequences(tmp_path / layout, sequences=2, test_sequences=1, frames=2, width=128, height=72, layout=layout)
    assert sorted(path.name for path in (tmp_path / "zip").rglob("*.*")) == ["0.zip", "1.zip", "8.zip", "flights.csv"]
    plain, zipped = (read_index(tmp_path / layout) for layout in ("hf", "zip"))
    assert zipped.fingerprint == plain.fingerprint
    for one, other in zip(plain.pairs, zipped.pairs, strict=True):
        assert read_bytes(one.event) == read_bytes(other.event)


def test_an_unknown_scenery(tmp_path):
    with pytest.raises(DataError, match="no scenery 'fog': there are day, several, night, fast, empty, hover"):
        write_sequences(tmp_path / "new", sceneries=("fog",))  # type: ignore[arg-type]


def test_what_is_in_each_flight_is_written_beside(root):
    rows = list(csv.DictReader((root / "flights.csv").read_text().splitlines()))
    assert [(int(row["sequence"]), row["subset"]) for row in rows] == [*((k, "train") for k in range(5)), (8, "test")]
    assert [row["scenery"] for row in rows] == ["day", "several", "day", "empty", "day", "day"]
    assert [row["drones"] for row in rows] == ["1", "2", "1", "1", "1", "1"]
    index = read_index(root)
    assert index.conditions[1] == {"scenery": "several", "light": rows[1]["light"]}
    sizes = {number: float(row["drone_px"]) for number, row in zip(index.sequences, rows, strict=True)}
    for pair in index.pairs:
        for box in pair.boxes[:1]:
            assert 0.6 * sizes[pair.sequence] < box[2] - box[0] < 1.25 * sizes[pair.sequence]


def test_an_empty_flight_shows_a_drone_in_the_end(tmp_path):
    """However short it is: without an annotation it would be left out, and its scenery with it."""
    write_sequences(tmp_path / "f", sequences=8, frames=9, width=256, height=144, sceneries=("empty",))
    index = read_index(tmp_path / "f")
    for number in index.sequences:
        boxes = [len(pair.boxes) for pair in index.pairs if pair.sequence == number]
        assert boxes[:4] == [0] * 4
        assert sum(boxes)


def test_the_sizes_are_those_of_fred():
    """74 % under 32 px at a width of 1280."""
    sizes = np.array([draw_conditions(0, number, "day").drone_px for number in range(4000)])
    assert abs((sizes < 32).mean() - 0.74) < 0.03
    assert sizes.min() >= 8
    assert sizes.max() <= 110
    half = np.array([draw_conditions(0, number, "day", width=640).drone_px for number in range(100)])
    assert np.abs(half * 2 - sizes[:100]).max() < 0.02
    given = [draw_conditions(0, number, "day", drone_px=(31, 92)).drone_px for number in range(300)]
    assert min(given) >= 31
    assert max(given) <= 92


def correlation(one, other) -> float:
    return float(abs(np.corrcoef(np.asarray(one, float), np.asarray(other, float))[0, 1]))


def test_no_condition_goes_in_step_with_another_nor_with_the_number():
    """Dusk went with every third number, so that night and hover were always dusk."""
    drawn = [draw_conditions(7, number, SCENERIES[number % len(SCENERIES)]) for number in range(3000)]
    columns: dict[str, Any] = {
        **{light: [one.light == light for one in drawn] for light in LIGHTS},
        **{scenery: [one.scenery == scenery for one in drawn] for scenery in SCENERIES},
        **{name: [getattr(one, name) for one in drawn] for name in ("drone_px", "blur", "grain", "event_noise")},
        **{name: [getattr(one, name) for one in drawn] for name in ("occluded", "birds", "leaves")},
        **{f"number % {n}": [one.sequence % n for one in drawn] for n in (4, 5, 7)},
    }
    exclusive = (set(LIGHTS), set(SCENERIES))
    names = sorted(columns)
    for at, one in enumerate(names):
        for other in names[at + 1 :]:
            if any({one, other} <= group for group in exclusive) or (
                "%" in one + other and {one, other} & set(SCENERIES)
            ):
                continue
            if "%" in one and "%" in other:
                continue
            assert correlation(columns[one], columns[other]) < 0.08, (one, other)
    for scenery in SCENERIES:
        assert {one.light for one in drawn if one.scenery == scenery} == set(LIGHTS)


def test_a_pole_hides_drones_from_the_labels():
    pole = (10.0, 0.0, 20.0, 100.0)
    assert hidden_share((10, 5, 20, 9), pole) == 1
    assert hidden_share((15, 5, 25, 9), pole) == 0.5
    assert hidden_share((30, 5, 40, 9), pole) == 0
    assert hidden_share((30, 5, 40, 9), None) == 0


def test_glare_washes_out_rgb_and_leaves_the_events(tmp_path):
    scene = np.full((90, 160, 3), 120, np.uint8)
    glare = draw_glare(np.random.default_rng(0), 160, 90)
    assert cv2.add(scene, glare).max() == 255
    assert glare.max() > 200
    assert glare.min() < 40


def test_noise_birds_and_leaves_are_where_they_belong():
    scene, tree_line = draw_scene(np.random.default_rng(1), 320, 180, light="daylight")
    quiet = make_events(np.random.default_rng(1), scene, scene, tree_line, noise=0, leaves=0)
    assert not quiet.any()
    noisy = make_events(np.random.default_rng(1), scene, scene, tree_line, noise=1e-2, leaves=0)
    assert 0.007 < noisy.any(axis=2).mean() < 0.013
    lively = make_events(np.random.default_rng(1), scene, scene, tree_line, noise=0, leaves=0.5)
    rows, columns = np.nonzero(lively.any(axis=2))
    assert len(rows) > 50
    assert np.all((rows >= tree_line[columns] - 3) & (rows < tree_line[columns] + 12))
    bird = make_birds(np.random.default_rng(1), 1, 1280)[0]
    with_bird, boxes = draw_frame(scene, [], [replace(bird, start=(0.5, 0.3))], None, 0.0)
    assert boxes == []
    changed = np.argwhere((with_bird != scene).any(axis=2))
    assert len(changed) > 8
    assert np.abs(changed.mean(axis=0) - (54, 160)).max() < 6


@pytest.mark.parametrize("drone_px", [(0, 10), (50, 40), (8, 1000)])
def test_impossible_sizes(tmp_path, drone_px):
    with pytest.raises(DataError, match="no drones of"):
        write_sequences(tmp_path / "new", drone_px=drone_px)
