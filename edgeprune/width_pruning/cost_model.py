"""What a model costs as a function of the units it keeps: parameters, work, time.

A cost is a list of terms: an amount at full width, times the kept share of what it is made of. A
linear layer's work goes with the share of its inputs and with that of its outputs, an attention's
products with that of its heads; all are exact, and differentiable in masks. Time is the same terms
again with a price for each kind of work, fitted to measured files (``latencies``).
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
"""A tensor's name and one of its dimensions."""


@dataclass(frozen=True)
class Factor:
    """The share of some coordinates that a group's mask keeps."""

    group: str
    counts: Tensor
    """(units,): coordinates of each unit, as a share of all; they sum to 1."""


@dataclass(frozen=True)
class Term:
    """A part of a cost."""

    amount: float
    """With every unit kept."""
    component: str
    """What kind of work it is."""
    factors: tuple[Factor, ...] = ()


@dataclass(frozen=True)
class CostTerms:
    """Terms side by side, to be summed under many masks."""

    amounts: Tensor
    """(terms,), float64."""
    places: Tensor
    """(terms, most factors of a term): which factors, from 1; 0 stands for none."""
    factors: tuple[Factor, ...]
    """Every different one."""


def tabulate(terms: Iterable[Term]) -> CostTerms:
    """Put terms side by side; factors that are alike become one."""
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
    values : mapping
        Group's name -> mask (units,); groups that are not named are whole.

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
    """A cost in numpy: while units are switched off one by one, or under masks.

    Parameters
    ----------
    table : CostTerms
        It is whole to begin with.

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
        """What is left."""
        return self._sum(self._shares)

    def under(self, masks: Mapping[str, NDArray[Any]]) -> float:
        """Return what masks (units,) leave, whatever is switched; groups not named are whole."""
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

    Each module's are counted on a window of zeros. What an attention does beside its linear layers
    are its products, and go with its heads; of an LSTM, the products with its inputs go with them;
    what belongs to nothing that can be trimmed (a spectrogram) is fixed.
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
    """Return terms times the price of their component; what has no price is free.

    The price of ``always`` is a term of its own.
    """
    found = [replace(term, amount=term.amount * prices.get(term.component, 0.0)) for term in terms]
    return [*found, Term(prices.get("always", 0.0), "always")]


def by_component(terms: Iterable[Term], values: Mapping[str, Tensor]) -> dict[str, float]:
    """Return each component's amount under masks."""
    listed = list(terms)
    return {
        name: float(total(tabulate(t for t in listed if t.component == name), values))
        for name in dict.fromkeys(term.component for term in listed)
    }


def whole(groups: Iterable[Group]) -> dict[str, Tensor]:
    """Return the masks that keep every unit."""
    return {group.name: torch.ones(group.units) for group in groups}


def _component(module: nn.Module) -> str:
    """Name the kind of work: what a multiply-accumulate takes differs between them."""
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, nn.modules.conv._ConvNd):
        if module.groups > 1:
            return "grouped convolution"
        return "first convolution" if module.in_channels == 1 else "convolution"
    raise TypeError(f"no kind of work is known for a {type(module).__name__}")


def _factor(name: str, part: Slice) -> Factor:
    """Return the factor of a place's coordinates."""
    counts = torch.bincount(torch.from_numpy(part.index)).double()
    return Factor(name, counts / counts.sum())


def _factors(model: nn.Module, groups: Sequence[Group]) -> dict[Dimension, Factor]:
    """Return which dimension of which tensor shrinks with which group."""
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
    """Name a module's weight among its parameters; weight-norm calls it another name."""
    return f"{path}.parametrizations.weight.original1" if hasattr(
        module, "parametrizations"
    ) else f"{path}.weight"  # fmt: skip


def _attentions(groups: Sequence[Group]) -> dict[str, list[tuple[str, Slice]]]:
    """Return attention module -> the groups of its heads, each with its first place."""
    found: dict[str, list[tuple[str, Slice]]] = {}
    for group in groups:
        if group.kind == HEADS:
            first = group.slices[0]
            found.setdefault(first.path.rpartition(".")[0], []).append((group.name, first))
    return found
