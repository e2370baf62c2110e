"""Pictures are whole where there is room; else colours go first, then the optional ones."""

import base64
import html
import io
import re

import numpy as np
from PIL import Image

from comparison.report_pictures import image_html, with_pictures

SIZE = 300


def noise(seed: int) -> bytes:
    values = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format="PNG")
    return buffer.getvalue()


FIGURES = {f"figures/{seed}<&>.png": noise(seed) for seed in range(4)}
PNGS = list(FIGURES.values())
PAGE = "".join(
    image_html(png, html.escape(f'picture {index}"'), optional=index in {0, 2})
    for index, png in enumerate(PNGS)
)


def pixels(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


def shown(page: str) -> dict[str, np.ndarray]:
    found = re.findall(r'<img alt="([^"]*)" src="data:image/webp;base64,([^"]*)">', page)
    return {html.unescape(words): pixels(base64.b64decode(data)) for words, data in found}


def test_with_room_all_pictures_are_kept_bit_by_bit() -> None:
    found = shown(with_pictures(PAGE, FIGURES, limit=10**7))
    assert list(found) == [f'picture {index}"' for index in range(4)]
    for picture, png in zip(found.values(), PNGS, strict=True):
        assert np.array_equal(picture, pixels(png))


def test_without_room_optional_pictures_are_named_and_the_page_stays_small() -> None:
    whole = len(with_pictures(PAGE, FIGURES, limit=10**7))
    limit = whole // 4
    page = with_pictures(PAGE, FIGURES, limit=limit)
    assert len(page) <= limit
    found = shown(page)
    assert 'picture 1"' in found
    assert 'picture 3"' in found
    assert 'picture 2"' not in found
    assert f"Not in this page, to keep it small: {html.escape('figures/2<&>.png')}" in page
    for picture in found.values():
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) <= 255


def test_fewer_colours_look_the_same() -> None:
    ramp = np.linspace(0, 255, SIZE).astype(np.uint8)
    picture = np.stack([np.tile(ramp, (SIZE, 1)), np.tile(ramp[:, None], SIZE)], axis=2)
    picture = np.concatenate([picture, picture[..., :1]], axis=2)
    picture[:40] = 255
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", compress_level=0)
    figures = {"figures/ramp.png": buffer.getvalue()}
    page = with_pictures(image_html(figures["figures/ramp.png"], "ramp"), figures, limit=60_000)
    (found,) = shown(page).values()
    assert np.abs(found - picture).max() <= 32
    assert np.sqrt(np.mean((found - picture) ** 2)) < 10


def test_the_same_picture_may_stand_twice() -> None:
    page = with_pictures(image_html(PNGS[0], "a") + image_html(PNGS[0], "b"), FIGURES)
    assert set(shown(page)) == {"a", "b"}


def test_a_page_that_would_be_too_large_bit_by_bit_loses_colours_instead() -> None:
    """A PNG of noise says too little of how large the picture will be: its WebP is as large."""
    whole = len(with_pictures(PAGE, FIGURES, limit=10**7))
    page = with_pictures(PAGE, FIGURES, limit=whole)
    assert len(page) <= whole - 50_000
    assert all(len(np.unique(one.reshape(-1, 3), axis=0)) <= 255 for one in shown(page).values())
