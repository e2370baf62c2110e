"""Pictures inside the page, which stays small enough to be sent by mail."""

import base64
import hashlib
import html
import io
import re
from collections.abc import Mapping

from PIL import Image

from pictures.style import to_webp_bytes

PAGE_BYTES = 5_000_000
_MARGIN = 50_000
_COLORS = 255
# Lossless WebP has at most about this share of a PNG's bytes, and base64 a third more.
_LOSSLESS = 0.62 * 4 / 3
_PLACE = re.compile(r'<img alt="([^"]*)" src="picture:([0-9a-f]{64})"( data-optional)?>')


def image_html(png: bytes, words: str, *, optional: bool = False) -> str:
    """A place for a picture, which :func:`with_pictures` fills.

    Args:
        png: The picture.
        words: What it shows, escaped.
        optional: Whether a page that would be too large may name the picture's file instead.
    """
    digest = hashlib.sha256(png).hexdigest()
    return f'<img alt="{words}" src="picture:{digest}"{" data-optional" * optional}>'


def with_pictures(page: str, figures: Mapping[str, bytes], *, limit: int = PAGE_BYTES) -> str:
    """Fill the places of pictures.

    They are kept bit by bit where the page then stays below the limit. Else all have at most 255
    colours, and from the first optional one on that has no room, files are named instead.

    Args:
        page: The page with the places.
        figures: PNGs by the paths of their files; every picture of the page is among them.
        limit: The most bytes of the page.
    """
    by_digest = {hashlib.sha256(png).hexdigest(): name for name, png in figures.items()}
    places = [(digest, bool(optional)) for _, digest, optional in _PLACE.findall(page)]
    room = limit - _MARGIN - len(page.encode())
    pngs = {digest: figures[by_digest[digest]] for digest, _ in places}
    data: dict[str, str] = {}
    if _LOSSLESS * sum(map(len, pngs.values())) < room:
        data = {digest: _encoded(to_webp_bytes(png)) for digest, png in pngs.items()}
    if not data or sum(len(data[digest]) for digest, _ in places) > room:
        data = {}
        # What must be shown takes its room first.
        for digest, optional in sorted(places, key=lambda place: place[1]):
            encoded = _encoded(_few_colors(pngs[digest]))
            if optional and len(encoded) > room:
                break
            data[digest] = encoded
            room -= len(encoded)

    def fill(place: re.Match[str]) -> str:
        words, digest, _ = place.groups()
        if digest in data:
            return f'<img alt="{words}" src="data:image/webp;base64,{data[digest]}">'
        return f"<em>Not in this page, to keep it small: {html.escape(by_digest[digest])}</em>"

    return _PLACE.sub(fill, page)


def _encoded(webp: bytes) -> str:
    return base64.b64encode(webp).decode()


def _few_colors(png: bytes) -> bytes:
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    few = picture.quantize(
        _COLORS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
    ).convert("RGB")
    buffer = io.BytesIO()
    few.save(buffer, format="WEBP", lossless=True, quality=50)
    return buffer.getvalue()
