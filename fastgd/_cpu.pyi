compiler: str
scatters_fast: bool
streams: int

def levels() -> tuple[str, ...]: ...
