"""What a person should look at in a batch: the passes over it, and what they add up to.

Two passes over the features table: `placing` gives each image a point and deals it out to cells,
`looking` holds each cell's images against their neighbours. What the driver reads and holds of
them is bounded, whatever the size of the batch.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from spark_job import contract, tables
from spark_job.findings import schemas
from spark_job.findings.card import FindingsCard
from spark_job.findings.duplicates import (
    FEW_BITS,
    FURTHER,
    MANY,
    MOST_BITS,
    NEAR,
    Copy,
    Group,
    group,
)
from spark_job.findings.labels import LabelSums
from spark_job.findings.looking import KINDS, MOST_SUSPECTS, SHOWN, Cell, LookingPass
from spark_job.findings.members import LARGEST, SAMPLE, count_cells, find_centres
from spark_job.findings.neighbours import KEPT, SEARCHED
from spark_job.findings.outliers import (
    BINS,
    FAR,
    GREY,
    MOST_OUTLIERS,
    NO_COLOUR,
    RARE,
    UNLIKE,
    Z,
    median_and_deviation,
    modified_z,
)
from spark_job.findings.placing import PlacingPass, Queries, SamplePass, Source
from spark_job.findings.selection import CANDIDATES, FEWEST, MOST, farthest_first
from spark_job.findings.space import SearchSpace
from spark_job.findings.streams import read_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from spark_job.engines import Engine
    from spark_job.findings.looking import Looked
    from spark_job.findings.outliers import Far
    from spark_job.findings.placing import Placed
    from spark_job.moments import Moments
    from spark_job.objects import Folder

FRAMES = 0.30
"""Share of images of a series (`duplicates.MANY`) above which nearly identical pictures are what a
batch is made of, and not copies to be listed."""

GROUP_IMAGES = 100_000
"""Images whose points a worker holds before it writes them down, about."""

SAMPLE_FILES = 64
"""Most files that the centres of cells are found from."""

QUERIES = 200
"""Images of which all neighbours are looked for, to find how many the cells miss."""

MOST_COPIES = 100_000
"""Most pairs of copies of either kind that are joined to groups."""

LEAST_OUTLIERS, OUTLIERS_SHARE = 20, 0.01
"""Outliers in their table, of a batch without any that stand out: so many, or a share of it."""


@dataclass(frozen=True)
class Survey:
    """What was found, but for what depends on the model.

    Attributes
    ----------
    card
        With the counts so far.
    neighbours
        Names of the files of their table in the work folder.
    tables
        The other tables, but for the outliers.
    unlike, grey
        Candidates for outliers, the most unlike and the least colourful first.
    all_grey
        How many images have no colour.
    scores
        Histogram of how unlike all images are.
    """

    card: FindingsCard
    neighbours: list[str]
    tables: dict[str, pa.Table]
    unlike: list[dict[str, Any]]
    grey: list[dict[str, Any]]
    all_grey: int
    scores: NDArray[np.int64]

    def settle(
        self, work: Folder, ids: dict[str, str], far: Far
    ) -> tuple[FindingsCard, list[tuple[str, str]]]:
        """Write the tables into the work folder.

        Parameters
        ----------
        work
            The run's work folder.
        ids
            Named in the footers.
        far
            Images far outside the model.

        Returns
        -------
        FindingsCard, list
            The whole card; and names of files, in the work folder and in the run's.
        """
        outliers, standing_out = _outliers(self, far)
        finished = {**self.tables, "outliers": outliers}
        files = []
        for kind, table in finished.items():
            name = f"{contract.FINDINGS}/{kind}/{tables.part_name(0)}"
            columns = [column.combine_chunks() for column in table.columns]
            tables.write_table(work, name, schemas.KINDS[kind], columns, ids)
            files.append((name, name))
        for number, file in enumerate(self.neighbours):
            target = f"{contract.FINDINGS}/neighbours/{tables.part_name(number)}"
            files.append((file, target))
        return replace(self.card, outliers=standing_out), files


def survey(
    engine: Engine, work: Folder, names: list[str], rows: list[int], moments: Moments
) -> Survey:
    """Look at a batch.

    Parameters
    ----------
    engine
        Does the work.
    work
        The run's work folder, in which the features table is.
    names, rows
        Its files, and how many rows each has.
    moments
        Of the features.
    """
    clock = perf_counter()
    space = SearchSpace.of(moments)
    images = sum(rows)
    firsts = np.cumsum([0, *rows[:-1]])
    sources = [Source(*one) for one in zip(names, rows, firsts.tolist(), strict=True)]
    centres, queries = _centres(engine, work, space, sources, images)
    groups = _group(sources, max(engine.slots, -(-images // GROUP_IMAGES)))
    placing = PlacingPass(work, space, groups, centres, queries)
    placed = engine.run("places", placing, range(len(groups)))
    labels = LabelSums.empty(space.axes.shape[1])
    for one in placed:
        labels = labels.merge(LabelSums.from_bytes(work.read(one.labels)))
    cells = _cells(placed, len(centres))
    looking = LookingPass(
        work=work,
        folder=contract.FINDINGS,
        placed=placed,
        cells=cells,
        axes=space.axes.shape[1],
        names=labels.names,
        centres=labels.centres.astype(np.float32),
        queries=queries,
        nearest=_tenth_nearest(placed),
        proposed=min(MOST, max(FEWEST, CANDIDATES // len(cells))),
    )
    looked = engine.run("neighbours", looking, range(len(cells)))
    found = _Found(work, looked)
    asked = sum(one.asked for one in looked)
    duplicates, counts = _duplicates(found, images)
    selection = _selection(found)
    card = FindingsCard(
        images=images,
        **counts,
        suspects=sum(one.contradicted for one in looked),
        outliers=0,
        selected=len(selection),
        radius=float(selection["distance"][-1].as_py()) if len(selection) else 0.0,
        labels=len(labels.names),
        cells=len(cells),
        recall=sum(one.right for one in looked) / asked if asked else 1.0,
        seconds=0.0,
        parameters=_parameters(space),
    )
    scores = sum((one.scores for one in looked), np.zeros(BINS, np.int64))
    return Survey(
        card=replace(card, seconds=round(perf_counter() - clock, 3)),
        neighbours=[one.neighbours for one in looked if one.neighbours is not None],
        tables={
            "duplicates": duplicates,
            "suspects": _suspects(found),
            "selection": selection,
            "labels": _labels(found, labels),
        },
        unlike=list(found.best("unlike", lambda row: (-row["score"], row["path"]), MOST_OUTLIERS)),
        grey=list(found.best("grey", lambda row: (row["score"], row["path"]), MOST_OUTLIERS)),
        all_grey=sum(one.grey for one in looked),
        scores=scores,
    )


@dataclass(frozen=True)
class _Found:
    """The cells' tables, read one at a time."""

    work: Folder
    looked: list[Looked]

    def tables(self, kind: str) -> Iterator[pa.Table]:
        """Yield the cells' tables of a kind."""
        number = KINDS.index(kind)
        for one in self.looked:
            yield read_stream(self.work, one.found, one.start[number], one.start[number + 1])

    def rows(self, kind: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of all cells."""
        for table in self.tables(kind):
            yield from table.to_pylist()

    def best(
        self, kind: str, key: Callable[[dict[str, Any]], Any], most: int
    ) -> list[dict[str, Any]]:
        """Give the first of all rows by `key`."""
        return heapq.nsmallest(most, self.rows(kind), key=key)


def _centres(
    engine: Engine, work: Folder, space: SearchSpace, sources: list[Source], images: int
) -> tuple[NDArray[np.float32], Queries]:
    """Centres of the cells, and images to find out with how well the cells do."""
    cells = count_cells(images)
    axes = space.axes.shape[1]
    if cells == 1:
        nothing = np.zeros((0, axes), np.float32)
        return np.zeros((1, axes), np.float32), Queries(np.zeros(0, np.int64), nothing)
    step = max(1.0, len(sources) / SAMPLE_FILES)
    files = [sources[int(at * step)] for at in range(min(len(sources), SAMPLE_FILES))]
    most = -(-max(cells * SAMPLE, QUERIES) // len(files))
    sample = engine.run("sample", SamplePass(work, space, files, most), range(len(files)))
    rows = np.concatenate([one for one, _ in sample])
    points = np.concatenate([one for _, one in sample])
    chosen = np.unique(np.linspace(0, len(rows) - 1, QUERIES).astype(int))
    return find_centres(points, cells), Queries(rows[chosen], points[chosen])


def _group(sources: list[Source], groups: int) -> list[list[Source]]:
    """Spread files over at most `groups` runs of files, of about equal rows."""
    total = sum(one.rows for one in sources)
    grouped: dict[int, list[Source]] = defaultdict(list)
    for one in sources:
        grouped[(2 * one.first + one.rows) * groups // (2 * total)].append(one)
    return list(grouped.values())


def _cells(placed: list[Placed], cells: int) -> list[Cell]:
    """The cells, those with too many members in pieces."""
    members = np.sum([one.members for one in placed], axis=0)
    found = []
    for cell in range(cells):
        pieces = -(-int(members[cell]) // LARGEST)
        found += [Cell(cell, piece, pieces) for piece in range(pieces)]
    return found


def _tenth_nearest(placed: list[Placed]) -> NDArray[np.float32]:
    near = np.concatenate([one.near for one in placed], axis=1)
    tenth: NDArray[np.float32] = np.partition(near, KEPT - 1, axis=1)[:, KEPT - 1]
    return tenth


def _parameters(space: SearchSpace) -> dict[str, Any]:
    return {
        "axes": space.axes.shape[1],
        "neighbours": KEPT,
        "searched": SEARCHED,
        "near": NEAR,
        "further": FURTHER,
        "few_bits": FEW_BITS,
        "most_bits": MOST_BITS,
        "frames": FRAMES,
        "many": MANY,
        "grey": GREY,
        "z": Z,
    }


def _duplicates(found: _Found, images: int) -> tuple[pa.Table, dict[str, Any]]:
    """The table of duplicates, and what the card says of them."""
    near = sum(one.near for one in found.looked)
    frames = sum(one.frames for one in found.looked) > FRAMES * images
    pairs: list[tuple[Copy, Copy, float, int]] = []
    left_out = 0 if frames else sum(one.left_out for one in found.looked)
    for kind in ("identical",) if frames else ("identical", "near"):
        before = len(pairs)
        for table in found.tables(kind):
            room = MOST_COPIES - (len(pairs) - before)
            left_out += max(0, len(table) - room)
            pairs += [_pair(row) for row in table.slice(0, room).to_pylist()]
    groups = group(pairs)
    pure = sum(one.is_identical for one in groups)
    contents = _identical_contents(groups)
    rows = [row for number, one in enumerate(groups) for row in _group_rows(number, one)]
    counts = {
        "identical": sum(contents),
        "identical_groups": len(contents),
        "near": near,
        "near_share": near / images,
        "near_groups": None if frames else len(groups) - pure,
        "duplicates_listed": len(rows),
        "duplicates_left_out": left_out,
    }
    return pa.Table.from_pylist(rows, schemas.DUPLICATES), counts


def _identical_contents(groups: list[Group]) -> list[int]:
    """How many images each content has that several have, in groups of either kind."""
    counts = [Counter(image.sha256 for image in one.images) for one in groups]
    return [images for one in counts for images in one.values() if images > 1]


def _pair(row: dict[str, Any]) -> tuple[Copy, Copy, float, int]:
    first, second = (
        Copy(*(row[f"{side}_{name}"] for name in ("path", "label", "sha256", "pixels", "bytes")))
        for side in ("first", "second")
    )
    return first, second, row["distance"], row["bits"]


def _group_rows(number: int, one: Group) -> Iterator[dict[str, Any]]:
    for place, image in enumerate(one.images):
        yield {
            "group": number,
            "kind": "identical" if one.is_identical else "near",
            "path": image.path,
            "label": image.label,
            "keep": place == 0,
            "sha256": image.sha256,
            "pixels": image.pixels,
            "bytes": image.bytes,
            "distance": one.distance[place],
            "bits": one.bits[place],
        }


def _suspects(found: _Found) -> pa.Table:
    rows = found.best(
        "suspects", lambda row: (-row["margin"], row["distance"], row["path"]), MOST_SUSPECTS
    )
    ranked = [row | {"rank": rank} for rank, row in enumerate(rows, 1)]
    return pa.Table.from_pylist(ranked, schemas.SUSPECTS)


def _selection(found: _Found) -> pa.Table:
    candidates = pa.concat_tables(found.tables("candidates")).combine_chunks()
    points = tables.as_matrix(candidates["point"]) if len(candidates) else np.zeros((0, 1))
    chosen, radius = farthest_first(points.astype(np.float32), MOST)
    taken = candidates.select(["path", "label"]).take(pa.array(chosen))
    ranks = pa.array(np.arange(1, len(chosen) + 1))
    columns = [ranks, taken["path"], taken["label"], pa.array(radius, pa.float32())]
    return pa.table(columns, schema=schemas.SELECTION)


def _labels(found: _Found, labels: LabelSums) -> pa.Table:
    decided: Counter[str] = Counter()
    agreeing: Counter[str] = Counter()
    lost: dict[str, Counter[str]] = defaultdict(Counter)
    told = set(labels.names)
    for row in found.rows("tallies"):
        own, won, images = row["own"], row["won"], row["images"]
        if own in told:
            decided[own] += images
            if own == won:
                agreeing[own] += images
            else:
                lost[own][won] += images
    near, far = _typical(found, labels)
    nearest, distance = labels.nearest()
    rows = []
    for number, name in enumerate(labels.names):
        most = min(lost[name].items(), key=lambda one: (-one[1], one[0]), default=(None, 0))
        rows.append(
            {
                "label": name,
                "n": int(labels.n[number]),
                "spread": float(labels.spread[number]),
                "nearest": labels.names[nearest[number]] if nearest[number] >= 0 else None,
                "nearest_distance": float(distance[number]) if nearest[number] >= 0 else None,
                "agreeing": agreeing[name] / decided[name] if decided[name] else None,
                "confused_with": most[0],
                "confused": most[1],
                "typical": [path for _, path in near[number]],
                "least_typical": [path for _, path in far[number]],
            }
        )
    return pa.Table.from_pylist(rows, schemas.LABELS)


def _typical(
    found: _Found, labels: LabelSums
) -> tuple[dict[int, list[tuple[float, str]]], dict[int, list[tuple[float, str]]]]:
    """The images of each label nearest to its centre, and those farthest from it, but for those."""
    near: dict[int, list[tuple[float, str]]] = defaultdict(list)
    far: dict[int, list[tuple[float, str]]] = defaultdict(list)
    for table in found.tables("typical"):
        for label, path, squared in zip(*(one.to_pylist() for one in table.columns), strict=True):
            near[label].append((squared, path))
            far[label].append((-squared, path))
        for label in set(table["label"].to_pylist()):
            near[label] = heapq.nsmallest(SHOWN, near[label])
            far[label] = heapq.nsmallest(SHOWN, far[label])
    for number, n in enumerate(labels.n):
        # Of few images none is both.
        far[number] = far[number][: max(0, int(n) - len(near[number]))]
    return near, far


@dataclass(frozen=True)
class _Candidate:
    """An image that may be an outlier for one or more reasons."""

    path: str
    label: str | None
    reasons: list[str]
    share: float
    z: float
    nearest: str | None
    distance: float | None

    @property
    def stands_out(self) -> bool:
        """Whether it is more than one of the most unlike, of which there are always some."""
        return self.z >= Z or self.reasons != [UNLIKE]


def _outliers(found: Survey, far: Far) -> tuple[pa.Table, int]:
    """The table of outliers, and how many of them stand out.

    Those come first; images are ranked by how many of the batch are as far off in the same way.
    """
    images = found.card.images
    median, deviation = median_and_deviation(found.scores)
    candidates: dict[str, _Candidate] = {}
    for rank, row in enumerate(found.unlike, 1):
        z = modified_z(row["score"], median, deviation)
        _add(candidates, row, UNLIKE, rank / images, z)
    unnamed = 0
    if found.all_grey <= RARE * images:
        unnamed += found.all_grey - len(found.grey)
        for row in found.grey:
            _add(candidates, row, NO_COLOUR, found.all_grey / images)
    if far.all <= RARE * images:
        unnamed += far.all - len(far.images)
        for rank, one in enumerate(far.images, 1):
            _add(candidates, {"path": one.path, "label": one.label}, FAR, rank / images)
    ranked = sorted(
        candidates.values(), key=lambda one: (not one.stands_out, one.share, -one.z, one.path)
    )
    standing_out = sum(one.stands_out for one in ranked)
    most = min(MOST_OUTLIERS, max(LEAST_OUTLIERS, int(OUTLIERS_SHARE * images), standing_out))
    rows = [
        {
            "rank": rank,
            "path": one.path,
            "label": one.label,
            "reason": "; ".join(one.reasons),
            "share": one.share,
            "z": one.z,
            "nearest": one.nearest,
            "distance": one.distance,
        }
        for rank, one in enumerate(ranked[:most], 1)
    ]
    return pa.Table.from_pylist(rows, schemas.OUTLIERS), standing_out + unnamed


def _add(
    candidates: dict[str, _Candidate],
    row: dict[str, Any],
    reason: str,
    share: float,
    z: float = 0.0,
) -> None:
    known = candidates.get(row["path"])
    if known is None:
        near = row.get("nearest"), row.get("distance")
        candidates[row["path"]] = _Candidate(row["path"], row["label"], [reason], share, z, *near)
        return
    rarer = share < known.share
    reasons = [reason, *known.reasons] if rarer else [*known.reasons, reason]
    if known.z < Z and UNLIKE in reasons:
        reasons.remove(UNLIKE)  # it is on the list for being the most unlike of those that are not
    candidates[row["path"]] = replace(known, reasons=reasons, share=min(share, known.share))
