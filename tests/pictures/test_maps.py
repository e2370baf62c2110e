"""Pictures of maps show what is in the maps, on one scale where they are compared."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.contour import QuadContourSet

from pictures.maps import MARK_SIGN, POSITIVE_MAP, SIGNED_MAP, maps_figure, maps_grid
from pictures.matrix import MARK_COLOR
from pictures.style import PREDICTION_COLOR, TRUTH_COLOR, to_png_bytes
from robustness.pictured import SliceMaps
from tests.pictures.map_figures import (
    FAILS,
    METHODS,
    PER_INTENSITY,
    bars,
    panels,
    scaled,
)
from tests.pictures.slices import HEIGHT, WIDTH, cropped
from tests.robustness.maps import WORDS, made_maps


def written(text: str) -> str:
    """A text without its line breaks."""
    return " ".join(text.split())


def without(maps: SliceMaps, method: str) -> SliceMaps:
    kept = maps.methods != method
    return replace(
        maps,
        methods=maps.methods[kept],
        units=maps.units[kept],
        signed=maps.signed[kept],
        maps=maps.maps[kept],
    )


def outline_colors(axes: Axes) -> list[str]:
    drawn = [artist for artist in axes.collections if isinstance(artist, QuadContourSet)]
    return [
        to_hex(tuple(color)) for artist in drawn for color in np.asarray(artist.get_edgecolor())
    ]


def end_of(*maps: np.ndarray) -> float:
    """The 99.9th percentile by linear interpolation between order statistics."""
    sizes = np.sort(np.concatenate([np.abs(cropped(one)).ravel() for one in maps]))
    position = 0.999 * (len(sizes) - 1)
    low = int(position)
    return float(sizes[low] + (position - low) * (sizes[low + 1] - sizes[low]))


def test_a_row_shows_image_outlines_map_and_the_map_over_the_image() -> None:
    maps = made_maps()
    figure = maps_figure([("bce", maps)], "gradient")
    image, outlines, plain, overlay = panels(figure)
    for axes in (image, outlines, overlay):
        np.testing.assert_array_equal(axes.images[0].get_array(), cropped(maps.image[0]))
        assert axes.images[0].get_cmap().name == "gray"
    values = cropped(maps.maps[0, 0])
    (shown,) = plain.images
    np.testing.assert_array_equal(shown.get_array(), values)
    over = overlay.images[1]
    np.testing.assert_array_equal(over.get_array(), values)
    assert over.get_clim() == shown.get_clim()
    assert over.get_cmap().name == shown.get_cmap().name == SIGNED_MAP
    opacity = np.asarray(over.get_alpha())
    end = end_of(maps.maps[0, 0])
    np.testing.assert_allclose(opacity, np.sqrt(np.minimum(np.abs(values) / end, 1)), rtol=1e-5)
    assert outline_colors(image) == outline_colors(plain) == []
    assert outline_colors(outlines) == [TRUTH_COLOR.lower(), PREDICTION_COLOR.lower()]
    assert outline_colors(overlay) == [TRUTH_COLOR.lower()]
    titles = [axes.get_title() for axes in panels(figure)]
    assert [written(title) for title in titles] == [
        "image",
        "truth and prediction",
        "map",
        "overlay",
    ]
    assert image.get_ylabel() == "bce"
    assert written(figure.get_suptitle()) == (
        "gradient, explaining the sum of p: case_007, slice 12"
    )


def test_the_prediction_is_dashed_and_the_legend_says_so() -> None:
    figure = maps_figure([("bce", made_maps())], "gradient")
    truth, prediction = (
        artist for artist in panels(figure)[1].collections if isinstance(artist, QuadContourSet)
    )
    assert truth.linestyles == "solid"
    assert prediction.linestyles == "dashed"
    (legend,) = figure.legends
    entries = {
        text.get_text(): (line.get_linestyle(), line.get_color())
        for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)
    }
    assert entries["truth"] == ("-", TRUTH_COLOR)
    assert entries["prediction (p = 0.5)"] == ("--", PREDICTION_COLOR)
    assert "scale ends at percentile 99.9 of |map|" in entries


def test_all_rows_have_one_scale_symmetric_about_0() -> None:
    weak = made_maps()
    rows = [("bce", weak), ("dice", scaled(weak, 10)), ("bce+dice", made_maps(1))]
    figure = maps_figure(rows, "gradient")
    end = end_of(*(maps.maps[0, 0] for _, maps in rows))
    drawn = panels(figure)
    for axes in [*drawn[2::4], *drawn[3::4]]:
        assert axes.images[-1].get_clim() == pytest.approx((-end, end))
    (bar,) = bars(figure)
    assert bar.get_ylim() == pytest.approx((-end, end))
    assert written(bar.get_ylabel()) == PER_INTENSITY
    for (_, maps), axes in zip(rows, drawn[2::4], strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), cropped(maps.maps[0, 0]))


def test_maps_that_are_never_below_0_begin_there() -> None:
    maps = made_maps(methods=METHODS)
    figure = maps_figure([("bce", maps)], "grad_cam")
    (shown,) = panels(figure)[2].images
    end = end_of(maps.maps[1, 0])
    assert shown.get_clim() == pytest.approx((0, end))
    assert shown.get_cmap().name == POSITIVE_MAP
    (bar,) = bars(figure)
    assert bar.get_ylim() == pytest.approx((0, end))
    assert bar.get_ylabel() == WORDS


@pytest.mark.parametrize(("name", "zero"), [(SIGNED_MAP, 0.5), (POSITIVE_MAP, 0.0)])
def test_nothing_is_light_and_signs_differ_in_more_than_red_and_green(
    name: str, zero: float
) -> None:
    nothing = np.array(colormaps[name](zero)[:3])
    assert nothing.min() > 0.9
    low, high = (np.array(colormaps[name](end)[:3]) for end in (0.1, 0.9))
    assert abs(low[2] - high[2]) > 0.3


def test_maps_of_zero_are_drawn() -> None:
    maps = scaled(made_maps(methods=METHODS), 0)
    figure = maps_figure([("bce", maps)], "gradient")
    overlay = panels(figure)[3].images[1]
    assert overlay.get_clim() == (-1, 1)
    assert not np.asarray(overlay.get_alpha()).any()
    assert to_png_bytes(figure)
    grid = maps_grid([("bce", maps)])
    assert [axes.images[0].get_clim() for axes in panels(grid)[1::2]] == [(-1, 1), (0, 1), (-1, 1)]
    assert to_png_bytes(grid)


def test_padding_neither_sets_the_scale_nor_is_hidden_in_silence() -> None:
    maps = made_maps()
    values = np.where(maps.valid, 0.5, 100.0).astype(np.float32)[None, None]
    figure = maps_figure([("bce", replace(maps, maps=values))], "gradient")
    plain, overlay = panels(figure)[2:]
    assert np.asarray(plain.images[0].get_array()).shape == (HEIGHT, WIDTH)
    assert plain.images[0].get_clim() == (-0.5, 0.5)
    share = 100.0 * (32 * 32 - HEIGHT * WIDTH) / float(np.abs(values).sum())
    assert overlay.get_xlabel() == f"largest |map| 0.5\n{share:.0%} of |map| in padding"


def test_marks_stand_under_the_map_in_words_and_colour() -> None:
    rows = [("bce", made_maps(0)), ("dice", made_maps(1))]
    figure = maps_figure(rows, "gradient", marks={"dice": FAILS, "bce": ""})
    sound, unsound = panels(figure)[2::4]
    assert sound.get_xlabel() == ""
    assert written(unsound.get_xlabel()) == f"{MARK_SIGN} {FAILS}"
    assert unsound.xaxis.label.get_color() == MARK_COLOR
    framed = [
        axes
        for axes in panels(figure)
        if to_hex(axes.spines["left"].get_edgecolor()) == MARK_COLOR.lower()
    ]
    assert framed == [unsound, panels(figure)[7]]


@pytest.mark.parametrize(
    "words", ["not checked", "the same everywhere", "checked on 3 slices only"]
)
def test_what_is_no_failure_has_no_sign_of_one(words: str) -> None:
    figure = maps_figure([("dice", made_maps(1))], "gradient", marks={"dice": words})
    shown = panels(figure)[2]
    assert written(shown.get_xlabel()) == words
    assert shown.xaxis.label.get_color() != MARK_COLOR
    for axes in panels(figure):
        assert to_hex(axes.spines["left"].get_edgecolor()) != MARK_COLOR.lower()


def test_rows_without_the_method_say_none() -> None:
    full = made_maps(methods=METHODS)
    rows = [("bce", without(full, "gradient")), ("dice", full)]
    figure = maps_figure(rows, "gradient", marks={"bce": "refused"})
    blank = panels(figure)[2:4]
    for axes in blank:
        assert not axes.images
        assert [text.get_text() for text in axes.texts] == ["none"]
    assert blank[0].get_xlabel() == "refused"
    end = end_of(full.maps[0, 0])
    assert panels(figure)[6].images[0].get_clim() == pytest.approx((-end, end))


def test_the_grid_shows_each_method_of_each_label_on_its_scale() -> None:
    columns = [
        (label, made_maps(seed, methods=METHODS)) for seed, label in enumerate(["bce", "dice"])
    ]
    figure = maps_grid(columns)
    drawn = np.array(panels(figure), object).reshape(len(METHODS), 3)
    assert [axes.get_title() for axes in drawn[0]] == ["image", "bce", "dice"]
    assert [written(axes.get_ylabel()) for axes in drawn[:, 0]] == list(METHODS)
    for number, row in enumerate(drawn):
        np.testing.assert_array_equal(row[0].images[0].get_array(), cropped(columns[0][1].image[0]))
        assert outline_colors(row[0]) == [TRUTH_COLOR.lower()]
        end = end_of(*(maps.maps[number, 0] for _, maps in columns))
        low = 0.0 if METHODS[number] == "grad_cam" else -end
        for axes, (_, maps) in zip(row[1:], columns, strict=True):
            (shown,) = axes.images
            np.testing.assert_array_equal(shown.get_array(), cropped(maps.maps[number, 0]))
            assert shown.get_clim() == pytest.approx((low, end))
        assert bars(figure)[number].get_ylim() == pytest.approx((low, end))
    units = [written(bar.get_ylabel()) for bar in bars(figure)]
    assert units == [PER_INTENSITY, WORDS, WORDS]
    assert written(figure.get_suptitle()) == ("Maps explaining the sum of p: case_007, slice 12")


def test_the_grid_marks_what_fails_and_says_none_where_a_label_lacks_a_method() -> None:
    full = made_maps(methods=METHODS)
    columns = [("bce", without(full, "grad_cam")), ("dice", full)]
    marks = {("bce", "grad_cam"): "refused", ("dice", "gradient"): FAILS}
    figure = maps_grid(columns, marks=marks)
    methods = ["gradient", "occlusion", "grad_cam"]
    drawn = np.array(panels(figure), object).reshape(len(methods), 3)
    assert [written(axes.get_ylabel()) for axes in drawn[:, 0]] == methods
    said = {
        (label, method): written(axes.get_xlabel())
        for method, row in zip(methods, drawn, strict=True)
        for label, axes in zip(["bce", "dice"], row[1:], strict=True)
        if axes.get_xlabel()
    }
    assert said == {("bce", "grad_cam"): "refused", ("dice", "gradient"): f"{MARK_SIGN} {FAILS}"}
    blank = drawn[2, 1]
    assert not blank.images
    assert [text.get_text() for text in blank.texts] == ["none"]
    assert sum(not axes.images for axes in drawn.flat) == 1


def test_several_channels_and_classes_are_named() -> None:
    maps = made_maps(methods=METHODS, classes=2, channels=3)
    figure = maps_figure([("bce", maps)], "occlusion", class_names=["front", "back"])
    np.testing.assert_array_equal(panels(figure)[2].images[0].get_array(), cropped(maps.maps[2, 0]))
    titles = [written(axes.get_title()) for axes in panels(figure)]
    assert titles[0] == "image (channel 1 of 3)"
    assert titles[2:] == ["map (channel 1)", "overlay (channel 1)"]
    assert len(outline_colors(panels(figure)[1])) == 4
    assert len(set(outline_colors(panels(figure)[3]))) == 2
    (legend,) = figure.legends
    entries = [text.get_text() for text in legend.get_texts()]
    assert entries[:4] == ["truth", "prediction (p = 0.5)", "front", "back"]
    grid = maps_grid([("bce", maps)], class_names=["front", "back"])
    (legend,) = grid.legends
    entries = [text.get_text() for text in legend.get_texts()]
    assert entries == [
        "truth, front",
        "truth, back",
        "scales end at percentile 99.9 of |map|, maps are of channel 1",
    ]
    colors = [to_hex(to_rgb(line.get_color())) for line in legend.get_lines()[:2]]
    assert outline_colors(panels(grid)[0]) == colors


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"slice_index": 1}, "different slices"),
        ({"case": "case_008"}, "different slices"),
        ({"explained": "sum of z"}, "explain different things"),
        ({"units": np.array(["sum of z"])}, "different units"),
    ],
)
def test_maps_that_do_not_compare_are_refused(change: dict[str, object], found: str) -> None:
    maps = made_maps()
    rows = [("bce", maps), ("dice", replace(maps, **change))]  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=found):
        maps_figure(rows, "gradient")
    with pytest.raises(ValueError, match=found):
        maps_grid(rows)


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        maps_figure([], "gradient")
    with pytest.raises(ValueError, match="no rows"):
        maps_grid([])
    with pytest.raises(ValueError, match="no maps by 'lime', expected one of gradient"):
        maps_figure([("bce", made_maps())], "lime")
    with pytest.raises(ValueError, match="hold no maps"):
        maps_grid([("bce", without(made_maps(), "gradient"))])


def test_the_same_maps_give_the_same_bytes() -> None:
    def drawn(seed: int) -> list[bytes]:
        rows = [("bce", made_maps(seed)), ("dice", made_maps(2))]
        return [to_png_bytes(maps_figure(rows, "gradient")), to_png_bytes(maps_grid(rows))]

    first = drawn(0)
    assert first == drawn(0)
    assert all(one != other for one, other in zip(first, drawn(1), strict=True))
