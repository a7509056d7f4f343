"""A web page for the models of a bundle, on this machine: drop an image, see boxes, probabilities and maps.

    vindr-det serve --bundle phantom
    vindr-det serve --bundle my_bundle.zip --port 8080 --device cuda

For research; not a medical device. The page's address is printed; POST /predict answers programs with JSON,
/docs describes all of it. Nothing is kept: an upload is never in a named file, and names of files and
identifiers of patients are neither shown nor logged. There is no login, so that the service listens on this
machine alone, unless --host is another address. An image that was not read is an error, never a normal one.
"""

from collections.abc import Sequence

from vindr_det import cli
from vindr_det.limits import MAX_PIXELS


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--bundle", required=True, help="a folder, a .zip file, hf://user/repo, or the name "
                        "of a bundle that ships with the package")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; others than this "
                        "machine's own can be reached by other machines")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    parser.add_argument("--name", nargs="+", default=[], dest="names", metavar="NAME", help="further names "
                        "of this host, by which browsers reach it; requests for other names are refused")
    parser.add_argument("--max-upload", type=int, default=256, metavar="MIB", help="refuse larger uploads")
    parser.add_argument("--upload-seconds", type=float, default=30, help="refuse slower uploads; 1 to 86400")
    parser.add_argument("--queue", type=int, default=32, help="uploads at a time; further ones are told to "
                        "come later")
    parser.add_argument("--max-pixels", type=int, default=MAX_PIXELS,
                        help="refuse images of more pixels, before memory is taken for them")
    parser.add_argument("--read-seconds", type=float, default=20,
                        help="refuse images that take longer to read; 1 to 86400")
    cli.add_device(parser, "where the models run")
    args = parser.parse_args(argv)

    from vindr_det.serve.guards import Limits
    from vindr_det.serve.service import Settings, serve

    limits = Limits(args.max_upload * 2**20, args.upload_seconds, args.queue)
    serve(args.bundle, args.device, Settings(args.host, args.port, args.names, limits, args.max_pixels,
                                            args.read_seconds))
