# SPDX-License-Identifier: Apache-2.0
"""Names that Swift allows and file systems do not, or that our own escapes could mistake for something else."""

from __future__ import annotations

import unicodedata

# What showed the differences between readable-path policies in the past; 41 of the 43 are legal.
CLASSIC: tuple[str | bytes, ...] = (
    *("a", "a/b", "a/", "a/b/", "a//b", "//", "/lead", "trail/", ".", "..", "x/.", "x/..", "x/../y", "./z"),
    *("%", "%2F", "p%2Fq", "nl\nname", "tab\t", "sp ace ", " lead", "q?m", "h#", "back\\slash"),
    *("c" * 256, "c" * 1024, "d/" * 500 + "e", "é" * 512),
    *(unicodedata.normalize(form, "é") for form in ("NFD", "NFC")),
    *("Case", "case", "nul\0x", "\x01ctl", "\x7f", "emoji😀", ".lustack", "a%", "a/%", "~", "-rf"),
    *("c" * 1025, b"bad\xff"),
)
# The tokens of our escapes, as names.
ESCAPES = (
    *("%dir", "%file", "%+", "%2E", "%2E%2E", "%00", "%25", "%%", "%25dir", "%2e", "%2Edir", "% ", "50%.txt", "é%"),
    *("a%dir", "a%file", "a%dir/b", "a%file/b", "a/b%dir", "a/b%file", "a%dir%dir", "a%file%dir", "a%25dir"),
    *("x%+", "x%+/y", "%+/%+", "c" * 253 + "%+", "c" * 253 + "%+/tail", "c" * 250 + "%+/tail"),
    *("%/%", "%/", "/%", "a//%", "a/%/b", "%2E/x", "..%dir", ".%dir", "%dir/%dir", "%file/%file"),
)
RESERVED = (
    *(".lustack.tmp.x", ".lustack.tmp.", "a/.lustack.tmp.0123456789abcdef", ".lustack/", ".lustack/tombstones/aa"),
    *("%2Elustack", "%2Elustack.tmp.x", "..lustack", "a/.lustack/b"),
)
# Around NAME_MAX (255), with one, two and four bytes a character, alone and in a path.
LONG = (
    *("l" * length for length in (249, 250, 251, 252, 253, 254, 255, 257)),
    *("l" * length + "/x" for length in (253, 254, 255, 256)),
    *("é" * 127, "é" * 127 + "l", "é" * 128, "😀" * 63, "😀" * 64, "l" + "é" * 127, "l" + "😀" * 64),
    *(
        "%" * 253,
        "%" * 256,
        "." * 254,
        "." * 255,
        "." * 256,
        "l" * 251 + "%dir",
        "l" * 252 + "%dir",
        "l" * 250 + "%file",
    ),
    *("l" * 255 + "%dir", "l" * 256 + "%file", "/" * 1024, "%" * 1024, "\0" * 1024, "./" * 512),
)
# The same name as a file, a directory, a marker, and with something below.
TWINS = (
    *("twin", "twin/", "twin//", "twin/x", "twin/x/", "twin/x/y", "twin/.", "twin%dir", "twin%dir/x", "twin%file"),
    *("deep/1/2/3", "deep/1/2", "deep/1", "deep", "deep/", "deep/1/2/", "marker", "marker/", "marker/in"),
)
OBJECTS: tuple[str | bytes, ...] = tuple(dict.fromkeys((*CLASSIC, *ESCAPES, *RESERVED, *LONG, *TWINS)))
# These are made empty and with the type that makes a directory of them.
MARKERS = frozenset({"marker", "marker/", "twin/x/", "deep/1", "%dir", "a%dir", "x/."})

CONTAINERS = (
    *(".", "..", "c" * 256, "c" * 257, "a\nb", "é"),
    *("%", "%2E", "%2E%2E", ".lustack", ".lustack.tmp.x", "%2Elustack", "c%dir", "c%file", "%+", "c" * 254, "c" * 255),
    *("é" * 128, "\x7f", " ", "c ", "-rf", "~", "50%.txt", "nul\0x"),
)
