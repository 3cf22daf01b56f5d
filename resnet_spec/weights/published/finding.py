"""From a name, a file or a place on the hub to a weight file, and what is known of it.

Raises CheckpointError for everything that stands in the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from resnet_spec.data.download import Remote, data_root, obtain, sha256_of
from resnet_spec.errors import CheckpointError, DataError, empty, problem
from resnet_spec.weights.files.in_folders import ENDINGS, weights_at
from resnet_spec.weights.published import PUBLISHED, Published, published, with_digest
from resnet_spec.weights.published.entry import HUB
from resnet_spec.weights.published.hub import HubAddress, from_hub


@dataclass(frozen=True, slots=True)
class Found:
    """A weight file. sha256: its digest, "" for a folder. entry: what was published of it.

    notes: what a person should know, one line each.
    """

    path: Path
    sha256: str
    entry: Published | None = None
    notes: tuple[str, ...] = ()


def is_weights(text: str) -> bool:
    """Whether `text` means weights: a published name, `hf:...`, or a file by its path or ending."""
    is_address = text in PUBLISHED or text.startswith(HUB)
    return is_address or Path(text).suffix in _ENDINGS or path_of(text).exists()


def place_of(source: str) -> str:
    """Return what means the same weights from every working folder: a name, or an absolute path."""
    if source in PUBLISHED or source.startswith(HUB) or _URL in source:
        return source
    path = path_of(source)
    is_path = path.exists() or len(path.parts) > 1 or path.suffix in _ENDINGS
    return str(path.absolute()) if is_path else source


_URL = "://"


def path_of(source: str) -> Path:
    """Return the path in `source`, whose `~` no shell has replaced, as behind `--set key=`.

    Raises CheckpointError for the home of a user who is not there.
    """
    path = Path(source)
    if not source.startswith("~") or path.exists():
        return path
    try:
        return path.expanduser()
    except RuntimeError:
        rule, remedy = "nobody has this home", "write the whole path"
        raise CheckpointError(problem("weights", source, rule, remedy)) from None


def find(source: str, *, download: bool = True, root: Path | None = None) -> Found:
    """Return the file that `source` means, downloaded where it is not there yet.

    source: a name in `PUBLISHED`, a path of a file or a folder (see `files.in_folders`), or
        `hf:OWNER/NAME[/FILE][@REVISION]`. A name wins over a file of the same name: write
        `./resnet50.a1_in1k` for the file.
    root: folder of downloads; None is $RESNET_SPEC_DATA or the user's cache folder.

    Raises CheckpointError: nothing of that name, no network (it says which file to place where), or
    a digest that is not the published one.
    """
    if not source.strip():  # A path of this would be the working folder.
        raise CheckpointError(empty("weights"))
    folder = (data_root() if root is None else root) / "weights"
    if source in PUBLISHED:
        return _published(published(source), folder, download)
    if source.startswith(HUB):
        return _on_hub(source, None, folder, download)
    if _URL in source:
        rule = "is an address, from which nothing is fetched"
        remedy = "download it and give the file, or a name of: resnet-spec list --pretrained"
        raise CheckpointError(problem("weights", source, rule, remedy))
    path = path_of(source)
    if path.exists():
        return _placed(path)
    if len(path.parts) > 1 or path.suffix in _ENDINGS:
        raise CheckpointError(f"{path}: there is no such file")
    published(source)  # Raises, with the nearest name.
    raise AssertionError(source)


def _placed(path: Path) -> Found:
    """Return a file that is there, or the one that a folder means."""
    place = weights_at(path)
    digest = sha256_of(place.path) if place.path.is_file() else ""
    entry = with_digest(digest)
    known = () if entry is None else (f"{place.path.name} is {entry.name}, by its digest",)
    return Found(place.path, digest, entry, (*place.notes, *known))


_ENDINGS = tuple(f".{ending.rpartition('.')[2]}" for ending in ENDINGS)


def _published(entry: Published, folder: Path, download: bool) -> Found:
    if entry.address.startswith(HUB):
        return _on_hub(entry.address, entry, folder, download)
    base = entry.address.removesuffix(entry.file)
    remote = Remote(entry.file, base, None, entry.sha256)
    try:
        obtain(entry.name, [remote], folder, download)
    except DataError as error:
        raise CheckpointError(*error.problems) from None
    return _checked(entry, folder / entry.file)


def _checked(entry: Published, path: Path) -> Found:
    """Return the file, which may have been placed by hand, after a look at its digest."""
    digest = sha256_of(path)
    if not digest.startswith(entry.sha256):
        rule = f"is not {entry.name}, whose SHA-256 digest begins with {entry.sha256}"
        raise CheckpointError(problem(str(path), f"{digest[:16]}...", rule, "remove or rename it"))
    return Found(path, digest, entry, () if entry.sha256 else (_unknown(entry.name, digest),))


def _on_hub(source: str, entry: Published | None, folder: Path, download: bool) -> Found:
    path, revision = from_hub(HubAddress.parse(source), folder, download)
    digest = sha256_of(path)
    name = source if entry is None else entry.name
    known = entry or with_digest(digest)
    where = f"{name}: revision {revision}" if revision else f"{name}: placed by hand"
    return Found(path, digest, known, (where, _unknown(name, digest)))


def _unknown(name: str, digest: str) -> str:
    return f"{name}: no digest is published; the SHA-256 found is {digest}"
