from typing_extensions import Buffer

MIN_CHUNK: int
AVG_CHUNK: int
MAX_CHUNK: int

def next_cut(data: Buffer, start: int = 0, /) -> int: ...
def rank(key: Buffer, /) -> int: ...
