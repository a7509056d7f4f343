"""Images travel as one gray channel of bytes, and models see what three float channels would show them."""

import copy
import itertools

import numpy as np
import pytest
import torch
from conftest import DEMO, ROOT, TINY, network_of
from test_config import SMALL

from vindr_det.data.splits import training_records, validation_records
from vindr_det.detection.loading import load_config
from vindr_det.detection.pictures import draw_validation
from vindr_det.detection.samples import Pixels, to_rgb, to_tensor
from vindr_det.exceptions import InputError
from vindr_det.imaging.packed import pack, write_packed

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
    """GeneralizedRCNN as it is, drawing each training step (VIS_PERIOD), which takes three channels."""
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
        model, mapper = build_model(cfg), VindrMapper(cfg, is_train=False, keep_truth=True)
        image = mapper(*to_dicts([item]))
        assert image["image"].shape[0] == channels and image["image"].dtype == torch.uint8
        with EventStorage() as storage:
            losses.append({name: value.item() for name, value in model([image]).items()})
            assert bool(storage._vis_data) == bool(period)
    assert losses[0] == losses[1]
    cfg.VIS_PERIOD = 0
    assert VindrMapper(cfg, is_train=False, channels=3)(*to_dicts([item]))["image"].shape[0] == 3



def packed_config(engine, phantoms, tmp_path, *more):
    images = phantoms / "data/train"
    ids = sorted(path.stem for path in images.glob("*.png"))
    pack(images, ids, tmp_path / "packed.npy")
    return load_config(DEMO, engine, [
        *TINY, "VINDR.DATA_ROOT", str(phantoms / "data"), "OUTPUT_DIR", str(tmp_path), *more])


def loaded(engine, cfg):
    """Two batches of a training, and the validation's, as lists of image id, image and boxes."""
    if engine == "detectron2":
        from vindr_det.detection.detectron2 import VindrTrainer

        loaders = VindrTrainer.build_train_loader(cfg), VindrTrainer.build_loss_loader(cfg)
        return [(d["image_id"], d["image"], d["instances"].gt_boxes.tensor)
                for loader, count in zip(loaders, (2, None), strict=True)
                for batch in itertools.islice(loader, count) for d in batch]
    from vindr_det.detection.torchvision.data import train_loader, validation_loader

    return [(image_id, image, target["boxes"])
            for loader, count in ((train_loader(cfg, 0, 1, 0), 2), (validation_loader(cfg, 0, 1), None))
            for batch in itertools.islice(loader, count)
            for image, target, image_id in zip(*batch, strict=True)]


def test_a_packed_file_gives_the_images_of_the_files(engine, phantoms, tmp_path):
    """Of different sizes, augmented too, and drawn in the pictures of a validation; the files may be gone."""
    cfg = packed_config(engine, phantoms, tmp_path)
    expected = loaded(engine, cfg)
    sheet = draw_validation(cfg, {})
    cfg.VINDR.IMAGE_ROOT, cfg.VINDR.PACKED = str(tmp_path / "none"), str(tmp_path / "packed.npy")
    cfg.DATALOADER.NUM_WORKERS = 1
    packed = loaded(engine, cfg)
    assert len({image.shape for _, image, _ in expected}) > 1 and len(expected) >= 6
    for (name, image, boxes), (other, same, theirs) in zip(expected, packed, strict=True):
        assert name == other and torch.equal(image, same) and torch.equal(boxes, theirs)
    assert np.array_equal(draw_validation(cfg, {}), sheet)


@pytest.mark.parametrize("ids, message", [
    (None, "no such file"), (1, r"packed.npy: has no image \w+, but .*instances_val_fold0.json names it"),
])
def test_a_packed_file_that_lacks_images(ids, message, phantoms, tmp_path):
    cfg = packed_config("torchvision", phantoms, tmp_path, "VINDR.PACKED", str(tmp_path / "packed.npy"))
    (tmp_path / "packed.npy").unlink()
    if ids:
        pack(phantoms / "data/train", [min(phantoms.glob("data/train/*.png")).stem], tmp_path / "packed.npy")
    with pytest.raises(InputError, match=message):
        validation_records(cfg)


def test_an_image_of_a_packed_file_is_the_callers_own(phantoms, tmp_path):
    packed_config("torchvision", phantoms, tmp_path)
    path = min(phantoms.glob("data/train/*.png"))
    image = Pixels(tmp_path / "packed.npy")(path)
    image[:] = 0
    assert Pixels(tmp_path / "packed.npy")(path).any()
    with pytest.raises(InputError, match="has no image other, expected that of .*other.png"):
        Pixels(tmp_path / "packed.npy")(tmp_path / "other.png")


@pytest.mark.parametrize("file, original, message", [
    ("1.2.840", (300, 200), None), ("1.2.840.png", (31, 20), None), ("1.2.840", None, None),
    ("1.2.840", (200, 300), "its image 1.2.840 has 20 x 30 pixels, expected .* 300 x 200; pack again"),
    ("1.2.999", (300, 200), "has no image 1.2.999"),
])
def test_the_image_of_an_id_with_dots_and_one_of_another_shape(file, original, message, tmp_path):
    write_packed(tmp_path / "p.npy", ["1.2", "1.2.840"], np.ones((2, 30, 20), np.uint8), [(30, 20)] * 2)
    pixels = Pixels(tmp_path / "p.npy")
    if message is None:
        assert pixels(tmp_path / file, original).shape == (30, 20)
    else:
        with pytest.raises(InputError, match=message):
            pixels(tmp_path / file, original)
