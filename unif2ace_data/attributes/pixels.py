"""Colours, tones and edges of a face and of what surrounds it, read at places that the mesh gives.

The head is warped upright onto two patches of fixed size, fine for the face and coarse for its surroundings, so that
results hardly depend on the photo's resolution. A region of the face is a quadrilateral of mesh points, a place around
it a rectangle in face widths and heights; both are sampled on a grid. Colours are CIELAB (L 0-100). Whatever tells the
skin's own colour has a name that starts with `skin_` and stays private; the face's other colours are differences from it.
"""

from __future__ import annotations

import cv2
import numpy as np

from unif2ace_data.faces.runtime import four_channels, warped

FACE_PATCH, FACE_SPAN = 160, 1.25  # side in pixels; in face heights
AROUND_PATCH, AROUND_SPAN = 128, 3.2
GRID = 8  # samples a side, per region and place
TOP, CHIN, SIDE_L, SIDE_R, EYE_L, EYE_R = 10, 152, 234, 454, 33, 263
UNLIKE = 14  # our choice: CIELAB distance from which hair counts as neither skin nor background
DARK, LIGHT = 30, 70  # lightness under and over which a background pixel is dark or light

# Mesh quadrilaterals (top left, top right, bottom right, bottom left in the image), pooled where there are two, and
# what is kept of them: mean differences from the skin L a b; its darkest and lightest tenth low high; spread of L;
# mean edge strength across ex and along ey; fine texture.
REGIONS: dict[str, tuple[tuple[tuple[int, int, int, int], ...], str]] = {
    "cheek": (((117, 118, 205, 187), (347, 346, 411, 425)), ""),
    "forehead": (((104, 333, 296, 66),), "ey"),
    "brow": (((70, 107, 55, 46), (336, 300, 276, 285)), "L b low high spread"),
    "lid": (((46, 55, 56, 247), (285, 276, 467, 286)), "L ey"),
    "eyebag": (((24, 22, 231, 229), (252, 254, 449, 451)), "L b ey texture spread"),
    "under_eye": (((110, 112, 120, 117), (341, 339, 346, 349)), "ey"),
    "eye_corner": (((139, 130, 35, 143), (359, 368, 372, 265)), "ey texture spread"),
    "bridge": (((193, 417, 351, 122),), "ex ey texture low"),
    "bridge_top": (((8, 8, 6, 6),), "ey spread"),
    "upper_lip": (((129, 2, 37, 61), (2, 358, 291, 267)), "L a b texture"),
    "lip_upper": (((61, 0, 291, 13),), "L a"),
    "lip_lower": (((61, 14, 291, 17),), "L ex"),
    "mouth": (((82, 312, 317, 87),), "L a high ex"),
    "under_lip": (((182, 406, 418, 194),), "ex"),
    "chin": (((204, 424, 369, 140),), "L a ex texture"),
    "chin_low": (((140, 369, 377, 148),), "a b ex"),
    "jaw": (((132, 207, 169, 172), (427, 361, 397, 394)), "L b"),
}
SKIN = ("cheek", "forehead")
MEASURES = ("L", "a", "b", "ex", "ey", "texture", "spread", "low", "high")

# Rectangles: x in face widths from its middle, y in face heights from the forehead (0) to the chin (1).
PLACES: dict[str, tuple[float, float, float, float]] = {
    "crown_1": (-0.22, 0.22, -0.09, -0.02),
    "crown_2": (-0.25, 0.25, -0.18, -0.10),
    "crown_3": (-0.25, 0.25, -0.30, -0.20),
    "temple_left": (-0.60, -0.50, -0.02, 0.16),
    "temple_right": (0.50, 0.60, -0.02, 0.16),
    "ear_left": (-0.76, -0.62, 0.25, 0.5),
    "ear_right": (0.62, 0.76, 0.25, 0.5),
    "jawside_left": (-0.74, -0.56, 0.68, 0.9),
    "jawside_right": (0.56, 0.74, 0.68, 0.9),
    "neckside_left": (-0.72, -0.5, 0.98, 1.16),
    "neckside_right": (0.5, 0.72, 0.98, 1.16),
    "shoulder_left": (-0.66, -0.42, 1.28, 1.5),
    "shoulder_right": (0.42, 0.66, 1.28, 1.5),
    "garment_left": (-1.05, -0.55, 1.35, 1.8),
    "garment_right": (0.55, 1.05, 1.35, 1.8),
    "behind_left": (-1.5, -0.85, -0.4, 0.25),
    "behind_right": (0.85, 1.5, -0.4, 0.25),
    "behind_left_low": (-1.5, -0.85, 0.3, 0.8),
    "behind_right_low": (0.85, 1.5, 0.3, 0.8),
    "behind_top": (-0.6, 0.6, -0.6, -0.48),
}
HAIR_RING = ("crown_1", "crown_2", "crown_3", "temple_left", "temple_right", "ear_left", "ear_right")
CROWN = ("crown_1", "crown_2", "crown_3")
# What is kept of the places on both sides of the head: likeness to the hair, the background and the skin (shares of
# samples; of the side that has less, of the side that has more), spread of L, colour, L of the darker and lighter side.
SIDES = {
    "temple": "hair behind L a b darker lighter",
    "ear": "hair_less behind_more skin spread L a b",
    "jawside": "hair hair_less behind skin L",
    "neckside": "hair behind spread L",
    "shoulder": "hair spread",
    "garment": "L darker lighter",
}
CHEST_X = (-0.42, -0.28, -0.14, 0.0, 0.14, 0.28, 0.42)  # face widths from the middle between face and chin
CHEST_Y = (1.1, 1.2, 1.3)  # face heights
VISIBLE = 0.25  # a place counts where at least this share of its samples lies in the photo

_steps = (np.arange(GRID) + 0.5) / GRID
_u, _v = (axis.ravel() for axis in np.meshgrid(_steps, _steps))
QUAD_WEIGHTS = np.stack([(1 - _u) * (1 - _v), _u * (1 - _v), _u * _v, (1 - _u) * _v], 1)
QUADS = np.array([quad for quads, _ in REGIONS.values() for quad in quads])
_owners = [name for name, (quads, _) in REGIONS.items() for _ in quads]
QUAD_ROWS = {name: [i for i, owner in enumerate(_owners) if owner == name] for name in REGIONS}
POOL = np.array([[_owners.count(name) ** -1.0 * (owner == name) for owner in _owners] for name in REGIONS])
KEPT = [
    (f"{name}.{measure}", row, MEASURES.index(measure))
    for row, (name, (_, measures)) in enumerate(REGIONS.items())
    for measure in measures.split()
]
SKIN_ROWS = [row for name in SKIN for row in QUAD_ROWS[name]]
PLACE_INDEX = {name: i for i, name in enumerate(PLACES)}
PLACE_GRID = np.stack([np.stack([x1 + (x2 - x1) * _u, y1 + (y2 - y1) * _v], 1) for x1, x2, y1, y2 in PLACES.values()])
CHEST_GRID = np.stack(np.meshgrid(CHEST_X, CHEST_Y), -1)
RING = [PLACE_INDEX[name] for name in HAIR_RING]
BEHIND = [i for name, i in PLACE_INDEX.items() if name.startswith("behind")]
CROWN_ROWS = [PLACE_INDEX[name] for name in CROWN]
SIDE_ROWS = {name: [PLACE_INDEX[f"{name}_left"], PLACE_INDEX[f"{name}_right"]] for name in SIDES}
LAB_SCALE, LAB_SHIFT = np.array([100 / 255, 1, 1]), np.array([0, 128, 128])  # OpenCV's 8-bit CIELAB


def pixels_of(rgb: np.ndarray, mesh: np.ndarray, rgba: np.ndarray | None = None) -> dict[str, float]:
    """Measures of the face with `mesh` (478, 3), in pixels of `rgb` (H, W, 3) uint8; rounded to 3 digits.

    `rgba`: the same picture, where it is at hand with four channels (Decoded.for_warps).
    Names are `region.measure` (tables above). What the photo does not show (shoulders outside the picture) is missing.
    """
    head = held(mesh)
    rgba = rgb if rgba is None else rgba
    face, warp = upright(rgb, rgba, head, FACE_SPAN, FACE_PATCH)
    values, skin = face_measures(face, mesh[:, :2] @ warp[:, :2].T + warp[:, 2])
    patch, warp = upright(rgb, rgba, head, AROUND_SPAN, AROUND_PATCH)
    points = mesh[:, :2] @ warp[:, :2].T + warp[:, 2]
    left, right, top, chin = points[SIDE_L, 0], points[SIDE_R, 0], points[TOP, 1], points[CHIN, 1]
    origin, size = np.array([(left + right) / 2, top]), np.array([right - left, chin - top])
    places = PLACE_GRID * size + origin
    values |= surroundings(colours_at(patch, places), shown(places, warp, rgb.shape), skin)
    origin[0] = (origin[0] + points[CHIN, 0]) / 2  # the chest lies under the neck, not under a turned head
    grid = CHEST_GRID * size + origin
    values |= chest(colours_at(cv2.blur(patch, (3, 3)), grid), shown(grid, warp, rgb.shape), skin)
    values["face_share"] = float(np.linalg.norm(mesh[CHIN, :2] - mesh[TOP, :2])) / rgb.shape[0]
    return {name: round(float(value), 3) for name, value in values.items()}


def held(mesh: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """How the head is held: the rotation (2, 2) that levels its eyes, its height in pixels, its middle (2,)."""
    eyes = mesh[EYE_R] - mesh[EYE_L]
    angle = np.arctan2(eyes[1], eyes[0])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    xy = mesh[:, :2]
    return turn, float(np.linalg.norm(mesh[CHIN] - mesh[TOP])), (xy.min(0) + xy.max(0)) / 2


def upright(
    rgb: np.ndarray, rgba: np.ndarray, head: tuple[np.ndarray, float, np.ndarray], span: float, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """The square of `span` face heights around the face, its eyes level: 8-bit CIELAB (side, side, 3), and the warp."""
    level, height, middle = head
    scale = side / (span * max(height, 1e-6))
    turn = scale * level
    shift = side / 2 - turn @ middle
    source, shrink = rgba, 1
    if scale < 0.6:  # a plain warp would skip pixels
        shrink = max(1, min(round(1 / scale), *rgb.shape[:2]))
        source = four_channels(cv2.resize(rgb, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA))
    patch = warped(source, np.column_stack((turn * shrink, shift)), side, cv2.BORDER_REPLICATE)
    return cv2.cvtColor(patch, cv2.COLOR_RGB2LAB), np.column_stack((turn, shift))


def colours_at(patch: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """CIELAB at `positions` (…, 2) of an 8-bit patch; positions beyond it read its border."""
    colours = patch.reshape(-1, 3).take(samples_at(patch, positions), axis=0)
    return np.asarray(colours * LAB_SCALE - LAB_SHIFT)


def samples_at(patch: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The pixels next to `positions` (…, 2), counted row by row."""
    at = np.clip(np.rint(positions), 0, patch.shape[0] - 1).astype(np.intp)
    return np.asarray(at[..., 1] * patch.shape[1] + at[..., 0])


def shown(positions: np.ndarray, warp: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Which `positions` (…, 2) of the coarse patch lie on it and in the photo of this shape."""
    source = (positions - warp[:, 2]) @ np.linalg.inv(warp[:, :2]).T
    x, y, u, v, last = positions[..., 0], positions[..., 1], source[..., 0], source[..., 1], AROUND_PATCH - 1
    on_patch = (x >= 0) & (x <= last) & (y >= 0) & (y <= last)
    return np.asarray(on_patch & (u >= 0) & (u < shape[1]) & (v >= 0) & (v < shape[0]))


def face_measures(face: np.ndarray, points: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """What REGIONS asks for, the light on both sides, and the skin's L a b."""
    lightness = cv2.extractChannel(face, 0)
    across, along = cv2.spatialGradient(lightness)  # Sobel's responses
    texture = cv2.absdiff(lightness, cv2.GaussianBlur(lightness, (0, 0), 2))
    positions = QUAD_WEIGHTS @ points[QUADS]
    at = samples_at(face, positions)
    colours = face.reshape(-1, 3).take(at, axis=0) * LAB_SCALE - LAB_SHIFT
    skin = median(colours[SKIN_ROWS].reshape(-1, 3))
    ordered = np.sort(colours[..., 0], axis=1)
    tenth = ordered.shape[1] // 10
    per_quad = np.column_stack(
        [
            colours.mean(1) - skin,
            slopes(across.take(at)).mean(1),
            slopes(along.take(at)).mean(1),
            texture.take(at).mean(1) * LAB_SCALE[0],
            colours[..., 0].std(1),
            ordered[:, tenth] - skin[0],
            ordered[:, -1 - tenth] - skin[0],
        ]
    )
    pooled = (POOL @ per_quad).tolist()
    values: dict[str, float] = {name: pooled[row][column] for name, row, column in KEPT}
    (cheek_l, cheek_r), (jaw_l, jaw_r) = QUAD_ROWS["cheek"], QUAD_ROWS["jaw"]
    by_quad = per_quad[:, 0]  # of the image's right side minus its left: > 0 where the right is brighter
    values["face.side"] = float(by_quad[cheek_r] + by_quad[jaw_r] - by_quad[cheek_l] - by_quad[jaw_l]) / 2
    values["face.texture"] = cv2.mean(texture)[0] * LAB_SCALE[0]
    values["face.contrast"] = float(cv2.meanStdDev(lightness)[1][0, 0]) * LAB_SCALE[0]
    values["skin_ita"] = float(np.degrees(np.arctan2(skin[0] - 50, skin[2])))
    return values, skin


def slopes(sobel: np.ndarray) -> np.ndarray:
    """Absolute slope of L per pixel, from Sobel's responses."""
    return np.asarray(np.abs(sobel) * (LAB_SCALE[0] / 8))


def median(colours: np.ndarray) -> np.ndarray:
    """np.median of (N, 3) over the samples; that takes longer to prepare than to sort so few."""
    ordered, n = np.sort(colours, axis=0), len(colours)
    return np.asarray((ordered[(n - 1) // 2] + ordered[n // 2]) / 2)


def share(wanted: np.ndarray) -> float:
    """Share of the samples for which it holds."""
    return np.count_nonzero(wanted) / len(wanted)


def surroundings(samples: np.ndarray, inside: np.ndarray, skin: np.ndarray) -> dict[str, float]:
    """Background, hair and clothing, from samples (places, GRID², 3) of which `inside` are in the photo.

    `behind.*`, `hair.*` (of the samples around the head that are neither background nor skin), `crown_*.*`, and what
    SIDES asks for.
    """
    visible = inside.mean(1) >= VISIBLE
    background = samples[BEHIND][inside[BEHIND]]
    if len(background) < GRID:
        return sides(samples, inside, visible, {})
    values: dict[str, float] = {}
    middle, spread = median(background), background.std(0)
    lightness = background[:, 0]
    values |= {"behind.L": middle[0], "behind.a": middle[1], "behind.b": middle[2], "behind.mean": lightness.mean()}
    values |= {"behind.spread": spread[0], "behind.colours": float(np.hypot(spread[1], spread[2]))}
    values |= {"behind.dark": share(lightness < DARK), "behind.light": share(lightness > LIGHT)}

    from_skin, from_background = distance(samples, skin), distance(samples, middle)
    is_hair = (inside & (from_background > UNLIKE) & (from_skin > UNLIKE))[RING]
    hair = samples[RING][is_hair]
    if not len(hair) or not visible[CROWN_ROWS].all():
        return values | sides(samples, inside, visible, {})
    colour = median(hair)
    lightness, chroma = np.sort(hair[:, 0]), np.hypot(hair[:, 1], hair[:, 2])
    tenth = len(hair) // 10
    values |= {"hair.share": is_hair.mean(), "hair.L": colour[0], "hair.a": colour[1], "hair.b": colour[2]}
    values |= {"hair.low": lightness[tenth], "hair.high": lightness[-1 - tenth], "hair.spread": lightness.std()}
    values |= {"hair.black": share(lightness < 18), "hair.light": share(lightness > 50), "hair.chroma": chroma.mean()}
    values |= {"hair.colourless": share((chroma < 7) & (hair[:, 0] > 25)), "hair.warm": share(hair[:, 2] > 10)}
    like = {
        "hair": distance(samples, colour) < 1.4 * UNLIKE,
        "behind": from_background < UNLIKE,
        "skin": from_skin < UNLIKE,
    }
    crown = samples[CROWN_ROWS]
    means, spreads, bare = crown.mean(1), crown[..., 0].std(1), like["skin"][CROWN_ROWS].mean(1)
    for i, name in enumerate(CROWN):
        values |= dict(zip((f"{name}.L", f"{name}.a", f"{name}.b"), means[i], strict=True))
        values |= {f"{name}.spread": spreads[i], f"{name}.skin": bare[i]}
    return values | sides(samples, inside, visible, like)


def sides(
    samples: np.ndarray, inside: np.ndarray, visible: np.ndarray, like: dict[str, np.ndarray]
) -> dict[str, float]:
    """What SIDES asks for of both sides together, as far as `like` tells what the samples are like."""
    colours = ((samples * inside[..., None]).sum(1) / np.maximum(inside.sum(1), 1)[:, None]).tolist()
    shares = {what: is_like.mean(1).tolist() for what, is_like in like.items()}
    values: dict[str, float] = {}
    for name, wanted in SIDES.items():
        rows = [row for row in SIDE_ROWS[name] if visible[row]]
        if not rows:
            continue
        tones = [colours[row][0] for row in rows]
        found = {tone: sum(colours[row][i] for row in rows) / len(rows) for i, tone in enumerate("Lab")}
        found |= {"darker": min(tones), "lighter": max(tones)}
        if "spread" in wanted:
            found["spread"] = samples[rows][..., 0].std()
        for what, by_place in shares.items():
            of_sides = [by_place[row] for row in rows]
            found |= {what: sum(of_sides) / len(rows), f"{what}_less": min(of_sides), f"{what}_more": max(of_sides)}
        values |= {f"{name}.{measure}": found[measure] for measure in wanted.split() if measure in found}
    return values


def distance(samples: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """CIELAB distance of each sample from one colour."""
    squares = np.square(samples - colour)
    return np.asarray(np.sqrt(squares[..., 0] + squares[..., 1] + squares[..., 2]))


def chest(rows: np.ndarray, seen: np.ndarray, skin: np.ndarray) -> dict[str, float]:
    """Rows of blurred samples (rows, columns, 3) down the neck and chest, `chest_ROW.*`, while all of a row is `seen`.

    A collar is white beside a tie, and a tie unlike both its sides. `light`, `range`: greatest lightness over the
    skin's, and the range of lightness; `white`: share of white samples; `skin`: likeness to skin; `middle`: distance of
    the middle from the mean of both sides; `sides`: between them.
    """
    lightness = rows[..., 0] - skin[0]
    white = (lightness > 5) & (np.hypot(rows[..., 1], rows[..., 2]) < 18)
    left, middle, right = rows[:, 1], rows[:, 3], rows[:, 5]
    measured = {
        "light": lightness.max(1),
        "range": np.ptp(lightness, axis=1),
        "white": white.mean(1),
        "skin": np.exp(-np.square(distance(rows[:, 1:6], skin) / 15)).mean(1),
        "middle": distance(middle, (left + right) / 2),
        "sides": distance(left, right),
    }
    values: dict[str, float] = {}
    for number, samples in enumerate(seen):
        if not samples.all():
            break
        values |= {f"chest_{number + 1}.{name}": by_row[number] for name, by_row in measured.items()}
    return values
