"""VQA v2 from disk, on small files in exactly the official formats."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from suite.ablation import session, vqa2
from suite.ablation.evaluation import evaluate
from suite.ablation.features import Hdf5File, NpzFolder
from suite.ablation.jobs import shape_of
from suite.ablation.model import Classifier, Shape
from suite.ablation.session import Request
from suite.ablation.studies import Compared, Row, Study, parameters, study
from suite.ablation.training import Recipe, fit
from suite.ablation.vqa2 import Vqa2Dataset, credit, normalise
from suite.core import exits, store
from suite.core.records import Measurement, Skip

WIDTH = 16
IMAGES = {"train": (1, 2, 3, 50), "val": (7, 8)}


def regions_of(image: int) -> np.ndarray:
    """Ten to fifteen regions, different for each image."""
    return np.random.default_rng(image).standard_normal((10 + image % 6, WIDTH)).astype(np.float32)


def annotate(part: str, number: int, image: int) -> tuple[dict, dict]:
    answer, kind = [("yes", "yes/no"), ("2", "number"), ("a red car", "other")][number % 3]
    text = ("Is it on?", "How many men's hats?", "What is that?")[number % 3]
    question = {"image_id": image, "question_id": number, "question": text}
    answers = [{"answer": answer, "answer_confidence": "yes", "answer_id": index + 1} for index in range(10)]
    annotation = {
        "question_id": number,
        "image_id": image,
        "question_type": "what is",
        "answer_type": kind,
        "multiple_choice_answer": answer,
        "answers": answers,
    }
    return question, annotation


def questions_file(root: Path, part: str) -> Path:
    return root / f"v2_OpenEnded_mscoco_{part}2014_questions.json"


def annotations_file(root: Path, part: str) -> Path:
    return root / f"v2_mscoco_{part}2014_annotations.json"


def npz_file(root: Path, part: str, image: int) -> Path:
    return root / f"{part}2014" / f"COCO_{part}2014_{image:012d}.jpg.npz"


def write_text_files(root: Path) -> None:
    for part, images in IMAGES.items():
        pairs = [annotate(part, 10 * image + turn, image) for image in images for turn in range(3)]
        questions_file(root, part).write_text(json.dumps({"questions": [question for question, _ in pairs]}))
        # the annotations need not stand in the order of the questions
        annotations = [annotation for _, annotation in reversed(pairs)]
        annotations_file(root, part).write_text(json.dumps({"annotations": annotations}))


def write_npz(root: Path, *, save=np.savez) -> None:
    for part, images in IMAGES.items():
        (root / f"{part}2014").mkdir()
        for image in images:
            save(npz_file(root, part, image), x=regions_of(image).T, bbox=np.zeros((10, 4)))


def write_hdf5(root: Path, *, adaptive: bool, ids: str) -> None:
    for part, images in IMAGES.items():
        path = root / (f"{part}.hdf5" if adaptive else f"{part}36.hdf5")
        with h5py.File(path, "w") as file:
            if adaptive:
                counts = [len(regions_of(image)) for image in images]
                ends = np.cumsum(counts)
                file["image_features"] = np.concatenate([regions_of(image) for image in images])
                file["pos_boxes"] = np.stack((ends - counts, ends), axis=1)
            else:
                file["image_features"] = np.stack([np.resize(regions_of(image), (36, WIDTH)) for image in images])
            if ids == "dataset":
                file["image_ids"] = np.array(images)
        if ids == "json":
            listed = {str(image): row for row, image in enumerate(images)}
            path.with_name(f"{path.stem}_imgid2idx.json").write_text(json.dumps(listed))
        if ids == "pickle":
            path.with_name(f"{path.stem}_imgid2idx.pkl").write_bytes(b"not opened")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_text_files(tmp_path)
    return tmp_path


def test_one_to_four_of_ten_annotators_make_three_tenths_to_one() -> None:
    for count, worth in ((1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0)):
        others = [f"other {index}" for index in range(10 - count)]
        assert credit(["cat"] * count + others)["cat"] == pytest.approx(worth)
    assert credit(["cat"] * 10) == {"cat": 1.0}


@pytest.mark.parametrize(
    ("answers", "predicted", "worth"),
    [
        # what vqaEval.py of GT-Vision-Lab/VQA at c4e6a0e gives: annotators lose their marks, predictions articles,
        # capitals and number words, too
        (["a bus"] * 5 + ["bus"] * 2 + ["car"] * 3, "bus", 0.6),
        (["two"] * 6 + ["2"] * 3 + ["3"], "two", 0.9),
        (["the cat"] * 4 + ["dog"] * 6, "the cat", 0.0),
        (["Yes"] * 5 + ["no"] * 5, "yes", 0.0),
        (["t-shirt"] * 4 + ["shirt"] * 6, "t-shirt", 1.0),
        (["dont know"] * 4 + ["no"] * 6, "don't know", 0.0),
        (["10:30"] * 2 + ["10.30."] * 8, "10.30", 1.0),
        (["t-shirt"] * 10, "t-shirt", 0.0),
        (["cat"] * 10, "a cat", 1.0),
    ],
)
def test_credit_is_the_official_scripts(answers: list[str], predicted: str, worth: float) -> None:
    assert credit(answers).get(normalise(predicted), 0.0) == pytest.approx(worth)


def test_an_evaluation_shows_every_question_once_and_not_image_by_image(root: Path) -> None:
    write_npz(root)
    task = Vqa2Dataset(root=str(root))
    val = task.corpus.val
    shown = [tuple(words) for graded in task.evaluation("test", 4) for words in padded(graded.examples.words)]
    assert sorted(shown) == sorted(map(tuple, val.words))
    assert shown != list(map(tuple, val.words))
    again = [tuple(words) for graded in task.evaluation("test", 100) for words in padded(graded.examples.words)]
    assert again == shown


def padded(words: np.ndarray) -> np.ndarray:
    return np.pad(words, ((0, 0), (0, vqa2.LONGEST_QUESTION - words.shape[1])))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("A Dog", "dog"),
        ("two", "2"),
        ("none", "0"),
        ("dont know", "don't know"),
        ("isnt", "isn't"),
        ("10,000", "10000"),
        ("3.5", "3.5"),
        ("u.s.", "us"),
        ("10.", "10"),
        (".5", ".5"),
        ("red/white", "red white"),
        ("black/ white/red", "black whitered"),  # beside a space once, so dropped everywhere
        ("1,000 t-shirts", "1000 tshirts"),  # a comma between digits drops every mark
        ("yes!", "yes"),
        ("10:30", "10:30"),
        ("50%", "50%"),
        ("he'dve", "he'd've"),
        ("im", "im"),
        ("shes", "shes"),
        ("  an  apple\n", "apple"),
        ("its", "its"),
        ("", ""),
    ],
)
def test_normalising(written: str, meant: str) -> None:
    assert normalise(written) == meant


@pytest.mark.parametrize("form", ["npz", "npz compressed", "fixed", "adaptive", "listed"])
def test_each_form_of_features_gives_each_image_its_own_regions(root: Path, form: str) -> None:
    if form.startswith("npz"):
        write_npz(root, save=np.savez if form == "npz" else np.savez_compressed)
    else:
        write_hdf5(root, adaptive=form != "fixed", ids="json" if form == "listed" else "dataset")
    task = Vqa2Dataset(root=str(root))
    task.check()
    assert task.image_width == WIDTH
    image, counts = task.regions("train").read(np.array([3, 1]))
    for row, number in enumerate((3, 1)):
        expected = np.resize(regions_of(number), (36, WIDTH)) if form == "fixed" else regions_of(number)
        assert counts[row] == len(expected)
        assert np.array_equal(image[row, : counts[row]], expected)
        assert not image[row, counts[row] :].any()


def test_features_in_plain_npz_are_mapped_whichever_way_their_axes_run(root: Path) -> None:
    write_npz(root)
    straight = npz_file(root, "train", 2)
    np.savez(straight, x=np.ascontiguousarray(regions_of(2).T))
    regions = Vqa2Dataset(root=str(root)).regions("train")
    assert isinstance(regions, NpzFolder)
    for image in (1, 2):
        columns = regions.columns(npz_file(root, "train", image))
        assert isinstance(columns, np.memmap)
        assert np.array_equal(columns, regions_of(image).T)


def test_questions_meet_their_annotations_and_an_image_is_on_one_side_of_the_split(root: Path) -> None:
    write_npz(root)
    task = Vqa2Dataset(root=str(root))
    assert set(task.corpus.train.image_id) == {1, 2, 3}
    assert set(task.corpus.held_out.image_id) == {50}
    assert set(task.corpus.answers) == {"yes", "2", "red car"}
    for split in ("validation", "test"):
        for graded in task.evaluation(split, 4):
            assert (graded.credit.max(axis=1) == np.where(graded.examples.family == 2, 0, 1)).all()
            # "a red car" is written alike by all ten, so it is compared as it stands, and no class is spelt so
    words = [task.corpus.vocabulary[word] for word in task.corpus.val.words[-1, : task.corpus.val.word_count[-1]]]
    assert words == ["how", "many", "men", "'s", "hats"]


def test_an_epoch_shows_every_question_once_in_an_order_of_its_own(root: Path) -> None:
    write_npz(root)
    task = Vqa2Dataset(root=str(root))

    def shown(seed: int, epoch: int) -> list[int]:
        return [int(image) for batch in task.training(seed, epoch, 4) for image in batch.regions]

    assert sum(len(batch.answer) for batch in task.training(0, 0, 4)) == 9
    assert shown(0, 0) == shown(0, 0)
    assert sorted(shown(0, 0)) == sorted(shown(0, 1))
    assert shown(0, 0) != shown(0, 1)
    assert task.batches(4) == 3


def test_a_classifier_learns_from_it(root: Path) -> None:
    write_npz(root)
    task = Vqa2Dataset(root=str(root))
    model = Classifier("hierarchical", shape_of(task), width=8, seed=0)
    losses = fit(model, task, Recipe(epochs=20, batch=4, learning_rate=0.02), seed=0)
    assert losses[-1] < 0.5 * losses[0]
    assert {entry.family for entry in evaluate(model, task, "test", way="alone")} == {"all", *vqa2.FAMILIES}


def shrink(patch: pytest.MonkeyPatch, study: Study, *, batch: int) -> None:
    patch.setattr(Vqa2Dataset, "batch", batch)
    patch.setattr(Vqa2Dataset, "scale", 2)
    patch.setattr(session, "LANES", 1)
    patch.setattr(session, "study", lambda name, **_: study)


def test_a_study_of_it_says_what_it_needs_and_leaves_its_accuracies(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_npz(root)
    pool = Row(variant="pool", width=4)
    small = Study(name="core", question="?", rows=(Compared(row=pool, parent=None),))
    shrink(monkeypatch, small, batch=4)
    folder = tmp_path / "run"
    assert session.start(Request(data="vqa2", root=str(root), seeds=1, epochs=1), out=folder) == exits.DONE
    said = " ".join(capsys.readouterr().err.split())
    assert "vqa2: 9 questions to learn from, 6 to be tested on" in said
    assert "an epoch of hierarchical (width 128) takes about" in said
    assert re.search(r"a process about \S+ .iB of memory", said)
    found = {
        (record.details["family"], record.details["evaluation"])
        for record in store.read(folder)
        if isinstance(record, Measurement) and record.quantity == "accuracy"
    }
    assert {family for family, _ in found} == {"all", *vqa2.FAMILIES}
    assert {way for _, way in found} == {"as_is", "noise_in_pads", "twice_the_width", "as_is_of_alone", "alone"}


def test_a_file_that_was_torn_is_named_and_mending_it_lets_the_study_go_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_npz(root)
    small = Study(name="core", question="?", rows=(Compared(row=Row(variant="pool", width=4), parent=None),))
    shrink(monkeypatch, small, batch=20)
    monkeypatch.setattr(session.needs, "sentence", lambda *_: "")
    torn = npz_file(root, "val", IMAGES["val"][-1])
    whole = torn.read_bytes()
    torn.write_bytes(whole[: len(whole) // 2])
    folder = tmp_path / "run"
    assert session.start(Request(data="vqa2", root=str(root), seeds=1, epochs=1), out=folder) == exits.CELLS_FAILED
    failed = {record.reason for record in store.read(folder) if isinstance(record, Skip)}
    assert len(failed) == 1
    assert str(torn) in failed.pop()
    torn.write_bytes(whole)
    assert session.start(Request(), resume=folder) == exits.DONE
    assert any(record.quantity == "accuracy" for record in store.read(folder) if isinstance(record, Measurement))


def spoil_missing(root: Path) -> str:
    questions_file(root, "val").unlink()
    return r"val2014_questions\.json is not there"


def spoil_torn(root: Path) -> str:
    path = annotations_file(root, "train")
    path.write_text(path.read_text()[:-50])
    return r"train2014_annotations\.json: not whole JSON"


def spoil_key(root: Path) -> str:
    questions_file(root, "train").write_text(json.dumps({"question": []}))
    return r"train2014_questions\.json: no list under 'questions'"


def change_annotation(root: Path, index: int, **fields: object) -> None:
    path = annotations_file(root, "train")
    whole = json.loads(path.read_text())
    whole["annotations"][index] |= fields
    path.write_text(json.dumps(whole))


def spoil_stranger(root: Path) -> str:
    change_annotation(root, 2, question_id=99999)
    return r"annotations\[2\]: question_id 99999 is not in v2_OpenEnded"


def spoil_image(root: Path) -> str:
    change_annotation(root, 1, image_id=4)
    return r"annotations\[1\]: image_id 4, but .* asks about image 50"


def spoil_answers(root: Path) -> str:
    change_annotation(root, 3, answers=[{"answer": "yes"}] * 9)
    return r"annotations\[3\]: 9 answers; expected 10"


def spoil_field(root: Path) -> str:
    change_annotation(root, 0, multiple_choice_answer=3)
    return r"annotations\[0\]: 'multiple_choice_answer' is 3; expected str"


def spoil_count(root: Path) -> str:
    path = annotations_file(root, "val")
    whole = json.loads(path.read_text())
    whole["annotations"].pop()
    path.write_text(json.dumps(whole))
    return r"val2014_annotations\.json: no annotation for question_id 70"


def spoil_npz_missing(root: Path) -> str:
    npz_file(root, "val", 8).unlink()
    return r"000000000008\.jpg\.npz is not there, but the questions ask about image 8"


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_missing,
        spoil_torn,
        spoil_key,
        spoil_stranger,
        spoil_image,
        spoil_answers,
        spoil_field,
        spoil_count,
        spoil_npz_missing,
    ],
)
def test_what_is_wrong_with_the_files_is_said_before_training(root: Path, spoil) -> None:
    write_npz(root)
    expected = spoil(root)
    with pytest.raises(ValueError, match=expected):
        Vqa2Dataset(root=str(root)).check()


def test_a_torn_a_foreign_and_a_pickled_npz_are_named(root: Path) -> None:
    write_npz(root)
    torn, foreign, pickled, narrow = (npz_file(root, "train", image) for image in (2, 3, 50, 1))
    garbled = npz_file(root, "train", 4)
    np.savez_compressed(garbled, x=np.zeros((WIDTH, 9), dtype=np.float32))
    whole = bytearray(garbled.read_bytes())
    whole[50:60] = b"\xff" * 10
    garbled.write_bytes(whole)
    torn.write_bytes(torn.read_bytes()[:200])
    np.savez(foreign, y=np.zeros(3))
    np.savez(pickled, x=np.array([{"a": 1}], dtype=object))
    np.savez(narrow, x=np.zeros((WIDTH - 1, 4), dtype=np.float32))
    np.savez(npz_file(root, "train", 0), x=np.zeros((WIDTH, 4), dtype=np.float32))  # the one that tells the width
    regions = Vqa2Dataset(root=str(root)).regions("train")
    for image, message in (
        (2, r"000002\.jpg\.npz: cannot be read"),
        (4, r"000004\.jpg\.npz: cannot be read"),
        (3, r"000003\.jpg\.npz: no key 'x'"),
        (50, r"000050\.jpg\.npz: cannot be read, torn or pickled"),
        (1, r"000001\.jpg\.npz: x has shape \[15, 4\]; expected \(16, n\)"),
    ):
        with pytest.raises(ValueError, match=message):
            regions.one(image)


def test_hdf5_that_is_torn_or_says_not_who_is_who_is_named(root: Path) -> None:
    write_hdf5(root, adaptive=False, ids="pickle")
    with pytest.raises(ValueError, match=r"train36_imgid2idx\.json says who is who; train36_imgid2idx\.pkl is a"):
        Vqa2Dataset(root=str(root)).check()
    path = root / "train36.hdf5"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"train36\.hdf5: not whole HDF5"):
        Vqa2Dataset(root=str(root)).check()


def test_boxes_beyond_the_features_are_named(root: Path) -> None:
    write_hdf5(root, adaptive=True, ids="dataset")
    with h5py.File(root / "val.hdf5", "r+") as file:
        file["pos_boxes"][1] = (0, 10_000)
    with pytest.raises(ValueError, match=r"val\.hdf5: pos_boxes\[1\] is \[0, 10000\], but image_features has"):
        Vqa2Dataset(root=str(root)).check()


def test_hdf5_with_a_torn_chunk_names_the_image(root: Path) -> None:
    path = root / "train36.hdf5"
    with h5py.File(path, "w") as file:
        noise = np.random.default_rng(0).normal(size=(2, 36, 64)).astype(np.float32)
        made = file.create_dataset("image_features", data=noise, chunks=(1, 36, 64), compression="gzip")
        file["image_ids"] = np.array([7, 8])
        place = made.id.get_chunk_info(1).byte_offset
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"torn" * 100)
    regions = Hdf5File(path)
    assert regions.one(7).shape == (36, 64)
    with pytest.raises(ValueError, match=r"train36\.hdf5: image 8 cannot be read"):
        regions.one(8)


def test_hdf5_whose_image_ids_are_no_numbers_is_named(root: Path) -> None:
    path = root / "train36.hdf5"
    with h5py.File(path, "w") as file:
        file["image_features"] = np.zeros((1, 36, 4), dtype=np.float32)
        file["image_ids"] = np.array([b"seven"])
    with pytest.raises(
        ValueError, match=r"train36\.hdf5: image_ids has shape \[1\] of .*; expected \(images,\) of whole"
    ):
        Hdf5File(path)


def test_a_root_that_is_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.touch()
    with pytest.raises(ValueError, match=r"train2014_questions\.json is not there: --root has to hold"):
        Vqa2Dataset(root=str(file)).check()


@pytest.mark.slow
def test_equal_parameters_are_those_of_the_data() -> None:
    shape = Shape(image_width=64, vocabulary=1000, classes=200)
    fitted = study("mechanism", controls=False, scale=2, shape=shape)
    wanted = parameters(Row(variant="hierarchical", width=128), shape)
    sizes = {entry.row.label: parameters(entry.row, shape) for entry in fitted.rows}
    assert len(sizes) == 15
    # the step of sixteen in width changes the parameters by a third where they are most
    assert all(abs(size - wanted) < 0.17 * wanted for size in sizes.values()), sizes
    assert all(entry.parent in (None, fitted.rows[0].row) for entry in fitted.rows)


def test_an_image_without_a_row_is_named(root: Path) -> None:
    write_hdf5(root, adaptive=True, ids="dataset")
    with h5py.File(root / "train.hdf5", "r+") as file:
        file["image_ids"][0] = 77
    with pytest.raises(ValueError, match=r"train\.hdf5: no row for image 1, which the questions ask about"):
        Vqa2Dataset(root=str(root)).check()


def test_a_folder_without_features_says_what_is_expected(root: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no regions of train: expected a folder train2014/"):
        Vqa2Dataset(root=str(root)).check()
