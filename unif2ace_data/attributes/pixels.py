"""Colours, tones and edges of a face and of what surrounds it, read at places that the mesh gives.

The head is warped upright onto two patches of fixed size, fine for the face and coarse for its surroundings, so that
results hardly depend on the photo's resolution. A region of the face is a quadrilateral of mesh points, a place around
it a rectangle in face widths and heights; both are sampled on a grid. Colours are CIELAB (L 0-100). Whatever tells the
skin's own colour has a name that starts with `skin_` and stays private; the face's other colours are differences from it.
"""

from __future__ import annotations

import cv2
import numpy as np

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
QUAD_ROWS = {
    name: [i for i, owner in enumerate(n for n, (q, _) in REGIONS.items() for _ in q) if owner == name]
    for name in REGIONS
}
PLACE_INDEX = {name: i for i, name in enumerate(PLACES)}
RING = [PLACE_INDEX[name] for name in HAIR_RING]
BEHIND = [i for name, i in PLACE_INDEX.items() if name.startswith("behind")]
PLACE_GRID = np.stack([np.stack([x1 + (x2 - x1) * _u, y1 + (y2 - y1) * _v], 1) for x1, x2, y1, y2 in PLACES.values()])


def pixels_of(rgb: np.ndarray, mesh: np.ndarray) -> dict[str, float]:
    """Measures of the face with `mesh` (478, 3), in pixels of `rgb` (H, W, 3) uint8; rounded to 3 digits.

    Names are `region.measure` (tables above). What the photo does not show (shoulders outside the picture) is missing.
    """
    face, warp = upright(rgb, mesh, FACE_SPAN, FACE_PATCH)
    values, skin = face_measures(face, mesh[:, :2] @ warp[:, :2].T + warp[:, 2])
    around, warp = upright(rgb, mesh, AROUND_SPAN, AROUND_PATCH)
    points = mesh[:, :2] @ warp[:, :2].T + warp[:, 2]
    seen = visible(warp, rgb.shape[0], rgb.shape[1])
    left, right, top, chin = points[SIDE_L, 0], points[SIDE_R, 0], points[TOP, 1], points[CHIN, 1]
    origin, size = np.array([(left + right) / 2, top]), np.array([right - left, chin - top])
    values |= surroundings(around, seen, PLACE_GRID * size + origin, skin)
    origin[0] = (origin[0] + points[CHIN, 0]) / 2  # the chest lies under the neck, not under a turned head
    values |= chest(cv2.blur(around, (3, 3)), seen, origin, size, skin)
    values["face_share"] = float(np.linalg.norm(mesh[CHIN, :2] - mesh[TOP, :2])) / rgb.shape[0]
    return {name: round(float(value), 3) for name, value in values.items()}


def upright(rgb: np.ndarray, mesh: np.ndarray, span: float, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The square of `span` face heights around the face, its eyes level: CIELAB (side, side, 3), and the warp (2, 3)."""
    eyes = mesh[EYE_R] - mesh[EYE_L]
    angle = np.arctan2(eyes[1], eyes[0])
    scale = side / (span * max(float(np.linalg.norm(mesh[CHIN] - mesh[TOP])), 1e-6))
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    xy = mesh[:, :2]
    shift = side / 2 - turn @ ((xy.min(0) + xy.max(0)) / 2)
    source, shrink = rgb, 1
    if scale < 0.6:  # a plain warp would skip pixels
        shrink = min(round(1 / scale), *rgb.shape[:2])
        source = cv2.resize(rgb, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
    patch = cv2.warpAffine(
        source, np.c_[turn * shrink, shift], (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    colours = cv2.cvtColor(patch, cv2.COLOR_RGB2LAB).astype(np.float32)
    colours[..., 0] *= 100 / 255
    colours[..., 1:] -= 128
    return colours, np.c_[turn, shift]


def visible(warp: np.ndarray, height: int, width: int) -> np.ndarray:
    """(side, side) bool: which pixels of the coarse patch lie inside the photo."""
    back = np.linalg.inv(warp[:, :2])
    grid = np.arange(AROUND_PATCH)
    x = back[0, 0] * (grid - warp[0, 2])[None, :] + back[0, 1] * (grid - warp[1, 2])[:, None]
    y = back[1, 0] * (grid - warp[0, 2])[None, :] + back[1, 1] * (grid - warp[1, 2])[:, None]
    return np.asarray((x >= 0) & (x < width) & (y >= 0) & (y < height))


def face_measures(face: np.ndarray, points: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """What REGIONS asks for, the light on both sides, and the skin's L a b."""
    lightness = face[..., 0]
    across = np.abs(cv2.Sobel(lightness, cv2.CV_32F, 1, 0, ksize=3)) / 8
    along = np.abs(cv2.Sobel(lightness, cv2.CV_32F, 0, 1, ksize=3)) / 8
    texture = np.abs(lightness - cv2.GaussianBlur(lightness, (0, 0), 2))
    layers = cv2.merge([*cv2.split(face), across, along, texture])
    at = np.clip(np.einsum("gk,qkd->qgd", QUAD_WEIGHTS, points[QUADS]).round().astype(int), 0, FACE_PATCH - 1)
    samples = layers[at[..., 1], at[..., 0]]
    skin = np.median(samples[sum((QUAD_ROWS[name] for name in SKIN), [])].reshape(-1, 6)[:, :3], axis=0)
    means, ordered = samples.mean(1), np.sort(samples[..., 0], axis=1)
    tenth = ordered.shape[1] // 10
    measures = {name: means[:, i] - (skin[i] if i < 3 else 0) for i, name in enumerate(MEASURES[:6])}
    measures["spread"] = samples[..., 0].std(1)
    measures["low"], measures["high"] = ordered[:, tenth] - skin[0], ordered[:, -1 - tenth] - skin[0]
    values = {
        f"{region}.{name}": float(measures[name][QUAD_ROWS[region]].mean())
        for region, (_, names) in REGIONS.items()
        for name in names.split()
    }
    left, right = (np.mean([means[QUAD_ROWS[region][side], 0] for region in ("cheek", "jaw")]) for side in (0, 1))
    values["face.side"] = float(right - left)  # > 0: the image's right side of the face is brighter
    values["face.texture"] = float(texture.mean())
    values["face.contrast"] = float(lightness.std())
    values["skin_ita"] = float(np.degrees(np.arctan2(skin[0] - 50, skin[2])))
    return values, skin


def surroundings(around: np.ndarray, seen: np.ndarray, places: np.ndarray, skin: np.ndarray) -> dict[str, float]:
    """Background, hair and clothing: `behind.*`, `hair.*`, `crown_*.*`, and what SIDES asks for."""
    at = places.round().astype(int)
    fits = ((at >= 0) & (at < AROUND_PATCH)).all(-1)
    at = np.clip(at, 0, AROUND_PATCH - 1)
    samples = around[at[..., 1], at[..., 0]]
    inside = fits & seen[at[..., 1], at[..., 0]]
    shown = {name for name, i in PLACE_INDEX.items() if inside[i].mean() >= VISIBLE}
    values = sides(samples, inside, shown, {})
    background = samples[BEHIND][inside[BEHIND]]
    if len(background) < GRID:
        return values
    middle = np.median(background, axis=0)
    values |= {"behind.L": middle[0], "behind.a": middle[1], "behind.b": middle[2], "behind.mean": background[:, 0].mean()}
    values |= {"behind.spread": background[:, 0].std(), "behind.colours": float(np.hypot(*background[:, 1:].std(0)))}
    values |= {"behind.dark": (background[:, 0] < DARK).mean(), "behind.light": (background[:, 0] > LIGHT).mean()}

    from_skin, from_background = distance(samples, skin), distance(samples, middle)
    is_hair = inside[RING] & (from_background[RING] > UNLIKE) & (from_skin[RING] > UNLIKE)
    hair = samples[RING][is_hair]
    if not len(hair) or not shown.issuperset(CROWN):
        return values
    colour = np.median(hair, axis=0)
    lightness, chroma = np.sort(hair[:, 0]), np.hypot(hair[:, 1], hair[:, 2])
    tenth = len(hair) // 10
    values |= {"hair.share": is_hair.mean(), "hair.L": colour[0], "hair.a": colour[1], "hair.b": colour[2]}
    values |= {"hair.low": lightness[tenth], "hair.high": lightness[-1 - tenth], "hair.spread": lightness.std()}
    values |= {"hair.black": (lightness < 18).mean(), "hair.light": (lightness > 50).mean(), "hair.chroma": chroma.mean()}
    values |= {"hair.colourless": ((chroma < 7) & (hair[:, 0] > 25)).mean(), "hair.warm": (hair[:, 2] > 10).mean()}
    for name in CROWN:
        i = PLACE_INDEX[name]
        values |= dict(zip((f"{name}.L", f"{name}.a", f"{name}.b"), samples[i].mean(0), strict=True))
        values |= {f"{name}.spread": samples[i, :, 0].std(), f"{name}.skin": (from_skin[i] < UNLIKE).mean()}
    like = {
        "hair": distance(samples, colour) < 1.4 * UNLIKE,
        "behind": from_background < UNLIKE,
        "skin": from_skin < UNLIKE,
    }
    return values | sides(samples, inside, shown, like)


def sides(
    samples: np.ndarray, inside: np.ndarray, shown: set[str], like: dict[str, np.ndarray]
) -> dict[str, float]:
    """What SIDES asks for of both sides together, as far as `like` tells what the samples are like."""
    values: dict[str, float] = {}
    for name, wanted in SIDES.items():
        rows = [PLACE_INDEX[f"{name}_{side}"] for side in ("left", "right") if f"{name}_{side}" in shown]
        if not rows:
            continue
        colours = np.stack([samples[row][inside[row]].mean(0) for row in rows])
        found = dict(zip(("L", "a", "b"), colours.mean(0), strict=True))
        found |= {"darker": colours[:, 0].min(), "lighter": colours[:, 0].max(), "spread": samples[rows][..., 0].std()}
        for what, is_like in like.items():
            share = is_like[rows].mean(1)
            found |= {what: share.mean(), f"{what}_less": share.min(), f"{what}_more": share.max()}
        values |= {f"{name}.{measure}": found[measure] for measure in wanted.split() if measure in found}
    return values


def distance(samples: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(np.square(samples - colour).sum(-1)))


def chest(
    blurred: np.ndarray, seen: np.ndarray, origin: np.ndarray, size: np.ndarray, skin: np.ndarray
) -> dict[str, float]:
    """Rows of samples down the neck and chest, `chest_ROW.*`: a collar is white beside, a tie unlike both its sides.

    `light`, `range`: greatest lightness over the skin's, and the range of lightness; `white`: share of white samples;
    `skin`: likeness to skin; `middle`: CIELAB distance of the middle from the mean of both sides; `sides`: between them.
    """
    values: dict[str, float] = {}
    for row, y in enumerate(CHEST_Y, start=1):
        at = np.stack([origin[0] + np.array(CHEST_X) * size[0], np.full(len(CHEST_X), origin[1] + y * size[1])], 1)
        at = at.round().astype(int)
        if at.min() < 0 or at.max() >= AROUND_PATCH or not seen[at[:, 1], at[:, 0]].all():
            break
        colours = blurred[at[:, 1], at[:, 0]]
        lightness = colours[:, 0] - skin[0]
        white = (lightness > 5) & (np.hypot(colours[:, 1], colours[:, 2]) < 18)
        near_skin = np.exp(-np.square(np.linalg.norm(colours[1:6] - skin, axis=1) / 15))
        values |= {f"chest_{row}.light": lightness.max(), f"chest_{row}.range": np.ptp(lightness)}
        values |= {f"chest_{row}.white": white.mean(), f"chest_{row}.skin": near_skin.mean()}
        values[f"chest_{row}.middle"] = float(np.linalg.norm(colours[3] - (colours[1] + colours[5]) / 2))
        values[f"chest_{row}.sides"] = float(np.linalg.norm(colours[1] - colours[5]))
    return values
