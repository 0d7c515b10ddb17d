"""The commands that make and vouch for bundles: wrap, pack, keys, sign."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.options import Json, print_done
from edgeprune_device.errors import EdgepruneError

BundleArgument = Annotated[Path, typer.Argument(help="Bundle: a folder, or the same as one .zip.")]
LABELS_HELP = "Text file with a label a line, in the order of the scores."
KIND_HELP = "mlperf-keywords, mlperf-wakeword or silero-vad; else samples in, scores out."


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(
        epilog="Example: edgeprune wrap yamnet.tflite --golden speech.wav -o yamnet, "
        "or: edgeprune wrap silero_vad.onnx --kind silero-vad -o voice"
    )(wrap)
    app.command(epilog="Example: edgeprune pack runs/birds/bundle -o birds.zip")(pack)
    app.command(epilog="Example: edgeprune keys -o keys")(keys)
    app.command(epilog="Example: edgeprune sign runs/birds/bundle --key keys/edgeprune.key")(sign)


def wrap(
    model: Annotated[Path, typer.Argument(help="A .onnx or .tflite file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the bundle.")],
    labels: Annotated[Path | None, typer.Option(help=LABELS_HELP)] = None,
    kind: Annotated[str, typer.Option(help=KIND_HELP)] = "",
    rate: Annotated[int, typer.Option(help="Hz the model wants (16000).")] = 0,
    window: Annotated[float, typer.Option(help="Seconds it gets, where its file says not.")] = 0.0,
    hop: Annotated[float, typer.Option(help="Seconds between windows (half a window).")] = 0.0,
    activation: Annotated[
        str, typer.Option(help="softmax (one label a window) or sigmoid (by its scores).")
    ] = "",
    logits: Annotated[bool, typer.Option("--logits", help="Its scores are logits.")] = False,
    threshold: Annotated[float, typer.Option(help="Of every label.")] = 0.5,
    ignore: Annotated[list[str] | None, typer.Option(help="Label not to report. Repeat.")] = None,
    speech: Annotated[list[str] | None, typer.Option(help="Label of a voice. Repeat.")] = None,
    name: Annotated[str, typer.Option(help="Of the bundle (the file's).")] = "",
    licence: Annotated[str, typer.Option(help="Of the model.")] = "",
    golden: Annotated[
        Path | None, typer.Option(help="Recording for golden inputs (tones in noise).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a bundle of a MODEL that was made elsewhere, as it is.

    The file's input may have any rank and be float or whole numbers; a spectrogram or a state is
    computed as its kind says. Labels may also come from TFLite's metadata.
    """
    from edgeprune.deployment.wrap import Wrap, read_labels
    from edgeprune.deployment.wrap import wrap as run

    if activation not in ("", "softmax", "sigmoid"):
        raise EdgepruneError(f"--activation {activation} is neither softmax nor sigmoid.")
    done = run(model, out, Wrap(
        kind=kind, labels=read_labels(labels) if labels else (), sample_rate=rate,
        window_seconds=window, hop_seconds=hop, activation=activation, logits=logits,
        threshold=threshold, ignore=tuple(ignore or ()), speech=tuple(speech or ()),
        name=name, licence=licence, golden=golden,
    ))  # fmt: skip
    print_done(done, done["text"], as_json)


def pack(
    bundle: BundleArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .zip.")],
    as_json: Json = False,
) -> None:
    """Make one sealed .zip of BUNDLE: any byte of it that changes is noticed."""
    from edgeprune_device.bundle.pack import pack_bundle

    size, digest = pack_bundle(bundle, out)
    print_done({"bundle": str(out), "bytes": size, "digest": digest},
               f"{out}: {size / 1e6:.1f} MB", as_json)  # fmt: skip


def keys(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the two files.")],
    as_json: Json = False,
) -> None:
    """Make a pair of Ed25519 keys: one signs bundles and stays here, one goes to recorders."""
    from edgeprune_device.bundle.signature import make_keys

    private, public, identity = make_keys(out)
    print_done(
        {"private": str(private), "public": str(public), "identity": identity},
        f"{private} signs bundles: keep it to yourself.\n{public} goes to recorders, as "
        f"security.trusted_keys; its identity is {identity}.", as_json,
    )  # fmt: skip


def sign(
    bundle: BundleArgument,
    key: Annotated[Path, typer.Option(help="The private key, edgeprune.key.")],
    as_json: Json = False,
) -> None:
    """Sign BUNDLE, once it was found to be whole; an earlier signature is replaced."""
    from edgeprune_device.bundle.pack import sign_bundle

    identity = sign_bundle(bundle, key)
    print_done({"bundle": str(bundle), "identity": identity},
               f"{bundle} is signed by {identity}.", as_json)  # fmt: skip
