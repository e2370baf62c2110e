"""A PDF is made of text and lines, and is the same for the same figure."""

import re

import numpy as np
from matplotlib.figure import Figure

from pictures.pdf import to_pdf_bytes


def drawn(text: str) -> bytes:
    figure = Figure()
    axes = figure.subplots()
    axes.imshow(np.eye(3))
    axes.set_title(text)
    return to_pdf_bytes(figure)


def test_the_same_figure_is_the_same_pdf_and_another_is_not() -> None:
    assert drawn("bce+dice") == drawn("bce+dice")
    assert drawn("bce+dice") != drawn("bce")


def test_text_is_truetype_and_no_date_is_kept() -> None:
    pdf = drawn("bce+dice")
    assert pdf.startswith(b"%PDF-")
    assert b"/Subtype /CIDFontType2" in pdf or b"/Subtype /Type42" in pdf or b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert not re.search(rb"/CreationDate|/Producer", pdf)
