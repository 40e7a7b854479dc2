"""Low-rank factors of a linear map y = W x, chosen by what they lose of y and not of W.

With C the second moment of x, the best map of rank r is U U' W, where the columns of U are the first r
eigenvectors of W C W' = E[y y']; what it loses of E|y|^2 is the sum of the other eigenvalues (Eckart-Young in
the norm of C: Zhang et al. 2016, arXiv:1505.06798, section 2.1; the same as the whitened SVD of SVD-LLM, Wang
et al. 2024, arXiv:2403.07378, with no matrix inverted).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_NEGLIGIBLE = 1e-12
"""Share of the largest energy below which a direction is rounding."""
_DEAD = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class Truncation:
    """W = basis @ codes; the first r columns and rows are the best map of rank r."""

    basis: Floats
    """[outputs, n], orthogonal; n is the rank of W on such inputs, at least 1."""
    codes: Floats
    """[n, inputs]; of values with a mean square of 1, so that one scale of quantization suits them all."""
    energies: Floats
    """[n], what each adds to E|y|^2, the largest first: those from r on are lost."""


def truncated(weight: Floats, moment: Floats) -> Truncation:
    """`weight` [outputs, inputs], `moment` [inputs, inputs]: E[x x'], or the covariance of x where a shift
    takes over the rest.
    """
    outputs, inputs = weight.shape
    if outputs <= inputs:
        values, vectors = np.linalg.eigh(weight @ moment @ weight.T)
        energies, basis = values[::-1].clip(0), vectors[:, ::-1]
    else:
        basis, deviations, _ = np.linalg.svd(weight @ _root(moment), full_matrices=False)
        energies = np.square(deviations)
    rank = max(1, int(np.sum(energies > _NEGLIGIBLE * energies[0])))
    energies, basis = energies[:rank], basis[:, :rank]
    scales = np.sqrt(np.where(energies > _DEAD, energies, 1.0))
    return Truncation(basis * scales, (basis.T @ weight) / scales[:, None], energies)


def _root(moment: Floats) -> Floats:
    """F with F F' = `moment`, which may be singular."""
    values, vectors = np.linalg.eigh(moment)
    return np.asarray(vectors * np.sqrt(values.clip(0)))


def told(cross: Floats, moment: Floats) -> Floats:
    """The map that tells y from z best, E[y z'] E[z z']^-1: of `cross` [outputs, n] and a regular `moment`
    [n, n].
    """
    return np.asarray(np.linalg.solve(moment, cross.T).T)


def energy(weight: Floats, moment: Floats) -> float:
    """E|W x|^2."""
    return float(np.sum((weight @ moment) * weight))
