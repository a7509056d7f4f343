#!/usr/bin/env python
"""Bring DICOM, PNG or JPEG files to 8-bit gray PNG, with their original sizes and a QC report.

    python tools/prepare_images.py --images raw/train --out datasets/vindr/train --size 1024 --keep-aspect

Writes <image_id>.png, meta.csv (image_id,dim0,dim1 of the originals) and qc.csv (a row per input).
A file that cannot be decoded is reported and never stops the others; --strict then exits 1.
"""

from collections.abc import Sequence

from vindr_det import cli


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--images", required=True, help="folder of DICOM, PNG or JPEG files")
    parser.add_argument("--out", required=True, help="folder to create")
    parser.add_argument("--size", type=int, default=1024, help="longest side (or side) in pixels")
    parser.add_argument("--keep-aspect", action="store_true", help="keep the ratio of the sides")
    parser.add_argument("--workers", type=int, help="processes; default: one a core")
    parser.add_argument("--resume", action="store_true", help="keep what an earlier run finished")
    parser.add_argument("--strict", action="store_true", help="exit 1 if any file failed")
    args = parser.parse_args(argv)

    from vindr_det.prepare import Settings, prepare_folder

    settings = Settings(args.size, args.keep_aspect)
    table = prepare_folder(args.images, args.out, settings, args.workers, args.resume)
    failed = table[table["status"] != "ok"]
    for reason in failed["reason"]:
        print(f"failed: {reason}")
    print(f"{len(table) - len(failed)} images prepared, {len(failed)} failed; see {args.out}/qc.csv")
    return 1 if args.strict and len(failed) else 0


if __name__ == "__main__":
    cli.run(main)
