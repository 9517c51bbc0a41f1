"""An open commit that is written through the mount.

What is written waits here for a moment, so that many small files travel together, and goes to the daemon in order:
removals, new directories, files. A rename of what the daemon has, and the end of the commit, wait for all of it.
"""

from __future__ import annotations

import errno
import logging
import secrets
from collections.abc import Callable

import trio

from pachproto import pfs_pb2
from pfsd.errors import AlreadyExistsError, NotFoundError, PfsError, StateError
from pfsd.names.paths import join
from pfsfuse.client.commits import CommitRecord
from pfsfuse.client.writes import EditStep, Move
from pfsfuse.kernel.errnos import ClosedError, LocalError
from pfsfuse.kernel.inodes import Inode, Snapshot
from pfsfuse.opencommits import kept
from pfsfuse.opencommits.delivery import Delivery
from pfsfuse.opencommits.nodeattributes import now_ns
from pfsfuse.opencommits.opennodes import OpenDir, OpenFile
from pfsfuse.opencommits.openservices import Services
from pfsfuse.opencommits.opentree import OpenTree, Place, unsent_names
from pfsfuse.opencommits.outdated import Closed, Tried, move_once, outdated
from pfsfuse.opencommits.sending import SMALL_BYTES, Sent, Taken
from pfsfuse.opencommits.unnamed import may_be_named
from pfsfuse.opencommits.waiting import Waiting

log = logging.getLogger(__name__)

BEHIND_SECONDS = 0.1
"""How long a closed file may wait to be sent."""
_AGAIN_SECONDS = 1.0


class OpenCommit(OpenTree):
    """One open commit, or one that was open when a program began to use it."""

    def __init__(self, repo_dir: Inode, snapshot: Snapshot, root: bytes, services: Services) -> None:
        super().__init__(snapshot, root, services.content, services.inodes, services.commits)
        self.directory = services.directory
        self.unwritten: dict[str, str] = {}
        """What could not be written, and where it is kept."""
        self.branch = ""
        """The branch under which it was found, if any."""
        self.top = OpenDir(repo_dir, b"/open/" + snapshot.commit.encode(), self, snapshot=snapshot)
        self._services = services
        self._registered = False
        """Whether the daemon knows that this mount writes to it."""
        self._lock = trio.Lock()
        self._waiting = Waiting()
        self.tried: Tried = {}
        """Entries that the daemon may have of files, without having said so."""
        self._stuck: list[OpenFile] = []
        """Files that the daemon does not take and that can't be kept here either."""
        self._behind = False

    async def begin(self) -> None:
        """To be called before something is written."""
        self.check_open()
        if not self._registered:
            await self._services.registry.writes(self.snapshot.commit)
            self._registered = True

    def conclude(self, commit: CommitRecord) -> bool:
        """Whether this is exactly the commit that is finished now: nothing that was written is missing from it."""
        self._services.take_in()
        if not self._is_final and not self.unwritten and not self.pending and not self.dirty_files():
            self._finalize(commit)
        return self._is_final

    def ended(self) -> None:
        """Neither the kernel nor anything else refers to it any more."""
        if not self.pending:
            self._services.registry.rests(self.snapshot.commit)
            self._registered = False
            self._services.ended(self.snapshot.commit)

    # --- what waits to be sent ---------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """How much waits to be sent: files, directories, removals."""
        return self._waiting.count

    @property
    def _name(self) -> pfs_pb2.Commit:
        return pfs_pb2.Commit(repo={"name": self.snapshot.repo}, id=self.snapshot.commit)

    def check_open(self) -> None:
        """Raise StateError when nothing can be written any more."""
        if self.is_closed:
            raise ClosedError(f"commit {self} is finished or deleted: start another one")

    def close(self) -> None:
        super().close()
        self._services.take_in()

    async def send_file(self, node: OpenFile) -> None:
        """A closed file is to be sent: at once when it is large, else soon."""
        if not node.is_dirty:
            return
        self.send_file_soon(node)
        if node.size > SMALL_BYTES or self.is_overfull:
            await self.flush()

    def send_file_soon(self, node: OpenFile) -> None:
        """A closed file, which the daemon lacks, is to be sent soon."""
        self._wait(node)
        self._waiting.add_bytes(min(node.size, SMALL_BYTES))
        self.start_behind()

    @property
    def is_overfull(self) -> bool:
        """Whether so much waits that who adds to it has to wait too."""
        return self._waiting.exceeds(4)

    @property
    def is_at_hand(self) -> bool:
        """Whether it can be changed, and looked at, without asking the daemon first, and no error is to be told."""
        is_writable = self._registered and not self.is_closed and self._error is None
        return is_writable and self.is_certain and not self.is_overfull

    @property
    def is_sending(self) -> bool:
        """Whether something is on its way."""
        return self._lock.locked()

    def _wait(self, node: OpenFile) -> None:
        self._waiting.next.files[node] = Closed(self.epoch, self.root if self.is_certain else None)

    def note_attributes(self, node: Inode) -> None:
        """The attributes of a node were changed, or its names: the daemon is to be told."""
        assert isinstance(node, OpenFile | OpenDir)
        self._waiting.next.attributes[node] = None
        self.start_behind()

    async def make_directory(self, node: OpenDir) -> None:
        """A new directory is to be sent."""
        self.make_directory_soon(node)
        await self._begin()

    def make_directory_soon(self, node: OpenDir) -> None:
        """The same without waiting where too much waits already."""
        self._waiting.next.directories[node] = None
        self.start_behind()

    async def take_off(self, node: OpenFile | OpenDir, place: Place) -> None:
        """A file or an empty directory loses its name at a place, where it is hidden from now on.

        What the daemon does not have yet needs no call.
        """
        if self._lock.locked() and (node.is_new or unsent_names(node)):  # it may be on its way
            await self.flush()
            place.go_by_still(node)
        self.take_off_soon(node, place)
        await self._begin()

    def take_off_soon(self, node: OpenFile | OpenDir, place: Place) -> None:
        """The same for a node that is not on its way."""
        self._take_off(node, place)
        self.start_behind()

    def _take_off(self, node: OpenFile | OpenDir, place: Place) -> None:
        place.go_by(node)
        is_unsent = node.is_new or place.path() in unsent_names(node)
        self.unlink(node)
        if not is_unsent:
            self._waiting.next.removals[place.directory, place.name] = node.is_dir
            place.directory.hidden.add(place.name)

    async def rename(
        self, node: OpenFile | OpenDir, place: Place, target: OpenFile | OpenDir | None, there: Place
    ) -> None:
        """Move a node to where `target` is and may be replaced. A file that the daemon lacks needs no call."""
        if self._lock.locked() and (node.is_new or (target is not None and target.is_new)):
            await self.flush()
            place.go_by_still(node)
        if isinstance(node, OpenFile) and node.is_new:
            self.rename_soon(node, place, target, there)
            return await self._begin()

        def moves() -> list[Move]:
            place.go_by_still(node)
            return [(place.path(), there.path())]

        def taken() -> None:
            if target is not None:
                there.go_by(target)
                self.unlink(target)
            place.go_by(node)
            self.move(node, *there)

        await self._move(moves, taken)

    def rename_soon(self, node: OpenFile, place: Place, target: OpenFile | OpenDir | None, there: Place) -> None:
        """The same for a file that the daemon does not have yet, where neither is on its way."""
        if target is not None:
            self._take_off(target, there)
        place.go_by(node)
        self.move(node, *there)
        self.start_behind()

    async def exchange(
        self, one: OpenFile | OpenDir, place: Place, other: OpenFile | OpenDir, other_place: Place
    ) -> None:
        """Two nodes change places."""
        aside = Place(place.directory, f".exchange-{secrets.token_hex(8)}".encode())

        def moves() -> list[Move]:
            place.go_by_still(one)
            other_place.go_by_still(other)
            first, second = place.path(), other_place.path()
            return [(first, second), (second, first)]

        def taken() -> None:
            place.go_by(one)
            self.move(one, *aside)
            other_place.go_by(other)
            self.move(other, *place)
            aside.go_by(one)
            self.move(one, *other_place)

        for node in (one, other):
            if isinstance(node, OpenFile) and node.is_dirty:
                self._wait(node)
        await self._move(moves, taken)

    def unlink(self, node: OpenFile | OpenDir) -> None:
        """The node has no name any more; what it holds lives on with its handles."""
        parent = node.parent
        assert isinstance(parent, OpenDir)
        if parent.children.get(node.key) is node:
            del parent.children[node.key]
        node.kept.changed_ns = now_ns()
        if isinstance(node, OpenFile) and node.group is not None and self.drop_name(node, node.group, parent):
            return
        node.is_linked = False
        self._waiting.next.attributes.pop(node, None)
        if isinstance(node, OpenFile):
            self._waiting.next.files.pop(node, None)
            self._drop_scratch(node)
        else:
            self._waiting.next.directories.pop(node, None)
            node.is_new = False
        self.inodes.recheck(node)

    async def release(self, node: OpenFile) -> None:
        """A handle is gone."""
        self.release_soon(node)
        if not node.handles and node.is_dirty and not self.is_closed and (node.size > SMALL_BYTES or self.is_overfull):
            await self.flush()

    def release_soon(self, node: OpenFile) -> None:
        """The same without waiting for a large file to be sent."""
        node.handles -= 1
        if node.handles == 0:
            if node.is_dirty and not self.is_closed:
                self.send_file_soon(node)
            elif not node.is_dirty:
                self._let_go(node)

    def _let_go(self, node: OpenFile) -> None:
        """The store has all of a file that no program has open."""
        self._drop_scratch(node)
        self.inodes.recheck(node)

    @staticmethod
    def _drop_scratch(node: OpenFile) -> None:
        may_be_opened = not node.is_linked and node.lookups > 0  # by who found it before it lost its name
        if node.scratch is not None and not node.handles and not may_be_opened and not may_be_named(node):
            node.scratch.close()
            node.scratch = None

    def start_behind(self) -> None:
        """Send what waits in the background."""
        if not self._behind:
            self._behind = True
            self._services.start(self.write_behind)
        if self._waiting.exceeds(1):
            self._waiting.full.set()

    async def _begin(self) -> None:
        """Send in the background; wait for it where too much has come together."""
        self.start_behind()
        if self.is_overfull:
            await self.flush()

    async def write_behind(self) -> None:
        """Send what waits until nothing does. Errors are kept for the next `raise_error`, and logged."""
        try:
            while self.pending:
                with trio.move_on_after(BEHIND_SECONDS):
                    await self._waiting.full.wait()
                await self._try_flush()
        finally:
            self._behind = False

    async def _try_flush(self) -> None:
        """Send what waits, or say why that can't be done, and wait for better times."""
        try:
            await self.flush()
            if not self._stuck:
                return
        except PfsError as error:
            self._error = error
        except OSError as error:
            self._error = LocalError(f"{self} can't be written: {error}", error.errno or errno.EIO)
        except Exception as error:  # a defect must not end the mount
            log.exception("%s can't be written", self)
            self._error = PfsError(f"{self} can't be written: {error}")
        log.error("%s: %d changes wait: %s", self, self.pending, self._error)
        if self.pending:
            await trio.sleep(_AGAIN_SECONDS)

    async def recall(self) -> None:
        self.lapse()
        if self._waiting.next.files and not self.is_sending:  # else it is seen to before the next are sent
            try:
                await self.refresh()
                await self.drop_outdated(self._waiting.next.files)
            except PfsError as error:
                log.info("%s: what waits is sent: %s", self, error)
        await super().recall()

    async def drop_outdated(self, files: dict[OpenFile, Closed]) -> None:
        """Leave aside the files that another client has replaced or removed since they were closed."""
        for node, value in await outdated(self, files, self.tried):
            if files.pop(node, None) is None:  # it was sent, or left aside, while the trees were compared
                continue
            log.info("%s: another client has changed /%s since it was closed", self, "/".join(node.path()))
            node.give_way(value)
            if value is None:
                self.unlink(node)
            self.inodes.recheck(node)

    # --- sending -----------------------------------------------------------------------------------------

    async def flush(self) -> None:
        """Send everything that waits. Raises what the daemon says; UnavailableError leaves it waiting."""
        async with self._lock:
            await self._flush()

    async def _move(self, moves: Callable[[], list[Move]], taken: Callable[[], None]) -> None:
        """Move what `moves` tells once all that was written is sent; `taken` is called as that takes effect."""
        async with self._lock:
            await self._flush()
            writer, snapshot, what = self._services.writer, self.snapshot, moves()
            root = await move_once(self, what, lambda: writer.move(snapshot.repo, snapshot.commit, what))
            self.install(root, trio.current_time())
            taken()

    async def flush_all(self) -> None:
        """Send everything, also of files that are still open. Raises what `flush` does."""
        async with self._lock:
            await self._flush_open()

    async def _flush_open(self) -> None:
        for node in self.dirty_files():
            self._wait(node)
        await self._flush()

    async def finish(self) -> None:
        """Send everything, also of files that are still open, and finish the commit."""
        async with self._lock:
            await self._flush_open()
            self.raise_error()
            await self._services.writer.finish_commit(self.snapshot.repo, self.snapshot.commit)
            self.close()

    async def delete(self) -> None:
        """Delete the commit with all that was written to it."""
        async with self._lock:
            await self._services.writer.delete_commit(self.snapshot.repo, self.snapshot.commit)
            self.close()
            for node in self.dirty_files():
                node.sent = node.changes
            self._waiting.clear()

    async def salvage(self) -> None:
        """Keep on this machine what was not written, and forget it; see `unwritten`."""
        for node in self.dirty_files():
            try:
                await self._keep(node)
            except PfsError as error:
                log.error("%s: what was written to %s is lost: %s", self, join(node.path()), error)

    async def _flush(self) -> None:
        if not self.pending:
            return
        if not self.is_certain and any(closed.root for closed in self._waiting.next.files.values()):
            await self.refresh()
        await self.drop_outdated(self._waiting.next.files)
        batch = self._waiting.take()
        files = list(batch.files)
        delivery = Delivery(self, self._name, self._services.writer, batch.files)
        self._stuck.clear()
        for node in files:  # whose scratch may not go now
            node.handles += 1
        try:
            self.check_open()
            steps, changed = batch.steps()
            await self._take_steps(steps)
            self._waiting.note_taken(batch, changed)
            await delivery.send(files)
            await self.refresh()
        except BaseException as error:
            for node in files:
                node.handles -= 1
            if isinstance(error, PfsError) and self.is_closed:
                await self._give_up(files, error)
            else:
                self._waiting.put_back(batch)
            raise
        self._settle(files, delivery.sent)
        for node in self._stuck:
            self._wait(node)

    def _settle(self, files: list[OpenFile], sent: list[Sent]) -> None:
        """The commit's tree has it all."""
        for settled in self._waiting.settle_taken():
            self.inodes.recheck(settled)
        for node in files:
            self.tried.pop(node, None)
            node.handles -= 1
        for file, value, data, digest in sent:
            if file.node.changes == file.changes:
                if data:
                    self.content.chunks.keep(digest, data)  # it is often read soon
                self._drop_scratch(file.node)
            file.node.taken(file.changes, file.kept_changes, value)
        for node in files:
            if node.handles == 0 and not node.is_dirty:
                self._let_go(node)

    async def _take_steps(self, steps: list[EditStep]) -> None:
        if not steps:
            return
        try:
            await self._services.writer.edit(self.snapshot.repo, self.snapshot.commit, steps)
            return
        except (NotFoundError, AlreadyExistsError, StateError):
            await self.check_alive()
        for step in steps:  # another client was faster with one of them, or this one is told of them again
            try:
                await self._services.writer.edit(self.snapshot.repo, self.snapshot.commit, [step])
            except (NotFoundError, AlreadyExistsError):
                pass
            except StateError as error:
                self._error = error
                log.error("%s: %s", self, error)

    async def check_alive(self) -> None:
        """Ask for its tree. Raises StateError when nothing can be written any more."""
        await self.refresh()
        self.check_open()

    async def refuse(self, file: Taken, error: PfsError) -> None:
        """The daemon does not take a file as it is: its path is something else now, or the disk is full."""
        try:
            where = await self._keep(file.node)
        except LocalError as local:
            self._stuck.append(file.node)
            self._error = LocalError(f"{file.path} could not be written ({error}), and {local}", local.number)
        else:
            self._error = type(error)(f"{file.path} could not be written and is kept as {where}: {error}")
        log.error("%s: %s", self, self._error)

    async def _give_up(self, files: list[OpenFile], error: PfsError) -> None:
        """The commit takes nothing any more: keep what it lacks."""
        log.error("%s: files that can't be written (%s) are kept in %s", self, error, kept.kept_directory())
        for node in dict.fromkeys([*files, *self.dirty_files()]):
            if node.is_dirty:
                if node.handles:
                    self._given_up[node] = error
                try:
                    await self._keep(node)
                except LocalError as local:  # it may go when the mount ends
                    log.error("%s: %s", self, local)

    async def _keep(self, node: OpenFile) -> str:
        path, changes = join(node.path()), node.changes
        where = str(await kept.keep(kept.kept_directory(), node, self.content))
        self.unwritten[path] = where
        node.sent = changes
        self._waiting.next.files.pop(node, None)
        self.inodes.recheck(node)
        return where


def commit_of(node: OpenFile | OpenDir) -> OpenCommit:
    """The open commit that a file or directory is in."""
    commit = node.commit
    assert isinstance(commit, OpenCommit)
    return commit
