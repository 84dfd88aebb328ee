import numpy as np
from scipy.stats import rankdata


def spearman(prediction, target):
    p, t = (rankdata(values, axis=0) for values in (prediction, target))
    p, t = p - p.mean(axis=0), t - t.mean(axis=0)
    norm = np.sqrt((p**2).sum(axis=0) * (t**2).sum(axis=0))
    return (p * t).sum(axis=0) / np.where(norm == 0, np.nan, norm)
