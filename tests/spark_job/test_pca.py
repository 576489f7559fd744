"""PCA from moments, against scikit-learn and pyspark.ml on the data themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from spark_job import pca
from spark_job.errors import JobError
from spark_job.moments import Moments

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyspark.sql import SparkSession


def correlated(rows: int, features: int, *, seed: int = 0) -> NDArray[np.float64]:
    """Rows with a falling spectrum, like a network's features: not negative, on unlike scales.

    None of the scales is below `SMALLEST_SCALE` of the median one.
    """
    random = np.random.default_rng(seed)
    basis = random.standard_normal((features, features))
    spectrum = np.exp(-np.arange(features) / (features / 6))
    table = (random.standard_normal((rows, features)) * spectrum) @ basis
    return np.maximum(table + 0.5, 0) * random.uniform(3, 30, features)


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize(("rows", "features"), [(400, 30), (20, 60)])
def test_components_equal_those_of_scikit_learn(
    rows: int, features: int, *, standardize: bool
) -> None:
    table = correlated(rows, features)
    k = 10
    model = pca.fit(Moments.of(table), components=k, standardize=standardize)
    # scikit-learn divides by the deviation over n, pyspark.ml and we by that over n - 1: a factor
    # common to all features, which changes no share and no direction.
    scaled = StandardScaler().fit_transform(table) if standardize else table
    reference = PCA(n_components=min(rows, features), svd_solver="full").fit(scaled)

    ratios = model.explained_variance_ratio[: len(reference.explained_variance_ratio_)]
    assert np.abs(ratios - reference.explained_variance_ratio_).max() < 1e-9
    assert subspace_angles(model.components.T, reference.components_[:k].T).max() < 1e-6
    cosines = (model.components * reference.components_[:k]).sum(axis=1)
    assert (cosines > 1 - 1e-9).all(), "signs follow scikit-learn's rule, largest loading positive"
    ours = model.project(table)
    theirs = (scaled - scaled.mean(axis=0)) @ reference.components_[:k].T
    theirs *= np.sqrt((rows - 1) / rows) if standardize else 1.0
    assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


@pytest.mark.spark
def test_components_equal_those_of_spark_ml(spark: SparkSession) -> None:
    from pyspark.ml import feature
    from pyspark.ml.linalg import Vectors

    table = correlated(120, 12)
    model = pca.fit(Moments.of(table), components=5)
    rows = [(Vectors.dense(row),) for row in table.tolist()]
    frame = spark.createDataFrame(rows, ["raw"]).coalesce(1)
    scaler = feature.StandardScaler(inputCol="raw", outputCol="scaled", withMean=True, withStd=True)
    scaled = scaler.fit(frame).transform(frame)
    reference = feature.PCA(k=5, inputCol="scaled", outputCol="vector").fit(scaled)
    components, ratios = reference.pc.toArray().T, reference.explainedVariance.toArray()
    assert np.abs(model.explained_variance_ratio[:5] - ratios).max() < 1e-9
    assert (np.abs((model.components * components).sum(axis=1)) > 1 - 1e-9).all()


@given(st.integers(2, 40), st.integers(2, 20), st.integers(0, 2**32), st.booleans())
@settings(deadline=None)
def test_what_every_model_has(rows: int, features: int, seed: int, standardize: bool) -> None:
    moments = Moments.of(np.random.default_rng(seed).standard_normal((rows, features)))
    model = pca.fit(moments, variance=0.9, standardize=standardize)
    assert np.abs(model.components @ model.components.T - np.eye(model.k)).max() < 1e-9
    assert (np.diff(model.eigenvalues) <= 0).all()
    assert (model.eigenvalues >= 0).all()
    assert len(model.eigenvalues) == features, "the whole spectrum is kept"
    largest = np.abs(model.components).argmax(axis=1)
    assert (model.components[np.arange(model.k), largest] > 0).all()
    shares = model.explained_variance_ratio
    assert shares.sum() == pytest.approx(1)
    assert model.variance_kept > 0.9 - 1e-12
    assert shares[: model.k - 1].sum() <= 0.9 + 1e-12, "no component more than needed"


def test_vectors_are_centred_and_uncorrelated_with_the_eigenvalues_as_variances() -> None:
    table = correlated(300, 20)
    model = pca.fit(Moments.of(table), components=6)
    vectors = model.project(table).astype(np.float64)
    assert vectors.shape == (300, 6)
    assert np.abs(vectors.mean(axis=0)).max() < 1e-6
    covariance = np.cov(vectors.T)
    assert np.allclose(covariance, np.diag(model.eigenvalues[:6]), atol=1e-5)


def test_all_of_the_variance_is_kept_by_the_rank() -> None:
    table = correlated(300, 20)
    model = pca.fit(Moments.of(table), variance=1.0)
    assert model.k == 20
    assert model.variance_kept == pytest.approx(1.0, abs=1e-12)


def test_fewer_images_than_features_have_one_component_less_than_images() -> None:
    table = correlated(7, 50)
    assert pca.fit(Moments.of(table), variance=1.0).k == 6
    assert pca.fit(Moments.of(table), components=40).k == 6


def test_no_component_is_made_of_noise() -> None:
    """Where features repeat one another, more components than the rank are not to be had."""
    table = correlated(200, 5)
    repeated = np.hstack([table, 2 * table + 1, table[:, ::-1] - 3])
    model = pca.fit(Moments.of(repeated), components=15)
    assert model.k == 5
    assert model.variance_kept == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("standardize", [True, False])
def test_constant_features_take_no_part(*, standardize: bool) -> None:
    table = correlated(100, 10)
    constant = np.column_stack([np.zeros(100), table, np.full(100, 1e6 / 3)])
    blocks = np.split(constant, [1, 30, 77])
    moments = Moments.empty(12)
    for block in blocks:
        moments = moments.merge(Moments.of(block))
    model = pca.fit(moments, variance=1.0, standardize=standardize)
    plain = pca.fit(Moments.of(table), variance=1.0, standardize=standardize)
    assert np.isfinite(model.project(constant)).all()
    assert np.abs(model.components[:, [0, 11]]).max() == 0
    assert np.abs(model.standardize(constant)[:, [0, 11]]).max() < 1e-6
    assert model.k == plain.k
    assert np.allclose(model.eigenvalues[:10], plain.eigenvalues, rtol=1e-9)


def test_a_feature_that_is_constant_but_for_float32s_rounding_is_dead() -> None:
    """As a channel that never fires but for its bias: ReLU6 of a constant, summed in any order."""
    table = correlated(200, 6).astype(np.float32)
    value = np.float32(1 / 3)
    table[:, 2] = value
    table[0, 2] = np.nextafter(value, np.float32(1))  # one unit in the last place
    model = pca.fit(Moments.of(table), variance=1.0)
    assert model.k == 5
    assert np.abs(model.components[:, 2]).max() == 0
    later = table.copy()
    later[::2, 2] = 1000  # it fires in another batch, of which the model knows nothing
    assert np.array_equal(model.project(later), model.project(table)), "the vectors do not move"
    # And yet the receipt shows it: a scaled feature far out, and variance that is not kept.
    assert np.abs(model.standardize(later)[:, 2]).max() > 1000
    kept = model.variance_kept_of(Moments.of(later))
    assert kept is not None
    assert kept < 0.01
    assert np.array_equal(model.project(later), model.project(table))


@pytest.mark.parametrize("standardize", [True, False])
def test_a_feature_that_hardly_varies_does_not_explode_on_a_later_batch(
    *, standardize: bool
) -> None:
    random = np.random.default_rng(3)
    table = random.standard_normal((500, 9))
    table[:, 4] *= 1e-5
    model = pca.fit(Moments.of(table), variance=1.0, standardize=standardize)
    later = random.standard_normal((500, 9))
    largest = np.abs(model.standardize(later)).max()
    assert largest <= np.abs(later).max() * 1.1 / pca.SMALLEST_SCALE
    assert np.abs(model.project(later)).max() <= 4 * largest
    if standardize:
        alive = table.std(axis=0, ddof=1)
        assert model.scale[4] == pytest.approx(pca.SMALLEST_SCALE * np.median(alive))
        assert np.allclose(np.delete(model.scale, 4), np.delete(alive, 4))


def test_constant_features_do_not_lower_the_least_scale() -> None:
    table = np.random.default_rng(3).standard_normal((500, 9))
    table[:, 0] *= 1e-5
    dead = np.hstack([table, np.zeros((500, 40))])
    expected = pca.fit(Moments.of(table), variance=1.0).scale[0]
    assert pca.fit(Moments.of(dead), variance=1.0).scale[0] == expected > 0.02


def apart(*spread: int) -> NDArray[np.float64]:
    """Rows of features whose covariances are exactly zero, and variances in these ratios."""
    table = np.zeros((2 * sum(spread), len(spread)))
    start = 0
    for feature, pairs in enumerate(spread):
        table[start : start + 2 * pairs, feature] = np.tile([1.0, -1.0], pairs)
        start += 2 * pairs
    return table


@pytest.mark.parametrize(
    ("variance", "k"),
    [(0.39, 1), (0.4, 2), (0.41, 2), (0.69, 2), (0.7, 3), (0.71, 3), (0.9, 4), (1.0, 4)],
)
def test_of_a_share_that_is_reached_exactly_one_component_more_is_kept(
    variance: float, k: int
) -> None:
    """As in scikit-learn: the components' shares add up to more than what is asked for."""
    table = apart(4, 3, 2, 1)
    model = pca.fit(Moments.of(table), variance=variance, standardize=False)
    assert np.allclose(model.explained_variance_ratio, [0.4, 0.3, 0.2, 0.1], rtol=1e-15)
    assert model.k == k
    if variance < 1:
        theirs = PCA(n_components=variance, svd_solver="covariance_eigh").fit(table)
        assert theirs.n_components_ == k


def test_a_models_share_of_its_own_images_variance_is_what_it_keeps() -> None:
    for standardize in (True, False):
        table = correlated(300, 20)
        table[:, 7] = 5.0
        table[:, 8] *= 1e-6
        moments = Moments.of(table)
        model = pca.fit(moments, variance=0.8, standardize=standardize)
        assert model.variance_kept_of(moments) == pytest.approx(model.variance_kept, abs=1e-12)


@given(st.integers(2, 60), st.integers(0, 2**32), st.integers(1, 8))
@settings(deadline=None)
def test_a_models_share_of_other_images_variance_is_that_of_their_vectors(
    rows: int, seed: int, k: int
) -> None:
    model = pca.fit(Moments.of(correlated(100, 8)), components=k)
    other = correlated(rows, 8, seed=seed) * 1.5 + 3
    scaled = model.standardize(other)
    vectors = scaled @ model.components.T
    total = scaled.var(axis=0).sum()
    share = model.variance_kept_of(Moments.of(other))
    if total > 0:
        assert share is not None
        assert share == pytest.approx(vectors.var(axis=0).sum() / total, rel=1e-9)
        assert 0 <= share <= 1 + 1e-12
    else:
        assert share is None


def test_of_images_that_do_not_vary_no_share_is_kept() -> None:
    model = pca.fit(Moments.of(correlated(100, 8)), components=2)
    assert model.variance_kept_of(Moments.of(np.ones((5, 8)))) is None


def test_two_images_have_one_component_that_explains_all() -> None:
    table = np.array([[0.0, 1.0, 5.0], [2.0, 1.0, 4.0]])
    model = pca.fit(Moments.of(table), variance=0.8)
    assert model.k == 1
    assert model.variance_kept == pytest.approx(1.0)
    first, second = model.project(table)[:, 0]
    assert first == pytest.approx(-second)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (np.ones((1, 4)), "needs at least two images that differ, and 1 could be used"),
        (np.full((30, 4), 0.1), "all 30 have the same features"),
    ],
)
def test_where_nothing_varies_the_error_says_so(table: NDArray[np.float64], sentence: str) -> None:
    with pytest.raises(JobError, match=sentence):
        pca.fit(Moments.of(table), variance=0.8)


def test_a_serialized_model_comes_back_bit_for_bit() -> None:
    model = pca.fit(Moments.of(correlated(50, 8)), variance=0.8)
    back = pca.PCAModel.from_bytes(model.to_bytes())
    for name in ("mean", "scale", "components", "eigenvalues"):
        assert np.array_equal(getattr(back, name), getattr(model, name))
