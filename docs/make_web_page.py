#!/usr/bin/env python
"""Makes docs/web_page.png: the page of the trained model with an image of docs/samples, taken by Chromium.

It needs npm, Debian's chromium and chromium-driver, and selenium.

    $ python docs/make_web_page.py
    $ python docs/make_web_page.py scan.png
"""

import os
import pathlib
import sys
import tempfile

from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tsdd_d2 import load_model
from tsdd_d2.inference.web_page import write_web_page

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir))
from tests.browser import start_browser  # noqa: E402

PICTURE = os.path.join(HERE, "web_page.png")


def main() -> int:
    image = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.path.join(HERE, "samples", "bus_0941-r.png")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_web_page(folder / "page.html", load_model(device="cpu"))
        browser = start_browser(folder)
        try:
            browser.get(f"file://{folder / 'page.html'}")
            wait = WebDriverWait(browser, 60, 0.1)
            wait.until(lambda x: x.find_element(By.ID, "file").is_enabled())
            browser.find_element(By.ID, "file").send_keys(image)
            wait.until(lambda x: x.find_element(By.ID, "result").is_displayed())
            browser.save_screenshot(PICTURE)
        finally:
            browser.quit()
    # 256 colours are enough for grey images with a coloured box
    Image.open(PICTURE).convert("RGB").quantize(256).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {os.path.getsize(PICTURE) / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
