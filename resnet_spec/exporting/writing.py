"""An export from beginning to end: written beside its place, checked, then kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from resnet_spec.contract import Array
from resnet_spec.data.fingerprint import Fingerprint
from resnet_spec.describing.spec import Spec
from resnet_spec.describing.spec_files import Source, load_spec
from resnet_spec.exporting.checking import check
from resnet_spec.exporting.exported import Exported
from resnet_spec.exporting.formats import Images, check_images, exporter_of, failures_of, format_of
from resnet_spec.files.destinations import check_destination
from resnet_spec.files.json_text import json_text
from resnet_spec.files.writing import beside, replacing, writing
from resnet_spec.folding import fold_norms
from resnet_spec.manifest import Format
from resnet_spec.planning.lowering import lower


def export(
    spec: Source,
    state: Mapping[str, Array],
    format: str,
    path: Path,
    *,
    batch: int | None = None,
    fold: bool = False,
    images: Images = "normalised",
    class_names: tuple[str, ...] = (),
    dataset: Fingerprint | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write the network with the weights `state` to `path`, and keep the file if it computes them.

    spec: a preset name, a `.toml` or `.json` file, a dict or a spec. format: a
    name of `loader.export_formats()`.
    batch: images at a time; None: any number, chosen at each call. fold: put norms into the
    convolutions before them (see `folding`). class_names, dataset: what it was trained on, for the
    file's metadata, which also hold the spec. overwrite: replace what is at `path`.

    Raises BackendError for an unknown format, a framework that is not there or that fails, uint8
    images of unknown statistics, and a network whose logits are not finite; OutputError where the
    file cannot be written, or is there and not to be replaced.
    """
    chosen = format_of(format)
    check_destination(path, overwrite=overwrite)
    spec = load_spec(spec)
    check_images(spec, images)
    exporter = exporter_of(format)
    plan = lower(spec)
    folded = fold_norms(plan, state) if fold else None
    network, weights = (plan, state) if folded is None else (folded.plan, folded.state)
    metadata = _metadata(spec, chosen, images, fold, class_names, dataset)
    batches = (1, 2, 3) if batch is None else (batch,)
    with beside(path) as temporary:
        file = temporary.with_name(f"network{chosen.ending}")
        with failures_of(format), writing(path):
            about = exporter.write(
                file,
                network,
                weights,
                format,
                batch=batch,
                raw=images == "uint8",
                metadata=metadata,
            )
        exported = Exported(
            path=path,
            format=format,
            about=about,
            batches=batches,
            multiples=check(file, format, plan, state, batches=batches, images=images),
            size=file.stat().st_size,
            folded=folded,
        )
        if exported.is_kept:
            with replacing(path) as kept:
                file.replace(kept)
    return exported


def _metadata(
    spec: Spec,
    format: Format,
    images: Images,
    folded: bool,
    class_names: tuple[str, ...],
    dataset: Fingerprint | None,
) -> str:
    """Return what a file carries: the spec, what it takes, its classes and its data's identity."""
    takes = f"float32 {format.layout}, normalised" if images == "normalised" else "uint8 NHWC"
    fields = {
        "spec": spec.to_dict(),
        "images": takes,
        "norms_folded": folded,
        "class_names": list(class_names),
        **({} if dataset is None else {"dataset": dataset.to_dict()}),
    }
    return json_text(fields, sort_keys=True, compact=True)
