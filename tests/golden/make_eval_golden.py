"""Writes eval.json beside this script: what scikit-learn says, for tests/eval. `--check` compares it with a fresh run.

clusterings  two labellings, with normalized_mutual_info_score and adjusted_mutual_info_score
roc          scores and labels, with roc_auc_score
rankings     scores, labels and how many places count, with ndcg_score
sets         three of scikit-learn's small data sets: z-scores by StandardScaler, then LinearSVC with each C: test
             accuracy and the value of the objective; KMeans on all rows: the inertia of its best of 50 starts; the
             Fréchet distance of the tested rows from the others, with SciPy's sqrtm
"""
import argparse
import json
import pathlib
import sys

import numpy as np
import scipy.linalg
from sklearn import datasets
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score, ndcg_score, normalized_mutual_info_score, roc_auc_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

FILE = pathlib.Path(__file__).with_name("eval.json")


def clusterings():
    draw = np.random.RandomState(1)
    same = draw.randint(0, 5, 60)
    pairs = [(same, same), (same, (same + 2) % 5), (draw.randint(0, 3, 50), draw.randint(0, 7, 50)),
             (np.zeros(10, int), np.arange(10)), (draw.randint(0, 40, 80), draw.randint(0, 10, 80))]
    noisy = same.copy()
    noisy[::4] = draw.randint(0, 5, len(noisy[::4]))
    pairs.append((same, noisy))
    return [{"a": a.tolist(), "b": b.tolist(), "nmi": float(normalized_mutual_info_score(a, b)),
             "ami": float(adjusted_mutual_info_score(a, b))} for a, b in pairs]


def roc():
    draw = np.random.RandomState(2)
    labels = draw.randint(0, 2, 200)
    scores = np.round(draw.normal(size=200) + labels, 1)  # rounded: ties
    return {"scores": scores.tolist(), "labels": labels.tolist(), "auc": float(roc_auc_score(labels, scores))}


def rankings():
    draw = np.random.RandomState(5)
    result = []
    for count, share, digits in (2, .5, 3), (20, .1, 3), (20, .6, 0), (200, .05, 1), (200, .5, 1), (50, .3, -9):
        labels = np.append(draw.uniform(size=count - 1) < share, True).astype(int)
        scores = np.round(draw.normal(size=count) + labels, digits)  # rounded: ties
        result.append({"scores": scores.tolist(), "labels": labels.tolist(),
                       "ndcg": {str(k): float(ndcg_score([labels], [scores], k=k)) for k in (1, 5, 30, 1000)}})
    return result


def objective(svm, rows, labels, cost):
    """Sum over classes of |w|^2 / 2 (bias included) + C sum max(0, 1 - y f)^2."""
    y = 2.0 * (labels[:, None] == svm.classes_[None]) - 1
    margins = y * (rows @ svm.coef_.T + svm.intercept_)
    return float((svm.coef_**2).sum() / 2 + (svm.intercept_**2).sum() / 2 + cost * (np.maximum(0, 1 - margins)**2).sum())


def frechet(a, b):
    """With the trace of the root twice: by sqrtm, and as a nuclear norm of the rows, which rank does not trouble."""
    away = a.mean(0) - b.mean(0)
    of_a, of_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.trace(scipy.linalg.sqrtm(of_a @ of_b)).real
    centred = [(x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (a, b)]
    norm = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    assert abs(root - norm) < 1e-5 * norm, (root, norm)
    return float(away @ away + np.trace(of_a) + np.trace(of_b) - 2 * norm)


def sets():
    result = []
    for name, load, every in ("iris", datasets.load_iris, 1), ("wine", datasets.load_wine, 1), ("digits", datasets.load_digits, 3):
        rows, labels = load(return_X_y=True)
        rows, labels = np.round(rows[::every], 4), labels[::every]
        order = np.random.RandomState(3).permutation(len(rows))
        test = np.sort(order[:len(rows) // 3])
        train = np.setdiff1d(order, test)
        scale = StandardScaler().fit(rows[train])
        svms = []
        for cost in (1e-3, 1e-1, 1.0):
            svm = LinearSVC(C=cost, tol=1e-6, dual=True, max_iter=200000, random_state=0)
            svm.fit(scale.transform(rows[train]), labels[train])
            svms.append({"cost": cost, "accuracy": float(svm.score(scale.transform(rows[test]), labels[test])),
                         "objective": objective(svm, scale.transform(rows[train]), labels[train], cost)})
        clusters = len(set(labels))
        inertia = KMeans(clusters, n_init=50, random_state=0).fit(StandardScaler().fit_transform(rows)).inertia_
        result.append({"name": name, "rows": rows.tolist(), "labels": labels.tolist(), "test": test.tolist(),
                       "mean": scale.mean_.tolist(), "scale": scale.scale_.tolist(), "svms": svms,
                       "clusters": clusters, "inertia": float(inertia),
                       "frechet": frechet(rows[test], rows[train])})
    return result


def close(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(close, a, b))
    return a == b if isinstance(a, str) else abs(a - b) <= 1e-3 * max(1, abs(a))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is not what comes out")
    fresh = {"clusterings": clusterings(), "roc": roc(), "rankings": rankings(), "sets": sets()}
    if not parser.parse_args().check:
        FILE.write_text(json.dumps(fresh, separators=(",", ":")) + "\n")
    elif not close(json.loads(FILE.read_text()), fresh):
        sys.exit(f"{FILE}: another result than this script's")
