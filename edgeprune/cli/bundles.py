"""The commands that make and vouch for bundles: wrap, pack, keys, sign."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.options import Json, print_done
from edgeprune_device.errors import EdgepruneError

BundleArgument = Annotated[Path, typer.Argument(help="Bundle: a folder, or the same as one .zip.")]
LABELS_HELP = "Text file with one label per line, in the order of the scores."
KIND_HELP = (
    "Known model type: mlperf-keywords, mlperf-wakeword or silero-vad (default: samples in, scores "
    "out)."
)


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
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the bundle.")],
    labels: Annotated[Path | None, typer.Option(help=LABELS_HELP)] = None,
    kind: Annotated[str, typer.Option(help=KIND_HELP)] = "",
    rate: Annotated[
        int,
        typer.Option(help="Sample rate of the model in Hz (default: 16000).", show_default=False),
    ] = 0,
    window: Annotated[
        float,
        typer.Option(
            help="Window length in seconds, if the file does not fix it.", show_default=False
        ),
    ] = 0.0,
    hop: Annotated[
        float,
        typer.Option(help="Seconds between windows (default: half a window).", show_default=False),
    ] = 0.0,
    activation: Annotated[
        str,
        typer.Option(
            help="softmax (one label per window) or sigmoid (several) (default: from its scores)."
        ),
    ] = "",
    logits: Annotated[
        bool, typer.Option("--logits", help="The model returns logits; apply the activation.")
    ] = False,
    threshold: Annotated[float, typer.Option(help="Detection threshold of all labels.")] = 0.5,
    ignore: Annotated[
        list[str] | None, typer.Option(help="Label that is never reported. Repeatable.")
    ] = None,
    speech: Annotated[
        list[str] | None,
        typer.Option(help="Label that means speech, for the privacy rule. Repeatable."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the bundle (default: the file's).")] = "",
    licence: Annotated[str, typer.Option(help="Licence of the model.")] = "",
    golden: Annotated[
        Path | None,
        typer.Option(help="Recording for the reference inputs (default: tones in noise)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a bundle from a third-party ONNX or TFLite model.

    MODEL is not changed. Its input may have any rank and be float or integer. For a known type the
    spectrogram or the recurrent state is computed as that type needs it. Labels may also come from
    TFLite metadata.
    """
    from edgeprune.deployment.wrap import Wrap, read_labels
    from edgeprune.deployment.wrap import wrap as run

    if activation not in ("", "softmax", "sigmoid"):
        raise EdgepruneError(f"--activation {activation} is not known.", "Known: softmax, sigmoid.")
    done = run(model, out, Wrap(
        kind=kind, labels=read_labels(labels) if labels else (), sample_rate=rate,
        window_seconds=window, hop_seconds=hop, activation=activation, logits=logits,
        threshold=threshold, ignore=tuple(ignore or ()), speech=tuple(speech or ()),
        name=name, licence=licence, golden=golden,
    ))  # fmt: skip
    print_done(done, done["text"], as_json)


def pack(
    bundle: BundleArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .zip file.")],
    as_json: Json = False,
) -> None:
    """Pack BUNDLE into one sealed .zip file.

    Any changed byte of it is detected.
    """
    from edgeprune_device.bundle.pack import pack_bundle

    size, digest = pack_bundle(bundle, out)
    print_done({"bundle": str(out), "bytes": size, "digest": digest},
               f"{out}: {size / 1e6:.1f} MB", as_json)  # fmt: skip


def keys(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the two key files.")],
    as_json: Json = False,
) -> None:
    """Create an Ed25519 key pair for signing bundles.

    The private key signs bundles, the public key goes to recorders.
    """
    from edgeprune_device.bundle.signature import make_keys

    private, public, identity = make_keys(out)
    print_done(
        {"private": str(private), "public": str(public), "identity": identity},
        f"{private} signs bundles: keep it secret.\n{public} goes to recorders "
        f"(security.trusted_keys); its identity is {identity}.", as_json,
    )  # fmt: skip


def sign(
    bundle: BundleArgument,
    key: Annotated[Path, typer.Option(help="Private key file, edgeprune.key.")],
    as_json: Json = False,
) -> None:
    """Check BUNDLE and sign it; an earlier signature is replaced."""
    from edgeprune_device.bundle.pack import sign_bundle

    identity = sign_bundle(bundle, key)
    print_done({"bundle": str(bundle), "identity": identity},
               f"{bundle} is signed by {identity}.", as_json)  # fmt: skip
