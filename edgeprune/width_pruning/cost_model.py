"""Cost of a model as a function of the units it keeps: parameters, computation, latency.

A cost is a list of terms: an amount at full width, times the kept shares of its dimensions. The
computation of a linear layer is proportional to the shares of its inputs and outputs, attention's
products to the share of its heads; all terms are exact, and differentiable in the masks. Latency
uses the same terms with a price per kind of operation, fitted to measurements (``latency_model``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeprune.models.macs import lstm_macs, macs_by_module
from edgeprune.width_pruning.unit_table import HEADS
from edgeprune.width_pruning.units import Group, Slice

Dimension = tuple[str, int]
"""Name of a tensor, and one of its dimensions."""


@dataclass(frozen=True)
class Factor:
    """Share of some coordinates that a group's mask keeps."""

    group: str
    counts: Tensor
    """(units,): coordinates of each unit, as a share of all; the sum is 1."""


@dataclass(frozen=True)
class Term:
    """One term of a cost."""

    amount: float
    """Cost with all units kept."""
    component: str
    """Kind of operation."""
    factors: tuple[Factor, ...] = ()


@dataclass(frozen=True)
class CostTerms:
    """Terms as arrays, to be summed under many masks."""

    amounts: Tensor
    """(terms,), float64."""
    places: Tensor
    """(terms, most factors of a term): indices of the factors from 1; 0: none."""
    factors: tuple[Factor, ...]
    """All distinct factors."""


def collect_terms(terms: Iterable[Term]) -> CostTerms:
    """Collect terms into arrays; equal factors are merged."""
    listed = list(terms)
    known: dict[tuple[str, bytes], int] = {}
    factors: list[Factor] = []
    rows = []
    for term in listed:
        row = []
        for factor in term.factors:
            key = (factor.group, factor.counts.numpy().tobytes())
            if key not in known:
                factors.append(factor)
                known[key] = len(factors)
            row.append(known[key])
        rows.append(row)
    most = max((len(row) for row in rows), default=0)
    places = torch.tensor([row + [0] * (most - len(row)) for row in rows], dtype=torch.long)
    amounts = torch.tensor([term.amount for term in listed], dtype=torch.float64)
    return CostTerms(amounts, places.reshape(len(rows), most), tuple(factors))


def total(table: CostTerms, values: Mapping[str, Tensor]) -> Tensor:
    """Return a cost under masks.

    Parameters
    ----------
    table : CostTerms
        Terms of the cost.
    values : mapping
        Group -> mask (units,); groups that are not listed keep all units.

    Returns
    -------
    Tensor ()
        float64, differentiable in the masks.

    """
    one = torch.ones((), dtype=torch.float64)
    masks = {name: value.cpu().double() for name, value in values.items()}
    shares = torch.stack([one, *(
        factor.counts @ masks[factor.group] if factor.group in masks else one
        for factor in table.factors
    )])  # fmt: skip
    return table.amounts @ shares[table.places].prod(dim=1)


class CostTable:
    """A cost in numpy, for switching units off one by one, or under masks.

    Parameters
    ----------
    table : CostTerms
        Terms of the cost; all units are on at first.

    """

    def __init__(self, table: CostTerms) -> None:
        self._amounts, self._places = table.amounts.numpy(), table.places.numpy()
        self._shares = np.ones(len(table.factors) + 1)
        self._of: dict[str, list[tuple[int, NDArray[np.float64]]]] = {}
        for place, factor in enumerate(table.factors, 1):
            self._of.setdefault(factor.group, []).append((place, factor.counts.numpy()))

    def switch(self, group: str, unit: int, on: bool) -> None:
        """Switch a unit off, or on again."""
        for place, counts in self._of.get(group, ()):
            self._shares[place] += counts[unit] if on else -counts[unit]

    @property
    def cost(self) -> float:
        """Cost of the units that are on."""
        return self._sum(self._shares)

    def cost_under(self, masks: Mapping[str, NDArray[Any]]) -> float:
        """Return the cost under masks (units,), ignoring switches; other groups are whole."""
        shares = np.ones(len(self._shares))
        for group, mask in masks.items():
            for place, counts in self._of.get(group, ()):
                shares[place] = counts @ mask
        return self._sum(shares)

    def _sum(self, shares: NDArray[np.float64]) -> float:
        return float(self._amounts @ shares[self._places].prod(axis=1))


def parameter_terms(model: nn.Module, groups: Sequence[Group]) -> list[Term]:
    """Return the terms of the number of parameters."""
    factors = _factors(model, groups)
    return [
        Term(float(tensor.numel()), "parameters", tuple(
            factors[name, dim] for dim in range(tensor.dim()) if (name, dim) in factors
        ))
        for name, tensor in model.named_parameters()
    ]  # fmt: skip


def mac_terms(model: Any, groups: Sequence[Group], window_samples: int) -> list[Term]:
    """Return the terms of the multiply-accumulates of one window.

    Each module's are counted on a window of zeros. What an attention computes besides its linear
    layers are its products, proportional to its heads; an LSTM's input products are proportional to
    its inputs; modules without units (a spectrogram) are fixed.
    """
    counts = macs_by_module(model, window_samples)
    factors = _factors(model, groups)
    modules = dict(model.named_modules())
    terms, seen = [], 0.0
    for name, module in modules.items():
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)) and name in counts:
            weight = _weight_name(module, name)
            chosen = tuple(factors[weight, dim] for dim in (0, 1) if (weight, dim) in factors)
            terms.append(Term(counts[name], _component(module), chosen))
            seen += counts[name]
        elif isinstance(module, nn.LSTM) and name in counts:
            first, rest = lstm_macs(module, 1)
            heard = counts[name] * first / (first + rest)
            inputs = factors.get((f"{name}.weight_ih_l0", 1))
            terms += [Term(heard, "recurrent", (inputs,) if inputs else ()),
                      Term(counts[name] - heard, "recurrent")]  # fmt: skip
            seen += counts[name]
    for owner, owned in _attentions(groups).items():
        inside = [n for n in counts if n.startswith(f"{owner}.")]
        made = sum(
            counts[n]
            for n in inside
            if isinstance(modules[n], (nn.Linear, nn.modules.conv._ConvNd))
        )
        products = counts.get(owner, 0.0) - made
        widths = {name: len(part.index) for name, part in owned}
        for name, part in owned:
            amount = products * widths[name] / sum(widths.values())
            terms.append(Term(amount, "products", (_factor(name, part),)))
        seen += products
    return [*terms, Term(counts[""] - seen, "fixed")]


def priced(terms: Iterable[Term], prices: Mapping[str, float]) -> list[Term]:
    """Return terms multiplied by the price of their component; without a price, the cost is zero.

    The price of ``always`` is a term of its own.
    """
    found = [replace(term, amount=term.amount * prices.get(term.component, 0.0)) for term in terms]
    return [*found, Term(prices.get("always", 0.0), "always")]


def by_component(terms: Iterable[Term], values: Mapping[str, Tensor]) -> dict[str, float]:
    """Return each component's amount under masks."""
    listed = list(terms)
    return {
        name: float(total(collect_terms(t for t in listed if t.component == name), values))
        for name in dict.fromkeys(term.component for term in listed)
    }


def whole(groups: Iterable[Group]) -> dict[str, Tensor]:
    """Return the masks that keep all units."""
    return {group.name: torch.ones(group.units) for group in groups}


def _component(module: nn.Module) -> str:
    """Return the kind of operation; the time of a multiply-accumulate differs between kinds."""
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, nn.modules.conv._ConvNd):
        if module.groups > 1:
            return "grouped convolution"
        return "first convolution" if module.in_channels == 1 else "convolution"
    raise TypeError(f"no kind of operation is known for a {type(module).__name__}")


def _factor(name: str, part: Slice) -> Factor:
    """Return the factor of a slice's coordinates."""
    counts = torch.bincount(torch.from_numpy(part.index)).double()
    return Factor(name, counts / counts.sum())


def _factors(model: nn.Module, groups: Sequence[Group]) -> dict[Dimension, Factor]:
    """Return the factor by which each dimension of each tensor shrinks with a group."""
    found: dict[Dimension, Factor] = {}
    for group in groups:
        for part in group.slices:
            factor = _factor(group.name, part)
            if part.role == "param":
                found[part.path, part.dim] = factor
                continue
            module = model.get_submodule(part.path)
            weight = _weight_name(module, part.path)
            if part.role == "in" and isinstance(module, nn.LSTM):
                names = [n for n, _ in module.named_parameters() if n.startswith("weight_ih_l0")]
                found |= {(f"{part.path}.{name}", 1): factor for name in names}
                continue
            if part.role in ("in", "grouped") or isinstance(module, nn.Embedding):
                found[weight, 1] = factor
            if part.role != "in" and not isinstance(module, nn.Embedding):
                found[weight, 0] = factor
                found[f"{part.path}.bias", 0] = factor
    return found


def _weight_name(module: nn.Module, path: str) -> str:
    """Return the name of a module's weight among its parameters, also with weight norm."""
    return f"{path}.parametrizations.weight.original1" if hasattr(
        module, "parametrizations"
    ) else f"{path}.weight"  # fmt: skip


def _attentions(groups: Sequence[Group]) -> dict[str, list[tuple[str, Slice]]]:
    """Return attention module -> the groups of its heads, each with its first slice."""
    found: dict[str, list[tuple[str, Slice]]] = {}
    for group in groups:
        if group.kind == HEADS:
            first = group.slices[0]
            found.setdefault(first.path.rpartition(".")[0], []).append((group.name, first))
    return found
