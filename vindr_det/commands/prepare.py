"""Bring DICOM, PNG or JPEG files to 8-bit gray PNG, with their original sizes and a QC report.

    vindr-det prepare --images raw/train --out datasets/vindr/train --size 1024 --keep-aspect

Writes <image_id>.png, meta.csv (image_id,dim0,dim1 of the originals) and qc.csv (one row per input:
ok, flagged or failed, with the reason). A file that cannot be decoded never stops the others; docs/inputs.md
lists every case. After an interruption, the same command with --resume continues.
Exit status: 0; 1 with --strict if a file failed; 2 if all of them did.
"""

from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--images", required=True, help="folder of DICOM, PNG or JPEG files, or one file")
    parser.add_argument("--out", required=True, help="folder to create")
    cli.add_input_options(parser, workers="processes; one per core if not given")
    parser.add_argument("--size", type=int, default=1024, help="longest side (or side) in pixels")
    parser.add_argument("--keep-aspect", action="store_true",
                        help="keep the ratio of the sides; without it images become square")
    parser.add_argument("--resume", action="store_true", help="keep what an earlier run finished")
    parser.add_argument("--strict", action="store_true", help="exit 1 if any file failed")
    parser.add_argument("--pack", action="store_true",
                        help="also write packed.npy: all images in one memory-mapped file, for VINDR.PACKED "
                             "and DATA.PACKED")
    parser.add_argument("--dask", metavar="ADDRESS", help="run on the Dask cluster of this scheduler")
    args = parser.parse_args(argv)

    from vindr_det import dask_cluster
    from vindr_det.exceptions import InputError
    from vindr_det.imaging import packed
    from vindr_det.imaging.prepare import FAILED, prepare_folder, summary
    from vindr_det.imaging.resize import Target

    runner = dask_cluster.dask_runner(args.dask) if args.dask else None
    table = prepare_folder(args.images, args.out, Target(args.size, args.keep_aspect), args.workers,
                           args.resume, runner, args.recursive, args.max_pixels)
    good = table.loc[table["status"] != FAILED, "image_id"].tolist()
    print(summary(table))
    if not good:
        raise InputError(f"none of {len(table)} images can be read; {args.out}/qc.csv has the reasons")
    if args.pack:
        packed.pack(args.out, good, f"{args.out}/{packed.FILE_NAME}")
    print(f"{len(good)} images in {args.out}; its qc.csv has a row for each input")
    _say_next(Path(args.images), Path(args.out))
    return 1 if args.strict and len(good) < len(table) else 0


def _say_next(images: Path, out: Path) -> None:
    """To convert the table beside the images, such as train.csv of train/; without one, to predict them."""
    tables = [path for path in (images.with_name(images.name + end) for end in (".csv", ".csv.gz"))
              if path.is_file()]
    meta = out / "meta.csv"
    if tables:
        cli.say_next("convert", "vinbigdata", "--annotations", tables[0], "--meta", meta, "--images", out,
                     "--out", out.parent / "annotations")
    else:
        cli.say_next("predict", "--weights", "MODEL.pth", "--images", out, "--meta", meta, "--out",
                     "submission.csv")
