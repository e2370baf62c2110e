"""Writes what a network looks at as volumes that open over the image in any viewer."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from commands.options import CommandParser
from errors import InputError

_BATCH_SIZE = 16
# The names that robustness knows, said here because it takes seconds to import.
METHODS = (
    *("gradient", "gradient_x_input", "smoothgrad", "integrated_gradients", "deeplift"),
    *("guided_backprop", "grad_cam", "guided_grad_cam", "occlusion", "lime"),
)
EXPLAINED = ("all", "predicted", "truth", "frozen", "margin")
LOSSES = ("bce", "balanced_bce", "soft_dice", "masked_bce", "js", "training_loss")
PIXEL = "pixel"


def main(arguments: Sequence[str]) -> int:
    """Write attribution maps of whole cases.

    Args:
        arguments: What stands after ``explain`` on the command line.

    Returns:
        Exit status 0.

    Raises:
        InputError: If an option, the checkpoint or the data are not as expected, if a method
            cannot work with the network, or if a file cannot be written.
    """
    options = _parser().parse_args(arguments)
    _check(options)
    # Imported late, so that --help and wrong options answer at once.
    from commands.map_volumes import Explanation, default_folder, find_methods, write_maps  # noqa: PLC0415
    from commands.quiet import quiet_libraries  # noqa: PLC0415
    from commands.stored_networks import find_checkpoint, find_device, load_checkpoint  # noqa: PLC0415

    quiet_libraries()
    methods = find_methods(options.method, options.layer)
    pixel = None if options.pixel is None else tuple(options.pixel)
    value = options.value or "probability"
    asked = Explanation(options.explained, value, pixel, options.class_name)
    checkpoint = options.ckpt_path or find_checkpoint(options.run)
    restored = load_checkpoint(checkpoint, find_device(options.device), options.root)
    return write_maps(
        restored,
        options.case,
        methods,
        asked,
        options.output or default_folder(restored),
        seed=options.seed,
        batch_size=options.batch_size,
    )


def _check(options: Namespace) -> None:
    if (options.run is None) == (options.ckpt_path is None):
        found = "none of them" if options.run is None else "both"
        msg = f"explain: found {found}, expected --run or --ckpt_path; give the one or the other"
        raise InputError(msg)
    if (options.explained == PIXEL) != (options.pixel is not None):
        found = "no --pixel" if options.pixel is None else f"--explained {options.explained}"
        msg = (
            f"explain: found {found}, expected --explained {PIXEL} and --pixel together; "
            "add the other, or leave both out"
        )
        raise InputError(msg)
    if options.class_name is not None and options.pixel is None:
        msg = (
            f"--class: found {options.class_name} without --pixel, expected it for one pixel "
            "alone; leave it out, all classes are summed over"
        )
        raise InputError(msg)
    if options.value is not None and options.explained in LOSSES:
        msg = (
            f"--value: found {options.value} with --explained {options.explained}, expected it for "
            "sums and pixels alone; leave it out"
        )
        raise InputError(msg)
    if options.batch_size < 1:
        msg = f"--batch_size: found {options.batch_size}, expected 1 or more; raise it"
        raise InputError(msg)


def _parser() -> CommandParser:
    parser = CommandParser(
        "explain",
        "Write what a network looks at in whole cases: a map for each case and method, as NIfTI on "
        "the voxels of the case's image, so that it opens over the image in any viewer, and a "
        "JSON file beside it that says how it was made. Files of an earlier call are replaced.",
        "A map says how much each voxel adds to what is explained, slice by slice: the network "
        "sees one slice at a time, and with --data.neighbours the frames beside it as further "
        "channels: the map's fourth axis has them at the place of the slice that they were seen "
        "with, and the JSON file their names. Whether a method can be believed on a network is "
        "another question: what the run's checks said of it stands with the map, or that there "
        "were none.",
    )
    what = parser.add_argument_group("which network, one of")
    what.add_argument("--run", help="id of a run, or its first letters: its last epoch")
    what.add_argument("--ckpt_path", type=Path, help="checkpoint of a run, such as a best.ckpt")
    parser.add_argument(
        "--case",
        required=True,
        action="append",
        help="name of a case, of any split; can be given several times",
    )
    parser.add_argument(
        "--method",
        required=True,
        nargs="+",
        help=f"one or several of {', '.join(METHODS)}; or all, which leaves out with a line what "
        "cannot work with the network",
    )
    parser.add_argument(
        "--explained",
        default="all",
        metavar="WHAT",
        choices=(*EXPLAINED, *LOSSES, PIXEL),
        help="what is summed over: all pixels, the predicted mask (which moves with the image), "
        "the truth, or the frozen prediction on the clean image; margin: what is inside "
        "that frozen prediction minus what is outside; pixel: nothing, one pixel alone; or a loss: "
        f"{', '.join(LOSSES)} (default: %(default)s)",
    )
    parser.add_argument(
        "--value",
        choices=("probability", "logit"),
        help="what is summed, but for losses: gradients of the probability fade where the network "
        "is sure, those of the logit do not (default: probability)",
    )
    parser.add_argument(
        "--pixel",
        type=int,
        nargs=3,
        metavar=("ROW", "COLUMN", "SLICE"),
        help="with --explained pixel: its place in voxels of the volume, from 0, as viewers count "
        "them along the first, second and third axis; the map is 0 outside of its slice",
    )
    parser.add_argument(
        "--class",
        dest="class_name",
        metavar="NAME",
        help="with --explained pixel: which class (needed where there are several)",
    )
    parser.add_argument(
        "--layer",
        help="for grad_cam and guided_grad_cam: name of a module, such as network.encoder.1 "
        "(default: the last module of the lowest resolution)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for the files (default: explained/<first 8 letters of the run's id> beside "
        "the store)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of random numbers (default: 0)")
    parser.add_argument(
        "--root", type=Path, help="folder of the tasks' folders, if not that of the training"
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: %(default)s)"
    )
    parser.add_argument(
        "--batch_size",
        type=int,
        default=_BATCH_SIZE,
        help="most slices that go through the network at once (default: %(default)s)",
    )
    return parser
