"""The whole job: a batch of photographs in, published features and vectors out."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial, reduce
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

import numpy as np

from spark_job import contract, runs, tables
from spark_job.accounting import (
    RejectLimit,
    account,
    check_listed,
    in_words,
    require_all_read,
    require_equal,
    require_usable,
)
from spark_job.calibration import (
    FeaturesFile,
    OwnImages,
    SampledRun,
    calibrate_model,
    find_samples,
    is_calibrated,
)
from spark_job.choice import adopt, choose, find_current
from spark_job.claims import now
from spark_job.corrections import correct, read_corrections
from spark_job.dollars import estimate
from spark_job.drift import judge, warn
from spark_job.engines import start_engine
from spark_job.errors import JobError, NoImagesError, OutputRefusedError, UsageError
from spark_job.featurize import Featurizer, SecondPass, warm_up
from spark_job.findings.outliers import Far
from spark_job.findings.survey import survey
from spark_job.known import CarryingPass, ContentsPass, KnownContents, find_known
from spark_job.lineage import BatchMoments, published_receipt
from spark_job.listing import (
    PART_IMAGES,
    list_images,
    plan_parts,
    read_manifest,
    require_folder,
    spread,
    write_listing,
)
from spark_job.moments import Moments
from spark_job.networks import load_card, load_network
from spark_job.networks.extractor import RatePass
from spark_job.objects import open_folder
from spark_job.parts import SEVERAL
from spark_job.passes import (
    MomentsPass,
    ProjectionPass,
    choose_sample,
    group_parts,
    project_files,
    read_observed,
)
from spark_job.progress import Progress
from spark_job.reading import require_readable
from spark_job.receipt_tables import write_parts, write_receipt, write_variance
from spark_job.receipts import (
    EMPTY_DIGEST,
    Clock,
    ModelReceipt,
    RunReceipt,
    add_digests,
    add_up,
    versions,
)
from spark_job.samples import Sample, join
from spark_job.sketch import ContentSketch

if TYPE_CHECKING:
    from spark_job.calibration import Images
    from spark_job.choice import Choice
    from spark_job.claims import Claim
    from spark_job.corrections import Corrections
    from spark_job.drift import DriftCard
    from spark_job.engines import Engine
    from spark_job.findings.card import FindingsCard
    from spark_job.findings.survey import Survey
    from spark_job.known import KnownPart
    from spark_job.listing import Listing
    from spark_job.models import StoredModel
    from spark_job.networks import Card
    from spark_job.objects import Folder
    from spark_job.passes import VectorsReceipt
    from spark_job.receipts import Counts, Digests, PartReceipt
    from spark_job.settings import JobSettings

LOGGER = logging.getLogger("orchard")

MOST_MOMENTS = 32
"""Partial moments that the driver reads and merges, 6.6 MB each, however large the cluster."""


def run(settings: JobSettings) -> RunReceipt:
    """Run one batch and publish it, unless a run that started later is published already.

    Returns
    -------
    RunReceipt
        As written to ``run.json``.

    Raises
    ------
    JobError
        Where nothing could be published; its kind tells a caller what to do.
    """
    clock = Clock()
    card, images, output = prepare(settings)
    require_folder(images)
    corrections = None if settings.corrections is None else read_corrections(settings.corrections)
    claim = runs.claim_run(output, settings.batch, settings.run, images.uri, card.extractor)
    try:
        receipt = claim.settled
        if receipt is None:
            find_current(settings, output, card)  # what cannot be is told before the work
            if corrections is None:
                _miss_corrections(output, settings.batch)
            name = f"orchard {settings.batch}"
            with start_engine(
                settings.engine, master=settings.master, name=name, warm_up=warm_up(card.name)
            ) as engine:
                work = _Work(settings, claim, images, corrections, card, engine, clock)
                receipt = work.settle()
        else:
            LOGGER.info("run %s was settled before, and is published now", settings.run)
        _publish(claim, receipt)
    finally:
        claim.release()
    return receipt


def prepare(settings: JobSettings) -> tuple[Card, Folder, Folder]:
    """Look up a run's network, images and output, before any of them is read or written.

    Raises
    ------
    JobError
        Where the arguments do not fit each other, or name something that there is not.
    """
    card = load_card(settings.network)
    if settings.full_decode:
        card = card.in_full()
    load_network(card)
    _require_components(settings, card)
    images, output = open_folder(settings.images), open_folder(settings.output)
    _require_apart(images, output)
    return card, images, output


@dataclass(frozen=True)
class _Featurized:
    """What became of the listing: counts and digests of all parts, and their receipts."""

    counts: Counts
    digests: Digests
    receipts: list[PartReceipt]

    @property
    def parts(self) -> list[PartReceipt]:
        """The parts that have features."""
        return [receipt for receipt in self.receipts if receipt.features is not None]

    @property
    def rows(self) -> list[int]:
        """Rows of features of each of `parts`."""
        return [receipt.counts.featurized for receipt in self.parts]

    def files(self, groups: list[list[int]]) -> list[list[str]]:
        """Names of the features files of groups of `parts`, by their numbers there."""
        parts = self.parts
        return [[str(parts[number].features) for number in group] for group in groups]


@dataclass(frozen=True)
class _CarriedOver:
    """What earlier runs knew of a listing, and what is left of it.

    Attributes
    ----------
    rest
        What none of them knew.
    receipts
        Of the parts in which something was known.
    known
        Where it came from.
    parts
        In how many parts it was looked for.
    digest
        Of the whole listing, if it was looked for at all.
    """

    rest: Listing
    receipts: list[PartReceipt]
    known: list[KnownPart]
    parts: int = 0
    digest: str | None = None


@dataclass(frozen=True)
class _Work:
    """One run between its claim and its publication, stage by stage."""

    settings: JobSettings
    claim: Claim
    images: Folder
    corrections: Corrections | None
    card: Card
    engine: Engine
    clock: Clock

    def settle(self) -> RunReceipt:
        """Do all of it but the publication."""
        featurized = self._featurize()
        moments, contents = self._moments(featurized)
        files = _accepted(self.claim.work, self.card, featurized.receipts)
        files.append((contract.SAMPLE_FILE, contract.SAMPLE_FILE))
        runs.copy_files(self.claim, files)
        survey = self._survey(featurized, moments)
        while True:
            choice = choose(
                self.settings,
                self.claim.output,
                self.card,
                BatchMoments(
                    self.claim.batch,
                    self.claim.run,
                    self.card.extractor,
                    featurized.digests.images,
                    moments,
                    contents,
                ),
                partial(self._calibrate, featurized),
            )
            self.clock.lap("fit")
            vectors = self._project(featurized, choice)
            drift = self._drift(choice, moments, vectors)
            self._write_vectors(vectors, choice.model)
            self._write_small_files(featurized, moments, contents, choice.model)
            findings, found = self._settle_findings(survey, vectors)
            self.clock.lap("settle")
            told = self._told(choice, moments, vectors)
            receipt = replace(self._receipt(featurized, told), drift=drift, findings=findings)
            write_receipt(self.claim.results, receipt)
            runs.require_complete(self.claim, [*files, *_named(vectors), *found])
            with runs.uninterrupted():
                current = adopt(choice, self.settings, self.claim)
                if current is not None:
                    runs.settle(self.claim, receipt)
                    break
            LOGGER.warning(
                "another run made the current model meanwhile: the vectors are made again, with "
                "that one in mind; nothing is inferred again"
            )
            (self.claim.results / contract.VECTORS).clear()
        if current != receipt.model.model:
            LOGGER.warning(
                "the vectors are of the model %s, and later batches will reuse %s, which a run "
                "that started later published: run this batch again to compare with them",
                receipt.model.model,
                current,
            )
        return receipt

    def _told(
        self, choice: Choice, moments: Moments, vectors: list[VectorsReceipt]
    ) -> ModelReceipt:
        card = choice.model.card
        return ModelReceipt(
            model=card.model,
            k=card.k,
            n=card.n,
            rule=card.rule,
            standardize=card.standardize,
            variance_kept=card.variance_kept,
            variance_kept_here=choice.model.pca.variance_kept_of(moments),
            largest_z=max(file.largest_z for file in vectors),
            reused=choice.reused,
        )

    def _featurize(self) -> _Featurized:
        listing = _list(self.settings, self.images, self.corrections)
        LOGGER.info("%s images", f"{len(listing):,}")
        limits = partial(
            RejectLimit,
            self.claim.work,
            len(listing),
            self.settings.max_reject_rate,
            allow_unsupported=self.settings.allow_unsupported,
        )
        limit = limits()
        carried = self._carry_over(listing, limit)
        digest, computed = self._compute(carried, limit)
        receipts = carried.receipts + computed
        self.clock.lap("featurize")
        self.claim.require()
        counts, digests = account(listing, carried.digest or digest, receipts)
        limits().take(counts)  # once more: no engine promises to show each part on its way
        require_usable(self.claim.work, counts)
        return _Featurized(counts, digests, receipts)

    def _carry_over(self, listing: Listing, limit: RejectLimit) -> _CarriedOver:
        """Copy what earlier runs of the batch know of its images."""
        work = self.claim.work
        known = [] if self.settings.again else find_known(self.claim, self.card, self.images.uri)
        if not known:
            return _CarriedOver(listing, [], [])
        sizes = plan_parts(len(listing), self.engine.slots)
        digest = write_listing(work, listing, sizes)
        self.clock.lap("list and start")
        carrying = CarryingPass(work, self.card, self.settings.max_pixels, self.images.uri, known)
        found = self.engine.run("carry over", carrying, range(len(sizes)))
        unknown = [one.unknown(size) for one, size in zip(found, sizes, strict=True)]
        receipts = [one.receipt for one in found if one.receipt is not None]
        for receipt in receipts:
            limit(receipt)
        rest = listing.only(np.concatenate(unknown))
        LOGGER.info("%s of them are known already", f"{len(listing) - len(rest):,}")
        self.clock.lap("carry over")
        return _CarriedOver(rest, receipts, known, len(sizes), digest)

    def _compute(self, carried: _CarriedOver, limit: RejectLimit) -> tuple[str, list[PartReceipt]]:
        """Featurize what is left; the digest of its listing, and the parts' receipts."""
        rest, work = carried.rest, self.claim.work
        if not len(rest):
            return EMPTY_DIGEST, []
        size = rest.mean_bytes
        if not carried.receipts:  # else some could be read before, and what is left may be refused
            tried = require_readable(self.images, rest)
            size = size or tried  # as of a manifest, which tells no sizes
        seconds = self.engine.run("rate", RatePass(self.card.name), [0])[0]
        planned = plan_parts(len(rest), self.engine.slots, size, seconds)
        sizes, order = spread(planned, self.engine.slots)
        folder = work / contract.REST if carried.parts else work
        digest = write_listing(folder, rest, sizes)
        self.clock.lap("list and start")
        featurizer = Featurizer(
            self.images,
            work,
            self.card,
            self.settings.max_pixels,
            folder,
            carried.parts,
            self._index(carried.known),
        )
        before = sum(one.counts.listed for one in carried.receipts)
        with Progress(sizes, work, before) as progress:
            receipts = self.engine.run("features", featurizer, order, progress, limit)
        again = self._ask_again(featurizer, receipts, limit, before)
        require_all_read(again)
        return digest, receipts + again

    def _index(self, known: list[KnownPart]) -> KnownContents | None:
        """Index the contents of what is known, by which renamed images are found."""
        if not known:
            return None
        groups = np.array_split(np.arange(len(known)), min(MOST_MOMENTS, len(known)))
        contents = ContentsPass(
            self.claim.work, known, [group.tolist() for group in groups], self.settings.max_pixels
        )
        names = self.engine.run("contents", contents, range(len(groups)))
        self.clock.lap("carry over")
        return KnownContents(self.claim.work, names, known)

    def _ask_again(
        self,
        featurizer: Featurizer,
        receipts: list[PartReceipt],
        limit: RejectLimit,
        before: int,
    ) -> list[PartReceipt]:
        """Ask once more for the images that were not given, in parts of their own."""
        files = [one.postponed for one in receipts if one.postponed is not None]
        if not files:
            return []
        rows = [sum(one.busy.values()) for one in receipts if one.postponed is not None]
        LOGGER.warning(
            "%s images were not given (%s); they are asked for again, gently",
            f"{sum(rows):,}",
            in_words(add_up(one.busy for one in receipts)),
        )
        groups = group_parts(rows, max(self.engine.slots, sum(rows) // PART_IMAGES))
        again = {"first": featurizer.first + len(receipts), "contents": None}
        second = SecondPass(
            **(vars(featurizer) | again),
            groups=[[files[number] for number in group] for group in groups],
            since=time(),
        )
        sizes = [sum(rows[number] for number in group) for group in groups]
        done = sum(one.counts.listed for one in receipts)
        with Progress(sizes, self.claim.work, before + done) as progress:
            return self.engine.run(
                "postponed features", second, range(len(groups)), progress, limit
            )

    def _moments(self, featurized: _Featurized) -> tuple[Moments, ContentSketch]:
        work, rows = self.claim.work, featurized.rows
        grouped = group_parts(rows, min(MOST_MOMENTS, self.engine.slots))
        groups, chosen = featurized.files(grouped), choose_sample(rows, grouped)
        moments_pass = MomentsPass(work, groups, self.card.features, chosen)
        receipts = self.engine.run("moments", moments_pass, range(len(groups)))
        moments, contents = Moments.empty(self.card.features), ContentSketch.empty()
        # In the groups' order, so that the last bits do not depend on which task ended first.
        for one in receipts:
            content = work.read(one.file)
            moments = moments.merge(Moments.from_bytes(content))
            contents = contents.merge(ContentSketch.from_bytes(content) or ContentSketch.empty())
        require_equal("features read back", moments.n, sum(rows))
        read_back = add_digests(one.features for one in receipts)
        require_equal("features read back, by their bytes", read_back, featurized.digests.features)
        sample = join([Sample.from_bytes(work.read(one.sample)) for one in receipts])
        work.write(contract.SAMPLE_FILE, sample.to_bytes())
        self.clock.lap("moments")
        return moments, contents

    def _calibrate(
        self, featurized: _Featurized, model: StoredModel, batches: list[dict[str, Any]]
    ) -> StoredModel:
        """Give a model a calibration, on images of all its batches, unless it has a whole one."""
        work, n = self.claim.work, sum(featurized.rows)
        alone = [(one["run"], one["n"]) for one in batches] == [(self.claim.run, n)]
        if is_calibrated(model) and not alone:
            return model
        self.clock.lap("fit")
        images: Images
        if alone:
            parts = zip(featurized.parts, featurized.rows, strict=True)
            images = OwnImages.of(
                [
                    FeaturesFile(work, f"{contract.FEATURES}/{part.features}", rows)
                    for part, rows in parts
                ]
            )
        else:
            own = {self.claim.batch: SampledRun(work, n)}
            images = find_samples(self.claim.output, model.card, batches, own)
        calibrated = calibrate_model(self.engine, self.claim.output, model, images)
        self.clock.lap("calibrate")
        return calibrated

    def _drift(
        self, choice: Choice, moments: Moments, vectors: list[VectorsReceipt]
    ) -> DriftCard | None:
        """Hold the batch against its model's own; None where that is of this very batch."""
        if not vectors[0].drift:
            return None
        observed = read_observed(self.claim.work, vectors)
        card = judge(observed, moments, choice.model.pca, choice.model.calibration)
        warn(card)
        return card

    def _survey(self, featurized: _Featurized, moments: Moments) -> Survey | None:
        """Look for what a person should look at; None where that is not asked for."""
        if self.settings.findings == contract.NONE:
            return None
        names = [str(part.features) for part in featurized.parts]
        found = survey(self.engine, self.claim.work, names, featurized.rows, moments)
        self.clock.lap("findings")
        return found

    def _settle_findings(
        self, survey: Survey | None, vectors: list[VectorsReceipt]
    ) -> tuple[FindingsCard | None, list[tuple[str, str]]]:
        """Write the findings' tables, and copy them into the run's folder."""
        if survey is None:
            return None, []
        far = reduce(Far.merge, (one.far for one in vectors))
        card, files = survey.settle(self.claim.work, {"extractor": self.card.extractor}, far)
        runs.copy_files(self.claim, files)
        return card, files

    def _project(self, featurized: _Featurized, choice: Choice) -> list[VectorsReceipt]:
        model = choice.model
        ids = {"extractor": self.card.extractor, "model": model.card.model}
        held = choice.reused and model.card.images != featurized.digests.images
        far = None if model.calibration is None else model.calibration.far
        projection = ProjectionPass(self.claim.work, [], model.pca, ids, drift=held, far=far)
        names = [str(part.features) for part in featurized.parts]
        vectors = project_files(self.engine, projection, names, featurized.rows)
        require_equal("vectors written", sum(one.rows for one in vectors), sum(featurized.rows))
        self.clock.lap("project")
        return vectors

    def _write_vectors(self, vectors: list[VectorsReceipt], model: StoredModel) -> None:
        """Copy the vectors' files under their plain names, and write the CSV if it is wanted."""
        files = _named(vectors)
        runs.copy_files(self.claim, files)
        if self.settings.csv:
            names = [target for _, target in files]
            tables.write_vectors_csv(self.claim.results, names, model.card.k)

    def _write_small_files(
        self,
        featurized: _Featurized,
        moments: Moments,
        contents: ContentSketch,
        model: StoredModel,
    ) -> None:
        results = self.claim.results
        ids = {"batch": self.claim.batch, "run": self.claim.run}
        ids |= {"extractor": self.card.extractor, "images": featurized.digests.images}
        results.write(contract.MOMENTS_FILE, moments.to_bytes(ids, contents))
        write_variance(results, model.pca)
        write_parts(results, featurized.receipts)
        if self.corrections is not None:
            results.write(contract.CORRECTIONS_FILE, self.corrections.to_csv())

    def _receipt(self, featurized: _Featurized, model: ModelReceipt) -> RunReceipt:
        engine = self.engine.receipt()
        seconds = self.clock.total
        return RunReceipt(
            batch=self.claim.batch,
            run=self.claim.run,
            images=self.images.uri,
            output=self.claim.output.uri,
            results=self.claim.results.uri,
            started=self.claim.started,
            finished=now(),
            counts=featurized.counts,
            digests=featurized.digests,
            model=model,
            engine=engine,
            network=self.card.name,
            extractor=self.card.extractor,
            processors=_processors(featurized.receipts),
            images_per_second=round(featurized.counts.listed / seconds, 1),
            seconds=self.clock.seconds | {"total": round(seconds, 3)},
            seconds_in_workers=add_up(receipt.seconds for receipt in featurized.receipts),
            settings=asdict(self.settings),
            versions=versions(*(["pyspark"] if engine.name == "spark" else [])),
            dollars=estimate(self.settings, datetime.now(UTC)),
        )


def _publish(claim: Claim, receipt: RunReceipt) -> None:
    publication = runs.publish(claim.output, receipt)
    if publication.run != receipt.run:
        LOGGER.warning(
            "run %s is complete in %s, and run %s of this batch, which started later (%s), is the "
            "published one",
            receipt.run,
            receipt.results,
            publication.run,
            publication.started,
        )
    try:
        runs.clean_up(claim)
    except OSError as error:  # a late worker may write on while its folder is removed
        LOGGER.warning("what the run worked with could not be removed: %s", error)


def _processors(receipts: list[PartReceipt]) -> dict[str, int]:
    """Count the parts by the kind of processor that computed them; warn of several."""
    kinds = Counter(kind for one in receipts for kind in one.processor.split(SEVERAL))
    if len(kinds) > 1:
        LOGGER.warning(
            "several kinds of processor computed this run (%s): features of the same image may "
            "differ in their last bits between them",
            "; ".join(kinds),
        )
    return dict(kinds)


def _require_components(settings: JobSettings, card: Card) -> None:
    if settings.components is not None and settings.components > card.features:
        raise UsageError(
            f"--components {settings.components} is more than the {card.features} features that "
            f"the network {card.name} gives; choose 1 to {card.features}"
        )


def _require_apart(images: Folder, output: Folder) -> None:
    """Refuse to write results among the images, where the next run would list them."""
    inner, outer = (
        str(Path(folder.uri).resolve()) if folder.is_local else folder.uri
        for folder in (output, images)
    )
    if f"{inner}/".startswith(f"{outer.rstrip('/')}/"):
        raise OutputRefusedError(
            f"--output {output.uri} lies inside --images {images.uri}; choose a folder outside of "
            "it"
        )


def _miss_corrections(output: Folder, batch: str) -> None:
    """Say that the published run has corrections which this one is not given."""
    with suppress(JobError):  # which is told where it matters
        published = published_receipt(output, batch)
        if published is not None and (published.counts.dropped or published.counts.relabelled):
            LOGGER.warning(
                "the published run of the batch has corrections (%s dropped, %s relabelled), and "
                "this one has none; to keep them give --corrections %s/%s",
                f"{published.counts.dropped:,}",
                f"{published.counts.relabelled:,}",
                published.results,
                contract.CORRECTIONS_FILE,
            )


def _list(settings: JobSettings, folder: Folder, corrections: Corrections | None) -> Listing:
    if settings.manifest is None:
        listing = list_images(folder)
    else:
        listing = read_manifest(settings.manifest, folder)
    if not len(listing):
        others = sum(listing.ignored.values())
        raise NoImagesError(
            f"no images in {settings.manifest or folder.uri}"
            + (f" ({others} other files: {in_words(listing.ignored)})" if others else "")
            + "; Orchard takes JPEG, PNG, WebP, AVIF, BMP, GIF and TIFF files, in folders named by "
            "label"
        )
    if corrections is not None:
        listing = correct(listing, corrections)
        if not len(listing):
            raise NoImagesError(
                f"the corrections {corrections.uri} drop all {listing.dropped:,} images of "
                f"{settings.manifest or folder.uri}; leave out what is to stay"
            )
    check_listed(listing, allow_unsupported=settings.allow_unsupported)
    return listing


def _accepted(work: Folder, card: Card, receipts: list[PartReceipt]) -> list[tuple[str, str]]:
    """Name the files that become features and rejects: in the work folder, and in the run's."""
    files = [
        (f"{table}/{name}", f"{table}/{tables.part_name(receipt.part)}")
        for receipt in receipts
        for table, name in (
            (contract.FEATURES, receipt.features),
            (contract.REJECTS, receipt.rejects),
        )
        if name is not None
    ]
    if not any(receipt.rejects for receipt in receipts):
        name = f"{contract.REJECTS}/{tables.part_name(0)}"
        ids = {"extractor": card.extractor}
        tables.write_empty(work, name, tables.REJECTS_SCHEMA, ids)
        files.append((name, name))
    return files


def _named(vectors: list[VectorsReceipt]) -> list[tuple[str, str]]:
    """Name the files that become vectors: in the work folder, and in the run's."""
    return [
        (file.file, f"{contract.VECTORS}/{tables.part_name(number)}")
        for number, file in enumerate(vectors)
    ]
