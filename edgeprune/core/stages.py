"""Cached execution of a recipe's stages: run a stage, or reuse its earlier result.

A stage is a plain function ``stage(*inputs, out=FOLDER, settings=..., ui=...)`` that reads its
inputs and writes only to ``out``. It works in ``NAME.partial/``; when it is done, ``stage.json``
is written there and the folder is renamed to NAME, so that a folder NAME is always complete. The
record holds a key computed from the settings and the identity of every input: with the same key the
stage is reused, with another it runs again. An interrupted stage with the same key resumes from
its own files.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeprune import __version__
from edgeprune.core import distributed
from edgeprune.core.console import Silent, Ui, duration
from edgeprune.core.files import write_json
from edgeprune.core.settings import LATER
from edgeprune_device.errors import EdgepruneError

TRAINING = ("teach", "prune", "trim", "reconstruct", "mimic", "frontend", "make_student", "distill",
            "finetune", "recover_int8")  # fmt: skip
"""Stages in which all processes of ``accelerate launch`` take part."""
RECORD = "stage.json"
RUN = "run.json"
RECIPE = "recipe.toml"
LEAST_FREE_BYTES = 2**20  # below this, a failure without an error number counts as a full disk


class Run:
    """One output folder and its stages."""

    def __init__(self, folder: Path, ui: Ui) -> None:
        self.folder = folder
        self.ui = ui
        self.precision = "full"
        """Precision of training (``distributed``); part of the key of a stage that trains."""

    def stage(self, work: Callable[..., None], settings: Any, *inputs: Any, name: str) -> Path:
        """Run a stage, or keep its folder if its settings and inputs are unchanged.

        Parameters
        ----------
        work : callable
            ``work(*inputs, out, settings, ui)``.
        settings : frozen dataclass, mapping or None
            Settings of the stage.
        inputs : Path or str or number
            Folders of earlier stages, source files, plain values, or an object with ``as_input``.
        name : str
            Name of the stage's folder, relative to the run's.

        Returns
        -------
        Path
            The finished folder.

        Raises
        ------
        EdgepruneError
            The disk is full, or an error of the stage itself.

        """
        if distributed.rank():
            return self._follow(work, settings, inputs, name)
        out = self.folder / name
        trained = self.precision != "full" and work.__name__ in TRAINING
        key = stage_key(work, settings, (*inputs, self.precision) if trained else inputs)
        partial = out.with_name(out.name + ".partial")
        if _recorded_key(out) == key:
            shutil.rmtree(partial, ignore_errors=True)  # from an attempt with other settings
            self.ui.say(f"{name:<16} reused")
            distributed.broadcast_from_main(False)
            return out
        if partial.exists() and _recorded_key(partial) != key:
            shutil.rmtree(partial)
        start = time.monotonic()
        try:
            partial.mkdir(parents=True, exist_ok=True)
            _write_record(partial, {"key": key, "finished": False})
            distributed.broadcast_from_main(True)
            distributed.wait()  # until the other processes have copied the files to resume from
            work(*inputs, out=partial, settings=settings, ui=self.ui)
            seconds = time.monotonic() - start
            record = {"key": key, "finished": True, "made": secrets.token_hex(8)}
            _write_record(partial, {**record, "seconds": round(seconds, 2)})
            if out.exists():
                shutil.rmtree(out)
            partial.rename(out)
        except EdgepruneError:
            shutil.rmtree(partial)  # bad input: nothing to resume from
            raise
        except Exception as error:  # numpy, torch and safetensors each report a full disk their way
            _refuse(error, out)
            raise
        self.ui.say(f"{name:<16} {duration(seconds)}")
        distributed.wait()
        return out

    def _follow(
        self, work: Callable[..., None], settings: Any, inputs: tuple[Any, ...], name: str
    ) -> Path:
        """Take part in a stage's training in a non-main process, and keep no files."""
        out = self.folder / name
        if not distributed.broadcast_from_main(None):
            return out
        with tempfile.TemporaryDirectory() as folder:
            own = Path(folder) / "stage"
            shutil.copytree(out.with_name(out.name + ".partial"), own)
            distributed.wait()
            if work.__name__ in TRAINING:
                work(*inputs, out=own, settings=settings, ui=Silent())
        distributed.wait()
        return out

    def delete_if_unused(self, *made_again: str) -> None:
        """Remove the run if it holds no stages but those named: bad input leaves nothing."""
        if {path.name for path in self.folder.iterdir()} <= {RUN, RECIPE, *made_again}:
            shutil.rmtree(self.folder)

    def delete_stage(self, name: str) -> None:
        """Remove a stage's result, so that it and the stages that depend on it run again."""
        for folder in (self.folder / name, self.folder / f"{name}.partial"):
            if folder.exists():
                shutil.rmtree(folder)


def open_run(folder: Path, identity: dict[str, str], ui: Ui) -> Run:
    """Open or create the output folder of a command.

    Parameters
    ----------
    folder : Path
        Output folder; created if missing.
    identity : dict
        What the run is for (command, model, data, label column); must match an existing run.

    Raises
    ------
    EdgepruneError
        The folder holds other files, or another run.

    """
    record = folder / RUN
    if folder.exists() and not folder.is_dir():
        raise EdgepruneError(f"{folder} is a file, but an output folder is needed.")
    if record.exists():
        try:
            found = dict(json.loads(record.read_text("utf-8")))
        except (OSError, TypeError, ValueError):
            raise EdgepruneError(
                f"{record} cannot be read, so the run in {folder} cannot be identified.",
                "Choose another folder with -o, or delete this one.",
            ) from None
        for name, value in identity.items():
            if found.get(name) != value:
                raise EdgepruneError(
                    f"{folder} holds another run: its {name} is {found.get(name)}, not {value}.",
                    "Choose another folder with -o, or delete this one.",
                )
    elif folder.exists() and any(folder.iterdir()):
        raise EdgepruneError(
            f"{folder} is not empty and holds no edgeprune run.",
            "Choose another folder with -o.",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not record.exists():
            record.write_text(json.dumps(identity, indent=1) + "\n", "utf-8")
    except OSError as error:
        record.unlink(missing_ok=True)  # a truncated record would block the next run
        _refuse(error, folder)
        raise
    return Run(folder, ui)


def stage_key(work: Callable[..., None], settings: Any, inputs: tuple[Any, ...]) -> str:
    """Return the SHA-256 digest that decides whether a stage's result can be reused."""
    described = {
        "version": __version__,
        "stage": work.__name__,
        "settings": _plain(settings),
        "inputs": [_identity(item) for item in inputs],
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _plain(settings: Any) -> Any:
    """Return settings as JSON; a field marked ``LATER`` is left out while it has its default.

    So a field that is added does not change the keys of runs made before it.
    """
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        plain = json.loads(json.dumps(dataclasses.asdict(settings)))
        later = [f.name for f in dataclasses.fields(settings) if f.metadata.get(LATER)]
        default = type(settings)() if later else None
        for name in later:
            if getattr(settings, name) == getattr(default, name):
                del plain[name]
        return plain
    return json.loads(json.dumps(settings))


def _identity(item: Any) -> Any:
    """Return an input's identity: a stage's result, a listing of sizes and times, or the value.

    An object with ``as_input`` is represented by what that returns.

    A stage that ran again counts as a new input even if its key is unchanged.
    """
    if hasattr(item, "as_input"):
        item = item.as_input()
    if not isinstance(item, Path):
        return json.loads(json.dumps(item))
    for folder in (item, *item.parents):  # a file or folder inside a stage's folder
        if (folder / RECORD).is_file():
            record = json.loads((folder / RECORD).read_text("utf-8"))
            return [record["made"], str(item.relative_to(folder))]
        if (folder / RUN).is_file():
            break
    paths = sorted(p for p in item.rglob("*") if p.is_file()) if item.is_dir() else [item]
    return [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in paths]


def _recorded_key(folder: Path) -> str | None:
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    partial = folder.name.endswith(".partial")
    key: str | None = record.get("key") if record.get("finished") or partial else None
    return key


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    write_json(folder / RECORD, record)


def _refuse(error: Exception, out: Path) -> None:
    """Raise a readable error for a full disk or a missing permission; return for other errors."""
    number = error.errno if isinstance(error, OSError) else None
    there = next(folder for folder in (out, *out.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if number in (errno.ENOSPC, errno.EDQUOT) or (number is None and free < LEAST_FREE_BYTES):
        raise EdgepruneError(
            f"The disk is full: {out} could not be written.",
            "Free some space and run the same command again; finished stages are kept.",
        ) from error
    if number in (errno.EACCES, errno.EROFS, errno.EPERM):
        raise EdgepruneError(f"{out} cannot be written: {os.strerror(number)}.") from error
