import numpy as np
import pytest
from scipy import stats

from sparsecnn.report.inference import as_cluster
from sparsecnn.report.power import alike_if_equal, found, power_table, spreads


def test_power_is_that_of_the_noncentral_t_distribution():
    """R: power.t.test(n = 20, delta = 1, sd = 1) has power 0.8689528; paired, n = 10, 0.8030969."""
    assert found(1, (2 / 20) ** 0.5, 38) == pytest.approx(0.8689528, abs=2e-4)
    assert found(1, 1 / 10**0.5, 9) == pytest.approx(0.8030969, abs=2e-4)
    assert found(0, 1.0, 9) == pytest.approx(0.05, abs=2e-4)
    assert found(3, 1.0, 4, 0.01) == pytest.approx(stats.nct.sf(stats.t.ppf(0.995, 4), 4, 3), abs=2e-4)


def test_chances_are_those_of_simulated_studies():
    rng = np.random.default_rng(0)
    studies = [rng.normal(0, 0.6, (3, 1)) + rng.normal(0, 0.8, (3, 5)) for _ in range(2000)]
    error = ((0.36 + 0.64 / 5) / 3) ** 0.5
    alike = np.mean([as_cluster(study).within() < 0.05 for study in studies])
    assert alike == pytest.approx(alike_if_equal(error, 2), abs=0.03)
    differs = np.mean([as_cluster(study + 1).differs() < 0.05 for study in studies])
    assert differs == pytest.approx(found(1, error, 2), abs=0.03)


def test_spreads_are_found_again():
    rng = np.random.default_rng(0)
    of_seed, of_rest = spreads(rng.normal(0, 2, (400, 1)) + rng.normal(0, 1, (400, 6)))
    assert of_seed == pytest.approx(2, rel=0.1) and of_rest == pytest.approx(1, rel=0.1)
    assert spreads(np.array([[1.0, -1], [-1, 1]]))[0] == 0


def test_more_seeds_and_more_points_are_found_more_often(monkeypatch):
    monkeypatch.delenv("SPARSECNN_OUTPUT", raising=False)
    table = power_table()
    assert {"MNIST", "Caltech-101"} == set(table.index.get_level_values("data set"))
    for _, part in table.groupby("data set"):
        assert (part.diff().dropna() >= 0).all(axis=None)
        for kind in ("average", "a level"):
            assert (part[f"{kind}, 1"] <= part[f"{kind}, 5"]).all() and part[f"{kind}, 5"].iloc[-1] > 90
