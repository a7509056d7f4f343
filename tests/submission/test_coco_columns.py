"""COCO results as columns against the same files entry by entry: equal detections, equal errors."""

import json
import random

import numpy as np
import pytest

from vindr_det.exceptions import InputError
from vindr_det.structures.label_sets import NIH, VINBIGDATA
from vindr_det.submission import coco_results
from vindr_det.submission.coco_columns import read_columns

KEYS = ("image_id", "category_id", "bbox", "score", "text_id", "label_set")
#: What may stand for any value; the texts are JSON.
ODD = ["null", "true", "1", "1.0", "-1", "14", "0", "-0", '"a"', '"a.png"', '""', '" "', "NaN", "Infinity",
       "1e400", "1e-400", "[]", "[1, 2, 3]", "[1, 2, 3, 4, 5]", "[0, 0, 1, 1]", "[0.0, 0, 1, 1.0]",
       "[1, 2, 0, 4]",
       "[1, 2, -3, 4]", "[true, 2, 3, 4]", '["1", 2, 3, 4]', "[1e17, 1, 1, 1]", "[1, 2, NaN, 4]",
       "[1, 2, 1e400, 4]",
       "9223372036854775808", "1" + "0" * 30, f"[1, 2, {'1' + '0' * 30}, 4]", f"[1, 2, {'1' + '0' * 400}, 4]",
       "0.5", "1.5", "{}", '{"a": 1}', '"\\ud800"', '"VinBigData"', '"NIH"', '"other"', "[-9, 1, 2, 3]"]
NAMES = {1: "one", 2: "two", 3: "a", "x": "x.y", "2": "text two"}
LABELS = [None, {1: 0, 2: 3, 3: 14, 14: 2}, {1: 0, 2: -1, 3: 4}]


def entry(rng, style):
    """A good entry as JSON texts: of numbers, of names, of both, or "no finding"."""
    box = [round(rng.uniform(0, 900), rng.randint(0, 12)) for _ in range(4)]
    values = {"image_id": str(rng.randint(1, 3)), "category_id": str(rng.randint(1, 3)),
              "bbox": json.dumps([*box[:2], box[2] + 1, box[3] + 1]), "score": repr(rng.random())}
    if style % 3:
        values["image_id"] = json.dumps(rng.choice(["a", "b.png", "x", "2"]))
    if style == 2:
        values |= {"category_id": "14", "bbox": rng.choice(["[0, 0, 1, 1]", "[0.0, 0.0, 1.0, 1.0]"])}
    if style == 3:
        values |= {"text_id": json.dumps(rng.choice(["p", "q"])), "label_set": '"VinBigData"'}
    return values


def files(rng):
    """Files of a few entries, most of them with something odd."""
    for number in range(300):
        entries = [entry(rng, number % 4) for _ in range(rng.randint(1, 6))]
        for _ in range(rng.choice([0, 1, 1, 1, 2])):
            changed, key = rng.choice(entries), rng.choice(KEYS)
            if rng.random() < 0.15:
                changed.pop(key, None)
            else:
                changed[key] = rng.choice(ODD)
        texts = ["{" + ", ".join(f'"{key}": {value}' for key, value in of.items()) + "}" for of in entries]
        if rng.random() < 0.1:
            texts[0] = rng.choice([*ODD, texts[0].replace("{", '{"more": "x", ', 1), texts[0].replace(
                "{", '{"score": 2, ', 1), texts[0].replace('"score"', '"sc\\u006fre"')])
        yield f"[{', '.join(texts)}]"


def outcome(path, names, labels, label_set):
    """Detections in exact values, or the error."""
    try:
        entries = coco_results.read_entries(path)
        read = coco_results.detections_of_entries(path, entries, None, names, labels, label_set)
        return coco_results.label_set_name(path, entries), [
            (name, of.boxes.tolist(), of.scores.tolist(), of.labels.tolist()) for name, of in read.items()]
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("label_set", [VINBIGDATA, NIH])
def test_columns_give_what_entries_give(tmp_path, monkeypatch, label_set):
    rng, path, plain, refused = random.Random(0), tmp_path / "r.json", 0, 0
    for text in ["[]", "[[]]", "{}", "[1]", "", *files(rng)]:
        path.write_text(text)
        names, labels = rng.choice([None, NAMES]), rng.choice(LABELS)
        plain += read_columns(path) is not None
        ours = outcome(path, names, labels, label_set)
        with monkeypatch.context() as patch:
            patch.setattr(coco_results, "read_columns", lambda path: None)
            assert outcome(path, names, labels, label_set) == ours, text
        refused += isinstance(ours, str)
    assert plain > 80 and 60 < refused < 260  # both ways are taken, and both ends


def test_texts_that_are_left_out_must_be_utf_8(tmp_path):
    (tmp_path / "r.json").write_bytes(
        b'[{"image_id": "a", "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1, "by": "\xff"}]')
    with pytest.raises(InputError, match="r.json: not valid JSON .'utf-8' codec can't decode byte 0xff"):
        coco_results.read_coco_results(tmp_path / "r.json")


def test_the_detections_of_an_image_are_parts_of_the_same_arrays(tmp_path):
    entries = [{"image_id": name, "category_id": 1, "bbox": [1, 2, 3, 4], "score": score}
               for name, score in (("b", 0.5), ("a", 0.25), ("b", 1))]
    (tmp_path / "r.json").write_text(json.dumps(entries))
    read = coco_results.read_coco_results(tmp_path / "r.json")
    assert list(read) == ["b", "a"] and read["b"].scores.tolist() == [0.5, 1]
    assert np.shares_memory(read["a"].boxes.base, read["b"].boxes)
