"""Images travel as one gray channel of bytes, and models see what three float channels would show them."""

import copy

import numpy as np
import pytest
import torch
from conftest import DEMO, ROOT, TINY, network_of
from test_config import SMALL

from vindr_det.data.splits import training_records
from vindr_det.detection.loading import load_config
from vindr_det.detection.samples import SampleReader, to_rgb, to_tensor

CONFIGS = ["vindr_frcnn.yaml", "vindr_mrcnn.yaml", "vindr_retinanet.yaml"]


@pytest.mark.parametrize("image", [
    np.zeros((0, 4), np.uint8), np.arange(12, dtype=np.uint8).reshape(3, 4),
    np.arange(12, dtype=np.uint8).reshape(3, 4)[::-1, ::2],
    np.frombuffer(bytes(range(12)), np.uint8).reshape(3, 4),
])
def test_an_image_as_a_tensor(image):
    """Also one with its rows reversed, and one that must not be written to."""
    tensor = to_tensor(image)
    assert tensor.dtype == torch.uint8 and tensor.shape == (1, *image.shape)
    assert torch.equal(tensor.float().expand(3, -1, -1), torch.from_numpy(to_rgb(image)))


def batch_of(engine, cfg, items):
    """Images with their boxes as the engine's training has them."""
    if engine == "detectron2":
        from vindr_det.detection.detectron2 import VindrMapper, to_dicts

        mapper = VindrMapper(cfg, is_train=False, keep_truth=True)
        return ([mapper(item) for item in to_dicts(items)],)
    from vindr_det.detection.torchvision.data import RecordDataset, collate

    dataset = RecordDataset.from_config(cfg, items, is_train=False)
    return collate([dataset[row] for row in range(len(dataset))])[:2]


def losses_of(engine, network, batch):
    torch.manual_seed(1)
    if engine == "torchvision":
        return network(*batch)
    from detectron2.utils.events import EventStorage

    with EventStorage():
        return network(*batch)


def outputs_of(engine, network, batch):
    """Everything that a network returns, in training and in evaluation, as a flat list of tensors."""
    network = copy.deepcopy(network)  # whose batch norms change
    losses = losses_of(engine, network.train(), batch)
    with torch.no_grad():
        detections = network.eval()(batch[0])
    if engine == "detectron2":
        detections = [output["instances"].get_fields() for output in detections]
        detections = [{"boxes": d["pred_boxes"].tensor, "scores": d["scores"]} for d in detections]
    return [*losses.values(), *(value for d in detections for value in d.values())]


@pytest.mark.parametrize("config", CONFIGS)
def test_equal_to_three_float_channels(engine, config, phantoms):
    """Losses and detections, to the bit."""
    cfg = load_config(ROOT / "configs" / config, engine, [
        *TINY, *SMALL, "VINDR.DATA_ROOT", str(phantoms / "data"), "TEST.DETECTIONS_PER_IMAGE", "20"])
    items = [item for item in training_records(cfg) if not item[0].normal][:2]
    torch.manual_seed(0)
    network, gray = network_of(engine, cfg), batch_of(engine, cfg, items)
    colored = copy.deepcopy(gray)
    if engine == "detectron2":
        for image in colored[0]:
            assert image["image"].dtype == torch.uint8 and image["image"].shape[0] == 1
            image["image"] = torch.from_numpy(to_rgb(image["image"][0].numpy()))
    else:
        assert all(image.dtype == torch.uint8 and image.shape[0] == 1 for image in gray[0])
        colored = ([torch.from_numpy(to_rgb(image[0].numpy())) for image in colored[0]], colored[1])
    ours, theirs = outputs_of(engine, network, gray), outputs_of(engine, network, colored)
    assert len(ours) == len(theirs) > 4
    assert all(torch.equal(own, other) for own, other in zip(ours, theirs, strict=True))


@pytest.mark.detectron2
def test_detectron2s_own_model_and_its_pictures_take_our_mappers_images(phantoms):
    """GeneralizedRCNN as it is, drawing each training step (VIS_PERIOD), for which it needs three channels."""
    from detectron2.modeling import build_model
    from detectron2.utils.events import EventStorage

    from vindr_det.detection.detectron2 import VindrMapper, to_dicts

    cfg = load_config(DEMO, "detectron2", [*TINY, "VINDR.DATA_ROOT", str(phantoms / "data")])
    item = next(item for item in training_records(cfg) if not item[0].normal)
    torch.manual_seed(0)
    losses = []
    for period, channels in ((0, 1), (1, 3)):
        cfg.VIS_PERIOD = period
        torch.manual_seed(0)
        model, image = build_model(cfg), VindrMapper(cfg, is_train=False, keep_truth=True)(*to_dicts([item]))
        assert image["image"].shape[0] == channels and image["image"].dtype == torch.uint8
        with EventStorage() as storage:
            losses.append({name: float(value) for name, value in model([image]).items()})
            assert bool(storage._vis_data) == bool(period)
    assert losses[0] == losses[1]


@pytest.mark.parametrize("flip", ["none", "horizontal"])
def test_an_image_that_is_not_resized_can_be_changed(flip, phantoms):
    """What a reader returns belongs to its caller."""
    path = sorted((phantoms / "data/train").glob("*.png"))[0]
    reader = SampleReader(0, True, None, flip)
    image = reader(path, 100, 100, np.zeros((0, 4)), np.zeros(0, int), seed=1).image
    image[:] = 0
