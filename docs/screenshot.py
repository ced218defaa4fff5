"""Pictures of pages for the documentation, by Chromium (Debian: chromium)."""

import os
import shutil
import subprocess
import sys

from PIL import Image


def require_chromium() -> str:
    """The path of Chromium; ends the process with a message where there is none."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("error: there is no chromium on the PATH", file=sys.stderr)
        sys.exit(2)
    return chromium


def take(page: str, picture: str, window: str) -> None:
    """Writes the picture of an HTML file.

    Args:
        page, picture: paths of the HTML file and of the PNG.
        window: "width,height" in pixels.
    """
    # Chromium's sandbox refuses to start as root, and the page is our own
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={window}"]
    command = [require_chromium(), *options, f"--screenshot={picture}", f"file://{page}"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    # 256 colours are enough for grey images with coloured boxes, and halve the file
    Image.open(picture).convert("RGB").quantize(256).save(picture, optimize=True)
    print(f"{picture}: {os.path.getsize(picture) / 1e3:.0f} kB")
