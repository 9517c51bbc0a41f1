"""The files that were handed over for one call, which closes them as it ends."""

from __future__ import annotations

from pachproto import pfsd_pb2
from pfsd.errors import InvalidError
from pfsd.local.handedfiles import HandedFile, HandedFiles, HandedRange


class HandedToCall:
    """Takes files by the tickets that the messages of a call name, and keeps them until `close`."""

    def __init__(self, files: HandedFiles | None) -> None:
        self.holder = b""
        """Who the messages say has handed them over."""
        self._files = files
        self._taken: dict[bytes, HandedFile] = {}

    def range_of(self, message: pfsd_pb2.HandedRange) -> HandedRange:
        """What a message stands for. Raises StateError for a ticket that can't be used, InvalidError for a range
        of more than was handed over."""
        if self._files is None:
            raise InvalidError("no files can be handed over to this daemon")
        ticket = message.ticket
        if ticket not in self._taken:
            self._taken[ticket] = self._files.take(self.holder, ticket)
        file = self._taken[ticket]
        if message.offset + message.size > file.size:
            raise InvalidError(f"{file.size} bytes of a file were handed over, not {message.offset + message.size}")
        return HandedRange(file, message.offset, message.size)

    def close(self) -> None:
        """Close all that were taken."""
        for file in self._taken.values():
            file.close()
