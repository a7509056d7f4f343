"""The formats that ``vindr-det convert`` reads, and the options of each."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import Any

from vindr_det import cli

_PATHS = ("annotations", "val_annotations", "test_annotations", "labels", "test_labels", "ids", "lists_dir",
          "meta", "images", "patients")
_META = {"nargs": "+", "help": "tables of the original sizes (image_id,dim0,dim1)"}
_IMAGES = "folder of the images, also in its subfolders, in which each must exist"
_READERS: Mapping[str, dict[str, Any]] = {
    "fusion": {"default": "wbf", "choices": ["wbf", "nms", "none"],
               "help": "how readers' boxes become a consensus; none keeps them all"},
    "iou-thr": {"type": float, "default": 0.4,
                "help": "boxes of one class with a higher IoU are the same finding"},
    "min-readers": {"type": int, "default": 1, "help": "readers that must agree on a box"},
    "label-sets": {"action": "store_true",
                   "help": "also training sets of boxes that at least 2, 3 readers drew"},
    "reader-groups": {"nargs": "*", "metavar": "READER",
                      "help": "hold out images that none of these readers read, for a second validation; "
                      "without names: R8 R9 R10"},
}
_PATIENTS = {"help": "table of image_id,patient_id: patients share a fold"}
_WORKERS = {"workers": {"type": cli.process_count,
                        "help": "processes that read headers; one per core if not given"}}
_VINDR: Mapping[str, dict[str, Any]] = {
    "annotations": {"help": "annotations_train.csv"},
    "test-annotations": {"help": "annotations_test.csv"},
    "labels": {"help": "image_labels_train.csv"}, "test-labels": {"help": "image_labels_test.csv"},
    "meta": _META, "images": {"help": f"{_IMAGES}; without --meta the DICOM files"}, "patients": _PATIENTS}
_NIH_LABELS = {"required": True, "help": "Data_Entry_2017*.csv (also .gz)"}
#: Format -> what it is, and its options beside those that all have.
FORMATS: Mapping[str, tuple[str, Mapping[str, dict[str, Any]]]] = {
    "vinbigdata": ("VinBigData's train.csv: readers' boxes to a consensus", {
        "annotations": {"required": True, "help": "train.csv (also .gz)"},
        "meta": {"required": True, "help": "image_id,dim0,dim1 of the originals"},
        "images": {"help": "folder in which each image must exist"}, "patients": _PATIENTS, **_READERS}),
    "nih": ("NIH ChestX-ray14's labels and lists of images, for the classifier", {
        "labels": _NIH_LABELS, "annotations": {"help": "BBox_List_2017.csv"},
        "lists": {"choices": ["cadlab", "chexnet"], "help": "cadlab: normal/abnormal; chexnet: 14 labels"},
        "lists-dir": {"help": "folder with the train, val and test lists"}}),
    "nih-boxes": ("NIH ChestX-ray14's boxes, with findings that are unknown where they have no box", {
        "annotations": {"required": True, "help": "BBox_List_2017.csv"}, "labels": _NIH_LABELS,
        "ids": {"help": "list of the images to take; those with boxes and the negatives if not given"},
        "images": {"help": _IMAGES}}),
    "vindr-cxr": ("VinDr-CXR on PhysioNet: 22 findings, training and test part",
                  {**_VINDR, **_READERS, **_WORKERS}),
    "vindr-pcxr": ("VinDr-PCXR on PhysioNet, of children: 36 findings", {**_VINDR, **_READERS, **_WORKERS}),
    "chestx-det": ("ChestX-Det, or ChestX-Det10, by whether its lists have polygons", {
        "annotations": {"required": True, "help": "ChestX_Det_train.json, or train.json of ChestX-Det10"},
        "test-annotations": {"help": "ChestX_Det_test.json, or test.json"}, "images": {"help": _IMAGES},
        "patients": _PATIENTS}),
    "rsna": ("RSNA's pneumonia detection challenge: lung opacity", {
        "annotations": {"required": True, "help": "stage_2_train_labels.csv"},
        "labels": {"help": "stage_2_detailed_class_info.csv"}, "images": {"help": _IMAGES},
        "patients": _PATIENTS}),
    "siim-covid": ("SIIM-FISABIO-RSNA COVID-19 detection challenge: opacity", {
        "annotations": {"required": True, "help": "train_image_level.csv"},
        "labels": {"help": "train_study_level.csv; without it no image is known to be normal"}, "meta": _META,
        "images": {"help": f"{_IMAGES}; without --meta the DICOM files"}, **_WORKERS}),
    "coco": ("COCO files of any data set", {
        "annotations": {"required": True, "help": "COCO .json of all images, or of the training part"},
        "val-annotations": {"help": "COCO .json of the validation part"},
        "test-annotations": {"help": "COCO .json of the test part"}, "images": {"help": _IMAGES},
        "patients": {"help": f"{_PATIENTS['help']}; the images' key patient if not given"}}),
    "yolo": ("YOLO's folders", {
        "annotations": {"required": True, "help": "data.yaml, or a folder with data.yaml or classes.txt"},
        "meta": _META, "images": {"help": "folder of the images where there is no data.yaml and no images/"},
        "patients": {"help": f"{_PATIENTS['help']}; column patient of meta.csv if not given"}, **_WORKERS}),
}
#: Formats whose boxes are on all images.
_TO_YOLO = tuple(name for name in FORMATS if name != "nih")


def add_options(parser: ArgumentParser, name: str) -> None:
    """Add the options of a format to a tool's parser.

    Args:
        parser: of the tool, or of its subcommand.
        name: a key of :data:`FORMATS`.
    """
    for option, settings in FORMATS[name][1].items():
        # The alias is NIH's name for its table, which the format has always had.
        alias = ["--boxes"] if (name, option) == ("nih", "annotations") else []
        parser.add_argument(f"--{option}", *alias, **settings)
    parser.add_argument("--out", required=True, help="folder to create")
    parser.add_argument("--folds", type=int, default=5, help="number of folds")
    cli.add_seed(parser, what="of the folds")
    if name in _TO_YOLO:
        parser.add_argument("--to", default="coco", choices=["coco", "yolo"], help="files to write")
        parser.add_argument("--copy", action="store_true",
                            help="with --to yolo copies of the images of --images, not links")
    parser.set_defaults(format=name)


def convert_by_options(args: Namespace) -> str:
    """Convert what the options of a format say; returns a summary.

    Raises:
        InputError: as :func:`vindr_det.data.convert.convert`.
    """
    from vindr_det.data.convert import convert
    from vindr_det.data.release import Conversion
    from vindr_det.data.vinbigdata import FREQUENT_READERS

    given = {name: value for name, value in vars(args).items() if name not in ("format", "out")}
    paths = {name: given.pop(name) for name in _PATHS if name in given}
    groups = given.pop("reader_groups", None)
    frequent = () if groups is None else tuple(groups) or FREQUENT_READERS
    return convert(args.format, args.out, Conversion(**given, frequent=frequent), **paths)
