"""Picture files and what the image front must make of them.

Policy: transparency over white (PIL's `alpha_composite`), EXIF orientation
applied by default, 16-bit samples by their high byte, grey replicated. Pictures
are drawn as arrays; for lossless formats the expected bytes come from the array,
so that only the resize (Pillow 11.3, 8-bit bicubic, horizontal pass first) is
someone else's word. PNG files are written by the few lines below, because Pillow
writes neither 16-bit colour, nor interlaced files, nor every tRNS form.
"""

import hashlib
import io
import json
import math
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

OUT = Path(__file__).resolve().parent.parent / "recorded" / "preprocess"
MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])
MIN_PIXELS, MAX_PIXELS, FACTOR = 56 * 56, 28 * 28 * 6177, 28
AT = [0, 1, 13, 14, 100, 195, 196, 300, 391, 392, 500, 587]


# --- drawing -------------------------------------------------------------


def noise(h, w, c, seed, bits=8):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 1 << bits, (h, w, c), dtype=np.uint16 if bits > 8 else np.uint8)


def slope(h, w, c=3):
    y, x = np.mgrid[0:h, 0:w]
    planes = [(x * 255 // max(w - 1, 1)), (y * 255 // max(h - 1, 1)), ((x + y) * 255 // max(w + h - 2, 1)), 255 - x * 255 // max(w - 1, 1)]
    return np.stack(planes[:c], -1).astype(np.uint8)


def blocks(h, w, side, seed, c=3):
    """Hard edges: coloured cells, the worst case for a resize that does not clip."""
    cells = noise(math.ceil(h / side), math.ceil(w / side), c, seed)
    cells = np.where(cells > 127, 255, 0).astype(np.uint8)
    return cells.repeat(side, 0).repeat(side, 1)[:h, :w]


def shapes(h, w):
    """Smooth enough that JPEG decoders agree closely, and not symmetric."""
    y, x = np.mgrid[0:h, 0:w] / max(h, w)
    return np.stack([128 + 100 * np.sin(5 * x + y), 128 + 90 * np.cos(4 * y), 60 + 180 * x * y * 1.4], -1).clip(0, 255).astype(np.uint8)


# --- writing -------------------------------------------------------------


def exif(orientation):
    e = Image.Exif()
    e[0x0112] = orientation
    return e.tobytes()


ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def png(samples, color, bits=8, plte=None, trns=None, orientation=None, interlace=False, filtered=False):
    """`samples` is [h, w, channels]; `color` is PNG's colour type."""
    h, w, _ = samples.shape

    def scanlines(a):
        if a.size == 0:
            return b""
        rows = a.reshape(a.shape[0], -1)
        if bits == 16:
            rows = rows.astype(">u2").view(np.uint8)
        elif bits < 8:
            per = 8 // bits
            rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % per)))
            rows = sum(rows[:, i::per].astype(np.uint8) << (8 - bits * (i + 1)) for i in range(per)).astype(np.uint8)
        rows = np.ascontiguousarray(rows.astype(np.uint8))
        if not filtered:
            return b"".join(b"\0" + r.tobytes() for r in rows)
        above = np.vstack([np.zeros((1, rows.shape[1]), np.uint8), rows[:-1]])
        return b"".join(b"\2" + d.tobytes() for d in rows - above)  # filter "up"

    passes = [samples[y0::dy, x0::dx] for y0, x0, dy, dx in ADAM7] if interlace else [samples]
    chunk = lambda tag, data: struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, bits, color, 0, 0, int(interlace)))
    if plte is not None:
        out += chunk(b"PLTE", np.asarray(plte, np.uint8).tobytes())
    if trns is not None:
        out += chunk(b"tRNS", trns)
    if orientation is not None:
        out += chunk(b"eXIf", exif(orientation).removeprefix(b"Exif\0\0"))
    data = b"".join(scanlines(p) for p in passes)
    return out + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")


def saved(array, fmt, mode=None, **options):
    buffer = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array, mode)
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


# --- the reference -------------------------------------------------------


def smart_resize(height, width):
    """transformers' steps, with one block as the least side (original code)."""
    if max(height, width) / min(height, width) > 200:
        return None
    h, w = (max(FACTOR, round(s / FACTOR) * FACTOR) for s in (height, width))
    if h * w > MAX_PIXELS:
        beta = math.sqrt(height * width / MAX_PIXELS)
        h, w = (max(FACTOR, math.floor(s / beta / FACTOR) * FACTOR) for s in (height, width))
    elif h * w < MIN_PIXELS:
        beta = math.sqrt(MIN_PIXELS / (height * width))
        h, w = (math.ceil(s * beta / FACTOR) * FACTOR for s in (height, width))
    return h, w


def on_white(rgba):
    white = Image.new("RGBA", (rgba.shape[1], rgba.shape[0]), (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, Image.fromarray(rgba)).convert("RGB"))


def turned(rgb, orientation):
    turns = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1), 6: lambda a: a.swapaxes(0, 1)[:, ::-1],
        7: lambda a: a.swapaxes(0, 1)[::-1, ::-1], 8: lambda a: a.swapaxes(0, 1)[::-1]}
    return np.ascontiguousarray(turns[orientation](rgb))


def patches(resized):
    h, w, _ = resized.shape
    x = ((resized / 255.0 - MEAN) / STD).transpose(2, 0, 1)
    x = x.reshape(3, h // 28, 2, 14, w // 28, 2, 14).transpose(1, 4, 2, 5, 0, 3, 6)
    return x.reshape(-1, 588)


def expected(rgb, exact=True):
    size = smart_resize(*rgb.shape[:2])
    h, w = size
    resized = np.asarray(Image.fromarray(rgb).resize((w, h), Image.Resampling.BICUBIC))
    rows = patches(resized)
    n = len(rows)
    out = {"grid_thw": [1, h // 14, w // 14]}
    if exact:
        out["sha256"] = hashlib.sha256(resized.tobytes()).hexdigest()
    picks = sorted({0, 1, n // 3, n // 2, n - 1})
    out["rows"] = {str(i): [round(float(rows[i, k]), 6) for k in AT] for i in picks}
    check_against_transformers(rgb, rows, out["grid_thw"])
    return out, resized


def check_against_transformers(rgb, rows, grid):
    """Its PIL processor must agree wherever the two size rules do."""
    if min(rgb.shape[:2]) < 14 or rgb.size > 3_000_000:
        return
    from transformers.models.ernie4_5_vl_moe.image_processing_pil_ernie4_5_vl_moe import Ernie4_5_VLMoeImageProcessorPil

    theirs = Ernie4_5_VLMoeImageProcessorPil()(images=[Image.fromarray(rgb)], return_tensors="np")
    assert theirs["image_grid_thw"].tolist() == [grid]
    assert np.abs(theirs["pixel_values"] - rows).max() < 1e-5


# --- the pictures --------------------------------------------------------


def cases():
    """(name, bytes, upright-before-EXIF RGB, orientation, covers)"""

    def rgb_png(name, a, covers, **kw):
        return name, png(a, 2, **kw), a, kw.get("orientation", 1), covers

    sizes = [(1, 1), (1, 100), (100, 1), (2, 3), (3, 2), (7, 11), (13, 13), (14, 14), (20, 20), (27, 29), (28, 28),
             (1, 200), (42, 42), (70, 98), (56, 56), (57, 55), (84, 112), (100, 100), (33, 140), (200, 1)]
    for i, (h, w) in enumerate(sizes):
        yield rgb_png(f"noise_{h}x{w}.png", noise(h, w, 3, 100 + i), "noise; small sides")
    for h, w, side in ((90, 130, 3), (224, 224, 5), (301, 77, 7), (150, 480, 1), (480, 640, 16), (1080, 1920, 40)):
        yield rgb_png(f"blocks_{h}x{w}.png", blocks(h, w, side, h), "hard edges", filtered=True)
    for h, w in ((4000, 20), (20, 4000), (4000, 3000), (2229, 4000), (3000, 30), (3999, 4000)):
        yield rgb_png(f"large_{h}x{w}.png", blocks(h, w, 97, h + w), "a side of 3000 to 4000", filtered=True)
    yield rgb_png("slope_300x500.png", slope(300, 500), "smooth", filtered=True)
    yield rgb_png("interlaced_45x61.png", noise(45, 61, 3, 7), "Adam7", interlace=True)
    yield rgb_png("interlaced_3x2.png", noise(3, 2, 3, 8), "Adam7 with empty passes", interlace=True)
    for o in range(1, 9):
        yield rgb_png(f"exif_{o}.png", noise(30, 47, 3, 20 + o), f"eXIf orientation {o}", orientation=o)
    yield rgb_png("exif_9.png", noise(30, 47, 3, 29), "an orientation that does not exist is none", orientation=9)[:3] + (1, "an orientation that does not exist is none")

    rgba = np.concatenate([noise(40, 50, 3, 30), slope(40, 50, 1)], -1)
    yield "alpha_slope.png", png(rgba, 6), on_white(rgba), 1, "partial alpha"
    a = noise(37, 41, 4, 31)
    yield "alpha_noise.png", png(a, 6), on_white(a), 1, "noise in colour and alpha"
    a = noise(30, 30, 4, 32)
    a[..., 3] = np.where(a[..., 3] > 127, 255, 0)
    yield "alpha_mask.png", png(a, 6), on_white(a), 1, "alpha 0 or 255 over noise"
    a = noise(29, 31, 2, 33)
    yield "grey_alpha.png", png(a, 4), on_white(np.concatenate([a[..., :1].repeat(3, -1), a[..., 1:]], -1)), 1, "grey with alpha"
    a = noise(29, 31, 4, 34, 16)
    yield "rgba16.png", png(a, 6, 16), on_white((a >> 8).astype(np.uint8)), 1, "16-bit colour with alpha"
    a = noise(29, 31, 2, 35, 16)
    b = (a >> 8).astype(np.uint8)
    yield "grey_alpha16.png", png(a, 4, 16), on_white(np.concatenate([b[..., :1].repeat(3, -1), b[..., 1:]], -1)), 1, "16-bit grey with alpha"
    a = noise(33, 44, 1, 36)
    yield "grey8.png", png(a, 0), a.repeat(3, -1), 1, "8-bit grey"
    for bits in (1, 2, 4):
        a = noise(33, 45, 1, 36 + bits, bits)
        yield f"grey{bits}.png", png(a, 0, bits), (a * (255 // ((1 << bits) - 1))).astype(np.uint8).repeat(3, -1), 1, f"{bits}-bit grey"
    a = noise(33, 44, 1, 41, 16)
    yield "grey16.png", png(a, 0, 16), (a >> 8).astype(np.uint8).repeat(3, -1), 1, "16-bit grey, noise"
    a = np.linspace(0, 65535, 60 * 60).astype(np.uint16).reshape(60, 60, 1)
    yield "grey16_slope.png", png(a, 0, 16), (a >> 8).astype(np.uint8).repeat(3, -1), 1, "16-bit grey, every level"
    a = noise(33, 44, 3, 42, 16)
    yield "rgb16.png", png(a, 2, 16), (a >> 8).astype(np.uint8), 1, "16-bit colour"
    yield "rgb16_interlaced.png", png(a, 2, 16, interlace=True), (a >> 8).astype(np.uint8), 1, "16-bit colour, Adam7"
    a = noise(34, 34, 3, 43) & 3
    key = np.array([1, 2, 3])
    keyed = np.concatenate([a, np.where((a == key).all(-1, keepdims=True), 0, 255)], -1).astype(np.uint8)
    yield "rgb_key.png", png(a, 2, trns=struct.pack(">HHH", 1, 2, 3)), on_white(keyed), 1, "tRNS colour key"
    a = noise(34, 34, 1, 44) & 7
    keyed = np.concatenate([a.repeat(3, -1), np.where(a == 5, 0, 255)], -1).astype(np.uint8)
    yield "grey_key.png", png(a, 0, trns=struct.pack(">H", 5)), on_white(keyed), 1, "tRNS grey key"
    for bits, n in ((8, 256), (4, 16), (2, 4), (1, 2), (8, 40)):
        plte = noise(n, 1, 3, 50 + n + bits)[:, 0]
        a = (noise(35, 43, 1, 60 + n) % np.uint16(n)).astype(np.uint8)
        yield f"palette{bits}_{n}.png", png(a, 3, bits, plte), plte[a[..., 0]], 1, f"palette of {n}, {bits} bits"
        alpha = noise(n, 1, 1, 70 + n)[:, 0]
        alpha[n // 2:] = 255
        full = np.concatenate([plte, alpha], -1)
        yield (f"palette{bits}_{n}_trns.png", png(a, 3, bits, plte, trns=alpha[: n // 2].tobytes() or b"\0"),
               on_white(full[a[..., 0]]), 1, f"palette of {n} with partial tRNS")
    yield "exif_6_alpha.png", png(rgba, 6, orientation=6), on_white(rgba), 6, "alpha and orientation"

    a = noise(40, 52, 3, 80)
    yield "lossless.webp", saved(a, "WEBP", lossless=True), a, 1, "WebP lossless"
    a = noise(40, 52, 4, 81)
    yield "lossless_alpha.webp", saved(a, "WEBP", lossless=True, exact=True), on_white(a), 1, "WebP lossless with alpha"
    a = noise(40, 52, 3, 82)
    yield "lossless_exif_8.webp", saved(a, "WEBP", lossless=True, exif=exif(8)), a, 8, "WebP with EXIF"
    a = noise(31, 45, 3, 83)
    yield "rgb.bmp", saved(a, "BMP"), a, 1, "BMP, 24 bits, padded rows"
    a = noise(31, 45, 1, 84)[..., 0]
    yield "grey.bmp", saved(a, "BMP"), a[..., None].repeat(3, -1), 1, "BMP, 8-bit palette"
    a = noise(31, 45, 1, 85)[..., 0] % 64
    p = Image.fromarray(a, "P")
    colors = noise(256, 1, 3, 86)[:, 0]
    p.putpalette(colors.tobytes())
    yield "palette.gif", saved(p, "GIF"), colors[a], 1, "GIF"
    alpha = np.where(a == 9, 0, 255).astype(np.uint8)
    yield "transparent.gif", saved(p, "GIF", transparency=9), on_white(np.dstack([colors[a], alpha])), 1, "GIF with a transparent index"
    b = Image.fromarray((a + 1) % 64, "P")
    b.putpalette(colors.tobytes())
    yield "animated.gif", saved(p, "GIF", save_all=True, append_images=[b], duration=80), colors[a], 1, "the first frame of an animation"


def jpegs():
    """(name, bytes, orientation, covers); the reference pixels are Pillow's."""
    for o in range(1, 9):
        yield f"exif_{o}.jpg", saved(shapes(40, 62), "JPEG", quality=95, subsampling=0, exif=exif(o)), o, f"orientation {o}"
    a = shapes(90, 150)
    yield "subsampled.jpg", saved(a, "JPEG", quality=90, subsampling=2), 1, "4:2:0"
    yield "progressive.jpg", saved(a, "JPEG", quality=90, progressive=True, subsampling=1), 1, "progressive, 4:2:2"
    yield "grey.jpg", saved(a[..., 0].copy(), "JPEG", quality=92), 1, "grey"
    yield "restart.jpg", saved(a, "JPEG", quality=85, restart_marker_rows=1), 1, "restart markers"
    cmyk = np.dstack([255 - a, (a[..., 0] // 4)])
    yield "cmyk.jpg", saved(Image.fromarray(cmyk.astype(np.uint8), "CMYK"), "JPEG", quality=95), 1, "Adobe CMYK: refused, or right"


def main():
    assert PIL.__version__.startswith("11.3."), "later versions choose the pass order by shape"
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    entries = []

    def add(name, data, covers, more):
        (OUT / name).write_bytes(data)
        entries.append({"file": name, "covers": covers} | more)

    for name, data, rgb, orientation, covers in cases():
        upright, _ = expected(turned(rgb, orientation))
        more = {"exact": True, "orientation": orientation, "expected": upright}
        if orientation != 1:
            more["expected_raw"] = expected(rgb)[0]
        mine = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")) if "16" not in name else None
        assert mine is None or (on_white(mine) == rgb).all(), name
        add(name, data, covers, more)
    for name, data, orientation, covers in jpegs():
        rgb = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        more = {"exact": False, "orientation": orientation}
        for key, a in (("expected", turned(rgb, orientation)), ("expected_raw", rgb)):
            if key == "expected_raw" and orientation == 1:
                continue
            more[key], resized = expected(a, exact=False)
            if key == "expected":
                stem = name.removesuffix(".jpg")
                more["resized_png"] = f"{stem}.jpg.expected.png"
                (OUT / more["resized_png"]).write_bytes(saved(resized, "PNG", optimize=True))
        # JPEG decoders differ in the inverse transform and in chroma upsampling.
        more["tolerance"] = {"mean_abs_level": 1.0, "max_abs_level": 16 if name in ("subsampled.jpg", "progressive.jpg", "cmyk.jpg") else 6}
        more["may_refuse"] = name == "cmyk.jpg"
        add(name, data, covers, more)
    for h, w in ((1, 201), (402, 2), (10, 4000)):
        add(f"refused_{h}x{w}.png", png(slope(h, w), 2), "sides differ more than 200 times", {"refused": "aspect ratio"})
    lines = ",\n".join(json.dumps(e) for e in entries)
    (OUT / "pictures.json").write_text(
        f'{{"row_columns": {AT}, "min_pixels": {MIN_PIXELS}, "max_pixels": {MAX_PIXELS}, "pictures": [\n{lines}\n]}}\n')
    print(len(entries), "pictures,", sum(f.stat().st_size for f in OUT.iterdir()) // 1024, "KiB")


if __name__ == "__main__":
    main()
