#!/usr/bin/env python
"""Finds and diagnoses lesions in images: a picture and a line of predictions.jsonl for each image."""

import argparse
import collections
import dataclasses
import json
import os
import sys
from typing import Any, Callable, Dict, List

from PIL import Image
from tqdm import tqdm

from tsdd_d2 import Predictor, load_model
from tsdd_d2.data.files import TEMPORARY, named_errors, read_json, remove_leftovers, replacing, write_json, write_text
from tsdd_d2.engine.run_folder import sha256_of_file
from tsdd_d2.errors import InputError, reports_errors
from tsdd_d2.inference.dicom import WithoutImage, number_of_frames
from tsdd_d2.inference.input_images import find_image_files, picture_name, read_images
from tsdd_d2.inference.model_file import TRAINED
from tsdd_d2.inference.predictor import Prediction
from tsdd_d2.visualization import draw_prediction

LINES = "predictions.jsonl"
# with what the lines were made, so that those of two models do not mix
SETTINGS = "settings.json"

EPILOG = """
Examples:
    $ python tools/predict.py --input scans/a.png
    $ python tools/predict.py --input scans/a.png --json
    $ python tools/predict.py --model model.pth --input scans/a.png --output out
    $ python tools/predict.py --model model.pth --input 'scans/*.png' more_scans --candidates 3 --output out
    $ python tools/predict.py --model model.pth --input study/IM0001 study/IM0002.dcm --output out

A folder is searched, with the folders below it, for images and DICOM files; masks beside their images are left out. Of a
DICOM file each frame is an image, and the model sees the largest two-dimensional ultrasound region that the file states.

Without --output the predictions are printed, in words or, with --json, as lines of JSON for scripts.

Each line of JSON, also of out/predictions.jsonl, has file_name, frame (from 1 on, of a file with several), height, width, region (the
part of the image that the model saw), box (XYXY in pixels of the whole image), malignancy (a probability),
predicted_class (by the model's threshold), candidates (box, score and malignancy, best first) and, in the file alone,
picture (its file, or null with --no-pictures).

After an interruption the same command goes on with --resume: the files of out/predictions.jsonl are not read again, but
for those of which a frame is missing.

A DICOM file that holds no image, such as a report, is left out. A file or frame that cannot be read is reported and left
out; the exit code is then 1. It is 2 for unusable arguments and
where the output cannot be written, and 130 after an interruption.
This is research software and must not be used for diagnosis.
"""


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", metavar="FILE", help="of tools/save_model.py (default: the one of docs/model_card.md)")
    parser.add_argument("--input", required=True, nargs="+", metavar="PATH", help="image files, quoted patterns, or folders")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--output", metavar="DIR", help="a new or empty folder (default: print the predictions)")
    where.add_argument("--json", action="store_true", help="print them as lines of JSON")
    parser.add_argument("--resume", action="store_true", help="go on in a folder where the same command was interrupted")
    parser.add_argument("--candidates", type=_positive, default=1, help="boxes for each image, at most (default 1)")
    parser.add_argument("--batch-size", type=_positive, default=8, help="images in memory at a time (default 8)")
    parser.add_argument("--no-pictures", action="store_true", help="write predictions.jsonl alone")
    parser.add_argument("--device", help="such as cpu or cuda:1 (default: CUDA if there is any)")
    args = parser.parse_args(argv)
    if args.output is None and (args.resume or args.no_pictures):
        parser.error("--resume and --no-pictures need --output")
    if args.output is None:
        return print_predictions(args)
    output = os.path.join(os.path.realpath(args.output), "")
    # the pictures of an interrupted one may lie in the folder of the images
    files = [file for file in find_image_files(args.input) if not os.path.realpath(file).startswith(output)]
    begun = os.path.isfile(os.path.join(args.output, SETTINGS))
    if not (args.resume and begun) and os.path.exists(args.output) and not _is_empty(args.output):
        raise InputError(
            f"--output {args.output} exists and is not an empty folder; name another one"
            f"{', or go on there with --resume' if begun else ''}."
        )
    predictor = predictor_of(args)
    settings = {
        "model_sha256": sha256_of_file(args.model or TRAINED),
        "candidates": args.candidates,
        "pictures": not args.no_pictures,
        # where relative file names start
        "folder": os.getcwd(),
    }
    before = _settings_of(args.output) if begun else settings
    if {**before, "folder": ""} != {**settings, "folder": ""}:
        raise InputError(f"--resume: {args.output} was begun with another model, --candidates or --no-pictures.")
    write_json(os.path.join(args.output, SETTINGS), before)  # first: with it --resume goes on
    remove_leftovers(args.output)
    finished = finished_lines(args.output, before["folder"])
    write_text(os.path.join(args.output, LINES), "".join(map(_line, finished)))
    errors = []
    try:
        predict_files(
            predictor, files, args.output, finished, before["folder"], reporter(errors), pictures=not args.no_pictures
        )
    except KeyboardInterrupt:
        done = len({x["file_name"] for x in finished_lines(args.output, before["folder"])})
        print(f"Interrupted: {done} of {len(files)} files are done; --resume goes on.", file=sys.stderr)
        return 130
    print(f"Predictions are in {args.output}")
    return exit_code(errors, files)


def predictor_of(args) -> Predictor:
    """As the arguments of the command say."""
    return Predictor(
        load_model(args.model, args.device),
        batch_size=args.batch_size,
        candidates=args.candidates,
    )


def print_predictions(args) -> int:
    """A line on the standard output for each image; the exit code."""
    files, errors = find_image_files(args.input), []
    report = reporter(errors)
    for _, prediction in predictor_of(args).predict(read_images(files, on_error=report), on_error=report):
        print(json.dumps(dataclasses.asdict(prediction)) if args.json else _in_words(prediction), flush=True)
    return exit_code(errors, files)


def _in_words(prediction: Prediction) -> str:
    name = prediction.file_name + (f", frame {prediction.frame}" if prediction.frame is not None else "")
    box = "nothing found"
    if prediction.box is not None:
        box = f"box {', '.join(f'{x:.0f}' for x in prediction.box)} with score {prediction.candidates[0].score:.2f}"
    return f"{name}: {prediction.predicted_class}, probability of malignant {prediction.malignancy:.2f}, {box}"


def reporter(errors: List[InputError]) -> Callable[[InputError], None]:
    """A function that prints an error and, unless it is about a file that never held an image, adds it to ``errors``."""

    def report(error: InputError) -> None:
        if isinstance(error, WithoutImage):
            tqdm.write(f"left out: {error}", file=sys.stderr)
            return
        errors.append(error)
        tqdm.write(f"error: {error}", file=sys.stderr)

    return report


def exit_code(errors: List[InputError], files: List[str]) -> int:
    if errors:
        print(f"{len(errors)} files or frames of {len(files)} files could not be read, see above.", file=sys.stderr)
    return 1 if errors else 0


def predict_files(
    predictor: Predictor,
    files: List[str],
    output: str,
    finished: List[Dict],
    folder: str,
    report: Callable[[InputError], None],
    pictures: bool = True,
) -> None:
    """
    Writes the pictures, and a line of ``predictions.jsonl`` after each.

    Args:
        finished: the lines that are there, whose files are left out.
        folder: where the relative names of these files start; those that are written start there too.
        report: is called with the errors of the files and frames that cannot be read.
    """
    known = {os.path.normpath(os.path.join(folder, x["file_name"])) for x in finished}
    taken = {x["picture"].lower() for x in finished if x["picture"]}
    elsewhere = os.getcwd() != folder
    left = [file for file in files if os.path.abspath(file) not in known]
    bar = tqdm(left, desc="Images", unit="file", initial=len(files) - len(left), total=len(files))
    os.makedirs(output, exist_ok=True)
    path = os.path.join(output, LINES)
    with open(path, "a", encoding="utf-8", newline="\n") as lines:
        for image, prediction in predictor.predict(read_images(bar, on_error=report), on_error=report):
            line = {**dataclasses.asdict(prediction), "picture": None}
            if elsewhere:
                line["file_name"] = os.path.abspath(image.file_name)
            if pictures:
                line["picture"] = picture_name(image.file_name, taken, image.frame)
                with replacing(os.path.join(output, line["picture"]), "wb") as file:
                    Image.fromarray(draw_prediction(image, prediction)).save(file, "PNG")
            with named_errors(path):
                lines.write(_line(line))
                lines.flush()  # an interruption loses no line


def finished_lines(output: str, folder: str) -> List[Dict]:
    """
    The lines that an interruption left, none where there are none.

    Args:
        folder: where relative file names start.

    Not among them are a last line that is cut off, and those of a file of which a frame is missing: it is read again.

    Raises:
        InputError: a line is no prediction.
    """
    path = os.path.join(output, LINES)
    if not os.path.isfile(path):
        return []
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            found = [json.loads(line) for line in file if line.endswith("\n")]
        if not all(map(_is_prediction, found)):
            raise ValueError("a name or a frame is missing or of another kind")
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} holds a line that is no prediction ({error}); name another --output.") from error
    frames = collections.Counter(x["file_name"] for x in found if x["frame"] is not None)
    incomplete = {name for name, number in frames.items() if number != number_of_frames(os.path.join(folder, name))}
    return [x for x in found if x["file_name"] not in incomplete]


def _is_prediction(line: Any) -> bool:
    if not isinstance(line, dict) or not {"file_name", "picture", "frame"} <= line.keys():
        return False
    texts = [line["file_name"], *([line["picture"]] if line["picture"] is not None else [])]
    return (
        all(isinstance(x, str) and "\0" not in x for x in texts)
        and os.path.basename(line["picture"] or "") == (line["picture"] or "")
        and (line["frame"] is None or type(line["frame"]) is int)
    )


def _line(prediction: Dict) -> str:
    return json.dumps(prediction) + "\n"


def _settings_of(output: str) -> Dict:
    path = os.path.join(output, SETTINGS)
    try:
        settings = read_json(path)
    except InputError as error:
        raise InputError(f"{error}; name another --output.") from error
    if not isinstance(settings, dict) or not isinstance(settings.get("folder"), str):
        raise InputError(f"{path} is damaged, or of an older version of this software; name another --output.")
    return settings


def _is_empty(path: str) -> bool:
    """But for what was being written when the process was killed."""
    return os.path.isdir(path) and all(map(TEMPORARY.fullmatch, os.listdir(path)))


def _positive(text: str) -> int:
    value = int(text)
    if not 1 <= value < 2**31:
        raise argparse.ArgumentTypeError(f"{value} is not in 1 to {2**31 - 1}")
    return value


if __name__ == "__main__":
    sys.exit(main())
