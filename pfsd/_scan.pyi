from typing_extensions import Buffer

ANY: int
STAR: int
CLASS: int
NOT: int
JSON_MAX_DEPTH: int
JSON_STATE_BYTES: int

def match_name(program: bytes, name: str, /) -> bool: ...
def scan_json(state: bytearray, data: Buffer, start: int, /) -> tuple[int, int, bool]: ...
