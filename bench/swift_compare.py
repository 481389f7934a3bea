# SPDX-License-Identifier: Apache-2.0
"""Our storage policy beside Swift's own: same machine, same file system, same moment.

    python bench/swift_compare.py [--quick] [--seconds 300] [--requests 100] [--workers 2] [--clients 8] [--json FILE]

Starts two Swifts, one with a stock proxy and both policies, one with the short path, and sends small slices of requests
to them in turn, so that whatever else the machine does hits all. Each ratio, of one of our ways to stock, is the median
over the rounds, with its quartiles; below 1 is less time, less CPU. CPU is what the servers used, from the kernel's
clock of each process. nginx, if there is one, serves the same file for the largest GET. As root the objects are on an
XFS file system in a file. Everything is removed in the end.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lanes import METHODS, NGINX, SHORT, SOCKET, STOCK, Lane, Setting, Slice, all_lanes, tell

SIZES = {"1 KiB": 1024, "4 MiB": 4 << 20, "256 MiB": 256 << 20}
HUGE_BYTES = 64 << 20
"""Objects from this size on are one in a slice, which is read several times."""
TIMES_READ = 4

LARGE_BYTES = 1 << 20
FEWER = 8
"""Large objects are so many times fewer in a slice."""
LEAST_ROUNDS = 3
CLIENTS_FOR_EACH_WORKER = 4
"""So that every worker has some of them."""


FIGURES: Mapping[str, Callable[[Slice], float]] = {
    "requests/s": lambda part: part.rate,
    "p50 ms": lambda part: part.p50_ms,
    "CPU ms": lambda part: part.cpu_ms,
}


@dataclass(frozen=True)
class Case:
    """What a slice does.

    Attributes:
        method: of its requests.
        size: of its objects, in words.
        objects: the name of each request's object.
        clients: connections at the same time.
    """

    method: str
    size: str
    objects: list[str]
    clients: int

    @property
    def is_for_nginx(self) -> bool:
        """Whether nginx does that, too."""
        return self.method == "GET" and SIZES[self.size] >= HUGE_BYTES


def cases_of(requests: int, clients: int) -> Iterator[Case]:
    """Every kind of slice, in the order of a round.

    A huge object is read several times, since once is over too soon to be measured, and by one client.
    """
    for size, size_bytes in SIZES.items():
        for method in METHODS:
            if size_bytes >= HUGE_BYTES:
                yield Case(method, size, ["0"] * (TIMES_READ if method == "GET" else 1), 1)
            else:
                count = max(requests // FEWER, clients) if size_bytes > LARGE_BYTES else requests
                yield Case(method, size, [str(number) for number in range(count)], clients)


def measure(lanes: Mapping[str, Lane], cases: list[Case], seconds: float) -> list[list[dict[str, Slice]]]:
    """Rounds until the time is over: for each case, for each round, the slice of each lane."""
    bodies = {size: os.urandom(size_bytes) for size, size_bytes in SIZES.items()}
    found: list[list[dict[str, Slice]]] = [[] for _ in cases]
    started, rounds = time.monotonic(), 0
    while rounds <= LEAST_ROUNDS or time.monotonic() - started < seconds:
        for case, slices in zip(cases, found, strict=True):
            names = [name for name in lanes if name != NGINX or case.is_for_nginx]
            order = names if rounds % 2 else names[::-1]
            body = bodies[case.size]
            slices.append({name: lanes[name].slice(case.method, body, case.objects, case.clients) for name in order})
        rounds += 1
        tell(f"round {rounds}, {time.monotonic() - started:.0f} s, load {os.getloadavg()[0]:.1f}")
    # The first one fills caches.
    return [slices[1:] for slices in found]


def ratio(values: list[float], bases: list[float]) -> tuple[float, float, float]:
    """The median of the ratios of each round, and the quartiles on both sides of it."""
    ratios = [value / base for value, base in zip(values, bases, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return middle, low, high


def summarise(rounds: list[dict[str, Slice]]) -> dict[str, dict[str, dict[str, float]]]:
    """Figure -> lane -> its median, and median and quartiles of its ratio to stock."""
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for figure, of in FIGURES.items():
        stock = [of(each[STOCK]) for each in rounds]
        for name in rounds[0]:
            values = [of(each[name]) for each in rounds]
            middle, low, high = ratio(values, stock)
            lane = {"median": statistics.median(values), "ratio": middle, "ratio_low": low, "ratio_high": high}
            summary.setdefault(figure, {})[name] = lane
    return summary


def render(summaries: Mapping[tuple[str, str], Mapping[str, Mapping[str, Mapping[str, float]]]]) -> Iterator[str]:
    """A table in Markdown for each figure."""
    lanes = (SOCKET, SHORT, NGINX)
    for figure in FIGURES:
        yield f"| {figure} | stock | " + " | ".join(f"{name}: ratio" for name in lanes) + " |"
        yield "| --- | ---: |" + " ---: |" * len(lanes)
        for (method, size), summary in summaries.items():
            of = summary[figure]
            cells = [
                f"**{of[name]['ratio']:.2f}** ({of[name]['ratio_low']:.2f}-{of[name]['ratio_high']:.2f})"
                if name in of
                else ""
                for name in lanes
            ]
            yield f"| {method} {size} | {of[STOCK]['median']:.2f} | " + " | ".join(cells) + " |"
        yield ""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one minute")
    parser.add_argument("--seconds", type=float, default=300, help="how long (%(default)s)")
    parser.add_argument("--requests", type=int, default=100, help="small requests in a slice (%(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes of each server (%(default)s)")
    parser.add_argument("--clients", type=int, help="connections at the same time (four for each worker)")
    parser.add_argument("--at", metavar="DIR", help="where the file of the file system and the databases lie")
    parser.add_argument("--no-mount", action="store_true", help="objects below --at itself, a Lustre for example")
    parser.add_argument("--json", metavar="FILE", type=Path, help="all slices and the summary as well")
    wanted = parser.parse_args()
    clients = wanted.clients or CLIENTS_FOR_EACH_WORKER * wanted.workers
    cases = list(cases_of(wanted.requests, clients))
    load = os.getloadavg()
    # One process serves by itself, without another that watches it.
    setting = Setting(wanted.at, is_mounted=not wanted.no_mount, workers=wanted.workers if wanted.workers > 1 else 0)
    with all_lanes(setting) as lanes:
        found = measure(lanes, cases, 60 if wanted.quick else wanted.seconds)
    summaries = {(case.method, case.size): summarise(slices) for case, slices in zip(cases, found, strict=True)}
    print(
        f"{len(found[0])} rounds of {wanted.requests} small, {wanted.requests // FEWER} large and 1 huge requests, "
        f"{wanted.workers} workers, {clients} clients, {os.cpu_count()} cores, "
        f"load {load[0]:.1f} before, {os.getloadavg()[0]:.1f} after\n"
    )
    print("\n".join(render(summaries)))
    for case, slices in zip(cases, found, strict=True):
        if case.is_for_nginx and NGINX in slices[0]:
            print(f"{case.method} {case.size}, short path to nginx: {beside_nginx(slices)}")
    if wanted.json:
        wanted.json.write_text(json.dumps(list(document(cases, found))))


def beside_nginx(slices: list[dict[str, Slice]]) -> str:
    """The ratios of the short path to nginx."""
    parts = []
    for figure, of in FIGURES.items():
        middle, low, high = ratio([of(each[SHORT]) for each in slices], [of(each[NGINX]) for each in slices])
        parts.append(f"{figure} {middle:.2f} ({low:.2f}-{high:.2f})")
    return ", ".join(parts)


def document(cases: list[Case], found: list[list[dict[str, Slice]]]) -> Iterator[dict[str, object]]:
    """Everything, for a file."""
    for case, slices in zip(cases, found, strict=True):
        yield {
            "method": case.method,
            "size": case.size,
            "summary": summarise(slices),
            "rounds": [{name: dataclasses.asdict(part) for name, part in each.items()} for each in slices],
        }


if __name__ == "__main__":
    main()
