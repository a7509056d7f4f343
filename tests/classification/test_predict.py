"""A run of the classifier over a folder: batches, and rows that are written while they come."""

from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from vindr_det.classification import predict
from vindr_det.classification.predict import classify, classify_each, write
from vindr_det.imaging import image_run
from vindr_det.imaging.resize import Target
from vindr_det.imaging.status import FAILED, status_text

THRESHOLDS = {"p_abnormal": 0.5}


@pytest.fixture
def folder(tmp_path):
    """Eight images, of which 2.png is damaged and 5.png is one that the networks fail on."""
    (tmp_path / "images").mkdir()
    for number in range(8):
        image = np.random.default_rng(number).integers(0, 255, (64, 64), dtype=np.uint8)
        image[0] = 255 if number == 5 else image[0]
        cv2.imwrite(str(tmp_path / f"images/{number}.png"), image)
    (tmp_path / "images/2.png").write_bytes(b"nothing")
    return tmp_path / "images"


def stand_in(sizes: list[int]):
    """A classifier whose P is a mean of the image's pixels."""
    def probabilities(images):
        sizes.append(len(images))
        if any((image[0] == 255).all() for image in images):
            raise RuntimeError("too bright")
        return np.array([[image.mean() / 255, image.std() / 255] for image in images])

    return SimpleNamespace(target=Target(64, False), columns=("p_abnormal", "p_mass"), calibrations={},
                           probabilities=probabilities)


@pytest.mark.parametrize("batch, sizes", [(1, [1] * 7), (3, [2, 3, 1, 1, 1, 2]), (99, [7] + [1] * 7)])
def test_rows_are_the_same_at_every_batch_and_when_streamed(folder, tmp_path, monkeypatch, batch, sizes):
    monkeypatch.setattr(predict, "_AT_ONCE", 3)
    run, seen, out, table = image_run.find(folder), [], tmp_path / "p.csv", tmp_path / "p.status.csv"
    written = write(out, table, classify_each(stand_in(seen), run, THRESHOLDS, 0, batch))
    assert seen == sizes
    rows, statuses = classify(stand_in([]), run, THRESHOLDS, 0)
    assert out.read_text() == rows.to_csv(index=False, lineterminator="\n")
    assert table.read_text() == status_text(statuses)
    assert list(pd.read_csv(out)["image_id"]) == [0, 1, 3, 4, 6, 7]
    assert (written.images, written.warned) == (6, rows["warnings"].astype(bool).sum())
    reasons = [status.reason for status in written.statuses if status.status == FAILED]
    assert len(reasons) == 2 and reasons[1] == "was read, but not classified: RuntimeError: too bright"


def test_no_row_no_table(folder, tmp_path):
    """A table of an earlier run does not stay beside the statuses of this one."""
    out, table = tmp_path / "p.csv", tmp_path / "p.status.csv"
    out.write_text("of before")
    failed = [status for status in classify(stand_in([]), image_run.find(folder), {}, 0)[1]
              if status.status == FAILED]
    assert write(out, table, ((status, None) for status in failed)).images == 0
    assert not out.exists() and table.read_text() == status_text(failed)


def test_a_run_that_ends_early_leaves_the_table_of_before(folder, tmp_path):
    def outcomes():
        yield from classify_each(stand_in([]), image_run.find(folder), THRESHOLDS, 0)
        raise KeyboardInterrupt

    out = tmp_path / "p.csv"
    out.write_text("of before")
    with pytest.raises(KeyboardInterrupt):
        write(out, tmp_path / "p.status.csv", outcomes())
    assert out.read_text() == "of before" and not (tmp_path / "p.status.csv").exists()
