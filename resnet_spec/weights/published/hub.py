"""Files on the Hugging Face hub: `hf:OWNER/NAME[/FILE][@REVISION]`.

The library `huggingface_hub` downloads, resumes and keeps them in its own cache; it is imported
when the hub is asked. A file that is there already is taken without a look at the network.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from resnet_spec.errors import CheckpointError, problem
from resnet_spec.weights.published.entry import HUB

_USUAL_FILES = ("model.safetensors", "pytorch_model.bin", "flax_model.msgpack")
_CONNECT_S = 5.0
_FORM = re.compile(
    r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[\w.+-]+(?:/[\w.+-]+)*))?(?:@(?P<revision>\S+))?"
)


@dataclass(frozen=True, slots=True)
class HubAddress:
    """A file on the hub. file: "" for whichever of the usual ones the repository has."""

    repo: str
    file: str = ""
    revision: str = "main"

    @classmethod
    def parse(cls, text: str) -> HubAddress:
        """Read `hf:OWNER/NAME[/FILE][@REVISION]`. Raises CheckpointError for another form."""
        found = _FORM.fullmatch(text)
        if found is None or {".", ".."} & set(text.removeprefix(HUB).split("/")):
            rule = "must be of the form hf:OWNER/NAME[/FILE][@REVISION]"
            raise CheckpointError(problem("pretrained", text, rule, "as in hf:microsoft/resnet-50"))
        return cls(found["repo"], found["file"] or "", found["revision"] or "main")

    def __str__(self) -> str:
        """Return it as a person writes it."""
        file = f"/{self.file}" if self.file else ""
        return f"{HUB}{self.repo}{file}{'' if self.revision == 'main' else f'@{self.revision}'}"


def from_hub(address: HubAddress, folder: Path, download: bool = True) -> tuple[Path, str]:
    """Return a file of the hub and the revision it is of, "" where nobody knows.

    folder: where a file may be placed by hand, as `OWNER--NAME/FILE`; it is looked at first, but
        where a revision is asked for.

    Raises CheckpointError that says which file to place where, when it cannot be had.
    """
    files = (address.file,) if address.file else _USUAL_FILES
    placed = folder / address.repo.replace("/", "--")
    if address.revision == "main":
        for file in files:
            if (placed / file).is_file():
                return placed / file, ""
    try:
        import huggingface_hub
    except ImportError:
        rule = "needs huggingface_hub, not installed; run: pip install 'resnet-spec[weights]'"
        raise CheckpointError(f"pretrained = {address}: {rule}") from None
    _check_repo(address)
    fetch = cast("_Fetch", cast(Any, huggingface_hub).hf_hub_download)
    found, reason = _first(fetch, address, files, local=True)
    if not found:
        reason = reason or (_obstacle() if download else "downloads are off")
    if not found and not reason:
        found, reason = _first(fetch, address, files, local=False)
    if not found:
        raise _missing(address, files[0], placed, reason)
    return _with_revision(found)


def _check_repo(address: HubAddress) -> None:
    """Raise CheckpointError for a name that the hub gives to no repository."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(address.repo)
    except HFValidationError as error:
        raise CheckpointError(f"pretrained = {address}: {_first_line(error)}") from None


_Fetch = Callable[..., str]


def _first(
    fetch: _Fetch, address: HubAddress, files: tuple[str, ...], local: bool
) -> tuple[str, str]:
    """Return the path of the first of `files` that there is, or why there is none.

    local: look into the cache alone, where not to find a file is no reason to give up.
    """
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for file in files:
        try:
            path = fetch(address.repo, file, revision=address.revision, local_files_only=local)
        except LocalEntryNotFoundError as error:
            if not local:
                return "", _first_line(error.__cause__ or error)
        except EntryNotFoundError:
            continue
        except Exception as error:  # The library's own, and those of its HTTP client.
            return "", _first_line(error)
        else:
            return path, ""
    return "", "" if local else f"the hub has no {' or '.join(files)} in {address.repo}"


def _with_revision(path: str) -> tuple[Path, str]:
    """Return `path` and its commit: the cache keeps it as `snapshots/COMMIT/FILE`."""
    parts = Path(path).parts
    where = parts.index("snapshots") + 1 if "snapshots" in parts else 0
    return Path(path), parts[where] if where else ""


def _obstacle() -> str:
    """Return why the hub cannot be reached; "" where nothing speaks against trying.

    The library tries again for half a minute where there is no network.
    """
    import socket
    from urllib.parse import urlsplit
    from urllib.request import getproxies

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    if getproxies().get("https") or getproxies().get("all"):
        return ""
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), _CONNECT_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _first_line(error: Any) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _missing(address: HubAddress, file: str, folder: Path, reason: str) -> CheckpointError:
    from huggingface_hub import hf_hub_url

    url = hf_hub_url(address.repo, file, revision=address.revision)
    place = folder / file
    remedy = f"place it at {place}" if address.revision == "main" else "give its path instead"
    return CheckpointError(
        f"pretrained = {address}: was not downloaded ({reason}); get {url} and {remedy}"
    )
