"""hotcoco against pycocotools, to the bit: also what our own files never have, such as crowds."""

import contextlib
import io

import hotcoco
import numpy as np
import pytest
from pycocotools import coco as pycoco
from pycocotools import cocoeval

THRESHOLDS = (np.array([0.4, *np.linspace(0.5, 0.95, 10)]), np.linspace(0.5, 0.95, 10),
              np.linspace(0.4, 0.95, 12))
LIMITS = ([100], [1, 10, 100], [1, 5, 300])
AREAS = ([[0, 1e10]], [[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]],
         [[0, 60], [60, 250], [250, 1010]])


def random_case(rng):
    """Truth and results: odd ids, crowds, areas that are not the box's, ties, images and classes without any.

    Half of the cases lie on a coarse grid, where equal overlaps abound.
    """
    categories = rng.choice(50, rng.integers(1, 6), replace=False).tolist()
    images = (1 + rng.choice(1000, rng.integers(1, 9), replace=False)).tolist()
    grid, ties = rng.random(2) < 0.5

    def boxes(count):
        if grid:
            return 4.0 * np.column_stack([rng.integers(0, 6, (count, 2)), rng.integers(1, 5, (count, 2))])
        return np.column_stack([rng.uniform(0, 200, (count, 2)), np.exp(rng.uniform(0, 5.5, (count, 2)))])

    truth, results = [], [np.zeros((0, 7))]
    for image in images:
        own = boxes(rng.choice([0, 1, 3, 8]))
        for box in own.tolist():
            truth.append({"id": len(truth) + 1, "image_id": image, "category_id": int(rng.choice(categories)),
                          "bbox": box, "area": box[2] * box[3] * float(rng.choice([1, 0.5])),
                          "iscrowd": int(rng.random() < 0.15)})
        detected = boxes(rng.choice([0, 2, 10, 60, 250]))
        count = len(detected)
        if len(own):
            near = own[rng.integers(0, len(own), count // 2)]
            detected[:len(near)] = near if grid else near * rng.uniform(0.8, 1.2, near.shape)
        scores = rng.integers(0, 5, count) / 5 if ties else rng.random(count)
        labels = rng.choice(categories, count)
        results.append(np.column_stack([np.full(count, image), detected, scores, labels]))
    dataset = {"images": [{"id": image, "width": 300, "height": 300} for image in images],
               "categories": [{"id": category, "name": str(category)} for category in categories],
               "annotations": truth}
    return dataset, rng.permutation(np.concatenate(results))


def curves(evaluation, thresholds, limits, areas, by_class):
    params = evaluation.params
    params.iouThrs, params.maxDets, params.areaRng = thresholds, limits, areas
    params.areaRngLbl, params.useCats = [str(at) for at in range(len(areas))], by_class
    evaluation.evaluate()
    evaluation.accumulate()
    return {key: evaluation.eval[key] for key in ("precision", "recall", "scores")}


def by_pycocotools(dataset, results, *settings):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = pycoco.COCO()
        truth.dataset = dataset
        truth.createIndex()
        return curves(cocoeval.COCOeval(truth, truth.loadRes(results), "bbox"), *settings)


def by_hotcoco(dataset, results, *settings):
    boxes = dataset["annotations"]
    columns = [np.array([box[key] for box in boxes], dtype=kind) for key, kind in (
        ("image_id", int), ("category_id", int), ("bbox", float), ("area", float), ("iscrowd", int))]
    truth = hotcoco.COCO.from_arrays(dataset["images"], dataset["categories"], *columns[:2],
                                     columns[2].reshape(-1, 4), area=columns[3], iscrowd=columns[4])
    return curves(hotcoco.COCOeval(truth, truth.load_res(results), "bbox"), *settings)


@pytest.mark.parametrize("seed", range(100))
def test_the_curves_of_both_are_equal_to_the_bit(seed):
    rng = np.random.default_rng(seed)
    dataset, results = random_case(rng)
    settings = (THRESHOLDS[seed % 3], LIMITS[seed // 3 % 3], AREAS[seed // 9 % 3], seed % 5 > 0)
    ours = by_hotcoco(dataset, results, *settings)
    if not len(results):  # which pycocotools refuses: a box far from everything changes nothing
        results = np.array([[dataset["images"][0]["id"], -9, -9, 1, 1, 0, dataset["categories"][0]["id"]]])
    for key, values in by_pycocotools(dataset, results, *settings).items():
        assert np.array_equal(ours[key], values), key
