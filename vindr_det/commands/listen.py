"""A DICOM node that takes chest X-rays, predicts them and sends the answers back, until it is ended.

    vindr-det listen --bundle my.bundle --send PACS@10.0.0.5:104
    vindr-det listen --bundle my.bundle --host 0.0.0.0 --allow MODALITY1 --stow https://pacs/dicom-web
    vindr-det listen --bundle phantom --port -1 --watch incoming --out answers

Images come by C-STORE to --host and --port under the AE title --aet, as files that appear in --watch, or are
fetched from the DICOMweb server --fetch. Each is answered by the objects of vindr-det dicom-out, to every
--send, --stow and --out; what a destination does not take is sent again later, after pauses that grow to five
minutes.

All work lies in --state: an image is safe on the disk before its sender is told of success, and forgotten
when every destination has its answer. The service may be ended at any moment, by SIGTERM or kill -9; started
again, it continues. Each image is answered once, also if it is sent again; an answer that is sent twice,
after a crash, is the same object. No name, number or UID is logged: a hash stands for each image.

It knows no encryption and no login: keep it on an inner network, behind a proxy with TLS, and name those who
may call by --allow. Research and teaching only, as each object says.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli
from vindr_det.commands.dicom_out import add_answer_options


def main(argv: Sequence[str] | None = None) -> int:
    run(parse(argv))
    return 0


def parse(argv: Sequence[str] | None = None) -> Namespace:
    """The options of the command line."""
    return _parser().parse_args(argv)


def run(args: Namespace) -> None:
    """Serve until the process is told to end.

    Raises:
        InputError: bad input, a missing library, no destination, or an address that is taken.
    """
    from vindr_det.pacs.answer import Algorithm, require_score
    from vindr_det.pacs.libraries import require_libraries

    require_score(args.score)
    _require_options(args)
    require_libraries("highdicom", "pynetdicom", *(["dicomweb_client"] if args.stow or args.fetch else []))
    from vindr_det.bundle.read import open_bundle
    from vindr_det.pacs.predicting import Answering
    from vindr_det.pacs.queue import Queue
    from vindr_det.pacs.receiving import Limits, start_listener
    from vindr_det.pacs.sending import Folder
    from vindr_det.pacs.service import serve, silence_libraries
    from vindr_det.parallel import start_early

    destinations, opened = _destinations(args), open_bundle(args.bundle)
    silence_libraries()
    start_early()
    bundle = opened.load(args.device)
    queue = Queue(args.state)
    answering = Answering(bundle.models, Algorithm(Path(args.bundle).stem, bundle.digest[:16]), args.score,
                          args.kinds, args.max_pixels)
    limits = Limits(args.max_associations, args.max_megabytes, args.allow, args.timeout)

    def start(added):
        listener = start_listener(queue, args.host, args.port, args.aet, limits, added)
        print(f"listening at {args.host}:{listener.port} as {args.aet}", flush=True)
        return listener

    serve(queue, answering, [*destinations, *map(Folder, args.out)], _sources(args, queue),
          start if args.port >= 0 else None)


def _destinations(args: Namespace):
    """Nodes and servers; nothing is made or asked yet."""
    from vindr_det.pacs.fetching import web_client
    from vindr_det.pacs.sending import Node, Web

    for url in args.fetch:
        web_client("--fetch", url, args.timeout)
    return [*(Node(address, args.aet, args.timeout) for address in args.send),
            *(Web(url, args.timeout) for url in args.stow)]


def _sources(args: Namespace, queue):
    """Where images come from, beside the listener."""
    from vindr_det.pacs.fetching import WebSource
    from vindr_det.pacs.watching import Watcher

    return [*(Watcher(folder, queue, args.max_megabytes) for folder in args.watch),
            *(WebSource(url, queue, args.fetch_days, args.max_megabytes, args.timeout) for url in args.fetch)]


def _require_options(args: Namespace) -> None:
    from vindr_det.exceptions import InputError

    if not (args.send or args.stow or args.out):
        raise InputError("no destination is given, expected --send, --stow or --out")
    for folder in args.watch:
        if not Path(folder).is_dir():
            raise InputError(f"--watch {folder}: no such folder")
    for name in ("aet", "allow"):
        for title in [args.aet] if name == "aet" else args.allow:
            if not (0 < len(title.strip()) <= 16 and title.isascii() and title.isprintable()):
                raise InputError(f"--{name} {title!r}: expected an AE title of 1 to 16 letters")
    if not -1 <= args.port < 2**16:
        raise InputError(f"--port {args.port}: expected 0 to 65535, or -1 for no listener")
    for name in ("max_associations", "max_megabytes", "timeout", "fetch_days"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} {getattr(args, name)}: expected 1 or more")


def _parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("--bundle", required=True, help="what predicts: of vindr-det bundle, "
                        "hf://user/repo, or phantom")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 is all of this "
                        "machine's")
    parser.add_argument("--port", type=int, default=11112,
                        help="of it; 0 takes a free one, -1 listens nowhere")
    parser.add_argument("--aet", default="VINDR_DET", help="AE title that is called, and that calls")
    parser.add_argument("--allow", nargs="+", default=[], metavar="AET",
                        help="AE titles that may call; all if not given")
    parser.add_argument("--watch", nargs="+", default=[], metavar="DIR",
                        help="answer the files that appear in these folders too")
    parser.add_argument("--fetch", nargs="+", default=[], metavar="URL",
                        help="answer the radiographs of these DICOMweb servers too")
    parser.add_argument("--fetch-days", type=int, default=2, metavar="DAYS",
                        help="of studies of the last days, today included")
    parser.add_argument("--send", nargs="+", default=[], metavar="AET@HOST:PORT",
                        help="DICOM nodes that get the answers")
    parser.add_argument("--stow", nargs="+", default=[], metavar="URL", help="DICOMweb servers that get them")
    parser.add_argument("--out", nargs="+", default=[], metavar="DIR", help="folders that get them")
    parser.add_argument("--state", default="listener", help="folder of the work; of one service alone")
    add_answer_options(parser)
    cli.add_device(parser, "where the networks run")
    parser.add_argument("--max-pixels", type=int, default=cli.MAX_PIXELS,
                        help="answer that larger images were not read")
    parser.add_argument("--max-megabytes", type=int, default=256, help="refuse larger files")
    parser.add_argument("--max-associations", type=int, default=10, help="peers at a time")
    parser.add_argument("--timeout", type=int, default=60, metavar="SECONDS",
                        help="how long a peer may be silent")
    return parser
