"""A root directory: its format, its lock, and the stores that lie in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import threading
import uuid
from dataclasses import dataclass

from pfsd.chunks.chunkstore import ChunkStore
from pfsd.errors import CorruptError, FormatError, InvalidError, PfsError, StateError
from pfsd.local.disk import disk_error, fsync_directory, make_directory
from pfsd.local.kv import Database
from pfsd.local.packs import is_pack
from pfsd.model.events import Changes
from pfsd.model.records import load_repo
from pfsd.model.sessions import Sessions
from pfsd.objectstores.openstore import DEFAULTS, OBJECTS, StorageOptions, open_store
from pfsd.runtime.references import References
from pfsd.trees.nodestore import DatabaseNodes

FORMAT = 3


@dataclass(frozen=True, slots=True)
class Identity:
    """What the file FORMAT says."""

    version: int
    """Of the on-disk format."""
    store: str
    """32 hex digits, drawn when the root was made."""


class Root:
    """An open root: the only user of its directory until it is closed."""

    def __init__(self, directory: pathlib.Path, options: StorageOptions = DEFAULTS) -> None:
        """Open or create. Raises StateError when another daemon serves it, FormatError when it can't be read.

        Raises what `pfsd.objectstores.openstore.open_store` raises, too.
        """
        self.directory = directory
        _make(directory)
        if not (directory / "FORMAT").exists():
            _check_empty(directory)  # before anything is written there
        self._lock_fd = lock(directory)
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, self._lock_fd)
            self.id, self.is_new = _identify(directory)
            _make(directory / "meta")
            self.db = Database(directory / "meta")
            undo.callback(self.db.close)
            if self.db.get("meta", b"store") is None:
                _check_new(directory)
                write_identity_rows(self.db, Identity(FORMAT, self.id))
            self.references = References()
            self.nodes = DatabaseNodes(self.db, self.references)
            self.objects = open_store(directory, self.id, options)
            undo.callback(self.objects.close)
            self.spool = directory / "spool"
            self.chunks = ChunkStore(self.db, self.objects, self.spool, self.references)
            undo.pop_all()
        self.sessions = Sessions()
        self.changes = Changes(self.sessions.changed, self._ancestors)
        self.lock = threading.RLock()
        """Held while repo, commit and branch records are read and changed. Taken after a staging area's lock."""
        self.collecting = threading.Lock()
        """Held by the one garbage collection that may run."""

    def _ancestors(self, repo: str) -> tuple[str, ...]:
        data = self.db.get("repos", repo.encode())
        return () if data is None else load_repo(data).ancestors

    @property
    def trouble(self) -> PfsError | None:
        """Why nothing can be stored, where that is so."""
        return self.db.failure or self.chunks.failure

    def close(self) -> None:
        """Make everything durable and give the directory up."""
        with contextlib.ExitStack() as last:  # the last is closed first
            last.callback(os.close, self._lock_fd)
            last.callback(self.db.close)
            last.callback(self.chunks.close)


def _make(directory: pathlib.Path) -> None:
    try:
        make_directory(directory)
    except OSError as error:
        raise InvalidError(f"the root {directory} can't be made: {error.strerror}") from error


def _check_new(directory: pathlib.Path) -> None:
    """Raise CorruptError when a root without metadata holds packs: then its metadata was lost."""
    packs = (path for part in ("spool", "objects/packs/??") for path in directory.glob(f"{part}/*"))
    kept = any(is_pack(path) for path in packs)
    if kept or (directory / OBJECTS).exists():
        raise CorruptError(
            f"the metadata in {directory / 'meta'} has lost its rows: run pachctl fsck --root {directory}"
        )


def lock(directory: pathlib.Path) -> int:
    """A descriptor that keeps every other process off the root until it is closed.

    Raises StateError when another one has it, InvalidError when the directory can't be used.
    """
    try:
        fd = os.open(directory / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise InvalidError(f"the root {directory} can't be used: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(fd, 32, 0).decode(errors="replace").strip()
        os.close(fd)
        raise StateError(f"the root {directory} is served by another pfsd, process {owner}") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def read_identity(directory: pathlib.Path) -> Identity:
    """What FORMAT says, of whatever version; raises FileNotFoundError, and FormatError when it can't be read."""
    path = directory / "FORMAT"
    words = path.read_bytes().decode(errors="replace").split()
    if len(words) != 3 or words[0] != "pfsd" or not words[1].isdecimal():
        raise FormatError(f"{path} does not read 'pfsd FORMAT ID': {directory} is not a root of pfsd")
    return Identity(int(words[1]), words[2])


def write_identity(directory: pathlib.Path, identity: Identity) -> None:
    """Replace FORMAT, durably and as one step; raises FullError, DiskError."""
    new = directory / "FORMAT.new"
    try:
        with new.open("w") as file:
            file.write(f"pfsd {identity.version} {identity.store}\n")
            file.flush()
            os.fsync(file.fileno())
        new.rename(directory / "FORMAT")
        fsync_directory(directory)
    except OSError as error:
        raise disk_error(error, f"the root {directory} can't be written") from error


def write_identity_rows(database: Database, identity: Identity) -> None:
    """Keep in the metadata, durably, what FORMAT says, so that a lost FORMAT can be restored."""
    batch = database.batch()
    batch.put("meta", b"format", str(identity.version).encode())
    batch.put("meta", b"store", identity.store.encode())
    database.write(batch, sync=True)


def read_identity_rows(database: Database) -> Identity | None:
    """What the metadata keeps of FORMAT; None where it keeps nothing that can be read."""
    version, store = database.get("meta", b"format"), database.get("meta", b"store")
    if version is None or store is None or not version.isdigit():
        return None
    return Identity(int(version), store.decode(errors="replace"))


def _check_empty(directory: pathlib.Path) -> None:
    """Raise FormatError where a directory that is no root holds anything but what is left of making one."""
    try:
        strangers = sorted(set(os.listdir(directory)) - {"LOCK", "lost+found", "FORMAT.new"})
    except OSError as error:
        raise InvalidError(f"the root {directory} can't be used: {error.strerror}") from error
    if strangers:
        raise FormatError(
            f"{directory} is not a root of pfsd and not empty (it holds {strangers[0]}): name an empty directory"
        )


def _identify(directory: pathlib.Path) -> tuple[str, bool]:
    """The id of the store in a root, and whether it is new: an empty directory becomes a root, for its user alone."""
    is_new = False
    try:
        identity = read_identity(directory)
    except FileNotFoundError:
        _check_empty(directory)
        with contextlib.suppress(PermissionError):  # it is somebody else's, who decides who gets in
            directory.chmod(0o700)
        identity = Identity(FORMAT, uuid.uuid4().hex)
        write_identity(directory, identity)
        is_new = True
    if identity.version != FORMAT:
        way_out = "use a newer one" if identity.version > FORMAT else f"run pachctl migrate --root {directory}"
        raise FormatError(
            f"the root {directory} has format {identity.version} and this pfsd reads format {FORMAT}: {way_out}"
        )
    return identity.store, is_new
